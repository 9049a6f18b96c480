//! `sys/wrapping`: look a wrapping token up, and unwrap it once.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::answer::{Auth, Envelope};
use super::call::{Call, Repeat};
use super::client::{Client, Connections, Endpoint, GRACE, Session};
use super::error::Error;
use crate::wrapping_token::WrappingToken;

/// What a lookup tells about a wrapping token.
#[derive(Debug, Deserialize)]
pub struct Wrapping {
    /// Where what it wraps was made.
    pub creation_path: String,
    /// RFC 3339.
    #[serde(default)]
    pub creation_time: String,
    /// Seconds.
    pub creation_ttl: u64,
}

impl Wrapping {
    /// Milliseconds since it was minted, given the server's time; clocks that differ make no token younger than new.
    pub fn age_ms(&self, now: OffsetDateTime) -> Option<u64> {
        let created = OffsetDateTime::parse(&self.creation_time, &Rfc3339).ok()?;
        Some(u64::try_from((now - created).whole_milliseconds()).unwrap_or(0))
    }
}

/// How an unwrap ended.
pub enum Unwrapped {
    /// A client token, as it came.
    Token {
        /// With it, requests can be made.
        session: Box<Session>,
        /// What was said about it.
        auth: Auth,
    },
    /// Something came out, but no client token.
    NoToken {
        /// What came instead.
        found: &'static str,
    },
    /// The wrapping token did not exist any more.
    NotValid,
    /// It is not known whether the token was used up, and it does not exist any more.
    Unknown {
        /// What happened instead of an answer.
        reason: String,
    },
}

impl Client {
    /// Looks a wrapping token up, which does not use it up; none when it is not valid (`sys/wrapping/lookup`).
    pub fn lookup(&self, token: &WrappingToken) -> Result<Option<Wrapping>, Error> {
        let call = Call::post("sys/wrapping/lookup").repeat(Repeat::Freely);
        match self.call_alone::<Wrapping>(&call, token.expose(), Duration::ZERO) {
            Ok((mut envelope, _)) => envelope.take_data(&call).map(Some),
            Err(error) if is_refusal(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Unwraps the token (`sys/wrapping/unwrap`): one request, and a second one only when a lookup has shown that the
    /// first did not arrive.
    pub fn unwrap(self, token: WrappingToken) -> Result<Unwrapped, Error> {
        let first = match self.unwrap_once(&token) {
            Ok(answer) => return Ok(self.unwrapped(answer)),
            Err(error) if is_refusal(&error) => return Ok(Unwrapped::NotValid),
            Err(error) => unclear(error)?,
        };
        if self.limits.is_aborted() || matches!(self.lookup(&token), Ok(None) | Err(_)) {
            return Ok(first.into());
        }
        if let Unclear::Refused(error) = first {
            return Err(error);
        }
        match self.unwrap_once(&token) {
            Ok(answer) => Ok(self.unwrapped(answer)),
            // The first request may have arrived late, so this is no proof of somebody else.
            Err(error) if is_refusal(&error) => Ok(first.into()),
            Err(error) => Ok(unclear(error)?.into()),
        }
    }

    fn unwrap_once(
        &self,
        token: &WrappingToken,
    ) -> Result<(Envelope<IgnoredAny>, Connections), Error> {
        let call = Call::post("sys/wrapping/unwrap").repeat(Repeat::Never);
        self.hurried().call_alone(&call, token.expose(), GRACE)
    }

    /// The same way, but so that an answer that never comes leaves time for the lookup that decides.
    fn hurried(&self) -> Client {
        let mut client = self.clone();
        client.endpoint = Arc::new(Endpoint {
            client_timeout: self
                .endpoint
                .client_timeout
                .min(self.limits.remaining() / 4 * 3),
            ..Endpoint::clone(&self.endpoint)
        });
        client
    }

    fn unwrapped(self, (envelope, connections): (Envelope<IgnoredAny>, Connections)) -> Unwrapped {
        let other = match (&envelope.wrap_info, &envelope.data) {
            (Some(_), _) => Some("another wrapping token"),
            (None, Some(_)) => Some("data"),
            (None, None) => None,
        };
        match envelope.auth {
            // Whatever else is there: a token that is known can be revoked.
            Some(auth) if !auth.client_token.expose().is_empty() => Unwrapped::Token {
                session: Box::new(self.into_session(
                    auth.client_token.clone(),
                    auth.accessor.clone(),
                    connections,
                )),
                auth: Auth {
                    beside: other,
                    ..auth
                },
            },
            _ => Unwrapped::NoToken {
                found: other.unwrap_or("nothing"),
            },
        }
    }
}

/// Vault's word that the wrapping token is not valid.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Status { status: 400, .. })
}

/// Why it is open whether the token was used up, until it is looked up.
enum Unclear {
    /// There was no answer, or none of Vault's.
    NoAnswer {
        /// The event that stood in place of an answer.
        reason: String,
    },
    /// Vault did not do it. The token may be gone all the same: a node counts its use before it looks whether it permits
    /// the request, or whether another request has had it, and a standby that loses the leader's answer redirects.
    Refused(Error),
}

/// Other failures than these leave the token as it was.
fn unclear(error: Error) -> Result<Unclear, Error> {
    match error {
        Error::Unknown { reason, .. } | Error::Malformed { reason, .. } => {
            Ok(Unclear::NoAnswer { reason })
        }
        Error::Status { .. } | Error::Redirect { .. } => Ok(Unclear::Refused(error)),
        other => Err(other),
    }
}

impl From<Unclear> for Unwrapped {
    fn from(unclear: Unclear) -> Unwrapped {
        Unwrapped::Unknown {
            reason: match unclear {
                Unclear::NoAnswer { reason } => reason,
                Unclear::Refused(error) => error.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_of_a_wrapping_token_is_counted_from_its_minting() {
        let now = OffsetDateTime::parse("2026-03-01T12:00:00.25Z", &Rfc3339).expect("a time");
        for (what, creation_time, age) in [
            ("minted this moment", "2026-03-01T12:00:00.25Z", Some(0)),
            (
                "minted before",
                "2026-03-01T11:59:59.000000001Z",
                Some(1249),
            ),
            (
                "minted in another zone",
                "2026-03-01T13:59:00.25+02:00",
                Some(60_000),
            ),
            (
                "minted by a clock that is ahead",
                "2026-03-01T12:00:07Z",
                Some(0),
            ),
            ("without a time", "", None),
            (
                "with a time in another form",
                "Sun, 01 Mar 2026 12:00:00 GMT",
                None,
            ),
        ] {
            let wrapping = Wrapping {
                creation_path: String::new(),
                creation_time: creation_time.to_owned(),
                creation_ttl: 60,
            };
            assert_eq!(wrapping.age_ms(now), age, "{what}");
        }
    }
}

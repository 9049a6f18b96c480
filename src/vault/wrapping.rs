//! `sys/wrapping`: look a wrapping token up, and unwrap it once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::IgnoredAny;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::answer::{Auth, Envelope};
use super::call::{Call, Repeat};
use super::client::{Client, Connections, Endpoint, GRACE, Session};
use super::error::Error;
use super::transport::Deadline;
use crate::log::{Level, Value};
use crate::wrapping_token::WrappingToken;

/// A standby that answers by itself hears of a token some 30 ms after its minting when it is idle, and 110 ms under load; it
/// is asked again soon at first, and at last when several times that long has passed.
const LAG_PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];
/// The pauses and their answers together end by then, so that the alarm of a theft comes no later, whatever Vault does.
const LAG_MAX: Duration = Duration::from_secs(1);

/// The properties that a lookup tells of a wrapping token.
#[derive(Debug, Deserialize)]
pub(crate) struct Wrapping {
    /// The path at which the wrapped answer was made.
    pub creation_path: String,
    /// RFC 3339.
    #[serde(default)]
    pub creation_time: String,
    /// Seconds.
    pub creation_ttl: u64,
}

impl Wrapping {
    /// Milliseconds since it was minted, given the server's time; clocks that differ make no token younger than new.
    pub(crate) fn age_ms(&self, now: OffsetDateTime) -> Option<u64> {
        let created = OffsetDateTime::parse(&self.creation_time, &Rfc3339).ok()?;
        Some(u64::try_from((now - created).whole_milliseconds()).unwrap_or(0))
    }
}

/// The end of an unwrap.
pub(crate) enum Unwrapped {
    /// A client token, as it came.
    Token {
        /// The session that makes requests with the token.
        session: Box<Session>,
        /// The token's properties, as Vault gave them.
        auth: Auth,
    },
    /// Something came out, but no client token.
    NoToken {
        /// The content that came instead.
        found: &'static str,
    },
    /// The wrapping token did not exist any more.
    NotValid,
    /// No answer says whether the token was used up, and it does not exist any more.
    Unknown {
        /// The event that stood in place of an answer.
        reason: String,
    },
}

impl Client {
    /// Looks a wrapping token up, which does not use it up; none when it is not valid (`sys/wrapping/lookup`).
    ///
    /// One answer does not prove that: a standby that lags behind gives it for a good token that was minted a moment ago.
    pub(crate) fn lookup(&self, token: &WrappingToken) -> Result<Option<Wrapping>, Error> {
        if let Some(wrapping) = self.lookup_once(token)? {
            return Ok(Some(wrapping));
        }
        let brief = self.within(LAG_MAX);
        // Vault's word stands where no other comes: a thief may be the one who keeps the other away.
        let ask = || brief.lookup_once(token).ok().flatten();
        Ok(ask_again(|time| brief.wait_for_standby(time), ask))
    }

    fn lookup_once(&self, token: &WrappingToken) -> Result<Option<Wrapping>, Error> {
        let call = Call::post("sys/wrapping/lookup").repeat(Repeat::Freely);
        match self.call_alone::<Wrapping>(&call, token.expose(), Duration::ZERO) {
            Ok((mut envelope, _)) => envelope.take_data(&call).map(Some),
            Err(error) if is_refusal(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says whether there is time for another lookup afterwards.
    fn wait_for_standby(&self, time: Duration) -> bool {
        let fields = [
            ("request", Value::Text("POST sys/wrapping/lookup")),
            ("reason", Value::Text("a standby may lag behind")),
            ("wait_ms", Value::Number(time.as_millis() as u64)),
        ];
        self.log
            .event(Level::Debug, "retry", "trying again", &fields);
        self.limits.pause(time)
    }

    /// Makes a client that takes so long at the most.
    fn within(&self, time: Duration) -> Client {
        let mut client = self.clone();
        let time = time.min(self.limits.remaining());
        client.limits.deadline = Deadline::at(Instant::now() + time);
        client
    }

    /// Unwraps the token (`sys/wrapping/unwrap`): one request, and a second one only when a lookup has shown that the
    /// first was not done.
    pub(crate) fn unwrap(self, token: WrappingToken) -> Result<Unwrapped, Error> {
        let first = match self.unwrap_once(&token) {
            Ok(answer) => return Ok(self.unwrapped(answer)),
            Err(error) => unclear(error)?,
        };
        if self.limits.is_aborted() || !matches!(self.lookup(&token), Ok(Some(_))) {
            return Ok(first.into());
        }
        if let Unclear::Refused(error) = first {
            return Err(error);
        }
        match self.unwrap_once(&token) {
            Ok(answer) => Ok(self.unwrapped(answer)),
            Err(error) => Ok(match unclear(error)? {
                // The first request may have arrived late; only where it was refused too, another caller was faster.
                Unclear::NotValid => first.into(),
                second => second.into(),
            }),
        }
    }

    fn unwrap_once(
        &self,
        token: &WrappingToken,
    ) -> Result<(Envelope<IgnoredAny>, Connections), Error> {
        let call = Call::post("sys/wrapping/unwrap").repeat(Repeat::Never);
        self.hurried().call_alone(&call, token.expose(), GRACE)
    }

    /// Makes a client at which an answer that never comes leaves time for the lookup that decides.
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

/// Asks again after each pause, until there is an answer or no time for another pause.
fn ask_again<T>(
    mut pause: impl FnMut(Duration) -> bool,
    mut ask: impl FnMut() -> Option<T>,
) -> Option<T> {
    let mut pauses = LAG_PAUSES.into_iter().take_while(|&time| pause(time));
    pauses.find_map(|_| ask())
}

/// The reason why a lookup has to say whether the token was used up.
#[derive(Debug)]
enum Unclear {
    /// Vault says that the token is not valid. So says a standby, too, that lags behind.
    NotValid,
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
        refusal if is_refusal(&refusal) => Ok(Unclear::NotValid),
        Error::Unknown { reason, .. } | Error::Malformed { reason, .. } => {
            Ok(Unclear::NoAnswer { reason })
        }
        Error::Status { .. } | Error::Redirect { .. } => Ok(Unclear::Refused(error)),
        other => Err(other),
    }
}

impl From<Unclear> for Unwrapped {
    fn from(unclear: Unclear) -> Unwrapped {
        match unclear {
            Unclear::NotValid => Unwrapped::NotValid,
            Unclear::NoAnswer { reason } => Unwrapped::Unknown { reason },
            Unclear::Refused(error) => Unwrapped::Unknown {
                reason: error.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_looked_up_again_until_it_is_known() {
        for (sentence, unknown_to, permitted, asked, is_known) in [
            ("the next server knows it", 0, 9, 1, true),
            ("the third one knows it", 2, 9, 3, true),
            ("the last one knows it", 3, 9, 4, true),
            ("no server knows it", 9, 9, 4, false),
            ("the start is called off at once", 0, 0, 0, false),
            ("the time is up after two", 2, 2, 2, false),
        ] {
            let (mut pauses, mut lookups) = (Vec::new(), 0);
            let known = ask_again(
                |time| {
                    pauses.push(time);
                    pauses.len() <= permitted
                },
                || {
                    lookups += 1;
                    (lookups > unknown_to).then_some(lookups)
                },
            );
            assert_eq!(lookups, asked, "{sentence}");
            assert_eq!(known, is_known.then_some(asked), "{sentence}");
            assert!(pauses.is_sorted(), "{sentence}: {pauses:?}");
            assert!(pauses.iter().sum::<Duration>() < LAG_MAX, "{sentence}");
        }
    }

    #[test]
    fn answer_to_an_unwrap_is_unclear_or_proves_it_undone() {
        let request = || "POST sys/wrapping/unwrap".to_owned();
        let status = |status| Error::Status {
            request: request(),
            status,
            errors: Vec::new(),
            has_data: false,
        };
        let reason = || "it broke".to_owned();
        let (lost, malformed) = (
            Error::Unknown {
                request: request(),
                reason: reason(),
            },
            Error::Malformed {
                request: request(),
                reason: reason(),
            },
        );
        let elsewhere = Error::Redirect {
            request: request(),
            reason: reason(),
        };
        for (sentence, error, without_the_token) in [
            ("Vault does not know the token", status(400), "not valid"),
            ("Vault denies it", status(403), "unknown"),
            ("Vault has no such path", status(404), "unknown"),
            ("a standby sends it elsewhere", elsewhere, "unknown"),
            ("the answer is lost", lost, "unknown"),
            ("something else answers", malformed, "unknown"),
            ("it was called off before", Error::Aborted, "undone"),
        ] {
            let found = match unclear(error).map(Unwrapped::from) {
                Ok(Unwrapped::NotValid) => "not valid",
                Ok(Unwrapped::Unknown { .. }) => "unknown",
                Ok(_) => "unwrapped",
                Err(_) => "undone",
            };
            assert_eq!(found, without_the_token, "{sentence}");
        }
    }

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

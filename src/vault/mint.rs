//! The minting side: wrapped client tokens for others, and their end.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde::de::IgnoredAny;

use super::call::{Call, Repeat};
use super::client::Session;
use super::error::Error;
use super::value::Value;
use crate::secret::Secret;

/// A client token to be made for another service.
#[derive(Debug, Clone)]
pub(crate) struct MintRequest<'a> {
    /// The token role; none makes it with the issuing token's own rights.
    pub role: Option<&'a str>,
    /// Policies to ask for; none of them leaves it to the role.
    pub policies: &'a [String],
    /// The metadata that Vault's audit log shows of the token.
    pub metadata: &'a [(String, String)],
    /// Life of the client token; none is the role's.
    pub ttl: Option<Duration>,
    /// Life of the wrapping token.
    pub wrap_ttl: Duration,
}

/// The request for a client token, as Vault reads it.
#[derive(Serialize)]
struct Creation<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    policies: &'a [String],
    /// Such as `86400s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
}

/// The result of a mint: a wrapping token, and the names of its content.
pub(crate) struct Minted {
    /// The wrapping token, good for one use.
    pub token: Secret,
    /// The accessor by which the client token can be revoked.
    pub wrapped_accessor: String,
    /// The accessor of the wrapping token.
    pub accessor: String,
    /// The path at which the client token was made.
    pub creation_path: String,
    /// RFC 3339.
    pub creation_time: String,
    /// Seconds that the wrapping token lives.
    pub ttl: u64,
}

/// Vault's word on a token that it was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The token and all its leases are revoked.
    Revoked,
    /// Vault knows no such token: it has ended before, or it never was in this Vault and lives in another.
    Unknown,
}

impl Session {
    /// Makes a client token and has it wrapped (`auth/token/create/ROLE`).
    pub(crate) fn mint(&self, request: &MintRequest<'_>) -> Result<Minted, Error> {
        let path = match request.role {
            Some(role) => format!("auth/token/create/{role}"),
            None => "auth/token/create".to_owned(),
        };
        let body = Creation {
            policies: request.policies,
            meta: request
                .metadata
                .iter()
                .map(|(key, value)| (&**key, &**value))
                .collect(),
            ttl: request.ttl.map(|ttl| format!("{}s", ttl.as_secs())),
        };
        let call = Call::post(&path)
            .json(&body)
            // Each time leaves a token behind, wrapped, which no caller has.
            .repeat(Repeat::AFewTimes)
            .wrap_ttl(request.wrap_ttl);
        let answer = self.call::<IgnoredAny>(&call)?;
        minted(answer.wrap_info).ok_or_else(|| Error::Malformed {
            request: call.to_string(),
            reason: "it holds no wrapping token".to_owned(),
        })
    }

    /// Ends a token that is known by its accessor alone, and all its leases (`auth/token/revoke-accessor`).
    pub(crate) fn revoke_accessor(&self, accessor: &str) -> Result<End, Error> {
        let call = Call::post("auth/token/revoke-accessor")
            .json(&BTreeMap::from([("accessor", accessor)]))
            .repeat(Repeat::Freely);
        let answer = self.call::<IgnoredAny>(&call);
        end(answer.map(|answer| answer.warnings.unwrap_or_default()))
    }
}

/// OpenBao, and Vault since 1.10, answer an unknown accessor with a success and a warning; earlier ones with an error.
fn end(answer: Result<Vec<String>, Error>) -> Result<End, Error> {
    let is_unknown = match &answer {
        Ok(warnings) => warnings
            .iter()
            .any(|warning| warning.to_lowercase().contains("no token found")),
        Err(Error::Status {
            status: 400,
            errors,
            ..
        }) => errors.iter().any(|error| error == "invalid accessor"),
        Err(_) => false,
    };
    match (is_unknown, answer) {
        (true, _) => Ok(End::Unknown),
        (false, Ok(_)) => Ok(End::Revoked),
        (false, Err(error)) => Err(error),
    }
}

pub(super) fn minted(wrap_info: Option<Value>) -> Option<Minted> {
    let Some(Value::Object(mut entries)) = wrap_info else {
        return None;
    };
    let mut text = |name: &str| {
        let at = entries.iter().position(|(known, _)| known == name)?;
        entries.swap_remove(at).1.text()
    };
    let plain = |text: Option<Secret>| text.map_or_else(String::new, |text| text.expose().clone());
    Some(Minted {
        token: text("token").filter(|token| !token.expose().is_empty())?,
        wrapped_accessor: plain(text("wrapped_accessor")),
        accessor: plain(text("accessor")),
        creation_path: plain(text("creation_path")),
        creation_time: plain(text("creation_time")),
        ttl: plain(text("ttl")).parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, error: &str) -> Result<Vec<String>, Error> {
        Err(Error::Status {
            request: "POST auth/token/revoke-accessor".to_owned(),
            status,
            errors: vec![error.to_owned()],
            has_data: false,
        })
    }

    #[test]
    fn end_of_a_token_is_told_from_a_token_that_is_unknown() {
        let warned = |text: &str| Ok(vec![text.to_owned()]);
        for (answer, expected) in [
            (Ok(Vec::new()), Some(End::Revoked)),
            (
                warned("Endpoint ignores these parameters"),
                Some(End::Revoked),
            ),
            (
                warned("No token found with this accessor"),
                Some(End::Unknown),
            ),
            (warned("no token found"), Some(End::Unknown)),
            (refused(400, "invalid accessor"), Some(End::Unknown)),
            (refused(403, "invalid accessor"), None),
            (refused(400, "something else"), None),
        ] {
            let shown = format!("{answer:?}");
            assert_eq!(end(answer).ok(), expected, "{shown}");
        }
    }
}

//! `auth/token`: the client token's properties, and its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::call::{Call, Repeat};
use super::client::Session;
use super::error::Error;
use super::transport::{Deadline, Limits};

/// The properties that Vault tells of the session's own token.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenProperties {
    /// The path at which the token was made.
    #[serde(default)]
    pub path: String,
    /// The token role it was made with.
    #[serde(default)]
    pub role: Option<String>,
    /// The namespace with a slash behind; empty or absent for the root namespace.
    #[serde(default)]
    pub namespace_path: Option<String>,
    /// The token's own policies.
    #[serde(default)]
    pub policies: Vec<String>,
    /// The policies of the identity behind the token.
    #[serde(default)]
    pub identity_policies: Option<Vec<String>>,
    /// The uses that the token has left; 0 is without limit.
    #[serde(default)]
    pub num_uses: u64,
    /// Seconds; 0 is none.
    #[serde(default)]
    pub explicit_max_ttl: u64,
    /// Seconds that it lives from now on.
    #[serde(default)]
    pub ttl: u64,
    /// Seconds that it lived from when it was made or renewed.
    #[serde(default)]
    pub creation_ttl: u64,
    #[serde(default)]
    pub renewable: bool,
}

impl Session {
    /// Asks what the token is (`auth/token/lookup-self`).
    pub(crate) fn lookup_self(&self) -> Result<TokenProperties, Error> {
        let call = Call::get("auth/token/lookup-self").repeat(Repeat::Freely);
        self.call::<TokenProperties>(&call)?.take_data(&call)
    }

    /// Renews the token (`auth/token/renew-self`); returns the seconds that it lives from now on, which may be fewer than
    /// were asked for.
    pub(crate) fn renew_self(&self, increment: Duration) -> Result<u64, Error> {
        let body = BTreeMap::from([("increment", increment.as_secs())]);
        let call = Call::post("auth/token/renew-self")
            .json(&body)
            .repeat(Repeat::Freely);
        let renewed = self.call::<serde::de::IgnoredAny>(&call)?;
        match renewed.auth {
            Some(auth) => Ok(auth.lease_duration),
            None => Err(Error::Malformed {
                request: call.to_string(),
                reason: "it says nothing of the token".to_owned(),
            }),
        }
    }

    /// Ends the token and all its leases (`auth/token/revoke-self`), within `budget` and whatever was called off.
    ///
    /// A token that is gone already is denied like one that may not revoke itself, so that 403 proves nothing.
    pub(crate) fn revoke_self(&self, budget: Duration) -> Result<(), Error> {
        let limits = Limits {
            deadline: Deadline::at(Instant::now() + budget),
            abort: Vec::new(),
            grace: Duration::ZERO,
            persistent: true,
        };
        let client = self.client.for_last_words(limits);
        let call = Call::post("auth/token/revoke-self").repeat(Repeat::Freely);
        client
            .call_alone::<serde::de::IgnoredAny>(&call, self.token.expose(), Duration::ZERO)
            .map(drop)
    }
}

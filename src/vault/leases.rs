//! `sys/leases`: a credential's own life, within that of the token.

use std::time::Duration;

use serde::de::IgnoredAny;
use ureq::http::Method;
use zeroize::Zeroizing;

use super::answer::Envelope;
use super::call::{Call, Repeat};
use super::client::Session;
use super::error::Error;

/// What became of a lease that was renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// Seconds that it lives from now on, which may be fewer than were asked for.
    pub duration: u64,
    /// It can be renewed once more.
    pub renewable: bool,
}

impl Session {
    /// Renews a lease (`sys/leases/renew`).
    pub fn renew_lease(&self, id: &str, increment: Duration) -> Result<Renewed, Error> {
        let body = serde_json::json!({"lease_id": id, "increment": increment.as_secs()});
        let answer = self.lease("sys/leases/renew", &body)?;
        Ok(Renewed {
            duration: answer.lease_duration,
            renewable: answer.renewable,
        })
    }

    /// Ends a lease, and with it its credential (`sys/leases/revoke`).
    pub fn revoke_lease(&self, id: &str) -> Result<(), Error> {
        let body = serde_json::json!({"lease_id": id});
        self.lease("sys/leases/revoke", &body).map(drop)
    }

    fn lease(&self, path: &str, body: &serde_json::Value) -> Result<Envelope<IgnoredAny>, Error> {
        self.call(&Call {
            method: Method::POST,
            path,
            body: Some(Zeroizing::new(body.to_string().into_bytes())),
            repeat: Repeat::Freely,
            wrap_ttl: None,
        })
    }
}

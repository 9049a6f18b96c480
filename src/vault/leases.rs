//! `sys/leases`: a credential's own life, within that of the token.

use std::time::Duration;

use serde::Serialize;
use serde::de::IgnoredAny;

use super::answer::Envelope;
use super::call::{Call, Repeat};
use super::client::Session;
use super::error::Error;

/// The new life of a lease that was renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Renewed {
    /// Seconds that it lives from now on, which may be fewer than were asked for.
    pub duration: u64,
    pub renewable: bool,
}

/// A lease as a request names it.
#[derive(Serialize)]
struct Lease<'a> {
    lease_id: &'a str,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    increment: Option<u64>,
}

impl Session {
    /// Renews a lease (`sys/leases/renew`).
    pub(crate) fn renew_lease(&self, id: &str, increment: Duration) -> Result<Renewed, Error> {
        let body = Lease {
            lease_id: id,
            increment: Some(increment.as_secs()),
        };
        let answer = self.lease("sys/leases/renew", &body)?;
        Ok(Renewed {
            duration: answer.lease_duration,
            renewable: answer.renewable,
        })
    }

    /// Ends a lease, and with it its credential (`sys/leases/revoke`).
    pub(crate) fn revoke_lease(&self, id: &str) -> Result<(), Error> {
        let body = Lease {
            lease_id: id,
            increment: None,
        };
        self.lease("sys/leases/revoke", &body).map(drop)
    }

    fn lease(&self, path: &str, body: &Lease<'_>) -> Result<Envelope<IgnoredAny>, Error> {
        self.call(&Call::post(path).json(body).repeat(Repeat::Freely))
    }
}

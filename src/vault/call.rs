//! One request, and one answer as it came.

use std::fmt;
use std::time::Duration;

use ureq::http::{HeaderMap, Method};
use zeroize::Zeroizing;

/// What may be done when it is not known whether a request was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Asking twice changes nothing.
    Freely,
    /// Each time leaves something behind.
    AFewTimes,
    /// It works once.
    Never,
}

/// One request.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// Below `/v1/`.
    pub(super) path: &'a str,
    pub(super) body: Option<Zeroizing<Vec<u8>>>,
    pub(super) repeat: Repeat,
    /// The answer comes wrapped, in a token of this life (`X-Vault-Wrap-TTL`).
    pub(super) wrap_ttl: Option<Duration>,
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// One answer, whatever it says.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

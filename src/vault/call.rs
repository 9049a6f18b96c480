//! One request, and one answer as it came.

use std::time::Duration;
use std::{fmt, io};

use serde::Serialize;
use ureq::http::{HeaderMap, Method};
use zeroize::Zeroizing;

/// The repeats that a request bears when no answer says whether Vault did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Asking twice changes nothing.
    Freely,
    /// Each time leaves something behind.
    AFewTimes,
    /// The request works once.
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

impl<'a> Call<'a> {
    /// A request without a body; until [`repeat`](Call::repeat) says more, it is sent once.
    pub(super) fn get(path: &'a str) -> Call<'a> {
        Call::new(Method::GET, path)
    }

    /// A request that may have a body; until [`repeat`](Call::repeat) says more, it is sent once.
    pub(super) fn post(path: &'a str) -> Call<'a> {
        Call::new(Method::POST, path)
    }

    fn new(method: Method, path: &'a str) -> Call<'a> {
        Call {
            method,
            path,
            body: None,
            repeat: Repeat::Never,
            wrap_ttl: None,
        }
    }

    /// Gives the request a body.
    pub(super) fn json(self, body: &impl Serialize) -> Call<'a> {
        let mut length = Length(0);
        write_json(&mut length, body);
        // All of it at once: memory that grows leaves a copy behind, and the body may hold a secret.
        let mut text = Zeroizing::new(Vec::with_capacity(length.0));
        write_json(&mut *text, body);
        Call {
            body: Some(text),
            ..self
        }
    }

    /// Permits to send the request again.
    pub(super) fn repeat(self, repeat: Repeat) -> Call<'a> {
        Call { repeat, ..self }
    }

    /// Has the answer wrapped, in a token of this life.
    pub(super) fn wrap_ttl(self, ttl: Duration) -> Call<'a> {
        Call {
            wrap_ttl: Some(ttl),
            ..self
        }
    }
}

fn write_json(to: &mut impl io::Write, body: &impl Serialize) {
    let written = serde_json::to_writer(to, body);
    assert!(
        written.is_ok(),
        "a body is made of texts, numbers and lists"
    );
}

/// A writer that counts the bytes alone.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// One answer, with any status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn body_is_written_into_memory_that_does_not_grow() {
        for length in [0, 1, 7, 8, 127, 5000] {
            let secret = "\"s\u{fc}\n".repeat(length);
            let body = BTreeMap::from([("secret_id", &secret)]);
            let call = Call::post("auth/x/login").json(&body);
            let text = call.body.as_deref().expect("it has a body");
            assert_eq!(text.capacity(), text.len(), "{length}");
            let read: BTreeMap<&str, String> = serde_json::from_slice(text).expect("JSON");
            assert_eq!(read["secret_id"], secret);
        }
    }

    #[test]
    fn text_of_a_request_is_its_method_and_path_alone() {
        let body = BTreeMap::from([("secret_id", "canary")]);
        let call = Call::post("auth/x/login").json(&body);
        assert_eq!(call.to_string(), "POST auth/x/login");
        assert_eq!(Call::get("kv/data/x").to_string(), "GET kv/data/x");
    }

    #[test]
    fn request_is_sent_once_unless_its_maker_allows_more() {
        for call in [Call::get("x"), Call::post("x")] {
            assert_eq!((call.repeat, call.wrap_ttl), (Repeat::Never, None));
        }
        let ttl = Duration::from_secs(30);
        let call = Call::post("x").repeat(Repeat::Freely).wrap_ttl(ttl);
        assert_eq!((call.repeat, call.wrap_ttl), (Repeat::Freely, Some(ttl)));
    }
}

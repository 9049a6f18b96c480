//! Names to addresses: each name once, through the container's own files and DNS, in the thread that asks.
//!
//! The address that Vault answered at is kept: the last words of a session must not depend on a name server. Over plain
//! http a name leads to this machine alone, whatever it resolves to.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::mutex::lock;
use crate::text::without_brackets;

/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 16;

/// The addresses of the hosts that a client speaks to; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Lookup {
    known: Arc<Mutex<Known>>,
    /// Whether plain http may go to other machines.
    allow_http: bool,
    /// Whether the next connection goes to where an answer came from, without asking a name server.
    prefers_answered: Arc<AtomicBool>,
}

/// Each by host and port.
#[derive(Debug, Default)]
struct Known {
    found: HashMap<String, Vec<SocketAddr>>,
    /// The last one that a TCP connection was opened to.
    opened: HashMap<String, SocketAddr>,
    /// The last one that a connection stood to, TLS and all.
    answered: HashMap<String, SocketAddr>,
}

/// A name leads to other machines, and plain http may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotLoopback {
    host: String,
    address: SocketAddr,
}

impl fmt::Display for NotLoopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is {} here, which is not this machine; over http that would be in clear",
            self.host,
            self.address.ip()
        )
    }
}

impl std::error::Error for NotLoopback {}

impl Lookup {
    pub(super) fn new(allow_http: bool) -> Lookup {
        Lookup {
            allow_http,
            ..Lookup::default()
        }
    }

    /// Asks anew when the next connection is made.
    pub(super) fn forget(&self) {
        self.known().found.clear();
    }

    /// The same addresses, for what must not wait for a name server: first the one that answered, and another one only
    /// after that has failed.
    pub(super) fn of_what_answered(&self) -> Lookup {
        Lookup {
            prefers_answered: Arc::new(AtomicBool::new(true)),
            ..self.clone()
        }
    }

    /// Notes the address that a TCP connection was opened to.
    pub(super) fn note_opened(&self, uri: &Uri, address: SocketAddr) {
        if let Ok((host, port)) = host_and_port(uri) {
            self.known().opened.insert(key(host, port), address);
        }
    }

    /// Notes that the connection to this host stands.
    pub(super) fn note_connected(&self, uri: &Uri) {
        if let Ok((host, port)) = host_and_port(uri) {
            let (mut known, key) = (self.known(), key(host, port));
            if let Some(address) = known.opened.get(&key).copied() {
                known.answered.insert(key, address);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// The addresses of a host; `ask` is the system's own lookup.
    fn addresses(
        &self,
        uri: &Uri,
        ask: impl FnOnce(&str, u16) -> io::Result<Vec<SocketAddr>>,
    ) -> Result<Vec<SocketAddr>, ureq::Error> {
        let (host, port) = host_and_port(uri)?;
        let (mut known, key) = (self.known(), key(host, port));
        let answered = known.answered.get(&key).copied();
        if self.prefers_answered.swap(false, Ordering::Relaxed)
            && let Some(address) = answered
        {
            return Ok(vec![address]);
        }
        if let Some(found) = known.found.get(&key) {
            return Ok(found.clone());
        }
        let found = match (ask(host, port), answered) {
            (Ok(found), _) => found,
            // Vault has not moved because a name server is down.
            (Err(_), Some(address)) => return Ok(vec![address]),
            (Err(error), None) => return Err(error.into()),
        };
        let found = match uri.scheme_str() {
            Some("http") if !self.allow_http => loopback_of(host, found)?,
            _ => found,
        };
        known.found.insert(key, found.clone());
        Ok(found)
    }
}

fn host_and_port(uri: &Uri) -> Result<(&str, u16), ureq::Error> {
    let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
    let port = uri.port_u16().ok_or(ureq::Error::HostNotFound)?;
    Ok((without_brackets(host), port))
}

fn key(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}

/// The addresses among them that are this machine's own.
fn loopback_of(host: &str, mut addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let other = addresses.first().copied();
    addresses.retain(|address| address.ip().to_canonical().is_loopback());
    match other {
        Some(address) if addresses.is_empty() => Err(io::Error::other(NotLoopback {
            host: host.to_owned(),
            address,
        })),
        _ => Ok(addresses),
    }
}

/// The lookup's reason against the connection, when that is why there is none.
pub(super) fn not_loopback(error: &ureq::Error) -> Option<&NotLoopback> {
    match error {
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &ureq::config::Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.addresses(uri, |host, port| match (host, port).to_socket_addrs() {
            Ok(found) => Ok(found.collect()),
            // Which name it was, the system does not say.
            Err(error) => Err(io::Error::new(error.kind(), format!("{host}: {error}"))),
        })?;
        let mut addresses = self.empty();
        for address in found.into_iter().take(ADDRESSES_MAX) {
            addresses.push(address);
        }
        if addresses.is_empty() {
            Err(ureq::Error::HostNotFound)
        } else {
            Ok(addresses)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &'static str) -> Uri {
        Uri::from_static(text)
    }

    fn found(addresses: &[&str]) -> io::Result<Vec<SocketAddr>> {
        let parsed = addresses
            .iter()
            .map(|text| text.parse().expect("an address"));
        Ok(parsed.collect())
    }

    fn dead(_: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other("the name server is dead"))
    }

    fn texts(addresses: Result<Vec<SocketAddr>, ureq::Error>) -> Vec<String> {
        let addresses = addresses.expect("it has addresses");
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn plain_http_goes_to_this_machine_alone_unless_allowed() {
        let mixed = [
            "172.17.0.1:8200",
            "127.0.0.1:8200",
            "[::1]:8200",
            "[::ffff:127.0.0.1]:8200",
        ];
        let http = uri("http://localhost:8200/v1/x");
        let own = texts(Lookup::new(false).addresses(&http, |_, _| found(&mixed)));
        assert_eq!(own, &mixed[1..]);
        for scheme in ["http://localhost:8200/v1/x", "http://127.0.0.2:8200/v1/x"] {
            let error = Lookup::new(false)
                .addresses(&uri(scheme), |_, _| {
                    found(&["172.17.0.1:8200", "[::ffff:10.0.0.1]:8200"])
                })
                .expect_err("it would be in clear");
            let reason = not_loopback(&error).expect("it is named").to_string();
            assert!(reason.contains("172.17.0.1"), "{reason}");
        }
        for (allowed, address) in [
            (true, "http://localhost:8200/v1/x"),
            (false, "https://localhost:8200/v1/x"),
        ] {
            let all = texts(Lookup::new(allowed).addresses(&uri(address), |_, _| found(&mixed)));
            assert_eq!(all, mixed);
        }
        // A name without an address is another mistake.
        assert_eq!(
            texts(Lookup::new(false).addresses(&http, |_, _| found(&[]))).len(),
            0
        );
    }

    #[test]
    fn address_that_answered_outlives_the_name_server() {
        let lookup = Lookup::new(false);
        let https = uri("https://vault:8200/v1/x");
        let both = ["10.0.0.1:8200", "10.0.0.2:8200"];
        assert_eq!(texts(lookup.addresses(&https, |_, _| found(&both))), both);
        // Only TCP: it may be another server by now.
        lookup.note_opened(&https, "10.0.0.1:8200".parse().expect("an address"));
        lookup.forget();
        assert!(lookup.addresses(&https, dead).is_err());
        lookup.note_opened(&https, "10.0.0.2:8200".parse().expect("an address"));
        lookup.note_connected(&https);
        assert_eq!(texts(lookup.addresses(&https, dead)), ["10.0.0.2:8200"]);
        // Where it can be asked, it is.
        let moved = ["10.0.0.3:8200"];
        assert_eq!(texts(lookup.addresses(&https, |_, _| found(&moved))), moved);
        lookup.forget();
        // Of another host it says nothing.
        assert!(
            lookup
                .addresses(&uri("https://other:8200/v1/x"), dead)
                .is_err()
        );
    }

    #[test]
    fn last_request_asks_no_name_server_first() {
        let lookup = Lookup::new(false);
        let https = uri("https://vault:8200/v1/x");
        lookup.note_opened(&https, "10.0.0.2:8200".parse().expect("an address"));
        lookup.note_connected(&https);
        let last = lookup.of_what_answered();
        let asked = std::cell::Cell::new(0);
        let ask = |_: &str, _: u16| {
            asked.set(asked.get() + 1);
            found(&["10.0.0.3:8200"])
        };
        assert_eq!(texts(last.addresses(&https, ask)), ["10.0.0.2:8200"]);
        assert_eq!(asked.get(), 0);
        // It was not there any more.
        assert_eq!(texts(last.addresses(&https, ask)), ["10.0.0.3:8200"]);
        assert_eq!(asked.get(), 1);
        // What never answered has to be asked for.
        let never = Lookup::new(false).of_what_answered();
        assert_eq!(texts(never.addresses(&https, ask)), ["10.0.0.3:8200"]);
    }
}

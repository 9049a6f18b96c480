//! The client and the session, and their connections.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use ureq::unversioned::transport::Connector as _;

use super::lookup::Lookup;
use super::roots::{self, Roots};
use super::tls::Tls;
use super::transport::{Connected, Limits, Progress, Tcp};
use crate::log::Log;
use crate::secret::Secret;

/// The wait for an answer after the start was called off: a caller who stops listening to an unwrap leaves a token behind
/// that no one can revoke, and a lease that is made after the revocation of its token outlives it.
pub(crate) const GRACE: Duration = Duration::from_millis(800);
/// The life of an idle connection: longer than the keeper is silent by default, and shorter than servers wait.
const IDLE: Duration = Duration::from_secs(75);
/// Bytes that a connection keeps for each direction.
const BUFFER: usize = 16 << 10;

/// The place of Vault, and the way to speak to it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Scheme, host and port, without a slash behind.
    pub url: String,
    /// The namespace, sent as `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// The name on the certificate, when that is not the URL's host.
    pub tls_server_name: Option<String>,
    /// Longest wait for one answer.
    pub client_timeout: Duration,
    /// Hosts that a redirect may name besides the URL's own.
    pub standby_hosts: Vec<String>,
    /// Whether plain http may go to other machines, not to this one alone.
    pub allow_http: bool,
}

/// A way to Vault without a token: it can look up and unwrap.
#[derive(Clone)]
pub(crate) struct Client {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) limits: Limits,
    pub(super) tls: Option<Tls>,
    lookup: Lookup,
    /// Seconds that the server's clock is ahead; `i64::MIN` until its first answer.
    pub(super) skew: Arc<AtomicI64>,
    /// Whether Vault has answered, with any status.
    pub(super) has_answered: Arc<AtomicBool>,
    pub(super) log: Log,
    /// The descriptor that calls off the requests under way; without one, they end by their own limits.
    stop: Option<Arc<OwnedFd>>,
}

/// Connections to the server, and how far their requests came.
pub(super) struct Connections {
    pub(super) agent: ureq::Agent,
    pub(super) progress: Arc<Progress>,
}

/// A way to Vault with a client token, which every request bears.
pub(crate) struct Session {
    pub(super) client: Client,
    pub(super) token: Secret,
    pub(super) accessor: String,
    pub(super) connections: Connections,
}

impl Client {
    /// Reads the CAs; nothing is sent yet.
    pub(crate) fn new(
        endpoint: Endpoint,
        roots: Roots<'_>,
        mut limits: Limits,
        log: Log,
    ) -> Result<Client, roots::Error> {
        let tls = if endpoint.url.starts_with("https:") {
            Some(Tls::new(roots, endpoint.tls_server_name.as_deref())?)
        } else {
            None
        };
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
            .ok()
            .map(|event| Arc::new(OwnedFd::from(event)));
        limits.abort.extend(stop.clone());
        Ok(Client {
            lookup: Lookup::new(endpoint.allow_http),
            endpoint: Arc::new(endpoint),
            limits,
            tls,
            skew: Arc::new(AtomicI64::new(i64::MIN)),
            has_answered: Arc::default(),
            log,
            stop,
        })
    }

    /// Seconds that the server's clock is ahead of this machine's, once it has answered.
    pub(crate) fn clock_skew(&self) -> Option<i64> {
        Some(self.skew.load(Ordering::Relaxed)).filter(|&skew| skew != i64::MIN)
    }

    /// Gives what is asked next so much time; a server that has moved meanwhile is found where it is.
    pub(crate) fn may_take(&self, time: Duration) {
        self.limits.deadline.move_to(Instant::now() + time);
        self.lookup.forget();
    }

    /// Makes a session of the client and a token; the session goes on with the connection that the token came through.
    pub(super) fn into_session(
        self,
        token: Secret,
        accessor: String,
        connections: Connections,
    ) -> Session {
        Session {
            client: self,
            token,
            accessor,
            connections,
        }
    }

    /// Makes a client for the last words of a session: under limits of their own, and to where the answers came from.
    pub(super) fn for_last_words(&self, limits: Limits) -> Client {
        Client {
            limits,
            lookup: self.lookup.of_what_answered(),
            ..self.clone()
        }
    }

    pub(super) fn connections(&self, grace: Duration) -> Connections {
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("anteroom/", env!("CARGO_PKG_VERSION")))
            // Answers may be larger, their head may not.
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_idle_connections(8)
            .max_idle_connections_per_host(8)
            .max_idle_age(IDLE)
            .build();
        let progress = Arc::new(Progress::default());
        let limits = Limits {
            grace,
            ..self.limits.clone()
        };
        let tcp = Tcp {
            limits,
            progress: Arc::clone(&progress),
            lookup: self.lookup.clone(),
        };
        let connected = Connected {
            progress: Arc::clone(&progress),
            lookup: self.lookup.clone(),
        };
        let agent = match &self.tls {
            Some(tls) => ureq::Agent::with_parts(
                config,
                tcp.chain(tls.clone()).chain(connected),
                self.lookup.clone(),
            ),
            None => ureq::Agent::with_parts(config, tcp.chain(connected), self.lookup.clone()),
        };
        Connections { agent, progress }
    }
}

impl Session {
    /// Makes a session with a token that is there already, as the minting side has one; its accessor is not known.
    pub(crate) fn with_token(client: Client, token: Secret) -> Session {
        let connections = client.connections(Duration::ZERO);
        client.into_session(token, String::new(), connections)
    }

    /// The accessor, which names the token without being one.
    pub(crate) fn accessor(&self) -> &str {
        &self.accessor
    }

    /// Puts the session under other limits, with new connections; the old ones are closed.
    pub(crate) fn within(self, limits: Limits) -> Session {
        let client = Client {
            limits,
            stop: None,
            ..self.client
        };
        client.lookup.forget();
        Session {
            connections: client.connections(GRACE),
            client,
            ..self
        }
    }

    /// Gives what is asked next so much time; a server that has moved meanwhile is found where it is.
    pub(crate) fn may_take(&self, time: Duration) {
        self.client.may_take(time);
    }

    /// Calls off the requests that other threads make in this session; those that were sent get a short grace.
    pub(crate) fn stop(&self) {
        if let Some(stop) = &self.client.stop {
            // One more to its counter makes it readable (eventfd(2)).
            let _ = nix::unistd::write(stop, &1_u64.to_ne_bytes());
        }
    }

    /// Seconds that the server's clock is ahead of this machine's.
    pub(crate) fn clock_skew(&self) -> Option<i64> {
        self.client.clock_skew()
    }
}

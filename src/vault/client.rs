//! The client and the session: their connections, redirects, and what is repeated for how long.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::de::DeserializeOwned;
use ureq::http::{Uri, header};
use ureq::unversioned::transport::Connector as _;

use super::answer::Envelope;
use super::error::Error;
use super::exchange::{Answer, Call, Repeat, Silence, TIMED_OUT};
use super::lookup::Lookup;
use super::roots::{self, Roots};
use super::tls::Tls;
use super::transport::{Connected, Limits, Progress, Tcp, without_brackets};
use super::verdict::{PAUSE_LIMITED, Verdict, destination, judge, parse};
use super::watch::{Hitch, Watch};
use crate::log::{Level, Log, Value};
use crate::secret::Secret;

/// Most tries of a request that creates something at each try.
const CREATIONS_MAX: u32 = 3;
/// How long an answer is still waited for after the start was called off: whoever stops listening to an unwrap leaves a
/// token behind that nobody can revoke, and a lease that is made after the revocation of its token outlives it.
pub const GRACE: Duration = Duration::from_millis(800);
/// Longer than the keeper is silent by default, and shorter than servers wait.
const IDLE: Duration = Duration::from_secs(75);
/// Bytes that a connection keeps for each direction.
const BUFFER: usize = 16 << 10;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(2);

/// Where Vault is and how it is spoken to.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Scheme, host and port, without a slash behind.
    pub url: String,
    /// Sent as `X-Vault-Namespace`.
    pub namespace: Option<String>,
    /// The name on the certificate, when that is not the URL's host.
    pub tls_server_name: Option<String>,
    /// Longest wait for one answer.
    pub client_timeout: Duration,
    /// Hosts that a redirect may name besides the URL's own.
    pub standby_hosts: Vec<String>,
    /// Plain http may go to other machines, not to this one alone.
    pub allow_http: bool,
}

/// A way to Vault without a token: it can look up and unwrap.
#[derive(Clone)]
pub struct Client {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) limits: Limits,
    pub(super) tls: Option<Tls>,
    lookup: Lookup,
    /// Seconds that the server's clock is ahead; `i64::MIN` until its first answer.
    pub(super) skew: Arc<AtomicI64>,
    /// Vault has answered, whatever it said.
    has_answered: Arc<AtomicBool>,
    pub(super) log: Log,
    /// Calls off what is under way; without it, that ends by its own limits.
    stop: Option<Arc<OwnedFd>>,
}

/// Connections to the server, and how far their requests came.
pub(super) struct Connections {
    pub(super) agent: ureq::Agent,
    pub(super) progress: Arc<Progress>,
}

/// A way to Vault with a client token, which every request bears.
pub struct Session {
    pub(super) client: Client,
    pub(super) token: Secret,
    pub(super) accessor: String,
    connections: Connections,
}

impl Client {
    /// Reads the CAs; nothing is sent yet.
    pub fn new(
        endpoint: Endpoint,
        roots: Roots<'_>,
        mut limits: Limits,
        log: Log,
    ) -> Result<Client, roots::Error> {
        let tls = match endpoint.url.starts_with("https:") {
            true => Some(Tls::new(roots, endpoint.tls_server_name.as_deref())?),
            false => None,
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
    pub fn clock_skew(&self) -> Option<i64> {
        Some(self.skew.load(Ordering::Relaxed)).filter(|&skew| skew != i64::MIN)
    }

    /// Gives what is asked next so much time; a server that has moved meanwhile is found where it is.
    pub fn may_take(&self, time: Duration) {
        self.limits.deadline.move_to(Instant::now() + time);
        self.lookup.forget();
    }

    /// With a token, a client becomes a session; it goes on with the connection that the token came through.
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

    /// The same way for the last words of a session: under limits of their own, and to where the answers came from.
    pub(super) fn for_last_words(&self, limits: Limits) -> Client {
        Client {
            limits,
            lookup: self.lookup.of_what_answered(),
            ..self.clone()
        }
    }

    fn connections(&self, grace: Duration) -> Connections {
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

    /// Sends a request on a connection of its own, which comes back with the answer; once it is sent, `grace` is how
    /// long its answer may take although the start was called off.
    pub(super) fn call_alone<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        token: &str,
        grace: Duration,
    ) -> Result<(Envelope<T>, Connections), Error> {
        let mut connections = self.connections(grace);
        let mut tried = false;
        let answer = self.repeated(call, &mut |url| {
            if std::mem::replace(&mut tried, true) {
                connections = self.connections(grace);
            }
            self.send(&connections, call, url, token)
        })?;
        Ok((parse(&answer, call)?, connections))
    }

    /// Repeats a request as far as it may be repeated, until the deadline.
    fn repeated(
        &self,
        call: &Call<'_>,
        send: &mut dyn FnMut(&str) -> Result<Answer, Silence>,
    ) -> Result<Answer, Error> {
        let mut origin = self.endpoint.url.clone();
        let mut redirected = false;
        // A standby redirects also when it has sent the request on and got no answer.
        let mut perhaps_done = false;
        let mut unknown = 0;
        let mut pause = PAUSE_FIRST;
        let mut said: Option<String> = None;
        let hitch = Hitch::default();
        let is_first = self.limits.persistent && !self.has_answered.load(Ordering::Relaxed);
        let _watch =
            is_first.then(|| Watch::begin(&self.endpoint.url, &hitch, &self.limits, self.log));
        loop {
            if self.limits.is_aborted() {
                return Err(Error::Aborted);
            }
            let mut floor = Duration::from_millis(10);
            let mut failed_by_vault = false;
            let (reason, wait) = match send(&format!("{origin}/v1/{}", call.path)) {
                Ok(answer) => match judge(call, &answer) {
                    Verdict::Done => {
                        self.has_answered.store(true, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Verdict::Elsewhere if !redirected => {
                        origin = self.redirect(call, &answer)?;
                        redirected = true;
                        perhaps_done = call.repeat == Repeat::Never;
                        continue;
                    }
                    Verdict::Elsewhere => ("a second redirect".to_owned(), pause),
                    Verdict::Again { reason, wait: None } => (reason, pause),
                    Verdict::Again {
                        reason,
                        wait: Some(wait),
                    } => {
                        floor = PAUSE_LIMITED;
                        (reason, wait)
                    }
                    Verdict::Unknown { reason, by_vault } => {
                        unknown += 1;
                        failed_by_vault = by_vault;
                        may_repeat(call, unknown, &reason, by_vault)?;
                        (reason, pause)
                    }
                    Verdict::Final(error) if perhaps_done => {
                        return Err(after_redirect(call, &error));
                    }
                    Verdict::Final(error) => return Err(error),
                },
                Err(Silence::NotSent(reason)) => {
                    // A standby that is gone is no reason to forget the address that was configured.
                    origin.clone_from(&self.endpoint.url);
                    redirected = false;
                    (reason, pause)
                }
                Err(Silence::Unknown(reason)) => {
                    unknown += 1;
                    may_repeat(call, unknown, &reason, false)?;
                    (reason, pause)
                }
                Err(Silence::Final(error)) => return Err(error),
            };
            // Half of what is left: however long a server asks for, there is another try before the deadline.
            let wait = jittered(wait.max(floor))
                .min(self.limits.remaining() / 2)
                .max(floor);
            let fields = [
                ("request", Value::Text(&call.to_string())),
                ("reason", Value::Text(&reason)),
                ("wait_ms", Value::Number(wait.as_millis() as u64)),
            ];
            match self.limits.persistent {
                true => self
                    .log
                    .event(Level::Debug, "retry", "trying again", &fields),
                false => self
                    .log
                    .event(Level::Debug, "request", "failed", &fields[..2]),
            }
            let goes_on = self.limits.persistent
                && self.limits.remaining() >= Duration::from_millis(20)
                && self.limits.pause(wait);
            if !goes_on {
                let unavailable = Error::Unavailable {
                    request: call.to_string(),
                    by_vault: failed_by_vault,
                    // The deadline cuts the last try short; what the server said before says more.
                    reason: match said {
                        Some(said) if reason == TIMED_OUT => {
                            format!("{reason}; before that, {said}")
                        }
                        _ => reason,
                    },
                };
                return Err(match self.limits.is_aborted() {
                    true => Error::Aborted,
                    false if perhaps_done => after_redirect(call, &unavailable),
                    false => unavailable,
                });
            }
            if reason != TIMED_OUT {
                hitch.note(&reason);
                said = Some(reason);
            }
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }

    pub(super) fn redirect(&self, call: &Call<'_>, answer: &Answer) -> Result<String, Error> {
        let refused = |reason: &str| Error::Redirect {
            request: call.to_string(),
            reason: format!("{reason}{}", destination(&answer.headers)),
        };
        let location = answer
            .headers
            .get(header::LOCATION)
            .and_then(|location| location.to_str().ok());
        let location: Uri = location
            .and_then(|location| location.parse().ok())
            .ok_or_else(|| refused("without a place that can be read"))?;
        let own: Uri = self
            .endpoint
            .url
            .parse()
            .map_err(|_| refused("from nowhere"))?;
        let (Some(scheme), Some(host)) = (location.scheme_str(), location.host()) else {
            return Err(refused("without a host,"));
        };
        if own.scheme_str() != Some(scheme) {
            return Err(refused("to another scheme,"));
        }
        let same = own.host().is_some_and(|own| own.eq_ignore_ascii_case(host));
        let standby = self
            .endpoint
            .standby_hosts
            .iter()
            .any(|known| known.eq_ignore_ascii_case(without_brackets(host)));
        // An unwrap goes where it was meant to go or nowhere: what it sends works once.
        if !same && (!standby || call.repeat == Repeat::Never) {
            return Err(refused(
                "to a host that is not among `standby_hosts` in [vault],",
            ));
        }
        if location.path() != format!("/v1/{}", call.path) {
            return Err(refused("to another path,"));
        }
        let port = location
            .port_u16()
            .unwrap_or(if scheme == "https" { 443 } else { 80 });
        Ok(format!("{scheme}://{host}:{port}"))
    }
}

impl Session {
    /// A session with a token that is there already, as the minting side has one; its accessor is not known.
    pub fn with_token(client: Client, token: Secret) -> Session {
        let connections = client.connections(Duration::ZERO);
        client.into_session(token, String::new(), connections)
    }

    /// Names the token without being one.
    pub fn accessor(&self) -> &str {
        &self.accessor
    }

    /// The same session under other limits, with connections of its own; those that it had are closed.
    pub fn within(self, limits: Limits) -> Session {
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
    pub fn may_take(&self, time: Duration) {
        self.client.may_take(time);
    }

    /// Calls off what other threads ask of this session; what was sent is waited for a little.
    pub fn stop(&self) {
        if let Some(stop) = &self.client.stop {
            // One more to its counter makes it readable (eventfd(2)).
            let _ = nix::unistd::write(stop, &1_u64.to_ne_bytes());
        }
    }

    /// Seconds that the server's clock is ahead of this machine's.
    pub fn clock_skew(&self) -> Option<i64> {
        self.client.clock_skew()
    }

    /// Sends a request with the session's token on one of its connections.
    pub(super) fn call<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<Envelope<T>, Error> {
        let answer = self.client.repeated(call, &mut |url| {
            self.client
                .send(&self.connections, call, url, self.token.expose())
        })?;
        parse(&answer, call)
    }
}

fn may_repeat(call: &Call<'_>, unknown: u32, reason: &str, by_vault: bool) -> Result<(), Error> {
    let (request, reason) = (call.to_string(), reason.to_owned());
    match call.repeat {
        Repeat::Freely => Ok(()),
        Repeat::AFewTimes if unknown < CREATIONS_MAX => Ok(()),
        Repeat::AFewTimes => Err(Error::Unavailable {
            request,
            reason: format!("{reason}, {CREATIONS_MAX} times"),
            by_vault,
        }),
        Repeat::Never => Err(Error::Unknown { request, reason }),
    }
}

/// A standby answered what works once, and may have had it done; the error is what came of it afterwards.
fn after_redirect(call: &Call<'_>, error: &Error) -> Error {
    Error::Unknown {
        request: call.to_string(),
        reason: format!("a standby redirected it; then: {error}"),
    }
}

/// Between the duration and half as much again, so that many containers do not come back at once.
fn jittered(duration: Duration) -> Duration {
    let mut random = [0];
    let _ = rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut random);
    duration + duration / 512 * u32::from(random[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_real_and_bounded() {
        let base = Duration::from_millis(1000);
        let waits: Vec<_> = (0..100).map(|_| jittered(base)).collect();
        assert!(
            waits
                .iter()
                .all(|wait| (base..=base * 3 / 2).contains(wait))
        );
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}

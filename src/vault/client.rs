//! One request and its answer: headers, status table, what may be repeated and for how long.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use ureq::http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use ureq::unversioned::transport::Connector as _;
use zeroize::Zeroizing;

use super::answer::{Envelope, Failure};
use super::error::Error;
use super::tls::{self, Roots, Tls};
use super::transport::{Connected, Limits, Lookup, Progress, Tcp};
use crate::log::{Level, Log, Value};
use crate::secret::Secret;

/// Largest answer that is read: room for a secret of some MiB, and no more.
const BODY_MAX: u64 = 8 << 20;
/// Most tries of a request that creates something at each try.
const CREATIONS_MAX: u32 = 3;
/// How long an answer is still waited for after the start was called off: whoever stops listening to an unwrap leaves a
/// token behind that nobody can revoke, and a lease that is made after the revocation of its token outlives it.
pub(super) const GRACE: Duration = Duration::from_millis(800);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(2);
/// A server that limits rates is left alone for at least this long, whatever it says.
const PAUSE_LIMITED: Duration = Duration::from_millis(250);
/// Difference of clocks above which one of them is wrong.
const SKEW_MAX: i64 = 30;

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
}

/// A way to Vault without a token: it can look up and unwrap.
#[derive(Clone)]
pub struct Client {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) limits: Limits,
    tls: Option<Tls>,
    lookup: Lookup,
    /// Seconds that the server's clock is ahead; `i64::MIN` until its first answer.
    skew: Arc<AtomicI64>,
    log: Log,
}

/// A way to Vault with a client token, which every request bears.
pub struct Session {
    pub(super) client: Client,
    pub(super) token: Secret,
    pub(super) accessor: String,
    agent: ureq::Agent,
    progress: Arc<Progress>,
    /// Without it, what is under way ends by its own limits.
    stop: Option<Arc<EventFd>>,
}

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
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer.
enum Silence {
    /// Nothing of the request went out.
    NotSent(String),
    /// It may have been done.
    Unknown(String),
    /// No repeat will help.
    Final(Error),
}

impl Client {
    /// Reads the CAs; nothing is sent yet.
    pub fn new(
        endpoint: Endpoint,
        roots: Roots<'_>,
        limits: Limits,
        log: Log,
    ) -> Result<Client, tls::Error> {
        let tls = match endpoint.url.starts_with("https:") {
            true => Some(Tls::new(roots, endpoint.tls_server_name.as_deref())?),
            false => None,
        };
        Ok(Client {
            endpoint: Arc::new(endpoint),
            limits,
            tls,
            lookup: Lookup::default(),
            skew: Arc::new(AtomicI64::new(i64::MIN)),
            log,
        })
    }

    /// Seconds that the server's clock is ahead of this machine's, once it has answered.
    pub fn clock_skew(&self) -> Option<i64> {
        Some(self.skew.load(Ordering::Relaxed)).filter(|&skew| skew != i64::MIN)
    }

    /// With a token, a client becomes a session with connections of its own.
    pub(super) fn into_session(mut self, token: Secret, accessor: String) -> Session {
        let stop = EventFd::new().ok().map(Arc::new);
        // A descriptor of its own for the list, which holds what is only waited for.
        let waited = stop
            .as_ref()
            .and_then(|stop| stop.as_fd().try_clone_to_owned().ok());
        self.limits.abort.extend(waited.map(Arc::new));
        let (agent, progress) = self.agent(GRACE);
        Session {
            client: self,
            token,
            accessor,
            agent,
            progress,
            stop,
        }
    }

    /// The same way with other limits.
    pub(super) fn with_limits(&self, limits: Limits) -> Client {
        Client {
            limits,
            ..self.clone()
        }
    }

    fn agent(&self, grace: Duration) -> (ureq::Agent, Arc<Progress>) {
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("anteroom/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(8)
            .max_idle_connections_per_host(8)
            .max_idle_age(Duration::from_secs(60))
            .build();
        let progress = Arc::new(Progress::default());
        let limits = Limits {
            grace,
            ..self.limits.clone()
        };
        let tcp = Tcp {
            limits,
            progress: Arc::clone(&progress),
        };
        let connected = Connected {
            progress: Arc::clone(&progress),
        };
        let agent = match &self.tls {
            Some(tls) => ureq::Agent::with_parts(
                config,
                tcp.chain(tls.clone()).chain(connected),
                self.lookup.clone(),
            ),
            None => ureq::Agent::with_parts(config, tcp.chain(connected), self.lookup.clone()),
        };
        (agent, progress)
    }

    /// Sends a request on a connection of its own; once it is sent, `grace` is how long its answer may take although
    /// the start was called off.
    pub(super) fn call_alone<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        token: &str,
        grace: Duration,
    ) -> Result<Envelope<T>, Error> {
        self.repeated(call, |url| {
            let (agent, progress) = self.agent(grace);
            self.send(&agent, &progress, call, url, token)
        })
    }

    /// Repeats a request as far as it may be repeated, until the deadline.
    fn repeated<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        mut send: impl FnMut(&str) -> Result<Answer, Silence>,
    ) -> Result<Envelope<T>, Error> {
        let request = || format!("{} {}", call.method, call.path);
        let mut origin = self.endpoint.url.clone();
        let mut redirected = false;
        let mut unknown = 0;
        let mut pause = PAUSE_FIRST;
        loop {
            if self.limits.is_aborted() {
                return Err(Error::Aborted);
            }
            let mut floor = Duration::from_millis(10);
            let (reason, wait) = match send(&format!("{origin}/v1/{}", call.path)) {
                Ok(answer) => match self.judge(call, &answer) {
                    Verdict::Done => return parse(&answer, request),
                    Verdict::Elsewhere if !redirected => {
                        origin = self.redirect(call, &answer)?;
                        redirected = true;
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
                    Verdict::Unknown(reason) => {
                        unknown += 1;
                        may_repeat(call, unknown, &request(), &reason)?;
                        (reason, pause)
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
                    may_repeat(call, unknown, &request(), &reason)?;
                    (reason, pause)
                }
                Err(Silence::Final(error)) => return Err(error),
            };
            // Half of what is left: however long a server asks for, there is another try before the deadline.
            let wait = jittered(wait.max(floor))
                .min(self.limits.remaining() / 2)
                .max(floor);
            self.log.event(
                Level::Debug,
                "retry",
                "trying again",
                &[
                    ("request", Value::Text(&request())),
                    ("reason", Value::Text(&reason)),
                    ("wait_ms", Value::Number(wait.as_millis() as u64)),
                ],
            );
            if self.limits.remaining() < Duration::from_millis(20) || !self.limits.pause(wait) {
                return Err(match self.limits.is_aborted() {
                    true => Error::Aborted,
                    false => Error::Unavailable {
                        request: request(),
                        reason,
                    },
                });
            }
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }

    fn send(
        &self,
        agent: &ureq::Agent,
        progress: &Progress,
        call: &Call<'_>,
        url: &str,
        token: &str,
    ) -> Result<Answer, Silence> {
        let final_error = |reason: String| {
            Silence::Final(Error::Malformed {
                request: format!("{} {}", call.method, call.path),
                reason,
            })
        };
        let mut token =
            HeaderValue::from_str(token).map_err(|error| final_error(error.to_string()))?;
        token.set_sensitive(true);
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(url)
            .header("X-Vault-Token", token)
            .header("X-Vault-Request", "true")
            .header(header::ACCEPT, "application/json");
        if let Some(namespace) = &self.endpoint.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        let timeout = self.endpoint.client_timeout.min(self.limits.remaining());
        let sent = Instant::now();
        let answer = match &call.body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(&body[..])
                .map_err(ureq::Error::from)
                .and_then(|request| {
                    agent.run(
                        agent
                            .configure_request(request)
                            .timeout_global(Some(timeout))
                            .build(),
                    )
                }),
            None => request
                .body(())
                .map_err(ureq::Error::from)
                .and_then(|request| {
                    agent.run(
                        agent
                            .configure_request(request)
                            .timeout_global(Some(timeout))
                            .build(),
                    )
                }),
        };
        let answer = answer.and_then(|answer| {
            let (parts, mut body) = answer.into_parts();
            let body = Zeroizing::new(body.with_config().limit(BODY_MAX).read_to_vec()?);
            Ok(Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
            })
        });
        match answer {
            Ok(answer) => {
                self.note_clock(&answer.headers);
                self.log.event(
                    Level::Debug,
                    "request",
                    "answered",
                    &[
                        (
                            "request",
                            Value::Text(&format!("{} {}", call.method, call.path)),
                        ),
                        ("status", Value::Number(answer.status.into())),
                        ("ms", Value::Number(sent.elapsed().as_millis() as u64)),
                    ],
                );
                Ok(answer)
            }
            Err(error) => Err(self.silence(call, error, progress)),
        }
    }

    fn silence(&self, call: &Call<'_>, error: ureq::Error, progress: &Progress) -> Silence {
        if progress.aborted.load(Ordering::Relaxed) && !progress.connected.load(Ordering::Relaxed) {
            return Silence::Final(Error::Aborted);
        }
        if let Some(reason) = tls_reason(&error) {
            let refusal = self.tls.as_ref().and_then(Tls::refusal);
            // Behind the handshake the request may have gone out, whatever broke the connection.
            if refusal.is_none()
                && call.repeat == Repeat::Never
                && progress.connected.load(Ordering::Relaxed)
            {
                return Silence::Unknown(reason);
            }
            let reason = refusal.unwrap_or(reason);
            return Silence::Final(Error::Tls {
                server: self.endpoint.url.clone(),
                reason,
            });
        }
        if progress.aborted.load(Ordering::Relaxed) {
            return Silence::Unknown("called off".to_owned());
        }
        let reason = match &error {
            ureq::Error::Timeout(_) => "it did not answer in time".to_owned(),
            ureq::Error::BodyExceedsLimit(_) | ureq::Error::Protocol(_) | ureq::Error::Http(_) => {
                let reason = match &error {
                    ureq::Error::BodyExceedsLimit(_) => {
                        format!("it is larger than {} MiB", BODY_MAX >> 20)
                    }
                    other => format!("it is no HTTP ({other})"),
                };
                return Silence::Final(Error::Malformed {
                    request: format!("{} {}", call.method, call.path),
                    reason,
                });
            }
            other => other.to_string(),
        };
        if let ureq::Error::Io(error) = &error
            && error.raw_os_error() == Some(nix::libc::EMFILE)
        {
            return Silence::Final(Error::NoDescriptor { reason });
        }
        let not_sent = match &error {
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
            ureq::Error::Io(error) => matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionRefused
                    | std::io::ErrorKind::HostUnreachable
                    | std::io::ErrorKind::NetworkUnreachable
                    | std::io::ErrorKind::AddrNotAvailable
            ),
            _ => false,
        };
        // A route that is lost later says the same as one that never was; what works once gets no benefit of the doubt.
        let not_sent = not_sent && call.repeat != Repeat::Never;
        if not_sent || !progress.connected.load(Ordering::Relaxed) {
            Silence::NotSent(reason)
        } else {
            Silence::Unknown(reason)
        }
    }

    /// Compares the server's clock with this one; nothing is decided on it.
    fn note_clock(&self, headers: &HeaderMap) {
        let Some(date) = headers
            .get(header::DATE)
            .and_then(|date| date.to_str().ok())
        else {
            return;
        };
        let Ok(server) = OffsetDateTime::parse(date, &Rfc2822) else {
            return;
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the server's clock is compared with this machine's"
        )]
        let here = OffsetDateTime::from(std::time::SystemTime::now());
        let skew = (server - here).whole_seconds();
        let first = self.skew.swap(skew, Ordering::Relaxed) == i64::MIN;
        if first && skew.abs() > SKEW_MAX {
            self.log.event(
                Level::Warn,
                "clock_skew",
                "this machine's clock and Vault's differ; certificates may look expired or not yet valid",
                &[("vault", Value::Text(date)), ("seconds", Value::Number(skew.unsigned_abs()))],
            );
        }
    }

    fn redirect(&self, call: &Call<'_>, answer: &Answer) -> Result<String, Error> {
        let refused = |reason: &str| Error::Redirect {
            request: format!("{} {}", call.method, call.path),
            reason: reason.to_owned(),
        };
        let location = answer
            .headers
            .get(header::LOCATION)
            .and_then(|location| location.to_str().ok());
        let location: Uri = location
            .and_then(|location| location.parse().ok())
            .ok_or_else(|| refused("without a place to go to"))?;
        let own: Uri = self
            .endpoint
            .url
            .parse()
            .map_err(|_| refused("from nowhere"))?;
        let (Some(scheme), Some(host)) = (location.scheme_str(), location.host()) else {
            return Err(refused("without a host"));
        };
        if own.scheme_str() != Some(scheme) {
            return Err(refused("to another scheme"));
        }
        let same = own.host().is_some_and(|own| own.eq_ignore_ascii_case(host));
        let standby = self
            .endpoint
            .standby_hosts
            .iter()
            .any(|known| known.eq_ignore_ascii_case(host.trim_matches(['[', ']'])));
        // An unwrap goes where it was meant to go or nowhere: what it sends works once.
        if !same && (!standby || call.repeat == Repeat::Never) {
            return Err(refused(
                "to a host that is not among `standby_hosts` in [vault]",
            ));
        }
        if location.path() != format!("/v1/{}", call.path) {
            return Err(refused("to another path"));
        }
        let port = location
            .port_u16()
            .unwrap_or(if scheme == "https" { 443 } else { 80 });
        Ok(format!("{scheme}://{host}:{port}"))
    }

    fn judge(&self, call: &Call<'_>, answer: &Answer) -> Verdict {
        if matches!(answer.status, 200 | 204) {
            return Verdict::Done;
        }
        let request = format!("{} {}", call.method, call.path);
        let vaults: Option<Failure> = is_json(&answer.headers)
            .then(|| serde_json::from_slice(&answer.body).ok())
            .flatten();
        let errors = vaults
            .as_ref()
            .map_or_else(Vec::new, |failure| readable(&failure.errors));
        let said = || match errors.is_empty() {
            true => format!("status {}", answer.status),
            false => format!("status {}: {}", answer.status, errors.join(", ")),
        };
        match answer.status {
            307 => Verdict::Elsewhere,
            412 | 472 | 473 => Verdict::Again {
                reason: said(),
                wait: None,
            },
            429 => Verdict::Again {
                reason: said(),
                wait: Some(retry_after(&answer.headers)),
            },
            // Vault always says why; a load balancer may have passed the request on before.
            503 if !errors.is_empty() => Verdict::Again {
                reason: said(),
                wait: None,
            },
            501 => Verdict::Final(Error::Unavailable {
                request,
                reason: "it is not initialised".to_owned(),
            }),
            500 | 502 | 503 | 504 => Verdict::Unknown(said()),
            status => Verdict::Final(Error::Status {
                request,
                status,
                errors,
                has_data: vaults.is_some_and(|failure| failure.data.is_some()),
            }),
        }
    }
}

impl Session {
    /// Names the token without being one.
    pub fn accessor(&self) -> &str {
        &self.accessor
    }

    /// Calls off what other threads ask of this session; what was sent is waited for a little.
    pub fn stop(&self) {
        if let Some(stop) = &self.stop {
            let _ = stop.write(1);
        }
    }

    /// Seconds that the server's clock is ahead of this machine's.
    pub fn clock_skew(&self) -> Option<i64> {
        self.client.clock_skew()
    }

    /// Sends a request with the session's token on one of its connections.
    pub(super) fn call<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<Envelope<T>, Error> {
        self.client.repeated(call, |url| {
            self.client
                .send(&self.agent, &self.progress, call, url, self.token.expose())
        })
    }
}

enum Verdict {
    Done,
    Elsewhere,
    Again {
        reason: String,
        wait: Option<Duration>,
    },
    Unknown(String),
    Final(Error),
}

fn may_repeat(call: &Call<'_>, unknown: u32, request: &str, reason: &str) -> Result<(), Error> {
    let (request, reason) = (request.to_owned(), reason.to_owned());
    match call.repeat {
        Repeat::Freely => Ok(()),
        Repeat::AFewTimes if unknown < CREATIONS_MAX => Ok(()),
        Repeat::AFewTimes => Err(Error::Unavailable {
            request,
            reason: format!("{reason}, {CREATIONS_MAX} times"),
        }),
        Repeat::Never => Err(Error::Unknown { request, reason }),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .split(';')
                .next()
                .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        })
}

fn parse<T: DeserializeOwned>(
    answer: &Answer,
    request: impl Fn() -> String,
) -> Result<Envelope<T>, Error> {
    let malformed = |reason: String| Error::Malformed {
        request: request(),
        reason,
    };
    if answer.body.is_empty() && answer.status == 204 {
        return serde_json::from_str("{}").map_err(|_| malformed("it is empty".to_owned()));
    }
    if !is_json(&answer.headers) {
        let kind = answer
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("not said");
        return Err(malformed(format!("its Content-Type is {kind}")));
    }
    // What nobody reads the parser would skip without looking at it.
    let text =
        std::str::from_utf8(&answer.body).map_err(|_| malformed("it is not UTF-8".to_owned()))?;
    // The library's message names a place and an expectation; a wrong type it would quote with its value.
    let envelope: Envelope<T> = serde_json::from_str(text).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Eof => "it is cut off",
            serde_json::error::Category::Syntax => {
                "it is no JSON, or too deep, or holds a number without an exact form"
            }
            _ => "its JSON has another form, or a name that comes twice",
        };
        malformed(format!(
            "{kind} (line {}, column {})",
            error.line(),
            error.column()
        ))
    })?;
    match &envelope.errors {
        Some(errors) if !errors.is_empty() => Err(malformed(format!(
            "it succeeded with errors: {}",
            readable(errors).join(", ")
        ))),
        _ => Ok(envelope),
    }
}

/// Vault's errors without the layout of a list, as in `1 error occurred:\n\t* permission denied\n\n`.
fn readable(errors: &[String]) -> Vec<String> {
    errors
        .iter()
        .flat_map(|error| error.lines())
        .map(|line| {
            let line = line.trim();
            line.strip_prefix("* ").unwrap_or(line).trim_start()
        })
        .filter(|line| !line.is_empty() && !is_count_of_errors(line))
        .map(str::to_owned)
        .collect()
}

fn is_count_of_errors(line: &str) -> bool {
    line.split_once(' ').is_some_and(|(count, rest)| {
        count.bytes().all(|byte| byte.is_ascii_digit())
            && ["error occurred:", "errors occurred:"].contains(&rest)
    })
}

/// Whole seconds; anything else, a date among it, counts as none.
fn retry_after(headers: &HeaderMap) -> Duration {
    headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map_or(PAUSE_LIMITED, |seconds: u32| {
            Duration::from_secs(seconds.into())
        })
}

/// Between the duration and half as much again, so that many containers do not come back at once.
fn jittered(duration: Duration) -> Duration {
    let mut random = [0];
    let _ = rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut random);
    duration + duration / 512 * u32::from(random[0])
}

/// What TLS has against the server, when that is why there is no connection.
fn tls_reason(error: &ureq::Error) -> Option<String> {
    let ureq::Error::Io(error) = error else {
        return None;
    };
    error
        .get_ref()?
        .downcast_ref::<rustls::Error>()
        .map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_whole_seconds_or_nothing_b42() {
        let parsed = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().expect("a header"));
            retry_after(&headers)
        };
        assert_eq!(parsed("2"), Duration::from_secs(2));
        assert_eq!(parsed("0"), Duration::ZERO);
        for text in [
            "-1",
            "1e9",
            "99999999999",
            "Sat, 21 Nov 2026 19:58:00 GMT",
            "x",
        ] {
            assert_eq!(parsed(text), PAUSE_LIMITED, "{text}");
        }
    }

    #[test]
    fn errors_in_the_layout_of_a_list_become_plain_texts() {
        let lists = [
            "1 error occurred:\n\t* permission denied\n\n".to_owned(),
            "2 errors occurred:\n\t* a: b\n\t* c\n\n".to_owned(),
            "plain".to_owned(),
        ];
        assert_eq!(
            readable(&lists),
            ["permission denied", "a: b", "c", "plain"]
        );
    }

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

    #[test]
    fn a_content_type_may_have_parameters() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        assert!(is_json(&headers));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
        assert!(!is_json(&headers));
    }
}

//! One request and its answer, or why there is none.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use ureq::http::{HeaderMap, HeaderValue, Method, Request, Response, header, request};
use zeroize::Zeroizing;

use super::call::{Answer, Call, Repeat};
use super::client::{Client, Connections};
use super::error::Error;
use super::lookup::not_loopback;
use super::tls::Tls;
use super::transport::Progress;
use crate::log::{Level, Value};
use crate::system::refused;

/// Largest answer that is read: room for a secret of some MiB, and no more.
const BODY_MAX: u64 = 8 << 20;
/// The reason that stands for a server's silence.
pub(super) const TIMED_OUT: &str = "it did not answer in time";
/// Difference of clocks above which one of them is wrong.
const SKEW_MAX: i64 = 30;

/// The reason why there is no answer.
pub(super) enum Silence {
    /// Nothing of the request went out.
    NotSent(String),
    /// Vault may have done the request.
    Unknown(String),
    /// No repeat will help.
    Final(Error),
}

impl Client {
    /// Sends a request once.
    pub(super) fn send(
        &self,
        connections: &Connections,
        call: &Call<'_>,
        url: &str,
        token: &str,
    ) -> Result<Answer, Silence> {
        let Connections { agent, progress } = connections;
        let final_error = |reason: String| {
            Silence::Final(Error::Malformed {
                request: call.to_string(),
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
        if let Some(ttl) = call.wrap_ttl {
            request = request.header("X-Vault-Wrap-TTL", ttl.as_secs());
        }
        let timeout = self.endpoint.client_timeout.min(self.limits.remaining());
        let sent = Instant::now();
        let answer = match &call.body {
            Some(body) => run(
                agent,
                request.header(header::CONTENT_TYPE, "application/json"),
                &body[..],
                timeout,
            ),
            // Without a length of its own an empty body would go out in chunks.
            None if call.method == Method::POST => run(agent, request, &[][..], timeout),
            None => run(agent, request, (), timeout),
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
                        ("request", Value::Text(&call.to_string())),
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
        if let Some(reason) = not_loopback(&error) {
            return Silence::Final(Error::InClear {
                reason: reason.to_string(),
            });
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
            ureq::Error::Timeout(_) => TIMED_OUT.to_owned(),
            ureq::Error::BodyExceedsLimit(_) | ureq::Error::Protocol(_) | ureq::Error::Http(_) => {
                let reason = match &error {
                    ureq::Error::BodyExceedsLimit(_) => {
                        format!("it is larger than {} MiB", BODY_MAX >> 20)
                    }
                    other => format!("it is no HTTP ({other})"),
                };
                return Silence::Final(Error::Malformed {
                    request: call.to_string(),
                    reason,
                });
            }
            other => other.to_string(),
        };
        if let ureq::Error::Io(error) = &error
            && error.raw_os_error() == Some(Errno::EMFILE as i32)
        {
            return Silence::Final(Error::NoDescriptor(refused("connect to Vault")(
                Errno::EMFILE,
            )));
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
}

fn run(
    agent: &ureq::Agent,
    request: request::Builder,
    body: impl ureq::AsSendBody,
    timeout: Duration,
) -> Result<Response<ureq::Body>, ureq::Error> {
    let request = request.body(body)?;
    let configured = agent
        .configure_request(request)
        .timeout_global(Some(timeout));
    agent.run(configured.build())
}

/// The fault that TLS found in the server, when that is the reason why there is no connection.
fn tls_reason(error: &ureq::Error) -> Option<String> {
    let ureq::Error::Io(error) = error else {
        return None;
    };
    error
        .get_ref()?
        .downcast_ref::<rustls::Error>()
        .map(ToString::to_string)
}

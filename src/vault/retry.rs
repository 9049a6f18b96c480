//! The repeats of a request, and the places that a redirect may lead to.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::{Uri, header};

use super::answer::Envelope;
use super::call::{Answer, Call, Repeat};
use super::client::{Client, Connections, Session};
use super::error::Error;
use super::exchange::{Silence, TIMED_OUT};
use super::verdict::{PAUSE_LIMITED, Verdict, destination, judge, parse};
use super::watch::{Hitch, Watch};
use crate::log::{Level, Value};
use crate::random;
use crate::text::without_brackets;

/// Most tries of a request that creates something at each try.
const CREATIONS_MAX: u32 = 3;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(2);

impl Client {
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
            let wait = random::lengthened(wait.max(floor))
                .min(self.limits.remaining() / 2)
                .max(floor);
            let fields = [
                ("request", Value::Text(&call.to_string())),
                ("reason", Value::Text(&reason)),
                ("wait_ms", Value::Number(wait.as_millis() as u64)),
            ];
            if self.limits.persistent {
                self.log
                    .event(Level::Debug, "retry", "trying again", &fields);
            } else {
                self.log
                    .event(Level::Debug, "request", "failed", &fields[..2]);
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
                return Err(if self.limits.is_aborted() {
                    Error::Aborted
                } else if perhaps_done {
                    after_redirect(call, &unavailable)
                } else {
                    unavailable
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

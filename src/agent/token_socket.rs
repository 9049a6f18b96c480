//! The token socket, for containers that cannot be entered: it is mounted into them, and they ask there.
//!
//! Who asks is what the kernel says of the peer and its cgroup, never what the peer says: nothing is read from it. The
//! answer is one line of JSON, `{"token":…,"wrapped_accessor":…}` or `{"error":…}`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::calls::CALLERS_MAX;
use super::configuration::Configuration;
use super::docker::answers::Inspection;
use super::identity::{self, Claim};
use super::issue::{Error, Way};
use super::limiter::Admission;
use super::process::{self, Peer, Process};
use super::register::nanoseconds;
use super::runtime::blocking;
use super::sockets::{self, PUBLIC, Socket};
use super::{Agent, LINES_PER_MINUTE};
use crate::log::{Level, Value};
use crate::mutex::lock;

/// How long a caller that comes too often waits for its refusal.
const HELD: Duration = Duration::from_secs(1);
/// Under which lines about callers that are no containers are counted; the metrics count them all.
const STRANGERS: &str = "strangers";
const TOO_MANY_CALLS: &str = "too_many_calls";
/// How long a caller waits for an engine that is away, or that an agent which has just started does not know yet.
const ENGINE_MAX: Duration = Duration::from_secs(30);
/// How long a caller waits for the event of its own start, and between two looks.
const EVENT_MAX: Duration = Duration::from_secs(5);
const EVENT_LOOK: Duration = Duration::from_millis(10);

/// Opens the socket for every container into which it is mounted.
pub(super) fn open(configuration: &Configuration) -> io::Result<Option<Socket>> {
    let path = configuration.delivery.socket.as_deref();
    path.map(|path| Socket::listen(path, PUBLIC)).transpose()
}

pub(super) async fn serve(agent: &Arc<Agent>, socket: Option<Socket>) {
    let Some(mut socket) = socket else {
        return std::future::pending().await;
    };
    let callers = Arc::new(Semaphore::new(CALLERS_MAX));
    loop {
        let permit = Arc::clone(&callers).acquire_owned().await;
        match socket.accept(agent).await {
            Ok(stream) => {
                let agent = Arc::clone(agent);
                tokio::spawn(async move {
                    agent.called(stream, permit).await;
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

impl Agent {
    async fn called(&self, mut stream: UnixStream, permit: impl Send) {
        let seen = Instant::now();
        let reason = match self.admit(&stream, seen).await {
            Ok(caller) => self.let_in(&mut stream, caller, seen).await.err(),
            Err(Unadmitted::Refused(reason)) => Some(reason),
            Err(Unadmitted::TooOften) => {
                // A caller in a loop waits, and no other one waits behind it.
                drop(permit);
                let Some(_held) = self.calls.hold() else {
                    return;
                };
                tokio::time::sleep(HELD).await;
                return refuse(&mut stream, "refused").await;
            }
        };
        if let Some(reason) = reason {
            refuse(&mut stream, reason).await;
        }
        let _ = stream.shutdown().await;
    }

    /// Finds out who calls, and whether not too often.
    async fn admit(&self, stream: &UnixStream, seen: Instant) -> Result<Peer, Unadmitted> {
        let proc = self.configuration.docker.proc.clone();
        let peer = duplicate(stream);
        let peer = peer.map_err(|_| Unadmitted::Refused("no descriptor is free"))?;
        let looking = self.calls.look_up().await;
        let caller = blocking(move || Process::of_peer(&proc, peer)).await;
        drop(looking);
        let caller = caller.map_err(|error| Unadmitted::Refused(self.refuse_caller(&error)))?;
        if self.may_call(&caller, seen) {
            Ok(caller)
        } else {
            Err(Unadmitted::TooOften)
        }
    }

    /// Counts a call; says once in a minute that a container calls too often.
    fn may_call(&self, caller: &Peer, now: Instant) -> bool {
        let admission = self.calls.admit(caller, now);
        if admission == Admission::Admitted {
            return true;
        }
        self.metrics.refused(TOO_MANY_CALLS);
        if admission == Admission::FirstRefusal && self.may_say(TOO_MANY_CALLS) {
            let text = "a container calls at the socket again and again";
            let container = caller.containers.first().map_or("", String::as_str);
            let fields = [
                ("reason", Value::Text(TOO_MANY_CALLS)),
                ("container", Value::Text(container)),
            ];
            self.log.event(Level::Warn, "refused", text, &fields);
        }
        false
    }

    /// The container that the caller is in by the names of its cgroups: the innermost that Docker knows. Containers that a
    /// container starts with an engine of its own are unknown to the host's, and belong to it.
    async fn identify(&self, caller: &Peer) -> Option<Claim> {
        for container in &caller.containers {
            match self.inspect(container).await {
                Ok(Inspection::Absent) => {}
                // Not the next one instead: this one is known.
                Ok(found) => return found.running(),
                Err(_) => return None,
            }
        }
        None
    }

    async fn let_in(
        &self,
        stream: &mut UnixStream,
        caller: Peer,
        seen: Instant,
    ) -> Result<(), &'static str> {
        while self.engine().is_none() && seen.elapsed() < ENGINE_MAX {
            tokio::time::sleep(EVENT_LOOK).await;
        }
        let Some(claim) = self.identify(&caller).await else {
            return Err("nothing is known of this container now");
        };
        // A cgroup's name is no proof: a container may be put below another's. Its members share more.
        let (caller, container) = (caller.process, claim.container.clone());
        let first = match self.open(&claim).await {
            Ok(first) => blocking(move || shared(&caller, first, container)).await,
            Err(error) => Err(error),
        };
        let process = match first {
            Ok(first) => first,
            Err(error) => return Err(self.refuse_caller(&error)),
        };
        let labels = identity::labelled(&claim.labels, &self.configuration.labels);
        let labels = labels
            .unwrap_or_else(|| {
                Err(identity::Refusal::LabelMissing {
                    label: self.configuration.labels.app.clone(),
                })
            })
            .map(|(app, environment)| (app.to_owned(), environment.to_owned()));
        let refused = |error: &Error| {
            self.tell_refusal(&claim, labels.as_ref().ok(), error);
            match error {
                Error::Mint(_) => "no token can be minted now",
                _ => "refused",
            }
        };
        // It may be faster than Docker's event of its start, and has to wait until that was looked at.
        let began = Instant::now();
        while self.starts.is_under_way(&claim) && began.elapsed() < EVENT_MAX {
            tokio::time::sleep(EVENT_LOOK).await;
        }
        let Some(_start) = self.claim(&claim) else {
            let has_token = self
                .register
                .has(&claim.container, nanoseconds(claim.started));
            return Err(if has_token {
                refused(&Error::HasToken)
            } else {
                // Another task works on it, or has said why not.
                "refused"
            });
        };
        let issued = self.issue(&claim, labels.clone(), process, Way::Socket(stream));
        match issued.await {
            Ok(Some(issued)) => {
                self.tell(&claim, &issued, seen);
                self.save().await;
                Ok(())
            }
            Ok(None) => Err("refused"),
            Err(error) => Err(refused(&error)),
        }
    }

    /// The log cannot tell such callers apart, so all of them together may fill the log with no more than this in a minute.
    fn refuse_caller(&self, error: &process::Error) -> &'static str {
        self.metrics.refused(error.reason());
        let lines = lock(&self.lines).admit(STRANGERS, LINES_PER_MINUTE, Instant::now());
        if lines == Admission::Refused {
            return "refused";
        }
        if lines == Admission::FirstRefusal {
            let text = "more callers at the socket that get none are counted, and not logged, for a minute";
            let fields = [("reason", Value::Text(TOO_MANY_CALLS))];
            self.log.event(Level::Warn, "refused", text, &fields);
            return "refused";
        }
        let text =
            format!("a token was asked for at the socket, and its caller gets none: {error}");
        let fields = [("reason", Value::Text(error.reason()))];
        self.log.event(Level::Warn, "refused", &text, &fields);
        "refused"
    }
}

/// Why a call ends before its container is looked at.
enum Unadmitted {
    Refused(&'static str),
    TooOften,
}

/// The container's first process, if the caller belongs to it.
fn shared(caller: &Process, first: Process, container: String) -> Result<Process, process::Error> {
    if caller.shares_container(&first, &container)? {
        Ok(first)
    } else {
        Err(process::Error::NotItsContainer {
            pid: caller.pid(),
            container,
        })
    }
}

/// Tells a caller that it gets nothing. What is wrong is for the operator: any process may call.
async fn refuse(stream: &mut UnixStream, reason: &str) {
    let answer = serde_json::json!({"error": reason}).to_string();
    let _ = sockets::write(stream, answer.as_bytes()).await;
}

fn duplicate(stream: &UnixStream) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}

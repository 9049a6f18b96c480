//! The second door, for containers that cannot be entered: a socket that is mounted into them, at which they ask.
//!
//! Who asks is what the kernel says of the peer and its cgroup, never what the peer says: nothing is read from it. The
//! answer is one line of JSON, `{"token":…,"wrapped_accessor":…}` or `{"error":…}`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::configuration::Configuration;
use super::docker::answers::Inspection;
use super::handout::{Error, Way, blocking, nanoseconds};
use super::identity;
use super::limiter::Admission;
use super::process::{self, Peer, Process};
use super::sockets::{PUBLIC, listen};
use super::{Agent, LINES_PER_MINUTE, lock};
use crate::log::{Level, Value};
use crate::vault::Minted;

/// Callers at one moment.
const CALLERS_MAX: usize = 64;
/// Calls of one container in a minute that are looked into.
const CALLS_PER_MINUTE: usize = 60;
/// Under which lines about callers that are no containers are counted; the metrics count them all.
const STRANGERS: &str = "strangers";
const TOO_MANY_CALLS: &str = "too_many_calls";
/// How long a caller waits for an engine that is away, or that an agent which has just started does not know yet.
const ENGINE_MAX: Duration = Duration::from_secs(30);
/// How long a caller waits for the event of its own start, and between two looks.
const EVENT_MAX: Duration = Duration::from_secs(5);
const EVENT_LOOK: Duration = Duration::from_millis(10);
/// How long a caller may leave its answer lying.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// A socket for everybody into whose container it is mounted.
pub(super) fn open(configuration: &Configuration) -> io::Result<Option<UnixListener>> {
    let door = configuration.door.as_deref();
    door.map(|path| listen(path, PUBLIC)).transpose()
}

pub(super) async fn serve(agent: &Arc<Agent>, listener: Option<UnixListener>) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let callers = Arc::new(Semaphore::new(CALLERS_MAX));
    loop {
        let permit = Arc::clone(&callers).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let agent = Arc::clone(agent);
                tokio::spawn(async move {
                    agent.called(stream).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

impl Agent {
    async fn called(&self, mut stream: UnixStream) {
        let seen = Instant::now();
        if let Err(reason) = self.let_in(&mut stream, seen).await {
            // What is wrong is for the operator: the caller may be anybody.
            let answer = serde_json::json!({"error": reason}).to_string();
            let _ = tokio::time::timeout(ANSWER_MAX, stream.write_all(answer.as_bytes())).await;
        }
        let _ = stream.shutdown().await;
    }

    async fn let_in(&self, stream: &mut UnixStream, seen: Instant) -> Result<(), &'static str> {
        let (proc, peer) = (self.configuration.proc.clone(), duplicate(stream));
        let Ok(peer) = peer else {
            return Err("no descriptor is free");
        };
        let caller = blocking(move || Process::of_peer(&proc, peer));
        let Peer {
            process: caller,
            container,
            cgroup,
        } = match caller.await {
            Ok(caller) => caller,
            Err(error) => return Err(self.refuse_caller(&error)),
        };
        // Before anybody is asked, and by the whole path: whoever calls in a loop, and gives its cgroup the name of another
        // container, uses up its own calls alone.
        let admission = lock(&self.calls).admit(&cgroup, CALLS_PER_MINUTE, seen);
        if admission != Admission::Admitted {
            self.metrics.refused(TOO_MANY_CALLS);
            if admission == Admission::FirstRefusal {
                let text = "a container calls at the socket again and again";
                let fields = [
                    ("reason", Value::Text(TOO_MANY_CALLS)),
                    ("container", Value::Text(&container)),
                ];
                self.log.event(Level::Warn, "refused", text, &fields);
            }
            return Err("refused");
        }
        while self.engine().is_none() && seen.elapsed() < ENGINE_MAX {
            tokio::time::sleep(EVENT_LOOK).await;
        }
        let inspected = self.inspect(&container).await;
        let Some(claim) = inspected.ok().and_then(Inspection::running) else {
            return Err("nothing is known of this container now");
        };
        // A cgroup's name is no proof: whoever may make cgroups can give one a container's name. Its members share more.
        let first = self.open(&claim).await;
        let first = first.and_then(|first| match caller.shares_container(&first)? {
            true => Ok(first),
            false => Err(process::Error::NotItsContainer {
                pid: caller.pid(),
                container: container.clone(),
            }),
        });
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
        while self.is_under_way(&claim) && began.elapsed() < EVENT_MAX {
            tokio::time::sleep(EVENT_LOOK).await;
        }
        let Some(_alone) = self.alone(&claim) else {
            let has_token = self
                .register
                .has(&claim.container, nanoseconds(claim.started));
            return Err(match has_token {
                true => refused(&Error::HasToken),
                // Somebody works on it, or has said why not.
                false => "refused",
            });
        };
        let handed_out = self.hand_out(&claim, labels.clone(), process, Way::Door(stream));
        match handed_out.await {
            Ok(Some(handed_out)) => {
                self.tell(&claim, &handed_out, seen);
                self.save().await;
                Ok(())
            }
            Ok(None) => Err("refused"),
            Err(error) => Err(refused(&error)),
        }
    }

    /// Nobody knows who that is, so all of them together may fill the log with no more than this in a minute.
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

/// Gives the caller its token.
pub(super) async fn answer(stream: &mut UnixStream, minted: &Minted) -> Result<(), Error> {
    let answer = serde_json::json!({
        "token": minted.token.expose(),
        "wrapped_accessor": minted.wrapped_accessor,
    });
    let answer = Zeroizing::new(answer.to_string());
    let written = stream.write_all(answer.as_bytes());
    match tokio::time::timeout(ANSWER_MAX, written).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Error::CallerGone),
    }
}

fn duplicate(stream: &UnixStream) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}

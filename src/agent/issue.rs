//! From a container that has started to its token, or to the reason why it gets none.

mod error;
mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;

use super::Agent;
use super::delivery::{self, Target};
use super::docker;
use super::docker::answers::Inspection;
use super::identity::{self, Claim, Delivery, Identity, Refusal};
use super::process::{self, Process};
use super::register::{Entry, nanoseconds};
use super::runtime::blocking;
use super::sockets;
use crate::clock::{calendar, jitter};
use crate::secret::Secret;
use crate::vault::{MintRequest, Minted};
use report::Issued;

pub(super) use error::Error;

/// A container that has run for longer does not wait for a token any more.
const AGE_MAX: Duration = Duration::from_secs(60);
/// How long a file system may take for one small file; a tmpfs takes microseconds.
pub(super) const DELIVERY_MAX: Duration = Duration::from_secs(5);
/// After that the file gets its name no more: what was given up must not appear later.
const PUBLISH_MAX: Duration = Duration::from_secs(4);
/// Between two attempts to mint.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_LAST: Duration = Duration::from_secs(2);
/// Attempts to ask Docker what a container is.
const ATTEMPTS_MAX: u32 = 4;
/// How long a denial may come from a token that the agent is about to replace.
const DENIALS_MAX: Duration = Duration::from_secs(3);

/// How it is known that a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Docker said that it starts.
    ByEvent,
    /// The container was among those that run.
    InList,
}

/// How the container is reached.
pub(super) enum Way<'a> {
    /// Through its file system.
    Files,
    /// The container asks at the socket.
    Socket(&'a mut UnixStream),
}

/// Where its token goes.
enum Place<'a> {
    File(Target),
    Caller(&'a mut UnixStream),
}

impl Agent {
    /// A container has started; `seen` is when that was known.
    pub(super) async fn started(&self, container: &str, seen: Instant, found: Found) {
        let claim = match self.inspect(container).await {
            Ok(Inspection::Running(claim)) => *claim,
            Ok(Inspection::Absent | Inspection::Stopped) => return,
            Err(error) => return self.tell_not_inspected(container, error),
        };
        // Of those that were found in a list most have been running for long and wait for nothing.
        if found == Found::InList && calendar() - claim.started > AGE_MAX {
            return;
        }
        let Some(labels) = identity::labelled(&claim.labels, &self.configuration.labels) else {
            return;
        };
        let labels = labels.map(|(app, environment)| (app.to_owned(), environment.to_owned()));
        let Some(_start) = self.claim(&claim) else {
            return;
        };
        let process = self.open(&claim).await;
        let result = async {
            let process = process.map_err(Error::Process)?;
            self.issue(&claim, labels.clone(), process, Way::Files)
                .await
        };
        match result.await {
            Ok(Some(issued)) => {
                self.tell(&claim, &issued, seen);
                self.save().await;
            }
            // It will come by itself.
            Ok(None) => {}
            Err(error) => {
                self.starts.settle(&claim);
                self.tell_refusal(&claim, labels.ok().as_ref(), &error);
            }
        }
    }

    /// Asks Docker what the container is.
    pub(super) async fn inspect(&self, container: &str) -> Result<Inspection, docker::Error> {
        let mut attempt = 0;
        loop {
            let Some(engine) = self.engine() else {
                return Err(docker::Error::away());
            };
            let permit = self.inspections.acquire().await;
            let error = match engine.inspect(container).await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            drop(permit);
            attempt += 1;
            if attempt == ATTEMPTS_MAX || error.is_final() {
                return Err(error);
            }
            self.tell_trouble(container, &error);
            tokio::time::sleep(PAUSE_FIRST * attempt).await;
        }
    }

    /// The container's first process.
    pub(super) async fn open(&self, claim: &Claim) -> Result<Process, process::Error> {
        let (proc, pid) = (self.configuration.docker.proc.clone(), claim.pid);
        let container = claim.container.clone();
        blocking(move || Process::open(&proc, pid, &container)).await
    }

    /// Checks, mints, registers and delivers; none when this container comes another way.
    pub(super) async fn issue(
        &self,
        claim: &Claim,
        labels: Result<(String, String), Refusal>,
        process: Process,
        way: Way<'_>,
    ) -> Result<Option<Issued>, Error> {
        let (app, environment) = labels.map_err(Error::Refused)?;
        let user = process.credentials().map_err(Error::Process)?;
        let rules = &self.configuration.rules;
        let identity = identity::decide(claim, &app, &environment, &user, rules);
        let identity = identity.map_err(Error::Refused)?;
        let place = match (way, &identity.delivery) {
            (Way::Files, Delivery::Socket) => return Ok(None),
            (Way::Socket(_), Delivery::File(_)) => return Err(Error::WrongWay),
            (Way::Socket(stream), Delivery::Socket) => Place::Caller(stream),
            (Way::Files, Delivery::File(path)) => Place::File(self.target(claim, path.as_deref())?),
        };
        let blocked = self.register.blocked(&app, &environment, &claim.container);
        if let Some(selector) = blocked {
            return Err(Error::Blocked(selector));
        }
        let service = (app.clone(), environment.clone());
        if matches!(place, Place::File(_)) && self.lanes.is_stuck(&service) {
            return Err(Error::Place(delivery::Error::Slow));
        }
        self.may_start(&claim.container)?;
        let process = Arc::new(process);
        let (minted, took) = self.mint(claim, &identity, &process).await?;
        let accessor = minted.wrapped_accessor.clone();
        if accessor.is_empty() {
            let role = identity.role;
            return Err(Error::NoAccessor { role });
        }
        self.register.add(Entry {
            accessor: accessor.clone(),
            container: claim.container.clone(),
            started: nanoseconds(claim.started),
            app: app.clone(),
            environment: environment.clone(),
            delivered: false,
            over: false,
            vault: Some(self.vault.clone()),
            unknown_to: None,
        });
        // An operator may have said `revoke` while Vault was asked.
        let blocked = self.register.blocked(&app, &environment, &claim.container);
        if let Some(selector) = blocked {
            self.end(|entry| entry.accessor == accessor);
            return Err(Error::Blocked(selector));
        }
        let delivered = async {
            self.register.save().await.map_err(Error::Register)?;
            match place {
                Place::File(target) => {
                    let (token, process) = (minted.token.clone(), Arc::clone(&process));
                    self.place(&service, token, target, process).await
                }
                Place::Caller(stream) => {
                    let answered = sockets::answer(stream, &minted).await;
                    answered.map_err(|_| Error::CallerGone)
                }
            }
        };
        let delivered = delivered.await;
        let delivered = delivered.and_then(|()| match process.owner() {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Ended),
        });
        match delivered {
            Ok(()) => self.register.delivered(&accessor),
            // The container will not use it.
            Err(_) => self.end(|entry| entry.accessor == accessor),
        }
        delivered.map(|()| {
            Some(Issued {
                identity,
                user: user.to_string(),
                accessor,
                mint: took,
            })
        })
    }

    fn target(&self, claim: &Claim, rule: Option<&str>) -> Result<Target, Error> {
        let label = claim.labels.get(&self.configuration.labels.token_path);
        // The operator's word first: the label is the container's.
        let path = rule
            .or(label.map(String::as_str))
            .unwrap_or(&self.configuration.delivery.token_path);
        delivery::target(path).map_err(Error::Place)
    }

    /// Puts the token where the container waits for it.
    async fn place(
        &self,
        service: &(String, String),
        token: Secret,
        target: Target,
        process: Arc<Process>,
    ) -> Result<(), Error> {
        let until = Instant::now() + PUBLISH_MAX;
        let deliver =
            move || delivery::deliver(&process, &target, token.expose().as_bytes(), until);
        let placed = self.lanes.deliver(service, deliver).await;
        placed
            .unwrap_or(Err(delivery::Error::Slow))
            .map_err(Error::Delivery)
    }

    /// Mints, for as long as the container may wait.
    async fn mint(
        &self,
        claim: &Claim,
        identity: &Identity,
        process: &Process,
    ) -> Result<(Minted, Duration), Error> {
        let metadata = identity::metadata(identity, claim, &self.configuration.own.host);
        let metadata: Vec<(String, String)> = metadata.into_iter().collect();
        let settings = &self.configuration.mint;
        let (wrap_ttl, ttl) = (settings.wrap_ttl, settings.ttl);
        let first = Instant::now();
        let mut pause = PAUSE_FIRST;
        loop {
            let permit = self.mints.acquire().await;
            process.owner().map_err(Error::Process)?;
            let (role, metadata) = (identity.role.clone(), metadata.clone());
            let began = Instant::now();
            let minted = self.own_token.ask(move |session| {
                session.mint(&MintRequest {
                    role: Some(&role),
                    policies: &[],
                    metadata: &metadata,
                    ttl: Some(ttl),
                    wrap_ttl,
                })
            });
            match minted.await {
                Ok(minted) => {
                    let took = began.elapsed();
                    self.metrics.minted(took);
                    return Ok((minted, took));
                }
                Err(trouble) => {
                    // A denial may mean that the agent's own token has ended: then it has another one a moment later.
                    let is_worth = if trouble.is_denial() {
                        first.elapsed() < DENIALS_MAX
                    } else {
                        trouble.may_pass() && first.elapsed() < AGE_MAX
                    };
                    if !is_worth {
                        return Err(Error::Mint(trouble));
                    }
                }
            }
            drop(permit);
            tokio::time::sleep(pause.mul_f64(0.75 + jitter() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }
}

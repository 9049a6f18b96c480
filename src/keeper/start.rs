//! The keeper's start: from the token to the application, and what comes after it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use nix::unistd::Pid;

use super::application::{Application, told};
use super::items::{Items, Token};
use super::renewal::{Beginning, Renewal};
use super::steps::Steps;
use super::warnings::{foresee_room, warn_of_stale_variables};
use super::{Error, revoke};
use crate::clock;
use crate::command::{self, Command};
use crate::config::{Config, Lifecycle, OnRotate, Promise, Vault};
use crate::dependencies;
use crate::dry_run;
use crate::fetch::{Fetched, Job, fetch};
use crate::files::{Material, Rendered};
use crate::handover;
use crate::link::KeeperEnd;
use crate::log::{Level, Log, Value};
use crate::login::{self, Introduction};
use crate::secret::Secret;
use crate::secrets_dir::{Generation, SecretsDir};
use crate::system::descriptors::{replace_stderr, replace_stdin};
use crate::system::memory::trim_memory;
use crate::system::process::leave_working_directory;
use crate::system::{self, exec, refused};
use crate::vault::{Auth, Client, Deadline, Limits, Session};
use crate::wrapping_token::{self, Source};

/// The time at which the keeper's work was done.
pub(super) enum Ended {
    /// The published files stay as they are.
    BeforeTheApplication,
    /// The published files are taken back.
    AfterTheApplication,
}

/// A start: the things that it works with, and how far it is.
pub(super) struct Start<'a> {
    pub(super) config: &'a Config,
    pub(super) directory: &'a mut SecretsDir,
    pub(super) link: KeeperEnd,
    /// The process that becomes the application, or starts it, and the descriptor that tells of its end.
    pub(super) application: (Pid, Option<Arc<OwnedFd>>),
    pub(super) on_rotate: Option<&'a Command>,
    pub(super) umask: Mode,
    pub(super) steps: Steps,
    pub(super) log: Log,
    pub(super) deadline: Instant,
}

impl<'a> Start<'a> {
    /// Starts with the secrets of a Vault, and keeps them fresh afterwards.
    pub(super) fn with_vault(
        mut self,
        vault: &Vault,
        source: Source,
        generation: Generation,
    ) -> Result<Ended, Error> {
        let jobs = self.config.specs().map(Job::prepare);
        let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
        let client = self.client(vault)?;
        self.steps.mark("key");

        let limits = wrapping_token::Limits {
            deadline: self.deadline,
            wait: self.config.delivery.wait,
            called_off: Some(self.link.as_fd()),
        };
        let taken = wrapping_token::take(source, &limits, self.log);
        let taken = taken.map_err(|error| self.silenced(error.into()))?;
        self.steps.mark("token");
        if let Some(warning) = taken.warning {
            self.log
                .event(Level::Warn, "token_file_kept", &warning, &[]);
        }
        let inspected = handover::inspect(&client, &taken.token, &self.config.promise, self.log);
        inspected.map_err(|error| self.silenced(error.into()))?;
        self.steps.mark("lookup");
        let logged_in = login::log_in(client, Introduction::WrappingToken(taken.token));
        let logged_in = logged_in.map_err(handover::Error::from);
        let (session, auth) = logged_in.map_err(|error| self.silenced(error.into()))?;
        self.steps.mark("unwrap");

        let started = self
            .fetch(&session, &auth, &self.config.promise, jobs)
            .map_err(|error| self.silenced(error))
            .and_then(|items| {
                // Now, while a failure still calls the start off.
                let timer = timer()?;
                let variables = self.publish(&items, generation, true)?;
                Ok((items, timer, variables))
            });
        match started {
            Ok((items, timer, variables)) => Ok(self.keep_fresh(session, items, timer, variables)),
            Err(error) => {
                revoke(&session, self.log);
                Err(error)
            }
        }
    }

    /// Starts without a Vault: every secret is invented, and none has to be kept fresh.
    pub(super) fn without_vault(mut self, generation: Generation) -> Result<Ended, Error> {
        let materials = dry_run::materials(self.config, clock::calendar())?;
        let items = Items::invented(self.config, materials);
        self.steps.mark("samples");
        // In a container the directory ends with the container; elsewhere no other process tidies up.
        let stays = self.directory.is_private()
            && self.config.lifecycle == Lifecycle::Exec
            && self.application.0 != Pid::from_raw(1)
            && self.application.1.is_some();
        self.publish(&items, generation, stays)?;
        if !stays {
            return Ok(Ended::BeforeTheApplication);
        }
        let (_, application) = self.step_aside();
        replace_stderr();
        leave_working_directory(false);
        application.await_end();
        Ok(Ended::AfterTheApplication)
    }

    fn client(&self, vault: &Vault) -> Result<Client, Error> {
        let called_off = self.link.ending().map_err(refused("listen to PID 1"))?;
        let limits = Limits {
            deadline: Deadline::at(self.deadline),
            abort: vec![called_off],
            grace: Duration::ZERO,
            persistent: true,
        };
        Ok(Client::new(
            vault.endpoint(),
            vault.roots(),
            limits,
            self.log,
        )?)
    }

    /// Checks the client token and asks for every secret of the manifest.
    fn fetch(
        &mut self,
        session: &Session,
        auth: &Auth,
        promise: &Promise,
        jobs: Vec<Job<'a>>,
    ) -> Result<Items<'a>, Error> {
        self.log.event(
            Level::Info,
            "unwrapped",
            "unwrapped the client token",
            &[
                ("accessor", Value::Text(session.accessor())),
                ("ttl_s", Value::Number(auth.lease_duration)),
            ],
        );
        let looked_up = clock::moment();
        let properties = handover::verify(session, auth, promise)?;
        let answer_time = self.steps.mark("verify");
        let mut fetched = self.perform(session, jobs, answer_time)?;
        self.steps.mark_parallel(&parallel_steps(&fetched));
        if self.refresh(session, answer_time, &mut fetched)? {
            self.steps.mark("again");
        }
        let token = Token::new(looked_up, auth.lease_duration, &properties);
        let skew = session.clock_skew();
        Ok(Items::fetched(self.config, fetched, token, skew))
    }

    pub(super) fn perform(
        &self,
        session: &Session,
        jobs: Vec<Job<'a>>,
        answer_time: Duration,
    ) -> Result<Vec<Fetched<'a>>, Error> {
        let clocks = || clock::clocks(session.clock_skew());
        let fetched = fetch(session, jobs, answer_time, clocks, self.log)?;
        for one in &fetched {
            if let Material::Credential { spec, credential } = &one.material {
                dependencies::check_lease(spec, credential)?;
            }
        }
        Ok(fetched)
    }

    /// Writes the files, hands the variables over and waits until the application runs. Returns the variables if a command
    /// of `on_rotate` is to run for this generation.
    fn publish(
        &mut self,
        items: &Items<'_>,
        generation: Generation,
        stays: bool,
    ) -> Result<Vec<(String, Secret)>, Error> {
        let path = self.directory.path().to_string_lossy().into_owned();
        let Rendered { files, variables } = items.render(self.config, &path)?;
        let is_kept = stays && self.config.vault.is_some();
        let status = items.status(self.config, is_kept, None);
        self.directory.take_over(&generation)?;
        self.directory.write_status(status.to_json())?;
        let shown = self.directory.publish(generation, &files)?;
        if let Some(name) = shown.taken.first() {
            return Err(self.directory.taken(name).into());
        }
        if is_kept {
            foresee_room(self.directory, &files, self.log);
        }
        self.steps.mark("files");
        let count = files.len() as u64 + 1;
        // The application may run before this process does again, and what was written is in memory no more by then.
        drop(files);
        self.link
            .send_ready(&variables, stays)
            .map_err(|error| match error.kind() {
                io::ErrorKind::ArgumentListTooLong => {
                    let sizes = variables
                        .iter()
                        .map(|(name, value)| (value.expose().len(), name));
                    let (bytes, longest) = sizes
                        .max()
                        .map_or((0, String::new()), |(size, name)| (size, name.clone()));
                    Error::Command(command::Error::TooLong { longest, bytes })
                }
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::CalledOff,
                _ => told(error).into(),
            })?;
        self.log.event(
            Level::Info,
            "ready",
            &self.steps.text(),
            &[
                ("directory", Value::Text(&path)),
                ("files", Value::Number(count)),
            ],
        );
        let kept = match self.config.renewal.on_rotate {
            OnRotate::Command {
                runs_at_start: true,
                ..
            } => variables,
            _ => Vec::new(),
        };
        let runs = self.link.await_release()
            && match self.config.lifecycle {
                _ if !stays => true,
                Lifecycle::Exec => self.link.await_exec(),
                Lifecycle::Supervise(_) => self.link.await_start(),
            };
        if runs {
            Ok(kept)
        } else {
            Err(Error::CalledOff)
        }
    }

    /// Lets go of everything that belongs to the application, which runs now.
    fn step_aside(self) -> (&'a mut SecretsDir, Application) {
        replace_stdin();
        exec::close_inherited(0);
        let application = match self.config.lifecycle {
            Lifecycle::Exec => Application::Beside {
                pid: self.application.0,
                ended: self.application.1,
                user: self.config.user.clone(),
            },
            Lifecycle::Supervise(_) => Application::Below(self.link),
        };
        (self.directory, application)
    }

    /// Renews and replaces until the application has ended, then gives everything back.
    fn keep_fresh(
        self,
        session: Session,
        items: Items<'a>,
        timer: TimerFd,
        variables: Vec<(String, Secret)>,
    ) -> Ended {
        warn_of_stale_variables(self.config, &items, self.log);
        let (config, log) = (self.config, self.log);
        let (on_rotate, umask) = (self.on_rotate, self.umask);
        let (directory, application) = self.step_aside();
        let renewal = Renewal::new(Beginning {
            config,
            directory,
            session,
            application,
            items,
            on_rotate,
            umask,
            log,
            timer,
        });
        trim_memory();
        if let Some(session) = renewal.run(variables) {
            revoke(&session, log);
        }
        Ended::AfterTheApplication
    }

    /// Silences an error that comes with PID 1's calling the start off, since PID 1 says why. An error of the hand-over which
    /// an operator must look into is told all the same.
    fn silenced(&self, error: Error) -> Error {
        match error {
            Error::HandOver(
                handover::Error::Unknown { .. }
                | handover::Error::NotValid { .. }
                | handover::Error::NotPromised { .. }
                | handover::Error::Misspelt { .. },
            ) => error,
            _ if self.link.is_ending() => Error::CalledOff,
            error => error,
        }
    }
}

/// The time until each certificate was there, and until all credentials were.
fn parallel_steps(fetched: &[Fetched<'_>]) -> Vec<(String, Duration)> {
    let mut steps = Vec::new();
    let mut credentials = Duration::ZERO;
    for one in fetched {
        match &one.material {
            Material::Certificate { spec, .. } => steps.push((spec.name.table(), one.took)),
            Material::Credential { .. } => credentials = credentials.max(one.took),
        }
    }
    steps.push(("dependencies".to_owned(), credentials));
    steps
}

/// Makes a timer of the clock that goes on while the machine sleeps.
fn timer() -> Result<TimerFd, system::Error> {
    let failed = refused::<Errno>("make a timer");
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC).map_err(&failed)?;
    // One that cannot be set would never wake the keeper.
    timer.unset().map_err(failed)?;
    Ok(timer)
}

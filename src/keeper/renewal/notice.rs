//! The application is told of a new generation, by a signal or by a command.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use super::super::error::Error;
use super::super::hook::{self, Hook};
use super::Renewal;
use super::publication::Changes;
use crate::application::environment;
use crate::clock::moment;
use crate::command;
use crate::config::OnRotate;
use crate::log::Level;
use crate::schedule::Moment;
use crate::secret::Secret;
use crate::system;
use crate::system::signal::{Next, Waiting};

/// The variable that names the changed items to the command of `on_rotate`.
const CHANGED: &str = "ANTEROOM_CHANGED";

/// The news that the application is still to be told.
#[derive(Default)]
pub(super) struct Notice {
    /// The variables of the last generation, for a command or a restart.
    variables: Vec<(String, Secret)>,
    /// The command that runs, and the end of the time that it may take.
    hook: Option<(Hook, Moment)>,
    /// A signal for which the application has no handler yet, and the next look for one.
    waiting: Option<(Waiting, Moment)>,
    /// The names of the items that changed since the command was started; none where nothing is new.
    untold: Option<BTreeSet<String>>,
    /// The moment of the restart that is planned.
    restart: Option<Moment>,
}

impl Notice {
    pub(super) fn set_variables(&mut self, variables: Vec<(String, Secret)>) {
        self.variables = variables;
    }

    /// The end of the time that the running command may take.
    pub(super) fn hook_until(&self) -> Option<Moment> {
        self.hook.as_ref().map(|(_, until)| *until)
    }

    /// The descriptor that is readable when the running command has ended.
    pub(super) fn hook_end(&self) -> Option<BorrowedFd<'_>> {
        self.hook.as_ref().map(|(hook, _)| hook.as_fd())
    }

    /// Hands over the variables of the last generation.
    pub(super) fn take_variables(&mut self) -> Vec<(String, Secret)> {
        std::mem::take(&mut self.variables)
    }

    /// The moment of the restart that is planned.
    pub(super) fn restart_due(&self) -> Option<Moment> {
        self.restart
    }

    /// Plans a restart for this moment, unless one is planned that comes before.
    pub(super) fn plan_restart(&mut self, due: Moment) {
        self.restart = self.restart.into_iter().chain([due]).min();
    }

    pub(super) fn forget_restart(&mut self) {
        self.restart = None;
    }

    /// The next look whether the application has a handler for the signal that waits.
    pub(super) fn signal_due(&self) -> Option<Moment> {
        self.waiting.as_ref().map(|(_, due)| *due)
    }
}

impl Renewal<'_> {
    /// Runs the command for the first generation, if that is wanted: everything has changed.
    pub(super) fn tell_at_start(&mut self, variables: Vec<(String, Secret)>) {
        if let OnRotate::Command {
            runs_at_start: true,
            ..
        } = self.config.renewal.on_rotate
        {
            self.notice.set_variables(variables);
            let items = self.items.all.iter();
            let names = items.map(|item| item.material.name().to_owned());
            let changes = Changes {
                names: names.collect(),
                first_end: None,
            };
            self.tell(changes);
        }
    }

    pub(super) fn tell(&mut self, changes: Changes) {
        match &self.config.renewal.on_rotate {
            OnRotate::Nothing => {}
            OnRotate::Signal(signal) => match self.application.tell(*signal) {
                Ok(Some(waiting)) => {
                    // The application is told once of several generations.
                    self.notice.waiting.get_or_insert((waiting, moment()));
                }
                Ok(None) => {}
                Err(error) => self.report_untold(&error),
            },
            OnRotate::Command { .. } => {
                let untold = self.notice.untold.get_or_insert_default();
                untold.extend(changes.names);
                if self.notice.hook.is_none() {
                    self.start_hook();
                }
            }
            OnRotate::Restart { splay, limit } => {
                self.plan_restart(*splay, *limit, changes.first_end);
            }
        }
    }

    /// Sends the signal that waits, if the application has a handler for it by now.
    pub(super) fn tell_waiting(&mut self) {
        let Some((waiting, due)) = &mut self.notice.waiting else {
            return;
        };
        let signal = waiting.signal;
        match waiting.decide(self.application.disposition(signal)) {
            Next::Look(pause) => {
                *due = moment() + pause;
                if let Some(text) = waiting.notice() {
                    self.log.event(Level::Warn, "on_rotate_waits", &text, &[]);
                }
            }
            Next::Send => {
                self.notice.waiting = None;
                if let Err(error) = self.application.signal(signal) {
                    self.report_untold(&error);
                }
            }
        }
    }

    pub(super) fn report_untold(&self, error: &system::Error) {
        self.log
            .event(Level::Warn, "on_rotate_failed", &error.to_string(), &[]);
    }

    pub(super) fn start_hook(&mut self) {
        let (OnRotate::Command { timeout, .. }, Some(command)) =
            (&self.config.renewal.on_rotate, self.on_rotate)
        else {
            return;
        };
        let Some(untold) = self.notice.untold.take() else {
            return;
        };
        let names: Vec<String> = untold.into_iter().collect();
        let started = self
            .hook_environment(&names.join(" "))
            .map_err(Error::from)
            .and_then(|environment| {
                let user = self.config.user.as_ref();
                let place = self.working_directory.as_deref();
                Ok(Hook::start(command, environment, user, self.umask, place)?)
            });
        match started {
            Ok(hook) => self.notice.hook = Some((hook, moment() + *timeout)),
            Err(error) => {
                self.log
                    .event(Level::Warn, "on_rotate_failed", &error.to_string(), &[]);
            }
        }
    }

    /// The application's environment, with the values of the last generation and the names of the changed items.
    fn hook_environment(&self, changed: &str) -> Result<Vec<CString>, command::Error> {
        let variables = self.notice.variables.iter();
        let mut variables: Vec<Secret<Vec<u8>>> = variables
            .map(|(name, value)| Secret::new(format!("{name}={}", value.expose()).into_bytes()))
            .collect();
        variables.push(Secret::new(format!("{CHANGED}={changed}").into_bytes()));
        environment(self.config, &variables)
    }

    pub(super) fn finish_hook(&mut self) {
        let outcome = self
            .notice
            .hook
            .as_ref()
            .and_then(|(hook, _)| hook.outcome());
        let Some(outcome) = outcome else { return };
        self.notice.hook = None;
        if let Err(failure) = outcome {
            self.report_failed_hook(&failure);
        }
        self.start_hook();
    }

    fn report_failed_hook(&self, failure: &hook::Failure) {
        let text = format!("the command of `on_rotate` failed: {failure}");
        self.log.event(Level::Warn, "on_rotate_failed", &text, &[]);
    }

    /// Kills the command that has run for too long, and starts the next one.
    pub(super) fn stop_hook(&mut self) {
        if let Some(failure) = self.kill_hook() {
            self.report_failed_hook(&failure);
            self.start_hook();
        }
    }

    /// Kills the command that runs, if one runs.
    pub(super) fn kill_hook(&mut self) -> Option<hook::Failure> {
        let (hook, _) = self.notice.hook.take()?;
        Some(hook.kill(self.config.user.as_ref()))
    }
}

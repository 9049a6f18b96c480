//! A new generation of files, and who is told of it.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::time::Duration;

use super::super::error::Error;
use super::super::hook::{self, Hook};
use super::Upkeep;
use crate::application::environment;
use crate::clock::{calendar, moment};
use crate::command;
use crate::config::OnRotate;
use crate::files::status::rfc3339;
use crate::files::{File, Material, Rendered};
use crate::log::{Level, Value};
use crate::renewal::{Moment, Step};
use crate::secret::Secret;
use crate::secrets_dir::{self, Shown};
use crate::system;
use crate::system::signal::Next;

/// Names what changed to the command of `on_rotate`.
const CHANGED: &str = "ANTEROOM_CHANGED";
/// What is replaced within this time of one another is published together: a generation that was replaced stays until
/// the next one, and readers in the middle of it need that time.
const TOGETHER: Duration = Duration::from_secs(1);
/// Pauses between tries to write files.
const WRITE_AGAIN: Duration = Duration::from_secs(5);
/// Pauses between looks whether there is room for them: when there is, they are written at once.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(250);

impl Upkeep<'_> {
    pub(super) fn publish_soon(&mut self, name: &str, now: Moment) {
        if self.state.changed.is_empty() {
            self.state.changed_since = now;
        }
        self.state.changed.insert(name.to_owned());
        self.state.publish = Some(now);
    }

    /// When to publish what changed: with what is about to change too, but before anything that was replaced ends.
    fn publish_at(&self, now: Moment) -> Moment {
        // What has changed already does not wait for its own successor.
        let others = self.items.all.iter();
        let next = others
            .filter(|item| !self.state.changed.contains(item.material.name()))
            .filter_map(|item| item.lifetime.term.as_ref())
            .filter(|term| term.step == Step::Replace && term.due > now)
            .map(|term| term.due + Duration::from_millis(1))
            .filter(|due| *due <= self.state.changed_since + TOGETHER)
            .max();
        let ends_soon = self
            .state
            .retired
            .iter()
            .any(|retired| retired.due.is_none() && retired.end < now + TOGETHER * 2);
        next.filter(|_| !ends_soon).unwrap_or(now)
    }

    /// Renders everything anew and swings the link; then the application is told.
    pub(super) fn publish(&mut self) {
        let now = moment();
        let due = self.publish_at(now);
        if due > now {
            self.state.publish = Some(due);
            return;
        }
        if let Some((needed, until)) = self.state.room_awaited
            && now < until
            && !self.directory.room().holds(needed)
        {
            self.state.publish = Some(now + LOOK_FOR_ROOM);
            return;
        }
        self.state.room_awaited = None;
        let path = self.directory.path().to_string_lossy().into_owned();
        let published = self
            .items
            .render(self.config, &path)
            .map_err(Error::from)
            .and_then(|Rendered { files, variables }| {
                let shown = self.write(&files)?;
                Ok((variables, shown))
            });
        match published {
            Ok((variables, shown)) => {
                self.report_names(&shown);
                if self.on_rotate.is_some() {
                    self.state.variables = variables;
                }
                self.state.publish = None;
                self.state.unpublished = None;
                self.items.rendered = calendar();
                self.retire(moment());
                self.write_status();
                let changed = std::mem::take(&mut self.state.changed);
                let names: Vec<&str> = changed.iter().map(String::as_str).collect();
                let mut fields = vec![];
                let names = names.join(" ");
                fields.push(("changed", Value::Text(&names)));
                let issued = self
                    .items
                    .all
                    .iter()
                    .filter_map(|item| match &item.material {
                        Material::Certificate { spec, issued } => Some((&spec.name, issued)),
                        Material::Credential { .. } => None,
                    });
                let issued = issued.filter(|(name, _)| changed.contains(*name));
                fields.extend(
                    issued.map(|(_, issued)| ("serial_number", Value::Text(&issued.serial_number))),
                );
                self.log.event(
                    Level::Info,
                    "rotated",
                    "published a new generation",
                    &fields,
                );
                self.tell(changed);
            }
            Err(error) => {
                let now = moment();
                self.state.publish = Some(match self.state.room_awaited {
                    Some(_) => now + LOOK_FOR_ROOM,
                    None => now + WRITE_AGAIN,
                });
                let first = self.state.unpublished.is_none();
                self.state.unpublished.get_or_insert_with(calendar);
                self.state.status_is_old = true;
                let text = format!("cannot publish a new generation: {error}");
                let level = if first { Level::Warn } else { Level::Debug };
                self.log.event(level, "not_published", &text, &[]);
            }
        }
    }

    /// Writes a new generation. Where there is no room for it, the last but one makes way; what is missing all the same is
    /// waited for.
    fn write(&mut self, files: &[File]) -> Result<Shown, secrets_dir::Error> {
        let mut written = self.directory.publish_next(files);
        if lacks_room(&written) && self.directory.forget_last() {
            written = self.directory.publish_next(files);
        }
        if lacks_room(&written) {
            let needed = self.directory.needed(files);
            // Where it looks as if there were room, looking does not help.
            if !self.directory.room().holds(needed) {
                self.state.room_awaited = Some((needed, moment() + WRITE_AGAIN));
            }
        }
        written
    }

    /// Says which visible names were missing, and which could not be made again: something else changes the directory.
    fn report_names(&self, shown: &Shown) {
        for (event, names, text) in [
            (
                "names_restored",
                &shown.made,
                "names were missing in the secrets directory and are there again: what removes them?",
            ),
            (
                "names_taken",
                &shown.taken,
                "names in the secrets directory were taken by something else, which readers see instead",
            ),
        ] {
            if !names.is_empty() {
                let names = [("names", Value::Text(&names.join(" ")))];
                self.log.event(Level::Warn, event, text, &names);
            }
        }
    }

    fn tell(&mut self, changed: BTreeSet<String>) {
        match &self.config.upkeep.on_rotate {
            OnRotate::Nothing => {}
            OnRotate::Signal(signal) => match self.application.tell(*signal) {
                Ok(Some(waiting)) => {
                    // Of several generations it is told once.
                    self.state.waiting.get_or_insert((waiting, moment()));
                }
                Ok(None) => {}
                Err(error) => self.not_told(&error),
            },
            OnRotate::Command { .. } => {
                self.state.untold.extend(changed);
                if self.state.hook.is_none() {
                    self.start_hook();
                }
            }
        }
    }

    /// Sends the signal that waits, if the application has a handler for it by now.
    pub(super) fn tell_waiting(&mut self) {
        let Some((waiting, due)) = &mut self.state.waiting else {
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
                self.state.waiting = None;
                if let Err(error) = self.application.signal(signal) {
                    self.not_told(&error);
                }
            }
        }
    }

    fn not_told(&self, error: &system::Error) {
        self.log
            .event(Level::Warn, "on_rotate_failed", &error.to_string(), &[]);
    }

    pub(super) fn start_hook(&mut self) {
        let (OnRotate::Command { timeout, .. }, Some(command)) =
            (&self.config.upkeep.on_rotate, self.on_rotate)
        else {
            return;
        };
        if self.state.untold.is_empty() {
            return;
        }
        let untold = std::mem::take(&mut self.state.untold);
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
            Ok(hook) => self.state.hook = Some((hook, moment() + *timeout)),
            Err(error) => {
                self.log
                    .event(Level::Warn, "on_rotate_failed", &error.to_string(), &[]);
            }
        }
    }

    /// The application's environment, with the values of the last generation, and what changed.
    fn hook_environment(&self, changed: &str) -> Result<Vec<CString>, command::Error> {
        let variables = self.state.variables.iter();
        let mut variables: Vec<Secret<Vec<u8>>> = variables
            .map(|(name, value)| Secret::new(format!("{name}={}", value.expose()).into_bytes()))
            .collect();
        variables.push(Secret::new(format!("{CHANGED}={changed}").into_bytes()));
        environment(self.config, &variables)
    }

    pub(super) fn hook_ended(&mut self) {
        let outcome = self
            .state
            .hook
            .as_ref()
            .and_then(|(hook, _)| hook.outcome());
        let Some(outcome) = outcome else { return };
        self.state.hook = None;
        if let Err(failure) = outcome {
            self.hook_failed(&failure);
        }
        self.start_hook();
    }

    pub(super) fn hook_failed(&self, failure: &hook::Failure) {
        let text = format!("the command of `on_rotate` failed: {failure}");
        self.log.event(Level::Warn, "on_rotate_failed", &text, &[]);
    }

    pub(super) fn write_status(&mut self) {
        self.state.status_is_old = false;
        let away = self
            .state
            .outage
            .as_ref()
            .map(|outage| outage.since_calendar);
        let mut status = self.items.status(self.config, true, away);
        status.unpublished_since = self.state.unpublished.map(rfc3339);
        if let Err(error) = self.directory.write_status(status.to_json()) {
            self.log
                .event(Level::Debug, "status_not_written", &error.to_string(), &[]);
        }
    }
}

fn lacks_room(written: &Result<Shown, secrets_dir::Error>) -> bool {
    written
        .as_ref()
        .is_err_and(secrets_dir::Error::is_for_want_of_room)
}

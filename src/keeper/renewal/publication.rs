//! A new generation of files.

use std::collections::BTreeSet;
use std::time::Duration;

use time::OffsetDateTime;

use super::super::error::Error;
use super::Renewal;
use super::outage::Outage;
use crate::clock::{calendar, moment};
use crate::config::{CertificateName, OnRotate};
use crate::files::status::rfc3339;
use crate::files::{File, Material, Rendered};
use crate::log::{Level, Value};
use crate::schedule::{Moment, Step};
use crate::secrets_dir::{self, Room, Shown};

/// The time within which changes are published together: a generation that was replaced stays until the next one, and
/// readers in the middle of it need that time.
const TOGETHER: Duration = Duration::from_secs(1);
/// The pause between tries to write files.
const WRITE_AGAIN: Duration = Duration::from_secs(5);
/// The pause between looks whether there is room for the files: when there is, they are written at once.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(250);

/// The changes since the last generation, and the time for the next one.
#[derive(Default)]
pub(super) struct Publication {
    changes: Changes,
    changed_since: Moment,
    due: Option<Moment>,
    /// The room that was missing, and the moment to try all the same.
    room_awaited: Option<(Room, Moment)>,
    failing_since: Option<OffsetDateTime>,
}

/// The items that changed.
#[derive(Default)]
pub(super) struct Changes {
    /// The names of the items, as the application is told of them.
    pub(super) names: BTreeSet<String>,
    /// The first end of all that was replaced, as far as they have one.
    pub(super) first_end: Option<Moment>,
}

impl Publication {
    fn add(&mut self, name: &str, old_end: Option<Moment>, now: Moment) {
        let changes = &mut self.changes;
        if changes.names.is_empty() {
            self.changed_since = now;
        }
        changes.names.insert(name.to_owned());
        changes.first_end = changes.first_end.into_iter().chain(old_end).min();
        self.due = Some(now);
    }

    /// The moment to write the next generation, if an item changed.
    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    /// The date since which the changes could not be written.
    pub(super) fn failing_since(&self) -> Option<OffsetDateTime> {
        self.failing_since
    }

    fn has(&self, name: &str) -> bool {
        self.changes.names.contains(name)
    }

    /// Whether the changes so far may wait for this moment.
    fn may_wait_until(&self, moment: Moment) -> bool {
        moment <= self.changed_since + TOGETHER
    }

    fn put_off(&mut self, until: Moment) {
        self.due = Some(until);
    }

    /// The room that is waited for, unless it was waited for long enough.
    fn room_awaited(&self, now: Moment) -> Option<Room> {
        let (needed, until) = self.room_awaited?;
        (now < until).then_some(needed)
    }

    fn await_room(&mut self, needed: Room, now: Moment) {
        self.room_awaited = Some((needed, now + WRITE_AGAIN));
    }

    fn forget_room(&mut self) {
        self.room_awaited = None;
    }

    /// Plans another try; returns whether this is the first failure since the last generation.
    fn fail(&mut self, now: Moment, calendar: OffsetDateTime) -> bool {
        let pause = match self.room_awaited {
            Some(_) => LOOK_FOR_ROOM,
            None => WRITE_AGAIN,
        };
        self.due = Some(now + pause);
        let first = self.failing_since.is_none();
        self.failing_since.get_or_insert(calendar);
        first
    }

    /// Forgets the changes, which are published now, and returns them.
    fn complete(&mut self) -> Changes {
        std::mem::take(self).changes
    }
}

impl Renewal<'_> {
    /// Has an item published that changed; `old_end` is the end of what it was before.
    pub(super) fn publish_soon(&mut self, name: &str, old_end: Option<Moment>, now: Moment) {
        self.publication.add(name, old_end, now);
    }

    /// The moment to publish the changes: together with those that come soon, but before a replaced lease ends.
    fn publish_at(&self, now: Moment) -> Moment {
        // An item that has changed already does not wait for its own successor.
        let others = self.items.all.iter();
        let next = others
            .filter(|item| !self.publication.has(item.material.name()))
            .filter_map(|item| item.lifetime.term.as_ref())
            .filter(|term| term.step == Step::Replace && term.due > now)
            .map(|term| term.due + Duration::from_millis(1))
            .filter(|due| self.publication.may_wait_until(*due))
            .max();
        let ends_soon = self
            .retired
            .iter()
            .any(|retired| retired.due.is_none() && retired.end < now + TOGETHER * 2);
        next.filter(|_| !ends_soon).unwrap_or(now)
    }

    /// Renders everything anew, swings the link and tells the application.
    pub(super) fn publish(&mut self) {
        let now = moment();
        let due = self.publish_at(now);
        if due > now {
            self.publication.put_off(due);
            return;
        }
        if let Some(needed) = self.publication.room_awaited(now)
            && !self.directory.room().holds(needed)
        {
            self.publication.put_off(now + LOOK_FOR_ROOM);
            return;
        }
        self.publication.forget_room();
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
                let changes = self.publication.complete();
                self.items.rendered = calendar();
                self.note_publication();
                match self.config.renewal.on_rotate {
                    OnRotate::Nothing | OnRotate::Signal(_) => self.retire(moment()),
                    OnRotate::Command { .. } => {
                        self.notice.set_variables(variables);
                        self.retire(moment());
                    }
                    // The application uses what was replaced until it starts again.
                    OnRotate::Restart { .. } => self.notice.set_variables(variables),
                }
                self.write_status();
                let names: Vec<&str> = changes.names.iter().map(String::as_str).collect();
                let mut fields = vec![];
                let names = names.join(" ");
                fields.push(("changed", Value::Text(&names)));
                let (main, further) = self.serial_numbers(&changes.names);
                fields.extend(main.map(|serial| ("serial_number", Value::Text(serial))));
                if !further.is_empty() {
                    fields.push(("serial_numbers", Value::Text(&further)));
                }
                self.log.event(
                    Level::Info,
                    "rotated",
                    "published a new generation",
                    &fields,
                );
                self.tell(changes);
            }
            Err(error) => {
                let first = self.publication.fail(moment(), calendar());
                self.status_is_old = true;
                let text = format!("cannot publish a new generation: {error}");
                let level = if first { Level::Warn } else { Level::Debug };
                self.log.event(level, "not_published", &text, &[]);
            }
        }
    }

    /// The serial number of the main certificate, and those of the others as `NAME=NUMBER`, as far as they changed.
    fn serial_numbers(&self, changed: &BTreeSet<String>) -> (Option<&str>, String) {
        let (mut main, mut further) = (None, Vec::new());
        for item in &self.items.all {
            let Material::Certificate { spec, issued } = &item.material else {
                continue;
            };
            match &spec.name {
                name if !changed.contains(name.as_str()) => {}
                CertificateName::Main => main = Some(issued.serial_number.as_str()),
                CertificateName::Further(name) => {
                    further.push(format!("{name}={}", issued.serial_number));
                }
            }
        }
        (main, further.join(" "))
    }

    /// Writes a new generation. Where there is no room for it, the last but one makes way; if the room still does not
    /// suffice, the keeper waits for it.
    fn write(&mut self, files: &[File]) -> Result<Shown, secrets_dir::Error> {
        let mut written = self.directory.publish_next(files);
        if lacks_room(&written) && self.directory.forget_last() {
            written = self.directory.publish_next(files);
        }
        if lacks_room(&written) {
            let needed = self.directory.needed(files);
            // Where the numbers promise room that is not there, another look would not help.
            if !self.directory.room().holds(needed) {
                self.publication.await_room(needed, moment());
            }
        }
        written
    }

    /// Says which visible names were missing, and which could not be made again: something else changes the directory.
    fn report_names(&self, shown: &Shown) {
        for (event, names, text) in [
            (
                "names_restored",
                &shown.restored,
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

    pub(super) fn write_status(&mut self) {
        self.status_is_old = false;
        let away = self.outage.as_ref().map(Outage::since);
        let mut status = self.items.status(self.config, true, away);
        status.unpublished_since = self.publication.failing_since().map(rfc3339);
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

//! Answers without a lease: read again, and published where the content has changed.

use std::mem;
use std::time::Duration;

use super::Renewal;
use super::request::Trouble;
use crate::clock::{calendar, jitter, moment};
use crate::config::Dependency;
use crate::dependencies;
use crate::fetch;
use crate::files::status::{Unread, Want, rfc3339};
use crate::files::{Credential, Material, OwnEnd};
use crate::keeper::items::{Lifetime, Times};
use crate::log::{Level, Value};
use crate::schedule::{Moment, Term};
use crate::vault;

/// The time after an exchange was due from which an engine is believed that counts to the next one: more than engines are
/// late by.
const BELIEVED: Duration = Duration::from_secs(10);
/// The field in which an engine counts down to its next exchange of a value.
const COUNTDOWN: &str = "ttl";

impl<'a> Renewal<'a> {
    pub(super) fn read_again(&mut self, place: usize, spec: &'a Dependency, term: Term) {
        let asked = moment();
        let log = self.log;
        // A secret that is not there is an answer, as a value is.
        let answer = self.ask(term.left(asked), |session| {
            match dependencies::fetch(session, spec, log, Level::Debug) {
                Err(error) if error.is_missing() => Ok(Err(error)),
                answer => answer.map(Ok).map_err(fetch::Error::Dependency),
            }
        });
        match answer {
            Ok(Ok(credential)) => self.take_answer(place, spec, credential, asked),
            Ok(Err(missing)) => self.note_unread(place, spec, Want::Missing, &missing.to_string()),
            // The others come first when it is back, if it was this one that had no answer.
            Err(Trouble::Away(_)) => {
                if let Some(term) = &mut self.items.all[place].lifetime.term {
                    term.retry_later(moment(), jitter());
                }
            }
            Err(
                Trouble::Unheard(reason)
                | Trouble::Failed(reason)
                | Trouble::Denied(reason)
                | Trouble::Refused(reason),
            ) => self.note_unread(place, spec, Want::Failed, &reason),
            Err(Trouble::Ending) => {}
        }
    }

    fn take_answer(
        &mut self,
        place: usize,
        spec: &'a Dependency,
        credential: Credential,
        asked: Moment,
    ) {
        let item = &self.items.all[place];
        let Material::Credential {
            credential: old, ..
        } = &item.material
        else {
            return;
        };
        let is_same = has_same_content(old, &credential);
        let answer_end = credential.end;
        let new = Material::Credential { spec, credential };
        let next = Lifetime::new(&new, asked, Times::now(self.session.clock_skew()));
        let present = &item.lifetime;
        let old_end = present.end();
        let is_stuck = match answer_end {
            Some(OwnEnd::Rotation { life, .. }) => is_late(life, present.overdue(asked)),
            Some(OwnEnd::In { .. } | OwnEnd::At(_)) => !present.is_outlived_by(&next),
            None => false,
        };
        if is_same && is_stuck {
            self.note_read(place);
            return self.put_off_reading(place, spec);
        }
        let path = self.directory.path().to_string_lossy().into_owned();
        let before = (!is_same).then(|| self.items.preview(self.config, &path));
        let old = mem::replace(&mut self.items.all[place].material, new);
        if let Some(before) = before {
            match self.items.preview(self.config, &path) {
                Ok(after) if before.is_ok_and(|before| before == after) => {}
                Ok(_) => self.publish_soon(&spec.name, old_end, asked),
                Err(error) => {
                    // Everything else must still be published.
                    self.items.all[place].material = old;
                    return self.note_unread(place, spec, Want::Failed, &error.to_string());
                }
            }
        }
        self.note_read(place);
        self.status_is_old |= !is_same || next.end().is_some();
        self.items.all[place].lifetime = next;
    }

    /// Plans the next reading where the last one brought nothing.
    fn put_off_reading(&mut self, place: usize, spec: &Dependency) {
        let (now, jitter) = (moment(), jitter());
        let item = &mut self.items.all[place];
        let (Material::Credential { credential, .. }, Some(term)) =
            (&item.material, &mut item.lifetime.term)
        else {
            return;
        };
        match credential.end {
            Some(OwnEnd::Rotation { .. }) => term.read_late(now, jitter),
            Some(OwnEnd::In { .. } | OwnEnd::At(_)) => term.retry_later(now, jitter),
            None => term.due = term.end,
        }
        if let Some(interval) = spec.refresh {
            term.read_within(now, interval, jitter);
        }
    }

    /// Keeps the last value of a secret that cannot be read, and says so once for each reason.
    fn note_unread(&mut self, place: usize, spec: &Dependency, reason: Want, text: &str) {
        self.put_off_reading(place, spec);
        let unread = &mut self.items.all[place].lifetime.unread;
        let is_news = unread.as_ref().is_none_or(|last| last.reason != reason);
        let since = unread.take().map(|last| last.since);
        let since = since.unwrap_or_else(|| rfc3339(calendar()));
        *unread = Some(Unread { since, reason });
        self.status_is_old |= is_news;
        let name = &spec.name;
        match reason {
            Want::Missing if is_news => {
                let text = format!(
                    "the secret of {name} is not there any more ({text}); the application goes on with the last value"
                );
                let fields = [
                    ("name", Value::Text(name)),
                    ("path", Value::Text(&spec.path)),
                ];
                self.log
                    .event(Level::Warn, "secret_missing", &text, &fields);
            }
            Want::Missing => {}
            Want::Failed => {
                let what = format!("the secret of {name}");
                self.report_failure("not_replaced", name, &what, text, is_news);
            }
        }
    }

    fn note_read(&mut self, place: usize) {
        let item = &mut self.items.all[place];
        if item.lifetime.unread.take().is_some() {
            self.status_is_old = true;
            let name = item.material.name();
            let text = format!("the secret of {name} can be read again");
            let fields = [("name", Value::Text(name))];
            self.log.event(Level::Info, "secret_back", &text, &fields);
        }
    }
}

/// Whether two answers say the same, but for what an engine counts down.
fn has_same_content(old: &Credential, new: &Credential) -> bool {
    let is_exchanged = matches!(new.end, Some(OwnEnd::Rotation { .. }));
    let is_content = |field: &&(String, vault::Value)| !(is_exchanged && field.0 == COUNTDOWN);
    let old = old.fields.iter().filter(is_content);
    old.eq(new.fields.iter().filter(is_content))
}

/// Whether an engine has still to exchange a value, which is as it was and was to be exchanged so long ago. A late engine may
/// count already from the time of the exchange that it missed, so the keeper believes the engine's word only later.
fn is_late(life: u64, overdue: Option<Duration>) -> bool {
    overdue.is_some_and(|overdue| life == 0 || overdue < BELIEVED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn credential(fields: &[(&str, &str)], end: Option<OwnEnd>) -> Credential {
        let fields = fields.iter();
        let fields = fields.map(|(name, value)| {
            (
                (*name).to_owned(),
                vault::Value::Text(Secret::new((*value).to_owned())),
            )
        });
        Credential {
            fields: fields.collect(),
            lease: None,
            end,
        }
    }

    #[test]
    fn countdown_to_an_exchange_is_no_content() {
        let exchanged = Some(OwnEnd::Rotation { life: 9, whole: 9 });
        for (old, new, end, is_same) in [
            (&[("a", "1")][..], &[("a", "1")][..], None, true),
            (&[("a", "1")], &[("a", "2")], None, false),
            (&[("a", "1")], &[("a", "1"), ("b", "2")], None, false),
            (
                &[("a", "1"), ("ttl", "9")],
                &[("a", "1"), ("ttl", "3")],
                exchanged,
                true,
            ),
            (
                &[("a", "1"), ("ttl", "9")],
                &[("a", "2"), ("ttl", "9")],
                exchanged,
                false,
            ),
            (
                &[("a", "1"), ("ttl", "9")],
                &[("a", "1"), ("ttl", "3")],
                None,
                false,
            ),
        ] {
            let (old, new) = (credential(old, end), credential(new, end));
            assert_eq!(has_same_content(&old, &new), is_same, "{:?}", new.fields);
        }
    }

    #[test]
    fn engine_is_believed_ten_seconds_after_an_exchange_was_due() {
        for (life, overdue, late) in [
            (3600, None, false),
            (0, None, false),
            (0, Some(0), true),
            (0, Some(3600), true),
            (3600, Some(0), true),
            (3600, Some(9), true),
            (3600, Some(10), false),
        ] {
            let found = is_late(life, overdue.map(Duration::from_secs));
            assert_eq!(found, late, "{life} {overdue:?}");
        }
    }
}

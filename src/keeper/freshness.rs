//! No application starts with something that is dead or nearly so: what wore out while the rest was fetched is fetched again.

use std::time::{Duration, Instant};

use super::Start;
use super::error::Error;
use super::holdings::{Item, Times, credential_end};
use crate::certificate;
use crate::clock;
use crate::dependencies;
use crate::fetch::Fetched;
use crate::files::OwnEnd;
use crate::log::{Level, Value};
use crate::renewal::{self, Moment};
use crate::vault::Session;

/// How often that is done at the most: an engine may make something each time.
const TRIES: u32 = 3;
/// An engine that rotates does so a moment after the end.
const ROTATED: Duration = Duration::from_secs(1);
/// Of the time until the deadline so much is left for what comes after the last answer.
const RESERVE: Duration = Duration::from_secs(3);

/// The life of something that was fetched and ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) item: Item,
    /// As it was when it was new.
    pub(super) whole: Duration,
    pub(super) left: Duration,
    /// Until its end the engine answers with the same.
    pub(super) is_rotated: bool,
}

/// The next step before anything is published.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Publish,
    /// Fetch these again after a pause.
    Again(Vec<Item>, Duration),
    /// This one does not live long enough, however often it is fetched.
    Ended(Item),
}

/// Decides it; `tries` is how often something was fetched again that could be had at once, `time_left` ends at the deadline.
pub(super) fn next(lives: &[Life], tries: u32, time_left: Duration) -> Next {
    let worn = lives
        .iter()
        .filter(|life| renewal::is_worn(life.whole, life.left));
    let (rotated, others): (Vec<&Life>, Vec<&Life>) = worn.partition(|life| life.is_rotated);
    let items = |lives: &[&Life]| lives.iter().map(|life| life.item).collect();
    // First, since the others wear out meanwhile.
    if let Some(last) = rotated.iter().map(|life| life.left).max()
        && last + ROTATED + RESERVE <= time_left
    {
        return Next::Again(items(&rotated), last + ROTATED);
    }
    if others.is_empty() {
        return Next::Publish;
    }
    if tries < TRIES && RESERVE <= time_left {
        return Next::Again(items(&others), Duration::ZERO);
    }
    let dead = others.iter().find(|life| life.left.is_zero());
    dead.map_or(Next::Publish, |life| Next::Ended(life.item))
}

/// The lives of what was fetched.
pub(super) fn lives(fetched: &Fetched, now: Moment, times: Times) -> Vec<Life> {
    let certificate = fetched.certificate.as_ref().map(|(issued, asked)| {
        let end = times.certificate_term(issued).end;
        Life {
            item: Item::Certificate,
            whole: end.saturating_sub(*asked),
            left: end.saturating_sub(now),
            is_rotated: false,
        }
    });
    let credentials = fetched.credentials.iter();
    let credentials = credentials.filter_map(|(index, credential, asked)| {
        let end = credential_end(*asked, credential, times)?;
        let is_rotated = matches!(credential.end, Some(OwnEnd::Rotation { .. }));
        Some(Life {
            item: Item::Credential(*index),
            whole: match credential.end {
                Some(OwnEnd::Rotation { whole, .. }) => renewal::life(whole),
                _ => end.saturating_sub(*asked),
            },
            left: end.saturating_sub(now),
            is_rotated,
        })
    });
    certificate.into_iter().chain(credentials).collect()
}

impl Start<'_> {
    /// Fetches again what is dead or nearly so; says whether there was any.
    pub(super) fn refresh(
        &self,
        session: &Session,
        answer_time: Duration,
        fetched: &mut Fetched,
    ) -> Result<bool, Error> {
        let mut tries = 0;
        let mut is_first = true;
        loop {
            let times = Times::now(session.clock_skew());
            let lives = lives(fetched, clock::moment(), times);
            let time_left = self.deadline.saturating_duration_since(Instant::now());
            let (items, pause) = match next(&lives, tries, time_left) {
                Next::Publish => return Ok(!is_first),
                Next::Ended(item) => return Err(self.ended(item)),
                Next::Again(items, pause) => (items, pause),
            };
            for life in lives.iter().filter(|life| items.contains(&life.item)) {
                self.say_again(life, is_first);
            }
            is_first = false;
            if pause.is_zero() {
                tries += 1;
            } else if !self.link.is_quiet_for(pause) {
                return Err(Error::CalledOff);
            }
            let certificate = self.config.certificate.as_ref();
            let certificate = certificate.filter(|_| items.contains(&Item::Certificate));
            let request = certificate.map(certificate::prepare).transpose()?;
            let wanted = |index| items.contains(&Item::Credential(index));
            let again = self.fetch_some(session, request, answer_time, wanted)?;
            fetched.certificate = again.certificate.or(fetched.certificate.take());
            for (index, credential, asked) in again.credentials {
                fetched.credentials[index] = (index, credential, asked);
            }
        }
    }

    fn say_again(&self, life: &Life, is_first: bool) {
        let name = self.name(life.item);
        let text = format!(
            "what was fetched for {name} ends in {} s, too soon for the application: fetching it again",
            life.left.as_secs()
        );
        let level = if is_first { Level::Info } else { Level::Debug };
        let left = Value::Number(life.left.as_secs());
        let fields = [("name", Value::Text(name)), ("left_s", left)];
        self.log.event(level, "fetched_again", &text, &fields);
    }

    fn name(&self, item: Item) -> &str {
        match item {
            Item::Certificate => "certificate",
            Item::Credential(index) => &self.config.dependencies[index].name,
        }
    }

    fn ended(&self, item: Item) -> Error {
        match item {
            Item::Certificate => certificate::Error::Ended.into(),
            Item::Credential(index) => {
                let dependency = &self.config.dependencies[index];
                dependencies::Error::Ended {
                    dependency: dependency.name.clone(),
                    path: dependency.path.clone(),
                }
                .into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(index: usize, whole: u64, left: u64, is_rotated: bool) -> Life {
        let (whole, left) = (Duration::from_secs(whole), Duration::from_secs(left));
        let item = Item::Credential(index);
        Life {
            item,
            whole,
            left,
            is_rotated,
        }
    }

    #[test]
    fn worn_things_are_fetched_again_and_rotated_ones_after_their_end() {
        let again = |indexes: &[usize], pause| {
            let items = indexes.iter().map(|index| Item::Credential(*index));
            Next::Again(items.collect(), Duration::from_secs(pause))
        };
        let good = life(0, 3600, 3590, false);
        let (worn, dead) = (life(1, 60, 4, false), life(2, 60, 0, false));
        let (rotating, overdue) = (life(3, 3600, 4, true), life(4, 3600, 0, true));
        for (lives, tries, time_left, expected) in [
            (&[][..], 0, 25, Next::Publish),
            (&[good], 0, 25, Next::Publish),
            (&[good], 9, 0, Next::Publish),
            (&[good, worn, dead], 0, 25, again(&[1, 2], 0)),
            (&[good, worn, dead], 2, 3, again(&[1, 2], 0)),
            (&[good, worn, dead], 3, 25, Next::Ended(Item::Credential(2))),
            (&[good, worn, dead], 0, 2, Next::Ended(Item::Credential(2))),
            (&[good, worn], 3, 25, Next::Publish),
            (&[worn, rotating, overdue], 0, 25, again(&[3, 4], 5)),
            (&[rotating], 9, 8, again(&[3], 5)),
            (&[rotating], 0, 7, Next::Publish),
            (&[overdue], 0, 4, again(&[4], 1)),
            (&[overdue], 0, 3, Next::Publish),
            (&[worn, overdue], 0, 3, again(&[1], 0)),
            (&[life(5, 3600, 5, true)], 0, 25, Next::Publish),
        ] {
            let found = next(lives, tries, Duration::from_secs(time_left));
            assert_eq!(found, expected, "{lives:?} {tries} {time_left}");
        }
    }
}

//! No application starts with an item that is dead or nearly so: one that wore out while the rest was fetched is fetched again.

use std::time::{Duration, Instant};

use super::Start;
use super::error::Error;
use super::items::{Lifetime, Times};
use crate::certificate;
use crate::clock;
use crate::dependencies;
use crate::fetch::{Fetched, Job};
use crate::files::{Material, OwnEnd};
use crate::log::{Level, Value};
use crate::schedule::{self, EXCHANGED, Moment};
use crate::vault::Session;

/// Most times that an item is fetched again: an engine may make something each time.
const TRIES: u32 = 3;
/// The time before the deadline that is kept for the steps after the last answer.
const RESERVE: Duration = Duration::from_secs(3);

/// The life of a fetched item that ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    /// The item's place among those that were fetched.
    pub(super) place: usize,
    /// The life as it was when the item was new.
    pub(super) whole: Duration,
    pub(super) left: Duration,
    /// Whether the engine answers with the same until its end.
    pub(super) is_rotated: bool,
}

/// The next step before anything is published.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Publish,
    /// Fetch these again after a pause.
    Again(Vec<usize>, Duration),
    /// The item at this place does not live long enough, however often it is fetched.
    Ended(usize),
}

/// Decides the next step; `tries` counts the fetches again of items that could be had at once, `time_left` ends at the
/// deadline.
pub(super) fn next(lives: &[Life], tries: u32, time_left: Duration) -> Next {
    let worn = lives
        .iter()
        .filter(|life| schedule::is_worn(life.whole, life.left));
    let (rotated, others): (Vec<&Life>, Vec<&Life>) = worn.partition(|life| life.is_rotated);
    let places = |lives: &[&Life]| lives.iter().map(|life| life.place).collect();
    // First, since the others wear out meanwhile.
    if let Some(last) = rotated.iter().map(|life| life.left).max()
        && last + EXCHANGED + RESERVE <= time_left
    {
        return Next::Again(places(&rotated), last + EXCHANGED);
    }
    if others.is_empty() {
        return Next::Publish;
    }
    if tries < TRIES && RESERVE <= time_left {
        return Next::Again(places(&others), Duration::ZERO);
    }
    let dead = others.iter().find(|life| life.left.is_zero());
    dead.map_or(Next::Publish, |life| Next::Ended(life.place))
}

/// The lives of the fetched items.
pub(super) fn lives(fetched: &[Fetched<'_>], now: Moment, times: Times) -> Vec<Life> {
    let lives = fetched.iter().enumerate().filter_map(|(place, one)| {
        let end = Lifetime::new(&one.material, one.asked, times).end()?;
        let rotation = match &one.material {
            Material::Credential { credential, .. } => match credential.end {
                Some(OwnEnd::Rotation { whole, .. }) => Some(schedule::life(whole)),
                _ => None,
            },
            Material::Certificate { .. } => None,
        };
        Some(Life {
            place,
            whole: rotation.unwrap_or(end.saturating_sub(one.asked)),
            left: end.saturating_sub(now),
            is_rotated: rotation.is_some(),
        })
    });
    lives.collect()
}

impl<'a> Start<'a> {
    /// Fetches again every item that is dead or nearly so; returns whether there was any.
    pub(super) fn refresh(
        &self,
        session: &Session,
        answer_time: Duration,
        fetched: &mut [Fetched<'a>],
    ) -> Result<bool, Error> {
        let mut tries = 0;
        let mut is_first = true;
        loop {
            let times = Times::now(session.clock_skew());
            let lives = lives(fetched, clock::moment(), times);
            let time_left = self.deadline.saturating_duration_since(Instant::now());
            let (places, pause) = match next(&lives, tries, time_left) {
                Next::Publish => return Ok(!is_first),
                Next::Ended(place) => return Err(ended(&fetched[place].material)),
                Next::Again(places, pause) => (places, pause),
            };
            for life in lives.iter().filter(|life| places.contains(&life.place)) {
                self.say_again(fetched[life.place].material.name(), life.left, is_first);
            }
            is_first = false;
            if pause.is_zero() {
                tries += 1;
            } else if !self.link.is_quiet_for(pause) {
                return Err(Error::CalledOff);
            }
            let jobs = places
                .iter()
                .map(|place| Job::prepare(fetched[*place].material.spec()));
            let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
            for (place, one) in places
                .into_iter()
                .zip(self.perform(session, jobs, answer_time)?)
            {
                fetched[place] = one;
            }
        }
    }

    fn say_again(&self, name: &str, left: Duration, is_first: bool) {
        let text = format!(
            "what was fetched for {name} ends in {} s, too soon for the application: fetching it again",
            left.as_secs()
        );
        let level = if is_first { Level::Info } else { Level::Debug };
        let left = Value::Number(left.as_secs());
        let fields = [("name", Value::Text(name)), ("left_s", left)];
        self.log.event(level, "fetched_again", &text, &fields);
    }
}

/// The error of an item that ends before every other is there.
fn ended(material: &Material<'_>) -> Error {
    match material {
        Material::Certificate { spec, .. } => {
            certificate::Error::of(spec)(certificate::Cause::Ended).into()
        }
        Material::Credential { spec, .. } => dependencies::Error::Ended {
            dependency: spec.name.clone(),
            path: spec.path.clone(),
        }
        .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(index: usize, whole: u64, left: u64, is_rotated: bool) -> Life {
        let (whole, left) = (Duration::from_secs(whole), Duration::from_secs(left));
        Life {
            place: index,
            whole,
            left,
            is_rotated,
        }
    }

    #[test]
    fn worn_item_is_fetched_again_and_a_rotated_one_after_its_end() {
        let again =
            |indexes: &[usize], pause| Next::Again(indexes.to_vec(), Duration::from_secs(pause));
        let good = life(0, 3600, 3590, false);
        let (worn, dead) = (life(1, 60, 4, false), life(2, 60, 0, false));
        let (rotating, overdue) = (life(3, 3600, 4, true), life(4, 3600, 0, true));
        for (lives, tries, time_left, expected) in [
            (&[][..], 0, 25, Next::Publish),
            (&[good], 0, 25, Next::Publish),
            (&[good], 9, 0, Next::Publish),
            (&[good, worn, dead], 0, 25, again(&[1, 2], 0)),
            (&[good, worn, dead], 2, 3, again(&[1, 2], 0)),
            (&[good, worn, dead], 3, 25, Next::Ended(2)),
            (&[good, worn, dead], 0, 2, Next::Ended(2)),
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

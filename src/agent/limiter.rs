//! How often something may happen in a minute, for each of many.
//!
//! A refusal is not recorded, so that a caller who does not stop costs no more memory and no more work than one who
//! asks as often as allowed.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
/// Most keys that are remembered; beyond that the one that was quiet for longest is forgotten.
const KEYS_MAX: usize = 4096;

/// Counts what was admitted within the last minute, by key.
#[derive(Default)]
pub(super) struct Limiter {
    keys: HashMap<String, Recent>,
    pruned: Option<Instant>,
}

#[derive(Default)]
struct Recent {
    /// When something was admitted, the oldest first; no more than the limit.
    admitted: VecDeque<Instant>,
    /// When a refusal was last said.
    told: Option<Instant>,
}

/// Whether something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes, and that is recorded.
    Admitted,
    /// No, and this is the first refusal of this key within a minute.
    FirstRefusal,
    /// No, as was said within this minute.
    Refused,
}

impl Limiter {
    /// Admits so many of a key within a minute.
    pub(super) fn admit(&mut self, key: &str, limit: usize, now: Instant) -> Admission {
        let is_recent = |time: Instant| now.saturating_duration_since(time) < MINUTE;
        if !self.keys.contains_key(key) {
            self.make_room(now);
        }
        let recent = self.keys.entry(key.to_owned()).or_default();
        while recent
            .admitted
            .front()
            .is_some_and(|time| !is_recent(*time))
        {
            recent.admitted.pop_front();
        }
        if recent.admitted.len() < limit {
            recent.admitted.push_back(now);
            return Admission::Admitted;
        }
        if recent.told.is_some_and(is_recent) {
            return Admission::Refused;
        }
        recent.told = Some(now);
        Admission::FirstRefusal
    }

    /// Forgets what is older than a minute, once in a minute, and one more where there are too many.
    fn make_room(&mut self, now: Instant) {
        let is_recent = |time: &Instant| now.saturating_duration_since(*time) < MINUTE;
        if !self.pruned.as_ref().is_some_and(is_recent) {
            self.pruned = Some(now);
            self.keys
                .retain(|_, recent| recent.latest().as_ref().is_some_and(is_recent));
        }
        if self.keys.len() < KEYS_MAX {
            return;
        }
        let quietest = self.keys.iter().min_by_key(|(_, recent)| recent.latest());
        if let Some(key) = quietest.map(|(key, _)| key.clone()) {
            self.keys.remove(&key);
        }
    }
}

impl Recent {
    fn latest(&self) -> Option<Instant> {
        self.admitted.back().copied().max(self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_beyond_its_limit_waits_until_a_minute_has_passed() {
        let mut limiter = Limiter::default();
        let start = Instant::now();
        let mut at = |key: &str, second| limiter.admit(key, 2, start + Duration::from_secs(second));
        assert_eq!(at("a", 0), Admission::Admitted);
        assert_eq!(at("a", 30), Admission::Admitted);
        assert_eq!(at("a", 31), Admission::FirstRefusal);
        assert_eq!(at("a", 32), Admission::Refused);
        assert_eq!(at("b", 32), Admission::Admitted, "another key");
        // The refusals were not recorded.
        assert_eq!(at("a", 60), Admission::Admitted);
        assert_eq!(at("a", 61), Admission::Refused);
        assert_eq!(at("a", 90), Admission::Admitted);
        assert_eq!(at("a", 92), Admission::FirstRefusal);
    }

    #[test]
    fn refused_calls_without_end_take_no_memory() {
        let mut limiter = Limiter::default();
        let now = Instant::now();
        for _ in 0..100_000 {
            limiter.admit("a", 60, now);
        }
        assert_eq!(limiter.keys["a"].admitted.len(), 60);
    }

    #[test]
    fn keys_without_end_push_out_the_quietest_alone() {
        let mut limiter = Limiter::default();
        let start = Instant::now();
        limiter.admit("busy", 1, start);
        limiter.admit("quiet", 1, start);
        let later = start + Duration::from_secs(1);
        assert_eq!(limiter.admit("busy", 1, later), Admission::FirstRefusal);
        for number in 0..KEYS_MAX - 1 {
            limiter.admit(&number.to_string(), 1, later);
        }
        assert_eq!(limiter.keys.len(), KEYS_MAX);
        assert!(!limiter.keys.contains_key("quiet"));
        assert_eq!(limiter.admit("busy", 1, later), Admission::Refused);
        // All of them are forgotten in time.
        limiter.admit("late", 1, later + MINUTE + MINUTE);
        assert_eq!(limiter.keys.len(), 1);
    }
}

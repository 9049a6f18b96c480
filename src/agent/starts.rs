//! The starts of containers: which one is worked on, which is settled, and how often a container may start.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Instant;

use super::identity::Claim;
use super::limiter::{Admission, Limiter};
use super::register::nanoseconds;
use crate::mutex::lock;

/// A container, and when it started: each start has a token of its own.
type Start = (String, i64);

/// All starts that the agent knows of.
#[derive(Default)]
pub(super) struct Starts {
    under_way: Mutex<HashSet<Start>>,
    /// The last start of each container for which nothing more is done.
    settled: Mutex<HashMap<String, i64>>,
    /// The containers that started lately.
    recent: Mutex<Limiter>,
}

/// The exclusive right to work on a start, until it is dropped.
pub(super) struct StartClaim<'a> {
    starts: &'a Starts,
    start: Start,
}

impl Drop for StartClaim<'_> {
    fn drop(&mut self) {
        lock(&self.starts.under_way).remove(&self.start);
    }
}

impl Starts {
    /// Claims a start, unless another task works on it or it is settled.
    pub(super) fn claim(&self, claim: &Claim) -> Option<StartClaim<'_>> {
        let start = start(claim);
        if lock(&self.settled).get(&start.0) == Some(&start.1) {
            return None;
        }
        lock(&self.under_way)
            .insert(start.clone())
            // Not before that is known: a claim that is dropped at once would take the start away from its owner.
            .then(|| StartClaim {
                starts: self,
                start,
            })
    }

    /// Whether a task works on this start.
    pub(super) fn is_under_way(&self, claim: &Claim) -> bool {
        lock(&self.under_way).contains(&start(claim))
    }

    /// Whether a task works on any start.
    pub(super) fn is_any_under_way(&self) -> bool {
        !lock(&self.under_way).is_empty()
    }

    /// Notes that nothing more is done for this start.
    pub(super) fn settle(&self, claim: &Claim) {
        let (container, started) = start(claim);
        lock(&self.settled).insert(container, started);
    }

    /// Forgets what was settled for a container.
    pub(super) fn forget(&self, container: &str) {
        lock(&self.settled).remove(container);
    }

    /// Forgets what was settled for all containers but these.
    pub(super) fn forget_all_but(&self, containers: &HashSet<String>) {
        lock(&self.settled).retain(|container, _| containers.contains(container));
    }

    /// Counts a start, unless the container has started so often within a minute.
    pub(super) fn admit(&self, container: &str, per_minute: usize, now: Instant) -> bool {
        lock(&self.recent).admit(container, per_minute, now) == Admission::Admitted
    }
}

fn start(claim: &Claim) -> Start {
    (claim.container.clone(), nanoseconds(claim.started))
}

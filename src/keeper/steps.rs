//! The steps of a start, as the log tells how long each took.

use std::time::{Duration, Instant};

/// The steps of a start, and the time that each took.
pub(super) struct Steps {
    began: Instant,
    last: Instant,
    taken: Vec<(String, Duration)>,
}

impl Steps {
    pub(super) fn new(began: Instant) -> Self {
        Steps {
            began,
            last: Instant::now(),
            taken: Vec::new(),
        }
    }

    /// Ends a step; returns how long it took.
    pub(super) fn mark(&mut self, step: &str) -> Duration {
        let now = Instant::now();
        let took = now - self.last;
        self.taken.push((step.to_owned(), took));
        self.last = now;
        took
    }

    /// Ends steps that ran beside one another.
    pub(super) fn mark_parallel(&mut self, steps: &[(String, Duration)]) {
        let taken = steps.iter().filter(|(_, took)| !took.is_zero());
        self.taken.extend(taken.cloned());
        self.last = Instant::now();
    }

    pub(super) fn text(&self) -> String {
        let steps: Vec<String> = self
            .taken
            .iter()
            .map(|(step, taken)| format!("{step} {}", taken.as_millis()))
            .collect();
        format!(
            "ready in {} ms: {}",
            self.began.elapsed().as_millis(),
            steps.join(", ")
        )
    }
}

//! The times when Vault does not answer.

use std::time::Duration;

use time::OffsetDateTime;

use crate::schedule::{self, Moment};

/// A time in which Vault does not answer, and is left alone for a while.
pub(super) struct Outage {
    since: Moment,
    since_calendar: OffsetDateTime,
    failures: u32,
    until: Moment,
}

impl Outage {
    pub(super) fn begin(now: Moment, calendar: OffsetDateTime) -> Outage {
        Outage {
            since: now,
            since_calendar: calendar,
            failures: 0,
            until: now,
        }
    }

    /// The date since which Vault does not answer.
    pub(super) fn since(&self) -> OffsetDateTime {
        self.since_calendar
    }

    /// The moment until which Vault is left alone.
    pub(super) fn until(&self) -> Moment {
        self.until
    }

    /// Leaves Vault alone for longer; `shortest` and `left` are those of [`schedule::pause`].
    pub(super) fn add_failure(
        &mut self,
        now: Moment,
        shortest: Duration,
        left: Duration,
        jitter: f64,
    ) {
        self.until = now + schedule::pause(self.failures, shortest, left, jitter);
        self.failures = self.failures.saturating_add(1);
    }

    /// The seconds that the outage has lasted, and the requests that failed meanwhile.
    pub(super) fn end(self, now: Moment) -> (u64, u32) {
        (now.saturating_sub(self.since).as_secs(), self.failures)
    }
}

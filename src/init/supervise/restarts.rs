//! Restarts of the application: which of its ends is followed by another start, and when.

use std::time::{Duration, Instant};

use crate::secret::Secret;

/// The time after which a restart has succeeded: an application that fails before is started once more.
const SETTLED: Duration = Duration::from_secs(10);
/// The pause after the first failure; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The most starts that fail one after the other.
const TRIES: u32 = 5;

/// The variables of a start, each as `NAME=value`.
pub(super) type Variables = Vec<Secret<Vec<u8>>>;

/// The application, as far as restarts have to do with it.
#[derive(Default)]
enum Phase {
    /// The application runs.
    #[default]
    Runs,
    /// The application was told to end, so that it starts again.
    Ends,
    /// No application runs until this moment.
    Pauses { until: Instant },
}

/// The meaning of an end of the application.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The application ended by itself, or was to end for good.
    Last,
    /// The application was ended to start again.
    Ordered,
    /// The application failed soon after a restart.
    Failed,
}

/// The state of all restarts.
#[derive(Default)]
pub(super) struct Restarts {
    phase: Phase,
    /// The variables of the next start, or of the last one until that has succeeded.
    variables: Option<Variables>,
    /// The moment at which the last restart has succeeded, unless it has.
    settled_at: Option<Instant>,
    failures: u32,
    count: u64,
}

impl Restarts {
    /// Notes the variables of the next start; true where the application now has to be ended for it.
    pub(super) fn order(&mut self, variables: Variables) -> bool {
        self.variables = Some(variables);
        let runs = matches!(self.phase, Phase::Runs);
        if runs {
            self.phase = Phase::Ends;
        }
        runs
    }

    /// Says whether a restart is under way, so that the application does not run as it should.
    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.phase, Phase::Runs)
    }

    /// Has the next end of the application be the last one.
    pub(super) fn call_off(&mut self) {
        *self = Restarts {
            count: self.count,
            ..Restarts::default()
        };
    }

    /// Says what an end of the application means.
    pub(super) fn judge(&self, is_success: bool) -> End {
        match self.phase {
            Phase::Ends => End::Ordered,
            Phase::Runs if self.settled_at.is_some() && !is_success => End::Failed,
            Phase::Runs | Phase::Pauses { .. } => End::Last,
        }
    }

    /// Plans another start after one that failed; none where that was the last try.
    pub(super) fn put_off(&mut self, now: Instant) -> Option<Duration> {
        self.failures += 1;
        let pause = PAUSE_FIRST * (1 << (self.failures - 1));
        (self.failures < TRIES).then(|| {
            self.phase = Phase::Pauses { until: now + pause };
            pause
        })
    }

    /// Says whether another start is due after a pause.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Pauses { until } if until <= now)
    }

    /// Returns how many starts have failed one after the other.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns the variables of the next start.
    pub(super) fn variables(&self) -> &[Secret<Vec<u8>>] {
        self.variables.as_deref().unwrap_or_default()
    }

    /// Notes that the application runs again; returns how often it has been started again.
    pub(super) fn note_start(&mut self, now: Instant) -> u64 {
        self.phase = Phase::Runs;
        self.settled_at = Some(now + SETTLED);
        self.count += 1;
        self.count
    }

    /// Forgets the variables of a restart that has succeeded; true where there were some.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        let is_settled = !self.is_under_way() && self.settled_at.is_some_and(|at| at <= now);
        if is_settled {
            self.call_off();
        }
        is_settled
    }

    /// Returns the next moment at which something is to be done.
    pub(super) fn next(&self) -> Option<Instant> {
        match self.phase {
            Phase::Runs => self.settled_at,
            Phase::Ends => None,
            Phase::Pauses { until } => Some(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        vec![Secret::new(b"A=1".to_vec())]
    }

    #[test]
    fn end_is_followed_by_a_start_if_ordered_or_soon_after_one() {
        let now = Instant::now();
        let mut restarts = Restarts::default();
        for is_success in [true, false] {
            assert_eq!(restarts.judge(is_success), End::Last);
        }
        assert!(restarts.order(variables()));
        assert!(!restarts.order(variables()), "one more is none");
        assert_eq!(restarts.judge(true), End::Ordered);
        assert_eq!(restarts.note_start(now), 1);
        assert_eq!(restarts.judge(true), End::Last);
        assert_eq!(restarts.judge(false), End::Failed);
        assert!(!restarts.settle(now + SETTLED - Duration::from_millis(1)));
        assert_eq!(restarts.next(), Some(now + SETTLED));
        assert!(restarts.settle(now + SETTLED));
        assert!(!restarts.settle(now + SETTLED));
        assert!(restarts.variables().is_empty());
        assert_eq!((restarts.judge(false), restarts.next()), (End::Last, None));
        assert!(restarts.order(variables()));
        restarts.call_off();
        assert_eq!(restarts.judge(false), End::Last);
        assert!(restarts.order(variables()));
        assert_eq!(restarts.note_start(now), 2);
    }

    #[test]
    fn pauses_grow_until_the_application_is_given_up() {
        let now = Instant::now();
        let mut restarts = Restarts::default();
        restarts.order(variables());
        restarts.note_start(now);
        for seconds in [1, 2, 4, 8] {
            let pause = Duration::from_secs(seconds);
            assert_eq!(restarts.put_off(now), Some(pause));
            assert!(!restarts.settle(now + SETTLED * 2));
            assert!(!restarts.is_due(now + pause - Duration::from_millis(1)));
            assert!(!restarts.order(variables()));
            assert!(restarts.is_due(now + pause));
            restarts.note_start(now);
        }
        assert_eq!(restarts.put_off(now), None);
    }
}

//! The schedule of renewals: functions of time and jitter alone.
//!
//! Times are counted on a clock that goes on while the machine sleeps, as Vault's does. `jitter` is a number from 0 to
//! 1, anew for each call: many containers that were started together must not come back together.

use std::time::Duration;

/// A time, as the duration since the machine was started (`CLOCK_BOOTTIME`, clock_gettime(2)).
pub(crate) type Moment = Duration;

/// The shortest pause before anything is done.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The first pause after a failure.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LAST: Duration = Duration::from_secs(60);
/// The life that is left when something is done for an item that lives short, or half of it if that is less.
const SPARE: Duration = Duration::from_secs(5);
/// The wait after the end of a value that its engine exchanges: the engine does so a moment later.
pub(crate) const EXCHANGED: Duration = Duration::from_secs(1);
/// The pause between the readings of a value whose exchange is a little late, or twice that.
const LATE: Duration = Duration::from_secs(1);
/// The number of such readings. Engines look every 5 s what is to be exchanged.
const LATE_READINGS: u32 = 6;
/// The pause before the first reading of a value whose exchange does not come, or twice that.
const OVERDUE: Duration = Duration::from_secs(5);
/// The time after its end for which a value that its engine exchanges still counts as good: for all readings in short
/// order.
pub(crate) const EXCHANGE: Duration = Duration::from_secs(15);
/// The tolerance for an answer that is shorter than what was asked for, since servers count in whole seconds.
pub(crate) const ROUNDING: Duration = Duration::from_secs(1);

/// A hundred years: a longer life means that the item does not end.
pub(crate) const ENDLESS: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Converts a life from Vault's seconds.
pub(crate) fn life(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(ENDLESS)
}

/// The next step for an item that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The item lives on when it is renewed.
    Renew,
    /// The item cannot be renewed, or not for much longer: another one takes its place.
    Replace,
    /// The item is read again, and another one takes its place where it has changed.
    ReadAgain,
    /// The item ends, and nothing can be done about it.
    Nothing,
}

/// The life of a token, a lease or a certificate, and what is due for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    /// The life that the item had when it was new.
    pub full: Duration,
    /// The end of the item, unless it is renewed.
    pub end: Moment,
    /// The next step.
    pub step: Step,
    /// The time of the next step.
    pub due: Moment,
    failures: u32,
}

impl Term {
    /// Begins the term of a new item that lives for so long.
    pub(crate) fn new(now: Moment, life: Duration, is_renewable: bool, jitter: f64) -> Term {
        let mut term = Term {
            full: life,
            end: now + life,
            step: Step::Renew,
            due: now,
            failures: 0,
        };
        if is_renewable {
            term.due = renewal(now, term.end, jitter);
        } else {
            term.schedule_replacement(now, jitter);
        }
        term
    }

    /// Begins the term of an item that cannot be renewed and would live for `life`, but of which only `left` remains
    /// because something that it needs ends before.
    pub(crate) fn cut_short(now: Moment, life: Duration, left: Duration, jitter: f64) -> Term {
        Term {
            // What fails goes by the whole life, else the tries would become ever more.
            full: life,
            ..Term::new(now, left.min(life), false, jitter)
        }
    }

    /// Begins the term of an answer that does not end, and that is read again when [`read_within`](Self::read_within)
    /// says.
    pub(crate) fn unending(now: Moment, interval: Duration) -> Term {
        Term {
            full: interval,
            end: now + ENDLESS,
            step: Step::ReadAgain,
            due: now + ENDLESS,
            failures: 0,
        }
    }

    /// Begins the term of an answer that lives for `life`, and that is read again in good time before its end.
    pub(crate) fn reading(now: Moment, life: Duration, jitter: f64) -> Term {
        let replaced = Term::new(now, life, false, jitter);
        Term {
            step: Step::ReadAgain,
            // An answer that has ended already must not be asked for without a pause.
            due: replaced.due.max(now + PAUSE_MIN),
            ..replaced
        }
    }

    /// Begins the term of a value that its engine exchanges at `end`: it is read again a moment later.
    pub(crate) fn exchange(end: Moment, full: Duration, jitter: f64) -> Term {
        Term {
            full,
            end,
            step: Step::ReadAgain,
            due: end + EXCHANGED + PAUSE_MIN.mul_f64(jitter.clamp(0.0, 1.0)),
            failures: 0,
        }
    }

    /// Brings the next reading forward: no later than `interval` from now, and up to a tenth earlier.
    pub(crate) fn read_within(&mut self, now: Moment, interval: Duration, jitter: f64) {
        let wait = interval.mul_f64(0.9 + 0.1 * jitter.clamp(0.0, 1.0));
        self.due = self.due.min(now + wait);
    }

    /// Schedules another reading of a value that should have been exchanged by now: in short order, since until then the
    /// application has the old one, then ever more rarely.
    pub(crate) fn read_late(&mut self, now: Moment, jitter: f64) {
        let pause = match self.failures.checked_sub(LATE_READINGS) {
            None => LATE,
            Some(further) => OVERDUE.saturating_mul(1 << further.min(4)),
        };
        self.due = now + pause.mul_f64(1.0 + jitter.clamp(0.0, 1.0));
        self.failures = self.failures.saturating_add(1);
    }

    /// Begins the term of a renewable item that is not new: `left` of its life remains.
    pub(crate) fn begun(now: Moment, life: Duration, left: Duration, jitter: f64) -> Term {
        let end = now + left;
        Term {
            end,
            due: renewal(now, end, jitter),
            ..Term::new(now, life, true, jitter)
        }
    }

    /// Notes that the item was renewed and lives for `life` from now on; when that is less than at first, its maximum
    /// is near.
    pub(crate) fn note_renewal(
        &mut self,
        now: Moment,
        life: Duration,
        is_renewable: bool,
        jitter: f64,
    ) {
        let grows = is_renewable && life + ROUNDING.max(self.full / 20) >= self.full;
        self.end = now + life;
        self.failures = 0;
        if grows {
            self.full = self.full.max(life);
            self.step = Step::Renew;
            self.due = renewal(now, self.end, jitter);
        } else {
            self.schedule_replacement(now, jitter);
        }
    }

    /// Schedules a replacement, while about a third of a whole life is left, for an item that cannot be renewed.
    pub(crate) fn schedule_replacement(&mut self, now: Moment, jitter: f64) {
        let ahead = self.full.mul_f64(1.0 - part(jitter)).max(spare(self.full));
        self.step = Step::Replace;
        self.due = self.end.saturating_sub(ahead).max(now);
    }

    /// Marks the item as gone before its time: another one is wanted at once.
    pub(crate) fn mark_gone(&mut self, now: Moment) {
        self.end = self.end.min(now);
        self.step = Step::Replace;
        self.due = now;
    }

    /// Schedules another try of a step that failed, rarely enough for an engine that makes something at each try.
    pub(crate) fn retry_later(&mut self, now: Moment, jitter: f64) {
        let first = PAUSE_FIRST.max(self.full / 30);
        let pause = first.saturating_mul(1 << self.failures.min(4));
        let pause = pause.min(first.max(self.full / 3));
        self.failures = self.failures.saturating_add(1);
        self.due = now + spread(in_time(pause, self.left(now)), jitter);
    }

    /// Returns the life that is left unless the item is renewed.
    pub(crate) fn left(&self, now: Moment) -> Duration {
        self.end.saturating_sub(now)
    }

    /// Says whether another item in this place would live longer, by more than rounding.
    pub(crate) fn is_outlived_by(&self, other: &Term) -> bool {
        other.end > self.end + ROUNDING
    }

    /// Says whether a step failed and has not succeeded since.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }
}

/// Computes the time of a renewal: after about two thirds of what is left.
fn renewal(now: Moment, end: Moment, jitter: f64) -> Moment {
    let left = end.saturating_sub(now);
    let wait = left.mul_f64(part(jitter)).min(left - spare(left));
    now + wait.max(PAUSE_MIN.min(left))
}

/// Computes the least life that is left when something is done. For lives of seconds that is more than a third: a busy
/// server answers no faster for them.
fn spare(life: Duration) -> Duration {
    SPARE.min(life / 2)
}

/// Says whether so little is left of a life that nothing should begin with it: less than what is left when something
/// is done for it.
pub(crate) fn is_worn(whole: Duration, left: Duration) -> bool {
    left.is_zero() || left < spare(whole)
}

/// Computes the time of a restart of the application that takes `limit` at the longest: after a wait of up to `splay`, but
/// before the first end of what it still uses.
pub(crate) fn restart(
    now: Moment,
    splay: Duration,
    limit: Duration,
    first_end: Option<Moment>,
    jitter: f64,
) -> Moment {
    let due = now + splay.mul_f64(jitter.clamp(0.0, 1.0));
    let last = first_end.map_or(due, |end| end.saturating_sub(limit));
    due.min(last).max(now)
}

/// Computes the part of a life after which something is done: 0.60 to 0.72.
fn part(jitter: f64) -> f64 {
    0.60 + 0.12 * jitter.clamp(0.0, 1.0)
}

/// Spreads a pause: half as long to half as long again.
fn spread(pause: Duration, jitter: f64) -> Duration {
    pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0))
}

/// Shortens a pause that would sleep through the last seconds of an item that can still be rescued.
fn in_time(pause: Duration, left: Duration) -> Duration {
    if left.is_zero() {
        pause
    } else {
        pause.min((left / 8).max(PAUSE_MIN))
    }
}

/// Computes how long a server that is away is left alone after so many failures. `shortest` is the shortest of all
/// lives when they were new, `left` what is left of the one that ends next.
pub(crate) fn pause(failures: u32, shortest: Duration, left: Duration, jitter: f64) -> Duration {
    let last = (shortest / 10).clamp(PAUSE_FIRST, PAUSE_LAST);
    let pause = PAUSE_FIRST.saturating_mul(1 << failures.min(6));
    spread(in_time(pause.min(last), left), jitter)
}

/// Computes how long an answer is worth waiting for when so much time is left.
pub(crate) fn patience(left: Duration) -> Duration {
    (left / 4).clamp(Duration::from_secs(2), Duration::from_secs(15))
}

/// The life of a token that cannot be renewed beyond a certain end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Horizon {
    /// The begin of the token's life.
    pub begin: Moment,
    /// The end of the token's life, whatever is renewed.
    pub end: Moment,
}

impl Horizon {
    /// Returns the time of the warning: after three quarters.
    pub(crate) fn warning(&self) -> Moment {
        self.begin + self.life() * 3 / 4
    }

    /// Returns the time at which the application must know: while there is time for it to end well, and not for all
    /// containers at once.
    pub(crate) fn farewell(&self, jitter: f64) -> Moment {
        self.begin + self.life().mul_f64(0.85 + 0.10 * jitter.clamp(0.0, 1.0))
    }

    fn life(&self) -> Duration {
        self.end.saturating_sub(self.begin)
    }
}

#[cfg(test)]
mod tests;

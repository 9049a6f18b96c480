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
/// The tolerance for an answer that is shorter than what was asked for, since servers count in whole seconds.
const ROUNDING: Duration = Duration::from_secs(1);

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
mod tests {
    use super::*;

    const LIVES: [u64; 12] = [1, 2, 3, 5, 10, 20, 30, 60, 600, 3600, 86_400, 31_536_000];

    /// Draws numbers from 0 to 1 without a pattern that matters (xorshift).
    fn jitters() -> impl Iterator<Item = f64> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let any = std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        });
        [0.0, 1.0].into_iter().chain(any)
    }

    #[test]
    fn renewal_is_never_past_the_end_and_never_at_once() {
        let mut jitters = jitters();
        for n in 0..10_000_u64 {
            let life = Duration::from_secs(LIVES[(n % 12) as usize]);
            let now = Moment::from_millis(n * 77);
            let jitter = jitters.next().expect("endless");
            for is_renewable in [true, false] {
                let term = Term::new(now, life, is_renewable, jitter);
                assert!(term.due < term.end, "{term:?}");
                assert!(term.due >= now + PAUSE_MIN, "{term:?}");
            }
        }
    }

    // t19
    #[test]
    fn fleet_that_starts_together_does_not_renew_together() {
        let life = Duration::from_secs(3600);
        let mut per_minute = [0_u32; 60];
        for jitter in jitters().take(1000) {
            let due = Term::new(Moment::ZERO, life, true, jitter).due;
            per_minute[(due.as_secs() / 60) as usize] += 1;
        }
        let busiest = per_minute.iter().max().expect("sixty");
        // 36 to 43 minutes after the start: some 140 a minute when all are spread evenly.
        assert!(*busiest < 200, "{per_minute:?}");
        assert_eq!(per_minute.iter().filter(|count| **count > 0).count(), 8);
    }

    // f37
    #[test]
    fn lease_with_a_maximum_is_renewed_and_replaced_in_good_time() {
        // 10 s at a time, 30 s in all.
        let maximum = Duration::from_secs(30);
        for jitter in jitters().take(1000) {
            let mut now = Moment::ZERO;
            let mut term = Term::new(now, Duration::from_secs(10), true, jitter);
            let mut renewals = 0;
            while term.step == Step::Renew {
                now = term.due;
                let left =
                    Duration::from_secs((maximum - now).min(Duration::from_secs(10)).as_secs());
                term.note_renewal(now, left, true, jitter);
                renewals += 1;
                assert!(renewals < 10, "{term:?}");
            }
            assert_eq!(term.step, Step::Replace);
            assert!(renewals >= 3, "{renewals}");
            let left = term.end - term.due;
            assert!(left >= Duration::from_millis(1500), "{left:?} {term:?}");
        }
    }

    #[test]
    fn life_with_nearly_nothing_left_is_worn() {
        for (whole, left, is_worn_out) in [
            (3_600_000, 5000, false),
            (3_600_000, 4999, true),
            (3_600_000, 0, true),
            (10_000, 5000, false),
            (8000, 4000, false),
            (8000, 3999, true),
            (1000, 500, false),
            (1000, 499, true),
            (0, 0, true),
        ] {
            let (whole, left) = (Duration::from_millis(whole), Duration::from_millis(left));
            assert_eq!(is_worn(whole, left), is_worn_out, "{left:?} of {whole:?}");
        }
    }

    #[test]
    fn life_cut_short_is_due_in_time_and_retried_by_its_full_span() {
        let (day, hour) = (Duration::from_secs(86_400), Duration::from_secs(3600));
        let now = Moment::from_secs(100);
        for jitter in jitters().take(100) {
            let mut term = Term::cut_short(now, day, hour, jitter);
            assert_eq!((term.end, term.step), (now + hour, Step::Replace));
            let due = (term.due - now).as_secs();
            assert!((2160..=2592).contains(&due), "{term:?}");
            term.retry_later(term.end, jitter);
            assert!(term.due >= term.end + day / 60, "{term:?}");
            assert_eq!(
                Term::cut_short(now, hour, day, jitter),
                Term::new(now, hour, false, jitter)
            );
        }
    }

    #[test]
    fn successor_that_ends_no_later_is_none() {
        let lives = |seconds| Term::new(Moment::ZERO, Duration::from_secs(seconds), false, 0.5);
        for (seconds, is_later) in [(60, false), (61, false), (62, true), (10, false)] {
            assert_eq!(lives(60).is_outlived_by(&lives(seconds)), is_later);
        }
    }

    #[test]
    fn lease_without_renewal_is_replaced_at_two_thirds_of_its_life() {
        for jitter in jitters().take(1000) {
            let term = Term::new(Moment::ZERO, Duration::from_secs(300), false, jitter);
            assert!((180..=216).contains(&term.due.as_secs()), "{term:?}");
        }
    }

    // t19
    #[test]
    fn failures_lead_to_a_limited_number_of_tries() {
        for life in LIVES.map(Duration::from_secs) {
            for jitter in jitters().take(100) {
                let mut term = Term::new(Moment::ZERO, life, false, jitter);
                let mut now = term.due;
                let mut tries = 0;
                let until = now + life.max(Duration::from_secs(30));
                while now < until {
                    term.retry_later(now, jitter);
                    assert!(term.due >= now + PAUSE_MIN / 2, "{term:?}");
                    now = term.due;
                    tries += 1;
                }
                // Each life has a budget: an engine must not be asked for 600 users a minute.
                assert!(tries <= 400, "{tries} tries in {life:?}");
            }
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn life_is_what_vault_says_and_a_century_has_no_end() {
        assert_eq!(life(7), SECOND * 7);
        assert_eq!(life(3_162_240_000), ENDLESS);
        assert_eq!(life(u64::MAX), SECOND * 3_162_240_000);
    }

    #[test]
    fn term_that_has_begun_before_ends_with_what_is_left() {
        let term = Term::begun(SECOND * 100, SECOND * 100, SECOND * 50, 0.0);
        let expected = Term {
            full: SECOND * 100,
            end: SECOND * 150,
            step: Step::Renew,
            due: SECOND * 130,
            failures: 0,
        };
        assert_eq!(term, expected);
        assert_eq!(term.left(SECOND * 110), SECOND * 40);
        assert_eq!(term.left(SECOND * 160), Duration::ZERO);
    }

    #[test]
    fn life_of_seconds_is_renewed_when_half_of_it_is_left() {
        for (life, due) in [(4, 2), (8, 4), (14, 9)] {
            let term = Term::new(Moment::ZERO, SECOND * life, true, 1.0);
            assert_eq!(term.due, SECOND * due, "{life}");
        }
    }

    #[test]
    fn lost_lease_is_replaced_at_once_and_ends_no_later() {
        for (now, end) in [(10, 10), (400, 300)] {
            let mut term = Term::new(Moment::ZERO, SECOND * 300, true, 0.5);
            term.mark_gone(SECOND * now);
            assert_eq!(
                (term.step, term.due, term.end),
                (Step::Replace, SECOND * now, SECOND * end)
            );
        }
    }

    #[test]
    fn pauses_after_failures_double_up_to_a_third_of_a_life() {
        let mut term = Term::new(Moment::ZERO, SECOND * 300, true, 0.5);
        assert!(!term.is_failing());
        // Its end has passed, so that there is nothing left to be in time for.
        let now = SECOND * 400;
        for pause in [10, 20, 40, 80, 100, 100] {
            term.retry_later(now, 0.5);
            assert_eq!(term.due, now + SECOND * pause);
            assert!(term.is_failing());
        }
        term.note_renewal(now, SECOND * 300, true, 0.5);
        assert!(!term.is_failing());
        term.retry_later(now, 0.5);
        assert_eq!(term.due, now + SECOND * 10);
    }

    #[test]
    fn wait_for_an_answer_is_a_quarter_of_the_life_that_is_left() {
        for (left, patience_of_it) in [(0, 2), (4, 2), (40, 10), (100, 15)] {
            assert_eq!(patience(SECOND * left), SECOND * patience_of_it, "{left}");
        }
    }

    // f35
    #[test]
    fn absent_server_is_asked_often_enough_for_the_first_end() {
        let (hour, second) = (Duration::from_secs(3600), SECOND);
        assert_eq!(pause(0, hour, hour, 0.5), PAUSE_FIRST);
        assert_eq!(pause(60, hour, hour, 0.5), PAUSE_LAST);
        assert_eq!(pause(60, hour, second * 16, 0.5), second * 2);
        assert_eq!(pause(60, hour, second / 10, 0.5), PAUSE_MIN);
        assert_eq!(pause(60, hour, Duration::ZERO, 0.5), PAUSE_LAST);
        assert_eq!(pause(60, second * 10, second * 10, 0.5), PAUSE_FIRST);
        let pauses: Vec<_> = jitters()
            .take(100)
            .map(|jitter| pause(9, hour, hour, jitter))
            .collect();
        assert!(pauses.iter().any(|pause| *pause < PAUSE_LAST * 3 / 4));
        assert!(pauses.iter().any(|pause| *pause > PAUSE_LAST * 5 / 4));
    }

    // f38
    #[test]
    fn token_with_a_maximum_has_a_warning_and_a_farewell_first() {
        let horizon = Horizon {
            begin: Moment::from_secs(100),
            end: Moment::from_secs(1100),
        };
        assert_eq!(horizon.warning(), Moment::from_secs(850));
        for jitter in jitters().take(100) {
            let farewell = horizon.farewell(jitter).as_secs();
            assert!((950..=1050).contains(&farewell), "{farewell}");
        }
    }
}

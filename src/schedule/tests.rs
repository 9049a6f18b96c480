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
            let left = Duration::from_secs((maximum - now).min(Duration::from_secs(10)).as_secs());
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

#[test]
fn readings_of_a_fleet_are_spread_within_their_interval() {
    let (now, interval) = (Moment::from_secs(100), Duration::from_secs(300));
    let mut per_second = [0_u32; 31];
    for jitter in jitters().take(1000) {
        let mut term = Term::unending(now, interval);
        term.read_within(now, interval, jitter);
        assert_eq!((term.step, term.end), (Step::ReadAgain, now + ENDLESS));
        let wait = term.due - now;
        assert!((270..=300).contains(&wait.as_secs()), "{term:?}");
        per_second[(wait.as_secs() - 270) as usize] += 1;
    }
    let busiest = per_second.iter().max().expect("some");
    assert!(*busiest < 70, "{per_second:?}");
}

#[test]
fn value_is_read_after_its_exchange_and_again_ever_more_rarely() {
    let (now, day) = (Moment::from_secs(100), Duration::from_secs(86_400));
    for jitter in jitters().take(1000) {
        let mut term = Term::exchange(now, day, jitter);
        let first = term.due - now;
        assert!(
            first >= EXCHANGED && first <= EXCHANGED + PAUSE_MIN,
            "{term:?}"
        );
        for seconds in [1, 1, 1, 1, 1, 1, 5, 10, 20, 40, 80, 80, 80] {
            let asked = term.due;
            term.read_late(asked, jitter);
            let pause = Duration::from_secs(seconds);
            assert!(
                term.due >= asked + pause && term.due <= asked + 2 * pause,
                "{term:?}"
            );
        }
        // `refresh` says more often.
        term.read_within(now, Duration::from_secs(2), jitter);
        assert!(term.due <= now + Duration::from_secs(2), "{term:?}");
    }
    // A value counts as good for as long as the readings in short order take.
    assert!(EXCHANGE > EXCHANGED + PAUSE_MIN + LATE_READINGS * 2 * LATE);
}

#[test]
fn answer_that_names_its_end_is_read_before_after_a_pause() {
    let now = Moment::from_secs(100);
    for (n, jitter) in jitters().take(1000).enumerate() {
        let life = Duration::from_secs(LIVES[n % 12]);
        let term = Term::reading(now, life, jitter);
        assert_eq!(term.step, Step::ReadAgain);
        assert!(
            term.due >= now + PAUSE_MIN && term.due < now + life,
            "{term:?}"
        );
        let over = Term::reading(now, Duration::ZERO, jitter);
        assert_eq!(over.due, now + PAUSE_MIN);
    }
}

#[test]
fn restart_comes_after_the_splay_or_before_the_first_end() {
    let secs = Duration::from_secs;
    let (now, splay, limit) = (secs(100), secs(30), secs(9));
    for (first_end, jitter, due) in [
        (None, 0.0, 100),
        (None, 0.5, 115),
        (None, 1.0, 130),
        (Some(1000), 1.0, 130),
        (Some(139), 1.0, 130),
        (Some(129), 1.0, 120),
        (Some(129), 0.5, 115),
        (Some(109), 1.0, 100),
        (Some(101), 1.0, 100),
        (Some(50), 1.0, 100),
    ] {
        let found = restart(now, splay, limit, first_end.map(secs), jitter);
        assert_eq!(found, secs(due), "{first_end:?} {jitter}");
    }
    assert_eq!(restart(now, Duration::ZERO, limit, None, 1.0), now);
}

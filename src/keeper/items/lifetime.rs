//! The life of an item, by the clocks of this machine and of the server.

use std::time::Duration;

use time::OffsetDateTime;

use crate::certificate::{Clock, Clocks, Issued};
use crate::clock;
use crate::config::{Dependency, Method};
use crate::files::status::{Kept, Unread};
use crate::files::{Lease, Material, OwnEnd};
use crate::schedule::{self, Moment, Step, Term};

/// The life of an item.
#[derive(Default)]
pub(in crate::keeper) struct Lifetime {
    /// The life that the keeper prolongs, replaces or reads again in time. None in a dry run, and for a credential that
    /// neither ends nor is to be read again.
    pub(in crate::keeper) term: Option<Term>,
    /// The end that the answer names itself, where the answer does.
    own_end: Option<Moment>,
    /// The time after this end for which the credential still counts as good.
    grace: Duration,
    /// The time since which the credential could not be read again, unless it could.
    pub(in crate::keeper) unread: Option<Unread>,
    /// Whether the log says already that the item has ended.
    pub(in crate::keeper) is_end_told: bool,
}

impl Lifetime {
    /// The life of something that was asked for at a moment.
    pub(in crate::keeper) fn new(material: &Material<'_>, asked: Moment, times: Times) -> Lifetime {
        let (spec, credential) = match material {
            Material::Certificate { issued, .. } => {
                return Lifetime {
                    term: Some(times.certificate_term(issued)),
                    ..Lifetime::default()
                };
            }
            Material::Credential { spec, credential } => (spec, credential),
        };
        let own_end = credential.end.map(|end| times.end(asked, end));
        let term = match &credential.lease {
            Some(lease) => lease_term(asked, lease, own_end),
            None => term_without_lease(asked, spec, credential.end, own_end),
        };
        Lifetime {
            term,
            own_end,
            grace: match credential.end {
                Some(OwnEnd::Rotation { .. }) => schedule::EXCHANGE,
                _ => Duration::ZERO,
            },
            ..Lifetime::default()
        }
    }

    /// The end, as far as there is one: the term's or the answer's own, whichever comes first.
    pub(in crate::keeper) fn end(&self) -> Option<Moment> {
        let term = self.term.filter(|term| term.step != Step::ReadAgain);
        term.map(|term| term.end)
            .into_iter()
            .chain(self.own_end)
            .min()
    }

    /// The end as it is told: a value that its engine exchanges counts as good until another one must have been read.
    pub(in crate::keeper) fn told_end(&self) -> Option<Moment> {
        self.end().map(|end| end + self.grace)
    }

    /// Returns the time since the answer's own end, where that has passed.
    pub(in crate::keeper) fn overdue(&self, now: Moment) -> Option<Duration> {
        now.checked_sub(self.own_end?)
    }

    /// Whether an answer with this life in the place of the present one would be good for longer, or ends no more.
    pub(in crate::keeper) fn is_outlived_by(&self, next: &Lifetime) -> bool {
        match (self.own_end, next.own_end) {
            (Some(end), Some(next)) => next > end + schedule::ROUNDING,
            _ => true,
        }
    }

    /// The way in which the item is kept.
    pub(in crate::keeper) fn kept(&self) -> Kept {
        match self.term.map(|term| term.step) {
            Some(Step::Renew) => Kept::Renewed,
            Some(Step::Replace) => Kept::Replaced,
            Some(Step::ReadAgain) => Kept::ReadAgain,
            Some(Step::Nothing) | None => Kept::FetchedOnce,
        }
    }
}

/// One moment, by each of the clocks.
#[derive(Clone, Copy)]
pub(in crate::keeper) struct Times {
    now: Moment,
    here: OffsetDateTime,
    /// The seconds by which the server's clock is ahead of this machine's.
    skew: i64,
}

impl Times {
    /// Reads this machine's clocks.
    pub(in crate::keeper) fn now(skew: Option<i64>) -> Times {
        Times {
            now: clock::moment(),
            here: clock::calendar(),
            skew: skew.unwrap_or(0),
        }
    }

    /// The moment of an end that this clock names in seconds of Unix.
    fn moment_of(self, end: i64, clock: Clock) -> Moment {
        let end = i128::from(end.saturating_sub(match clock {
            Clock::Here => 0,
            Clock::Vault => self.skew,
        }));
        let left = end * 1_000_000_000 - self.here.unix_timestamp_nanos();
        let left = Duration::from_nanos(u64::try_from(left.max(0)).unwrap_or(u64::MAX));
        self.now + left.min(schedule::ENDLESS)
    }

    /// The end of a credential that was asked for at a moment and names its end itself.
    fn end(self, asked: Moment, end: OwnEnd) -> Moment {
        match end {
            OwnEnd::In { life, .. } | OwnEnd::Rotation { life, .. } => asked + schedule::life(life),
            OwnEnd::At(end) => {
                let here = self.here.unix_timestamp();
                let clocks = Clocks {
                    here,
                    vault: here.saturating_add(self.skew),
                };
                let clock = clocks.accepting(i64::MIN, end).first().copied();
                self.moment_of(end, clock.unwrap_or(Clock::Vault))
            }
        }
    }

    /// The life of a certificate, counted by the clock that found the certificate valid; it ends with the first CA that the
    /// certificate needs. No renewal prolongs it, so that another one is issued in good time.
    pub(in crate::keeper) fn certificate_term(self, issued: &Issued) -> Term {
        let until = |end| self.moment_of(end, issued.clock) - self.now;
        let life = until(issued.not_after.unix_timestamp());
        Term::cut_short(self.now, life, until(issued.end), clock::jitter())
    }
}

/// The life of a credential with a lease. None where neither the lease ends nor the credential; one that ends before its
/// lease is not renewed.
fn lease_term(asked: Moment, lease: &Lease, end: Option<Moment>) -> Option<Term> {
    let own = end.map(|end| end.saturating_sub(asked));
    let of_lease = Some(lease.duration).filter(|duration| *duration > 0);
    let of_lease = of_lease.map(schedule::life);
    let life = of_lease.into_iter().chain(own).min()?;
    let is_renewable = lease.renewable && of_lease == Some(life);
    Some(Term::new(asked, life, is_renewable, clock::jitter()))
}

/// The life of a credential without a lease: it goes by the credential's own end and by `refresh`, whichever comes first.
/// None where there is neither.
fn term_without_lease(
    asked: Moment,
    spec: &Dependency,
    kind: Option<OwnEnd>,
    end: Option<Moment>,
) -> Option<Term> {
    let jitter = clock::jitter();
    let of_end = kind.zip(end).map(|(kind, end)| {
        let life = end.saturating_sub(asked);
        match (kind, &spec.method) {
            (OwnEnd::Rotation { whole, .. }, _) => {
                Term::exchange(end, schedule::life(whole), jitter)
            }
            (_, Method::Read) => Term::reading(asked, life, jitter),
            (_, Method::Write(_)) => Term::new(asked, life, false, jitter),
        }
    });
    let Some(interval) = spec.refresh else {
        return of_end;
    };
    let mut term = of_end.unwrap_or_else(|| Term::unending(asked, interval));
    term.read_within(asked, interval, jitter);
    Some(term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Credential;

    fn credential(lease: Option<(u64, bool)>, end: Option<OwnEnd>) -> Credential {
        Credential {
            fields: Vec::new(),
            lease: lease.map(|(duration, renewable)| Lease {
                id: "database/creds/x/1".to_owned(),
                duration,
                renewable,
            }),
            end,
        }
    }

    fn dependency() -> Dependency {
        Dependency {
            name: "db".to_owned(),
            path: "database/creds/x".to_owned(),
            method: Method::Read,
            fields: None,
            refresh: None,
            optional_fields: Vec::new(),
            is_optional: false,
            templates: Vec::new(),
            env_prefix: None,
            sample: Vec::new(),
        }
    }

    /// At the moment 1000, which is the time 5000 here.
    fn times(skew: i64) -> Times {
        Times {
            now: Moment::from_secs(1000),
            here: OffsetDateTime::from_unix_timestamp(5000).expect("a time"),
            skew,
        }
    }

    #[test]
    fn credential_ends_with_the_first_of_lease_and_own_end() {
        let asked = Moment::from_secs(990);
        let own = |life| OwnEnd::In { life, whole: 3600 };
        for (lease, end, skew, expected) in [
            (None, None, 0, None),
            (Some((0, true)), None, 0, None),
            (Some((60, true)), None, 0, Some(1050)),
            (Some((60, true)), Some(own(20)), 0, Some(1010)),
            (Some((60, true)), Some(own(90)), 0, Some(1050)),
            (None, Some(own(90)), 0, Some(1080)),
            (
                None,
                Some(OwnEnd::Rotation { life: 5, whole: 60 }),
                0,
                Some(995),
            ),
            (None, Some(OwnEnd::At(5030)), 0, Some(1030)),
            // The server's clock is ahead, then behind; then ahead of the end, which it cannot be.
            (None, Some(OwnEnd::At(5030)), 20, Some(1010)),
            (None, Some(OwnEnd::At(5030)), -20, Some(1030)),
            (None, Some(OwnEnd::At(5030)), 31, Some(1030)),
            // The credential has ended by this machine's clock, but not by the one that made it.
            (None, Some(OwnEnd::At(4000)), -2000, Some(2000)),
            (None, Some(OwnEnd::At(4000)), 0, Some(1000)),
        ] {
            let spec = dependency();
            let credential = credential(lease, end);
            let material = Material::Credential {
                spec: &spec,
                credential,
            };
            let found = Lifetime::new(&material, asked, times(skew)).end();
            assert_eq!(
                found,
                expected.map(Moment::from_secs),
                "{lease:?} {end:?} {skew}"
            );
        }
    }

    #[test]
    fn way_of_keeping_follows_lease_end_and_refresh() {
        use Kept::{FetchedOnce, ReadAgain, Renewed, Replaced};
        let asked = Moment::from_secs(990);
        let own = Some(OwnEnd::In {
            life: 60,
            whole: 60,
        });
        let rotation = Some(OwnEnd::Rotation {
            life: 60,
            whole: 60,
        });
        let write = || Method::Write(Vec::new());
        // The next step is due no earlier and no later than this.
        for (lease, end, method, refresh, kept, due) in [
            (None, None, Method::Read, None, FetchedOnce, None),
            (Some((0, true)), None, Method::Read, None, FetchedOnce, None),
            (
                Some((60, true)),
                None,
                Method::Read,
                None,
                Renewed,
                Some((1026, 1034)),
            ),
            (
                Some((60, false)),
                None,
                Method::Read,
                None,
                Replaced,
                Some((1026, 1034)),
            ),
            (
                Some((0, true)),
                own,
                Method::Read,
                None,
                Replaced,
                Some((1026, 1034)),
            ),
            // The answer's word comes before the manifest's where a lease appears later.
            (
                Some((60, true)),
                None,
                Method::Read,
                Some(5),
                Renewed,
                Some((1026, 1034)),
            ),
            (None, own, write(), None, Replaced, Some((1026, 1034))),
            (None, own, Method::Read, None, ReadAgain, Some((1026, 1034))),
            (
                None,
                own,
                Method::Read,
                Some(5),
                ReadAgain,
                Some((994, 995)),
            ),
            (
                None,
                own,
                Method::Read,
                Some(500),
                ReadAgain,
                Some((1026, 1034)),
            ),
            (
                None,
                rotation,
                Method::Read,
                None,
                ReadAgain,
                Some((1051, 1052)),
            ),
            (
                None,
                rotation,
                Method::Read,
                Some(5),
                ReadAgain,
                Some((994, 995)),
            ),
            (
                None,
                None,
                Method::Read,
                Some(5),
                ReadAgain,
                Some((994, 995)),
            ),
        ] {
            let what = format!("{lease:?} {end:?} {method:?} {refresh:?}");
            let spec = Dependency {
                method,
                refresh: refresh.map(Duration::from_secs),
                ..dependency()
            };
            let credential = credential(lease, end);
            let material = Material::Credential {
                spec: &spec,
                credential,
            };
            let lifetime = Lifetime::new(&material, asked, times(0));
            assert_eq!(lifetime.kept(), kept, "{what}");
            match (lifetime.term, due) {
                (None, None) => {}
                (Some(term), Some((first, last))) => assert!(
                    term.due >= Moment::from_secs(first) && term.due <= Moment::from_secs(last),
                    "{what}: {term:?}"
                ),
                (term, due) => panic!("{what}: {term:?} and not {due:?}"),
            }
            // A reading is no end, and an exchange is told when another value must have been read.
            let grace = if end == rotation { 15 } else { 0 };
            let told = lifetime.end().map(|end| end + Duration::from_secs(grace));
            assert_eq!(lifetime.told_end(), told, "{what}");
            let has_end = end.is_some() || lease.is_some_and(|(duration, _)| duration > 0);
            assert_eq!(lifetime.end().is_some(), has_end, "{what}");
        }
    }

    #[test]
    fn lease_that_outlives_its_answer_is_replaced_and_not_renewed() {
        let asked = Moment::from_secs(990);
        for (renewable, own, step, end) in [
            (true, None, Step::Renew, 1050),
            (true, Some(1050), Step::Renew, 1050),
            (true, Some(1049), Step::Replace, 1049),
            (false, None, Step::Replace, 1050),
            (false, Some(1000), Step::Replace, 1000),
        ] {
            let lease = credential(Some((60, renewable)), None).lease.expect("one");
            let term = lease_term(asked, &lease, own.map(Moment::from_secs)).expect("a term");
            assert_eq!((term.step, term.end), (step, Moment::from_secs(end)));
        }
    }

    #[test]
    fn certificate_ends_with_its_first_ca_by_the_accepting_clock() {
        let time = |seconds| OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
        for (not_after, end, clock, skew, life, left) in [
            (5100, 5100, Clock::Here, 0, 100, 100),
            (5100, 5040, Clock::Here, 0, 100, 40),
            (5100, 5040, Clock::Here, 70, 100, 40),
            (5100, 5100, Clock::Vault, 70, 30, 30),
            // This machine is two hours ahead.
            (-1000, -1100, Clock::Vault, -7200, 1200, 1100),
            (4000, 4000, Clock::Here, 0, 0, 0),
        ] {
            let issued = Issued {
                private_key: crate::secret::Secret::new(Vec::new()),
                chain: Vec::new(),
                trust_anchors: Vec::new(),
                serial_number: String::new(),
                not_after: time(not_after),
                end,
                ends_with: None,
                clock,
                is_leased: false,
            };
            let term = times(skew).certificate_term(&issued);
            assert_eq!(term.full, Duration::from_secs(life), "{not_after} {skew}");
            assert_eq!(
                term.end,
                Moment::from_secs(1000 + left),
                "{not_after} {skew}"
            );
        }
    }
}

//! The life of an item, by the clocks of this machine and of the server.

use std::time::Duration;

use time::OffsetDateTime;

use crate::certificate::{Clock, Clocks, Issued};
use crate::clock;
use crate::files::{Credential, Material, OwnEnd};
use crate::schedule::{self, Moment, Term};

/// The life of an item.
#[derive(Default)]
pub(in crate::keeper) struct Lifetime {
    /// The life that the keeper prolongs or replaces in time: a certificate's, or a lease's. None in a dry run, and for a
    /// credential without a lease.
    pub(in crate::keeper) term: Option<Term>,
    /// The end that the answer names itself, where the answer does.
    own_end: Option<Moment>,
    /// Whether the log says already that the item has ended.
    pub(in crate::keeper) is_end_told: bool,
}

impl Lifetime {
    /// The life of something that was asked for at a moment.
    pub(in crate::keeper) fn new(material: &Material<'_>, asked: Moment, times: Times) -> Lifetime {
        let (term, own_end) = match material {
            Material::Certificate { issued, .. } => (Some(times.certificate_term(issued)), None),
            Material::Credential { credential, .. } => {
                let own_end = credential.end.map(|end| times.end(asked, end));
                (lease_term(asked, credential, own_end), own_end)
            }
        };
        Lifetime {
            term,
            own_end,
            is_end_told: false,
        }
    }

    /// The end, as far as there is one: the term's or the answer's own, whichever comes first.
    pub(in crate::keeper) fn end(&self) -> Option<Moment> {
        self.term
            .map(|term| term.end)
            .into_iter()
            .chain(self.own_end)
            .min()
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

/// The life of a lease. None for a credential without a lease, or with one that does not end; a credential that ends
/// before its lease is not renewed.
fn lease_term(asked: Moment, credential: &Credential, end: Option<Moment>) -> Option<Term> {
    let lease = credential.lease.as_ref()?;
    (lease.duration > 0).then(|| {
        let life = schedule::life(lease.duration);
        let own = end.map_or(life, |end| end.saturating_sub(asked));
        Term::new(
            asked,
            life.min(own),
            lease.renewable && own >= life,
            clock::jitter(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Dependency, Method};
    use crate::files::Lease;
    use crate::schedule::Step;

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
            templates: Vec::new(),
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
    fn lease_that_outlives_its_answer_is_replaced_and_not_renewed() {
        let asked = Moment::from_secs(990);
        for (renewable, own, step, end) in [
            (true, None, Step::Renew, 1050),
            (true, Some(1050), Step::Renew, 1050),
            (true, Some(1049), Step::Replace, 1049),
            (false, None, Step::Replace, 1050),
            (false, Some(1000), Step::Replace, 1000),
        ] {
            let credential = credential(Some((60, renewable)), None);
            let term = lease_term(asked, &credential, own.map(Moment::from_secs)).expect("a term");
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

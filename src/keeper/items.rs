//! The items that the keeper holds, and the life of each.

use std::time::Duration;

use time::OffsetDateTime;

use crate::certificate::{Clock, Clocks, Issued};
use crate::clock;
use crate::config::Config;
use crate::fetch::Fetched;
use crate::files::status::{self, Loss, Status, rfc3339};
use crate::files::{self, Access, Credential, Material, OwnEnd, Rendered};
use crate::random;
use crate::schedule::{self, Horizon, Moment, Term};
use crate::secret::Secret;
use crate::vault::TokenProperties;

/// Everything that the keeper holds: what was fetched, and the token that it was fetched with.
pub(super) struct Items<'a> {
    /// One for each entry of the manifest, in its order; none comes or goes.
    pub(super) all: Vec<Item<'a>>,
    /// The password of the Java stores, where there are any.
    pub(super) store_password: Option<Secret>,
    /// The client token; none in a dry run.
    pub(super) token: Option<Token>,
    /// The time at which the files were rendered.
    pub(super) rendered: OffsetDateTime,
}

/// An entry of the manifest, the material that was fetched for it, and the life of that.
pub(super) struct Item<'a> {
    pub(super) material: Material<'a>,
    pub(super) lifetime: Lifetime,
}

/// The life of an item.
#[derive(Default)]
pub(super) struct Lifetime {
    /// The life that the keeper prolongs or replaces in time: a certificate's, or a lease's. None in a dry run, and for a
    /// credential without a lease.
    pub(super) term: Option<Term>,
    /// The end that the answer names itself, where the answer does.
    own_end: Option<Moment>,
    /// Whether the log says already that the item has ended.
    pub(super) is_end_told: bool,
}

impl Lifetime {
    /// The life of something that was asked for at a moment.
    pub(super) fn new(material: &Material<'_>, asked: Moment, times: Times) -> Lifetime {
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
    pub(super) fn end(&self) -> Option<Moment> {
        self.term
            .map(|term| term.end)
            .into_iter()
            .chain(self.own_end)
            .min()
    }
}

impl Item<'_> {
    /// Whether Vault ends the item together with the token that it was fetched with.
    fn has_end_of_token(&self) -> bool {
        match &self.material {
            Material::Certificate { issued, .. } => issued.is_leased,
            Material::Credential { .. } => self.lifetime.term.is_some(),
        }
    }
}

/// The client token's life.
pub(super) struct Token {
    /// The life of the token, prolonged for as long as that is possible.
    pub(super) term: Term,
    /// The end that no renewal moves, as far as it is known.
    pub(super) horizon: Option<Horizon>,
    /// Whether the horizon is certain, so that nothing moves it.
    pub(super) end_is_certain: bool,
    /// The reason why the token is of no use any more.
    pub(super) lost: Option<Loss>,
}

impl Token {
    /// Makes the token that was looked up at this moment; `lease_duration` is the life, in seconds, that each renewal gives.
    pub(super) fn new(now: Moment, lease_duration: u64, properties: &TokenProperties) -> Token {
        // The token's life began when it was made, not when it was unwrapped.
        let age = properties.creation_ttl.saturating_sub(properties.ttl);
        let horizon = (properties.explicit_max_ttl > 0).then(|| Horizon {
            begin: now,
            end: now + schedule::life(properties.explicit_max_ttl.saturating_sub(age)),
        });
        let left = lease_duration.saturating_sub(age);
        Token {
            term: Term::begun(
                now,
                schedule::life(lease_duration),
                schedule::life(left),
                clock::jitter(),
            ),
            end_is_certain: horizon.is_some(),
            horizon,
            lost: None,
        }
    }
}

impl<'a> Items<'a> {
    /// Brings together what was fetched with this token.
    pub(super) fn fetched(
        config: &Config,
        fetched: Vec<Fetched<'a>>,
        token: Token,
        skew: Option<i64>,
    ) -> Items<'a> {
        let times = Times::now(skew);
        let items = fetched.into_iter().map(|one| Item {
            lifetime: Lifetime::new(&one.material, one.asked, times),
            material: one.material,
        });
        Items::new(config, items.collect(), Some(token))
    }

    /// Brings together what a dry run has invented, and what does not end.
    pub(super) fn invented(config: &Config, materials: Vec<Material<'a>>) -> Items<'a> {
        let items = materials.into_iter().map(|material| Item {
            material,
            lifetime: Lifetime::default(),
        });
        Items::new(config, items.collect(), None)
    }

    fn new(config: &Config, all: Vec<Item<'a>>, token: Option<Token>) -> Items<'a> {
        Items {
            all,
            store_password: config.java.as_ref().map(|_| random::password()),
            token,
            rendered: clock::calendar(),
        }
    }

    /// Renders the files and the variables.
    pub(super) fn render(&self, config: &Config, path: &str) -> Result<Rendered, files::Error> {
        let materials: Vec<_> = self.all.iter().map(|item| &item.material).collect();
        let access = Access {
            secrets_dir: path,
            store_password: self.store_password.as_ref(),
        };
        files::render(config, &materials, &access)
    }

    /// The end of each item that ends by itself and of which the log does not say so yet, unless it ended with the token.
    pub(super) fn ends(&self) -> impl Iterator<Item = (Moment, usize)> {
        let token = self.token.as_ref();
        let is_alone = token.is_none_or(|token| token.lost.is_none());
        let items = self.all.iter().enumerate();
        items
            .filter(move |(_, item)| is_alone || !item.has_end_of_token())
            .filter(|(_, item)| !item.lifetime.is_end_told)
            .filter_map(|(place, item)| Some((item.lifetime.end()?, place)))
    }

    fn terms(&self) -> impl Iterator<Item = &Term> {
        let token = self.token.iter().map(|token| &token.term);
        let others = self
            .all
            .iter()
            .filter_map(|item| item.lifetime.term.as_ref());
        token.chain(others)
    }

    /// The shortest life of all, as it was when it was new.
    pub(super) fn shortest(&self) -> Duration {
        let lives = self.terms().map(|term| term.full);
        lives.min().unwrap_or(Duration::MAX)
    }

    /// The rest of the life that ends next.
    pub(super) fn left_of_next(&self, now: Moment) -> Duration {
        let left = self.terms().map(|term| term.left(now));
        left.filter(|left| !left.is_zero())
            .min()
            .unwrap_or(Duration::ZERO)
    }

    /// The content of `status.json`.
    pub(super) fn status(
        &self,
        config: &Config,
        kept: bool,
        away_since: Option<OffsetDateTime>,
    ) -> Status {
        let (now, here) = (clock::moment(), clock::calendar());
        let at = |moment: Moment| calendar_at(here, now, moment).map(rfc3339);
        let token_end = self.token.as_ref().map(|token| token.term.end);
        let end = |item: &Item<'_>| {
            let with = token_end.filter(|_| item.has_end_of_token());
            item.lifetime
                .end()
                .into_iter()
                .chain(with)
                .min()
                .and_then(at)
        };
        Status {
            app: config.app.clone(),
            environment: config.environment.clone(),
            dry_run: config.vault.is_none(),
            kept,
            rendered: rfc3339(self.rendered),
            written: rfc3339(here),
            vault_away_since: away_since.map(rfc3339),
            unpublished_since: None,
            token: self.token.as_ref().map(|token| status::Token {
                lease_duration: token.term.full.as_secs(),
                expires: at(token.term.end).filter(|_| token.term.full < schedule::ENDLESS),
                expires_at_last: token.horizon.and_then(|horizon| at(horizon.end)),
                lost: token.lost,
            }),
            certificate: self.all.iter().find_map(|item| match &item.material {
                Material::Certificate { spec, issued } => Some(status::Certificate {
                    serial_number: issued.serial_number.clone(),
                    common_name: spec.common_name.clone(),
                    not_after: rfc3339(issued.not_after),
                    expires: end(item).unwrap_or_else(|| rfc3339(issued.not_after)),
                }),
                Material::Credential { .. } => None,
            }),
            dependencies: self
                .all
                .iter()
                .filter_map(|item| match &item.material {
                    Material::Credential { spec, credential } => Some((item, spec, credential)),
                    Material::Certificate { .. } => None,
                })
                .map(|(item, spec, credential)| {
                    let lease = credential.lease.as_ref();
                    let fields = credential.field_names().into_iter();
                    status::Dependency {
                        name: spec.name.clone(),
                        path: spec.path.clone(),
                        fields: fields.map(str::to_owned).collect(),
                        lease_id: lease.map(|lease| lease.id.clone()),
                        lease_duration: lease.map(|lease| lease.duration),
                        renewable: lease.map(|lease| lease.renewable),
                        expires: end(item),
                    }
                })
                .collect(),
        }
    }
}

/// One moment, by each of the clocks.
#[derive(Clone, Copy)]
pub(super) struct Times {
    now: Moment,
    here: OffsetDateTime,
    /// The seconds by which the server's clock is ahead of this machine's.
    skew: i64,
}

impl Times {
    /// Reads this machine's clocks.
    pub(super) fn now(skew: Option<i64>) -> Times {
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
    pub(super) fn certificate_term(self, issued: &Issued) -> Term {
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

/// The date of a moment; none beyond the calendar.
fn calendar_at(here: OffsetDateTime, now: Moment, moment: Moment) -> Option<OffsetDateTime> {
    let ahead = time::Duration::try_from(moment.saturating_sub(now)).ok()?;
    let behind = time::Duration::try_from(now.saturating_sub(moment)).ok()?;
    // Between the two looks at the clocks lie some microseconds, which would make one second less of a whole one.
    let between = time::Duration::milliseconds(1);
    here.checked_add(ahead)?
        .checked_sub(behind)?
        .checked_add(between)
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

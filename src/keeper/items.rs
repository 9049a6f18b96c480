//! The items that the keeper holds, and the token that they were fetched with.

mod lifetime;

use std::time::Duration;

use time::OffsetDateTime;

use crate::clock;
use crate::config::{CertificateName, Config};
use crate::fetch::Fetched;
use crate::files::status::{self, Loss, Status, rfc3339};
use crate::files::{self, Access, Material, Rendered};
use crate::random;
use crate::schedule::{self, Horizon, Moment, Term};
use crate::secret::Secret;
use crate::vault::TokenProperties;

pub(super) use lifetime::{Lifetime, Times};

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

impl Item<'_> {
    /// Whether Vault ends the item together with the token that it was fetched with.
    fn has_end_of_token(&self) -> bool {
        match &self.material {
            Material::Certificate { issued, .. } => issued.is_leased,
            Material::Credential { credential, .. } => credential.lease.is_some(),
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
        self.rendered(config, path, true)
    }

    /// Renders what does not differ from one time to the next while the items stay the same: all but the Java stores.
    pub(super) fn preview(&self, config: &Config, path: &str) -> Result<Rendered, files::Error> {
        self.rendered(config, path, false)
    }

    fn rendered(
        &self,
        config: &Config,
        path: &str,
        has_stores: bool,
    ) -> Result<Rendered, files::Error> {
        let materials: Vec<_> = self.all.iter().map(|item| &item.material).collect();
        let access = Access {
            secrets_dir: path,
            store_password: self.store_password.as_ref(),
            has_stores,
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
            .filter_map(|(place, item)| Some((item.lifetime.told_end()?, place)))
    }

    /// Whether the item of this name changes while the application runs.
    pub(super) fn has_change(&self, name: &str) -> bool {
        let mut items = self.all.iter();
        items.any(|item| {
            item.material.name() == name && item.lifetime.kept() != status::Kept::FetchedOnce
        })
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
                .told_end()
                .into_iter()
                .chain(with)
                .min()
                .and_then(at)
        };
        let (mut certificate, mut certificates) = (None, Vec::new());
        for item in &self.all {
            let Material::Certificate { spec, issued } = &item.material else {
                continue;
            };
            let issued = status::Certificate {
                serial_number: issued.serial_number.clone(),
                common_name: spec.common_name.clone(),
                not_after: rfc3339(issued.not_after),
                expires: end(item).unwrap_or_else(|| rfc3339(issued.not_after)),
                kept: item.lifetime.kept(),
            };
            match &spec.name {
                CertificateName::Main => certificate = Some(issued),
                CertificateName::Further(name) => {
                    let name = name.clone();
                    certificates.push(status::NamedCertificate { name, issued });
                }
            }
        }
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
            certificate,
            certificates,
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
                        kept: item.lifetime.kept(),
                        refresh: spec.refresh.map(|refresh| refresh.as_secs()),
                        unread: item.lifetime.unread.clone(),
                    }
                })
                .collect(),
        }
    }
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

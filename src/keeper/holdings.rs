//! What the keeper holds, and how long each part of it lives.

use std::time::Duration;

use time::OffsetDateTime;

use crate::certificate::Issued;
use crate::clock;
use crate::config::Config;
use crate::files::status::{self, Loss, Status, rfc3339};
use crate::files::{Credential, Material};
use crate::renewal::{self, Horizon, Moment, Term};
use crate::vault::TokenProperties;

/// Everything that was fetched, with its life.
pub(super) struct Holdings {
    /// What the files are made of.
    pub(super) material: Material,
    /// None in a dry run.
    pub(super) token: Option<Token>,
    /// None without a certificate, and in a dry run.
    pub(super) certificate: Option<Term>,
    /// One for each credential; none where it has no lease.
    pub(super) leases: Vec<Option<Term>>,
    /// When the files were rendered.
    pub(super) rendered: OffsetDateTime,
}

/// The client token's life.
pub(super) struct Token {
    /// Renewed for as long as that is possible.
    pub(super) term: Term,
    /// Beyond which it is not, as far as that is known.
    pub(super) horizon: Option<Horizon>,
    /// Nothing moves that end.
    pub(super) end_is_certain: bool,
    /// Why it is of no use any more.
    pub(super) lost: Option<Loss>,
}

impl Token {
    /// A token that was looked up at this moment; `lease_duration` is the life, in seconds, that each renewal gives it.
    pub(super) fn new(now: Moment, lease_duration: u64, properties: &TokenProperties) -> Token {
        // Its life began when it was made, not when it was unwrapped.
        let age = properties.creation_ttl.saturating_sub(properties.ttl);
        let horizon = (properties.explicit_max_ttl > 0).then(|| Horizon {
            begin: now,
            end: now + renewal::life(properties.explicit_max_ttl.saturating_sub(age)),
        });
        let left = lease_duration.saturating_sub(age);
        Token {
            term: Term::begun(
                now,
                renewal::life(lease_duration),
                renewal::life(left),
                clock::chance(),
            ),
            end_is_certain: horizon.is_some(),
            horizon,
            lost: None,
        }
    }
}

impl Holdings {
    /// What was fetched since a moment.
    pub(super) fn new(
        since: Moment,
        material: Material,
        token: Option<Token>,
        skew: Option<i64>,
    ) -> Holdings {
        let is_fetched = token.is_some();
        let certificate = material.certificate.as_ref().filter(|_| is_fetched);
        Holdings {
            token,
            certificate: certificate.map(|issued| certificate_term(clock::moment(), issued, skew)),
            leases: material
                .credentials
                .iter()
                .map(|credential| lease_term(since, credential))
                .collect(),
            rendered: clock::calendar(),
            material,
        }
    }

    fn terms(&self) -> impl Iterator<Item = &Term> {
        let token = self.token.iter().map(|token| &token.term);
        let others = self.leases.iter().chain([&self.certificate]).flatten();
        token.chain(others)
    }

    /// The shortest life of all, as it was when it was new.
    pub(super) fn shortest(&self) -> Duration {
        let lives = self.terms().map(|term| term.full);
        lives.min().unwrap_or(Duration::MAX)
    }

    /// What is left of the life that ends next.
    pub(super) fn left_of_next(&self, now: Moment) -> Duration {
        let left = self.terms().map(|term| term.left(now));
        left.filter(|left| !left.is_zero())
            .min()
            .unwrap_or(Duration::ZERO)
    }

    /// What stands in `status.json`.
    pub(super) fn status(
        &self,
        config: &Config,
        kept: bool,
        away_since: Option<OffsetDateTime>,
    ) -> Status {
        let (now, here) = (clock::moment(), clock::calendar());
        let at = |moment: Moment| calendar_at(here, now, moment).map(rfc3339);
        let token_end = self.token.as_ref().map(|token| token.term.end);
        let issued = self.material.certificate.as_ref();
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
                expires: at(token.term.end).filter(|_| token.term.full < renewal::ENDLESS),
                expires_at_last: token.horizon.and_then(|horizon| at(horizon.end)),
                lost: token.lost,
            }),
            certificate: issued
                .zip(config.certificate.as_ref())
                .map(|(issued, asked)| status::Certificate {
                    serial_number: issued.serial_number.clone(),
                    common_name: asked.common_name.clone(),
                    not_after: rfc3339(issued.not_after),
                    expires: token_end
                        .filter(|_| issued.is_leased)
                        .and_then(|end| calendar_at(here, now, end))
                        .map_or(rfc3339(issued.not_after), |end| {
                            rfc3339(end.min(issued.not_after))
                        }),
                }),
            dependencies: config
                .dependencies
                .iter()
                .zip(self.material.credentials.iter().zip(&self.leases))
                .map(|(dependency, (credential, term))| {
                    let lease = credential.lease.as_ref();
                    status::Dependency {
                        name: dependency.name.clone(),
                        path: dependency.path.clone(),
                        fields: credential
                            .field_names()
                            .into_iter()
                            .map(str::to_owned)
                            .collect(),
                        lease_id: lease.map(|lease| lease.id.clone()),
                        lease_duration: lease.map(|lease| lease.duration),
                        renewable: lease.map(|lease| lease.renewable),
                        // A lease ends with its token.
                        expires: term
                            .map(|term| token_end.map_or(term.end, |end| end.min(term.end)))
                            .and_then(at),
                    }
                })
                .collect(),
        }
    }
}

/// A certificate cannot be renewed; another one is issued in good time.
pub(super) fn certificate_term(now: Moment, issued: &Issued, skew: Option<i64>) -> Term {
    let left = issued.not_after.unix_timestamp() - clock::clocks(skew).vault;
    let left = renewal::life(u64::try_from(left).unwrap_or(0));
    Term::new(now, left, false, clock::chance())
}

/// None for a credential without a lease, or with one that does not end.
pub(super) fn lease_term(now: Moment, credential: &Credential) -> Option<Term> {
    let lease = credential.lease.as_ref()?;
    (lease.duration > 0).then(|| {
        let life = renewal::life(lease.duration);
        Term::new(now, life, lease.renewable, clock::chance())
    })
}

/// None beyond the calendar.
fn calendar_at(here: OffsetDateTime, now: Moment, moment: Moment) -> Option<OffsetDateTime> {
    let ahead = time::Duration::try_from(moment.saturating_sub(now)).ok()?;
    let behind = time::Duration::try_from(now.saturating_sub(moment)).ok()?;
    here.checked_add(ahead)?.checked_sub(behind)
}

//! Credentials and their leases: renewed, replaced near their maximum, and revoked when no reader needs them.

use std::time::Duration;

use super::Renewal;
use super::request::{Trouble, is_at_its_end};
use crate::clock::{jitter, moment};
use crate::config::Dependency;
use crate::files::Material;
use crate::keeper::items::{Lifetime, Times};
use crate::log::{Level, Value};
use crate::schedule::{self, Moment, Step, Term};

/// The pause between tries to revoke a replaced lease.
const REVOKE_AGAIN: Duration = Duration::from_secs(10);

/// A lease whose credential was replaced.
pub(super) struct Retired {
    lease: String,
    pub(super) end: Moment,
    /// True once the generation with the new credential is published.
    is_published: bool,
    /// The moment to revoke the lease; none while readers still find its credential.
    pub(super) due: Option<Moment>,
}

impl Retired {
    /// Has the lease revoked at this moment. Where the new credential could not be published yet, its grace has not begun: a
    /// restart brings the application what is published.
    fn begin_grace(&mut self, due: Moment) {
        if self.is_published {
            self.due.get_or_insert(due);
        }
    }
}

impl<'a> Renewal<'a> {
    pub(super) fn keep_lease(&mut self, place: usize, spec: &'a Dependency, term: Term) {
        if term.step == Step::Renew {
            return self.renew_lease(place, &spec.name, term);
        }
        if self.token_may_end_with(&term) {
            // The token may have a maximum that shows only when the keeper renews it.
            self.renew_token();
        }
        let token = self.items.token.as_ref();
        if token.is_some_and(|token| token.lost.is_some()) {
            return;
        }
        if self.would_outlive(&term) {
            self.replace(place, spec, term);
        } else if let Some(term) = &mut self.items.all[place].lifetime.term {
            term.step = Step::Nothing;
        }
    }

    /// Whether, as far as is known, no new credential would live longer than this one.
    fn token_may_end_with(&self, term: &Term) -> bool {
        self.items.token.as_ref().is_some_and(|token| {
            token.term.step == Step::Renew && token.term.end <= term.end + term.full / 10
        })
    }

    fn renew_lease(&mut self, place: usize, name: &str, term: Term) {
        let Material::Credential { credential, .. } = &self.items.all[place].material else {
            return;
        };
        let Some(lease) = credential.lease.clone() else {
            return;
        };
        let now = moment();
        let renewed = self.ask(term.left(now), |session| {
            session.renew_lease(&lease.id, term.full)
        });
        let lifetime = &mut self.items.all[place].lifetime;
        let Some(term) = lifetime.term.as_mut() else {
            return;
        };
        let fields = [("name", Value::Text(name))];
        match renewed {
            Ok(renewed) => {
                let life = schedule::life(renewed.duration);
                term.note_renewal(now, life, renewed.renewable, jitter());
                lifetime.is_end_told = false;
                self.log
                    .event(Level::Debug, "renewed", "renewed a lease", &fields);
            }
            Err(Trouble::Denied(reason)) => {
                term.schedule_replacement(now, jitter());
                let text = format!(
                    "the lease of {name} cannot be renewed ({reason}); its credential is replaced instead"
                );
                self.log
                    .event(Level::Warn, "lease_not_renewed", &text, &fields);
            }
            Err(Trouble::Refused(reason)) if is_gone(&reason) => {
                term.mark_gone(now);
                let text = format!("the lease of {name} is gone ({reason})");
                self.log.event(Level::Warn, "lease_gone", &text, &fields);
            }
            Err(Trouble::Refused(reason)) if is_at_its_end(&reason) => {
                term.schedule_replacement(now, jitter());
            }
            Err(Trouble::Refused(reason) | Trouble::Failed(reason)) => {
                let first = !term.is_failing();
                term.retry_later(moment(), jitter());
                // Vault may make a credential although it fails to renew one.
                if term.left(moment()) < term.full / 4 {
                    term.schedule_replacement(moment(), jitter());
                }
                let what = format!("the lease of {name}");
                self.report_failure("lease_not_renewed", name, &what, &reason, first);
            }
            // It says nothing of the lease, which is renewed once Vault is heard again.
            Err(Trouble::Unheard(reason)) => {
                let first = !term.is_failing();
                term.retry_later(moment(), jitter());
                let what = format!("the lease of {name}");
                self.report_failure("lease_not_renewed", name, &what, &reason, first);
            }
            // The others come first when it is back, if it was this one that had no answer.
            Err(Trouble::Away(_)) => term.retry_later(moment(), jitter()),
            Err(Trouble::Ending) => return,
        }
        self.status_is_old = true;
    }

    /// Near the end of the token a new credential would live no longer than the old one.
    fn would_outlive(&self, term: &Term) -> bool {
        let token = self.items.token.as_ref();
        let horizon = token
            .filter(|token| token.end_is_certain)
            .and_then(|token| token.horizon);
        horizon.is_none_or(|horizon| horizon.end > term.end + term.full / 10)
    }

    pub(super) fn replace(&mut self, place: usize, spec: &'a Dependency, term: Term) {
        let now = moment();
        let new = match self.fetch_again(place, &term) {
            Ok(new) => new,
            Err(trouble) => {
                let what = format!("the credential of {}", spec.name);
                return self.put_off_replacement(place, &what, &term, trouble);
            }
        };
        if let Material::Credential { credential, .. } = &new
            && credential.lease.is_none()
        {
            let next = Lifetime::new(&new, now, Times::now(self.session.clock_skew()));
            if next.term.is_some_and(|next| !term.is_outlived_by(&next)) {
                let what = format!("the credential of {}", spec.name);
                let reason = "what Vault answers now ends no later".to_owned();
                return self.put_off_replacement(place, &what, &term, Trouble::Failed(reason));
            }
        }
        let old = self.take_material(place, new, now);
        let new = &self.items.all[place].material;
        let (
            Material::Credential {
                credential: old, ..
            },
            Material::Credential {
                credential: new, ..
            },
        ) = (old, new)
        else {
            return;
        };
        if new.fields == old.fields {
            // An engine may give the same answer as before; then there is nothing to publish, and revoking the old lease
            // may take the account away.
            return;
        }
        self.retired.extend(old.lease.map(|lease| Retired {
            lease: lease.id,
            end: term.end,
            is_published: false,
            due: None,
        }));
        self.publish_soon(&spec.name, Some(term.end), now);
    }

    /// Notes that readers find the new credentials of all that was replaced.
    pub(super) fn note_publication(&mut self) {
        for retired in &mut self.retired {
            retired.is_published = true;
        }
    }

    /// Begins the grace of each replaced lease whose new credential is in use now.
    pub(super) fn retire(&mut self, now: Moment) {
        let due = now + self.config.renewal.revoke_after;
        for retired in &mut self.retired {
            retired.begin_grace(due);
        }
    }

    pub(super) fn revoke_retired(&mut self, index: usize) {
        let retired = self.retired.swap_remove(index);
        let now = moment();
        if retired.end <= now {
            return;
        }
        match self.ask(retired.end - now, |session| {
            session.revoke_lease(&retired.lease)
        }) {
            Ok(()) => {
                let fields = [("lease_id", Value::Text(&retired.lease))];
                let text = "revoked a credential that was replaced";
                self.log.event(Level::Debug, "lease_revoked", text, &fields);
            }
            Err(Trouble::Away(_) | Trouble::Unheard(_)) => self.retired.push(Retired {
                due: Some(moment() + REVOKE_AGAIN),
                ..retired
            }),
            Err(Trouble::Denied(reason) | Trouble::Failed(reason)) => {
                self.report_not_revoked(&retired.lease, &reason);
            }
            // The lease has gone by itself, or goes with the token.
            Err(Trouble::Refused(_) | Trouble::Ending) => {}
        }
    }

    fn report_not_revoked(&self, lease: &str, reason: &str) {
        let text = format!("a credential that was replaced lives until its lease ends ({reason})");
        let fields = [("lease_id", Value::Text(lease))];
        self.log
            .event(Level::Info, "lease_not_revoked", &text, &fields);
    }
}

/// Whether a 400, which Vault says for many things, means that there is no such lease.
fn is_gone(reason: &str) -> bool {
    ["lease not found", "invalid lease", "lease expired"]
        .iter()
        .any(|text| reason.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_begins_once_and_not_before_the_publication() {
        let after = |seconds| Moment::ZERO + Duration::from_secs(seconds);
        let mut retired = Retired {
            lease: "database/creds/role/id".to_owned(),
            end: after(60),
            is_published: false,
            due: None,
        };
        retired.begin_grace(after(1));
        assert_eq!(retired.due, None);
        retired.is_published = true;
        retired.begin_grace(after(2));
        retired.begin_grace(after(3));
        assert_eq!(retired.due, Some(after(2)));
    }
}

//! A request to Vault, the meaning of its failure, and the times when Vault does not answer.

use std::time::Duration;

use super::Renewal;
use super::outage::Outage;
use crate::certificate;
use crate::clock::{calendar, jitter, moment};
use crate::dependencies;
use crate::fetch;
use crate::files::status::Loss;
pub(super) use crate::keeper::trouble::Trouble;
use crate::log::{Level, Value};
use crate::schedule;
use crate::vault::{self, Session};

/// The result of a lookup of the token.
pub(super) enum Lookup {
    /// The token is one.
    Lives,
    /// The token is none any more; the log says so, and the keeper asks nothing from now on.
    IsGone,
    /// No word of Vault's came.
    Unknown,
}

/// A request of more than one layer failed.
pub(super) enum Asked {
    Vault(vault::Error),
    /// Vault answered, but the answer is of no use.
    Other(String),
}

impl From<fetch::Error> for Asked {
    fn from(error: fetch::Error) -> Self {
        match error {
            fetch::Error::Certificate(certificate::Error {
                cause: certificate::Cause::Vault(error),
                ..
            })
            | fetch::Error::Dependency(dependencies::Error::Vault { error, .. }) => {
                Asked::Vault(error)
            }
            fetch::Error::Certificate(error) => Asked::Other(error.to_string()),
            fetch::Error::Dependency(error) => Asked::Other(error.to_string()),
        }
    }
}

impl From<vault::Error> for Asked {
    fn from(error: vault::Error) -> Self {
        Asked::Vault(error)
    }
}

impl Renewal<'_> {
    /// Asks Vault once; `left` is the rest of the life of the item that the request is about. After a 403 the keeper looks the
    /// token up, which may be gone.
    pub(super) fn ask<T, E: Into<Asked>>(
        &mut self,
        left: Duration,
        request: impl FnOnce(&Session) -> Result<T, E>,
    ) -> Result<T, Trouble> {
        match self.ask_as_it_is(left, request) {
            Err(Trouble::Denied(reason)) => Err(match self.look_up() {
                Lookup::Lives => Trouble::Denied(reason),
                Lookup::IsGone => Trouble::Ending,
                Lookup::Unknown => Trouble::Away(reason),
            }),
            answered => answered,
        }
    }

    /// Looks whether the token is still one.
    pub(super) fn look_up(&mut self) -> Lookup {
        let token = self.items.token.as_ref();
        let left = token.map_or(Duration::ZERO, |token| token.term.left(moment()));
        match self.ask_as_it_is(left, Session::lookup_self) {
            Ok(_) => Lookup::Lives,
            Err(Trouble::Denied(_)) => {
                // Servers count in whole seconds, and each from a moment of its own.
                self.lose_token(if left < Duration::from_secs(1) {
                    Loss::Expired
                } else {
                    Loss::Revoked
                });
                Lookup::IsGone
            }
            Err(_) => Lookup::Unknown,
        }
    }

    fn ask_as_it_is<T, E: Into<Asked>>(
        &mut self,
        left: Duration,
        request: impl FnOnce(&Session) -> Result<T, E>,
    ) -> Result<T, Trouble> {
        // A request that takes long must not let another item end.
        let left = left.min(self.items.left_of_next(moment()));
        self.session.may_take(schedule::patience(left));
        match request(&self.session).map_err(Into::into) {
            Ok(answer) => {
                self.note_answer();
                Ok(answer)
            }
            Err(Asked::Other(reason)) => {
                self.note_answer();
                Err(Trouble::Failed(reason))
            }
            Err(Asked::Vault(error)) => {
                let trouble = Trouble::from(error);
                match &trouble {
                    Trouble::Away(reason) => self.note_silence(reason),
                    // Neither an outage nor its end.
                    Trouble::Unheard(_) => self.plan_check(),
                    Trouble::Ending => {}
                    // A refusal is an answer.
                    Trouble::Failed(_) | Trouble::Denied(_) | Trouble::Refused(_) => {
                        self.note_answer()
                    }
                }
                Err(trouble)
            }
        }
    }

    /// Notes that Vault has answered, which ends an outage.
    pub(super) fn note_answer(&mut self) {
        self.plan_check();
        if let Some(outage) = self.outage.take() {
            let (seconds, failures) = outage.end(moment());
            let fields = [
                ("seconds", Value::Number(seconds)),
                ("failures", Value::Number(failures.into())),
            ];
            self.log
                .event(Level::Info, "vault_back", "Vault answers again", &fields);
            self.status_is_old = true;
        }
    }

    fn plan_check(&mut self) {
        let interval = self.config.renewal.revocation_check;
        self.check = interval.map(|interval| moment() + interval.mul_f64(0.9 + 0.1 * jitter()));
    }

    /// Notes that Vault did not answer: an outage begins or goes on.
    fn note_silence(&mut self, reason: &str) {
        let now = moment();
        let shortest = self.items.shortest();
        let left = self.items.left_of_next(now);
        if self.outage.is_none() {
            let text = format!(
                "Vault is away ({reason}); the application goes on with what it has, and Vault is asked again from time to time"
            );
            self.log.event(Level::Warn, "vault_away", &text, &[]);
            self.status_is_old = true;
        }
        let outage = self
            .outage
            .get_or_insert_with(|| Outage::begin(now, calendar()));
        outage.add_failure(now, shortest, left, jitter());
    }

    /// Warns of a failure that is tried again, and once only; `name` is the item's in the manifest.
    pub(super) fn report_failure(
        &self,
        event: &str,
        name: &str,
        what: &str,
        reason: &str,
        first: bool,
    ) {
        let level = if first { Level::Warn } else { Level::Debug };
        let text = format!("{what} could not be had anew ({reason}); trying again");
        let fields = [("name", Value::Text(name))];
        self.log.event(level, event, &text, &fields);
    }
}

/// Whether a 400 means that the token or lease lives, but not for longer.
pub(super) fn is_at_its_end(reason: &str) -> bool {
    ["not renewable", "max TTL", "max_ttl"]
        .iter()
        .any(|text| reason.contains(text))
}

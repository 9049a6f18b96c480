//! A request to Vault, what its failure means, and the times when nobody answers.

use std::time::Duration;

use time::OffsetDateTime;

use super::Upkeep;
use crate::keeper::clock::{calendar, chance, moment};
use crate::log::{Level, Value};
use crate::renewal::{self, Moment};
use crate::vault::{self, Session};

/// Vault does not answer.
pub(super) struct Outage {
    since: Moment,
    pub(super) since_calendar: OffsetDateTime,
    failures: u32,
    /// It is left alone for so long.
    pub(super) until: Moment,
}

/// Why a request did not succeed, as far as it matters for what comes next.
pub(super) enum Trouble {
    /// Nobody answered, or somebody who cannot now.
    Away(String),
    /// This request failed; others may succeed.
    Failed(String),
    /// 403: a right is missing, or the token is gone.
    Denied(String),
    /// 400 and 404: what was asked for is not there.
    Refused(String),
    /// Everything is to be given back.
    Ending,
}

/// A request of more than one layer failed.
pub(super) enum Asked {
    Vault(vault::Error),
    /// Vault answered, but not with what can be used.
    Other(String),
}

impl From<vault::Error> for Asked {
    fn from(error: vault::Error) -> Self {
        Asked::Vault(error)
    }
}

impl Upkeep<'_> {
    /// Asks Vault once; `left` is how long what it is about still lives.
    pub(super) fn ask<T, E: Into<Asked>>(
        &mut self,
        left: Duration,
        request: impl FnOnce(&Session) -> Result<T, E>,
    ) -> Result<T, Trouble> {
        self.session.may_take(renewal::patience(left));
        match request(&self.session).map_err(Into::into) {
            Ok(answer) => {
                self.heard();
                Ok(answer)
            }
            Err(Asked::Other(reason)) => {
                self.heard();
                Err(Trouble::Failed(reason))
            }
            Err(Asked::Vault(error)) => {
                let trouble = trouble(error);
                match &trouble {
                    Trouble::Away(reason) => self.away(reason),
                    Trouble::Ending => {}
                    // A refusal is an answer.
                    _ => self.heard(),
                }
                Err(trouble)
            }
        }
    }

    /// Vault has accepted the token.
    pub(super) fn heard(&mut self) {
        self.plan_check();
        if let Some(outage) = self.state.outage.take() {
            let seconds = moment().saturating_sub(outage.since).as_secs();
            let fields = [
                ("seconds", Value::Number(seconds)),
                ("failures", Value::Number(outage.failures.into())),
            ];
            self.log
                .event(Level::Info, "vault_back", "Vault answers again", &fields);
            self.state.status_is_old = true;
        }
    }

    pub(super) fn plan_check(&mut self) {
        let interval = self.config.upkeep.revocation_check;
        self.state.check =
            interval.map(|interval| moment() + interval.mul_f64(0.8 + 0.2 * chance()));
    }

    pub(super) fn away(&mut self, reason: &str) {
        let now = moment();
        let shortest = self.holdings.shortest();
        let left = self.holdings.left_of_next(now);
        if self.state.outage.is_none() {
            let text = format!(
                "Vault is away ({reason}); the application goes on with what it has, and Vault is asked again from time to time"
            );
            self.log.event(Level::Warn, "vault_away", &text, &[]);
            self.state.status_is_old = true;
        }
        let outage = self.state.outage.get_or_insert_with(|| Outage {
            since: now,
            since_calendar: calendar(),
            failures: 0,
            until: now,
        });
        outage.until = now + renewal::pause(outage.failures, shortest, left, chance());
        outage.failures = outage.failures.saturating_add(1);
    }

    pub(super) fn failed(&self, event: &str, what: &str, reason: &str, first: bool) {
        let level = if first { Level::Warn } else { Level::Debug };
        let text = format!("{what} could not be had anew ({reason}); trying again");
        self.log.event(level, event, &text, &[]);
    }
}

fn trouble(error: vault::Error) -> Trouble {
    let text = error.to_string();
    match error {
        vault::Error::Aborted => Trouble::Ending,
        // Vault says why it refuses; whatever stands in its way says so in another form.
        vault::Error::Status {
            status: 400 | 403,
            errors,
            ..
        } if errors.is_empty() => Trouble::Away(text),
        vault::Error::Status {
            status: 404,
            errors,
            ..
        } if errors.is_empty() => Trouble::Failed(text),
        vault::Error::Status { status: 403, .. } => Trouble::Denied(text),
        vault::Error::Status {
            status: 400 | 404, ..
        } => Trouble::Refused(text),
        // A node that has just been unsealed says so too before it knows who leads.
        vault::Error::Unavailable { by_vault: true, .. } if !text.contains("not active") => {
            Trouble::Failed(text)
        }
        vault::Error::Unavailable { .. } | vault::Error::Unknown { .. } => Trouble::Away(text),
        // Somebody else answers in Vault's place, or nobody can be reached safely.
        vault::Error::Tls { .. }
        | vault::Error::Malformed { .. }
        | vault::Error::Redirect { .. }
        | vault::Error::NoDescriptor { .. } => Trouble::Away(text),
        vault::Error::Status { .. } => Trouble::Failed(text),
    }
}

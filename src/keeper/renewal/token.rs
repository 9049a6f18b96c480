//! The client token: renewed while that is possible, looked after, and taken leave of.

use super::Renewal;
use super::request::{Trouble, is_at_its_end};
use crate::clock::{jitter, moment};
use crate::config::OnExpiry;
use crate::files::status::Loss;
use crate::log::{Level, Value};
use crate::schedule::{self, Horizon, Moment, Step};

/// The news of the token's end: which were told, and which are still to be told.
#[derive(Default)]
pub(super) struct TokenEnd {
    /// Whether the log says that the token ends.
    is_warned: bool,
    /// The moment to tell the application, unless the end moves on.
    notice: Option<Moment>,
    /// Whether the application was told.
    is_told: bool,
}

impl TokenEnd {
    /// Whether the log says already that the token ends.
    pub(super) fn is_warned(&self) -> bool {
        self.is_warned
    }

    /// The moment to tell the application.
    pub(super) fn notice(&self) -> Option<Moment> {
        self.notice
    }
}

impl Renewal<'_> {
    pub(super) fn renew_token(&mut self) {
        let Some(term) = self.items.token.as_ref().map(|token| token.term) else {
            return;
        };
        let now = moment();
        let renewed = self.ask(term.left(now), |session| session.renew_self(term.full));
        let Some(token) = &mut self.items.token else {
            return;
        };
        match renewed {
            Ok(seconds) => {
                let life = schedule::life(seconds);
                token.term.note_renewal(now, life, true, jitter());
                let fields = [("ttl_s", Value::Number(seconds))];
                self.log
                    .event(Level::Debug, "renewed", "renewed the client token", &fields);
                match token.term.step {
                    Step::Replace => self.settle_token_end(),
                    _ => self.move_token_end_on(),
                }
            }
            // A token that may not renew itself is as one that cannot be renewed.
            Err(Trouble::Denied(reason)) => self.stop_renewing_token(&reason),
            Err(Trouble::Refused(reason)) if is_at_its_end(&reason) => {
                self.stop_renewing_token(&reason);
            }
            Err(Trouble::Refused(reason) | Trouble::Failed(reason)) => {
                let first = !token.term.is_failing();
                token.term.retry_later(moment(), jitter());
                let what = "the client token";
                self.report_failure("token_not_renewed", "token", what, &reason, first);
                self.expect_token_end();
            }
            // Such a failure says nothing of the token's end.
            Err(Trouble::Unheard(reason)) => {
                let first = !token.term.is_failing();
                token.term.retry_later(moment(), jitter());
                let what = "the client token";
                self.report_failure("token_not_renewed", "token", what, &reason, first);
            }
            Err(Trouble::Away(_) | Trouble::Ending) => return,
        }
        self.status_is_old = true;
    }

    fn stop_renewing_token(&mut self, reason: &str) {
        let text = format!("the client token cannot be renewed ({reason})");
        let fields = [("name", Value::Text("token"))];
        self.log
            .event(Level::Warn, "token_not_renewed", &text, &fields);
        self.settle_token_end();
    }

    /// Settles that no renewal moves the token's present end.
    fn settle_token_end(&mut self) {
        self.expect_token_end();
        let Some(token) = &mut self.items.token else {
            return;
        };
        token.term.step = Step::Nothing;
        token.end_is_certain = true;
        if let Some(horizon) = &mut token.horizon
            && token.term.end < horizon.end
        {
            horizon.end = token.term.end;
            self.plan_notice();
        }
    }

    /// Expects the token's present end, as long as no renewal succeeds.
    fn expect_token_end(&mut self) {
        let token = self.items.token.as_mut();
        let Some(token) = token.filter(|token| token.horizon.is_none()) else {
            return;
        };
        token.horizon = Some(Horizon {
            begin: token.term.end.saturating_sub(token.term.full),
            end: token.term.end,
        });
        self.plan_notice();
    }

    /// Forgets an expected end that a renewal has moved on after all.
    fn move_token_end_on(&mut self) {
        if let Some(token) = &mut self.items.token
            && !token.end_is_certain
            && token.horizon.take().is_some()
        {
            self.token_end = TokenEnd::default();
        }
    }

    /// Gives the token up: the keeper renews nothing any more, and the published files stay.
    pub(super) fn lose_token(&mut self, loss: Loss) {
        let Some(token) = self
            .items
            .token
            .as_mut()
            .filter(|token| token.lost.is_none())
        else {
            return;
        };
        token.lost = Some(loss);
        self.status_is_old = true;
        let (event, text) = match loss {
            Loss::Revoked => (
                "token_revoked",
                "the client token was revoked from outside, and with it every credential",
            ),
            Loss::Expired => (
                "token_expired",
                "the client token's life is over, and with it that of every credential",
            ),
        };
        let fields = [("accessor", Value::Text(self.session.accessor()))];
        self.log.event(Level::Error, event, text, &fields);
        self.tell_of_the_end();
    }

    pub(super) fn warn_of_token_end(&mut self) {
        self.token_end.is_warned = true;
        let horizon = self.items.token.as_ref().and_then(|token| token.horizon);
        let left = horizon.map_or(0, |horizon| horizon.end.saturating_sub(moment()).as_secs());
        let is_certain = self
            .items
            .token
            .as_ref()
            .is_some_and(|token| token.end_is_certain);
        let why = if is_certain {
            "cannot be renewed beyond that"
        } else {
            "could not be renewed so far"
        };
        let text = format!(
            "the client token ends in {left} s and {why}: start this container again before, with a new wrapping token"
        );
        let fields = [("left_s", Value::Number(left))];
        self.log.event(Level::Warn, "token_ends", &text, &fields);
    }

    /// Plans the moment to tell the application of the end of a token whose end is known.
    pub(super) fn plan_notice(&mut self) {
        let token = self.items.token.as_ref();
        let horizon = token.and_then(|token| token.horizon);
        let is_wanted = self.config.renewal.on_expiry != OnExpiry::Ignore;
        let notice = horizon.filter(|_| is_wanted);
        self.token_end.notice = notice.map(|horizon| horizon.farewell(jitter()));
    }

    pub(super) fn tell_of_the_end(&mut self) {
        self.token_end.notice = None;
        if std::mem::replace(&mut self.token_end.is_told, true) {
            return;
        }
        let (text, told) = match self.config.renewal.on_expiry {
            OnExpiry::Ignore => return,
            OnExpiry::Signal(signal) => (
                format!("the token ends: sending {signal} to the application"),
                self.application.signal(signal),
            ),
            OnExpiry::Terminate => (
                "the token ends: ending the application".to_owned(),
                self.application.terminate(),
            ),
        };
        self.log.event(Level::Warn, "on_expiry", &text, &[]);
        if let Err(error) = told {
            self.log
                .event(Level::Warn, "on_expiry_failed", &error.to_string(), &[]);
        }
    }
}

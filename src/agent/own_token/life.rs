//! The life of the agent's own token: the first one, its renewal, and another one when it is lost.

use std::sync::Arc;
use std::time::Duration;

use super::{Error, OwnToken};
use crate::clock::{jitter, moment};
use crate::log::{Level, Value};
use crate::schedule::{Moment, Step, Term, life};

/// How much longer than the token that there is another one must live: an end is known to the second.
const LONGER: Duration = Duration::from_secs(5);
/// How often the agent looks whether its token was revoked.
const LOOK: Duration = Duration::from_secs(30);
/// Between two attempts to have a token again.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LAST: Duration = Duration::from_secs(30);

impl OwnToken {
    /// Gets the first token, however long that takes.
    pub(crate) async fn acquire(&self) -> Term {
        match self.acquire_now().await {
            Ok(term) => term,
            // That Vault is away was said, and says nothing of the token.
            Err(error) if error.is_outage() => self.log_in_at_last(None).await,
            Err(error) => self.reacquire(&error.to_string()).await,
        }
    }

    /// Gets the first token, or says why there is none.
    pub(crate) async fn acquire_now(&self) -> Result<Term, Error> {
        let (session, term) = self.log_in().await?;
        self.install(session, &term);
        Ok(term)
    }

    /// Renews the token for as long as the agent lives, and gets another one when it is lost.
    pub(crate) async fn run(&self, mut term: Term) {
        loop {
            let left = term.due.saturating_sub(moment());
            let pause = match term.step {
                Step::Nothing => LOOK,
                Step::Renew | Step::Replace | Step::ReadAgain => left.min(LOOK),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.doubt.notified() => {}
            }
            if let Err(reason) = self.look_after(&mut term).await {
                term = self.reacquire(&reason).await;
            }
        }
    }

    /// Renews the token when it is due, or looks whether it is still there; an error is its end.
    async fn look_after(&self, term: &mut Term) -> Result<(), String> {
        let now = moment();
        let is_due = now >= term.due;
        let answer = match term.step {
            Step::Renew if is_due => {
                let increment = term.full;
                let renewed = self.ask(move |session| session.renew_self(increment)).await;
                if let Ok(seconds) = renewed {
                    term.note_renewal(moment(), life(seconds), true, jitter());
                    self.state().end = Some(term.end);
                    if term.step == Step::Replace {
                        self.warn_of_the_end(term);
                    }
                }
                renewed.map(drop)
            }
            Step::Replace if is_due => {
                let another = self.log_in().await;
                match another {
                    Ok((session, fresh))
                        if fresh.end > term.end + LONGER || fresh.step == Step::Nothing =>
                    {
                        self.install(session, &fresh);
                        *term = fresh;
                    }
                    // What there is goes on for as long as it lives.
                    Ok((session, _)) => {
                        self.revoke_later(Arc::new(session));
                        term.retry_later(now, jitter());
                    }
                    Err(error) => {
                        let text = format!("there is no other token yet: {error}");
                        self.log.event(Level::Error, "own_token_ends", &text, &[]);
                        term.retry_later(now, jitter());
                    }
                }
                Ok(())
            }
            _ => self.ask(|session| session.lookup_self()).await.map(drop),
        };
        match answer {
            Ok(()) => Ok(()),
            Err(trouble) if trouble.is_denial() => {
                // Denied may be the request alone.
                match self.ask(|session| session.lookup_self()).await {
                    Err(trouble) if trouble.is_denial() => Err(trouble.to_string()),
                    _ => {
                        self.cannot_renew(term, now);
                        Ok(())
                    }
                }
            }
            Err(trouble) => {
                if is_due {
                    if term.step == Step::Renew && !trouble.is_outage() {
                        let text = format!("the agent's own token is not renewed: {trouble}");
                        self.log
                            .event(Level::Error, "own_token_not_renewed", &text, &[]);
                    }
                    term.retry_later(now, jitter());
                }
                if term.step != Step::Nothing && term.left(now).is_zero() {
                    Err(format!("its life is over; {trouble}"))
                } else {
                    Ok(())
                }
            }
        }
    }

    fn cannot_renew(&self, term: &mut Term, now: Moment) {
        if term.step == Step::Renew && now >= term.due {
            let text = "the agent's policy does not let it renew its own token: it needs `update` on auth/token/renew-self";
            self.log
                .event(Level::Error, "own_token_not_renewed", text, &[]);
            term.retry_later(now, jitter());
        }
    }

    fn warn_of_the_end(&self, term: &Term) {
        let left = term.left(moment()).as_secs();
        let text = "the agent's token comes near its maximum; another one is needed before it ends";
        let fields = [("seconds", Value::Number(left))];
        self.log.event(Level::Warn, "own_token_ends", text, &fields);
    }

    /// The token is lost: says so, and tries to have another one until there is one.
    async fn reacquire(&self, reason: &str) -> Term {
        self.discard();
        let text = format!(
            "the agent has no token of its own ({reason}); no token is minted or revoked until it has another one"
        );
        self.log.event(Level::Error, "own_token_lost", &text, &[]);
        self.log_in_at_last(Some(reason.to_owned())).await
    }

    /// Tries to have a token until there is one; `said` is what was said last of why there is none.
    async fn log_in_at_last(&self, mut said: Option<String>) -> Term {
        let mut pause = PAUSE_FIRST;
        loop {
            match self.log_in().await {
                Ok((session, term)) => {
                    self.install(session, &term);
                    if said.is_some() {
                        let text = "the agent has a token again";
                        self.log.event(Level::Info, "own_token_back", text, &[]);
                    }
                    return term;
                }
                // The outage is an event of its own.
                Err(error) if error.is_outage() => {}
                Err(error) => {
                    let error = error.to_string();
                    if said.as_ref() != Some(&error) {
                        self.log.event(Level::Error, "own_token_lost", &error, &[]);
                        said = Some(error);
                    }
                }
            }
            tokio::time::sleep(pause.mul_f64(0.75 + jitter() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }
}

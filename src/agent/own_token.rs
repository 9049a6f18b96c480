//! The agent's own token: where it comes from, how it is renewed, and how loud its loss is.

mod error;
mod life;
mod source;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::configuration::{Configuration, Login};
use super::trouble::{Presence, Trouble, presence};
use crate::clock::moment;
use crate::log::{Level, Log, Value};
use crate::mutex::lock;
use crate::schedule::{Moment, Step, Term};
use crate::vault::{self, Class, Client, Deadline, Limits, Session, TrustError};
use source::{Kept, log_in};

pub(super) use error::Error;

/// Longest wait for one answer of Vault.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The way to Vault, with the agent's own token where it has one.
pub(super) struct OwnToken {
    client: Client,
    login: Login,
    log: Log,
    state: Mutex<State>,
    /// Locked for as long as a login takes.
    kept: Arc<Mutex<Option<Kept>>>,
    /// A request was denied: is the token still there?
    doubt: tokio::sync::Notify,
    /// There is a token, or another one.
    accepted: tokio::sync::Notify,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    /// When it ends; none is never.
    end: Option<Moment>,
    is_away: bool,
}

impl State {
    /// There is no token any more; gives the one that there was, unless it has ended by itself.
    fn take(&mut self) -> Option<Arc<Session>> {
        let is_over = self.end.take().is_some_and(|end| end <= moment());
        self.session.take().filter(|_| !is_over)
    }
}

impl OwnToken {
    /// Reads Vault's CA; nothing is sent yet.
    pub(super) fn new(configuration: &Configuration, log: Log) -> Result<OwnToken, TrustError> {
        let vault = &configuration.vault;
        let mut endpoint = vault.endpoint();
        endpoint.client_timeout = endpoint.client_timeout.min(ANSWER_MAX);
        let limits = Limits {
            deadline: Deadline::at(Instant::now()),
            abort: Vec::new(),
            grace: Duration::ZERO,
            persistent: false,
        };
        Ok(OwnToken {
            client: Client::new(endpoint, vault.roots(), limits, log)?,
            login: configuration.login.clone(),
            log,
            state: Mutex::default(),
            kept: Arc::default(),
            doubt: tokio::sync::Notify::new(),
            accepted: tokio::sync::Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits until there is a token, or another one.
    pub(super) async fn accepted(&self) {
        self.accepted.notified().await;
    }

    /// Seconds that the token still lives, `u64::MAX` when it does not end; none when there is none.
    pub(super) fn remaining(&self) -> Option<u64> {
        let state = self.state();
        state.session.as_ref()?;
        Some(match state.end {
            Some(end) => end.saturating_sub(moment()).as_secs(),
            None => u64::MAX,
        })
    }

    /// Vault did not answer the last time.
    pub(super) fn is_away(&self) -> bool {
        self.state().is_away
    }

    /// Asks Vault for something with the agent's token.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(&Session) -> Result<T, vault::Error> + Send + 'static,
    ) -> Result<T, Trouble> {
        let session = self.state().session.clone().ok_or(Trouble::NoToken)?;
        let answer = tokio::task::spawn_blocking(move || {
            session.may_take(ANSWER_MAX);
            request(&session)
        });
        let answer = answer.await.unwrap_or(Err(vault::Error::Aborted));
        self.note(&answer.as_ref());
        if matches!(&answer, Err(error) if error.class() == Class::Denied) {
            self.doubt.notify_one();
        }
        answer.map_err(Trouble::Vault)
    }

    /// Whether Vault is there: said once when it goes and once when it comes back.
    fn note<T>(&self, answer: &Result<T, &vault::Error>) {
        let away = match answer {
            Ok(_) => None,
            Err(error) => match presence(error) {
                Presence::Away => Some(error),
                Presence::There => None,
                Presence::NotAsked => return,
            },
        };
        let was_away = std::mem::replace(&mut self.state().is_away, away.is_some());
        match away {
            Some(error) if !was_away => {
                let text = error.to_string();
                self.log.event(Level::Warn, "vault_away", &text, &[]);
            }
            None if was_away => {
                let text = "Vault answers again";
                self.log.event(Level::Info, "vault_back", text, &[]);
            }
            _ => {}
        }
    }

    /// From now on Vault is asked with this token.
    fn install(&self, session: Session, term: &Term) {
        let replaced = {
            let mut state = self.state();
            let replaced = state.take();
            state.session = Some(Arc::new(session));
            state.end = (term.step != Step::Nothing).then_some(term.end);
            replaced
        };
        if let Some(replaced) = replaced {
            self.revoke_later(replaced);
        }
        self.accepted.notify_one();
    }

    /// The token is lost.
    fn discard(&self) {
        let lost = self.state().take();
        match lost {
            // Perhaps it was denied the look alone, and would live on unseen; that it is gone is no news.
            Some(lost) if self.login.is_for_the_agent_alone() => {
                tokio::task::spawn_blocking(move || lost.revoke_self(ANSWER_MAX));
            }
            _ => {}
        }
    }

    /// Revokes a token that is not used any more, once no request waits for its answer.
    fn revoke_later(&self, session: Arc<Session>) {
        if !self.login.is_for_the_agent_alone() {
            return;
        }
        let log = self.log;
        tokio::spawn(async move {
            let idle = async {
                while Arc::strong_count(&session) > 1 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let _ = tokio::time::timeout(ANSWER_MAX, idle).await;
            tokio::task::spawn_blocking(move || revoke(&session, ANSWER_MAX, log));
        });
    }

    /// Revokes what the agent got for itself, for at most so long; no task asks Vault for anything afterwards.
    ///
    /// A token that lies in a file stays: the next agent reads it.
    pub(super) async fn shut_down(&self, budget: Duration) {
        if !self.login.is_for_the_agent_alone() {
            return;
        }
        let session = self.state().take();
        let (kept, log) = (Arc::clone(&self.kept), self.log);
        // What is left of it is for saying how it went.
        let until = Instant::now() + budget.mul_f64(0.95);
        let work = tokio::task::spawn_blocking(move || {
            let left = || until.saturating_duration_since(Instant::now());
            if let Some(session) = session {
                revoke(&session, left(), log);
            }
            // A login that is under way comes to its end first.
            let kept = lock(&kept).take();
            if let Some(Kept::Session(session)) = kept {
                revoke(&session, left(), log);
            }
        });
        if tokio::time::timeout(budget, work).await.is_err() {
            let text = "a token of the agent's own may live on until it ends by itself: there was no time to revoke it";
            self.log
                .event(Level::Warn, "own_token_not_revoked", text, &[]);
        }
    }

    /// Gets a token and looks how long it lives.
    async fn log_in(&self) -> Result<(Session, Term), Error> {
        let (client, login, log) = (self.client.clone(), self.login.clone(), self.log);
        let kept = Arc::clone(&self.kept);
        let looked_at = tokio::task::spawn_blocking(move || {
            let mut kept = lock(&kept);
            log_in(client, &login, &mut kept, log)
        });
        let aborted = || Error::Vault(vault::Error::Aborted);
        let term = looked_at.await.unwrap_or_else(|_| Err(aborted()));
        match &term {
            Ok(_) | Err(Error::Unwrap { .. }) => self.note(&Ok::<(), &vault::Error>(())),
            Err(Error::Vault(error)) => self.note(&Err::<(), _>(error)),
            // Whatever answered or did not, it is the token that has to be looked into.
            Err(_) => {}
        }
        // Not handed over by the thread: an agent that ends meanwhile would not know of it.
        let kept = term.as_ref().ok().and_then(|_| lock(&self.kept).take());
        match kept {
            Some(Kept::Session(session)) => Ok((*session, term?)),
            _ => Err(term.err().unwrap_or_else(aborted)),
        }
    }
}

/// Ends a token that the agent needs no more, or says that it lives on.
fn revoke(session: &Session, budget: Duration, log: Log) {
    let Err(error) = session.revoke_self(budget) else {
        return;
    };
    let why = match error.class() {
        Class::Denied => "; its policy needs `update` on auth/token/revoke-self",
        _ => "",
    };
    let text = format!(
        "a token of the agent's own that it needs no more may live on until it ends by itself: {error}{why}"
    );
    let fields = [("accessor", Value::Text(session.accessor()))];
    log.event(Level::Warn, "own_token_not_revoked", &text, &fields);
}

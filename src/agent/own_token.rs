//! The agent's own token: where it comes from, how it is renewed, and how loud its loss is.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::configuration::{Configuration, Login};
use super::lock;
use super::trouble::{Presence, Trouble, presence};
use crate::clock::{jitter, moment};
use crate::log::{Level, Log, Value};
use crate::login::{self, Introduction};
use crate::schedule::{Moment, Step, Term, life};
use crate::secret::Secret;
use crate::secret_file;
use crate::vault::{
    self, AppRole, Class, Client, Deadline, Limits, Session, TokenProperties, TrustError,
};
use crate::wrapping_token::{self, Source, WrappingToken};

/// Longest wait for one answer of Vault.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How much longer than the token that there is another one must live: an end is known to the second.
const LONGER: Duration = Duration::from_secs(5);
/// How often the agent looks whether its token was revoked.
const LOOK: Duration = Duration::from_secs(30);
/// Between two attempts to have a token again.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LAST: Duration = Duration::from_secs(30);

/// There is no token.
#[derive(Debug)]
pub(super) enum Error {
    /// A file cannot be used.
    File {
        /// The thing that should be in the file.
        what: &'static str,
        /// The file's path.
        path: String,
        /// The reason why the file is refused.
        reason: String,
    },
    /// The agent's wrapping token cannot be taken.
    WrappingToken(wrapping_token::Error),
    /// The wrapping token held something else than a token.
    Unwrap {
        /// The thing that was found instead.
        reason: String,
    },
    /// Whether its wrapping token was unwrapped is not known.
    UnwrapUnknown {
        /// The event that stood in place of an answer.
        reason: String,
    },
    /// Vault does not take it.
    Vault(vault::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::File { what, path, reason } => {
                write!(f, "the file {path} with the agent's {what}: {reason}")
            }
            Error::WrappingToken(error) => error.fmt(f),
            Error::Unwrap { reason } => {
                write!(f, "the agent's own wrapping token gave {reason}")
            }
            Error::UnwrapUnknown { reason } => {
                write!(
                    f,
                    "whether the agent's own wrapping token was unwrapped is not known ({reason}): put another one into its file"
                )
            }
            Error::Vault(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Vault could not be asked, so that the token may be as good as ever.
    fn is_outage(&self) -> bool {
        matches!(self, Error::Vault(error) if presence(error) == Presence::Away)
    }
}

impl From<vault::Error> for Error {
    fn from(error: vault::Error) -> Self {
        Error::Vault(error)
    }
}

impl From<login::Error> for Error {
    fn from(error: login::Error) -> Self {
        match error {
            login::Error::NotValid { .. } => Error::Unwrap {
                reason: "nothing: it has expired, or was used already, perhaps by a thief"
                    .to_owned(),
            },
            login::Error::NoToken { found } => Error::Unwrap {
                reason: found.to_owned(),
            },
            login::Error::Unknown { reason, .. } => Error::UnwrapUnknown { reason },
            login::Error::Vault(error) => Error::Vault(error),
        }
    }
}

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

/// A thing that cannot be had a second time, between its coming and its use.
enum Kept {
    /// A wrapping token whose file is gone, and Vault could not be asked about it yet.
    WrappingToken(WrappingToken),
    /// A token that no task works with yet: it may be that Vault could not be asked how long it lives.
    Session(Box<Session>),
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

    /// Gets the first token, however long that takes.
    pub(super) async fn acquire(&self) -> Term {
        match self.acquire_now().await {
            Ok(term) => term,
            // That Vault is away was said, and says nothing of the token.
            Err(error) if error.is_outage() => self.log_in_at_last(None).await,
            Err(error) => self.reacquire(&error.to_string()).await,
        }
    }

    /// Gets the first token, or says why there is none.
    pub(super) async fn acquire_now(&self) -> Result<Term, Error> {
        let (session, term) = self.log_in().await?;
        self.install(session, &term);
        Ok(term)
    }

    /// Renews the token for as long as the agent lives, and gets another one when it is lost.
    pub(super) async fn run(&self, mut term: Term) {
        loop {
            let left = term.due.saturating_sub(moment());
            let pause = match term.step {
                Step::Nothing => LOOK,
                Step::Renew | Step::Replace => left.min(LOOK),
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

impl Login {
    /// Whether only the agent has the token that comes of the login, now and later.
    fn is_for_the_agent_alone(&self) -> bool {
        !matches!(self, Login::File(_))
    }
}

/// Gets a token, or takes the one that was kept, and looks how long it lives; then it is in `kept`.
fn log_in(client: Client, login: &Login, kept: &mut Option<Kept>, log: Log) -> Result<Term, Error> {
    let session = match kept.take() {
        Some(Kept::Session(session)) => *session,
        other => {
            *kept = other;
            session(client, login, kept, log)?
        }
    };
    session.may_take(ANSWER_MAX);
    match session.lookup_self() {
        Ok(properties) => {
            *kept = Some(Kept::Session(Box::new(session)));
            Ok(term(&properties))
        }
        Err(error) => {
            let is_denied = error.class() == Class::Denied;
            if login.is_for_the_agent_alone() {
                if is_denied {
                    // The next look would be denied as well; it may not even be permitted to end.
                    drop(session.revoke_self(ANSWER_MAX));
                } else {
                    *kept = Some(Kept::Session(Box::new(session)));
                }
            }
            // Else the next time there may be another one in the file.
            Err(error.into())
        }
    }
}

fn session(
    client: Client,
    login: &Login,
    kept: &mut Option<Kept>,
    log: Log,
) -> Result<Session, Error> {
    let introduction = match login {
        Login::File(path) => return Ok(Session::with_token(client, read(path, "token")?)),
        Login::WrappingToken(path) => {
            let token = match kept.take() {
                Some(Kept::WrappingToken(token)) => token,
                _ => take(path, log)?,
            };
            client.may_take(ANSWER_MAX);
            // Its file is gone, so that it is kept until Vault answers. It does not come back from its unwrap: with a
            // Vault that goes away between these two requests it is lost, and another one has to be put there.
            match client.lookup(&token) {
                Ok(Some(_)) => Introduction::WrappingToken(token),
                Ok(None) => {
                    let wrapped_accessor = token.wrapped_accessor;
                    return Err(login::Error::NotValid { wrapped_accessor }.into());
                }
                Err(error) => {
                    *kept = Some(Kept::WrappingToken(token));
                    return Err(error.into());
                }
            }
        }
        Login::AppRole {
            mount,
            role_id,
            secret_id,
        } => {
            let secret_id = read(secret_id, "secret id")?;
            client.may_take(ANSWER_MAX);
            Introduction::AppRole(AppRole {
                mount: mount.clone(),
                role_id: role_id.clone(),
                secret_id,
            })
        }
    };
    let (session, _) = login::log_in(client, introduction)?;
    Ok(session)
}

/// Reads the agent's own wrapping token, and removes its file.
fn take(path: &Path, log: Log) -> Result<WrappingToken, Error> {
    let limits = wrapping_token::Limits::until(Instant::now() + ANSWER_MAX);
    let taken = wrapping_token::take(Source::RegularFile(path.to_owned()), &limits, log)
        .map_err(Error::WrappingToken)?;
    if let Some(warning) = taken.warning {
        log.event(Level::Warn, "token_file_kept", &warning, &[]);
    }
    Ok(taken.token)
}

fn term(properties: &TokenProperties) -> Term {
    let now = moment();
    let mut term = Term::begun(
        now,
        life(properties.creation_ttl),
        life(properties.ttl),
        jitter(),
    );
    if properties.ttl == 0 {
        term.step = Step::Nothing;
    } else if !properties.renewable {
        term.schedule_replacement(now, jitter());
    }
    term
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

/// Reads what the file says that it holds, if that file is its owner's alone.
fn read(path: &Path, what: &'static str) -> Result<Secret, Error> {
    let failed = |reason: String| Error::File {
        what,
        path: path.display().to_string(),
        reason,
    };
    match secret_file::read(path) {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => Err(failed("it is not there".to_owned())),
        Err(error) => Err(failed(error.to_string())),
    }
}

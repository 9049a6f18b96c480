//! Where the agent's own token comes from: a file, a wrapping token or AppRole.

use std::path::Path;
use std::time::Instant;

use super::{ANSWER_MAX, Error};
use crate::agent::configuration::Login;
use crate::clock::{jitter, moment};
use crate::log::{Level, Log};
use crate::login::{self, Introduction};
use crate::schedule::{Step, Term, life};
use crate::secret::Secret;
use crate::secret_file;
use crate::vault::{AppRole, Class, Client, Session, TokenProperties};
use crate::wrapping_token::{self, Source, WrappingToken};

/// A thing that cannot be had a second time, between its coming and its use.
pub(super) enum Kept {
    /// A wrapping token whose file is gone, and Vault could not be asked about it yet.
    WrappingToken(WrappingToken),
    /// A token that no task works with yet: it may be that Vault could not be asked how long it lives.
    Session(Box<Session>),
}

impl Login {
    /// Whether only the agent has the token that comes of the login, now and later.
    pub(super) fn is_for_the_agent_alone(&self) -> bool {
        !matches!(self, Login::File(_))
    }
}

/// Gets a token, or takes the one that was kept, and looks how long it lives; then it is in `kept`.
pub(super) fn log_in(
    client: Client,
    login: &Login,
    kept: &mut Option<Kept>,
    log: Log,
) -> Result<Term, Error> {
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

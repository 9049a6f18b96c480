//! The reasons why PID 1 has no application, or no longer.

use std::fmt;

use nix::sys::signal::Signal;

use crate::sum::from;
use crate::system::{self, exec};
use crate::{command, keeper, secrets_dir};

/// A start, or the application of one, was ended.
#[derive(Debug)]
pub enum Error {
    /// A signal ended the start.
    Interrupted { signal: Signal },
    /// The keeper did not end in time by itself.
    Late,
    /// The keeper was killed.
    KeeperKilled { signal: Signal },
    /// The keeper ended without a word.
    KeeperEnded,
    /// The token's life is over, and the application was ended for it.
    Expired,
    /// The keeper ended the start and has said why.
    Told {
        /// The keeper's exit code, which becomes this process's.
        exit_code: u8,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Interrupted { signal } => {
                write!(f, "ended by {signal} before the application was started")
            }
            Error::Late => {
                f.write_str("the deadline has passed, and the keeper did not end by itself")
            }
            Error::KeeperKilled { signal } => {
                write!(f, "the keeper was killed by {signal} before it was ready")
            }
            Error::KeeperEnded => f.write_str("the keeper ended before it was ready"),
            Error::Expired => {
                f.write_str("the application was ended, since the token's life is over")
            }
            Error::Told { .. } => f.write_str("the keeper has said why"),
        }
    }
}

impl std::error::Error for Error {}

/// Every way in which PID 1, or the keeper that it forks, fails.
#[derive(Debug)]
pub enum Failure {
    /// The start was ended.
    Ended(Error),
    System(system::Error),
    /// This process cannot take the rights of the application's user.
    User(system::Error),
    /// The command cannot become the application.
    Command(command::Error),
    /// The secrets directory cannot be used.
    SecretsDir(secrets_dir::Error),
    /// The exec failed.
    Exec(exec::Error),
    /// The keeper failed; this process is the keeper.
    Keeper(keeper::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Ended(error) => error.fmt(f),
            Failure::System(error) | Failure::User(error) => error.fmt(f),
            Failure::Command(error) => error.fmt(f),
            Failure::SecretsDir(error) => error.fmt(f),
            Failure::Exec(error) => error.fmt(f),
            Failure::Keeper(error) => error.fmt(f),
        }
    }
}

from! { Failure:
    Error: Ended, system::Error: System, command::Error: Command, secrets_dir::Error: SecretsDir, exec::Error: Exec,
    keeper::Error: Keeper
}

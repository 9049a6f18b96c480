//! Why the agent does not work: exit codes as `anteroom` has them.

use std::path::PathBuf;
use std::{fmt, io};

use super::directories::Missing;
use super::register;
use crate::log;
use crate::manifest::Mistake;
use crate::system;
use crate::vault::TrustError;

/// The agent ends.
#[derive(Debug)]
pub enum Error {
    /// The configuration cannot be read.
    Unreadable { path: PathBuf, reason: String },
    /// The configuration is wrong.
    Configuration {
        path: PathBuf,
        mistakes: Vec<Mistake>,
    },
    /// Vault's CA cannot be read.
    Trust(TrustError),
    /// Directories of the agent's own are missing and cannot be made.
    Directories(Vec<Missing>),
    /// The register cannot be kept.
    Register(register::Error),
    /// A system call failed.
    System(system::Error),
    /// A socket of the agent's own cannot be opened.
    Listen {
        /// The step, as it stands behind "cannot".
        step: &'static str,
        /// The place, and what is wrong with it.
        reason: io::Error,
    },
    /// The running agent did not do it.
    Control { reason: String },
    /// Not all that was ordered is done.
    NotAll {
        /// How many tokens or blocks are left.
        left: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreadable { path, reason } => {
                write!(f, "cannot read {}: {reason}", path.display())
            }
            Error::Configuration { path, mistakes } => {
                for (n, mistake) in mistakes.iter().enumerate() {
                    let separator = if n == 0 { "" } else { "; " };
                    write!(f, "{separator}{}: {mistake}", path.display())?;
                }
                Ok(())
            }
            Error::Trust(error) => error.fmt(f),
            Error::Directories(missing) => {
                let join = |texts: Vec<String>, between| texts.join(between);
                let reasons = join(missing.iter().map(Missing::reason).collect(), ", ");
                let commands = join(missing.iter().map(Missing::command).collect(), " && ");
                write!(
                    f,
                    "the agent's own directories are missing and it cannot make them: {reasons}; as root: {commands}"
                )
            }
            Error::Register(error) => error.fmt(f),
            Error::System(error) => error.fmt(f),
            Error::Listen { step, reason } => write!(f, "cannot {step}: {reason}"),
            Error::Control { reason } => write!(f, "the running agent: {reason}"),
            Error::NotAll { left } => write!(
                f,
                "not all of it is done: {left} left, which are named above; what could not be revoked is tried again by a running agent, or by the next one"
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<TrustError> for Error {
    fn from(error: TrustError) -> Self {
        Error::Trust(error)
    }
}

impl From<system::Error> for Error {
    fn from(error: system::Error) -> Self {
        Error::System(error)
    }
}

impl From<register::Error> for Error {
    fn from(error: register::Error) -> Self {
        Error::Register(error)
    }
}

impl Error {
    /// The process's exit code (sysexits(3), and those of `anteroom`).
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Unreadable { .. } | Error::Configuration { .. } | Error::Trust(_) => 78,
            Error::Register(_) | Error::Directories(_) => 73,
            Error::System(_) | Error::Listen { .. } => 71,
            Error::Control { .. } | Error::NotAll { .. } => 69,
        }
    }

    /// Says it once; mistakes of the configuration are a line each.
    pub fn report(&self, log: log::Log) {
        let code = [("exit_code", log::Value::Number(self.exit_code().into()))];
        let say = |text: &str| log.event(log::Level::Error, "failed", text, &code);
        match self {
            Error::Configuration { path, mistakes } => {
                for mistake in mistakes {
                    say(&format!("{}: {mistake}", path.display()));
                }
            }
            other => say(&other.to_string()),
        }
    }
}

//! Why the agent has no token of its own.

use std::fmt;

use crate::agent::trouble::{Presence, presence};
use crate::login;
use crate::vault;
use crate::wrapping_token;

#[derive(Debug)]
pub(crate) enum Error {
    /// A file cannot be used.
    File {
        /// The thing that should be in the file: `token` or `secret id`.
        what: &'static str,
        path: String,
        reason: String,
    },
    /// The agent's wrapping token cannot be taken.
    WrappingToken(wrapping_token::Error),
    /// The wrapping token held something else than a token.
    Unwrap {
        /// The thing that was found instead, as it stands behind "gave".
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
    pub(super) fn is_outage(&self) -> bool {
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

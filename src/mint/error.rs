//! Why there is no wrapping token.

use std::fmt;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::sum::from;
use crate::{config, system, vault};

/// There is no wrapping token.
#[derive(Debug)]
pub enum Error {
    /// The command line is wrong; the text says what would be right.
    Usage(String),
    /// The operator gave no token that a new one could be made with.
    Missing,
    /// The operator gave two tokens, and only one can make the new one.
    Ambiguous {
        /// The variable that holds one of them.
        variable: &'static str,
    },
    /// The file with the issuing token cannot be used.
    Source { path: PathBuf, reason: String },
    /// The text that was read is no token; the value itself is never shown.
    Malformed {
        /// The variable or the file's path.
        origin: String,
        reason: &'static str,
    },
    /// Vault did not make a wrapping token.
    Vault(vault::Error),
    /// The token was made, but could not be printed.
    NotPrinted {
        /// The system's reason.
        reason: String,
        /// The accessor by which the client token can be revoked.
        wrapped_accessor: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) => f.write_str(text),
            Error::Missing => f.write_str("there is no issuing token"),
            Error::Ambiguous { variable } => {
                write!(
                    f,
                    "two issuing tokens were given: {variable} and --issuer-token-file"
                )
            }
            Error::Source { path, reason } => write!(
                f,
                "cannot read the issuing token from {}: {reason}",
                path.display()
            ),
            Error::Malformed { origin, reason } => {
                write!(f, "the issuing token in {origin} is malformed: {reason}")
            }
            Error::Vault(error) => error.fmt(f),
            Error::NotPrinted { reason, .. } => {
                write!(
                    f,
                    "the wrapping token was made and cannot be printed: {reason}"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

/// Every way in which a mint fails.
#[derive(Debug)]
pub enum Failure {
    /// The environment is wrong.
    Config(config::Error),
    /// Vault's CA could not be read.
    Trust(vault::TrustError),
    System(system::Error),
    /// A signal ended the mint.
    Interrupted {
        signal: Signal,
    },
    /// There is no wrapping token.
    Mint(Error),
}

from! { Failure:
    config::Error: Config, vault::TrustError: Trust, system::Error: System, Error: Mint
}

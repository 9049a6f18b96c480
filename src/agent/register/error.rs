//! Why the register cannot be kept.

use std::fmt;
use std::path::PathBuf;

#[derive(Debug)]
pub enum Error {
    /// The register's file cannot be read or written.
    File { path: PathBuf, reason: String },
    /// Another agent keeps it.
    Kept { path: PathBuf },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::File { path, reason } => {
                write!(f, "the register {}: {reason}", path.display())
            }
            Error::Kept { path } => {
                write!(f, "another agent keeps the register {}", path.display())
            }
        }
    }
}

impl std::error::Error for Error {}

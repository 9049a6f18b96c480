//! The reasons why the secrets directory cannot be used or written.

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

use super::Lack;

/// Every way in which the directory cannot be used or written.
#[derive(Debug)]
pub enum Error {
    /// The path leads nowhere, to no directory, or to one that is out of reach.
    Unusable {
        path: PathBuf,
        /// The fault of the directory.
        reason: String,
    },
    /// The directory is on a disk.
    NotTmpfs { path: PathBuf },
    /// The directory is mounted read-only.
    ReadOnly { path: PathBuf },
    /// Another start has the directory.
    Kept { path: PathBuf },
    /// A wanted name belongs to something that anteroom did not make.
    Taken { path: PathBuf, name: String },
    /// Nothing can be made in the directory.
    Unwritable {
        path: PathBuf,
        /// The system's complaint.
        reason: String,
        lack: Lack,
    },
    /// A file could not be written.
    Write {
        path: PathBuf,
        /// The system's complaint.
        reason: String,
        lack: Lack,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unusable { path, reason } => {
                write!(
                    f,
                    "the secrets directory {} cannot be used: {reason}",
                    path.display()
                )
            }
            Error::NotTmpfs { path } => {
                write!(
                    f,
                    "the secrets directory {} is not a tmpfs: secrets would reach a disk",
                    path.display()
                )
            }
            Error::ReadOnly { path } => {
                write!(
                    f,
                    "the secrets directory {} cannot be written: {}",
                    path.display(),
                    Errno::EROFS.desc()
                )
            }
            Error::Kept { path } => {
                write!(
                    f,
                    "the secrets directory {} cannot be used: another anteroom keeps its files fresh",
                    path.display()
                )
            }
            Error::Taken { path, name } => {
                write!(
                    f,
                    "in the secrets directory {} the name `{name}` is taken by something else",
                    path.display()
                )
            }
            Error::Unwritable { path, reason, .. } => {
                write!(
                    f,
                    "the secrets directory {} cannot be used: cannot write it: {reason}",
                    path.display()
                )
            }
            Error::Write { path, reason, .. } => {
                write!(f, "cannot write {}: {reason}", path.display())
            }
        }
    }
}

impl std::error::Error for Error {}

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
        /// The directory's path.
        path: PathBuf,
        /// The fault of the directory.
        reason: String,
    },
    /// The directory is on a disk.
    NotTmpfs {
        /// The directory's path.
        path: PathBuf,
    },
    /// The directory is mounted read-only.
    ReadOnly {
        /// The directory's path.
        path: PathBuf,
    },
    /// Another start has the directory.
    Kept {
        /// The directory's path.
        path: PathBuf,
    },
    /// A wanted name belongs to something that anteroom did not make.
    Taken {
        /// The directory's path.
        path: PathBuf,
        /// The name that is taken.
        name: String,
    },
    /// Nothing can be made in the directory.
    Unwritable {
        /// The directory's path.
        path: PathBuf,
        /// The system's complaint.
        reason: String,
        /// The kind of lack.
        lack: Lack,
    },
    /// A file could not be written.
    Write {
        /// The file's path.
        path: PathBuf,
        /// The system's complaint.
        reason: String,
        /// The kind of lack.
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

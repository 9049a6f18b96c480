//! Why a token was not delivered.

use std::fmt;

use nix::errno::Errno;

use crate::agent::process;

pub(super) fn failed(path: &str, errno: Errno) -> Error {
    let path = path.to_owned();
    match errno {
        Errno::ENOSPC | Errno::EDQUOT => Error::Full { path },
        Errno::EROFS => Error::ReadOnly { path },
        Errno::EACCES | Errno::EPERM => Error::Denied {
            path,
            reason: "the agent needs CAP_CHOWN, CAP_FOWNER and CAP_DAC_OVERRIDE",
        },
        Errno::EOVERFLOW => Error::Denied {
            path,
            reason: "the tmpfs belongs to a user namespace in which the agent has no user; such a container can ask through the agent's socket",
        },
        Errno::ENOENT => Error::NoDirectory {
            path,
            reason: "it is not there",
        },
        Errno::ENOTDIR => Error::NoDirectory {
            path,
            reason: "it is something else",
        },
        errno => Error::Failed {
            path,
            reason: errno.desc(),
        },
    }
}

/// Why a token was not delivered; a symbolic link, something in the file's place, a foreign mount or a shared tmpfs may
/// be an attacker's doing.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// No file of a container may have this path.
    UnusablePath {
        /// As it was given: hostile.
        path: String,
        /// The reason why the path is refused.
        reason: &'static str,
    },
    /// The container's process is gone or cannot be looked at.
    Process(process::Error),
    /// A directory on the way is missing.
    NoDirectory {
        /// As far as the way went.
        path: String,
        /// The reason why the path is refused.
        reason: &'static str,
    },
    /// A directory on the way is a symbolic link.
    Symlink {
        /// The link.
        path: String,
    },
    /// The way leads over a mount that is neither the container's root, as the host made it, nor a tmpfs.
    ForeignMount {
        /// As far as the way went.
        path: String,
        /// The type of the file system.
        kind: String,
    },
    /// The file would lie on a disk.
    NotTmpfs {
        /// The file's directory.
        path: String,
        /// The type of its file system.
        kind: String,
    },
    /// The tmpfs is not this container's alone.
    SharedTmpfs {
        /// The file's directory.
        path: String,
    },
    /// The tmpfs is mounted read-only.
    ReadOnly {
        /// The path that cannot be written.
        path: String,
    },
    /// There is no room.
    Full {
        /// The file.
        path: String,
    },
    /// The agent lacks a right.
    Denied {
        /// The path that the agent may not work with.
        path: String,
        /// The right or the user that the agent lacks.
        reason: &'static str,
    },
    /// Something that is no regular file has the file's name.
    Occupied {
        /// The file.
        path: String,
        /// The kind of thing that has the name.
        kind: &'static str,
    },
    /// The container's file system took so long that the token was given up.
    Slow,
    /// The kernel refused for another reason.
    Failed {
        /// Where.
        path: String,
        /// The kernel's reason.
        reason: &'static str,
    },
}

impl Error {
    /// The reason in one word, for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Error::UnusablePath { .. } => "unusable_path",
            Error::Process(error) => error.reason(),
            Error::NoDirectory { .. } => "no_directory",
            Error::Symlink { .. } => "symlink",
            Error::ForeignMount { .. } => "foreign_mount",
            Error::NotTmpfs { .. } => "not_tmpfs",
            Error::SharedTmpfs { .. } => "shared_tmpfs",
            Error::ReadOnly { .. } => "read_only",
            Error::Full { .. } => "full",
            Error::Denied { .. } => "denied",
            Error::Occupied { .. } => "occupied",
            Error::Slow => "slow_file_system",
            Error::Failed { .. } => "failed",
        }
    }
}

impl From<process::Error> for Error {
    fn from(error: process::Error) -> Error {
        Error::Process(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Quoted as Rust does it: a hostile path must not end the line or hide what follows.
            Error::UnusablePath { path, reason } => {
                let start: String = path.chars().take(200).collect();
                write!(f, "the token cannot go to {start:?}: {reason}")
            }
            Error::Process(error) => error.fmt(f),
            Error::Slow => {
                f.write_str("the container's file system did not take the token in time")
            }
            Error::NoDirectory { path, reason } => {
                write!(f, "{path:?} in the container is no directory: {reason}")
            }
            Error::Symlink { path } => write!(
                f,
                "{path:?} in the container is a symbolic link, which is not followed"
            ),
            Error::ForeignMount { path, kind } => write!(
                f,
                "{path:?} in the container is on a mount of type {kind:?}, which is not entered"
            ),
            Error::NotTmpfs { path, kind } => write!(
                f,
                "{path:?} in the container is on {kind:?} and not on a tmpfs: mount one there (--tmpfs)"
            ),
            Error::SharedTmpfs { path } => write!(
                f,
                "{path:?} in the container is on a tmpfs that others see too: mount one of its own there (--tmpfs)"
            ),
            Error::ReadOnly { path } => {
                write!(f, "{path:?} in the container is mounted read-only")
            }
            Error::Full { path } => write!(f, "there is no room for {path:?} in the container"),
            Error::Denied { path, reason } => {
                write!(f, "no right to write {path:?} in the container: {reason}")
            }
            Error::Occupied { path, kind } => write!(
                f,
                "{path:?} in the container is a {kind}, which is left alone"
            ),
            Error::Failed { path, reason } => {
                write!(f, "cannot write {path:?} in the container: {reason}")
            }
        }
    }
}

impl std::error::Error for Error {}

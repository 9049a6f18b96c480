//! Why a process is not the one that was meant.

use std::fmt;

use nix::errno::Errno;

pub(super) fn unreadable(what: &str, errno: Errno) -> Error {
    Error::Unreadable {
        what: what.to_owned(),
        reason: errno.desc().to_owned(),
    }
}

/// Why a process is not the one that was meant, or cannot be looked at.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// The process has ended, whichever other process may have its number now.
    Gone {
        /// The number it had; 0 where it was gone before that was known.
        pid: i32,
    },
    /// The number belongs to a process that is not in this container.
    NotItsContainer {
        /// The number.
        pid: i32,
        /// The container it was said to be in.
        container: String,
    },
    /// Who called on the socket is in no container.
    Outside {
        /// The caller.
        pid: i32,
    },
    /// Who called on the socket lives in a PID namespace that the agent cannot see into.
    OtherNamespace,
    /// The kernel does not say what has to be known.
    Unreadable {
        /// The file or answer that was asked for.
        what: String,
        /// Why there is no answer.
        reason: String,
    },
}

impl Error {
    /// The reason in one word, for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Error::Gone { .. } => "process_gone",
            Error::NotItsContainer { .. } => "not_its_container",
            Error::Outside { .. } => "no_container",
            Error::OtherNamespace => "other_namespace",
            Error::Unreadable { .. } => "unreadable",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Gone { pid: 0 } => write!(f, "the process has ended"),
            Error::Gone { pid } => write!(f, "the process {pid} has ended"),
            Error::NotItsContainer { pid, container } => {
                write!(f, "the process {pid} is not in the container {container}")
            }
            Error::Outside { pid } => write!(f, "the process {pid} is in no container"),
            Error::OtherNamespace => write!(
                f,
                "the caller is in a PID namespace that the agent does not see; run the agent with the host's"
            ),
            Error::Unreadable { what, reason } => write!(f, "cannot read {what}: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

//! The error of a step that the kernel refused.

use std::{fmt, io};

use nix::errno::Errno;

/// A system call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// The step, as it stands behind "cannot".
    pub step: &'static str,
    /// The kernel's reason.
    pub errno: Errno,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.step, self.errno.desc())
    }
}

impl std::error::Error for Error {}

/// Makes the error of this step from the kernel's reason.
pub fn refused<R: Reason>(step: &'static str) -> impl Fn(R) -> Error {
    move |reason| Error {
        step,
        errno: reason.errno(),
    }
}

/// The two forms in which a library hands on the kernel's reason.
pub trait Reason {
    /// Returns the kernel's number of the reason.
    fn errno(&self) -> Errno;
}

impl Reason for Errno {
    fn errno(&self) -> Errno {
        *self
    }
}

impl Reason for io::Error {
    fn errno(&self) -> Errno {
        match self.raw_os_error() {
            Some(number) => Errno::from_raw(number),
            // Errors without a number are made by this crate, about messages between its own processes.
            None => Errno::EBADMSG,
        }
    }
}

//! The reasons why no wrapping token could be taken.

use std::fmt;
use std::time::Duration;

use crate::system;

/// The token could not be taken.
#[derive(Debug)]
pub enum Error {
    /// No source was given.
    Missing,
    /// Two sources were given.
    Ambiguous,
    /// The file or standard input cannot be used.
    Source {
        /// The file's path, or `standard input`.
        origin: String,
        reason: String,
    },
    /// Nothing, or no end, came through the pipe or standard input.
    Silent {
        /// The pipe's path, or `standard input`.
        origin: String,
    },
    /// The token did not come in the time that the caller gave it.
    InVain {
        /// The path.
        origin: String,
        /// The length of the wait.
        waited: Duration,
        /// Whether the deadline cut the wait short.
        is_cut: bool,
        /// The reason why the file that is there, if any, does not count.
        reason: &'static str,
    },
    /// The directory that the token should come to is not there, or cannot be watched.
    Directory {
        /// The path at which the token was expected.
        path: String,
        /// The directory and its mistake.
        reason: String,
    },
    /// The agent answered, and gave no token.
    Refused {
        /// The socket's path.
        origin: String,
        /// The agent's own words.
        reason: String,
    },
    System(system::Error),
    /// The text that was read is no token; the value itself is never shown.
    Malformed {
        /// Bytes read.
        length: usize,
        reason: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Missing => f.write_str("no wrapping token was handed in"),
            Error::Ambiguous => {
                f.write_str("two wrapping tokens were handed in: ANTEROOM_TOKEN and a token file")
            }
            Error::Source { origin, reason } => {
                write!(f, "cannot read the wrapping token from {origin}: {reason}")
            }
            Error::Silent { origin } => write!(
                f,
                "cannot read the wrapping token from {origin}: nothing, or no end, came through it in time"
            ),
            Error::InVain {
                origin,
                waited,
                is_cut,
                reason,
            } => {
                // A reader needs no more than milliseconds.
                let waited = Duration::from_millis(waited.as_millis() as u64).as_secs_f64();
                let cut = if *is_cut {
                    ", which is all that the deadline left"
                } else {
                    ""
                };
                write!(
                    f,
                    "no wrapping token came to {origin} within {waited} s{cut}: {reason}"
                )
            }
            Error::Directory { path, reason } => {
                write!(f, "cannot wait for the wrapping token at {path}: {reason}")
            }
            Error::Refused { origin, reason } => {
                write!(f, "the agent at {origin} gave no wrapping token: {reason}")
            }
            Error::System(error) => error.fmt(f),
            Error::Malformed { length, reason } => {
                write!(
                    f,
                    "the wrapping token ({length} bytes) is malformed: {reason}"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

//! Why Vault did not give what was asked for.

use std::fmt;

/// A request failed.
#[derive(Debug)]
pub enum Error {
    /// No answer, or none that a repeat could not better, until the deadline.
    Unavailable {
        /// Method and path.
        request: String,
        /// What the last try met.
        reason: String,
        /// Vault itself answered that this request failed, so that others may not.
        by_vault: bool,
    },
    /// The server's certificate was refused, or its TLS is none that is spoken here.
    Tls {
        /// Host and port.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server answered with a status that a repeat does not change.
    Status {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// Vault's own words.
        errors: Vec<String>,
        /// The body was Vault's, and not that of something in between.
        by_vault: bool,
        /// The body holds `data` all the same: a deleted version of KV 2.
        has_data: bool,
    },
    /// The server sent the request to a place that it may not go to; nothing was done.
    Redirect {
        /// Method and path.
        request: String,
        /// What is wrong with the place.
        reason: String,
    },
    /// The answer is not one of the API's.
    Malformed {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is not known whether the server did it.
    Unknown {
        /// Method and path.
        request: String,
        /// What happened instead of an answer.
        reason: String,
    },
    /// This side has no descriptor left for a connection.
    NoDescriptor {
        /// What the system said.
        reason: String,
    },
    /// The start was called off.
    Aborted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unavailable {
                request, reason, ..
            } => {
                write!(f, "Vault is not available ({request}): {reason}")
            }
            Error::Tls { server, reason } => {
                write!(f, "no safe connection to {server}: {reason}")
            }
            Error::Status {
                request,
                status,
                errors,
                ..
            } => {
                write!(f, "Vault answered {status} to {request}")?;
                for error in errors {
                    write!(f, ": {error}")?;
                }
                Ok(())
            }
            Error::Redirect { request, reason } => {
                write!(
                    f,
                    "Vault redirected {request} {reason}, and that is not followed"
                )
            }
            Error::Malformed { request, reason } => {
                write!(f, "the answer to {request} is not Vault's: {reason}")
            }
            Error::Unknown { request, reason } => write!(
                f,
                "no answer to {request} ({reason}), so it may have been done"
            ),
            Error::NoDescriptor { reason } => write!(f, "cannot connect to Vault: {reason}"),
            Error::Aborted => f.write_str("called off"),
        }
    }
}

impl std::error::Error for Error {}

//! Why Vault did not give what was asked for.

use std::fmt;

use crate::system;

/// A failure's meaning for a caller, whatever its details are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Vault cannot be asked now, or something else answers in its place: nothing is known, and a later try may succeed.
    Away,
    /// Vault denies it: a right is missing, or the token is none any more.
    Denied,
    /// Vault says that what was asked for is wrong or not there.
    Refused,
    /// Vault fails at this request; others may succeed.
    Failed,
    /// This machine or its configuration prevents it; nothing was sent.
    Local,
    /// The request was called off.
    CalledOff,
}

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
    /// Vault itself refused it, with a status that a repeat does not change.
    Status {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// Vault's own words.
        errors: Vec<String>,
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
    /// The request would cross the network in clear; nothing was sent.
    InClear {
        /// Where it would go.
        reason: String,
    },
    /// This side has no descriptor left for a connection.
    NoDescriptor(system::Error),
    /// The start was called off.
    Aborted,
}

impl Error {
    /// The failure's meaning: the one place that start, keeper and agent go by.
    pub fn class(&self) -> Class {
        match self {
            Error::Status { status: 403, .. } => Class::Denied,
            Error::Status {
                status: 400 | 404, ..
            } => Class::Refused,
            Error::Status { .. } | Error::Unavailable { by_vault: true, .. } => Class::Failed,
            Error::Unavailable { .. }
            | Error::Tls { .. }
            | Error::Redirect { .. }
            | Error::Malformed { .. }
            | Error::Unknown { .. } => Class::Away,
            Error::InClear { .. } | Error::NoDescriptor(_) => Class::Local,
            Error::Aborted => Class::CalledOff,
        }
    }
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
            Error::InClear { reason } => write!(f, "nothing is sent to Vault: {reason}"),
            Error::NoDescriptor(error) => error.fmt(f),
            Error::Aborted => f.write_str("called off"),
        }
    }
}

impl std::error::Error for Error {}

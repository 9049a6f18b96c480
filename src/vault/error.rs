//! The reasons why Vault did not give what was asked for.

use std::fmt;

use crate::system;

/// A failure's meaning: start, keeper and agent decide by it, each of them for every class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Vault cannot be asked now, or something else refuses in its place: nothing is known, and a later try may succeed.
    Away,
    /// The connection is not safe: what answers cannot show that it is Vault.
    Untrusted,
    /// A success came that is not one of Vault's.
    Foreign,
    /// The request was sent to a place that it may not go to.
    Redirected,
    /// Vault denies it: a right is missing, or the token is none any more.
    Denied,
    /// Vault says that the request is wrong, or that its path is not there.
    Refused,
    /// Vault answers with a status that has no meaning for this request, and will again.
    Unexpected,
    /// Vault fails at this request; others may succeed.
    Failed,
    /// The configuration forbids it; nothing was sent.
    Barred,
    /// This machine lacks what a connection needs; nothing was sent.
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
        /// The obstacle of the last try.
        reason: String,
        /// Whether Vault itself answered that this request failed, so that others may not.
        by_vault: bool,
    },
    /// The server's certificate was refused, or its TLS is none that is spoken here.
    Tls {
        /// Host and port.
        server: String,
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
        /// Whether the body holds `data` all the same: a deleted version of KV 2.
        has_data: bool,
    },
    /// The server sent the request to a place that it may not go to; nothing was done.
    Redirect {
        /// Method and path.
        request: String,
        reason: String,
    },
    /// The answer is not one of the API's.
    Malformed {
        /// Method and path.
        request: String,
        reason: String,
    },
    /// No answer says whether the server did the request.
    Unknown {
        /// Method and path.
        request: String,
        /// The event that stood in place of an answer.
        reason: String,
    },
    /// The request would cross the network in clear; nothing was sent.
    InClear {
        /// The address that the request would go to.
        reason: String,
    },
    /// This side has no descriptor left for a connection.
    NoDescriptor(system::Error),
    /// The start was called off.
    Aborted,
}

impl Error {
    /// The failure's meaning.
    pub fn class(&self) -> Class {
        match self {
            Error::Unavailable { by_vault: true, .. } => Class::Failed,
            Error::Unavailable { .. } | Error::Unknown { .. } => Class::Away,
            Error::Tls { .. } => Class::Untrusted,
            Error::Malformed { .. } => Class::Foreign,
            Error::Redirect { .. } => Class::Redirected,
            Error::Status { status, .. } => match status {
                403 => Class::Denied,
                400 | 404 => Class::Refused,
                _ => Class::Unexpected,
            },
            Error::InClear { .. } => Class::Barred,
            Error::NoDescriptor(_) => Class::Local,
            Error::Aborted => Class::CalledOff,
        }
    }

    /// Method and path of a request that Vault itself did not grant.
    pub fn request(&self) -> Option<(&str, &str)> {
        match self {
            Error::Status { request, .. } => request.split_once(' '),
            _ => None,
        }
    }

    /// Whether Vault knows no such path.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Status { status: 404, .. })
    }

    /// Whether Vault knows no such namespace.
    pub fn is_about_the_namespace(&self) -> bool {
        let Error::Status {
            status: 404,
            errors,
            ..
        } = self
        else {
            return false;
        };
        errors
            .iter()
            .any(|error| error.contains("namespace not found"))
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

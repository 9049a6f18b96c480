//! Why a container gets no token.

use std::fmt;

use crate::agent::delivery;
use crate::agent::docker;
use crate::agent::identity::Refusal;
use crate::agent::process;
use crate::agent::register::{self, Selector};
use crate::agent::trouble::Trouble;

/// Why a container gets no token, or not the one that was minted.
#[derive(Debug)]
pub(in crate::agent) enum Error {
    /// Docker does not say what it is.
    NotInspected(docker::Error),
    /// The rules do not let it.
    Refused(Refusal),
    /// An operator said `revoke`, and none has said `allow` since.
    Blocked(Selector),
    /// The container starts too often.
    RateLimited { per_minute: u32 },
    /// The container has a token already.
    HasToken,
    /// The container asked at the socket and its token goes into a file, or the reverse.
    WrongWay,
    /// The container wants its token where no token can be.
    Place(delivery::Error),
    /// The container has ended.
    Process(process::Error),
    /// No token could be minted for as long as it waits.
    Mint(Trouble),
    /// The token that Vault minted has no accessor, so that no operator could revoke it.
    NoAccessor { role: String },
    /// The container ended while its token was on the way.
    Ended,
    /// The register cannot be written: a token that the agent could not revoke later is not handed out.
    Register(register::Error),
    /// The container did not get its token.
    Delivery(delivery::Error),
    /// The container hung up before its answer, or did not read it.
    CallerGone,
}

impl Error {
    /// For machines.
    pub(in crate::agent) fn reason(&self) -> &'static str {
        match self {
            Error::NotInspected(_) => "not_inspected",
            Error::Refused(refusal) => refusal.reason(),
            Error::Blocked(_) => "blocked",
            Error::RateLimited { .. } => "rate_limited",
            Error::HasToken => "has_token",
            Error::WrongWay => "wrong_door",
            Error::Process(error) => error.reason(),
            Error::Mint(trouble) => trouble.reason(),
            Error::NoAccessor { .. } => "no_accessor",
            Error::Ended => "process_gone",
            Error::Register(_) => "register",
            Error::Place(error) | Error::Delivery(error) => error.reason(),
            Error::CallerGone => "caller_gone",
        }
    }

    /// A token had been minted.
    pub(super) fn is_late(&self) -> bool {
        matches!(
            self,
            Error::Register(_) | Error::Delivery(_) | Error::CallerGone | Error::Ended
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotInspected(error) => error.fmt(f),
            Error::Refused(refusal) => refusal.fmt(f),
            Error::Blocked(selector) => write!(
                f,
                "tokens of {selector} were revoked, and no operator has said `anteroom-agent allow` since"
            ),
            Error::RateLimited { per_minute } => {
                write!(f, "it starts more than {per_minute} times in a minute")
            }
            Error::HasToken => f.write_str("it has had its token since it started"),
            Error::WrongWay => f.write_str(
                "its token goes through the other way: `socket` in [[allow]] says which",
            ),
            Error::Place(error) | Error::Delivery(error) => error.fmt(f),
            Error::Process(error) => error.fmt(f),
            Error::Mint(trouble) => trouble.fmt(f),
            Error::NoAccessor { role } => write!(
                f,
                "the token role {role} makes tokens without an accessor, as batch tokens are, which no operator could revoke"
            ),
            Error::Ended => f.write_str("it ended while its token was on the way"),
            Error::Register(error) => error.fmt(f),
            Error::CallerGone => f.write_str("it did not read its answer at the socket"),
        }
    }
}

impl std::error::Error for Error {}

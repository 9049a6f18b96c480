//! Every way in which a start can fail: one variant a stage, and the exit code, the event and the hint of each.

mod hint;

use std::fmt;

use crate::sum::from;
use crate::system::{self, exec};
use crate::vault::Class;
use crate::{
    certificate, command, config, dependencies, files, handover, init, keeper, mint, secrets_dir,
    vault, wrapping_token,
};

/// A start failed.
#[derive(Debug)]
pub enum Error {
    /// The command line is wrong.
    Usage(String),
    /// The configuration is wrong.
    Config(config::Error),
    /// The wrapping token could not be taken.
    Token(wrapping_token::Error),
    /// Vault's CA could not be read.
    Trust(vault::TrustError),
    /// The token is not the promised one, or Vault did not answer.
    HandOver(handover::Error),
    /// The certificate could not be had.
    Certificate(certificate::Error),
    /// A credential could not be had.
    Dependency(dependencies::Error),
    /// Something could not be given its form.
    Files(files::Error),
    /// The secrets directory cannot be used.
    SecretsDir(secrets_dir::Error),
    /// The command cannot become the application.
    Command(command::Error),
    System(system::Error),
    /// This process cannot take the rights of the application's user.
    User(system::Error),
    /// A signal or the keeper ended the start.
    Init(init::Error),
    /// The exec failed.
    Exec(exec::Error),
    /// No wrapping token could be minted.
    Mint(mint::Error),
    /// PID 1 called the start off and says why itself.
    CalledOff,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) => f.write_str(text),
            Error::Config(error) => error.fmt(f),
            Error::Token(error) => error.fmt(f),
            Error::Trust(error) => error.fmt(f),
            Error::HandOver(error) => error.fmt(f),
            Error::Certificate(error) => error.fmt(f),
            Error::Dependency(error) => error.fmt(f),
            Error::Files(error) => error.fmt(f),
            Error::SecretsDir(error) => error.fmt(f),
            Error::Command(error) => error.fmt(f),
            Error::System(error) | Error::User(error) => error.fmt(f),
            Error::Init(error) => error.fmt(f),
            Error::Exec(error) => error.fmt(f),
            Error::Mint(error) => error.fmt(f),
            Error::CalledOff => f.write_str("called off"),
        }
    }
}

impl std::error::Error for Error {}

from! { Error:
    config::Error: Config, wrapping_token::Error: Token, system::Error: System
}

impl From<init::Failure> for Error {
    fn from(failure: init::Failure) -> Self {
        match failure {
            init::Failure::Ended(error) => Error::Init(error),
            init::Failure::System(error) => Error::System(error),
            init::Failure::User(error) => Error::User(error),
            init::Failure::Command(error) => Error::Command(error),
            init::Failure::SecretsDir(error) => Error::SecretsDir(error),
            init::Failure::Exec(error) => Error::Exec(error),
            init::Failure::Keeper(error) => error.into(),
        }
    }
}

impl From<keeper::Error> for Error {
    fn from(error: keeper::Error) -> Self {
        match error {
            keeper::Error::Token(error) => Error::Token(error),
            keeper::Error::Trust(error) => Error::Trust(error),
            keeper::Error::HandOver(error) => Error::HandOver(error),
            keeper::Error::Certificate(error) => Error::Certificate(error),
            keeper::Error::Dependency(error) => Error::Dependency(error),
            keeper::Error::Files(error) => Error::Files(error),
            keeper::Error::SecretsDir(error) => Error::SecretsDir(error),
            keeper::Error::Command(error) => Error::Command(error),
            keeper::Error::System(error) => Error::System(error),
            keeper::Error::CalledOff => Error::CalledOff,
        }
    }
}

impl From<mint::Failure> for Error {
    fn from(failure: mint::Failure) -> Self {
        match failure {
            mint::Failure::Config(error) => Error::Config(error),
            mint::Failure::Trust(error) => Error::Trust(error),
            mint::Failure::System(error) => Error::System(error),
            mint::Failure::Interrupted { signal } => {
                Error::Init(init::Error::Interrupted { signal })
            }
            mint::Failure::Mint(error) => Error::Mint(error),
        }
    }
}

impl Error {
    /// The process's exit code, as the documentation lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::Token(wrapping_token::Error::Ambiguous) => 64,
            Error::Token(wrapping_token::Error::Malformed { .. }) => 65,
            Error::Token(wrapping_token::Error::System(_)) => 71,
            Error::Token(_) => 66,
            Error::Config(_) | Error::Trust(_) => 78,
            Error::HandOver(handover::Error::NotValid { .. }) => 80,
            Error::HandOver(
                handover::Error::NotPromised { .. } | handover::Error::Misspelt { .. },
            ) => 81,
            Error::HandOver(handover::Error::Unknown { .. }) => 82,
            Error::HandOver(handover::Error::Vault(error)) => of_vault(error),
            Error::Certificate(error) => match &error.cause {
                certificate::Cause::Vault(error) => of_vault(error),
                certificate::Cause::Check { .. } => 76,
                certificate::Cause::AnchorFile(_) | certificate::Cause::Ended => 78,
                certificate::Cause::Request { .. } => 70,
            },
            Error::Dependency(dependencies::Error::Vault { error, .. }) => of_vault(error),
            Error::Dependency(_) => 78,
            Error::Files(files::Error::KeyStore { .. }) => 70,
            Error::Files(_) => 78,
            Error::SecretsDir(_) => 73,
            Error::Command(
                command::Error::NotFound { .. } | command::Error::InterpreterNotFound { .. },
            ) => 127,
            Error::Command(
                command::Error::NotExecutable { .. } | command::Error::TooLong { .. },
            ) => 126,
            Error::Command(command::Error::Nul) => 64,
            Error::System(_) | Error::User(_) => 71,
            Error::Init(init::Error::Interrupted { signal }) => 128 + *signal as u8,
            Error::Init(init::Error::Late) => 69,
            Error::Init(init::Error::Told { exit_code }) => *exit_code,
            Error::Init(init::Error::Expired) => 75,
            Error::Init(init::Error::KeeperKilled { .. } | init::Error::KeeperEnded) => 70,
            Error::Exec(error) => error.exit_code(),
            Error::Mint(mint::Error::Usage(_) | mint::Error::Ambiguous { .. }) => 64,
            Error::Mint(mint::Error::Malformed { .. }) => 65,
            Error::Mint(mint::Error::Missing | mint::Error::Source { .. }) => 66,
            Error::Mint(mint::Error::Vault(error)) => of_vault(error),
            Error::Mint(mint::Error::NotPrinted { .. }) => 71,
            Error::CalledOff => 70,
        }
    }

    /// Whether another process, PID 1 or the keeper, says why.
    pub fn is_told(&self) -> bool {
        matches!(
            self,
            Error::CalledOff | Error::Init(init::Error::Told { .. })
        )
    }

    /// The event's name, for machines; the three of the hand-over are security events.
    pub fn event(&self) -> &'static str {
        match self {
            Error::HandOver(handover::Error::NotValid { .. }) => "wrapping_token_not_valid",
            Error::HandOver(
                handover::Error::NotPromised { .. } | handover::Error::Misspelt { .. },
            ) => "wrapping_token_not_promised",
            Error::HandOver(handover::Error::Unknown { .. }) => "unwrap_outcome_unknown",
            _ => "failed",
        }
    }

    /// The accessor, where one is known, by which an operator can revoke a client token that may have been taken.
    pub fn wrapped_accessor(&self) -> Option<&str> {
        match self {
            Error::HandOver(
                handover::Error::NotValid {
                    wrapped_accessor, ..
                }
                | handover::Error::Unknown {
                    wrapped_accessor, ..
                },
            ) => wrapped_accessor.as_deref(),
            Error::Mint(mint::Error::NotPrinted {
                wrapped_accessor, ..
            }) => Some(wrapped_accessor),
            _ => None,
        }
    }
}

fn of_vault(error: &vault::Error) -> u8 {
    match error.class() {
        Class::Away | Class::Failed => 69,
        Class::Untrusted | Class::Foreign | Class::Redirected | Class::Unexpected => 76,
        Class::Denied => 77,
        Class::Refused | Class::Barred => 78,
        Class::Local => 71,
        Class::CalledOff => 70,
    }
}

#[cfg(test)]
mod tests;

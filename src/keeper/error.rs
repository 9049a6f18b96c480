//! The keeper's failures, each of which leaves nothing to publish.

use std::fmt;

use crate::fetch;
use crate::sum::from;
use crate::{
    certificate, command, dependencies, files, handover, secrets_dir, system, vault, wrapping_token,
};

/// The keeper failed, in one of the stages of a start or of the renewal.
#[derive(Debug)]
pub enum Error {
    /// The wrapping token could not be taken.
    Token(wrapping_token::Error),
    /// Vault's CA could not be read.
    Trust(vault::TrustError),
    /// The token is not the promised one, or Vault did not answer.
    HandOver(handover::Error),
    /// The keeper could not get the certificate.
    Certificate(certificate::Error),
    /// The keeper could not get a credential.
    Dependency(dependencies::Error),
    /// The keeper could not render a file or a variable.
    Files(files::Error),
    /// The secrets directory cannot be used.
    SecretsDir(secrets_dir::Error),
    /// The application's variables are too long.
    Command(command::Error),
    System(system::Error),
    /// PID 1 called the start off and says why itself.
    CalledOff,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Token(error) => error.fmt(f),
            Error::Trust(error) => error.fmt(f),
            Error::HandOver(error) => error.fmt(f),
            Error::Certificate(error) => error.fmt(f),
            Error::Dependency(error) => error.fmt(f),
            Error::Files(error) => error.fmt(f),
            Error::SecretsDir(error) => error.fmt(f),
            Error::Command(error) => error.fmt(f),
            Error::System(error) => error.fmt(f),
            Error::CalledOff => f.write_str("called off"),
        }
    }
}

impl std::error::Error for Error {}

from! { Error:
    wrapping_token::Error: Token, vault::TrustError: Trust, handover::Error: HandOver, certificate::Error: Certificate,
    dependencies::Error: Dependency, files::Error: Files, secrets_dir::Error: SecretsDir, command::Error: Command,
    system::Error: System
}

impl From<fetch::Error> for Error {
    fn from(error: fetch::Error) -> Self {
        match error {
            fetch::Error::Certificate(error) => Error::Certificate(error),
            fetch::Error::Dependency(error) => Error::Dependency(error),
        }
    }
}

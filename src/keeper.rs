//! The keeper: the process that talks to Vault and holds every secret.

mod application;
mod error;
mod freshness;
mod hook;
mod items;
mod renewal;
mod start;
mod steps;
pub(crate) mod trouble;
mod warnings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::command::Command;
use crate::config::{Config, Vault, layout};
use crate::link::KeeperEnd;
use crate::log::{Level, Log, Value};
use crate::secrets_dir::SecretsDir;
use crate::system::process::pidfd;
use crate::vault::Session;
use crate::wrapping_token::Source;

pub(crate) use error::Error;

use start::{Ended, Start};
use steps::Steps;
use warnings::{warn_of_reach, warn_of_swap};

/// How long a revocation may take when a start fails, or at the end.
pub(crate) const REVOCATION: Duration = Duration::from_millis(1500);

/// Where the secrets of a start come from.
pub(crate) enum Origin<'a> {
    /// Vault gives them, for this wrapping token.
    Vault(&'a Vault, Source),
    /// The keeper invents them, in a dry run.
    Samples,
}

/// The things that the keeper gets from the process that forks it.
pub(crate) struct Inheritance<'a> {
    /// The plan of the start.
    pub config: &'a Config,
    /// The secrets directory, open, and this start's alone.
    pub directory: SecretsDir,
    /// The connection to PID 1.
    pub link: KeeperEnd,
    /// The process that becomes the application, or PID 1 that starts it.
    pub application: Pid,
    /// The command that tells the application of a new generation, if one is configured.
    pub on_rotate: Option<Command>,
    /// The application's umask.
    pub umask: Mode,
    /// The log of everything that happens.
    pub log: Log,
    /// The moment at which the start began.
    pub began: Instant,
}

/// Fetches, publishes and reports; then keeps everything fresh until the application has ended, and takes it back.
pub(crate) fn run(inheritance: Inheritance<'_>, origin: Origin<'_>) -> Result<(), Error> {
    let Inheritance {
        config,
        mut directory,
        link,
        application,
        on_rotate,
        umask,
        log,
        began,
    } = inheritance;
    // Now, while that process cannot have ended; its number may be another process's once it has.
    let application = (application, pidfd(application).ok().map(Arc::new));
    warn_of_swap(&directory, log);
    let generation = directory.prepare(&layout::visible_names(config))?;
    let groups = layout::groups(config);
    match origin {
        Origin::Vault(..) => directory.try_groups(&generation, &groups)?,
        Origin::Samples => {
            for text in directory.drop_groups(&generation, &groups) {
                log.event(Level::Warn, "notice", &text, &[]);
            }
        }
    }
    warn_of_reach(&directory, config, log);
    let start = Start {
        config,
        directory: &mut directory,
        link,
        application,
        on_rotate: on_rotate.as_ref(),
        umask,
        steps: Steps::new(began),
        log,
        deadline: began + config.deadline,
    };
    // From here on, whatever fails has to take back what lies in the directory.
    let done = match origin {
        Origin::Vault(vault, source) => start.with_vault(vault, source, generation),
        Origin::Samples => start.without_vault(generation),
    };
    match done {
        Ok(Ended::BeforeTheApplication) => Ok(()),
        Ok(Ended::AfterTheApplication) => {
            directory.withdraw();
            Ok(())
        }
        Err(error) => {
            directory.withdraw();
            Err(error)
        }
    }
}

/// Revokes the token and with it all its leases.
fn revoke(session: &Session, log: Log) {
    let accessor = [("accessor", Value::Text(session.accessor()))];
    match session.revoke_self(REVOCATION) {
        Ok(()) => {
            let text = "revoked the client token";
            log.event(Level::Info, "revoked", text, &accessor);
        }
        Err(error) => {
            let text = format!(
                "cannot revoke the client token ({error}); revoke its accessor {}",
                session.accessor()
            );
            log.event(Level::Warn, "not_revoked", &text, &accessor);
        }
    }
}

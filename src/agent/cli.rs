//! The command line of `anteroom-agent`, and the work that it asks for.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Agent;
use super::break_glass::{self, Order};
use super::configuration::{self, Configuration};
use super::directories;
use super::error::Error;
use super::register::Selector;
use super::runtime::runtime;
use crate::cli::Logging;
use crate::environment::{Environment, TOKEN_VARIABLES};
use crate::log::Log;
use crate::system::{exec, refused};
use crate::text_file::{CONFIGURATION_MAX, read_text};

/// How the agent is called.
#[derive(Debug, Parser)]
#[command(
    name = "anteroom-agent",
    version,
    about = "Hands each container its wrapping token when it starts, and takes it back when it dies",
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Where everything is, and who may have what
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "ANTEROOM_AGENT_CONFIG",
        hide_env_values = true,
        default_value = "/etc/anteroom-agent.toml"
    )]
    pub config: PathBuf,

    /// The lines that are logged meanwhile
    #[command(flatten)]
    pub logging: Logging,

    /// Something else than the daemon
    #[command(subcommand)]
    pub task: Option<Task>,
}

/// A task that is done instead of running.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Is the configuration sound? Asks neither Docker nor Vault
    Check,
    /// Revokes every token of those that are named, and mints no more for them
    Revoke(Revocation),
    /// Mints again for those that are named
    Allow(Who),
}

/// The tokens that are to be revoked.
#[derive(Debug, Args)]
pub struct Revocation {
    /// Whose tokens
    #[command(flatten)]
    pub who: Who,
    /// Take what this Vault does not know off the register, once you know why that is so
    #[arg(long)]
    pub forget_unknown: bool,
}

/// Whose tokens; at least one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Who {
    /// Of this service
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// In this environment
    #[arg(long, value_name = "NAME")]
    pub environment: Option<String>,
    /// Of this container: its id, or at least 12 digits of it
    #[arg(long, value_name = "ID", value_parser = container)]
    pub container: Option<String>,
    /// Of every service
    #[arg(long, conflicts_with_all = ["app", "environment", "container"])]
    pub all: bool,
}

fn container(text: &str) -> Result<String, String> {
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if (12..=64).contains(&text.len()) && text.chars().all(is_hex) {
        Ok(text.to_owned())
    } else {
        Err("a container's id has 12 to 64 hexadecimal digits".to_owned())
    }
}

impl From<Who> for Selector {
    fn from(who: Who) -> Selector {
        Selector {
            app: who.app,
            environment: who.environment,
            container: who.container,
        }
    }
}

/// Does what was typed.
pub fn run(cli: Cli, log: Log) -> Result<(), Error> {
    // Before a token is read.
    exec::make_non_dumpable()?;
    let configuration = read(&cli.config)?;
    let order = match cli.task {
        None => {
            // Callers, connections and the first processes of containers each need some.
            if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
                let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
            }
            directories::make(&configuration).map_err(Error::Directories)?;
            let agent = Agent::new(configuration, log)?;
            let runtime = runtime()?;
            let ended = runtime.block_on(agent.run());
            // The agent's end does not wait for a file system that hangs.
            runtime.shutdown_background();
            return ended;
        }
        Some(Task::Check) => {
            let kinds = match configuration.rules.len() {
                1 => "1 kind of container".to_owned(),
                number => format!("{number} kinds of containers"),
            };
            let text = format!(
                "{} is sound: {kinds} may have a token",
                cli.config.display(),
            );
            print(&text).map_err(refused("write to standard output"))?;
            return Ok(());
        }
        Some(Task::Revoke(revocation)) => Order::Revoke {
            selector: revocation.who.into(),
            forget_unknown: revocation.forget_unknown,
        },
        Some(Task::Allow(who)) => Order::Allow(who.into()),
    };
    break_glass::run(configuration, order, log, print)
}

fn print(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}

fn read(path: &Path) -> Result<Configuration, Error> {
    let text = read_text(path, CONFIGURATION_MAX).map_err(|error| Error::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let environment = Environment::new(std::env::vars_os());
    // The agent's own token comes in a file: one in a variable is a mistake, and is not to stay for it.
    exec::wipe_variables(&TOKEN_VARIABLES);
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    configuration::read(&text, &environment, hostname.trim()).map_err(|mistakes| {
        Error::Configuration {
            path: path.to_owned(),
            mistakes,
        }
    })
}

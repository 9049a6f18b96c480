//! What was typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::log;

/// The command line and those variables that stand for a flag; a flag wins over its variable.
#[derive(Debug, Parser)]
#[command(
    name = "anteroom",
    version,
    about = "Fetches a service's secrets with a one-use wrapping token, then becomes the service",
    override_usage = "anteroom [OPTIONS] -- COMMAND [ARGS...]\n       anteroom --dry-run [-- COMMAND [ARGS...]]\n       anteroom check",
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = false
)]
pub struct Cli {
    /// What the image says it needs
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "ANTEROOM_MANIFEST",
        hide_env_values = true,
        default_value = "/etc/anteroom.toml"
    )]
    pub manifest: PathBuf,

    /// File with the wrapping token, read once and removed; - is standard input
    #[arg(
        long,
        value_name = "PATH",
        env = "ANTEROOM_TOKEN_FILE",
        hide_env_values = true
    )]
    pub token_file: Option<PathBuf>,

    /// Where the files go; default /run/secrets, for --dry-run a new private directory
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "ANTEROOM_SECRETS_DIR",
        hide_env_values = true
    )]
    pub secrets_dir: Option<PathBuf>,

    /// exec (the application becomes this process)
    #[arg(
        long,
        global = true,
        value_name = "LIFECYCLE",
        env = "ANTEROOM_LIFECYCLE",
        hide_env_values = true
    )]
    pub lifecycle: Option<String>,

    /// From start to exec, all retries in it; default 25s
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        env = "ANTEROOM_DEADLINE",
        hide_env_values = true
    )]
    pub deadline: Option<String>,

    /// How log lines look; default human on a terminal, else json
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "ANTEROOM_LOG",
        hide_env_values = true
    )]
    pub log: Option<log::Format>,

    /// How much is logged
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "ANTEROOM_LOG_LEVEL",
        hide_env_values = true,
        default_value = "info"
    )]
    pub log_level: log::Level,

    /// No Vault: a throwaway CA, its certificate and sample credentials; without a command, the plan
    #[arg(long, env = "ANTEROOM_DRY_RUN", hide_env_values = true, value_parser = clap::builder::BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub dry_run: bool,

    /// Something else than a start
    #[command(subcommand)]
    pub task: Option<Task>,

    /// The application and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// What to do instead of a start.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Is the manifest sound? Prints the plan; holds no secret, asks no token
    Check,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["anteroom"], arguments].concat())
    }

    #[test]
    fn everything_behind_the_two_dashes_is_the_command() {
        let cli = parse(&["--dry-run", "--", "/app", "--dry-run", "--", "check"]).expect("valid");
        assert!(cli.dry_run);
        assert_eq!(cli.command, ["/app", "--dry-run", "--", "check"]);
    }

    #[test]
    fn check_takes_the_manifest() {
        let cli = parse(&["check", "--manifest", "x.toml"]).expect("valid");
        assert!(matches!(cli.task, Some(Task::Check)));
        assert_eq!(cli.manifest, PathBuf::from("x.toml"));
    }

    #[test]
    fn unknown_flags_and_stray_words_are_refused_b53() {
        assert!(parse(&["-x", "--", "true"]).is_err());
        assert!(parse(&["true"]).is_err());
    }
}

//! The command line.

mod read;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::log::{self, Log};
use crate::text;

pub use read::{Refusal, is_answer};

/// The command line and those variables that stand for a flag; a flag wins over its variable.
#[derive(Debug, Parser)]
#[command(
    name = "anteroom",
    version,
    about = "Fetches a service's secrets with a one-use wrapping token, then becomes the service",
    override_usage = "anteroom [OPTIONS] -- COMMAND [ARGS...]\n       anteroom --dry-run [-- COMMAND [ARGS...]]\n       anteroom check [MANIFEST]\n       anteroom health\n       anteroom policy\n       anteroom mint",
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = false
)]
pub struct Cli {
    /// Path of the manifest
    #[arg(
        id = "manifest",
        long = "manifest",
        global = true,
        value_name = "PATH",
        env = "ANTEROOM_MANIFEST",
        hide_env_values = true,
        default_value = "/etc/anteroom.toml"
    )]
    manifest_flag: PathBuf,

    /// File with the wrapping token, read once and removed, or an agent's socket; - is standard input
    #[arg(
        long,
        value_name = "PATH",
        env = "ANTEROOM_TOKEN_FILE",
        hide_env_values = true
    )]
    pub token_file: Option<PathBuf>,

    /// Longest wait for the token file; default 0, or 20s where the manifest expects an agent's token
    #[arg(
        long,
        value_name = "DURATION",
        env = "ANTEROOM_TOKEN_WAIT",
        hide_env_values = true,
        value_parser = text::duration as Reader<Duration>
    )]
    pub token_wait: Option<Duration>,

    /// Directory of the secrets; default /run/secrets, for --dry-run a new private directory
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "ANTEROOM_SECRETS_DIR",
        hide_env_values = true
    )]
    pub secrets_dir: Option<PathBuf>,

    /// Lifecycle of anteroom once the application runs; default exec
    #[arg(
        long,
        global = true,
        value_name = "LIFECYCLE",
        env = "ANTEROOM_LIFECYCLE",
        hide_env_values = true
    )]
    pub lifecycle: Option<Lifecycle>,

    /// Time for a whole start or mint, with all retries; default 25s
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        env = "ANTEROOM_DEADLINE",
        hide_env_values = true,
        value_parser = text::positive as Reader<Duration>
    )]
    pub deadline: Option<Duration>,

    /// Options of the log
    #[command(flatten)]
    pub logging: Logging,

    /// Start without a Vault: throwaway CA, certificate and sample credentials; without a command, print the plan
    #[arg(long, env = "ANTEROOM_DRY_RUN", hide_env_values = true, value_parser = clap::builder::BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub dry_run: bool,

    /// Task in place of a start
    #[command(subcommand)]
    pub task: Option<Task>,

    /// The application and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// The lines to write, where a command is needed and there is none
    #[arg(skip)]
    pub without_command: Option<String>,
}

/// The options of the log, the same for every program here.
#[derive(Debug, Args)]
pub struct Logging {
    /// Form of log lines; default human on a terminal, else json
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "ANTEROOM_LOG",
        hide_env_values = true
    )]
    pub log: Option<log::Format>,

    /// Amount that is logged
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "ANTEROOM_LOG_LEVEL",
        hide_env_values = true,
        default_value = "info"
    )]
    pub log_level: log::Level,
}

impl Cli {
    /// Names the manifest: the one behind `check`, else that of the flag.
    pub fn manifest(&self) -> &Path {
        match &self.task {
            Some(Task::Check {
                path: Some(path), ..
            }) => path,
            _ => &self.manifest_flag,
        }
    }
}

impl Logging {
    /// Makes the log that was asked for.
    pub fn log(&self) -> Log {
        let format = self.log.unwrap_or(if std::io::stderr().is_terminal() {
            log::Format::Human
        } else {
            log::Format::Json
        });
        Log {
            format,
            level: self.log_level,
        }
    }
}

/// The lifecycle of anteroom once the application runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Lifecycle {
    /// The application becomes this process, and the keeper stays beside it
    Exec,
    /// This process stays as the application's init, and revokes the token in the end
    Supervise,
}

/// The tasks in place of a start.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Validate the manifest and print what a start would do (no Vault, no token)
    Check {
        /// Path of the manifest, in place of --manifest
        #[arg(value_name = "MANIFEST")]
        path: Option<PathBuf>,

        /// Fail (78) for each notice too
        #[arg(long)]
        strict: bool,
    },
    /// Check that everything published is still good: exit code 0, or 1 and the reason; for HEALTHCHECK
    Health,
    /// Print the least Vault policy that the service's token needs for its manifest, as HCL
    Policy {
        /// Print the policy for the minter (an agent or anteroom mint) instead, with the token role that it needs
        #[arg(long)]
        minter: bool,

        /// Print the commands that an administrator types once: for the service's policy, its token role and the
        /// minter's policy
        #[arg(
            long,
            value_name = "PROGRAM",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "vault",
            conflicts_with = "minter"
        )]
        setup: Option<Client>,
    },
    /// On the host: print a wrapping token for a service; Vault is found by VAULT_ADDR and the like
    Mint(MintOptions),
}

/// The command line of the server that an administrator has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Client {
    /// HashiCorp's vault
    Vault,
    /// OpenBao's bao
    Bao,
}

/// The properties of a new token, and the form in which it is printed.
#[derive(Debug, Args)]
pub struct MintOptions {
    /// Token role, which decides what the new token may do
    #[arg(long, value_name = "ROLE", value_parser = text::path_segment as Reader<String>)]
    pub role: Option<String>,

    /// Metadata of the token, which Vault's audit log shows; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair as Reader<String>)]
    pub meta: Vec<String>,

    /// Policy of the token, instead of all that the role allows; repeatable
    #[arg(long, value_name = "POLICY", value_parser = not_empty as Reader<String>)]
    pub policy: Vec<String>,

    /// Without a role: mint with root's token too, and give the new token every right of the issuing one
    #[arg(long, conflicts_with = "role")]
    pub any_policy: bool,

    /// Life of the service's own token until it is renewed
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = text::whole_seconds as Reader<Duration>)]
    pub ttl: Duration,

    /// Life of the wrapping token
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = text::whole_seconds as Reader<Duration>)]
    pub wrap_ttl: Duration,

    /// The token alone, JSON as vault and bao print it, or a line for docker run --env-file
    #[arg(long, value_name = "FORMAT", default_value = "token")]
    pub format: MintFormat,

    /// File with the token to mint with; by default BAO_TOKEN or VAULT_TOKEN, else ~/.vault-token
    #[arg(long, value_name = "PATH")]
    pub issuer_token_file: Option<PathBuf>,
}

/// The form in which a wrapping token is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MintFormat {
    /// The token alone
    Token,
    /// The JSON that vault and bao print
    Json,
    /// The line ANTEROOM_TOKEN=TOKEN
    Env,
}

/// The one type of all readers: each function alone would be a type of its own, and the binary larger.
type Reader<T> = fn(&str) -> Result<T, String>;

fn pair(text: &str) -> Result<String, String> {
    match text.find('=') {
        Some(1..) => Ok(text.to_owned()),
        _ => Err("it is not KEY=VALUE".to_owned()),
    }
}

/// Refuses an empty name, which Vault would drop, and then take for everything.
fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("it is empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

//! What was typed.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::log::{self, Log};
use crate::text;

/// The command line and those variables that stand for a flag; a flag wins over its variable.
#[derive(Debug, Parser)]
#[command(
    name = "anteroom",
    version,
    about = "Fetches a service's secrets with a one-use wrapping token, then becomes the service",
    override_usage = "anteroom [OPTIONS] -- COMMAND [ARGS...]\n       anteroom --dry-run [-- COMMAND [ARGS...]]\n       anteroom check\n       anteroom health\n       anteroom policy\n       anteroom mint",
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

    /// File with the wrapping token, read once and removed, or an agent's socket; - is standard input
    #[arg(
        long,
        value_name = "PATH",
        env = "ANTEROOM_TOKEN_FILE",
        hide_env_values = true
    )]
    pub token_file: Option<PathBuf>,

    /// How long the token file may take to come; default 0, or 20s where the manifest expects an agent's
    #[arg(
        long,
        value_name = "DURATION",
        env = "ANTEROOM_TOKEN_WAIT",
        hide_env_values = true,
        value_parser = text::duration as Reader<Duration>
    )]
    pub token_wait: Option<Duration>,

    /// Where the files go; default /run/secrets, for --dry-run a new private directory
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "ANTEROOM_SECRETS_DIR",
        hide_env_values = true
    )]
    pub secrets_dir: Option<PathBuf>,

    /// How anteroom lives on once the application runs; default exec
    #[arg(
        long,
        global = true,
        value_name = "LIFECYCLE",
        env = "ANTEROOM_LIFECYCLE",
        hide_env_values = true
    )]
    pub lifecycle: Option<Lifecycle>,

    /// From start to exec, all retries in it; default 25s
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        env = "ANTEROOM_DEADLINE",
        hide_env_values = true,
        value_parser = text::positive as Reader<Duration>
    )]
    pub deadline: Option<Duration>,

    /// What is said meanwhile
    #[command(flatten)]
    pub logging: Logging,

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

/// What is logged, and how: the same for every program here.
#[derive(Debug, Args)]
pub struct Logging {
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
}

impl Logging {
    /// The log that was asked for.
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

/// How anteroom lives on once the application runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Lifecycle {
    /// The application becomes this process, and the keeper stays beside it
    Exec,
    /// This process stays, as the application's init, and revokes in the end
    Supervise,
}

/// Why the command line is not understood.
#[derive(Debug)]
pub struct Refusal {
    /// Mistakes before the last one, a line each.
    pub others: Vec<String>,
    /// The last mistake with the usage; or what was asked for, help or version.
    pub last: clap::Error,
    /// The line to write where `--` was forgotten.
    pub hint: Option<String>,
}

impl Cli {
    /// Reads the words, the program's name first.
    ///
    /// The parser stops at its first mistake: what it names is taken out, and the rest is read again.
    pub fn read(mut words: Vec<OsString>) -> Result<Cli, Refusal> {
        let mut others = Vec::new();
        let mut last: Option<clap::Error> = None;
        let mut hint = None;
        loop {
            let error = match (parse(&words), last.take()) {
                (Ok(cli), None) => return Ok(cli),
                (Ok(_), Some(last)) => {
                    let last = tame(last);
                    return Err(Refusal { others, last, hint });
                }
                (Err(error), None) => error,
                // Behind a mistake this is the application's, and asks nothing of anteroom.
                (Err(error), Some(last)) if is_answer(&error) => {
                    let last = tame(last);
                    return Err(Refusal { others, last, hint });
                }
                (Err(error), Some(before)) => {
                    others.push(first_line(before));
                    error
                }
            };
            if let Some(at) = stray(&words, &error) {
                // A command begins here, and what follows is all its own.
                hint = line_with_dashes(&words[..at], &words[at]);
                words.truncate(at);
            } else if !take_out(&mut words, &error) {
                let last = tame(error);
                return Err(Refusal { others, last, hint });
            }
            last = Some(error);
        }
    }
}

/// A variable that is set to nothing counts as not set: Compose files leave such ones behind.
fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    let command = Cli::command().mut_args(|argument| match argument.get_env() {
        Some(name) if std::env::var_os(name).is_some_and(|value| value.is_empty()) => {
            argument.env(Resettable::Reset)
        }
        _ => argument,
    });
    let matches = command.try_get_matches_from(words)?;
    Cli::from_arg_matches(&matches)
}

/// The parser quotes words as they came; those may hold what drives a terminal or forges a line.
fn tame(mut error: clap::Error) -> clap::Error {
    let clean = |text: &str| log::sanitised(text, 512);
    let quoted: Vec<(ContextKind, ContextValue)> = error
        .context()
        .filter_map(|(kind, value)| {
            let value = match value {
                ContextValue::String(text) => ContextValue::String(clean(text)),
                ContextValue::Strings(texts) => {
                    ContextValue::Strings(texts.iter().map(|text| clean(text)).collect())
                }
                ContextValue::StyledStrs(texts) => ContextValue::StyledStrs(
                    texts
                        .iter()
                        .map(|text| clean(&text.to_string()).into())
                        .collect(),
                ),
                _ => return None,
            };
            Some((kind, value))
        })
        .collect();
    for (kind, value) in quoted {
        error.insert(kind, value);
    }
    error
}

fn first_line(error: clap::Error) -> String {
    let text = tame(error).render().to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Help or version was asked for.
pub fn is_answer(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    )
}

/// Where a word stands that is neither a flag nor a task, if that is the mistake.
fn stray(words: &[OsString], error: &clap::Error) -> Option<usize> {
    let Some(ContextValue::String(named)) = error
        .get(ContextKind::InvalidArg)
        .or_else(|| error.get(ContextKind::InvalidSubcommand))
    else {
        return None;
    };
    let is_unknown = matches!(
        error.kind(),
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand
    );
    if !is_unknown || named.starts_with('-') {
        return None;
    }
    let mut before_dashes = words.iter().take_while(|word| *word != "--").skip(1);
    let at = before_dashes.position(|word| word == named.as_str())?;
    Some(at + 1)
}

/// The line that makes this command the application; none behind a task, which has none.
fn line_with_dashes(before: &[OsString], command: &OsStr) -> Option<String> {
    let tasks = Cli::command();
    let mut tasks = tasks.get_subcommands().map(clap::Command::get_name);
    if tasks.any(|task| before.iter().skip(1).any(|word| word == task)) {
        return None;
    }
    let before: Vec<String> = before
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let entrypoint: Vec<&str> = before.iter().map(String::as_str).chain(["--"]).collect();
    let text = format!(
        "the command stands behind `--`: ENTRYPOINT {} in the image, or {} -- {} ...",
        serde_json::json!(entrypoint),
        before.join(" "),
        command.to_string_lossy(),
    );
    Some(log::sanitised(&text, 1024))
}

/// Takes the flag out that a mistake names, with its value; false when there is none.
fn take_out(words: &mut Vec<OsString>, error: &clap::Error) -> bool {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else {
        return false;
    };
    // As in `--log <FORMAT>`.
    let flag = named.split([' ', '=']).next().unwrap_or_default();
    let end = words
        .iter()
        .position(|word| word == "--")
        .unwrap_or(words.len());
    let Some(at) = words[..end].iter().skip(1).position(|word| {
        let rest = word.as_bytes().strip_prefix(flag.as_bytes());
        !flag.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
    }) else {
        return false;
    };
    let at = at + 1;
    let has_value = words[at] == flag
        && matches!(
            error.kind(),
            ErrorKind::InvalidValue | ErrorKind::ValueValidation
        );
    words.drain(at..(at + 1 + usize::from(has_value)).min(end));
    true
}

/// What to do instead of a start.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Is the manifest sound? Prints the plan; holds no secret, asks no token
    Check,
    /// Is everything that was published still good? Exit code 0, or 1 and what is not; for HEALTHCHECK
    Health,
    /// The least Vault policy that the service's token needs for its manifest, as HCL
    Policy {
        /// That of whoever mints for the service, with the token role that it presumes
        #[arg(long)]
        minter: bool,
    },
    /// On the host: prints a wrapping token for a service; Vault is where VAULT_ADDR and its like say
    Mint(MintOptions),
}

/// What a token is to be, and how it is printed.
#[derive(Debug, Args)]
pub struct MintOptions {
    /// Token role, which decides what the new token may do
    #[arg(long, value_name = "ROLE", value_parser = text::path_segment as Reader<String>)]
    pub role: Option<String>,

    /// What Vault's audit log says of the token; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair as Reader<String>)]
    pub meta: Vec<String>,

    /// Policy of the token, instead of all that the role allows; repeatable
    #[arg(long, value_name = "POLICY", value_parser = not_empty as Reader<String>)]
    pub policy: Vec<String>,

    /// Without a role: let the new token have every right of the issuing token, root's among them
    #[arg(long, conflicts_with = "role")]
    pub any_policy: bool,

    /// Life of the service's own token, until it is renewed
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

/// How a wrapping token is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MintFormat {
    /// The token alone
    Token,
    /// As the command lines of Vault and OpenBao print it
    Json,
    /// ANTEROOM_TOKEN=TOKEN
    Env,
}

/// One type for all of them: each function would be a parser's type of its own, and the binary larger.
type Reader<T> = fn(&str) -> Result<T, String>;

fn pair(text: &str) -> Result<String, String> {
    match text.find('=') {
        Some(1..) => Ok(text.to_owned()),
        _ => Err("it is not KEY=VALUE".to_owned()),
    }
}

/// Vault drops an empty name, and then asks for everything.
fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("it is empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        let words: Vec<OsString> = ["anteroom"]
            .iter()
            .chain(arguments)
            .map(Into::into)
            .collect();
        super::parse(&words)
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
    fn every_mistake_is_named_f3() {
        let words = "anteroom --nonsense --log xml --deadline=soon -y -- --log".split(' ');
        let refusal = Cli::read(words.map(OsString::from).collect()).expect_err("mistakes");
        let mut all = refusal.others.join("\n");
        all.push_str(&refusal.last.to_string());
        for text in ["--nonsense", "xml", "soon", "-y"] {
            assert!(all.contains(text), "{text}: {all}");
        }
    }

    #[test]
    fn forgotten_dashes_are_a_mistake_that_shows_the_line() {
        for (words, line) in [
            (
                "/anteroom java --version",
                r#"ENTRYPOINT ["/anteroom","--"] in the image, or /anteroom -- java"#,
            ),
            ("/anteroom java --help", r#"ENTRYPOINT ["/anteroom","--"]"#),
            (
                "/anteroom --log json java -jar x --log yaml",
                r#"ENTRYPOINT ["/anteroom","--log","json","--"]"#,
            ),
            ("/anteroom --nonsense java --help", r#"["/anteroom","--"]"#),
        ] {
            let words = words.split(' ').map(OsString::from).collect();
            let refusal = Cli::read(words).expect_err("a mistake");
            assert!(!is_answer(&refusal.last), "{line}");
            let hint = refusal.hint.expect("a line");
            assert!(hint.contains(line), "{hint}");
        }
        for words in ["anteroom -jar x --help", "anteroom --nonsense --version"] {
            let words = words.split(' ').map(OsString::from).collect();
            let refusal = Cli::read(words).expect_err("a mistake");
            assert!(!is_answer(&refusal.last), "{:?}", refusal.last);
        }
        for words in ["anteroom check word", "anteroom mint word --help"] {
            let words = words.split(' ').map(OsString::from).collect();
            let refusal = Cli::read(words).expect_err("a mistake");
            assert!(
                !is_answer(&refusal.last) && refusal.hint.is_none(),
                "{refusal:?}"
            );
        }
        for words in ["anteroom --help", "anteroom check --help", "anteroom -V"] {
            let words = words.split(' ').map(OsString::from).collect();
            assert!(is_answer(&Cli::read(words).expect_err("asked").last));
        }
    }

    #[test]
    fn unknown_flags_and_stray_words_are_refused_b53() {
        assert!(parse(&["-x", "--", "true"]).is_err());
        assert!(parse(&["true"]).is_err());
    }
}

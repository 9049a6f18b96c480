//! The command line.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

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
    /// Path of the manifest
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

/// The mistakes in a command line, or the answer to a question for help.
#[derive(Debug)]
pub struct Refusal {
    /// The mistakes before the last one, a line each.
    pub others: Vec<String>,
    /// The last mistake with the usage; or the help or version that was asked for.
    pub last: clap::Error,
    /// The line to write where `--` was forgotten.
    pub hint: Option<String>,
}

impl Cli {
    /// Reads the words, the program's name first.
    ///
    /// The parser stops at its first mistake: the words of the mistake are taken out, and the rest is read again.
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

/// The global options that each task heeds, by their fields in [`Cli`].
const HEEDED: [(&str, &[&str]); 4] = [
    (
        "check",
        &["manifest", "secrets_dir", "lifecycle", "deadline", "log"],
    ),
    ("health", &["manifest", "secrets_dir", "log"]),
    ("policy", &["manifest", "log"]),
    ("mint", &["deadline", "log", "log_level"]),
];

/// Parses the words. A variable that is set to nothing counts as not set: Compose files leave such ones behind.
fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    let command = Cli::command().mut_args(|argument| match argument.get_env() {
        Some(name) if std::env::var_os(name).is_some_and(|value| value.is_empty()) => {
            argument.env(Resettable::Reset)
        }
        _ => argument,
    });
    let matches = hide_unheeded(command).try_get_matches_from(words)?;
    Cli::from_arg_matches(&matches)
}

/// Keeps the options that a task does not heed out of its help. The task takes them all the same: images and scripts
/// may give the same ones to every task.
fn hide_unheeded(command: clap::Command) -> clap::Command {
    let globals: Vec<Arg> = command
        .get_arguments()
        .filter(|argument| argument.is_global_set())
        .cloned()
        .collect();
    HEEDED.iter().fold(command, |command, (task, heeded)| {
        // A task keeps its own argument where the parser would hand a global one down.
        let hidden = globals
            .iter()
            .filter(|argument| !heeded.contains(&argument.get_id().as_str()))
            .map(|argument| argument.clone().hide(true));
        command.mut_subcommand(task, |task| task.args(hidden))
    })
}

/// Cleans the words that the parser quotes: they may hold what drives a terminal or forges a line.
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

/// Says whether this is no mistake, but the help or version that was asked for.
pub fn is_answer(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    )
}

/// Finds a word that is neither a flag nor a task, if that is the mistake.
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

/// Writes the line that makes this command the application; none behind a task, which has no application.
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

/// Takes out the flag that a mistake names, with its value; false when there is none.
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

/// The tasks in place of a start.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Validate the manifest and print what a start would do (no Vault, no token)
    Check,
    /// Check that everything published is still good: exit code 0, or 1 and the reason; for HEALTHCHECK
    Health,
    /// Print the least Vault policy that the service's token needs for its manifest, as HCL
    Policy {
        /// Print the policy for the minter (an agent or anteroom mint) instead, with the token role that it needs
        #[arg(long)]
        minter: bool,
    },
    /// On the host: print a wrapping token for a service; Vault is found by VAULT_ADDR and the like
    Mint(MintOptions),
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

    /// Without a role: give the new token every right of the issuing token, even root's
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
    fn help_of_a_task_shows_its_own_options_alone() {
        for (task, expected) in [
            (
                "check",
                "--manifest --secrets-dir --lifecycle --deadline --log --help",
            ),
            ("health", "--manifest --secrets-dir --log --help"),
            ("policy", "--minter --manifest --log --help"),
            (
                "mint",
                "--role --meta --policy --any-policy --ttl --wrap-ttl --format --issuer-token-file \
                 --deadline --log --log-level --help",
            ),
        ] {
            let help = parse(&[task, "--help"]).expect_err("help").to_string();
            let shown: Vec<&str> = help
                .lines()
                .filter_map(|line| {
                    line.trim_start()
                        .trim_start_matches("-h, ")
                        .split(' ')
                        .next()
                })
                .filter(|word| word.starts_with("--"))
                .collect();
            let (mut shown, mut expected) = (shown, expected.split(' ').collect::<Vec<_>>());
            shown.sort_unstable();
            expected.sort_unstable();
            assert_eq!(shown, expected, "{help}");
        }
    }

    #[test]
    fn global_options_are_taken_before_and_behind_every_task() {
        for task in ["check", "health", "policy", "mint"] {
            let options = [
                "--log-level",
                "debug",
                "--lifecycle",
                "supervise",
                "--deadline",
                "9s",
            ];
            for at in [0, 1] {
                let mut words = options.to_vec();
                words.insert(at * options.len(), task);
                let cli = parse(&words).expect("valid");
                assert_eq!(cli.logging.log_level, log::Level::Debug, "{words:?}");
                assert_eq!(cli.lifecycle, Some(Lifecycle::Supervise), "{words:?}");
                assert_eq!(cli.deadline, Some(Duration::from_secs(9)), "{words:?}");
            }
        }
    }

    // f3
    #[test]
    fn every_mistake_is_named() {
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

    // b53
    #[test]
    fn unknown_flags_and_stray_words_are_refused() {
        assert!(parse(&["-x", "--", "true"]).is_err());
        assert!(parse(&["true"]).is_err());
    }
}

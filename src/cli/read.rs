//! From the words to the command line, or to every mistake in them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, CommandFactory, FromArgMatches};

use super::Cli;
use crate::log;
use crate::spelling::meant;

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
    let read = command().try_get_matches_from(words);
    let matches = read.or_else(|error| match error.kind() {
        // Only help lists the options, and a start should not wait for its making.
        ErrorKind::DisplayHelp => hide_unheeded(command()).try_get_matches_from(words),
        _ => Err(error),
    })?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    let has_dashes = words.iter().any(|word| word == "--");
    // A container that is to run something, and has its variable from elsewhere, does not end well by printing a plan.
    let asks_for_the_plan =
        matches.value_source("dry_run") == Some(ValueSource::CommandLine) && !has_dashes;
    if cli.task.is_none() && cli.command.is_empty() && !asks_for_the_plan {
        cli.without_command = Some(lines_with_a_command(words, cli.dry_run));
    }
    Ok(cli)
}

fn command() -> clap::Command {
    Cli::command().mut_args(|argument| match argument.get_env() {
        Some(name) if std::env::var_os(name).is_some_and(|value| value.is_empty()) => {
            argument.env(Resettable::Reset)
        }
        _ => argument,
    })
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
    let tasks: Vec<&str> = tasks
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    if before
        .iter()
        .skip(1)
        .any(|word| tasks.iter().any(|task| word == task))
    {
        return None;
    }
    let (entrypoint, before) = entrypoint(before);
    let command = command.to_string_lossy();
    let meant = meant(&command, tasks);
    let text = format!(
        "`{command}` is no task of anteroom{meant}; the application's command stands behind `--`: ENTRYPOINT {entrypoint} in the image, or {before} -- {command} ...",
    );
    Some(log::sanitised(&text, 1024))
}

/// Writes what an image and a shell would need for a command, where these words have none.
fn lines_with_a_command(words: &[OsString], dry_run: bool) -> String {
    let words = words.strip_suffix(&["--".into()]).unwrap_or(words);
    let (entrypoint, before) = entrypoint(words);
    let plan = if dry_run {
        "; `anteroom check` prints the plan of a start"
    } else {
        ""
    };
    let text = format!(
        "ENTRYPOINT {entrypoint} and CMD [\"COMMAND\"] in the image (an ENTRYPOINT there takes away the CMD of the image below), or {before} -- COMMAND ...{plan}",
    );
    log::sanitised(&text, 1024)
}

/// Writes these words with `--` as an image's ENTRYPOINT, and as they were typed.
fn entrypoint(words: &[OsString]) -> (serde_json::Value, String) {
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let with_dashes: Vec<&str> = words.iter().map(String::as_str).chain(["--"]).collect();
    (serde_json::json!(with_dashes), words.join(" "))
}

/// Takes out the flag that a mistake names, with its value; false when there is none.
fn take_out(words: &mut Vec<OsString>, error: &clap::Error) -> bool {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else {
        return false;
    };
    // As in `--log <FORMAT>` and `--setup[=<PROGRAM>]`.
    let flag = named.split([' ', '=', '[']).next().unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::cli::{Lifecycle, Task};

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
        for (words, expected) in [
            (&["check", "--manifest", "x.toml"][..], "x.toml"),
            (&["--manifest", "x.toml", "check"], "x.toml"),
            (&["check", "y.toml"], "y.toml"),
            (&["check", "--strict", "y.toml"], "y.toml"),
            (&["--manifest", "x.toml", "check", "y.toml"], "y.toml"),
            (&["check"], "/etc/anteroom.toml"),
        ] {
            let cli = parse(words).expect("valid");
            assert!(matches!(cli.task, Some(Task::Check { .. })));
            assert_eq!(cli.manifest(), Path::new(expected), "{words:?}");
        }
    }

    #[test]
    fn help_of_a_task_shows_its_own_options_alone() {
        for (task, expected) in [
            (
                "check",
                "--strict --manifest --secrets-dir --lifecycle --deadline --log --help",
            ),
            ("health", "--manifest --secrets-dir --log --help"),
            ("policy", "--minter --setup --manifest --log --help"),
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
                        .split([' ', '['])
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
        let words = "anteroom policy --setup=vualt --manifst x".split(' ');
        let refusal = Cli::read(words.map(OsString::from).collect()).expect_err("mistakes");
        let all = format!("{:?}{}", refusal.others, refusal.last);
        assert!(all.contains("vualt") && all.contains("--manifst"), "{all}");
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
            (
                "/anteroom chek",
                "`chek` is no task of anteroom (is `check` meant?); ",
            ),
            ("/anteroom java -jar x", "`java` is no task of anteroom; "),
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
        for words in ["anteroom check word another", "anteroom mint word --help"] {
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

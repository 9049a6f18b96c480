//! From the command line to a plan or a start.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::libc;

use crate::cli::{Cli, Task};
use crate::clock;
use crate::config::{self, Config, Purpose, Surroundings, TrustAnchors};
use crate::environment::{Environment, TOKEN_VARIABLES, Tokens};
use crate::error::Error;
use crate::files::rehearsal;
use crate::health;
use crate::init;
use crate::keeper::Origin;
use crate::log::{Format, Level, Log, Value};
use crate::manifest::Mistake;
use crate::mint;
use crate::plan;
use crate::policy;
use crate::secrets_dir::{SecretsDir, is_kept};
use crate::system::{exec, refused};
use crate::text_file::{self, CONFIGURATION_MAX, read_text};
use crate::trust;
use crate::wrapping_token::Source;

/// The exit code of a health check that finds a fault.
const UNHEALTHY: u8 = 1;
/// The most bytes of `/etc/passwd` and `/etc/group`.
const USERS_MAX: u64 = 4 << 20;

/// Does what was typed, and returns the exit code. A start returns only when there is no application, when the
/// application has ended, or in the keeper when its work is done.
pub fn run(cli: &Cli, log: Log, began: Instant) -> Result<u8, Error> {
    // Before anything that was handed in is read.
    exec::make_non_dumpable()?;
    let (environment, mut tokens) = receive();
    let purpose = match (&cli.task, cli.dry_run) {
        (Some(Task::Check { .. }), _) => Purpose::Check,
        (Some(Task::Health), _) => Purpose::Health,
        (Some(Task::Policy { .. }), _) => Purpose::Policy,
        (Some(Task::Mint(options)), false) => {
            let deadline = began + cli.deadline.unwrap_or(config::DEADLINE);
            mint::run(options, &environment, tokens, deadline, log)?;
            return Ok(0);
        }
        (Some(Task::Mint(_)), true) => {
            let text = "there is no dry run of a mint: a service's dry run needs no token";
            return Err(Error::Mint(mint::Error::Usage(text.to_owned())));
        }
        (None, true) => Purpose::DryRun,
        (None, false) => Purpose::Start,
    };
    if let Some(lines) = &cli.without_command {
        let text = format!("there is no command to become: {lines}");
        return Err(Error::Usage(text));
    }
    if let Some(Task::Health) = cli.task {
        // A dry run publishes where no other process looks, and what it made up does not end.
        return if cli.dry_run && cli.secrets_dir.is_none() {
            Ok(0)
        } else {
            health(&published_in(cli, environment)?)
        };
    }
    let config = configuration(cli, purpose, environment)?;
    if let Some(Task::Policy { minter, setup }) = cli.task {
        let text = match setup {
            Some(client) => policy::setup(&config, client),
            None if minter => policy::minter(&config),
            None => policy::service(&config),
        };
        return print(&text).map(|()| 0);
    }
    if purpose == Purpose::Check || cli.command.is_empty() {
        print_plan(&config)?;
        return match cli.task {
            Some(Task::Check { strict: true, .. }) => refuse_notices(cli, &config).map(|()| 0),
            _ => Ok(0),
        };
    }
    for notice in config.notices.iter().chain(&config.guesses) {
        log.event(Level::Warn, "notice", notice, &[]);
    }
    let variable = tokens.take("ANTEROOM_TOKEN");
    // What is left is not for anteroom, and for the application even less.
    drop(tokens);
    let origin = if let Some(vault) = &config.vault {
        Origin::Vault(
            vault,
            Source::choose(variable, config.delivery.path.as_deref())?,
        )
    } else {
        let mut text = "this is a dry run: certificates and credentials are invented".to_owned();
        if variable.is_some() || cli.token_file.is_some() {
            text.push_str(", and the wrapping token is not touched");
        }
        log.event(Level::Warn, "dry_run", &text, &[]);
        Origin::Samples
    };
    Ok(init::run(&config, origin, log, began)?)
}

/// Receives the environment, and the tokens in it, of which these are the only copies from then on.
fn receive() -> (Environment, Tokens) {
    let received = Environment::with_tokens(std::env::vars_os());
    exec::wipe_variables(&TOKEN_VARIABLES);
    received
}

fn configuration(cli: &Cli, purpose: Purpose, environment: Environment) -> Result<Config, Error> {
    let text = read_text(cli.manifest(), CONFIGURATION_MAX).map_err(|error| {
        let reason = error.to_string();
        if let text_file::Error::System(error) = error
            && let Some(libc::EMFILE | libc::ENFILE) = error.raw_os_error()
        {
            return Error::System(refused("open the manifest")(error));
        }
        let manifest = cli.manifest().to_owned();
        config::Error::Unreadable { manifest, reason }.into()
    })?;
    let read = |path: &str| read_text(Path::new(path), USERS_MAX).unwrap_or_default();
    // Without them the group of a file is said not to be this process's.
    let groups = nix::unistd::getgroups().unwrap_or_default();
    let surroundings = Surroundings {
        environment,
        passwd: read("/etc/passwd"),
        group: read("/etc/group"),
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
        read_template: |path| read_text(path, CONFIGURATION_MAX),
    };
    let mut config = config::resolve(cli, &text, surroundings, purpose)?;
    let mut mistakes = rehearsal::mistakes(&config, purpose);
    if let (Purpose::Start | Purpose::DryRun | Purpose::Check, Some(trust)) =
        (purpose, &mut config.trust)
        && let Err(of_trust) = trust::read(trust, clock::calendar().unix_timestamp())
    {
        mistakes.extend(of_trust);
        mistakes.sort_by_key(|mistake| mistake.place);
    }
    if !mistakes.is_empty() {
        let manifest = cli.manifest().to_owned();
        return Err(config::Error::Mistakes { manifest, mistakes }.into());
    }
    for certificate in &mut config.certificates {
        if let TrustAnchors::File(path) = &mut certificate.trust_anchors
            && let Ok(absolute) = std::path::absolute(&*path)
        {
            // The keeper reads the file again when the keeper has left this working directory.
            *path = absolute;
        }
    }
    Ok(config)
}

/// Finds where a start has published. The manifest is asked last: a start may have been given it by a flag, which this
/// process does not know.
fn published_in(cli: &Cli, environment: Environment) -> Result<PathBuf, Error> {
    if let Some(directory) = &cli.secrets_dir {
        return Ok(directory.clone());
    }
    let default = Path::new(config::SECRETS_DIR);
    match configuration(cli, Purpose::Health, environment) {
        Ok(config) => Ok(config.secrets_dir.unwrap_or_else(|| default.to_owned())),
        Err(Error::Config(config::Error::Unreadable { .. }))
            if SecretsDir::read_status(default).is_ok() =>
        {
            Ok(default.to_owned())
        }
        Err(error) => Err(error),
    }
}

/// Returns 0 while all is well; else 1, after a line that says what is not.
fn health(directory: &Path) -> Result<u8, Error> {
    let status = SecretsDir::read_status(directory)
        .map_err(|error| format!("nothing is published in {}: {error}", directory.display()))
        .and_then(|json| {
            serde_json::from_slice(&json)
                .map_err(|error| format!("its status.json cannot be read: {error}"))
        });
    #[expect(clippy::disallowed_methods, reason = "the time that it is judged by")]
    let now = std::time::SystemTime::now().into();
    match status.and_then(|status| health::judge(&status, is_kept(directory), now)) {
        Ok(()) => Ok(0),
        Err(stale) => {
            print(&format!("{}\n", crate::log::sanitised(&stale, 1024)))?;
            Ok(UNHEALTHY)
        }
    }
}

/// Fails where the plan has notices that are no guess, each of which is named.
fn refuse_notices(cli: &Cli, config: &Config) -> Result<(), Error> {
    if config.notices.is_empty() {
        return Ok(());
    }
    let refused = |notice: &String| Mistake {
        place: None,
        text: format!("{notice} (`--strict` lets no notice pass)"),
    };
    let manifest = cli.manifest().to_owned();
    let mistakes = config.notices.iter().map(refused).collect();
    Err(config::Error::Mistakes { manifest, mistakes }.into())
}

fn print_plan(config: &Config) -> Result<(), Error> {
    print(&plan::text(config))
}

fn print(text: &str) -> Result<(), Error> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader of only the first lines has seen enough.
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::System(refused("write to standard output")(error))),
    }
}

/// Reports the error, once.
pub fn report(error: &Error, log: Log) {
    if error.is_told() {
        return;
    }
    let code = error.exit_code();
    let hint = error.hint();
    let mut fields = vec![("exit_code", Value::Number(code.into()))];
    if let Some(accessor) = error.wrapped_accessor() {
        fields.push(("wrapped_accessor", Value::Text(accessor)));
    }
    if let Some(hint) = &hint {
        fields.push(("hint", Value::Text(hint)));
    }
    if let Error::Config(config::Error::Mistakes { manifest, mistakes }) = error {
        // One line would be cut before the last of many.
        for mistake in mistakes {
            let text = format!("{}: {mistake}", manifest.display());
            let mut fields = fields.clone();
            if let Some(place) = mistake.place {
                fields.push(("line", Value::Number(place.line as u64)));
                fields.push(("column", Value::Number(place.column as u64)));
            }
            log.event(Level::Error, error.event(), &text, &fields);
        }
    } else {
        log.event(Level::Error, error.event(), &error.to_string(), &fields);
    }
    if let (Format::Human, Some(hint)) = (log.format, &hint) {
        let hint = crate::log::sanitised(hint, 2048);
        crate::log::write_line(&format!("anteroom: hint: {hint}"));
    }
}

//! PID 1: checks command and directory, forks the keeper, waits for it and for signals, then becomes the application,
//! or stays as its init.
//!
//! This process opens no socket to the network and reads no secret but the variables that the application gets.

mod error;
mod supervise;
mod watch;

use std::ffi::{CString, OsString};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, getpid, setsid};

use crate::application::{environment, passed_descriptors};
use crate::command::Command;
use crate::config::{Config, Lifecycle, OnRotate};
use crate::keeper::{self, Inheritance, Origin};
use crate::link;
use crate::log::Log;
use crate::secrets_dir::{self, Owner, SecretsDir};
use crate::system::descriptors::open_null;
use crate::system::fork::{fork_unseen, set_umask};
use crate::system::memory::keep_one_heap;
use crate::system::process::as_user;
use crate::system::random;
use crate::system::{self, exec, name_lookup, refused, signal};
use crate::vault;
use crate::wrapping_token::Source;

pub(crate) use error::{Error, Failure};

use watch::Watch;

/// The time for the keeper to give back what it has, once a start is called off: the request under way, then the
/// revocation, and a little for itself.
const LAST_WORDS: Duration = vault::GRACE
    .saturating_add(keeper::REVOCATION)
    .saturating_add(Duration::from_millis(200));

/// The pause between two looks at a directory that another start has, in milliseconds.
const LOOK: u8 = 10;

/// Starts the application. It returns in PID 1 when there is none or, with the exit code, when it has ended; and in the
/// keeper when its work is done.
pub(crate) fn run(
    config: &Config,
    origin: Origin<'_>,
    log: Log,
    began: Instant,
) -> Result<u8, Failure> {
    // Libraries that need them would end the process without a word.
    random::fill(&mut [0])?;
    let received = signal::received();
    let command = as_user(config.user.as_ref(), || {
        Command::resolve(&config.command, config.received.value("PATH"))
    })
    .map_err(Failure::User)??;
    command.check_size(&environment(config, &[])?, stack_limit())?;
    let on_rotate = on_rotate(config)?;
    let replaces_stdin = matches!(origin, Origin::Vault(_, Source::StandardInput));
    let (ours, theirs) = link::pair().map_err(refused("connect to the keeper"))?;
    let signals = received.listen().map_err(refused("listen for signals"))?;
    let application = getpid();
    let mut directory = open_directory(config)?;
    if let Err(error) = claim(&mut directory, &signals) {
        directory.withdraw();
        return Err(error);
    }
    let child = match fork_unseen() {
        Ok(ForkResult::Child) => {
            drop((ours, signals));
            let umask = settle(config)?;
            let inheritance = Inheritance {
                config,
                directory,
                link: theirs,
                application,
                on_rotate,
                umask,
                log,
                began,
            };
            keeper::run(inheritance, origin)?;
            return Ok(0);
        }
        Ok(ForkResult::Parent { child }) => child,
        Err(errno) => {
            directory.withdraw();
            return Err(refused("fork")(errno).into());
        }
    };
    drop((theirs, origin));
    let mut keeper = Watch {
        link: ours,
        signals,
        child,
        directory,
        until: began + config.deadline + LAST_WORDS,
        ended: None,
    };
    let ended = match await_environment(&mut keeper, config, &command, replaces_stdin) {
        Ok((environment, stays)) => match &config.lifecycle {
            Lifecycle::Exec => Err(become_application(
                &mut keeper,
                stays,
                &command,
                &environment,
                config,
            )),
            Lifecycle::Supervise(supervision) => supervise::run(
                &mut keeper,
                stays,
                supervision,
                &command,
                environment,
                config,
                log,
            ),
        },
        Err(error) => Err(error),
    };
    keeper.call_off(log);
    keeper.directory.withdraw();
    ended
}

/// Claims the directory for this start alone, before anything is made in it and before the token is touched; the
/// keeper of an earlier start may need a moment to give everything back.
fn claim(directory: &mut SecretsDir, signals: &SignalFd) -> Result<(), Failure> {
    let until = Instant::now() + secrets_dir::LAST_KEEPER;
    while !directory.claim()? {
        if let Some(signal) = signal::pending(signals) {
            return Err(Error::Interrupted { signal }.into());
        }
        if Instant::now() >= until {
            return Err(directory.kept().into());
        }
        // The end of another's lock is no event.
        let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut ready, LOOK);
    }
    Ok(())
}

/// Makes the keeper a process beside the application: what comes from a terminal and what others send to every process
/// does not concern it.
///
/// Returns the umask that was received.
fn settle(config: &Config) -> Result<Mode, system::Error> {
    let _ = setsid();
    signal::block_all();
    signal::ignore_limits();
    // No file is made for others than its owner.
    let received = set_umask(Mode::S_IRWXG | Mode::S_IRWXO).map_err(refused("set the umask"))?;
    // A reader of the application's output waits for the end of all that hold it.
    let null = open_null()?;
    nix::unistd::dup2_stdout(&null).map_err(refused("replace standard output"))?;
    name_lookup::limit_patience(config.received.value("RES_OPTIONS").is_some());
    keep_one_heap();
    Ok(received)
}

/// Resolves the command that tells the application of a new generation, if there is one.
fn on_rotate(config: &Config) -> Result<Option<Command>, Failure> {
    let OnRotate::Command { words, .. } = &config.renewal.on_rotate else {
        return Ok(None);
    };
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let resolve = || Command::resolve(&words, config.received.value("PATH"));
    let command = as_user(config.user.as_ref(), resolve).map_err(Failure::User)??;
    Ok(Some(command))
}

fn open_directory(config: &Config) -> Result<SecretsDir, Failure> {
    let owner = config.user.as_ref().map(|user| Owner {
        uid: user.uid,
        gid: user.gid,
    });
    let may_be_on_disk = config.allow_disk || config.vault.is_none();
    Ok(match &config.secrets_dir {
        Some(path) => SecretsDir::open(path, may_be_on_disk, owner)?,
        None => {
            let runtime_dir = config.received.text("XDG_RUNTIME_DIR").map(Path::new);
            // A relative one is not to be used (XDG Base Directory Specification).
            SecretsDir::private(runtime_dir.filter(|path| path.is_absolute()), owner)?
        }
    })
}

/// Waits for the keeper, then does everything that can still fail: until it is let go, it can give back what it has.
fn await_environment(
    keeper: &mut Watch,
    config: &Config,
    command: &Command,
    replaces_stdin: bool,
) -> Result<(Vec<CString>, bool), Failure> {
    let link::Ready { variables, stays } = keeper.wait()?;
    as_user(config.user.as_ref(), || command.check()).map_err(Failure::User)??;
    let environment = environment(config, &variables)?;
    command.check_size(&environment, stack_limit())?;
    if replaces_stdin {
        // What is left of it belongs to the token.
        nix::unistd::dup2_stdin(open_null()?).map_err(refused("replace standard input"))?;
    }
    if let (Some(user), Lifecycle::Exec) = (&config.user, &config.lifecycle) {
        exec::become_user(user).map_err(Failure::User)?;
    }
    keeper.check_signals()?;
    Ok((environment, stays))
}

/// Lets the keeper go on and becomes the application; returns why that did not happen.
fn become_application(
    keeper: &mut Watch,
    stays: bool,
    command: &Command,
    environment: &[CString],
    config: &Config,
) -> Failure {
    if let Err(failure) = keeper.release(stays) {
        return failure;
    }
    if let Err(error) = keeper.check_signals() {
        return error.into();
    }
    let passed = passed_descriptors(config);
    match exec::exec(
        &command.path,
        &command.arguments,
        environment,
        passed,
        signal::received(),
    ) {
        Ok(never) => match never {},
        Err(error) => Failure::Exec(error),
    }
}

fn stack_limit() -> u64 {
    getrlimit(Resource::RLIMIT_STACK).map_or(8 << 20, |(soft, _)| soft)
}

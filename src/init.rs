//! PID 1: it looks at command and directory, forks the keeper, waits for it and for signals, then becomes the
//! application.
//!
//! This process opens no socket to the network and reads no secret but the variables that the application gets.

#![expect(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "this is the module that forks; each use says why it is sound"
)]

mod watch;

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, fork, getgroups, getpid, setegid, seteuid, setgroups, setsid,
};

use crate::command::{self, Command};
use crate::config::{Config, TOKEN_VARIABLES};
use crate::error::Error as CrateError;
use crate::exec;
use crate::keeper;
use crate::link;
use crate::log::Log;
use crate::secret::Secret;
use crate::secrets_dir::{Owner, SecretsDir};
use crate::signal;
use crate::user::User;
use crate::vault;
use crate::wrapping_token::Source;

use watch::Watch;

/// How long the keeper may take to give back what it has, once a start is called off: what is under way, then the
/// revocation, and a little for itself.
const LAST_WORDS: Duration = vault::GRACE
    .saturating_add(keeper::REVOCATION)
    .saturating_add(Duration::from_millis(200));

/// Something of the operating system failed, or the start was ended.
#[derive(Debug)]
pub enum Error {
    /// A system call failed.
    System {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        reason: String,
    },
    /// A signal ended the start.
    Interrupted {
        /// Which one.
        signal: Signal,
    },
    /// The keeper did not end in time by itself.
    Late,
    /// The keeper was killed.
    KeeperKilled {
        /// By which signal.
        signal: Signal,
    },
    /// The keeper ended without a word.
    KeeperEnded,
    /// The keeper ended the start and has said why.
    Told {
        /// Its exit code, which becomes this process's.
        exit_code: u8,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::System { step, reason } => write!(f, "cannot {step}: {reason}"),
            Error::Interrupted { signal } => {
                write!(f, "ended by {signal} before the application was started")
            }
            Error::Late => {
                f.write_str("the deadline has passed, and the keeper did not end by itself")
            }
            Error::KeeperKilled { signal } => {
                write!(f, "the keeper was killed by {signal} before it was ready")
            }
            Error::KeeperEnded => f.write_str("the keeper ended before it was ready"),
            Error::Told { .. } => f.write_str("the keeper has said why"),
        }
    }
}

impl std::error::Error for Error {}

/// The step that needs capabilities.
pub const BECOME_USER: &str = "become the application's user";

fn system(step: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::System {
        step,
        reason: errno.desc().to_owned(),
    }
}

/// Starts the application. It returns in PID 1 only when there is none, and in the keeper when that is let go.
pub fn run(
    config: &Config,
    source: Option<Source>,
    log: Log,
    began: Instant,
) -> Result<(), CrateError> {
    // What was handed in is in `source` by now, and the application's environment is put together without them.
    exec::wipe_variables(&TOKEN_VARIABLES);
    let received = signal::received();
    let command = as_user(config.user.as_ref(), || {
        Command::resolve(&config.command, config.received.value("PATH"))
    })??;
    command.check_size(&environment(config, &[])?, stack_limit())?;
    let replaces_stdin = matches!(source, Some(Source::StandardInput));
    let (ours, theirs) = link::pair().map_err(|error| Error::System {
        step: "connect to the keeper",
        reason: error.to_string(),
    })?;
    let signals = received.listen().map_err(system("listen for signals"))?;
    let application = getpid();
    let directory = open_directory(config)?;
    // SAFETY: no thread has been started yet, so that the child may do whatever the parent may.
    let forked = unsafe { fork() }.inspect_err(|_| directory.withdraw());
    let child = match forked.map_err(system("fork"))? {
        ForkResult::Child => {
            drop((ours, signals));
            // Signals of the terminal are the application's, and no file is made for others than its owner.
            let _ = setsid();
            umask(Mode::S_IRWXG | Mode::S_IRWXO);
            signal::ignore_limits();
            #[cfg(target_env = "gnu")]
            settle_name_lookup(config.received.value("RES_OPTIONS").is_some());
            return keeper::run(config, source, directory, theirs, application, log, began);
        }
        ForkResult::Parent { child } => child,
    };
    drop((theirs, source));
    let mut keeper = Watch {
        link: ours,
        signals,
        child,
        until: began + config.deadline + LAST_WORDS,
    };
    let failure = match await_environment(&mut keeper, config, &command, replaces_stdin) {
        Ok(environment) => become_application(keeper, &command, &environment, config),
        Err(error) => {
            keeper.call_off();
            error
        }
    };
    directory.withdraw();
    Err(failure)
}

fn open_directory(config: &Config) -> Result<SecretsDir, CrateError> {
    let owner = config.user.as_ref().map(|user| Owner {
        uid: user.uid,
        gid: user.gid,
    });
    let may_be_on_disk = config.allow_disk || config.vault.is_none();
    Ok(match &config.secrets_dir {
        Some(path) => SecretsDir::open(path, may_be_on_disk, owner)?,
        None => {
            let runtime_dir = config.received.text("XDG_RUNTIME_DIR").map(Path::new);
            SecretsDir::private(runtime_dir, owner)?
        }
    })
}

/// Waits for the keeper, then does everything that can still fail: until it is let go, it can give back what it has.
fn await_environment(
    keeper: &mut Watch,
    config: &Config,
    command: &Command,
    replaces_stdin: bool,
) -> Result<Vec<CString>, CrateError> {
    let variables = keeper.wait()?;
    as_user(config.user.as_ref(), || command.check())??;
    let environment = environment(config, &variables)?;
    command.check_size(&environment, stack_limit())?;
    if replaces_stdin {
        replace_stdin()?;
    }
    if let Some(user) = &config.user {
        exec::become_user(user).map_err(CrateError::Exec)?;
    }
    keeper.check_signals()?;
    Ok(environment)
}

/// Lets the keeper go and becomes the application; returns why that did not happen.
fn become_application(
    mut keeper: Watch,
    command: &Command,
    environment: &[CString],
    config: &Config,
) -> CrateError {
    if let Err(error) = keeper.release().and_then(|()| keeper.check_signals()) {
        return error.into();
    }
    let passed = passed_descriptors(config);
    match exec::exec(command, environment, passed, signal::received()) {
        Ok(never) => match never {},
        Err(error) => CrateError::Exec(error),
    }
}

/// What is left of standard input belongs to the token, not to the application.
fn replace_stdin() -> Result<(), Error> {
    let null = std::fs::File::open("/dev/null").map_err(|error| Error::System {
        step: "open /dev/null",
        reason: error.to_string(),
    })?;
    nix::unistd::dup2_stdin(&null).map_err(system("replace standard input"))
}

/// What the application gets: what was received without tokens, then what the keeper added.
fn environment(config: &Config, variables: &[Secret<Vec<u8>>]) -> Result<Vec<CString>, CrateError> {
    let is_given = config
        .variables
        .iter()
        .any(|variable| variable.name == "HOME");
    let home = config
        .user
        .as_ref()
        .and_then(|user| user.home.as_deref())
        .filter(|_| !is_given);
    let mut environment = Vec::new();
    for (name, value) in config.received.without_tokens() {
        if home.is_some() && name == "HOME" {
            continue;
        }
        environment.push([name.as_bytes(), b"=", value.as_bytes()].concat());
    }
    environment.extend(home.map(|home| format!("HOME={home}").into_bytes()));
    environment.extend(variables.iter().map(|variable| variable.expose().clone()));
    environment
        .into_iter()
        .map(|variable| CString::new(variable).map_err(|_| command::Error::Nul.into()))
        .collect()
}

/// Descriptors behind standard error that were handed in for the application (sd_listen_fds(3)).
fn passed_descriptors(config: &Config) -> u32 {
    let number = |name| {
        config
            .received
            .text(name)
            .and_then(|text| text.parse::<u32>().ok())
    };
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if i64::from(pid) == i64::from(getpid().as_raw()) => {
            count.min(1024)
        }
        _ => 0,
    }
}

fn stack_limit() -> u64 {
    getrlimit(Resource::RLIMIT_STACK).map_or(8 << 20, |(soft, _)| soft)
}

/// Looks at the file system with the rights that the application will have.
fn as_user<T>(user: Option<&User>, look: impl FnOnce() -> T) -> Result<T, CrateError> {
    let Some(user) = user else { return Ok(look()) };
    let failed = |errno| CrateError::from(system(BECOME_USER)(errno));
    let groups = getgroups().map_err(failed)?;
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let theirs: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&theirs).map_err(failed)?;
    setegid(Gid::from_raw(user.gid)).map_err(failed)?;
    seteuid(Uid::from_raw(user.uid)).map_err(failed)?;
    let seen = look();
    seteuid(uid).map_err(failed)?;
    setegid(gid).map_err(failed)?;
    setgroups(&groups).map_err(failed)?;
    // A change of user undoes it (prctl(2), PR_SET_DUMPABLE).
    exec::make_non_dumpable().map_err(CrateError::Exec)?;
    Ok(seen)
}

/// Leaves a process behind that outlives the application and then runs `sweep`; for a dry run outside a container,
/// where nobody else tidies up. Not a child of the application, which must find no child that it did not start.
pub fn leave_behind(sweep: impl FnOnce()) {
    // SAFETY: in a dry run the keeper starts no thread, so that the child may do whatever it may.
    if let Ok(ForkResult::Child) = unsafe { fork() } {
        sweep();
    }
}

/// A descriptor that becomes readable when the process ends, which need not be a child (pidfd_open(2)).
pub fn pidfd(process: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes two integers and returns a new descriptor or an error.
    let descriptor =
        Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as libc::c_int) })
}

/// Waits for the end of a process that is watched.
pub fn await_end(watched: &OwnedFd) -> Result<(), Errno> {
    loop {
        match poll(
            &mut [PollFd::new(watched.as_fd(), PollFlags::POLLIN)],
            PollTimeout::NONE,
        ) {
            Err(Errno::EINTR) => {}
            ended => return ended.map(drop),
        }
    }
}

/// Has the C library look names up in `/etc/hosts` and DNS alone, and not wait longer for a dead DNS server than the
/// token lives.
///
/// A static program must not load the modules that the image's `nsswitch.conf` names: they are built for the image's
/// own C library, and two of them in one process crash.
#[cfg(target_env = "gnu")]
#[expect(
    clippy::disallowed_methods,
    reason = "the C library takes this from the environment alone; it is the keeper's, the application gets its own"
)]
fn settle_name_lookup(options_are_set: bool) {
    // SAFETY: glibc declares it like this in nss.h.
    unsafe extern "C" {
        fn __nss_configure_lookup(
            database: *const libc::c_char,
            services: *const libc::c_char,
        ) -> libc::c_int;
    }
    // SAFETY: both are C strings that live for ever, the call copies them, and there is one thread only.
    unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    if !options_are_set {
        // SAFETY: there is one thread only, so that nobody reads the environment meanwhile.
        unsafe { std::env::set_var("RES_OPTIONS", "timeout:1 attempts:1") };
    }
}

//! PID 1: it looks at command and directory, forks the keeper, waits for it and for signals, then becomes the
//! application, or stays as its init.
//!
//! This process opens no socket to the network and reads no secret but the variables that the application gets.

#![expect(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "this is the module that forks; each use says why it is sound"
)]

mod hook;
mod supervise;
mod watch;

use std::ffi::{CString, OsString};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, chdir, fork, getgroups, getpid, setegid, seteuid, setgroups, setsid,
};

use crate::command::{self, Command};
use crate::config::{Config, Lifecycle, OnRotate};
use crate::error::Error as CrateError;
use crate::keeper::{self, Inheritance};
use crate::link;
use crate::log::Log;
use crate::secret::Secret;
use crate::secrets_dir::{self, Owner, SecretsDir};
use crate::system::exec;
use crate::system::name_lookup;
use crate::system::signal;
use crate::system::user::User;
use crate::vault;
use crate::wrapping_token::Source;

pub use hook::{Failure as HookFailure, Hook};

use watch::Watch;

/// How long the keeper may take to give back what it has, once a start is called off: what is under way, then the
/// revocation, and a little for itself.
const LAST_WORDS: Duration = vault::GRACE
    .saturating_add(keeper::REVOCATION)
    .saturating_add(Duration::from_millis(200));

/// How often a directory that another start has is looked at, in milliseconds.
const LOOK: u8 = 10;

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
    /// The token's life is over, and the application was ended for it.
    Expired,
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
            Error::Expired => {
                f.write_str("the application was ended, since the token's life is over")
            }
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

/// Starts the application. It returns in PID 1 when there is none or, with the exit code, when it has ended; and in the
/// keeper when its work is done.
pub fn run(
    config: &Config,
    source: Option<Source>,
    log: Log,
    began: Instant,
) -> Result<u8, CrateError> {
    check_randomness().map_err(system("read random numbers"))?;
    let received = signal::received();
    let command = as_user(config.user.as_ref(), || {
        Command::resolve(&config.command, config.received.value("PATH"))
    })??;
    command.check_size(&environment(config, &[])?, stack_limit())?;
    let on_rotate = on_rotate(config)?;
    let replaces_stdin = matches!(source, Some(Source::StandardInput));
    let (ours, theirs) = link::pair().map_err(|error| Error::System {
        step: "connect to the keeper",
        reason: error.to_string(),
    })?;
    let signals = received.listen().map_err(system("listen for signals"))?;
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
            return keeper::run(inheritance, source).map(|()| 0);
        }
        Ok(ForkResult::Parent { child }) => child,
        Err(errno) => {
            directory.withdraw();
            return Err(system("fork")(errno).into());
        }
    };
    drop((theirs, source));
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
    keeper.call_off();
    keeper.directory.withdraw();
    ended
}

/// Has the directory for this start alone, before anything is made in it and before the token is touched; the keeper of an
/// earlier start may need a moment to give everything back.
fn claim(directory: &mut SecretsDir, signals: &SignalFd) -> Result<(), CrateError> {
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

/// fork(2), but the child has no exit signal: the application that this process becomes finds with no wait(2) a child
/// that it did not start (clone(2), `__WALL`). Should the keeper die before it, it gets one SIGCHLD all the same, as the
/// kernel does after an exec.
///
/// Only while there is one thread.
fn fork_unseen() -> Result<ForkResult, Errno> {
    let none: libc::c_long = 0;
    // SAFETY: without any flag nothing is shared, and a stack of null is a copy of this one; the C library is not told
    // of a new process, which matters to a process with threads alone.
    let child = unsafe { libc::syscall(libc::SYS_clone, none, none, none, none, none) };
    Ok(match Errno::result(child)? {
        0 => ForkResult::Child,
        pid => ForkResult::Parent {
            child: Pid::from_raw(pid as libc::pid_t),
        },
    })
}

/// A child of this process, like any other.
///
/// Only while there is one thread.
fn fork_child() -> Result<ForkResult, Errno> {
    // SAFETY: there is one thread, so that the child may do whatever the parent may.
    unsafe { fork() }
}

/// A child that has ended or stopped, and its status, which may hold a signal without a name (waitpid(2)); none when
/// none has, an error when there are none.
fn wait_any() -> Result<Option<(Pid, libc::c_int)>, Errno> {
    let mut status = 0;
    // SAFETY: the call writes the status where it is told to, and nothing else.
    let child = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
    Ok(match Errno::result(child)? {
        0 => None,
        pid => Some((Pid::from_raw(pid), status)),
    })
}

/// Makes the keeper a process beside the application: what comes from a terminal and what others send to everybody does
/// not concern it.
///
/// Returns the umask that was received.
fn settle(config: &Config) -> Result<Mode, Error> {
    let _ = setsid();
    signal::block_all();
    signal::ignore_limits();
    // No file is made for others than its owner.
    let received = set_umask(Mode::S_IRWXG | Mode::S_IRWXO).map_err(system("set the umask"))?;
    // Whoever reads the application's output waits for the end of all that hold it.
    let null = open_null()?;
    nix::unistd::dup2_stdout(&null).map_err(system("replace standard output"))?;
    name_lookup::limit_patience(config.received.value("RES_OPTIONS").is_some());
    // A heap for each thread that fetches would stay for good.
    // SAFETY: the call takes two integers, and there is one thread only.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
    Ok(received)
}

/// umask(2), which only a seccomp filter lets fail.
fn set_umask(mask: Mode) -> Result<Mode, Errno> {
    // SAFETY: the call takes an integer and changes nothing but the mask.
    let before = unsafe { libc::umask(mask.bits()) };
    Mode::from_bits(before).ok_or_else(Errno::last)
}

/// Fails where the kernel gives no random numbers: libraries that need them would end the process without a word.
fn check_randomness() -> Result<(), Errno> {
    let mut byte = [0_u8; 1];
    // SAFETY: the buffer is as long as the call is told.
    let filled = unsafe { libc::getrandom(byte.as_mut_ptr().cast(), byte.len(), 0) };
    Errno::result(filled).map(drop)
}

/// The command that tells the application of a new generation, if there is one.
fn on_rotate(config: &Config) -> Result<Option<Command>, CrateError> {
    let OnRotate::Command { words, .. } = &config.upkeep.on_rotate else {
        return Ok(None);
    };
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let resolve = || Command::resolve(&words, config.received.value("PATH"));
    Ok(Some(as_user(config.user.as_ref(), resolve)??))
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
) -> Result<(Vec<CString>, bool), CrateError> {
    let link::Ready { variables, stays } = keeper.wait()?;
    as_user(config.user.as_ref(), || command.check())??;
    let environment = environment(config, &variables)?;
    command.check_size(&environment, stack_limit())?;
    if replaces_stdin {
        // What is left of it belongs to the token.
        nix::unistd::dup2_stdin(open_null()?).map_err(system("replace standard input"))?;
    }
    if let (Some(user), Lifecycle::Exec) = (&config.user, &config.lifecycle) {
        exec::become_user(user).map_err(CrateError::Exec)?;
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
) -> CrateError {
    if let Err(error) = keeper.release(stays).and_then(|()| keeper.check_signals()) {
        return error.into();
    }
    let passed = passed_descriptors(config);
    match exec::exec(command, environment, passed, signal::received()) {
        Ok(never) => match never {},
        Err(error) => CrateError::Exec(error),
    }
}

/// Leaves the working directory that was received, so that nothing holds its file system once the application has left it
/// too; gives the way back, for commands that are to start there.
///
/// A directory that has no name, or another one's by now, is not left where there are such commands.
pub fn leave_working_directory(has_commands: bool) -> Option<PathBuf> {
    let identity = |path: &Path| {
        let stat = nix::sys::stat::stat(path).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    let received = std::env::current_dir().ok().filter(|path| {
        path.is_absolute() && identity(path).is_some_and(|it| Some(it) == identity(Path::new(".")))
    });
    if has_commands && received.is_none() {
        return None;
    }
    let _ = chdir("/");
    received
}

/// Has this process take nothing of what is meant for the application.
pub fn replace_stdin() {
    let _ = open_null().map(nix::unistd::dup2_stdin);
}

/// Has this process say nothing any more: whoever reads what the application says waits for the end of both.
pub fn replace_stderr() {
    let _ = open_null().map(nix::unistd::dup2_stderr);
}

fn open_null() -> Result<std::fs::File, Error> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    null.map_err(|error| Error::System {
        step: "open /dev/null",
        reason: error.to_string(),
    })
}

/// What the application gets: what was received without tokens, then what the keeper added.
pub fn environment(
    config: &Config,
    variables: &[Secret<Vec<u8>>],
) -> Result<Vec<CString>, CrateError> {
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
    environment.extend(variables.iter().map(|variable| {
        // With room for the NUL: what is moved leaves a copy behind.
        let mut copy = Vec::with_capacity(variable.expose().len() + 1);
        copy.extend_from_slice(variable.expose());
        copy
    }));
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

/// A descriptor that becomes readable when the process ends, which need not be a child (pidfd_open(2)).
pub fn pidfd(process: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes two integers and returns a new descriptor or an error.
    let descriptor =
        Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as libc::c_int) })
}

/// Sends the application a signal.
pub fn signal(
    pid: Pid,
    process: Option<&OwnedFd>,
    signal: Signal,
    user: Option<&User>,
) -> Result<(), CrateError> {
    with_their_rights(user, || match process {
        Some(process) => match send_by_descriptor(process, signal) {
            // A seccomp filter does not know the call, or there is no right to signal: kill(2) tells. The number is the
            // application's for as long as it has not ended.
            Err(Errno::ENOSYS | Errno::EPERM) if !has_ended(process) => kill(pid, signal),
            sent => sent,
        },
        None => kill(pid, signal),
    })
}

/// pidfd_send_signal(2).
fn send_by_descriptor(process: &OwnedFd, signal: Signal) -> Result<(), Errno> {
    // SAFETY: the call takes integers and a null pointer, which stands for no further information.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal as libc::c_int,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::ZERO) != Ok(0)
}

/// Sends a signal, with the rights of the application's user where root has none: in a container without CAP_KILL.
fn with_their_rights(
    user: Option<&User>,
    send: impl Fn() -> Result<(), Errno>,
) -> Result<(), CrateError> {
    match send() {
        Err(Errno::EPERM) if user.is_some() => as_user(user, send)?,
        sent => sent,
    }
    .map_err(|errno| system("signal the application")(errno).into())
}

/// Ends a process that has become nothing else.
fn leave(code: u8) -> ! {
    // SAFETY: the call ends this process, and what its parent has to tidy up at an exit stays the parent's.
    unsafe { libc::_exit(code.into()) }
}

/// Gives memory that a start needed, and nobody needs now, back to the system.
pub fn trim_memory() {
    // SAFETY: the call takes an integer; it gives back what nobody has allocated.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
    forget_code();
}

/// Lets go of the pages of code and constants that were used so far, some 4 MiB: those that are used again come back from
/// the file.
pub fn forget_code() {
    // SAFETY: the function is of the type that is asked for, and needs no data.
    unsafe { libc::dl_iterate_phdr(Some(forget_segments), std::ptr::null_mut()) };
}

// SAFETY: only dl_iterate_phdr(3) calls it, which describes a loaded program truly.
unsafe extern "C" fn forget_segments(
    program: *mut libc::dl_phdr_info,
    _: usize,
    _: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the pointer is to a description that is valid during the call, and so is the one in it.
    let (base, headers) = unsafe {
        let program = &*program;
        let count = program.dlpi_phnum.into();
        (
            program.dlpi_addr,
            std::slice::from_raw_parts(program.dlpi_phdr, count),
        )
    };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let page = 4095;
        let begin = (base + header.p_vaddr) & !page;
        let end = (base + header.p_vaddr + header.p_memsz + page) & !page;
        // SAFETY: a private mapping of a file that nobody can have written: what is dropped is read again when it is
        // needed. Pages are of 4 KiB or more; with larger ones the call refuses, and nothing is dropped.
        unsafe {
            libc::madvise(
                begin as *mut libc::c_void,
                (end - begin) as usize,
                libc::MADV_DONTNEED,
            )
        };
    }
    0
}

//! The command that tells the application of a new generation: the keeper's child, with the application's user and
//! environment.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, setsid};

use crate::application::forget;
use crate::command::Command;
use crate::system::fork::{fork_child, leave};
use crate::system::process::{pidfd, with_their_rights};
use crate::system::user::User;
use crate::system::{self, exec, refused, signal};

/// A command that was started and whose end is awaited.
pub(super) struct Hook {
    child: Pid,
    /// A descriptor of the process; where there is none, of the signal that tells of its end.
    ended: OwnedFd,
}

/// The end of a command that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The command ended with this exit code.
    Code(i32),
    /// This signal ended the command.
    Killed(Signal),
    /// The command took too long and was killed.
    Late,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Code(code) => write!(f, "it ended with {code}"),
            Failure::Killed(signal) => write!(f, "it was ended by {signal}"),
            Failure::Late => f.write_str("it took too long and was killed"),
        }
    }
}

impl Hook {
    /// Starts the command in a session of its own, with this umask and in this working directory, or else in the own one;
    /// what the command prints goes to standard error.
    ///
    /// The caller must be the only thread.
    pub(super) fn start(
        command: &Command,
        environment: Vec<CString>,
        user: Option<&User>,
        umask: Mode,
        working_directory: Option<&Path>,
    ) -> Result<Hook, system::Error> {
        let child = match fork_child().map_err(refused("fork"))? {
            ForkResult::Child => {
                nix::sys::stat::umask(umask);
                leave(run(command, &environment, user, working_directory).exit_code())
            }
            ForkResult::Parent { child } => child,
        };
        forget(environment);
        match pidfd(child).or_else(|_| signal::child_ended()) {
            Ok(ended) => Ok(Hook { child, ended }),
            Err(errno) => {
                end(child, user);
                Err(refused("watch the command")(errno))
            }
        }
    }

    /// Learns how the command ended; none while it runs.
    pub(super) fn outcome(&self) -> Option<Result<(), Failure>> {
        // The signal is taken, so that it does not tell of the same end for ever. Of a process nothing can be read.
        let _ = nix::unistd::read(&self.ended, &mut [0; 128]);
        match waitpid(self.child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => None,
            Ok(WaitStatus::Exited(_, 0)) => Some(Ok(())),
            Ok(WaitStatus::Exited(_, code)) => Some(Err(Failure::Code(code))),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Err(Failure::Killed(signal))),
            _ => Some(Err(Failure::Code(-1))),
        }
    }

    /// Ends the command, with every process that it started and that has not left its group.
    pub(super) fn kill(self, user: Option<&User>) -> Failure {
        end(self.child, user);
        Failure::Late
    }
}

/// Kills the child and, once it has one, its group.
fn end(child: Pid, user: Option<&User>) {
    let group = Pid::from_raw(-child.as_raw());
    for target in [group, child] {
        let _ = with_their_rights(user, || kill(target, Signal::SIGKILL));
    }
    let until = Instant::now() + Duration::from_secs(1);
    // One that the kernel does not let end must not hold the keeper up.
    while matches!(
        waitpid(child, Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::StillAlive)
    ) && Instant::now() < until
    {
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl AsFd for Hook {
    /// The descriptor that is readable when the command has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

/// Becomes the command; returns the error when that fails.
fn run(
    command: &Command,
    environment: &[CString],
    user: Option<&User>,
    working_directory: Option<&Path>,
) -> exec::Error {
    // A group that can be killed as a whole.
    let _ = setsid();
    let stderr = std::io::stderr();
    if let Err(errno) = nix::unistd::dup2_stdout(&stderr) {
        return refused("replace standard output")(errno).into();
    }
    if let Err(error) = exec::become_user_in(working_directory, user) {
        return error.into();
    }
    let (path, arguments) = (&command.path, &command.arguments);
    match exec::exec(path, arguments, environment, 0, signal::received()) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

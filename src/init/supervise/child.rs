//! The application's process: forked, detached, and heard until its exec.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stdin, dup2_stdout, getpgrp, getpid, pipe2, setpgid};

use super::terminal::Terminal;
use crate::application::{environment, forget, passed_descriptors};
use crate::command::Command;
use crate::config::{Config, OnRotate};
use crate::init::{Failure, stack_limit};
use crate::secret::Secret;
use crate::system::descriptors::open_null;
use crate::system::fork::{fork_child, leave};
use crate::system::memory::trim_memory;
use crate::system::process::{as_user, leave_working_directory};
use crate::system::{self, exec, refused, signal};

/// The time that an exec mostly takes at the most, in milliseconds.
const STOPPED: u8 = 20;

/// The things that a start of the application needs.
pub(super) struct Launch<'a> {
    command: &'a Command,
    config: &'a Config,
    terminal: Option<Terminal>,
    /// The directory in which the application starts, when this process is in another one.
    working_directory: Option<PathBuf>,
}

impl<'a> Launch<'a> {
    pub(super) fn new(command: &'a Command, config: &'a Config) -> Launch<'a> {
        Launch {
            command,
            config,
            terminal: Terminal::find(),
            working_directory: None,
        }
    }

    pub(super) fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_ref()
    }

    /// Starts the application for the first time.
    pub(super) fn start(&mut self, environment: Vec<CString>) -> Result<Pid, Failure> {
        let child = self.fork(environment)?;
        self.let_go();
        Ok(child)
    }

    /// Starts the application again.
    pub(super) fn start_again(&self, variables: &[Secret<Vec<u8>>]) -> Result<Pid, Failure> {
        let child = self.fork(environment(self.config, variables)?)?;
        trim_memory();
        Ok(child)
    }

    /// Fails where the application could not be started with these variables.
    pub(super) fn check(&self, variables: &[Secret<Vec<u8>>]) -> Result<(), Failure> {
        let user = self.config.user.as_ref();
        as_user(user, || self.command.check()).map_err(Failure::User)??;
        let environment = environment(self.config, variables)?;
        let checked = self.command.check_size(&environment, stack_limit());
        forget(environment);
        Ok(checked?)
    }

    /// Starts the application in a process group of its own.
    fn fork(&self, mut environment: Vec<CString>) -> Result<Pid, Failure> {
        let (failure, reporter) = pipe2(OFlag::O_CLOEXEC).map_err(refused("make a pipe"))?;
        let (passed, parent, own_group) = (passed_descriptors(self.config), getpid(), getpgrp());
        match fork_child().map_err(refused("fork"))? {
            ForkResult::Child => {
                if passed > 0 {
                    readdress(&mut environment, parent, getpid());
                }
                let Err(error) = self
                    .detach(own_group)
                    .map_err(exec::Error::System)
                    .and_then(|()| {
                        let (path, arguments) = (&self.command.path, &self.command.arguments);
                        exec::exec(path, arguments, &environment, passed, signal::received())
                    });
                report_failure(reporter, &error);
                leave(0)
            }
            ForkResult::Parent { child } => {
                let closed = nix::unistd::close(reporter);
                forget(environment);
                if let Err(errno) = closed {
                    // Held open here too it would have no end, and the exec could not be told from one that is to come.
                    let _ = signal::send(child, Signal::SIGKILL as i32);
                    let _ = waitpid(child, None);
                    return Err(refused("close a pipe")(errno).into());
                }
                match read_failure(failure, child).map_err(refused("hear from the application"))? {
                    None => Ok(child),
                    Some(error) => {
                        let _ = waitpid(child, None);
                        Err(Failure::Exec(error))
                    }
                }
            }
        }
    }

    /// Detaches the child: its own process group, which gets the terminal, its own directory and its own user.
    fn detach(&self, parent_group: Pid) -> Result<(), system::Error> {
        let here = Pid::from_raw(0);
        setpgid(here, here).map_err(refused("make a process group"))?;
        let terminal = self.terminal.as_ref();
        if let Some(terminal) = terminal.filter(|terminal| terminal.is_whole) {
            terminal.pass(parent_group, getpid());
        }
        exec::become_user_in(self.working_directory.as_deref(), self.config.user.as_ref())
    }

    /// Lets go of what the application holds, so that the application's end alone closes it; standard error stays, since
    /// this process writes to it too. What an application that starts again must find stays, too.
    fn let_go(&mut self) {
        if let OnRotate::Restart { .. } = self.config.renewal.on_rotate {
            exec::close_inherited(passed_descriptors(self.config));
            self.working_directory = leave_working_directory(true);
        } else {
            if let Ok(null) = open_null() {
                let _ = dup2_stdin(&null);
                let _ = dup2_stdout(&null);
            }
            exec::close_inherited(0);
            leave_working_directory(false);
        }
        trim_memory();
    }
}

/// Makes descriptors that were handed in the child's, by its number (sd_listen_fds(3)).
fn readdress(environment: &mut Vec<CString>, from: Pid, to: Pid) {
    let ours = format!("LISTEN_PID={from}");
    let theirs = format!("LISTEN_PID={to}");
    // It names the same process in another way.
    environment.retain(|variable| !variable.as_bytes().starts_with(b"LISTEN_PIDFDID="));
    for variable in environment {
        if variable.as_bytes() == ours.as_bytes()
            && let Ok(theirs) = CString::new(theirs.as_str())
        {
            *variable = theirs;
        }
    }
}

fn report_failure(reporter: OwnedFd, error: &exec::Error) {
    let (errno, step) = match error {
        exec::Error::Refused(errno) => (*errno, ""),
        exec::Error::System(error) => (error.errno, error.step),
    };
    let errno = (errno as i32).to_le_bytes();
    // Shorter than what a pipe takes in one piece, and the parent reads.
    let _ = File::from(reporter).write_all(&[&errno, step.as_bytes()].concat());
}

/// Waits for the exec, and returns why there was none, if there was none.
fn read_failure(failure: OwnedFd, child: Pid) -> Result<Option<exec::Error>, Errno> {
    while poll(
        &mut [PollFd::new(failure.as_fd(), PollFlags::POLLIN)],
        STOPPED,
    ) == Ok(0)
    {
        // The terminal may stop the child in the moment before its exec, when no shell would see a stopped job.
        let stopped = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
        if let Ok(WaitStatus::Stopped(..)) = waitid(Id::Pid(child), stopped) {
            let _ = killpg(child, Signal::SIGCONT);
        }
    }
    let mut report = Vec::new();
    File::from(failure)
        .read_to_end(&mut report)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    // One that was killed before has said nothing; how it ended is its exit code.
    let Some((errno, step)) = report.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let errno = Errno::from_raw(i32::from_le_bytes(*errno));
    Ok(Some(match step {
        [] => exec::Error::Refused(errno),
        _ => exec::Error::System(system::Error {
            // Few bytes, and few times: the process ends with it, or a restart is tried a few times more.
            step: String::from_utf8_lossy(step).into_owned().leak(),
            errno,
        }),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_pid_becomes_the_childs_and_listen_pidfdid_is_dropped() {
        let strings = |words: &[&str]| -> Vec<CString> {
            let words = words.iter();
            words
                .map(|word| CString::new(*word).expect("no NUL"))
                .collect()
        };
        let mut environment = strings(&[
            "A=LISTEN_PID=7",
            "LISTEN_PID=7",
            "LISTEN_FDS=2",
            "LISTEN_PIDFDID=3",
        ]);
        readdress(&mut environment, Pid::from_raw(7), Pid::from_raw(11));
        assert_eq!(
            environment,
            strings(&["A=LISTEN_PID=7", "LISTEN_PID=11", "LISTEN_FDS=2"])
        );
    }

    #[test]
    fn reason_of_a_failed_exec_arrives_and_silence_is_success() {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let system = system::Error {
            step: "set the user",
            errno: Errno::EPERM,
        };
        report_failure(writer, &exec::Error::System(system));
        let error = read_failure(reader, getpid()).expect("it can be read");
        assert_eq!(error, Some(exec::Error::System(system)));
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        report_failure(writer, &exec::Error::Refused(Errno::ETXTBSY));
        let error = read_failure(reader, getpid()).expect("it can be read");
        assert_eq!(error, Some(exec::Error::Refused(Errno::ETXTBSY)));
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        drop(writer);
        assert!(
            read_failure(reader, getpid())
                .expect("it can be read")
                .is_none()
        );
    }
}

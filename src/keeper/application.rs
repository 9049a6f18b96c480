//! The application, as far as the keeper has to do with it: its end, and what the keeper tells it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

use crate::link::KeeperEnd;
use crate::secret::Secret;
use crate::system::signal::{Disposition, Waiting};
use crate::system::user::User;
use crate::system::{self, process, refused};
use crate::vault::{Deadline, GRACE, Limits};

/// The application's place among the processes.
pub(super) enum Application {
    /// The application is the process that the keeper was forked from.
    Beside {
        /// The application's process.
        pid: Pid,
        /// A descriptor that is readable when the application has ended; none where the kernel cannot tell.
        ended: Option<Arc<OwnedFd>>,
        /// The application's user, when the keeper runs as another one.
        user: Option<User>,
    },
    /// The application is PID 1's child, and the keeper asks PID 1.
    Below(KeeperEnd),
}

impl Application {
    /// The descriptor that is readable when the application has ended, or PID 1 is ending it.
    pub(super) fn ended(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Application::Beside { ended, .. } => ended.as_ref().map(|ended| ended.as_fd()),
            Application::Below(link) => Some(link.as_fd()),
        }
    }

    /// The limits of a request for as long as the application lives.
    pub(super) fn limits(&self) -> Limits {
        let abort = match self {
            Application::Beside { ended, .. } => ended.iter().cloned().collect(),
            Application::Below(link) => link.ending().into_iter().collect(),
        };
        Limits {
            deadline: Deadline::at(Instant::now()),
            abort,
            grace: GRACE,
            persistent: false,
        }
    }

    /// Whether the application has ended, where no descriptor tells: then this process has got another parent.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Application::Beside { pid, ended: None, .. } if getppid() != *pid)
    }

    /// Waits for the application's end; returns at once where no descriptor tells of it.
    pub(super) fn await_end(&self) {
        let Some(ended) = self.ended() else { return };
        let mut ready = [PollFd::new(ended, PollFlags::POLLIN)];
        while poll(&mut ready, PollTimeout::NONE) == Err(Errno::EINTR) {}
    }

    /// Sends the application a signal.
    pub(super) fn signal(&mut self, signal: Signal) -> Result<(), system::Error> {
        match self {
            Application::Beside { pid, ended, user } => {
                process::send(*pid, ended.as_deref(), signal, user.as_ref())
            }
            Application::Below(link) => link.send_signal(signal).map_err(told),
        }
    }

    /// Sends the application a signal of `on_rotate` as soon as it has a handler; returns one that the keeper has to wait
    /// with.
    pub(super) fn tell(&mut self, signal: Signal) -> Result<Option<Waiting>, system::Error> {
        match self {
            Application::Beside { .. } => Ok(Some(Waiting::new(signal))),
            Application::Below(link) => link.tell(signal).map(|()| None).map_err(told),
        }
    }

    /// The effect that a signal would have on the application, as far as the keeper can see.
    pub(super) fn disposition(&self, signal: Signal) -> Disposition {
        match self {
            Application::Beside { pid, .. } => Disposition::of(*pid, signal),
            Application::Below(_) => Disposition::Unknown,
        }
    }

    /// Has the application end, and start again with these variables; false where PID 1 refuses that, and says why.
    pub(super) fn restart(
        &mut self,
        variables: &[(String, Secret)],
    ) -> Result<bool, system::Error> {
        match self {
            // The configuration refuses a restart where there is no PID 1 to do it.
            Application::Beside { .. } => Ok(false),
            Application::Below(link) => {
                link.restart(variables).map_err(told)?;
                Ok(link.await_answer())
            }
        }
    }

    /// Ends the application.
    pub(super) fn terminate(&mut self) -> Result<(), system::Error> {
        match self {
            Application::Beside { .. } => self.signal(Signal::SIGTERM),
            Application::Below(link) => link.terminate().map_err(told),
        }
    }
}

/// The error of a message that PID 1 did not get.
pub(super) fn told(error: std::io::Error) -> system::Error {
    refused("tell PID 1")(error)
}

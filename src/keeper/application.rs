//! The application, as far as the keeper has to do with it: it ends, and it is told things.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

use crate::link::KeeperEnd;
use crate::system::signal::{Disposition, Waiting};
use crate::system::user::User;
use crate::system::{self, process, refused};
use crate::vault::{Deadline, GRACE, Limits};

/// Where the application is.
pub(super) enum Application {
    /// It is the process that PID 1 was.
    Beside {
        /// Its process.
        pid: Pid,
        /// Readable when it has ended; none where the kernel cannot tell.
        ended: Option<Arc<OwnedFd>>,
        /// Whom it runs as, when that is not who the keeper runs as.
        user: Option<User>,
    },
    /// It is PID 1's child, and PID 1 can be asked.
    Below(KeeperEnd),
}

impl Application {
    /// Readable when there is an end to it all.
    pub(super) fn ended(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Application::Beside { ended, .. } => ended.as_ref().map(|ended| ended.as_fd()),
            Application::Below(link) => Some(link.as_fd()),
        }
    }

    /// What ends a request besides its answer, for as long as the application lives.
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

    /// It has ended, where no descriptor tells: then this process has got another parent.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Application::Beside { pid, ended: None, .. } if getppid() != *pid)
    }

    /// Waits for its end; at once where nobody can tell.
    pub(super) fn await_end(&self) {
        let Some(ended) = self.ended() else { return };
        let mut ready = [PollFd::new(ended, PollFlags::POLLIN)];
        while poll(&mut ready, PollTimeout::NONE) == Err(Errno::EINTR) {}
    }

    /// Sends it a signal.
    pub(super) fn signal(&mut self, signal: Signal) -> Result<(), system::Error> {
        match self {
            Application::Beside { pid, ended, user } => {
                process::send(*pid, ended.as_deref(), signal, user.as_ref())
            }
            Application::Below(link) => link.send_signal(signal).map_err(told),
        }
    }

    /// Sends it a signal of `on_rotate` as soon as it has a handler; gives back one that the keeper has to wait with.
    pub(super) fn tell(&mut self, signal: Signal) -> Result<Option<Waiting>, system::Error> {
        match self {
            Application::Beside { .. } => Ok(Some(Waiting::new(signal))),
            Application::Below(link) => link.tell(signal).map(|()| None).map_err(told),
        }
    }

    /// Tells what a signal would do to it, as far as the keeper can see.
    pub(super) fn disposition(&self, signal: Signal) -> Disposition {
        match self {
            Application::Beside { pid, .. } => Disposition::of(*pid, signal),
            Application::Below(_) => Disposition::Unknown,
        }
    }

    /// Has it ended.
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

//! PID 1's side of a start: it waits for the keeper and for signals, and for neither without an end.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Error, LAST_WORDS, system, watch};
use crate::error::Error as CrateError;
use crate::link::{News, Parent};
use crate::secret::Secret;
use crate::signal;

/// The keeper and what can be heard while it works.
pub(super) struct Watch {
    /// The link to it.
    pub(super) parent: Parent,
    /// Those that end a start.
    pub(super) signals: SignalFd,
    /// Its process.
    pub(super) child: Pid,
    /// When it must be done, whatever happens.
    pub(super) until: Instant,
}

impl Watch {
    /// Waits for the keeper's message; the inner error is how the start ended without one.
    #[expect(
        clippy::type_complexity,
        reason = "the outer error is this process's own"
    )]
    pub(super) fn wait(
        &mut self,
    ) -> Result<Result<Vec<Secret<Vec<u8>>>, Result<u8, CrateError>>, CrateError> {
        loop {
            if let Some(signal) = signal::pending(&self.signals) {
                self.call_off();
                return Ok(Err(Err(Error::Interrupted { signal }.into())));
            }
            match self.parent.read().map_err(link_failed)? {
                News::Ready(variables) => return Ok(Ok(variables)),
                News::Ended => {
                    return Ok(Err(match self.reap()? {
                        WaitStatus::Exited(_, 0) => Err(Error::KeeperEnded.into()),
                        WaitStatus::Exited(_, code) => Ok(u8::try_from(code).unwrap_or(70)),
                        WaitStatus::Signaled(_, signal, _) => {
                            Err(Error::KeeperKilled { signal }.into())
                        }
                        _ => Err(Error::KeeperEnded.into()),
                    }));
                }
                News::Nothing => {}
            }
            if !self.poll(self.until, true)? {
                self.call_off();
                return Ok(Err(Err(Error::Late.into())));
            }
        }
    }

    /// Waits for news of the keeper, and for signals if they count; false when it is too late.
    fn poll(&self, until: Instant, with_signals: bool) -> Result<bool, Error> {
        let left = until.saturating_duration_since(Instant::now());
        let left =
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut ready = vec![PollFd::new(self.parent.as_fd(), PollFlags::POLLIN)];
        if with_signals {
            ready.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut ready, left) {
            Ok(0) => Ok(Instant::now() < until),
            Ok(_) | Err(Errno::EINTR) => Ok(true),
            Err(errno) => Err(system("wait for the keeper")(errno)),
        }
    }

    /// Ends the keeper: it gets time to give back what it has.
    pub(super) fn call_off(&mut self) {
        self.parent.call_off();
        let _ = self.await_end();
    }

    /// Lets the keeper end; an exit code when it could not.
    pub(super) fn release(&mut self) -> Result<Option<u8>, CrateError> {
        self.parent.release().map_err(link_failed)?;
        match self.await_end()? {
            WaitStatus::Exited(_, 0) => Ok(None),
            WaitStatus::Exited(_, code) => Ok(Some(u8::try_from(code).unwrap_or(70))),
            WaitStatus::Signaled(_, signal, _) => Err(Error::KeeperKilled { signal }.into()),
            _ => Err(Error::KeeperEnded.into()),
        }
    }

    fn await_end(&mut self) -> Result<WaitStatus, Error> {
        let until = Instant::now() + LAST_WORDS;
        loop {
            match self.parent.read() {
                // A message that is still under way does not matter any more.
                Ok(News::Nothing | News::Ready(_)) if self.poll(until, false)? => {}
                Ok(News::Ended) => break,
                _ => {
                    let _ = kill(self.child, Signal::SIGKILL);
                    break;
                }
            }
        }
        self.reap()
    }

    /// Learns how the keeper ended; one that does not end is killed.
    fn reap(&self) -> Result<WaitStatus, Error> {
        let until = Instant::now() + LAST_WORDS;
        let watched = watch(self.child).ok();
        let mut killed = false;
        loop {
            match waitpid(self.child, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                status => return status.map_err(system("wait for the keeper")),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && killed {
                // Not even SIGKILL ends it; as PID 1 goes, the kernel takes it along.
                return Err(Error::Late);
            }
            if left.is_zero() {
                killed = kill(self.child, Signal::SIGKILL).is_ok();
            }
            let left = left.max(Duration::from_millis(100));
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let _ = match &watched {
                Some(watched) => poll(&mut [PollFd::new(watched.as_fd(), PollFlags::POLLIN)], left),
                // Linux before 5.3.
                None => poll(&mut [], 1_u8),
            };
        }
    }
}

fn link_failed(error: std::io::Error) -> Error {
    Error::System {
        step: "hear from the keeper",
        reason: error.to_string(),
    }
}

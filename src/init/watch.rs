//! PID 1's side of a start: waits for the keeper and for signals, and for neither without an end.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Error, Failure, LAST_WORDS};
use crate::link::{News, ParentEnd, Ready};
use crate::log::{Level, Log};
use crate::secrets_dir::SecretsDir;
use crate::system::process::pidfd;
use crate::system::{refused, signal};

/// The keeper, and all that can be heard while it works.
pub(super) struct Watch {
    /// The link to the keeper.
    pub(super) link: ParentEnd,
    /// The signals that end a start.
    pub(super) signals: SignalFd,
    /// The keeper's process.
    pub(super) child: Pid,
    /// The secrets directory, which both processes hold until the application runs.
    pub(super) directory: SecretsDir,
    /// The time by which the keeper must be done, whatever happens.
    pub(super) until: Instant,
    /// The keeper's status, once it was waited for: its number may be another process's by now.
    pub(super) ended: Option<WaitStatus>,
}

impl Watch {
    /// Waits for the keeper's message: the variables for the application.
    pub(super) fn wait(&mut self) -> Result<Ready, Failure> {
        loop {
            self.check_signals()?;
            match self.link.read().map_err(refused("hear from the keeper"))? {
                News::Ready(ready) => return Ok(ready),
                News::Ended => {
                    outcome(self.reap()?)?;
                    return Err(Error::KeeperEnded.into());
                }
                _ => {}
            }
            if !self.poll(self.until, true)? {
                return Err(Error::Late.into());
            }
        }
    }

    /// Fails if a signal has come that ends the start.
    pub(super) fn check_signals(&self) -> Result<(), Error> {
        match signal::pending(&self.signals) {
            Some(signal) => Err(Error::Interrupted { signal }),
            None => Ok(()),
        }
    }

    /// Waits for news of the keeper, and for signals if they count; false when the time is over.
    fn poll(&self, until: Instant, with_signals: bool) -> Result<bool, Failure> {
        let left = until.saturating_duration_since(Instant::now());
        let left =
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut ready = vec![PollFd::new(self.link.as_fd(), PollFlags::POLLIN)];
        if with_signals {
            ready.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut ready, left) {
            Ok(0) => Ok(Instant::now() < until),
            Ok(_) | Err(Errno::EINTR) => Ok(true),
            Err(errno) => Err(refused("wait for the keeper")(errno).into()),
        }
    }

    /// Ends the keeper, unless it has ended, with time to give back what it has. A keeper that needs more is named in
    /// the log.
    pub(super) fn call_off(&mut self, log: Log) {
        let was_there = self.ended.is_none();
        self.link.call_off();
        let ended = self.await_end();
        if was_there && !matches!(ended, Ok(WaitStatus::Exited(..))) {
            let text = "the keeper did not end by itself and was killed: a token that was unwrapped and not revoked lives on; revoke the accessor that `unwrapped` names";
            log.event(Level::Warn, "keeper_lost", text, &[]);
        }
    }

    /// Lets the keeper go on, and waits for one that does not stay.
    pub(super) fn release(&mut self, stays: bool) -> Result<(), Failure> {
        match (self.link.release(), stays) {
            (Ok(()), true) => Ok(()),
            (Ok(()), false) => Ok(outcome(self.await_end()?)?),
            (Err(_), _) => {
                outcome(self.reap()?)?;
                Err(Error::KeeperEnded.into())
            }
        }
    }

    fn await_end(&mut self) -> Result<WaitStatus, Failure> {
        let until = Instant::now() + LAST_WORDS;
        loop {
            match self.link.read() {
                Ok(News::Ended) => break,
                // A message that is still under way does not matter any more.
                Ok(_) if self.poll(until, false)? => {}
                _ => {
                    let _ = kill(self.child, Signal::SIGKILL);
                    break;
                }
            }
        }
        self.reap()
    }

    /// Learns how the keeper ended, and kills one that does not end.
    pub(super) fn reap(&mut self) -> Result<WaitStatus, Failure> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let until = Instant::now() + LAST_WORDS;
        let pidfd = pidfd(self.child).ok();
        let mut killed = false;
        loop {
            match waitpid(self.child, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Ok(status) => {
                    self.ended = Some(status);
                    return Ok(status);
                }
                Err(errno) => return Err(refused("wait for the keeper")(errno).into()),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && killed {
                // Not even SIGKILL ends it; as PID 1 goes, the kernel takes it along.
                return Err(Error::Late.into());
            }
            if left.is_zero() {
                let _ = kill(self.child, Signal::SIGKILL);
                killed = true;
            }
            let left = left.max(Duration::from_millis(100));
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let _ = match &pidfd {
                Some(pidfd) => poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], left),
                // Linux before 5.3.
                None => poll(&mut [], 1_u8),
            };
        }
    }
}

fn outcome(status: WaitStatus) -> Result<(), Error> {
    match status {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, code) => Err(Error::Told {
            exit_code: u8::try_from(code).unwrap_or(70),
        }),
        WaitStatus::Signaled(_, signal, _) => Err(Error::KeeperKilled { signal }),
        _ => Err(Error::KeeperEnded),
    }
}

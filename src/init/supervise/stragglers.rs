//! Processes that the application leaves behind: they end soon, in their own way or by force.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, getpid};

use crate::system::fork::wait_any;
use crate::system::process::{as_user, with_their_rights};
use crate::system::signal;
use crate::system::user::User;

/// The time for stragglers to end in their own way.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time for the kernel to end stragglers.
const KILLED: Duration = Duration::from_millis(100);
/// The pause between two looks, in milliseconds: the end of another process's child is no event.
const LOOK: u8 = 10;

/// All processes that this one may signal (kill(2)).
const ALL: Pid = Pid::from_raw(-1);

/// The places where stragglers are found.
pub(super) struct Stragglers<'a> {
    /// The application, whose process group is one of the places.
    pub(super) application: Pid,
    /// True where orphans of other groups were adopted.
    pub(super) adopted: bool,
    /// The keeper, a child of this process that is no straggler.
    pub(super) keeper: Pid,
    /// The application's user, where that is not the user of this process.
    pub(super) user: Option<&'a User>,
}

impl Stragglers<'_> {
    /// Ends the stragglers; a signal that asks this process to end cuts their time short.
    pub(super) fn end(&self, signals: &SignalFd) {
        self.tell_and_wait(Signal::SIGTERM, PATIENCE, signals);
        if !is_first() {
            self.tell_and_wait(Signal::SIGKILL, KILLED, signals);
        }
    }

    fn tell_and_wait(&self, signal: Signal, patience: Duration, signals: &SignalFd) {
        let until = Instant::now() + patience;
        let mut told = HashSet::new();
        loop {
            // The end of one makes orphans of others.
            for straggler in self.addressees() {
                if told.insert(straggler) {
                    self.send(straggler, signal);
                }
            }
            let is_any_left = self.reap_and_look();
            let is_hurried = is_hurried(signals);
            if !is_any_left || is_hurried || Instant::now() >= until {
                return;
            }
            let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut ready, PollTimeout::from(LOOK));
        }
    }

    fn send(&self, straggler: Pid, signal: Signal) {
        let send = || signal::send(straggler, signal as i32);
        // The keeper gets what is sent to all, so that this succeeds even if no straggler gets it.
        if straggler == ALL && self.user.is_some() && !may_signal_others() {
            let _ = as_user(self.user, send);
        }
        let _ = with_their_rights(self.user, send);
    }

    fn addressees(&self) -> Vec<Pid> {
        if is_first() {
            // The keeper has blocked what can be blocked, and does not mind. A straggler that does not get the signal
            // ends with this process.
            return vec![ALL];
        }
        let mut addressees = vec![self.group()];
        if self.adopted {
            let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
            let children = children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok());
            addressees.extend(
                children
                    .map(Pid::from_raw)
                    .filter(|child| *child != self.keeper),
            );
        }
        addressees
    }

    fn reap_and_look(&self) -> bool {
        let has_children = loop {
            match wait_any() {
                Ok(Some(_)) => {}
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if is_first() {
            return has_children;
        }
        // Signal 0 only tells whether there is a process (kill(2)).
        (self.adopted && has_children) || signal::send(self.group(), 0) != Err(Errno::ESRCH)
    }

    fn group(&self) -> Pid {
        Pid::from_raw(-self.application.as_raw())
    }
}

/// Says whether this process has CAP_KILL (capabilities(7), `CapEff` in `/proc/PID/status`).
fn may_signal_others() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_none_or(|bits| bits & (1 << 5) != 0)
}

fn is_first() -> bool {
    getpid() == Pid::from_raw(1)
}

/// Says whether a signal asks this process to end; all that have come are taken, since there is no other reader left.
fn is_hurried(signals: &SignalFd) -> bool {
    let mut hurried = false;
    while let Ok(Some(info)) = signals.read_signal() {
        hurried |= [Signal::SIGTERM, Signal::SIGINT]
            .iter()
            .any(|signal| *signal as u32 == info.ssi_signo);
    }
    hurried
}

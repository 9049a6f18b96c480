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

/// The processes that are stragglers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Every process that this one may signal: as PID 1, at its own end.
    Everything,
    /// The application's process group, and orphans of other groups that were adopted.
    Adopted,
    /// The application's process group.
    Group,
}

impl Reach {
    /// Returns the reach at the end of this process.
    pub(super) fn of_all(is_subreaper: bool) -> Reach {
        if is_first() {
            Reach::Everything
        } else {
            Reach::of_application(is_subreaper)
        }
    }

    /// Returns the reach where only the application ends: what others have started in its container goes on.
    pub(super) fn of_application(is_subreaper: bool) -> Reach {
        if is_subreaper || is_first() {
            Reach::Adopted
        } else {
            Reach::Group
        }
    }
}

/// The places where stragglers are found.
pub(super) struct Stragglers<'a> {
    /// The application, whose process group is one of the places; none where that has been cleared already.
    pub(super) application: Option<Pid>,
    pub(super) reach: Reach,
    /// The keeper, a child of this process that is no straggler.
    pub(super) keeper: Pid,
    /// The application's user, where that is not the user of this process.
    pub(super) user: Option<&'a User>,
}

impl Stragglers<'_> {
    /// Ends the stragglers. A signal that asks this process to end cuts their time short; the last one of those that could
    /// end a start is returned.
    pub(super) fn end(&self, signals: &SignalFd) -> Option<Signal> {
        let asked = self.tell_and_wait(Signal::SIGTERM, PATIENCE, signals);
        if self.reach == Reach::Everything {
            return asked;
        }
        let again = self.tell_and_wait(Signal::SIGKILL, KILLED, signals);
        again.or(asked)
    }

    fn tell_and_wait(
        &self,
        signal: Signal,
        patience: Duration,
        signals: &SignalFd,
    ) -> Option<Signal> {
        let until = Instant::now() + patience;
        let mut told = HashSet::new();
        let mut asked = None;
        loop {
            // The end of one makes orphans of others.
            for straggler in self.addressees() {
                if told.insert(straggler) {
                    self.send(straggler, signal);
                }
            }
            let is_any_left = self.reap_and_look();
            asked = end_signal(signals).or(asked);
            let is_hurried = asked.is_some_and(is_hurry);
            if !is_any_left || is_hurried || Instant::now() >= until {
                return asked;
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
        if self.reach == Reach::Everything {
            // The keeper has blocked what can be blocked, and does not mind. A straggler that does not get the signal
            // ends with this process.
            return vec![ALL];
        }
        let mut addressees: Vec<Pid> = self.group().into_iter().collect();
        if self.reach == Reach::Adopted {
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
        // Signal 0 only tells whether there is a process (kill(2)).
        let is_there = |group| signal::send(group, 0) != Err(Errno::ESRCH);
        match self.reach {
            Reach::Everything => has_children,
            Reach::Adopted => has_children || self.group().is_some_and(is_there),
            Reach::Group => self.group().is_some_and(is_there),
        }
    }

    fn group(&self) -> Option<Pid> {
        let application = self.application?;
        Some(Pid::from_raw(-application.as_raw()))
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

/// Returns a signal that asks this process to end; all that have come are taken, since no application is there for them.
fn end_signal(signals: &SignalFd) -> Option<Signal> {
    let mut found = None;
    while let Ok(Some(info)) = signals.read_signal() {
        let signal = i32::try_from(info.ssi_signo).ok();
        let signal = signal.and_then(|number| Signal::try_from(number).ok());
        if !found.is_some_and(is_hurry) {
            found = signal.filter(|it| signal::ENDING.contains(it)).or(found);
        }
    }
    found
}

/// Says whether a signal leaves stragglers no more time.
fn is_hurry(signal: Signal) -> bool {
    [Signal::SIGTERM, Signal::SIGINT].contains(&signal)
}

//! Those whom the application leaves behind: they end soon, in their own way or by force.

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

/// How long they may take to end in their own way.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the kernel may take to end them.
const KILLED: Duration = Duration::from_millis(100);
/// How often somebody looks: the end of another's child is no event.
const LOOK: u8 = 10;

/// All that this process may signal (kill(2)).
const EVERYBODY: Pid = Pid::from_raw(-1);

/// Where to find them.
pub(super) struct Stragglers<'a> {
    /// Its process group is one of the places.
    pub(super) application: Pid,
    /// Orphans of other groups were adopted.
    pub(super) adopted: bool,
    /// A child of this process that is none of them.
    pub(super) keeper: Pid,
    /// Whom the application ran as, when that is not who this process runs as.
    pub(super) user: Option<&'a User>,
}

impl Stragglers<'_> {
    /// Has them end; who asks this process to end meanwhile does not wait for them.
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
            let is_anybody_left = self.reap_and_look();
            let is_hurried = is_hurried(signals);
            if !is_anybody_left || is_hurried || Instant::now() >= until {
                return;
            }
            let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut ready, PollTimeout::from(LOOK));
        }
    }

    fn send(&self, straggler: Pid, signal: Signal) {
        let send = || signal::send(straggler, signal as i32);
        // The keeper hears what is sent to everybody, so that this succeeds although nobody else may hear it.
        if straggler == EVERYBODY && self.user.is_some() && !may_signal_others() {
            let _ = as_user(self.user, send);
        }
        let _ = with_their_rights(self.user, send);
    }

    fn addressees(&self) -> Vec<Pid> {
        if is_first() {
            // Everybody; the keeper, which has blocked what can be blocked, does not mind. Whoever does not hear it
            // ends with this process.
            return vec![EVERYBODY];
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
        // No signal, but an error when there is nobody (kill(2)).
        (self.adopted && has_children) || signal::send(self.group(), 0) != Err(Errno::ESRCH)
    }

    fn group(&self) -> Pid {
        Pid::from_raw(-self.application.as_raw())
    }
}

/// This process has CAP_KILL (capabilities(7), `CapEff` in `/proc/PID/status`).
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

/// Takes what has come, which nobody is left to hear.
fn is_hurried(signals: &SignalFd) -> bool {
    let mut hurried = false;
    while let Ok(Some(info)) = signals.read_signal() {
        hurried |= [Signal::SIGTERM, Signal::SIGINT]
            .iter()
            .any(|signal| *signal as u32 == info.ssi_signo);
    }
    hurried
}

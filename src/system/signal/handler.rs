//! Whether a process has a handler for a signal: a process that has none yet would be ended by the signal, or would
//! never know of it.

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Pauses between two looks.
const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(10);

/// The effect of a signal on a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The process has a handler.
    Handled,
    /// The process ignores the signal on purpose.
    Ignored,
    /// The process has blocked the signal: for signalfd(2) or sigwait(3), or for a moment.
    Blocked,
    /// The kernel does what it does by default: mostly it ends the process.
    Default,
    /// The kernel does not say.
    Unknown,
}

impl Disposition {
    /// Looks up what a signal does to a process.
    pub fn of(process: Pid, signal: Signal) -> Disposition {
        let status = std::fs::read_to_string(format!("/proc/{process}/status"));
        status.map_or(Disposition::Unknown, |status| {
            Disposition::read(&status, signal)
        })
    }

    /// Reads the disposition from the text of `/proc/PID/status` (proc_pid_status(5)).
    fn read(status: &str, signal: Signal) -> Disposition {
        let has = |set: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(set))?;
            let bits = u64::from_str_radix(line.trim(), 16).ok()?;
            Some(bits >> (signal as u32 - 1) & 1 == 1)
        };
        match (has("SigCgt:"), has("SigIgn:"), has("SigBlk:")) {
            (Some(true), _, _) => Disposition::Handled,
            (_, Some(true), _) => Disposition::Ignored,
            (_, _, Some(true)) => Disposition::Blocked,
            (Some(false), Some(false), Some(false)) => Disposition::Default,
            _ => Disposition::Unknown,
        }
    }
}

/// A signal that waits until a process can take it.
#[derive(Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The signal.
    pub signal: Signal,
    looks: u32,
    was_blocked: bool,
}

/// The next step after a look.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send the signal now.
    Send,
    /// Look again after this pause.
    Look(Duration),
}

impl Waiting {
    /// Makes a signal wait, before the first look.
    pub fn new(signal: Signal) -> Waiting {
        Waiting {
            signal,
            looks: 0,
            was_blocked: false,
        }
    }

    /// Decides by what a look has shown. Blocked once may be for the moment in which a process starts another one; blocked
    /// twice is on purpose.
    pub fn decide(&mut self, found: Disposition) -> Next {
        let is_blocked = found == Disposition::Blocked;
        let was_blocked = std::mem::replace(&mut self.was_blocked, is_blocked);
        match found {
            Disposition::Handled | Disposition::Ignored | Disposition::Unknown => Next::Send,
            Disposition::Blocked if was_blocked => Next::Send,
            Disposition::Blocked | Disposition::Default => {
                let pause = FIRST.saturating_mul(1 << self.looks.min(7)).min(LAST);
                self.looks = self.looks.saturating_add(1);
                Next::Look(pause)
            }
        }
    }

    /// Words the notice about the wait, after the first look alone.
    pub fn notice(&self) -> Option<String> {
        (self.looks == 1).then(|| {
            format!(
                "the application has no handler for {}, which would end it or be lost: it is told as soon as it has one",
                self.signal
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disposition_is_read_from_the_sets_of_the_kernel() {
        use Disposition::{Blocked, Default, Handled, Ignored, Unknown};
        let status = |blocked: u64, ignored: u64, caught: u64| {
            format!(
                "Name:\tx\nSigQ:\t0/1\nSigPnd:\tffffffffffffffff\nShdPnd:\tffffffffffffffff\n\
                 SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
            )
        };
        // SIGHUP is 1, SIGUSR1 is 10.
        for (signal, bit) in [(Signal::SIGHUP, 1), (Signal::SIGUSR1, 1 << 9)] {
            for (blocked, ignored, caught, expected) in [
                (0, 0, 0, Default),
                (!bit, !bit, !bit, Default),
                (0, 0, bit, Handled),
                (bit, bit, bit, Handled),
                (bit, bit, 0, Ignored),
                (bit, 0, 0, Blocked),
            ] {
                let text = status(blocked, ignored, caught);
                assert_eq!(Disposition::read(&text, signal), expected, "{text}");
            }
        }
        for text in ["", "SigCgt:\t0\n", "SigBlk:\tx\nSigIgn:\t0\nSigCgt:\t0\n"] {
            assert_eq!(Disposition::read(text, Signal::SIGHUP), Unknown, "{text}");
        }
    }

    #[test]
    fn this_process_and_one_that_is_not_there_are_told_apart() {
        let own = nix::unistd::getpid();
        // Rust's runtime has a handler for an overflow of the stack, and ignores SIGPIPE.
        assert_eq!(Disposition::of(own, Signal::SIGSEGV), Disposition::Handled);
        assert_eq!(Disposition::of(own, Signal::SIGPIPE), Disposition::Ignored);
        let none = Pid::from_raw(i32::MAX);
        assert_eq!(Disposition::of(none, Signal::SIGHUP), Disposition::Unknown);
    }

    #[test]
    fn signal_waits_for_a_handler_with_pauses_that_grow() {
        use Disposition::{Blocked, Default, Handled, Ignored, Unknown};
        let look = |millis| Next::Look(Duration::from_millis(millis));
        for found in [Handled, Ignored, Unknown] {
            assert_eq!(Waiting::new(Signal::SIGHUP).decide(found), Next::Send);
        }
        let mut waiting = Waiting::new(Signal::SIGHUP);
        assert_eq!(waiting.notice(), None);
        for (n, pause) in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
            .into_iter()
            .enumerate()
        {
            assert_eq!(waiting.decide(Default), look(pause));
            let notice = waiting.notice();
            assert_eq!(notice.is_some(), n == 0);
            assert!(notice.is_none_or(|text| text.contains("SIGHUP")));
        }
        assert_eq!(waiting.decide(Handled), Next::Send);
        let mut waiting = Waiting::new(Signal::SIGHUP);
        assert_eq!(waiting.decide(Blocked), look(100));
        assert_eq!(waiting.decide(Default), look(200));
        assert_eq!(waiting.decide(Blocked), look(400));
        assert_eq!(waiting.decide(Blocked), Next::Send);
    }
}

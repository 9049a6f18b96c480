//! The application's life: signals are forwarded to it, it is reaped, and it is ended and started again as the keeper says.

use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, getpgrp, getpid};

use super::child::Launch;
use super::restarts::{End, Restarts};
use super::stragglers::{Reach, Stragglers};
use crate::config::{Config, OnExpiry, Supervision};
use crate::init::{Failure, Watch};
use crate::link::News;
use crate::log::{Level, Log};
use crate::system::fork::wait_any;
use crate::system::memory::trim_memory;
use crate::system::process::with_their_rights;
use crate::system::signal::{self, Arrival, Disposition, Next, Waiting};

/// The application while it runs, and the processes that are told of its end.
pub(super) struct Life<'a> {
    pub(super) launch: Launch<'a>,
    pub(super) config: &'a Config,
    pub(super) supervision: &'a Supervision,
    /// The application's process; none between two starts.
    pub(super) application: Option<Pid>,
    /// The signals that are forwarded, and the two that tell of the application and of the keeper.
    pub(super) listened: SigSet,
    /// The same signals, for those who wait for something else too.
    pub(super) signals: SignalFd,
    /// The keeper's process.
    pub(super) keeper: Pid,
    pub(super) log: Log,
    pub(super) state: State,
}

/// The things that are under way.
#[derive(Default)]
pub(super) struct State {
    /// The time of the KILL, once the application was told to end.
    kill_at: Option<Instant>,
    /// A signal for which the application has no handler yet, and the time of the next look.
    pub(super) waiting: Option<(Waiting, Instant)>,
    /// The signal by which applications are told that the token's life is over, once it is.
    pub(super) expiry: Option<Signal>,
    /// True once the application was told to end because the token's life is over.
    pub(super) is_expired: bool,
    /// The signal by which another process has asked the application to end.
    pub(super) asked_by: Option<Signal>,
    pub(super) restarts: Restarts,
}

impl Life<'_> {
    /// Forwards and reaps until the application has ended for good, and returns its exit code.
    pub(super) fn look_after(
        &mut self,
        keeper: &mut Watch,
        mut is_kept: bool,
    ) -> Result<u8, Failure> {
        let mut link_is_ready = true;
        // The application may have ended before this process listened.
        if let Some(code) = self.reap_and_judge()? {
            return Ok(code);
        }
        loop {
            if is_kept && std::mem::take(&mut link_is_ready) && !self.hear(keeper) {
                is_kept = false;
                self.report_loss(keeper);
                match self.config.renewal.on_expiry {
                    OnExpiry::Ignore => {}
                    OnExpiry::Signal(signal) => self.tell_of_expiry(signal),
                    OnExpiry::Terminate => self.terminate(),
                }
            }
            if self.state.is_expired && self.application.is_none() {
                return Ok(0);
            }
            self.kill_if_late();
            self.tell_waiting();
            let now = Instant::now();
            if self.state.restarts.is_due(now)
                && let Some(code) = self.start_again()?
            {
                return Ok(code);
            }
            if self.state.restarts.settle(now) {
                trim_memory();
            }
            let Some(arrival) = signal::next(&self.listened, self.patience()) else {
                continue;
            };
            let last = match (Signal::try_from(arrival.number), arrival.code) {
                // What a process sends has a code that is not positive.
                (Ok(Signal::SIGCHLD), _) | (Ok(Signal::SIGIO), 1..) => {
                    // Between an end and another start the keeper's news may be missed. And what the keeper says now does
                    // not start an application again that has ended by itself.
                    link_is_ready = true;
                    self.reap_and_judge()?
                }
                _ if is_for_application(&arrival, getpid()) => self.forward(arrival.number),
                _ => None,
            };
            if let Some(code) = last {
                return Ok(code);
            }
        }
    }

    /// Does what the keeper says; false when the keeper is gone.
    fn hear(&mut self, keeper: &mut Watch) -> bool {
        loop {
            match keeper.link.read() {
                Ok(News::Nothing | News::Ready(_)) => return true,
                Ok(News::Signal(signal)) => self.tell_of_expiry(signal),
                Ok(News::Tell(signal)) => {
                    // Of several generations it is told once.
                    let waiting = (Waiting::new(signal), Instant::now());
                    self.state.waiting.get_or_insert(waiting);
                }
                Ok(News::Restart(variables)) => {
                    if self.order_restart(variables) {
                        keeper.link.accept();
                    } else {
                        keeper.link.refuse();
                    }
                }
                Ok(News::Terminate) => self.terminate(),
                Ok(News::Ended) | Err(_) => return false,
            }
        }
    }

    /// Reports that the keeper is gone, which it should not be.
    fn report_loss(&self, keeper: &mut Watch) {
        let how = match keeper.reap() {
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("was killed by {signal}"),
            Ok(WaitStatus::Exited(_, code)) => format!("ended with {code}"),
            _ => "ended".to_owned(),
        };
        let text = format!("the keeper {how}; secrets are no longer kept fresh");
        self.log.event(Level::Warn, "keeper_lost", &text, &[]);
    }

    /// Hands a signal of another process on; returns an exit code where it ends what has no application.
    fn forward(&mut self, number: i32) -> Option<u8> {
        let signal = Signal::try_from(number);
        if signal.is_ok_and(|signal| self.stop_restarts(signal)) && self.application.is_none() {
            return Some(by_signal(number));
        }
        self.tell(number);
        None
    }

    /// Tells the application, and each that starts after it, that the token's life is over. Between two starts a signal that
    /// asks for the end has no other addressee than this process.
    fn tell_of_expiry(&mut self, signal: Signal) {
        self.state.expiry = Some(signal);
        if self.stop_restarts(signal) && self.application.is_none() {
            self.state.is_expired = true;
        }
        self.tell(signal as i32);
    }

    /// Sends the application a signal. An application that has ended and was not reaped yet does not get it.
    fn tell(&self, number: i32) {
        let Some(application) = self.application else {
            return;
        };
        let addressee = if self.supervision.signal_group {
            Pid::from_raw(-application.as_raw())
        } else {
            application
        };
        let user = self.config.user.as_ref();
        let _ = with_their_rights(user, || signal::send(addressee, number));
    }

    /// Sends the signal that waits, if the application has a handler for it by now.
    fn tell_waiting(&mut self) {
        let now = Instant::now();
        let waiting = self.state.waiting.as_mut();
        let (Some((waiting, due)), Some(application)) =
            (waiting.filter(|(_, due)| *due <= now), self.application)
        else {
            return;
        };
        let signal = waiting.signal;
        match waiting.decide(Disposition::of(application, signal)) {
            Next::Look(pause) => {
                *due = now + pause;
                if let Some(text) = waiting.notice() {
                    let event = match self.state.expiry {
                        Some(_) => "on_expiry_waits",
                        None => "on_rotate_waits",
                    };
                    self.log.event(Level::Warn, event, &text, &[]);
                }
            }
            Next::Send => {
                self.state.waiting = None;
                self.tell(signal as i32);
            }
        }
    }

    fn terminate(&mut self) {
        if !self.state.is_expired {
            self.state.is_expired = true;
            self.end_in_time();
        }
    }

    /// Asks the application to end, which is killed if it does not.
    pub(super) fn end_in_time(&mut self) {
        self.state.kill_at = Some(Instant::now() + self.supervision.stop_timeout);
        self.tell(Signal::SIGTERM as i32);
    }

    fn kill_if_late(&mut self) {
        if self.state.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.state.kill_at = None;
            let text = "the application did not end at SIGTERM and is killed";
            self.log.event(Level::Warn, "application_killed", text, &[]);
            self.tell(Signal::SIGKILL as i32);
        }
    }

    /// Returns how long nothing is due, which is mostly for ever.
    fn patience(&self) -> Option<Duration> {
        let waiting = self.state.waiting.as_ref().map(|(_, due)| *due);
        let dues = self.state.kill_at.into_iter().chain(waiting);
        let due = dues.chain(self.state.restarts.next()).min();
        due.map(|at| at.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    /// Reaps every child that has ended; returns the application's exit code where it is among them and was to end.
    fn reap_and_judge(&mut self) -> Result<Option<u8>, Failure> {
        let Some(status) = self.reap() else {
            return Ok(None);
        };
        let code = exit_code(status);
        self.state.kill_at = None;
        let is_success = code == 0 || self.supervision.remap_exit.contains(&code);
        let end = match self.state.restarts.judge(is_success) {
            _ if self.state.is_expired => End::Last,
            end => end,
        };
        if end != End::Last {
            self.state.waiting = None;
            if let Some(signal) = self.clear_away() {
                return Ok(Some(by_signal(signal as i32)));
            }
        }
        match end {
            End::Last => Ok(Some(code)),
            End::Ordered => self.start_again(),
            End::Failed => {
                let reason = format!("ended with {code} soon after it was started again");
                Ok((!self.try_again(&reason)).then_some(code))
            }
        }
    }

    /// Reaps every child that has ended, and returns the status of the application if it is among them.
    fn reap(&self) -> Option<libc::c_int> {
        while let Ok(Some((child, status))) = wait_any() {
            if self.application != Some(child) {
                continue;
            }
            if !libc::WIFSTOPPED(status) {
                return Some(status);
            }
            self.stop_with_it(child, libc::WSTOPSIG(status));
        }
        None
    }

    /// Ends every process that is left, and gives the terminal back.
    pub(super) fn end_all(&self) {
        let reach = Reach::of_all(self.supervision.subreaper);
        self.stragglers(reach, self.application).end(&self.signals);
        if let (Some(terminal), Some(application)) = (self.launch.terminal(), self.application) {
            terminal.pass(application, getpgrp());
        }
    }

    pub(super) fn stragglers(&self, reach: Reach, application: Option<Pid>) -> Stragglers<'_> {
        Stragglers {
            application,
            reach,
            keeper: self.keeper,
            user: self.config.user.as_ref(),
        }
    }

    /// Stops the whole job after the terminal has stopped the application: the shell that started anteroom is to see
    /// that, and continues the job as a whole. Without such a shell, the key that stops has no effect.
    fn stop_with_it(&self, application: Pid, number: i32) {
        let Some(terminal) = self.launch.terminal() else {
            return;
        };
        let give = || terminal.pass(getpgrp(), application);
        let goes_on = match Signal::try_from(number) {
            Ok(Signal::SIGTSTP) => {
                signal::stop_group();
                true
            }
            Ok(Signal::SIGTTIN | Signal::SIGTTOU) => give() || signal::stop_group(),
            // A process that stops the application in another way continues it too.
            _ => false,
        };
        if goes_on {
            give();
            let _ = killpg(application, Signal::SIGCONT);
        }
    }
}

/// Says whether a signal is handed on: what the kernel and others send, but not what this process brings upon itself
/// (SIGPIPE, when its log has no reader).
fn is_for_application(arrival: &Arrival, own: Pid) -> bool {
    match Signal::try_from(arrival.number) {
        // The terminal sends these to every process that it stops. Any other sender stops the application itself.
        Ok(Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU) => arrival.code == libc::SI_KERNEL,
        _ => arrival.code != libc::SI_USER || arrival.sender != own,
    }
}

/// Computes the exit code as a shell does.
fn exit_code(status: libc::c_int) -> u8 {
    let code = if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    };
    // Both are less than 256 (wait(2)).
    code as u8
}

/// Computes the exit code of what this signal ended, whose status is the number itself (wait(2)).
fn by_signal(number: i32) -> u8 {
    exit_code(number)
}

#[cfg(test)]
mod tests;

//! PID 1 as the application's init: forwards signals, reaps children, and leaves no process behind.

mod child;
mod stragglers;
mod terminal;

use std::ffi::CString;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, getpgrp, getpid};

use super::{Error, Failure, Watch};
use crate::command::Command;
use crate::config::{Config, OnExpiry, Supervision};
use crate::link::News;
use crate::log::{Level, Log};
use crate::system::fork::wait_any;
use crate::system::process::with_their_rights;
use crate::system::refused;
use crate::system::signal::{self, Arrival, Disposition, Next, Waiting};
use crate::system::user::User;

use stragglers::Stragglers;
use terminal::Terminal;

/// Runs the application, and returns its exit code when it and all processes that it has started have ended.
pub(super) fn run(
    keeper: &mut Watch,
    stays: bool,
    supervision: &Supervision,
    command: &Command,
    environment: Vec<CString>,
    config: &Config,
    log: Log,
) -> Result<u8, Failure> {
    let (listened, signals) = signal::listen_to_all().map_err(refused("listen for signals"))?;
    signal::check_wait().map_err(refused("wait for signals"))?;
    check_reaping().map_err(refused("wait for children"))?;
    if stays {
        signal::announce(keeper.link.as_fd()).map_err(refused("listen to the keeper"))?;
    }
    if supervision.subreaper {
        set_child_subreaper(true).map_err(refused("adopt orphans"))?;
    }
    keeper.release(stays)?;
    // The last that could end the start; those that come now are the application's.
    keeper.check_signals()?;
    let terminal = Terminal::find();
    let application = child::start(command, environment, config, terminal.as_ref())?;
    if stays {
        keeper.link.report_start();
    }
    // From now on it is the keeper's: when that is lost, others are to see it.
    keeper.directory.let_go();
    let mut init = Init {
        application,
        addressee: if supervision.signal_group {
            Pid::from_raw(-application.as_raw())
        } else {
            application
        },
        user: config.user.clone(),
        own: getpid(),
        listened,
        terminal,
        log,
        stop_timeout: supervision.stop_timeout,
        kill_at: None,
        waiting: None,
        is_expired: false,
    };
    let status = init.look_after(keeper, stays, config.renewal.on_expiry);
    let stragglers = Stragglers {
        application,
        adopted: supervision.subreaper,
        keeper: keeper.child,
        user: init.user.as_ref(),
    };
    stragglers.end(&signals);
    if let Some(terminal) = &init.terminal {
        terminal.pass(application, getpgrp());
    }
    if init.is_expired {
        return Err(Error::Expired.into());
    }
    let code = exit_code(status);
    Ok(if supervision.remap_exit.contains(&code) {
        0
    } else {
        code
    })
}

/// Fails where no child can be waited for, so that this is known before there is an application.
fn check_reaping() -> Result<(), Errno> {
    match wait_any() {
        // The keeper is no child that such a wait sees; an orphan that has ended may be one.
        Ok(_) | Err(Errno::ECHILD | Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The application while it runs, and the processes that are told of its end.
struct Init {
    application: Pid,
    /// The addressee of signals for the application: the application, or its group.
    addressee: Pid,
    /// The application's user, where that is not the user of this process.
    user: Option<User>,
    own: Pid,
    /// The signals that are forwarded, and the two that tell of the application and of the keeper.
    listened: SigSet,
    terminal: Option<Terminal>,
    log: Log,
    stop_timeout: Duration,
    /// The time of the KILL, once the application was told to end.
    kill_at: Option<Instant>,
    /// A signal for which the application has no handler yet, and the time of the next look.
    waiting: Option<(Waiting, Instant)>,
    /// True once the application was told to end because the token's life is over.
    is_expired: bool,
}

impl Init {
    /// Forwards and reaps until the application has ended, and returns its status.
    fn look_after(
        &mut self,
        keeper: &mut Watch,
        mut is_kept: bool,
        on_expiry: OnExpiry,
    ) -> libc::c_int {
        let mut link_is_ready = true;
        // The application may have ended before this process listened.
        if let Some(status) = self.reap() {
            return status;
        }
        loop {
            if is_kept && std::mem::take(&mut link_is_ready) && !self.hear(keeper) {
                is_kept = false;
                self.report_loss(keeper);
                match on_expiry {
                    OnExpiry::Ignore => {}
                    OnExpiry::Signal(signal) => self.tell(signal as i32),
                    OnExpiry::Terminate => self.terminate(),
                }
            }
            self.kill_if_late();
            self.tell_waiting();
            let Some(arrival) = signal::next(&self.listened, self.patience()) else {
                continue;
            };
            match Signal::try_from(arrival.number) {
                Ok(Signal::SIGCHLD) => {
                    if let Some(status) = self.reap() {
                        return status;
                    }
                }
                // What a process sends has a code that is not positive.
                Ok(Signal::SIGIO) if arrival.code > 0 => link_is_ready = true,
                _ if is_for_application(&arrival, self.own) => self.tell(arrival.number),
                _ => {}
            }
        }
    }

    /// Does what the keeper says; false when the keeper is gone.
    fn hear(&mut self, keeper: &mut Watch) -> bool {
        loop {
            match keeper.link.read() {
                Ok(News::Nothing | News::Ready(_)) => return true,
                Ok(News::Signal(signal)) => self.tell(signal as i32),
                Ok(News::Tell(signal)) => {
                    // Of several generations it is told once.
                    let waiting = (Waiting::new(signal), Instant::now());
                    self.waiting.get_or_insert(waiting);
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

    /// Sends the application a signal. An application that has ended and was not reaped yet does not get it.
    fn tell(&self, number: i32) {
        let user = self.user.as_ref();
        let _ = with_their_rights(user, || signal::send(self.addressee, number));
    }

    /// Sends the signal that waits, if the application has a handler for it by now.
    fn tell_waiting(&mut self) {
        let now = Instant::now();
        let Some((waiting, due)) = self.waiting.as_mut().filter(|(_, due)| *due <= now) else {
            return;
        };
        let signal = waiting.signal;
        match waiting.decide(Disposition::of(self.application, signal)) {
            Next::Look(pause) => {
                *due = now + pause;
                if let Some(text) = waiting.notice() {
                    self.log.event(Level::Warn, "on_rotate_waits", &text, &[]);
                }
            }
            Next::Send => {
                self.waiting = None;
                self.tell(signal as i32);
            }
        }
    }

    fn terminate(&mut self) {
        if !self.is_expired {
            self.is_expired = true;
            self.kill_at = Some(Instant::now() + self.stop_timeout);
            self.tell(Signal::SIGTERM as i32);
        }
    }

    fn kill_if_late(&mut self) {
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.kill_at = None;
            let text = "the application did not end at SIGTERM and is killed";
            self.log.event(Level::Warn, "application_killed", text, &[]);
            self.tell(Signal::SIGKILL as i32);
        }
    }

    /// Returns how long nothing is due, which is mostly for ever.
    fn patience(&self) -> Option<Duration> {
        let waiting = self.waiting.as_ref().map(|(_, due)| *due);
        let due = self.kill_at.into_iter().chain(waiting).min();
        due.map(|at| at.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    /// Reaps every child that has ended, and returns the status of the application if it is among them.
    fn reap(&self) -> Option<libc::c_int> {
        while let Ok(Some((child, status))) = wait_any() {
            if child != self.application {
                continue;
            }
            if !libc::WIFSTOPPED(status) {
                return Some(status);
            }
            self.stop_with_it(libc::WSTOPSIG(status));
        }
        None
    }

    /// Stops the whole job after the terminal has stopped the application: the shell that started anteroom is to see
    /// that, and continues the job as a whole. Without such a shell, the key that stops has no effect.
    fn stop_with_it(&self, number: i32) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        let give = || terminal.pass(getpgrp(), self.application);
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
            let _ = killpg(self.application, Signal::SIGCONT);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signal_is_passed_on_unless_the_init_caused_it_itself() {
        let (own, other) = (getpid(), Pid::from_raw(0));
        let (user, queue, kernel) = (libc::SI_USER, libc::SI_QUEUE, libc::SI_KERNEL);
        for (number, code, sender, expected) in [
            (libc::SIGTERM, user, other, true),
            (libc::SIGTERM, queue, other, true),
            (libc::SIGINT, kernel, other, true),
            (libc::SIGPIPE, user, other, true),
            (libc::SIGPIPE, user, own, false),
            (libc::SIGXFSZ, user, own, false),
            (libc::SIGTSTP, user, other, false),
            (libc::SIGTSTP, kernel, other, true),
            (libc::SIGTTIN, user, other, false),
            (libc::SIGTTOU, user, other, false),
            (libc::SIGRTMIN(), queue, other, true),
            (64, user, other, true),
        ] {
            let arrival = Arrival {
                number,
                code,
                sender,
            };
            let found = is_for_application(&arrival, own);
            assert_eq!(
                found, expected,
                "signal {number}, code {code}, from {sender}"
            );
        }
    }

    #[test]
    fn exit_code_is_kept_and_a_signal_is_128_plus_its_number() {
        for code in 0..=255 {
            assert_eq!(exit_code(i32::from(code) << 8), code);
        }
        for number in (1..=64).filter(|number| *number != libc::SIGSTOP) {
            let dumped_core = 0x80;
            assert_eq!(i32::from(exit_code(number)), 128 + number);
            assert_eq!(i32::from(exit_code(number | dumped_core)), 128 + number);
        }
    }
}

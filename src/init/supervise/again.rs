//! The application starts again: it is ended, what it leaves behind is cleared away, and a start that fails is tried again.

use std::time::Instant;

use nix::sys::signal::Signal;

use super::life::Life;
use super::restarts::Variables;
use super::stragglers::Reach;
use crate::init::Failure;
use crate::log::{Level, Value};
use crate::system::signal::{self, Waiting};

impl Life<'_> {
    /// Ends the application, so that it starts again with these variables, unless it is to end anyway or could not start:
    /// then returns false.
    pub(super) fn order_restart(&mut self, variables: Variables) -> bool {
        let obstacle = match self.state.asked_by {
            _ if self.state.is_expired => return false,
            Some(signal) => Some(format!("{signal} has asked it to end")),
            None => {
                let checked = self.launch.check(&variables);
                checked.err().map(|failure| failure.to_string())
            }
        };
        if let Some(obstacle) = obstacle {
            let text = format!("the application is not started again: {obstacle}");
            self.log.event(Level::Warn, "on_rotate_failed", &text, &[]);
            return false;
        }
        if self.state.restarts.order(variables) {
            self.end_in_time();
        }
        true
    }

    /// Starts the application again; returns an exit code where that was in vain for the last time.
    pub(super) fn start_again(&mut self) -> Result<Option<u8>, Failure> {
        match self.launch.start_again(self.state.restarts.variables()) {
            Ok(application) => {
                self.application = Some(application);
                // At this moment the application has no handler for it yet.
                let expiry = self.state.expiry.map(Waiting::new);
                self.state.waiting = expiry.map(|waiting| (waiting, Instant::now()));
                let count = self.state.restarts.note_start(Instant::now());
                let text =
                    "the application was started again, with the variables of the last generation";
                let fields = [("restarts", Value::Number(count))];
                self.log.event(Level::Info, "restarted", text, &fields);
                Ok(None)
            }
            Err(failure) if self.try_again(&format!("could not be started again: {failure}")) => {
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Plans another start, and says whether there is one.
    pub(super) fn try_again(&mut self, reason: &str) -> bool {
        let pause = self.state.restarts.put_off(Instant::now());
        let (next, seconds) = match pause {
            Some(pause) => {
                let seconds = pause.as_secs();
                (format!("it is started again in {seconds} s"), seconds)
            }
            None => ("that was the last try".to_owned(), 0),
        };
        let text = format!("the application {reason}; {next}");
        let fields = [
            (
                "failures",
                Value::Number(self.state.restarts.failures().into()),
            ),
            ("pause_s", Value::Number(seconds)),
        ];
        self.log
            .event(Level::Warn, "restart_failed", &text, &fields);
        pause.is_some()
    }

    /// Has no other start follow, where a signal asks for the end; true where it does. A signal that would end a start also
    /// ends a restart, but SIGHUP and SIGQUIT may mean something else to an application that runs.
    pub(super) fn stop_restarts(&mut self, signal: Signal) -> bool {
        let is_stop = [Signal::SIGTERM, Signal::SIGINT].contains(&signal)
            || self.state.restarts.is_under_way();
        let is_stop = is_stop && signal::received().ends_a_start(signal);
        if is_stop {
            self.state.restarts.call_off();
            self.state.asked_by = Some(signal);
        }
        is_stop
    }

    /// Ends what the application left behind before another one starts, and takes the terminal back; returns a signal that
    /// ends all this.
    pub(super) fn clear_away(&mut self) -> Option<Signal> {
        let application = self.application.take();
        let signal = self
            .stragglers(
                Reach::of_application(self.supervision.subreaper),
                application,
            )
            .end(&self.signals);
        if let (Some(terminal), Some(application)) = (self.launch.terminal(), application) {
            terminal.take_back(application);
        }
        signal.filter(|signal| signal::received().ends_a_start(*signal))
    }
}

//! The application starts again: it is ended, what it leaves behind is cleared away, and a start that fails is tried again.

use std::time::Instant;

use nix::sys::signal::Signal;

use super::life::Life;
use super::restarts::Variables;
use super::stragglers::Reach;
use crate::init::Failure;
use crate::log::{Level, Value};
use crate::system::signal;

impl Life<'_> {
    /// Ends the application, so that it starts again with these variables, unless it is to end anyway or could not start.
    pub(super) fn order_restart(&mut self, variables: Variables) {
        let obstacle = match self.state.asked_by {
            _ if self.state.is_expired => return,
            Some(signal) => Some(format!("{signal} has asked it to end")),
            None => {
                let checked = self.launch.check(&variables);
                checked.err().map(|failure| failure.to_string())
            }
        };
        if let Some(obstacle) = obstacle {
            let text = format!("the application is not started again: {obstacle}");
            self.log.event(Level::Warn, "on_rotate_failed", &text, &[]);
        } else if self.state.restarts.order(variables) {
            self.end_in_time();
        }
    }

    /// Starts the application again; returns an exit code where that was in vain for the last time.
    pub(super) fn start_again(&mut self) -> Result<Option<u8>, Failure> {
        match self.launch.start_again(self.state.restarts.variables()) {
            Ok(application) => {
                self.application = Some(application);
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

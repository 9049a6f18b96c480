//! The application is started again with the variables of the last generation: not for all containers at once, and before
//! anything ends that it still uses.

use std::time::Duration;

use super::Renewal;
use crate::clock::{jitter, moment};
use crate::config::OnRotate;
use crate::log::{Level, Value};
use crate::schedule::{self, Moment};

impl Renewal<'_> {
    /// Plans a restart after a random wait; `first_end` is the first end of all that was replaced.
    pub(super) fn plan_restart(
        &mut self,
        splay: Duration,
        limit: Duration,
        first_end: Option<Moment>,
    ) {
        let now = moment();
        let due = schedule::restart(now, splay, limit, first_end, jitter());
        self.notice.plan_restart(due);
        let wait = due.saturating_sub(now);
        let text = format!("the application is started again in {} s", wait.as_secs());
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let fields = [("wait_ms", Value::Number(wait))];
        self.log
            .event(Level::Info, "restart_planned", &text, &fields);
    }

    /// Orders the restart that is due. What was replaced is of use to the application until it has ended, and where it goes on
    /// as it is, until another restart.
    pub(super) fn restart(&mut self) {
        self.notice.forget_restart();
        let OnRotate::Restart { limit, .. } = self.config.renewal.on_rotate else {
            return;
        };
        let variables = self.notice.take_variables();
        match self.application.restart(&variables) {
            Ok(true) => self.retire(moment() + limit),
            Ok(false) => {}
            Err(error) => self.report_untold(&error),
        }
    }
}

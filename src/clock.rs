//! The clocks and the jitter that everything else gets as arguments.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;

use crate::certificate::Clocks;
use crate::random;
use crate::schedule::Moment;

/// Reads the calendar time of this machine.
#[expect(
    clippy::disallowed_methods,
    reason = "code that works for a long time reads the clock here and hands the time on"
)]
pub(crate) fn calendar() -> OffsetDateTime {
    SystemTime::now().into()
}

/// Reads the time since this machine was started, including its sleep.
pub(crate) fn moment() -> Moment {
    // The call fails for clocks alone that the kernel does not know.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Reads this machine's clock, and derives Vault's from the skew.
pub(crate) fn clocks(skew: Option<i64>) -> Clocks {
    let here = calendar().unix_timestamp();
    Clocks {
        here,
        vault: here + skew.unwrap_or(0),
    }
}

/// Draws a number from 0 to 1, another one each time and in each container.
pub(crate) fn jitter() -> f64 {
    random::fraction()
}

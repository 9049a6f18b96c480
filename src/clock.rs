//! The clocks and the chance that everything else gets as arguments.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;

use crate::certificate::Clocks;
use crate::random;
use crate::renewal::Moment;

/// The calendar's time on this machine.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever works for a long time reads the clock here and hands the time on"
)]
pub fn calendar() -> OffsetDateTime {
    SystemTime::now().into()
}

/// The time since this machine was started, its sleep included.
pub fn moment() -> Moment {
    // The call fails for clocks alone that the kernel does not know.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// This machine's clock and Vault's.
pub fn clocks(skew: Option<i64>) -> Clocks {
    let here = calendar().unix_timestamp();
    Clocks {
        here,
        vault: here + skew.unwrap_or(0),
    }
}

/// A number from 0 to 1, another one each time and in each container.
pub fn chance() -> f64 {
    random::fraction()
}

//! Calls at the token socket: how many at one moment, and how many of one container in a minute.

use std::sync::Mutex;
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::limiter::{Admission, Limiter};
use super::process::Peer;
use crate::mutex::lock;

/// Callers at one moment.
pub(super) const CALLERS_MAX: usize = 64;
/// Calls of one container in a minute that are looked into.
const CALLS_PER_MINUTE: usize = 60;
/// Calls in a minute from cgroups below that of one container, whatever they are called.
const CALLS_BELOW_PER_MINUTE: usize = 600;
/// Looks at one moment at who calls.
const LOOK_UPS_MAX: usize = 4;

/// Limits what callers may cost.
pub(super) struct CallLimiter {
    calls: Mutex<Limiter>,
    /// Looks at who calls, each of which needs a thread.
    look_ups: Semaphore,
    /// Callers that came too often and wait for their refusal.
    held: Semaphore,
}

impl Default for CallLimiter {
    fn default() -> Self {
        CallLimiter {
            calls: Mutex::default(),
            look_ups: Semaphore::new(LOOK_UPS_MAX),
            held: Semaphore::new(CALLERS_MAX),
        }
    }
}

impl CallLimiter {
    /// Counts a call. Before Docker is asked, and by the whole path: a caller in a loop, which gives its cgroup the name of
    /// another container, uses up its own calls alone.
    pub(super) fn admit(&self, caller: &Peer, now: Instant) -> Admission {
        let mut calls = lock(&self.calls);
        if caller.outermost != caller.innermost {
            // A container that makes cgroups of its own could have any number of them.
            let key = format!("below {}", caller.outermost);
            let admission = calls.admit(&key, CALLS_BELOW_PER_MINUTE, now);
            if admission != Admission::Admitted {
                return admission;
            }
        }
        calls.admit(&caller.innermost, CALLS_PER_MINUTE, now)
    }

    /// Waits for room for a look at who calls.
    pub(super) async fn look_up(&self) -> Option<SemaphorePermit<'_>> {
        self.look_ups.acquire().await.ok()
    }

    /// Takes room for a caller that waits for its refusal, if there is any.
    pub(super) fn hold(&self) -> Option<SemaphorePermit<'_>> {
        self.held.try_acquire().ok()
    }
}

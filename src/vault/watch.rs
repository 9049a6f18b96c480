//! A Vault that does not answer at first is said before the deadline is over.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::transport::Limits;
use crate::log::{Level, Log, Value};

/// The time after which the operator wants to know the reason of a wait.
const PATIENCE: Duration = Duration::from_secs(1);
const STACK: usize = 64 << 10;

/// The obstacle that the last try met; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Hitch(Arc<Mutex<Option<String>>>);

impl Hitch {
    /// Notes what a try met.
    pub(super) fn note(&self, reason: &str) {
        if let Ok(mut hitch) = self.0.lock() {
            *hitch = Some(reason.to_owned());
        }
    }

    fn take(&self) -> Option<String> {
        self.0.lock().ok().and_then(|mut hitch| hitch.take())
    }
}

/// A thread that says once that an answer is long in coming, unless the watch is dropped before.
pub(super) struct Watch {
    ends: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch. A thread of its own is needed: name lookups cannot be interrupted.
    pub(super) fn begin(url: &str, hitch: &Hitch, limits: &Limits, log: Log) -> Watch {
        let (ends, ended) = mpsc::channel::<()>();
        let (url, hitch, limits) = (url.to_owned(), hitch.clone(), limits.clone());
        let work = move || {
            if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let reason = hitch.take().unwrap_or_else(|| "no answer".to_owned());
                let left = limits.remaining().as_secs_f64().round() as u64;
                let text = format!(
                    "Vault at {url} has not answered so far ({reason}); it is tried for another {left} s"
                );
                let fields = [("left_s", Value::Number(left))];
                log.event(Level::Warn, "vault_silent", &text, &fields);
            }
        };
        // Without a thread nothing is said, and all else goes on.
        let thread = thread::Builder::new().stack_size(STACK).spawn(work).ok();
        Watch {
            ends: Some(ends),
            thread,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.ends.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

//! The report of a run beside its results: which tests were left out, and how long each took.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::{Write, stderr};
use std::thread;
use std::time::Instant;

/// Says on the real standard error, whose lines libtest does not swallow, that this thread's test ends at once.
pub fn leave_out(why: &str) {
    let line = format!("left out, {why}: {}\n", name());
    // A run whose standard error is closed has no reader.
    let _ = stderr().write_all(line.as_bytes());
}

/// Whether this runs as root; says what is left out when it does not.
pub fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        leave_out("it needs root");
    }
    is_root
}

/// Begins to measure this thread's test, if that has not begun: its time goes to the file `ANTEROOM_TEST_TIMES` when
/// the thread ends. Stable libtest measures nothing, but gives each test a thread of its own.
pub fn measure() {
    thread_local! {
        static TIMER: RefCell<Option<Timer>> = const { RefCell::new(None) };
    }
    if thread::current()
        .name()
        .is_none_or(|name| !name.contains("::"))
    {
        return;
    }
    TIMER.with_borrow_mut(|timer| {
        timer.get_or_insert_with(|| Timer {
            name: name(),
            begun: Instant::now(),
        });
    });
}

/// Reports its age when it is dropped.
struct Timer {
    /// Noted at once: a thread that ends has lost it.
    name: String,
    begun: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        let Some(path) = std::env::var_os("ANTEROOM_TEST_TIMES") else {
            return;
        };
        let seconds = self.begun.elapsed().as_secs_f64();
        let line = format!("{seconds:.1} {}\n", self.name);
        let file = OpenOptions::new().append(true).create(true).open(path);
        // One write: lines of two tests do not mix.
        if let Ok(mut file) = file {
            let _ = file.write_all(line.as_bytes());
        }
    }
}

/// The name of this thread's test.
fn name() -> String {
    thread::current().name().unwrap_or("a thread").to_owned()
}

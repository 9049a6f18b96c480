//! Servers that never outlive the test process, however it ends.

use std::ffi::OsStr;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::lock;

type Job = Box<dyn FnOnce() + Send>;

/// Starts `command`; the kernel sends it `on_death` when the test process is gone.
#[allow(
    unsafe_code,
    reason = "only the child itself can ask for its death signal"
)]
pub fn spawn(mut command: Command, on_death: Signal) -> std::io::Result<Child> {
    // The death signal belongs to the thread that forks, not to the process: test threads end, this one does not.
    static NURSE: LazyLock<Mutex<Sender<Job>>> = LazyLock::new(|| {
        let (jobs, inbox) = channel::<Job>();
        std::thread::Builder::new()
            .name("nursery".into())
            .spawn(move || inbox.into_iter().for_each(|job| job()))
            .expect("a thread can be started");
        Mutex::new(jobs)
    });
    // SAFETY: prctl is async-signal-safe and the closure allocates nothing.
    unsafe {
        command.pre_exec(move || Ok(set_pdeathsig(on_death)?));
    }
    let (answer, child) = channel();
    lock(&NURSE)
        .send(Box::new(move || {
            let _ = answer.send(command.spawn());
        }))
        .expect("the nursery thread never ends");
    child.recv().expect("the nursery answers every job")
}

/// A child of the test process; killed on Drop.
pub struct Nursling(Child);

impl Nursling {
    /// As [`spawn`] starts it.
    pub fn spawn(command: Command, on_death: Signal) -> std::io::Result<Self> {
        spawn(command, on_death).map(Self)
    }
}

impl Deref for Nursling {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Nursling {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Nursling {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Removes `directory` when the test process is gone.
pub fn remove_at_exit(directory: &Path) {
    at_exit(r#"rm -rf -- "$0""#, directory.as_os_str());
}

/// Runs a line of shell, with this argument as `$0`, when the test process is gone.
pub fn at_exit(line: &str, argument: &OsStr) {
    let mut janitor = Command::new("/bin/sh");
    janitor
        .args(["-c", &format!("cat; sleep 1; {line}")])
        .arg(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Out of the way of Ctrl-C, which goes to the whole foreground group.
        .process_group(0);
    let child = janitor.spawn().expect("/bin/sh can be started");
    // Held open until this process ends: that is the signal.
    std::mem::forget(child);
}

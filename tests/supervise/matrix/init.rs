//! The inits, and an application below one.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::libc;
use serde_json::json;

use crate::support::anteroom::children;
use crate::support::probe::application;
use crate::support::{Anteroom, Manifest, Run, Running, Service};

/// For what does not depend on an init.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// For what an init ought to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that starts the application and stays above it.
pub(super) struct Init {
    pub(super) title: String,
    /// The call without the command; nothing where it has no such option.
    call: Box<dyn Fn(Wish) -> Option<Anteroom> + Sync>,
    /// How long to wait for what it ought to do; what does not come is a finding.
    pub(super) patience: Duration,
}

/// A wish that an init can be asked to fulfil.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// Signals go to the application alone, or to its process group.
    ToOne,
    ToGroup,
    /// 143 becomes 0.
    Remap,
    /// Orphans are its own although it is not PID 1.
    Subreaper,
}

/// The place of the init in its PID namespace.
#[derive(Debug, Clone, Copy)]
pub(in crate::supervise) enum Place {
    First,
    Other,
}

pub(in crate::supervise) const PLACES: [Place; 2] = [Place::First, Place::Other];
pub(super) const NAMESPACE: [&str; 5] =
    ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

impl Place {
    pub(in crate::supervise) fn words(self) -> &'static [&'static str] {
        match self {
            Place::First => &NAMESPACE,
            Place::Other => &[],
        }
    }
}

fn version(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: scripts/install inits"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let number = text.split_whitespace().last().unwrap_or_default();
    number.trim_start_matches('v').to_owned()
}

pub(super) fn tini() -> Init {
    Init {
        title: format!("tini {}", version("tini")),
        call: Box::new(|wish| {
            let options: &[&str] = match wish {
                Wish::Nothing | Wish::ToOne => &[],
                Wish::ToGroup => &["-g"],
                Wish::Remap => &["-e", "143"],
                Wish::Subreaper => &["-s"],
            };
            Some(other("tini").args(options))
        }),
        patience: PATIENCE,
    }
}

pub(super) fn dumb_init() -> Init {
    Init {
        title: format!("dumb-init {}", version("dumb-init")),
        call: Box::new(|wish| match wish {
            Wish::Nothing | Wish::ToGroup => Some(other("dumb-init")),
            Wish::ToOne => Some(other("dumb-init").arg("--single-child")),
            Wish::Remap | Wish::Subreaper => None,
        }),
        patience: PATIENCE,
    }
}

pub(super) fn other(program: impl AsRef<Path>) -> Anteroom {
    Anteroom::new()
        .program(program.as_ref())
        .without_secrets_dir()
}

pub(super) fn anteroom() -> Init {
    Init {
        title: format!("anteroom {}", env!("CARGO_PKG_VERSION")),
        call: Box::new(|wish| {
            let manifest = Manifest::empty()
                .set("service.app", "timeline")
                .set("service.environment", "test")
                .set("vault.address", "https://vault.example.io:8200")
                .set("token.creation_path", "auth/token/create/timeline-test")
                .set("dependencies.db.path", "database/creds/timeline");
            let call = Anteroom::new().args(["--dry-run", "--lifecycle", "supervise"]);
            Some(call.manifest(asked(manifest, wish)))
        }),
        patience: PATIENCE,
    }
}

/// The same with something to keep: a token, and in each start a certificate and credentials of a real OpenBao.
pub(super) fn anteroom_with_keeper() -> Init {
    let service = Service::new();
    Init {
        title: "anteroom with a keeper".to_owned(),
        call: Box::new(move |wish| {
            let call = Anteroom::new().args(["--lifecycle", "supervise"]);
            let call = call.manifest(asked(service.manifest(), wish));
            Some(call.token(service.mint()))
        }),
        patience: PATIENCE,
    }
}

fn asked(manifest: Manifest, wish: Wish) -> Manifest {
    let (key, value) = match wish {
        Wish::Nothing | Wish::ToOne => return manifest,
        Wish::ToGroup => ("process.signal_group", json!(true)),
        Wish::Remap => ("process.remap_exit", json!(["143"])),
        Wish::Subreaper => ("process.subreaper", json!(true)),
    };
    manifest.set(key, value)
}

/// The control: with it no row is as it must be.
pub(super) fn neglectful() -> Init {
    Init {
        title: "one that neglects everything".to_owned(),
        call: Box::new(|_| Some(other(application()).arg("neglect"))),
        // Whatever it ought to do does not come.
        patience: Duration::from_secs(1),
    }
}

impl Init {
    pub(super) fn with(&self, wish: Wish) -> Option<Anteroom> {
        (self.call)(wish)
    }

    pub(super) fn plain(&self) -> Anteroom {
        self.with(Wish::Nothing).expect("every init can be called")
    }

    /// Runs the application with this task to its end.
    pub(super) fn run(&self, place: Place, task: &[&str]) -> Run {
        let call = self.plain().under(place.words());
        call.command(command(task)).run()
    }

    /// Starts the application with this task and waits until it has printed `ready`.
    pub(super) fn start(&self, wish: Wish, place: Place, task: &[&str], ready: &str) -> Started {
        let call = self.with(wish).unwrap_or_else(|| self.plain());
        let mut running = call.under(place.words()).command(command(task)).spawn();
        running.wait_for_stdout(ready);
        Started {
            running,
            place,
            patience: self.patience,
        }
    }

    /// Starts an application that prints what it gets.
    pub(super) fn listening(&self, place: Place) -> Started {
        self.start(Wish::Nothing, place, &["signals"], "application ready")
    }
}

/// The words that start the application with this task.
pub(in crate::supervise) fn command(task: &[&str]) -> Vec<String> {
    let program = application().display().to_string();
    let words = task.iter().map(|word| (*word).to_owned());
    std::iter::once(program).chain(words).collect()
}

/// An init with the application below it.
pub(super) struct Started {
    pub(super) running: Running,
    place: Place,
    pub(super) patience: Duration,
}

impl Started {
    pub(super) fn init(&self) -> i32 {
        match self.place {
            Place::First => child(self.running.pid()),
            Place::Other => self.running.pid(),
        }
    }

    /// The application, also below an init that has other children.
    pub(super) fn application(&self) -> i32 {
        let name = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm"));
        let found = children(self.init())
            .into_iter()
            .find(|pid| name(pid).is_ok_and(|name| name == "application\n"));
        found.expect("the application runs")
    }

    /// Sends the init a signal.
    pub(super) fn send(&self, number: i32) {
        send(self.init(), number);
    }

    /// How often this process has printed that it got this signal.
    pub(super) fn count(&self, who: &str, number: i32) -> usize {
        let line = format!("{who} got {number}");
        let out = self.running.stdout();
        out.lines().filter(|seen| **seen == line).count()
    }

    /// Whether the init hands on a signal that is behind every other one in each queue.
    pub(super) fn hands_on_mark(&self) -> bool {
        let before = self.count("application", MARK);
        self.send(MARK);
        within(self.patience, || self.count("application", MARK) > before)
    }
}

/// The signal that is taken from a queue last.
pub(super) const MARK: i32 = 64;

pub(in crate::supervise) fn child(pid: i32) -> i32 {
    *children(pid).first().expect("it has a child")
}

/// Whether `done` comes true in time.
pub(super) fn within(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < patience {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// Sends a signal by its number, which the real-time ones have only.
#[allow(unsafe_code, reason = "kill(2) is to be called with any number")]
pub(in crate::supervise) fn send(pid: i32, number: i32) {
    // SAFETY: kill(2) takes two integers.
    let done = unsafe { libc::kill(pid, number) };
    assert_eq!(done, 0, "our own descendant can be signalled");
}

/// The character that stands for what a process does, in `/proc/PID/stat`.
pub(super) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

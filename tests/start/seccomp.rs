//! A container's seccomp profile refuses a system call, with EPERM as old engines do or with ENOSYS: a start works all the
//! same, or ends in time with one error that says what failed.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "a test prepares descriptors and reads what a tracer wrote"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::anteroom::entries_in;
use crate::support::probe::{bare, deny};
use crate::support::{Anteroom, Run, Service, TempDir, lock, open_tmpfs_dir};

/// Answers of a profile.
const ANSWERS: [Errno; 2] = [Errno::EPERM, Errno::ENOSYS];
/// The exit code of the application.
const STARTED: i32 = 42;
/// Generous: a start gives up after some seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Calls without which no error can be told: the C library's start, Rust's or the locks of both need them, or the error
/// itself does. Such a start ends, and is no success.
const WORDLESS: [(&str, &str); 8] = [
    ("arch_prctl", "thread-local storage"),
    (
        "close",
        "a reader that reads to an end waits for all that hold the other one",
    ),
    ("futex", "every lock"),
    ("mmap", "memory"),
    ("mprotect", "relocation"),
    ("poll", "Rust's runtime looks at the standard descriptors"),
    ("rt_sigaction", "Rust's runtime ignores SIGPIPE"),
    ("write", "the error itself"),
];

/// A way to start; every call that one of them makes is refused to it.
struct Scenario {
    name: &'static str,
    start: Box<dyn Fn() -> (Anteroom, TempDir) + Sync>,
}

fn dry_run(service: &Service, lifecycle: &'static str) -> Scenario {
    let manifest = service.manifest().to_string();
    Scenario {
        name: lifecycle,
        start: Box::new(move || {
            let secrets = open_tmpfs_dir();
            let run = Anteroom::new()
                .manifest(manifest.clone())
                .secrets_dir(secrets.path())
                .args(["--dry-run", "--lifecycle", lifecycle]);
            (run, secrets)
        }),
    }
}

/// A real Vault is there, and another user for the application.
fn real(service: &'static Service) -> Scenario {
    let manifest = service
        .manifest()
        .set("process.user", "1000:1000")
        .to_string();
    Scenario {
        name: "real",
        start: Box::new(move || {
            let secrets = open_tmpfs_dir();
            let run = Anteroom::new()
                .manifest(manifest.clone())
                .secrets_dir(secrets.path())
                .token(service.mint())
                .args(["--lifecycle", "supervise", "--deadline", "3s"]);
            (run, secrets)
        }),
    }
}

/// The numbers of all system calls, by name.
fn numbers() -> BTreeMap<String, i64> {
    let output = Command::new("gcc")
        .args([
            "-E",
            "-dM",
            "-include",
            "sys/syscall.h",
            "-x",
            "c",
            "/dev/null",
        ])
        .output()
        .expect("gcc can be started: scripts/install tools");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("#define __NR_"));
    let numbers: BTreeMap<String, i64> = lines
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?)))
        .collect();
    assert!(numbers.len() > 200, "{text}");
    numbers
}

/// The calls that a start of this kind makes.
fn calls(scenario: &Scenario) -> BTreeSet<String> {
    let scratch = TempDir::new();
    let log = scratch.join("calls");
    let (run, _secrets) = (scenario.start)();
    let tracer = ["strace", "-f", "-c", "-o"].map(std::ffi::OsStr::new);
    let run = run
        .under(tracer.into_iter().chain([log.as_os_str()]))
        .command([bare()])
        .limit(LIMIT)
        .run();
    run.assert_code(STARTED);
    let text = fs::read_to_string(log).expect("it was traced");
    let rows = text
        .lines()
        .filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    let names = rows.filter_map(|row| row.split_whitespace().last());
    let calls: BTreeSet<String> = names
        .filter(|name| *name != "total")
        .map(str::to_owned)
        .collect();
    assert!(calls.len() > 40, "{text}");
    calls
}

/// Tells what is wrong with a start that this call was refused to, if anything is.
fn fault(run: &Run, call: &str, secrets: &TempDir) -> Option<String> {
    if run.code == Some(STARTED) {
        return None;
    }
    let survivors = run.survivors();
    if !survivors.is_empty() {
        return Some(format!("{survivors:?} are left"));
    }
    if WORDLESS.iter().any(|(wordless, _)| *wordless == call) {
        return (run.code == Some(0)).then(|| "it counts as a success".to_owned());
    }
    let errors = run.events();
    let errors: Vec<_> = errors
        .iter()
        .filter(|event| event["level"] == "error")
        .collect();
    let [error] = errors[..] else {
        return Some(format!("{} errors were told", errors.len()));
    };
    let text = error["message"].as_str().unwrap_or_default();
    if !(64..=127).contains(&run.code.unwrap_or(0)) || run.code == Some(70) {
        return Some("it does not end with a code that says why".to_owned());
    }
    for late in ["by itself", "was killed"] {
        if text.contains(late) {
            return Some(format!("the keeper did not end: {text}"));
        }
    }
    let mut left = entries_in(secrets.path());
    // Without the lock nothing may be removed, not even the lock's own empty file: it may be another start's by now.
    left.retain(|name, entry| name != "..keeper" || !entry.bytes.is_empty());
    let may_leave = ["unlinkat"].contains(&call);
    (!left.is_empty() && !may_leave).then(|| format!("files are left: {left:?}"))
}

fn assert_every_call_may_be_refused(scenario: &Scenario) {
    let numbers = numbers();
    let calls = calls(scenario);
    let rows = calls
        .iter()
        .flat_map(|call| ANSWERS.map(|answer| (call, answer)));
    let rows = Mutex::new(rows);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        // Most of them wait for something, some for their deadline.
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((call, answer)) = { lock(&rows).next() } {
                    let number = numbers.get(call).expect("the kernel's headers know it");
                    let (run, secrets) = (scenario.start)();
                    let run = run
                        .under([
                            deny().as_os_str(),
                            number.to_string().as_ref(),
                            (answer as i32).to_string().as_ref(),
                        ])
                        .command([bare()])
                        .limit(LIMIT)
                        .run();
                    if let Some(fault) = fault(&run, call, &secrets) {
                        let what = format!("{call} with {answer}: {fault}\n{run:?}");
                        lock(&faults).push(what);
                    }
                }
            });
        }
    });
    let faults = lock(&faults);
    assert!(
        faults.is_empty(),
        "{}:\n{}",
        scenario.name,
        faults.join("\n")
    );
}

#[test]
fn call_refused_to_a_dry_run_ends_well_or_in_one_error() {
    let service = Service::new();
    for lifecycle in ["exec", "supervise"] {
        assert_every_call_may_be_refused(&dry_run(&service, lifecycle));
    }
}

#[test]
fn call_refused_to_a_start_with_vault_ends_well_or_in_one_error() {
    let service: &'static Service = Box::leak(Box::new(Service::new()));
    assert_every_call_may_be_refused(&real(service));
}

/// The words that refuse a call by its name.
fn refusing(call: &str, answer: Errno) -> [String; 3] {
    let number = numbers()[call];
    let deny = deny().to_str().expect("our own path").to_owned();
    [deny, number.to_string(), (answer as i32).to_string()]
}

#[test]
fn calls_with_a_fallback_may_be_refused_and_the_start_works() {
    let service = Service::new();
    for call in [
        "faccessat2",
        "close_range",
        "pidfd_open",
        "madvise",
        "statx",
        "clone3",
    ] {
        for answer in ANSWERS {
            for lifecycle in ["exec", "supervise"] {
                let scenario = dry_run(&service, lifecycle);
                let (run, _secrets) = (scenario.start)();
                let run = run.under(refusing(call, answer)).command([bare()]).run();
                assert_eq!(
                    run.code,
                    Some(STARTED),
                    "{call} {answer} {lifecycle}\n{run:?}"
                );
            }
        }
    }
}

#[test]
fn descriptor_above_the_limit_is_closed_without_close_range() {
    const HIGH: i32 = 500;
    let service = Service::new();
    for answer in ANSWERS {
        for lifecycle in ["exec", "supervise"] {
            let scenario = dry_run(&service, lifecycle);
            let (run, _secrets) = (scenario.start)();
            let run = run
                .under(refusing("close_range", answer))
                .pre_exec(|| {
                    let mut limit = libc::rlimit {
                        rlim_cur: 0,
                        rlim_max: 0,
                    };
                    // SAFETY: system calls alone, with a struct of their own.
                    unsafe {
                        if libc::dup2(0, HIGH) != HIGH
                            || libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0
                        {
                            return Err(std::io::Error::last_os_error());
                        }
                        limit.rlim_cur = 256;
                        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                    }
                    Ok(())
                })
                .shell("ls /proc/$$/fd")
                .run();
            run.assert_code(0);
            let inherited = run.stdout.lines().any(|line| line == HIGH.to_string());
            assert!(!inherited, "{answer} {lifecycle}\n{run:?}");
        }
    }
}

#[test]
fn application_is_told_without_process_descriptors() {
    let service = Service::with_database();
    let lives = json!({"default_ttl": "4s", "max_ttl": "4s"});
    let mount = service.database.as_deref().expect("it has one");
    service.admin.database_role(mount, &service.app, lives);
    for (call, told) in [
        ("pidfd_open", json!(["/bin/sh", "-c", "echo told"])),
        ("pidfd_open", json!("SIGHUP")),
        ("pidfd_send_signal", json!("SIGHUP")),
    ] {
        let what = format!("{call} {told}");
        let secrets = open_tmpfs_dir();
        let manifest = service
            .manifest()
            .remove("certificate")
            .remove("dependencies.payment")
            .remove("dependencies.legacy")
            .set("token.min_ttl", "1s")
            .set("process.on_rotate", told);
        let mut running = Anteroom::new()
            .under(refusing(call, Errno::EPERM))
            .manifest(manifest.to_string())
            .secrets_dir(secrets.path())
            .token(service.mint())
            .shell("trap 'echo told >&2' HUP; sleep 600 & echo up; while :; do wait $!; done")
            .spawn();
        running.wait_for_stdout("up");
        // Twice, so that the end of the first is noticed too.
        running.wait_until(&what, |run| {
            run.stderr().lines().filter(|line| *line == "told").count() >= 2
        });
        running.kill(Signal::SIGKILL);
    }
}

//! A start that is ended from outside, at each of its steps.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test plants files, and shows how long each end took"
)]

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, dup2_stderr, dup2_stdout, pipe2, write};
use serde_json::json;

use crate::support::anteroom::{children, has_ended};
use crate::support::{
    Anteroom, Fault, FaultProxy, Run, Running, Service, TempDir, Wrapped, tmpfs_dir, wait_for,
};

/// The state of the token when a start is ended at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// Not used yet.
    Valid,
    /// Unwrapped, and the answer never came: only the accessor can end it.
    Lost,
    /// Unwrapped and revoked.
    Revoked,
}

/// A request that is held while something happens.
struct Step {
    name: &'static str,
    path: String,
    hold: Hold,
    token: Token,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Vault never sees it.
    Before,
    /// Vault has done it, and the answer does not come.
    After,
    /// Vault sees it and answers once the fault is there.
    Until,
}

fn steps(service: &Service) -> Vec<Step> {
    let step = |name, path: &str, hold, token| Step {
        name,
        path: path.to_owned(),
        hold,
        token,
    };
    let sign = format!("{}/sign/{}", service.pki.mount, service.app);
    let unwrap = "sys/wrapping/unwrap";
    vec![
        step(
            "lookup sent",
            "sys/wrapping/lookup",
            Hold::Before,
            Token::Valid,
        ),
        step(
            "lookup done",
            "sys/wrapping/lookup",
            Hold::After,
            Token::Valid,
        ),
        step("unwrap sent", unwrap, Hold::Before, Token::Valid),
        step("unwrap done", unwrap, Hold::After, Token::Lost),
        step("unwrap answered late", unwrap, Hold::Until, Token::Revoked),
        step(
            "lookup-self",
            "auth/token/lookup-self",
            Hold::Before,
            Token::Revoked,
        ),
        step("CSR sent", &sign, Hold::Before, Token::Revoked),
        step("CSR signed", &sign, Hold::After, Token::Revoked),
        step(
            "KV read",
            &service.payment_path(),
            Hold::Before,
            Token::Revoked,
        ),
        step(
            "database credential asked for",
            &service.database_path(),
            Hold::Before,
            Token::Revoked,
        ),
        step(
            "database credential made",
            &service.database_path(),
            Hold::After,
            Token::Revoked,
        ),
    ]
}

/// A start that waits at a step.
struct Held {
    running: Running,
    wrapped: Wrapped,
    /// PID 1 of the start, and the keeper.
    parent: i32,
    keeper: i32,
    /// Lets a request go on that is held until then.
    release: Sender<()>,
    _proxy: FaultProxy,
}

fn hold_at(service: &Service, step: &Step, change: impl FnOnce(Anteroom) -> Anteroom) -> Held {
    let (release, released) = channel();
    let (path, hold) = (step.path.clone(), step.hold);
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        if !seen.is(&path) {
            return Fault::Pass;
        }
        match hold {
            Hold::Before => Fault::Hang,
            Hold::After => Fault::HangAfter,
            Hold::Until => {
                // An end of the test lets it go on too.
                let _ = released.recv();
                Fault::Pass
            }
        }
    });
    let wrapped = service.mint();
    let run = Anteroom::new()
        .manifest(service.manifest_for(&proxy.address()))
        .token(&wrapped)
        .shell("echo started");
    let mut running = change(run).spawn();
    running.wait_until(step.name, |_| proxy.count(&step.path) > 0);
    if step.hold == Hold::After {
        let used = || service.admin.lookup_wrapping(&wrapped.token) != 200;
        if step.token == Token::Lost {
            wait_for("the unwrap to be done", Duration::from_secs(10), || {
                used().then_some(())
            });
        }
    }
    let child = |pid: i32| children(pid).first().copied();
    let own = running.pid();
    // In a namespace of its own the start is a child of what made the namespace.
    let (parent, keeper) = match child(own).map(|first| (first, child(first))) {
        Some((first, Some(second))) => (first, second),
        Some((first, None)) => (own, first),
        None => panic!("{}: there is no keeper", step.name),
    };
    Held {
        running,
        wrapped,
        parent,
        keeper,
        release,
        _proxy: proxy,
    }
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("our own descendant can be signalled");
}

fn is_gone(pid: i32) -> Option<()> {
    (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
}

/// Generous: it is there to catch what hangs. The promise is 3 s.
const HANG: Duration = Duration::from_secs(10);

/// Fails unless everything of the start is gone, and the token is as it has to be.
fn assert_ended(service: &Service, step: &Step, what: &str, wrapped: &Wrapped, run: &Run) {
    let at = format!("{what} at: {}\n{run:?}", step.name);
    assert_eq!(run.stdout, "", "the application was started, {at}");
    assert!(run.entries().is_empty(), "files were left, {at}");
    assert_eq!(
        run.survivors(),
        Vec::<i32>::new(),
        "processes were left, {at}"
    );
    run.assert_no(Service::CANARIES);
    run.assert_no([&wrapped.token]);
    let valid = service.admin.lookup_wrapping(&wrapped.token) == 200;
    let alive = service.admin.accessor_exists(&wrapped.wrapped_accessor);
    let found = match (valid, alive) {
        (true, _) => Token::Valid,
        (false, true) => Token::Lost,
        (false, false) => Token::Revoked,
    };
    assert_eq!(found, step.token, "the token, {at}");
}

/// Does the same at each step, all of them at once: each waits most of its time.
fn at_each_step(service: &Service, fault: impl Fn(&Step) + Sync) {
    let steps = steps(service);
    std::thread::scope(|scope| {
        for step in &steps {
            scope.spawn(|| fault(step));
        }
    });
}

/// Vault revokes a token's leases soon after the token.
fn assert_no_lease(service: &Service) {
    wait_for("every lease to be revoked", HANG, || {
        service
            .admin
            .leases(&service.database_path())
            .is_empty()
            .then_some(())
    });
}

const NAMESPACE: [&str; 5] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

fn signal_at_each_step(ending: Signal) {
    let service = Service::with_database();
    for namespace in [&[][..], &NAMESPACE] {
        at_each_step(&service, |step| {
            let held = hold_at(&service, step, |run| run.under(namespace));
            let sent = Instant::now();
            signal(held.parent, ending);
            drop(held.release);
            let run = held.running.wait();
            let what = format!("{ending} with {namespace:?}");
            println!("{what} at {}: ended after {:?}", step.name, sent.elapsed());
            assert_eq!(
                run.code,
                Some(128 + ending as i32),
                "{what} at: {}\n{run:?}",
                step.name
            );
            assert!(sent.elapsed() < HANG, "{what} at: {}\n{run:?}", step.name);
            is_gone(held.keeper)
                .unwrap_or_else(|| panic!("the keeper outlived it, {what} at: {}", step.name));
            run.assert_stderr(ending.as_str());
            assert_ended(&service, step, &what, &held.wrapped, &run);
        });
    }
    assert_no_lease(&service);
}

// f28
#[test]
fn sigterm_at_each_step_ends_with_143_and_takes_all_back() {
    signal_at_each_step(Signal::SIGTERM);
}

// f28
#[test]
fn sigint_at_each_step_ends_with_130_and_takes_all_back() {
    signal_at_each_step(Signal::SIGINT);
}

// f28
#[test]
fn sighup_at_each_step_ends_with_129_and_takes_all_back() {
    signal_at_each_step(Signal::SIGHUP);
}

// f28
#[test]
fn sigquit_at_each_step_ends_with_131_and_takes_all_back() {
    signal_at_each_step(Signal::SIGQUIT);
}

// t18
#[test]
fn credential_made_while_the_start_ends_is_not_orphaned() {
    let service = Service::with_database();
    let mount = service.database.as_deref().expect("it has one");
    service.admin.database_role(
        mount,
        &service.app,
        json!({"creation_statements": [
            "SELECT pg_sleep(0.3)",
            "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'",
        ]}),
    );
    let proxy = FaultProxy::recording(service.admin.address());
    let wrapped = service.mint();
    let mut running = Anteroom::new()
        .manifest(service.manifest_for(&proxy.address()))
        .token(&wrapped)
        .shell("echo started")
        .spawn();
    running.wait_until("the credential to be asked for", |_| {
        proxy.count(&service.database_path()) > 0
    });
    // Vault must have let the request in before the token is revoked.
    std::thread::sleep(Duration::from_millis(100));
    running.kill(Signal::SIGTERM);
    running.wait().assert_refused(143);
    assert!(!service.admin.accessor_exists(&wrapped.wrapped_accessor));
    assert_no_lease(&service);
}

// f28
#[test]
fn signal_to_the_process_group_leaves_time_to_revoke() {
    let service = Service::with_database();
    at_each_step(&service, |step| {
        let held = hold_at(&service, step, |run| run);
        killpg(Pid::from_raw(held.parent), Signal::SIGINT).expect("our own group can be signalled");
        drop(held.release);
        let run = held.running.wait();
        assert_eq!(run.code, Some(130), "{}\n{run:?}", step.name);
        assert_ended(&service, step, "SIGINT to the group", &held.wrapped, &run);
    });
}

// f13, f28
#[test]
fn answer_that_drips_leaves_time_for_the_revocation() {
    let service = Service::new();
    let path = service.payment_path();
    let proxy = FaultProxy::start(service.admin.address(), {
        let path = path.clone();
        move |seen| {
            if seen.is(&path) {
                Fault::Drip(Duration::from_millis(100))
            } else {
                Fault::Pass
            }
        }
    });
    let wrapped = service.mint();
    let mut running = Anteroom::new()
        .manifest(service.manifest_for(&proxy.address()))
        .token(&wrapped)
        .shell("echo started")
        .spawn();
    running.wait_until("the credential to be asked for", |_| proxy.count(&path) > 0);
    running.kill(Signal::SIGTERM);
    running.wait().assert_refused(143);
    assert!(!service.admin.accessor_exists(&wrapped.wrapped_accessor));
}

// f28
#[test]
fn second_signal_does_not_cut_the_revocation_short() {
    let service = Service::with_database();
    let (release, released) = channel::<()>();
    let path = service.payment_path();
    let proxy = FaultProxy::start(service.admin.address(), {
        let path = path.clone();
        move |seen| {
            if seen.is("auth/token/revoke-self") {
                let _ = released.recv();
            }
            if seen.is(&path) {
                Fault::Hang
            } else {
                Fault::Pass
            }
        }
    });
    let wrapped = service.mint();
    let mut running = Anteroom::new()
        .manifest(service.manifest_for(&proxy.address()))
        .token(&wrapped)
        .shell("echo started")
        .spawn();
    running.wait_until("the credential to be asked for", |_| proxy.count(&path) > 0);
    running.kill(Signal::SIGTERM);
    running.wait_until("the revocation", |_| {
        proxy.count("auth/token/revoke-self") > 0
    });
    running.kill(Signal::SIGTERM);
    running.kill(Signal::SIGINT);
    drop(release);
    running.wait().assert_refused(143);
    assert!(!service.admin.accessor_exists(&wrapped.wrapped_accessor));
}

#[test]
fn early_signal_ends_pid_1_or_reaches_the_application() {
    let service = Service::new();
    let mut counts = [0, 0, 0];
    for round in 0..40 {
        let wrapped = service.mint();
        let mut running = Anteroom::new()
            .under(NAMESPACE)
            .manifest(service.manifest())
            .token(&wrapped)
            .shell("echo started")
            .limit(HANG)
            .spawn();
        running.wait_until("PID 1", |run| {
            !run.children().is_empty() || has_ended(run.pid())
        });
        // On a busy machine it may have ended before it was seen.
        let Some(&parent) = running.children().first() else {
            running.wait().assert_code(0);
            counts[1] += 1;
            continue;
        };
        let delay = Duration::from_micros(750 * round);
        std::thread::sleep(delay);
        // It may have ended already.
        let _ = kill(Pid::from_raw(parent), Signal::SIGTERM);
        let run = running.wait();
        match run.code {
            Some(143) => {
                run.assert_refused(143);
                let valid = service.admin.lookup_wrapping(&wrapped.token) == 200;
                let lost = !valid && service.admin.accessor_exists(&wrapped.wrapped_accessor);
                counts[if lost { 2 } else { 0 }] += 1;
            }
            Some(0) => {
                assert_eq!(run.stdout, "started\n", "after {delay:?}\n{run:?}");
                counts[1] += 1;
            }
            _ => panic!("after {delay:?}: {run:?}"),
        }
    }
    let [ended, started, lost] = counts;
    println!("{ended} ended, {started} started, {lost} ended when the keeper was gone already");
}

// f33
#[test]
fn keeper_killed_at_any_step_is_named_and_leaves_nothing() {
    let service = Service::with_database();
    for namespace in [&[][..], &NAMESPACE] {
        at_each_step(&service, |step| {
            let held = hold_at(&service, step, |run| run.under(namespace));
            signal(held.keeper, Signal::SIGKILL);
            drop(held.release);
            let run = held.running.wait();
            assert_eq!(run.code, Some(70), "{}\n{run:?}", step.name);
            run.assert_refused(70).assert_stderr("SIGKILL");
            assert_eq!(run.survivors(), Vec::<i32>::new(), "{}", step.name);
            if step.token == Token::Revoked && step.hold != Hold::Until {
                // anteroom cannot revoke it any more: the log says by what an operator can.
                let accessor = &held.wrapped.wrapped_accessor;
                run.assert_stderr(accessor);
                assert!(service.admin.accessor_exists(accessor), "{}", step.name);
            }
        });
    }
}

/// Words that trace all of a start and do something at a system call of it.
fn injecting(what: &str) -> Vec<String> {
    let call = what.split(':').next().expect("a call comes first");
    let words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"].map(str::to_owned);
    let rest = [
        format!("trace={call}"),
        "-e".to_owned(),
        format!("inject={what}"),
    ];
    words.into_iter().chain(rest).collect()
}

// f33
#[test]
fn keeper_killed_while_it_writes_or_ends_leaves_no_file() {
    let service = Service::new();
    for (name, what) in [
        ("the generation is made", "mkdirat:signal=SIGKILL:when=1"),
        ("the second file is staged", "fchmod:signal=SIGKILL:when=4"),
        ("all files are staged", "symlinkat:signal=SIGKILL:when=1"),
        ("the status is published", "renameat:signal=SIGKILL:when=1"),
        ("the link is swung", "renameat:signal=SIGKILL:when=2"),
        (
            "some names are published",
            "symlinkat:signal=SIGKILL:when=3",
        ),
    ] {
        let run = Anteroom::new()
            .under(injecting(what))
            .manifest(service.manifest())
            .token(service.mint())
            .shell("echo started")
            .run();
        assert_eq!(run.code, Some(70), "{name}\n{run:?}");
        run.assert_refused(70).assert_stderr("SIGKILL");
    }
}

// f33
#[test]
fn dry_run_keeper_killed_at_its_end_leaves_no_file() {
    // One that has nothing to keep fresh. The signal ends PID 1 too, once that has reported.
    let run = Anteroom::new()
        .under(injecting("exit_group:signal=SIGKILL:when=1"))
        .manifest(Service::new().manifest())
        .arg("--dry-run")
        .shell("echo started")
        .run();
    run.assert_signal(Signal::SIGKILL);
    assert_eq!(run.stdout, "", "{run:?}");
    run.assert_no_files()
        .assert_stderr("SIGKILL")
        .assert_stderr("\"exit_code\":70");
}

// f31
#[test]
fn exec_that_fails_after_all_leaves_no_file() {
    let service = Service::new();
    for (error, code) in [
        ("E2BIG", 126),
        ("EACCES", 126),
        ("ENOEXEC", 126),
        ("ETXTBSY", 126),
        ("ENOENT", 127),
    ] {
        let run = Anteroom::new()
            .under(injecting(&format!("execve:error={error}:when=1")))
            .manifest(service.manifest())
            .token(service.mint())
            .shell("echo started")
            .run();
        assert_eq!(run.code, Some(code), "{error}\n{run:?}");
        run.assert_refused(code).assert_stderr("accessor");
    }
}

// f30
#[test]
fn failing_system_call_before_the_unwrap_is_71_and_keeps_token() {
    let service = Service::new();
    for (what, text) in [
        ("prctl:error=EPERM:when=1", "non-dumpable"),
        ("socketpair:error=EMFILE:when=1", "connect to the keeper"),
        ("signalfd4:error=ENOMEM:when=1", "listen for signals"),
        ("clone,clone3,fork:error=EAGAIN:when=1", "fork"),
    ] {
        let wrapped = service.mint();
        let run = Anteroom::new()
            .under(injecting(what))
            .manifest(service.manifest())
            .token(&wrapped)
            .shell("echo started")
            .run();
        assert_eq!(run.code, Some(71), "{what}\n{run:?}");
        run.assert_refused(71).assert_stderr(text);
        assert_eq!(service.admin.lookup_wrapping(&wrapped.token), 200, "{what}");
    }
}

// f29, f34
#[test]
fn keeper_whose_parent_is_killed_takes_everything_back() {
    let service = Service::with_database();
    at_each_step(&service, |step| {
        let held = hold_at(&service, step, |run| run);
        signal(held.parent, Signal::SIGKILL);
        drop(held.release);
        wait_for("the keeper to end", HANG, || is_gone(held.keeper));
        let run = held.running.wait();
        run.assert_signal(Signal::SIGKILL);
        assert_ended(&service, step, "SIGKILL", &held.wrapped, &run);
    });
}

// f29
#[test]
fn killed_pid_1_takes_its_keeper_along_and_publishes_nothing() {
    let service = Service::with_database();
    at_each_step(&service, |step| {
        let held = hold_at(&service, step, |run| run.under(NAMESPACE));
        signal(held.parent, Signal::SIGKILL);
        drop(held.release);
        let run = held.running.wait();
        wait_for("the keeper to end", HANG, || is_gone(held.keeper));
        assert_eq!(run.stdout, "", "{}", step.name);
        assert!(run.files().is_empty(), "{}: {:?}", step.name, run.files());
    });
}

#[test]
fn deadline_ends_everything_at_each_step() {
    let service = Service::with_database();
    at_each_step(&service, |step| {
        if step.hold == Hold::Until {
            return;
        }
        let held = hold_at(&service, step, |run| run.args(["--deadline", "8s"]));
        let run = held.running.wait();
        // An unwrap without an answer may have been done.
        let code = if step.path.ends_with("unwrap") {
            82
        } else {
            69
        };
        println!("{}: ended after {:?}", step.name, run.elapsed);
        assert_eq!(run.code, Some(code), "{}\n{run:?}", step.name);
        assert!(
            run.elapsed < Duration::from_secs(8) + HANG,
            "{}\n{run:?}",
            step.name
        );
        is_gone(held.keeper).unwrap_or_else(|| panic!("the keeper outlived it: {}", step.name));
        assert_ended(&service, step, "the deadline", &held.wrapped, &run);
    });
}

// f30
#[test]
fn start_without_a_spare_process_is_71_and_leaves_the_token() {
    let service = Service::new();
    let wrapped = service.mint();
    let limited = |processes: u64| {
        Anteroom::new()
            .manifest(service.manifest())
            .token(&wrapped)
            .uid(54_322)
            .pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NPROC, processes, processes)?))
            .shell("echo started")
            .run()
    };
    limited(1).assert_refused(71).assert_stderr("fork");
    assert_eq!(service.admin.lookup_wrapping(&wrapped.token), 200);
    let run = limited(2);
    run.assert_code(0);
    assert_eq!(
        run.stdout, "started\n",
        "without a thread to spare it does one thing after the other"
    );
}

// b65
#[test]
fn too_few_descriptors_are_named_and_enough_are_enough() {
    let service = Service::new();
    let mut wrong = Vec::new();
    for descriptors in 3..24 {
        let wrapped = service.mint();
        let run = Anteroom::new()
            .manifest(service.manifest())
            .token(&wrapped)
            .pre_exec(move || {
                Ok(setrlimit(
                    Resource::RLIMIT_NOFILE,
                    descriptors,
                    descriptors,
                )?)
            })
            .shell("echo started")
            .run();
        let valid = service.admin.lookup_wrapping(&wrapped.token) == 200;
        let revoked = !valid && !service.admin.accessor_exists(&wrapped.wrapped_accessor);
        // 73 when it is a file that cannot be opened.
        let refused = [Some(71), Some(73)].contains(&run.code)
            && run.stdout.is_empty()
            && run.entries().is_empty()
            && (valid || revoked);
        let named = run.stderr.contains("Too many open files") || run.stderr.contains("open files");
        let started = run.code == Some(0) && run.stdout == "started\n";
        if !(started || refused && named)
            || descriptors == 3 && !refused
            || descriptors == 23 && !started
        {
            wrong.push(format!(
                "{descriptors} descriptors, token valid {valid}, revoked {revoked}: {run:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// b66
#[test]
fn start_works_without_proc() {
    let service = Service::new();
    let hide = r#"mount -t tmpfs none /proc && exec "$0" "$@""#;
    let run = Anteroom::new()
        .under(["unshare", "-m", "/bin/sh", "-c", hide])
        .manifest(service.manifest())
        .token(service.mint())
        .shell("test -e /proc/self || echo started")
        .run();
    run.assert_code(0);
    assert_eq!(run.stdout, "started\n");
}

/// A pipe that takes nothing more; a writer waits for ever.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("a pipe can be made");
    while write(&writer, &[b'x'; 4096]).is_ok() {}
    while write(&writer, b"x").is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).expect("our own pipe");
    (reader, writer)
}

fn into_full_pipe(run: Anteroom) -> (OwnedFd, Anteroom) {
    let (reader, writer) = full_pipe();
    let replace = move || -> io::Result<()> {
        dup2_stdout(&writer)?;
        Ok(dup2_stderr(&writer)?)
    };
    (reader, run.pre_exec(replace))
}

// b61
#[test]
fn unread_output_does_not_hold_a_start_up() {
    let service = Service::new();
    let run = Anteroom::new()
        .manifest(service.manifest())
        .token(service.mint());
    let (_reader, run) = into_full_pipe(run.args(["--log-level", "debug"]).command(["/bin/true"]));
    run.run().assert_code(0);
}

// b61
#[test]
fn unread_output_does_not_defer_the_deadline() {
    let service = Service::with_database();
    at_each_step(&service, |step| {
        if step.path != service.payment_path() {
            return;
        }
        let mut reader = None;
        let held = hold_at(&service, step, |run| {
            let (end, run) = into_full_pipe(run.args(["--deadline", "3s"]));
            reader = Some(end);
            run
        });
        let run = held.running.wait();
        assert_eq!(run.code, Some(69));
        assert!(run.elapsed < Duration::from_secs(3) + HANG, "{run:?}");
        assert!(
            !service
                .admin
                .accessor_exists(&held.wrapped.wrapped_accessor)
        );
    });
}

// f29
#[test]
fn files_of_a_killed_start_are_gone_after_the_next_one() {
    let service = Service::new();
    let secrets = crate::support::tmpfs_dir();
    let stale = secrets.path().join("..generation-0123456789abcdef");
    fs::create_dir(&stale).expect("our own directory");
    fs::write(stale.join("tls.key"), "stale").expect("our own directory");
    let run = Anteroom::new()
        .manifest(service.manifest())
        .token(service.mint())
        .secrets_dir(secrets.path())
        .shell("echo started")
        .keep_files()
        .run();
    run.assert_code(0);
    let entries = run.entries();
    let mut generations = entries
        .keys()
        .filter(|name| name.starts_with("..generation-") && !name.contains('/'));
    let generation = generations.next().expect("its own");
    assert_ne!(
        Some(generation.as_str()),
        stale.file_name().and_then(|name| name.to_str())
    );
    assert_eq!(generations.next(), None, "one of an earlier start");
}

/// A secrets directory of this user that others can go through, as a container's tmpfs is.
fn secrets_dir_of(uid: u32) -> TempDir {
    let directory = tmpfs_dir();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
        .expect("chmod of our own directory");
    chown(directory.path(), Some(uid), Some(uid)).expect("root can give directories away");
    directory
}

// f28, f33
#[test]
fn keeper_that_stands_still_is_killed_at_the_end_of_the_start() {
    let service = Service::with_database();
    let steps = steps(&service);
    let rows = [(Some(Signal::SIGTERM), 143, "25s"), (None, 69, "2s")];
    std::thread::scope(|scope| {
        for step in steps
            .iter()
            .filter(|step| ["lookup sent", "KV read"].contains(&step.name))
        {
            for namespace in [&[][..], &NAMESPACE] {
                for (ending, code, deadline) in rows {
                    let service = &service;
                    scope.spawn(move || {
                        let what = format!("{} with {ending:?} and {namespace:?}", step.name);
                        let held = hold_at(service, step, |run| {
                            run.under(namespace).args(["--deadline", deadline])
                        });
                        signal(held.keeper, Signal::SIGSTOP);
                        if let Some(ending) = ending {
                            signal(held.parent, ending);
                        }
                        let run = held.running.wait();
                        assert_eq!(run.code, Some(code), "{what}\n{run:?}");
                        run.assert_refused(code)
                            .assert_stderr("\"event\":\"keeper_lost\"");
                        assert_eq!(run.survivors(), Vec::<i32>::new(), "{what}\n{run:?}");
                        is_gone(held.keeper).unwrap_or_else(|| panic!("{what}: it is there"));
                    });
                }
            }
        }
    });
}

/// A start that has published everything, whose PID 1 stands still before it lets the keeper go.
fn hold_before_release(service: &Service, change: impl FnOnce(Anteroom) -> Anteroom) -> Held {
    let step = steps(service)
        .into_iter()
        .find(|step| step.hold == Hold::Until)
        .expect("one step is held until it is let go");
    let mut held = hold_at(service, &step, change);
    signal(held.parent, Signal::SIGSTOP);
    held.release.send(()).expect("the proxy waits");
    held.running.wait_for_stderr("\"event\":\"ready\"");
    held
}

// f33
#[test]
fn keeper_killed_before_its_release_is_named_leaving_nothing() {
    let service = Service::with_database();
    for namespace in [&[][..], &NAMESPACE] {
        let held = hold_before_release(&service, |run| run.under(namespace));
        signal(held.keeper, Signal::SIGKILL);
        wait_for("the keeper to end", HANG, || {
            has_ended(held.keeper).then_some(())
        });
        signal(held.parent, Signal::SIGCONT);
        let run = held.running.wait();
        run.assert_refused(70)
            .assert_stderr("SIGKILL")
            .assert_stderr(&held.wrapped.wrapped_accessor);
        assert_eq!(run.survivors(), Vec::<i32>::new(), "{namespace:?}\n{run:?}");
    }
}

// f39
#[test]
fn keeper_frozen_at_its_release_does_not_hold_up_the_start() {
    let service = Service::with_database();
    for namespace in [&[][..], &NAMESPACE] {
        let mut held = hold_before_release(&service, |run| run.under(namespace));
        signal(held.keeper, Signal::SIGSTOP);
        signal(held.parent, Signal::SIGCONT);
        held.running
            .wait_until("the application's end", |run| run.outputs_have_ended().0);
        if namespace.is_empty() {
            signal(held.keeper, Signal::SIGCONT);
        }
        let run = held.running.wait();
        run.assert_code(0);
        assert_eq!(run.stdout, "started\n", "{namespace:?}");
        assert_eq!(run.survivors(), Vec::<i32>::new(), "{namespace:?}\n{run:?}");
        if namespace.is_empty() {
            run.assert_no_files();
            let accessor = &held.wrapped.wrapped_accessor;
            assert!(!service.admin.accessor_exists(accessor), "{run:?}");
        }
    }
}

// f33
#[test]
fn dry_run_keeper_frozen_at_its_end_is_killed() {
    // One that has nothing to keep fresh. Both stand still when they look for word of the other for the first time.
    let mut running = Anteroom::new()
        .under(injecting("recvfrom:signal=SIGSTOP:when=1"))
        .manifest(Service::new().manifest())
        .arg("--dry-run")
        .shell("echo started")
        .spawn();
    running.wait_for_stderr("\"event\":\"ready\"");
    signal(running.children()[0], Signal::SIGCONT);
    let run = running.wait();
    run.assert_refused(70).assert_stderr("SIGKILL");
    assert_eq!(run.survivors(), Vec::<i32>::new(), "{run:?}");
}

// f33
#[test]
fn keeper_frozen_after_its_last_word_is_killed() {
    let service = Service::new();
    let wrapped = service.mint();
    // A keeper in an empty directory, when it has failed, removes its generation and then the lock; PID 1 the lock alone.
    let run = Anteroom::new()
        .under(injecting("unlinkat:signal=SIGSTOP:when=2"))
        .manifest(
            service
                .manifest()
                .set("dependencies.payment.fields", json!(["nowhere"])),
        )
        .token(&wrapped)
        .limit(Duration::from_secs(30))
        .shell("echo started")
        .run();
    run.assert_refused(70).assert_stderr("SIGKILL");
    assert_eq!(run.survivors(), Vec::<i32>::new());
    assert!(!service.admin.accessor_exists(&wrapped.wrapped_accessor));
}

// f30, f31
#[test]
fn failed_change_of_user_is_71_and_takes_everything_back() {
    let service = Service::new();
    for what in [
        // Each changes once to look for the command, once to look again, and once for good.
        "setgroups:error=EPERM:when=3",
        "setresuid:error=EPERM:when=3",
        "setresuid:error=EAGAIN:when=4",
        "setgroups:error=EPERM:when=5",
        "setgid:error=EPERM:when=1",
        "setuid:error=EPERM:when=1",
        "setuid:error=EAGAIN:when=1",
    ] {
        let (secrets, wrapped) = (secrets_dir_of(0), service.mint());
        let run = Anteroom::new()
            .under(injecting(what))
            .manifest(service.manifest().set("process.user", "1000:1000"))
            .secrets_dir(secrets.path())
            .token(&wrapped)
            .shell("echo started")
            .run();
        assert_eq!(run.code, Some(71), "{what}\n{run:?}");
        run.assert_refused(71)
            .assert_stderr("\"event\":\"revoked\"");
        assert!(
            !service.admin.accessor_exists(&wrapped.wrapped_accessor),
            "{what}: the token lives"
        );
    }
}

// f31
#[test]
fn exec_that_fails_after_all_leaves_no_secret_to_the_user() {
    let service = Service::new();
    for (error, owner) in [("ETXTBSY", 0), ("EAGAIN", 0), ("EAGAIN", 1000)] {
        let what = format!("{error} in a directory of {owner}");
        let secrets = secrets_dir_of(owner);
        let run = Anteroom::new()
            .under(injecting(&format!("execve:error={error}:when=1")))
            .manifest(service.manifest().set("process.user", "1000:1000"))
            .secrets_dir(secrets.path())
            .token(service.mint())
            .shell("echo started")
            .run();
        assert_eq!(run.code, Some(126), "{what}\n{run:?}");
        assert_eq!(run.stdout, "", "{what}");
        run.assert_stderr("\"event\":\"unwrapped\"");
        let mut left = run.entries();
        if owner == 0 {
            // What is not a secret stays where the user may remove nothing.
            left.retain(|_, entry| entry.link.is_none() && !entry.is_dir);
        }
        assert!(left.is_empty(), "{what}: {left:?}\n{run:?}");
    }
}

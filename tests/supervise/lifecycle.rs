//! The lifecycle `supervise`: anteroom stays above the application, and gives everything back when that has ended.
#![allow(
    clippy::disallowed_methods,
    reason = "a test starts programs and looks at what they left"
)]

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, dup2_stderr, mkfifo, pipe2};
use serde_json::json;

use crate::support::anteroom::{children, files_in, found_in_memory, has_ended};
use crate::support::probe::application;
use crate::support::{
    Anteroom, Fault, FaultProxy, Running, Service, TempDir, Wrapped, assert_revoked,
    open_tmpfs_dir, probe, wait_for,
};

/// As the first process of a container.
const NAMESPACE: [&str; 5] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// Beside other processes, and as PID 1.
const PLACES: [&[&str]; 2] = [&[], &NAMESPACE];

/// Generous: it is there to catch what hangs.
const HANG: Duration = Duration::from_secs(20);

/// An application that says when it is there, and does nothing but what its traps say.
fn idle(traps: &str) -> String {
    format!("{traps}; echo ready; while :; do sleep 0.05; done")
}

fn supervised(service: &Service) -> (Anteroom, Wrapped) {
    let wrapped = service.mint();
    let run = Anteroom::new()
        .manifest(service.manifest())
        .token(&wrapped)
        .args(["--lifecycle", "supervise"]);
    (run, wrapped)
}

/// A dry run with this `[process]`.
fn dry(service: &Service, process: serde_json::Value) -> Anteroom {
    Anteroom::new()
        .manifest(service.manifest().set("process", process))
        .args(["--dry-run", "--lifecycle", "supervise"])
}

/// The process that supervises, in whichever place.
fn init(running: &Running, place: &[&str]) -> i32 {
    match place {
        [] => running.pid(),
        _ => *running
            .children()
            .first()
            .expect("the namespace has a PID 1"),
    }
}

/// The keeper: the one child of the init that is anteroom too.
fn keeper(init: i32) -> i32 {
    let is_anteroom = |pid: &i32| {
        fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|path| path == Path::new(env!("CARGO_BIN_EXE_anteroom")))
    };
    let found: Vec<i32> = children(init).into_iter().filter(is_anteroom).collect();
    assert_eq!(found.len(), 1, "one keeper below {init}");
    found[0]
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("our own descendant can be signalled");
}

fn assert_given_back(service: &Service, wrapped: &Wrapped, what: &str) {
    let is_alive = service.admin.accessor_exists(&wrapped.wrapped_accessor);
    assert!(!is_alive, "{what}: the token was not revoked");
    if service.database.is_some() {
        wait_for("every lease to be revoked", HANG, || {
            let leases = service.admin.leases(&service.database_path());
            leases.is_empty().then_some(())
        });
    }
}

// f40
#[test]
fn any_end_of_the_application_keeps_its_code_and_cleans_up() {
    let service = Service::with_database();
    for place in PLACES {
        for (script, code) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("kill -KILL $$", 137),
            ("kill -TERM $$", 143),
            ("kill -64 $$", 192),
            ("(trap '' TERM; sleep 600) & exit 5", 5),
        ] {
            let what = format!("{script} in {place:?}");
            let (run, wrapped) = supervised(&service);
            let run = run.under(place).shell(script).run();
            assert_eq!(run.code, Some(code), "{what}\n{run:?}");
            run.assert_no_files().assert_stderr("\"event\":\"revoked\"");
            assert_eq!(run.survivors(), Vec::<i32>::new(), "{what}");
            assert_given_back(&service, &wrapped, &what);
        }
    }
}

#[test]
fn exit_codes_that_the_manifest_names_become_0_and_others_stay() {
    let service = Service::new();
    for (script, code) in [
        ("kill -TERM $$", 0),
        ("exit 143", 0),
        ("exit 3", 0),
        ("exit 4", 4),
        ("kill -INT $$", 130),
    ] {
        let process = json!({"remap_exit": ["143", "3"]});
        let run = dry(&service, process).shell(script).run();
        assert_eq!(run.code, Some(code), "{script}\n{run:?}");
        run.assert_no_files();
    }
}

/// A pipe on which an application waits until the test opens it for writing.
pub(super) fn gate(directory: &TempDir) -> String {
    let path = directory.join("gate");
    mkfifo(&path, Mode::S_IRWXU).expect("our own directory can be written");
    path.display().to_string()
}

// f40
#[test]
fn slowly_ending_application_has_its_secrets_to_the_last() {
    let service = Service::with_database();
    for place in PLACES {
        let directory = TempDir::new();
        let gate = gate(&directory);
        let (run, wrapped) = supervised(&service);
        let ending = format!("trap 'echo ending; read go <{gate}; exit 9' TERM");
        let mut running = run.under(place).shell(&idle(&ending)).spawn();
        running.wait_for_stdout("ready");
        send(init(&running, place), Signal::SIGTERM);
        running.wait_for_stdout("ending");
        let files = files_in(running.secrets_dir());
        assert_eq!(files["payment/api_key"].text(), Service::API_KEY);
        assert!(service.admin.accessor_exists(&wrapped.wrapped_accessor));
        assert!(!service.admin.leases(&service.database_path()).is_empty());
        fs::write(&gate, "").expect("it is read");
        let run = running.wait();
        assert_eq!(run.code, Some(9), "{place:?}\n{run:?}");
        run.assert_no_files();
        assert_given_back(&service, &wrapped, &format!("{place:?}"));
    }
}

// f28
#[test]
fn signal_during_the_start_ends_it_as_in_the_other_lifecycle() {
    let service = Service::with_database();
    for place in PLACES {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            let path = service.payment_path();
            let proxy = FaultProxy::start(service.admin.address(), {
                let path = path.clone();
                move |seen| {
                    if seen.is(&path) {
                        Fault::Hang
                    } else {
                        Fault::Pass
                    }
                }
            });
            let (run, wrapped) = supervised(&service);
            let mut running = run
                .under(place)
                .manifest(service.manifest_for(&proxy.address()))
                .shell("echo started")
                .spawn();
            running.wait_until("the credential to be asked for", |_| proxy.count(&path) > 0);
            send(init(&running, place), signal);
            let run = running.wait();
            assert_revoked(&run, 128 + signal as i32, &service, &wrapped);
            assert_eq!(run.survivors(), Vec::<i32>::new(), "{signal} in {place:?}");
        }
    }
}

// f30, f31
#[test]
fn start_that_fails_after_the_fetch_takes_everything_back() {
    let service = Service::with_database();
    for (what, user, code) in [
        ("execve:error=ETXTBSY:when=1", None, 126),
        ("execve:error=EACCES:when=1", None, 126),
        ("execve:error=ENOENT:when=1", None, 127),
        ("setpgid:error=EPERM:when=1", None, 71),
        // The first is the keeper.
        ("clone:error=EAGAIN:when=2", None, 71),
        ("setuid:error=EPERM:when=1", Some("1000:1000"), 71),
        ("setuid:error=EAGAIN:when=1", Some("1000:1000"), 71),
    ] {
        let call = what.split(':').next().expect("a call comes first");
        let (trace, inject) = (format!("trace={call}"), format!("inject={what}"));
        let strace = [
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &trace,
            "-e",
            &inject,
        ];
        let (secrets, wrapped) = (open_tmpfs_dir(), service.mint());
        let mut manifest = service.manifest().set("process.lifecycle", "supervise");
        if let Some(user) = user {
            manifest = manifest.set("process.user", user);
        }
        let run = Anteroom::new()
            .under(strace)
            .manifest(manifest)
            .secrets_dir(secrets.path())
            .token(&wrapped)
            .shell("echo started")
            .run();
        assert_eq!(run.code, Some(code), "{what}\n{run:?}");
        run.assert_refused(code)
            .assert_stderr("\"event\":\"revoked\"");
        assert_eq!(run.survivors(), Vec::<i32>::new(), "{what}");
        assert_given_back(&service, &wrapped, what);
    }
}

/// Starts an application, kills the keeper, and waits until that was noticed.
fn bereaved(service: &Service, place: &[&str], process: &[(&str, &str)], traps: &str) -> Running {
    let mut manifest = service.manifest();
    for (key, value) in process {
        manifest = manifest.set(&format!("process.{key}"), *value);
    }
    let (run, wrapped) = supervised(service);
    let mut running = run
        .under(place)
        .manifest(manifest)
        .shell(&idle(traps))
        .spawn();
    running.wait_for_stdout("ready");
    let keeper = keeper(init(&running, place));
    send(keeper, Signal::SIGKILL);
    running.wait_for_stderr("\"event\":\"keeper_lost\"");
    assert!(running.stderr().contains("was killed by SIGKILL"));
    // anteroom cannot revoke it any more: the log says by what an operator can.
    assert!(running.stderr().contains(&wrapped.wrapped_accessor));
    assert!(has_ended(keeper));
    running
}

// f39
#[test]
fn lost_keeper_is_reported_and_the_application_may_go_on() {
    let service = Service::new();
    for place in PLACES {
        let running = bereaved(&service, place, &[], "trap 'exit 9' TERM");
        let init = init(&running, place);
        // It was reaped, and the init does not look for it in vain.
        assert_eq!(children(init).len(), 1, "{place:?}");
        send(init, Signal::SIGTERM);
        let run = running.wait();
        assert_eq!(run.code, Some(9), "{place:?}\n{run:?}");
        run.assert_no_files();
    }
}

// f39
#[test]
fn lost_keeper_is_told_by_the_signal_of_the_manifest() {
    let service = Service::new();
    let process = [("on_expiry", "signal"), ("expiry_signal", "SIGUSR1")];
    for place in PLACES {
        let run = bereaved(&service, place, &process, "trap 'exit 3' USR1").wait();
        assert_eq!(run.code, Some(3), "{place:?}\n{run:?}");
        run.assert_no_files();
    }
}

// f39
#[test]
fn lost_keeper_ends_the_application_with_75_or_by_force() {
    let service = Service::new();
    let process = [("on_expiry", "terminate"), ("stop_timeout", "300ms")];
    for place in PLACES {
        for (traps, is_killed) in [("trap 'exit 0' TERM", false), ("trap '' TERM", true)] {
            let what = format!("{traps} in {place:?}");
            let run = bereaved(&service, place, &process, traps).wait();
            assert_eq!(run.code, Some(75), "{what}\n{run:?}");
            let killed = run.stderr.contains("\"event\":\"application_killed\"");
            assert_eq!(killed, is_killed, "{what}\n{run:?}");
            run.assert_no_files();
            assert_eq!(run.survivors(), Vec::<i32>::new(), "{what}");
        }
    }
}

#[test]
fn keeper_that_stands_still_at_the_end_is_killed_and_named() {
    let service = Service::new();
    for place in PLACES {
        let (run, wrapped) = supervised(&service);
        let mut running = run
            .under(place)
            .manifest(service.manifest())
            .shell(&idle("trap 'exit 9' TERM"))
            .spawn();
        running.wait_for_stdout("ready");
        let init = init(&running, place);
        send(keeper(init), Signal::SIGSTOP);
        send(init, Signal::SIGTERM);
        let run = running.wait();
        assert_eq!(run.code, Some(9), "{place:?}\n{run:?}");
        run.assert_no_files();
        assert_eq!(run.survivors(), Vec::<i32>::new(), "{place:?}");
        // The keeper alone could revoke the token: the log says that an operator must, and by what.
        assert!(service.admin.accessor_exists(&wrapped.wrapped_accessor));
        run.assert_stderr("\"event\":\"keeper_lost\"")
            .assert_stderr(&wrapped.wrapped_accessor);
    }
}

// f36, f38
#[test]
fn token_revoked_from_outside_ends_the_application_with_75() {
    let service = Service::with_database();
    let manifest = service
        .manifest()
        .set("token.revocation_check", "1s")
        .set("process.on_expiry", "terminate");
    for place in PLACES {
        let (run, wrapped) = supervised(&service);
        let mut running = run
            .under(place)
            .manifest(manifest.to_string())
            .shell(&idle("trap 'echo told; exit 0' TERM"))
            .spawn();
        running.wait_for_stdout("ready");
        let accessor = json!({"accessor": wrapped.wrapped_accessor});
        service
            .admin
            .ok("POST", "auth/token/revoke-accessor", accessor);
        let run = running.wait();
        assert_eq!(run.code, Some(75), "{place:?}\n{run:?}");
        assert_eq!(run.stdout, "ready\ntold\n", "{place:?}");
        let noticed = run.named("token_revoked");
        assert_eq!(noticed.len(), 1, "{place:?}\n{run:?}");
        let accessor = wrapped.wrapped_accessor.as_str();
        assert_eq!(noticed[0]["accessor"], accessor, "{place:?}");
        run.assert_no_files();
    }
}

// f34, f40
#[test]
fn killed_supervisor_leaves_a_keeper_that_gives_all_back() {
    let service = Service::with_database();
    let (run, wrapped) = supervised(&service);
    let mut running = run.shell("echo $$; exec sleep 600").spawn();
    running.wait_for_stdout("\n");
    let application: i32 = running.stdout().trim().parse().expect("a pid");
    running.kill(Signal::SIGKILL);
    wait_for("the token to be revoked", HANG, || {
        let is_alive = service.admin.accessor_exists(&wrapped.wrapped_accessor);
        (!is_alive).then_some(())
    });
    send(application, Signal::SIGKILL);
    let run = running.wait();
    run.assert_signal(Signal::SIGKILL).assert_no_files();
    assert_given_back(&service, &wrapped, "kill -9");
}

/// Environment and command line of a process.
fn visible(pid: i32) -> String {
    ["environ", "cmdline"]
        .map(|name| {
            let bytes = fs::read(format!("/proc/{pid}/{name}")).expect("root may read it");
            String::from_utf8_lossy(&bytes).into_owned()
        })
        .concat()
}

// t6
#[test]
fn init_shows_no_secret_and_forgets_what_it_has_handed_on() {
    let service = Service::new();
    // Memory that was given back without care loses its first bytes only.
    let environment = json!({"API_KEY": "{{ payment.api_key }} ".repeat(300)});
    for place in PLACES {
        let (run, wrapped) = supervised(&service);
        let mut running = run
            .under(place)
            .manifest(service.manifest().set("environment", environment.clone()))
            .shell(&idle(":"))
            .spawn();
        running.wait_for_stdout("ready");
        let init = init(&running, place);
        let keeper = keeper(init);
        let application = children(init).into_iter().find(|child| *child != keeper);
        let application = application.expect("it is a child of the init");
        for pid in [init, keeper, application] {
            assert!(!visible(pid).contains(&wrapped.token), "{pid} in {place:?}");
        }
        assert!(visible(application).contains(Service::API_KEY));
        for pid in [init, keeper] {
            for canary in Service::CANARIES {
                assert!(!visible(pid).contains(canary), "{pid} in {place:?}");
            }
        }
        let found = |pid| found_in_memory(pid, Service::API_KEY.as_bytes());
        assert_ne!(found(application), Vec::<String>::new());
        wait_for("the init to forget", HANG, || {
            found(init).is_empty().then_some(())
        });
        send(application, Signal::SIGKILL);
        running.wait().assert_code(137);
    }
}

// t7
#[test]
fn application_of_the_same_user_cannot_read_the_init_above_it() {
    let service = Service::new();
    let spy = format!("exec {} spy $PPID", probe().display());
    for (uid, user) in [(1000, None), (0, Some("1000:1000"))] {
        let secrets = open_tmpfs_dir();
        chown(secrets.path(), Some(uid), Some(uid)).expect("root can give directories away");
        let mut manifest = service.manifest();
        if let Some(user) = user {
            manifest = manifest.set("process.user", user);
        }
        let (run, _) = supervised(&service);
        let run = run
            .uid(uid)
            .manifest(manifest)
            .secrets_dir(secrets.path())
            .shell(&spy)
            .run();
        run.assert_code(0);
        let lines: Vec<&str> = run.stdout.lines().collect();
        assert!(lines.len() > 10, "the probe did not run\n{run:?}");
        for line in lines {
            let refused = line.ends_with(" EACCES") || line.ends_with(" EPERM");
            assert!(refused, "as {uid}: {line}\n{run:?}");
        }
    }
}

#[test]
fn user_of_the_manifest_is_the_applications_alone() {
    let service = Service::new();
    let secrets = open_tmpfs_dir();
    let process = json!({"user": "1000:1000"});
    let look = "id -u; stat -c %u $DIRECTORY/payment/api_key /proc/$PPID; exit 3";
    let run = dry(&service, process)
        .secrets_dir(secrets.path())
        .env("DIRECTORY", secrets.path())
        .shell(look)
        .run();
    run.assert_code(3).assert_no_files();
    assert_eq!(run.stdout, "1000\n1000\n0\n");
}

/// The targets of a process's descriptors.
fn descriptors(pid: i32) -> Vec<String> {
    let listing = fs::read_dir(format!("/proc/{pid}/fd")).expect("root may look");
    listing
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|path| path.display().to_string())
        .collect()
}

// t13
#[test]
fn declared_descriptors_are_held_by_the_application_alone() {
    let service = Service::new();
    let open = "exec 3</dev/null 4</dev/zero 9</dev/zero;";
    for (declared, fds, pid) in [
        ("", "0 1 2", ""),
        ("export LISTEN_FDS=2 LISTEN_PID=$$;", "0 1 2 3 4", "its own"),
        ("export LISTEN_FDS=2 LISTEN_PID=1;", "0 1 2", "1"),
    ] {
        let become_it = format!(r#"{open} {declared} exec "$0" "$@""#);
        let (run, _) = supervised(&service);
        let mut running = run
            .under(["/bin/sh", "-c", &become_it])
            .shell(
                "[ \"$LISTEN_PID\" = $$ ] && LISTEN_PID='its own'; ls -x /proc/$$/fd; \
                 echo \"then $LISTEN_PID\"; exec sleep 600",
            )
            .spawn();
        running.wait_for_stdout("then");
        let said = running.stdout();
        let said: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(said.join(" "), format!("{fds} then {pid}").trim_end());
        let init = running.pid();
        for process in [init, keeper(init)] {
            let what = format!("{declared}: process {process} to hold none of them");
            wait_for(&what, HANG, || {
                let held = descriptors(process);
                (!held.iter().any(|path| path == "/dev/zero")).then_some(())
            });
        }
        running.kill(Signal::SIGTERM);
        running.wait().assert_code(143);
    }
}

#[test]
fn nothing_but_the_application_stays_in_the_working_directory() {
    let service = Service::new();
    for lifecycle in ["exec", "supervise"] {
        let directory = TempDir::new();
        // All of these are found from there, at the start and later.
        directory.write("ca.pem", &service.pki.root_pem);
        let tell = directory.write("tell", "#!/bin/sh\npwd >told.next && mv told.next told\n");
        fs::set_permissions(&tell, fs::Permissions::from_mode(0o755)).expect("ours");
        let manifest = service
            .manifest()
            .set(
                "process",
                json!({"lifecycle": lifecycle, "on_rotate": ["./tell"]}),
            )
            .set("certificate.ttl", "3s")
            .set("certificate.ca_file", "ca.pem");
        let mut running = Anteroom::new()
            .manifest(manifest)
            .token(service.mint())
            .current_dir(directory.path())
            .shell(&idle("trap 'exit 0' TERM"))
            .spawn();
        running.wait_for_stdout("ready");
        let place = |pid: i32| fs::read_link(format!("/proc/{pid}/cwd")).expect("it runs");
        let (keeper, application) = match lifecycle {
            "exec" => (running.keeper(), running.pid()),
            _ => {
                let keeper = keeper(running.pid());
                let mut others = children(running.pid());
                others.retain(|child| *child != keeper);
                (keeper, others[0])
            }
        };
        running.wait_for_stderr("\"rotated\"");
        let own = directory.path().canonicalize().expect("it is there");
        if lifecycle == "supervise" {
            assert_eq!(place(running.pid()), Path::new("/"), "PID 1");
        }
        assert_eq!(place(keeper), Path::new("/"), "{lifecycle}");
        assert_eq!(place(application), own, "{lifecycle}");
        let told = wait_for("the command", HANG, || {
            fs::read_to_string(directory.join("told")).ok()
        });
        assert_eq!(told.trim(), own.to_str().expect("text"), "{lifecycle}");
        running.kill(Signal::SIGTERM);
        running.wait().assert_code(0);
    }
}

#[test]
fn reader_of_the_output_waits_for_the_application_alone() {
    let service = Service::new();
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
    let stdout = writer.try_clone().expect("a descriptor");
    let (run, _) = supervised(&service);
    let running = run
        .pre_exec(move || Ok(nix::unistd::dup2_stdout(stdout.as_fd())?))
        .shell("echo done; exec >/dev/null; exec sleep 600")
        .spawn();
    drop(writer);
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a flag of ours");
    let (mut reader, mut read) = (fs::File::from(reader), Vec::new());
    wait_for("the end of what the application writes", HANG, || {
        reader.read_to_end(&mut read).ok()
    });
    assert_eq!(read, b"done\n");
    running.kill(Signal::SIGTERM);
    running.wait().assert_code(143);
}

#[test]
fn signal_from_the_inits_own_log_is_not_passed_on() {
    let service = Service::new();
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
    drop(reader);
    let manifest = service
        .manifest()
        .set("process.on_expiry", "signal")
        .set("process.expiry_signal", "SIGUSR1");
    let (run, _) = supervised(&service);
    let mut running = run
        .manifest(manifest)
        .pre_exec(move || Ok(dup2_stderr(writer.as_fd())?))
        .command([application().as_os_str(), "signals".as_ref(), "5".as_ref()])
        .spawn();
    running.wait_for_stdout("application ready");
    send(keeper(running.pid()), Signal::SIGKILL);
    // Sent after the loss was written to no reader.
    running.wait_for_stdout(&format!("got {}\n", libc::SIGUSR1));
    running.kill(Signal::SIGHUP);
    running.wait_for_stdout(&format!("got {}\n", libc::SIGHUP));
    let own = format!("got {}\n", libc::SIGPIPE);
    assert!(!running.stdout().contains(&own), "{}", running.stdout());
    running.kill(Signal::SIGPIPE);
    running.wait_for_stdout(&own);
    running.kill(Signal::SIGUSR2);
    running.wait().assert_code(5);
}

/// The words that run this script of bash on a terminal; in it `$LINE` is the command line of anteroom.
fn on_terminal(script: &str) -> [String; 4] {
    let start =
        r#"LINE=$(printf '%q ' "$0" "$@") exec script -qec 'exec bash -c "$SCRIPT"' /dev/null"#;
    let start = format!("export SCRIPT='{script}'; {start}");
    ["bash", "-c", &start, ""].map(str::to_owned)
}

#[test]
fn job_that_the_terminal_stops_stops_and_goes_on_as_a_whole() {
    let service = Service::new();
    // As an editor does it at ^Z.
    let editor = "trap 'echo continued' CONT; echo begun; kill -TSTP 0; echo on; exit 7";
    let shell = "set -m; eval $LINE; echo stopped-$?; jobs; fg >/dev/null; echo ended-$?";
    let words = on_terminal(shell);
    let run = dry(&service, json!({}))
        .under(&words[..3])
        .shell(editor)
        .limit(HANG)
        .run();
    let said: Vec<&str> = run.stdout.lines().map(str::trim_end).collect();
    let at = |text: &str| {
        let found = said.iter().position(|line| line.starts_with(text));
        found.unwrap_or_else(|| panic!("{text} is missing\n{run:?}"))
    };
    at("[1]+  Stopped");
    let order = ["begun", "stopped-148", "continued", "on", "ended-7"].map(at);
    assert!(order.is_sorted(), "{run:?}");
    let continued = said.iter().filter(|line| **line == "continued").count();
    assert_eq!(continued, 1, "{run:?}");
}

#[test]
fn terminal_stop_without_a_shell_to_undo_it_stops_no_process() {
    let service = Service::new();
    let namespace = NAMESPACE.join(" ");
    let words = on_terminal(&format!("eval exec {namespace} setsid --ctty $LINE"));
    let run = dry(&service, json!({}))
        .under(&words[..3])
        .shell("kill -TSTP 0; echo on; exit 7")
        .limit(HANG)
        .run();
    run.assert_code(7);
    assert!(run.stdout.contains("on\r\n"), "{run:?}");
}

#[test]
fn reader_of_the_terminal_in_a_pipeline_gets_what_is_typed() {
    let service = Service::new();
    let directory = TempDir::new();
    let gate = gate(&directory);
    for (shell, application, said) in [
        (
            "echo x | eval $LINE",
            "read line </dev/tty; echo application-$line".to_owned(),
            "application-typed",
        ),
        (
            "eval $LINE | { read begun; read line </dev/tty; echo pager-$line; echo >$GATE; }",
            format!("echo begun; read go <{gate}"),
            "pager-typed",
        ),
    ] {
        let words = on_terminal(&format!("set -m; {shell}"));
        let run = dry(&service, json!({}))
            .under(&words[..3])
            .env("GATE", &gate)
            .stdin("typed\n")
            .shell(&application)
            .limit(HANG)
            .run();
        run.assert_code(0);
        assert!(run.stdout.contains(said), "{shell}\n{run:?}");
    }
}

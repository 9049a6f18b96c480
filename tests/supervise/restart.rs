//! The application is told: it is started again with its new variables, or a command runs at the start too. A real OpenBao.
#![allow(
    clippy::disallowed_methods,
    reason = "a test looks at processes and files, and makes links"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::lifecycle::gate;
use super::matrix::init::{PLACES, Place, child, command, send};
use super::matrix::terminal::{BASH, Terminal, work};
use crate::support::anteroom::{children, found_in_memory, has_ended};
use crate::support::scene::{LONG, Scene};
use crate::support::{
    Anteroom, FaultProxy, Manifest, Postgres, Run, Running, Service, TempDir, Wrapped, unique,
    wait_for,
};

/// An application that says its value when it starts, and ends with 3 at SIGTERM.
const MODEL: &str = "trap 'echo ending; exit 3' TERM; echo up $KEY; while :; do sleep 0.05; done";

/// A service whose application has a secret in a variable that is read again every second, and starts again when the secret
/// becomes another one.
fn restarting(manifest: Manifest) -> Manifest {
    manifest
        .remove("certificate")
        .remove("dependencies.legacy")
        .set("dependencies.payment.refresh", "1s")
        .set("dependencies.payment.env_prefix", "BY_PREFIX_")
        .set("environment.KEY", "{{ payment.api_key }}")
        .set("process.lifecycle", "supervise")
        .set("process.on_rotate", "restart")
        .set("process.restart_splay", "0s")
}

/// One application under anteroom, and the secret in its variable.
struct Told {
    run: Running,
    proxy: FaultProxy,
    token: Wrapped,
    service: Service,
    place: Place,
}

impl Told {
    /// Starts this script in this place, with a manifest that is changed.
    fn start(place: Place, script: &str, change: impl FnOnce(Manifest) -> Manifest) -> Told {
        Told::started(place, change, |call| call.shell(script))
    }

    fn started(
        place: Place,
        change: impl FnOnce(Manifest) -> Manifest,
        finish: impl FnOnce(Anteroom) -> Anteroom,
    ) -> Told {
        let service = Service::new();
        let proxy = FaultProxy::recording(service.admin.address());
        let token = service.mint();
        let call = Anteroom::new()
            .under(place.words())
            .manifest(change(restarting(service.manifest_for(&proxy.address()))))
            .token(&token);
        let mut told = Told {
            run: finish(call).spawn(),
            proxy,
            token,
            service,
            place,
        };
        told.wait_for_up(Service::API_KEY);
        told
    }

    fn wait_for_up(&mut self, key: &str) {
        self.run.wait_for_stdout(&format!("up {key}\n"));
    }

    /// Writes another value into Vault.
    fn set(&self, key: &str) {
        let data = json!({"data": {"api_key": key}});
        self.service
            .admin
            .kv_put(&self.service.payment_path(), data);
    }

    fn init(&self) -> i32 {
        match self.place {
            Place::First => child(self.run.pid()),
            Place::Other => self.run.pid(),
        }
    }

    fn signal(&self, signal: Signal) {
        send(self.init(), signal as i32);
    }

    fn keeper(&self) -> i32 {
        let found = children(self.init())
            .into_iter()
            .find(|pid| is_anteroom(*pid));
        found.expect("it is there")
    }

    /// The application's process.
    fn application(&self) -> i32 {
        let mut others = children(self.init());
        others.retain(|pid| !is_anteroom(*pid));
        assert_eq!(others.len(), 1, "{}", self.run.stderr());
        others[0]
    }

    /// How often an application has said that it is up.
    fn ups(&self) -> usize {
        self.run.stdout().matches("up ").count()
    }

    #[track_caller]
    fn assert_healthy(&self) {
        let health = Anteroom::new()
            .secrets_dir(self.run.secrets_dir())
            .arg("health")
            .run();
        assert_eq!((health.code, &*health.stdout), (Some(0), ""), "{health:?}");
    }

    /// Waits for its end; fails unless everything was given back.
    #[track_caller]
    fn wait(self, code: i32) -> Run {
        let run = self.run.wait();
        run.assert_code(code).assert_no_files();
        assert_eq!(run.survivors(), Vec::<i32>::new(), "{run:?}");
        let accessor = &self.token.wrapped_accessor;
        assert!(!self.service.admin.accessor_exists(accessor), "{run:?}");
        run
    }
}

fn is_anteroom(pid: i32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe"))
        .is_ok_and(|path| path == Path::new(env!("CARGO_BIN_EXE_anteroom")))
}

fn environ(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/environ")).expect("root may read it");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn restart_brings_new_variables_and_keeps_the_token() {
    for place in PLACES {
        let mut told = Told::start(place, MODEL, |manifest| manifest);
        let (old, token) = (told.application(), told.token.wrapped_accessor.clone());
        told.set("second");
        told.wait_for_up("second");
        told.run.wait_for_events("restarted", 1);
        assert!(has_ended(old), "{place:?}");
        let new = told.application();
        let environment = environ(new);
        assert!(environment.contains("\0KEY=second\0") || environment.starts_with("KEY=second\0"));
        assert!(environment.contains("BY_PREFIX_API_KEY=second\0"));
        assert!(!environment.contains(Service::API_KEY), "{place:?}");
        told.assert_healthy();
        told.set("third");
        told.wait_for_up("third");
        told.run.wait_for_events("restarted", 2);
        let counts: Vec<Value> = told.run.named("restarted");
        let counts: Vec<&Value> = counts.iter().map(|event| &event["restarts"]).collect();
        assert_eq!(counts, [1, 2]);
        assert_eq!(told.proxy.count("sys/wrapping/unwrap"), 1);
        assert!(told.service.admin.accessor_exists(&token), "{place:?}");
        let revoked = told.proxy.count("auth/token/revoke-self");
        assert_eq!(revoked, 0, "{place:?}");
        told.signal(Signal::SIGTERM);
        let run = told.wait(3);
        let ended = run.stdout.matches("ending\n").count();
        assert_eq!(ended, 3, "{run:?}");
        run.assert_no(["second", "third"].map(|key| format!("KEY={key}")));
        assert!(!run.stderr.contains(Service::API_KEY) && !run.stderr.contains("second"));
    }
}

#[test]
fn init_forgets_the_variables_of_a_restart_that_succeeded() {
    let script = "trap 'exit 3' TERM; echo up ${KEY%% *}; while :; do sleep 0.05; done";
    let mut told = Told::started(
        Place::Other,
        // Memory that was given back without care loses its first bytes only.
        |manifest| manifest.set("environment.KEY", "{{ payment.api_key }} ".repeat(300)),
        |call| call.shell(script),
    );
    told.set("canary-of-the-second");
    told.wait_for_up("canary-of-the-second");
    told.run.wait_for_events("restarted", 1);
    let init = told.init();
    for canary in [Service::API_KEY, "canary-of-the-second"] {
        for pid in [init, told.keeper()] {
            assert!(!environ(pid).contains(canary));
        }
        wait_for("the init to forget", LONG, || {
            found_in_memory(init, canary.as_bytes())
                .is_empty()
                .then_some(())
        });
    }
    told.signal(Signal::SIGTERM);
    told.wait(3);
}

#[test]
fn application_finds_all_else_as_at_its_first_start() {
    // Nothing is forked for the look at the descriptors, among which the look has one of its own.
    let look = "for fd in /proc/$$/fd/*; do fds=\"$fds ${fd##*/}\"; done; \
        status=$(grep -E '^(Sig(Blk|Ign|Cgt)|Uid|Groups)' /proc/$$/status | tr '\n' ' '); \
        echo \"found $(pwd -P) $(umask)$fds; $status $HOME own:$((LISTEN_PID == $$))\"; \
        read line <&4; echo line $line; echo up $KEY; exec sleep 600";
    let directory = TempDir::new();
    let gate = gate(&directory);
    fs::set_permissions(
        directory.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .expect("ours");
    let open = format!(
        "umask 027; exec 4<>{gate}; echo a >&4; echo b >&4; exec 3</dev/null; trap '' USR1; LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\" \"$@\""
    );
    let cwd = directory.path().to_owned();
    let mut told = Told::started(
        Place::Other,
        |manifest| manifest,
        |call| {
            call.under(["/bin/sh", "-c", &open])
                .current_dir(cwd)
                .shell(look)
        },
    );
    told.set("second");
    told.wait_for_up("second");
    let said = told.run.stdout();
    let lines = |begin: &str| -> Vec<&str> {
        said.lines()
            .filter(|line| line.starts_with(begin))
            .collect()
    };
    let found = lines("found ");
    assert_eq!(found.len(), 2, "{said}");
    assert_eq!(found[0], found[1]);
    let path = directory.path().canonicalize().expect("it is there");
    assert!(found[0].contains(path.to_str().expect("text")), "{said}");
    assert!(found[0].contains(" 0027 0 1 2 3 4 5;"), "{said}");
    assert!(found[0].trim_end().ends_with("own:1"), "{said}");
    // The second goes on where the first has stopped.
    assert_eq!(lines("line "), ["line a", "line b"]);
    told.signal(Signal::SIGTERM);
    told.wait(143);
}

#[test]
fn signal_during_the_splay_ends_the_application_for_good() {
    for place in PLACES {
        let mut told = Told::start(place, MODEL, |manifest| {
            manifest.set("process.restart_splay", "1h")
        });
        told.set("second");
        told.run.wait_for_events("restart_planned", 1);
        told.assert_healthy();
        told.signal(Signal::SIGTERM);
        let run = told.wait(3);
        assert_eq!(run.named("restarted"), Vec::<Value>::new());
    }
}

#[test]
fn signal_while_the_application_ends_makes_that_its_last_end() {
    let directory = TempDir::new();
    let gate = gate(&directory);
    let script = format!(
        "trap 'echo ending; read go <{gate}; exit 9' TERM; echo up $KEY; while :; do sleep 0.05; done"
    );
    for place in PLACES {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
            let script = format!("trap '' INT QUIT; {script}");
            let mut told = Told::start(place, &script, |manifest| manifest);
            told.set("second");
            told.run.wait_for_stdout("ending");
            told.signal(signal);
            // What comes now is too late.
            told.set("third");
            told.run.wait_for_events("on_rotate_failed", 1);
            assert!(
                told.run
                    .stderr()
                    .contains(&format!("{signal} has asked it to end"))
            );
            fs::write(&gate, "").expect("it is read");
            let run = told.wait(9);
            assert_eq!(run.stdout.matches("up ").count(), 1, "{run:?}");
        }
    }
}

#[test]
fn signal_to_an_application_that_does_not_end_stops_restarts() {
    let script =
        "trap 'echo asked' TERM; trap 'exit 5' USR1; echo up $KEY; while :; do sleep 0.05; done";
    let mut told = Told::start(Place::Other, script, |manifest| manifest);
    told.signal(Signal::SIGTERM);
    told.run.wait_for_stdout("asked");
    told.set("second");
    told.run.wait_for_events("on_rotate_failed", 1);
    told.signal(Signal::SIGUSR1);
    let run = told.wait(5);
    assert_eq!(run.stdout.matches("up ").count(), 1, "{run:?}");
}

/// An application that fails unless its value is one of those that are no failure.
fn failing(script: &str) -> String {
    format!("case $KEY in bad*) echo bad; exit 4;; esac; {script}")
}

#[test]
fn signal_in_the_pause_after_a_failure_ends_it_at_once() {
    for place in PLACES {
        for signal in [Signal::SIGTERM, Signal::SIGHUP] {
            let mut told = Told::start(place, &failing(MODEL), |manifest| manifest);
            told.set("bad");
            told.run.wait_for_events("restart_failed", 3);
            told.assert_healthy();
            told.signal(signal);
            told.wait(128 + signal as i32);
        }
    }
}

#[test]
fn application_that_fails_after_a_restart_gets_another_chance() {
    let mut told = Told::start(Place::First, &failing(MODEL), |manifest| manifest);
    told.set("bad");
    told.run.wait_for_events("restart_failed", 1);
    told.assert_healthy();
    told.set("good");
    told.wait_for_up("good");
    told.run.wait_for_stderr("\"event\":\"restarted\"");
    // It runs, and ends by itself, with what is a success.
    told.signal(Signal::SIGTERM);
    told.wait(3);
}

#[test]
fn application_that_fails_again_and_again_is_given_up() {
    let mut told = Told::start(Place::Other, &failing(MODEL), |manifest| manifest);
    told.set("bad");
    told.run.wait_for_events("restart_failed", 5);
    let run = told.wait(4);
    let failed = run.named("restart_failed");
    let pauses: Vec<&Value> = failed.iter().map(|event| &event["pause_s"]).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 0], "{run:?}");
    assert_eq!(failed[4]["failures"], 5);
    assert_eq!(run.stdout.matches("bad\n").count(), 5, "{run:?}");
}

#[test]
fn end_of_the_token_in_the_pause_ends_with_75() {
    let mut told = Told::start(Place::Other, &failing(MODEL), |manifest| {
        manifest.set("process.on_expiry", "terminate")
    });
    told.set("bad");
    told.run.wait_for_events("restart_failed", 3);
    kill(Pid::from_raw(told.keeper()), Signal::SIGKILL).expect("it is there");
    let run = told.run.wait();
    run.assert_code(75).assert_no_files();
    assert_eq!(run.named("keeper_lost").len(), 1, "{run:?}");
    // It is not started for it once more.
    assert_eq!(run.stdout.matches("bad\n").count(), 3, "{run:?}");
}

#[test]
fn signal_that_is_no_stop_leaves_a_restart_its_retries() {
    let script = "trap 'exit 7' USR1; trap 'echo other' HUP QUIT; trap 'exit 3' TERM; \
        echo up $KEY; while :; do sleep 0.05; done";
    for signal in [Signal::SIGHUP, Signal::SIGQUIT] {
        let mut told = Told::start(Place::Other, script, |manifest| manifest);
        told.set("second");
        told.wait_for_up("second");
        told.run.wait_for_events("restarted", 1);
        told.signal(signal);
        told.run.wait_for_stdout("other\n");
        told.signal(Signal::SIGUSR1);
        told.run.wait_for_events("restarted", 2);
        told.run.wait_until("another", |run| {
            run.stdout().matches("up second\n").count() == 2
        });
        told.signal(Signal::SIGTERM);
        let run = told.wait(3);
        assert_eq!(run.named("restart_failed").len(), 1, "{run:?}");
    }
}

#[test]
fn signal_of_the_tokens_end_reaches_the_next_start() {
    let directory = TempDir::new();
    let obstacle = directory.join("obstacle");
    let script = format!(
        "test -e {} && exit 4; trap 'echo told' USR1; trap 'exit 3' TERM; echo up $KEY; \
         while :; do sleep 0.05; done",
        obstacle.display()
    );
    let start = |signal: &str| {
        let mut told = Told::start(Place::Other, &script, |manifest| {
            manifest
                .set("process.on_expiry", "signal")
                .set("process.expiry_signal", signal)
        });
        fs::write(&obstacle, "").expect("our own directory can be written");
        told.set("second");
        told.run.wait_for_events("restart_failed", 2);
        kill(Pid::from_raw(told.keeper()), Signal::SIGKILL).expect("it is there");
        told
    };
    let mut told = start("SIGUSR1");
    told.run.wait_for_events("keeper_lost", 1);
    fs::remove_file(&obstacle).expect("it is there");
    told.wait_for_up("second");
    told.run.wait_for_stdout("told\n");
    told.signal(Signal::SIGTERM);
    told.run.wait().assert_code(3).assert_no_files();
    // What asks for the end ends the pause.
    let run = start("SIGTERM").run.wait();
    run.assert_code(75).assert_no_files();
    assert_eq!(run.stdout.matches("up ").count(), 1, "{run:?}");
}

#[test]
fn application_that_ends_at_the_tokens_end_starts_no_more() {
    let mut told = Told::start(Place::Other, MODEL, |manifest| {
        manifest.set("process.on_expiry", "signal")
    });
    told.set("second");
    told.run.wait_for_events("restarted", 1);
    told.wait_for_up("second");
    kill(Pid::from_raw(told.keeper()), Signal::SIGKILL).expect("it is there");
    let run = told.run.wait();
    run.assert_code(3).assert_no_files();
    assert_eq!(run.named("restart_failed"), Vec::<Value>::new());
}

#[test]
fn application_that_ends_as_a_restart_is_ordered_ends_all() {
    for place in PLACES {
        let told = Told::start(place, MODEL, |manifest| manifest);
        let (application, keeper) = (told.application(), told.keeper());
        told.signal(Signal::SIGSTOP);
        told.set("second");
        // The order lies there, and the keeper waits for the answer.
        wait_for("the order", LONG, || {
            let waits_for = fs::read_to_string(format!("/proc/{keeper}/wchan"));
            waits_for
                .is_ok_and(|name| name.contains("unix_stream"))
                .then_some(())
        });
        kill(Pid::from_raw(application), Signal::SIGKILL).expect("it is there");
        // A killed process is not gone at once, and one that still runs may be ended for a restart.
        wait_for("the end of the application", LONG, || {
            has_ended(application).then_some(())
        });
        told.signal(Signal::SIGCONT);
        let run = told.wait(137);
        for event in ["keeper_lost", "restarted"] {
            assert_eq!(run.named(event), Vec::<Value>::new(), "{run:?}");
        }
    }
}

#[test]
fn success_soon_after_a_restart_is_an_end_like_any_other() {
    let script =
        "case $KEY in done) exit 0;; remapped) exit 6;; esac; echo up $KEY; exec sleep 600";
    for key in ["done", "remapped"] {
        let told = Told::start(Place::Other, script, |manifest| {
            manifest.set("process.remap_exit", json!(["6"]))
        });
        told.set(key);
        let run = told.wait(0);
        assert_eq!(run.named("restarted").len(), 1, "{run:?}");
    }
}

#[test]
fn application_that_ignores_sigterm_is_killed_and_started_again() {
    for place in PLACES {
        let script = "trap '' TERM; trap 'exit 0' USR1; echo up $KEY; while :; do sleep 0.05; done";
        let mut told = Told::start(place, script, |manifest| {
            manifest.set("process.stop_timeout", "300ms")
        });
        let old = told.application();
        told.set("second");
        told.wait_for_up("second");
        assert!(has_ended(old), "{place:?}");
        told.run.wait_for_events("restarted", 1);
        assert_eq!(told.run.named("application_killed").len(), 1, "{place:?}");
        told.signal(Signal::SIGUSR1);
        told.wait(0);
    }
}

#[test]
fn generations_during_a_restart_lead_to_no_other_one() {
    let directory = TempDir::new();
    let gate = gate(&directory);
    let script = format!(
        "trap 'echo ending; read go <{gate}; exit 9' TERM; echo up $KEY; while :; do sleep 0.05; done"
    );
    let mut told = Told::start(Place::Other, &script, |manifest| manifest);
    told.set("second");
    told.run.wait_for_stdout("ending");
    for (count, key) in [(2, "third"), (3, "fourth")] {
        told.set(key);
        told.run.wait_for_events("rotated", count);
        told.run.wait_for_events("restart_planned", count);
    }
    told.assert_healthy();
    // The keeper, which has ordered all of it, is not needed any more.
    let readings = told.proxy.count(&told.service.payment_path());
    let (path, proxy) = (told.service.payment_path(), &told.proxy);
    told.run
        .wait_until("another reading", |_| proxy.count(&path) > readings);
    kill(Pid::from_raw(told.keeper()), Signal::SIGKILL).expect("it is there");
    told.run.wait_for_events("keeper_lost", 1);
    fs::write(&gate, "").expect("it is read");
    told.wait_for_up("fourth");
    told.run.wait_for_events("restarted", 1);
    assert_eq!(told.ups(), 2, "{}", told.run.stdout());
    assert_eq!(told.run.named("restarted").len(), 1);
    told.signal(Signal::SIGTERM);
    fs::write(&gate, "").expect("it is read");
    told.run.wait().assert_code(9).assert_no_files();
}

/// Copies a shell by another process: ours might hold the copy open for writing while another thread forks.
fn copy_shell(to: &Path) {
    let copied = Command::new("cp").arg("/bin/sh").arg(to).status();
    assert!(copied.expect("cp is there").success());
}

#[test]
fn application_that_could_not_start_again_goes_on() {
    let directory = TempDir::new();
    let application = directory.join("application");
    copy_shell(&application);
    let words = [
        application.display().to_string(),
        "-c".to_owned(),
        MODEL.to_owned(),
    ];
    let mut told = Told::started(
        Place::Other,
        |manifest| manifest,
        |call| call.command(words),
    );
    fs::remove_file(&application).expect("it is ours");
    told.set("second");
    told.run.wait_for_events("on_rotate_failed", 1);
    // Longer than what an exec takes.
    copy_shell(&application);
    told.set(&"x".repeat(200_000));
    told.run.wait_for_events("on_rotate_failed", 2);
    assert!(
        told.run
            .stderr()
            .contains("the variable `BY_PREFIX_API_KEY` has")
    );
    told.set("fourth");
    told.wait_for_up("fourth");
    told.signal(Signal::SIGTERM);
    let run = told.wait(3);
    assert_eq!(run.stdout.matches("up ").count(), 2, "{run:?}");
}

#[test]
fn stragglers_end_before_the_next_start_and_others_stay() {
    let left = "trap 'exit 3' TERM; sleep 601 & setsid sleep 602 & (trap '' TERM; exec sleep 603) & \
        echo up $KEY; while :; do sleep 0.05; done";
    let mut told = Told::start(Place::First, left, |manifest| manifest);
    let init = told.init();
    // As the engine starts what looks into a container.
    let look = Command::new("nsenter")
        .args(["--target", &init.to_string(), "--pid", "sleep", "604"])
        .spawn();
    let mut look = look.expect("nsenter is there");
    let sleeps = || -> Vec<i32> {
        let mut all = children(init);
        all.extend(all.clone().into_iter().flat_map(children));
        all.retain(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n")
        });
        all
    };
    let old = wait_for("what is left behind", LONG, || {
        let found = sleeps();
        (found.len() >= 3).then_some(found)
    });
    told.set("second");
    told.wait_for_up("second");
    for pid in old {
        assert!(has_ended(pid), "{pid}");
    }
    assert!(
        !has_ended(look.id().cast_signed()),
        "another's process ended"
    );
    look.kill().expect("it is ours");
    look.wait().expect("it is ours");
    told.signal(Signal::SIGTERM);
    told.wait(3);
}

#[test]
fn terminal_is_the_applications_after_a_restart_too() {
    for place in PLACES {
        let service = Service::new();
        let call = Anteroom::new()
            .manifest(restarting(service.manifest()).set("process.stop_timeout", "300ms"))
            .token(service.mint());
        let words = command(&["signals", "0"]);
        let mut terminal = Terminal::of(call, LONG, &place.terminal(), words);
        let ready = "application ready, foreground 1";
        assert!(terminal.shows(ready, 1), "{place:?}");
        let data = json!({"data": {"api_key": "second"}});
        service.admin.kv_put(&service.payment_path(), data);
        // It takes SIGTERM, and does not end at it.
        assert!(terminal.shows(ready, 2), "{place:?}");
        for (key, number) in [("\x03", 2), ("\x1a", 20)] {
            terminal.types(key);
            assert!(terminal.shows(&format!("got {number}\r"), 1), "{place:?}");
        }
        send(child(terminal.running.pid()), Signal::SIGUSR2 as i32);
        terminal.running.wait().assert_code(0);
    }
}

#[test]
fn shell_works_after_a_restart_during_a_job() {
    let service = Service::new();
    let call = Anteroom::new()
        .manifest(
            restarting(service.manifest())
                .set("process.stop_timeout", "300ms")
                // How the shell ends, so soon after a restart.
                .set("process.remap_exit", json!(["7"])),
        )
        .token(service.mint());
    let mut terminal = Terminal::of(call, LONG, &Place::First.terminal(), BASH);
    let job = "sh -c 'echo job-$KEY; exec sleep 600'\n";
    let first = format!("job-{}", Service::API_KEY);
    terminal.ask(job, &first, 1, "no job").expect("a shell");
    let data = json!({"data": {"api_key": "second"}});
    service.admin.kv_put(&service.payment_path(), data);
    assert!(terminal.shows("was started again", 1));
    terminal
        .ask("echo now-$KEY\n", "now-second", 1, "no shell")
        .expect("a shell");
    work(&mut terminal).expect("job control");
    terminal.running.wait().assert_code(0);
}

#[test]
fn replaced_lease_lives_until_the_application_started_again() {
    let service = Service::with_database();
    let mount = service.database.clone().expect("it has one");
    let lives = json!({"default_ttl": "24s", "max_ttl": "24s"});
    service.admin.database_role(&mount, &service.app, lives);
    let directory = TempDir::new();
    let gate = gate(&directory);
    let script = format!(
        "trap 'echo ending; read go <{gate}; exit 9' TERM; echo up; while :; do sleep 0.05; done"
    );
    let mut scene = Scene::start(service, &script, |manifest| {
        manifest
            .remove("certificate")
            .remove("dependencies.payment")
            .remove("dependencies.legacy")
            .set("environment.USER", "{{ db.username }}")
            .set("secrets.revoke_after", "0s")
            .set("process.lifecycle", "supervise")
            .set("process.on_rotate", "restart")
            .set("process.restart_splay", "0s")
            .set("process.stop_timeout", "1s")
    });
    let (old, lease) = (scene.user(), scene.lease("db"));
    scene.wait_for_events("rotated", 1);
    scene.run.wait_for_stdout("ending");
    assert!(
        Postgres::shared().role_exists(&old),
        "{}",
        scene.run.stderr()
    );
    assert!(scene.leases().contains(&lease));
    fs::write(&gate, "").expect("it is read");
    scene.wait_for_events("restarted", 1);
    let new = scene.user();
    assert_ne!(new, old);
    let revoke = |event: &Value| event["lease_id"] == lease.as_str();
    scene.run.wait_until("the old lease to be revoked", |run| {
        run.named("lease_revoked").iter().any(revoke)
    });
    assert!(!Postgres::shared().role_exists(&old));
    scene.run.kill(Signal::SIGTERM);
    fs::write(&gate, "").expect("it is read");
    scene.run.wait().assert_code(9);
}

#[test]
fn replaced_lease_lives_on_where_the_restart_is_refused() {
    let service = Service::with_database();
    let mount = service.database.clone().expect("it has one");
    let lives = json!({"default_ttl": "24s", "max_ttl": "24s"});
    service.admin.database_role(&mount, &service.app, lives);
    let path = service.payment_path();
    let mut scene = Scene::start(service, "echo up; exec sleep 600", |manifest| {
        manifest
            .remove("certificate")
            .remove("dependencies.legacy")
            .set("dependencies.payment.refresh", "1s")
            .set("environment.KEY", "{{ payment.api_key }}")
            .set("environment.USER", "{{ db.username }}")
            .set("secrets.revoke_after", "0s")
            .set("process.lifecycle", "supervise")
            .set("process.on_rotate", "restart")
            .set("process.restart_splay", "0s")
            .set("process.stop_timeout", "100ms")
    });
    let set = |scene: &Scene, key: &str| {
        let data = json!({"data": {"api_key": key}});
        scene.service.admin.kv_put(&path, data);
    };
    // Longer than what an exec takes.
    set(&scene, &"x".repeat(200_000));
    scene.wait_for_events("on_rotate_failed", 1);
    let (old, lease) = (scene.user(), scene.lease("db"));
    scene.wait_for_change("db");
    scene.wait_for_events("on_rotate_failed", 2);
    // For longer than a restart would have taken.
    let readings = scene.proxy.count(&path);
    scene.wait_for_requests(&path, readings + 4);
    assert!(
        Postgres::shared().role_exists(&old),
        "{}",
        scene.run.stderr()
    );
    set(&scene, "second");
    let revoke = |event: &Value| event["lease_id"] == lease.as_str();
    scene.run.wait_until("the old lease to be revoked", |run| {
        run.named("lease_revoked").iter().any(revoke)
    });
    assert_eq!(scene.events("restarted").len(), 1);
    assert_eq!(scene.events("on_rotate_failed").len(), 2);
    scene.end(Signal::SIGTERM).run.assert_code(143);
}

#[test]
fn restart_does_not_wait_beyond_the_end_of_what_was_replaced() {
    let service = Service::new();
    let mut scene = Scene::start(service, "echo up; exec sleep 600", |manifest| {
        manifest
            .set("certificate.ttl", "8s")
            .set("process.lifecycle", "supervise")
            .set("process.on_rotate", "restart")
            .set("process.restart_splay", "1h")
            .set("process.stop_timeout", "1s")
    });
    let end = scene.status()["certificate"]["expires"].clone();
    scene.wait_for_events("restarted", 1);
    let restarted = scene.events("restarted")[0]["time"].clone();
    let (end, restarted) = (end.as_str(), restarted.as_str());
    // Both are times of one day in one form.
    assert!(restarted < end, "{restarted:?} {end:?}");
    let wait = scene.events("restart_planned")[0]["wait_ms"].as_u64();
    assert!(wait.is_some_and(|wait| wait <= 5000), "{wait:?}");
    scene.run.kill(Signal::SIGTERM);
    scene.run.wait().assert_code(143);
}

#[test]
fn restart_needs_supervise_and_is_planned() {
    let service = Service::new();
    let check = |on_rotate: &str, lifecycle: &str| {
        let manifest = restarting(service.manifest())
            .set("process.on_rotate", on_rotate)
            .set("process.lifecycle", lifecycle);
        Anteroom::new()
            .manifest(manifest)
            .args(["check", "--strict"])
            .run()
    };
    let run = check("restart", "exec");
    run.assert_code(78)
        .assert_stderr("`on_rotate = \\\"restart\\\"` needs the lifecycle `supervise`");
    let run = check("restrat", "supervise");
    run.assert_code(78).assert_stderr("is `restart` meant?");
    let run = check("restart", "supervise");
    run.assert_code(0);
    let planned =
        "it is ended and started again with the new variables, after a random wait of up to 0 s";
    assert!(run.stdout.contains(planned), "{run:?}");
    let token = service.mint();
    let run = Anteroom::new()
        .manifest(restarting(service.manifest()).set("process.lifecycle", "exec"))
        .token(&token)
        .shell("echo started")
        .run();
    run.assert_refused(78);
    service.assert_unused(&token, "exec");
    // A health check does not know what the command line of the start said.
    let directory = TempDir::new();
    let run = Anteroom::new()
        .without_secrets_dir()
        .manifest(
            restarting(service.manifest())
                .remove("process.lifecycle")
                .set("process.on_expiry", "terminate")
                .set("secrets.directory", directory.path().display().to_string()),
        )
        .arg("health")
        .run();
    run.assert_code(1);
    assert!(run.stdout.contains("nothing is published"), "{run:?}");
}

/// The words that hold each application back for a moment before it is there.
const LATE: [&str; 9] = [
    "strace",
    "-f",
    "-qq",
    "-o",
    "/dev/null",
    "-e",
    "trace=setpgid",
    "-e",
    "inject=setpgid:delay_enter=500000",
];

#[test]
fn command_runs_at_start_beside_the_application() {
    let service = Service::new();
    for lifecycle in ["exec", "supervise"] {
        // A process is called as the file that it became.
        let (directory, name) = (TempDir::new(), unique("up"));
        let application = directory.join(&name);
        symlink("/bin/sh", &application).expect("our own directory can be written");
        let count = format!("grep -slx {name} /proc/[0-9]*/comm | wc -l");
        let told = format!("echo \"told: $ANTEROOM_CHANGED, $KEY, beside $({count});\"");
        let manifest = service
            .manifest()
            .set("certificate.ttl", "8s")
            .set("environment.KEY", "{{ payment.api_key }}")
            .set("process.lifecycle", lifecycle)
            .set("process.on_rotate", json!(["/bin/sh", "-c", told]))
            .set("process.on_rotate_at_start", true);
        let end = directory.join("end");
        let stay = format!("until test -e {}; do sleep 0.05; done", end.display());
        let mut run = Anteroom::new()
            .under(LATE)
            .manifest(manifest)
            .token(service.mint())
            .command([application.as_os_str(), "-c".as_ref(), stay.as_ref()])
            .spawn();
        let key = Service::API_KEY;
        run.wait_for_stderr("told: ");
        let first = format!("told: certificate legacy payment, {key}, beside 1;");
        assert!(run.stderr().contains(&first), "{}", run.stderr());
        run.wait_for_events("rotated", 1);
        run.wait_for_stderr(&format!("told: certificate, {key}, beside 1;"));
        directory.write("end", "");
        run.wait().assert_code(0);
    }
}

#[test]
fn command_at_start_needs_a_command_and_is_planned() {
    let service = Service::new();
    let check = |manifest: Manifest| {
        let manifest = manifest.set("process.on_rotate_at_start", true);
        Anteroom::new().manifest(manifest).arg("check").run()
    };
    let of = |on_rotate: Value| service.manifest().set("process.on_rotate", on_rotate);
    for manifest in [service.manifest(), of(json!("SIGHUP"))] {
        check(manifest)
            .assert_code(78)
            .assert_stderr("`on_rotate_at_start` in [process] is for a command");
    }
    let run = check(of(json!(["/bin/true"])));
    run.assert_code(0);
    let planned = "/bin/true (at most 30 s, at the start too)";
    assert!(run.stdout.contains(planned), "{run:?}");
}

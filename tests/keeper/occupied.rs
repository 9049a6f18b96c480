//! Two starts in one secrets directory: one has it, and the other changes nothing in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::start::container::{ENTRYPOINT, base, image};
use crate::support::anteroom::{Entry, entries_in, has_ended};
use crate::support::docker::{self, Container, docker};
use crate::support::scene::{LONG, Place, STAY, start};
use crate::support::{Running, Service, unique, wait_for};

/// Everything in the directory, but for what the keeper itself writes anew from time to time.
fn lasting(directory: &Path) -> BTreeMap<String, Entry> {
    let mut entries = entries_in(directory);
    entries.remove("..status");
    entries
}

fn kill_keeper(run: &Running) {
    let keeper = run.keeper();
    kill(Pid::from_raw(keeper), Signal::SIGKILL).expect("it is there");
    wait_for("the keeper to end", LONG, || {
        has_ended(keeper).then_some(())
    });
}

#[test]
fn start_in_a_kept_directory_changes_and_spends_nothing() {
    let service = Service::new();
    let place = Place::new(&service, service.manifest());
    let first = place.start();
    let before = lasting(place.path());
    let missing = place.path().with_extension("missing");
    let start = || place.call();
    let fork_fails = injecting("clone,clone3,fork:error=EAGAIN:when=1");
    let rows = [
        ("a start", 73, true, start()),
        (
            "a supervised one",
            73,
            true,
            start().args(["--lifecycle", "supervise"]),
        ),
        ("a dry run", 73, true, start().arg("--dry-run")),
        ("one that cannot fork", 73, true, start().under(fork_fails)),
        ("one without a token", 66, false, start()),
        (
            "one whose token file is missing",
            73,
            false,
            start().arg("--token-file").arg(&missing),
        ),
    ];
    thread::scope(|scope| {
        for (what, code, has_token, start) in rows {
            let service = &service;
            scope.spawn(move || {
                let token = service.mint();
                let start = if has_token {
                    start.token(&token)
                } else {
                    start
                };
                let run = start.shell("echo started").run();
                assert_eq!(run.code, Some(code), "{what}: {run:?}");
                assert_eq!(run.stdout, "", "{what}: {run:?}");
                let status = service.admin.lookup_wrapping(&token.token);
                assert_eq!(status, 200, "{what}: the token is spent");
            });
        }
    });
    assert_eq!(lasting(place.path()), before);
    place.health().assert_code(0);
    first.kill(Signal::SIGTERM);
    first.wait().assert_no_files();
}

#[test]
fn lock_that_another_program_holds_is_named_and_spends_nothing() {
    let service = Service::new();
    let place = Place::new(&service, service.manifest());
    let first = place.start();
    kill_keeper(&first);
    let before = lasting(place.path());
    let lock = fs::File::open(place.path().join("..keeper")).expect("it stays");
    for (what, taken) in [
        ("shared", lock.try_lock_shared()),
        ("alone", lock.try_lock()),
    ] {
        taken.expect("the keeper is gone");
        let token = service.mint();
        let run = place.call().token(&token).shell("echo no").run();
        run.assert_code(73).assert_stderr("lslocks");
        assert_eq!(run.stdout, "", "{what}: {run:?}");
        assert_eq!(service.admin.lookup_wrapping(&token.token), 200, "{what}");
        assert_eq!(lasting(place.path()), before, "{what}");
    }
    // Its end is the end of the lock.
    drop(lock);
    let second = place.start();
    second.kill(Signal::SIGTERM);
    second.wait().assert_no_files();
}

#[test]
fn second_of_two_starts_at_once_keeps_its_token() {
    let service = Service::new();
    let place = Place::new(&service, service.manifest());
    let tokens = [service.mint(), service.mint()];
    let mut runs = tokens
        .each_ref()
        .map(|token| Some(place.call().token(token).shell(STAY).spawn()));
    let loser = wait_for("one of them to end", LONG, || {
        let runs = runs.iter_mut().flatten();
        runs.enumerate()
            .find_map(|(index, run)| (!run.is_running()).then_some(index))
    });
    let refused = runs[loser].take().expect("it was started").wait();
    refused.assert_code(73).assert_stderr("another anteroom");
    assert_eq!(refused.stdout, "", "{refused:?}");
    let mut winner = runs[1 - loser].take().expect("it was started");
    winner.wait_for_stdout("up\n");
    place.health().assert_code(0);
    winner.kill(Signal::SIGTERM);
    winner.wait().assert_no_files();
    // Nothing was sent with it.
    let again = start(place.call().token(&tokens[loser]), STAY);
    again.kill(Signal::SIGTERM);
    again.wait().assert_no_files();
}

#[test]
fn start_that_fails_leaves_what_another_one_has_published() {
    let service = Service::new();
    let place = Place::new(&service, service.manifest());
    let first = place.start();
    // From now on the directory is to be had, though its application runs.
    kill_keeper(&first);
    let mut before = lasting(place.path());
    before.remove("..keeper");
    let spent = service.mint();
    service.admin.unwrap(&spent.token);
    let missing = place.path().with_extension("missing");
    let starts = [
        (
            "no token file",
            66,
            place.call().arg("--token-file").arg(&missing),
        ),
        ("a token that was used", 80, place.call().token(&spent)),
        (
            "a fork that fails",
            71,
            place
                .call_with_token()
                .under(injecting("clone,clone3,fork:error=EAGAIN:when=1")),
        ),
        (
            "a keeper that is killed",
            70,
            place
                .call_with_token()
                .under(injecting("mkdirat:signal=SIGKILL:when=1")),
        ),
    ];
    for (what, code, start) in starts {
        let run = start.shell("echo started").run();
        assert_eq!(run.code, Some(code), "{what}: {run:?}");
        let mut after = lasting(place.path());
        after.remove("..keeper");
        assert_eq!(after, before, "{what}: {run:?}");
    }
}

/// Words that trace all of a start and do something at a system call of it.
fn injecting(what: &str) -> Vec<String> {
    let calls = what.split(':').next().expect("calls come first");
    let words = format!("strace -f -qq -o /dev/null -e trace={calls} -e inject={what}");
    words.split(' ').map(str::to_owned).collect()
}

#[test]
fn init_that_lost_its_keeper_leaves_the_next_start_alone() {
    let service = Service::new();
    let place = Place::new(&service, service.manifest());
    let supervised = place.call().args(["--lifecycle", "supervise"]);
    let script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done";
    let mut first = supervised.token(service.mint()).shell(script).spawn();
    first.wait_for_stdout("up\n");
    let children = first.children();
    let keeper = children
        .into_iter()
        .find(|child| {
            fs::read_link(format!("/proc/{child}/exe"))
                .is_ok_and(|path| path == Path::new(env!("CARGO_BIN_EXE_anteroom")))
        })
        .expect("there is a keeper");
    kill(Pid::from_raw(keeper), Signal::SIGKILL).expect("it is there");
    first.wait_for_stderr("keeper_lost");
    let second = place.start();
    let before = lasting(place.path());
    first.kill(Signal::SIGTERM);
    first.wait().assert_code(9);
    assert_eq!(lasting(place.path()), before);
    second.kill(Signal::SIGTERM);
    second.wait().assert_no_files();
}

/// A volume of the engine, removed after the containers that have it.
struct Volume(String);

impl Volume {
    fn of_tmpfs() -> Self {
        let name = unique("volume");
        let options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs"];
        let words = [&["volume", "create"], &options[..], &[&name]].concat();
        let made = docker(words);
        assert_eq!(made.code, 0, "{made:#?}");
        Self(name)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        docker(["volume", "rm", "--force", &self.0]);
    }
}

#[test]
fn exec_into_a_container_leaves_the_secrets_of_its_service() {
    docker::require!();
    let service = Service::new();
    let image = image(&base("alpine-like"), &service.manifest(), &[ENTRYPOINT]);
    let volume = Volume::of_tmpfs();
    let mount = format!("type=volume,source={},target=/run/secrets", volume.0);
    let start = |token: &str, command: &str| {
        let variable = format!("ANTEROOM_TOKEN={token}");
        let options = ["--network", "host", "--mount", &mount, "--env", &variable];
        Container::run(image.tag(), &options, &["/bin/sh", "-c", command])
    };
    let container = start(&service.mint().token, STAY);
    wait_for("the application", LONG, || {
        container.logs().stdout.contains("up").then_some(())
    });
    let look = || {
        let listing = "cd /run/secrets && ls -A && cat tls.key payment/api_key";
        let seen = container.exec(&["/bin/sh", "-c", listing]);
        assert_eq!(seen.code, 0, "{seen:#?}");
        seen.stdout
    };
    let before = look();
    // The container's own variable: its token is used up.
    for words in [
        &["/anteroom", "--", "/bin/sh"][..],
        &[
            "/anteroom",
            "--dry-run",
            "--secrets-dir",
            "/run/secrets",
            "--",
            "/bin/sh",
        ],
    ] {
        let refused = container.exec(words);
        assert_eq!(refused.code, 73, "{words:?}: {refused:#?}");
        assert_eq!(look(), before, "{words:?}");
    }
    // Another container on the same volume.
    let token = service.mint();
    let other = start(&token.token, "echo started");
    assert_eq!(other.wait(), 73, "{:#?}", other.logs());
    assert_eq!(service.admin.lookup_wrapping(&token.token), 200);
    assert_eq!(look(), before);
    assert_eq!(container.exec(&["/anteroom", "health"]).code, 0);
}

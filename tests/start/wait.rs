//! A token that comes later than the container: the file and the socket of an agent.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::support::{
    Anteroom, FaultProxy, Manifest, Run, Running, Service, TempDir, Wrapped, assert_started,
    openbao, tmpfs_dir,
};

static SERVICE: LazyLock<Service> = LazyLock::new(Service::new);

const APPLICATION: &str = "echo the application runs";
/// The name of the token that an agent leaves there by default.
const AGENTS: &str = ".anteroom-token";
/// Far less than a wait of 20 s or a deadline, and more than anything else takes.
const AT_ONCE: Duration = Duration::from_secs(10);

fn manifest_for(address: &str) -> Manifest {
    SERVICE.manifest_for(address).bare()
}

/// A start that needs nothing but its token.
fn start() -> Anteroom {
    start_at(SERVICE.admin.address())
}

fn start_at(address: &str) -> Anteroom {
    Anteroom::new()
        .manifest(manifest_for(address))
        .shell(APPLICATION)
}

/// A start that waits for this path.
fn awaiting(start: Anteroom, path: &Path, wait: &str) -> Anteroom {
    start.args(["--token-wait", wait, "--token-file"]).arg(path)
}

fn recorder() -> FaultProxy {
    FaultProxy::recording(SERVICE.admin.address())
}

fn mint() -> Wrapped {
    SERVICE.mint_with("60s", Value::Null)
}

/// As anteroom's agent places a token: whole, under another name, then renamed.
fn place(path: &Path, token: &str) {
    let hidden = path.with_file_name(".anteroom-token.hidden");
    let mut file = create(&hidden, 0o400);
    file.write_all(token.as_bytes()).expect("our own file");
    std::fs::rename(hidden, path).expect("our own directory");
}

fn create(path: &Path, mode: u32) -> File {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let file = options.open(path).expect("our own directory");
    let mode = std::fs::Permissions::from_mode(mode);
    file.set_permissions(mode).expect("our own file");
    file
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn events(run: &Run, name: &str) -> Vec<Value> {
    let events = run.events().into_iter();
    events.filter(|event| event["event"] == name).collect()
}

/// Starts it, and returns when it waits.
fn waiting(start: Anteroom) -> Running {
    let mut running = start.spawn();
    running.wait_for_stderr("token_awaited");
    running
}

#[track_caller]
fn assert_unheard(run: &Run, proxy: &FaultProxy, what: &str) {
    assert_eq!(run.code, Some(66), "{what}\n{run:?}");
    run.assert_refused(66);
    assert_eq!(proxy.connections(), 0, "{what}: Vault was spoken to");
}

#[test]
fn token_that_is_there_before_is_taken_without_a_wait() {
    let directory = TempDir::new();
    let path = directory.join("token");
    place(&path, &mint().token);
    let run = awaiting(start(), &path, "20s").run();
    assert_started(&run, "it was there");
    assert!(events(&run, "token_awaited").is_empty(), "{run:?}");
    assert!(!is_there(&path));
}

#[test]
fn token_renamed_into_its_place_is_taken_when_it_comes() {
    let directory = TempDir::new();
    let path = directory.join("token");
    let running = waiting(awaiting(start(), &path, "20s"));
    // Others do not concern it.
    place(&directory.join("another"), "s.canary");
    place(&path, &mint().token);
    let run = running.wait();
    assert_started(&run, "renamed");
    assert!(!is_there(&path), "it is removed");
    let awaited = events(&run, "token_awaited");
    assert_eq!(awaited.len(), 1, "{run:?}");
    assert_eq!(awaited[0]["level"], "info");
    assert_eq!(awaited[0]["path"], path.display().to_string());
    let wait = awaited[0]["wait_ms"].as_u64().expect("a number");
    assert!((10_000..=20_000).contains(&wait), "{wait}");
    let ready = openbao::text(&events(&run, "ready")[0]["message"]);
    assert!(ready.contains(", token "), "{ready}");
}

#[test]
fn token_written_in_its_place_is_taken_when_it_is_whole() {
    let directory = TempDir::new();
    let path = directory.join("token");
    let running = waiting(awaiting(start(), &path, "20s"));
    let token = mint().token;
    let (one, other) = token.as_bytes().split_at(token.len() / 2);
    let mut file = create(&path, 0o600);
    file.write_all(one).expect("our own file");
    // Time to fall for the first half.
    sleep(Duration::from_millis(300));
    file.write_all(other).expect("our own file");
    drop(file);
    assert_started(&running.wait(), "in two pieces");
}

#[test]
fn empty_file_is_no_token_yet() {
    let directory = TempDir::new();
    let path = directory.join("token");
    drop(create(&path, 0o600));
    let running = waiting(awaiting(start(), &path, "20s"));
    // A touch of the file.
    drop(File::options().append(true).open(&path).expect("ours"));
    std::fs::remove_file(&path).expect("ours");
    drop(create(&path, 0o600));
    let mut file = File::options().append(true).open(&path).expect("ours");
    file.write_all(mint().token.as_bytes()).expect("ours");
    drop(file);
    assert_started(&running.wait(), "first empty, then written");

    drop(create(&path, 0o600));
    let proxy = recorder();
    let run = awaiting(start_at(&proxy.address()), &path, "300ms").run();
    assert_unheard(&run, &proxy, "it stays empty");
    run.assert_stderr("it is empty");
}

#[test]
fn wait_in_vain_ends_in_time_and_names_the_agent() {
    let directory = TempDir::new();
    let path = directory.join("token");
    let proxy = recorder();
    let start = start_at(&proxy.address()).env("ANTEROOM_TOKEN_WAIT", "1500ms");
    let run = start.arg("--token-file").arg(&path).run();
    assert_unheard(&run, &proxy, "no agent comes");
    assert!(run.elapsed >= Duration::from_millis(1500), "{run:?}");
    assert!(run.elapsed < AT_ONCE, "{run:?}");
    run.assert_stderr(&format!("came to {} within 1.5 s", path.display()))
        .assert_stderr("is anteroom-agent running on this host")
        .assert_stderr("allow this container");
}

#[test]
fn start_does_not_wait_unless_asked() {
    let directory = TempDir::new();
    let path = directory.join("token");
    for wait in [None, Some("0"), Some("0s")] {
        let proxy = recorder();
        let mut start = start_at(&proxy.address()).env("ANTEROOM_TOKEN_FILE", &path);
        if let Some(wait) = wait {
            start = start.args(["--token-wait", wait]);
        }
        let run = start.run();
        assert_unheard(&run, &proxy, "no wait");
        assert!(events(&run, "token_awaited").is_empty(), "{run:?}");
        run.assert_stderr("No such file")
            .assert_stderr("--token-wait");
    }
    let run = start().args(["--token-wait", "soon"]).run();
    run.assert_refused(64);
}

#[test]
fn deadline_that_is_shorter_than_the_wait_ends_it() {
    let directory = TempDir::new();
    let proxy = recorder();
    let start = start_at(&proxy.address()).args(["--deadline", "700ms"]);
    let run = awaiting(start, &directory.join("token"), "20s").run();
    assert_unheard(&run, &proxy, "the deadline");
    assert!(run.elapsed < AT_ONCE, "{run:?}");
    run.assert_stderr("the deadline left");
}

#[test]
fn directory_that_is_missing_is_named_at_once() {
    let directory = TempDir::new();
    let file = directory.write("file", "");
    for missing in [directory.join("missing"), file] {
        let proxy = recorder();
        let run = awaiting(start_at(&proxy.address()), &missing.join("token"), "20s").run();
        assert_unheard(&run, &proxy, "no directory");
        assert!(run.elapsed < AT_ONCE, "{run:?}");
        run.assert_stderr(&missing.display().to_string());
    }
}

#[test]
fn directory_that_goes_away_ends_the_wait() {
    for moved in [false, true] {
        let directory = TempDir::new();
        let inner = directory.join("inner");
        std::fs::create_dir(&inner).expect("ours");
        let proxy = recorder();
        let start = start_at(&proxy.address());
        let running = waiting(awaiting(start, &inner.join("token"), "20s"));
        if moved {
            std::fs::rename(&inner, directory.join("outer"))
        } else {
            std::fs::remove_dir(&inner)
        }
        .expect("ours");
        let run = running.wait();
        assert_unheard(&run, &proxy, "no directory any more");
        assert!(run.elapsed < AT_ONCE, "{run:?}");
        run.assert_stderr(&format!("{} is gone", inner.display()));
    }
}

#[test]
fn secrets_directory_that_goes_away_ends_the_wait() {
    let directory = tmpfs_dir();
    let inner = directory.join("secrets");
    std::fs::create_dir(&inner).expect("ours");
    let proxy = recorder();
    let start = start_at(&proxy.address()).secrets_dir(&inner);
    let running = waiting(awaiting(start, &inner.join("token"), "20s"));
    std::fs::remove_dir_all(&inner).expect("ours");
    let run = running.wait();
    assert_unheard(&run, &proxy, "no secrets directory any more");
    assert!(run.elapsed < AT_ONCE, "{run:?}");
    run.assert_stderr("is gone");
}

/// Ended by SIGTERM: the keeper has not to be killed for it, as it is after 2.5 s.
#[track_caller]
fn assert_ends_at_sigterm(running: Running, what: &str) {
    let told = Instant::now();
    running.kill(Signal::SIGTERM);
    let run = running.wait();
    run.assert_refused(143);
    assert!(told.elapsed() < Duration::from_secs(2), "{what}\n{run:?}");
    run.assert_stderr("ended by SIGTERM");
    assert!(!run.stderr.contains("\"exit_code\":66"), "{what}\n{run:?}");
}

#[test]
fn sigterm_ends_the_wait() {
    let directory = TempDir::new();
    let path = directory.join("token");
    assert_ends_at_sigterm(waiting(awaiting(start(), &path, "20s")), "no file");

    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO can be made");
    let running = awaiting(start(), &path, "20s").spawn();
    // This waits for the reader.
    let pipe = File::options().write(true).open(&path).expect("ours");
    assert_ends_at_sigterm(running, "a silent pipe");
    drop(pipe);

    let socket = directory.join("socket");
    let agent = UnixListener::bind(&socket).expect("a socket");
    let running = awaiting(start(), &socket, "20s").spawn();
    let asked = agent.accept().expect("it asks");
    assert_ends_at_sigterm(running, "a silent agent");
    drop(asked);
    drop(agent);

    let running = waiting(awaiting(start(), &socket, "20s"));
    assert_ends_at_sigterm(running, "no agent any more");
}

// b8, b10, b11
#[test]
fn entry_planted_during_the_wait_is_refused_as_ever() {
    let directory = TempDir::new();
    let path = directory.join("token");
    let wrapped = mint();
    let real = directory.join("real");
    place(&real, &wrapped.token);
    let plant = |reason: &str| match reason {
        "symbolic link" => symlink(&real, &path).expect("ours"),
        "its mode 0644" => {
            let mut file = create(&path, 0o644);
            file.write_all(b"s.canary").expect("ours");
        }
        _ => std::fs::create_dir(&path).expect("ours"),
    };
    for reason in [
        "symbolic link",
        "its mode 0644",
        "neither a file nor a pipe",
    ] {
        let proxy = recorder();
        let running = waiting(awaiting(start_at(&proxy.address()), &path, "20s"));
        plant(reason);
        let run = running.wait();
        assert_unheard(&run, &proxy, reason);
        assert!(run.elapsed < AT_ONCE, "{run:?}");
        run.assert_stderr(reason).assert_no(["canary"]);
        assert!(is_there(&path) && is_there(&real), "{reason}");
        if path.is_dir() {
            std::fs::remove_dir(&path).expect("ours");
        } else {
            std::fs::remove_file(&path).expect("ours");
        }
    }
    assert_eq!(SERVICE.admin.lookup_wrapping(&wrapped.token), 200);
}

// b9
#[test]
fn silent_pipe_is_waited_for_as_long_as_for_a_token() {
    let directory = TempDir::new();
    let path = directory.join("token");
    let running = waiting(awaiting(start(), &path, "20s"));
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO can be made");
    let mut pipe = File::options().write(true).open(&path).expect("ours");
    // Longer than without a wait.
    sleep(Duration::from_secs(6));
    pipe.write_all(mint().token.as_bytes()).expect("it listens");
    drop(pipe);
    assert_started(&running.wait(), "late, through a pipe");

    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO can be made");
    let proxy = recorder();
    let run = awaiting(start_at(&proxy.address()), &path, "500ms").run();
    assert_unheard(&run, &proxy, "no agent writes");
    run.assert_stderr("in time");
}

// b65
#[test]
fn wait_without_a_descriptor_blames_the_system() {
    let directory = TempDir::new();
    let path = directory.join("token");
    let mut named = 0;
    for limit in 5..14 {
        let proxy = recorder();
        let start = start_at(&proxy.address())
            .pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?));
        let run = awaiting(start, &path, "100ms").run();
        assert_eq!(run.stdout, "", "{run:?}");
        assert_eq!(proxy.connections(), 0, "{run:?}");
        if run.stderr.contains("token") && run.stderr.contains("open files") {
            run.assert_refused(71);
            named += 1;
        }
    }
    assert!(named > 0, "no limit hit the token");
}

#[test]
fn wait_without_an_inotify_instance_blames_the_system() {
    // A limit of its own user namespace (namespaces(7)).
    let none = r#"echo 0 >/proc/sys/user/max_inotify_instances && exec "$0" "$@""#;
    let directory = TempDir::new();
    let path = directory.join("token");
    let limited = |start: Anteroom| {
        let user = ["unshare", "--user", "--map-root-user"];
        start.under(user.into_iter().chain(["/bin/sh", "-c", none]))
    };
    let proxy = recorder();
    let unheard = limited(start_at(&proxy.address()));
    let run = awaiting(unheard, &path, "20s").run();
    run.assert_refused(71);
    assert_eq!(proxy.connections(), 0, "{run:?}");
    run.assert_stderr("cannot watch the directory of the wrapping token")
        .assert_stderr("fs.inotify.max_user_instances");
    // What is there already needs none.
    place(&path, &mint().token);
    assert_started(&awaiting(limited(start()), &path, "20s").run(), "there");
}

/// An agent at this socket that does this with the first that asks.
fn agent(path: &Path, answer: impl FnOnce(UnixStream) + Send + 'static) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).expect("a socket");
    // Every user may ask.
    let mode = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(path, mode).expect("ours");
    spawn(move || answer(listener.accept().expect("a start asks").0))
}

fn json(wrapped: &Wrapped) -> String {
    let accessor = &wrapped.wrapped_accessor;
    let token = &wrapped.token;
    format!("{{\"token\":\"{token}\",\"wrapped_accessor\":\"{accessor}\"}}\n")
}

#[test]
fn agent_answers_with_the_token_and_is_told_nothing() {
    let directory = TempDir::new();
    for wait in ["0", "20s"] {
        let path = directory.join(format!("socket-{wait}"));
        let answer = json(&mint());
        let agent = agent(&path, move |mut asked| {
            asked.write_all(answer.as_bytes()).expect("it listens");
            asked.shutdown(Shutdown::Write).expect("ours");
            let mut said = Vec::new();
            asked.read_to_end(&mut said).expect("it closes");
            assert_eq!(said, b"");
        });
        assert_started(&awaiting(start(), &path, wait).run(), wait);
        agent.join().expect("it is told nothing");
        assert!(is_there(&path), "the socket is the agent's");
    }
}

// t1
#[test]
fn accessor_from_an_agent_is_named_when_the_token_was_stolen() {
    let directory = TempDir::new();
    let path = directory.join("socket");
    let wrapped = mint();
    let answer = json(&wrapped);
    SERVICE.admin.unwrap(&wrapped.token);
    let agent = agent(&path, move |mut asked| {
        asked.write_all(answer.as_bytes()).expect("it listens");
    });
    let run = awaiting(start(), &path, "20s").run();
    run.assert_refused(80);
    run.assert_stderr(&wrapped.wrapped_accessor);
    agent.join().expect("it answered");
}

#[test]
fn agent_that_gives_no_token_says_why() {
    let directory = TempDir::new();
    let long = format!("refused \u{1b}[31m\n{}", "é".repeat(10_000 / 2));
    for (number, error) in ["refused", &long].into_iter().enumerate() {
        let path = directory.join(format!("socket-{number}"));
        let answer = serde_json::json!({ "error": error }).to_string();
        let agent = agent(&path, move |mut asked| {
            asked.write_all(answer.as_bytes()).expect("it listens");
        });
        let proxy = recorder();
        let run = awaiting(start_at(&proxy.address()), &path, "20s").run();
        assert_unheard(&run, &proxy, error);
        assert!(run.elapsed < AT_ONCE, "{run:?}");
        run.assert_stderr("gave no wrapping token: refused");
        run.assert_stderr("does anteroom-agent on this host allow this container?");
        assert!(
            !run.stderr.contains('\u{1b}') && run.stderr.len() < 4000,
            "{run:?}"
        );
        agent.join().expect("it answered");
    }
}

// b4, b12
#[test]
fn other_words_of_an_agent_are_never_shown() {
    let directory = TempDir::new();
    let answers: [(&str, Vec<u8>); 4] = [
        ("text", b"no s.canary for you".to_vec()),
        ("half of its JSON", b"{\"token\":\"s.canary".to_vec()),
        ("not UTF-8", b"s.canary\xff".to_vec()),
        ("a mebibyte", b"s.canary".repeat(1 << 17)),
    ];
    for (number, (what, answer)) in answers.into_iter().enumerate() {
        let path = directory.join(format!("socket-{number}"));
        let agent = agent(&path, move |mut asked| {
            // A start that has had enough closes.
            let _ = asked.write_all(&answer);
        });
        let proxy = recorder();
        let run = awaiting(start_at(&proxy.address()), &path, "20s").run();
        run.assert_refused(65);
        assert_eq!(proxy.connections(), 0, "{what}");
        run.assert_no(["canary"]);
        agent.join().expect("it answered");
    }
}

#[test]
fn agent_may_think_for_as_long_as_the_wait() {
    let directory = TempDir::new();
    let path = directory.join("socket");
    let one = agent(&path, move |mut asked| {
        // Longer than without a wait.
        sleep(Duration::from_secs(6));
        asked
            .write_all(json(&mint()).as_bytes())
            .expect("it listens");
    });
    assert_started(&awaiting(start(), &path, "20s").run(), "late");
    one.join().expect("it answered");

    std::fs::remove_file(&path).expect("ours");
    let silent = agent(&path, |mut asked| {
        let mut said = Vec::new();
        asked.read_to_end(&mut said).expect("it closes");
    });
    let proxy = recorder();
    let run = awaiting(start_at(&proxy.address()), &path, "700ms").run();
    assert_unheard(&run, &proxy, "silence");
    assert!(run.elapsed < AT_ONCE, "{run:?}");
    run.assert_stderr("within 0.7 s")
        .assert_stderr("it gave no answer");
    silent.join().expect("it was asked");
}

#[test]
fn agent_must_be_there_when_no_wait_is_configured() {
    let directory = TempDir::new();
    let path = directory.join("socket");
    drop(UnixListener::bind(&path).expect("a socket"));
    let proxy = recorder();
    let run = awaiting(start_at(&proxy.address()), &path, "0").run();
    assert_unheard(&run, &proxy, "no agent listens");
    run.assert_stderr("Connection refused");

    std::fs::remove_file(&path).expect("ours");
    let agent = agent(&path, drop);
    let run = awaiting(start_at(&proxy.address()), &path, "0").run();
    assert_unheard(&run, &proxy, "no answer");
    run.assert_stderr("closed without an answer");
    agent.join().expect("it was asked");
}

#[test]
fn socket_that_comes_late_is_asked() {
    let directory = TempDir::new();
    let path = directory.join("socket");
    let running = waiting(awaiting(start(), &path, "20s"));
    let answer = json(&mint());
    let agent = agent(&path, move |mut asked| {
        asked.write_all(answer.as_bytes()).expect("it listens");
    });
    assert_started(&running.wait(), "late");
    agent.join().expect("it answered");
}

#[test]
fn agent_that_is_started_again_is_asked_again() {
    let directory = TempDir::new();
    let path = directory.join("socket");
    let answer = || {
        let answer = json(&mint());
        move |mut asked: UnixStream| asked.write_all(answer.as_bytes()).expect("it listens")
    };
    // What an agent that was killed leaves behind.
    drop(UnixListener::bind(&path).expect("a socket"));
    let running = waiting(awaiting(start(), &path, "20s"));
    sleep(Duration::from_secs(2));
    std::fs::remove_file(&path).expect("ours");
    let second = agent(&path, answer());
    assert_started(&running.wait(), "no agent listened at first");
    second.join().expect("it answered");

    // One that ends while it is asked, with others in its queue or none.
    for is_accepted in [true, false] {
        std::fs::remove_file(&path).expect("ours");
        let first = UnixListener::bind(&path).expect("a socket");
        let mut running = awaiting(start(), &path, "20s").spawn();
        if is_accepted {
            drop(first.accept().expect("it asks"))
        } else {
            sleep(Duration::from_millis(500))
        }
        drop(first);
        running.wait_for_stderr("token_awaited");
        std::fs::remove_file(&path).expect("ours");
        let second = agent(&path, answer());
        assert_started(&running.wait(), "the first one ended");
        second.join().expect("it answered");
    }
}

#[test]
fn agent_that_always_hangs_up_is_not_asked_without_end() {
    let directory = TempDir::new();
    let path = directory.join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let counter = spawn(move || listener.incoming().take(40).count());
    let proxy = recorder();
    let run = awaiting(start_at(&proxy.address()), &path, "4s").run();
    assert_unheard(&run, &proxy, "no answer");
    run.assert_stderr("closed without an answer");
    assert!(!counter.is_finished(), "it was asked again and again");
}

/// A start whose manifest says that an agent hands the token in.
fn from_agent(address: &str) -> Anteroom {
    let manifest = manifest_for(address).set("token.from", "agent");
    Anteroom::new().manifest(manifest).shell(APPLICATION)
}

#[test]
fn agents_token_is_expected_in_the_secrets_directory_each_time() {
    let directory = tmpfs_dir();
    let path = directory.join(AGENTS);
    // Twice, as after a restart of the container.
    for round in ["first", "second"] {
        let start = from_agent(SERVICE.admin.address()).secrets_dir(directory.path());
        let running = waiting(start);
        place(&path, &mint().token);
        let run = running.wait();
        assert_started(&run, round);
        assert!(!is_there(&path), "{round}");
        let awaited = events(&run, "token_awaited");
        assert_eq!(awaited[0]["path"], path.display().to_string());
        let wait = awaited[0]["wait_ms"].as_u64().expect("a number");
        assert!(
            (15_000..=20_000).contains(&wait),
            "20 s is the default: {wait}"
        );
    }
    // It may be there before anteroom is.
    place(&path, &mint().token);
    let start = from_agent(SERVICE.admin.address()).secrets_dir(directory.path());
    assert_started(&start.run(), "it was there");
}

#[test]
fn token_by_hand_wins_over_the_agents() {
    let (secrets, elsewhere) = (tmpfs_dir(), TempDir::new());
    let agents = secrets.join(AGENTS);
    place(&agents, "s.canary");
    let start = || from_agent(SERVICE.admin.address()).secrets_dir(secrets.path());
    assert_started(&start().token(mint()).run(), "ANTEROOM_TOKEN");
    // Another place for it is waited for just as long.
    let path = elsewhere.join("token");
    let running = waiting(start().arg("--token-file").arg(&path));
    place(&path, &mint().token);
    assert_started(&running.wait(), "--token-file");
    assert_eq!(
        std::fs::read(&agents).expect("it is left alone"),
        b"s.canary"
    );

    let proxy = recorder();
    let start = from_agent(&proxy.address()).args(["--token-wait", "0"]);
    let run = start.run();
    assert_unheard(&run, &proxy, "no wait");
    assert!(events(&run, "token_awaited").is_empty(), "{run:?}");
}

#[test]
fn dry_run_waits_for_no_token() {
    let secrets = tmpfs_dir();
    place(&secrets.join(AGENTS), "s.canary");
    let start = from_agent(SERVICE.admin.address()).arg("--dry-run");
    let run = start.secrets_dir(secrets.path()).run();
    assert_started(&run, "a dry run");
    assert!(!run.stderr.contains("token_awaited"), "{run:?}");
    assert!(is_there(&secrets.join(AGENTS)));
}

#[test]
fn plan_says_where_the_token_is_expected() {
    let plan = |start: Anteroom| {
        let run = start.without_secrets_dir().arg("check").run();
        run.assert_code(0);
        run.stdout.clone()
    };
    let manifest = manifest_for("https://vault.example.io");
    let agents = manifest.clone().set("token.from", "agent");
    let text = plan(Anteroom::new().manifest(agents.clone()));
    let path: PathBuf = Path::new("/run/secrets").join(AGENTS);
    assert!(
        text.contains(&format!("at {}, waited for 20 s", path.display())),
        "{text}"
    );
    let text = plan(
        Anteroom::new()
            .manifest(agents)
            .env("ANTEROOM_TOKEN_FILE", "/t"),
    );
    assert!(text.contains("at /t, waited for 20 s"), "{text}");
    let text = plan(Anteroom::new().manifest(manifest));
    assert!(
        text.contains("in ANTEROOM_TOKEN, or where --token-file says\n"),
        "the plan cannot know which: {text}"
    );
}

#[test]
fn token_from_accepts_one_word() {
    let manifest = manifest_for("https://vault.example.io").set("token.from", "operator");
    let run = Anteroom::new()
        .manifest(manifest)
        .token("s.x")
        .shell(APPLICATION)
        .run();
    run.assert_refused(78);
    run.assert_stderr("`operator` is not one of agent");
}

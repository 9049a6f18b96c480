//! The application finds the process as it was handed to anteroom, and its command was known to run.
#![allow(
    clippy::disallowed_methods,
    reason = "a test starts spies and copies programs"
)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde_json::json;

use crate::support::anteroom::{files_in, has_ended};
use crate::support::{
    Anteroom, Fault, FaultProxy, Postgres, Running, Service, TempDir, open_tmpfs_dir, probe,
    wait_for,
};

/// Becomes the binary with its arguments, at the end of a script for [`Anteroom::under`].
const BECOME: &str = r#"exec "$0" "$@""#;

fn script(before: &str) -> [String; 3] {
    ["/bin/sh".into(), "-c".into(), format!("{before} {BECOME}")]
}

fn start(service: &Service) -> Anteroom {
    Anteroom::new()
        .manifest(service.manifest())
        .token(service.mint())
}

/// A proxy that holds the first request for this path until the sender says something, or is dropped.
fn holding(service: &Service, path: &str) -> (FaultProxy, Sender<()>) {
    let (release, held) = channel::<()>();
    let path = path.to_owned();
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        if seen.is(&path) && seen.nth == 1 {
            // A process that waits is let go in either case.
            let _ = held.recv();
        }
        Fault::Pass
    });
    (proxy, release)
}

fn executable(directory: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.write(name, content);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod of our own file");
    path
}

type Input = (&'static str, Box<dyn Fn(Anteroom) -> Anteroom>);

fn input(name: &'static str, change: impl Fn(Anteroom) -> Anteroom + 'static) -> Input {
    (name, Box::new(change))
}

fn inputs(gone: &Path) -> Vec<Input> {
    let shell = |name, before: &'static str| input(name, move |run| run.under(script(before)));
    let through = |name, words: &'static str| input(name, move |run| run.under(words.split(' ')));
    let gone = gone.display().to_string();
    vec![
        input("as it comes", |run| run),
        shell("SIGPIPE ignored (B62)", "trap '' PIPE;"),
        shell("SIGCHLD ignored (B64)", "trap '' CHLD;"),
        shell("SIGTERM ignored", "trap '' TERM;"),
        shell("SIGINT and SIGQUIT ignored", "trap '' INT QUIT;"),
        shell("SIGHUP ignored", "trap '' HUP;"),
        shell(
            "all that can be are ignored",
            "for n in $(seq 1 64); do case $n in 9|19|32|33) ;; *) trap '' $n ;; esac; done;",
        ),
        input("all signals blocked (B63)", |run| {
            run.under([probe().as_os_str(), OsStr::new("block")])
        }),
        shell("umask 000", "umask 000;"),
        shell("umask 077", "umask 077;"),
        shell("umask 777", "umask 777;"),
        shell("standard input closed (B60)", "exec <&-;"),
        shell("standard output closed (B60)", "exec >&-;"),
        shell("standard error closed (B60)", "exec 2>&-;"),
        shell("all three closed (B60)", "exec <&- >&- 2>&-;"),
        shell(
            "other limits (B65)",
            "ulimit -c unlimited; ulimit -n 1000; ulimit -l 0; ulimit -s 4096;",
        ),
        through("a nice value", "nice -n 7"),
        through(
            "no new privileges, no capabilities",
            "setpriv --no-new-privs --inh-caps=-all --bounding-set=-all",
        ),
        through("supplementary groups", "setpriv --groups 5,29"),
        through("a death signal", "setpriv --pdeathsig USR1"),
        shell("another oom score", "echo 123 >/proc/self/oom_score_adj;"),
        input("another user without an entry or HOME (B67)", |run| {
            run.uid(54_321)
        }),
        input("a working directory that is gone (B68)", move |run| {
            run.under(script(&format!("mkdir {gone}; cd {gone}; rmdir {gone};")))
        }),
        input("variables that are not UTF-8 or empty (B54)", |run| {
            run.env("EMPTY", "")
                .env(OsStr::from_bytes(b"N\xff"), OsStr::from_bytes(b"\xfe=\n"))
        }),
    ]
}

// t14, b60, b62, b63, b64, b67, b68
#[test]
fn application_finds_the_process_as_anteroom_found_it() {
    let service = Service::new();
    let directory = TempDir::new();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
    let mut differences = Vec::new();
    for (name, change) in inputs(&directory.join("gone")) {
        let state = directory.join("state");
        let look = |run: Anteroom| {
            let run = change(run).run();
            assert_eq!(run.code, Some(0), "{name}\n{run:?}");
            let text = fs::read(&state).unwrap_or_else(|error| panic!("{name}: {error}\n{run:?}"));
            fs::remove_file(&state).expect("it was read just now");
            let text = String::from_utf8_lossy(&text).into_owned();
            let (pid, rest) = text.split_once('\n').expect("a line with the pid");
            assert_eq!(pid, format!("pid {}", run.pid), "{name}");
            // Containers of other tests come and go on the same machine.
            let is_own = |line: &&str| !line.contains("/docker/");
            rest.lines()
                .filter(is_own)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let task = [OsStr::new("state"), state.as_os_str()];
        let without = look(
            Anteroom::new()
                .program(probe())
                .without_secrets_dir()
                .args(task),
        );
        let with = look(start(&service).command([&[probe().as_os_str()], &task[..]].concat()));
        // What the test runner itself was handed is not declared, and so not handed on (T13).
        let standard = |line: &String| {
            !line.starts_with("fd ")
                || ["fd 0 ", "fd 1 ", "fd 2 "]
                    .iter()
                    .any(|fd| line.starts_with(fd))
        };
        let without: Vec<String> = without.into_iter().filter(standard).collect();
        assert!(
            without.contains(&"children ECHILD".to_owned()),
            "{name}: {without:?}"
        );
        for line in without.iter().filter(|line| !with.contains(line)) {
            differences.push(format!("{name}: lost  {line}"));
        }
        for line in with.iter().filter(|line| !without.contains(line)) {
            differences.push(format!("{name}: added {line}"));
        }
        if differences.is_empty() {
            assert_eq!(without, with, "{name}: the order");
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

// t13
#[test]
fn only_declared_descriptors_reach_the_application() {
    let service = Service::new();
    let open = "exec 3</dev/null 4</dev/zero 9</dev/zero;";
    for (name, declared, expected) in [
        ("nothing declared", "", "0 1 2"),
        (
            "two declared",
            "export LISTEN_FDS=2 LISTEN_PID=$$;",
            "0 1 2 3 4",
        ),
        (
            "two declared for another process",
            "export LISTEN_FDS=2 LISTEN_PID=1;",
            "0 1 2",
        ),
        (
            "nonsense declared",
            "export LISTEN_FDS=-1 LISTEN_PID=$$;",
            "0 1 2",
        ),
    ] {
        let run = start(&service)
            .under(script(&format!("{open} {declared}")))
            .command(["/bin/ls", "/proc/self/fd"])
            .run();
        run.assert_code(0);
        let mut numbers: Vec<u32> = run
            .stdout
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        // The last one is that of the listing itself.
        numbers.sort_unstable();
        numbers.pop();
        let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
        assert_eq!(numbers.join(" "), expected, "{name}");
    }
}

// b60
#[test]
fn no_secret_lands_on_a_standard_descriptor_that_was_closed() {
    let service = Service::new();
    let run = start(&service)
        .under(script("exec <&- >&- 2>&-;"))
        .shell("cat <&0; cat /proc/self/mountinfo >&1; echo x >&2")
        .keep_files()
        .run();
    assert_eq!((&*run.stdout, &*run.stderr), ("", ""));
    let files = run.files();
    let is_whole = |canary: &&str| files.values().any(|file| file.bytes == canary.as_bytes());
    assert!(
        Service::CANARIES.iter().all(is_whole),
        "every secret is in its own file"
    );
}

#[test]
fn exit_code_of_the_application_passes_through() {
    let service = Service::new();
    for code in [0, 1, 2, 64, 70, 80, 125, 126, 127, 128, 143, 255] {
        let run = start(&service).shell(&format!("exit {code}")).run();
        run.assert_code(code);
    }
}

#[test]
fn signal_that_ends_the_application_is_seen_by_the_caller() {
    let service = Service::new();
    for signal in [
        Signal::SIGKILL,
        Signal::SIGTERM,
        Signal::SIGPIPE,
        Signal::SIGHUP,
    ] {
        let run = start(&service)
            .shell(&format!("kill -{} $$", signal as i32))
            .run();
        run.assert_signal(signal);
    }
}

/// Commands that cannot run, the expected exit code, and what the message names.
fn commands_that_cannot_run(
    directory: &TempDir,
) -> Vec<(&'static str, OsString, i32, &'static str)> {
    let program = fs::read(probe()).expect("it was built");
    let patched = |at: usize, bytes: &[u8]| {
        let mut program = program.clone();
        program[at..at + bytes.len()].copy_from_slice(bytes);
        program
    };
    let nowhere = directory.join("no-loader");
    crate::support::probe::compile(&["-Wl,--dynamic-linker=/nowhere/ld.so"], &nowhere);
    let through = executable(directory, "through", format!("#!{}\n", nowhere.display()));
    let itself = directory.join("itself");
    executable(directory, "itself", format!("#!{}\n", itself.display()));
    fs::create_dir(directory.join("directory")).expect("our own directory can be written");
    let name = |path: PathBuf| path.into_os_string();
    let made = |name: &str, content: &[u8]| executable(directory, name, content).into_os_string();
    vec![
        (
            "a path that is nowhere",
            name(directory.join("missing")),
            127,
            "missing",
        ),
        (
            "a name that is not in PATH",
            "no-such-command".into(),
            127,
            "no-such-command",
        ),
        ("an empty name", "".into(), 127, "not there"),
        (
            "a path below a file",
            name(probe().join("x")),
            127,
            "not there",
        ),
        (
            "a script whose interpreter is missing",
            made("lost", b"#!/nowhere/interpreter -e\n"),
            127,
            "/nowhere/interpreter",
        ),
        (
            "a program whose loader is missing",
            name(nowhere),
            127,
            "/nowhere/ld.so",
        ),
        (
            "a script whose interpreter's loader is missing",
            name(through),
            127,
            "/nowhere/ld.so",
        ),
        (
            "a directory",
            name(directory.join("directory")),
            126,
            "directory",
        ),
        (
            "a file without the x bit",
            name(directory.write("plain", "#!/bin/sh\n")),
            126,
            "denied",
        ),
        ("a device", "/dev/null".into(), 126, "/dev/null"),
        (
            "a script without a #! line",
            made("bare", b"echo started\n"),
            126,
            "#!",
        ),
        (
            "a #! line that names nothing",
            made("hollow", b"#!\n"),
            126,
            "interpreter",
        ),
        (
            "a script that interprets itself",
            name(itself),
            126,
            "interpreter",
        ),
        ("an empty file", made("empty", b""), 126, "#!"),
        (
            "another architecture",
            made("arm64", &patched(18, &[183, 0])),
            126,
            "machine",
        ),
        (
            "a 32-bit architecture",
            made(
                "arm",
                &patched(4, &[1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 40, 0]),
            ),
            126,
            "machine",
        ),
        (
            "another byte order",
            made("big", &patched(5, &[2])),
            126,
            "machine",
        ),
        (
            "an object file",
            made("object", &patched(16, &[1, 0])),
            126,
            "program",
        ),
        (
            "a program that is cut off",
            made("cut", &program[..40]),
            126,
            "cut off",
        ),
    ]
}

// f5, f6, b56, b57, b58, b59
#[test]
fn command_that_cannot_run_is_found_before_the_token_is_touched() {
    let service = Service::new();
    let proxy = FaultProxy::recording(service.admin.address());
    let token = service.mint_with("60s", json!(null)).token;
    let directory = TempDir::new();
    let mut wrong = Vec::new();
    for (name, command, code, text) in commands_that_cannot_run(&directory) {
        let run = Anteroom::new()
            .manifest(service.manifest_for(&proxy.address()))
            .token(&token)
            .command([command])
            .run();
        let still_valid = service.admin.lookup_wrapping(&token) == 200;
        if run.code != Some(code)
            || !run.stderr.contains(text)
            || !run.stdout.is_empty()
            || !still_valid
        {
            wrong.push(format!(
                "{name}: {code} and {text:?} were expected, token valid: {still_valid}\n{run:?}"
            ));
        }
        run.assert_no_files();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        proxy.connections(),
        0,
        "Vault was asked although the command cannot run"
    );
}

// b52, b53
#[test]
fn command_line_without_a_command_is_64_and_leaves_the_token() {
    let service = Service::new();
    let token = service.mint().token;
    let nothing: [&str; 0] = [];
    let start = || Anteroom::new().manifest(service.manifest()).token(&token);
    for (name, run) in [
        ("no command", start()),
        ("only two dashes", start().command(nothing)),
        ("an unknown flag", start().arg("-x").shell("echo started")),
        (
            "a command without the dashes",
            start().args(["/bin/echo", "started"]),
        ),
    ] {
        let run = run.run();
        assert_eq!(run.code, Some(64), "{name}\n{run:?}");
        run.assert_refused(64);
    }
    assert_eq!(service.admin.lookup_wrapping(&token), 200);
}

#[test]
fn command_is_found_as_execvp_does_without_a_path_variable() {
    let service = Service::new();
    let directory = TempDir::new();
    symlink("/bin/echo", directory.join("here")).expect("our own directory can be written");
    for (path, command, code) in [
        ("PATH=;", "here", 0),
        ("PATH=;", "echo", 127),
        ("unset PATH;", "echo", 0),
        ("unset PATH;", "here", 127),
        ("PATH=/nowhere::/bin;", "here", 0),
    ] {
        let run = start(&service)
            .current_dir(directory.path())
            .under(script(path))
            .command([command, "started"])
            .run();
        assert_eq!(run.code, Some(code), "{path} {command}\n{run:?}");
        assert_eq!(run.stdout == "started\n", code == 0, "{path} {command}");
    }
}

// t21
#[test]
fn command_is_looked_for_once_and_not_again_after_the_fetch() {
    let service = Service::new();
    let (early, late) = (TempDir::new(), TempDir::new());
    symlink("/bin/echo", late.join("app")).expect("our own directory can be written");
    let (proxy, release) = holding(&service, &service.payment_path());
    let path = format!("{}:{}", early.path().display(), late.path().display());
    let mut running = start(&service)
        .manifest(service.manifest_for(&proxy.address()))
        .env("PATH", path)
        .command(["app", "the first one found"])
        .spawn();
    running.wait_until("the credential to be asked for", |_| {
        proxy.count(&service.payment_path()) > 0
    });
    symlink("/bin/false", early.join("app")).expect("our own directory can be written");
    drop(release);
    let run = running.wait();
    run.assert_code(0);
    assert_eq!(run.stdout, "the first one found\n");
}

// b54
#[test]
fn arguments_reach_the_application_byte_for_byte() {
    let service = Service::new();
    let directory = TempDir::new();
    symlink("/bin/busybox", directory.join("as typed")).expect("our own directory can be written");
    let words: [&[u8]; 6] = [b"\xff\xfe", b"", b"--manifest", b"--", b"a b\n", b"-x"];
    let run = start(&service)
        .command(
            [
                OsStr::new("/bin/sh"),
                OsStr::new("-c"),
                OsStr::new(r#"tr '\0' '|' </proc/$$/cmdline | od -An -tx1 -v"#),
            ]
            .into_iter()
            .chain(words.map(OsStr::from_bytes)),
        )
        .run();
    run.assert_code(0);
    let hex: String = run.stdout.split_whitespace().collect();
    let expected: Vec<u8> = words
        .iter()
        .flat_map(|word| [word, &b"|"[..]].concat())
        .collect();
    let expected: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(hex.ends_with(&expected), "{hex} does not end in {expected}");
}

#[test]
fn application_gets_its_name_as_typed() {
    let service = Service::new();
    let directory = TempDir::new();
    symlink(probe(), directory.join("app")).expect("our own directory can be written");
    for typed in ["app", "./app"] {
        let run = start(&service)
            .current_dir(directory.path())
            .env("PATH", directory.path())
            .command([typed, "state", "state"])
            .run();
        run.assert_code(0);
        let state = fs::read_to_string(directory.join("state")).expect("it was written");
        assert!(
            state.contains(&format!("argument 0 {typed}\n")),
            "{typed}: {state}"
        );
    }
}

/// Arguments of so many bytes.
fn arguments(bytes: usize) -> Vec<String> {
    vec!["x".repeat(100 << 10); bytes / (100 << 10)]
}

// b55
#[test]
fn two_mebibytes_of_arguments_pass_when_the_limit_lets_them() {
    let service = Service::new();
    let run = start(&service)
        .pre_exec(|| Ok(setrlimit(Resource::RLIMIT_STACK, 32 << 20, 32 << 20)?))
        .command(
            ["/bin/sh", "-c", "echo $#", "sh"]
                .map(str::to_owned)
                .into_iter()
                .chain(arguments(2 << 20)),
        )
        .run();
    run.assert_code(0);
    assert_eq!(run.stdout, "20\n");
}

// f31, b55
#[test]
fn fetched_value_too_long_for_an_exec_is_126_and_revokes_all() {
    let service = Service::new();
    for (name, size, before) in [
        ("one variable is too long", 200 << 10, 0),
        ("all together are too long", 120 << 10, 2 << 20),
    ] {
        let path = format!("{}/data/large", service.kv2);
        service
            .admin
            .kv_put(&path, json!({"data": {"value": "x".repeat(size)}}));
        service.admin.policy(
            &service.policy,
            &format!(
                "{} path \"{path}\" {{ capabilities = [\"read\"] }}",
                service.policy_hcl()
            ),
        );
        let wrapped = service.mint();
        let run = Anteroom::new()
            .manifest(
                service
                    .manifest()
                    .set("dependencies.large.path", path)
                    .set("environment.LARGE", "{{ large.value }}"),
            )
            .token(&wrapped)
            .pre_exec(|| Ok(setrlimit(Resource::RLIMIT_STACK, 8 << 20, 32 << 20)?))
            .command(
                ["/bin/echo", "started"]
                    .map(str::to_owned)
                    .into_iter()
                    .chain(arguments(before)),
            )
            .run();
        assert_eq!(run.code, Some(126), "{name}\n{run:?}");
        assert_eq!(run.stdout, "", "{name}");
        run.assert_stderr("`LARGE`");
        run.assert_no_files();
        assert!(
            !service.admin.accessor_exists(&wrapped.wrapped_accessor),
            "{name}: the token lives"
        );
    }
}

// f31, b55
#[test]
fn variables_longer_than_any_exec_are_126_and_revoke_the_token() {
    let service = Service::new();
    let path = service.payment_path();
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        if !seen.is(&path) {
            return Fault::Pass;
        }
        Fault::alter_json(|answer| answer["data"]["data"]["api_key"] = "x".repeat(6 << 20).into())
    });
    for namespace in [
        &[][..],
        &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"],
    ] {
        // The larger sum is more than the message between the two processes may hold.
        for names in [&["A", "B"][..], &["A", "B", "C"]] {
            let mut manifest = service.manifest_for(&proxy.address()).remove("certificate");
            for name in names {
                manifest = manifest.set_at(&["environment", name], "{{ payment.api_key }}");
            }
            let wrapped = service.mint();
            let run = Anteroom::new()
                .under(namespace)
                .manifest(manifest)
                .token(&wrapped)
                .shell("echo started")
                .run();
            assert_eq!(run.code, Some(126), "{names:?} {namespace:?}\n{run:?}");
            run.assert_refused(126);
            assert!(
                names
                    .iter()
                    .any(|name| run.stderr.contains(&format!("`{name}`"))),
                "no variable is named\n{run:?}"
            );
            assert!(
                !service.admin.accessor_exists(&wrapped.wrapped_accessor),
                "{names:?} {namespace:?}: the token lives"
            );
        }
    }
}

// f31
#[test]
fn command_lost_during_the_fetch_is_127_and_revokes_the_token() {
    let service = Service::new();
    let directory = TempDir::new();
    let command = directory.join("app");
    symlink("/bin/echo", &command).expect("our own directory can be written");
    let (proxy, release) = holding(&service, &service.payment_path());
    let wrapped = service.mint();
    let mut running = Anteroom::new()
        .manifest(service.manifest_for(&proxy.address()))
        .token(&wrapped)
        .command([command.as_os_str(), OsStr::new("started")])
        .spawn();
    running.wait_until("the credential to be asked for", |_| {
        proxy.count(&service.payment_path()) > 0
    });
    fs::remove_file(&command).expect("it is there");
    drop(release);
    let run = running.wait();
    run.assert_refused(127);
    assert!(
        !service.admin.accessor_exists(&wrapped.wrapped_accessor),
        "the token lives"
    );
}

/// The words that replace the user database for the command behind them, in a mount namespace.
fn with_user_database(directory: &TempDir) -> Vec<String> {
    let passwd = directory.write(
        "passwd",
        "root:x:0:0::/root:/bin/sh\napp:x:4711:4712::/home/app:/bin/sh\n",
    );
    let group = directory.write(
        "group",
        "root:x:0:\napp:x:4712:\naudio:x:29:app\nvideo:x:44:root,app\n",
    );
    let mounts = format!(
        "mount --bind {} /etc/passwd && mount --bind {} /etc/group && ",
        passwd.display(),
        group.display()
    );
    let mut words = vec!["unshare".to_owned(), "-m".to_owned()];
    words.extend(script(&mounts));
    words
}

#[test]
fn application_runs_as_the_manifests_user_and_owns_its_files() {
    let service = Service::new();
    let directory = TempDir::new();
    for (user, ids, home) in [
        ("app", "4711 4712 4712 29 44", "/home/app"),
        ("app:app", "4711 4712 4712", "/home/app"),
        ("app:audio", "4711 29 29", "/home/app"),
        ("4711", "4711 4712 4712 29 44", "/home/app"),
        ("1000:1000", "1000 1000 1000", "/root"),
        ("root", "0 0 0 44", "/root"),
    ] {
        let secrets = open_tmpfs_dir();
        let run = start(&service)
            .under(with_user_database(&directory))
            .env("HOME", "/root")
            .manifest(service.manifest().set("process.user", user))
            .secrets_dir(secrets.path())
            .shell(&format!(
                "echo $(id -u) $(id -g) $(id -G); echo $HOME; cat {0}/payment/api_key {0}/tls.key >/dev/null && \
                 cat {0}/payment/api_key; echo; grep CapEff /proc/self/status",
                secrets.path().display()
            ))
            .keep_files()
            .run();
        assert_eq!(run.code, Some(0), "{user}\n{run:?}");
        let lines: Vec<&str> = run.stdout.lines().collect();
        assert_eq!(lines[..3], [ids, home, Service::API_KEY], "{user}");
        let uid: u32 = ids
            .split(' ')
            .next()
            .and_then(|id| id.parse().ok())
            .expect("a number");
        assert_eq!(
            lines[3].ends_with("\t0000000000000000"),
            uid != 0,
            "{user}: {}",
            lines[3]
        );
        for name in ["tls.key", "tls.crt", "payment/api_key", "status.json"] {
            assert_eq!(run.file(name).uid, uid, "{user}: {name}");
        }
    }
}

// f6
#[test]
fn command_is_checked_with_the_rights_of_the_user() {
    let service = Service::new();
    let directory = TempDir::new();
    let hidden = TempDir::new();
    fs::set_permissions(hidden.path(), fs::Permissions::from_mode(0o700))
        .expect("chmod of our own directory");
    let only_root = executable(&directory, "only-root", "#!/bin/sh\necho started\n");
    fs::set_permissions(&only_root, fs::Permissions::from_mode(0o700))
        .expect("chmod of our own file");
    for command in [
        only_root,
        executable(&hidden, "app", "#!/bin/sh\necho started\n"),
    ] {
        let wrapped = service.mint();
        let run = Anteroom::new()
            .manifest(service.manifest().set("process.user", "1000:1000"))
            .token(&wrapped)
            .command([&command])
            .run();
        run.assert_refused(126);
        assert_eq!(
            service.admin.lookup_wrapping(&wrapped.token),
            200,
            "{}",
            command.display()
        );
    }
}

#[test]
fn manifest_with_the_current_user_needs_no_root() {
    let service = Service::new();
    let run = start(&service)
        .uid(1000)
        .manifest(service.manifest().set("process.user", "1000:1000"))
        .shell("id -u; id -G")
        .run();
    run.assert_code(0);
    assert_eq!(run.stdout, "1000\n1000\n");
}

#[test]
fn user_of_the_manifest_is_ignored_with_a_notice_without_root() {
    let service = Service::new();
    for user in ["1001:1000", "1000:1001", "0:0", "root", "daemon"] {
        let run = Anteroom::new()
            .uid(1000)
            .manifest(service.manifest().set("process.user", user))
            .token(service.mint())
            .shell("id -u; id -g")
            .run();
        assert_eq!(run.code, Some(0), "{user}\n{run:?}");
        assert_eq!(run.stdout, "1000\n1000\n", "{user}");
        run.assert_stderr("only root can become another user");
    }
}

// b25
#[test]
fn unknown_user_is_78_and_the_token_is_not_touched() {
    let service = Service::new();
    for user in ["nosuchuser", "424242", "root:nosuchgroup", "4294967295:0"] {
        let wrapped = service.mint();
        let run = Anteroom::new()
            .manifest(service.manifest().set("process.user", user))
            .token(&wrapped)
            .shell("echo started")
            .run();
        run.assert_refused(78);
        assert_eq!(service.admin.lookup_wrapping(&wrapped.token), 200, "{user}");
    }
}

#[test]
fn root_that_cannot_change_its_user_is_refused_before_the_token() {
    let service = Service::new();
    let wrapped = service.mint();
    let run = Anteroom::new()
        .under(["setpriv", "--inh-caps=-all", "--bounding-set=-all"])
        .manifest(service.manifest().set("process.user", "1000:1000"))
        .token(&wrapped)
        .shell("echo started")
        .run();
    run.assert_refused(71)
        .assert_stderr("become the application's user");
    assert_eq!(service.admin.lookup_wrapping(&wrapped.token), 200);
}

/// Root that may become another user and give files away, and nothing more.
pub(crate) const LITTLE_ROOT: [&str; 3] = [
    "setpriv",
    "--inh-caps=-all",
    "--bounding-set=-all,+setuid,+setgid,+chown",
];

#[test]
fn root_that_may_only_change_users_and_owners_is_enough() {
    let service = Service::new();
    let secrets = open_tmpfs_dir();
    let start = || {
        start(&service)
            .under(LITTLE_ROOT)
            .manifest(service.manifest().set("process.user", "1000:1000"))
            .secrets_dir(secrets.path())
    };
    let read = format!("id -u; cat {}/payment/api_key", secrets.path().display());
    for round in ["new", "over what a killed start has left"] {
        let run = start().shell(&read).keep_files().run();
        assert_eq!(run.code, Some(0), "{round}\n{run:?}");
        assert_eq!(run.stdout, format!("1000\n{}", Service::API_KEY), "{round}");
        let files = run.files();
        assert!(files.contains_key("payment/api_key"), "{round}: {files:?}");
        for (name, file) in files {
            assert_eq!((file.uid, file.gid), (1000, 1000), "{round}: {name}");
        }
        run.assert_no_files();
        if round == "new" {
            let mut killed = start().shell("echo started; exec sleep 600").spawn();
            killed.wait_for_stdout("started\n");
            killed.kill_both();
            let left = killed.wait().files();
            assert!(left.contains_key("payment/api_key"), "{left:?}");
        }
    }
}

#[test]
fn root_that_may_only_change_users_and_owners_takes_all_back() {
    let service = Service::new();
    let missing = json!(["nowhere"]);
    // Before anything is given away, and when all of it is.
    for (words, fields, code) in [
        (&[][..], missing, 78),
        (
            &[
                "strace",
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=setuid",
                "-e",
                "inject=setuid:error=EPERM:when=1",
            ][..],
            json!(["api_key"]),
            71,
        ),
    ] {
        let (secrets, wrapped) = (open_tmpfs_dir(), service.mint());
        let run = Anteroom::new()
            .under(words.iter().chain(&LITTLE_ROOT))
            .manifest(
                service
                    .manifest()
                    .set("process.user", "1000:1000")
                    .set("dependencies.payment.fields", fields),
            )
            .secrets_dir(secrets.path())
            .token(&wrapped)
            .shell("echo started")
            .run();
        run.assert_refused(code);
        assert!(
            !service.admin.accessor_exists(&wrapped.wrapped_accessor),
            "{code}: the token lives"
        );
    }
}

#[test]
fn home_of_the_manifest_replaces_the_users_and_comes_once() {
    let service = Service::new();
    let directory = TempDir::new();
    let secrets = open_tmpfs_dir();
    let run = start(&service)
        .under(with_user_database(&directory))
        .manifest(
            service
                .manifest()
                .set("process.user", "app")
                .set("environment.HOME", "/srv/of/the/manifest"),
        )
        .secrets_dir(secrets.path())
        .command(["cat", "/proc/self/environ"])
        .run();
    run.assert_code(0);
    let homes: Vec<&str> = run
        .stdout
        .split('\0')
        .filter(|variable| variable.starts_with("HOME="))
        .collect();
    assert_eq!(homes, ["HOME=/srv/of/the/manifest"]);
}

/// Starts as this user, and holds the start when it asks for a credential: then both processes hold what they ever do.
fn held(
    service: &Service,
    uid: u32,
    change: impl FnOnce(Anteroom) -> Anteroom,
) -> (FaultProxy, Running, Vec<i32>) {
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
    let run = start(service)
        .manifest(service.manifest_for(&proxy.address()))
        .env("VAULT_TOKEN", "canary-vault-token")
        .uid(uid)
        .shell("echo started");
    let mut running = change(run).spawn();
    running.wait_until("the credential to be asked for", |_| proxy.count(&path) > 0);
    let both: Vec<i32> = [running.pid()]
        .into_iter()
        .chain(running.children())
        .collect();
    assert_eq!(both.len(), 2, "PID 1 and the keeper");
    (proxy, running, both)
}

/// The probe's findings when it spies on `pid` as the user `uid`.
fn spy(uid: u32, pid: i32) -> Vec<String> {
    let output = Command::new("setpriv")
        .args([
            "--clear-groups",
            "--regid",
            &uid.to_string(),
            "--reuid",
            &uid.to_string(),
        ])
        .arg(probe())
        .args(["spy", &pid.to_string()])
        .output()
        .expect("setpriv can be started");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn assert_all_refused(found: &[String], what: &str) {
    assert!(found.len() > 10, "the probe did not run: {found:?}");
    let refused = |line: &&String| line.ends_with(" EACCES") || line.ends_with(" EPERM");
    let open: Vec<_> = found.iter().filter(|line| !refused(line)).collect();
    assert_eq!(open, Vec::<&String>::new(), "{what}");
}

// t6, t7
#[test]
fn only_root_reads_either_process_during_a_start() {
    let service = Service::new();
    for (uid, spies) in [(1000, [1000, 1001]), (0, [1000, 1001])] {
        let (_proxy, running, both) = held(&service, uid, |run| run);
        for pid in both {
            for spy_uid in spies {
                let what = format!("user {spy_uid} spies on {pid} of user {uid}");
                assert_all_refused(&spy(spy_uid, pid), &what);
            }
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it is running");
            assert!(
                !line.contains("hvs.") && !line.contains("s."),
                "{line:?} may hold a token"
            );
        }
        running.kill(Signal::SIGTERM);
        running.wait().assert_refused(143);
    }
}

// t7
#[test]
fn spy_of_these_tests_reads_an_ordinary_process_of_its_user() {
    let mut ordinary = Command::new("setpriv")
        .args([
            "--clear-groups",
            "--regid",
            "1000",
            "--reuid",
            "1000",
            "sleep",
            "60",
        ])
        .spawn()
        .expect("setpriv can be started");
    let pid = ordinary.id().cast_signed();
    wait_for("it to be sleep", Duration::from_secs(10), || {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .ok()
            .filter(|name| name == "sleep\n")
    });
    let found = spy(1000, pid);
    for way in ["environ OK", "maps OK", "ptrace OK"] {
        assert!(
            found.iter().any(|line| line == way),
            "{way} is missing from {found:?}"
        );
    }
    ordinary.kill().expect("our own child can be killed");
    ordinary.wait().expect("our own child can be waited for");
}

fn core_wanted() -> std::io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_CORE, u64::MAX, u64::MAX)?)
}

/// Has a process that waits in a system call fault on its way back: it blocks every signal that another process could
/// send, and a fault is none of those.
fn crash(process: i32) {
    const HLT: u8 = 0xf4;
    let pid = Pid::from_raw(process);
    kill(pid, Signal::SIGSTOP).expect("it is there");
    let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).ok();
    let back = wait_for("the process to stop", Duration::from_secs(10), || {
        let is_stopped = read("stat")?.contains(") T ");
        let call = read("syscall").filter(|_| is_stopped)?;
        let (_, counter) = call.trim().rsplit_once(" 0x")?;
        u64::from_str_radix(counter, 16).ok()
    });
    let mut options = fs::OpenOptions::new();
    let memory = options.write(true).open(format!("/proc/{process}/mem"));
    let memory = memory.expect("root may write it");
    // Two bytes before is the call itself, which may be made once more.
    let written = memory.write_all_at(&[HLT; 3], back - 2);
    written.expect("the code is there");
    kill(pid, Signal::SIGCONT).expect("it is there");
}

// t8
#[test]
fn crash_of_either_process_leaves_no_core() {
    let service = Service::new();
    let directory = TempDir::new();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))
        .expect("chmod of our own directory");
    let control = Anteroom::new()
        .program(probe())
        .without_secrets_dir()
        .current_dir(directory.path())
        .pre_exec(core_wanted)
        .args(["die"])
        .run();
    assert!(
        control.status.core_dumped(),
        "a core is possible here: {control:?}"
    );
    for core in fs::read_dir(directory.path())
        .expect("our own directory")
        .filter_map(Result::ok)
    {
        fs::remove_file(core.path()).expect("our own directory");
    }
    for (victim, signal) in [
        ("PID 1", Some(Signal::SIGSEGV)),
        ("PID 1", Some(Signal::SIGABRT)),
        ("the keeper", None),
    ] {
        let (_proxy, mut running, both) = held(&service, 1000, |run| {
            run.current_dir(directory.path()).pre_exec(core_wanted)
        });
        if let Some(signal) = signal {
            running.wait_until(&format!("an end by {signal}"), |_| {
                // Rust's own handler takes the first SIGSEGV for a sign of a full stack and lets the next one pass.
                let _ = kill(Pid::from_raw(both[0]), signal);
                has_ended(both[0])
            });
        } else {
            crash(both[1]);
            running.wait_for_stderr("the keeper was killed by SIGSEGV");
        }
        let run = running.wait();
        let what = format!("{victim} by {signal:?}\n{run:?}");
        assert!(!run.status.core_dumped(), "a core: {what}");
        assert_eq!(run.stdout, "", "{what}");
        run.assert_no(Service::CANARIES);
        wait_for("the keeper to end", Duration::from_secs(10), || {
            (!Path::new(&format!("/proc/{}", both[1])).exists()).then_some(())
        });
        run.assert_no_files();
        let left: Vec<_> = fs::read_dir(directory.path())
            .expect("our own directory")
            .filter_map(Result::ok)
            .collect();
        assert!(left.is_empty(), "{left:?} was left: {what}");
    }
}

// t6
#[test]
fn no_token_reaches_the_environment_of_the_application() {
    let service = Service::new();
    let directory = TempDir::new();
    for source in ["variable", "file"] {
        let wrapped = service.mint();
        let run = Anteroom::new()
            .manifest(service.manifest())
            .env("VAULT_TOKEN", "canary-vault-token")
            .env("BAO_TOKEN", "canary-bao-token")
            .env("KEPT", "kept");
        let run = match source {
            "variable" => run.token(&wrapped),
            _ => {
                let path = directory.write("token", &wrapped.token);
                fs::set_permissions(&path, fs::Permissions::from_mode(0o400))
                    .expect("chmod of our own file");
                run.env("ANTEROOM_TOKEN_FILE", path)
            }
        };
        let run = run.shell("tr '\\0' '\\n' </proc/$$/environ").run();
        run.assert_code(0);
        assert!(run.stdout.contains("KEPT=kept\n"), "{source}\n{run:?}");
        run.assert_no([
            wrapped.token.as_str(),
            "canary-vault-token",
            "canary-bao-token",
            "ANTEROOM_TOKEN",
            "_TOKEN=",
        ]);
    }
}

// t7
#[test]
fn binary_that_its_user_may_run_and_not_read_does_its_work() {
    let service = Service::new();
    let directory = TempDir::new();
    let copy = directory.join("anteroom");
    // Copied by another process: ours might hold it open for writing while another thread forks.
    let copied = Command::new("install")
        .args(["-m", "0711", env!("CARGO_BIN_EXE_anteroom")])
        .arg(&copy)
        .status()
        .expect("install can be started");
    assert!(copied.success());
    let run = start(&service)
        .program(&copy)
        .uid(1000)
        .shell("echo started")
        .run();
    run.assert_code(0);
    assert_eq!(run.stdout, "started\n");
}

// The keeper, once the application runs.

/// An application that has started, and waits until the test writes to this FIFO before it does the rest.
fn waiting(start: Anteroom, gate: &Path, rest: &str) -> Running {
    nix::unistd::mkfifo(gate, Mode::S_IRUSR | Mode::S_IWUSR).expect("our own directory");
    // While it waits its standard input is what it was.
    let gate = gate.display();
    let script = format!("echo started; read go 7<{gate} <&7; {rest}");
    let mut running = start.shell(&script).spawn();
    running.wait_for_stdout("started\n");
    running
}

fn open_gate(gate: &Path) {
    fs::write(gate, "go\n").expect("the application waits there");
}

/// A line of `/proc/PID/status`.
fn status_line(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
    let line = status.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(":\t"));
    value.expect("the kernel has it").1.to_owned()
}

/// Where the descriptors of a process lead.
fn descriptors(pid: i32) -> BTreeMap<u32, PathBuf> {
    let listing = fs::read_dir(format!("/proc/{pid}/fd")).expect("it is there");
    let entries = listing.filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?))
        })
        .collect()
}

// f40
#[test]
fn keeper_has_its_own_session_and_only_sigkill_ends_it() {
    let service = Service::new();
    let (directory, wrapped) = (TempDir::new(), service.mint());
    let gate = directory.join("gate");
    let start = start(&service).token(&wrapped);
    let running = waiting(start, &gate, "true");
    let keeper = running.keeper();
    let stat = fs::read_to_string(format!("/proc/{keeper}/stat")).expect("it is there");
    let after_name = stat.rsplit_once(") ").expect("a name in brackets").1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let own = keeper.to_string();
    let [parent, group, session, terminal] = [fields[1], fields[2], fields[3], fields[4]];
    assert_eq!(
        [parent, group, session, terminal],
        [&*running.pid().to_string(), &own, &own, "0"]
    );
    let blocked = u64::from_str_radix(&status_line(keeper, "SigBlk"), 16).expect("a mask");
    // SIGKILL and SIGSTOP cannot be blocked; two more are the C library's own (nptl(7)).
    let free: Vec<u32> = (1..=64)
        .filter(|n| blocked & 1 << (n - 1) == 0)
        .filter(|n| ![9, 19, 32, 33].contains(n))
        .collect();
    assert_eq!(free, Vec::<u32>::new(), "signals that it does not block");
    for signal in Signal::iterator().filter(|s| ![Signal::SIGKILL, Signal::SIGSTOP].contains(s)) {
        kill(Pid::from_raw(keeper), signal).expect("it is there");
    }
    open_gate(&gate);
    let run = running.wait();
    run.assert_code(0).assert_stderr("\"event\":\"revoked\"");
    run.assert_no_files();
    assert!(!service.admin.accessor_exists(&wrapped.wrapped_accessor));
}

// t13
#[test]
fn keeper_holds_no_application_descriptor_but_standard_error() {
    let service = Service::new();
    let directory = TempDir::new();
    for name in ["three", "four", "nine"] {
        directory.write(name, "");
    }
    let at = directory.path().display();
    let open = format!("exec <{at}/four 3<{at}/three 4<{at}/four 9<{at}/nine;");
    for (name, declared) in [
        ("undeclared", ""),
        ("declared", "export LISTEN_FDS=2 LISTEN_PID=$$;"),
    ] {
        let gate = directory.join(name);
        let start = start(&service).under(script(&format!("{open} {declared}")));
        let running = waiting(start, &gate, "true");
        let of_application = descriptors(running.pid());
        // Else the search would prove nothing.
        assert_eq!(of_application[&0], directory.join("four"));
        assert_eq!(
            of_application.get(&3),
            (!declared.is_empty())
                .then(|| directory.join("three"))
                .as_ref()
        );
        // It steps aside when the application runs, not before.
        wait_for(
            &format!("the keeper to let go of what is not its own ({name})"),
            Duration::from_secs(30),
            || {
                let of_keeper = descriptors(running.keeper());
                let holds = |path: &PathBuf| path.starts_with(directory.path());
                let is_null = |number| {
                    of_keeper
                        .get(&number)
                        .is_some_and(|path| path.as_path() == Path::new("/dev/null"))
                };
                (is_null(0) && is_null(1) && !of_keeper.values().any(holds)).then_some(())
            },
        );
        assert_eq!(descriptors(running.keeper())[&2], of_application[&2]);
        open_gate(&gate);
        running.wait().assert_code(0);
    }
}

#[test]
fn output_of_the_application_ends_with_the_application() {
    let service = Service::new();
    let gate = TempDir::new();
    let gate = gate.join("gate");
    let mut running = waiting(start(&service), &gate, "true");
    let keeper = running.keeper();
    // Nothing that the keeper does in the end can be the reason.
    kill(Pid::from_raw(keeper), Signal::SIGSTOP).expect("it is there");
    open_gate(&gate);
    running.wait_until("the end of standard output", |run| {
        run.outputs_have_ended().0
    });
    assert!(
        !running.outputs_have_ended().1,
        "it has something to say yet"
    );
    kill(Pid::from_raw(keeper), Signal::SIGCONT).expect("it is there");
    let run = running.wait();
    run.assert_code(0).assert_stderr("\"event\":\"revoked\"");
    assert!(run.output_closed, "{run:?}");
}

// t6, t7
#[test]
fn only_root_reads_the_keeper_beside_the_application() {
    let service = Service::new();
    for uid in [0, 1000] {
        let mut running = start(&service)
            .uid(uid)
            .shell("echo started; exec sleep 600")
            .spawn();
        running.wait_for_stdout("started\n");
        for spy_uid in [1000, 1001] {
            let found = spy(spy_uid, running.keeper());
            assert_all_refused(
                &found,
                &format!("user {spy_uid} spies on one of user {uid}"),
            );
        }
    }
}

// f39
#[test]
fn application_finds_no_child_after_its_keeper_was_killed() {
    let service = Service::new();
    let directory = TempDir::new();
    let state = directory.join("state");
    let look = format!("exec {} state {}", probe().display(), state.display());
    let seen = || {
        let state = fs::read_to_string(&state).expect("it was written");
        let line = state.lines().find(|line| line.starts_with("children "));
        line.expect("the probe looks for them").to_owned()
    };
    let run = start(&service).shell(&format!("true & {look}")).run();
    run.assert_code(0);
    assert_eq!(seen(), "children some", "one of its own");

    let gate = directory.join("gate");
    let own_child = format!("(exit 3) & wait $!; test $? = 3 && {look}");
    let running = waiting(start(&service), &gate, &own_child);
    let keeper = running.keeper();
    kill(Pid::from_raw(keeper), Signal::SIGKILL).expect("it is there");
    wait_for("the keeper to end", Duration::from_secs(10), || {
        has_ended(keeper).then_some(())
    });
    open_gate(&gate);
    let run = running.wait();
    run.assert_code(0);
    assert_eq!(seen(), "children ECHILD");
    // No process is left to tidy up.
    assert_eq!(run.file("payment/api_key").text(), Service::API_KEY);
}

// f40
#[test]
fn secrets_go_with_the_application_however_it_ends() {
    let service = Service::with_database();
    for (name, end) in [
        ("by itself", None),
        ("by SIGTERM", Some(Signal::SIGTERM)),
        ("by SIGKILL", Some(Signal::SIGKILL)),
    ] {
        let (directory, wrapped) = (TempDir::new(), service.mint());
        let gate = directory.join("gate");
        let running = waiting(start(&service).token(&wrapped), &gate, "exit 7");
        let user = files_in(running.secrets_dir())["db/username"]
            .text()
            .to_owned();
        assert!(Postgres::shared().role_exists(&user), "{name}");
        match end {
            Some(signal) => running.kill(signal),
            None => open_gate(&gate),
        }
        let run = running.wait();
        let expected = end.map_or((Some(7), None), |signal| (None, Some(signal as i32)));
        assert_eq!((run.code, run.signal), expected, "{name}\n{run:?}");
        run.assert_no_files().assert_stderr("\"event\":\"revoked\"");
        assert_eq!(run.survivors(), Vec::<i32>::new(), "{name}");
        assert!(
            !service.admin.accessor_exists(&wrapped.wrapped_accessor),
            "{name}: the token lives"
        );
        wait_for("the database user to go", Duration::from_secs(10), || {
            (!Postgres::shared().role_exists(&user)).then_some(())
        });
    }
}

// f40
#[test]
fn keeper_dies_with_pid_1_and_revokes_nothing() {
    let service = Service::new();
    let (directory, wrapped) = (TempDir::new(), service.mint());
    let gate = directory.join("gate");
    let start = start(&service).under(["unshare", "--pid", "--fork", "--kill-child"]);
    let running = waiting(start.token(&wrapped), &gate, "exit 7");
    let keeper = running.keeper();
    open_gate(&gate);
    let run = running.wait();
    run.assert_code(7);
    assert!(has_ended(keeper), "it outlives its PID 1");
    assert!(!run.stderr.contains("\"event\":\"revoked\""), "{run:?}");
    assert_eq!(run.file("payment/api_key").text(), Service::API_KEY);
    // Until its ttl, or until an operator revokes the accessor.
    assert!(service.admin.accessor_exists(&wrapped.wrapped_accessor));
}

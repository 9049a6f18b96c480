//! Where the wrapping token comes from, and what is not accepted as one.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::{
    Anteroom, Cut, Fault, FaultProxy, Reply, Run, Service, TempDir, Wrapped, assert_started,
    openbao, report,
};

static SERVICE: LazyLock<Service> = LazyLock::new(Service::new);

const APPLICATION: &str = "echo the application runs";

/// A start that needs nothing but its token; requests go to `address`.
fn start_at(address: &str) -> Anteroom {
    let manifest = SERVICE.manifest_for(address).bare();
    Anteroom::new().manifest(manifest).shell(APPLICATION)
}

fn start() -> Anteroom {
    start_at(SERVICE.admin.address())
}

fn mint() -> Wrapped {
    // As long as the manifest permits, for tests that run many starts with one token.
    SERVICE.mint_with("60s", serde_json::Value::Null)
}

/// Refused with this code, nothing sent to Vault, nothing started, nothing left.
#[track_caller]
fn assert_refused_unheard(run: &Run, proxy: &FaultProxy, code: i32, what: &str) {
    assert_eq!(run.code, Some(code), "{what}\n{run:?}");
    run.assert_refused(code);
    assert_eq!(proxy.connections(), 0, "{what}: Vault was spoken to");
}

fn recorder() -> FaultProxy {
    FaultProxy::recording(SERVICE.admin.address())
}

/// A token file as an agent writes it: only its owner may read it.
fn token_file(directory: &TempDir, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.write("token", content);
    set_mode(&path, 0o400);
    path
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod of our own file");
}

fn is_there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

// f1
#[test]
fn start_without_a_token_sends_nothing_and_names_the_sources() {
    let proxy = recorder();
    let run = start_at(&proxy.address()).run();
    assert_refused_unheard(&run, &proxy, 66, "no source");
    run.assert_stderr("no wrapping token was handed in")
        .assert_stderr("ANTEROOM_TOKEN")
        .assert_stderr("--token-file");
}

// f1
#[test]
fn token_file_that_is_missing_is_no_token() {
    let directory = TempDir::new();
    let path = directory.join("token");
    let by_flag: fn(Anteroom, &Path) -> Anteroom =
        |start, path| start.arg("--token-file").arg(path);
    let by_variable: fn(Anteroom, &Path) -> Anteroom =
        |start, path| start.env("ANTEROOM_TOKEN_FILE", path);
    for (what, name) in [("flag", by_flag), ("variable", by_variable)] {
        let proxy = recorder();
        let run = name(start_at(&proxy.address()), &path).run();
        assert_refused_unheard(&run, &proxy, 66, what);
        run.assert_stderr(&path.display().to_string());
    }
}

// f2, b1, b3, b4, b5, b12
#[test]
fn malformed_token_is_refused_unsent_and_never_echoed() {
    let long = format!("s.canary{}", "x".repeat(4096));
    let longer = format!("s.canary{}", "x".repeat(100_000));
    let table = "Key               Value\n---               -----\nwrapping_token:   s.canary\n";
    let inputs: &[(&str, &[u8])] = &[
        ("empty", b""),
        ("a blank", b" "),
        ("blanks", b" \t  "),
        ("a line end", b"\n"),
        ("two line ends", b"s.canary\n\n"),
        ("a leading line end", b"\ns.canary"),
        ("an inner blank", b"s.can ary-canary"),
        ("a trailing blank", b"s.canary "),
        ("an inner line end", b"s.canary\nx"),
        ("a carriage return alone inside", b"s.canary\rx"),
        ("ESC", b"s.canary\x1b[31m"),
        ("DEL", b"s.canary\x7f"),
        ("not ASCII", "s.canary\u{e9}".as_bytes()),
        ("not UTF-8", b"s.canary\xff"),
        ("Bearer", b"Bearer s.canary"),
        ("bearer", b"bearer s.canary"),
        ("too long", long.as_bytes()),
        ("much too long", longer.as_bytes()),
        ("the command line tool's table", table.as_bytes()),
    ];
    for (what, input) in inputs {
        let proxy = recorder();
        let run = start_at(&proxy.address())
            .arg("--token-file")
            .arg("-")
            .stdin(*input)
            .run();
        assert_refused_unheard(&run, &proxy, 65, what);
        run.assert_no(["canary"]);
        if input.len() < 10_000 {
            run.assert_stderr(&format!("({} bytes)", input.len()));
        }
    }
}

/// Texts that scripts, shells and templates hand in when they have no token, or have one and something around it.
const SLIPS: [&str; 16] = [
    "null",
    "None",
    "NIL",
    "undefined",
    "true",
    "garbage",
    "${TOKEN}",
    "$TOKEN",
    "<token>",
    "\"hvs.canary-canary-canary-canary\"",
    "'hvs.canary-canary-canary-canary'",
    "token=hvs.canary-canary-canary-canary",
    "wrapping_token:hvs.canary-canary-canary-canary",
    "hvs.canary-canary,",
    "hvs.",
    "Y2FuYXJ5+Y2FuYXJ5/Y2FuYXJ5==",
];

#[test]
fn misspelt_token_is_65_before_any_request_and_no_alarm() {
    let directory = TempDir::new();
    for slip in SLIPS {
        let proxy = recorder();
        let path = token_file(&directory, slip);
        let run = start_at(&proxy.address()).token(slip).run();
        assert_refused_unheard(&run, &proxy, 65, slip);
        run.assert_no(["canary"]);
        let json = serde_json::json!({"wrap_info": {"token": slip}}).to_string();
        let run = start_at(&proxy.address()).token(json).run();
        assert_refused_unheard(&run, &proxy, 65, slip);
        let run = start_at(&proxy.address())
            .arg("--token-file")
            .arg(&path)
            .run();
        assert_refused_unheard(&run, &proxy, 65, slip);
        assert!(is_there(&path), "{slip}: a file that was named by mistake");
        std::fs::remove_file(path).expect("our own file");
    }
}

// f2, b1, b3
#[test]
fn every_source_refuses_a_malformed_token() {
    let directory = TempDir::new();
    for input in [&b"s.canary\x01"[..], b"s.canary\0", b""] {
        let proxy = recorder();
        let path = token_file(&directory, input);
        let run = start_at(&proxy.address())
            .env("ANTEROOM_TOKEN_FILE", &path)
            .run();
        assert_refused_unheard(&run, &proxy, 65, &format!("a file with {input:?}"));
        run.assert_no(["canary"]);
        assert!(is_there(&path), "a file that was named by mistake is lost");
    }
    for input in ["", " ", "s.canary\x01", "Bearer s.canary"] {
        let proxy = recorder();
        let run = start_at(&proxy.address()).token(input).run();
        assert_refused_unheard(&run, &proxy, 65, &format!("the variable with {input:?}"));
        run.assert_no(["canary"]);
    }
}

// b2
#[test]
fn one_trailing_line_end_is_dropped_from_every_source() {
    let directory = TempDir::new();
    for end in ["", "\n", "\r\n"] {
        let token = || format!("{}{end}", mint().token);
        assert_started(&start().token(token()).run(), &format!("variable {end:?}"));
        let path = token_file(&directory, token());
        let run = start().arg("--token-file").arg(&path).run();
        assert_started(&run, &format!("file {end:?}"));
        let run = start().args(["--token-file", "-"]).stdin(token()).run();
        assert_started(&run, &format!("standard input {end:?}"));
    }
}

// b6
#[test]
fn json_of_a_wrapped_answer_is_a_token() {
    let directory = TempDir::new();
    // As the command line tools print it, and as an agent's sink with `wrap_ttl` writes it.
    let pretty = |wrapped: &Wrapped| {
        format!(
            "{}\n",
            serde_json::to_string_pretty(&wrapped.json).expect("JSON")
        )
    };
    let sink = |wrapped: &Wrapped| wrapped.json["wrap_info"].to_string();
    assert_started(&start().token(pretty(&mint())).run(), "variable");
    assert_started(&start().token(sink(&mint())).run(), "sink");
    let path = token_file(&directory, pretty(&mint()));
    let run = start().arg("--token-file").arg(&path).run();
    assert_started(&run, "file");
}

// b6
#[test]
fn json_that_holds_no_wrapping_token_is_refused_by_name() {
    for (input, reason) in [
        (
            r#"{"auth":{"client_token":"s.canary"},"wrap_info":null}"#,
            "not wrapped",
        ),
        (
            r#"{"data":{"x":"canary"},"wrap_info":null}"#,
            "no wrapping token",
        ),
        (r#"{"wrap_info":{"token":"s.canary"}"#, "begins like JSON"),
        (
            r#"{"wrap_info":{"token":"s.can ary-canary"}}"#,
            "holds a blank",
        ),
        (r#"{"wrap_info":{"token":""}}"#, "empty"),
    ] {
        let proxy = recorder();
        let run = start_at(&proxy.address()).token(input).run();
        assert_refused_unheard(&run, &proxy, 65, input);
        run.assert_stderr(reason).assert_no(["canary"]);
    }
}

#[test]
fn token_file_is_read_once_and_removed_before_the_token_is_used() {
    let directory = TempDir::new();
    let path = token_file(&directory, mint().token);
    let seen = path.clone();
    let proxy = FaultProxy::start(SERVICE.admin.address(), move |_| {
        if is_there(&seen) {
            Fault::Answer(Reply::text(418, "text/plain", "the file is still there"))
        } else {
            Fault::Pass
        }
    });
    let run = start_at(&proxy.address())
        .arg("--token-file")
        .arg(&path)
        .run();
    assert_started(&run, "the file is gone in time");
    assert!(!is_there(&path));
    assert!(!run.stderr.contains("token_file_kept"), "{run:?}");
}

// b8
#[test]
fn source_that_is_neither_file_nor_pipe_is_refused() {
    let directory = TempDir::new();
    for path in [directory.path(), Path::new("/dev/zero")] {
        let proxy = recorder();
        let run = start_at(&proxy.address())
            .arg("--token-file")
            .arg(path)
            .run();
        assert_refused_unheard(&run, &proxy, 66, &path.display().to_string());
        assert!(is_there(path), "{} was removed", path.display());
    }
}

// b9
#[test]
fn pipe_without_a_writer_is_given_up_after_five_seconds() {
    let directory = TempDir::new();
    let path = directory.join("pipe");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO can be made");
    let proxy = recorder();
    let run = start_at(&proxy.address())
        .arg("--token-file")
        .arg(&path)
        .run();
    assert_refused_unheard(&run, &proxy, 66, "no writer");
    assert!(
        run.elapsed > Duration::from_secs(4),
        "a writer may be late\n{run:?}"
    );
}

// b9
#[test]
fn pipe_that_never_ends_is_given_up_at_the_deadline() {
    let directory = TempDir::new();
    let path = directory.join("pipe");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO can be made");
    // Read and write: an open of the writing end alone would wait for a reader.
    let mut writer = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("our own FIFO");
    writer
        .write_all(b"s.canary")
        .expect("a FIFO takes a few bytes");
    let proxy = recorder();
    let run = start_at(&proxy.address())
        .args(["--deadline", "300ms", "--token-file"])
        .arg(&path)
        .run();
    assert_refused_unheard(&run, &proxy, 66, "the writer never closes");
    run.assert_no(["canary"]);
}

#[test]
fn token_that_comes_late_through_a_pipe_is_taken() {
    let directory = TempDir::new();
    let path = directory.join("pipe");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO can be made");
    let running = start().arg("--token-file").arg(&path).spawn();
    // This waits for the reader.
    let mut pipe = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("our own FIFO");
    pipe.write_all(mint().token.as_bytes()).expect("it is read");
    drop(pipe);
    assert_started(&running.wait(), "a late token");
    assert!(!is_there(&path), "a pipe is removed like a file");
}

// b10
#[test]
fn symlink_is_refused_and_its_target_is_left_alone() {
    let directory = TempDir::new();
    let wrapped = mint();
    let file = token_file(&directory, &wrapped.token);
    let link = directory.join("link");
    symlink(&file, &link).expect("a symlink can be made");
    let proxy = recorder();
    let run = start_at(&proxy.address())
        .arg("--token-file")
        .arg(&link)
        .run();
    assert_refused_unheard(&run, &proxy, 66, "a symlink");
    run.assert_stderr("symbolic link");
    assert!(is_there(&link) && is_there(&file));
    SERVICE.assert_unused(&wrapped, "a symlink");
}

// b11
#[test]
fn file_that_others_may_touch_is_refused_and_stays() {
    let directory = TempDir::new();
    let wrapped = mint();
    let path = token_file(&directory, &wrapped.token);
    for mode in [0o644, 0o640, 0o604, 0o420, 0o402, 0o410, 0o666] {
        set_mode(&path, mode);
        let proxy = recorder();
        let run = start_at(&proxy.address())
            .arg("--token-file")
            .arg(&path)
            .run();
        assert_refused_unheard(&run, &proxy, 66, &format!("mode {mode:o}"));
        run.assert_stderr(&format!("{mode:04o}"));
        assert!(is_there(&path), "mode {mode:o}");
    }
    SERVICE.assert_unused(&wrapped, "a file for all");
    set_mode(&path, 0o600);
    assert_started(
        &start().arg("--token-file").arg(&path).run(),
        "mode 600 is all right",
    );
}

// f2
#[test]
fn file_that_was_named_by_mistake_is_kept() {
    let directory = TempDir::new();
    let key = "-----BEGIN PRIVATE KEY-----\nbWMtY2FuYXJ5\n-----END PRIVATE KEY-----\n";
    for content in [
        key,
        "# a configuration\nlisten = 1\n",
        "{\"wrap_info\": null}",
    ] {
        let path = token_file(&directory, content);
        let proxy = recorder();
        let run = start_at(&proxy.address())
            .arg("--token-file")
            .arg(&path)
            .run();
        assert_refused_unheard(&run, &proxy, 65, content);
        assert_eq!(std::fs::read_to_string(&path).expect("it is kept"), content);
        std::fs::remove_file(path).expect("our own file");
    }
}

// b11
#[test]
fn pipe_that_others_may_touch_is_refused_and_stays() {
    let directory = TempDir::new();
    let path = directory.join("pipe");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO can be made");
    for mode in [0o666, 0o620, 0o604] {
        set_mode(&path, mode);
        let proxy = recorder();
        let run = start_at(&proxy.address())
            .arg("--token-file")
            .arg(&path)
            .run();
        assert_refused_unheard(&run, &proxy, 66, &format!("mode {mode:o}"));
        run.assert_stderr(&format!("{mode:04o}"));
        assert!(is_there(&path), "mode {mode:o}");
    }
}

#[test]
fn file_that_only_another_user_can_read_is_no_token() {
    if !report::is_root() {
        return;
    }
    let directory = TempDir::new();
    let wrapped = mint();
    let path = token_file(&directory, &wrapped.token);
    let proxy = recorder();
    let run = start_at(&proxy.address())
        .uid(1000)
        .arg("--token-file")
        .arg(&path)
        .run();
    assert_refused_unheard(&run, &proxy, 66, "another owner");
    assert!(is_there(&path));
    SERVICE.assert_unused(&wrapped, "another owner");
}

#[test]
fn token_file_of_another_owner_is_refused_and_stays() {
    if !report::is_root() {
        return;
    }
    let directory = TempDir::new();
    let wrapped = mint();
    let file = token_file(&directory, &wrapped.token);
    let pipe = directory.join("pipe");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO can be made");
    for path in [&file, &pipe] {
        chown(path, Some(1000), Some(1000)).expect("root may");
        let proxy = recorder();
        let run = start_at(&proxy.address())
            .arg("--token-file")
            .arg(path)
            .run();
        assert_refused_unheard(&run, &proxy, 66, "another owner");
        run.assert_stderr("belongs to user 1000");
        assert!(is_there(path), "{}", path.display());
    }
    SERVICE.assert_unused(&wrapped, "another owner");
    let own = start().uid(1000).arg("--token-file").arg(&file).run();
    assert_started(&own, "the owner's own start");
}

// b12
#[test]
fn file_of_a_gibibyte_is_refused() {
    let directory = TempDir::new();
    let path = token_file(&directory, "");
    let file = std::fs::File::options()
        .write(true)
        .open({
            set_mode(&path, 0o600);
            &path
        })
        .expect("our own file");
    file.set_len(1 << 30).expect("a sparse file takes no room");
    let proxy = recorder();
    let run = start_at(&proxy.address())
        .arg("--token-file")
        .arg(&path)
        .run();
    assert_refused_unheard(&run, &proxy, 65, "1 GiB");
}

// b12
#[test]
fn reading_stops_at_the_cap() {
    let directory = TempDir::new();
    let path = directory.join("pipe");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO can be made");
    let proxy = recorder();
    let running = start_at(&proxy.address())
        .arg("--token-file")
        .arg(&path)
        .spawn();
    let mut pipe = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("our own FIFO");
    let mut written = 0;
    // Rust ignores SIGPIPE: the write fails when the reader has had enough.
    while let Ok(count) = pipe.write(&[b'x'; 4096]) {
        written += count;
        assert!(written < 1 << 20, "it reads and reads");
    }
    assert_refused_unheard(&running.wait(), &proxy, 65, "an endless pipe");
}

/// Runs the binary in a mount namespace where `directory` is read-only.
fn read_only(directory: &TempDir, scratch: &TempDir) -> PathBuf {
    let quoted = |path: &Path| format!("'{}'", path.display());
    let of_a_user = if nix::unistd::getuid().is_root() {
        ""
    } else {
        "--map-root-user"
    };
    let inner = format!(
        "d={}; mount --bind \"$d\" \"$d\" && mount -o remount,bind,ro \"$d\" && exec \"$0\" \"$@\"",
        directory.path().display()
    );
    let script = scratch.write(
        "run",
        format!(
            "#!/bin/sh\nexec unshare --mount {of_a_user} /bin/sh -c {} {} \"$@\"\n",
            quoted(Path::new(&inner)),
            quoted(Path::new(env!("CARGO_BIN_EXE_anteroom")))
        ),
    );
    set_mode(&script, 0o755);
    script
}

// b13
#[test]
fn token_file_on_a_read_only_mount_is_used_with_a_warning() {
    let (directory, scratch) = (TempDir::new(), TempDir::new());
    let path = token_file(&directory, mint().token);
    let run = start()
        .program(read_only(&directory, &scratch))
        .arg("--token-file")
        .arg(&path)
        .run();
    assert_started(&run, "a read-only mount");
    assert!(is_there(&path), "it was not read-only");
    let kept: Vec<_> = run
        .events()
        .into_iter()
        .filter(|event| event["event"] == "token_file_kept")
        .collect();
    assert_eq!(kept.len(), 1, "{run:?}");
    assert_eq!(kept[0]["level"], "warn");
    let message = openbao::text(&kept[0]["message"]);
    assert!(
        message.contains(&path.display().to_string()) && message.contains("cannot remove"),
        "{message}"
    );
}

// b13
#[test]
fn token_file_in_anothers_directory_is_used_with_a_warning() {
    if !report::is_root() {
        return;
    }
    let directory = TempDir::new();
    let path = token_file(&directory, mint().token);
    chown(&path, Some(1000), Some(1000)).expect("root can give files away");
    let run = start().uid(1000).arg("--token-file").arg(&path).run();
    assert_started(&run, "a directory of root's");
    run.assert_stderr("token_file_kept");
    assert!(is_there(&path));
}

// b14
#[test]
fn two_sources_at_once_are_ambiguous_and_neither_is_touched() {
    let directory = TempDir::new();
    let (one, other) = (mint(), mint());
    let path = token_file(&directory, &other.token);
    let text = path.display().to_string();
    for (what, arguments, environment) in [
        ("variable and flag", vec!["--token-file", &text], vec![]),
        (
            "two variables",
            vec![],
            vec![("ANTEROOM_TOKEN_FILE", text.as_str())],
        ),
        (
            "variable and standard input",
            vec!["--token-file", "-"],
            vec![],
        ),
    ] {
        let proxy = recorder();
        let mut start = start_at(&proxy.address()).token(&one).args(arguments);
        for (name, value) in environment {
            start = start.env(name, value);
        }
        let run = start.stdin(other.token.as_str()).run();
        assert_refused_unheard(&run, &proxy, 64, what);
        run.assert_stderr("two wrapping tokens");
    }
    assert!(is_there(&path));
    SERVICE.assert_unused(&one, "two sources");
    SERVICE.assert_unused(&other, "two sources");
}

#[test]
fn flag_names_another_file_than_the_variable_and_wins() {
    let directory = TempDir::new();
    let path = token_file(&directory, mint().token);
    let run = start()
        .env("ANTEROOM_TOKEN_FILE", directory.join("nowhere"))
        .arg("--token-file")
        .arg(&path)
        .run();
    assert_started(&run, "the flag wins");
}

// b15
#[test]
fn application_reads_nothing_after_a_token_on_standard_input() {
    let run = start()
        .args(["--token-file", "-"])
        .stdin(mint().token)
        .shell("readlink /proc/self/fd/0; cat")
        .run();
    run.assert_code(0);
    assert_eq!(run.stdout, "/dev/null\n");
}

// b15
#[test]
fn application_has_standard_input_if_no_token_comes_through_it() {
    let run = start().token(mint()).stdin("for you").shell("cat").run();
    run.assert_code(0);
    assert_eq!(run.stdout, "for you");
}

// b15
#[test]
fn closed_standard_input_is_no_token() {
    let proxy = recorder();
    let run = start_at(&proxy.address())
        .args(["--token-file", "-"])
        .pre_exec(|| {
            let _ = nix::unistd::close(0);
            Ok(())
        })
        .run();
    // std opens /dev/null in its place.
    assert_refused_unheard(&run, &proxy, 65, "closed");
}

#[test]
fn token_stays_good_while_the_start_waits_for_vault() {
    let wrapped = mint();
    let proxy = FaultProxy::start(SERVICE.admin.address(), |_| Fault::CutBefore(Cut::Reset));
    let run = start_at(&proxy.address())
        .args(["--deadline", "500ms"])
        .token(&wrapped)
        .run();
    run.assert_refused(69);
    SERVICE.assert_unused(&wrapped, "Vault was away");
}

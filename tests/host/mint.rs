//! `anteroom mint` on a real OpenBao: what it prints, what it makes the token with, and how it fails.
#![allow(
    clippy::disallowed_methods,
    reason = "a test writes token files and looks at processes"
)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::openbao::text;
use crate::support::{
    Admin, Anteroom, Cut, Fault, FaultProxy, OpenBao, Options, Reply, Run, Service, TempDir,
    assert_started, free_port, report, repository, unique,
};

/// No environment but this, and no manifest.
fn mint(address: &str) -> Anteroom {
    Anteroom::new()
        .without_secrets_dir()
        .arg("mint")
        .env("VAULT_ADDR", address)
}

/// A mint with the administrator's token.
fn as_root(admin: &Admin) -> Anteroom {
    mint(admin.address()).env("VAULT_TOKEN", admin.root_token())
}

/// A token that may make children with the service's policy, and what this policy grants besides.
fn parent(service: &Service, more: &str) -> String {
    let name = unique("parent");
    let create = r#"path "auth/token/create" { capabilities = ["update"] }"#;
    service.admin.policy(&name, &format!("{create}\n{more}"));
    let body = json!({"policies": [name, service.policy], "ttl": "1h"});
    let made = service.admin.ok("POST", "auth/token/create", body);
    text(&made["auth"]["client_token"])
}

/// Fails unless a wrapping token, alone and on a line of its own, was printed; gives it.
#[track_caller]
fn token(run: &Run) -> String {
    run.assert_code(0);
    let token = run.stdout.strip_suffix('\n').unwrap_or_default();
    let is_token = token.len() > 10 && token.chars().all(|c| c.is_ascii_graphic());
    assert!(is_token, "{run:?}");
    assert_eq!(run.stderr, "");
    token.to_owned()
}

/// Fails unless nothing was printed, and one event says why.
#[track_caller]
fn assert_none(run: &Run, code: i32, words: &[&str]) {
    run.assert_code(code);
    assert_eq!(run.stdout, "", "{run:?}");
    for word in words {
        run.assert_stderr(word);
    }
}

/// The server's description of the token in this wrapping token, which is used up.
#[track_caller]
fn unwrapped(admin: &Admin, token: &str) -> Value {
    let answer = admin.unwrap(token);
    assert_eq!(answer.status, 200, "{}", answer.json);
    let client = text(&answer.json["auth"]["client_token"]);
    let found = admin
        .api("GET", "auth/token/lookup-self")
        .token(&client)
        .send();
    found.json["data"].clone()
}

/// A file with this mode in a directory of its own.
fn file(directory: &TempDir, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
    let path = directory.write(name, content);
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod of our own file");
    path
}

/// A server that takes connections and never answers.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    (listener, format!("http://{address}"))
}

// What is printed

#[test]
fn shell_hands_a_minted_token_to_a_start() {
    let service = Service::new();
    let binary = env!("CARGO_BIN_EXE_anteroom");
    let script = format!(
        "ANTEROOM_TOKEN=$({binary} mint --role {} --meta app={}) exec \"$0\" \"$@\"",
        service.token_role, service.app
    );
    let run = Anteroom::new()
        .under(["/bin/sh", "-c", &script])
        .manifest(service.manifest())
        .env("VAULT_ADDR", service.admin.address())
        .env("VAULT_TOKEN", service.admin.root_token())
        .shell("echo the application runs")
        .run();
    assert_started(&run, "minted by the shell");
}

#[test]
fn output_is_exactly_a_token_that_lives_for_thirty_seconds() {
    let service = Service::new();
    let admin = &service.admin;
    for level in ["info", "error"] {
        let run = as_root(admin)
            .args(["--role", &service.token_role])
            .args(["--log-level", level])
            .run();
        let token = token(&run);
        let answer = admin
            .api("POST", "sys/wrapping/lookup")
            .token(&token)
            .send();
        let data = &answer.json["data"];
        assert_eq!(data["creation_ttl"], 30, "{data}");
        let path = format!("auth/token/create/{}", service.token_role);
        assert_eq!(data["creation_path"], path.as_str());
        let made = unwrapped(admin, &token);
        assert_eq!(made["creation_ttl"], 3600, "{made}");
        assert_eq!(made["meta"], Value::Null);
        assert_eq!(made["policies"], json!([service.policy, "default"]));
    }
}

#[test]
fn token_gets_the_properties_that_were_asked_for() {
    let service = Service::new();
    let admin = &service.admin;
    let other = unique("other");
    service.set_token_role(json!({"allowed_policies": [service.policy, other]}));
    let run = as_root(admin)
        .args(["--role", &service.token_role, "--policy", &other])
        .args(["--meta", "app=timeline", "--meta", "note=a=b \"c\"\n"])
        .args(["--ttl", "20m", "--wrap-ttl", "1m30s"])
        .run();
    let token = token(&run);
    let wrapping = admin
        .api("POST", "sys/wrapping/lookup")
        .token(&token)
        .send();
    assert_eq!(wrapping.json["data"]["creation_ttl"], 90);
    let made = unwrapped(admin, &token);
    assert_eq!(made["creation_ttl"], 1200);
    assert_eq!(made["policies"], json!(["default", other]));
    assert_eq!(
        made["meta"],
        json!({"app": "timeline", "note": "a=b \"c\"\n"})
    );
}

#[test]
fn token_without_a_role_is_a_child_of_the_issuing_token() {
    let service = Service::new();
    let run = mint(service.admin.address())
        .env("VAULT_TOKEN", parent(&service, ""))
        .args(["--policy", &service.policy])
        .run();
    let made = unwrapped(&service.admin, &token(&run));
    assert_eq!(made["path"], "auth/token/create");
    assert_eq!(made["policies"], json!([service.policy, "default"]));
}

#[test]
fn root_issues_without_a_role_only_when_asked_for() {
    let service = Service::new();
    let admin = &service.admin;
    let proxy = FaultProxy::recording(admin.address());
    let asked = |token: &str, words: &[&str]| {
        mint(&proxy.address())
            .env("VAULT_TOKEN", token)
            .args(["--policy", &service.policy])
            .args(words)
            .run()
    };
    let run = asked(admin.root_token(), &[]);
    let ways_out = ["the issuing token is root's", "--role", "--any-policy"];
    assert_none(&run, 64, &ways_out);
    assert_eq!(run.events().len(), 1, "{run:?}");
    assert_eq!(proxy.count("auth/token/create"), 0, "nothing was minted");

    let made = unwrapped(admin, &token(&asked(admin.root_token(), &["--any-policy"])));
    assert_eq!(made["policies"], json!([service.policy, "default"]));
    // What may not even be looked up is no root.
    let deny = r#"path "auth/token/lookup-self" { capabilities = ["deny"] }"#;
    for more in ["", deny] {
        let run = asked(&parent(&service, more), &[]);
        let made = unwrapped(admin, &token(&run));
        assert_eq!(made["policies"], json!([service.policy, "default"]));
    }
    assert_none(&asked("s.none", &[]), 77, &[]);
}

#[test]
fn issuing_tokens_own_power_is_minted_only_when_asked_for() {
    let admin: &Admin = OpenBao::shared();
    let asked = |words: &[&str]| as_root(admin).args(words).run();
    for words in [
        &[][..],
        &["--ttl", "5m"],
        &["--policy", "root"],
        &["--policy", "x", "--policy", " root "],
        &["--policy", "Root"],
    ] {
        let run = asked(words);
        assert_none(&run, 64, &["--role", "--any-policy"]);
    }
    // Before anything is read, let alone sent.
    let nowhere = mint("http://127.0.0.1:1").run();
    assert_none(&nowhere, 64, &["--any-policy"]);
    let both = asked(&["--any-policy", "--role", "timeline"]);
    assert_none(&both, 64, &["--any-policy"]);

    for words in [&[][..], &["--policy", "root"]] {
        let run = asked(&[&["--any-policy"][..], words].concat());
        let made = unwrapped(admin, &token(&run));
        assert_eq!(made["policies"], json!(["root"]));
    }
}

#[test]
fn json_output_is_that_of_the_server_and_a_start_takes_it() {
    let service = Service::new();
    let printed = |format: &str| {
        let run = as_root(&service.admin)
            .args(["--role", &service.token_role, "--format", format])
            .run();
        run.assert_code(0);
        assert_eq!(run.stderr, "");
        assert_eq!(run.stdout.lines().count(), 1, "{run:?}");
        run.stdout
    };
    let json = printed("json");
    let parsed: Value = serde_json::from_str(&json).expect("it is JSON");
    let theirs = &service.mint().json["wrap_info"];
    let names = |value: &Value| -> Vec<String> {
        let object = value["wrap_info"].as_object().or(value.as_object());
        object.expect("an object").keys().cloned().collect()
    };
    assert_eq!(names(&parsed), names(theirs));
    let info = &parsed["wrap_info"];
    for (name, value) in theirs.as_object().expect("an object") {
        let is_same_kind = value.is_number() == info[name].is_number();
        assert!(is_same_kind && !info[name].is_null(), "{name}: {info}");
    }
    assert_eq!(info["ttl"], 30);
    let accessor = text(&info["wrapped_accessor"]);
    assert!(service.admin.accessor_exists(&accessor));
    let start = |handed: &str| {
        let run = Anteroom::new()
            .manifest(service.manifest())
            .token(handed)
            .shell("echo the application runs")
            .run();
        assert_started(&run, handed);
    };
    start(&json);

    let line = printed("env");
    let value = line.strip_prefix("ANTEROOM_TOKEN=").expect("a variable");
    start(value.trim_end());
}

#[test]
fn token_that_cannot_be_printed_is_an_error_with_its_accessor() {
    let service = Service::new();
    let directory = TempDir::new();
    let pipe = directory.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("our own directory");
    for script in [
        "exec \"$0\" \"$@\" >/dev/full",
        // A pipe without a reader any more.
        "exec 3<>\"$PIPE\"; exec \"$0\" \"$@\" >\"$PIPE\" 3<&-",
    ] {
        let run = as_root(&service.admin)
            .under(["/bin/sh", "-c", script])
            .env("PIPE", &pipe)
            .args(["--role", &service.token_role])
            .run();
        assert_none(&run, 71, &["cannot be printed", "revoked by its accessor"]);
        let accessor = text(&run.events()[0]["wrapped_accessor"]);
        assert!(service.admin.accessor_exists(&accessor), "{run:?}");
    }
}

// The issuing token

#[test]
fn issuing_token_comes_from_a_variable_or_a_file_or_a_login() {
    let service = Service::new();
    let admin = &service.admin;
    let root = admin.root_token();
    let directory = TempDir::new();
    let ours = file(&directory, "issuer", format!("{root}\n"), 0o400);
    file(&directory, ".vault-token", root, 0o600);
    let plain = || mint(admin.address()).args(["--role", &service.token_role]);
    let of_login = || plain().env("HOME", directory.path());
    let calls = [
        plain().env("VAULT_TOKEN", root),
        plain().env("BAO_TOKEN", root),
        // As for every other pair of theirs.
        plain().env("BAO_TOKEN", root).env("VAULT_TOKEN", "s.none"),
        // A variable without a value counts as not set.
        plain().env("BAO_TOKEN", "").env("VAULT_TOKEN", root),
        plain().arg("--issuer-token-file").arg(&ours),
        plain().arg("--issuer-token-file").arg(file(
            &directory,
            "crlf",
            format!("{root}\r\n"),
            0o600,
        )),
        of_login(),
        // What is given wins over a login.
        of_login().arg("--issuer-token-file").arg(&ours),
        of_login().env("VAULT_TOKEN", root).env("BAO_TOKEN", ""),
    ];
    for call in calls {
        assert_eq!(admin.lookup_wrapping(&token(&call.run())), 200);
    }
    let left = fs::read_to_string(&ours).expect("it is left alone");
    assert_eq!(left.trim_end(), root);
    let denied = of_login().env("VAULT_TOKEN", "s.none").run();
    assert_none(&denied, 77, &[]);
}

#[test]
fn mint_without_an_issuing_token_is_66_and_with_two_64() {
    let address = OpenBao::shared().address();
    let directory = TempDir::new();
    let missing = ["no issuing token", "--issuer-token-file", "login"];
    assert_none(&mint(address).arg("--any-policy").run(), 66, &missing);
    let home = || {
        mint(address)
            .arg("--any-policy")
            .env("HOME", directory.path())
    };
    assert_none(&home().run(), 66, &missing);
    let both = ["two issuing tokens", "BAO_TOKEN"];
    let path = file(&directory, "issuer", "s.canary", 0o400);
    let run = home()
        .env("BAO_TOKEN", "s.canary")
        .arg("--issuer-token-file")
        .arg(&path)
        .run();
    assert_none(&run, 64, &both);
    run.assert_no(["s.canary"]);
}

#[test]
fn token_file_that_is_open_to_others_or_no_file_is_66() {
    let address = OpenBao::shared().address();
    let directory = TempDir::new();
    let good = file(&directory, "good", "s.canary", 0o400);
    let link = directory.join("link");
    symlink(&good, &link).expect("our own directory");
    let fifo = directory.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("our own directory");
    let cases = [
        (file(&directory, "group", "s.canary", 0o640), "0640"),
        (file(&directory, "others", "s.canary", 0o604), "0604"),
        (link, "symbolic link"),
        (fifo, "no regular file"),
        (directory.path().to_owned(), "no regular file"),
        (directory.join("nothing"), "No such file"),
        ("-".into(), "No such file"),
    ];
    for (path, reason) in cases {
        let run = mint(address)
            .arg("--any-policy")
            .arg("--issuer-token-file")
            .arg(&path)
            .run();
        assert_none(&run, 66, &[reason, &path.display().to_string()]);
        run.assert_no(["s.canary"]);
    }
    let home = TempDir::new();
    file(&home, ".vault-token", "s.canary", 0o644);
    let run = mint(address)
        .arg("--any-policy")
        .env("HOME", home.path())
        .run();
    assert_none(&run, 66, &["0644", ".vault-token"]);
}

#[test]
fn issuing_token_in_another_users_file_is_66() {
    if !report::is_root() {
        return;
    }
    let directory = TempDir::new();
    let path = file(&directory, "issuer", "s.canary", 0o400);
    std::os::unix::fs::chown(&path, Some(1000), Some(1000)).expect("root may");
    let run = mint(OpenBao::shared().address())
        .args(["--any-policy", "--issuer-token-file"])
        .arg(&path)
        .run();
    assert_none(
        &run,
        66,
        &["belongs to user 1000", &path.display().to_string()],
    );
}

#[test]
fn malformed_issuing_token_is_65_and_is_not_shown() {
    let address = OpenBao::shared().address();
    let directory = TempDir::new();
    let long = format!("s.canary{}", "x".repeat(5000));
    let inputs = [
        "",
        "\n",
        "s.canary two",
        "s.canary\n\n",
        "s.can\u{e9}ary",
        "{\"token\": \"s.canary\"}",
        &long,
    ];
    for (number, input) in inputs.into_iter().enumerate() {
        let path = file(&directory, &number.to_string(), input, 0o400);
        let run = mint(address)
            .arg("--any-policy")
            .arg("--issuer-token-file")
            .arg(&path)
            .run();
        assert_none(&run, 65, &["malformed"]);
        run.assert_no(["canary"]);
        if !input.is_empty() {
            let run = mint(address)
                .arg("--any-policy")
                .env("VAULT_TOKEN", input)
                .run();
            assert_none(&run, 65, &["malformed", "VAULT_TOKEN"]);
            run.assert_no(["canary"]);
        }
    }
}

// Mistakes

#[test]
fn every_mistake_of_the_command_line_is_64() {
    let admin: &Admin = OpenBao::shared();
    let calls: [(&[&str], &str); 17] = [
        (&["--role", "a/b"], "no `/`"),
        (&["--role", ""], "--role"),
        (&["--role", ".."], "--role"),
        (&["--role", "a?b"], "--role"),
        (&["--role", "a%2fb"], "--role"),
        (&["--policy", ""], "--policy"),
        (&["--meta", "app"], "KEY=VALUE"),
        (&["--meta", "=timeline"], "KEY=VALUE"),
        (&["--meta", "app=a", "--meta", "app=a"], "given twice"),
        (&["--ttl", "0"], "more than zero"),
        (&["--ttl", "soon"], "--ttl"),
        (&["--wrap-ttl", "0s"], "more than zero"),
        (&["--wrap-ttl", "500ms"], "whole seconds"),
        (&["--wrap-ttl", "-1s"], "-1"),
        (&["--format", "yaml"], "yaml"),
        (&["--token-file", "x"], "--token-file"),
        (&["--", "true"], "true"),
    ];
    for (arguments, word) in calls {
        let run = as_root(admin).args(arguments).run();
        assert_none(&run, 64, &[word]);
    }
    let dry = as_root(admin)
        .arg("--any-policy")
        .env("ANTEROOM_DRY_RUN", "1")
        .run();
    assert_none(&dry, 64, &["no dry run of a mint"]);
    assert!(!dry.stderr.contains("application"), "{dry:?}");
}

#[test]
fn address_of_vault_follows_the_rules_of_a_start() {
    let admin: &Admin = OpenBao::shared();
    let port = admin.address().rsplit(':').next().unwrap_or_default();
    let with = |variables: &[(&str, &str)]| {
        let call = Anteroom::new()
            .without_secrets_dir()
            .env("VAULT_TOKEN", admin.root_token())
            .args(["mint", "--any-policy"]);
        let call = variables
            .iter()
            .fold(call, |call, (name, value)| call.env(name, value));
        call.run()
    };
    let other = format!("http://example.io:{port}");
    assert_none(&with(&[]), 78, &["no address", "VAULT_ADDR"]);
    let run = with(&[("VAULT_ADDR", &other)]);
    assert_none(&run, 78, &["is not https"]);
    assert!(!run.stderr.contains("allow_http"), "{run:?}");
    let run = with(&[
        ("VAULT_ADDR", "vault"),
        ("VAULT_NAMESPACE", "a//b"),
        ("VAULT_CLIENT_TIMEOUT", "never"),
        ("VAULT_TLS_SERVER_NAME", "a b"),
    ]);
    for name in ["ADDR", "NAMESPACE", "CLIENT_TIMEOUT", "TLS_SERVER_NAME"] {
        assert_none(&run, 78, &[&format!("environment, VAULT_{name}:")]);
    }
    let missing = [
        ("VAULT_ADDR", "https://127.0.0.1"),
        ("VAULT_CACERT", "/no/ca.pem"),
    ];
    assert_none(&with(&missing), 78, &["/no/ca.pem", "VAULT_CACERT"]);
    let both = [("VAULT_ADDR", "vault"), ("BAO_ADDR", admin.address())];
    token(&with(&both));
}

#[test]
fn issuing_token_goes_over_tls_to_a_known_server_alone() {
    let server = OpenBao::start(Options {
        tls: true,
        ..Options::default()
    });
    let ca = server.ca_pem_path().to_owned();
    let run = as_root(&server)
        .arg("--any-policy")
        .env("VAULT_CACERT", &ca)
        .run();
    token(&run);
    let run = as_root(&server)
        .arg("--any-policy")
        .env("BAO_CACERT", &ca)
        .run();
    token(&run);
    let unknown = as_root(&server)
        .arg("--any-policy")
        .env("VAULT_SKIP_VERIFY", "true")
        .run();
    assert_none(
        &unknown,
        76,
        &["VAULT_SKIP_VERIFY is ignored", "VAULT_CACERT"],
    );
    let other = as_root(&server)
        .arg("--any-policy")
        .env("VAULT_CACERT", &ca)
        .env("VAULT_TLS_SERVER_NAME", "other.example.io")
        .run();
    assert_none(&other, 76, &["other.example.io"]);
}

#[test]
fn mint_in_a_namespace_makes_the_token_there() {
    let admin = OpenBao::shared().namespace(&unique("mint"));
    let service = Service::on(&admin);
    let run = as_root(&admin)
        .env(
            "VAULT_NAMESPACE",
            admin.namespace_path().unwrap_or_default(),
        )
        .args(["--role", &service.token_role])
        .run();
    let run = Anteroom::new()
        .manifest(service.manifest())
        .token(token(&run))
        .shell("echo the application runs")
        .run();
    assert_started(&run, "minted in a namespace");
}

#[test]
fn refusal_by_vault_has_the_code_and_the_hint_of_a_start() {
    let service = Service::new();
    let admin = &service.admin;
    let absent = as_root(admin).args(["--role", &unique("absent")]).run();
    assert_none(&absent, 78, &["unknown role", "--role"]);
    let policy = as_root(admin)
        .args(["--role", &service.token_role, "--policy", "elsewhere"])
        .run();
    assert_none(&policy, 78, &["elsewhere", "--policy"]);
    let client = admin.client_token(&service.mint().token);
    let path = format!("auth/token/create/{}", service.token_role);
    for issuing in [client.as_str(), "s.none"] {
        let run = mint(admin.address())
            .env("VAULT_TOKEN", issuing)
            .args(["--role", &service.token_role])
            .run();
        let grant = format!("`update` on {path}");
        assert_none(&run, 77, &[&grant, "anteroom policy --minter"]);
        run.assert_no([issuing]);
    }
}

#[test]
fn absent_or_foreign_vault_has_the_code_of_a_start() {
    let run = |address: &str| {
        mint(address)
            .arg("--any-policy")
            .env("VAULT_TOKEN", "s.canary")
            .args(["--deadline", "1s"])
            .run()
    };
    let free = free_port();
    let away = run(&format!("http://127.0.0.1:{free}"));
    assert_none(&away, 69, &["from this host"]);
    let (_listener, address) = silent();
    assert_none(&run(&address), 69, &["not available"]);

    let answering = |reply: fn() -> Reply| {
        let proxy = FaultProxy::start(OpenBao::shared().address(), move |_| Fault::Answer(reply()));
        run(&proxy.address())
    };
    let none = answering(|| Reply::vault(&json!({"auth": {"client_token": "s.canary-2"}})));
    assert_none(&none, 76, &["no wrapping token"]);
    none.assert_no(["s.canary"]);
    let cut = FaultProxy::start(OpenBao::shared().address(), |_| {
        Fault::CutInside(10, Cut::Close)
    });
    let cut = run(&cut.address());
    assert_none(&cut, 69, &[]);
    cut.assert_no(["s.canary"]);
}

#[test]
fn signal_ends_a_mint_that_waits() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (listener, address) = silent();
        let run = mint(&address)
            .arg("--any-policy")
            .env("VAULT_TOKEN", "s.canary")
            .spawn();
        let _connected = listener.accept().expect("it connects");
        run.kill(signal);
        let run = run.wait();
        assert_none(&run, 128 + signal as i32, &[]);
        assert!(run.elapsed < Duration::from_secs(20), "{run:?}");
    }
}

// Secrecy

// t15
#[test]
fn no_token_appears_anywhere_but_on_standard_output() {
    let service = Service::new();
    let admin = &service.admin;
    for format in ["human", "json"] {
        let good = as_root(admin)
            .args(["--role", &service.token_role, "--log-level", "debug"])
            .args(["--log", format])
            .run();
        good.assert_code(0);
        let token = good.stdout.trim_end();
        for secret in [token, admin.root_token()] {
            assert!(!good.stderr.contains(secret), "{good:?}");
        }
        good.assert_stderr("request");
        let bad = as_root(admin)
            .args(["--role", &unique("absent"), "--log-level", "debug"])
            .args(["--log", format])
            .run();
        bad.assert_code(78).assert_no([admin.root_token()]);
    }
}

// t6
#[test]
fn issuing_token_is_in_no_command_line_and_no_readable_memory() {
    let canary = "s.canary-of-the-issuer";
    let directory = TempDir::new();
    let path = file(&directory, "issuer", canary, 0o400);
    std::os::unix::fs::chown(&path, Some(1000), Some(1000)).expect("root can give files away");
    let calls = [
        |call: Anteroom, _: &PathBuf| call.env("VAULT_TOKEN", "s.canary-of-the-issuer"),
        |call: Anteroom, path: &PathBuf| call.arg("--issuer-token-file").arg(path),
    ];
    for (index, call) in calls.into_iter().enumerate() {
        let (listener, address) = silent();
        let run = call(mint(&address).arg("--any-policy"), &path)
            .uid(1000)
            .spawn();
        // It has read the token by then.
        let _connected = listener.accept().expect("it connects");
        let at = |name: &str| PathBuf::from(format!("/proc/{}/{name}", run.pid()));
        let arguments = fs::read(at("cmdline")).expect("every user may");
        assert!(!String::from_utf8_lossy(&arguments).contains(canary));
        // Of a process that is not dumpable these belong to root: its own user reads neither (proc(5)).
        for name in ["environ", "mem"] {
            let about = fs::metadata(at(name)).expect("it is there");
            assert_eq!(about.uid(), 0, "{name}");
        }
        assert_eq!(run.children(), Vec::<i32>::new());
        if index == 1 {
            let environment = fs::read(at("environ")).expect("root may");
            assert!(!String::from_utf8_lossy(&environment).contains(canary));
        }
        run.kill(Signal::SIGTERM);
        run.wait().assert_code(143).assert_no([canary]);
    }
}

// Documents

#[test]
fn flags_of_mint_and_policy_are_those_of_their_document() {
    let document = fs::read_to_string(repository().join("docs/policies.md")).expect("it is there");
    let help = |task: &str| {
        let run = Anteroom::new()
            .without_secrets_dir()
            .args([task, "--help"])
            .run();
        run.assert_code(0);
        run.stdout
    };
    let table = document
        .split("## anteroom mint")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("it explains mint");
    let flags = |text: &str| -> std::collections::BTreeSet<String> {
        let starts = text.match_indices("`--").map(|(at, _)| &text[at + 1..]);
        starts
            .filter_map(|rest| rest.split([' ', '`']).next())
            .map(str::to_owned)
            .collect()
    };
    let all = help("mint");
    let own: std::collections::BTreeSet<String> = all
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--"))
        .filter_map(|rest| rest.split(' ').next())
        .map(|name| format!("--{name}"))
        .filter(|name| {
            let shared = [
                "manifest",
                "secrets-dir",
                "lifecycle",
                "deadline",
                "log",
                "log-level",
            ];
            !shared.contains(&&name[2..])
        })
        .collect();
    assert_eq!(flags(table), own);
    assert!(help("policy").contains("--minter") && document.contains("--minter"));
}

//! Presets: each program reads the files that are made for it, and logs in with them.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts the programs that read the files"
)]

mod clouds;
mod kafka;
mod sql;
mod urls;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::scene::{STAY, Scene};
use crate::support::{Anteroom, Manifest, Run, Service, assert_revoked, core, repository};

/// A password with the ends of words, values, quotes and comments of one format or another, on one line.
const PASSWORD: &str = " 'canary\"`p\\w\\\\\\:/@#%41$;&=?+,${HOME} #x ;y [z] {{a}} %} ü€\\";

/// A service whose dependency of this name has these keys and this answer, and the manifest with nothing else in it.
fn service(name: &str, dependency: Value, answer: Value) -> (Service, Manifest) {
    let service = Service::new();
    let path = service.legacy_path();
    service.admin.kv_put(&path, answer);
    let manifest = service.manifest().bare();
    let manifest = manifest
        .set("dependencies", json!({name: dependency}))
        .set_at(&["dependencies", name, "path"], path);
    (service, manifest)
}

/// Starts such a service.
fn start(name: &str, dependency: Value, answer: Value) -> Run {
    let (service, manifest) = service(name, dependency, answer);
    let run = Anteroom::new()
        .manifest(manifest)
        .token(service.mint())
        .shell("echo started")
        .keep_files()
        .run();
    run.assert_code(0).assert_no(["canary"]);
    run
}

/// Runs a program with nothing in its environment but PATH and these variables.
#[track_caller]
fn run_with(words: &[&str], variables: &[(&str, &Path)]) -> Result<String, String> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(variables.iter().copied());
    let output = command.output();
    let output =
        output.unwrap_or_else(|error| panic!("{}: {error}; run scripts/install", words[0]));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stdout) + &text(&output.stderr))
    }
}

/// Runs a program of `tests/files/java` with these options and jars.
#[track_caller]
fn run_java(options: &[&str], program: &str, jars: &str, arguments: &[&str]) -> String {
    let _core = core();
    let program = repository().join("tests/files/java").join(program);
    let program = program.display().to_string();
    let words = [&["java"], options, &["-cp", jars, &program], arguments].concat();
    run_with(&words, &[]).unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Runs a text of Python, with the modules of the system.
#[track_caller]
fn run_python(script: &str, arguments: &[&str], variables: &[(&str, &Path)]) -> String {
    let words = [&["/usr/bin/python3", "-c", script], arguments].concat();
    run_with(&words, variables).unwrap_or_else(|error| panic!("{error}"))
}

/// Takes a URL apart with Python: scheme, user, password, host, port, path and query.
#[track_caller]
fn parse_url(url: &str) -> Value {
    let script = "import sys, json, urllib.parse as p; u = p.urlsplit(sys.argv[1]); d = p.unquote; \
        print(json.dumps([u.scheme, d(u.username), d(u.password), u.hostname, u.port, d(u.path), u.query]))";
    serde_json::from_str(&run_python(script, &[url], &[])).expect("JSON")
}

#[test]
fn files_of_a_preset_are_named_by_check() {
    let run = Anteroom::new()
        .manifest(
            super::dry_run::manifest()
                .set(
                    "dependencies.orders-db",
                    json!({"path": "database/creds/orders"}),
                )
                .set("dependencies.orders-db.as", "postgresql")
                .set("dependencies.orders-db.host", "db")
                .set("dependencies.orders-db.dbname", "orders"),
        )
        .without_secrets_dir()
        .args(["check"])
        .run();
    run.assert_code(0);
    for name in [
        "username",
        "password",
        "pgpass",
        "pg_service.conf",
        "url",
        "jdbc.properties",
    ] {
        let row = format!("  file        0400 orders-db/{name}\n");
        assert!(run.stdout.contains(&row), "{name}: {}", run.stdout);
    }
}

#[test]
fn dry_run_writes_the_files_of_a_preset() {
    let manifest = super::dry_run::manifest()
        .set("dependencies.db.as", "mysql")
        .set("dependencies.db.host", "db")
        .set("dependencies.db.dbname", "orders")
        .set("dependencies.cache.path", "secret/data/cache")
        .set("dependencies.cache.as", "redis")
        .set("dependencies.cache.host", "cache");
    let run = super::dry_run::dry_run()
        .manifest(manifest)
        .shell("echo started")
        .run();
    run.assert_code(0);
    let expected = "mysql://dev:canary-sample-1234@db:3306/orders";
    assert_eq!(run.file("db/url").text(), expected);
    let expected = "redis://sample-cache-username:sample-cache-password@cache:6379/0";
    assert_eq!(run.file("cache/url").text(), expected);
}

#[test]
fn fields_that_may_come_are_used_beside_declared_ones() {
    let keys = json!({"as": "aws", "fields": ["access_key", "secret_key", "arn"]});
    let answer = json!({"access_key": "A", "secret_key": "S", "security_token": "T", "arn": "R", "more": "M"});
    let run = start("cloud", keys, answer);
    let credentials = run.file("cloud/credentials");
    assert!(credentials.text().contains("\naws_session_token = T\n"));
    let names: Vec<String> = run.files().into_keys().collect();
    for (name, is_there) in [
        ("security_token", true),
        ("arn", true),
        ("expiration", false),
        ("more", false),
    ] {
        assert_eq!(
            names.contains(&format!("cloud/{name}")),
            is_there,
            "{names:?}"
        );
    }
    let own = json!({"user.txt": "{{ username | default('none') }}"});
    let keys = json!({"as": "redis", "host": "cache", "fields": ["password"], "files": own, "sample": {"username": "x"}});
    for (answer, url, user) in [
        (
            json!({"username": "u", "password": "p"}),
            "redis://u:p@cache:6379/0",
            "u",
        ),
        (
            json!({"password": "p"}),
            "redis://default:p@cache:6379/0",
            "none",
        ),
    ] {
        let run = start("cache", keys.clone(), answer);
        assert_eq!(run.file("cache/url").text(), url);
        assert_eq!(run.file("cache/user.txt").text(), user);
    }
    // A field that is declared must be there, also one that the preset goes without.
    let keys = json!({"as": "redis", "host": "cache", "fields": ["password", "username"]});
    let (service, manifest) = service("cache", keys, json!({"password": "p"}));
    let token = service.mint();
    let call = Anteroom::new().manifest(manifest).token(&token);
    let run = call.shell("echo started").run();
    run.assert_stderr("`username`");
    assert_revoked(&run, 78, &service, &token);
}

#[test]
fn preset_that_lacks_a_key_is_78_with_the_token_unused() {
    let service = Service::new();
    let token = service.mint();
    let manifest = service.manifest();
    let run = Anteroom::new()
        .manifest(manifest.set("dependencies.legacy.as", "redis"))
        .token(&token)
        .shell("echo started")
        .run();
    run.assert_refused(78)
        .assert_stderr("`host` in [dependencies.legacy] is missing: the preset redis needs it");
    service.assert_unused(&token, "a preset without its key");
}

#[test]
fn value_that_a_preset_cannot_hold_is_78_with_its_file() {
    for (value, file) in [
        (
            "canary\nx",
            "legacy/pgpass (of the preset postgresql), line 1: a value for `pgpass` holds a line end",
        ),
        (
            "canary ",
            "legacy/pg_service.conf (of the preset postgresql), line 6: a value for `pgservice`",
        ),
    ] {
        let service = Service::new();
        let answer = json!({"username": "u", "password": value});
        service.admin.kv_put(&service.legacy_path(), answer);
        let token = service.mint();
        let manifest = service.manifest();
        let run = Anteroom::new()
            .manifest(
                manifest
                    .set("dependencies.legacy.as", "postgresql")
                    .set("dependencies.legacy.host", "db")
                    .set("dependencies.legacy.dbname", "orders"),
            )
            .token(&token)
            .shell("echo started")
            .run();
        assert_revoked(&run, 78, &service, &token);
        run.assert_no(["canary"]).assert_stderr(file);
    }
}

#[test]
fn files_of_a_preset_follow_a_secret_that_changed() {
    let mut scene = Scene::start(Service::new(), STAY, |manifest| {
        manifest
            .remove("certificate")
            .remove("dependencies.payment")
            .set("dependencies.legacy.refresh", "1s")
            .set("dependencies.legacy.as", "redis")
            .set("dependencies.legacy.host", "cache")
    });
    let first = format!("redis://legacy:{}@cache:6379/0", Service::LEGACY_PASSWORD);
    assert_eq!(scene.file("legacy/url"), first);
    let answer = json!({"username": "legacy", "password": "an/other"});
    scene
        .service
        .admin
        .kv_put(&scene.service.legacy_path(), answer);
    scene.wait_for_change("legacy");
    assert_eq!(
        scene.file("legacy/url"),
        "redis://legacy:an%2Fother@cache:6379/0"
    );
    scene.assert_well();
}

//! `env_prefix`: fields of a dependency as variables of the application, and of the command that is told.

use serde_json::{Value, json};

use super::dry_run::dry_run;
use crate::support::scene::{STAY, Scene};
use crate::support::{Anteroom, Manifest, Run, Service, assert_revoked, wait_for};

/// An answer with names and values that a variable may not be able to have.
fn fields() -> Value {
    json!({
        "user-name": "u $x",
        "pass.word": "p\nq\"",
        "Port": 5432,
        "hosts": ["a", "b"],
        "\u{fc}": "umlaut",
    })
}

const NAMES: [(&str, &str); 5] = [
    ("DB_USER_NAME", "u $x"),
    ("DB_PASS_WORD", "p\nq\""),
    ("DB_PORT", "5432"),
    ("DB_HOSTS", "[\"a\",\"b\"]"),
    ("DB__", "umlaut"),
];

/// The dependency `db` at this path, with these changes.
fn with(manifest: Manifest, path: &str, changes: Value) -> Manifest {
    let mut dependency = json!({"path": path, "env_prefix": "DB_"});
    if let (Some(all), Value::Object(changes)) = (dependency.as_object_mut(), changes) {
        all.extend(changes);
    }
    manifest.bare().set("dependencies.db", dependency)
}

/// Starts with these fields at the real server.
fn start(service: &Service, fields: Value, changes: Value) -> (Run, crate::support::Wrapped) {
    let path = service.legacy_path();
    service.admin.kv_put(&path, fields);
    let token = service.mint();
    let run = Anteroom::new()
        .manifest(with(service.manifest(), &path, changes))
        .token(&token)
        .command(["env", "-0"])
        .run();
    (run, token)
}

/// The variables with the prefix, in the order of the environment.
fn variables(run: &Run) -> Vec<(&str, &str)> {
    run.assert_code(0);
    let all = run.stdout.split_terminator('\0');
    let pairs = all.filter_map(|variable| variable.split_once('='));
    pairs.filter(|(name, _)| name.starts_with("DB_")).collect()
}

#[test]
fn fields_are_variables_after_start_and_dry_run() {
    let service = Service::new();
    let names: Vec<&str> = ["user-name", "pass.word", "Port", "hosts", "\u{fc}"].to_vec();
    let (open, _) = start(&service, fields(), json!({}));
    let (declared, _) = start(&service, fields(), json!({"fields": names}));
    let sampled = with(
        super::dry_run::manifest()
            .remove("java")
            .remove("environment"),
        "secret/data/x",
        json!({"sample": fields()}),
    );
    let dry = dry_run().manifest(sampled).command(["env", "-0"]).run();
    for run in [open, declared, dry] {
        let mut found = variables(&run);
        found.sort_unstable();
        let mut expected = NAMES;
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
    let (some, _) = start(&service, fields(), json!({"fields": ["Port"]}));
    assert_eq!(variables(&some), [("DB_PORT", "5432")]);
}

#[test]
fn optional_field_that_is_missing_is_no_variable() {
    let service = Service::new();
    let optional = json!({"fields": ["Port", "none"], "optional": true});
    let (run, _) = start(&service, fields(), optional.clone());
    assert_eq!(variables(&run), [("DB_PORT", "5432")]);
    let path = format!("{}/not-there", service.kv1);
    let policy = service.policy_hcl().replace(&service.legacy_path(), &path);
    service.admin.policy(&service.policy, &policy);
    let run = Anteroom::new()
        .manifest(with(service.manifest(), &path, optional))
        .token(service.mint())
        .command(["env", "-0"])
        .run();
    assert!(variables(&run).is_empty());
}

#[test]
fn field_that_cannot_be_a_variable_is_78() {
    let service = Service::new();
    let clash = "another field, or [environment], gives a variable of this name";
    for (fields, reason) in [
        (json!({"a": "canary\0"}), "the value holds a NUL byte"),
        (json!({"a-b": "canary", "a_b": "canary"}), clash),
        (json!({"x": "canary"}), clash),
    ] {
        let (run, token) = {
            let path = service.legacy_path();
            service.admin.kv_put(&path, fields.clone());
            let token = service.mint();
            let manifest = with(service.manifest(), &path, json!({}));
            let run = Anteroom::new()
                .manifest(manifest.set("environment", json!({"DB_X": "y"})))
                .token(&token)
                .shell("echo started")
                .run();
            (run, token)
        };
        assert_revoked(&run, 78, &service, &token);
        run.assert_no(["canary"]).assert_stderr(reason);
        // Of a sample it is known before.
        let sampled = with(service.manifest(), "secret/x", json!({"sample": fields}));
        let run = Anteroom::new()
            .manifest(sampled.set("environment", json!({"DB_X": "y"})))
            .without_secrets_dir()
            .arg("check")
            .run();
        run.assert_code(78)
            .assert_no(["canary"])
            .assert_stderr(reason);
    }
    let (run, token) = {
        let token = service.mint();
        service
            .admin
            .kv_put(&service.legacy_path(), json!({"x": "canary"}));
        let run = Anteroom::new()
            .manifest(with(service.manifest(), &service.legacy_path(), json!({})))
            .env("DB_X", "taken")
            .token(&token)
            .shell("echo started")
            .run();
        (run, token)
    };
    assert_revoked(&run, 78, &service, &token);
    run.assert_stderr("the environment that anteroom received has a variable of this name");
}

#[test]
fn declared_field_that_is_set_already_is_78_before_the_token() {
    let service = Service::new();
    let manifest = with(
        service.manifest(),
        &service.legacy_path(),
        json!({"fields": ["username"]}),
    );
    let call = |call: Anteroom| {
        let call = call.manifest(manifest.clone()).env("DB_USERNAME", "taken");
        call.shell("printf %s \"$DB_USERNAME\"")
    };
    let token = service.mint();
    let run = call(Anteroom::new()).token(&token).run();
    run.assert_refused(78)
        .assert_stderr("DB_USERNAME is already set in the environment anteroom received");
    service.assert_unused(&token, "a variable that is set");
    // In a dry run the environment wins.
    let dry = call(dry_run()).run();
    dry.assert_code(0)
        .assert_stderr("DB_USERNAME is set in the environment here and wins over `env_prefix`");
    assert_eq!(dry.stdout, "taken");
}

#[test]
fn command_of_on_rotate_gets_new_values_of_fields() {
    let out = crate::support::TempDir::new();
    let file = out.join("told");
    let script = format!(
        "printf %s \"$DB_PASSWORD\" >{0}.new && mv {0}.new {0}",
        file.display()
    );
    let mut scene = Scene::start(Service::new(), STAY, |manifest| {
        manifest
            .remove("certificate")
            .remove("dependencies.db")
            .set("dependencies.legacy.env_prefix", "DB_")
            .set("dependencies.legacy.refresh", "1s")
            .set("process.on_rotate", json!(["/bin/sh", "-c", script]))
    });
    let fields = json!({"username": "legacy", "password": "another"});
    scene
        .service
        .admin
        .kv_put(&scene.service.legacy_path(), fields);
    scene.wait_for_events("rotated", 1);
    wait_for("the command", crate::support::scene::LONG, || {
        file.exists().then_some(())
    });
    assert_eq!(std::fs::read_to_string(&file).expect("written"), "another");
}

#[test]
fn plan_names_the_variables_of_fields() {
    let plan = |changes: Value| {
        let run = Anteroom::new()
            .manifest(with(Service::new().manifest(), "secret/x", changes))
            .without_secrets_dir()
            .arg("check")
            .run();
        run.assert_code(0);
        run.stdout.clone()
    };
    let declared = plan(json!({"fields": ["user-name", "b"]}));
    assert!(
        declared.contains("variable      DB_USER_NAME\nvariable      DB_B\n"),
        "{declared}"
    );
    let open = plan(json!({}));
    assert!(
        open.contains("variable      DB_\u{2026} one for each field of db\n"),
        "{open}"
    );
}

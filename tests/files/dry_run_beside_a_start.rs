//! A dry run of a service that a real server has, too: the same files, and the token stays as it is.

use serde_json::{Value, json};

use super::dry_run::dry_run;
use crate::support::openbao::text;
use crate::support::{Anteroom, Service, TempDir};

#[test]
fn dry_run_writes_the_files_that_a_start_writes() {
    let service = Service::with_database();
    let manifest = service.manifest().set("java", json!({})).set(
        "dependencies.payment.files",
        json!({"conf": "{{ api_key }}\n"}),
    );
    let files = |call: Anteroom| {
        let call = call.manifest(manifest.clone()).command(["/bin/true"]);
        let run = call.keep_files().run();
        run.assert_code(0);
        run.files()
    };
    let real = files(Anteroom::new().token(service.mint()));
    let dry = files(dry_run());
    let names = |files: &std::collections::BTreeMap<String, crate::support::Entry>| {
        files
            .iter()
            .map(|(name, entry)| format!("{:04o} {name}", entry.mode))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&dry), names(&real));
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        let first = |entry: &crate::support::Entry| entry.text().lines().next().map(str::to_owned);
        assert_eq!(first(&dry[name]), first(&real[name]), "{name}");
    }
    let properties = |entry: &crate::support::Entry| {
        let lines = entry.text().lines();
        lines
            .filter_map(|line| line.split('=').next().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        properties(&dry["java.args"]),
        properties(&real["java.args"])
    );
    let status = |entry: &crate::support::Entry| -> Value {
        serde_json::from_slice(&entry.bytes).expect("it is JSON")
    };
    let (dry, real) = (status(&dry["status.json"]), status(&real["status.json"]));
    let keys = |value: &Value| {
        value
            .as_object()
            .map(|object| object.keys().cloned().collect::<Vec<_>>())
    };
    assert_eq!(keys(&dry), keys(&real));
    assert_eq!(
        (&dry["dry_run"], &real["dry_run"]),
        (&json!(true), &json!(false))
    );
}

#[test]
fn token_that_is_there_is_neither_used_nor_handed_on() {
    let service = Service::new();
    let token = service.mint();
    let scratch = TempDir::new();
    let file = scratch.write("token", &token.token);
    for call in [
        dry_run().token(&token),
        dry_run().args(["--token-file", file.to_str().expect("text")]),
    ] {
        let run = call.manifest(service.manifest()).shell("env").run();
        run.assert_code(0).assert_no([&token.token]);
        assert_eq!(service.admin.lookup_wrapping(&token.token), 200);
        assert!(file.exists());
    }
}

#[test]
fn dry_run_warns_that_it_is_one_and_that_it_leaves_the_token() {
    let service = Service::new();
    let token = service.mint();
    for with_token in [false, true] {
        let mut call = Anteroom::new().env("ANTEROOM_DRY_RUN", "1");
        if with_token {
            call = call.token(&token);
        }
        let run = call
            .manifest(service.manifest())
            .shell("echo started")
            .run();
        run.assert_code(0);
        let warnings: Vec<Value> = run
            .events()
            .into_iter()
            .filter(|event| event["event"] == "dry_run")
            .collect();
        assert_eq!(warnings.len(), 1, "{run:?}");
        assert_eq!(warnings[0]["level"], "warn");
        let message = text(&warnings[0]["message"]);
        assert!(message.contains("this is a dry run"), "{message}");
        let token_is_named = message.contains("wrapping token is not touched");
        assert_eq!(token_is_named, with_token, "{message}");
    }
    assert_eq!(service.admin.lookup_wrapping(&token.token), 200);
}

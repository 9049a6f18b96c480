//! Variables that would go stale are named: by a check, by what paths look like; and at a start, by what Vault has answered.

use serde_json::{Value, json};

use crate::support::{Anteroom, Manifest, Run, Service};

fn check(manifest: Manifest) -> Run {
    let call = Anteroom::new().manifest(manifest);
    call.args(["check", "--strict"]).run()
}

/// A manifest with a second certificate, and a variable of this template.
fn with(service: &Service, template: &str) -> Manifest {
    service
        .manifest()
        .set("java", json!({}))
        .set(
            "certificates.kafka",
            json!({"mount": "pki-clients", "role": "client", "common_name": "x.example.io"}),
        )
        .set("environment.VALUE", template)
}

const OR: &str = "or give it the path of a file instead";

#[test]
fn variable_that_would_go_stale_is_a_notice_of_a_check() {
    let service = Service::with_database();
    // What only its path speaks for is no reason to fail.
    for (template, item, code) in [
        ("postgres://{{ db.username }}@db", "the dependency db", 0),
        ("{{ db.password | default('') }}", "the dependency db", 0),
        (
            "{% if db %}{{ db | tojson }}{% endif %}",
            "the dependency db",
            0,
        ),
        ("{{ certificate.serial_number }}", "the certificate", 78),
        ("{{ certificates.kafka.key }}", "the certificate kafka", 78),
        ("{{ certificates | tojson }}", "the certificate kafka", 78),
    ] {
        let says = match code {
            0 => format!("VALUE in the environment may go stale: {item} changes"),
            _ => format!("VALUE in the environment will go stale: {item} changes"),
        };
        let assert_notice = |run: &Run, why: &str| {
            run.assert_code(code);
            for text in [&*says, why, OR] {
                assert!(run.stdout.contains(text), "{text}: {run:?}");
                assert_eq!(run.stderr.contains(text), code == 78, "{text}: {run:?}");
            }
        };
        let run = check(with(&service, template));
        assert_notice(&run, "nothing tells the application");
        let told = |on_rotate: Value| {
            let manifest = with(&service, template)
                .set("process.lifecycle", "supervise")
                .set("process.on_rotate", on_rotate);
            check(manifest)
        };
        assert_notice(&told(json!("SIGHUP")), "SIGHUP changes no environment");
        // Each of these gives the application, or what tells it, the new values.
        for on_rotate in [json!(["/bin/true"]), json!("restart")] {
            let run = told(on_rotate);
            run.assert_code(0);
            assert!(!run.stdout.contains("go stale"), "{run:?}");
        }
    }
}

#[test]
fn variables_of_fields_and_of_refresh_are_named_too() {
    let service = Service::with_database();
    let with = |key: &str, value: Value| service.manifest().set(key, value);
    let assert_guess = |manifest: Manifest, text: &str| {
        let run = check(manifest);
        run.assert_code(0);
        assert!(run.stdout.contains(text), "{run:?}");
    };
    let manifest = with("dependencies.db.env_prefix", json!("DB_"));
    assert_guess(manifest, "DB_… in the environment may");
    let of_fields = with("dependencies.db.env_prefix", json!("DB_"))
        .set("dependencies.db.fields", json!(["username", "password"]));
    assert_guess(of_fields, "DB_USERNAME, DB_PASSWORD in the environment may");
    let refreshed = with("dependencies.payment.refresh", json!("5m"))
        .set("environment.KEY", "{{ payment.api_key }}");
    check(refreshed)
        .assert_code(78)
        .assert_stderr("KEY in the environment will go stale: the dependency payment");
    let of_path = |path: &str| {
        with("dependencies.legacy.path", json!(path)).set("environment.KEY", "{{ legacy.value }}")
    };
    check(of_path("identity/oidc/token/x")).assert_code(78);
    // Each may as well be a path of KV version 1.
    for path in ["aws/sts/x", "ldap/static-cred/x", "kv1/creds/x"] {
        let text = "KEY in the environment may go stale: the dependency legacy";
        assert_guess(of_path(path), text);
    }
}

#[test]
fn variable_that_cannot_change_is_no_notice() {
    let service = Service::with_database();
    for template in [
        "{{ secrets_dir }}/db/password",
        "{{ payment.api_key }}",
        "{{ legacy.password }}",
        "{{ java.keystore }} {{ java.password }}",
        "{{ app }}-{{ environment }}",
    ] {
        let run = check(with(&service, template));
        run.assert_code(0);
        assert!(!run.stdout.contains("go stale"), "{run:?}");
    }
}

#[test]
fn start_names_stale_variables_by_what_vault_has_answered() {
    let service = Service::with_database();
    let run = |on_rotate: Option<&str>| {
        let manifest = service
            .manifest()
            .set("environment.USER", "{{ db.username }}")
            .set("environment.SERIAL", "{{ certificate.serial_number }}")
            .set(
                "environment.KEY",
                "{{ payment.api_key }}{{ legacy.password }}",
            );
        let manifest = match on_rotate {
            Some(on_rotate) => manifest.set("process.on_rotate", on_rotate),
            None => manifest,
        };
        let call = Anteroom::new().manifest(manifest).token(service.mint());
        call.shell("exit 0").run()
    };
    for (on_rotate, why) in [
        (None, "nothing tells the application"),
        (Some("SIGHUP"), "SIGHUP changes no environment"),
    ] {
        let run = run(on_rotate);
        run.assert_code(0);
        let stale = run.named("stale_variables");
        let names: Vec<&Value> = stale.iter().map(|event| &event["name"]).collect();
        assert_eq!(names, ["certificate", "db"], "{run:?}");
        let text = stale[1]["message"].as_str().unwrap_or_default();
        assert!(text.starts_with("USER in the environment will"), "{text}");
        assert!(text.contains(why), "{text}");
    }
}

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

#[test]
fn variable_that_would_go_stale_is_a_notice_of_a_check() {
    let service = Service::with_database();
    for (template, item) in [
        ("postgres://{{ db.username }}@db", "the dependency db"),
        ("{{ db.password | default('') }}", "the dependency db"),
        (
            "{% if db %}{{ db | tojson }}{% endif %}",
            "the dependency db",
        ),
        ("{{ certificate.serial_number }}", "the certificate"),
        ("{{ certificates.kafka.key }}", "the certificate kafka"),
        ("{{ certificates | tojson }}", "the certificate kafka"),
    ] {
        let run = check(with(&service, template));
        run.assert_code(78)
            .assert_stderr(&format!(
                "VALUE in the environment will go stale: {item} changes"
            ))
            .assert_stderr("or give it the path of a file instead");
        assert!(run.stdout.contains("VALUE in the environment"), "{run:?}");
        // Each of these tells the application.
        for on_rotate in [json!("SIGHUP"), json!(["/bin/true"]), json!("restart")] {
            let manifest = with(&service, template)
                .set("process.lifecycle", "supervise")
                .set("process.on_rotate", on_rotate);
            check(manifest).assert_code(0);
        }
    }
}

#[test]
fn variables_of_fields_and_of_refresh_are_named_too() {
    let service = Service::with_database();
    let with = |key: &str, value: Value| service.manifest().set(key, value);
    let run = check(with("dependencies.db.env_prefix", json!("DB_")));
    run.assert_code(78).assert_stderr("DB_… in the environment");
    let of_fields = with("dependencies.db.env_prefix", json!("DB_"))
        .set("dependencies.db.fields", json!(["username", "password"]));
    check(of_fields)
        .assert_code(78)
        .assert_stderr("DB_USERNAME, DB_PASSWORD in the environment");
    let refreshed = with("dependencies.payment.refresh", json!("5m"))
        .set("environment.KEY", "{{ payment.api_key }}");
    check(refreshed)
        .assert_code(78)
        .assert_stderr("KEY in the environment will go stale: the dependency payment");
    for path in ["aws/sts/x", "identity/oidc/token/x", "ldap/static-cred/x"] {
        let manifest = with("dependencies.legacy.path", json!(path))
            .set("environment.KEY", "{{ legacy.value }}");
        check(manifest).assert_code(78);
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
        check(with(&service, template)).assert_code(0);
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
    let run_without = run(None);
    run_without.assert_code(0);
    let stale = run_without.named("stale_variables");
    let names: Vec<&Value> = stale.iter().map(|event| &event["name"]).collect();
    assert_eq!(names, ["certificate", "db"], "{run_without:?}");
    let text = stale[1]["message"].as_str().unwrap_or_default();
    assert!(text.starts_with("USER in the environment"), "{text}");
    assert_eq!(
        run(Some("SIGHUP")).named("stale_variables"),
        Vec::<Value>::new()
    );
}

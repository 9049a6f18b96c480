//! One credential for each dependency, whatever engine gives it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::anteroom::files_in;
use crate::support::{
    Anteroom, Fault, FaultProxy, Manifest, Postgres, Reply, Run, Service, Wrapped, assert_revoked,
    unique, wait_for,
};

/// A manifest with this dependency alone, called `dep`.
fn manifest(service: &Service, address: &str, dependency: Value) -> Manifest {
    service
        .manifest_for(address)
        .remove("certificate")
        .set("dependencies", json!({"dep": dependency}))
}

/// The service may also do this.
fn allow(service: &Service, path: &str, capability: &str) {
    let policy = format!(
        "{}path \"{path}\" {{ capabilities = [\"{capability}\"] }}\n",
        service.policy_hcl()
    );
    service.admin.policy(&service.policy, &policy);
}

fn start(manifest: Manifest, token: &str) -> Run {
    Anteroom::new()
        .manifest(manifest)
        .token(token)
        .shell("echo started")
        .keep_files()
        .run()
}

/// Starts with this dependency alone on the real server.
fn fetch(service: &Service, dependency: Value) -> (Run, Wrapped) {
    let token = service.mint();
    let manifest = manifest(service, service.admin.address(), dependency);
    (start(manifest, &token.token), token)
}

/// The content of each file of `dep`.
#[track_caller]
fn fetched(service: &Service, dependency: Value) -> Vec<(String, Vec<u8>)> {
    let (run, _) = fetch(service, dependency);
    run.assert_code(0);
    assert_eq!(run.stdout, "started\n", "{run:?}");
    run.files()
        .into_iter()
        .filter_map(|(name, entry)| Some((name.strip_prefix("dep/")?.to_owned(), entry.bytes)))
        .collect()
}

fn texts(expected: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect()
}

/// The server ends the leases of a token that is gone in its own time.
fn assert_leases_end(service: &Service, prefix: &str) {
    wait_for("the leases to end", Duration::from_secs(20), || {
        service.admin.leases(prefix).is_empty().then_some(())
    });
}

/// Writes a secret of version 1 that the service may read, and gives its path.
fn secret(service: &Service, name: &str, fields: Value) -> String {
    let path = format!("{}/{name}", service.kv1);
    service.admin.kv_put(&path, fields);
    allow(service, &path, "read");
    path
}

// KV

// b28
#[test]
fn both_versions_of_kv_give_their_fields() {
    let service = Service::new();
    assert_eq!(
        fetched(&service, json!({"path": service.legacy_path()})),
        texts(&[
            ("password", Service::LEGACY_PASSWORD),
            ("username", "legacy")
        ])
    );
    assert_eq!(
        fetched(&service, json!({"path": service.payment_path()})),
        texts(&[
            ("api_key", Service::API_KEY),
            ("endpoint", "https://payment.example.io")
        ])
    );
}

// b28, k2
#[test]
fn kv_version_1_secret_with_a_data_field_is_taken_as_it_is() {
    let service = Service::new();
    let path = secret(
        &service,
        "data/odd",
        json!({"data": {"a": "1"}, "metadata": "x"}),
    );
    assert_eq!(
        fetched(&service, json!({"path": path})),
        texts(&[("data", "{\"a\":\"1\"}"), ("metadata", "x")])
    );
}

// f22, b28, b29, k1
#[test]
fn missing_secret_is_78_with_its_path_and_revokes_the_token() {
    let service = Service::new();
    let kv2 = &service.kv2;
    let put = |name: &str| {
        let path = format!("{kv2}/data/{name}");
        service
            .admin
            .kv_put(&path, json!({"data": {"password": "canary-gone"}}));
        path
    };
    let deleted = put("deleted");
    service.admin.ok("DELETE", &deleted, Value::Null);
    let destroyed = put("destroyed");
    let versions = json!({"versions": [1]});
    service
        .admin
        .ok("PUT", &format!("{kv2}/destroy/destroyed"), versions);
    for (path, word) in [
        (deleted, "was deleted"),
        (destroyed, "was deleted"),
        (format!("{kv2}/data/missing"), "404"),
        (format!("{kv2}/payment"), "`data/`"),
        (format!("{}/data/legacy", service.kv1), "404"),
        ("no-such-mount/x".to_owned(), "404"),
    ] {
        allow(&service, &path, "read");
        let (run, token) = fetch(&service, json!({"path": path}));
        assert_revoked(&run, 78, &service, &token);
        assert!(
            run.stderr.contains(&path) && run.stderr.contains(word),
            "{path}: {word}\n{run:?}"
        );
        run.assert_no(["canary-gone"]);
    }
}

// b32, b33, b34, b35, k5
#[test]
fn every_value_has_one_text() {
    let service = Service::new();
    let long = "x".repeat(1 << 20);
    let odd = "line 1\nline 2\r\n\t\u{0}\u{1b}\"\\ü€\u{10ffff}";
    for fields in [
        json!({
            "yes": true,
            "no": false,
            "integer": 5432,
            "negative": -7,
            // The largest that OpenBao itself does not round in version 2.
            "large": 9_007_199_254_740_991_u64,
            "decimal": 1.5,
        }),
        json!({"list": ["a", 1, null], "object": {"b": {"c": "d"}, "a": [true]}}),
        json!({"empty": "", "newline": "\n", "odd": odd, "long": long, "spaces": "  x  "}),
    ] {
        let expected: Vec<(String, Vec<u8>)> = fields
            .as_object()
            .expect("a table")
            .iter()
            .map(|(name, value)| {
                let text = match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                (name.clone(), text.into_bytes())
            })
            .collect();
        let mut expected = expected;
        expected.sort();
        let path = secret(&service, "odd", fields.clone());
        assert!(
            fetched(&service, json!({"path": path})) == expected,
            "version 1 of {}",
            expected[0].0
        );
        let path = format!("{}/data/odd", service.kv2);
        service.admin.kv_put(&path, json!({"data": fields}));
        allow(&service, &path, "read");
        assert!(
            fetched(&service, json!({"path": path})) == expected,
            "version 2 of {}",
            expected[0].0
        );
    }
}

// b31, k4
#[test]
fn null_is_78_and_never_an_empty_file() {
    let service = Service::new();
    let path = secret(
        &service,
        "null",
        json!({"password": null, "user": "canary-user"}),
    );
    for dependency in [
        json!({"path": path}),
        json!({"path": path, "fields": ["password"]}),
    ] {
        let (run, token) = fetch(&service, dependency);
        assert_revoked(&run, 78, &service, &token);
        run.assert_stderr("`password`")
            .assert_stderr(&path)
            .assert_stderr("null")
            .assert_no(["canary-user"]);
    }
    // The field that is null was not asked for.
    assert_eq!(
        fetched(&service, json!({"path": path, "fields": ["user"]})),
        texts(&[("user", "canary-user")])
    );
}

// b30
#[test]
fn wanted_field_that_is_missing_is_78_with_path_and_field() {
    let service = Service::new();
    let path = service.legacy_path();
    let (run, token) = fetch(
        &service,
        json!({"path": path, "fields": ["username", "pasword"]}),
    );
    assert_revoked(&run, 78, &service, &token);
    run.assert_stderr(&path)
        .assert_stderr("`pasword`")
        .assert_stderr("it has password, username")
        .assert_no(Service::CANARIES);
}

#[test]
fn only_wanted_fields_are_written() {
    let service = Service::new();
    assert_eq!(
        fetched(
            &service,
            json!({"path": service.legacy_path(), "fields": ["username"]})
        ),
        texts(&[("username", "legacy")])
    );
}

// b36
#[test]
fn field_whose_name_cannot_be_a_file_is_78() {
    let service = Service::new();
    for name in [
        "",
        "a=b",
        "a/b",
        "../../etc/passwd",
        "..",
        ".",
        "a\nb",
        "\u{1b}[2J",
        "\u{0}",
        &"n".repeat(256),
    ] {
        let path = secret(&service, "names", json!({name: "canary-value", "ok": "1"}));
        let (run, token) = fetch(&service, json!({"path": path}));
        assert!(run.code == Some(78), "{name:?}\n{run:?}");
        assert_revoked(&run, 78, &service, &token);
        run.assert_stderr("cannot be a file")
            .assert_no(["canary-value"]);
        assert!(!run.stderr.contains('\u{1b}'), "{name:?} came out raw");
        // A field that was not asked for does no harm.
        assert_eq!(
            fetched(&service, json!({"path": path, "fields": ["ok"]})),
            texts(&[("ok", "1")]),
            "{name:?}"
        );
    }
}

// b22, k3
#[test]
fn path_that_vault_would_misread_is_78_before_the_network() {
    let service = Service::new();
    let proxy = FaultProxy::recording(service.admin.address());
    let token = service.mint();
    for path in [
        "",
        "/secret/x",
        "v1/secret/x",
        "secret//x",
        "secret/../x",
        "secret/./x",
        "secret/x.",
        "secret/x/",
        "secret/x?list=true",
        "secret/x#y",
        "secret/%2e%2e/x",
        "secret/ü",
        "secret/a b",
        "secret/a\nb",
    ] {
        let manifest = manifest(&service, &proxy.address(), json!({"path": path}));
        let run = start(manifest, &token.token);
        assert!(run.code == Some(78), "{path:?}\n{run:?}");
        assert_eq!(run.stdout, "", "{path:?}");
    }
    assert_eq!(proxy.connections(), 0);
    assert_eq!(service.admin.lookup_wrapping(&token.token), 200);
}

// Engines

#[test]
fn database_credential_logs_in_with_what_is_written() {
    let service = Service::with_database();
    let dependency = json!({"path": service.database_path()});
    let mut running = Anteroom::new()
        .manifest(manifest(&service, service.admin.address(), dependency))
        .token(service.mint())
        .shell("echo started; exec sleep 600")
        .spawn();
    running.wait_for_stdout("started");
    // For as long as the application runs.
    let files = files_in(running.secrets_dir());
    let (user, password) = (files["dep/username"].text(), files["dep/password"].text());
    let answer = Postgres::shared().query_as(user, password, "SELECT current_user");
    assert_eq!(answer.expect("it logs in").trim(), user);
}

// f24
#[test]
fn failing_database_is_69_after_three_tries_and_a_revocation() {
    let service = Service::with_database();
    let path = service.database_path();
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        if seen.is(&path) {
            Fault::Answer(Reply::json(502, &json!({"errors": ["database is down"]})))
        } else {
            Fault::Pass
        }
    });
    let token = service.mint();
    let run = start(service.manifest_for(&proxy.address()), &token.token);
    assert_revoked(&run, 69, &service, &token);
    run.assert_stderr("database is down");
    assert_eq!(proxy.count(&service.database_path()), 3);
}

// f24, t18
#[test]
fn real_database_error_is_69_and_revokes_the_other_leases() {
    let service = Service::with_database();
    let mount = service.database.clone().expect("it has one");
    let broken = json!({"creation_statements": ["SELECT nonsense FROM nowhere"]});
    service.admin.database_role(&mount, "broken", broken);
    let broken = format!("{mount}/creds/broken");
    allow(&service, &broken, "read");
    let manifest = service
        .manifest()
        .set("dependencies.broken", json!({"path": broken}));
    let token = service.mint();
    let run = start(manifest, &token.token);
    assert_revoked(&run, 69, &service, &token);
    run.assert_stderr(&broken);
    assert_leases_end(&service, &format!("{mount}/creds/{}", service.app));
}

#[test]
fn write_sends_its_data_and_gives_the_answers_fields() {
    let service = Service::new();
    let mount = crate::support::unique("transit");
    service.admin.mount("transit", &mount, json!({}));
    service
        .admin
        .ok("POST", &format!("{mount}/keys/orders"), json!({}));
    let path = format!("{mount}/datakey/plaintext/orders");
    allow(&service, &path, "update");
    let files = fetched(
        &service,
        json!({"path": path, "method": "write", "data": {"bits": "512"}}),
    );
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ciphertext", "key_version", "plaintext"]);
    // 512 bits in base64: the data was heard.
    assert_eq!(files[2].1.len(), 88);
    // What was written can be given back to the engine.
    let ciphertext = String::from_utf8(files[0].1.clone()).expect("text");
    let answer = service.admin.ok(
        "POST",
        &format!("{mount}/decrypt/orders"),
        json!({"ciphertext": ciphertext}),
    );
    assert_eq!(
        answer["data"]["plaintext"].as_str().map(str::as_bytes),
        Some(&files[2].1[..])
    );
}

#[test]
fn any_engine_that_answers_data_will_do() {
    let service = Service::new();
    let mount = crate::support::unique("totp");
    service.admin.mount("totp", &mount, json!({}));
    service.admin.ok(
        "POST",
        &format!("{mount}/keys/orders"),
        json!({"generate": true, "issuer": "example", "account_name": "orders"}),
    );
    let path = format!("{mount}/code/orders");
    allow(&service, &path, "read");
    let files = fetched(&service, json!({"path": path}));
    let code = files.iter().find(|(name, _)| name == "code");
    assert_eq!(code.map(|(_, code)| code.len()), Some(6), "{files:?}");
}

// Denied

// f21
#[test]
fn denied_path_is_77_with_capability_and_revokes_everything() {
    let service = Service::with_database();
    for (dependency, capability) in [
        (json!({"path": "secret/data/denied"}), "`read`"),
        (
            json!({"path": "transit/datakey/plaintext/denied", "method": "write"}),
            "`update`",
        ),
    ] {
        let path = dependency["path"].as_str().expect("a path").to_owned();
        let manifest = service.manifest().set("dependencies.denied", dependency);
        let token = service.mint();
        let run = start(manifest, &token.token);
        assert_revoked(&run, 77, &service, &token);
        run.assert_stderr(&path)
            .assert_stderr(capability)
            .assert_stderr("permission denied");
        for clutter in ["error occurred", "\\t", "\\u{", "* permission"] {
            assert!(!run.stderr.contains(clutter), "{clutter}\n{run:?}");
        }
        let mount = service.database.as_deref().expect("it has one");
        assert_leases_end(&service, &format!("{mount}/creds/{}", service.app));
    }
}

// Templates

// b26
#[test]
fn templates_make_files_and_variables_from_fields() {
    let service = Service::new();
    let manifest = manifest(
        &service,
        service.admin.address(),
        json!({
            "path": service.legacy_path(),
            "fields": ["username", "password"],
            "files": {"pgpass": "db:5432:*:{{ username | pgpass }}:{{ password | pgpass }}\n"},
        }),
    )
    .set(
        "environment",
        json!({"PGUSER": "{{ dep.username }}@{{ app }}"}),
    );
    let run = Anteroom::new()
        .manifest(manifest)
        .token(service.mint())
        .shell("echo $PGUSER")
        .keep_files()
        .run();
    run.assert_code(0);
    assert_eq!(run.stdout, format!("legacy@{}\n", service.app));
    assert_eq!(
        run.file("dep/pgpass").text(),
        format!("db:5432:*:legacy:{}\n", Service::LEGACY_PASSWORD)
    );
}

#[test]
fn pgpass_file_lets_psql_in_with_every_name_and_password() {
    let service = Service::new();
    let postgres = Postgres::shared();
    let user = unique(r"o:r\ders");
    let password = r#"p:w\d \:'"$(x)#ü"#;
    let create = format!(
        "CREATE ROLE \"{user}\" LOGIN PASSWORD '{}'",
        password.replace('\'', "''")
    );
    postgres.query(&create).expect("the superuser may");
    let path = service.legacy_path();
    let start = |pgpass: &str, password: &str| {
        let secret = json!({"username": user, "password": password});
        service.admin.kv_put(&path, secret);
        let dependency = json!({"path": path, "files": {"pgpass": pgpass}});
        let environment = json!({"SECRETS": "{{ secrets_dir }}"});
        let manifest = manifest(&service, service.admin.address(), dependency);
        let script = format!(
            "cd \"$SECRETS/dep\" && PGPASSFILE=$PWD/pgpass psql -X -w -A -t -q -h 127.0.0.1 -p {} \
             -d postgres -U \"$(cat username)\" -c 'SELECT current_user'",
            postgres.port()
        );
        let token = service.mint();
        let run = Anteroom::new()
            .manifest(manifest.set("environment", environment))
            .token(&token)
            .shell(&script)
            .run();
        (run, token)
    };
    let escaped = "*:*:*:{{ username | pgpass }}:{{ password | pgpass }}";
    let (run, _) = start(escaped, password);
    run.assert_code(0);
    assert_eq!(run.stdout, format!("{user}\n"), "{run:?}");
    // The database does look at the password.
    let (run, _) = start("*:*:*:{{ username }}:{{ password }}", password);
    run.assert_code(2).assert_stderr("no password supplied");
    // A line end would begin another entry.
    let (run, token) = start(escaped, "canary\nevil:1:*:*:x");
    assert_revoked(&run, 78, &service, &token);
    run.assert_stderr("`pgpass` holds a line end")
        .assert_no(["canary"]);
    let drop = format!("DROP ROLE \"{user}\"");
    postgres.query(&drop).expect("the superuser may");
}

// b26, t15
#[test]
fn template_of_an_absent_field_is_78_and_shows_no_value() {
    let service = Service::new();
    for (key, template) in [
        ("files", "{{ pasword }}"),
        ("files", "{{ password[0:3] + 1 }}"),
        ("files", "{{ password + 1 }}"),
        ("environment", "{{ dep.pasword }}"),
        ("environment", "{{ dep.password | int }}"),
    ] {
        let mut dependency = json!({"path": service.legacy_path()});
        if key == "files" {
            dependency["files"] = json!({"made": template});
        }
        let mut manifest = manifest(&service, service.admin.address(), dependency);
        if key == "environment" {
            manifest = manifest.set("environment", json!({"MADE": template}));
        }
        let token = service.mint();
        let run = start(manifest, &token.token);
        assert!(run.code == Some(78), "{template}\n{run:?}");
        assert_revoked(&run, 78, &service, &token);
        run.assert_no(Service::CANARIES);
    }
}

// b36, b40
#[test]
fn secret_with_too_many_fields_is_76_and_revokes_the_token() {
    let service = Service::new();
    let path = service.legacy_path();
    let proxy = FaultProxy::start(service.admin.address(), {
        let path = path.clone();
        move |seen| {
            if !seen.is(&path) {
                return Fault::Pass;
            }
            let fields = (0..100_000).map(|n| (format!("field-{n}"), "canary-value".into()));
            let fields: serde_json::Map<String, Value> = fields.collect();
            Fault::Answer(Reply::vault(&json!({"data": fields})))
        }
    });
    for dependency in [
        json!({"path": path}),
        json!({"path": path, "fields": ["field-1"]}),
    ] {
        let token = service.mint();
        let run = Anteroom::new()
            .manifest(manifest(&service, &proxy.address(), dependency))
            .token(&token)
            .args(["--deadline", "50s"])
            // To look at each name once takes a moment, to compare all with all takes longer than this.
            .limit(Duration::from_secs(20))
            .shell("echo started")
            .run();
        assert_revoked(&run, 76, &service, &token);
        run.assert_no(["canary-value"]);
    }
}

// f21, t18
#[test]
fn denied_path_does_not_wait_for_one_that_hangs() {
    let service = Service::new();
    let (denied, hangs) = (service.payment_path(), service.legacy_path());
    let proxy = FaultProxy::start(service.admin.address(), {
        let (denied, hangs) = (denied.clone(), hangs.clone());
        move |seen| {
            if seen.is(&denied) {
                Fault::Answer(Reply::json(403, &json!({"errors": ["permission denied"]})))
            } else if seen.is(&hangs) {
                Fault::Hang
            } else {
                Fault::Pass
            }
        }
    });
    let token = service.mint();
    let run = Anteroom::new()
        .manifest(
            service
                .manifest_for(&proxy.address())
                .set("vault.client_timeout", "60s"),
        )
        .token(&token)
        .args(["--deadline", "60s"])
        .limit(Duration::from_secs(30))
        .shell("echo started")
        .run();
    assert_revoked(&run, 77, &service, &token);
    run.assert_stderr(&denied);
    assert_eq!(proxy.count(&hangs), 1, "it was asked again");
    let requests = proxy.requests();
    let last = requests.last().map(|seen| seen.path.as_str());
    assert_eq!(last, Some("/v1/auth/token/revoke-self"));
}

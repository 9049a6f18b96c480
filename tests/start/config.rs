//! Flags, environment and manifest: which of them wins, and that no mistake costs a token.

use std::ffi::CString;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::support::{
    Anteroom, Authority, Defect, Fault, FaultProxy, Manifest, Reply, Run, Service, TempDir,
    TlsServer, Wrapped, assert_started, openbao,
};

static SERVICE: LazyLock<Service> = LazyLock::new(Service::new);

/// The manifest of a service that needs nothing but its token.
fn bare(address: &str) -> Manifest {
    SERVICE.manifest_for(address).bare()
}

fn start(manifest: impl Into<String>) -> Anteroom {
    Anteroom::new()
        .manifest(manifest)
        .shell("echo the application runs")
}

fn check(manifest: impl Into<String>) -> Anteroom {
    Anteroom::new()
        .manifest(manifest)
        .without_secrets_dir()
        .arg("check")
}

fn mint() -> Wrapped {
    // As long as the manifest permits, for tests that run many starts with one token.
    SERVICE.mint_with("60s", Value::Null)
}

fn recorder() -> FaultProxy {
    FaultProxy::recording(SERVICE.admin.address())
}

/// A server that ends every start at its first request, once it has seen it.
fn dead_end() -> FaultProxy {
    FaultProxy::scripted(|_| Fault::Answer(Reply::json(418, &json!({"errors": ["no"]}))))
}

#[track_caller]
fn assert_refused(run: &Run, code: i32, what: &str) {
    assert_eq!(run.code, Some(code), "{what}\n{run:?}");
    run.assert_refused(code);
}

/// Manifests with this one value at this key, each of which must be refused with a place and this text.
#[track_caller]
fn assert_mistakes(rows: &[(&str, Value, &str)]) {
    let (wrapped, proxy) = (mint(), recorder());
    for (key, value, text) in rows {
        let path: Vec<&str> = key.split('/').collect();
        let manifest = SERVICE
            .manifest_for(&proxy.address())
            .set_at(&path, value.clone());
        let what = format!("{key} = {value}");
        let run = start(manifest)
            .args(["--log", "human"])
            .token(&wrapped)
            .run();
        assert_refused(&run, 78, &what);
        let found = run.stderr.lines().any(|line| {
            line.contains(text) && line.contains(": line ") && line.contains(", column ")
        });
        assert!(found, "{what}: {text:?} with its place is missing\n{run:?}");
    }
    assert_eq!(proxy.connections(), 0, "Vault was spoken to");
    SERVICE.assert_unused(&wrapped, "a mistake");
}

#[test]
fn creation_path_that_makes_no_client_token_is_a_mistake() {
    let rows: Vec<(&str, Value, &str)> = [
        ("sys/wrapping/wrap", "no client token is made there"),
        ("secret/data/timeline", "no client token is made there"),
        ("token/create/timeline", "no client token is made there"),
        ("auth/approle", "no client token is made there"),
        ("auth/token/creat/timeline", "no client token is made there"),
        ("auth/token/roles/timeline", "no client token is made there"),
        ("auth/token/create/timeline/test", "holds no `/`"),
        ("auth/tokne/create/timeline", "which has this name"),
        ("auth/Token/create/timeline", "which has this name"),
        ("auth/approle/role/timeline/secret-id", "wrap the login"),
        (
            "auth/approle/role/timeline/custom-secret-id",
            "wrap the login",
        ),
        ("auth/approle/role/timeline/role-id", "wrap the login"),
        ("team/auth/token/create/timeline", "stands in [vault]"),
    ]
    .into_iter()
    .map(|(path, text)| ("token/creation_path", json!(path), text))
    .collect();
    assert_mistakes(&rows);
    for (_, path, text) in &rows {
        let manifest = bare("https://vault.example.io").set("token.creation_path", path.clone());
        let run = check(manifest).run();
        run.assert_code(78);
        let event = run.events().remove(0);
        let message = openbao::text(&event["message"]);
        assert!(message.contains(text), "{path}: {message}");
        assert!(message.contains("auth/token/create/ROLE"), "{message}");
        assert!(event["line"].is_u64(), "{path}: {event}");
    }
}

#[test]
fn default_of_the_creation_path_that_is_no_path_is_a_mistake() {
    let manifest = bare("https://vault.example.io")
        .remove("token.creation_path")
        .set("service.environment", "test.");
    let run = check(manifest).run();
    run.assert_code(78);
    run.assert_stderr("the default of `creation_path` in [token]: a Vault path does not end");
}

// b16, b17, b18
#[test]
fn unusable_address_is_a_mistake() {
    assert_mistakes(&[
        ("vault/address", json!("vault.example.io:8200"), "scheme"),
        (
            "vault/address",
            json!("ftp://vault.example.io"),
            "not https",
        ),
        (
            "vault/address",
            json!("https://me:canary@vault.example.io"),
            "user or password",
        ),
        (
            "vault/address",
            json!("https://vault%zz.example.io"),
            "host",
        ),
        ("vault/address", json!("https://vault.example.io\n"), "host"),
        ("vault/address", json!("https://va ult.example.io"), "host"),
        ("vault/address", json!("https://127.1:8200"), "IP address"),
        ("vault/address", json!("https://10.0.0.256"), "IP address"),
        ("vault/address", json!("https://"), "host"),
        ("vault/address", json!(""), "scheme"),
        ("vault/address", json!("https://vault.example.io:0"), "port"),
        (
            "vault/address",
            json!("https://vault.example.io:65536"),
            "port",
        ),
        ("vault/address", json!("https://vault.example.io:"), "port"),
        (
            "vault/address",
            json!("http://vault.example.io:8200"),
            "allow_http",
        ),
        (
            "vault/address",
            json!("http://127.0.0.1.example.io:8200"),
            "allow_http",
        ),
        (
            "vault/address",
            json!("https://vault.example.io/prefix"),
            "path",
        ),
        (
            "vault/address",
            json!("https://vault.example.io/v1/"),
            "path",
        ),
        ("vault/address", json!("https://vault.example.io?x"), "path"),
        ("vault/address", json!("https://[::1"), "`[` without `]`"),
        ("vault/address", json!("https://[vault]:8200"), "IPv6"),
        ("vault/address", json!("https://::1:8200"), "port"),
        ("vault/address", json!(8200), "must be a string"),
        ("vault/tls_server_name", json!("not a name"), "host name"),
        ("vault/standby_hosts", json!(["a b"]), "host name"),
    ]);
}

// b21
#[test]
fn unusable_namespace_is_a_mistake() {
    assert_mistakes(&[
        ("vault/namespace", json!("a/../b"), "namespace"),
        ("vault/namespace", json!(".."), "namespace"),
        ("vault/namespace", json!("a//b"), "namespace"),
        ("vault/namespace", json!("a b"), "namespace"),
        ("vault/namespace", json!("pay\u{e9}"), "namespace"),
        ("vault/namespace", json!("a\nX-Evil: 1"), "namespace"),
    ]);
}

// b22
#[test]
fn path_that_means_another_one_is_a_mistake() {
    let rows: Vec<(&str, Value, &str)> = [
        "",
        "/secret/x",
        "v1/secret/x",
        "/v1/secret/x",
        "secret/../x",
        "..",
        "secret//x",
        "secret/x/",
        "secret/x.",
        "secret/./x",
        "secret/x?version=1",
        "secret/x#y",
        "secret/%2e%2e/x",
        "secret/\u{e9}",
        "secret/x y",
        "secret/x\ny",
    ]
    .iter()
    .map(|path| ("dependencies/payment/path", json!(path), "Vault path"))
    .collect();
    assert_mistakes(&rows);
    assert_mistakes(&[
        (
            "token/creation_path",
            json!("auth/token/../create"),
            "Vault path",
        ),
        ("certificate/mount", json!("pki/../sys"), "Vault path"),
        ("certificate/role", json!("../role"), "Vault path"),
        ("certificate/ca_path", json!("/pki/cert/ca"), "Vault path"),
    ]);
}

// b23
#[test]
fn name_that_is_no_file_name_is_a_mistake() {
    let long = "x".repeat(256);
    for name in [
        "/etc/passwd",
        "a/b",
        "..",
        "../x",
        ".",
        "..data",
        "a\nb",
        "",
        &long,
    ] {
        assert_mistakes(&[
            ("dependencies/payment/fields", json!([name]), "file name"),
            (
                "dependencies/payment/files",
                json!({name: "x"}),
                "file name",
            ),
            ("java/keystore", json!(name), "file name"),
            ("java/truststore", json!(name), "file name"),
        ]);
        let table = json!({name: {"path": "secret/x"}});
        assert_mistakes(&[("dependencies", table, "name")]);
    }
}

// b24
#[test]
fn typing_error_in_a_value_of_a_certificate_is_a_mistake() {
    let kafka = json!({"role": "x", "common_name": "x.example"});
    let manifest = || {
        SERVICE
            .manifest()
            .set("certificates.kafka-eu", kafka.clone())
            .set("java", json!({}))
    };
    for (template, mistake) in [
        (
            "{{ certificate.chian }}",
            "`certificate` has no `chian` (is `chain` meant?); known are ca, chain, key, not_after, pem, serial_number",
        ),
        (
            "{{ certificates.kafka.key }}",
            "`certificates` has no `kafka`; known are kafka_eu",
        ),
        (
            "{{ certificates.kafka_eu.kye }}",
            "`certificates.kafka_eu` has no `kye` (is `key` meant?)",
        ),
        (
            "{{ certificates.kafka_eu.key.x }}",
            "`certificates.kafka_eu.key` is a text and has no field `x`",
        ),
        (
            "{{ java.keystor }}",
            "`java` has no `keystor` (is `keystore` meant?)",
        ),
    ] {
        for key in ["environment.X", "dependencies.payment.files.x"] {
            let (table, name) = key.rsplit_once('.').expect("a dot");
            let manifest = manifest().set(table, json!({name: template}));
            let run = check(manifest).args(["--log", "human"]).run();
            assert_eq!(run.code, Some(78), "{template}: {run:?}");
            let found = run.stderr.contains(mistake) && run.stderr.contains(": line ");
            assert!(found, "{template}: {mistake}\n{run:?}");
        }
    }
    let sound = "{{ certificates.kafka_eu.key }}{{ certificate.not_after }}{{ java.truststore }}{{ java.password }}";
    let manifest = manifest().set("environment", json!({"X": sound}));
    check(manifest).run().assert_code(0);
}

#[test]
fn two_outputs_with_one_name_are_a_mistake() {
    let further = |name: &str| json!({name: {"role": "x", "common_name": "x.example"}});
    let two =
        |one: &str, other: &str| json!({one: {"path": "secret/x"}, other: {"path": "secret/y"}});
    assert_mistakes(&[
        (
            "dependencies/payment/files",
            json!({"api_key": "x"}),
            "already the file of a field",
        ),
        (
            "dependencies",
            two("tls.crt", "a"),
            "already the name of a file",
        ),
        (
            "dependencies",
            two("tls.pem", "a"),
            "already the name of a file",
        ),
        (
            "dependencies",
            two("certificate", "a"),
            "`certificate` is already the name of a certificate",
        ),
        (
            "certificates",
            further("payment"),
            "`payment` is already the name of a certificate",
        ),
        (
            "certificates",
            further("certificate"),
            "`certificate` is the name of [certificate]",
        ),
        (
            "certificates",
            json!({"a-b": {"role": "x", "common_name": "x"}, "a_b": {"role": "x", "common_name": "x"}}),
            "`a_b` already means something else in templates",
        ),
        (
            "certificates",
            further("tls.pem"),
            "`tls.pem` is already the name of a file",
        ),
        (
            "certificates",
            further("status.json"),
            "`status.json` is already the name of a file",
        ),
        (
            "dependencies",
            two("status.json", "a"),
            "already the name of a file",
        ),
        (
            "dependencies",
            two("a-b", "a_b"),
            "already means something else",
        ),
        (
            "dependencies",
            two("a.b", "a_b"),
            "already means something else",
        ),
        (
            "java/keystore",
            json!("tls.key"),
            "two files would be named",
        ),
        (
            "java/keystore",
            json!("tls.pem"),
            "two files would be named",
        ),
        (
            "java",
            json!({"keystore": "a.p12", "truststore": "a.p12"}),
            "two files would be named",
        ),
        (
            "java/keystore",
            json!("java.args"),
            "two files would be named",
        ),
        (
            "dependencies/payment/fields",
            json!(["api_key", "api_key"]),
            "twice",
        ),
    ]);
}

#[test]
fn variables_of_fields_that_cannot_be_are_a_mistake() {
    let fields = |fields: Value, prefix: &str| json!({"path": "secret/x", "fields": fields, "env_prefix": prefix});
    assert_mistakes(&[
        (
            "dependencies/legacy/env_prefix",
            json!("1DB_"),
            "cannot begin the name of a variable",
        ),
        (
            "dependencies/legacy/env_prefix",
            json!(""),
            "cannot begin the name of a variable",
        ),
        (
            "dependencies/legacy/env_prefix",
            json!("DB-"),
            "cannot begin the name of a variable",
        ),
        (
            "dependencies/legacy",
            fields(json!(["a-b", "a_b"]), "DB_"),
            "the field `a_b` of legacy and the field `a-b` of legacy both give the variable DB_A_B",
        ),
        (
            "dependencies",
            json!({"one": fields(json!(["b_c"]), "A_"), "two": fields(json!(["c"]), "A_B_")}),
            "the field `c` of two and the field `b_c` of one both give the variable A_B_C",
        ),
        (
            "dependencies/legacy",
            fields(json!(["token"]), "VAULT_"),
            "VAULT_TOKEN never reaches the application",
        ),
    ]);
}

#[test]
fn file_of_the_manifest_that_cannot_be_is_a_mistake() {
    let file = |name: &str, file: Value| json!({name: file});
    let mode = |mode: &str| json!({"app.json": {"template": "x", "mode": mode}});
    assert_mistakes(&[
        (
            "files",
            file("tls.pem", json!("x")),
            "`tls.pem` is already the name of a file",
        ),
        (
            "files",
            file("status.json", json!("x")),
            "`status.json` is already the name of a file",
        ),
        (
            "files",
            file(".anteroom-token", json!("x")),
            "`.anteroom-token` is already the name of a file",
        ),
        (
            "files",
            file("legacy", json!("x")),
            "`legacy` is already the name of a folder",
        ),
        (
            "files",
            file("payment/x", json!("x")),
            "write it in [dependencies.payment.files]",
        ),
        (
            "files",
            file("tls.key/x", json!("x")),
            "`tls.key` is already the name of a file, and no folder",
        ),
        (
            "files",
            json!({"a": "x", "a/b": "x"}),
            "`a` is already the name of a file, and no folder",
        ),
        ("files", file("../x", json!("x")), "no leading `..`"),
        ("files", file("/etc/x", json!("x")), "without `/`"),
        ("files", file("a/b/c", json!("x")), "or in one folder there"),
        (
            "files",
            json!({"app": {"json": "x"}}),
            "write `\"app.json\"`",
        ),
        (
            "files",
            file("app.json", json!({"tempalte": "x"})),
            "unknown key `tempalte` in [files.app.json] (is `template` meant?)",
        ),
        (
            "files",
            file("app.json", json!({"mode": "0440"})),
            "neither `template` nor `template_file`",
        ),
        (
            "files",
            file("app.json", json!({"template": "x", "template_file": "/x"})),
            "both `template` and `template_file`",
        ),
        (
            "files",
            file("app.json", json!({"template": "x", "mode": 440})),
            "`mode` in [files.app.json] must be a string, not an integer",
        ),
        ("files", mode("rw"), "`rw` is not a mode in octal digits"),
        ("files", mode("4755"), "write 0755"),
        ("files", mode("0660"), "write 0640"),
        ("files", mode("0040"), "write 0440"),
        (
            "files",
            file(
                "app.json",
                json!({"template": "x", "mode": "0400", "group": "0"}),
            ),
            "which lets no group read",
        ),
        (
            "files",
            file(
                "app.json",
                json!({"template": "x", "group": "unknown-name"}),
            ),
            "the group `unknown-name` is not in /etc/group",
        ),
        (
            "files",
            file("app.json", json!({"template": "x", "group": "deamon"})),
            "the group `deamon` is not in /etc/group (is `daemon` meant?); write its number",
        ),
        (
            "files",
            file("app.json", json!("a\n{{ password | uper }}")),
            "the template of app.json, line 2: unknown filter `uper` (is `upper` meant?)",
        ),
        (
            "dependencies/payment/files",
            file("x", json!({"template": "{{ api_kee }}", "mode": "0440"})),
            "the template of payment/x, line 1: `api_kee` is not known (is `api_key` meant?)",
        ),
    ]);
}

// b25
#[test]
fn unusable_mode_or_user_is_a_mistake() {
    assert_mistakes(&[
        ("secrets/mode", json!("0777"), "unknown key `mode`"),
        (
            "dependencies/payment/mode",
            json!("08"),
            "unknown key `mode`",
        ),
        ("process/user", json!("unknown-name"), "not in /etc/passwd"),
        ("process/user", json!("0:unknown-name"), "not in /etc/group"),
        ("process/user", json!("-1"), "not in /etc/passwd"),
        ("process/user", json!("4294967295"), "not in /etc/passwd"),
        ("process/user", json!("0:4294967295"), "not in /etc/group"),
        ("process/user", json!(""), "not in /etc/passwd"),
        ("process/user", json!("4242"), "group"),
        ("process/user", json!("root:root:root"), "not in /etc/group"),
    ]);
}

// b26
#[test]
fn variable_that_cannot_be_set_is_a_mistake() {
    for name in ["1X", "A=B", "A B", "", "A-B", "\u{c4}"] {
        assert_mistakes(&[("environment", json!({name: "x"}), "name of a variable")]);
    }
    for name in [
        "ANTEROOM_TOKEN",
        "ANTEROOM_TOKEN_FILE",
        "VAULT_TOKEN",
        "BAO_TOKEN",
    ] {
        assert_mistakes(&[(
            "environment",
            json!({name: "x"}),
            "never reaches the application",
        )]);
    }
    // Every process of these tests has a PATH.
    assert_mistakes(&[
        ("environment", json!({"PATH": "/bin"}), "already set"),
        (
            "environment",
            json!({"X": "{{ nowhere.field }}"}),
            "no dependency",
        ),
        ("environment", json!({"X": "{{ unfinished"}), "line"),
    ]);
}

// f4
#[test]
fn unknown_or_unusable_key_of_the_manifest_is_a_mistake() {
    assert_mistakes(&[
        (
            "vault/adress",
            json!("x"),
            "unknown key `adress` in [vault]",
        ),
        (
            "vault/skip_verify",
            json!(true),
            "unknown key `skip_verify`",
        ),
        ("nonsense/x", json!(1), "unknown table [nonsense]"),
        ("nonsense", json!(1), "unknown key `nonsense`"),
        ("service", json!("timeline"), "must be a table"),
        ("service/app", json!(3), "must be a string"),
        ("service/app", json!("../x"), "label"),
        ("service/environment", json!(""), "label"),
        ("vault/pin", json!("yes"), "true or false"),
        ("vault/deadline", json!(25), "must be a string"),
        ("vault/deadline", json!("0s"), "more than zero"),
        ("vault/deadline", json!("5 minutes"), "not a duration"),
        ("vault/client_timeout", json!("-1s"), "not a duration"),
        ("vault/deadline", json!("4294967295d"), "not a duration"),
        ("vault/deadline", json!("4294967295"), "not a duration"),
        (
            "vault/deadline",
            json!("4294967295h".repeat(9)),
            "not a duration",
        ),
        ("token/min_ttl", json!("3661d"), "not a duration"),
        ("token/max_wrap_ttl", json!("soon"), "not a duration"),
        ("token/policies", json!("one"), "list of strings"),
        ("certificate/key_type", json!("rsa-1024"), "not one of"),
        ("certificate/dns_names", json!(["a b"]), "DNS name"),
        (
            "certificate/ip_addresses",
            json!(["300.0.0.1"]),
            "IP address",
        ),
        ("certificate/uris", json!(["no uri"]), "URI"),
        (
            "certificate/common_name",
            json!("x".repeat(65)),
            "common name",
        ),
        ("java/profile", json!("java5"), "not one of"),
        ("process/lifecycle", json!("forever"), "not one of exec"),
        ("dependencies/payment/method", json!("delete"), "not one of"),
        ("dependencies/payment/data", json!({"a": "b"}), "write"),
        ("dependencies/payment/refresh", json!("soon"), "duration"),
        ("dependencies/payment/refresh", json!(300), "a string"),
        (
            "dependencies/payment/refresh",
            json!("999ms"),
            "once a second",
        ),
        ("dependencies/payment/refresh", json!("0s"), "once a second"),
        (
            "dependencies/payment",
            json!({"path": "transit/x", "method": "write", "refresh": "5m"}),
            "`method = \"read\"` only",
        ),
    ]);
}

/// Manifests with a typing error in a template or in a sample, and the text that names it.
fn typing_errors() -> Vec<(Manifest, &'static str)> {
    let sound = || {
        bare("https://vault.example.io").set(
            "dependencies.db",
            json!({
                "path": "database/creds/x",
                "fields": ["username", "password"],
                "sample": {"password": "p"},
            }),
        )
    };
    let file = |text: &str| sound().set("dependencies.db.files", json!({"conf": text}));
    let variable = |text: &str| sound().set("environment", json!({"CONF": text}));
    let own = |text: &str| sound().set("files", json!({"conf.d/app.json": text}));
    vec![
        (
            file("a\n{{ password | tojsn }}"),
            "the template of db/conf, line 2: unknown filter `tojsn` (is `tojson` meant?)",
        ),
        (
            file("{% if app == 'x' %}{{ password | uper }}{% endif %}"),
            "unknown filter `uper` (is `upper` meant?)",
        ),
        (
            file("{% if password is defind %}{% endif %}"),
            "unknown test `defind` (is `defined` meant?)",
        ),
        (
            file("{{ rang(1) }}"),
            "unknown function `rang` (is `range` meant?)",
        ),
        (file("{{ password.upper() }}"), "unknown method `upper`"),
        (
            file("{{ password | replace('a') }}"),
            "the filter `replace` lacks an argument",
        ),
        (
            file("{{ passwort }}"),
            "`passwort` is not known (is `password` meant?)",
        ),
        (
            variable("{{ db.passwort }}"),
            "the template of the variable CONF, line 1: `passwort` is none of the `fields` of `db` (is `password` meant?)",
        ),
        (
            variable("{{ dbx.password }}"),
            "`dbx` is no dependency; known are",
        ),
        (
            variable("\n{{ db }}"),
            "the template of the variable CONF, line 2: `db` is a whole table",
        ),
        (
            sound().set("files", json!({"app.json": "{{ env }}"})),
            "the template of app.json, line 1: `env` is a whole table",
        ),
        (
            file("{% if app == 'x' %}{% set it = db %}{{ it }}{% endif %}{{ db | d('') }}"),
            "the template of db/conf, line 1: a whole table is written",
        ),
        (
            file("{{ ordersdb.password }}"),
            "`ordersdb` is no dependency",
        ),
        (variable("{{ app + 1 }}"), "line 1: invalid operation"),
        (
            variable("\n{{ password }}"),
            "the template of the variable CONF, line 2: `password` is not known (is `db.password` meant?)",
        ),
        (
            sound()
                .set(
                    "dependencies.orders-db",
                    json!({"path": "database/creds/y"}),
                )
                .set("environment", json!({"CONF": "{{ orders-db.password }}"})),
            "`orders` is not known (is `orders_db` meant? In templates",
        ),
        (
            sound().set("dependencies.db.feilds", json!(["username"])),
            "unknown key `feilds` in [dependencies.db] (is `fields` meant?); known are",
        ),
        (
            sound().set("proces", json!({"lifecycle": "exec"})),
            "unknown table [proces] (is `process` meant?); known are",
        ),
        (
            sound().set("process.lifecycle", "supervize"),
            "`supervize` is not one of exec, supervise (is `supervise` meant?)",
        ),
        (
            own("a\n{% if app == 'x' %}\n{{ db.password | tojsn }}{% endif %}"),
            "the template of conf.d/app.json, line 3: unknown filter `tojsn` (is `tojson` meant?)",
        ),
        (
            own("\n{{ dbx.password }}{{ orders.x }}"),
            "the template of conf.d/app.json, line 2: `dbx` is no dependency; known are",
        ),
        (
            own("\n{{ db.passwort | default('') }}{{ db.passwort }}{{ db.usrname.first }}"),
            "line 2: `usrname` is none of the `fields` of `db` (is `username` meant?)",
        ),
        (
            sound().set("dependencies.db.env_prefx", "DB_"),
            "unknown key `env_prefx` in [dependencies.db] (is `env_prefix` meant?)",
        ),
        (
            sound()
                .set("dependencies.db.env_prefix", "DB_")
                .set("dependencies.db.sample", json!({"pasword": "p"})),
            "the sample `pasword` is none of the `fields` of db (is `password` meant?)",
        ),
        (
            sound().set("file", json!({"app.json": "x"})),
            "unknown table [file] (is `files` meant?)",
        ),
        (
            sound().set("dependencies.db.sample", json!({"pasword": "p"})),
            "the sample `pasword` is none of the `fields` of db (is `password` meant?)",
        ),
        (
            sound().set("dependencies.db.sample", json!({"password": 1e300})),
            "`password` in [dependencies.db.sample] has a number that JSON does not hold exactly; write it as a string",
        ),
    ]
}

#[test]
fn typing_error_in_a_template_is_a_mistake_before_the_token() {
    let (wrapped, proxy) = (mint(), recorder());
    for (manifest, text) in typing_errors() {
        let manifest = manifest.set("vault.address", proxy.address());
        let human = |run: Anteroom| run.args(["--log", "human"]);
        let checked = human(check(manifest.clone())).run();
        let dry = human(
            Anteroom::new()
                .manifest(manifest.clone())
                .without_secrets_dir(),
        )
        .arg("--dry-run")
        .shell("echo the application runs")
        .run();
        let started = human(start(manifest)).token(&wrapped).run();
        for (what, run) in [("check", checked), ("a dry run", dry), ("a start", started)] {
            run.assert_code(78);
            assert!(run.stdout.is_empty(), "{what}: {run:?}");
            let found = run.stderr.lines().any(|line| {
                line.contains(text) && line.contains(": line ") && line.contains(", column ")
            });
            assert!(found, "{what}: {text:?} with its place is missing\n{run:?}");
        }
    }
    assert_eq!(proxy.connections(), 0, "Vault was spoken to");
    SERVICE.assert_unused(&wrapped, "a typing error");
}

#[test]
fn sample_that_only_a_file_of_the_manifest_names_is_right() {
    let with = |template: &str| {
        let dependency = json!({"path": "secret/x", "fields": ["a"], "sample": {"note": "x"}});
        let manifest = bare("https://vault.example.io").set("dependencies.db", dependency);
        check(manifest.set("files", json!({"app.json": template}))).run()
    };
    with("{{ db.note | default('') }}").assert_code(0);
    with("{{ db.a }}")
        .assert_code(78)
        .assert_stderr("the sample `note` is none of the `fields` of db");
}

#[test]
fn variable_that_is_not_set_is_named_with_the_nearest() {
    let named = |label: &str| {
        bare("https://vault.example.io").set("secrets.directory", format!("/run/{label}"))
    };
    for (reference, set, expected) in [
        (
            "${REGOIN}",
            "REGION",
            "the variable REGOIN is not set here (is `REGION` meant?)",
        ),
        (
            "${enviroment}",
            "X",
            "the variable enviroment is not set here (is `environment` meant?)",
        ),
        (
            "${ENVIRONMENT}",
            "X",
            "the variable ENVIRONMENT is not set here; its name",
        ),
    ] {
        let checked = check(named(reference)).env(set, "eu").run();
        checked.assert_code(0);
        assert!(
            checked.stdout.contains(expected),
            "{reference}: {checked:?}"
        );
        let policy = Anteroom::new()
            .without_secrets_dir()
            .manifest(named(reference))
            .env(set, "eu")
            .arg("policy")
            .run();
        let (begin, meant) = expected.split_once(" here").expect("both parts");
        policy.assert_code(78).assert_stderr(begin);
        let is_meant = policy.stderr.contains(meant);
        assert_eq!(
            is_meant,
            meant.starts_with(" (is "),
            "{reference}: {policy:?}"
        );
    }
}

#[test]
fn address_that_the_start_alone_knows_is_no_mistake_before() {
    for address in ["${VAULT_URL}", "https://vault.example.io:${VAULT_URL}"] {
        let manifest = bare(address);
        let checked = check(manifest.clone()).run();
        checked.assert_code(0);
        for text in [
            &format!("vault         {address}\n"),
            "the variable VAULT_URL is not set here; what it stands for in [vault] is left to the start",
        ] {
            assert!(checked.stdout.contains(text), "{text}\n{checked:?}");
        }
        let lower = checked.stdout.contains("vault-url");
        assert!(!lower, "an invented address\n{checked:?}");
        let dry = Anteroom::new()
            .manifest(manifest.clone())
            .without_secrets_dir()
            .arg("--dry-run")
            .shell("echo started")
            .run();
        dry.assert_code(0);
        let token = mint();
        let started = start(manifest).token(&token).run();
        started
            .assert_refused(78)
            .assert_stderr("the variable VAULT_URL is not set");
        SERVICE.assert_unused(&token, "an address that is not there");
    }
    // One that is right with any name is shown with it.
    let checked = check(bare("https://${VAULT_HOST}:8200")).run();
    checked.assert_code(0);
    assert!(
        checked.stdout.contains("https://vault-host:8200"),
        "{checked:?}"
    );
    check(bare("ftp://vault.example.io")).run().assert_code(78);
}

#[test]
fn template_that_samples_do_not_fit_fails_where_they_are_used() {
    let manifest = bare("https://vault.example.io")
        .set(
            "dependencies.db",
            json!({"path": "database/creds/x", "files": {"port": "{{ port | int + 1 }}"}}),
        )
        .set("environment", json!({"IP": "{{ env.POD_IP }}"}));
    let run = check(manifest.clone()).run();
    run.assert_code(78).assert_stderr("`sample`");
    // A variable of the container need not be set where the manifest is looked at.
    let sampled = manifest.set("dependencies.db.sample", json!({"port": "5432"}));
    check(sampled.clone()).run().assert_code(0);
    let run = Anteroom::new()
        .manifest(sampled)
        .without_secrets_dir()
        .arg("--dry-run")
        .shell("echo started")
        .run();
    run.assert_code(78)
        .assert_stderr("the variable POD_IP is not set");
}

#[test]
fn health_tries_no_template_on_samples() {
    let directory = TempDir::new();
    // What was published was filled in with the real values, which fit.
    let manifest = bare("https://vault.example.io")
        .set(
            "dependencies.db",
            json!({"path": "database/creds/x", "files": {"port": "{{ port | int + 1 }}"}}),
        )
        .set("secrets.directory", directory.path().display().to_string());
    check(manifest.clone()).run().assert_code(78);
    let run = Anteroom::new()
        .manifest(manifest)
        .without_secrets_dir()
        .arg("health")
        .run();
    run.assert_code(1);
    let place = directory.path().display().to_string();
    assert!(run.stdout.contains(&place), "{run:?}");
}

#[test]
fn unusable_secrets_directory_is_a_mistake() {
    let manifest =
        |path: &str| bare("https://vault.example.io").set("secrets", json!({"directory": path}));
    for path in ["run/secrets", "/run/../secrets", "/", ""] {
        let run = check(manifest(path)).run();
        assert_eq!(run.code, Some(78), "{path:?}\n{run:?}");
        run.assert_stderr("secrets directory");
    }
}

// f4
#[test]
fn reference_to_no_variable_is_a_mistake() {
    assert_mistakes(&[
        (
            "service/environment",
            json!("${NOT_SET}"),
            "NOT_SET is not set",
        ),
        ("service/environment", json!("${ANTEROOM_TOKEN}"), "token"),
        ("service/environment", json!("${VAULT_TOKEN:-x}"), "token"),
        ("service/environment", json!("${A B}"), "${NAME}"),
        ("service/environment", json!("${}"), "${NAME}"),
        ("service/environment", json!("${NAME"), "without its `}`"),
        (
            "service/app",
            json!("${environment}"),
            "needs `environment`",
        ),
        (
            "vault/address",
            json!("https://${HOST_OF_VAULT}"),
            "HOST_OF_VAULT is not set",
        ),
    ]);
}

const MISTAKEN: &str = r#"[service]
app = 3
environment = "${NOT_SET}"
nmae = "x"

[vault]
address = "vault.example.io"

[token]
max_wrap_ttl = "soon"

[certificate]
common_name = "x"

[dependencies.db]
path = "/database/creds/x"
fields = ["username", "../password"]
"#;

const MISTAKES: [(u64, u64, &str); 7] = [
    (2, 7, "`app` in [service] must be a string"),
    (3, 15, "NOT_SET is not set"),
    (4, 1, "unknown key `nmae`"),
    (7, 11, "scheme"),
    (10, 16, "not a duration"),
    (16, 8, "Vault path"),
    (17, 23, "file name"),
];

// f4
#[test]
fn every_mistake_is_named_at_once_with_its_line_and_column() {
    let run = start(MISTAKEN).args(["--log", "human"]).token(mint()).run();
    assert_refused(&run, 78, "human");
    for (line, column, text) in MISTAKES {
        let place = format!("anteroom.toml: line {line}, column {column}: ");
        let found = run
            .stderr
            .lines()
            .any(|line| line.contains(&place) && line.contains(text));
        assert!(found, "{place}{text}\n{run:?}");
    }
    run.assert_stderr("`role` in [certificate] is missing");
    assert!(
        !run.stderr.contains("`app` in [service] is missing"),
        "it is there\n{run:?}"
    );

    let run = start(MISTAKEN).args(["--log", "json"]).token(mint()).run();
    assert_refused(&run, 78, "json");
    let events = run.events();
    for (line, column, text) in MISTAKES {
        let found = events.iter().any(|event| {
            event["line"] == line
                && event["column"] == column
                && openbao::text(&event["message"]).contains(text)
        });
        assert!(found, "line {line}, column {column}: {text}\n{run:?}");
    }
    assert!(
        events.iter().all(|event| event["exit_code"] == 78),
        "{run:?}"
    );
}

// f4
#[test]
fn each_of_a_hundred_mistakes_is_named() {
    let keys: String = (0..100)
        .map(|number| format!("unknown-{number} = \"{}\"\n", "x".repeat(50)))
        .collect();
    for format in ["human", "json"] {
        let run = check(format!("[service]\n{keys}"))
            .args(["--log", format])
            .run();
        run.assert_code(78);
        for number in 0..100 {
            run.assert_stderr(&format!("unknown key `unknown-{number}`"));
        }
    }
}

// f4
#[test]
fn mistakes_in_the_environment_are_named_with_the_others() {
    let run = start(MISTAKEN)
        .args(["--log", "human"])
        .env("VAULT_ADDR", "https://me:canary@vault.example.io")
        .env("VAULT_NAMESPACE", "a//b")
        .env("VAULT_CLIENT_TIMEOUT", "never")
        .token(mint())
        .run();
    assert_refused(&run, 78, "all three");
    for text in [
        "VAULT_ADDR",
        "VAULT_NAMESPACE",
        "VAULT_CLIENT_TIMEOUT",
        "unknown key `nmae`",
    ] {
        run.assert_stderr(text);
    }
    run.assert_no(["canary"]);
}

// f4
#[test]
fn broken_toml_is_a_mistake_with_its_place() {
    for (what, text) in [
        ("no bracket", "[service\napp = \"x\"\n"),
        ("a key twice", "[service]\napp = \"a\"\napp = \"b\"\n"),
        ("a table twice", "[service]\n[service]\n"),
        ("an open string", "[service]\napp = \"a\n"),
        ("a NUL", "[service]\napp = \"a\0\"\n"),
        ("no TOML at all", "{\"service\": {}}\n"),
    ] {
        let run = check(text).args(["--log", "human"]).run();
        run.assert_code(78);
        assert!(
            run.stderr.contains("anteroom.toml: line "),
            "{what}\n{run:?}"
        );
        assert!(run.stdout.is_empty(), "{what}\n{run:?}");
    }
}

// f4
#[test]
fn manifest_that_cannot_be_read_is_named() {
    let directory = TempDir::new();
    let binary = directory.write("binary.toml", b"[service]\napp = \"\xff\"\n");
    let wrapped = mint();
    for path in [
        directory.join("nowhere.toml"),
        directory.path().to_owned(),
        binary,
    ] {
        for command in [&["check"][..], &["--", "/bin/echo", "started"]] {
            let run = Anteroom::new()
                .without_secrets_dir()
                .token(&wrapped)
                .arg("--manifest")
                .arg(&path)
                .args(command)
                .run();
            assert_refused(&run, 78, &path.display().to_string());
            run.assert_stderr("cannot read the manifest")
                .assert_stderr(&path.display().to_string());
        }
    }
    SERVICE.assert_unused(&wrapped, "no manifest");
}

/// Paths to endless things and to no files: a pipe without a writer, an endless device, a directory, and too much of a file.
fn no_files(directory: &TempDir) -> Vec<(std::path::PathBuf, &'static str)> {
    let pipe = directory.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("our own directory");
    let huge = directory.write("huge", "");
    std::fs::File::options()
        .write(true)
        .open(&huge)
        .and_then(|file| file.set_len(1 << 33))
        .expect("a sparse file takes no room");
    vec![
        (pipe, "it is a pipe"),
        ("/dev/zero".into(), "it is a device"),
        (directory.path().to_owned(), "it is a directory"),
        (huge, "it is larger than"),
    ]
}

#[test]
fn manifest_that_is_no_regular_file_is_78_at_once() {
    let directory = TempDir::new();
    let wrapped = mint();
    for (path, text) in no_files(&directory) {
        for command in [&["check"][..], &["--", "/bin/echo", "started"]] {
            let run = Anteroom::new()
                .without_secrets_dir()
                .token(&wrapped)
                .arg("--manifest")
                .arg(&path)
                .args(command)
                .run();
            assert_refused(&run, 78, text);
            run.assert_stderr(text)
                .assert_stderr(&path.display().to_string());
        }
    }
    SERVICE.assert_unused(&wrapped, "no manifest");
}

#[test]
fn ca_that_is_no_regular_file_is_78_at_once() {
    let directory = TempDir::new();
    let wrapped = mint();
    for (path, text) in no_files(&directory) {
        for name in ["VAULT_CACERT", "SSL_CERT_FILE"] {
            let run = start(bare("https://127.0.0.1:9"))
                .env(name, &path)
                .token(&wrapped)
                .run();
            assert_refused(&run, 78, text);
            run.assert_stderr(text)
                .assert_stderr(&path.display().to_string());
        }
    }
    SERVICE.assert_unused(&wrapped, "no CA");
}

#[test]
fn check_needs_no_vault_no_token_and_no_variable() {
    let proxy = recorder();
    let manifest = SERVICE
        .manifest_for(&proxy.address())
        .set("service.environment", "${ENVIRONMENT}");
    let run = check(manifest.clone()).run();
    run.assert_code(0);
    for text in [
        &SERVICE.payment_path(),
        "tls.crt",
        "payment/api_key",
        "status.json",
    ] {
        assert!(run.stdout.contains(text), "{text}\n{run:?}");
    }
    assert!(run.stderr.is_empty(), "{run:?}");
    check(manifest.remove("vault.address")).run().assert_code(0);

    let wrapped = mint();
    let run = check(SERVICE.manifest_for(&proxy.address()))
        .token(&wrapped)
        .run();
    run.assert_code(0).assert_no([&wrapped.token]);
    assert_eq!(proxy.connections(), 0);
    SERVICE.assert_unused(&wrapped, "check");
}

#[test]
fn check_takes_the_manifest_as_an_argument_that_wins() {
    let directory = TempDir::new();
    let good = directory.write("good.toml", bare("https://vault.example.io").to_string());
    let call = || {
        Anteroom::new()
            .without_secrets_dir()
            .args(["check".as_ref(), good.as_os_str()])
    };
    call().run().assert_code(0).assert_no(["nowhere"]);
    for call in [
        call().env("ANTEROOM_MANIFEST", "/nowhere.toml"),
        call().args(["--manifest", "/nowhere.toml"]),
    ] {
        call.run().assert_code(0);
    }
    let missing = Anteroom::new()
        .without_secrets_dir()
        .args(["check", "/nowhere.toml"]);
    missing.run().assert_code(78).assert_stderr("/nowhere.toml");
    let bad = directory.write("bad.toml", MISTAKEN);
    let run = Anteroom::new()
        .without_secrets_dir()
        .args(["check".as_ref(), bad.as_os_str()])
        .run();
    run.assert_code(78).assert_stderr("bad.toml: ");
}

#[test]
fn strict_check_fails_for_each_notice_behind_the_plan() {
    let noticed = || {
        check(bare("https://vault.example.io").set("service.environment", "${NOT_SET}"))
            .env("HTTPS_PROXY", "http://proxy:3128")
    };
    let run = noticed().run();
    run.assert_code(0);
    assert_eq!(run.stderr, "");
    let plan = run.stdout;
    let run = noticed().arg("--strict").run();
    run.assert_code(78);
    assert_eq!(run.stdout, plan, "the plan is the same");
    let events = run.events();
    assert_eq!(events.len(), 2, "{run:?}");
    for (event, text) in events
        .iter()
        .zip(["HTTPS_PROXY is ignored", "NOT_SET is not set"])
    {
        let message = openbao::text(&event["message"]);
        assert!(message.contains(text), "{text}: {message}");
        assert!(message.contains("--strict"), "{message}");
        assert_eq!(event["exit_code"], 78);
    }
    let run = check(bare("https://vault.example.io"))
        .arg("--strict")
        .run();
    run.assert_code(0);
    assert_eq!(run.stderr, "");
}

#[test]
fn plan_names_vault_its_ca_and_the_way_of_the_token() {
    let plain = || bare("https://vault.example.io");
    let nowhere = || bare("x").remove("vault.address");
    let row = |name: &str, value: &str| format!("{name:<14}{value}\n");
    let path = format!("auth/token/create/{}", SERVICE.token_role);
    for (call, rows) in [
        (
            check(plain()),
            vec![
                row("vault", "https://vault.example.io:443"),
                row("  CA", "the system's"),
                row("token", "in ANTEROOM_TOKEN, or where --token-file says"),
                row("  made at", &path),
            ],
        ),
        (
            check(nowhere().set("vault.ca_cert", "/etc/vault-ca.pem")),
            vec![
                row("vault", "where VAULT_ADDR or BAO_ADDR says at the start"),
                row("  CA", "/etc/vault-ca.pem"),
            ],
        ),
        (
            check(plain().set("vault.namespace", "team/"))
                .env("VAULT_ADDR", "https://other.example.io:8200")
                .env("VAULT_CACERT", "/ca.pem")
                .env("ANTEROOM_TOKEN_FILE", "-"),
            vec![
                row("vault", "https://other.example.io:8200, namespace team"),
                row("  CA", "/ca.pem"),
                row("token", "on standard input"),
            ],
        ),
        (
            check(plain()).env("SSL_CERT_FILE", "/bundle.pem"),
            vec![row("  CA", "/bundle.pem")],
        ),
        (
            check(plain().set("vault.pin", true)).env("SSL_CERT_FILE", "/bundle.pem"),
            vec![row("  CA", "the system's")],
        ),
    ] {
        let run = call.run();
        run.assert_code(0);
        for row in rows {
            assert!(run.stdout.contains(&row), "{row}\n{run:?}");
        }
    }
}

// f3, f4
#[test]
fn check_ends_with_78_for_mistakes_and_64_for_bad_usage() {
    check(MISTAKEN).run().assert_code(78);
    check(bare("https://vault.example.io"))
        .arg("--nonsense")
        .run()
        .assert_code(64);
    check(bare("https://vault.example.io"))
        .args(["manifest.toml", "word"])
        .run()
        .assert_code(64);
}

#[test]
fn output_of_64_is_that_of_the_document() {
    let document = std::fs::read_to_string(crate::support::repository().join("docs/exit-codes.md"));
    let document = document.expect("the document");
    let words: Vec<&str> = document.split_whitespace().collect();
    let sentence = "Only what the command line's parser refuses (64) is plain text";
    assert!(words.join(" ").contains(sentence));
    // The parser knows no format yet.
    let run = check(bare("https://vault.example.io"))
        .arg("--nonsense")
        .run();
    run.assert_code(64);
    assert!(run.events().is_empty(), "{run:?}");
    // The other ends with 64 are events like all others.
    let no_command = Anteroom::new().manifest(bare("https://vault.example.io"));
    let two_tokens = start(bare("https://vault.example.io"))
        .token("s.canary")
        .env("ANTEROOM_TOKEN_FILE", "/nowhere");
    for call in [no_command, two_tokens] {
        let run = call.run();
        run.assert_code(64);
        let events = run.events();
        assert_eq!(events.len(), 1, "{run:?}");
        assert_eq!(events[0]["event"], "failed", "{run:?}");
        assert_eq!(events[0]["exit_code"], 64, "{run:?}");
    }
}

// f3
#[test]
fn every_bad_flag_is_named_at_once_and_costs_no_token() {
    let (wrapped, proxy) = (mint(), recorder());
    let rows: &[(&[&str], &[&str])] = &[
        (&["--nonsense"], &["--nonsense"]),
        (&["-x"], &["-x"]),
        (
            &["--nonsense", "--sense=1", "-y"],
            &["--nonsense", "--sense", "-y"],
        ),
        (&["--log", "xml"], &["xml"]),
        (
            &["--log=xml", "--log-level", "loud", "--nonsense"],
            &["xml", "loud", "--nonsense"],
        ),
        (
            &["--token=canary-token", "--nonsense"],
            &["--token", "--nonsense"],
        ),
        (&["--token-file"], &["--token-file"]),
        (&["--log", "human", "--log", "json"], &["--log"]),
        (&["word"], &["word"]),
        (&["--deadline", "soon", "-y"], &["soon", "-y"]),
        (&["--deadline=0s"], &["more than zero"]),
    ];
    for (flags, named) in rows {
        let run = start(bare(&proxy.address()))
            .token(&wrapped)
            .args(*flags)
            .run();
        assert_refused(&run, 64, &format!("{flags:?}"));
        for text in *named {
            run.assert_stderr(text);
        }
        assert_eq!(
            run.stderr.matches("For more information").count(),
            1,
            "{flags:?}\n{run:?}"
        );
        run.assert_no([wrapped.token.as_str(), "canary-token"]);
    }
    assert_eq!(proxy.connections(), 0, "Vault was spoken to");
    SERVICE.assert_unused(&wrapped, "bad usage");
}

#[test]
fn forgotten_double_dash_is_64_and_shows_the_line_to_write() {
    for words in [&["java", "--version"][..], &["java", "--help"]] {
        let run = Anteroom::new().without_secrets_dir().args(words).run();
        run.assert_code(64)
            .assert_stderr("'java'")
            .assert_stderr(r#"anteroom","--"]"#)
            .assert_stderr("-- java");
        assert_eq!(run.stdout, "", "{run:?}");
    }
    // Without any word that could be a command, too.
    let run = Anteroom::new()
        .without_secrets_dir()
        .args(["--nonsense", "--version"])
        .run();
    run.assert_code(64).assert_stderr("--nonsense");
}

// b52
#[test]
fn start_without_a_command_sends_nothing() {
    let (wrapped, proxy) = (mint(), recorder());
    let call = || {
        Anteroom::new()
            .manifest(bare(&proxy.address()))
            .token(&wrapped)
    };
    for run in [call().run(), call().command::<&str>([]).run()] {
        assert_refused(&run, 64, "no command");
        let message = openbao::text(&run.events()[0]["message"]);
        for text in [r#"","--"] and CMD ["COMMAND"]"#, "-- COMMAND ..."] {
            assert!(message.contains(text), "{text}: {message}");
        }
    }
    assert_eq!(proxy.connections(), 0, "Vault was spoken to");
    SERVICE.assert_unused(&wrapped, "no command");
}

#[test]
fn dry_run_prints_the_plan_for_the_typed_flag_alone() {
    let call = || {
        Anteroom::new()
            .without_secrets_dir()
            .manifest(bare("https://vault.example.io"))
    };
    let run = call().arg("--dry-run").run();
    run.assert_code(0);
    assert!(run.stdout.starts_with("service "), "{run:?}");
    for (what, call, line) in [
        (
            "the dashes promise a command",
            call().arg("--dry-run").command::<&str>([]),
            r#","--dry-run","--"] and CMD"#,
        ),
        (
            "the variable is a container's",
            call().env("ANTEROOM_DRY_RUN", "1"),
            r#","--"] and CMD"#,
        ),
        (
            "so it is behind the dashes",
            call().env("ANTEROOM_DRY_RUN", "1").command::<&str>([]),
            r#","--"] and CMD"#,
        ),
    ] {
        let run = call.run();
        assert_eq!(run.code, Some(64), "{what}: {run:?}");
        assert_eq!(run.stdout, "", "{what}");
        let events = run.events();
        assert_eq!(events.len(), 1, "{what}: {run:?}");
        let message = openbao::text(&events[0]["message"]);
        for text in [line, "anteroom check"] {
            assert!(message.contains(text), "{what}: {text}: {message}");
        }
    }
}

#[test]
fn flag_wins_over_the_environment_and_that_over_the_manifest() {
    let manifest = bare("https://vault.example.io")
        .set("vault.deadline", "3s")
        .set("secrets", json!({"directory": "/of/manifest"}));
    let plan = |call: Anteroom| {
        let run = call.run();
        run.assert_code(0);
        let value = |name: &str| {
            let line = run.stdout.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1))
                .unwrap_or_default()
                .to_owned()
        };
        (value("deadline"), value("directory"))
    };
    let pair = |deadline: &str, directory: &str| (deadline.to_owned(), directory.to_owned());
    let call = || check(manifest.clone());
    let set = || {
        call()
            .env("ANTEROOM_DEADLINE", "5s")
            .env("ANTEROOM_SECRETS_DIR", "/of/variable")
    };
    assert_eq!(plan(call()), pair("3", "/of/manifest"));
    assert_eq!(plan(set()), pair("5", "/of/variable"));
    let typed = set().args(["--deadline", "7s", "--secrets-dir", "/of/flag"]);
    assert_eq!(plan(typed), pair("7", "/of/flag"));
    let neither = check(bare("https://vault.example.io"));
    assert_eq!(plan(neither), pair("25", "/run/secrets"));
    // The deadline stands in [vault], the secrets directory does not.
    let pinned = check(manifest.clone().set("vault.pin", true));
    assert_eq!(
        plan(pinned.env("ANTEROOM_DEADLINE", "5s")),
        pair("3", "/of/manifest")
    );

    let directory = TempDir::new();
    let named = directory.write("manifest.toml", manifest.to_string());
    let by_variable = Anteroom::new().without_secrets_dir().arg("check");
    by_variable
        .env("ANTEROOM_MANIFEST", &named)
        .run()
        .assert_code(0);
    let both = check(manifest).env("ANTEROOM_MANIFEST", "/nowhere.toml");
    both.run().assert_code(0);
}

#[test]
fn variable_of_a_log_format_yields_to_the_flag() {
    let call = || start(MISTAKEN).token("s.x").env("ANTEROOM_LOG", "json");
    assert!(!call().run().events().is_empty());
    let run = call().args(["--log", "human"]).run();
    assert!(run.events().is_empty(), "{run:?}");
}

// t23
#[test]
fn environment_says_where_vault_is_and_bao_wins_over_vault() {
    let (of_manifest, of_vault, of_bao) = (dead_end(), dead_end(), dead_end());
    let asked = |call: Anteroom| {
        let before = [&of_manifest, &of_vault, &of_bao].map(FaultProxy::connections);
        assert_refused(&call.token("s.some-token").run(), 76, "the dead end");
        let after = [&of_manifest, &of_vault, &of_bao].map(FaultProxy::connections);
        let grown = (0..3).filter(|&index| after[index] > before[index]);
        grown
            .map(|index| ["manifest", "vault", "bao"][index])
            .collect::<Vec<_>>()
    };
    let call = || start(bare(&of_manifest.address()));
    assert_eq!(asked(call()), ["manifest"]);
    assert_eq!(
        asked(call().env("VAULT_ADDR", of_vault.address())),
        ["vault"]
    );
    assert_eq!(asked(call().env("BAO_ADDR", of_bao.address())), ["bao"]);
    let both = call()
        .env("VAULT_ADDR", of_vault.address())
        .env("BAO_ADDR", of_bao.address());
    assert_eq!(asked(both), ["bao"]);
    let empty = call()
        .env("VAULT_ADDR", of_vault.address())
        .env("BAO_ADDR", "");
    assert_eq!(asked(empty), ["vault"], "an empty variable is none");
}

// t23
#[test]
fn pinned_manifest_cannot_be_pointed_at_another_vault() {
    let rogue = dead_end();
    let pinned = || bare(SERVICE.admin.address()).set("vault.pin", true);
    for (what, value) in [
        ("rogue", rogue.address()),
        ("broken", "no address".to_owned()),
    ] {
        let run = start(pinned())
            .env("VAULT_ADDR", &value)
            .env("BAO_ADDR", &value)
            .env("VAULT_NAMESPACE", "rogue")
            .env("BAO_NAMESPACE", "a//b")
            .env("VAULT_TLS_SERVER_NAME", "rogue.example.io")
            .env("VAULT_CACERT", "/nowhere.pem")
            .env("VAULT_CLIENT_TIMEOUT", "never")
            .env("SSL_CERT_FILE", "/nowhere.pem")
            .token(mint())
            .run();
        assert_started(&run, what);
    }
    assert_eq!(rogue.connections(), 0);

    let wrapped = mint();
    let run = start(pinned().remove("vault.address"))
        .env("VAULT_ADDR", SERVICE.admin.address())
        .token(&wrapped)
        .run();
    assert_refused(&run, 78, "pinned to nothing");
    run.assert_stderr("pin = true");
    SERVICE.assert_unused(&wrapped, "pinned to nothing");
    for words in [
        &["check"][..],
        &["check", "--strict"],
        &["policy"],
        &["--dry-run"],
    ] {
        let run = Anteroom::new()
            .without_secrets_dir()
            .manifest(pinned().remove("vault.address"))
            .env("VAULT_ADDR", SERVICE.admin.address())
            .args(words)
            .run();
        run.assert_code(78)
            .assert_stderr("`pin = true` leaves no other");
    }
}

// t23
#[test]
fn pinned_manifest_trusts_no_ca_of_the_environment() {
    let server = TlsServer::start(Defect::None);
    for name in ["VAULT_CACERT", "BAO_CACERT", "SSL_CERT_FILE"] {
        let manifest = bare(&server.address()).set("vault.pin", true);
        let run = start(manifest)
            .env(name, server.ca_pem_path())
            .token("s.canary")
            .run();
        assert_refused(&run, 76, name);
    }
    assert!(server.application_bytes().is_empty(), "the token went out");
}

// t23
#[test]
fn verification_cannot_be_switched_off() {
    let server = TlsServer::start(Defect::WrongCa);
    for name in ["VAULT_SKIP_VERIFY", "BAO_SKIP_VERIFY"] {
        for pin in [false, true] {
            let manifest = bare(&server.address())
                .set("vault.ca_cert", server.ca_pem_path().display().to_string())
                .set("vault.pin", pin);
            let run = start(manifest).env(name, "true").token("s.canary").run();
            assert_refused(&run, 76, name);
            let mut notices = run.events();
            notices.retain(|event| event["event"] == "notice");
            assert_eq!(notices.len(), 1, "{run:?}");
            let message = openbao::text(&notices[0]["message"]);
            assert!(
                message.contains(name) && message.contains("ignored"),
                "{message}"
            );
        }
    }
    assert!(server.application_bytes().is_empty(), "the token went out");
}

#[test]
fn variable_of_other_clients_is_ignored_with_its_notice() {
    let kinds: [(&[&str], &str); 4] = [
        (
            &[
                "HTTPS_PROXY",
                "https_proxy",
                "VAULT_PROXY_ADDR",
                "BAO_PROXY_ADDR",
            ],
            "directly",
        ),
        (
            &["VAULT_CLIENT_CERT", "BAO_CLIENT_KEY"],
            "client certificate",
        ),
        (&["VAULT_CAPATH", "BAO_CAPATH"], "VAULT_CACERT"),
        (&["BAO_SKIP_VERIFY", "VAULT_SKIP_VERIFY"], "verified"),
    ];
    let mut start = start(bare("http://127.0.0.1:1")).args(["--deadline", "200ms"]);
    for name in kinds.iter().flat_map(|(names, _)| *names) {
        start = start.env(name, "s.canary");
    }
    let run = start.token("s.some-token").run();
    let mut notices = run.events();
    notices.retain(|event| event["event"] == "notice");
    assert_eq!(notices.len(), kinds.len(), "{run:?}");
    for (names, word) in kinds {
        let notice = notices
            .iter()
            .map(|notice| openbao::text(&notice["message"]))
            .find(|text| text.contains(names[0]))
            .expect("its kind is noticed");
        let has_all = names.iter().all(|name| notice.contains(name));
        assert!(has_all && notice.contains("ignored"), "{notice}");
        assert!(notice.contains(word), "{notice}");
    }
    run.assert_no(["canary"]);
}

#[test]
fn half_an_ip_address_is_a_mistake() {
    for address in [
        "https://127.1",
        "http://127.1:8200",
        "https://10.0.0",
        "https://0x7f000001",
    ] {
        let run = start(bare(address)).token("s.some-token").run();
        assert_refused(&run, 78, address);
        run.assert_stderr("not an IP address in full");
    }
}

// b19, b20
#[test]
fn unusable_ca_file_is_found_before_the_token_is_touched() {
    let directory = TempDir::new();
    let server = TlsServer::start(Defect::None);
    let ca = std::fs::read_to_string(server.ca_pem_path()).expect("the server's CA");
    let identity = Authority::new("some CA").issue(&["a"], crate::support::tls::Validity::CURRENT);
    let expired = Authority::with_validity("old CA", crate::support::tls::Validity::PAST);
    let base64: String = ca.lines().filter(|line| !line.starts_with('-')).collect();
    let der = decode(&base64);
    let wrapped = mint();
    for (what, content, text) in [
        ("empty", Vec::new(), "empty"),
        ("DER", der, "DER"),
        ("no PEM", b"hello".to_vec(), "no PEM certificate"),
        (
            "a key beside it",
            format!("{ca}{}", identity.key_pem).into(),
            "private key",
        ),
        (
            "a key alone",
            identity.key_pem.clone().into(),
            "private key",
        ),
        (
            "a broken certificate",
            ca.replace('M', "N").into(),
            "cannot be used",
        ),
        (
            "a certificate cut off",
            ca[..ca.len() / 2].into(),
            "cannot be used",
        ),
        ("expired", expired.pem().into(), "expired"),
        (
            "a thousand and one",
            ca.repeat(1001).into(),
            "more than 1000",
        ),
        ("ten thousand", ca.repeat(10_000).into(), "larger than"),
    ] {
        let path = directory.write("ca.pem", content);
        let manifest = bare(&server.address()).set("vault.ca_cert", path.display().to_string());
        let run = start(manifest).token(&wrapped).run();
        assert_refused(&run, 78, what);
        run.assert_stderr(text).assert_stderr("ca.pem");
    }
    for path in [directory.path().to_owned(), directory.join("nowhere.pem")] {
        for name in ["VAULT_CACERT", "BAO_CACERT"] {
            let run = start(bare(&server.address()))
                .env(name, &path)
                .token(&wrapped)
                .run();
            assert_refused(&run, 78, &path.display().to_string());
        }
    }
    assert!(server.handshakes().is_empty(), "the server was spoken to");
    SERVICE.assert_unused(&wrapped, "a bad CA file");
}

fn decode(base64: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for letter in base64.bytes().filter(|letter| *letter != b'=') {
        let value = LETTERS
            .iter()
            .position(|known| *known == letter)
            .expect("base64");
        bits = bits << 6 | u32::try_from(value).expect("below 64");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

// b18
#[test]
fn address_is_normalised_before_it_is_used() {
    let proxy = recorder();
    let port = proxy
        .address()
        .rsplit_once(':')
        .expect("a port")
        .1
        .to_owned();
    for address in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}"),
        format!("http://LOCALHOST:{port}/"),
    ] {
        let before = proxy.requests().len();
        assert_started(&start(bare(&address)).token(mint()).run(), &address);
        let requests = proxy.requests();
        assert_eq!(
            requests[before].path, "/v1/sys/wrapping/lookup",
            "{address}"
        );
    }
}

// b18
#[test]
fn ipv6_address_stands_in_brackets() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return;
    };
    let address = listener.local_addr().expect("a bound socket has one");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client connects");
        let mut request = Vec::new();
        let mut chunk = [0; 1024];
        while !request.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut chunk).expect("a request");
            assert!(count > 0, "the request is cut off");
            request.extend_from_slice(&chunk[..count]);
        }
        let _ =
            stream.write_all(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        String::from_utf8_lossy(&request).to_ascii_lowercase()
    });
    let run = start(bare(&format!("http://{address}")))
        .token("s.some-token")
        .run();
    assert_refused(&run, 76, "an answer that is not Vault's");
    let request = server.join().expect("the server ends");
    assert!(
        request.contains(&format!("host: {address}\r\n")),
        "{request}"
    );
}

// b17
#[test]
fn plain_http_to_another_machine_needs_permission() {
    let proxy = recorder();
    // Not a loopback address by its number, but it leads to this machine.
    let address = proxy.address().replace("127.0.0.1", "0.0.0.0");
    let wrapped = mint();
    let run = start(bare(&address)).token(&wrapped).run();
    assert_refused(&run, 78, "http");
    let run = start(bare(SERVICE.admin.address()))
        .env("VAULT_ADDR", &address)
        .token(&wrapped)
        .run();
    assert_refused(&run, 78, "http in the environment");
    assert_eq!(proxy.connections(), 0);
    let permitted = bare(&address).set("vault.allow_http", true);
    assert_started(&start(permitted).token(&wrapped).run(), "allow_http");
}

// b21
#[test]
fn namespace_loses_its_outer_slashes() {
    let server = dead_end();
    let sent = |call: Anteroom| {
        let before = server.requests().len();
        assert_refused(&call.token("s.some-token").run(), 76, "the dead end");
        server.requests()[before]
            .header("x-vault-namespace")
            .map(str::to_owned)
    };
    let written = |text: &str| start(bare(&server.address()).set("vault.namespace", text));
    let set = |name: &str, text: &str| {
        start(bare(&server.address()).set("vault.namespace", "written")).env(name, text)
    };
    for text in ["team/inner", "/team/inner", "team/inner/", "/team/inner/"] {
        assert_eq!(sent(written(text)).as_deref(), Some("team/inner"), "{text}");
        assert_eq!(
            sent(set("VAULT_NAMESPACE", text)).as_deref(),
            Some("team/inner"),
            "{text}"
        );
        assert_eq!(
            sent(set("BAO_NAMESPACE", text)).as_deref(),
            Some("team/inner"),
            "{text}"
        );
    }
    for text in ["", "/", "root"] {
        assert_eq!(sent(written(text)), None, "{text:?}");
    }
    assert_eq!(sent(set("VAULT_NAMESPACE", "")).as_deref(), Some("written"));
    assert_eq!(sent(start(bare(&server.address()))), None);
}

#[test]
fn client_timeout_bounds_each_answer() {
    for (name, value) in [
        ("VAULT_CLIENT_TIMEOUT", "1"),
        ("BAO_CLIENT_TIMEOUT", "1000ms"),
    ] {
        let proxy = FaultProxy::start(SERVICE.admin.address(), |seen| {
            if seen.is("sys/wrapping/lookup") && seen.nth == 1 {
                Fault::Hang
            } else {
                Fault::Pass
            }
        });
        let run = start(bare(&proxy.address()))
            .env(name, value)
            .token(mint())
            .run();
        assert_started(&run, name);
        assert_eq!(proxy.count("sys/wrapping/lookup"), 2, "{name}");
    }
}

#[test]
fn names_and_defaults_are_put_in_and_two_dollars_stand_for_one() {
    let manifest = bare(SERVICE.admin.address())
        .set("service.environment", "${ENVIRONMENT:-${x}")
        .set("service.app", "${APP}");
    start(manifest)
        .token("s.x")
        .env("APP", &SERVICE.app)
        .run()
        .assert_code(78);

    let manifest = bare("${ADDRESS}")
        .set("service.app", "${APP}")
        .set("service.environment", "${ENVIRONMENT:-test}")
        .set(
            "token.creation_path",
            "auth/${TOKEN_MOUNT:-token}/create/${app}-${environment}",
        );
    for (what, environment) in [
        ("not set", None),
        ("empty", Some("")),
        ("set", Some("test")),
    ] {
        let mut call = start(manifest.clone())
            .env("APP", &SERVICE.app)
            .env("ADDRESS", SERVICE.admin.address());
        if let Some(value) = environment {
            call = call.env("ENVIRONMENT", value);
        }
        assert_started(&call.token(mint()).run(), what);
    }
    let literal = bare("https://vault.example.io").set(
        "dependencies",
        json!({"db": {
            "path": "database/creds/x", "method": "write", "data": {"statement": "$${NOT_SET}"},
        }}),
    );
    check(literal).run().assert_code(0);
}

// b27
#[test]
fn last_of_two_variables_with_one_name_counts() {
    let (first, last) = (dead_end(), recorder());
    let wrapped = mint();
    let directory = crate::support::tmpfs_dir();
    let scratch = TempDir::new();
    let manifest = scratch.write(
        "anteroom.toml",
        bare("https://vault.example.io").to_string(),
    );
    let text = |text: &str| CString::new(text).expect("no NUL");
    let path = |path: &Path| CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    let arguments = [
        text("anteroom"),
        text("--manifest"),
        path(&manifest),
        text("--secrets-dir"),
        path(directory.path()),
        text("--"),
        text("/usr/bin/env"),
    ];
    let variables = [
        text(&format!("VAULT_ADDR={}", first.address())),
        text("TWICE=first"),
        text("ANTEROOM_TOKEN=s.first-canary"),
        text("TWICE=last"),
        text(&format!("VAULT_ADDR={}", last.address())),
        text(&format!("ANTEROOM_TOKEN={}", wrapped.token)),
    ];
    let binary = text(env!("CARGO_BIN_EXE_anteroom"));
    // `Command` knows no variable twice, so the child becomes anteroom before `Command` makes it something else; after
    // a fork glibc's allocator, which `execve` of nix needs, is usable.
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing else starts a process with a variable that comes twice"
    )]
    let run = Anteroom::new()
        .program("/bin/false")
        .pre_exec(
            move || match nix::unistd::execve(&binary, &arguments, &variables) {
                Ok(never) => match never {},
                Err(error) => Err(error.into()),
            },
        )
        .run();
    run.assert_code(0);
    assert_eq!(first.connections(), 0);
    let twice: Vec<&str> = run
        .stdout
        .lines()
        .filter(|line| line.starts_with("TWICE="))
        .collect();
    assert_eq!(twice, ["TWICE=last"]);
    run.assert_no([wrapped.token.as_str(), "first-canary"]);
}

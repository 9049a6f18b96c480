//! A dry run: everything that a start does, without a Vault; and the plan. No test here needs a server.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts the programs that read the files"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::openbao::text;
use crate::support::{Anteroom, Manifest, TempDir, probe, tmpfs_dir, wait_for};

const SAMPLE: &str = "canary-sample-1234";
const COMMON_NAME: &str = "timeline.test.example.io";

pub(super) fn manifest() -> Manifest {
    Manifest::empty()
        .set("service.app", "timeline")
        .set("service.environment", "test")
        .set("vault.address", "https://vault.example.io:8200")
        .set("token.creation_path", "auth/token/create/timeline-test")
        .set("certificate.role", "timeline")
        .set("certificate.common_name", COMMON_NAME)
        .set("java", json!({}))
        .set("dependencies.db.path", "database/creds/timeline")
        .set("dependencies.db.sample.username", "dev")
        .set("dependencies.db.sample.password", SAMPLE)
        .set("dependencies.pay.path", "secret/data/pay")
        .set("dependencies.pay.fields", json!(["api_key"]))
        .set("environment.PGUSER", "{{ db.username }}")
        .set("environment.SECRETS", "{{ secrets_dir }}")
}

pub(super) fn dry_run() -> Anteroom {
    Anteroom::new().arg("--dry-run")
}

/// One that chooses its directory itself, below `parent`.
fn private(parent: &Path) -> Anteroom {
    dry_run()
        .without_secrets_dir()
        .env("XDG_RUNTIME_DIR", parent)
        .manifest(manifest())
}

#[track_caller]
fn assert_gets_empty(directory: &Path) {
    wait_for(
        "the private directory to go",
        Duration::from_secs(10),
        || {
            let mut names = fs::read_dir(directory).expect("ours");
            names.next().is_none().then_some(())
        },
    );
}

#[test]
fn dry_run_needs_no_network_and_no_token() {
    let scratch = TempDir::new();
    let program = scratch.write(
        "program",
        format!(
            "#!/bin/sh\nexec unshare --net {} \"$@\"\n",
            env!("CARGO_BIN_EXE_anteroom")
        ),
    );
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("ours");
    let run = dry_run()
        .program(program)
        .manifest(manifest())
        .shell("grep -c : /proc/net/dev; echo $PGUSER")
        .run();
    run.assert_code(0);
    // The loopback device alone.
    assert_eq!(run.stdout, "1\ndev\n");
    assert_eq!(run.file("db/password").text(), SAMPLE);
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .output()
        .expect("openssl can be started");
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn key_type_and_names_are_the_manifests_and_the_chain_verifies() {
    for (key_type, algorithm) in [
        ("ec-p256", "NIST CURVE: P-256"),
        ("ec-p384", "NIST CURVE: P-384"),
        ("ed25519", "ED25519 Public-Key"),
        ("rsa-2048", "Public-Key: (2048 bit)"),
        ("rsa-3072", "Public-Key: (3072 bit)"),
    ] {
        let run = dry_run()
            .manifest(
                manifest()
                    .set("certificate.key_type", key_type)
                    .set(
                        "certificate.dns_names",
                        json!(["localhost", "*.example.io"]),
                    )
                    .set("certificate.ip_addresses", json!(["127.0.0.1", "::1"]))
                    .set("certificate.uris", json!(["spiffe://example.io/timeline"]))
                    .set("certificate.ttl", "2h"),
            )
            .command(["/bin/true"])
            .run();
        assert_eq!(run.code, Some(0), "{key_type}: {run:?}");
        let at = |name: &str| run.secrets_dir.join(name).display().to_string();
        let (leaf, key, ca) = (at("tls.crt"), at("tls.key"), at("ca.crt"));
        for purpose in ["sslserver", "sslclient"] {
            openssl(&[
                "verify",
                "-x509_strict",
                "-purpose",
                purpose,
                "-CAfile",
                &ca,
                &leaf,
            ]);
        }
        let shown = openssl(&["x509", "-in", &leaf, "-noout", "-text"]);
        assert!(shown.contains(algorithm), "{key_type}: {shown}");
        assert!(
            shown.contains(&format!("Subject: CN = {COMMON_NAME}")),
            "{key_type}: {shown}"
        );
        let names = format!(
            "DNS:{COMMON_NAME}, DNS:localhost, DNS:*.example.io, IP Address:127.0.0.1, \
             IP Address:0:0:0:0:0:0:0:1, URI:spiffe://example.io/timeline"
        );
        assert!(shown.contains(&names), "{key_type}: {shown}");
        assert_eq!(
            openssl(&["x509", "-in", &leaf, "-noout", "-pubkey"]),
            openssl(&["pkey", "-in", &key, "-pubout"]),
            "{key_type}"
        );
        let status: Value = serde_json::from_slice(&run.file("status.json").bytes).expect("JSON");
        let serial = text(&status["certificate"]["serial_number"]).replace(':', "");
        let shown = openssl(&["x509", "-in", &leaf, "-noout", "-serial"]);
        assert_eq!(
            shown.trim().to_lowercase(),
            format!("serial={serial}"),
            "{key_type}"
        );
    }
}

#[test]
fn samples_are_the_manifests_and_the_rest_is_invented() {
    let run = dry_run()
        .manifest(
            manifest()
                .set("dependencies.queue.path", "rabbitmq/creds/timeline")
                .set_at(
                    &["dependencies", "queue", "files", "url"],
                    "amqp://{{ username }}@{{ host }}\n",
                )
                .set_at(
                    &["dependencies", "db", "files", "pgpass"],
                    "db:5432:*:{{ username }}:{{ password }}",
                )
                .set("environment.QUEUE_VHOST", "{{ queue.vhost }}"),
        )
        .shell("echo $PGUSER; echo $QUEUE_VHOST")
        .run();
    run.assert_code(0);
    for (name, value) in [
        ("db/username", "dev"),
        ("db/password", SAMPLE),
        ("db/pgpass", "db:5432:*:dev:canary-sample-1234"),
        ("pay/api_key", "sample-pay-api_key"),
        (
            "queue/url",
            "amqp://sample-queue-username@sample-queue-host\n",
        ),
        ("queue/vhost", "sample-queue-vhost"),
    ] {
        assert_eq!(run.file(name).text(), value, "{name}");
    }
    assert_eq!(run.stdout, "dev\nsample-queue-vhost\n");
}

#[test]
fn sample_takes_its_value_from_the_environment_or_a_default() {
    let sampled = || {
        manifest()
            .set("dependencies.db.sample.username", "${DB_USER:-dev}-$${x}")
            .set("dependencies.db.sample.password", "${DB_PASSWORD}")
    };
    for (what, call, username, password) in [
        ("nothing is set", dry_run(), "dev-${x}", "db-password"),
        (
            "both are set",
            dry_run().env("DB_USER", "me").env("DB_PASSWORD", SAMPLE),
            "me-${x}",
            SAMPLE,
        ),
    ] {
        let run = call
            .manifest(sampled())
            .shell("printf %s \"$PGUSER\"")
            .run();
        assert_eq!(run.code, Some(0), "{what}: {run:?}");
        assert_eq!(run.file("db/username").text(), username, "{what}");
        assert_eq!(run.file("db/password").text(), password, "{what}");
        assert_eq!(run.stdout, username, "{what}");
        let is_noticed = run.stderr.contains("DB_PASSWORD is not set here");
        assert_eq!(is_noticed, password != SAMPLE, "{what}: {run:?}");
        run.assert_no([SAMPLE]);
    }
    // What a dry run alone uses is no notice to a strict check.
    let run = Anteroom::new()
        .without_secrets_dir()
        .manifest(sampled().set("process.on_rotate", "SIGHUP"))
        .args(["check", "--strict"])
        .run();
    run.assert_code(0);
}

#[test]
fn sample_that_cannot_be_expanded_is_a_mistake_and_not_shown() {
    for sample in [
        "${canary-sample-1234",
        "${canary-sample-1234}",
        "${VAULT_TOKEN:-canary-sample-1234}",
    ] {
        let wrong = manifest().set("dependencies.db.sample.password", sample);
        for call in [
            dry_run().shell("echo started"),
            Anteroom::new().without_secrets_dir().arg("check"),
            Anteroom::new().token("s.some-token").shell("echo started"),
        ] {
            let run = call.manifest(wrong.clone()).env("VAULT_TOKEN", "s.x").run();
            run.assert_code(78).assert_stderr("the sample `password`");
            run.assert_no([SAMPLE]);
            assert!(run.events()[0]["line"].is_u64(), "{run:?}");
        }
    }
}

// b26
#[test]
fn variable_that_a_dry_run_has_already_wins_with_a_notice() {
    let manifest = manifest().set("environment.OTHER", "{{ db.schema }}");
    let run = dry_run()
        .manifest(manifest.clone())
        .env("PGUSER", "mine")
        .env("OTHER", "")
        .shell("echo $PGUSER:$OTHER; env | grep -c ^PGUSER=")
        .run();
    run.assert_code(0);
    assert_eq!(run.stdout, "mine:\n1\n");
    for name in ["PGUSER", "OTHER"] {
        let noticed = run.named("notice").iter().any(|event| {
            let message = text(&event["message"]);
            message.starts_with(name) && message.contains("a start would refuse it")
        });
        assert!(noticed, "{name}: {run:?}");
    }
    // Its template still says which fields are wanted, and is still looked at.
    assert_eq!(run.file("db/schema").text(), "sample-db-schema");
    let wrong = manifest.set("environment.OTHER", "{{ db.schema | int }}");
    let run = dry_run()
        .manifest(wrong)
        .env("OTHER", "set")
        .shell("echo started")
        .run();
    run.assert_code(78).assert_stderr("the variable OTHER");
}

// x14
#[test]
fn dry_run_prints_no_value() {
    for level in ["info", "debug"] {
        let run = dry_run()
            .args(["--log-level", level])
            .manifest(manifest())
            .command(["/bin/true"])
            .run();
        run.assert_code(0);
        let mut secrets = vec![SAMPLE.to_owned(), "sample-pay-api_key".to_owned()];
        secrets.push(run.file("keystore.password").text().to_owned());
        secrets.push(
            run.file("tls.key")
                .text()
                .lines()
                .nth(1)
                .expect("PEM")
                .to_owned(),
        );
        run.assert_no(secrets);
    }
}

#[test]
fn private_directory_is_a_tmpfs_that_goes_with_the_application() {
    let end = [None, Some(Signal::SIGTERM), Some(Signal::SIGKILL)];
    for (uid, signal) in [
        (None, end[0]),
        (None, end[1]),
        (None, end[2]),
        (Some(1000), end[2]),
    ] {
        let parent = tmpfs_dir();
        let mut call = private(parent.path());
        if let Some(uid) = uid {
            std::os::unix::fs::chown(parent.path(), Some(uid), None)
                .expect("root can give directories away");
            call = call.uid(uid);
        }
        let stdin = if signal.is_none() { "go\n" } else { "" };
        let mut running = call
            .stdin(stdin)
            .shell("echo $SECRETS; cat $SECRETS/db/username; echo; test -n \"$0\"; read go || exec sleep 1000")
            .spawn();
        running.wait_for_stdout("dev\n");
        let stdout = running.stdout();
        let path = Path::new(stdout.lines().next().expect("a line")).to_owned();
        assert_eq!(path.parent(), Some(parent.path()));
        running.wait_for_stderr(path.to_str().expect("text"));
        if let Some(signal) = signal {
            let found = fs::metadata(&path).expect("it is there");
            assert_eq!(found.permissions().mode() & 0o7777, 0o700);
            let kind = nix::sys::statfs::statfs(&path)
                .expect("it is there")
                .filesystem_type();
            assert_eq!(kind, nix::sys::statfs::TMPFS_MAGIC);
            running.kill(signal);
        }
        drop(running.wait());
        assert_gets_empty(parent.path());
    }
}

#[test]
fn private_directory_is_a_tmpfs_without_a_runtime_directory() {
    let run = dry_run()
        .without_secrets_dir()
        .manifest(manifest())
        .shell("echo $SECRETS; stat -f -c %T $SECRETS")
        .run();
    run.assert_code(0);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(lines[0].starts_with("/dev/shm/anteroom-"), "{run:?}");
    assert_eq!(lines[1], "tmpfs");
    let path = lines[0].to_owned();
    wait_for(
        "the private directory to go",
        Duration::from_secs(10),
        || (!Path::new(&path).exists()).then_some(()),
    );
}

#[test]
fn shortest_application_leaves_no_private_directory() {
    let parent = tmpfs_dir();
    let mut fastest = Duration::MAX;
    for _ in 0..40 {
        let run = private(parent.path()).command(["/bin/true"]).run();
        run.assert_code(0);
        fastest = fastest.min(run.elapsed);
    }
    assert_gets_empty(parent.path());
    // So long PID 1 waits for a keeper whose end it does not hear, since the process that sweeps holds the link open.
    assert!(fastest < Duration::from_millis(2500), "{fastest:?}");
}

#[test]
fn dry_run_that_fails_leaves_no_private_directory() {
    let parent = tmpfs_dir();
    for (what, manifest, command, code) in [
        (
            "a field that cannot be a file",
            manifest().set_at(&["dependencies", "db", "sample", "a=b"], "x"),
            "/bin/true",
            78,
        ),
        ("a command", manifest(), "/no/such/command", 127),
    ] {
        let run = private(parent.path())
            .manifest(manifest)
            .command([command])
            .run();
        assert_eq!(run.code, Some(code), "{what}: {run:?}");
        run.assert_no([SAMPLE]);
        assert_gets_empty(parent.path());
    }
}

#[test]
fn application_of_a_dry_run_has_no_child_and_its_streams_end() {
    let parent = tmpfs_dir();
    let run = private(parent.path())
        .command([
            probe().as_os_str(),
            "state".as_ref(),
            "/dev/stdout".as_ref(),
        ])
        .run();
    run.assert_code(0);
    assert!(run.stdout.contains("\nchildren ECHILD\n"), "{run:?}");
    assert!(
        run.output_closed,
        "a process holds the application's output open"
    );
    assert_gets_empty(parent.path());
}

#[test]
fn named_directory_is_used_and_stays() {
    let directory = tmpfs_dir();
    let at_hand = [
        dry_run().secrets_dir(directory.path()),
        dry_run()
            .without_secrets_dir()
            .env("ANTEROOM_SECRETS_DIR", directory.path()),
    ];
    for call in at_hand {
        let run = call.manifest(manifest()).shell("echo $SECRETS").run();
        run.assert_code(0);
        assert_eq!(
            run.stdout.trim_end(),
            directory.path().to_str().expect("text")
        );
        let files = crate::support::anteroom::files_in(directory.path());
        assert_eq!(files["db/password"].text(), SAMPLE);
    }
}

#[test]
fn application_of_a_dry_run_reads_its_files_as_its_own_user() {
    // Where every user may pass through, as /dev/shm is.
    let parent = tmpfs_dir();
    fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).expect("ours");
    let run = private(parent.path())
        .manifest(manifest().set("process.user", "1234:1234"))
        .shell("id -u; cat $SECRETS/db/password")
        .run();
    run.assert_code(0);
    assert_eq!(run.stdout, format!("1234\n{SAMPLE}"));
    assert_gets_empty(parent.path());
}

#[test]
fn variable_asks_for_a_dry_run_too() {
    for value in ["1", "true", "yes"] {
        let run = Anteroom::new()
            .env("ANTEROOM_DRY_RUN", value)
            .manifest(manifest())
            .shell("echo $PGUSER")
            .run();
        assert_eq!(run.code, Some(0), "{value}: {run:?}");
        assert_eq!(run.stdout, "dev\n", "{value}");
    }
    for (value, code) in [("0", 66), ("false", 66), ("perhaps", 64)] {
        let run = Anteroom::new()
            .env("ANTEROOM_DRY_RUN", value)
            .manifest(manifest())
            .shell("echo started")
            .run();
        assert_eq!(run.code, Some(code), "{value}: {run:?}");
        assert_eq!(run.stdout, "", "{value}");
    }
}

// x14
#[test]
fn plan_names_what_a_start_would_do_and_no_value() {
    let manifest = manifest()
        .set("service.environment", "${ENVIRONMENT:-staging}")
        .set("certificate.uris", json!(["spiffe://example.io/timeline"]))
        .set(
            "certificates.kafka",
            json!({"mount": "clients", "role": "kafka", "common_name": "x.example", "der": true}),
        )
        .set("dependencies.token.path", "auth/approle/login")
        .set("dependencies.token.method", "write")
        .set(
            "dependencies.token.data",
            json!({"secret_id": "canary-data-1"}),
        )
        .set_at(
            &["dependencies", "db", "files", "pgpass"],
            "canary-template {{ username }}",
        )
        .set("environment.FIXED", "canary-variable");
    let parent = tmpfs_dir();
    let dry = Anteroom::new().arg("--dry-run").without_secrets_dir();
    let check = Anteroom::new().arg("check").without_secrets_dir();
    for (what, call) in [("--dry-run", dry), ("check", check)] {
        let run = call
            .env("XDG_RUNTIME_DIR", parent.path())
            .manifest(manifest.clone())
            .run();
        assert_eq!(run.code, Some(0), "{what}: {run:?}");
        for part in [
            "timeline in staging",
            "pki/sign/timeline",
            COMMON_NAME,
            "spiffe://example.io/timeline",
            "ec-p256",
            "db: read database/creds/timeline",
            "pay: read secret/data/pay",
            "token: write (secret_id) auth/approle/login",
            "0400 tls.key",
            "0400 tls.pem",
            "0444 tls.crt",
            "0444 ca.crt",
            "0400 keystore.p12",
            "0400 java.args",
            "kafka: clients/sign/kafka for CN x.example",
            "0444 kafka/tls.crt",
            "0400 kafka/tls.key",
            "0400 kafka/tls.pem",
            "0444 kafka/tls.der",
            "0400 kafka/keystore.p12",
            "0400 kafka/keystore.password",
            "0400 pay/api_key",
            "0400 db/pgpass",
            "0444 status.json",
            "PGUSER",
            "FIXED",
        ] {
            assert!(
                run.stdout.contains(part),
                "{what}: {part:?} is missing\n{run:?}"
            );
        }
        assert_eq!(run.stderr, "", "{what}");
        run.assert_no([
            SAMPLE,
            "canary-data-1",
            "canary-template",
            "canary-variable",
        ]);
        assert_gets_empty(parent.path());
    }
}

// f4
#[test]
fn manifest_with_mistakes_is_refused_with_all_of_them() {
    let wrong = manifest()
        .set("certificate.key_type", "dsa")
        .set("dependencies.db.path", "../sys/raw")
        .set("environment.PGUSER", "{{ no_such.username }}")
        .set("nonsense", json!({"key": 1}));
    for (what, call) in [
        ("--dry-run with a command", dry_run().shell("echo started")),
        (
            "--dry-run",
            Anteroom::new().arg("--dry-run").without_secrets_dir(),
        ),
        ("check", Anteroom::new().arg("check").without_secrets_dir()),
    ] {
        let run = call.manifest(wrong.clone()).run();
        assert_eq!(run.code, Some(78), "{what}: {run:?}");
        assert_eq!(run.stdout, "", "{what}");
        for mistake in ["`dsa`", "[nonsense]", "`no_such`", ".."] {
            assert!(run.stderr.contains(mistake), "{what}: {mistake}\n{run:?}");
        }
        run.assert_no([SAMPLE]);
    }
}

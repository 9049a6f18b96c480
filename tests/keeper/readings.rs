//! Answers without a lease are read again: by `refresh`, by the end that they name, and when their engine exchanges them. A
//! real OpenBao and a real PostgreSQL.
#![allow(
    clippy::disallowed_methods,
    reason = "a test looks at files, and compares the times at which they were written"
)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::ends::{allow, static_role};
use crate::support::scene::{LONG, STAY, Scene};
use crate::support::{
    Anteroom, Cut, Fault, FaultProxy, Manifest, Postgres, Service, TempDir, assert_revoked, unique,
    wait_for,
};

/// An application that says which generation it finds whenever SIGHUP comes.
const LISTEN: &str =
    "trap 'readlink \"$DIR/..data\"' HUP; sleep 600 & echo up; while :; do wait $!; done";

/// The secrets in KV alone, read again every second.
fn refreshed(manifest: Manifest) -> Manifest {
    manifest
        .remove("certificate")
        .remove("dependencies.db")
        .set("dependencies.payment.refresh", "1s")
        .set("dependencies.legacy.refresh", "1s")
}

/// The version 2 secret with this key, and a field that no file shows.
fn set_payment(service: &Service, key: &str, note: &str) {
    let data =
        json!({"data": {"api_key": key, "endpoint": "https://payment.example.io", "note": note}});
    service.admin.kv_put(&service.payment_path(), data);
}

/// The entry of this dependency in `status.json`.
fn dependency(scene: &Scene, name: &str) -> Value {
    let status = scene.status();
    let all = status["dependencies"].as_array().cloned();
    let mut all = all.expect("a list").into_iter();
    let found = all.find(|found| found["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}: {status}"))
}

/// Waits for three more readings of each of the two secrets.
fn wait_for_readings(scene: &mut Scene) {
    for path in [scene.service.payment_path(), scene.service.legacy_path()] {
        let count = scene.proxy.count(&path);
        scene.wait_for_requests(&path, count + 3);
    }
}

fn wait_for_health(scene: &Scene, code: i32) {
    let what = format!("a health of {code}");
    wait_for(&what, LONG, || {
        (scene.health().code == Some(code)).then_some(())
    });
}

#[test]
fn secret_read_again_is_published_when_it_changed() {
    let mut scene = Scene::start(Service::new(), LISTEN, |manifest| {
        refreshed(manifest)
            .set("process.on_rotate", "SIGHUP")
            .set("dependencies.payment.fields", json!(["api_key"]))
    });
    let first = scene.generation();
    let written = |scene: &Scene| {
        let found = fs::metadata(scene.directory.join("status.json")).expect("it is published");
        (found.ino(), found.mtime(), found.mtime_nsec())
    };
    let status = written(&scene);
    wait_for_readings(&mut scene);
    assert_eq!(written(&scene), status);
    set_payment(&scene.service, Service::API_KEY, "no file shows this");
    wait_for_readings(&mut scene);
    assert_eq!(scene.generation(), first);
    assert_eq!(scene.events("rotated"), Vec::<Value>::new());

    set_payment(&scene.service, "another key", "");
    scene.wait_for_change("payment");
    assert_eq!(scene.file("payment/api_key"), "another key");
    let legacy = scene.service.legacy_path();
    let secret = json!({"username": "legacy", "password": "another"});
    scene.service.admin.kv_put(&legacy, secret);
    scene.wait_for_change("legacy");
    assert_eq!(scene.file("legacy/password"), "another");
    let last = scene.generation();
    wait_for_readings(&mut scene);
    assert_eq!(scene.generation(), last);
    assert_eq!(scene.events("rotated").len(), 2);
    // Told of each generation once, and of nothing else.
    let told = format!("{last}\n");
    scene.run.wait_for_stdout(&told);
    assert_eq!(scene.run.stdout().lines().count(), 3);
    scene.assert_well();
}

#[test]
fn deleted_secret_stays_is_said_once_and_comes_back() {
    let mut scene = Scene::start(Service::new(), STAY, refreshed);
    let first = scene.generation();
    let (admin, legacy) = (scene.service.admin.clone(), scene.service.legacy_path());
    let payment = scene.service.payment_path();
    admin.ok("DELETE", &payment, Value::Null);
    admin.ok("DELETE", &legacy, Value::Null);
    scene.wait_for_events("secret_missing", 2);
    for name in ["payment", "legacy"] {
        let dependency = dependency(&scene, name);
        assert_eq!(dependency["unread"]["reason"], "missing", "{dependency}");
    }
    wait_for_health(&scene, 1);
    scene.assert_stale(&[
        "payment is not there any more",
        "legacy is not there any more",
    ]);
    wait_for_readings(&mut scene);
    assert_eq!(scene.events("secret_missing").len(), 2);
    assert_eq!(scene.file("payment/api_key"), Service::API_KEY);
    assert_eq!(scene.file("legacy/password"), Service::LEGACY_PASSWORD);

    let undelete = payment.replace("/data/", "/undelete/");
    admin.ok("POST", &undelete, json!({"versions": [1]}));
    scene.wait_for_events("secret_back", 1);
    assert_eq!(scene.events("secret_back")[0]["name"], "payment");
    assert_eq!(scene.generation(), first);
    admin.kv_put(
        &legacy,
        json!({"username": "legacy", "password": "another"}),
    );
    scene.wait_for_change("legacy");
    assert_eq!(scene.events("secret_back").len(), 2);
    assert_eq!(dependency(&scene, "legacy")["unread"], Value::Null);
    scene.assert_well();
}

#[test]
fn secret_that_lost_a_field_or_its_policy_keeps_its_value() {
    let mut scene = Scene::start(Service::new(), STAY, refreshed);
    let payment = scene.service.payment_path();
    let without = json!({"data": {"endpoint": "https://payment.example.io"}});
    scene.service.admin.kv_put(&payment, without);
    scene.wait_for_events("not_replaced", 3);
    assert_eq!(scene.warnings("not_replaced"), 1);
    let text = scene.events("not_replaced")[0]["message"].to_string();
    assert!(text.contains("no field `api_key`"), "{text}");
    assert_eq!(scene.file("payment/api_key"), Service::API_KEY);
    assert_eq!(dependency(&scene, "payment")["unread"]["reason"], "failed");
    // The others are published all the same.
    let legacy = scene.service.legacy_path();
    let secret = json!({"username": "legacy", "password": "another"});
    scene.service.admin.kv_put(&legacy, secret);
    scene.wait_for_change("legacy");
    wait_for_health(&scene, 1);
    scene.assert_stale(&["the secret of payment cannot be read again"]);

    set_payment(&scene.service, Service::API_KEY, "");
    scene.wait_for_events("secret_back", 1);
    let service = &scene.service;
    let policy = service.policy_hcl().replace(&legacy, "no/such/path");
    service.admin.policy(&service.policy, &policy);
    wait_for_health(&scene, 1);
    scene.assert_stale(&["the secret of legacy cannot be read again"]);
    assert_eq!(scene.events("token_revoked"), Vec::<Value>::new());
}

#[test]
fn refresh_of_a_path_that_leases_ends_the_start() {
    let service = Service::with_database();
    let token = service.mint();
    let manifest = service
        .manifest()
        .remove("certificate")
        .set("dependencies.db.refresh", "5m");
    let run = Anteroom::new()
        .manifest(manifest)
        .token(&token)
        .shell("echo started")
        .run();
    assert_revoked(&run, 78, &service, &token);
    let failed = run.named("failed");
    assert_eq!(failed.len(), 1, "{run:?}");
    let text = failed[0]["message"].as_str().unwrap_or_default();
    for words in [
        &service.database_path(),
        "lease",
        "`refresh` in [dependencies.db]",
    ] {
        assert!(text.contains(words), "{text}");
    }
    crate::support::scene::wait_for_no_lease(&service);
}

#[test]
fn password_of_a_static_role_is_read_after_each_rotation() {
    let service = Service::with_database();
    let path = static_role(&service, 8);
    allow(&service, &[(&path, "read")]);
    let mut scene = Scene::start(service, STAY, |manifest| {
        manifest
            .remove("certificate")
            .remove("dependencies.legacy")
            .remove("dependencies.payment")
            .set("dependencies.rotated", json!({"path": path}))
    });
    assert_eq!(dependency(&scene, "rotated")["kept"], "read_again");
    assert_eq!(dependency(&scene, "db")["kept"], "renewed");
    let mut passwords = vec![scene.file("rotated/password")];
    for count in 1..=2 {
        scene.wait_for_events("rotated", count);
        let (user, password) = (
            scene.file("rotated/username"),
            scene.file("rotated/password"),
        );
        let logged_in = Postgres::shared().query_as(&user, &password, "SELECT 1");
        assert_eq!(
            logged_in.as_deref(),
            Ok("1"),
            "{:?}",
            scene.events("rotated")
        );
        assert!(!passwords.contains(&password));
        passwords.push(password);
    }
    for event in scene.events("rotated") {
        assert_eq!(event["changed"], "rotated");
    }
    assert_eq!(scene.events("ended"), Vec::<Value>::new());
    scene.assert_well();
    // Two readings at the most for each rotation.
    let readings = scene.requests(&path);
    assert!(readings.len() <= 6, "{}", readings.len());
}

#[test]
fn certificate_without_a_lease_is_replaced_before_it_ends() {
    let service = Service::new();
    service.set_pki_role(json!({"key_type": "ec"}));
    let issue = format!("{}/issue/{}", service.pki.mount, service.app);
    allow(&service, &[(&issue, "update")]);
    let write = json!({"common_name": service.common_name(), "ttl": "12s"});
    let mut scene = Scene::start(service, STAY, |manifest| {
        let issued = json!({"path": issue, "method": "write", "data": write});
        manifest
            .remove("dependencies")
            .set("dependencies", json!({"issued": issued}))
    });
    assert_eq!(dependency(&scene, "issued")["kept"], "replaced");
    assert_eq!(scene.status()["certificate"]["kept"], "replaced");
    let serial = scene.file("issued/serial_number");
    scene.wait_for_events("rotated", 2);
    assert_ne!(scene.file("issued/serial_number"), serial);
    assert_eq!(scene.events("ended"), Vec::<Value>::new());
    scene.assert_well();
    let requests = scene.requests(&issue);
    // A new one is asked for once while half of the life of the last one is left.
    for pair in requests.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_secs(3));
    }
}

#[test]
fn signed_ssh_key_is_replaced_before_it_ends() {
    let service = Service::new();
    let ssh = unique("ssh");
    service.admin.mount("ssh", &ssh, json!({}));
    let ca = json!({"generate_signing_key": true, "key_type": "ed25519"});
    service.admin.ok("POST", &format!("{ssh}/config/ca"), ca);
    let role = json!({
        "key_type": "ca",
        "allow_user_certificates": true,
        "allowed_users": "deploy",
        "ttl": "12s",
    });
    service
        .admin
        .ok("POST", &format!("{ssh}/roles/deploy"), role);
    let sign = format!("{ssh}/sign/deploy");
    allow(&service, &[(&sign, "update")]);

    let keys = TempDir::new();
    let key = keys.join("key");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-N", "", "-t", "ed25519", "-f"]);
    assert!(keygen.arg(&key).status().expect("it is there").success());
    let public = fs::read_to_string(keys.join("key.pub")).expect("it is text");
    let data = json!({"public_key": public, "valid_principals": "deploy"});
    let mut scene = Scene::start(service, STAY, |manifest| {
        let signed = json!({"path": sign, "method": "write", "data": data});
        manifest
            .remove("certificate")
            .remove("dependencies")
            .set("dependencies", json!({"signed": signed}))
    });
    assert_eq!(dependency(&scene, "signed")["kept"], "replaced");
    let first = scene.file("signed/signed_key");
    scene.wait_for_change("signed");
    assert_ne!(scene.file("signed/signed_key"), first);
    assert_eq!(scene.events("ended"), Vec::<Value>::new());
    scene.assert_well();
    wait_for("status.json to say what OpenSSH reads", LONG, || {
        let certificate = keys.write("key-cert.pub", scene.file("signed/signed_key"));
        let mut list = Command::new("ssh-keygen");
        list.arg("-Lf").arg(certificate).env("TZ", "UTC");
        let shown = list.output().expect("it is there").stdout;
        let shown = String::from_utf8(shown).expect("it is text");
        let expires = dependency(&scene, "signed")["expires"].clone();
        let end = expires
            .as_str()
            .expect("it has an end")
            .trim_end_matches('Z');
        shown.contains(&format!(" to {end}\n")).then_some(())
    });
}

#[test]
fn secret_that_names_its_life_is_read_again_within_it() {
    let service = Service::new();
    let path = format!("{}/short", service.kv1);
    let secret = |password: &str| json!({"password": password, "ttl": "5s"});
    service.admin.kv_put(&path, secret("first"));
    allow(&service, &[(&path, "read")]);
    let mut scene = Scene::start(service, STAY, |manifest| {
        let dependencies = json!({"short": {"path": path}});
        manifest
            .remove("certificate")
            .set("dependencies", dependencies)
    });
    scene.wait_for_requests(&path, 4);
    assert_eq!(scene.events("rotated"), Vec::<Value>::new());
    scene.service.admin.kv_put(&path, secret("second"));
    scene.wait_for_change("short");
    assert_eq!(scene.file("short/password"), "second");
    assert_eq!(scene.events("ended"), Vec::<Value>::new());
    scene.assert_well();
}

#[test]
fn vault_that_is_away_at_a_reading_makes_nothing_stale() {
    let service = Service::new();
    let is_away = Arc::new(AtomicBool::new(false));
    let seen_away = Arc::clone(&is_away);
    let proxy = FaultProxy::start(service.admin.address(), move |_| {
        if seen_away.load(Ordering::Relaxed) {
            Fault::CutBefore(Cut::Reset)
        } else {
            Fault::Pass
        }
    });
    let mut scene = Scene::through(service, proxy, STAY, refreshed);
    is_away.store(true, Ordering::Relaxed);
    scene.wait_for_events("vault_away", 1);
    wait_for_readings(&mut scene);
    set_payment(&scene.service, "another key", "");
    assert_eq!(scene.events("not_replaced"), Vec::<Value>::new());
    scene.assert_well();
    is_away.store(false, Ordering::Relaxed);
    scene.wait_for_change("payment");
    assert_eq!(scene.file("payment/api_key"), "another key");
}

#[test]
fn check_says_how_each_item_is_kept() {
    let service = Service::with_database();
    let manifest = service.manifest().set("dependencies.legacy.refresh", "5m");
    let run = Anteroom::new()
        .manifest(manifest)
        .without_secrets_dir()
        .arg("check")
        .run();
    run.assert_code(0);
    let mut item = String::new();
    let mut kept = Vec::new();
    for line in run.stdout.lines() {
        if let Some(words) = line.strip_prefix("  kept") {
            kept.push(format!("{item}: {}", words.trim()));
        } else if !line.starts_with(' ') {
            item = line
                .split_whitespace()
                .nth(1)
                .unwrap_or_default()
                .to_owned();
        }
    }
    kept.sort();
    let beginnings = [
        "db:: as the answer says: a lease is renewed",
        "legacy:: read again every 300 s",
        "payment:: fetched once",
    ];
    assert_eq!(kept.len(), 4, "{kept:?}");
    for beginning in beginnings {
        assert!(
            kept.iter().any(|line| line.starts_with(beginning)),
            "{kept:?}"
        );
    }
    assert!(
        kept.iter()
            .any(|line| line.ends_with(": replaced before it ends")),
        "{kept:?}"
    );
}

/// A dependency on the secret `later` in KV version 2, which need not be there.
fn later(service: &Service) -> Value {
    json!({
        "path": format!("{}/data/later", service.kv2),
        "fields": ["key"],
        "files": {"conf": "key={{ key }}"},
        "refresh": "1s",
        "optional": true,
    })
}

#[test]
fn optional_secret_may_come_later_and_go_again() {
    let service = Service::new();
    let later = later(&service);
    let path = later["path"].as_str().expect("a path").to_owned();
    allow(&service, &[(&path, "read")]);
    let listen = format!("echo found $FOUND; {LISTEN}");
    let mut scene = Scene::start(service, &listen, |manifest| {
        let found = "{% if later %}{{ later.key }}{% else %}none{% endif %} {{ legacy.port | default('no port') }}";
        refreshed(manifest)
            .set("dependencies.later", later)
            .set(
                "dependencies.legacy.fields",
                json!(["username", "password", "port"]),
            )
            .set("dependencies.legacy.optional", true)
            .set("environment", json!({"FOUND": found}))
    });
    assert!(scene.run.stdout().starts_with("found none no port\n"));
    let absent = scene.events("secret_missing");
    assert_eq!(absent.len(), 1, "{absent:?}");
    assert_eq!(absent[0]["level"], "info", "{absent:?}");
    let has_folder = |scene: &Scene| scene.files().keys().any(|name| name.starts_with("later/"));
    assert!(!has_folder(&scene) && !scene.files().contains_key("legacy/port"));
    assert_eq!(dependency(&scene, "later")["fields"], json!([]));
    scene.wait_for_requests(&path, 3);
    assert_eq!(scene.events("rotated"), Vec::<Value>::new());
    scene.assert_well();

    scene
        .service
        .admin
        .kv_put(&path, json!({"data": {"key": "here"}}));
    scene.wait_for_change("later");
    assert_eq!(scene.file("later/key"), "here");
    assert_eq!(scene.file("later/conf"), "key=here");
    let visible = fs::read_to_string(scene.directory.join("later/key"));
    assert_eq!(visible.ok().as_deref(), Some("here"));

    scene.service.admin.ok("DELETE", &path, Value::Null);
    scene.wait_for_events("rotated", 2);
    assert!(!has_folder(&scene));
    let name = fs::symlink_metadata(scene.directory.join("later"));
    assert!(name.is_err(), "a link that leads nowhere: {name:?}");
    assert_eq!(scene.warnings("secret_missing"), 0);
    scene.assert_well();

    scene
        .service
        .admin
        .kv_put(&path, json!({"data": {"key": "here again"}}));
    scene.wait_for_events("rotated", 3);
    let visible = fs::read_to_string(scene.directory.join("later/key"));
    assert_eq!(visible.ok().as_deref(), Some("here again"));
    // Its name was not missing; what another process removes is.
    assert_eq!(scene.events("names_restored"), Vec::<Value>::new());
    fs::remove_file(scene.directory.join("later")).expect("it is there");
    scene
        .service
        .admin
        .kv_put(&path, json!({"data": {"key": "restored"}}));
    scene.wait_for_events("names_restored", 1);
    assert_eq!(scene.events("names_restored")[0]["names"], "later");
}

#[test]
fn template_that_needs_an_optional_secret_is_found_by_check() {
    let service = Service::new();
    let check = |template: &str| {
        let manifest = service
            .manifest()
            .set("dependencies.later", later(&service))
            .set("environment", json!({"KEY": template}));
        Anteroom::new()
            .manifest(manifest)
            .without_secrets_dir()
            .arg("check")
            .run()
    };
    for template in [
        "{{ later.key | default('none') }}",
        "{% if later %}{{ later.key }}{% endif %}",
        "{% if later.key is defined %}{{ later.key }}{% endif %}",
    ] {
        check(template).assert_code(0);
    }
    let run = check("{{ later.key }}");
    run.assert_code(78);
    run.assert_stderr("the template of the variable KEY");
    run.assert_stderr("no dependency that is `optional` is there");
}

#[test]
fn optional_secret_that_is_denied_ends_the_start() {
    let service = Service::new();
    let token = service.mint();
    let manifest = service
        .manifest()
        .set("dependencies.later", later(&service));
    let run = Anteroom::new()
        .manifest(manifest)
        .token(&token)
        .shell("echo started")
        .run();
    assert_revoked(&run, 77, &service, &token);
}

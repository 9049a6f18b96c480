//! Several certificates beside a living application: each on its own clock, and together where they fall together.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::files::certificates::{WithKafka, assert_fits};
use crate::support::openbao::text;
use crate::support::scene::{STAY, Scene};
use crate::support::{Authority, Service, TempDir};

/// A service whose main certificate lives so long, and its certificate `kafka` so long; a command says what changed.
fn scene(main: &str, further: &str) -> (Scene, WithKafka) {
    let kafka = WithKafka::new(Service::new());
    let told = json!(["/bin/sh", "-c", "echo \"told: $ANTEROOM_CHANGED;\""]);
    let scene = Scene::start(kafka.service.clone(), STAY, |manifest| {
        manifest
            .remove("dependencies.legacy")
            .set(
                "dependencies.payment.files",
                json!({"bundle": "{{ certificates.kafka.pem }}{{ certificates.kafka.serial_number }}"}),
            )
            .set("certificate.ttl", main)
            .set("certificates.kafka", kafka.table(further))
            .set("process.on_rotate", told)
    });
    (scene, kafka)
}

/// Fails unless status and files agree on the certificate of this table and this folder.
#[track_caller]
fn assert_agree(status: &Value, folder: &std::path::Path) {
    let pem = fs::read(folder.join("tls.crt")).expect("it is published");
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).expect("PEM");
    let leaf = pem.parse_x509().expect("a certificate");
    assert_eq!(status["serial_number"], leaf.raw_serial_as_string());
}

#[test]
fn certificates_are_reissued_each_on_its_own_clock() {
    let (mut scene, kafka) = scene("24h", "10s");
    let first = scene.files();
    let folder = scene.path().join("kafka");
    let mut keys = BTreeSet::from([assert_fits(&folder)]);
    for count in 1..3 {
        scene.wait_for_events("rotated", count);
        scene.run.wait_for_stderr("told: kafka;");
        let status = scene.status();
        assert_agree(&status["certificate"], scene.path());
        let named = &status["certificates"][0];
        assert_eq!(named["name"], "kafka");
        assert_eq!(named["common_name"], "timeline.clients.example.io");
        assert_agree(named, &folder);
        let rotated = &scene.events("rotated")[count - 1];
        assert_eq!(rotated["changed"], "kafka");
        assert_eq!(rotated["serial_number"], Value::Null);
        let serial = named["serial_number"].as_str().expect("a text");
        assert_eq!(rotated["serial_numbers"], format!("kafka={serial}"));
        let bundle = format!("{}{serial}", scene.file("kafka/tls.pem"));
        assert_eq!(scene.file("payment/bundle"), bundle);
        keys.insert(assert_fits(&folder));
        scene.assert_well();
    }
    assert_eq!(keys.len(), 3);
    let last = scene.files();
    for name in ["tls.crt", "tls.key", "tls.pem", "ca.crt", "kafka/ca.crt"] {
        assert_eq!(last[name].bytes, first[name].bytes, "{name}");
    }
    for name in ["kafka/tls.crt", "kafka/tls.key", "kafka/tls.pem"] {
        assert_ne!(last[name].bytes, first[name].bytes, "{name}");
    }
    let main = format!("{}/sign/{}", scene.service.pki.mount, scene.service.app);
    assert_eq!(scene.proxy.count(&main), 1);
    assert_eq!(
        scene
            .proxy
            .count(&format!("{}/sign/client", kafka.pki.mount)),
        3
    );
}

#[test]
fn certificates_due_together_change_in_one_generation() {
    // Both are due five seconds before their end.
    let (mut scene, _kafka) = scene("10s", "10s");
    scene.wait_for_events("rotated", 1);
    let rotated = scene.events("rotated")[0].clone();
    assert_eq!(rotated["changed"], "certificate kafka");
    let status = scene.status();
    let serial = |certificate: &Value| certificate["serial_number"].clone();
    assert_eq!(rotated["serial_number"], serial(&status["certificate"]));
    let further = serial(&status["certificates"][0]);
    let further = further.as_str().expect("a text");
    assert_eq!(rotated["serial_numbers"], format!("kafka={further}"));
    assert_agree(&status["certificate"], scene.path());
    assert_agree(&status["certificates"][0], &scene.path().join("kafka"));
    scene.run.wait_for_stderr("told: certificate kafka;");
    scene.assert_well();
}

#[test]
fn bundle_follows_the_anchors_of_a_reissued_certificate() {
    let (scratch, other) = (TempDir::new(), Authority::new("other"));
    let file = scratch.write("other.pem", other.pem());
    let mut scene = Scene::start(Service::new(), STAY, |manifest| {
        let trust = json!({"files": [file.display().to_string()]});
        let manifest = manifest.set("certificate.ttl", "10s");
        manifest.set("trust", trust)
    });
    let first = scene.file("ca.crt");
    assert_eq!(
        scene.file("ca-bundle.crt"),
        format!("{first}{}", other.pem())
    );

    // The files are the image's: what becomes of them later does not matter.
    scratch.write("other.pem", "");
    let (admin, mount) = (&scene.service.admin, &scene.service.pki.mount);
    let root = json!({"common_name": "new root", "key_type": "ec", "ttl": "87600h"});
    let root = admin.ok("POST", &[mount, "root/generate/internal"].join("/"), root);
    let default = json!({"default": root["data"]["issuer_id"]});
    admin.ok("POST", &format!("{mount}/config/issuers"), default);
    scene.run.wait_until("another CA", |_| {
        fs::read_to_string(scene.place.path().join("ca.crt")).is_ok_and(|now| now != first)
    });
    let generation = scene.place.files();
    let [anchors, bundle] = ["ca.crt", "ca-bundle.crt"].map(|name| generation[name].text());
    assert_eq!(bundle, format!("{anchors}{}", other.pem()));
    assert_eq!(
        anchors.trim_end(),
        text(&root["data"]["certificate"]).trim_end()
    );
    scene.assert_well();
}

#[test]
fn certificate_that_ends_is_named_and_the_others_stay_good() {
    let (mut scene, kafka) = scene("24h", "8s");
    kafka.forget_role();
    scene.wait_for_events("ended", 1);
    for event in ["not_replaced", "ended"] {
        let found = scene.events(event)[0].clone();
        assert_eq!(found["name"], "kafka", "{found}");
        let message = found["message"].as_str().expect("a text");
        assert!(message.starts_with("the certificate kafka "), "{message}");
    }
    scene.assert_stale(&["the certificate kafka ended at"]);
    let health = scene.health();
    assert!(
        !health.stdout.contains("the certificate ended"),
        "{health:?}"
    );
    kafka.make_role();
    scene.wait_for_change("kafka");
    scene.assert_well();
}

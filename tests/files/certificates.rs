//! The other files of a certificate, and several certificates: each of its own mount, with its own files and its own clock.
#![allow(
    clippy::disallowed_methods,
    reason = "tests start other programs to compare with"
)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::certificate::openssl;
use super::dry_run::{dry_run, manifest as dry_manifest};
use crate::support::nursery::Nursling;
use crate::support::{
    Anteroom, Manifest, Pki, Run, Service, assert_revoked, free_port, unique, wait_for,
};

/// A service with another PKI, of which the certificate `kafka` comes.
pub(crate) struct WithKafka {
    pub(crate) service: Service,
    pub(crate) pki: Pki,
}

impl WithKafka {
    pub(crate) fn new(service: Service) -> Self {
        let admin = &service.admin;
        let pki = admin.enable_pki(&unique("clients"));
        let policy = format!(
            "{}path \"{}/sign/client\" {{ capabilities = [\"update\"] }}",
            service.policy_hcl(),
            pki.mount
        );
        admin.policy(&service.policy, &policy);
        let kafka = Self { pki, service };
        kafka.make_role();
        kafka
    }

    pub(crate) fn make_role(&self) {
        let role = json!({
            "allowed_domains": ["clients.example.io"],
            "allow_subdomains": true,
            "key_type": "any",
            "max_ttl": "72h",
        });
        self.service.admin.pki_role(&self.pki.mount, "client", role);
    }

    pub(crate) fn forget_role(&self) {
        let path = format!("{}/roles/client", self.pki.mount);
        let answer = self.service.admin.request("DELETE", &path, Value::Null);
        assert_eq!(answer.0, 204, "{answer:?}");
    }

    /// The table of the certificate, with this life.
    pub(crate) fn table(&self, ttl: &str) -> Value {
        json!({
            "mount": self.pki.mount,
            "role": "client",
            "common_name": "timeline.clients.example.io",
            "ttl": ttl,
        })
    }
}

/// Makes the certificates alone, and leaves the files where they are.
fn start(manifest: Manifest, service: &Service) -> Run {
    Anteroom::new()
        .manifest(manifest)
        .token(service.mint())
        .shell("echo started")
        .keep_files()
        .run()
}

fn at(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

/// Fails unless OpenSSL serves TLS with `tls.pem` alone, and a client finds the way to `ca.crt` and this name.
#[track_caller]
fn assert_serves(directory: &Path, name: &str) {
    let (pem, anchors) = (at(directory, "tls.pem"), at(directory, "ca.crt"));
    let address = format!("127.0.0.1:{}", free_port());
    let mut server = Command::new("openssl");
    server
        .args(["s_server", "-quiet", "-accept", &address])
        .args(["-cert", &pem, "-cert_chain", &pem])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _server = Nursling::spawn(server, Signal::SIGKILL).expect("openssl is installed");
    let client = || {
        let mut client = Command::new("openssl");
        client
            .args(["s_client", "-connect", &address, "-CAfile", &anchors])
            .args(["-verify_return_error", "-verify_hostname", name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        client.status().expect("openssl is installed").success()
    };
    wait_for("a verified connection", Duration::from_secs(20), || {
        client().then_some(())
    });
}

#[test]
fn pem_and_der_hold_the_same_key_and_chain() {
    for kind in ["ec-p256", "ed25519", "rsa-2048"] {
        let service = Service::new();
        let manifest = service
            .manifest()
            .remove("dependencies")
            .set("certificate.key_type", kind)
            .set("certificate.der", true);
        let run = start(manifest, &service);
        run.assert_code(0);
        for (name, mode) in [("tls.pem", 0o400), ("key.der", 0o400), ("tls.der", 0o444)] {
            assert_eq!(run.file(name).mode, mode, "{name}");
        }
        let whole = format!(
            "{}{}",
            run.file("tls.key").text(),
            run.file("tls.crt").text()
        );
        assert_eq!(run.file("tls.pem").text(), whole, "{kind}");

        let directory = &run.secrets_dir;
        let [key, leaf, der_key, der_leaf] =
            ["tls.key", "tls.crt", "key.der", "tls.der"].map(|name| at(directory, name));
        // Of all encodings in DER, OpenSSL reads here that of PKCS#8 alone.
        let read = ["pkcs8", "-inform", "DER", "-nocrypt", "-in", &der_key];
        assert_eq!(openssl(&read), openssl(&["pkey", "-in", &key]), "{kind}");
        let fingerprint = ["-noout", "-fingerprint", "-sha256"];
        assert_eq!(
            openssl(
                &[
                    &["x509", "-inform", "DER", "-in", &der_leaf],
                    &fingerprint[..]
                ]
                .concat()
            ),
            openssl(&[&["x509", "-in", &leaf], &fingerprint[..]].concat()),
            "{kind}"
        );
        assert_serves(directory, &service.common_name());
    }
}

/// Fails unless key, chain and anchors of this folder belong together; returns the public key.
#[track_caller]
pub(crate) fn assert_fits(folder: &Path) -> String {
    let [key, leaf, anchors] = ["tls.key", "tls.crt", "ca.crt"].map(|name| at(folder, name));
    let public = openssl(&["pkey", "-in", &key, "-pubout"]);
    let certified = openssl(&["x509", "-in", &leaf, "-noout", "-pubkey"]);
    assert_eq!(certified, public, "{folder:?}");
    let verify = ["verify", "-x509_strict", "-CAfile", &anchors];
    openssl(&[&verify[..], &["-untrusted", &leaf, &leaf]].concat());
    public
}

#[test]
fn each_certificate_has_files_of_its_own_pki_and_role() {
    let kafka = WithKafka::new(Service::new());
    let service = &kafka.service;
    let manifest = service
        .manifest()
        .remove("dependencies.legacy")
        .set("certificates.kafka", kafka.table("12h"))
        .set("certificates.kafka.key_type", "ed25519")
        .set("certificates.kafka.uris", json!([]))
        .set("certificates.kafka.der", true)
        .set("java", json!({}));
    let run = start(manifest, service);
    run.assert_code(0);
    let found = run.files();
    let found: Vec<_> = found
        .iter()
        .map(|(name, file)| (name.as_str(), file.mode))
        .collect();
    let expected = [
        ("ca.crt", 0o444),
        ("java.args", 0o400),
        ("kafka/ca.crt", 0o444),
        ("kafka/key.der", 0o400),
        ("kafka/keystore.p12", 0o400),
        ("kafka/keystore.password", 0o400),
        ("kafka/tls.crt", 0o444),
        ("kafka/tls.der", 0o444),
        ("kafka/tls.key", 0o400),
        ("kafka/tls.pem", 0o400),
        ("kafka/truststore.p12", 0o400),
        ("keystore.p12", 0o400),
        ("keystore.password", 0o400),
        ("payment/api_key", 0o400),
        ("status.json", 0o444),
        ("tls.crt", 0o444),
        ("tls.key", 0o400),
        ("tls.pem", 0o400),
        ("truststore.p12", 0o400),
    ];
    assert_eq!(found, expected);

    let (top, folder) = (&run.secrets_dir, run.secrets_dir.join("kafka"));
    assert_ne!(assert_fits(top), assert_fits(&folder));
    for (anchors, pki) in [("ca.crt", &service.pki), ("kafka/ca.crt", &kafka.pki)] {
        assert_eq!(
            run.file(anchors).text().trim(),
            pki.root_pem.trim(),
            "{anchors}"
        );
    }
    assert_serves(&folder, "timeline.clients.example.io");
    let text = openssl(&["pkey", "-in", &at(&folder, "tls.key"), "-noout", "-text"]);
    assert!(text.contains("ED25519"), "{text}");

    // The stores of the folder hold its own key, and java.args names those at the top.
    let password = format!("file:{}", at(&folder, "keystore.password"));
    let store = at(&folder, "keystore.p12");
    let stored = openssl(&[
        "pkcs12", "-in", &store, "-passin", &password, "-nokeys", "-clcerts",
    ]);
    let leaf = openssl(&["x509", "-in", &at(&folder, "tls.crt")]);
    assert!(stored.contains(leaf.trim()), "{stored}");
    let arguments = run.file("java.args").text().to_owned();
    for store in ["/keystore.p12\n", "/truststore.p12\n"] {
        assert!(arguments.contains(store), "{store:?}");
    }
    assert!(!arguments.contains("kafka"));

    let ready = run.named("ready");
    let ready = ready[0]["message"].as_str().expect("a text");
    for step in [" certificate ", " certificates.kafka ", " dependencies "] {
        assert!(ready.contains(step), "{step}: {ready}");
    }
}

#[test]
fn certificate_that_is_refused_is_named_with_its_table() {
    let kafka = WithKafka::new(Service::new());
    kafka.forget_role();
    let service = &kafka.service;
    let manifest = service
        .manifest()
        .set("certificates.kafka", kafka.table("12h"));
    let token = service.mint();
    let run = Anteroom::new()
        .manifest(manifest)
        .token(&token)
        .shell("echo started")
        .run();
    assert_revoked(&run, 78, service, &token);
    run.assert_stderr("the certificate kafka: ");
    run.assert_stderr("[certificates.kafka]");
}

#[test]
fn java_arguments_name_the_main_or_the_only_certificate() {
    let table = |name: &str| json!({"role": "x", "common_name": format!("{name}.example.io")});
    let alone = dry_manifest().remove("dependencies").remove("environment");
    let alone = alone.remove("certificate").set("java", json!({}));
    let one = alone.clone().set("certificates.kafka", table("kafka"));
    let two = one.clone().set("certificates.web", table("web"));
    let main = two.clone().set("certificate", table("main"));
    for (manifest, expected) in [(one, Some("kafka/")), (two, None), (main, Some(""))] {
        let run = dry_run().manifest(manifest).command(["/bin/true"]).run();
        run.assert_code(0);
        let files = run.files();
        let found: Vec<_> = files
            .keys()
            .filter(|name| name.ends_with("java.args"))
            .collect();
        let name = expected.map(|folder| format!("{folder}java.args"));
        assert_eq!(found, name.iter().collect::<Vec<_>>());
        if let (Some(folder), Some(name)) = (expected, name) {
            for store in ["keystore.p12", "truststore.p12"] {
                let path = at(&run.secrets_dir, &format!("{folder}{store}"));
                assert!(run.file(&name).text().contains(&format!("={path}\n")));
                assert!(Path::new(&path).exists());
            }
        }
    }
}

#[test]
fn values_of_certificates_and_stores_are_in_templates() {
    let kafka = WithKafka::new(Service::new());
    let service = &kafka.service;
    let files = json!({
        "haproxy.pem": "{{ certificate.chain }}{{ certificate.key }}",
        "ca": "{{ certificate.ca }}",
        "pem": "{{ certificates.kafka_eu.pem }}",
        "stores": "{{ java.keystore }} {{ java.truststore }} {{ java.password }}",
    });
    let variable = "{{ certificate.serial_number }} {{ certificates.kafka_eu.not_after }}";
    let manifest = service
        .manifest()
        .remove("dependencies.legacy")
        .set("certificates.kafka-eu", kafka.table("12h"))
        .set("java", json!({}))
        .set("dependencies.payment.files", files)
        .set("environment", json!({"X": variable}));
    let run = Anteroom::new()
        .manifest(manifest)
        .token(service.mint())
        .shell("echo \"$X\"")
        .keep_files()
        .run();
    run.assert_code(0);
    let text = |name: &str| run.file(name).text().to_owned();
    let both = format!("{}{}", text("tls.crt"), text("tls.key"));
    assert_eq!(text("payment/haproxy.pem"), both);
    assert_eq!(text("payment/ca"), text("ca.crt"));
    assert_eq!(text("payment/pem"), text("kafka-eu/tls.pem"));
    let stores = text("payment/stores");
    let stores: Vec<&str> = stores.split(' ').collect();
    assert!(stores[0].ends_with("/keystore.p12"), "{stores:?}");
    assert!(stores[1].ends_with("/truststore.p12"), "{stores:?}");
    let is_at_the_top = stores.iter().all(|store| !store.contains("kafka"));
    assert!(is_at_the_top, "{stores:?}");
    assert_eq!(stores[2], text("keystore.password"));
    let status: Value = serde_json::from_str(&text("status.json")).expect("JSON");
    let expected = format!(
        "{} {}\n",
        status["certificate"]["serial_number"]
            .as_str()
            .expect("a text"),
        status["certificates"][0]["not_after"]
            .as_str()
            .expect("a text"),
    );
    assert_eq!(run.stdout, expected);
}

#[test]
fn dependency_keeps_a_name_that_certificates_have_in_templates() {
    let table = json!({"role": "x", "common_name": "x.example"});
    let issued = json!({
        "path": "pki/issue/x",
        "files": {"own": "{{ certificate }}", "stores": "{{ java.password }}"},
        "sample": {"certificate": "of the answer"},
    });
    let manifest = dry_manifest()
        .remove("dependencies")
        .remove("environment")
        .set("certificates.kafka", table)
        .set("java", json!({}))
        .set("dependencies.issued", issued)
        .set(
            "dependencies.java",
            json!({"path": "kv/java", "fields": ["password"]}),
        )
        .set_at(
            &["dependencies", "java", "sample", "password"],
            "of the dependency",
        );
    let run = dry_run().manifest(manifest).command(["/bin/true"]).run();
    run.assert_code(0);
    assert_eq!(run.file("issued/own").text(), "of the answer");
    assert_eq!(run.file("issued/stores").text(), "of the dependency");
}

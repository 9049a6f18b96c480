//! `as = "kafka"`.

use serde_json::{Value, json};

use super::super::dry_run::{dry_run, manifest as dry_manifest};
use super::{PASSWORD, service};
use crate::support::{Anteroom, Manifest, Run, Service, repository};

/// The manifest with the service's certificate once more, as `[certificates.kafka]`, and with `[java]`.
fn with_certificate(service: &Service, manifest: Manifest) -> Manifest {
    let certificate = service.manifest().0["certificate"].clone();
    manifest
        .set("certificates", json!({"kafka": certificate}))
        .set("java", json!({}))
}

/// Starts the service with an application that reads the file as Kafka's client does, and returns what that prints.
fn read_by_kafka(service: &Service, manifest: Manifest) -> (Run, Vec<String>) {
    let cache = repository().join(".cache");
    let jar = cache.join("kafka-clients.jar");
    let log = cache.join("slf4j/usr/share/java/slf4j-api.jar");
    let program = repository().join("tests/files/java/ReadKafka.java");
    let jars = format!("{}:{}", jar.display(), log.display());
    let script = format!(
        "exec java -cp '{jars}' '{}' \"$SECRETS/broker/client.properties\"",
        program.display()
    );
    let _core = crate::support::core();
    let run = Anteroom::new()
        .manifest(manifest.set("environment.SECRETS", "{{ secrets_dir }}"))
        .token(service.mint())
        .shell(&script)
        .keep_files()
        .run();
    run.assert_code(0);
    let mut values: Vec<String> = run.stdout.split('\0').map(str::to_owned).collect();
    assert_eq!(values.pop().as_deref(), Some(""));
    (run, values)
}

const SERVERS: &str = "kafka-1.example.io:9093, [::1]:9094";
const READ_SERVERS: &str = "[kafka-1.example.io:9093, [::1]:9094]";

#[test]
fn kafka_client_shows_the_certificate_of_either_store() {
    let service = Service::new();
    let name = format!("CN={}", service.common_name());
    for (stores, kind) in [("pem", "PEM"), ("pkcs12", "PKCS12")] {
        let keys = json!({
            "as": "kafka",
            "bootstrap_servers": SERVERS,
            "security": "ssl",
            "certificate": "kafka",
            "stores": stores,
        });
        let manifest = service
            .manifest()
            .bare()
            .set("dependencies", json!({"broker": keys}));
        let (run, read) = read_by_kafka(&service, with_certificate(&service, manifest));
        assert_eq!(read, [READ_SERVERS, "SSL", &name]);
        let file = run.file("broker/client.properties");
        for line in [
            format!("ssl.keystore.type={kind}"),
            format!("ssl.truststore.type={kind}"),
        ] {
            assert!(
                file.text().lines().any(|found| found == line),
                "{}",
                file.text()
            );
        }
        let status: Value = serde_json::from_str(run.file("status.json").text()).expect("JSON");
        assert_eq!(status["dependencies"], json!([]));
    }
}

#[test]
fn kafka_client_reads_the_login_of_either_mechanism() {
    let user = "o'r\"d:e@r/s \\%41ü";
    let password = format!("{PASSWORD}\n\r\t\u{8};//\\101");
    let answer = json!({"username": user, "password": password});
    for (mechanism, module) in [
        ("PLAIN", "plain.PlainLoginModule"),
        ("SCRAM-SHA-512", "scram.ScramLoginModule"),
    ] {
        let keys = json!({
            "as": "kafka",
            "bootstrap_servers": SERVERS,
            "security": "sasl_ssl",
            "mechanism": mechanism,
        });
        let (service, manifest) = service("broker", keys, answer.clone());
        let (run, read) = read_by_kafka(&service, manifest);
        let module = format!("org.apache.kafka.common.security.{module}");
        assert_eq!(
            read,
            [
                READ_SERVERS,
                "SASL_SSL",
                mechanism,
                &module,
                user,
                &password
            ]
        );
        assert!(
            !run.file("broker/client.properties")
                .text()
                .contains("store")
        );
    }
}

#[test]
fn preset_takes_no_value_of_a_dependency_for_its_own() {
    let manifest = dry_manifest()
        .set("dependencies.java", json!({"path": "secret/data/java", "fields": ["password", "secrets_dir"]}))
        .set(
            "dependencies.broker",
            json!({"as": "kafka", "bootstrap_servers": SERVERS, "security": "ssl", "certificate": "certificate", "stores": "pkcs12"}),
        )
        .set(
            "dependencies.events",
            json!({
                "path": "secret/data/kafka", "as": "kafka", "bootstrap_servers": SERVERS, "security": "sasl_ssl",
                "certificate": "certificate", "stores": "pkcs12", "trust": "bundle",
                "fields": ["username", "password", "java", "secrets_dir", "keystore", "folder"],
            }),
        )
        .set(
            "dependencies.cloud",
            json!({"path": "aws/creds/x", "as": "aws", "fields": ["access_key", "secret_key", "secrets_dir", "name"]}),
        )
        .set("trust", json!({}));
    let run = dry_run()
        .manifest(manifest)
        .shell("echo \"$SECRETS\"")
        .run();
    run.assert_code(0);
    let directory = run.stdout.trim();
    let password = run.file("keystore.password").text().to_owned();
    for name in ["broker", "events"] {
        let file = run.file(&format!("{name}/client.properties"));
        for line in [
            format!("ssl.keystore.location={directory}/keystore.p12"),
            format!("ssl.keystore.password={password}"),
            format!("ssl.key.password={password}"),
        ] {
            let text = file.text();
            assert!(text.lines().any(|found| found == line), "{text}");
        }
        assert!(!file.text().contains("sample-java"), "{}", file.text());
    }
    let bundle = format!("ssl.truststore.location={directory}/ca-bundle.crt\n");
    assert!(
        run.file("events/client.properties")
            .text()
            .contains(&bundle)
    );
    let process = format!("credential_process = cat '{directory}/cloud/credentials.json'\n");
    assert!(run.file("cloud/config").text().contains(&process));
}

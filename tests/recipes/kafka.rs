//! docs/recipes/kafka.md: Kafka's own client with a client certificate that comes anew every few seconds.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts a broker and a proxy"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::json;

use super::page::{Image, Vault, program};
use crate::support::nursery::Nursling;
use crate::support::openbao::text;
use crate::support::scene::LONG;
use crate::support::{TempDir, core, free_port, repository, wait_for};

/// The generations with which records must have been sent.
const GENERATIONS: usize = 3;

/// A broker behind a proxy that speaks TLS and asks for a client certificate.
struct Broker {
    _broker: Nursling,
    _proxy: Nursling,
    _directory: TempDir,
    port: u16,
}

impl Broker {
    /// Starts one with a topic `orders`, whose own and whose clients' certificates come from this mount.
    fn start(vault: &Vault, mount: &str, role: &str) -> Self {
        let (directory, plain, port) = (TempDir::new(), free_port(), free_port());
        let body = json!({"common_name": "localhost", "ttl": "1h", "key_type": "ec"});
        let path = format!("{mount}/issue/{role}");
        let issued = &vault.admin.ok("POST", &path, body)["data"];
        let pem = ["private_key", "certificate", "issuing_ca"].map(|part| text(&issued[part]));
        let own = directory.write("tls.pem", pem.join("\n"));
        let chain = vault
            .admin
            .ok("GET", &format!("{mount}-root/cert/ca"), json!(null));
        let ca = directory.write("ca.pem", text(&chain["data"]["certificate"]));
        let configuration = format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             listen broker\n  bind 127.0.0.1:{port} ssl crt {} ca-file {} verify required\n  \
             server plain 127.0.0.1:{plain}\n",
            own.display(),
            ca.display()
        );
        let configuration = directory.write("haproxy.cfg", configuration);
        let mut proxy = Command::new(program("haproxy"));
        proxy.arg("-f").arg(configuration);
        let address = format!("tcp://127.0.0.1:{plain}");
        let mut broker = Command::new(program("tansu"));
        let advertised = format!("tcp://localhost:{port}");
        broker
            .args(["broker", "--silent", "--listener-url", &address])
            .args(["--advertised-listener-url", &advertised])
            .stdout(Stdio::null());
        let started = |command| Nursling::spawn(command, Signal::SIGKILL).expect("it is installed");
        let broker = Self {
            _broker: started(broker),
            _proxy: started(proxy),
            _directory: directory,
            port,
        };
        wait_for("the broker's topic", LONG, || {
            let mut create = Command::new(program("tansu"));
            create.args(["topic", "create", "--broker", &address, "orders"]);
            create.stdout(Stdio::null()).stderr(Stdio::null());
            create
                .status()
                .expect("it is there")
                .success()
                .then_some(())
        });
        broker
    }
}

#[test]
fn kafka_client_sends_each_record_over_new_certificates() {
    let image = Image::build("kafka", &[]);
    let libraries = image.path("/app/lib");
    fs::create_dir_all(&libraries).expect("our own directory");
    let java: PathBuf = repository().join(".cache/slf4j/usr/share/java");
    for (name, jar) in [
        ("slf4j-api.jar", java.join("slf4j-api.jar")),
        ("slf4j-nop.jar", java.join("slf4j-nop.jar")),
        (
            "kafka-clients.jar",
            repository().join(".cache/kafka-clients.jar"),
        ),
    ] {
        assert!(jar.exists(), "no {name}: run scripts/install recipes");
        symlink(jar, libraries.join(name)).expect("our own directory");
    }
    let starting = core();
    image.run("javac");
    let vault = Vault::of(image.anteroom(), "orders");
    vault.enable_pki("pki", "orders", "24h");
    vault.enable_pki("pki-clients", "client", "8s");
    let broker = Broker::start(&vault, "pki-clients", "client");
    let call = vault
        .introduce(image.call())
        .env("KAFKA", format!("localhost:{}", broker.port))
        .env("PAUSE_MS", "50");
    let mut run = call.limit(2 * LONG).spawn();
    run.wait_for_stdout("orders 0 ");
    drop(starting);
    // A record that is lost ends the program, and so this wait.
    run.wait_until("records of other generations", |run| {
        let mut generations: Vec<String> = run
            .stdout()
            .lines()
            .filter_map(|line| {
                line.strip_prefix("orders ")?
                    .split(' ')
                    .nth(1)
                    .map(str::to_owned)
            })
            .collect();
        generations.dedup();
        generations.len() >= GENERATIONS
    });
    let changed: Vec<_> = run.named("rotated");
    let alone = changed.iter().all(|event| event["changed"] == "kafka");
    assert!(alone, "the other certificate lives for a day: {changed:?}");
}

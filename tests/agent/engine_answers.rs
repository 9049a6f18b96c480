//! An engine that says what it should not, or nothing: containers of others get their tokens all the same.
#![expect(
    clippy::disallowed_methods,
    reason = "the machine's engine is where the environment says"
)]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::outages::{IMAGE, agent_of, engine, run};
use super::{STAY, TMPFS, plain};
use crate::support::agent::Setup;
use crate::support::docker;
use crate::support::engine::{self, Engine};
use crate::support::{Service, TempDir};

/// Asks an engine what its command line would refuse.
fn post(engine: &Engine, path: &str, body: &Value) -> Value {
    // Too long for a command line.
    let directory = TempDir::new();
    directory.write("body.json", body.to_string());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body"])
        .args(["--unix-socket", &engine.socket(), "--request", "POST"])
        .args(["--header", "Content-Type: application/json"])
        .arg("--data-binary")
        .arg(format!("@{}", directory.join("body.json").display()))
        .arg(format!("http://docker{path}"));
    let answer = engine::run(&mut curl);
    assert_eq!(answer.code, 0, "{answer:#?}");
    serde_json::from_str(&answer.stdout).unwrap_or_default()
}

#[test]
fn hostile_container_takes_no_token_away_from_others() {
    docker::require!();
    let service = Service::new();
    let engine = engine(&[]);
    engine.must(["network", "create", "bridged"]);
    let agent = agent_of(&engine, &service);
    let early = run(&engine, &agent, &service, "--restart=no");
    agent.wait_about_id(&early, "handed_out", 1);

    // Of a protocol that no list of protocols has, and with a label that is larger than all others together.
    let [app, environment] = agent.labels(&service.app, &service.environment);
    let mut labels = serde_json::Map::new();
    for option in [app, environment] {
        let (name, value) = option
            .strip_prefix("--label=")
            .and_then(|label| label.split_once('='))
            .expect("an option with a label");
        labels.insert(name.to_owned(), value.into());
    }
    labels.insert("large".to_owned(), "x]}\"\\".repeat(400_000).into());
    for labels in [json!({}), Value::Object(labels)] {
        let body = json!({
            "Image": IMAGE,
            "Cmd": STAY,
            "Labels": labels,
            "ExposedPorts": {"80/foo": {}, "81/icmp": {}},
            "HostConfig": {"NetworkMode": "bridged"},
        });
        let made = post(&engine, "/containers/create", &body);
        let id = made["Id"].as_str().expect("an id");
        post(&engine, &format!("/containers/{id}/start"), &json!({}));
    }
    let listed = engine.must(["ps", "--format", "{{.Ports}}"]);
    assert!(listed.contains("81/"), "the list is not hostile: {listed}");

    // Those that follow by event, and those that an agent finds that starts now.
    let beside = run(&engine, &agent, &service, "--restart=no");
    agent.wait_about_id(&beside, "handed_out", 1);
    agent.kill();
    let between = run(&engine, &agent, &service, "--restart=no");
    engine.must(["kill", &early]);
    agent.start();
    agent.wait_about_id(&between, "handed_out", 1);
    agent.wait_about_id(&early, "revoked", 1);
    assert_eq!(agent.healthz(), (200, "ok\n".to_owned()));
    assert_eq!(agent.count("docker_away"), 0, "{}", agent.log());
    // The container that is too large costs itself, and is told of.
    let told = agent.named("docker");
    let is_told = |event: &Value| event["message"].to_string().contains("larger than");
    assert!(told.iter().any(is_told), "{told:#?}");
}

/// The machine's engine behind a socket where it lists no containers for as long as this is so.
fn engine_without_lists(path: &Path) -> Arc<AtomicBool> {
    let fails = Arc::new(AtomicBool::new(true));
    let listener = UnixListener::bind(path).expect("our own directory can be written");
    let engine = std::env::var("DOCKER_HOST").unwrap_or_default();
    let engine = engine
        .strip_prefix("unix://")
        .unwrap_or("/var/run/docker.sock")
        .to_owned();
    let state = Arc::clone(&fails);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, engine) = (client.expect("a connection"), engine.clone());
            let fails = Arc::clone(&state);
            std::thread::spawn(move || relay(client, &engine, &fails));
        }
    });
    fails
}

fn relay(mut client: UnixStream, engine: &str, fails: &AtomicBool) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match client.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let is_list = String::from_utf8_lossy(&head).contains("/containers/json");
    if is_list && fails.load(Ordering::Relaxed) {
        let body = r#"{"message":"too busy"}"#;
        let length = body.len();
        let _ = write!(
            client,
            "HTTP/1.1 500 No\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        return;
    }
    let mut server = UnixStream::connect(engine).expect("the machine's engine");
    server.write_all(&head).expect("the machine's engine");
    let [mut from, mut to] = [&client, &server].map(|end| end.try_clone().expect("a descriptor"));
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
}

#[test]
fn look_that_fails_leaves_the_events_and_is_done_again() {
    docker::require!();
    let service = Service::new();
    let directory = TempDir::new();
    let socket = directory.join("docker.sock");
    let fails = engine_without_lists(&socket);
    let agent = Setup::of(&service, &plain())
        .table("docker", format!("socket = {socket:?}\n"))
        .prepare();
    agent.spawn();
    agent.wait_for("ready");
    let event = agent.wait_for("docker");
    assert_eq!(event["level"], "warn", "{event}");
    assert!(event["message"].to_string().contains("too busy"), "{event}");
    let container = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&container, "handed_out", 1);
    let (status, text) = agent.healthz();
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("which containers run"), "{text}");

    fails.store(false, Ordering::Relaxed);
    let event = agent.wait_for_more("docker", 1);
    assert_eq!(event["level"], "info", "{event}");
    assert_eq!(agent.healthz(), (200, "ok\n".to_owned()));
    assert_eq!(agent.count("docker_away"), 0, "{}", agent.log());
}

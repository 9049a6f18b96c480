//! Vault or Docker away, slow, or started again.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{STAY, TMPFS, entered, on_host, plain, small};
use crate::support::agent::{Agent, Setup, alive};
use crate::support::docker::{self, Container, docker};
use crate::support::engine::Engine;
use crate::support::{Fault, FaultProxy, OpenBao, Options, Reply, Service, Storage, lock};

fn durable() -> OpenBao {
    OpenBao::start(Options {
        storage: Storage::Raft,
        ..Options::default()
    })
}

#[track_caller]
fn assert_vault_is_away(agent: &Agent) {
    let (status, text) = agent.healthz();
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("Vault does not answer"), "{text}");
    assert_eq!(agent.metric("vault_up"), 0.0);
}

#[test]
fn outage_of_vault_makes_a_container_wait_and_is_said_once() {
    docker::require!();
    let server = durable();
    let service = Service::on(&server);
    let image = entered(&small(&service));
    let agent = Setup::of(&service, image.tag()).start();
    type Step = fn(&OpenBao);
    let outages: [(&str, Step, Step); 2] = [
        ("sealed", OpenBao::seal, OpenBao::unseal),
        ("away", OpenBao::stop, OpenBao::start_again),
    ];
    for (number, (what, goes, comes)) in outages.into_iter().enumerate() {
        goes(&server);
        let options = on_host(&[
            "--env",
            "ANTEROOM_TOKEN_WAIT=100s",
            "--env",
            "ANTEROOM_DEADLINE=120s",
        ]);
        let container = agent.run(&service, image.tag(), &options, &["echo", "started"]);
        agent.wait_for_more("vault_away", number);
        assert_vault_is_away(&agent);
        comes(&server);
        assert_eq!(container.wait(), 0, "{what}: {:#?}", container.logs());
        assert_eq!(container.logs().stdout, "started\n", "{what}");
        agent.wait_for_more("vault_back", number);
        assert_eq!(agent.count("vault_away"), number + 1, "{}", agent.log());
        assert_eq!(agent.count("vault_back"), number + 1, "{}", agent.log());
        assert_eq!(agent.healthz(), (200, "ok\n".to_owned()), "{what}");
        assert_eq!(agent.count("refused"), 0, "{}", agent.log());
    }
    agent.wait_until_empty();
    assert!(alive(&server, &service).is_empty());
}

#[test]
fn revocation_missed_in_an_outage_is_made_up_by_any_agent() {
    docker::require!();
    let server = durable();
    let service = Service::on(&server);
    let agent = Setup::of(&service, &plain()).start();
    let run = || {
        let container = agent.run(&service, &plain(), &TMPFS, &STAY);
        agent.wait_about(&container, "handed_out", 1);
        container
    };
    let [first, second] = [run(), run()];
    server.stop();
    first.kill("KILL");
    agent.wait_until("it to be noted", || {
        (agent.metric("tokens_to_be_revoked") == 1.0).then_some(())
    });
    agent.wait_until("Vault to be missed", || {
        (agent.healthz().0 == 503).then_some(())
    });
    assert_vault_is_away(&agent);
    server.start_again();
    // In its file too: Vault has revoked it a moment before the agent knows.
    agent.wait_until("the first token to be revoked", || {
        (agent.accessors().len() == 1).then_some(())
    });
    assert_eq!(alive(&server, &service).len(), 1);

    server.stop();
    second.kill("KILL");
    agent.wait_until("it to be in the register's file", || {
        (agent.register()["entries"][0]["over"] == true).then_some(())
    });
    agent.kill();
    let before = agent.count("vault_away");
    agent.spawn();
    agent.wait_for_more("vault_away", before);
    assert_eq!(agent.metric("tokens_to_be_revoked"), 1.0);
    server.start_again();
    agent.wait_until_empty();
    assert!(alive(&server, &service).is_empty());
}

#[test]
fn silent_readers_do_not_shut_health_off() {
    let server = OpenBao::shared();
    let service = Service::on(server);
    let agent = Setup::of(&service, "timeline").prepare();
    agent.spawn();
    agent.wait_for("ready");
    let listener = agent.path("listen.sock");
    // As many as would take minutes if each were waited for.
    let idle: Vec<UnixStream> = (0..400)
        .map(|_| UnixStream::connect(&listener).expect("it listens"))
        .collect();
    let (_, text) = agent.healthz();
    assert!(!text.contains("Vault"), "{text}");
    drop(idle);
}

#[test]
fn slow_or_hanging_vault_delays_one_container_and_no_other() {
    docker::require!();
    let [slow, other] = [Service::new(), Service::new()];
    let path = format!("auth/token/create/{}", slow.token_role);
    let create = path.clone();
    let proxy = FaultProxy::start(slow.admin.address(), move |seen| {
        match (seen.is(&create), seen.nth) {
            (true, 1) => Fault::Hang,
            (true, 2) => Fault::Delay(Duration::from_secs(3)),
            _ => Fault::Pass,
        }
    });
    let agent = Setup::of(&slow, &plain())
        .allow(&other, &plain())
        .vault(&proxy.address())
        .start();
    let first = agent.run(&slow, &plain(), &TMPFS, &STAY);
    agent.wait_until("the mint to hang", || {
        (proxy.count(&path) == 1).then_some(())
    });
    let second = agent.run(&other, &plain(), &TMPFS, &STAY);
    agent.wait_about(&second, "handed_out", 1);
    assert!(agent.about(&first, "handed_out").is_empty());
    let event = agent.wait_about(&first, "handed_out", 1);
    let took = event["mint_us"].as_u64().expect("a number");
    assert!(took >= 3_000_000, "{event}");
    assert_eq!(proxy.count(&path), 2);
    assert_eq!(agent.count("refused"), 0);
}

#[test]
fn failed_revocation_holds_up_no_other_and_is_said_once() {
    docker::require!();
    const REVOKE: &str = "auth/token/revoke-accessor";
    let service = Service::new();
    let server = OpenBao::shared();
    let bad = Arc::new(Mutex::new(String::new()));
    let proxy = FaultProxy::start(service.admin.address(), {
        let bad = Arc::clone(&bad);
        move |seen| {
            let body = String::from_utf8_lossy(&seen.body).into_owned();
            let bad = lock(&bad);
            if seen.is(REVOKE) && !bad.is_empty() && body.contains(bad.as_str()) {
                Fault::Answer(Reply::json(500, &json!({"errors": ["a lease cannot go"]})))
            } else {
                Fault::Pass
            }
        }
    });
    let agent = Setup::of(&service, &plain())
        .vault(&proxy.address())
        .start();
    let containers = [(); 6].map(|()| agent.run(&service, &plain(), &TMPFS, &STAY));
    for container in &containers {
        agent.wait_about(container, "handed_out", 1);
    }
    let first = agent.accessors()[0].clone();
    lock(&bad).clone_from(&first);
    // All at once: each end is another try, and the pause until the next grows.
    let names = containers.iter().map(Container::name);
    let ended = docker(["kill"].into_iter().chain(names));
    assert_eq!(ended.code, 0, "{ended:#?}");
    agent.wait_until("all others to be revoked", || {
        (agent.accessors() == [first.as_str()]).then_some(())
    });
    assert_eq!(alive(server, &service), [first.as_str()]);
    let event = agent.wait_for("not_revoked");
    assert_eq!(event["accessor"], first.as_str(), "{event}");
    assert!(event["message"].to_string().contains(&first), "{event}");
    // It is tried again, and once it works that was it.
    let tries = proxy.count(REVOKE);
    agent.wait_until("another try", || {
        (proxy.count(REVOKE) > tries).then_some(())
    });
    lock(&bad).clear();
    agent.wait_until_empty();
    assert!(alive(server, &service).is_empty());
    assert_eq!(agent.count("not_revoked"), 1);
    assert_eq!(agent.count("revoked"), 6);
}

#[test]
fn revocation_that_the_agents_end_calls_off_is_done_before_it() {
    docker::require!();
    const REVOKE: &str = "auth/token/revoke-accessor";
    let service = Service::new();
    let mut is_first = true;
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        if seen.is(REVOKE) && std::mem::take(&mut is_first) {
            Fault::Hang
        } else {
            Fault::Pass
        }
    });
    let agent = Setup::of(&service, &plain())
        .vault(&proxy.address())
        .start();
    let container = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&container, "handed_out", 1);
    container.kill("KILL");
    agent.wait_until("Vault to be told", || {
        (proxy.count(REVOKE) == 1).then_some(())
    });
    assert_eq!(agent.stop(), Some(0), "{}", agent.log());
    assert_eq!(agent.count("revoked"), 1, "{}", agent.log());
    assert!(alive(OpenBao::shared(), &service).is_empty());
}

#[test]
fn label_of_another_name_ends_no_token_of_what_still_runs() {
    docker::require!();
    let service = Service::new();
    let agent = Setup::of(&service, &plain()).start();
    let container = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&container, "handed_out", 1);
    assert_eq!(agent.stop(), Some(0));
    let configuration = std::fs::read_to_string(agent.path("agent.toml")).expect("it is there");
    let changed = configuration.replacen(".app\"", ".service\"", 1);
    assert_ne!(changed, configuration);
    agent.write_private("agent.toml", &changed);
    agent.start();
    assert_eq!(alive(OpenBao::shared(), &service).len(), 1);
    assert_eq!(agent.metric("tokens_to_be_revoked"), 0.0);
    // Its death is not told under that label, and found in the end all the same.
    container.kill("KILL");
    assert_eq!(agent.stop(), Some(0));
    assert!(alive(OpenBao::shared(), &service).is_empty());
}

/// The image of an engine of a test's own.
pub(super) const IMAGE: &str = "plain";

/// An engine that may be stopped, with these options.
pub(super) fn engine(more: &[&'static str]) -> Engine {
    let options = [
        "--storage-driver=vfs",
        "--shutdown-timeout=2",
        "--ip6tables=false",
    ];
    let engine = Engine::start(&[&options[..], more].concat());
    engine.import("alpine-like", IMAGE);
    engine
}

/// Starts a container of this service and gives its id.
pub(super) fn run(engine: &Engine, agent: &Agent, service: &Service, option: &str) -> String {
    let labels = agent.labels(&service.app, &service.environment);
    let words = ["run", "--detach", "--network=none", "--stop-timeout=1"];
    let words = words.iter().chain(&TMPFS).copied();
    let words = words.chain(labels.iter().map(String::as_str));
    engine.must(words.chain([option, IMAGE]).chain(STAY))
}

pub(super) fn agent_of(engine: &Engine, service: &Service) -> Agent {
    Setup::of(service, IMAGE)
        .table("docker", format!("socket = {:?}\n", engine.socket()))
        .start()
}

#[track_caller]
fn assert_docker_is_away(agent: &Agent) {
    agent.wait_for("docker_away");
    let (status, text) = agent.healthz();
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("Docker does not tell its events"), "{text}");
    assert_eq!(agent.metric("docker_up"), 0.0);
}

#[test]
fn restarted_engine_is_followed_and_its_containers_are_served() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let mut engine = engine(&[]);
    let agent = agent_of(&engine, &service);
    let comes_back = run(&engine, &agent, &service, "--restart=always");
    let stays_away = run(&engine, &agent, &service, "--restart=no");
    for id in [&comes_back, &stays_away] {
        agent.wait_about_id(id, "handed_out", 1);
    }
    engine.stop();
    assert_docker_is_away(&agent);
    engine.start_again();
    let event = agent.wait_about_id(&comes_back, "handed_out", 2);
    agent.wait_until("the tokens of before to be revoked", || {
        let left = alive(server, &service);
        (left.len() == 1 && event["accessor"] == left[0].as_str()).then_some(())
    });
    agent.wait_for_more("docker", 1);
    assert_eq!(agent.count("docker_away"), 1, "{}", agent.log());
    assert_eq!(agent.about_id(&stays_away, "handed_out").len(), 1);
    assert_eq!(agent.healthz(), (200, "ok\n".to_owned()));
}

#[test]
fn container_keeps_its_token_only_if_it_outlives_the_engine() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let mut engine = engine(&["--live-restore"]);
    let agent = agent_of(&engine, &service);
    let [lives, dies] = [(), ()].map(|()| run(&engine, &agent, &service, "--restart=no"));
    for id in [&lives, &dies] {
        agent.wait_about_id(id, "handed_out", 1);
    }
    let pid = engine.must(["inspect", "--format", "{{.State.Pid}}", &dies]);
    engine.stop();
    assert_docker_is_away(&agent);
    let pid = pid.parse().expect("a number");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it runs still");
    engine.start_again();
    agent.wait_for_more("docker", 1);
    agent.wait_until("the dead one's token to be revoked", || {
        let left = alive(server, &service);
        let lives = &agent.about_id(&lives, "handed_out")[0];
        (left.len() == 1 && lives["accessor"] == left[0].as_str()).then_some(())
    });
    assert_eq!(agent.count("handed_out"), 2, "{}", agent.log());
    assert_eq!(agent.count("docker_away"), 1, "{}", agent.log());
    assert_eq!(
        engine.must(["inspect", "--format", "{{.State.Running}}", &lives]),
        "true"
    );
}

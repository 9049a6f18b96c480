//! Containers whose file system does not take a token: the token is revoked, and other containers are served.

use std::time::Duration;

use super::{STAY, TMPFS, TOKEN, plain, token_in};
use crate::support::agent::{Setup, alive, minted};
use crate::support::docker::{self, Container};
use crate::support::{OpenBao, Service, wait_for};

#[test]
fn obstacle_costs_its_container_the_token_and_harms_no_other() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let agent = Setup::of(&service, &plain()).prepare();
    let write = "[ \"$(ls -A /run/secrets)\" = \"$(cat /tmp/before)\" ]";
    let small = "--tmpfs=/run/secrets:size=4k";
    let read_only = "--tmpfs=/run/secrets:ro";
    let cases = [
        (
            "a link",
            format!("ln -s /etc/passwd {TOKEN}"),
            TMPFS[0],
            "occupied",
        ),
        ("a FIFO", format!("mkfifo {TOKEN}"), TMPFS[0], "occupied"),
        (
            "a directory",
            format!("mkdir {TOKEN}"),
            TMPFS[0],
            "occupied",
        ),
        (
            "a full tmpfs",
            "head -c 4096 /dev/zero > /run/secrets/x".to_owned(),
            small,
            "full",
        ),
        (
            "a read-only tmpfs",
            "true".to_owned(),
            read_only,
            "read_only",
        ),
        (
            "no tmpfs",
            "mkdir -p /run/secrets".to_owned(),
            "--tmpfs=/other",
            "not_tmpfs",
        ),
        (
            "no directory",
            "true".to_owned(),
            "--tmpfs=/other",
            "no_directory",
        ),
        (
            "a link on the way",
            "mkdir /aside; ln -s /aside /run/secrets".to_owned(),
            "--tmpfs=/aside",
            "symlink",
        ),
    ];
    // They prepare before there is an agent.
    let prepared: Vec<(&str, &str, Container)> = cases
        .iter()
        .map(|(what, script, option, reason)| {
            let options = match *option {
                option if option == TMPFS[0] => TMPFS.to_vec(),
                option => vec![option],
            };
            let line = format!(
                "{script}; ls -A /run/secrets > /tmp/before; echo prepared; exec sleep 1000"
            );
            let mut options = options;
            options.push("--tmpfs=/tmp");
            let container = agent.run(&service, &plain(), &options, &["sh", "-c", &line]);
            wait_for(what, Duration::from_secs(30), || {
                (container.logs().stdout == "prepared\n").then_some(())
            });
            (*what, *reason, container)
        })
        .collect();
    let good = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.start();
    let handed_out = agent.wait_about(&good, "handed_out", 1);
    for (what, reason, container) in &prepared {
        let event = agent.wait_about(container, "undelivered", 1);
        assert_eq!(event["reason"], *reason, "{what}: {event}");
        assert_eq!(event["level"], "warn", "{what}: {event}");
        assert!(agent.reasons("undelivered", reason) >= 1.0, "{what}");
        assert!(agent.about(container, "handed_out").is_empty(), "{what}");
        let same = container.exec(&["sh", "-c", write]);
        assert_eq!(same.code, 0, "{what}: {same:#?}");
    }
    agent.wait_until("their tokens to be revoked", || {
        let left = alive(server, &service);
        (left.len() == 1 && handed_out["accessor"] == left[0].as_str()).then_some(())
    });
    assert_eq!(minted(server, &service).len(), prepared.len() + 1);
    agent.wait_until("the register to hold what was delivered", || {
        (agent.accessors().len() == 1).then_some(())
    });
    assert_eq!(agent.metric("revoked_total"), prepared.len() as f64);
    assert_eq!(agent.healthz(), (200, "ok\n".to_owned()));
}

#[test]
fn untaken_token_is_revoked_and_replaced_at_the_next_start() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let agent = Setup::of(&service, &plain()).start();
    // A tmpfs of the engine's own outlives its containers' starts no more than any other.
    let container = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&container, "handed_out", 1);
    let first = token_in(&container);
    assert_eq!(server.lookup_wrapping(&first), 200);
    container.kill("KILL");
    container.wait();
    agent.wait_until_empty();
    assert_eq!(alive(server, &service), Vec::<String>::new());
    // What is still in the wrapping token is worth nothing.
    let answer = server.unwrap(&first);
    if let Some(token) = answer.json["auth"]["client_token"].as_str() {
        let lookup = server.api("GET", "auth/token/lookup-self").token(token);
        assert_eq!(lookup.send().status, 403);
    }
    container.start();
    agent.wait_about(&container, "handed_out", 2);
    assert_ne!(token_in(&container), first);
}

#[test]
fn token_that_cannot_be_registered_is_not_handed_out() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let agent = Setup::of(&service, &plain()).start();
    // The register is written under this name first.
    let in_the_way = agent.path("register.json.new");
    std::fs::create_dir(&in_the_way).expect("our own directory can be written");
    let container = agent.run(&service, &plain(), &TMPFS, &STAY);
    let event = agent.wait_about(&container, "undelivered", 1);
    assert_eq!(event["reason"], "register", "{event}");
    assert_ne!(container.exec(&["ls", TOKEN]).code, 0);
    agent.wait_until("its token to be revoked", || {
        let minted = minted(server, &service).len();
        (minted == 1 && alive(server, &service).is_empty()).then_some(())
    });
    assert!(agent.count("register") > 0, "{}", agent.log());
    std::fs::remove_dir(&in_the_way).expect("our own directory can be written");
    let next = agent.run(&service, &plain(), &TMPFS, &STAY);
    let event = agent.wait_about(&next, "handed_out", 1);
    assert_eq!(
        agent.accessors(),
        [event["accessor"].as_str().expect("it has one")]
    );
}

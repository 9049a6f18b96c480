//! When something was taken.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{STAY, TMPFS, entered, on_host, plain, small};
use crate::support::agent::{Agent, Setup, alive, id, minted};
use crate::support::docker::{self, Container, docker};
use crate::support::{OpenBao, Options, Service, Storage, wait_for};

fn restart(container: &Container) {
    let outcome = docker(["restart", "--time", "0", container.name()]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
}

fn delivered(agent: &Agent, service: &Service) -> Container {
    let container = agent.run(service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&container, "handed_out", 1);
    container
}

#[track_caller]
fn assert_blocked(agent: &Agent, container: &Container, count: usize) {
    let event = agent.wait_about(container, "refused", count);
    assert_eq!(event["reason"], "blocked", "{event}");
}

#[test]
fn revoke_ends_a_supervised_service_with_75_and_keeps_it_down_until_allow() {
    if !docker::available() {
        return;
    }
    let service = Service::new();
    let server = OpenBao::shared();
    let manifest = small(&service)
        .set(
            "process",
            json!({"lifecycle": "supervise", "on_expiry": "terminate"}),
        )
        .set("token.revocation_check", "2s");
    let image = entered(&manifest);
    let agent = Setup::of(&service, image.tag()).start();
    let command = [
        "sh",
        "-c",
        "trap 'echo leaving; exit 0' TERM; echo started; while :; do sleep 0.1; done",
    ];
    let options = on_host(&["--env", "ANTEROOM_TOKEN_WAIT=3s"]);
    let container = agent.run(&service, image.tag(), &options, &command);
    let starts = || container.logs().stdout.matches("started").count();
    wait_for("the application", Duration::from_secs(60), || {
        (starts() == 1).then_some(())
    });
    let began = Instant::now();
    let outcome = agent.command(&["revoke", "--app", &service.app]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    let accessors = minted(server, &service);
    assert!(outcome.stdout.contains(&accessors[0]), "{outcome:#?}");
    assert!(
        outcome.stdout.contains(&id(&container)[..12]),
        "{outcome:#?}"
    );
    assert!(alive(server, &service).is_empty());
    assert_eq!(container.wait(), 75, "{:#?}", container.logs());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "it took {took:?}");
    assert!(container.logs().stdout.ends_with("leaving\n"));
    assert_eq!(agent.metric("blocks"), 1.0);

    // Starting it again does not help whoever took it.
    container.start();
    assert_blocked(&agent, &container, 1);
    assert_eq!(container.wait(), 66, "{:#?}", container.logs());
    assert_eq!(minted(server, &service).len(), 1);

    let outcome = agent.command(&["allow", "--app", &service.app]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    container.start();
    wait_for("the application", Duration::from_secs(60), || {
        (starts() == 2).then_some(())
    });
    assert_eq!(agent.metric("blocks"), 0.0);
    assert_eq!(minted(server, &service).len(), 2);
    assert_eq!(agent.count("break_glass"), 1);
    assert_eq!(agent.count("allowed"), 1);
}

#[test]
fn revoke_names_an_app_an_environment_a_container_or_all() {
    if !docker::available() {
        return;
    }
    let server = OpenBao::shared();
    let [one, two] = [Service::new(), Service::new()];
    let agent = Setup::of(&one, &plain()).allow(&two, &plain()).start();
    let containers = [
        delivered(&agent, &one),
        delivered(&agent, &one),
        delivered(&agent, &two),
    ];
    let left = || (alive(server, &one).len(), alive(server, &two).len());
    assert_eq!(left(), (2, 1));

    // An environment that is not theirs.
    let outcome = agent.command(&["revoke", "--app", &one.app, "--environment", "other"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert_eq!(left(), (2, 1));

    let first = id(&containers[0]);
    let outcome = agent.command(&["revoke", "--container", &first[..12]]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    // What was said with fewer words is not taken back by the way.
    for words in [["--container", &first], ["--app", &one.app]] {
        let outcome = agent.command(&[&["allow"][..], &words[..]].concat());
        assert_ne!(outcome.code, 0, "{outcome:#?}");
        let block = format!("container {} still", &first[..12]);
        assert!(outcome.stdout.contains(&block), "{outcome:#?}");
    }
    assert_eq!(left(), (1, 1));
    restart(&containers[0]);
    assert_blocked(&agent, &containers[0], 1);
    restart(&containers[1]);
    agent.wait_about(&containers[1], "handed_out", 2);
    agent.wait_until("the restarted one's old token to go", || {
        (left() == (1, 1)).then_some(())
    });

    let outcome = agent.command(&["revoke", "--all"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert_eq!(left(), (0, 0));
    assert!(agent.accessors().is_empty());
    restart(&containers[2]);
    assert_blocked(&agent, &containers[2], 1);

    // What is narrower does not undo it, and says so.
    let outcome = agent.command(&["allow", "--app", &two.app]);
    assert_ne!(outcome.code, 0, "{outcome:#?}");
    assert!(outcome.stdout.contains("everybody"), "{outcome:#?}");
    restart(&containers[2]);
    assert_blocked(&agent, &containers[2], 2);
    let outcome = agent.command(&["allow", "--all"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    restart(&containers[2]);
    agent.wait_about(&containers[2], "handed_out", 2);
    assert_eq!(agent.metric("blocks"), 0.0);
}

#[test]
fn revoke_works_where_no_agent_runs_and_the_next_one_honours_it() {
    if !docker::available() {
        return;
    }
    let service = Service::new();
    let server = OpenBao::shared();
    let agent = Setup::of(&service, &plain()).start();
    let container = delivered(&agent, &service);
    agent.kill();
    let outcome = agent.command(&["revoke", "--app", &service.app]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert!(outcome.stderr.contains("no_agent"), "{outcome:#?}");
    assert!(alive(server, &service).is_empty());
    assert!(agent.accessors().is_empty());
    restart(&container);
    agent.start();
    assert_blocked(&agent, &container, 1);
    agent.kill();

    let outcome = agent.command(&["allow", "--app", &service.app]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    restart(&container);
    agent.start();
    agent.wait_about(&container, "handed_out", 2);
}

#[test]
fn what_cannot_be_revoked_now_is_said_and_done_later() {
    if !docker::available() {
        return;
    }
    let server = OpenBao::start(Options {
        storage: Storage::Raft,
        ..Options::default()
    });
    let service = Service::on(&server);
    let agent = Setup::of(&service, &plain()).start();
    let container = delivered(&agent, &service);
    server.seal();
    let outcome = agent.command(&["revoke", "--app", &service.app]);
    assert_eq!(outcome.code, 69, "{outcome:#?}");
    assert!(outcome.stdout.contains("NOT revoked yet"), "{outcome:#?}");
    // The block holds all the same.
    restart(&container);
    assert_blocked(&agent, &container, 1);
    server.unseal();
    agent.wait_until_empty();
    assert!(alive(&server, &service).is_empty());
}

#[test]
fn a_register_has_one_agent() {
    if !docker::available() {
        return;
    }
    let service = Service::new();
    let agent = Setup::of(&service, &plain()).start();
    let second = agent.command(&[]);
    assert_eq!(second.code, 73, "{second:#?}");
    assert!(second.stderr.contains("another agent"), "{second:#?}");
    // The first one is not disturbed: it is still the one that is asked.
    let outcome = agent.command(&["revoke", "--app", "nobody"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert_eq!(agent.count("break_glass"), 1);
}

#[test]
fn a_file_that_is_no_register_is_left_as_it_is() {
    let service = Service::new();
    let agent = Setup::of(&service, "team/timeline").prepare();
    let file = agent.path("register.json");
    for content in ["", "{", "[]", "{\"entries\": 7}"] {
        agent.write_private("register.json", content);
        for words in [&[][..], &["revoke", "--all"]] {
            let outcome = agent.command(words);
            assert_eq!(outcome.code, 73, "{content:?} {words:?}: {outcome:#?}");
            assert!(outcome.stderr.contains("no register"), "{outcome:#?}");
        }
        assert_eq!(
            std::fs::read_to_string(&file).expect("it is there"),
            content
        );
    }
}

#[test]
fn an_order_names_somebody() {
    let service = Service::new();
    let agent = Setup::of(&service, "team/timeline").prepare();
    for words in [
        &["revoke"][..],
        &["allow"],
        &["revoke", "--all", "--app", "x"],
        &["revoke", "--container", "abc"],
        &["revoke", "--container", "0123456789AB"],
        &["revoke", "everybody"],
    ] {
        let outcome = agent.command(words);
        assert_eq!(outcome.code, 64, "{words:?}: {outcome:#?}");
    }
    assert!(!agent.path("register.json").exists());
}

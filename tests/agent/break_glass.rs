//! When something was taken.
#![expect(
    clippy::disallowed_methods,
    reason = "a test runs what an operator runs, and looks at what came of it"
)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{STAY, TMPFS, entered, on_host, plain, small};
use crate::support::agent::{Agent, Setup, alive, id, minted};
use crate::support::docker::{self, Container, Outcome, docker};
use crate::support::openbao::text;
use crate::support::{
    Fault, FaultProxy, OpenBao, Options, Reply, Service, Storage, TempDir, repository, wait_for,
};

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
fn revoke_ends_a_service_with_75_and_blocks_it_until_allow() {
    docker::require!();
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

    // Starting it again does not help the attacker who took it.
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
    docker::require!();
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
    assert!(outcome.stdout.contains("every service"), "{outcome:#?}");
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
    docker::require!();
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
fn token_that_cannot_be_revoked_now_is_named_and_revoked_later() {
    docker::require!();
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
fn token_of_another_vault_stays_until_that_one_revokes_it() {
    docker::require!();
    let server = OpenBao::shared();
    let service = Service::new();
    let agent = Setup::of(&service, &plain()).start();
    let container = delivered(&agent, &service);
    agent.kill();
    let accessor = agent.accessors()[0].clone();
    let register = fs::read_to_string(agent.path("register.json")).expect("it is there");

    // The same host, after its configuration came to name another Vault.
    let other = OpenBao::start(Options::default());
    let elsewhere = Setup::of(&Service::on(&other), &plain()).prepare();
    elsewhere.write_private("register.json", &register);
    let unknown = |outcome: &Outcome| {
        assert_eq!(outcome.code, 69, "{outcome:#?}");
        let line = format!("UNKNOWN to this Vault {}", service.app);
        assert!(outcome.stdout.contains(&line), "{outcome:#?}");
        assert!(outcome.stdout.contains("\n0 of 1 tokens"), "{outcome:#?}");
        assert!(!outcome.stdout.contains("\nrevoked"), "{outcome:#?}");
    };
    unknown(&elsewhere.command(&["revoke", "--all"]));
    assert_eq!(elsewhere.accessors(), std::slice::from_ref(&accessor));
    // Neither does a running agent take the token for ended, when its container ends too.
    elsewhere.start();
    drop(container);
    unknown(&elsewhere.command(&["revoke", "--app", &service.app]));
    assert_eq!(elsewhere.accessors(), std::slice::from_ref(&accessor));
    assert_eq!(elsewhere.metric("tokens_to_be_revoked"), 1.0);
    assert_eq!(elsewhere.metric("revoked_total"), 0.0);
    let event = elsewhere.wait_for("not_revoked");
    assert_eq!(event["accessor"], accessor.as_str(), "{event}");
    assert!(event["message"].to_string().contains(server.address()));
    elsewhere.kill();
    assert!(server.accessor_exists(&accessor));

    // Where it was minted it is known.
    let kept = fs::read_to_string(elsewhere.path("register.json")).expect("it is there");
    agent.write_private("register.json", &kept);
    let outcome = agent.command(&["revoke", "--all"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert!(!server.accessor_exists(&accessor));
    assert!(agent.accessors().is_empty());

    // An operator who knows better says so.
    let outcome = elsewhere.command(&["revoke", "--all", "--forget-unknown"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert!(outcome.stdout.contains("forgotten"), "{outcome:#?}");
    assert!(elsewhere.accessors().is_empty());
}

#[test]
fn token_that_ended_unseen_stays_as_long_as_its_container() {
    docker::require!();
    let server = OpenBao::shared();
    let service = Service::new();
    let agent = Setup::of(&service, &plain()).start();
    let containers = [(); 2].map(|()| delivered(&agent, &service));
    let accessors = agent.accessors();
    for accessor in &accessors {
        let body = json!({"accessor": accessor});
        server.request("POST", "auth/token/revoke-accessor", body);
    }
    // The end of a container asks for no more than that its token has ended.
    let [one, two] = containers;
    drop(one);
    agent.wait_until("the ended container's entry to go", || {
        (agent.accessors() == accessors[1..]).then_some(())
    });

    let outcome = agent.command(&["revoke", "--app", &service.app]);
    assert_eq!(outcome.code, 69, "{outcome:#?}");
    assert!(outcome.stdout.contains("UNKNOWN"), "{outcome:#?}");
    assert_eq!(agent.accessors(), accessors[1..]);
    drop(two);
    agent.wait_until_empty();
    let outcome = agent.command(&["revoke", "--app", &service.app]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
}

#[test]
fn token_that_was_unknown_for_a_time_ends_with_its_container() {
    docker::require!();
    let server = OpenBao::shared();
    let service = Service::new();
    // An older state of this Vault, which is there when the operator asks.
    let proxy = FaultProxy::start(service.admin.address(), |seen| {
        let unknown = json!({"warnings": ["No token found with this accessor"]});
        match (seen.is("auth/token/revoke-accessor"), seen.nth) {
            (true, 1) => Fault::Answer(Reply::vault(&unknown)),
            _ => Fault::Pass,
        }
    });
    let setup = Setup::of(&service, &plain()).vault(&proxy.address());
    let agent = setup.start();
    let container = delivered(&agent, &service);
    let accessor = agent.accessors()[0].clone();
    let outcome = agent.command(&["revoke", "--app", &service.app]);
    assert_eq!(outcome.code, 69, "{outcome:#?}");
    assert!(server.accessor_exists(&accessor));
    drop(container);
    agent.wait_until_empty();
    assert!(!server.accessor_exists(&accessor));
}

#[test]
fn agent_that_ends_asks_anew_for_a_revocation_without_answer() {
    docker::require!();
    let server = OpenBao::shared();
    let service = Service::new();
    let path = "auth/token/revoke-accessor";
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        match (seen.is(path), seen.nth) {
            (true, 1) => Fault::Hang,
            _ => Fault::Pass,
        }
    });
    let setup = Setup::of(&service, &plain()).vault(&proxy.address());
    let agent = setup.start();
    let container = delivered(&agent, &service);
    let accessor = agent.accessors()[0].clone();
    drop(container);
    agent.wait_until("the revocation to hang", || {
        (proxy.count(path) == 1).then_some(())
    });
    assert_eq!(agent.stop(), Some(0), "{}", agent.log());
    assert!(!server.accessor_exists(&accessor), "{}", agent.log());
    assert!(agent.accessors().is_empty());
}

#[test]
fn second_agent_of_a_register_is_refused() {
    docker::require!();
    let service = Service::new();
    let agent = Setup::of(&service, &plain()).start();
    let second = agent.command(&[]);
    assert_eq!(second.code, 73, "{second:#?}");
    assert!(second.stderr.contains("another agent"), "{second:#?}");
    // The first one is not disturbed: it is still the one that is asked.
    let outcome = agent.command(&["revoke", "--app", "absent"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert_eq!(agent.count("break_glass"), 1);
}

#[test]
fn file_that_is_no_register_is_left_as_it_is() {
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
fn order_without_a_clear_target_is_refused() {
    let service = Service::new();
    let agent = Setup::of(&service, "team/timeline").prepare();
    for words in [
        &["revoke"][..],
        &["allow"],
        &["revoke", "--all", "--app", "x"],
        &["revoke", "--container", "abc"],
        &["revoke", "--container", "0123456789AB"],
        &["revoke", "all"],
    ] {
        let outcome = agent.command(words);
        assert_eq!(outcome.code, 64, "{words:?}: {outcome:#?}");
    }
    assert!(!agent.path("register.json").exists());
}

/// The two blocks for a shell in the page about incidents, as they are to be typed.
fn queries() -> [String; 2] {
    let page = fs::read_to_string(repository().join("docs/incident.md")).expect("the page");
    let blocks = page.split("```").skip(1).step_by(2);
    let mut blocks = blocks.filter_map(|block| Some(block.strip_prefix("sh\n")?.to_owned()));
    let queries = [(); 2].map(|()| blocks.next().expect("there are two"));
    assert_eq!(blocks.next(), None, "there are no more than two");
    queries
}

/// The lines that a query prints when it is run where the operator has put the logs.
fn found(logs: &TempDir, query: &str) -> Vec<String> {
    let mut command = Command::new("sh");
    command
        .args(["-euc", query])
        .current_dir(logs.path())
        .env("LC_ALL", "C");
    let outcome = docker::run(&mut command).expect("it ends");
    assert!(
        outcome.code == 0 && outcome.stderr.is_empty(),
        "{query}: {outcome:#?}"
    );
    outcome.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn queries_of_the_incident_page_find_uses_and_strays() {
    docker::require!();
    let server = OpenBao::start(Options {
        hashed_audit: true,
        ..Options::default()
    });
    let service = Service::on(&server);
    // Nothing is asked any more once the application runs, so that no answer is missing where the log is cut.
    let manifest = service.manifest().set("token.from", "agent");
    let image = entered(&manifest.set("token.revocation_check", "0s"));
    let agent = Setup::of(&service, image.tag()).start();
    // Two, since what is found must be the one's alone.
    let containers = [(); 2].map(|()| agent.run(&service, image.tag(), &on_host(&[]), &STAY));
    for container in &containers {
        wait_for("the application", Duration::from_secs(60), || {
            let events = container.logs().events();
            let mut events = events.iter();
            events.any(|event| event["event"] == "ready").then_some(())
        });
    }
    // An attacker with the agent's own token can give a token the metadata that an agent gives it.
    let path = format!("auth/token/create/{}", service.token_role);
    let stray = server
        .api("POST", &path)
        .token(&agent.own_token())
        .header("X-Vault-Wrap-TTL", "30s")
        .body(json!({"meta": {"host": agent.host(), "container_id": "f".repeat(64)}}))
        .send();
    let stray = text(&stray.json["wrap_info"]["wrapped_accessor"]);
    // A token that was handed out and is revoked was handed out all the same.
    restart(&containers[1]);
    agent.wait_about(&containers[1], "handed_out", 2);
    agent.wait_for("revoked");

    let container = id(&containers[0]);
    let accessor = text(&agent.about(&containers[0], "handed_out")[0]["accessor"]);
    let [used, minted] = queries();
    let (by_container, by_accessor) = used
        .split_once("audit.log\n")
        .expect("the first ends with the file's name");
    let by_container = format!("{by_container}audit.log");
    for file in [server.audit_file(), server.hashed_audit_file()] {
        let is_hashed = file == server.hashed_audit_file();
        // As the operator has it: a line that is being written is not in it.
        let log = fs::read_to_string(file).expect("the audit log is readable");
        let log = log.rfind('\n').map_or("", |end| &log[..=end]);
        let logs = TempDir::new();
        logs.write("audit.log", log);
        let hash = |accessor: &str| {
            if is_hashed {
                let device = format!("sys/audit-hash/{}", OpenBao::HASHED);
                let hash = server.ok("POST", &device, json!({"input": accessor}));
                text(&hash["data"]["hash"])
            } else {
                accessor.to_owned()
            }
        };
        let hashed = hash(&accessor);
        assert_eq!(log.contains(&accessor), !is_hashed);

        // Each request stands in the log before it is done, which no query looks at.
        let entries = log.lines().map(|line| {
            let entry: Value = serde_json::from_str(line).expect("it is JSON");
            entry
        });
        let mut expected: Vec<String> = entries
            .filter(|entry| entry["type"] == "request" && entry["auth"]["accessor"] == *hashed)
            .map(|entry| text(&entry["request"]["path"]))
            .collect();
        assert!(expected.contains(&service.payment_path()), "{expected:?}");
        expected.push("sys/wrapping/unwrap".to_owned());
        expected.sort_unstable();
        for query in [
            by_container.replace("ID", &container),
            by_accessor.replace("ACCESSOR", &hashed),
        ] {
            let lines = found(&logs, &query);
            let unique: BTreeSet<&String> = lines.iter().collect();
            assert_eq!(unique.len(), lines.len(), "each once: {lines:#?}");
            let mut paths: Vec<String> = lines
                .iter()
                .map(|line| {
                    let line: Value = serde_json::from_str(line).expect("it is JSON");
                    assert_eq!(line[3], "127.0.0.1", "{line}");
                    text(&line[2])
                })
                .collect();
            paths.sort_unstable();
            assert_eq!(paths, expected, "{query}");
        }

        // An agent's log, with the hashes where the audit log has them.
        let mut told = String::new();
        for mut event in agent.events() {
            if let Some(accessor) = event["accessor"].as_str() {
                event["accessor"] = hash(accessor).into();
            }
            told += &format!("{event}\n");
        }
        logs.write("agent.log", told);
        assert_eq!(found(&logs, &minted), [hash(&stray)]);
    }
}

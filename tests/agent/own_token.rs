//! The agent's own token, its configuration, and what is seen of both.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::{STAY, TMPFS, plain};
use crate::support::agent::{Agent, Setup, alive};
use crate::support::docker;
use crate::support::openbao::text;
use crate::support::{FaultProxy, OpenBao, Service, free_port, unique};

/// It says everywhere that it has none.
#[track_caller]
fn assert_lost(agent: &Agent, count: usize) -> Value {
    let event = agent.wait_for_more("own_token_lost", count);
    assert_eq!(event["level"], "error", "{event}");
    let (status, text) = agent.healthz();
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("no token of its own"), "{text}");
    assert_eq!(agent.metric("own_token_seconds"), 0.0);
    event
}

#[track_caller]
fn assert_serves(agent: &Agent, service: &Service) {
    let container = agent.run(service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&container, "handed_out", 1);
    assert_eq!(agent.healthz(), (200, "ok\n".to_owned()));
}

#[test]
fn a_lost_own_token_is_loud_and_another_one_in_its_file_is_taken() {
    if !docker::available() {
        return;
    }
    let service = Service::new();
    let server = OpenBao::shared();
    let agent = Setup::of(&service, &plain()).start();
    let ends = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&ends, "handed_out", 1);
    assert_eq!(agent.healthz(), (200, "ok\n".to_owned()));
    let seconds = agent.metric("own_token_seconds");
    assert!((1.0..=3600.0).contains(&seconds), "{seconds}");

    let body = json!({"token": agent.own_token()});
    server.ok("POST", "auth/token/revoke", body);
    // Now it needs it.
    ends.kill("KILL");
    assert_lost(&agent, 0);
    let waits = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.wait_until("what is to be revoked", || {
        (agent.metric("tokens_to_be_revoked") == 1.0).then_some(())
    });
    assert_eq!(alive(server, &service).len(), 1);

    agent.new_token();
    agent.wait_for("own_token_back");
    let event = agent.wait_about(&waits, "handed_out", 1);
    agent.wait_until("what had ended to be revoked", || {
        let left = alive(server, &service);
        (left.len() == 1 && event["accessor"] == left[0].as_str()).then_some(())
    });
    assert_eq!(agent.healthz(), (200, "ok\n".to_owned()));
    assert!(agent.metric("own_token_seconds") > 0.0);
    // The reason was said, and what had to wait was not told of as refused.
    assert!(agent.named("refused").is_empty(), "{}", agent.log());
}

#[test]
fn an_own_token_of_twenty_seconds_is_renewed_and_one_that_cannot_be_is_told_of_at_its_end() {
    if !docker::available() {
        return;
    }
    let service = Service::new();
    let proxy = FaultProxy::recording(service.admin.address());
    let agent = Setup::of(&service, &plain())
        .vault(&proxy.address())
        .own_token(json!({"ttl": "20s"}))
        .start();
    let ends = Setup::of(&service, "nothing")
        .own_token(json!({"ttl": "10s", "renewable": false}))
        .start();
    agent.wait_until("two renewals, and so more than its life", || {
        (proxy.count("auth/token/renew-self") >= 2).then_some(())
    });
    assert_serves(&agent, &service);
    assert_eq!(agent.count("own_token_lost"), 0, "{}", agent.log());
    assert_lost(&ends, 0);
}

#[test]
fn an_own_token_comes_out_of_a_wrapping_token_which_is_good_once() {
    if !docker::available() {
        return;
    }
    let service = Service::new();
    let setup = Setup::of(&service, &plain());
    let file = setup.path("wrapping");
    let policies = setup.policies().to_vec();
    let agent = setup
        .table("token", format!("wrapping_token_file = {file:?}\n"))
        .prepare();
    let wrapped = || {
        let body = json!({"policies": policies, "no_default_policy": true, "ttl": "1h"});
        service.admin.wrap("auth/token/create", "60s", body)
    };
    let first = wrapped();
    agent.write_private("wrapping", &first.token);
    agent.start();
    assert!(!file.exists(), "it was read and removed");
    assert_serves(&agent, &service);
    assert!(!agent.log().contains(&first.token));

    // The next agent finds none, and says so until there is one.
    agent.kill();
    agent.spawn();
    assert_lost(&agent, 0);
    // Whoever was faster is noticed.
    let before = agent.count("own_token_lost");
    agent.write_private("wrapping", &first.token);
    let event = agent.wait_for_more("own_token_lost", before);
    let message = event["message"].as_str().expect("it has one");
    assert!(message.contains("used"), "{event}");
    agent.write_private("wrapping", &wrapped().token);
    agent.wait_for("own_token_back");
    assert_serves(&agent, &service);
}

#[test]
fn with_approle_the_agent_logs_in_again_when_its_token_was_revoked() {
    if !docker::available() {
        return;
    }
    let service = Service::new();
    let server = OpenBao::shared();
    let setup = Setup::of(&service, &plain());
    let mount = unique("approle");
    server.ok(
        "POST",
        &format!("sys/auth/{mount}"),
        json!({"type": "approle"}),
    );
    let role = format!("auth/{mount}/role/agent");
    let properties = json!({
        "token_policies": setup.policies(),
        "token_no_default_policy": true,
        "token_ttl": "20s",
        "token_max_ttl": "1h",
    });
    server.ok("POST", &role, properties);
    let role_id = server.ok("GET", &format!("{role}/role-id"), Value::Null);
    let role_id = text(&role_id["data"]["role_id"]);
    let secret_id = server.ok("POST", &format!("{role}/secret-id"), json!({}));
    let secret_id = text(&secret_id["data"]["secret_id"]);
    let file = setup.path("secret-id");
    let agent = setup
        .table(
            "token",
            format!(
                "[token.approle]\nmount = {mount:?}\nrole_id = {role_id:?}\nsecret_id_file = {file:?}\n"
            ),
        )
        .prepare();
    agent.write_private("secret-id", &secret_id);
    agent.start();
    assert_serves(&agent, &service);

    let login = format!("auth/{mount}/login");
    let logins = || -> Vec<String> {
        let mut audit = server.audit();
        audit.retain(|entry| {
            entry["type"] == "response" && entry["request"]["path"] == login.as_str()
        });
        let accessors = audit
            .iter()
            .map(|entry| text(&entry["response"]["auth"]["accessor"]));
        accessors.collect()
    };
    let before = logins();
    assert_eq!(before.len(), 1, "{before:?}");
    let body = json!({"accessor": before[0]});
    server.ok("POST", "auth/token/revoke-accessor", body);
    // Whoever starts at this moment waits for no longer than a login takes.
    assert_serves(&agent, &service);
    assert_eq!(logins().len(), 2);
    assert!(agent.named("refused").is_empty(), "{}", agent.log());
    assert!(!agent.log().contains(&secret_id));
}

#[test]
fn check_says_everything_that_is_wrong_with_its_line_and_needs_nobody() {
    let service = Service::new();
    let agent = Setup::of(&service, "team/timeline").prepare();
    let outcome = agent.command(&["check"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert!(outcome.stdout.contains("is sound"), "{outcome:#?}");
    assert!(!agent.path("register.json").exists());

    let bad = Setup::new(&service.admin)
        .line("vault", "nonsense = 1")
        .line("mint", "wrap_ttl = \"1h\"")
        .line("agent", "port = 80")
        .rule("app = \"a/b\"\nenvironments = []\nimages = [\"x:1\"]\n");
    let configuration = bad.configuration();
    let line_of = |text: &str| {
        let mut lines = configuration.lines();
        lines.position(|line| line == text).expect("it is there") + 1
    };
    let wanted = [
        line_of("nonsense = 1"),
        line_of("wrap_ttl = \"1h\""),
        line_of("port = 80"),
        line_of("app = \"a/b\""),
        line_of("images = [\"x:1\"]"),
    ];
    let bad = bad.prepare();
    let outcome = bad.command(&["check"]);
    assert_eq!(outcome.code, 78, "{outcome:#?}");
    for line in wanted {
        let place = format!("line {line},");
        assert!(outcome.stderr.contains(&place), "{place} {outcome:#?}");
    }
    // Nor does it start so.
    assert_eq!(bad.command(&[]).code, 78);

    let elsewhere = bad.path("nowhere.toml").display().to_string();
    let words = ["check", "--config", &elsewhere];
    assert_eq!(bad.command(&words[1..]).code, 64, "given twice");
    for (words, code) in [
        (&["--nonsense"][..], 64),
        (&["nonsense"], 64),
        (&["check", "more"], 64),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        let outcome = bad.command(words);
        assert_eq!(outcome.code, code, "{words:?}: {outcome:#?}");
    }
}

#[test]
fn a_configuration_that_is_not_there_ends_with_78() {
    let service = Service::new();
    let agent = Setup::of(&service, "team/timeline").prepare();
    std::fs::remove_file(agent.path("agent.toml")).expect("it is there");
    for words in [&["check"][..], &[], &["revoke", "--all"]] {
        let outcome = agent.command(words);
        assert_eq!(outcome.code, 78, "{words:?}: {outcome:#?}");
        assert!(outcome.stderr.contains("agent.toml"), "{outcome:#?}");
    }
}

#[test]
fn metrics_and_health_are_on_loopback_too_and_nothing_else_is() {
    if !docker::available() {
        return;
    }
    let service = Service::new();
    let setup = Setup::of(&service, &plain());
    let port = free_port();
    let at = |name: &str| setup.path(name).display().to_string();
    let table = format!(
        "register = {:?}\ncontrol = {:?}\nlisten = \"127.0.0.1:{port}\"\n",
        at("register.json"),
        at("control.sock")
    );
    let _agent = setup.table("agent", table).start();
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        let request = format!("{request} HTTP/1.1\r\nHost: agent\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    let metrics = ask("GET /metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    for name in [
        "minted_total",
        "delivered_total",
        "revoked_total",
        "own_token_seconds",
        "tokens_out",
        "docker_up 1",
        "vault_up 1",
    ] {
        let line = format!("\nanteroom_agent_{name}");
        assert!(metrics.contains(&line), "{name}: {metrics}");
    }
    for (request, status) in [
        ("GET /healthz", "200"),
        ("HEAD /healthz", "200"),
        ("POST /healthz", "405"),
        ("GET /", "404"),
        ("GET /register.json", "404"),
    ] {
        let answer = ask(request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {answer}"
        );
    }
}

//! The agent's own token, its configuration, and what is seen of both.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{STAY, TMPFS, plain};
use crate::support::agent::{Agent, Setup, alive};
use crate::support::docker;
use crate::support::openbao::{Wrapped, merge, text};
use crate::support::{Cut, Fault, FaultProxy, OpenBao, Reply, Seen, Service, free_port, unique};

const LOOKUP: &str = "auth/token/lookup-self";
const REVOKE: &str = "auth/token/revoke-self";

/// Fails unless the agent says everywhere that it has no token.
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

/// An AppRole for an agent, on a mount of its own.
struct AppRole {
    mount: String,
    role: String,
}

impl AppRole {
    fn new(setup: &Setup, changes: Value) -> Self {
        let server = OpenBao::shared();
        let mount = unique("approle");
        server.ok(
            "POST",
            &format!("sys/auth/{mount}"),
            json!({"type": "approle"}),
        );
        let role = format!("auth/{mount}/role/agent");
        let mut properties = json!({
            "token_policies": setup.policies(),
            "token_no_default_policy": true,
            "token_ttl": "20s",
            "token_max_ttl": "1h",
        });
        merge(&mut properties, changes);
        server.ok("POST", &role, properties);
        Self { mount, role }
    }

    /// The agent that logs in with it; its secret id is in its file.
    fn prepare(&self, setup: Setup) -> Agent {
        let server = OpenBao::shared();
        let role_id = server.ok("GET", &format!("{}/role-id", self.role), Value::Null);
        let role_id = text(&role_id["data"]["role_id"]);
        let secret_id = server.ok("POST", &format!("{}/secret-id", self.role), json!({}));
        let (mount, file) = (&self.mount, setup.path("secret-id"));
        let table = format!(
            "[token.approle]\nmount = {mount:?}\nrole_id = {role_id:?}\nsecret_id_file = {file:?}\n"
        );
        let agent = setup.table("token", table).prepare();
        agent.write_private("secret-id", &text(&secret_id["data"]["secret_id"]));
        agent
    }

    fn login(&self) -> String {
        format!("auth/{}/login", self.mount)
    }

    /// The accessors of the tokens that it has given.
    fn logins(&self) -> Vec<String> {
        let answers = answers(&self.login()).into_iter();
        let accessors = answers.map(|entry| text(&entry["response"]["auth"]["accessor"]));
        accessors.collect()
    }
}

/// The audit log's answers to requests for this path that were done.
fn answers(path: &str) -> Vec<Value> {
    let mut audit = OpenBao::shared().audit();
    audit.retain(|entry| {
        entry["type"] == "response" && entry["request"]["path"] == path && entry["error"].is_null()
    });
    audit
}

/// This token has revoked itself.
fn has_ended_itself(accessor: &str) -> bool {
    answers(REVOKE)
        .iter()
        .any(|entry| entry["auth"]["accessor"] == accessor)
}

/// Puts something else in the place of the first answers to requests for this path.
fn at_first(
    server: &OpenBao,
    path: &str,
    count: usize,
    fault: impl Fn() -> Fault + Send + 'static,
) -> FaultProxy {
    let path = path.to_owned();
    FaultProxy::start(server.address(), move |seen: &Seen| {
        if seen.is(&path) && seen.nth <= count {
            fault()
        } else {
            Fault::Pass
        }
    })
}

fn wrapped(service: &Service, policies: &[String]) -> Wrapped {
    let body = json!({"policies": policies, "no_default_policy": true, "ttl": "1h"});
    service.admin.wrap("auth/token/create", "60s", body)
}

/// An agent with a wrapping token in its file.
fn with_wrapping_token(service: &Service, setup: Setup) -> (Agent, Wrapped) {
    let file = setup.path("wrapping");
    let token = wrapped(service, setup.policies());
    let table = format!("wrapping_token_file = {file:?}\n");
    let agent = setup.table("token", table).prepare();
    agent.write_private("wrapping", &token.token);
    (agent, token)
}

#[test]
fn lost_own_token_is_loud_and_a_new_one_in_its_file_is_taken() {
    docker::require!();
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
fn short_own_token_is_renewed_or_named_at_its_end() {
    docker::require!();
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
fn own_token_comes_out_of_a_wrapping_token_only_once() {
    docker::require!();
    let service = Service::new();
    let setup = Setup::of(&service, &plain());
    let policies = setup.policies().to_vec();
    let (agent, first) = with_wrapping_token(&service, setup);
    agent.start();
    assert!(!agent.path("wrapping").exists(), "it was read and removed");
    assert_serves(&agent, &service);
    assert!(!agent.log().contains(&first.token));

    // The next agent finds none, and says so until there is one.
    agent.kill();
    agent.spawn();
    assert_lost(&agent, 0);
    // The agent notices which of the two was faster.
    let before = agent.count("own_token_lost");
    agent.write_private("wrapping", &first.token);
    let event = agent.wait_for_more("own_token_lost", before);
    let message = event["message"].as_str().expect("it has one");
    assert!(message.contains("used"), "{event}");
    agent.write_private("wrapping", &wrapped(&service, &policies).token);
    agent.wait_for("own_token_back");
    assert_serves(&agent, &service);
}

#[test]
fn own_wrapping_token_needs_a_private_regular_file() {
    docker::require!();
    let service = Service::new();
    let (agent, token) = with_wrapping_token(&service, Setup::of(&service, "nothing"));
    let path = agent.path("wrapping");
    fs::remove_file(&path).expect("ours");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).expect("our own directory");
    agent.spawn();
    let reason = |event: Value| event["message"].as_str().map(str::to_owned);
    let event = agent.wait_for("own_token_lost");
    let message = reason(event).expect("it has one");
    assert!(message.contains("it is a pipe"), "{message}");

    agent.kill();
    fs::remove_file(&path).expect("ours");
    let socket = std::os::unix::net::UnixListener::bind(&path).expect("our own directory");
    let before = agent.count("own_token_lost");
    agent.spawn();
    let message = reason(agent.wait_for_more("own_token_lost", before)).expect("it has one");
    assert!(message.contains("it is a socket"), "{message}");

    agent.kill();
    drop(socket);
    fs::remove_file(&path).expect("ours");
    agent.write_private("wrapping", &token.token);
    let before = agent.count("own_token_lost");
    if nix::unistd::getuid().is_root() {
        std::os::unix::fs::chown(&path, Some(1000), Some(1000)).expect("root may");
        agent.spawn();
        let message = reason(agent.wait_for_more("own_token_lost", before)).expect("it has one");
        assert!(message.contains("belongs to user 1000"), "{message}");
        assert!(path.exists(), "it was taken");
        agent.kill();
        std::os::unix::fs::chown(&path, Some(0), Some(0)).expect("root may");
    }
    agent.start();
    assert!(!path.exists(), "it was not taken");
}

#[test]
fn agent_with_approle_logs_in_again_after_a_revocation() {
    docker::require!();
    let service = Service::new();
    let setup = Setup::of(&service, &plain());
    let role = AppRole::new(&setup, Value::Null);
    let agent = role.prepare(setup);
    agent.start();
    assert_serves(&agent, &service);

    let before = role.logins();
    assert_eq!(before.len(), 1, "{before:?}");
    let body = json!({"accessor": before[0]});
    OpenBao::shared().ok("POST", "auth/token/revoke-accessor", body);
    // A container that starts at this moment waits for no longer than a login takes.
    assert_serves(&agent, &service);
    assert_eq!(role.logins().len(), 2);
    assert!(agent.named("refused").is_empty(), "{}", agent.log());
    let secret_id = fs::read_to_string(agent.path("secret-id")).expect("it stays");
    assert!(!agent.log().contains(&secret_id));
}

// A token that was got is not lost

#[test]
fn unwrapped_token_is_kept_until_vault_tells_its_life() {
    docker::require!();
    let service = Service::new();
    let proxy = at_first(OpenBao::shared(), LOOKUP, 2, || {
        Fault::CutBefore(Cut::Reset)
    });
    let setup = Setup::of(&service, &plain()).vault(&proxy.address());
    let (agent, _) = with_wrapping_token(&service, setup);
    agent.start();
    assert_eq!(proxy.count("sys/wrapping/unwrap"), 1);
    assert_eq!(proxy.count(LOOKUP), 3);
    assert_serves(&agent, &service);
}

#[test]
fn agent_with_approle_logs_in_once_despite_repeated_lookups() {
    docker::require!();
    let service = Service::new();
    let proxy = at_first(OpenBao::shared(), LOOKUP, 3, || {
        let body = json!({"errors": ["internal error"]});
        Fault::Answer(Reply::json(500, &body))
    });
    let setup = Setup::of(&service, &plain()).vault(&proxy.address());
    let role = AppRole::new(&setup, json!({"secret_id_num_uses": 1}));
    let agent = role.prepare(setup);
    agent.start();
    assert_eq!(proxy.count(LOOKUP), 4);
    assert_eq!(proxy.count(&role.login()), 1);
    assert_serves(&agent, &service);
}

#[test]
fn token_denied_its_own_lookup_is_revoked_before_another_login() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let proxy = at_first(server, LOOKUP, 1, || {
        let body = json!({"errors": ["permission denied"]});
        Fault::Answer(Reply::json(403, &body))
    });
    let setup = Setup::of(&service, &plain()).vault(&proxy.address());
    let role = AppRole::new(&setup, Value::Null);
    let agent = role.prepare(setup);
    agent.start();
    let logins = role.logins();
    assert_eq!(logins.len(), 2, "{logins:?}");
    assert!(has_ended_itself(&logins[0]));
    assert!(!server.accessor_exists(&logins[0]));
    assert!(server.accessor_exists(&logins[1]));
    assert_serves(&agent, &service);
}

// And none is left behind

#[test]
fn approle_token_denied_all_but_its_own_revocation_is_revoked() {
    docker::require!();
    let service = Service::new();
    let admin = &service.admin;
    let setup = Setup::of(&service, &plain());
    let policy = setup.policies()[0].clone();
    let path = format!("sys/policies/acl/{policy}");
    let whole = text(&admin.ok("GET", &path, Value::Null)["data"]["policy"]);
    let role = AppRole::new(&setup, json!({"token_ttl": "1h"}));
    let agent = role.prepare(setup);
    agent.start();
    let least = format!("path {REVOKE:?} {{ capabilities = [\"update\"] }}");
    admin.policy(&policy, &least);
    // A container that wants a token shows that the agent's own is lost.
    let _wants = agent.run(&service, &plain(), &TMPFS, &STAY);
    assert_lost(&agent, 0);
    agent.wait_until("another login", || (role.logins().len() >= 2).then_some(()));
    for accessor in &role.logins()[..2] {
        agent.wait_until("its token to end", || {
            has_ended_itself(accessor).then_some(())
        });
    }
    admin.policy(&policy, &whole);
    agent.wait_for("own_token_back");
    assert_serves(&agent, &service);
    let alive = role.logins();
    let alive = alive.iter().filter(|token| admin.accessor_exists(token));
    assert_eq!(alive.count(), 1);
}

#[test]
fn fetched_own_token_ends_with_the_agent_and_a_filed_one_stays() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let begin_and_end = |agent: &Agent| {
        agent.start();
        assert_eq!(agent.stop(), Some(0), "{}", agent.log());
        assert_eq!(agent.count("own_token_not_revoked"), 0, "{}", agent.log());
    };
    let setup = Setup::of(&service, &plain());
    let role = AppRole::new(&setup, json!({"token_ttl": "1h"}));
    begin_and_end(&role.prepare(setup));
    let logins = role.logins();
    assert_eq!(logins.len(), 1);
    assert!(!server.accessor_exists(&logins[0]));

    let (agent, token) = with_wrapping_token(&service, Setup::of(&service, &plain()));
    begin_and_end(&agent);
    assert!(!server.accessor_exists(&token.wrapped_accessor));

    let agent = Setup::of(&service, &plain()).prepare();
    begin_and_end(&agent);
    begin_and_end(&agent);
    let lookup = server.api("GET", LOOKUP).token(&agent.own_token()).send();
    assert_eq!(lookup.status, 200, "the next agent has it too");
}

#[test]
fn agent_that_ends_in_the_middle_of_a_login_leaves_no_token() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let proxy = at_first(server, LOOKUP, 1, || Fault::Delay(Duration::from_secs(2)));
    let setup = Setup::of(&service, &plain()).vault(&proxy.address());
    let role = AppRole::new(&setup, json!({"token_ttl": "1h"}));
    let agent = role.prepare(setup);
    agent.spawn();
    agent.wait_until("the token to be looked at", || {
        (proxy.count(LOOKUP) == 1).then_some(())
    });
    assert!(server.accessor_exists(&role.logins()[0]));
    assert_eq!(agent.stop(), Some(0), "{}", agent.log());
    assert!(!server.accessor_exists(&role.logins()[0]));
    assert_eq!(agent.count("ready"), 0, "{}", agent.log());
}

#[test]
fn replaced_token_ends_and_a_successor_without_gain_ends_itself() {
    docker::require!();
    let service = Service::new();
    let setup = Setup::of(&service, &plain());
    let life = |seconds: &str| json!({"token_ttl": seconds, "token_max_ttl": "16s"});
    let role = AppRole::new(&setup, life("16s"));
    let agent = role.prepare(setup);
    agent.start();
    agent.wait_until("another login", || (role.logins().len() >= 2).then_some(()));
    // From now on a login gives nothing better than what is there.
    OpenBao::shared().ok("POST", &role.role, life("4s"));
    let logins = role.logins();
    agent.wait_until("the replaced token to end", || {
        has_ended_itself(&logins[0]).then_some(())
    });
    assert!(OpenBao::shared().accessor_exists(&logins[1]));
    assert_serves(&agent, &service);
    assert_eq!(agent.count("own_token_lost"), 0, "{}", agent.log());

    agent.wait_until("a login in vain", || {
        (role.logins().len() >= 3).then_some(())
    });
    let logins = role.logins();
    agent.wait_until("what it gave to end", || {
        has_ended_itself(&logins[2]).then_some(())
    });
    assert!(!has_ended_itself(&logins[1]), "it is used still");
    assert_eq!(agent.count("own_token_not_revoked"), 0, "{}", agent.log());
}

#[test]
fn revoke_without_an_agent_ends_the_token_that_it_logged_in_for() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let setup = Setup::of(&service, &plain());
    let role = AppRole::new(&setup, json!({"token_ttl": "1h"}));
    let agent = role.prepare(setup);
    agent.start();
    let container = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&container, "handed_out", 1);
    agent.kill();
    let outcome = agent.command(&["revoke", "--all"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert!(alive(server, &service).is_empty());
    let logins = role.logins();
    assert_eq!(logins.len(), 2);
    assert!(!server.accessor_exists(&logins[1]));
    // A block is taken back without a token.
    let outcome = agent.command(&["allow", "--all"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert_eq!(role.logins().len(), 2);
}

#[test]
fn policy_without_revoke_self_is_told_with_the_accessor() {
    docker::require!();
    let service = Service::new();
    let setup = Setup::of(&service, &plain());
    let least = format!("path {LOOKUP:?} {{ capabilities = [\"read\"] }}");
    service.admin.policy(&setup.policies()[0], &least);
    let role = AppRole::new(&setup, Value::Null);
    let agent = role.prepare(setup);
    agent.start();
    assert_eq!(agent.stop(), Some(0), "{}", agent.log());
    let event = agent.wait_for("own_token_not_revoked");
    assert_eq!(event["level"], "warn", "{event}");
    assert_eq!(event["accessor"], role.logins()[0].as_str(), "{event}");
    assert!(text(&event["message"]).contains(REVOKE), "{event}");
}

#[test]
fn pending_revocation_is_done_once_the_agent_has_a_token() {
    docker::require!();
    let service = Service::new();
    let agent = Setup::of(&service, &plain()).start();
    let ends = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&ends, "handed_out", 1);
    let body = json!({"token": agent.own_token()});
    OpenBao::shared().ok("POST", "auth/token/revoke", body);
    ends.kill("KILL");
    agent.wait_for("own_token_lost");
    // By now whatever is tried again is tried seldom.
    std::thread::sleep(Duration::from_secs(9));
    agent.new_token();
    let moments = ["own_token_back", "revoked"].map(|name| {
        let event = agent.wait_for(name);
        OffsetDateTime::parse(&text(&event["time"]), &Rfc3339).expect("RFC 3339")
    });
    let waited = moments[1] - moments[0];
    assert!(waited < time::Duration::seconds(5), "{waited}");
}

// Is Vault there?

#[test]
fn vault_that_fails_at_one_request_is_up_and_the_failure_named() {
    docker::require!();
    let service = Service::new();
    let create = format!("auth/token/create/{}", service.token_role);
    // A server that seals says the second one.
    let failures = [
        (500, "internal error"),
        (400, "failed to persist entry: context canceled"),
    ];
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        match (seen.is(&create), failures.get(seen.nth - 1)) {
            (true, Some((status, text))) => {
                Fault::Answer(Reply::json(*status, &json!({"errors": [text]})))
            }
            _ => Fault::Pass,
        }
    });
    let agent = Setup::of(&service, &plain())
        .vault(&proxy.address())
        .start();
    assert_serves(&agent, &service);
    assert_eq!(agent.count("vault_away"), 0, "{}", agent.log());
    assert_eq!(agent.count("refused"), 0, "{}", agent.log());
}

/// An answer of something that stands before Vault and does not let through to it.
type Stranger = (&'static str, fn(&Seen) -> Reply);

fn strangers() -> [Stranger; 5] {
    [
        ("403 in JSON", |_| {
            Reply::json(403, &json!({"message": "Forbidden"}))
        }),
        ("404 in HTML", |_| {
            Reply::text(404, "text/html", "<p>Not found</p>")
        }),
        ("200 in HTML", |_| {
            Reply::text(200, "text/html", "<p>Welcome</p>")
        }),
        ("204", |_| Reply::text(204, "text/plain", "")),
        ("307", |seen| {
            let elsewhere = format!("http://127.0.0.2{}", seen.path);
            Reply::text(307, "text/plain", "").header("Location", &elsewhere)
        }),
    ]
}

#[test]
fn stranger_that_answers_a_mint_is_an_outage_and_then_served() {
    docker::require!();
    let service = Service::new();
    let create = format!("auth/token/create/{}", service.token_role);
    let strangers = strangers();
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        match (seen.is(&create), strangers.get(seen.nth / 2)) {
            (true, Some((_, reply))) if seen.nth % 2 == 1 => Fault::Answer(reply(seen)),
            _ => Fault::Pass,
        }
    });
    let agent = Setup::of(&service, &plain())
        .vault(&proxy.address())
        .start();
    for (count, (name, _)) in (1..).zip(self::strangers()) {
        assert_serves(&agent, &service);
        agent.wait_for_more("vault_back", count - 1);
        assert_eq!(agent.count("vault_away"), count, "{name}: {}", agent.log());
    }
    assert_eq!(agent.count("refused"), 0, "{}", agent.log());
    assert_eq!(agent.count("own_token_lost"), 0, "{}", agent.log());
}

#[test]
fn own_token_is_not_lost_by_what_a_stranger_says_of_it() {
    docker::require!();
    let service = Service::new();
    let strangers = strangers();
    let count = strangers.len();
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        match (seen.is(LOOKUP), strangers.get(seen.nth - 1)) {
            (true, Some((_, reply))) => Fault::Answer(reply(seen)),
            _ => Fault::Pass,
        }
    });
    let agent = Setup::of(&service, &plain())
        .vault(&proxy.address())
        .prepare();
    agent.spawn();
    agent.wait_for("vault_back");
    agent.wait_for("ready");
    assert_eq!(proxy.count(LOOKUP), count + 1);
    assert_eq!(agent.count("vault_away"), 1, "{}", agent.log());
    for event in ["own_token_lost", "own_token_back"] {
        assert_eq!(agent.count(event), 0, "{}", agent.log());
    }
    assert_serves(&agent, &service);
}

#[test]
fn own_token_is_not_lost_where_vault_is_not_reached() {
    docker::require!();
    let service = Service::new();
    // It speaks no TLS; the other has no name.
    let plaintext = FaultProxy::scripted(|_| Fault::Pass).address();
    let addresses = [
        plaintext.replace("http:", "https:"),
        "https://vault.invalid:8200".to_owned(),
    ];
    for address in addresses {
        let agent = Setup::of(&service, &plain()).vault(&address).prepare();
        agent.spawn();
        let event = agent.wait_for("vault_away");
        assert_eq!(event["level"], "warn", "{event}");
        let (status, said) = agent.healthz();
        assert_eq!(status, 503, "{said}");
        assert!(said.contains("Vault does not answer"), "{said}");
        assert_eq!(agent.count("own_token_lost"), 0, "{}", agent.log());
    }
}

#[test]
fn own_unwrap_that_a_stranger_answers_is_a_lost_token() {
    docker::require!();
    let service = Service::new();
    let proxy = at_first(OpenBao::shared(), "sys/wrapping/unwrap", 1, || {
        Fault::AnswerAfter(Reply::json(403, &json!({"message": "Forbidden"})))
    });
    let setup = Setup::of(&service, &plain()).vault(&proxy.address());
    let (agent, _) = with_wrapping_token(&service, setup);
    agent.spawn();
    assert_lost(&agent, 0);
    // The next look finds no file, and says that too.
    let message = text(&agent.named("own_token_lost")[0]["message"]);
    assert!(
        message.contains("is not known") && message.contains("answered 403"),
        "{message}"
    );
    assert_eq!(agent.count("vault_away"), 0, "{}", agent.log());
    // The lookup has shown that it is gone, so that there is nothing to try again.
    assert_eq!(proxy.count("sys/wrapping/unwrap"), 1);
}

#[test]
fn revocation_that_a_stranger_answers_is_made_again() {
    docker::require!();
    let service = Service::new();
    let path = "auth/token/revoke-accessor";
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        match (seen.is(path), seen.nth) {
            (true, 1) => Fault::Answer(Reply::text(204, "text/plain", "")),
            (true, 2) => Fault::Answer(Reply::json(200, &json!({}))),
            _ => Fault::Pass,
        }
    });
    let agent = Setup::of(&service, &plain())
        .vault(&proxy.address())
        .start();
    let container = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&container, "handed_out", 1);
    drop(container);
    agent.wait_for("revoked");
    assert_eq!(proxy.count(path), 3);
    assert_eq!(alive(OpenBao::shared(), &service), Vec::<String>::new());
}

#[test]
fn renewal_that_vault_fails_at_is_said_and_tried_again() {
    docker::require!();
    let service = Service::new();
    let path = "auth/token/renew-self";
    let proxy = at_first(OpenBao::shared(), path, 1, || {
        let body = json!({"errors": ["internal error"]});
        Fault::Answer(Reply::json(500, &body))
    });
    let agent = Setup::of(&service, &plain())
        .vault(&proxy.address())
        .own_token(json!({"ttl": "20s"}))
        .start();
    let event = agent.wait_for("own_token_not_renewed");
    assert!(
        text(&event["message"]).contains("internal error"),
        "{event}"
    );
    agent.wait_until("another try", || (proxy.count(path) >= 2).then_some(()));
    assert_serves(&agent, &service);
    assert_eq!(agent.count("vault_away"), 0, "{}", agent.log());
    assert_eq!(agent.count("own_token_lost"), 0, "{}", agent.log());
}

#[test]
fn unanswered_login_is_an_outage_that_nonsense_does_not_end() {
    docker::require!();
    let service = Service::new();
    let setup = Setup::of(&service, &plain());
    let role = AppRole::new(&setup, Value::Null);
    let login = role.login();
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        match (seen.is(&login), seen.nth) {
            (true, 1) => Fault::CutAfter(Cut::Close),
            (true, 2 | 3) => Fault::Answer(Reply::text(200, "text/html", "<p>Welcome</p>")),
            _ => Fault::Pass,
        }
    });
    let agent = role.prepare(setup.vault(&proxy.address()));
    agent.spawn();
    agent.wait_for("vault_away");
    agent.wait_until("nonsense", || {
        (proxy.count(&role.login()) >= 3).then_some(())
    });
    assert_eq!(agent.metric("vault_up"), 0.0);
    let (status, text) = agent.healthz();
    assert!(
        status == 503 && text.contains("Vault does not answer"),
        "{text}"
    );
    assert_eq!(agent.count("vault_back"), 0, "{}", agent.log());
    agent.wait_for("vault_back");
    agent.wait_for("ready");
    assert_eq!(proxy.count(&role.login()), 4);
    assert_eq!(agent.count("vault_away"), 1, "{}", agent.log());
}

#[test]
fn unusable_token_file_is_named_once_with_what_belongs_in_it() {
    let service = Service::new();
    let everybodys = fs::Permissions::from_mode(0o644);
    let said = |agent: &Agent, name: &str, what: &str| {
        let path = agent.path(name);
        fs::set_permissions(&path, everybodys.clone()).expect("our own file");
        agent.spawn();
        let event = agent.wait_for("own_token_lost");
        agent.signal(Signal::SIGKILL);
        let message = text(&event["message"]);
        let path = path.display().to_string();
        assert_eq!(message.matches(&path).count(), 1, "{message}");
        assert!(
            message.contains(&format!("the agent's {what}:")),
            "{message}"
        );
        assert!(message.contains("0644"), "{message}");
        assert!(!message.contains("issuing"), "{message}");
    };
    let agent = Setup::of(&service, &plain()).prepare();
    said(&agent, "own-token", "token");
    let setup = Setup::of(&service, &plain());
    let agent = AppRole::new(&setup, Value::Null).prepare(setup);
    said(&agent, "secret-id", "secret id");
}

// What is seen of it

#[test]
fn check_names_every_mistake_with_its_line_and_needs_no_server() {
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
fn configuration_that_is_not_there_ends_with_78() {
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
fn configuration_that_is_no_regular_file_ends_with_78() {
    let service = Service::new();
    let agent = Setup::of(&service, "team/timeline").prepare();
    let path = agent.path("agent.toml");
    fs::remove_file(&path).expect("it is there");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).expect("our own directory");
    for words in [&["check"][..], &["revoke", "--all"]] {
        let outcome = agent.command(words);
        assert_eq!(outcome.code, 78, "{words:?}: {outcome:#?}");
        assert!(outcome.stderr.contains("it is a pipe"), "{outcome:#?}");
    }
}

#[test]
fn metrics_and_health_are_on_loopback_too_and_nothing_else_is() {
    docker::require!();
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

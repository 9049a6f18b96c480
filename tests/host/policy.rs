//! `anteroom policy`: what it prints is enough on a real OpenBao, and every path of it is needed.

use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::openbao::{Answer, merge, text};
use crate::support::scene::{Place, STAY, Scene};
use crate::support::{
    Admin, Anteroom, Manifest, OpenBao, Postgres, Run, Running, Service, assert_revoked,
    assert_started, repository, unique,
};

/// Prints a policy; neither Vault nor token is asked for.
fn call(manifest: &Manifest, options: &[&str]) -> Anteroom {
    Anteroom::new()
        .without_secrets_dir()
        .manifest(manifest.clone())
        .arg("policy")
        .args(options)
}

#[track_caller]
fn printed(manifest: &Manifest, options: &[&str]) -> String {
    let run = call(manifest, options).run();
    run.assert_code(0);
    assert_eq!(run.stderr, "");
    run.stdout
}

/// The parts of a policy, each with the comment that stands before it; the first has no path.
fn stanzas(policy: &str) -> Vec<&str> {
    policy.split_inclusive("\n\n").collect()
}

/// The path and the capabilities of a part.
fn grant(stanza: &str) -> (&str, Vec<&str>) {
    let between = |from: &str, to: &str| {
        let rest = stanza.split_once(from)?.1;
        Some(rest.split_once(to)?.0)
    };
    let path = between("\npath \"", "\"").unwrap_or_else(|| panic!("no path: {stanza}"));
    let capabilities = between("capabilities = [", "]").expect("it has some");
    let capabilities = capabilities.split(", ");
    (
        path,
        capabilities.map(|word| word.trim_matches('"')).collect(),
    )
}

/// Every path with its capabilities.
fn grants(policy: &str) -> Vec<(&str, Vec<&str>)> {
    stanzas(policy)[1..]
        .iter()
        .map(|part| grant(part))
        .collect()
}

/// The policy without what it says of this path.
fn without(policy: &str, path: &str) -> String {
    let parts = stanzas(policy);
    let kept: String = parts[..1]
        .iter()
        .chain(parts[1..].iter().filter(|part| grant(part).0 != path))
        .copied()
        .collect();
    assert!(kept.len() < policy.len(), "{path} is not there\n{policy}");
    kept
}

/// The role of its certificate `kafka`.
fn further_role(service: &Service) -> String {
    format!("{}-kafka", service.app)
}

/// A service that has one of each kind of thing to ask for, and what changes its manifest so that it asks.
fn demanding() -> (Service, impl Fn(Manifest) -> Manifest) {
    let service = Service::with_database();
    let anchors = format!("{}/anchors", service.kv1);
    let root = json!({"certificate": service.pki.root_pem});
    service.admin.kv_put(&anchors, root);
    service.set_token_role(json!({
        "token_no_default_policy": true,
        "token_type": "service",
        "token_period": "9s",
    }));
    let mount = service.database.as_deref().expect("it has one");
    let lives = json!({"default_ttl": "5s", "max_ttl": "14s"});
    service.admin.database_role(mount, &service.app, lives);
    let issue = format!("{}/issue/{}", service.pki.mount, service.app);
    let name = service.common_name();
    let kafka = json!({
        "mount": service.pki.mount, "role": further_role(&service), "common_name": "localhost", "ttl": "10s",
    });
    let role = json!({"allow_localhost": true, "key_type": "any", "max_ttl": "72h"});
    let mount = &service.pki.mount;
    service.admin.pki_role(mount, &further_role(&service), role);
    let ask = move |manifest: Manifest| {
        manifest
            .set("certificate.ca_path", &*anchors)
            .set("certificates.kafka", kafka.clone())
            .set(
                "dependencies.issued",
                json!({"path": issue, "method": "write"}),
            )
            .set(
                "dependencies.issued.data",
                json!({"common_name": name, "key_type": "ec", "key_bits": "256", "ttl": "24h"}),
            )
            .set("token.min_ttl", "1s")
            .set("secrets.revoke_after", "500ms")
    };
    (service, ask)
}

/// Starts an application that stays, of such a service whose token has only what is printed for it, without this path.
fn restricted(missing: Option<&str>) -> Scene {
    let (service, ask) = demanding();
    let mut policy = printed(&ask(service.manifest()), &[]);
    if let Some(path) = missing {
        policy = without(&policy, path);
    }
    service.admin.policy(&service.policy, &policy);
    Scene::start(service, STAY, ask)
}

/// Digits alone would be found in a time too.
#[track_caller]
fn assert_nothing_denied(run: &Run) {
    for text in ["answered 403", "\"status\":403"] {
        assert!(!run.stderr.contains(text), "{run:?}");
    }
}

// The service

#[test]
fn policy_of_a_service_is_enough_from_the_start_to_the_end() {
    let mut scene = restricted(None);
    for event in ["rotated", "lease_revoked"] {
        scene.wait_for_events(event, 1);
    }
    let is_renewed = |run: &Running, what: &str| {
        let renewed = run.named("renewed");
        renewed
            .iter()
            .any(|event| event["message"].to_string().contains(what))
    };
    scene.run.wait_until("both renewed", |run| {
        is_renewed(run, "a lease") && is_renewed(run, "the client token")
    });
    let run = scene.end(Signal::SIGTERM).run;
    assert_eq!(run.named("revoked").len(), 1, "{run:?}");
    run.assert_no_files();
    assert_nothing_denied(&run);
}

#[test]
fn path_missing_from_a_policy_is_named_by_start_or_keeper() {
    let (service, ask) = demanding();
    let place = Place::new(&service, ask(service.manifest()));
    let policy = printed(&place.manifest, &[]);
    let mut later = Vec::new();
    let mut at_start = 0;
    for (path, capabilities) in grants(&policy) {
        let event = match path {
            "auth/token/renew-self" => Some("token_not_renewed"),
            "auth/token/revoke-self" => Some("not_revoked"),
            "sys/leases/renew" => Some("lease_not_renewed"),
            "sys/leases/revoke" => Some("lease_not_revoked"),
            _ => None,
        };
        if let Some(event) = event {
            later.push((path, event));
            continue;
        }
        let less = without(&policy, path);
        service.admin.policy(&service.policy, &less);
        let token = service.mint();
        let run = place.call().token(&token).shell("echo started").run();
        assert_revoked(&run, 77, &service, &token);
        run.assert_stderr(&format!("must grant `{}` on {path};", capabilities[0]));
        at_start += 1;
    }
    let mut expected = vec![
        format!("{}/sign/{}", service.pki.mount, service.app),
        format!("{}/sign/{}", service.pki.mount, further_role(&service)),
        format!("{}/anchors", service.kv1),
        format!("{}/issue/{}", service.pki.mount, service.app),
        service.payment_path(),
        service.legacy_path(),
        service.database_path(),
        "auth/token/lookup-self".to_owned(),
    ];
    expected.extend(later.iter().map(|(path, _)| (*path).to_owned()));
    expected.sort_unstable();
    let mut found: Vec<_> = grants(&policy)
        .iter()
        .map(|(path, _)| (*path).to_owned())
        .collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!((at_start, later.len()), (8, 4));

    thread::scope(|scope| {
        for (path, event) in later {
            scope.spawn(move || {
                // Policies are read at each request, so each has a service of its own.
                let mut scene = restricted(Some(path));
                if event != "not_revoked" {
                    scene.wait_for_events(event, 1);
                }
                let run = scene.end(Signal::SIGTERM).run;
                let found = run.named(event);
                let names = |event: &Value| {
                    let message = event["message"].as_str().unwrap_or_default();
                    message.contains("403") && message.contains(&format!("POST {path}"))
                };
                assert!(found.iter().any(names), "{path}: {run:?}");
            });
        }
    });
}

#[test]
fn policy_grants_what_the_manifest_asks_for_and_no_more() {
    let manifest = Manifest(json!({
        "service": {"app": "timeline", "environment": "production"},
        "token": {"creation_path": "auth/token/create/timeline-production"},
        "dependencies": {"payment": {"path": "secret/data/timeline/payment"}},
    }));
    let own = [
        ("auth/token/lookup-self", vec!["read"]),
        ("auth/token/renew-self", vec!["update"]),
        ("auth/token/revoke-self", vec!["update"]),
    ];
    // What is in KV version 2 has no lease.
    let alone = printed(&manifest, &[]);
    let mut expected = vec![("secret/data/timeline/payment", vec!["read"])];
    expected.extend(own.clone());
    assert_eq!(grants(&alone), expected);
    for part in &stanzas(&alone)[1..] {
        assert!(part.starts_with("# "), "it does not say for what: {part}");
    }
    assert!(
        alone.contains("policy write timeline-production -"),
        "{alone}"
    );

    let more = manifest
        .clone()
        .set("dependencies.a", json!({"path": "database/creds/data"}))
        .set(
            "dependencies.b",
            json!({"path": "pki/issue/x", "method": "write"}),
        )
        // One path twice, asked in two ways.
        .set(
            "dependencies.c",
            json!({"path": "database/creds/data", "method": "write"}),
        )
        .set(
            "certificate",
            json!({"mount": "ca/eu", "role": "timeline", "common_name": "a.example.io"}),
        )
        .set("certificate.ca_path", "ca/eu/cert/ca_chain")
        .set(
            "certificates.kafka",
            json!({"mount": "ca/clients", "role": "kafka", "common_name": "b.example.io"}),
        );
    let more = printed(&more, &[]);
    let mut expected = vec![
        ("ca/eu/sign/timeline", vec!["update"]),
        ("ca/eu/cert/ca_chain", vec!["read"]),
        ("ca/clients/sign/kafka", vec!["update"]),
        ("secret/data/timeline/payment", vec!["read"]),
        ("database/creds/data", vec!["read", "update"]),
        ("pki/issue/x", vec!["update"]),
    ];
    expected.sort_unstable();
    expected.extend(own);
    expected.extend([
        ("sys/leases/renew", vec!["update"]),
        ("sys/leases/revoke", vec!["update"]),
    ]);
    let mut found = grants(&more);
    found[..6].sort_unstable();
    assert_eq!(found, expected);
    let leases = stanzas(&more).pop().expect("it has some").to_owned();
    assert!(
        leases.contains("of a, b, c") && !leases.contains("payment"),
        "{leases}"
    );
    OpenBao::shared().policy(&unique("policy"), &more);
}

#[test]
fn policy_renews_and_revokes_leases_of_its_own_paths_alone() {
    let namespaced = OpenBao::shared().namespace(&unique("policy"));
    let services = [
        Service::with_database(),
        Service::build(&namespaced, Some(Postgres::shared())),
    ];
    for service in services {
        let admin = &service.admin;
        // A name that begins like the service's own, on the same engine.
        let mount = service.database.as_deref().expect("it has one");
        admin.database_role(mount, &format!("{}-b", service.app), Value::Null);
        let own_path = service.database_path();
        let other_path = format!("{own_path}-b");
        let policy = printed(&service.manifest(), &[]);
        admin.policy(&service.policy, &policy);
        service.set_token_role(json!({"token_no_default_policy": true}));
        let token = admin.client_token(&service.mint().token);
        let call = |path: &str, body: &Value| {
            let request = admin.api("POST", path).token(&token);
            request.body(body.clone()).send().status
        };
        let lease = |path: &str| text(&admin.ok("GET", path, Value::Null)["lease_id"]);

        let other = lease(&other_path);
        let (_, id) = other.rsplit_once('/').expect("a lease has a path");
        for (path, body) in [
            ("sys/leases/revoke", json!({"lease_id": other})),
            (
                "sys/leases/revoke",
                json!({"lease_id": other, "sync": true}),
            ),
            ("sys/leases/revoke", json!({"url_lease_id": other})),
            ("sys/leases/renew", json!({"lease_id": other})),
            (
                "sys/leases/renew",
                json!({"lease_id": other, "increment": 3600}),
            ),
            (
                "sys/leases/renew",
                json!({"url_lease_id": other, "increment": 3600}),
            ),
        ] {
            assert_eq!(call(path, &body), 403, "{path} {body}");
        }
        // What begins with the own path and leads elsewhere is no lease.
        let detour = json!({"lease_id": format!("{own_path}/../{}-b/{id}", service.app)});
        for path in ["sys/leases/revoke", "sys/leases/renew"] {
            let status = call(path, &detour);
            assert!(!matches!(status, 200..300), "{path} {detour}: {status}");
        }
        let look = json!({"lease_id": other});
        admin.ok("POST", "sys/leases/lookup", look);

        let own = lease(&own_path);
        let renewal = json!({"lease_id": own, "increment": 3600});
        assert_eq!(call("sys/leases/renew", &renewal), 200);
        let end = json!({"lease_id": own});
        assert!(matches!(call("sys/leases/revoke", &end), 200 | 204));
        let (status, _) = admin.request("POST", "sys/leases/lookup", end);
        assert_eq!(status, 400, "it has ended");
    }
}

#[test]
fn variable_that_is_not_set_is_a_mistake_and_none_is_invented() {
    let manifest = Service::new()
        .manifest()
        .set("service.environment", "${NOWHERE_SET}");
    for options in [&[][..], &["--minter"]] {
        let run = call(&manifest, options).run();
        run.assert_code(78).assert_stderr("NOWHERE_SET is not set");
        assert_eq!(run.stdout, "");
        let run = call(&manifest, options).env("NOWHERE_SET", "eu").run();
        run.assert_code(0);
        assert!(run.stdout.contains(" in eu needs"), "{run:?}");
    }
}

#[test]
fn manifest_words_stay_in_comments_and_patterns_are_named() {
    let service = Service::new();
    let manifest = service
        .manifest()
        .set(
            "token.policies",
            json!(["a\npath \"*\" { capabilities = [\"sudo\"] }\n"]),
        )
        .set("dependencies.legacy.path", format!("{}/*", service.kv1))
        .set("dependencies.payment.path", "secret/data/+/payment");
    for options in [&[][..], &["--minter"]] {
        let policy = printed(&manifest, options);
        let starts = policy.lines().filter(|line| line.starts_with("path "));
        assert_eq!(starts.count(), grants(&policy).len(), "{policy}");
        assert!(
            !grants(&policy).iter().any(|(path, _)| *path == "*"),
            "{policy}"
        );
    }
    let policy = printed(&manifest, &[]);
    let warned: Vec<&str> = stanzas(&policy)[1..]
        .iter()
        .filter(|part| part.contains("CAUTION"))
        .map(|part| grant(part).0)
        .collect();
    assert_eq!(warned.len(), 2, "{policy}");
    assert!(warned.contains(&"secret/data/+/payment"), "{warned:?}");
}

// The minting side

/// A minter with only what is printed for it, for a service whose token role is the printed one.
struct Minter {
    service: Service,
    name: String,
    token: String,
}

impl Minter {
    fn new(change: impl FnOnce(Manifest) -> Manifest) -> (Self, String) {
        let service = Service::new();
        let policy = printed(&change(service.manifest()), &["--minter"]);
        let role = role(&policy);
        assert_eq!(role["allowed_policies"], service.policy.as_str());
        service.admin.token_role(&service.token_role, role);
        let name = unique("minter");
        service.admin.policy(&name, &policy);
        let body = json!({"policies": [name], "no_default_policy": true, "period": "1h"});
        let made = service.admin.ok("POST", "auth/token/create", body);
        let minter = Self {
            token: text(&made["auth"]["client_token"]),
            service,
            name,
        };
        (minter, policy)
    }

    fn admin(&self) -> &Admin {
        &self.service.admin
    }

    fn mint(&self, options: &[&str]) -> Run {
        Anteroom::new()
            .without_secrets_dir()
            .env("VAULT_ADDR", self.admin().address())
            .env("VAULT_TOKEN", &self.token)
            .args(["mint", "--role", &self.service.token_role])
            .args(options)
            .run()
    }

    fn api(&self, method: &str, path: &str, body: Value) -> Answer {
        let request = self.admin().api(method, path).token(&self.token);
        request.body(body).send()
    }

    /// A token that is not wrapped.
    fn bare(&self) -> u16 {
        let path = format!("auth/token/create/{}", self.service.token_role);
        self.api("POST", &path, json!({"ttl": "1m"})).status
    }
}

/// The fields of the token role in the comment.
fn role(policy: &str) -> Value {
    let words = policy
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .flat_map(str::split_whitespace)
        .skip_while(|word| !word.starts_with("auth/token/roles/"))
        .skip(1)
        .filter(|word| *word != "\\");
    let mut role = json!({});
    for word in words.take_while(|word| word.contains('=')) {
        let (name, value) = word.split_once('=').expect("it was looked at");
        merge(&mut role, json!({name: value}));
    }
    role
}

#[test]
fn minters_policy_and_token_role_make_what_a_start_expects() {
    let (minter, policy) = Minter::new(|manifest| manifest);
    let role = format!("auth/token/roles/{}", minter.service.token_role);
    let kept = minter.admin().ok("GET", &role, Value::Null);
    let printed = self::role(&policy);
    assert_eq!(
        printed.as_object().map(serde_json::Map::len),
        Some(6),
        "{policy}"
    );
    for (name, value) in printed.as_object().expect("an object") {
        let kept = match &kept["data"][name] {
            Value::Array(list) => text(&list[0]),
            Value::String(text) => text.clone(),
            Value::Number(seconds) => format!("{}h", seconds.as_u64().unwrap_or_default() / 3600),
            other => other.to_string(),
        };
        assert_eq!(value, &kept, "{name} is a field that the server keeps");
    }

    // The service's own policy, without the default one: both printed policies together.
    let service = &minter.service;
    let own = self::printed(&service.manifest(), &[]);
    minter.admin().policy(&service.policy, &own);
    let run = minter.mint(&[
        "--format",
        "json",
        "--meta",
        &format!("app={}", service.app),
    ]);
    run.assert_code(0);
    let wrapped: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    let accessor = text(&wrapped["wrap_info"]["wrapped_accessor"]);
    let run = Anteroom::new()
        .manifest(service.manifest())
        .token(&run.stdout)
        .shell("echo the application runs")
        .run();
    assert_started(&run, "minted with the least policy");

    // A token lives for as long as the role says, whatever was asked for.
    let run = minter.mint(&["--ttl", "700h"]);
    run.assert_code(0);
    let client = minter.admin().client_token(run.stdout.trim_end());
    let look = minter
        .admin()
        .api("GET", "auth/token/lookup-self")
        .token(&client)
        .send();
    let ttl = look.json["data"]["ttl"].as_u64();
    assert!(ttl.is_some_and(|ttl| ttl <= 3600), "{}", look.json);

    // What an agent does besides.
    assert_eq!(
        minter
            .api("GET", "auth/token/lookup-self", Value::Null)
            .status,
        200
    );
    assert_eq!(
        minter
            .api("POST", "auth/token/renew-self", json!({}))
            .status,
        200
    );
    let run = minter.mint(&["--format", "json"]);
    let wrapped: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    let other = text(&wrapped["wrap_info"]["wrapped_accessor"]);
    assert_ne!(other, accessor);
    assert!(minter.admin().accessor_exists(&other));
    let path = "auth/token/revoke-accessor";
    let status = minter.api("POST", path, json!({"accessor": other})).status;
    assert!((200..300).contains(&status), "{status}");
    assert!(!minter.admin().accessor_exists(&other));
    let status = minter
        .api("POST", "auth/token/revoke-self", json!({}))
        .status;
    assert!((200..300).contains(&status), "{status}");
    let status = minter
        .api("GET", "auth/token/lookup-self", Value::Null)
        .status;
    assert_eq!(status, 403, "it has ended");
}

#[test]
fn minter_without_one_path_of_its_policy_is_denied_that() {
    let (minter, policy) = Minter::new(|manifest| manifest);
    let victim = minter.service.mint();
    let create = format!("auth/token/create/{}", minter.service.token_role);
    let found: Vec<&str> = grants(&policy).iter().map(|(path, _)| *path).collect();
    let expected = [
        create.as_str(),
        "auth/token/revoke-accessor",
        "auth/token/lookup-self",
        "auth/token/renew-self",
        "auth/token/revoke-self",
    ];
    assert_eq!(found, expected);
    for path in expected {
        minter.admin().policy(&minter.name, &without(&policy, path));
        if path == create {
            let run = minter.mint(&[]);
            run.assert_code(77)
                .assert_stderr(&format!("`update` on {path}"));
            assert_eq!(run.stdout, "");
            continue;
        }
        minter.mint(&[]).assert_code(0);
        let answer = match path {
            "auth/token/lookup-self" => minter.api("GET", path, Value::Null),
            "auth/token/renew-self" | "auth/token/revoke-self" => {
                minter.api("POST", path, json!({}))
            }
            _ => minter.api("POST", path, json!({"accessor": victim.wrapped_accessor})),
        };
        assert_eq!(answer.status, 403, "{path}: {}", answer.json);
    }
    assert!(minter.admin().accessor_exists(&victim.wrapped_accessor));
}

#[test]
fn minter_makes_wrapped_tokens_alone_within_the_printed_wait() {
    let (minter, policy) = Minter::new(|manifest| manifest.remove("token.max_wrap_ttl"));
    minter.mint(&["--wrap-ttl", "1s"]).assert_code(0);
    minter.mint(&["--wrap-ttl", "30s"]).assert_code(0);
    let longer = minter.mint(&["--wrap-ttl", "31s"]);
    longer.assert_code(77).assert_stderr("--wrap-ttl");
    assert_eq!(longer.stdout, "");
    assert_eq!(minter.bare(), 403);
    // Another role, or none, is nothing that it may ask for.
    let elsewhere = minter.api("POST", "auth/token/create", json!({}));
    assert_eq!(elsewhere.status, 403);

    let limits = ["min_wrapping_ttl", "max_wrapping_ttl"];
    let without = |names: &[&str]| {
        let kept = policy
            .lines()
            .filter(|line| !names.iter().any(|name| line.contains(name)));
        let kept: Vec<&str> = kept.collect();
        minter.admin().policy(&minter.name, &kept.join("\n"));
    };
    // The shortest life alone is what demands that it be wrapped.
    without(&limits[1..]);
    minter.mint(&["--wrap-ttl", "31s"]).assert_code(0);
    assert_eq!(minter.bare(), 403);
    without(&limits);
    assert_eq!(minter.bare(), 200);

    let (minter, _) = Minter::new(|manifest| manifest.set("token.max_wrap_ttl", "90s"));
    minter.mint(&["--wrap-ttl", "90s"]).assert_code(0);
    minter.mint(&["--wrap-ttl", "91s"]).assert_code(77);
}

#[test]
fn paths_in_a_namespace_are_those_of_the_namespace() {
    let admin = OpenBao::shared().namespace(&unique("policy"));
    let service = Service::build(&admin, Some(Postgres::shared()));
    let policy = printed(&service.manifest(), &[]);
    let namespace = admin.namespace_path().expect("it has one");
    assert!(policy.contains(&format!("VAULT_NAMESPACE={namespace} vault policy write")));
    assert!(
        !grants(&policy)
            .iter()
            .any(|(path, _)| path.contains(namespace))
    );
    service.admin.policy(&service.policy, &policy);
    service.set_token_role(json!({"token_no_default_policy": true}));
    let run = Anteroom::new()
        .manifest(service.manifest())
        .token(service.mint())
        .shell("echo the application runs")
        .run();
    assert_started(&run, "in a namespace");
    assert_nothing_denied(&run);
}

// Documents

#[test]
fn printed_policies_of_the_example_are_in_the_document() {
    let read = |name: &str| std::fs::read_to_string(repository().join(name)).expect(name);
    let reference = read("docs/manifest.md");
    let manifest = reference
        .split_once("```toml\n")
        .and_then(|(_, rest)| rest.split_once("```"))
        .expect("it shows a manifest")
        .0;
    let document = read("docs/policies.md");
    for options in [&[][..], &["--minter"]] {
        let run = Anteroom::new()
            .without_secrets_dir()
            .manifest(manifest)
            .env("ENVIRONMENT", "production")
            .arg("policy")
            .args(options)
            .run();
        run.assert_code(0);
        let block = format!("```hcl\n{}```", run.stdout);
        assert!(document.contains(&block), "{block}");
    }
}

//! The end of whatever was fetched: foreseen before the application starts, said once when it comes, and known to
//! `anteroom health`. A real OpenBao and a real PostgreSQL, but for clocks and CAs that they would not have.
#![allow(
    clippy::disallowed_methods,
    reason = "a test looks at files, and makes certificates for another time"
)]

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::files::certificate::{Ca, csr_key, leaf};
use crate::support::scene::{STAY, Scene};
use crate::support::{Anteroom, Fault, FaultProxy, Postgres, Reply, Service, unique};

/// The service may also do this, besides what it may by default.
pub(super) fn allow(service: &Service, rules: &[(&str, &str)]) {
    let rules = rules.iter().map(|(path, capability)| {
        format!("path \"{path}\" {{ capabilities = [\"{capability}\"] }}\n")
    });
    let policy = rules.fold(service.policy_hcl(), |policy, rule| policy + &rule);
    service.admin.policy(&service.policy, &policy);
}

/// A user of PostgreSQL whose password OpenBao rotates every so many seconds; where it is read.
pub(super) fn static_role(service: &Service, period: u64) -> String {
    let user = unique("static");
    let postgres = Postgres::shared();
    let made = postgres.query(&format!("CREATE ROLE \"{user}\" LOGIN"));
    made.expect("a role can be made");
    let mount = service.database.as_deref().expect("it has one");
    let role = json!({
        "db_name": "postgres",
        "username": user,
        "rotation_period": period,
        "rotation_statements": ["ALTER ROLE \"{{name}}\" WITH PASSWORD '{{password}}'"],
    });
    service
        .admin
        .ok("POST", &format!("{mount}/static-roles/{user}"), role);
    format!("{mount}/static-creds/{user}")
}

#[test]
fn answer_without_a_lease_is_said_to_have_ended() {
    let service = Service::with_database();
    service.set_pki_role(json!({"key_type": "ec"}));
    let rotated = static_role(&service, 8);
    let issue = format!("{}/issue/{}", service.pki.mount, service.app);
    let short = format!("{}/short", service.kv1);
    let secret = json!({"password": "for a moment", "ttl": "7s"});
    service.admin.kv_put(&short, secret);
    allow(
        &service,
        &[(&rotated, "read"), (&issue, "update"), (&short, "read")],
    );
    let write = json!({"common_name": service.common_name(), "ttl": "7s"});
    let dependencies = json!({
        "rotated": {"path": rotated},
        "issued": {"path": issue, "method": "write", "data": write},
        "short": {"path": short},
        "lasting": {"path": service.legacy_path()},
    });
    let mut kept = Scene::start(service, STAY, |manifest| {
        manifest
            .remove("certificate")
            .set("dependencies", dependencies)
    });
    let started = kept.status();
    let expires = |status: &Value, name: &str| {
        let all = status["dependencies"].as_array().cloned();
        let mut all = all.expect("a list").into_iter();
        let found = all.find(|found| found["name"] == name);
        found.expect("it is there")["expires"].clone()
    };
    for name in ["rotated", "issued", "short"] {
        assert!(expires(&started, name).is_string(), "{name}: {started}");
    }
    assert_eq!(expires(&started, "lasting"), Value::Null);
    // From now on none of them can be had anew.
    allow(&kept.service, &[]);

    kept.wait_for_events("ended", 3);
    let ended = kept.events("ended");
    let mut names: Vec<&str> = ended
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["issued", "rotated", "short"], "{ended:?}");
    let health = kept.health();
    assert_eq!(health.code, Some(1), "{health:?}");
    for name in names {
        let words = format!("the credential of {name} ended at ");
        assert!(health.stdout.contains(&words), "{health:?}");
    }
    assert!(!health.stdout.contains("lasting"), "{health:?}");
}

#[test]
fn certificate_ends_with_its_ca_and_health_names_it() {
    let service = Service::new();
    let mount = format!("{}-brief", service.pki.mount);
    let admin = &service.admin;
    admin.mount("pki", &mount, json!({}));
    let root = json!({"common_name": "brief", "key_type": "ec", "ttl": "9s"});
    admin.ok("POST", &format!("{mount}/root/generate/internal"), root);
    let permit = json!({"leaf_not_after_behavior": "permit"});
    admin.ok("POST", &format!("{mount}/issuer/default"), permit);
    let role = json!({"allow_any_name": true, "key_type": "any", "ttl": "1h"});
    admin.pki_role(&mount, &service.app, role);
    let sign = format!("{mount}/sign/{}", service.app);
    allow(&service, &[(&sign, "update")]);
    let mut kept = Scene::start(service, STAY, |manifest| {
        manifest
            .remove("dependencies")
            .set("certificate.mount", mount.as_str())
            .remove("certificate.ttl")
    });
    let status = kept.status()["certificate"].clone();
    assert!(
        status["expires"].as_str() < status["not_after"].as_str(),
        "{status}"
    );
    let signed = kept.status()["certificate"]["serial_number"].clone();

    kept.wait_for_events("ended", 1);
    let ended = kept.events("ended");
    assert_eq!(ended[0]["name"], "certificate", "{ended:?}");
    let text = ended[0]["message"].as_str().unwrap_or_default();
    assert!(text.contains("CN=brief"), "{text}");
    // Others would have ended no later: none was published, and few were asked for.
    let mut reasons = kept.events("not_replaced");
    reasons.retain(|event| event["level"] != "debug");
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].to_string().contains("CN=brief"), "{reasons:?}");
    assert_eq!(kept.status()["certificate"]["serial_number"], signed);
    assert!(kept.events("rotated").is_empty());
    let health = kept.health();
    assert_eq!(health.code, Some(1), "{health:?}");
    assert!(health.stdout.contains("the certificate ended at "));
}

/// In front of the real server, whose clock is so many seconds behind: so are the certificates that it signs, which live so
/// long.
fn behind(service: &Service, seconds: i64, life: i64) -> FaultProxy {
    let root = Ca::new("own root", 2090, None);
    let name = service.common_name();
    let there = move || OffsetDateTime::from(SystemTime::now()) - time::Duration::seconds(seconds);
    FaultProxy::start(service.admin.address(), move |seen| {
        if seen.path.contains("/sign/") {
            let mut params = leaf(&name);
            params.not_before = there() - time::Duration::seconds(30);
            params.not_after = there() + time::Duration::seconds(life);
            let key = csr_key(seen.json()["csr"].as_str().expect("a CSR"));
            let answer = json!({
                "certificate": root.sign(&params, &key),
                "issuing_ca": root.pem,
                "ca_chain": [root.pem],
            });
            let date = http_date(there());
            return Fault::Answer(Reply::vault(&json!({"data": answer})).header("Date", &date));
        }
        Fault::Alter(Box::new(move |reply: &mut Reply| {
            reply
                .headers
                .retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
            reply.headers.push(("Date".into(), http_date(there())));
        }))
    })
}

fn http_date(time: OffsetDateTime) -> String {
    let (day, month) = (time.weekday().to_string(), time.month().to_string());
    format!(
        "{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
        &day[..3],
        time.day(),
        &month[..3],
        time.year(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[test]
fn clock_two_hours_ahead_leaves_a_good_certificate_healthy() {
    let service = Service::new();
    let proxy = behind(&service, 7200, 3600);
    let kept = Scene::through(service, proxy, STAY, |manifest| {
        manifest.remove("dependencies")
    });
    let (health, status) = (kept.health(), kept.status());
    assert_eq!((health.code, &*health.stdout), (Some(0), ""), "{health:?}");
    // An hour from now, by the clock of its reader.
    let certificate = &status["certificate"];
    assert!(certificate["not_after"].as_str() < status["written"].as_str());
    assert!(certificate["expires"].as_str() > status["written"].as_str());
}

#[test]
fn lease_worn_out_at_the_start_is_fetched_again() {
    let service = Service::with_database();
    let mount = service.database.as_deref().expect("it has one");
    let lives = json!({"default_ttl": "6s", "max_ttl": "24h"});
    service.admin.database_role(mount, &service.app, lives);
    let slow = service.payment_path();
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        if seen.is(&slow) {
            // Of six seconds one is left at the most.
            Fault::Delay(Duration::from_secs(5))
        } else {
            Fault::Pass
        }
    });
    let kept = Scene::through(service, proxy, STAY, |manifest| {
        manifest.set("certificate.ttl", "6s")
    });
    let again = kept.events("fetched_again");
    let names: Vec<&str> = again
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert!(names.contains(&"db"), "{again:?}");
    assert!(names.contains(&"certificate"), "{again:?}");
    assert!(!names.contains(&"payment"), "{again:?}");
    assert_eq!(kept.proxy.count(&kept.service.payment_path()), 1);
    assert!(kept.users_made() >= 2);
}

#[test]
fn lease_that_never_lives_long_enough_ends_the_start() {
    let service = Service::with_database();
    let path = service.database_path();
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        if seen.is(&path) {
            Fault::Alter(Box::new(|reply: &mut Reply| {
                reply.alter_json(|answer| answer["lease_duration"] = 1.into());
                std::thread::sleep(Duration::from_millis(1100));
            }))
        } else {
            Fault::Pass
        }
    });
    let token = service.mint();
    let run = Anteroom::new()
        .manifest(
            service
                .manifest_for(&proxy.address())
                .remove("certificate")
                .remove("dependencies.payment")
                .remove("dependencies.legacy"),
        )
        .token(&token)
        .shell("echo started")
        .run();
    crate::support::assert_revoked(&run, 78, &service, &token);
    run.assert_stderr("ends before everything else is there");
    assert_eq!(proxy.count(&service.database_path()), 4);
}

#[test]
fn password_about_to_be_rotated_is_awaited() {
    let service = Service::with_database();
    let path = static_role(&service, 3600);
    allow(&service, &[(&path, "read")]);
    let mut is_first = true;
    let proxy = FaultProxy::start(service.admin.address(), {
        let path = path.clone();
        move |seen| {
            if seen.is(&path) && std::mem::take(&mut is_first) {
                Fault::alter_json(|answer| {
                    answer["data"]["ttl"] = 1.into();
                    answer["data"]["password"] = "the old one".into();
                })
            } else {
                Fault::Pass
            }
        }
    });
    let kept = Scene::through(service, proxy, STAY, |manifest| {
        manifest
            .remove("certificate")
            .set("dependencies", json!({"rotated": {"path": path}}))
    });
    assert_eq!(kept.events("fetched_again").len(), 1);
    let times = kept.requests(&path);
    assert_eq!(times.len(), 2);
    assert!(times[1].at - times[0].at >= Duration::from_secs(1));
    let published = std::fs::read(kept.directory.join("rotated/password")).expect("a password");
    assert_ne!(published, b"the old one");
}

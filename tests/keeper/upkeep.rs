//! The keeper beside a living application: what was fetched is renewed, replaced and published, through outages and to the
//! end, whichever end that is. Lives of a few seconds, a real OpenBao, a real PostgreSQL.
#![allow(
    clippy::disallowed_methods,
    reason = "a test looks at files and processes, and has OpenSSL look at certificates"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::files::certificate::openssl;
use crate::support::anteroom::{files_in, has_ended};
use crate::support::scene::{LONG, Place, STAY, Scene, generation, start, wait_for_no_lease};
use crate::support::{
    Anteroom, Cut, Fault, FaultProxy, Manifest, OpenBao, Options, Postgres, Reply, Seen, Service,
    Storage, TempDir, lock, unique, wait_for,
};

/// An application that says which generation it finds whenever SIGHUP comes, that SIGUSR1 came, and ends with 7 at SIGTERM.
const LISTEN: &str = "trap 'readlink \"$DIR/..data\"' HUP; trap 'echo farewell' USR1; trap 'kill $!; exit 7' TERM; \
     sleep 600 & echo up; while :; do wait $!; done";

/// SQL that no engine gets done.
const NONSENSE: [&str; 1] = ["SELECT nonsense FROM nowhere"];

/// From now on a user of the service's database role lives so long whenever its lease is renewed, and in all.
fn database_lives(service: &Service, lease: &str, maximum: &str) {
    database_role(service, json!({"default_ttl": lease, "max_ttl": maximum}));
}

fn database_role(service: &Service, changes: Value) {
    let mount = service.database.as_deref().expect("it has one");
    service.admin.database_role(mount, &service.app, changes);
}

/// Where the service's certificates are signed.
fn sign_path(service: &Service) -> String {
    format!("{}/sign/{}", service.pki.mount, service.app)
}

/// The manifest with the database as the only thing to fetch.
fn database_alone(manifest: Manifest) -> Manifest {
    manifest
        .remove("certificate")
        .remove("dependencies.payment")
        .remove("dependencies.legacy")
}

/// Without the database.
fn certificate_alone(manifest: Manifest) -> Manifest {
    manifest.remove("dependencies")
}

/// The database user and its password of one generation.
fn login(generation: &Path) -> Option<(String, String)> {
    let read = |name: &str| fs::read_to_string(generation.join("db").join(name)).ok();
    Some((read("username")?, read("password")?))
}

/// Logs in with what is published, once and then again and again while `work` goes on; whatever is published works for as
/// long as it is.
#[track_caller]
fn logging_in(directory: &Path, work: impl FnOnce()) {
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let log_in = || {
        let current = generation(directory);
        let (user, password) = login(&directory.join(&current))?;
        match Postgres::shared().query_as(&user, &password, "SELECT current_user") {
            Ok(answer) => {
                assert_eq!(answer, user);
                Some(())
            }
            // A generation that is no longer the current one may have ended.
            Err(said) => {
                assert_ne!(generation(directory), current, "{said}");
                None
            }
        }
    };
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            wait_for("a login", LONG, log_in);
            while !is_done.load(Ordering::Relaxed) {
                log_in();
                thread::sleep(Duration::from_millis(50));
            }
        });
        let done = Done(&is_done);
        work();
        drop(done);
        reader.join().expect("every login works");
    });
}

/// The traces of a publication: every name with its inode and the time of its last change, but for the
/// status.
fn fingerprint(directory: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("it is there") {
            let entry = entry.expect("it is there");
            // And the next one, which comes and goes.
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(b"..status")
            {
                continue;
            }
            let about = entry.metadata().expect("it is there");
            let changed = (about.ino(), about.ctime(), about.ctime_nsec());
            found.insert(entry.path(), changed);
            if about.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    found
}

/// Fails unless there was so much time from each of these requests to the next.
#[track_caller]
fn assert_apart(requests: &[Seen], least: Duration) {
    for pair in requests.windows(2) {
        let apart = pair[1].at - pair[0].at;
        assert!(
            apart >= least,
            "{} came again after {apart:?}",
            pair[1].path
        );
    }
}

// Renewal

// x5
#[test]
fn renewal_of_lease_and_token_fetches_and_publishes_nothing() {
    let service = Service::with_database();
    service.set_token_role(json!({"token_period": "9s"}));
    database_lives(&service, "7s", "24h");
    let mut scene = Scene::start(service, STAY, |manifest| manifest);
    let (lease, user) = (scene.lease("db"), scene.user());
    let files = fingerprint(scene.directory.path());
    let written = scene.status()["written"].clone();

    scene.wait_for_requests("sys/leases/renew", 3);
    scene.wait_for_requests("auth/token/renew-self", 2);
    scene.wait_for_events("renewed", 5);
    assert_eq!(scene.lease("db"), lease);
    assert_eq!(scene.leases(), std::slice::from_ref(&lease));
    assert_eq!(scene.user(), user);
    let password = scene.file("db/password");
    let answer = Postgres::shared().query_as(&user, &password, "SELECT current_user");
    assert_eq!(answer, Ok(user));
    assert!(scene.token_exists());
    scene.assert_well();
    assert_ne!(scene.status()["written"], written);

    let service = &scene.service;
    let sign = sign_path(service);
    for path in [
        service.database_path(),
        service.payment_path(),
        service.legacy_path(),
        sign,
    ] {
        assert_eq!(scene.proxy.count(&path), 1, "{path}");
    }
    assert_eq!(fingerprint(scene.directory.path()), files);
    assert_eq!(scene.events("rotated"), Vec::<Value>::new());

    // About two thirds of 7 s and of 9 s.
    let renewals = scene.requests("sys/leases/renew");
    assert_apart(&renewals, Duration::from_secs(3));
    for renewal in renewals {
        assert_eq!(renewal.json()["lease_id"], *lease);
    }
    let renewals = scene.requests("auth/token/renew-self");
    assert_apart(&renewals, Duration::from_secs(4));
    // The client token, and never the wrapping token.
    let all = scene.proxy.requests();
    let after_unwrap = all
        .iter()
        .skip_while(|seen| !seen.is("sys/wrapping/unwrap"))
        .skip(1);
    let tokens: BTreeSet<_> = after_unwrap
        .filter_map(|seen| seen.header("x-vault-token"))
        .collect();
    assert_eq!(tokens.len(), 1);
    assert!(!tokens.contains(&*scene.token.token));
}

#[test]
fn leases_of_a_namespace_are_renewed_there() {
    let admin = OpenBao::shared().namespace(&unique("upkeep"));
    let service = Service::build(&admin, Some(Postgres::shared()));
    service.set_token_role(json!({"token_period": "7s"}));
    database_lives(&service, "7s", "24h");
    let mut scene = Scene::start(service, STAY, database_alone);
    let lease = scene.lease("db");
    scene.wait_for_events("renewed", 3);
    assert_eq!(scene.lease("db"), lease);
    assert_eq!(scene.users_made(), 1);
    scene.assert_well();
}

#[test]
fn connection_that_was_closed_meanwhile_is_no_outage() {
    let scenes = [Cut::Close, Cut::Reset].map(|how| {
        let service = Service::new();
        let proxy = FaultProxy::start(service.admin.address(), move |_| {
            // The whole answer, and then no more.
            Fault::CutInside(usize::MAX, how)
        });
        Scene::through(service, proxy, STAY, |manifest| {
            manifest.set("token.revocation_check", "1s")
        })
    });
    for mut scene in scenes {
        scene.wait_for_requests("auth/token/lookup-self", 5);
        assert_eq!(scene.events("vault_away"), Vec::<Value>::new());
        scene.assert_well();
    }
}

#[test]
fn keeper_that_was_suspended_catches_up_when_it_goes_on() {
    let service = Service::with_database();
    database_lives(&service, "4s", "24h");
    let mut scene = Scene::start(service, STAY, database_alone);
    let user = scene.user();
    let keeper = Pid::from_raw(scene.run.keeper());
    kill(keeper, Signal::SIGSTOP).expect("it is there");
    wait_for("the user to be gone", LONG, || {
        (!Postgres::shared().role_exists(&user)).then_some(())
    });
    wait_for("the lease to be over", LONG, || {
        (scene.health().code == Some(1)).then_some(())
    });
    scene.assert_stale(&["the credential of db ended at"]);
    let requests = scene.proxy.requests().len();
    database_lives(&scene.service, "60s", "24h");
    kill(keeper, Signal::SIGCONT).expect("it is there");
    scene.wait_for_change("db");
    logging_in(scene.directory.path(), || ());
    scene.assert_well();
    // A renewal in vain, and another user.
    assert_eq!(scene.proxy.requests().len(), requests + 2);
}

// Replacement

// f37, x10
#[test]
fn lease_with_a_maximum_is_replaced_in_time_and_then_revoked() {
    let service = Service::with_database();
    database_lives(&service, "12s", "12s");
    let mut scene = Scene::start(service, STAY, |manifest| {
        database_alone(manifest).set("secrets.revoke_after", "2s")
    });
    let (old_lease, old_user) = (scene.lease("db"), scene.user());
    let directory = scene.directory.path().to_owned();
    logging_in(&directory, || scene.wait_for_events("lease_revoked", 1));

    let (lease, user) = (scene.lease("db"), scene.user());
    assert_ne!((&lease, &user), (&old_lease, &old_user));
    let revoked = scene.requests("sys/leases/revoke");
    assert_eq!(revoked.len(), 1);
    assert_eq!(revoked[0].json()["lease_id"], *old_lease);
    // The server does it after it has answered.
    wait_for("the old user to be gone", LONG, || {
        (!Postgres::shared().role_exists(&old_user)).then_some(())
    });
    assert!(Postgres::shared().role_exists(&user));
    assert_eq!(scene.leases(), [lease]);
    assert_eq!(scene.users_made(), 2);
    let rotated = scene.events("rotated");
    assert_eq!(rotated.len(), 1, "{rotated:?}");
    assert_eq!(rotated[0]["changed"], "db");
    scene.assert_well();
    // Two thirds of 12 s, and 2 s more: the grace begins when the new user can be seen.
    let made = scene.requests(&scene.service.database_path());
    assert!(revoked[0].at - made[1].at >= Duration::from_secs(2));
}

// f37
#[test]
fn old_lease_ends_by_itself_without_the_right_to_revoke_it() {
    let service = Service::with_database();
    database_lives(&service, "9s", "9s");
    let policy = service.policy_hcl();
    let (before, after) = policy
        .split_once("path \"sys/leases/revoke\"")
        .expect("the usual policy has it");
    let after = after.split_once('\n').map_or("", |(_, after)| after);
    service
        .admin
        .policy(&service.policy, &format!("{before}{after}"));
    let mut scene = Scene::start(service, STAY, |manifest| {
        database_alone(manifest)
            .set("secrets.revoke_after", "500ms")
            .set("token.revocation_check", "1s")
    });
    let old = scene.lease("db");
    scene.wait_for_events("lease_not_revoked", 1);
    assert_eq!(scene.events("lease_not_revoked")[0]["lease_id"], *old);
    // It knows that it still has its token, and goes on.
    let looked = scene.proxy.count("auth/token/lookup-self");
    scene.wait_for_requests("auth/token/lookup-self", looked + 2);
    assert_eq!(scene.events("token_revoked"), Vec::<Value>::new());
    scene.assert_well();
    let lease = scene.lease("db");
    wait_for("the old lease to end by itself", LONG, || {
        (!scene.leases().contains(&old)).then_some(())
    });
    assert_ne!(lease, old);
    // Asked for once.
    let revoked = scene.requests("sys/leases/revoke");
    let of_old = revoked
        .iter()
        .filter(|seen| seen.json()["lease_id"] == *old);
    assert_eq!(of_old.count(), 1);
}

#[test]
fn lease_that_cannot_be_renewed_is_replaced() {
    let service = Service::new();
    let (mount, role) = (&service.pki.mount, format!("{}-leased", service.app));
    service.admin.pki_role(
        mount,
        &role,
        json!({"allow_localhost": true, "generate_lease": true, "key_type": "ec", "key_bits": 256}),
    );
    let path = format!("{mount}/issue/{role}");
    let policy = format!(
        "{}path \"{path}\" {{ capabilities = [\"update\"] }}\n",
        service.policy_hcl()
    );
    service.admin.policy(&service.policy, &policy);
    let dependency = json!({
        "path": path,
        "method": "write",
        "data": {"common_name": "localhost", "ttl": "6s"},
        "fields": ["certificate", "private_key"],
    });
    let mut scene = Scene::start(service, STAY, |manifest| {
        manifest.bare().set("dependencies.issued", dependency)
    });
    let (lease, key) = (scene.lease("issued"), scene.file("issued/private_key"));
    scene.wait_for_events("rotated", 2);
    assert_ne!(scene.lease("issued"), lease);
    assert_ne!(scene.file("issued/private_key"), key);
    assert_eq!(scene.proxy.count("sys/leases/renew"), 0);
    let issued = scene.requests(&path);
    assert!(issued.len() >= 3);
    // Half of what the server makes of 6 s.
    assert_apart(&issued, Duration::from_secs(2));
    scene.assert_well();
}

#[test]
fn lease_revoked_from_outside_is_replaced_once_it_is_known() {
    let service = Service::with_database();
    database_lives(&service, "6s", "24h");
    let mut scene = Scene::start(service, STAY, database_alone);
    let (lease, user) = (scene.lease("db"), scene.user());
    let admin = &scene.service.admin;
    admin.ok("PUT", "sys/leases/revoke", json!({"lease_id": lease}));
    scene.wait_for_events("rotated", 1);
    let gone = scene.events("lease_gone");
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert_eq!(gone[0]["name"], "db");
    assert_ne!(scene.user(), user);
    assert_eq!(scene.leases(), [scene.lease("db")]);
    logging_in(scene.directory.path(), || ());
    // The very next request, and one is enough.
    let all = scene.proxy.requests();
    let failed = all.iter().position(|seen| seen.is("sys/leases/renew"));
    let next = &all[failed.expect("it was tried") + 1];
    assert!(next.is(&scene.service.database_path()), "{next:?}");
    assert_eq!(scene.users_made(), 2);
    scene.assert_well();
}

#[test]
fn lease_that_may_not_be_renewed_is_replaced_and_token_kept() {
    let service = Service::with_database();
    database_lives(&service, "9s", "24h");
    let mut policy = service.policy_hcl();
    for (path, capability) in [
        ("lookup-self", "read"),
        ("renew-self", "update"),
        ("revoke-self", "update"),
    ] {
        policy.push_str(&format!(
            "path \"auth/token/{path}\" {{ capabilities = [\"{capability}\"] }}\n"
        ));
    }
    service.admin.policy(&service.policy, &policy);
    service.set_token_role(json!({"token_no_default_policy": true, "token_period": "9s"}));
    let mut scene = Scene::start(service, STAY, database_alone);
    let user = scene.user();
    let directory = scene.directory.path().to_owned();
    logging_in(&directory, || scene.wait_for_events("rotated", 2));
    assert_ne!(scene.user(), user);
    let denied = scene.events("lease_not_renewed");
    assert!(
        !denied.is_empty() && denied.iter().all(|event| event["name"] == "db"),
        "{denied:?}"
    );
    // One new user for each lease, and the token is renewed as ever.
    assert!(scene.users_made() <= scene.proxy.count("sys/leases/renew") + 1);
    assert!(scene.proxy.count("auth/token/renew-self") >= 1);
    assert_eq!(scene.events("token_revoked"), Vec::<Value>::new());
    scene.assert_well();
    let ended = scene.end(Signal::SIGTERM);
    ended.assert_given_back(&[user]);
}

// f35
#[test]
fn lease_that_the_engine_cannot_renew_is_replaced_in_time() {
    let service = Service::with_database();
    // The server answers 400, as it does for a lease that is gone.
    database_role(
        &service,
        json!({"default_ttl": "10s", "renew_statements": NONSENSE}),
    );
    service.set_token_role(json!({"token_period": "9s"}));
    let mut scene = Scene::start(service, STAY, |manifest| {
        manifest.set("certificate.ttl", "9s")
    });
    let (lease, user) = (scene.lease("db"), scene.user());
    let directory = scene.directory.path().to_owned();
    logging_in(&directory, || scene.wait_for_change("db"));
    assert_ne!(scene.user(), user);
    assert!(scene.leases().contains(&lease), "replaced too late");
    assert_eq!(scene.users_made(), 2);
    // Said once, however often it was tried.
    assert_eq!(scene.warnings("lease_not_renewed"), 1);
    assert_eq!(scene.events("lease_gone"), Vec::<Value>::new());
    assert!(scene.proxy.count("auth/token/renew-self") >= 1);
    assert!(scene.proxy.count(&sign_path(&scene.service)) >= 2);
    scene.assert_well();
}

// f35
#[test]
fn lease_that_the_engine_fails_to_renew_for_a_moment_stays() {
    let service = Service::with_database();
    database_role(
        &service,
        json!({"default_ttl": "12s", "renew_statements": NONSENSE}),
    );
    let mut scene = Scene::start(service, STAY, database_alone);
    let (lease, user) = (scene.lease("db"), scene.user());
    scene.wait_for_events("lease_not_renewed", 1);
    scene.assert_well();
    database_role(
        &scene.service,
        json!({"default_ttl": "12s", "renew_statements": []}),
    );
    scene.wait_for_events("renewed", 1);
    assert_eq!((scene.lease("db"), scene.user()), (lease, user));
    assert_eq!(scene.users_made(), 1);
    assert_eq!(scene.events("rotated"), Vec::<Value>::new());
    scene.assert_well();
}

// t19, f35
#[test]
fn engine_that_makes_nothing_is_asked_seldom_and_rest_goes_on() {
    let service = Service::with_database();
    database_lives(&service, "6s", "6s");
    service.set_token_role(json!({"token_period": "9s"}));
    let mut scene = Scene::start(service, STAY, |manifest| {
        manifest.set("certificate.ttl", "9s")
    });
    database_role(
        &scene.service,
        json!({"default_ttl": "6s", "max_ttl": "6s", "creation_statements": NONSENSE}),
    );
    let path = scene.service.database_path();
    scene.wait_for_requests(&path, 6);
    scene.wait_for_requests("auth/token/renew-self", 1);
    scene.wait_for_requests(&sign_path(&scene.service), 2);
    assert_eq!(scene.warnings("not_replaced"), 1);
    assert_eq!(scene.events("vault_away"), Vec::<Value>::new());
    // Not the first, which is the start.
    assert_apart(&scene.requests(&path)[1..], Duration::from_millis(250));

    database_lives(&scene.service, "60s", "60s");
    scene.wait_for_change("db");
    logging_in(scene.directory.path(), || ());
    scene.assert_well();
}

// f35
#[test]
fn brief_failure_to_renew_the_token_costs_no_credential() {
    let service = Service::with_database();
    database_lives(&service, "20s", "20s");
    service.set_token_role(json!({"token_period": "16s"}));
    let fails = Arc::new(AtomicBool::new(true));
    let seen_fails = Arc::clone(&fails);
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        if seen.is("auth/token/renew-self") && seen_fails.load(Ordering::Relaxed) {
            refused(500, "internal error")
        } else {
            Fault::Pass
        }
    });
    let mut scene = Scene::through(service, proxy, STAY, database_alone);
    scene.wait_for_requests("auth/token/renew-self", 1);
    // The maximum of the lease shows while the token seems to end before it.
    scene.wait_for_requests("sys/leases/renew", 1);
    fails.store(false, Ordering::Relaxed);
    scene.wait_for_events("renewed", 2);
    scene.wait_for_change("db");
    logging_in(scene.directory.path(), || ());
    assert_eq!(scene.warnings("token_not_renewed"), 1);
    assert_eq!(scene.events("token_expired"), Vec::<Value>::new());
    scene.assert_well();
}

#[test]
fn credential_with_the_same_values_is_not_published_again() {
    let service = Service::with_database();
    database_lives(&service, "5s", "5s");
    let path = service.database_path();
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        if !seen.is(&path) {
            return Fault::Pass;
        }
        // As an engine answers that hands out what it has until it changes it.
        Fault::alter_json(|answer| {
            answer["data"] = json!({"username": "fixed", "password": "canary-fixed"});
        })
    });
    let mut scene = Scene::through(service, proxy, STAY, |manifest| {
        database_alone(manifest).set("process.on_rotate", json!(["/bin/echo", "told"]))
    });
    let (lease, files) = (scene.lease("db"), fingerprint(scene.directory.path()));
    let path = scene.service.database_path();
    scene.wait_for_requests(&path, 3);
    wait_for("another lease", LONG, || {
        (scene.lease("db") != lease).then_some(())
    });
    assert_eq!(fingerprint(scene.directory.path()), files);
    assert_eq!(scene.events("rotated"), Vec::<Value>::new());
    assert!(!scene.run.stderr().contains("told"));
    scene.assert_well();
}

// The certificate

/// One generation: key, certificate, chain and stores belong together. Returns the public key.
#[track_caller]
fn assert_belongs_together(generation: &Path) -> String {
    let at = |name: &str| generation.join(name).display().to_string();
    let (key, leaf, anchors) = (at("tls.key"), at("tls.crt"), at("ca.crt"));
    let public = openssl(&["pkey", "-in", &key, "-pubout"]);
    assert_eq!(
        openssl(&["x509", "-in", &leaf, "-noout", "-pubkey"]),
        public
    );
    openssl(&[
        "verify",
        "-x509_strict",
        "-CAfile",
        &anchors,
        "-untrusted",
        &leaf,
        &leaf,
    ]);
    let password = format!("file:{}", at("keystore.password"));
    let store = |name: &str, what: &str| {
        openssl(&[
            "pkcs12",
            "-in",
            &at(name),
            "-passin",
            &password,
            "-nodes",
            what,
        ])
    };
    let scratch = TempDir::new();
    let stored_key = scratch.write("key", store("keystore.p12", "-nocerts"));
    let stored_leaf = scratch.write("leaf", store("keystore.p12", "-clcerts"));
    let (stored_key, stored_leaf) = (
        stored_key.display().to_string(),
        stored_leaf.display().to_string(),
    );
    assert_eq!(openssl(&["pkey", "-in", &stored_key, "-pubout"]), public);
    let der = |path: &str| openssl(&["x509", "-in", path, "-noout", "-fingerprint"]);
    assert_eq!(der(&stored_leaf), der(&leaf));
    let trusted = scratch.write("trusted", store("truststore.p12", "-nokeys"));
    assert_eq!(der(&trusted.display().to_string()), der(&anchors));
    public
}

// x9
#[test]
fn reissued_certificate_has_a_new_key_and_fits_its_generation() {
    let service = Service::with_database();
    let mut scene = Scene::start(service, STAY, |manifest| {
        manifest
            .set("certificate.ttl", "12s")
            .set("java", json!({}))
    });
    let service = &scene.service;
    let sign = sign_path(service);
    let unchanged = [
        "keystore.password",
        "java.args",
        "ca.crt",
        "db/username",
        "db/password",
        "payment/api_key",
    ];
    let first = scene.files();
    let mut keys = BTreeSet::new();
    let mut serials = BTreeSet::new();
    for count in 0..3 {
        scene.wait_for_events("rotated", count);
        keys.insert(assert_belongs_together(
            &scene.directory.join(scene.generation()),
        ));
        let status = scene.status();
        let serial = status["certificate"]["serial_number"]
            .as_str()
            .expect("text");
        serials.insert(serial.to_owned());
        if count > 0 {
            let rotated = &scene.events("rotated")[count - 1];
            assert_eq!(rotated["serial_number"], serial);
            assert_eq!(rotated["changed"], "certificate");
        }
        let files = scene.files();
        for name in unchanged {
            assert_eq!(files[name].bytes, first[name].bytes, "{name}");
        }
        assert_eq!(
            files.keys().collect::<Vec<_>>(),
            first.keys().collect::<Vec<_>>()
        );
        for (name, file) in &files {
            assert_eq!(
                (file.mode, file.uid),
                (first[name].mode, first[name].uid),
                "{name}"
            );
        }
        scene.assert_well();
        assert_eq!(scene.proxy.count(&sign), count + 1);
    }
    assert_eq!((keys.len(), serials.len()), (3, 3));
    // The one before stays for a reader that is in the middle of it.
    let names = fs::read_dir(scene.directory.path()).expect("it is there");
    let generations = names
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(b"..generation-")
        })
        .count();
    assert_eq!(generations, 2);
    for path in [
        scene.service.database_path(),
        scene.service.payment_path(),
        scene.service.legacy_path(),
    ] {
        assert_eq!(scene.proxy.count(&path), 1, "{path}");
    }
    let requests = scene.requests(&sign);
    // About two thirds of 12 s.
    assert_apart(&requests, Duration::from_secs(6));
    let asked: BTreeSet<_> = requests
        .iter()
        .map(|seen| seen.json()["csr"].to_string())
        .collect();
    assert_eq!(asked.len(), 3);
}

// The application is told

// x2
#[test]
fn signal_tells_the_application_of_each_generation_once() {
    let scenes = [None, Some("4711:4711")].map(|user| {
        let service = Service::with_database();
        database_lives(&service, "5s", "5s");
        let scene = Scene::start(service, LISTEN, |manifest| {
            let manifest = database_alone(manifest).set("process.on_rotate", "SIGHUP");
            match user {
                Some(user) => manifest.set("process.user", user),
                None => manifest,
            }
        });
        (scene, user)
    });
    for (mut scene, user) in scenes {
        scene.wait_for_events("rotated", 3);
        scene
            .run
            .wait_until("three signals", |run| run.stdout().lines().count() > 3);
        scene.run.kill(Signal::SIGTERM);
        let run = scene.run.wait();
        run.assert_code(7);
        let lines: Vec<&str> = run.stdout.lines().skip(1).collect();
        let told: BTreeSet<&str> = lines.iter().copied().collect();
        // A reader that looks at once sees the new one, each time.
        assert_eq!(told.len(), lines.len(), "{user:?}\n{run:?}");
        let rotated = run.events();
        let rotated = rotated.iter().filter(|event| event["event"] == "rotated");
        // The last one may have met the end of the application.
        let untold = rotated.count() - lines.len();
        assert!(untold <= 1, "{user:?}\n{run:?}");
        let failed = run.stderr.contains("on_rotate_failed");
        assert!(!failed, "{user:?}\n{run:?}");
    }
}

/// The signal would end an application that has no handler for it yet.
#[test]
fn signal_waits_until_the_application_has_a_handler() {
    let scenes = ["exec", "supervise"].map(|lifecycle| {
        let service = Service::with_database();
        database_lives(&service, "6s", "24h");
        let application = "echo up; while [ ! -e \"$DIR.gate\" ]; do sleep 0.05; done; \
             trap 'echo told' HUP; trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";
        let scene = Scene::start(service, application, |manifest| {
            database_alone(manifest)
                .set("process.on_rotate", "SIGHUP")
                .set("process.lifecycle", lifecycle)
        });
        // One generation, and no other one.
        let lease = json!({"lease_id": scene.lease("db")});
        scene.service.admin.ok("PUT", "sys/leases/revoke", lease);
        scene
    });
    for mut scene in scenes {
        scene.wait_for_events("on_rotate_waits", 1);
        let gate = format!("{}.gate", scene.directory.path().display());
        assert!(scene.run.is_running(), "{}", scene.run.stderr());
        fs::write(&gate, "").expect("a file beside the directory");
        scene.run.wait_for_stdout("told\n");
        fs::remove_file(&gate).expect("it is there");
        scene.run.kill(Signal::SIGTERM);
        let run = scene.run.wait();
        run.assert_code(7);
        assert_eq!(run.stdout, "up\nready\ntold\n", "{run:?}");
        assert_eq!(run.stderr.matches("on_rotate_waits").count(), 1, "{run:?}");
        let rotated = run.stderr.matches("\"event\":\"rotated\"").count();
        assert_eq!(rotated, 1, "{run:?}");
    }
}

/// The lines with this word in front, which is cut off.
fn lines(text: &str, word: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(word));
    lines.map(|line| line.trim().to_owned()).collect()
}

/// A shell's words that print what a process knows of itself, each line with this word in front.
fn confession(word: &str) -> String {
    format!(
        "{{ env -u _ -u SHLVL -u PWD -u OLDPWD | sort; id -u; id -g; id -G; umask; pwd; \
         grep -E '^(Sig(Blk|Ign)|NoNewPrivs|CapEff)' /proc/self/status; }} | sed 's/^/{word} /'"
    )
}

#[test]
fn command_has_the_current_environment_and_names_of_changes() {
    let service = Service::with_database();
    database_lives(&service, "6s", "6s");
    let script = format!(
        "{}; echo \"hook-fds $(ls /proc/self/fd | tr '\\n' ' ')\"; echo \"hook-stdin $(readlink /proc/self/fd/0)\"; \
         echo \"hook-user $(cat \"$DIR/db/username\")\"; echo \"hook-arguments $*\"",
        confession("hook")
    );
    let proxy = FaultProxy::recording(service.admin.address());
    let manifest = database_alone(service.manifest_for(&proxy.address()))
        .set("process.user", "4711:4712")
        .set(
            "process.on_rotate",
            json!(["sh", "-c", script, "sh", "one", "two words"]),
        )
        .set(
            "environment",
            json!({"DB_USER": "{{ db.username }}", "FIXED": "for ever"}),
        );
    let place = Place::new(&service, manifest);
    let token = service.mint();
    let call = place
        .call()
        .token(&token)
        .env("DIR", place.path())
        .env("VAULT_TOKEN", "canary-vault-token")
        .env("BAO_TOKEN", "canary-bao-token");
    let mut run = start(call, &format!("{}; {STAY}", confession("application")));
    run.wait_for_stderr("hook-arguments");
    let user = place.user();
    let (stdout, stderr) = (run.stdout(), run.stderr());
    drop(run);

    assert_eq!(lines(&stderr, "hook-arguments"), ["one two words"]);
    assert_eq!(lines(&stderr, "hook-user"), std::slice::from_ref(&user));
    assert_eq!(lines(&stderr, "hook-stdin"), ["/dev/null"]);
    // The fourth is that of the listing itself.
    assert_eq!(lines(&stderr, "hook-fds"), ["0 1 2 3"]);
    let (mut application, mut hook) = (lines(&stdout, "application "), lines(&stderr, "hook "));
    assert!(application.iter().any(|line| line.starts_with("DB_USER=")));
    let old = application
        .iter()
        .position(|line| line.starts_with("DB_USER="));
    application.remove(old.expect("it is there"));
    for added in [format!("DB_USER={user}"), "ANTEROOM_CHANGED=db".to_owned()] {
        let place = hook.iter().position(|line| *line == added);
        hook.remove(place.unwrap_or_else(|| panic!("no {added}: {hook:?}")));
    }
    assert_eq!(hook, application);
    assert!(application.contains(&"FIXED=for ever".to_owned()));
    assert!(!stdout.contains("hook"), "{stdout}");
    for secret in [&*token.token, "canary-vault-token", "canary-bao-token"] {
        assert!(!stderr.contains(secret), "{secret}");
    }
}

#[test]
fn command_that_fails_is_said_and_the_next_one_runs() {
    let service = Service::with_database();
    database_lives(&service, "5s", "5s");
    let mut scene = Scene::start(service, STAY, |manifest| {
        let script = "echo hook-ran; exit 3";
        database_alone(manifest).set("process.on_rotate", json!(["/bin/sh", "-c", script]))
    });
    scene.wait_for_events("on_rotate_failed", 2);
    for event in scene.events("on_rotate_failed") {
        let message = event["message"].as_str().expect("text");
        assert!(message.contains("ended with 3"), "{message}");
    }
    assert!(lines(&scene.run.stderr(), "hook-ran").len() >= 2);
    scene.assert_well();
}

#[test]
fn command_that_takes_too_long_is_killed_with_its_children() {
    let service = Service::with_database();
    database_lives(&service, "5s", "5s");
    let mut scene = Scene::start(service, STAY, |manifest| {
        let script = "sleep 600 & echo hook-pids $$ $!; trap '' TERM; wait";
        database_alone(manifest)
            .set("process.on_rotate", json!(["/bin/sh", "-c", script]))
            .set("process.on_rotate_timeout", "1s")
    });
    scene.wait_for_events("on_rotate_failed", 2);
    for event in scene.events("on_rotate_failed") {
        let message = event["message"].as_str().expect("text");
        assert!(message.contains("too long"), "{message}");
    }
    let runs = lines(&scene.run.stderr(), "hook-pids");
    assert!(runs.len() >= 2, "{runs:?}");
    for pid in runs[..2].iter().flat_map(|line| line.split(' ')) {
        let pid: i32 = pid.parse().expect("a number");
        wait_for("the command to be gone", LONG, || {
            has_ended(pid).then_some(())
        });
    }
    scene.assert_well();
}

#[test]
fn changes_during_a_command_are_told_in_one_go_afterwards() {
    let service = Service::with_database();
    let mount = service.database.clone().expect("it has one");
    database_lives(&service, "5s", "5s");
    let other = format!("{}-other", service.app);
    service.admin.database_role(
        &mount,
        &other,
        json!({"default_ttl": "6s", "max_ttl": "6s"}),
    );
    let path = format!("{mount}/creds/{other}");
    let policy = format!(
        "{}path \"{path}\" {{ capabilities = [\"read\"] }}\n",
        service.policy_hcl()
    );
    service.admin.policy(&service.policy, &policy);
    let gate = TempDir::new();
    let script = format!(
        "echo hook-begin $ANTEROOM_CHANGED; until test -e {}; do sleep 0.1; done; echo hook-end",
        gate.join("open").display()
    );
    let mut scene = Scene::start(service, STAY, |manifest| {
        manifest
            .remove("dependencies.payment")
            .remove("dependencies.legacy")
            .set("dependencies.other", json!({"path": path}))
            .set("certificate.ttl", "9s")
            .set("process.on_rotate", json!(["/bin/sh", "-c", script]))
            .set("process.on_rotate_timeout", "120s")
    });
    scene.run.wait_for_stderr("hook-begin");
    let told = lines(&scene.run.stderr(), "hook-begin").remove(0);
    let told: BTreeSet<&str> = told.split(' ').collect();
    let first = scene.events("rotated");
    let first: Vec<&str> = first[0]["changed"]
        .as_str()
        .expect("text")
        .split(' ')
        .collect();
    assert_eq!(told, first.into_iter().collect());
    // Each of them, and more than once in all.
    scene.run.wait_until("all to change again", |run| {
        let rotated = run.named("rotated");
        let changed: BTreeSet<String> = rotated[1..]
            .iter()
            .flat_map(|event| event["changed"].as_str().unwrap_or_default().split(' '))
            .map(str::to_owned)
            .collect();
        rotated.len() >= 4 && changed.len() == 3
    });
    assert_eq!(lines(&scene.run.stderr(), "hook-begin").len(), 1);
    gate.write("open", "");
    scene.run.wait_until("the second command", |run| {
        lines(&run.stderr(), "hook-begin").len() >= 2
    });
    let second = lines(&scene.run.stderr(), "hook-begin").remove(1);
    assert_eq!(second, "certificate db other");
    scene.assert_well();
}

// f5, f6
#[test]
fn command_that_cannot_run_is_found_before_the_token_is_touched() {
    let service = Service::new();
    let proxy = FaultProxy::recording(service.admin.address());
    let token = service.mint();
    let scratch = TempDir::new();
    let plain = scratch.write("plain", "no program").display().to_string();
    for (command, code) in [
        ("/nowhere/reload", 127),
        ("no-such-command", 127),
        (&plain, 126),
    ] {
        let manifest = service.manifest_for(&proxy.address());
        let run = Anteroom::new()
            .manifest(manifest.set("process.on_rotate", json!([command, "now"])))
            .token(&token)
            .shell("echo started")
            .run();
        run.assert_refused(code).assert_stderr(command);
    }
    assert_eq!(proxy.connections(), 0);
    assert_eq!(service.admin.lookup_wrapping(&token.token), 200);
}

// f26, t12
#[test]
fn full_tmpfs_delays_a_generation_and_keeps_the_old_credential() {
    let service = Service::with_database();
    database_lives(&service, "14s", "14s");
    let proxy = FaultProxy::recording(service.admin.address());
    let manifest = database_alone(service.manifest_for(&proxy.address()))
        .set("token.min_ttl", "1s")
        .set("secrets.revoke_after", "500ms");
    let place = Place::new(&service, manifest);
    let directory = place.path().display();
    let mount =
        format!("mount -t tmpfs -o size=1m,mode=0755 none {directory} && exec \"$0\" \"$@\"");
    let call = place.call_with_token();
    let call = call.under(["unshare", "--mount", "/bin/sh", "-c", &mount]);
    let mut run = start(call, STAY);
    // The mount is the application's alone.
    let inside = PathBuf::from(format!("/proc/{}/root{directory}", run.pid()));
    let ballast = inside.join("ballast");
    let filled = fs::write(&ballast, vec![0; 2 << 20]);
    assert!(filled.is_err(), "there is room left");
    let before = files_in(&inside);
    logging_in(&inside, || {
        run.wait_for_stderr("not_published");
        // The grace is over, and no request has found the new one yet.
        thread::sleep(Duration::from_millis(1500));
    });
    let mut now = files_in(&inside);
    now.insert("status.json".to_owned(), before["status.json"].clone());
    assert!(now == before, "{now:#?}");
    assert_eq!(proxy.count("sys/leases/revoke"), 0, "{}", run.stderr());
    assert_eq!(proxy.count(&service.database_path()), 2);
    fs::remove_file(&ballast).expect("it was written");
    run.wait_for_stderr("\"rotated\"");
    assert_ne!(
        files_in(&inside)["db/username"].bytes,
        before["db/username"].bytes
    );
    logging_in(&inside, || ());
    let warnings = run.named("not_published");
    assert_eq!(
        warnings
            .iter()
            .filter(|event| event["level"] == "warn")
            .count(),
        1
    );
}

// The end of the token

/// When this was, for RFC 3339 in a field of JSON.
#[track_caller]
fn time_of(value: &Value) -> OffsetDateTime {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    OffsetDateTime::parse(text, &Rfc3339).expect("RFC 3339")
}

// f38
#[test]
fn application_is_told_before_its_token_reaches_the_maximum() {
    let signalled = |manifest: Manifest| {
        manifest
            .set("process.on_expiry", "signal")
            .set("process.expiry_signal", "SIGUSR1")
    };
    let explicit = || {
        let service = Service::with_database();
        service.set_token_role(json!({"token_explicit_max_ttl": "18s"}));
        service
    };
    // The application is not told.
    let ignored = Scene::start(explicit(), LISTEN, certificate_alone);
    // Another database user would live no longer than the one that is there.
    let service = explicit();
    database_lives(&service, "18s", "18s");
    let told = Scene::start(service, LISTEN, |manifest| {
        signalled(database_alone(manifest))
    });
    // The limit was not known before.
    let server = OpenBao::start(Options::default());
    server.ok(
        "POST",
        "sys/auth/token/tune",
        json!({"max_lease_ttl": "18s"}),
    );
    let capped = Scene::start(Service::on(&server), LISTEN, |manifest| {
        signalled(certificate_alone(manifest))
    });
    let service = Service::new();
    service.set_token_role(json!({"token_period": "18s"}));
    let proxy = FaultProxy::start(service.admin.address(), |seen| {
        if seen.is("auth/token/renew-self") {
            refused(400, "lease is not renewable")
        } else {
            Fault::Pass
        }
    });
    let refused = Scene::through(service, proxy, LISTEN, |manifest| {
        signalled(certificate_alone(manifest))
    });

    let scenes = [
        ("ignored", ignored),
        ("told", told),
        ("capped", capped),
        ("refused", refused),
    ];
    let scenes = scenes.map(|(name, scene)| {
        let accessor = json!({"accessor": scene.token.wrapped_accessor});
        let found = scene
            .service
            .admin
            .ok("POST", "auth/token/lookup-accessor", accessor);
        (name, scene, time_of(&found["data"]["expire_time"]))
    });
    for (name, mut scene, end) in scenes {
        scene.wait_for_events("token_expired", 1);
        assert_eq!(scene.users_if_any(), usize::from(name == "told"), "{name}");
        let requests = scene.proxy.requests().len();
        let ends = scene.events("token_ends");
        assert_eq!(ends.len(), 1, "{name}");
        let left = end - time_of(&ends[0]["time"]);
        // Three quarters of 18 s, by clocks that count in whole seconds.
        assert!(
            left > time::Duration::ZERO && left.as_seconds_f64() < 6.0,
            "{name}: {left}"
        );
        let farewells = lines(&scene.run.stdout(), "farewell");
        let told = scene.events("on_expiry");
        let count = usize::from(name != "ignored");
        assert_eq!((farewells.len(), told.len()), (count, count), "{name}");
        for event in told {
            let at = time_of(&event["time"]);
            assert!(at < end, "{name}: {at}, {end}");
        }
        assert!(scene.run.is_running(), "{name}");
        assert!(scene.files().len() >= 2, "{name}");
        scene.assert_stale(&["the client token's life is over"]);
        scene.run.kill(Signal::SIGKILL);
        let run = scene.run.wait();
        run.assert_no_files();
        assert_eq!(
            scene.proxy.requests().len(),
            requests,
            "{name}: a dead token was used\n{run:?}"
        );
    }
}

/// Vault's own answer for what is refused.
fn refused(status: u16, error: &str) -> Fault {
    Fault::Answer(Reply::json(status, &json!({"errors": [error]})))
}

// f36
#[test]
fn token_revoked_from_outside_is_noticed_once_and_not_used() {
    let scenes = [("1s", "1h"), ("0s", "6s")].map(|(check, lease)| {
        let service = Service::with_database();
        database_lives(&service, lease, "24h");
        let mut scene = Scene::start(service, LISTEN, |manifest| {
            manifest
                .set("token.revocation_check", check)
                .set("process.on_expiry", "signal")
                .set("process.expiry_signal", "USR1")
        });
        if check != "0s" {
            scene.wait_for_requests("auth/token/lookup-self", 3);
        }
        scene.assert_well();
        scene.service.admin.ok(
            "POST",
            "auth/token/revoke-accessor",
            json!({"accessor": scene.token.wrapped_accessor}),
        );
        (scene, check)
    });
    let mut seen = Vec::new();
    let scenes = scenes.map(|(mut scene, check)| {
        scene.wait_for_events("token_revoked", 1);
        scene.run.wait_for_stdout("farewell");
        seen.push(scene.proxy.requests().len());
        (scene, check)
    });
    // Longer than the check and half the lease: a keeper that goes on would have asked again.
    thread::sleep(Duration::from_secs(4));
    for ((mut scene, check), seen) in scenes.into_iter().zip(seen) {
        let revoked = scene.events("token_revoked");
        assert_eq!(revoked.len(), 1, "{check}: {revoked:?}");
        assert_eq!(revoked[0]["level"], "error");
        assert_eq!(
            revoked[0]["accessor"],
            scene.token.wrapped_accessor.as_str()
        );
        assert_eq!(lines(&scene.run.stdout(), "farewell").len(), 1, "{check}");
        let looked = scene.proxy.count("auth/token/lookup-self");
        if check == "0s" {
            // At the start, and when the renewal was denied.
            assert_eq!(looked, 2);
        }
        for name in ["tls.crt", "tls.key", "db/username", "payment/api_key"] {
            assert!(scene.files().contains_key(name), "{check}: {name}");
        }
        scene.assert_stale(&["the client token was revoked"]);
        assert!(scene.run.is_running());
        let ended = scene.end(Signal::SIGTERM);
        ended.run.assert_code(7).assert_no_files();
        assert_eq!(
            ended.proxy.requests().len(),
            seen,
            "{check}: it was used again"
        );
        let said = ended.run.events();
        let said = said.iter().filter(|event| event["event"] == "not_revoked");
        assert_eq!(said.count(), 0, "{check}");
    }
}

// Vault is away

// f35
#[test]
fn outage_of_a_server_is_said_once_and_its_return_once() {
    let server = OpenBao::start(Options {
        storage: Storage::Raft,
        ..Options::default()
    });
    let service = Service::build(&server, Some(Postgres::shared()));
    let mut scene = Scene::start(service, STAY, |manifest| {
        manifest
            .set("vault.address", server.address())
            .set("vault.client_timeout", "3s")
            .set("token.revocation_check", "1s")
    });
    let (lease, user) = (scene.lease("db"), scene.user());
    let files = fingerprint(scene.directory.path());
    type Act = fn(&OpenBao);
    let outages: [(&str, Act, Act); 3] = [
        ("restarted", OpenBao::stop, OpenBao::start_again),
        ("sealed", OpenBao::seal, OpenBao::unseal),
        ("frozen", OpenBao::freeze, OpenBao::thaw),
    ];
    for (count, (name, begin, end)) in outages.into_iter().enumerate() {
        begin(&server);
        scene.wait_for_events("vault_away", count + 1);
        wait_for("the status to say so", LONG, || {
            (!scene.status()["vault_away_since"].is_null()).then_some(())
        });
        // Nothing has ended yet.
        scene.assert_well();
        assert_eq!(scene.events("vault_back").len(), count, "{name}");
        end(&server);
        scene.wait_for_events("vault_back", count + 1);
        wait_for("the status to say so", LONG, || {
            scene.status()["vault_away_since"].is_null().then_some(())
        });
    }
    let (away, back) = (scene.events("vault_away"), scene.events("vault_back"));
    assert_eq!((away.len(), back.len()), (3, 3), "{away:?} {back:?}");
    assert!(
        away.iter().all(|event| event["level"] == "warn"),
        "{away:?}"
    );
    assert_eq!((scene.lease("db"), scene.user()), (lease.clone(), user));
    assert_eq!(scene.leases(), [lease]);
    assert_eq!(fingerprint(scene.directory.path()), files);
    assert!(scene.token_exists());
    assert_eq!(scene.events("token_revoked"), Vec::<Value>::new());
    scene.assert_well();
}

/// A fault that comes instead of an answer while Vault is away.
type Outage = fn() -> Fault;

// f35, t19
#[test]
fn absent_vault_is_asked_seldom_and_then_caught_up_one_by_one() {
    let outages: [(&str, Outage); 14] = [
        ("reset", || Fault::CutBefore(Cut::Reset)),
        ("closed", || Fault::CutBefore(Cut::Close)),
        ("answer lost", || Fault::CutAfter(Cut::Reset)),
        ("half an answer", || Fault::CutInside(40, Cut::Close)),
        ("silent", || Fault::Hang),
        ("sealed", || refused(503, "Vault is sealed")),
        ("no leader", || {
            refused(
                500,
                "local node not active but active cluster node not found",
            )
        }),
        ("rate limit", || {
            let errors = json!({"errors": ["rate limit quota exceeded"]});
            Fault::Answer(Reply::json(429, &errors).header("Retry-After", "1"))
        }),
        ("balancer, 502", || balancer(502)),
        ("balancer, 503", || balancer(503)),
        ("balancer, 403", || balancer(403)),
        ("balancer, 404", || balancer(404)),
        ("gateway, 403", || {
            gateway(403, &json!({"message": "Forbidden"}))
        }),
        ("gateway, 404", || {
            gateway(404, &json!({"message": "no route"}))
        }),
    ];
    beside_one_another(&outages, overcome);
}

/// Runs a test for each of these at once, in a thread of its own that bears the row's name.
fn beside_one_another(rows: &[(&'static str, Outage)], test: fn(&str, Outage)) {
    thread::scope(|scope| {
        for &(name, outage) in rows {
            let row = thread::Builder::new().name(name.to_owned());
            row.spawn_scoped(scope, move || test(name, outage))
                .expect("a thread can be started");
        }
    });
}

fn overcome(name: &str, outage: Outage) {
    let mut away = Away::begin(outage);
    away.scene.wait_for_events("vault_away", 1);
    // Until what is due is asked for too.
    let Away { scene, .. } = &mut away;
    let renewals = ["sys/leases/renew", "auth/token/renew-self"];
    scene.run.wait_until("a renewal in vain", |_| {
        renewals.iter().any(|path| scene.proxy.count(path) > 0)
    });
    let attempts = away.end();
    away.scene.wait_for_events("vault_back", 1);
    assert_seldom(name, &attempts);
    for event in ["vault_away", "vault_back"] {
        assert_eq!(away.scene.events(event).len(), 1, "{name}: {event}");
    }
    away.assert_overcome(name);
}

// f35, t19
#[test]
fn failure_of_vault_for_a_moment_is_tried_again() {
    try_again("internal error", || refused(500, "internal error"));
}

// f35, t19
#[test]
fn answer_that_is_not_vaults_is_no_absence_of_vault() {
    let answers: [(&str, Outage); 3] = [
        ("200", || gateway(200, &json!({}))),
        ("204", || Fault::Answer(Reply::text(204, "text/plain", ""))),
        ("302", || {
            let reply = Reply::text(302, "text/html", "<a>Please log in</a>");
            Fault::Answer(reply.header("Location", "http://127.0.0.2/portal"))
        }),
    ];
    beside_one_another(&answers, try_again);
}

/// Fails unless each request is made again by itself, while Vault counts as present.
fn try_again(name: &str, answer: Outage) {
    let mut away = Away::begin(answer);
    for event in ["lease_not_renewed", "token_not_renewed"] {
        away.scene.wait_for_events(event, 1);
    }
    assert_eq!(
        away.scene.status()["vault_away_since"],
        Value::Null,
        "{name}"
    );
    let attempts = away.end();
    for path in ["sys/leases/renew", "auth/token/renew-self"] {
        let mut attempts = attempts.clone();
        attempts.retain(|seen| seen.is(path));
        assert_seldom(path, &attempts);
    }
    for event in ["vault_away", "vault_back"] {
        assert_eq!(away.scene.events(event), Vec::<Value>::new(), "{name}");
    }
    away.assert_overcome(name);
}

/// The answer of a load balancer that stands before Vault and does not reach it.
fn balancer(status: u16) -> Fault {
    Fault::Answer(Reply::text(status, "text/html", "<h1>Not now</h1>"))
}

/// A gateway's answer in JSON of its own.
fn gateway(status: u16, body: &Value) -> Fault {
    Fault::Answer(Reply::json(status, body))
}

/// A service whose keeper does not reach Vault any more.
struct Away {
    scene: Scene,
    is_away: Arc<AtomicBool>,
    /// Most requests at a time, of those that reached Vault.
    most_at_a_time: Arc<AtomicUsize>,
    /// The requests before.
    before: usize,
    lease: String,
    user: String,
}

impl Away {
    fn begin(outage: Outage) -> Self {
        let service = Service::with_database();
        database_lives(&service, "20s", "24h");
        service.set_token_role(json!({"token_period": "20s"}));
        let is_away = Arc::new(AtomicBool::new(false));
        let most_at_a_time = Arc::new(AtomicUsize::new(0));
        let proxy = FaultProxy::start(service.admin.address(), {
            let (is_away, most) = (Arc::clone(&is_away), Arc::clone(&most_at_a_time));
            let under_way = Arc::new(AtomicUsize::new(0));
            move |_| {
                if is_away.load(Ordering::Relaxed) {
                    return outage();
                }
                let count = under_way.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(count, Ordering::Relaxed);
                let under_way = Arc::clone(&under_way);
                Fault::Alter(Box::new(move |_| {
                    under_way.fetch_sub(1, Ordering::Relaxed);
                }))
            }
        });
        let scene = Scene::through(service, proxy, STAY, |manifest| {
            manifest
                .set("vault.client_timeout", "3s")
                .set("token.revocation_check", "1s")
        });
        let (lease, user) = (scene.lease("db"), scene.user());
        let before = scene.proxy.requests().len();
        is_away.store(true, Ordering::Relaxed);
        Self {
            scene,
            is_away,
            most_at_a_time,
            before,
            lease,
            user,
        }
    }

    /// Lets it reach Vault again; returns what it tried in vain.
    fn end(&self) -> Vec<Seen> {
        let attempts = self.scene.proxy.requests().split_off(self.before);
        self.most_at_a_time.store(0, Ordering::Relaxed);
        self.is_away.store(false, Ordering::Relaxed);
        attempts
    }

    /// Fails unless everything is renewed now, one after the other, and what was there is there.
    #[track_caller]
    fn assert_overcome(mut self, name: &str) {
        let scene = &mut self.scene;
        scene.wait_for_events("renewed", 2);
        assert_eq!(self.most_at_a_time.load(Ordering::Relaxed), 1, "{name}");
        assert_eq!(
            (scene.lease("db"), scene.user()),
            (self.lease.clone(), self.user),
            "{name}"
        );
        assert_eq!(scene.leases(), [self.lease], "{name}");
        assert_eq!(scene.users_made(), 1, "{name}");
        assert_eq!(scene.events("rotated"), Vec::<Value>::new(), "{name}");
        scene.assert_well();
    }
}

/// Fails unless there is a pause after each of these requests, and fewer than two a second on the whole.
#[track_caller]
fn assert_seldom(name: &str, attempts: &[Seen]) {
    assert_apart(attempts, Duration::from_millis(200));
    let took = attempts[attempts.len() - 1].at - attempts[0].at;
    let most = 3 + 2 * took.as_secs() as usize;
    let count = attempts.len();
    assert!(count <= most, "{name}: {count} attempts in {took:?}");
}

/// A proxy that answers as a sealed server while the flag is set.
fn sealed_while(service: &Service, is_away: &Arc<AtomicBool>) -> FaultProxy {
    let is_away = Arc::clone(is_away);
    FaultProxy::start(service.admin.address(), move |_| {
        if is_away.load(Ordering::Relaxed) {
            refused(503, "Vault is sealed")
        } else {
            Fault::Pass
        }
    })
}

// f35
#[test]
fn item_that_ended_in_an_outage_is_named_and_fetched_anew() {
    let service = Service::with_database();
    database_lives(&service, "4s", "24h");
    let is_away = Arc::new(AtomicBool::new(false));
    let proxy = sealed_while(&service, &is_away);
    let mut scene = Scene::through(service, proxy, STAY, |manifest| {
        database_alone(manifest).set("token.revocation_check", "1s")
    });
    let user = scene.user();
    is_away.store(true, Ordering::Relaxed);
    wait_for("the end of the lease", LONG, || {
        (scene.health().code == Some(1)).then_some(())
    });
    scene.assert_stale(&[
        "the credential of db ended at",
        "Vault has not answered since",
    ]);
    // The server counts too.
    wait_for("the user to be gone", LONG, || {
        (!Postgres::shared().role_exists(&user)).then_some(())
    });
    assert_eq!(scene.user(), user, "it stays where it is");
    database_lives(&scene.service, "60s", "24h");
    is_away.store(false, Ordering::Relaxed);
    scene.wait_for_change("db");
    logging_in(scene.directory.path(), || ());
    scene.assert_well();
    assert_eq!(scene.users_made(), 2);
    for event in ["vault_away", "vault_back", "lease_gone"] {
        assert_eq!(scene.events(event).len(), 1, "{event}");
    }
}

// f35, f36
#[test]
fn token_that_has_ended_in_an_outage_is_no_longer_used() {
    let service = Service::new();
    service.set_token_role(json!({"token_period": "4s"}));
    let is_away = Arc::new(AtomicBool::new(false));
    let proxy = sealed_while(&service, &is_away);
    let mut scene = Scene::through(service, proxy, LISTEN, |manifest| {
        manifest
            .set("process.on_expiry", "signal")
            .set("process.expiry_signal", "USR1")
    });
    is_away.store(true, Ordering::Relaxed);
    wait_for("the end of the token", LONG, || {
        (!scene.token_exists()).then_some(())
    });
    scene.wait_for_events("vault_away", 1);
    is_away.store(false, Ordering::Relaxed);
    scene.wait_for_events("token_expired", 1);
    scene.run.wait_for_stdout("farewell");
    scene.wait_for_events("vault_back", 1);
    let requests = scene.proxy.requests().len();
    scene.assert_stale(&["the client token's life is over"]);
    let said = scene.health().stdout;
    assert!(!said.contains("has not answered"), "{said}");
    let ended = scene.end(Signal::SIGTERM);
    ended.run.assert_code(7).assert_no_files();
    assert_eq!(ended.proxy.requests().len(), requests);
}

// f35, t18
#[test]
fn database_that_is_down_is_its_own_trouble() {
    let (server, postgres) = (OpenBao::start(Options::default()), Postgres::start());
    let service = Service::build(&server, Some(&postgres));
    database_lives(&service, "12s", "24h");
    service.set_token_role(json!({"token_period": "9s"}));
    let mut scene = Scene::start(service, STAY, |manifest| {
        manifest.set("certificate.ttl", "9s")
    });
    let files = scene.files();
    drop(postgres);
    scene.wait_for_events("lease_not_renewed", 1);
    scene.assert_well();
    let (renewed, signed) = ("auth/token/renew-self", sign_path(&scene.service));
    let before = [renewed, &*signed].map(|path| scene.proxy.count(path));
    scene.wait_for_requests(renewed, before[0] + 1);
    scene.wait_for_requests(&signed, before[1] + 1);
    for event in ["vault_away", "lease_gone", "token_revoked"] {
        assert_eq!(scene.events(event), Vec::<Value>::new(), "{event}");
    }
    assert_eq!(scene.warnings("lease_not_renewed"), 1);
    wait_for("the end of the lease", LONG, || {
        (scene.health().code == Some(1)).then_some(())
    });
    scene.assert_stale(&["the credential of db ended at"]);
    assert!(!scene.health().stdout.contains("Vault"), "Vault is there");
    for name in ["db/username", "db/password"] {
        assert!(scene.files()[name] == files[name], "{name}");
    }
    // Its server remembers what it still has to drop.
    let ended = scene.end(Signal::SIGKILL);
    ended.run.assert_no_files();
    assert!(
        !server.accessor_exists(&ended.token.wrapped_accessor),
        "{:?}",
        ended.run
    );
}

// The end of the application

// f40, t18
#[test]
fn end_of_the_application_gives_everything_back() {
    let rows = [
        ("exits", LISTEN, Signal::SIGTERM),
        ("is killed", STAY, Signal::SIGKILL),
        ("is terminated", STAY, Signal::SIGTERM),
    ];
    for (name, application, signal) in rows {
        let scene = Scene::start(Service::with_database(), application, |manifest| manifest);
        let user = scene.user();
        assert!(Postgres::shared().role_exists(&user), "{name}");
        let ended = scene.end(signal);
        match name {
            "exits" => ended.run.assert_code(7),
            _ => ended.run.assert_signal(signal),
        };
        ended.assert_given_back(&[user]);
    }
}

// f40, t18
#[test]
fn application_that_ends_at_once_leaves_nothing() {
    let service = Service::with_database();
    for round in 0..10 {
        let token = service.mint();
        let run = Anteroom::new()
            .manifest(service.manifest())
            .token(&token)
            .shell("exit 3")
            .run();
        run.assert_code(3).assert_no_files();
        wait_for("all processes to be gone", LONG, || {
            run.survivors().is_empty().then_some(())
        });
        let accessor = &token.wrapped_accessor;
        assert!(!service.admin.accessor_exists(accessor), "{round}\n{run:?}");
        wait_for_no_lease(&service);
    }
}

// t18
#[test]
fn end_in_the_middle_of_a_request_is_not_delayed() {
    let service = Service::with_database();
    let proxy = FaultProxy::start(service.admin.address(), |seen| {
        if seen.is("auth/token/lookup-self") && seen.nth > 1 {
            Fault::Hang
        } else {
            Fault::Pass
        }
    });
    let mut scene = Scene::through(service, proxy, STAY, |manifest| {
        manifest
            .set("vault.client_timeout", "60s")
            .set("token.revocation_check", "1s")
    });
    let user = scene.user();
    scene.wait_for_requests("auth/token/lookup-self", 2);
    let ended = scene.end(Signal::SIGKILL);
    ended.assert_given_back(&[user]);
}

// t18
#[test]
fn end_beside_a_frozen_vault_removes_files_and_names_accessor() {
    let server = OpenBao::start(Options::default());
    let scene = Scene::start(Service::on(&server), STAY, |manifest| {
        manifest.set("vault.address", server.address())
    });
    server.freeze();
    let ended = scene.end(Signal::SIGKILL);
    server.thaw();
    let run = &ended.run;
    run.assert_no_files();
    let events = run.events();
    let not_revoked = events.iter().find(|event| event["event"] == "not_revoked");
    let not_revoked = not_revoked.unwrap_or_else(|| panic!("nothing is said\n{run:?}"));
    assert_eq!(
        not_revoked["accessor"],
        ended.token.wrapped_accessor.as_str()
    );
}

// t18
#[test]
fn running_command_does_not_outlive_the_application() {
    let service = Service::with_database();
    database_lives(&service, "5s", "5s");
    let mut scene = Scene::start(service, STAY, |manifest| {
        let script = "echo hook-pid $$; exec sleep 600";
        database_alone(manifest)
            .set("process.on_rotate", json!(["/bin/sh", "-c", script]))
            .set("process.on_rotate_timeout", "600s")
    });
    scene.run.wait_for_stderr("hook-pid");
    let user = scene.user();
    let pid: i32 = lines(&scene.run.stderr(), "hook-pid")[0]
        .parse()
        .expect("a number");
    assert!(!has_ended(pid));
    let ended = scene.end(Signal::SIGTERM);
    wait_for("the command to be gone", Duration::from_secs(10), || {
        has_ended(pid).then_some(())
    });
    ended.assert_given_back(&[user]);
}

// f39
#[test]
fn killed_keeper_disturbs_no_process_and_health_tells() {
    let mut scene = Scene::start(Service::with_database(), LISTEN, |manifest| {
        manifest.set("java", json!({}))
    });
    scene.assert_well();
    let (generation, files) = (scene.generation(), scene.files());
    let keeper = scene.run.keeper();
    kill(Pid::from_raw(keeper), Signal::SIGKILL).expect("it is there");
    wait_for("the keeper to be gone", LONG, || {
        has_ended(keeper).then_some(())
    });
    scene.assert_stale(&["the keeper is gone"]);
    assert_eq!(scene.generation(), generation);
    assert!(scene.files() == files);
    assert_belongs_together(&scene.directory.join(&generation));
    logging_in(scene.directory.path(), || ());
    assert!(scene.run.is_running());
    let ended = scene.end(Signal::SIGTERM);
    ended.run.assert_code(7);
    assert!(
        ended
            .place
            .service
            .admin
            .accessor_exists(&ended.token.wrapped_accessor),
        "no keeper was left to do it"
    );
    ended.place.service.admin.ok(
        "POST",
        "auth/token/revoke-accessor",
        json!({"accessor": ended.token.wrapped_accessor}),
    );
}

// Health

#[test]
fn health_answers_any_user_and_is_1_before_a_publication() {
    let service = Service::new();
    let before = Place::new(&service, service.manifest()).health();
    before.assert_code(1);
    assert_eq!(
        (before.stdout.lines().count(), &*before.stderr),
        (1, ""),
        "{before:?}"
    );
    assert!(before.stdout.contains("nothing is published"), "{before:?}");

    for keeper in [None, Some("1000:1000")] {
        let scene = Scene::start(Service::new(), STAY, |manifest| match keeper {
            Some(user) => manifest.set("process.user", user),
            None => manifest,
        });
        for uid in [0, 1000, 4711] {
            let asked = || scene.call().arg("health").uid(uid).run();
            let health = asked();
            health.assert_code(0);
            assert_eq!((&*health.stdout, &*health.stderr), ("", ""), "{uid}");
        }
    }
}

// Secrecy

// t6, t15
#[test]
fn long_life_shows_no_secret_in_the_log_or_of_the_keeper() {
    for format in ["json", "human"] {
        let service = Service::with_database();
        database_lives(&service, "5s", "5s");
        service.set_token_role(json!({"token_period": "9s"}));
        let wire: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let is_away = Arc::new(AtomicBool::new(false));
        let (noted, seen_away) = (Arc::clone(&wire), Arc::clone(&is_away));
        let proxy = FaultProxy::start(service.admin.address(), move |seen| {
            if let Some(token) = seen.header("x-vault-token") {
                lock(&noted).insert(token.to_owned());
            }
            if seen_away.load(Ordering::Relaxed) {
                return Fault::CutAfter(Cut::Reset);
            }
            let noted = Arc::clone(&noted);
            Fault::Alter(Box::new(move |reply| {
                let answer: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
                for pointer in ["/auth/client_token", "/data/password"] {
                    let secret = answer.pointer(pointer).and_then(Value::as_str);
                    lock(&noted).extend(secret.map(str::to_owned));
                }
            }))
        });
        let manifest = service
            .manifest_for(&proxy.address())
            .set("token.min_ttl", "1s")
            .set("token.revocation_check", "1s")
            .set("certificate.ttl", "9s")
            .set("java", json!({}))
            .set(
                "environment",
                json!({"DSN": "postgres://{{ db.password }}@db"}),
            )
            .set("process.on_rotate", json!(["/bin/false"]));
        let place = Place::new(&service, manifest);
        let token = service.mint();
        let call = place.call().token(&token);
        let mut run = start(call.args(["--log", format, "--log-level", "debug"]), STAY);
        let keeper = run.keeper();
        let mut canaries: BTreeSet<String> = BTreeSet::new();
        let note_files = |canaries: &mut BTreeSet<String>| {
            for (_, file) in place.files() {
                if file.mode != 0o400 {
                    continue;
                }
                let text = String::from_utf8_lossy(&file.bytes).into_owned();
                canaries.extend(
                    text.lines()
                        .filter(|line| line.len() >= 12)
                        .map(str::to_owned),
                );
            }
        };
        note_files(&mut canaries);
        run.wait_for_stderr("renewed the client token");
        note_files(&mut canaries);
        is_away.store(true, Ordering::Relaxed);
        run.wait_for_stderr("Vault is away");
        is_away.store(false, Ordering::Relaxed);
        run.wait_for_stderr("Vault answers again");
        run.wait_until("three generations", |run| {
            run.stderr().matches("published a new generation").count() >= 3
        });
        note_files(&mut canaries);
        canaries.extend(lock(&wire).iter().cloned());
        canaries.insert("PRIVATE KEY".to_owned());
        assert!(canaries.len() > 10, "{canaries:?}");
        for name in ["cmdline", "environ"] {
            let seen = fs::read(format!("/proc/{keeper}/{name}")).expect("root may read it");
            let seen = String::from_utf8_lossy(&seen).into_owned();
            for canary in &canaries {
                assert!(!seen.contains(&**canary), "{name} shows {canary}");
            }
        }
        run.kill(Signal::SIGKILL);
        run.wait().assert_no(&canaries).assert_no_files();
    }
}

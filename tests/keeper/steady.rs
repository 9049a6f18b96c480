//! A service that lives for long in a container: whatever it opens anew with what it finds in the files works, through
//! renewals, rotations and an outage, until it ends or its token is taken away.
#![expect(
    clippy::disallowed_methods,
    reason = "a test builds images and looks at what containers did"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::start::container::{ENTRYPOINT, TMPFS, base, binary, image_with, spawn};
use crate::support::anteroom::{entries_in, files_in};
use crate::support::docker::{self, Container, Image, docker};
use crate::support::{
    Cut, Fault, FaultProxy, Manifest, OpenBao, Options, Postgres, Service, Storage, TempDir,
    Wrapped, repository, tmpfs_dir, wait_for,
};

const HARDENED: [&str; 4] = ["--user", "1000", "--read-only", "--cap-drop=ALL"];
const LIFECYCLES: [&str; 2] = ["exec", "supervise"];
/// The application's own exit code, when it is told to stop.
const LEFT: i32 = 7;

/// How long what a service fetches lives, in seconds.
struct Lives {
    /// The token, whenever it is renewed.
    token: u64,
    /// The database user, whenever its lease is renewed.
    lease: u64,
    /// The database user, however often its lease is renewed.
    lease_max: u64,
    certificate: u64,
}

impl Lives {
    const LONG: Self = Self {
        token: 3600,
        lease: 3600,
        lease_max: 86_400,
        certificate: 86_400,
    };

    /// The manifest of this service, whose token, database user and certificate from now on live so long.
    fn given_to(&self, service: &Service) -> Manifest {
        let database = service.database.as_deref().expect("it has a database");
        let seconds = |life: u64| format!("{life}s");
        service.admin.database_role(
            database,
            &service.app,
            json!({"default_ttl": seconds(self.lease), "max_ttl": seconds(self.lease_max)}),
        );
        service.set_token_role(json!({"token_period": seconds(self.token)}));
        service
            .manifest()
            .set("token.min_ttl", "5s")
            .set("certificate.ttl", seconds(self.certificate))
    }
}

/// A container whose application uses, each second, what it finds in the files.
struct Steady {
    service: Service,
    token: Wrapped,
    container: Container,
    _image: Image,
}

impl Steady {
    /// Starts the application for so many seconds.
    fn start(service: Service, manifest: &Manifest, options: &[&str], seconds: u64) -> Self {
        let application = repository().join("tests/keeper/steady.sh");
        let files = [
            ("/application/steady", &*application),
            // Its libraries are there for psql already.
            ("/usr/bin/openssl", Path::new("/usr/bin/openssl")),
        ];
        let image = image_with(&base("java"), manifest, &files, &[ENTRYPOINT]);
        let token = service.mint();
        let options = [&["--tmpfs", "/tmp"], &HARDENED[..], options].concat();
        let port = Postgres::shared().port().to_string();
        let command = ["/application/steady", &port, &seconds.to_string()];
        let container = spawn(image.tag(), &token, &options, &command);
        Self {
            service,
            token,
            container,
            _image: image,
        }
    }

    /// The application's work so far; panics when anything failed, or when it has ended before its time.
    fn uses(&self) -> Uses {
        // Before the look at what it said: it may end in between.
        let is_running = self.container.inspect("{{json .State.Running}}") == true;
        let logs = self.container.logs();
        let mut uses = Uses::default();
        let mut failures = Vec::new();
        for line in logs.stdout.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["works", user, serial] => {
                    uses.count += 1;
                    uses.users.insert(user.to_owned());
                    uses.serials.insert(serial.to_owned());
                }
                ["done"] => uses.are_done = true,
                _ => failures.push(line),
            }
        }
        assert!(
            failures.is_empty(),
            "after {uses:#?}: {failures:#?}\n{}",
            logs.stderr
        );
        assert!(is_running || uses.are_done, "it has ended: {logs:#?}");
        uses
    }

    /// Waits until the application has used what it found so many times, or is done.
    fn wait_for_uses(&self, count: usize) {
        wait_for("the application to work", Duration::from_secs(60), || {
            let uses = self.uses();
            (uses.count >= count || uses.are_done).then_some(())
        });
    }

    /// The events of this name in the log.
    fn events(&self, name: &str) -> Vec<Value> {
        let mut events = self.container.logs().events();
        events.retain(|event| event["event"] == name);
        events
    }

    fn token_exists(&self) -> bool {
        self.service
            .admin
            .accessor_exists(&self.token.wrapped_accessor)
    }

    fn leases(&self) -> Vec<String> {
        self.service.admin.leases(&self.service.database_path())
    }
}

/// Work that the application did without a single failure.
#[derive(Debug, Default)]
struct Uses {
    count: usize,
    users: BTreeSet<String>,
    serials: BTreeSet<String>,
    are_done: bool,
}

impl Uses {
    /// The database users that are still there.
    fn users_left(&self) -> Vec<&String> {
        let exists = |user: &&String| Postgres::shared().role_exists(user);
        self.users.iter().filter(exists).collect()
    }
}

/// How long the steady applications run: `ANTEROOM_TEST_STEADY_SECONDS`, 120 by default.
fn steady_seconds() -> u64 {
    let seconds = std::env::var("ANTEROOM_TEST_STEADY_SECONDS")
        .map_or(120, |text| text.parse().expect("a number of seconds"));
    assert!(
        seconds >= 60,
        "ANTEROOM_TEST_STEADY_SECONDS must be 60 or more: in less nothing is replaced for sure"
    );
    seconds
}

fn wait_until_done(applications: &[Steady], limit: Duration) {
    wait_for("the applications to be done", limit, || {
        std::thread::sleep(Duration::from_secs(1));
        let mut uses = applications.iter().map(Steady::uses);
        uses.all(|uses| uses.are_done).then_some(())
    });
}

// f37
#[test]
fn credentials_of_seconds_never_fail_and_leave_no_old_ones() {
    docker::require!();
    let seconds = steady_seconds();
    let lives = Lives {
        token: 15,
        lease: 10,
        lease_max: 20,
        certificate: 20,
    };
    let proxy = FaultProxy::recording(OpenBao::shared().address());
    let applications = LIFECYCLES.map(|lifecycle| {
        let service = Service::with_database();
        let manifest = lives
            .given_to(&service)
            .set("vault.address", proxy.address())
            .set("process.lifecycle", lifecycle);
        Steady::start(service, &manifest, &TMPFS, seconds)
    });
    wait_until_done(&applications, Duration::from_secs(2 * seconds + 60));
    for (steady, lifecycle) in applications.iter().zip(LIFECYCLES) {
        assert_eq!(steady.container.wait(), 0, "{:#?}", steady.container.logs());
        if lifecycle == "supervise" {
            assert!(!steady.token_exists());
        }
        let uses = steady.uses();
        let seconds = seconds as usize;
        assert!(uses.count >= seconds / 3, "too slow: {uses:?}");
        // No user and no certificate lives longer than 20 s.
        assert!(uses.users.len() >= seconds / 20, "{uses:?}");
        assert!(uses.serials.len() >= seconds / 20, "{uses:?}");

        // A lease is renewed up to its maximum: its user is replaced when five seconds are left, and the server, which
        // counts in whole seconds, may take two away.
        let fetched = proxy.count(&steady.service.database_path());
        assert!(
            fetched <= seconds / 13 + 1,
            "{fetched} database users in {seconds} s"
        );
        // The keeper of the other lifecycle died with its application: then it is their own short life that ends them.
        wait_for("the last users to go", Duration::from_secs(90), || {
            (steady.leases().is_empty() && uses.users_left().is_empty()).then_some(())
        });
    }
    let requests = proxy.requests().len() as u64;
    assert!(
        requests <= 2 * seconds,
        "{requests} requests of two keepers in {seconds} s"
    );
}

/// When this entry of a log was made.
fn time(entry: &Value) -> OffsetDateTime {
    let text = entry["time"].as_str().expect("each entry has its time");
    OffsetDateTime::parse(text, &Rfc3339).expect("RFC 3339")
}

/// The entries of the audit log that this application's keeper has caused.
fn audited(server: &OpenBao, steady: &Steady) -> impl Iterator<Item = Value> {
    let accessor = steady.token.wrapped_accessor.clone();
    let mut entries = server.audit();
    entries.retain(|entry| entry["auth"]["accessor"] == accessor.as_str());
    entries.into_iter()
}

/// How many requests came since then, second by second.
fn load(server: &OpenBao, steady: &Steady, since: OffsetDateTime) -> Vec<usize> {
    let mut seconds = BTreeMap::new();
    for entry in audited(server, steady).filter(|entry| entry["type"] == "request") {
        if time(&entry) >= since {
            let second = time(&entry).unix_timestamp();
            *seconds.entry(second).or_default() += 1;
        }
    }
    seconds.into_values().collect()
}

/// The requests for this path that succeeded.
fn answered(server: &OpenBao, steady: &Steady, path: &str) -> impl Iterator<Item = Value> {
    audited(server, steady).filter(move |entry| {
        entry["type"] == "response" && entry["request"]["path"] == path && entry["error"].is_null()
    })
}

/// The leases that this application's keeper has given back.
fn revoked(server: &OpenBao, steady: &Steady) -> Vec<Value> {
    answered(server, steady, "sys/leases/revoke")
        .map(|entry| entry["request"]["data"]["lease_id"].clone())
        .collect()
}

/// Nothing with a life of 20 s survives 20 s without a server, which has no mercy: what ended while it was away is gone as
/// soon as it is back. When its renewal is due, about a third of a life is left: of 100 s that is enough for the outage,
/// the server's own start and the wait for the next try.
// f35
#[test]
fn application_survives_an_outage_of_vault_without_a_storm() {
    docker::require!();
    const AWAY: Duration = Duration::from_secs(20);
    let lives = Lives {
        token: 100,
        lease: 100,
        lease_max: 120,
        certificate: 100,
    };
    let server = OpenBao::start(Options {
        storage: Storage::Raft,
        ..Options::default()
    });
    // One keeper speaks to the server itself; the other's attempts are counted, also while there is no server.
    let is_away = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_away);
    let proxy = FaultProxy::start(server.address(), move |_| {
        if seen.load(Ordering::Relaxed) {
            Fault::CutBefore(Cut::Reset)
        } else {
            Fault::Pass
        }
    });
    let addresses = [server.address().to_owned(), proxy.address()];
    let applications = [0, 1].map(|index| {
        let service = Service::build(&server, Some(Postgres::shared()));
        let manifest = lives
            .given_to(&service)
            .set("vault.address", addresses[index].as_str())
            .set("process.lifecycle", LIFECYCLES[index])
            .set("secrets.revoke_after", "5s");
        Steady::start(service, &manifest, &TMPFS, 600)
    });
    for steady in &applications {
        steady.wait_for_uses(1);
    }
    let start_load = proxy.requests().len();

    // All of it is due while the server is away: 60 to 72 s after it was fetched.
    let ready = applications
        .each_ref()
        .map(|steady| time(&steady.events("ready")[0]));
    let stop = ready[0].max(ready[1]) + Duration::from_secs(52);
    wait_for("the time to stop", Duration::from_secs(120), || {
        (OffsetDateTime::now_utc() >= stop).then_some(())
    });
    is_away.store(true, Ordering::Relaxed);
    server.stop();
    let before = proxy.requests().len();
    std::thread::sleep(AWAY);
    let attempts = proxy.requests().len() - before;
    is_away.store(false, Ordering::Relaxed);
    let back = OffsetDateTime::now_utc();
    server.start_again();

    // What took the place of a user that was revoked goes on working.
    for steady in &applications {
        wait_for("a revoked lease", Duration::from_secs(120), || {
            steady.uses();
            revoked(&server, steady).first().map(drop)
        });
    }
    for steady in &applications {
        steady.wait_for_uses(steady.uses().count + 10);
    }
    assert!(
        (1..=20).contains(&attempts),
        "{attempts} attempts while the server was away"
    );
    for steady in &applications {
        let uses = steady.uses();
        assert!(uses.users.len() >= 2 && uses.serials.len() >= 2, "{uses:?}");
        let log = steady.container.logs();
        for event in ["vault_away", "vault_back"] {
            assert_eq!(steady.events(event).len(), 1, "{event}: {log:#?}");
        }
        let load = load(&server, steady, back);
        assert!(!load.is_empty(), "nothing was renewed afterwards");
        assert!(
            load.iter().all(|count| *count <= start_load),
            "{load:?} requests a second, {start_load} in a start"
        );
        // The one that was replaced, never the one that took its place.
        let fetched: Vec<Value> = answered(&server, steady, &steady.service.database_path())
            .map(|entry| entry["response"]["secret"]["lease_id"].clone())
            .collect();
        let revoked = revoked(&server, steady);
        assert!(
            !revoked.is_empty() && revoked.len() < fetched.len() && fetched.starts_with(&revoked),
            "{fetched:#?} were fetched, {revoked:#?} revoked"
        );
    }
}

/// When the application said that it leaves, as the engine has it.
fn left_at(container: &Container) -> OffsetDateTime {
    let logs = docker(["logs", "--timestamps", container.name()]).stdout;
    let line = logs.lines().find_map(|line| line.strip_suffix(" leaving"));
    let time = line.unwrap_or_else(|| panic!("it never said that it leaves: {logs}"));
    OffsetDateTime::parse(time, &Rfc3339).expect("RFC 3339")
}

// f40
#[test]
fn docker_stop_gives_the_applications_code_and_takes_all_back() {
    docker::require!();
    let service = Service::with_database();
    let manifest = Lives::LONG
        .given_to(&service)
        .set("process.lifecycle", "supervise");
    // The host's own tmpfs, to see what is left when the container is gone.
    let directory = tmpfs_dir();
    std::os::unix::fs::chown(directory.path(), Some(1000), Some(1000))
        .expect("root can give directories away");
    let volume = format!("{}:/run/secrets", directory.path().display());
    let steady = Steady::start(service, &manifest, &["--volume", &volume], 600);
    steady.wait_for_uses(2);
    let user = files_in(directory.path())["db/username"].text().to_owned();
    assert!(steady.token_exists());
    assert!(Postgres::shared().role_exists(&user));

    // After these seconds Docker kills, and the code is 137.
    steady.container.stop(Duration::from_secs(10));
    let logs = steady.container.logs();
    assert_eq!(steady.container.wait(), LEFT, "{logs:#?}");
    assert!(!steady.token_exists(), "{logs:#?}");
    assert_eq!(steady.leases(), Vec::<String>::new(), "{logs:#?}");
    assert!(!Postgres::shared().role_exists(&user), "{logs:#?}");
    let left = entries_in(directory.path());
    assert!(left.is_empty(), "{left:#?}");
    // All that was done before the container ended.
    let ended = steady.container.inspect("{{json .State.FinishedAt}}");
    let ended = OffsetDateTime::parse(ended.as_str().expect("a time"), &Rfc3339);
    let took = ended.expect("RFC 3339") - left_at(&steady.container);
    assert!(took < Duration::from_secs(3), "it took {took}: {logs:#?}");
}

/// Break-glass: what an operator does who knows the accessor.
fn revoke(service: &Service, token: &Wrapped) {
    service.admin.ok(
        "POST",
        "auth/token/revoke-accessor",
        json!({"accessor": token.wrapped_accessor}),
    );
}

/// The one event that says that the token was revoked.
#[track_caller]
fn assert_noticed(container: &Container, token: &Wrapped) {
    let logs = container.logs();
    let mut events = logs.events();
    events.retain(|event| event["event"] == "token_revoked");
    assert_eq!(events.len(), 1, "{logs:#?}");
    let accessor = token.wrapped_accessor.as_str();
    assert_eq!(events[0]["accessor"], accessor, "{logs:#?}");
}

/// Starts the program that waits.
fn spawn_hardened(image: &Image, token: &Wrapped) -> Container {
    let options = [&TMPFS[..], &HARDENED].concat();
    spawn(image.tag(), token, &options, &["/application/sleep", "600"])
}

/// An image with nothing but anteroom and a program that waits; the engine asks after its health each second.
fn watched(manifest: &Manifest) -> Image {
    let files = [("/application/sleep", Path::new("/bin/busybox"))];
    let health = r#"HEALTHCHECK --interval=1s --retries=1 CMD ["/anteroom", "health"]"#;
    image_with("scratch", manifest, &files, &[ENTRYPOINT, health])
}

#[test]
fn healthcheck_needs_no_manifest_that_a_flag_has_named() {
    docker::require!();
    let service = Service::new();
    let scratch = TempDir::new();
    let manifest = scratch.write("anteroom.toml", service.manifest().to_string());
    let image = Image::build(
        "flagged",
        &[
            ("/anteroom", binary(), 0o755),
            ("/elsewhere.toml", &manifest, 0o644),
            ("/application/sleep", Path::new("/bin/busybox"), 0o755),
        ],
        &[r#"ENTRYPOINT ["/anteroom", "--manifest", "/elsewhere.toml", "--"]"#],
    );
    let container = spawn_hardened(&image, &service.mint());
    wait_for("the start", Duration::from_secs(60), || {
        container.logs().stderr.contains("\"ready\"").then_some(())
    });
    let health = container.exec(&["/anteroom", "health"]);
    assert_eq!(health.code, 0, "{health:#?}");
    // Where nothing is published the manifest is what is missing.
    let nothing = container.exec(&["/anteroom", "health", "--secrets-dir", "/application"]);
    assert_eq!(nothing.code, 1, "{nothing:#?}");
}

// f36
#[test]
fn healthcheck_in_a_scratch_image_fails_once_token_is_revoked() {
    docker::require!();
    for lifecycle in LIFECYCLES {
        let service = Service::new();
        let manifest = service
            .manifest()
            .set(
                "process",
                json!({"lifecycle": lifecycle, "on_expiry": "ignore"}),
            )
            .set("token.revocation_check", "1s");
        let image = watched(&manifest);
        let token = service.mint();
        let container = spawn_hardened(&image, &token);
        let state = || container.inspect("{{json .State}}");
        wait_for("the first check", Duration::from_secs(60), || {
            (container.health() != "starting").then_some(())
        });
        assert_eq!(container.health(), "healthy", "{lifecycle}: {}", state());

        revoke(&service, &token);
        wait_for("the end of health", Duration::from_secs(60), || {
            (container.health() != "healthy").then_some(())
        });
        let health = container.exec(&["/anteroom", "health"]);
        assert_eq!(health.code, 1, "{lifecycle}: {health:#?}");
        let said = health.stdout + &health.stderr;
        assert_eq!(said.lines().count(), 1, "{lifecycle}: {said}");
        assert!(
            said.contains("the client token was revoked"),
            "{lifecycle}: {said}"
        );
        assert_eq!(container.health(), "unhealthy", "{lifecycle}");
        assert_eq!(state()["Running"], true, "{lifecycle}: {}", state());
        assert_noticed(&container, &token);
    }
}

//! A secrets directory in which applications are started, and a service whose application runs beside its keeper: what
//! the keeper asks for, says, publishes and gives back.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::anteroom::{Entry, entries_in, files_in};
use super::{
    Anteroom, FaultProxy, Manifest, Postgres, Run, Running, Seen, Service, TempDir, Wrapped,
    open_tmpfs_dir, wait_for,
};

/// Generous: nothing here takes so long.
pub const LONG: Duration = Duration::from_secs(60);
/// An application that stays until it is ended.
pub const STAY: &str = "echo up; exec sleep 3600";

/// A secrets directory of a service, in which one application after the other is started.
pub struct Place {
    pub service: Service,
    pub manifest: Manifest,
    pub directory: TempDir,
    /// So long an application may live.
    pub limit: Duration,
}

impl Place {
    pub fn new(service: &Service, manifest: Manifest) -> Self {
        Self {
            service: service.clone(),
            manifest,
            directory: open_tmpfs_dir(),
            limit: 2 * LONG,
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A call with this manifest and this directory.
    pub fn call(&self) -> Anteroom {
        Anteroom::new()
            .manifest(self.manifest.clone())
            .secrets_dir(self.path())
            .limit(self.limit)
    }

    /// The same with a new token.
    pub fn call_with_token(&self) -> Anteroom {
        self.call().token(self.service.mint())
    }

    /// Starts an application that stays; whatever was left here is gone then.
    pub fn start(&self) -> Running {
        start(self.call_with_token(), STAY)
    }

    /// The name of the generation that readers see.
    pub fn generation(&self) -> String {
        generation(self.path())
    }

    /// The files of the generation that readers see.
    pub fn files(&self) -> BTreeMap<String, Entry> {
        files_in(&self.directory.join(self.generation()))
    }

    /// One of them.
    #[track_caller]
    pub fn file(&self, name: &str) -> String {
        let files = self.files();
        let file = files.get(name);
        let file = file.unwrap_or_else(|| panic!("no {name} among {:?}", files.keys()));
        file.text().to_owned()
    }

    /// The name of the database user.
    pub fn user(&self) -> String {
        self.file("db/username")
    }

    /// The content of `status.json`.
    pub fn status(&self) -> Value {
        let text = fs::read(self.directory.join("status.json")).expect("it is published");
        serde_json::from_slice(&text).expect("it is JSON")
    }

    /// The lease of this dependency, as `status.json` has it.
    pub fn lease(&self, dependency: &str) -> String {
        let status = self.status();
        let all = status["dependencies"].as_array().expect("a list");
        let found = all.iter().find(|found| found["name"] == dependency);
        let found = found.unwrap_or_else(|| panic!("no {dependency}: {status}"));
        found["lease_id"].as_str().expect("it has one").to_owned()
    }

    /// The leases of the database role that the server knows.
    pub fn leases(&self) -> Vec<String> {
        let path = self.service.database_path();
        let leases = self.service.admin.leases(&path);
        leases.iter().map(|id| format!("{path}/{id}")).collect()
    }

    /// A run of `anteroom health` in the same container.
    pub fn health(&self) -> Run {
        self.call().arg("health").run()
    }

    /// Fails unless `anteroom health` says 1 and one line with all these.
    #[track_caller]
    pub fn assert_stale(&self, words: &[&str]) {
        let health = self.health();
        assert_eq!(health.code, Some(1), "{health:?}");
        assert_eq!(health.stdout.lines().count(), 1, "{health:?}");
        for word in words {
            assert!(health.stdout.contains(word), "{word}\n{health:?}");
        }
    }
}

/// Starts an application that says when it is up, and waits for that.
pub fn start(call: Anteroom, application: &str) -> Running {
    let mut run = call.shell(application).spawn();
    run.wait_for_stdout("up\n");
    run
}

/// A place where an application lives until it is ended, through a proxy. What is listed first is dropped first: a keeper
/// gives back what it has while everything else is still there.
pub struct Scene {
    pub run: Running,
    pub proxy: FaultProxy,
    pub token: Wrapped,
    pub place: Place,
}

impl Deref for Scene {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Scene {
    /// Starts the application of a service whose keeper speaks to Vault itself, through a proxy that records.
    pub fn start(
        service: Service,
        application: &str,
        change: impl FnOnce(Manifest) -> Manifest,
    ) -> Self {
        let proxy = FaultProxy::recording(service.admin.address());
        Self::through(service, proxy, application, change)
    }

    /// The same through this proxy.
    pub fn through(
        service: Service,
        proxy: FaultProxy,
        application: &str,
        change: impl FnOnce(Manifest) -> Manifest,
    ) -> Self {
        let manifest = service.manifest_for(&proxy.address());
        let manifest = change(manifest.set("token.min_ttl", "1s"));
        let place = Place::new(&service, manifest);
        let token = service.mint();
        let call = place
            .call()
            .token(&token)
            .env("DIR", place.path())
            .args(["--log-level", "debug"]);
        Self {
            run: start(call, application),
            proxy,
            token,
            place,
        }
    }

    /// The events of this name so far.
    pub fn events(&self, name: &str) -> Vec<Value> {
        self.run.named(name)
    }

    /// Waits until there are so many events of this name.
    #[track_caller]
    pub fn wait_for_events(&mut self, name: &str, count: usize) {
        self.run.wait_for_events(name, count);
    }

    /// Waits until a generation is published in which this is new.
    #[track_caller]
    pub fn wait_for_change(&mut self, name: &str) {
        let changed = |event: &Value| {
            let names = event["changed"].as_str().unwrap_or_default();
            names.split(' ').any(|changed| changed == name)
        };
        let what = format!("a generation with another {name}");
        self.run
            .wait_until(&what, |run| run.named("rotated").iter().any(changed));
    }

    /// How many warnings of this name there were.
    pub fn warnings(&self, name: &str) -> usize {
        let events = self.events(name);
        events
            .iter()
            .filter(|event| event["level"] == "warn")
            .count()
    }

    /// Waits until there were so many requests for this path below `/v1/`.
    #[track_caller]
    pub fn wait_for_requests(&mut self, path: &str, count: usize) {
        let (what, proxy) = (format!("request {count} for {path}"), &self.proxy);
        self.run.wait_until(&what, |_| proxy.count(path) >= count);
    }

    /// The requests for this path so far.
    pub fn requests(&self, path: &str) -> Vec<Seen> {
        let mut requests = self.proxy.requests();
        requests.retain(|seen| seen.is(path));
        requests
    }

    /// How often a database user was asked for.
    pub fn users_made(&self) -> usize {
        self.proxy.count(&self.service.database_path())
    }

    /// The same, where there may be no database.
    pub fn users_if_any(&self) -> usize {
        self.service
            .database
            .as_ref()
            .map_or(0, |_| self.users_made())
    }

    /// Whether the client token lives.
    pub fn token_exists(&self) -> bool {
        let accessor = &self.token.wrapped_accessor;
        self.service.admin.accessor_exists(accessor)
    }

    /// Fails unless all is well: the application runs, and `anteroom health` says nothing.
    #[track_caller]
    pub fn assert_well(&mut self) {
        assert!(self.run.is_running(), "{}", self.run.stderr());
        let health = self.health();
        assert_eq!((health.code, &*health.stdout), (Some(0), ""), "{health:?}");
    }

    /// Ends the application, and waits for its keeper's end too.
    pub fn end(self, signal: Signal) -> Ended {
        self.run.kill(signal);
        Ended {
            run: self.run.wait(),
            proxy: self.proxy,
            token: self.token,
            place: self.place,
        }
    }
}

/// A scene whose application and keeper have ended.
pub struct Ended {
    pub run: Run,
    pub proxy: FaultProxy,
    pub token: Wrapped,
    pub place: Place,
}

impl Ended {
    /// Fails unless nothing is left anywhere; the server takes leases back after it has answered.
    #[track_caller]
    pub fn assert_given_back(&self, users: &[String]) {
        let Self { run, place, .. } = self;
        let service = &place.service;
        run.assert_no_files();
        assert!(entries_in(place.path()).is_empty(), "{run:?}");
        let accessor = &self.token.wrapped_accessor;
        assert!(!service.admin.accessor_exists(accessor), "{run:?}");
        assert_eq!(run.named("revoked").len(), 1, "{run:?}");
        wait_for("all processes to be gone", LONG, || {
            run.survivors().is_empty().then_some(())
        });
        if service.database.is_some() {
            wait_for_no_lease(service);
        }
        for user in users {
            assert!(!Postgres::shared().role_exists(user), "{user}\n{run:?}");
        }
    }
}

/// Waits until no lease of the service's database role is left.
#[track_caller]
pub fn wait_for_no_lease(service: &Service) {
    let path = service.database_path();
    wait_for("all leases to be gone", LONG, || {
        service.admin.leases(&path).is_empty().then_some(())
    });
}

/// The name of the generation that readers of this directory see.
pub fn generation(directory: &Path) -> String {
    let link = fs::read_link(directory.join("..data")).expect("something is published");
    link.to_str().expect("our own name").to_owned()
}

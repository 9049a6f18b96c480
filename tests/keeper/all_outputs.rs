//! A service with every kind of output: two certificates of different mounts, presets, a static role, a secret that is read
//! again, a bundle of CAs and a file of its own. Its application uses all of them, each second.
#![expect(
    clippy::disallowed_methods,
    reason = "a variable says how long the application runs"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::ends::{allow, static_role};
use crate::files::certificates::WithKafka;
use crate::support::scene::{LONG, Place};
use crate::support::tls::{Authority, Validity};
use crate::support::{Anteroom, Postgres, Running, Service, TempDir, repository};

/// The template of the application's configuration, a file of the image.
const APP_JSON: &str = r#"{
  "user": {{ orders_db.username | tojson }},
  "hosts": {{ settings.hosts | tojson }},
  "limit": {{ settings.limit }},
  "serial": {{ certificate.serial_number | tojson }}
}
"#;

/// The service, in a place for its application.
struct Whole {
    service: Service,
    place: Place,
    /// The template, and what belongs to the stranger: a server below the CA that `[trust]` adds.
    image: TempDir,
}

impl Whole {
    fn new() -> Self {
        let service = Service::with_database();
        service.set_token_role(json!({"token_period": "15s"}));
        let database = service.database.as_deref().expect("it has one");
        let lives = json!({"default_ttl": "10s", "max_ttl": "20s"});
        service.admin.database_role(database, &service.app, lives);
        let reports = static_role(&service, 8);
        let kafka = WithKafka::new(service.clone());
        let sign = format!("{}/sign/client", kafka.pki.mount);
        allow(&service, &[(&reports, "read"), (&sign, "update")]);

        let image = TempDir::new();
        let stranger = Authority::new("stranger");
        image.write("stranger-ca.pem", stranger.pem());
        let identity = stranger.issue(&["stranger.example.io"], Validity::CURRENT);
        image.write("stranger.pem", identity.key_pem + &identity.cert_pem);
        let template = image.write("app.json.j2", APP_JSON);

        let postgres = |path: String| json!({"path": path, "as": "postgresql", "host": "127.0.0.1", "port": Postgres::shared().port(), "dbname": "postgres"});
        let manifest = service
            .manifest()
            .remove("dependencies")
            .set("token.min_ttl", "5s")
            .set("certificate.ttl", "20s")
            .set("certificate.dns_names", json!(["localhost"]))
            .set("certificates.kafka", kafka.table("20s"))
            .set_at(
                &["dependencies", "orders-db"],
                postgres(service.database_path()),
            )
            .set_at(&["dependencies", "reports-db"], postgres(reports))
            .set(
                "dependencies.settings",
                json!({
                    "path": service.payment_path(),
                    "fields": ["limit", "hosts"],
                    "refresh": "1s",
                    "sample": {"limit": 1, "hosts": ["a"]},
                }),
            )
            .set("trust.files", json!([image.join("*-ca.pem")]))
            .set_at(
                &["files", "app.json"],
                json!({"template_file": template, "mode": "0440"}),
            );
        let whole = Self {
            place: Place::new(&service, manifest),
            service,
            image,
        };
        whole.set_limit(0);
        whole
    }

    fn set_limit(&self, limit: usize) {
        let data = json!({"data": {"limit": limit, "hosts": ["a", "b"]}});
        let path = self.service.payment_path();
        self.service.admin.kv_put(&path, data);
    }

    /// A call whose command is the application with these arguments behind the directory.
    fn application(&self, arguments: &[&str]) -> Anteroom {
        let script = repository().join("tests/keeper/all_outputs.py");
        let words = ["python3", script.to_str().expect("a path is text")];
        let directory = self.place.path().to_str().expect("a path is text");
        self.place
            .call()
            .env("ANTEROOM", env!("CARGO_BIN_EXE_anteroom"))
            .command([&words[..], &[directory], arguments].concat())
    }
}

/// How long the applications run: `ANTEROOM_TEST_STEADY_SECONDS`, 45 by default.
fn seconds() -> u64 {
    std::env::var("ANTEROOM_TEST_STEADY_SECONDS")
        .map_or(45, |text| text.parse().expect("a number of seconds"))
}

/// The lines of an application's work; panics at the first failure.
#[track_caller]
fn works(run: &Running) -> Vec<Value> {
    let output = run.stdout();
    let lines = output.lines().filter(|line| *line != "done");
    let work = lines.map(|line| {
        serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}\n{}", run.stderr()))
    });
    work.collect()
}

#[test]
fn application_that_uses_every_output_never_fails() {
    let mut all = ["exec", "supervise"].map(|lifecycle| {
        let mut whole = Whole::new();
        let manifest = whole.place.manifest.clone();
        whole.place.manifest = manifest.set("process.lifecycle", lifecycle);
        whole.place.limit = Duration::from_secs(2 * seconds()) + LONG;
        let stranger = whole.image.join("stranger.pem");
        let stranger = stranger.to_str().expect("a path is text");
        let call = whole.application(&[stranger, &seconds().to_string()]);
        let run = call.token(whole.service.mint()).spawn();
        (whole, run)
    });
    // Another value after each three uses, for as long as there are any.
    for limit in 1.. {
        let mut done = 0;
        for (whole, run) in &mut all {
            run.wait_until("the application to work", |run| {
                works(run).len() >= 3 * limit || run.stdout().ends_with("done\n")
            });
            done += usize::from(run.stdout().ends_with("done\n"));
            whole.set_limit(limit);
        }
        if done == all.len() {
            break;
        }
    }
    for (_, run) in all {
        let works = works(&run);
        let seen = |name: &str| {
            let values = works.iter().map(|work| work[name].to_string());
            values.collect::<BTreeSet<_>>().len()
        };
        let most = [
            ("server", 2),
            ("kafka", 2),
            ("user", 2),
            ("password", 3),
            ("limit", 4),
            ("made_limit", 4),
        ];
        for (name, least) in most {
            let found = seen(name);
            assert!(found >= least, "{found} of {name}: {works:#?}");
        }
        run.wait().assert_code(0);
    }
}

#[test]
fn dry_run_gives_the_files_that_a_start_gives() {
    let whole = Whole::new();
    let read = |call: Anteroom| {
        let run = call.keep_files().run();
        run.assert_code(0);
        assert_eq!(run.stdout, "parsed\n", "{run:?}");
        let files = run.files().into_iter();
        files
            .map(|(name, file)| (name, file.mode))
            .collect::<BTreeMap<_, _>>()
    };
    let started = read(whole.application(&[]).token(whole.service.mint()));
    let dry = read(whole.application(&[]).arg("--dry-run"));
    assert_eq!(dry, started);
    assert_eq!(dry.get("app.json"), Some(&0o440));
    assert_eq!(dry.get("ca-bundle.crt"), Some(&0o444));
}

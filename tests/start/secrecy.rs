//! No secret in any output, environment or command line, and no line that an attacker wrote.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::anteroom::{files_in, group_members};
use crate::support::{
    Anteroom, Cut, Entry, Fault, FaultProxy, Manifest, Reply, Run, Seen, Service, TempDir, lock,
};

const NESTED: &str = "canary-nested-2718";
const LEVELS: [&str; 4] = ["error", "warn", "info", "debug"];
const FORMATS: [&str; 2] = ["human", "json"];

/// The secrets of a service that has one in each place that can hold one.
struct Canaries {
    service: Service,
    /// Secrets that were seen on the wire: tokens, passwords, leases.
    wire: Arc<Mutex<Vec<String>>>,
}

impl Canaries {
    fn new() -> Self {
        let service = Service::with_database();
        let deep = json!({"user": "u", "inner": {"list": [1, {"password": NESTED}]}});
        service.admin.kv_put(
            &format!("{}/legacy", service.kv1),
            json!({
                "username": "legacy",
                "password": Service::LEGACY_PASSWORD,
                "deep": deep,
            }),
        );
        Self {
            service,
            wire: Arc::default(),
        }
    }

    fn mint(&self) -> String {
        let token = self.service.mint().token;
        lock(&self.wire).push(token.clone());
        token
    }

    /// Notes every secret that passes, and does what `fault` says.
    fn proxy(&self, mut fault: impl FnMut(&Seen) -> Option<Fault> + Send + 'static) -> FaultProxy {
        let wire = Arc::clone(&self.wire);
        FaultProxy::start(self.service.admin.address(), move |seen| {
            if let Some(token) = seen.header("x-vault-token") {
                lock(&wire).push(token.to_owned());
            }
            if let Some(fault) = fault(seen) {
                return fault;
            }
            let wire = Arc::clone(&wire);
            Fault::Alter(Box::new(move |reply| {
                let answer: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
                for pointer in ["/auth/client_token", "/data/password"] {
                    if let Some(secret) = answer.pointer(pointer).and_then(Value::as_str) {
                        lock(&wire).push(secret.to_owned());
                    }
                }
            }))
        })
    }

    fn manifest(&self, address: &str) -> Manifest {
        self.service
            .manifest_for(address)
            .set("java", json!({}))
            .set(
                "dependencies.legacy.files",
                json!({"dsn": "postgres://{{ username }}:{{ password }}@db/"}),
            )
    }

    /// Every secret that is known by now.
    fn all(&self) -> Vec<String> {
        let mut canaries = lock(&self.wire).clone();
        canaries.extend(Service::CANARIES.iter().map(|canary| (*canary).to_owned()));
        canaries.push(NESTED.to_owned());
        canaries.push("PRIVATE KEY".to_owned());
        canaries.retain(|canary| canary.len() > 5);
        canaries
    }
}

/// Every line of every file that only its owner may read.
fn private_lines<'a>(files: impl IntoIterator<Item = &'a Entry>) -> Vec<String> {
    files
        .into_iter()
        .filter(|entry| entry.mode == 0o400)
        .filter_map(|entry| std::str::from_utf8(&entry.bytes).ok())
        // Behind the key of `tls.pem` stands the chain, which is no secret.
        .filter_map(|text| text.split("-----BEGIN CERTIFICATE-----").next())
        .flat_map(str::lines)
        // Shorter ones, such as a user name, could be anywhere by chance.
        .filter(|line| line.len() >= 12 && !line.starts_with("https://"))
        .map(str::to_owned)
        .collect()
}

// t15
#[test]
fn start_shows_no_secret_at_any_level_in_any_format() {
    let canaries = Canaries::new();
    for format in FORMATS {
        for level in LEVELS {
            let proxy = canaries.proxy(|_| None);
            let run = Anteroom::new()
                .manifest(canaries.manifest(&proxy.address()))
                .token(canaries.mint())
                .args(["--log", format, "--log-level", level])
                .shell("echo started")
                .keep_files()
                .run();
            run.assert_code(0);
            assert_eq!(run.stdout, "started\n");
            let files = run.files();
            let lines = private_lines(files.values());
            assert!(
                lines.len() > 8,
                "too few to prove anything: {}",
                lines.len()
            );
            run.assert_no(&lines).assert_no(canaries.all());
            let public = files.values().filter(|entry| entry.mode != 0o400);
            for entry in public {
                let text = String::from_utf8_lossy(&entry.bytes);
                for secret in canaries.all().iter().chain(&lines) {
                    assert!(!text.contains(secret), "a public file holds {secret}");
                }
            }
        }
    }
}

type Setup = Box<dyn Fn(&Canaries) -> (Anteroom, Option<FaultProxy>)>;

fn through(
    fault: impl Fn(&Service, &Seen) -> Option<Fault> + Send + Clone + 'static,
    change: impl Fn(Manifest) -> Manifest + 'static,
) -> Setup {
    Box::new(move |canaries| {
        let fault = fault.clone();
        let service = canaries.service.clone();
        let proxy = canaries.proxy(move |seen| fault(&service, seen));
        let manifest = change(canaries.manifest(&proxy.address()));
        let run = Anteroom::new()
            .manifest(manifest)
            .token(canaries.mint())
            .shell("echo started");
        (run, Some(proxy))
    })
}

/// One way into each class of failure, most of them after every secret was there.
fn failures() -> Vec<(&'static str, i32, Setup)> {
    let nothing = |_: &Service, _: &Seen| None;
    let same = |manifest: Manifest| manifest;
    let with_command = |command: &'static str| -> Setup {
        Box::new(move |canaries| {
            let run = Anteroom::new()
                .manifest(canaries.manifest(canaries.service.admin.address()))
                .token(canaries.mint())
                .command([command]);
            (run, None)
        })
    };
    vec![
        (
            "two sources",
            64,
            Box::new(|canaries: &Canaries| {
                let run = Anteroom::new()
                    .manifest(canaries.manifest(canaries.service.admin.address()))
                    .token(canaries.mint())
                    .stdin(Service::API_KEY)
                    .args(["--token-file", "-"])
                    .shell("echo started");
                (run, None)
            }),
        ),
        (
            "a malformed token",
            65,
            Box::new(|canaries: &Canaries| {
                let run = Anteroom::new()
                    .manifest(canaries.manifest(canaries.service.admin.address()))
                    .token(format!("hvs.{} {NESTED}", Service::API_KEY))
                    .shell("echo started");
                (run, None)
            }),
        ),
        (
            "a database that fails",
            69,
            through(
                |service, seen| {
                    seen.is(&service.database_path())
                        .then(|| Fault::AnswerAfter(Reply::json(502, &json!({"errors": ["down"]}))))
                },
                same,
            ),
        ),
        (
            "a directory that is no tmpfs",
            73,
            Box::new(|canaries: &Canaries| {
                let run = Anteroom::new()
                    .manifest(canaries.manifest(canaries.service.admin.address()))
                    .token(canaries.mint())
                    .secrets_dir("/proc")
                    .shell("echo started");
                (run, None)
            }),
        ),
        (
            "a secret in an answer of another form",
            76,
            through(
                |service, seen| {
                    seen.is(&service.payment_path()).then(|| {
                        Fault::Answer(Reply::json(
                            200,
                            &json!({"data": Service::API_KEY, "lease_id": [NESTED]}),
                        ))
                    })
                },
                same,
            ),
        ),
        (
            "an unwrap of another form",
            81,
            through(
                |_, seen| {
                    seen.is("sys/wrapping/unwrap").then(|| {
                        Fault::Answer(Reply::vault(&json!({"data": {"a": Service::API_KEY}})))
                    })
                },
                same,
            ),
        ),
        (
            "a denied path",
            77,
            through(nothing, |manifest| {
                manifest.set("dependencies.denied", json!({"path": "denied/x"}))
            }),
        ),
        (
            "a missing field",
            78,
            through(nothing, |manifest| {
                manifest.set("dependencies.legacy.fields", json!(["deeper"]))
            }),
        ),
        (
            "a template that takes a secret apart",
            78,
            through(nothing, |manifest| {
                manifest.set(
                    "environment",
                    json!({"X": "{{ legacy.password[0:3] + 1 }}"}),
                )
            }),
        ),
        (
            "a template that adds to a secret",
            78,
            through(nothing, |manifest| {
                manifest.set("environment", json!({"X": "{{ legacy.deep + 1 }}"}))
            }),
        ),
        (
            "another creation path",
            81,
            through(nothing, |manifest| {
                manifest.set("token.creation_path", "auth/token/create/other")
            }),
        ),
        (
            "other policies",
            81,
            through(nothing, |manifest| {
                manifest.set("token.policies", json!(["other"]))
            }),
        ),
        (
            "a lost answer to the unwrap",
            82,
            through(
                |_, seen| {
                    seen.is("sys/wrapping/unwrap")
                        .then_some(Fault::CutAfter(Cut::Reset))
                },
                same,
            ),
        ),
        (
            "a used token",
            80,
            Box::new(|canaries: &Canaries| {
                let token = canaries.mint();
                let client = canaries.service.admin.client_token(&token);
                lock(&canaries.wire).push(client);
                let run = Anteroom::new()
                    .manifest(canaries.manifest(canaries.service.admin.address()))
                    .token(token)
                    .shell("echo started");
                (run, None)
            }),
        ),
        ("a directory as command", 126, with_command("/etc")),
        (
            "no command of that name",
            127,
            with_command("no-such-command"),
        ),
    ]
}

// t15
#[test]
fn no_failure_shows_a_secret_at_the_lowest_level_in_any_format() {
    let canaries = Canaries::new();
    for (name, code, setup) in failures() {
        for format in FORMATS {
            let (anteroom, _proxy) = setup(&canaries);
            let run = anteroom
                .args(["--log", format, "--log-level", "debug"])
                .run();
            assert!(run.code == Some(code), "{name}: {code}\n{run:?}");
            assert_eq!(run.stdout, "", "{name}");
            run.assert_no(canaries.all());
        }
    }
}

// t15
#[test]
fn run_without_vault_shows_no_token_and_no_sample() {
    let service = Service::new();
    let manifest = service
        .manifest()
        .set("java", json!({}))
        .set("dependencies.legacy.sample", json!({"password": NESTED}));
    for arguments in [
        &["check"][..],
        &["--dry-run"],
        &["--help"],
        &["--version"],
        &["check", "--help"],
        &["--no-such-flag"],
    ] {
        for format in FORMATS {
            let run = Anteroom::new()
                .manifest(manifest.clone())
                .without_secrets_dir()
                .token(Service::API_KEY)
                .env("VAULT_TOKEN", Service::LEGACY_PASSWORD)
                .args(arguments)
                .args(["--log", format])
                .run();
            run.assert_no(Service::CANARIES).assert_no([NESTED]);
        }
    }
    let run = Anteroom::new()
        .manifest(manifest)
        .token(Service::API_KEY)
        .arg("--dry-run")
        .args(["--log-level", "debug"])
        .shell("cat \"$ANTEROOM_SECRETS_DIR/x\" 2>/dev/null; env")
        .run();
    run.assert_code(0);
    run.assert_no(Service::CANARIES)
        .assert_no([NESTED])
        .assert_no(private_lines(run.files().values()));
}

/// Environment and command line of a process.
fn visible(pid: i32) -> String {
    ["environ", "cmdline"]
        .map(|name| {
            let bytes = fs::read(Path::new("/proc").join(pid.to_string()).join(name));
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        })
        .concat()
}

#[track_caller]
fn assert_hidden(pids: &[i32], secrets: &[String]) {
    for pid in pids {
        let seen = visible(*pid);
        assert!(!seen.is_empty(), "{pid} is gone");
        for secret in secrets {
            assert!(
                !seen.contains(secret),
                "process {pid} shows {secret}: {seen:?}"
            );
        }
    }
}

// t6
#[test]
fn no_process_shows_a_secret_during_and_after_the_start() {
    let canaries = Canaries::new();
    let sign = format!(
        "{}/sign/{}",
        canaries.service.pki.mount, canaries.service.app
    );
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let proxy = canaries.proxy(move |seen| {
        if seen.is(&sign) {
            // Holds the start here until the test has looked.
            let _ = lock(&gate).recv();
        }
        None
    });
    let token = canaries.mint();
    let mut running = Anteroom::new()
        .manifest(canaries.manifest(&proxy.address()))
        .token(&token)
        .shell("echo started; exec sleep 600")
        .spawn();
    running.wait_until("the request for a signature", |_| {
        proxy
            .requests()
            .iter()
            .any(|seen| seen.path.contains("/sign/"))
    });
    let mut pids = running.children();
    assert_eq!(pids.len(), 1, "the keeper");
    pids.push(running.pid());
    let secrets = canaries.all();
    assert!(secrets.contains(&token));
    assert_hidden(&pids, &secrets);
    let events = running.stderr();
    assert!(secrets.iter().all(|secret| !events.contains(secret)));

    go.send(()).expect("the proxy waits");
    running.wait_for_stdout("started");
    let mut secrets = canaries.all();
    secrets.extend(private_lines(files_in(running.secrets_dir()).values()));
    let mut pids = group_members(running.pid());
    assert!(pids.contains(&running.pid()), "the application");
    pids.push(running.keeper());
    assert_hidden(&pids, &secrets);
    running.kill(Signal::SIGKILL);
}

/// Fails on any character that could forge a line or drive a terminal.
#[track_caller]
fn assert_tame(name: &str, run: &Run, format: &str) {
    for output in [&run.stdout, &run.stderr] {
        let wild = output.chars().find(|&c| {
            (c.is_control() && c != '\n')
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
        });
        assert!(wild.is_none(), "{name}: {wild:?} came out raw\n{run:?}");
        assert!(
            !output.lines().any(|line| line.starts_with("FORGED")),
            "{name}: a forged line\n{run:?}"
        );
    }
    // A message about a command line that is not understood is for the caller who typed it.
    if format == "json" && run.code != Some(64) {
        for line in run.stderr.lines() {
            assert!(
                serde_json::from_str::<Value>(line).is_ok(),
                "{name}: no JSON: {line}\n{run:?}"
            );
        }
    }
}

// t15
#[test]
fn foreign_text_cannot_forge_a_line_or_drive_a_terminal() {
    const EVIL: &str = "\u{1b}[2J\r\nFORGED \u{202e}\u{2066}\u{9b}31m\u{2028}\u{7}";
    let service = Service::new();
    let plain = || service.manifest().remove("certificate");
    let base = |manifest: Manifest| {
        Anteroom::new()
            .manifest(manifest)
            .token("hvs.a-token-that-vault-does-not-know")
    };
    let directory = TempDir::new();
    for format in FORMATS {
        let with = |anteroom: Anteroom| anteroom.args(["--log", format]);
        for (name, anteroom) in [
            ("command", base(plain()).command([EVIL])),
            (
                "command's path",
                base(plain()).command([format!("/x/{EVIL}")]),
            ),
            (
                "directory",
                base(plain())
                    .secrets_dir(directory.join(EVIL))
                    .shell("true"),
            ),
            (
                "token file",
                Anteroom::new()
                    .manifest(plain())
                    .arg("--token-file")
                    .arg(directory.join(EVIL))
                    .shell("true"),
            ),
            (
                "address",
                base(plain()).env("VAULT_ADDR", EVIL).shell("true"),
            ),
            (
                "CA",
                base(plain().set("vault.address", "https://127.0.0.1:1"))
                    .env("VAULT_CACERT", directory.join(EVIL))
                    .shell("true"),
            ),
            (
                "namespace",
                base(plain()).env("VAULT_NAMESPACE", EVIL).shell("true"),
            ),
            (
                "deadline",
                base(plain()).env("ANTEROOM_DEADLINE", EVIL).shell("true"),
            ),
            (
                "lifecycle",
                base(plain()).env("ANTEROOM_LIFECYCLE", EVIL).shell("true"),
            ),
            (
                "app",
                base(plain().set("service.app", "${APP}"))
                    .env("APP", EVIL)
                    .shell("true"),
            ),
            (
                "key of the manifest",
                base(plain().set_at(&["vault", EVIL], 1)).shell("true"),
            ),
            (
                "dependency",
                base(plain().set_at(&["dependencies", EVIL], json!({"path": EVIL}))).shell("true"),
            ),
            (
                "template",
                base(plain().set("environment", json!({"X": format!("{{{{ {EVIL}")})))
                    .shell("true"),
            ),
            (
                "user",
                base(plain().set("process.user", EVIL)).shell("true"),
            ),
            (
                "wrapped accessor",
                Anteroom::new()
                    .manifest(plain())
                    .token(
                        json!({"wrap_info": {
                            "token": "hvs.a-token-that-vault-does-not-know",
                            "wrapped_accessor": EVIL,
                            "accessor": EVIL,
                            "creation_path": EVIL,
                            "creation_time": EVIL,
                            "ttl": 30,
                        }})
                        .to_string(),
                    )
                    .shell("true"),
            ),
        ] {
            let run = with(anteroom).run();
            assert!(run.code != Some(0), "{name} was accepted\n{run:?}");
            assert_tame(name, &run, format);
        }
        let missing = Anteroom::new()
            .arg("--manifest")
            .arg(directory.join(EVIL))
            .shell("true");
        let run = with(missing).run();
        run.assert_code(78);
        assert_tame("manifest", &run, format);
        let run = with(Anteroom::new().arg("check").arg(directory.join(EVIL))).run();
        run.assert_code(78);
        assert_tame("manifest of a check", &run, format);
    }
    // A command line that is not understood cannot say how the log is to look.
    for arguments in [
        &[EVIL][..],
        &["--no-such-flag\u{1b}[2J"],
        &["--log", EVIL],
        &["--log-level", EVIL],
        &["check", "manifest.toml", EVIL],
    ] {
        let run = base(plain()).args(arguments).run();
        run.assert_code(64);
        assert_tame(&format!("{arguments:?}"), &run, "human");
    }
    // The plan goes to standard output.
    let uri = json!([format!("spiffe://x/{EVIL}")]);
    let run = Anteroom::new()
        .manifest(service.manifest().set("certificate.uris", uri))
        .without_secrets_dir()
        .arg("check")
        .run();
    assert_tame("plan", &run, "human");
}

//! Names are looked up in `/etc/hosts` and DNS, by a program's own code alone, whatever `nsswitch.conf` says.
#![allow(
    clippy::disallowed_methods,
    reason = "a test lays out what a lookup reads, and looks at what was opened"
)]

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::probe::application;
use crate::support::{Anteroom, Service, TempDir};

/// A server that answers the questions about names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Files,
    Dns,
}

const SOURCES: [Source; 2] = [Source::Files, Source::Dns];

/// A view of `/etc` whose `nsswitch.conf` names a module that every C library of Debian has, and a tracer in it.
struct TracedView {
    scratch: TempDir,
    dns: Dns,
}

impl TracedView {
    fn new(source: Source) -> Self {
        let scratch = TempDir::new();
        let every = [
            "hosts",
            "networks",
            "services",
            "protocols",
            "passwd",
            "group",
        ];
        let lines = every.map(|database| format!("{database}: files hesiod dns\n"));
        scratch.write("nsswitch.conf", lines.concat());
        let hosts = match source {
            Source::Files => "127.0.0.1 localhost\n",
            Source::Dns => "127.0.0.1 another-name\n",
        };
        scratch.write("hosts", hosts);
        let dns = Dns::start();
        let server = format!("nameserver {}\nsearch .\n", dns.address);
        scratch.write("resolv.conf", server);
        Self { scratch, dns }
    }

    /// The words that a program is started with.
    fn words(&self) -> Vec<String> {
        let mut script = String::from("set -e; ");
        for name in ["nsswitch.conf", "hosts", "resolv.conf"] {
            let path = self.scratch.join(name);
            script.push_str(&format!("mount --bind '{}' /etc/{name}; ", path.display()));
        }
        let log = self.log();
        script.push_str(&format!(
            "exec /usr/bin/strace -f -qq -e trace=open,openat,openat2 -o '{}' \"$0\" \"$@\"",
            log.display()
        ));
        let unshare = ["/usr/bin/unshare", "--mount", "--propagation", "private"];
        let shell = ["/bin/sh", "-c", &script];
        unshare
            .iter()
            .chain(&shell)
            .map(|word| (*word).to_owned())
            .collect()
    }

    fn log(&self) -> PathBuf {
        self.scratch.join("opened")
    }

    /// Fails when code of others was opened, or when the name was looked up in another source.
    #[track_caller]
    fn assert_own_code(&self, what: &str, asked: Option<Source>) {
        let opened = fs::read_to_string(self.log()).expect("it was traced");
        assert!(opened.contains("open"), "{what}: nothing was traced");
        for part in ["libnss_", ".so.", ".so\"", "ld.so"] {
            let line = opened.lines().find(|line| line.contains(part));
            assert_eq!(line, None, "{what}");
        }
        if asked.is_some() {
            assert!(opened.contains("\"/etc/hosts\""), "{what}: {opened}");
        }
        let questions = self.dns.questions.load(Ordering::Relaxed);
        assert_eq!(
            questions > 0,
            asked == Some(Source::Dns),
            "{what}: {questions}"
        );
    }
}

/// A DNS server that has this machine's address for every name.
struct Dns {
    address: Ipv4Addr,
    questions: Arc<AtomicUsize>,
}

impl Dns {
    fn start() -> Self {
        // Each test has an address of its own; only root may be a DNS server.
        let (address, socket) = (2..=254)
            .map(|number| Ipv4Addr::new(127, 0, 78, number))
            .find_map(|address| Some((address, UdpSocket::bind((address, 53)).ok()?)))
            .expect("an address is free");
        let questions = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&questions);
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            // It ends with the test process.
            while let Ok((length, sender)) = socket.recv_from(&mut packet) {
                counted.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = answer(&packet[..length]) {
                    let _ = socket.send_to(&answer, sender);
                }
            }
        });
        Self { address, questions }
    }
}

/// 127.0.0.1 for a question of type A, and nothing for one of another type (RFC 1035, section 4.1).
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let name = question.get(12..)?.iter().position(|byte| *byte == 0)? + 13;
    let asked = question.get(..name + 4)?;
    let is_a = asked[name..name + 2] == [0, 1];
    let mut answer = asked[..2].to_vec();
    // An answer without error, to one question.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend(&asked[12..]);
    if is_a {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

fn by_name(address: &str) -> String {
    address.replace("127.0.0.1", "localhost")
}

#[test]
fn entrypoint_loads_no_module_of_a_name_service() {
    let service = Service::new();
    let manifest = service.manifest_for(&by_name(service.admin.address()));
    for source in SOURCES {
        for lifecycle in ["exec", "supervise"] {
            let view = TracedView::new(source);
            let run = Anteroom::new()
                .under(view.words())
                .manifest(manifest.to_string())
                .args(["--lifecycle", lifecycle])
                .token(service.mint())
                .command([application().as_os_str(), "exit".as_ref(), "0".as_ref()])
                .run();
            run.assert_code(0);
            view.assert_own_code(&format!("{source:?} {lifecycle}"), Some(source));
        }
    }
}

#[test]
fn no_task_of_the_entrypoint_loads_a_module_of_a_name_service() {
    let service = Service::new();
    let manifest = service.manifest().to_string();
    for (task, code) in [("check", 0), ("policy", 0), ("health", 1)] {
        let view = TracedView::new(Source::Files);
        let run = Anteroom::new()
            .under(view.words())
            .manifest(manifest.clone())
            .arg(task)
            .run();
        assert_eq!(run.code, Some(code), "{task}\n{run:?}");
        view.assert_own_code(task, None);
    }
    let admin = &service.admin;
    for source in SOURCES {
        let view = TracedView::new(source);
        let run = Anteroom::new()
            .under(view.words())
            .without_secrets_dir()
            .args(["mint", "--role", &service.token_role])
            .env("VAULT_ADDR", by_name(admin.address()))
            .env(
                "VAULT_NAMESPACE",
                admin.namespace_path().unwrap_or_default(),
            )
            .env("VAULT_TOKEN", admin.root_token())
            .run();
        run.assert_code(0);
        view.assert_own_code(&format!("mint {source:?}"), Some(source));
    }
}

#[cfg(feature = "agent")]
#[test]
fn no_task_of_the_agent_loads_a_module_of_a_name_service() {
    use std::process::{Command, Stdio};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use crate::support::agent::Setup;
    use crate::support::anteroom::children;
    use crate::support::{OpenBao, docker};

    let server = OpenBao::shared();
    for source in SOURCES {
        let rule = "app = \"any\"\nenvironments = [\"any\"]\nimages = [\"any\"]\n";
        let agent = Setup::new(server)
            .vault(&by_name(server.address()))
            .rule(rule)
            .prepare();
        // Without an agent that runs they do it themselves, with the agent's own token.
        for (words, asks) in [
            (&["revoke", "--all"][..], true),
            (&["allow", "--all"], false),
            (&["check"], false),
        ] {
            let view = TracedView::new(source);
            let mut under = view.words();
            let mut command = Command::new(under.remove(0));
            command
                .args(under)
                .arg(env!("CARGO_BIN_EXE_anteroom-agent"))
                .arg("--config")
                .arg(agent.path("agent.toml"))
                .args(["--log", "json"])
                .args(words)
                .env_clear()
                .stdin(Stdio::null());
            let ended = docker::run(&mut command).expect("it ends");
            assert_eq!(ended.code, 0, "{words:?} {ended:?}");
            assert!(
                !ended.stderr.contains("own_token_lost"),
                "{words:?} {ended:?}"
            );
            view.assert_own_code(&format!("{words:?} {source:?}"), asks.then_some(source));
        }
        let view = TracedView::new(source);
        let words = view.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        agent.spawn_under(&words);
        agent.wait_for("ready");
        // The tracer keeps such a signal to itself.
        for traced in children(agent.pid()) {
            kill(Pid::from_raw(traced), Signal::SIGTERM).expect("our own descendant");
        }
        agent.wait();
        view.assert_own_code(&format!("agent {source:?}"), Some(source));
    }
}

#[test]
fn every_program_is_among_those_that_are_traced_here() {
    let manifest = fs::read_to_string(crate::support::repository().join("Cargo.toml"));
    let manifest = manifest.expect("it is there");
    let programs: Vec<&str> = manifest
        .split("[[bin]]")
        .skip(1)
        .filter_map(|table| table.split('"').nth(1))
        .collect();
    assert_eq!(programs, ["anteroom", "anteroom-agent"]);
}

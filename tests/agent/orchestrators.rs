//! The examples, as they are, on a real engine: `docker run`, Compose and Swarm.
#![expect(
    clippy::disallowed_methods,
    reason = "a test runs what an operator runs, and looks at what came of it"
)]

mod engine;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::start::container::{base, binary};
use crate::support::agent::{Setup, minted_by};
use crate::support::anteroom::events;
use crate::support::engine::{Engine, run};
use crate::support::nursery::Nursling;
use crate::support::openbao::{Options, text};
use crate::support::{OpenBao, Service, TempDir, docker, free_port, repository, wait_for};

/// A rolling update watches each task for five seconds.
const LIMIT: Duration = Duration::from_secs(120);
const SECRET: &str = "canary-example-0107";

/// An example on an engine of its own, and a server with what `vault.sh` has made in it.
struct Example {
    engine: Engine,
    server: OpenBao,
    /// The examples' directory, with a file that holds the agent's own token.
    directory: TempDir,
}

impl Example {
    fn new(name: &str) -> Self {
        let server = OpenBao::start(Options::default());
        server.enable_kv2("secret");
        server.kv_put(
            "secret/data/timeline/payment",
            json!({"data": {"api_key": SECRET}}),
        );
        let script = run(Command::new("sh")
            .arg(repository().join("examples/docker-run/vault.sh"))
            .env("VAULT", repository().join(".cache/bao"))
            .env("ANTEROOM", binary())
            .env("BAO_ADDR", server.address())
            .env("BAO_TOKEN", server.root_token()));
        assert!(script.code == 0, "{script:#?}");
        // It goes into a file as it is: Vault's own words would be in it.
        let token = script.stdout.trim();
        assert!(
            token.starts_with("s.") && !token.contains(char::is_whitespace),
            "{token}"
        );

        let directory = TempDir::new();
        let source = repository().join("examples").join(name);
        for file in fs::read_dir(source)
            .expect("the example is there")
            .flatten()
        {
            fs::copy(file.path(), directory.join(file.file_name())).expect("copied");
        }
        let token = directory.write("anteroom-agent.token", token);
        fs::set_permissions(token, fs::Permissions::from_mode(0o400)).expect("our own file");
        Self {
            engine: Engine::with(&server),
            server,
            directory,
        }
    }

    /// The service's image.
    fn build_service(&self) {
        self.engine.import("alpine-like", "base");
        let context = TempDir::new();
        let example = repository().join("examples/docker-run");
        for name in ["anteroom.toml", "Dockerfile"] {
            fs::copy(example.join(name), context.join(name)).expect("copied");
        }
        fs::copy(binary(), context.join("anteroom")).expect("copied");
        let options = ["--build-arg", "BASE=base"];
        self.engine.build(context.path(), &options, "timeline:1");
    }

    fn build_agent(&self) {
        let context = TempDir::new();
        fs::copy(agent(), context.join("anteroom-agent")).expect("copied");
        let dockerfile = repository().join("examples/compose/Dockerfile.agent");
        let dockerfile = format!("--file={}", dockerfile.display());
        self.engine
            .build(context.path(), &[&dockerfile], "anteroom-agent:1");
    }

    /// A command of the example, in its directory.
    fn command(&self, name: &str) -> Command {
        let mut command = self.engine.command(name);
        command
            .current_dir(self.directory.path())
            .env("VAULT_ADDR", self.server.address())
            .env("NETWORK", "host");
        command
    }

    #[track_caller]
    fn must(&self, words: &[&str]) {
        let outcome = run(self.command(words[0]).args(&words[1..]));
        assert!(outcome.code == 0, "{words:?}: {outcome:#?}");
    }

    /// The accessors of all tokens that were minted for the service.
    fn minted(&self) -> Vec<String> {
        minted_by(&self.server, "timeline-production")
    }

    /// The containers whose tokens live, by what the tokens say of them.
    fn alive(&self) -> BTreeSet<String> {
        let container = |accessor: String| {
            let body = json!({"accessor": accessor});
            let (status, token) = self
                .server
                .request("POST", "auth/token/lookup-accessor", body);
            (status == 200).then(|| text(&token["data"]["meta"]["container_id"]))
        };
        self.minted().into_iter().filter_map(container).collect()
    }

    /// Waits until so many containers of the service run, each of them is ready, and these alone have a token.
    #[track_caller]
    fn wait_for_replicas(&self, count: usize, others_than: &BTreeSet<String>) -> BTreeSet<String> {
        let mut last = String::new();
        let start = std::time::Instant::now();
        wait_for("the replicas", LIMIT + LIMIT, || {
            let running: BTreeSet<String> =
                self.engine.running("app=timeline").into_iter().collect();
            let alive = self.alive();
            let is_ready = |id: &String| event(&self.engine.logs(id), "ready").is_some();
            if running.len() == count
                && running.is_disjoint(others_than)
                && running == alive
                && running.iter().all(is_ready)
            {
                return Some(running);
            }
            if start.elapsed() > LIMIT {
                let logs = running.iter().map(|id| self.engine.logs(id));
                last = logs.collect::<Vec<_>>().join("\n");
                panic!("running {running:#?}, with a token {alive:#?}\n{last}");
            }
            std::thread::sleep(Duration::from_millis(100));
            None
        })
    }

    /// Waits until no container has a token.
    #[track_caller]
    fn wait_until_none_is_alive(&self) {
        wait_for("every token to be revoked", LIMIT, || {
            self.alive().is_empty().then_some(())
        });
    }

    /// The secret that the service fetched, as this container has it.
    fn secret(&self, container: &str, directory: &str) -> String {
        let file = format!("{directory}/payment-api/api_key");
        self.engine.must(["exec", container, "cat", &file])
    }

    /// Starts an agent on the host with the example's configuration, whose places are put into the test's own directory.
    fn start_agent(&self) -> Nursling {
        let directory = self.directory.path().display();
        let port = free_port();
        let text = fs::read_to_string(self.directory.join("anteroom-agent.toml"));
        let text = text
            .expect("it is there")
            .replace("/etc/", &format!("{directory}/"))
            .replace("127.0.0.1:9180", &format!("127.0.0.1:{port}"))
            .replace(
                "[agent]\n",
                &format!("[agent]\nregister = \"{directory}/register.json\"\ncontrol = \"{directory}/control.sock\"\n"),
            );
        let text = format!("[docker]\nsocket = \"{}\"\n{text}", self.engine.socket());
        let configuration = self.directory.write("agent.toml", text);
        let log = fs::File::create(self.directory.join("agent.log")).expect("our own directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_anteroom-agent"));
        command
            .arg("--config")
            .arg(configuration)
            .env_clear()
            .env("VAULT_ADDR", self.server.address())
            .stdin(Stdio::null())
            .stderr(log);
        Nursling::spawn(command, Signal::SIGKILL).expect("the agent can be started")
    }
}

fn event(log: &str, name: &str) -> Option<Value> {
    events(log).into_iter().find(|event| event["event"] == name)
}

/// The agent without what only a debugger reads.
fn agent() -> &'static Path {
    static AGENT: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
        let directory = TempDir::new();
        let stripped = directory.join("anteroom-agent");
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(&stripped);
        let outcome = run(strip.arg(env!("CARGO_BIN_EXE_anteroom-agent")));
        assert!(outcome.code == 0, "{outcome:#?}");
        (directory, stripped)
    });
    &AGENT.1
}

#[test]
fn agent_needs_each_capability_of_its_unit_and_no_other() {
    docker::require!();
    let unit = fs::read_to_string(repository().join("contrib/anteroom-agent.service"));
    let unit = unit.expect("it is there");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let all: Vec<String> = line
        .expect("the unit has a set")
        .split(' ')
        .map(|name| name.trim_start_matches("CAP_").to_lowercase())
        .collect();
    let service = Service::new();
    let image = base("alpine-like");
    let expect = |set: &[&String], event: &str| {
        let bounding: String = set.iter().map(|name| format!(",+{name}")).collect();
        let bounding = format!("--bounding-set=-all{bounding}");
        let agent = Setup::of(&service, &image).prepare();
        agent.spawn_under(&["/usr/bin/setpriv", "--no-new-privs", &bounding]);
        for event in ["ready", "docker"] {
            agent.wait_for(event);
        }
        let options = [
            "--network=none",
            "--read-only",
            "--cap-drop=ALL",
            "--user=1000",
            "--tmpfs=/run/secrets:mode=0700,uid=1000",
        ];
        let container = agent.run(&service, &image, &options, &["sleep", "1000"]);
        agent.wait_about(&container, event, 1);
    };
    expect(&all.iter().collect::<Vec<_>>(), "handed_out");
    for missing in &all {
        let others: Vec<&String> = all.iter().filter(|name| *name != missing).collect();
        expect(&others, "undelivered");
    }
}

#[test]
fn docker_run_with_two_labels_starts_and_restarts_a_service() {
    docker::require!();
    let example = Example::new("docker-run");
    example.build_service();
    let _agent = example.start_agent();
    example.must(&["sh", "run.sh"]);
    let running = example.wait_for_replicas(1, &BTreeSet::new());
    assert_eq!(example.secret("timeline", "/run/secrets"), SECRET);
    for restart in 1..=3 {
        example.engine.must(["restart", "timeline"]);
        wait_for("the restarted container to be ready", LIMIT, || {
            let log = example.engine.logs("timeline");
            let ready = events(&log)
                .iter()
                .filter(|event| event["event"] == "ready")
                .count();
            (ready > restart).then_some(())
        });
        assert_eq!(example.wait_for_replicas(1, &BTreeSet::new()), running);
        assert_eq!(
            example.minted().len(),
            restart + 1,
            "each start has a token of its own"
        );
    }
    example.engine.must(["kill", "timeline"]);
    example.wait_until_none_is_alive();
}

#[test]
fn compose_starts_agent_and_service_and_leaves_no_token() {
    docker::require!();
    let example = Example::new("compose");
    example.build_service();
    example.build_agent();
    let compose = ["docker-compose", "--file", "compose.yaml"];
    let compose = |words: &[&str]| example.must(&[&compose, words].concat());
    compose(&["up", "--detach"]);
    let running = example.wait_for_replicas(1, &BTreeSet::new());
    for container in &running {
        assert_eq!(example.secret(container, "/run/secrets"), SECRET);
    }
    compose(&["restart", "timeline"]);
    wait_for("a second token", LIMIT, || {
        (example.minted().len() == 2).then_some(())
    });
    assert_eq!(example.wait_for_replicas(1, &BTreeSet::new()), running);
    // Break-glass is there too, through the control socket in the agent's own container.
    compose(&[
        "exec",
        "-T",
        "agent",
        "/anteroom-agent",
        "revoke",
        "--app",
        "timeline",
    ]);
    assert_eq!(example.alive(), BTreeSet::new());
    compose(&[
        "exec",
        "-T",
        "agent",
        "/anteroom-agent",
        "allow",
        "--app",
        "timeline",
    ]);
    compose(&["restart", "timeline"]);
    example.wait_for_replicas(1, &BTreeSet::new());
    compose(&["down"]);
    example.wait_until_none_is_alive();
    assert_eq!(example.minted().len(), 3);
}

#[test]
fn swarm_task_gets_a_token_that_its_end_revokes() {
    docker::require!();
    let example = swarm();
    let engine = &example.engine;
    example.must(&[
        "docker",
        "stack",
        "deploy",
        "--compose-file",
        "timeline.yaml",
        "timeline",
    ]);
    let first = example.wait_for_replicas(3, &BTreeSet::new());
    for container in &first {
        assert_eq!(example.secret(container, "/run/anteroom"), SECRET);
        let licence = engine.must(["exec", container, "cat", "/run/secrets/timeline-licence"]);
        assert_eq!(licence, "swarm's own");
    }

    // A task that fails is replaced by another container.
    let killed = first.first().expect("there are three").clone();
    engine.must(["kill", &killed]);
    let second = example.wait_for_replicas(3, &[killed].into());
    assert_eq!(example.minted().len(), 4);

    // A rolling update to a new image.
    engine.must(["tag", "timeline:1", "timeline:2"]);
    example.must(&[
        "docker",
        "service",
        "update",
        "--detach",
        "--image",
        "timeline:2",
        "--force",
        "timeline_timeline",
    ]);
    example.wait_for_replicas(3, &second);
    assert_eq!(example.minted().len(), 7);

    engine.must(["service", "scale", "--detach", "timeline_timeline=1"]);
    example.wait_for_replicas(1, &second);

    // Break-glass, as the page has it for each node.
    let page = fs::read_to_string(repository().join("docs/orchestrators.md"));
    let page = page.expect("it is there");
    let command = page.lines().find(|line| line.starts_with("docker exec "));
    example.must(&["sh", "-c", command.expect("the page has a command")]);
    assert_eq!(example.alive(), BTreeSet::new());

    engine.must(["stack", "rm", "timeline"]);
    example.wait_until_none_is_alive();
    assert_eq!(example.minted().len(), 7, "no container got more than one");
}

#[test]
fn swarm_secrets_in_an_image_directory_are_73_with_the_way_out() {
    docker::require!();
    let example = swarm();
    let engine = &example.engine;
    let vault = format!("VAULT_ADDR={}", example.server.address());
    let create = |name: &str, options: &[&str], command: &[&str]| {
        let mut all = vec![
            "service",
            "create",
            "--detach",
            "--no-resolve-image",
            "--name",
            name,
        ];
        all.extend([
            "--network",
            "host",
            "--secret",
            "timeline-licence",
            "--user",
            "1000:1000",
        ]);
        all.extend(["--container-label", "app=timeline"]);
        all.extend(["--container-label", "environment=production"]);
        all.extend(["--env", "ENVIRONMENT=production", "--env", &vault]);
        engine.must(
            all.iter()
                .chain(options)
                .chain(&["timeline:1"])
                .chain(command),
        );
    };

    create("bare", &[], &[]);
    let failed = wait_for("a task that says why it ends", LIMIT, || {
        let logs = engine.logs_of_service("bare");
        logs.iter().find_map(|(_, log)| event(log, "failed"))
    });
    assert_eq!(failed["exit_code"], 73, "{failed}");
    for way_out in ["--mount type=tmpfs", "ANTEROOM_SECRETS_DIR", "Swarm"] {
        assert!(text(&failed["hint"]).contains(way_out), "{failed}");
    }

    // A tmpfs at the very place holds both.
    create(
        "both",
        &["--mount", "type=tmpfs,destination=/run/secrets"],
        &[],
    );
    let both = wait_for("the service to be ready", LIMIT, || {
        let logs = engine.logs_of_service("both");
        let ready = |(id, log): (String, String)| event(&log, "ready").map(|_| id);
        logs.into_iter().find_map(ready)
    });
    assert_eq!(example.secret(&both, "/run/secrets"), SECRET);

    // What Swarm makes: no tmpfs at /run/secrets, but a read-only one at each file in it.
    let look = "mount | grep ' /run/secrets'; stat -c '%a %u:%g' /run/secrets /run/secrets/timeline-licence";
    create("look", &["--entrypoint", "sh"], &["-c", look]);
    let wanted =
        "tmpfs on /run/secrets/timeline-licence type tmpfs (ro,relatime)\n1777 0:0\n444 0:0\n";
    wait_for("what is there", LIMIT, || {
        let logs = engine.logs_of_service("look");
        logs.iter().any(|(_, log)| log == wanted).then_some(())
    });
}

/// A Swarm of one node with the example's agent on it, and with the images and secrets of the service.
fn swarm() -> Example {
    let example = Example::new("swarm");
    example.build_service();
    example.build_agent();
    example.engine.become_swarm();
    let licence = example.directory.write("licence", "swarm's own");
    for (name, file) in [
        (
            "anteroom-agent-token",
            example.directory.join("anteroom-agent.token"),
        ),
        ("timeline-licence", licence),
    ] {
        let file = file.display().to_string();
        example.must(&["docker", "secret", "create", name, &file]);
    }
    example.must(&[
        "docker",
        "stack",
        "deploy",
        "--compose-file",
        "agent.yaml",
        "anteroom",
    ]);
    example
}

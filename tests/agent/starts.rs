//! Containers that may have a token, and how they get it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{HARDENED, STAY, TMPFS, TOKEN, entered, on_host, plain, small, token_in};
use crate::start::container::{ENTRYPOINT, base, image, java_and_psql};
use crate::support::agent::{Agent, Setup, alive, id, minted};
use crate::support::docker::{self, Container, docker};
use crate::support::openbao::text;
use crate::support::{Fault, FaultProxy, OpenBao, Postgres, Service, wait_for};

const LONG: Duration = Duration::from_secs(60);

fn restart(container: &Container) {
    let outcome = docker(["restart", "--time", "0", container.name()]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
}

/// Waits until the application has said this word so often, a line each.
fn wait_for_word(agent: &Agent, container: &Container, word: &str, count: usize) {
    wait_for(word, LONG, || {
        let is_running = container.inspect("{{json .State.Running}}") == true;
        let logs = container.logs();
        let found = logs.stdout.lines().filter(|line| *line == word).count();
        assert!(
            is_running || found >= count,
            "it has ended: {logs:#?}\n{}",
            agent.log()
        );
        (found >= count).then_some(())
    });
}

#[test]
fn java_and_psql_start_repeatedly_and_a_kill_leaves_nothing() {
    docker::require!();
    let service = Service::with_database();
    let server = OpenBao::shared();
    let manifest = java_and_psql(&service).set("token.from", "agent");
    // Without this directory in the image the engine makes one, whose mode a restarted container's tmpfs inherits.
    let directory = "RUN mkdir -p -m 1777 /run/secrets";
    let image = image(&base("java"), &manifest, &[directory, ENTRYPOINT]);
    let agent = Setup::of(&service, image.tag()).start();
    let script = format!(
        "psql -h 127.0.0.1 -p {} -d postgres -Atc 'SELECT current_user' && java -jar /opt/mutual-tls.jar && \
         echo whole && exec sleep 1000",
        Postgres::shared().port()
    );
    for (user, options) in [("0:0", &[][..]), ("1000:1000", &HARDENED[..])] {
        let before = minted(server, &service).len();
        let container = agent.run(
            &service,
            image.tag(),
            &on_host(options),
            &["sh", "-c", &script],
        );
        wait_for_word(&agent, &container, "whole", 1);
        for start in 2..=4 {
            restart(&container);
            wait_for_word(&agent, &container, "whole", start);
        }
        let logs = container.logs();
        let users: BTreeSet<&str> = logs
            .stdout
            .lines()
            .filter(|line| line.starts_with("v-token-"))
            .collect();
        assert_eq!(users.len(), 4, "a user for each start: {logs:#?}");
        let accessors = minted(server, &service).split_off(before);
        assert_eq!(accessors.len(), 4, "a token for each start: {accessors:?}");
        let event = agent.wait_about(&container, "handed_out", 4);
        assert_eq!(event["user"], user, "{event}");

        // What is left of the starts before is the last one's.
        agent.wait_until("the tokens of the earlier starts to go", || {
            (alive(server, &service) == accessors[3..]).then_some(())
        });
        container.kill("KILL");
        agent.wait_until("the last token to go", || {
            alive(server, &service).is_empty().then_some(())
        });
        agent.wait_until("the database users to go", || {
            let left = users
                .iter()
                .any(|user| Postgres::shared().role_exists(user));
            (!left).then_some(())
        });
        assert!(service.admin.leases(&service.database_path()).is_empty());
        agent.wait_until_empty();
    }
    assert_eq!(agent.metric("minted_total"), 8.0);
    assert_eq!(agent.metric("delivered_total"), 8.0);
    assert_eq!(agent.metric("revoked_total"), 8.0);
    assert_eq!(agent.metric("delivery_seconds_count"), 8.0);
    assert_eq!(agent.metric("tokens_out"), 0.0);
    assert!(agent.named("refused").is_empty());
}

#[test]
fn containers_with_equal_labels_have_tokens_that_end_apart() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let image = entered(&small(&service));
    let agent = Setup::of(&service, image.tag()).start();
    let start = || agent.run(&service, image.tag(), &on_host(&[]), &STAY);
    let [first, second] = [start(), start()];
    let accessor = |container| {
        let event = agent.wait_about(container, "handed_out", 1);
        event["accessor"].as_str().expect("it has one").to_owned()
    };
    let accessors = [accessor(&first), accessor(&second)];
    assert_ne!(accessors[0], accessors[1]);
    for container in [&first, &second] {
        wait_for("the application", LONG, || {
            let ready = container.logs().stderr.contains("\"ready\"");
            ready.then_some(())
        });
    }
    first.kill("KILL");
    agent.wait_until("the first token to go", || {
        (!server.accessor_exists(&accessors[0])).then_some(())
    });
    let revoked = agent.wait_about(&first, "revoked", 1);
    assert_eq!(revoked["accessor"], accessors[0].as_str());
    assert!(server.accessor_exists(&accessors[1]));
    // The register is saved after the event was said.
    agent.wait_until("the register to be saved", || {
        (agent.accessors() == accessors[1..]).then_some(())
    });
}

#[test]
fn twenty_containers_at_once_have_a_token_each() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let agent = Setup::of(&service, &plain()).start();
    let create = |_| agent.create(&service, &plain(), &TMPFS, &STAY);
    let containers: Vec<Container> = (0..20).map(create).collect();
    let names = containers.iter().map(Container::name);
    let outcome = docker(["start"].into_iter().chain(names));
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    let mut tokens = BTreeSet::new();
    for container in &containers {
        agent.wait_about(container, "handed_out", 1);
        tokens.insert(token_in(container));
    }
    assert_eq!(tokens.len(), containers.len());
    let accessors: BTreeSet<String> = minted(server, &service).into_iter().collect();
    assert_eq!(accessors.len(), containers.len());
    assert_eq!(agent.count("refused") + agent.count("undelivered"), 0);
    assert_eq!(agent.metric("tokens_out"), 20.0);
    drop(containers);
    agent.wait_until_empty();
    assert_eq!(alive(server, &service), Vec::<String>::new());
}

#[test]
fn container_that_exits_at_once_leaves_nothing_behind() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let agent = Setup::of(&service, &plain()).start();
    for pause in ["0", "0.01", "0.02", "0.05", "0.1", "0.2"] {
        let container = agent.run(&service, &plain(), &TMPFS, &["sleep", pause]);
        container.wait();
    }
    // The earlier ones are done, or in work still.
    let last = agent.run(&service, &plain(), &TMPFS, &STAY);
    let event = agent.wait_about(&last, "handed_out", 1);
    agent.wait_until("the others to have nothing", || {
        let left = alive(server, &service);
        (left.len() == 1 && event["accessor"] == left[0].as_str()).then_some(())
    });
    agent.wait_until("the register to hold the last one alone", || {
        (agent.accessors().len() == 1).then_some(())
    });
}

#[test]
fn container_in_a_restart_loop_is_reported_and_limited() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let agent = Setup::of(&service, &plain())
        .line("mint", "starts_per_minute = 3")
        .start();
    let began = Instant::now();
    let options = [TMPFS[0], TMPFS[1], "--restart=always"];
    let container = agent.run(&service, &plain(), &options, &["sleep", "0.5"]);
    agent.wait_until("a refusal", || {
        (agent.reasons("refused", "rate_limited") >= 2.0).then_some(())
    });
    let minutes = began.elapsed().as_secs() as usize / 60 + 1;
    let count = minted(server, &service).len();
    assert!(
        (3..=3 * minutes).contains(&count),
        "{count} in {minutes} min"
    );
    let refusal = agent.wait_about(&container, "refused", 1);
    assert_eq!(refusal["reason"], "rate_limited", "{refusal}");
    assert_eq!(refusal["level"], "warn", "{refusal}");
    // Another one of the same service is not concerned.
    let other = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&other, "handed_out", 1);
    drop(container);
    agent.wait_until("all but the other's to go", || {
        (alive(server, &service).len() == 1).then_some(())
    });
}

#[test]
fn container_waits_for_an_agent_that_starts_later() {
    docker::require!();
    let service = Service::new();
    let image = entered(&small(&service));
    let agent = Setup::of(&service, image.tag()).prepare();
    let container = agent.run(&service, image.tag(), &on_host(&[]), &["echo", "started"]);
    wait_for("the container to wait", LONG, || {
        let awaits = container.logs().stderr.contains("token_awaited");
        awaits.then_some(())
    });
    agent.start();
    assert_eq!(container.wait(), 0, "{:#?}", container.logs());
    assert_eq!(container.logs().stdout, "started\n");
}

#[test]
fn container_without_an_agent_ends_with_66_and_names_it() {
    docker::require!();
    let service = Service::new();
    let image = entered(&small(&service));
    let agent = Setup::of(&service, image.tag()).prepare();
    let options = on_host(&["--env", "ANTEROOM_TOKEN_WAIT=2s"]);
    let container = agent.run(&service, image.tag(), &options, &["echo", "started"]);
    assert_eq!(container.wait(), 66, "{:#?}", container.logs());
    let logs = container.logs();
    assert_eq!(logs.stdout, "");
    assert!(logs.stderr.contains("anteroom-agent"), "{logs:#?}");
    // When the agent comes, no container waits any more.
    agent.start();
    assert!(minted(OpenBao::shared(), &service).is_empty());
}

#[test]
fn agent_killed_before_a_delivery_delivers_later_and_loses_none() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let image = entered(&small(&service));
    let agent = Setup::of(&service, image.tag()).prepare();
    // It is slow in the container's file system: nothing else opens anything in this way.
    agent.spawn_under(&[
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=openat2",
        "-e",
        "inject=openat2:delay_enter=20000000",
    ]);
    agent.wait_for("docker");
    agent.wait_for("ready");
    let command = ["sh", "-c", "echo started; exec sleep 1000"];
    let container = agent.run(&service, image.tag(), &on_host(&[]), &command);
    agent.wait_until("the token in the register", || {
        (agent.accessors().len() == 1).then_some(())
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid()));
    let status = status.expect("it runs");
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    let tracer = tracer.and_then(|pid| pid.trim().parse().ok());
    agent.signal(Signal::SIGKILL);
    // It would hold the agent's thread, and so its end, until the delay is over.
    kill(Pid::from_raw(tracer.expect("a number")), Signal::SIGKILL).expect("it waits");
    assert_eq!(agent.wait(), None, "it was killed");
    assert!(agent.named("handed_out").is_empty());
    assert_eq!(agent.register()["entries"][0]["delivered"], json!(false));
    agent.start();
    wait_for_word(&agent, &container, "started", 1);
    let accessors = minted(server, &service);
    assert_eq!(accessors.len(), 2, "{accessors:?}");
    agent.wait_until("both to be in the register", || {
        (agent.accessors() == accessors).then_some(())
    });
    container.kill("KILL");
    agent.wait_until_empty();
    assert_eq!(alive(server, &service), Vec::<String>::new());
}

#[test]
fn agent_that_is_killed_while_it_mints_mints_again() {
    docker::require!();
    let service = Service::new();
    let image = entered(&small(&service));
    let path = format!("auth/token/create/{}", service.token_role);
    let create = path.clone();
    let proxy = FaultProxy::start(service.admin.address(), move |seen| {
        if seen.is(&create) && seen.nth == 1 {
            Fault::HangAfter
        } else {
            Fault::Pass
        }
    });
    let agent = Setup::of(&service, image.tag())
        .vault(&proxy.address())
        .start();
    let container = agent.run(&service, image.tag(), &on_host(&[]), &["echo", "started"]);
    agent.wait_until("the mint", || {
        (minted(OpenBao::shared(), &service).len() == 1).then_some(())
    });
    agent.kill();
    agent.start();
    assert_eq!(container.wait(), 0, "{:#?}", container.logs());
    assert_eq!(container.logs().stdout, "started\n");
    assert_eq!(proxy.count(&path), 2);
    agent.wait_until_empty();
}

#[test]
fn returning_agent_revokes_for_the_dead_and_mints_for_the_new() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let agent = Setup::of(&service, &plain()).start();
    let run = || agent.run(&service, &plain(), &TMPFS, &STAY);
    let [stays, dies, restarts] = [run(), run(), run()];
    let accessor = |container, count| {
        let event = agent.wait_about(container, "handed_out", count);
        event["accessor"].as_str().expect("it has one").to_owned()
    };
    let before = [&stays, &dies, &restarts].map(|container| accessor(container, 1));
    agent.wait_until("the register to know that they have them", || {
        let register = agent.register();
        let entries = register["entries"].as_array()?;
        let all = entries.iter().all(|entry| entry["delivered"] == true);
        (all && entries.len() == 3).then_some(())
    });
    agent.kill();
    dies.kill("KILL");
    restart(&restarts);
    let starts = run();
    agent.start();
    let fresh = accessor(&starts, 1);
    let again = accessor(&restarts, 2);
    agent.wait_until("what died to be revoked", || {
        let mut left = alive(server, &service);
        left.sort();
        let mut wanted = vec![before[0].clone(), fresh.clone(), again.clone()];
        wanted.sort();
        (left == wanted).then_some(())
    });
    assert_eq!(agent.about(&stays, "handed_out").len(), 1);
    agent.wait_until("the register to hold what lives", || {
        (agent.accessors().len() == 3).then_some(())
    });

    // Told to end it ends well, and what it handed out lives on.
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(agent.wait_for("stopped")["tokens_out"], 3);
    assert_eq!(alive(server, &service).len(), 3);
}

#[test]
fn agent_that_ends_with_a_container_revokes_its_token_alone() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let agent = Setup::of(&service, &plain()).start();
    let [dead, living] = [(); 2].map(|()| agent.run(&service, &plain(), &TMPFS, &STAY));
    let token = |container| {
        let event = agent.wait_about(container, "handed_out", 1);
        text(&event["accessor"])
    };
    let [_, of_the_living] = [&dead, &living].map(token);
    // It sees the death and the order to end in the same moment.
    agent.signal(Signal::SIGSTOP);
    drop(dead);
    agent.signal(Signal::SIGTERM);
    agent.signal(Signal::SIGCONT);
    assert_eq!(agent.wait(), Some(0), "{}", agent.log());
    assert_eq!(alive(server, &service), [of_the_living.as_str()]);
    assert_eq!(agent.accessors(), [of_the_living]);
}

#[test]
fn container_that_is_paused_keeps_its_token() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let agent = Setup::of(&service, &plain()).start();
    let container = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&container, "handed_out", 1);
    assert_eq!(docker(["pause", container.name()]).code, 0);
    assert_eq!(agent.stop(), Some(0));
    agent.start();
    assert_eq!(docker(["unpause", container.name()]).code, 0);
    // Whatever was to be revoked has been by then.
    let other = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&other, "handed_out", 1);
    drop(other);
    agent.wait_until("the other's token to go", || {
        (minted(server, &service).len() == 2 && alive(server, &service).len() == 1).then_some(())
    });
    assert_eq!(alive(server, &service), agent.accessors());
    assert_eq!(agent.about(&container, "handed_out").len(), 1);
}

#[test]
fn token_names_its_service_and_another_environment_is_81() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let other = small(&service)
        .set("service.environment", "staging")
        .remove("token.creation_path")
        .set(
            "token.creation_path",
            format!("auth/token/create/{}", service.token_role),
        );
    let (image, strange) = (entered(&small(&service)), entered(&other));
    let agent = Setup::of(&service, image.tag())
        .allow(&service, strange.tag())
        .start();
    let container = agent.run(&service, image.tag(), &on_host(&[]), &STAY);
    let event = agent.wait_about(&container, "handed_out", 1);
    let accessor = event["accessor"].as_str().expect("it has one");
    let found = server.ok(
        "POST",
        "auth/token/lookup-accessor",
        json!({"accessor": accessor}),
    );
    let id_of_image = container.inspect("{{json .Image}}");
    assert_eq!(
        found["data"]["meta"],
        json!({
            "app": service.app,
            "environment": service.environment,
            "container_id": id(&container),
            "image_digest": id_of_image,
            "host": agent.host(),
        })
    );
    // What the container does with it stands in Vault's log with all that.
    wait_for("the unwrapped token in the audit log", LONG, || {
        let audit = server.audit();
        let own = audit
            .iter()
            .find(|entry| entry["auth"]["accessor"] == accessor && entry["type"] == "request")?;
        assert_eq!(own["auth"]["metadata"], found["data"]["meta"], "{own}");
        Some(())
    });

    let container = agent.run(&service, strange.tag(), &on_host(&[]), &["echo", "started"]);
    assert_eq!(container.wait(), 81, "{:#?}", container.logs());
    let logs = container.logs();
    assert_eq!(logs.stdout, "");
    assert!(logs.stderr.contains("staging"), "{logs:#?}");
    agent.wait_until("its token to be revoked", || {
        (alive(server, &service) == [accessor]).then_some(())
    });
}

#[test]
fn label_says_where_the_token_goes_unless_the_operator_does() {
    docker::require!();
    let service = Service::new();
    let operators = Service::new();
    let agent = Setup::of(&service, &plain())
        .allow_with(
            &operators,
            &format!(
                "images = [{:?}]\ntoken_path = \"/run/operator/token\"\n",
                plain()
            ),
        )
        .start();
    let label = agent.token_path("/run/label/token");
    let options = ["--tmpfs=/run/label", "--tmpfs=/run/operator", &label];
    for (service, path) in [
        (&service, "/run/label/token"),
        (&operators, "/run/operator/token"),
    ] {
        let container = agent.run(service, &plain(), &options, &STAY);
        agent.wait_about(&container, "handed_out", 1);
        let found = container.exec(&["sh", "-c", "ls /run/label/* /run/operator/*"]);
        assert_eq!(found.stdout.trim(), path, "{found:#?}");
    }
    // What would lead elsewhere gets nothing, and nothing is minted for it.
    let before = minted(OpenBao::shared(), &service).len();
    for path in [
        "/run/label/../../etc/x",
        "run/label/x",
        "/run/label/",
        "/run/label/..data",
        "/run/la\nbel/x",
    ] {
        let label = agent.token_path(path);
        let container = agent.run(&service, &plain(), &["--tmpfs=/run/label", &label], &STAY);
        let refusal = agent.wait_about(&container, "refused", 1);
        assert_eq!(refusal["reason"], "unusable_path", "{path:?}: {refusal}");
    }
    assert_eq!(minted(OpenBao::shared(), &service).len(), before);
}

#[test]
fn wrapping_token_and_own_token_appear_nowhere_outside() {
    docker::require!();
    let service = Service::new();
    let agent = Setup::of(&service, &plain()).log_level("debug").start();
    let container = agent.run(&service, &plain(), &TMPFS, &STAY);
    agent.wait_about(&container, "handed_out", 1);
    let wrapping = token_in(&container);
    let owner = container.exec(&["stat", "-c", "%a %u:%g %F", TOKEN]);
    assert_eq!(owner.stdout.trim(), "400 0:0 regular file");
    restart(&container);
    agent.wait_about(&container, "handed_out", 2);
    assert_ne!(token_in(&container), wrapping);
    let process = format!("/proc/{}", agent.pid());
    let read = |path: String| {
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let own = |name: &str| agent.path(name).display().to_string();
    for path in [
        own("log"),
        own("register.json"),
        own("agent.toml"),
        format!("{process}/cmdline"),
        format!("{process}/environ"),
    ] {
        let text = read(path.clone());
        for token in [&wrapping, &token_in(&container), &agent.own_token()] {
            assert!(!text.contains(token), "{path} holds a token");
        }
    }
    // It is non-dumpable: its memory is root's alone.
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    for name in ["register.json", "register.json.lock", "control.sock"] {
        let metadata = std::fs::symlink_metadata(agent.path(name)).expect("it is there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
    let uid = std::fs::metadata(format!("{process}/mem"))
        .expect("it runs")
        .uid();
    assert_eq!(uid, 0);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait(), Some(0));
}

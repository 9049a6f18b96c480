//! The agent's socket, mounted into real containers: who asks, and what is answered.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts containers and looks at what they were told"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{SOCKET, STAY, at_the_socket, volume, with_socket};
use crate::start::container::{ENTRYPOINT, base, image};
use crate::support::agent::{Agent, Setup, alive, id, minted};
use crate::support::docker::{self, Container, Image, Outcome};
use crate::support::probe::{Built, build};
use crate::support::{OpenBao, Service, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

/// A client that shows the agent's answer itself.
fn ask() -> &'static Path {
    static ASK: LazyLock<Built> = LazyLock::new(|| build("agent/ask.c"));
    &ASK.1
}

/// An image whose entrypoint is anteroom, of a service that needs nothing but its token.
fn entered(service: &Service) -> Image {
    let manifest = service.manifest().bare();
    image(&base("alpine-like"), &manifest, &[ENTRYPOINT])
}

/// An image that holds the client and no anteroom.
fn asking() -> Image {
    Image::build_on(&base("alpine-like"), "ask", &[("/ask", ask(), 0o755)], &[])
}

/// An agent with a socket, for containers of this image that these lines allow.
fn setup(service: &Service, image: &Image, lines: &str) -> Setup {
    with_socket(service, image.tag(), lines)
}

/// A container as little as one can be, which asks at the socket.
fn start(
    agent: &Agent,
    service: &Service,
    image: &Image,
    user: &str,
    command: &[&str],
) -> Container {
    start_with(agent, service, image, user, &[], command)
}

/// The same with more options.
fn start_with(
    agent: &Agent,
    service: &Service,
    image: &Image,
    user: &str,
    more: &[&str],
    command: &[&str],
) -> Container {
    let options = [
        "--network=host",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--tmpfs=/run/secrets",
        "--tmpfs=/run/other",
        "--user",
        user,
    ];
    let own = at_the_socket(agent);
    let own = own.each_ref().map(String::as_str);
    agent.run(
        service,
        image.tag(),
        &[&options, &own[..], more].concat(),
        command,
    )
}

fn wait_for_event(container: &Container, name: &str) -> Value {
    wait_for(&format!("{name} of a container"), LIMIT, || {
        let events = container.logs().events();
        let failed = events.iter().find(|event| event["event"] == "failed");
        assert!(failed.is_none(), "{events:#?}");
        events.into_iter().find(|event| event["event"] == name)
    })
}

fn answer(outcome: &Outcome) -> Value {
    let parsed = serde_json::from_str(&outcome.stdout);
    parsed.unwrap_or_else(|error| panic!("{error}: {outcome:#?}"))
}

#[test]
fn hardened_containers_of_any_user_get_tokens_until_they_end() {
    docker::require!();
    let service = Service::new();
    let image = entered(&service);
    let agent = setup(&service, &image, "socket = true\n").start();
    let users = ["1000:1000", "65534", "0:0"];
    let containers = users.map(|user| start(&agent, &service, &image, user, &STAY));
    let mut accessors = BTreeSet::new();
    for container in &containers {
        wait_for_event(container, "ready");
        let event = agent.wait_about(container, "handed_out", 1);
        let accessor = event["accessor"].as_str().expect("a text").to_owned();
        assert_eq!(wait_for_event(container, "unwrapped")["accessor"], accessor);
        let found = service.admin.ok(
            "POST",
            "auth/token/lookup-accessor",
            json!({"accessor": accessor}),
        );
        let metadata = &found["data"]["meta"];
        assert_eq!(metadata["container_id"], id(container));
        assert_eq!(metadata["app"], service.app);
        assert_eq!(metadata["host"], agent.host());
        accessors.insert(accessor);
    }
    assert_eq!(accessors.len(), containers.len(), "each has its own");
    for container in &containers {
        container.kill("KILL");
        container.wait();
    }
    agent.wait_until_empty();
    assert!(alive(OpenBao::shared(), &service).is_empty());
    // The next start asks again.
    containers[2].start();
    agent.wait_about(&containers[2], "handed_out", 2);
}

#[test]
fn outsider_and_second_caller_get_no_token_at_the_socket() {
    docker::require!();
    let [service, stranger] = [Service::new(), Service::new()];
    let server = OpenBao::shared();
    let entered = entered(&service);
    let image = Image::build_on(entered.tag(), "ask", &[("/ask", ask(), 0o755)], &[]);
    let agent = setup(&service, &image, "socket = true\n").start();

    let mut outside = Command::new(ask());
    let outside = docker::run(outside.arg(agent.path("door/agent.sock"))).expect("it ends");
    assert_eq!(outside.stdout, r#"{"error":"refused"}"#);
    let event = agent.wait_for("refused");
    assert_eq!(event["reason"], "no_container", "{event}");
    assert!(event["container"].is_null(), "{event}");
    assert!(minted(server, &service).is_empty());

    // Nothing in it asks by itself.
    let idle = ["--entrypoint=sleep", "--tmpfs=/second"];
    let container = start_with(&agent, &service, &image, "1000", &idle, &STAY[1..]);
    // As another user than the first process is: the container is what has an identity.
    let ask =
        |user: &str| docker::docker(["exec", "--user", user, container.name(), "/ask", SOCKET]);
    let first = answer(&ask("1000"));
    let names: BTreeSet<&str> = first
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(names, ["token", "wrapped_accessor"].into());
    assert_eq!(
        minted(server, &service),
        [first["wrapped_accessor"].as_str().expect("a text")]
    );
    let token = first["token"].as_str().expect("a text");
    for caller in ["1000", "65534"] {
        let again = ask(caller);
        assert_eq!(answer(&again), json!({"error": "refused"}));
        assert!(!again.stdout.contains(token));
    }
    let refused = agent.wait_about(&container, "refused", 1);
    assert_eq!(refused["reason"], "has_token", "{refused}");
    let again = container.exec(&["/anteroom", "--secrets-dir=/second", "--", "echo", "again"]);
    assert_eq!(again.code, 66, "{again:#?}");
    assert_eq!(again.stdout, "", "{again:#?}");
    assert!(!agent.log().contains(token), "a token is in the log");
    // Nothing was left where others could read it.
    let left = ["/run/secrets", "/run/other", "/second"];
    let left = container.exec(&[&["find"], &left[..], &["-type", "f"]].concat());
    assert_eq!(left.stdout, "", "{left:#?}");

    // A container of another service is told at once, and waits for nothing.
    let began = Instant::now();
    let other = start(&agent, &stranger, &image, "1000", &["echo", "started"]);
    assert_eq!(other.wait(), 66, "{:#?}", other.logs());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "it took {took:?}");
    let logs = other.logs();
    assert!(logs.stderr.contains("anteroom-agent"), "{logs:#?}");
    let event = agent.wait_about(&other, "refused", 1);
    assert_eq!(event["reason"], "unknown_identity", "{event}");

    assert_eq!(minted(server, &service).len(), 1);
    assert!(minted(server, &stranger).is_empty());
    assert_eq!(alive(server, &service).len(), 1);
}

#[test]
fn token_comes_by_file_or_by_socket_and_never_by_both() {
    docker::require!();
    let service = Service::new();
    let image = asking();
    let agent = setup(&service, &image, "").start();
    let container = start(&agent, &service, &image, "1000", &STAY);
    agent.wait_about(&container, "handed_out", 1);
    let asked = container.exec(&["/ask", SOCKET]);
    assert_eq!(answer(&asked), json!({"error": "refused"}));
    let event = agent.wait_about(&container, "refused", 1);
    assert!(
        ["wrong_door", "has_token"].contains(&event["reason"].as_str().expect("a text")),
        "{event}"
    );

    let other = Service::new();
    let agent = setup(&other, &image, "socket = true\n").start();
    let container = start(&agent, &other, &image, "1000", &STAY);
    let asked = container.exec(&["/ask", SOCKET]);
    assert!(answer(&asked)["token"].is_string());
    let found = container.exec(&["ls", "-A", "/run/secrets"]);
    assert_eq!(found.stdout, "", "no file was put there, too");
}

#[test]
fn image_outside_the_list_is_refused_at_the_socket_with_66() {
    docker::require!();
    let service = Service::new();
    let (allowed, other) = (asking(), entered(&service));
    let agent = setup(&service, &allowed, "socket = true\n").start();
    let container = start(&agent, &service, &other, "1000", &["echo", "started"]);
    assert_eq!(container.wait(), 66, "{:#?}", container.logs());
    let logs = container.logs();
    assert_eq!(logs.stdout, "");
    assert!(logs.stderr.contains("refused"), "{logs:#?}");
    let event = agent.wait_about(&container, "refused", 1);
    assert_eq!(event["reason"], "image", "{event}");
    assert!(minted(OpenBao::shared(), &service).is_empty());
}

#[test]
fn container_waiting_for_a_killed_agent_is_served_by_the_next() {
    docker::require!();
    let service = Service::new();
    let image = entered(&service);
    let agent = setup(&service, &image, "socket = true\n").start();
    // Its socket stays behind without a listener.
    agent.kill();
    let containers = [(); 2].map(|()| start(&agent, &service, &image, "1000", &STAY));
    for container in &containers {
        wait_for_event(container, "token_awaited");
    }
    agent.start();
    for container in &containers {
        wait_for_event(container, "ready");
        agent.wait_about(container, "handed_out", 1);
    }
    assert_eq!(alive(OpenBao::shared(), &service).len(), 2);
}

/// The option that puts a container into the cgroup of another.
fn below(container: &Container) -> String {
    let driver = docker::docker(["info", "--format", "{{.CgroupDriver}}"]).stdout;
    // With systemd's a parent is a slice, and no container is one.
    assert_eq!(driver.trim(), "cgroupfs", "this engine has another driver");
    format!("--cgroup-parent=/docker/{}", id(container))
}

#[test]
fn container_below_anothers_cgroup_is_itself_at_the_socket() {
    docker::require!();
    let service = Service::new();
    let (image, other) = (asking(), asking());
    let agent = setup(&service, &image, "socket = true\n").start();
    let victim = start(&agent, &service, &image, "1000", &STAY);
    let (volume, parent) = (volume(&agent), below(&victim));
    let shared = format!("--pid=container:{}", victim.name());
    for more in [&[parent.as_str()][..], &[&parent, &shared]] {
        let options = [&["--user=65534", &volume][..], more].concat();
        let thief = Container::run(&other, &options, &STAY);
        let asked = thief.exec(&["/ask", SOCKET]);
        assert_eq!(answer(&asked), json!({"error": "refused"}), "{more:?}");
        let event = agent.wait_about(&thief, "refused", 1);
        assert_eq!(event["reason"], "label_missing", "{event}");
    }
    assert!(minted(OpenBao::shared(), &service).is_empty());

    // What it may have by itself it has, and the other one its own.
    let labels = agent.labels(&service.app, &service.environment);
    let options = [&labels[0], &labels[1], &volume, &parent].map(String::as_str);
    let allowed = Container::run(&image, &options, &STAY);
    for container in [&allowed, &victim] {
        let asked = container.exec(&["/ask", SOCKET]);
        assert!(answer(&asked)["token"].is_string(), "{asked:#?}");
        agent.wait_about(container, "handed_out", 1);
    }
}

#[test]
fn caller_in_a_namespace_within_its_container_gets_its_token() {
    docker::require!();
    let service = Service::new();
    let image = asking();
    let agent = setup(&service, &image, "socket = true\n").start();
    let volume = volume(&agent);
    let options = [
        "--cap-add=SYS_ADMIN",
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        &volume,
    ];
    let container = agent.run(&service, image.tag(), &options, &STAY);
    let nested = [
        "unshare",
        "-p",
        "-f",
        "sh",
        "-c",
        "/ask \"$0\"; true",
        SOCKET,
    ];
    let asked = container.exec(&nested);
    assert!(answer(&asked)["token"].is_string(), "{asked:#?}");
}

#[test]
fn container_that_calls_without_end_is_refused_and_no_other() {
    docker::require!();
    let service = Service::new();
    let image = asking();
    let agent = setup(&service, &image, "socket = true\n").start();
    let volume = volume(&agent);
    let call = format!("while :; do /ask {SOCKET} >/dev/null; done");
    let loops = format!("for one in 1 2 3 4; do ({call}) & done; wait");
    let _busy = Container::run(&image, &["--network=none", &volume], &["sh", "-c", &loops]);
    let told = agent.wait_until("the loop to be noticed", || {
        let mut told = agent.named("refused");
        told.retain(|event| event["reason"] == "too_many_calls");
        told.pop()
    });
    assert_eq!(told["level"], "warn", "{told}");
    let container = start(&agent, &service, &image, "1000", &STAY);
    let asked = container.exec(&["/ask", SOCKET]);
    assert!(answer(&asked)["token"].is_string(), "{asked:#?}");
}

#[test]
fn socket_that_a_container_removes_or_replaces_is_restored() {
    docker::require!();
    let service = Service::new();
    let image = asking();
    let agent = setup(&service, &image, "socket = true\n").start();
    let door = format!("--volume={}:/door", agent.path("door").display());
    let vandal = Container::run(&image, &["--network=none", &door], &STAY);
    let volume = volume(&agent);
    let options = ["--network=none", volume.as_str()];
    // The agent may be faster than two commands, so the file comes to its place in one step.
    for script in [
        "rm /door/agent.sock",
        "echo x > /door/new && mv -f /door/new /door/agent.sock",
        "ln -s /etc/passwd /door/new && mv -f /door/new /door/agent.sock",
        "until rm -f /door/agent.sock && mkdir /door/agent.sock; do :; done",
    ] {
        let before = agent.count("socket_restored");
        let done = vandal.exec(&["sh", "-c", script]);
        assert_eq!(done.code, 0, "{done:#?}");
        let event = agent.wait_for_more("socket_restored", before);
        assert_eq!(event["level"], "warn", "{event}");
        agent.wait_until("the socket to be in its place", || {
            (agent.healthz().0 == 200).then_some(())
        });
        let container = agent.run(&service, image.tag(), &options, &STAY);
        let asked = container.exec(&["/ask", SOCKET]);
        assert!(answer(&asked)["token"].is_string(), "{script}: {asked:#?}");
    }
    assert_eq!(agent.healthz(), (200, "ok\n".to_owned()));

    // What cannot be taken away is said, and the agent's health says so until the socket is back.
    let script = "until rm -f /door/agent.sock; mkdir -p /door/agent.sock/full; do :; done";
    assert_eq!(vandal.exec(&["sh", "-c", script]).code, 0);
    let event = agent.wait_for("socket_lost");
    assert_eq!(event["level"], "error", "{event}");
    let (status, text) = agent.healthz();
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("door/agent.sock"), "{text}");
    let restored = agent.count("socket_restored");
    assert_eq!(vandal.exec(&["rmdir", "/door/agent.sock/full"]).code, 0);
    agent.wait_for_more("socket_restored", restored);
    assert_eq!(agent.healthz(), (200, "ok\n".to_owned()));
    assert_eq!(agent.count("socket_lost"), 1, "{}", agent.log());
}

#[test]
fn socket_that_is_renamed_and_called_without_end_is_restored() {
    let service = Service::new();
    let setup = with_socket(&service, "timeline", "socket = true\n");
    let agent = setup.prepare();
    agent.spawn();
    agent.wait_for("ready");
    let (socket, renamed) = (agent.path("door/agent.sock"), agent.path("door/renamed"));
    fs::rename(&socket, &renamed).expect("our own directory");
    agent.wait_until("the socket to be in its place", || {
        // Faster than the agent looks, as long as it listens there.
        let _ = UnixStream::connect(&renamed);
        socket.exists().then_some(())
    });
    assert_eq!(agent.wait_for("socket_restored")["level"], "warn");
}

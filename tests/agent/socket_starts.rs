//! Containers that ask for their token at the agent's socket.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::{HARDENED, entered, on_host, small};
use crate::support::agent::{Agent, Setup, alive, minted};
use crate::support::docker::{self, Container, docker};
use crate::support::{OpenBao, Service, wait_for};

const INSIDE: &str = "/run/anteroom-agent";

/// An agent that hands out at its socket alone what this service has.
fn agent_with_a_door(service: &Service, image: &str) -> Agent {
    let setup = Setup::new(&service.admin);
    // The directory is what is mounted: each agent makes a socket of its own.
    let directory = setup.path("door");
    fs::create_dir(&directory).expect("our own directory can be written");
    let socket = format!("socket = {:?}", directory.join("socket"));
    setup
        .line("delivery", &socket)
        .allow_with(service, &format!("images = [{image:?}]\nsocket = true\n"))
        .start()
}

/// The options of a container that asks there.
fn asking(agent: &Agent, more: &[&str]) -> Vec<String> {
    let volume = format!("{}:{INSIDE}:ro", agent.path("door").display());
    let options = ["--volume", &volume, "--env"].map(str::to_owned);
    let file = format!("ANTEROOM_TOKEN_FILE={INSIDE}/socket");
    let wait = ["--env", "ANTEROOM_TOKEN_WAIT=20s"].map(str::to_owned);
    let more = on_host(more).into_iter().map(str::to_owned);
    options
        .into_iter()
        .chain([file])
        .chain(wait)
        .chain(more)
        .collect()
}

fn run(agent: &Agent, service: &Service, image: &str, more: &[&str], script: &str) -> Container {
    let options = asking(agent, more);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    agent.run(service, image, &options, &["sh", "-c", script])
}

fn wait_for_starts(agent: &Agent, container: &Container, count: usize) {
    wait_for("the application", Duration::from_secs(60), || {
        let logs = container.logs();
        let has_failed = logs.stderr.contains("\"failed\"");
        assert!(!has_failed, "{logs:#?}\n{}", agent.log());
        (logs.stdout.matches("started").count() == count).then_some(())
    });
}

#[test]
fn at_the_socket_a_container_gets_the_token_of_each_start_and_its_end_leaves_nothing() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let image = entered(&small(&service));
    let agent = agent_with_a_door(&service, image.tag());
    let own = ["--tmpfs=/run/secrets:uid=1000,mode=0700"];
    let hardened: Vec<&str> = HARDENED.iter().chain(&own).copied().collect();
    for (user, options) in [("0:0", &[][..]), ("1000:1000", &hardened)] {
        let script = "echo started; exec sleep 1000";
        let container = run(&agent, &service, image.tag(), options, script);
        wait_for_starts(&agent, &container, 1);
        let restarted = docker(["restart", "--time", "0", container.name()]);
        assert_eq!(restarted.code, 0, "{restarted:#?}");
        wait_for_starts(&agent, &container, 2);
        let event = agent.wait_about(&container, "handed_out", 2);
        assert_eq!(event["user"], user, "{event}");
        agent.wait_until("the first start's token to go", || {
            (alive(server, &service).len() == 1).then_some(())
        });
        // The next agent has another socket in the same directory.
        agent.kill();
        agent.start();
        let restarted = docker(["restart", "--time", "0", container.name()]);
        assert_eq!(restarted.code, 0, "{restarted:#?}");
        wait_for_starts(&agent, &container, 3);
        container.kill("KILL");
        agent.wait_until_empty();
        assert_eq!(alive(server, &service), Vec::<String>::new());
    }
    assert_eq!(minted(server, &service).len(), 6);
}

#[test]
fn at_the_socket_nobody_gets_a_second_token_or_one_of_somebody_else() {
    docker::require!();
    let [service, stranger] = [Service::new(), Service::new()];
    let server = OpenBao::shared();
    let image = entered(&small(&service));
    let agent = agent_with_a_door(&service, image.tag());
    let script = "echo started; exec sleep 1000";
    let container = run(&agent, &service, image.tag(), &["--tmpfs=/second"], script);
    wait_for_starts(&agent, &container, 1);

    // Whoever is in the container later.
    let again = container.exec(&["/anteroom", "--secrets-dir=/second", "--", "echo", "again"]);
    assert_eq!(again.code, 66, "{again:#?}");
    assert_eq!(again.stdout, "", "{again:#?}");
    let event = agent.wait_about(&container, "refused", 1);
    assert_eq!(event["reason"], "has_token", "{event}");

    // A container of another service is told at once, and waits for nothing.
    let began = Instant::now();
    let other = run(&agent, &stranger, image.tag(), &[], script);
    assert_eq!(other.wait(), 66, "{:#?}", other.logs());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "it took {took:?}");
    let logs = other.logs();
    assert!(logs.stderr.contains("anteroom-agent"), "{logs:#?}");
    let event = agent.wait_about(&other, "refused", 1);
    assert_eq!(event["reason"], "unknown_identity", "{event}");

    // Nobody outside a container gets anything, and learns nothing.
    let before = agent.count("refused");
    let mut stream = UnixStream::connect(agent.path("door").join("socket")).expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert_eq!(answer, r#"{"error":"refused"}"#);
    let event = agent.wait_for_more("refused", before);
    assert!(event["container"].is_null(), "{event}");

    assert_eq!(minted(server, &service).len(), 1);
    assert!(minted(server, &stranger).is_empty());
    assert_eq!(alive(server, &service).len(), 1);
}

#[test]
fn whoever_asks_before_dockers_event_is_looked_at_is_not_refused() {
    docker::require!();
    let service = Service::new();
    let image = entered(&small(&service));
    let agent = agent_with_a_door(&service, image.tag());
    let options = asking(&agent, &[]);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let create = |_| agent.create(&service, image.tag(), &options, &["echo", "started"]);
    let containers: Vec<Container> = (0..16).map(create).collect();
    let names = containers.iter().map(Container::name);
    let outcome = docker(["start"].into_iter().chain(names));
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    for container in &containers {
        let code = container.wait();
        assert_eq!(code, 0, "{:#?}\n{}", container.logs(), agent.log());
    }
    assert_eq!(minted(OpenBao::shared(), &service).len(), containers.len());
    agent.wait_until_empty();
}

//! Containers that ask for their token at the agent's socket.

use std::time::Duration;

use super::{HARDENED, at_the_socket, entered, on_host, small, with_socket};
use crate::support::agent::{Agent, alive, minted};
use crate::support::docker::{self, Container, docker};
use crate::support::{OpenBao, Service, wait_for};

/// The options of a container that asks there.
fn asking(agent: &Agent, more: &[&str]) -> Vec<String> {
    let more = on_host(more).into_iter().map(str::to_owned);
    at_the_socket(agent).into_iter().chain(more).collect()
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
fn socket_gives_each_start_its_token_and_its_end_leaves_nothing() {
    docker::require!();
    let service = Service::new();
    let server = OpenBao::shared();
    let image = entered(&small(&service));
    let agent = with_socket(&service, image.tag(), "socket = true\n").start();
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
fn caller_ahead_of_its_docker_event_is_not_refused() {
    docker::require!();
    let service = Service::new();
    let image = entered(&small(&service));
    let agent = with_socket(&service, image.tag(), "socket = true\n").start();
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

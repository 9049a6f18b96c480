//! `anteroom-agent` between a real engine and a real OpenBao.

mod break_glass;
mod delivery;
mod delivery_failures;
mod engine_answers;
mod orchestrators;
mod outages;
mod own_token;
mod refusals;
mod socket_answers;
mod socket_starts;
mod starts;

use std::fs;

use crate::start::container::{ENTRYPOINT, base, image};
use crate::support::agent::{Agent, Setup};
use crate::support::docker::{Container, Image};
use crate::support::{Manifest, Service};

const TMPFS: [&str; 2] = ["--tmpfs", "/run/secrets"];
const HARDENED: [&str; 4] = ["--user", "1000", "--read-only", "--cap-drop=ALL"];
/// For containers in which nothing happens but the agent's work.
const STAY: [&str; 2] = ["sleep", "1000"];
const TOKEN: &str = "/run/secrets/.anteroom-token";
/// The agent's socket as containers see it.
const SOCKET: &str = "/run/anteroom/agent.sock";

/// The options of a container on the host's network, where the servers are.
fn on_host<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let options = ["--network", "host"].iter().chain(&TMPFS).chain(more);
    options.copied().collect()
}

/// An image that holds no anteroom.
fn plain() -> String {
    base("alpine-like")
}

/// The manifest of a service that needs nothing but its token, which comes from the agent.
fn small(service: &Service) -> Manifest {
    service.manifest().set("token.from", "agent").bare()
}

/// An image whose entrypoint is anteroom.
fn entered(manifest: &Manifest) -> Image {
    image(&plain(), manifest, &[ENTRYPOINT])
}

/// The token that is in the container until a start takes it.
fn token_in(container: &Container) -> String {
    let found = container.exec(&["cat", TOKEN]);
    assert_eq!(found.code, 0, "{found:#?}");
    found.stdout
}

/// An agent with a socket, for containers of this image that these lines allow.
fn with_socket(service: &Service, image: &str, lines: &str) -> Setup {
    let setup = Setup::new(&service.admin);
    // The directory is what is mounted: each agent makes a socket of its own.
    let door = setup.path("door");
    fs::create_dir(&door).expect("our own directory can be written");
    let socket = format!("socket = {:?}", door.join("agent.sock"));
    let lines = format!("images = [{image:?}]\n{lines}");
    setup.line("delivery", &socket).allow_with(service, &lines)
}

/// The option that puts the socket into a container.
fn volume(agent: &Agent) -> String {
    format!("--volume={}:/run/anteroom:ro", agent.path("door").display())
}

/// The options of a container that asks at the socket.
fn at_the_socket(agent: &Agent) -> [String; 3] {
    [
        volume(agent),
        format!("--env=ANTEROOM_TOKEN_FILE={SOCKET}"),
        "--env=ANTEROOM_TOKEN_WAIT=20s".to_owned(),
    ]
}

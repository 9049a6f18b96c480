//! Docker's API, as far as the agent needs it: who started, who died, and who is who.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{ContainerInspectResponse, EventMessage, SystemInfo};
use bollard::query_parameters::EventsOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::identity::{Claim, repository};

/// Longest wait for one answer, in seconds; the events are one answer that does not end.
const ANSWER_MAX: u64 = 15;
/// Networks that share another container's are named after it, and a container that has none has none of these.
const SHARED: &str = "container:";

/// Docker did not answer, or not as it should.
#[derive(Debug)]
pub struct Error {
    /// What was asked.
    pub request: &'static str,
    /// What went wrong.
    pub reason: String,
    /// There is no such container, or none any more.
    pub is_absence: bool,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Docker, asked to {}: {}", self.request, self.reason)
    }
}

impl std::error::Error for Error {}

fn failed(request: &'static str) -> impl Fn(bollard::errors::Error) -> Error {
    move |error| Error {
        request,
        is_absence: matches!(
            error,
            bollard::errors::Error::DockerResponseServerError {
                status_code: 404,
                ..
            }
        ),
        reason: error.to_string(),
    }
}

/// What became of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It runs.
    Started,
    /// It does not run any more.
    Died,
}

impl Error {
    /// There is no engine to ask.
    pub fn away() -> Error {
        Error {
            request: "inspect a container",
            reason: "it is away".to_owned(),
            is_absence: false,
        }
    }
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// To which container.
    pub container: String,
    /// All its labels.
    pub labels: HashMap<String, String>,
}

/// Containers that run, by id, with their labels.
pub type Running = HashMap<String, HashMap<String, String>>;

/// A connection to the engine.
#[derive(Clone)]
pub struct Engine {
    docker: Docker,
    /// It knows from which registry an image was pulled.
    pub knows_origins: bool,
}

impl Engine {
    /// Connects, and agrees on a version of the API.
    pub async fn connect(socket: &Path) -> Result<Engine, Error> {
        let failed = failed("connect");
        let socket = socket.to_string_lossy();
        let docker =
            Docker::connect_with_unix(&socket, ANSWER_MAX, API_DEFAULT_VERSION).map_err(&failed)?;
        let docker = docker.negotiate_version().await.map_err(&failed)?;
        let knows_origins = !keeps_images_in_containerd(&docker.info().await.map_err(&failed)?);
        Ok(Engine {
            docker,
            knows_origins,
        })
    }

    /// Starts and deaths since a time, then as they happen, until the connection breaks.
    pub fn events(
        &self,
        since: OffsetDateTime,
    ) -> impl Stream<Item = Result<Event, Error>> + use<> {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            (
                "event".to_owned(),
                vec!["start".to_owned(), "die".to_owned()],
            ),
        ]);
        let options = EventsOptionsBuilder::new()
            .since(&since.unix_timestamp().to_string())
            .filters(&filters)
            .build();
        self.docker
            .events(Some(options))
            .filter_map(|message| async move {
                match message {
                    Ok(message) => event(message).map(Ok),
                    Err(error) => Some(Err(failed("tell its events")(error))),
                }
            })
    }

    /// All containers that run, the paused ones among them.
    pub async fn running(&self) -> Result<Running, Error> {
        let containers = self.docker.list_containers(None).await;
        let containers = containers.map_err(failed("list the containers"))?;
        let labelled = containers
            .into_iter()
            .filter_map(|one| Some((one.id?, one.labels.unwrap_or_default())));
        Ok(labelled.collect())
    }

    /// What a container is; none when it does not run.
    pub async fn inspect(&self, container: &str) -> Result<Option<Claim>, Error> {
        let answer = self.docker.inspect_container(container, None).await;
        let answer = match answer.map_err(failed("inspect a container")) {
            Ok(answer) => answer,
            Err(error) if error.is_absence => return Ok(None),
            Err(error) => return Err(error),
        };
        let image = answer.image.clone().unwrap_or_default();
        let Some(mut claim) = claim(answer) else {
            return Ok(None);
        };
        // An image may be removed while its containers run: then it has its id alone.
        match self.docker.inspect_image(&image).await {
            Ok(image) => {
                let pulled = image.repo_digests.unwrap_or_default();
                for (name, digest) in pulled.iter().filter_map(|name| name.rsplit_once('@')) {
                    claim.digests.push(digest.to_owned());
                    if self.knows_origins {
                        claim.pulled_from.push(repository(name).to_owned());
                    }
                }
            }
            Err(error) => {
                let error = failed("inspect an image")(error);
                if !error.is_absence {
                    return Err(error);
                }
            }
        }
        Ok(Some(claim))
    }
}

/// There every tag makes a digest under its own name (`RepoDigests`), also one that was given by `docker tag`; elsewhere only
/// a pull or a push does.
fn keeps_images_in_containerd(info: &SystemInfo) -> bool {
    let status = info.driver_status.iter().flatten().flatten();
    status
        .into_iter()
        .any(|word| word == "io.containerd.snapshotter.v1")
}

fn event(message: EventMessage) -> Option<Event> {
    let change = match message.action.as_deref()? {
        "start" => Change::Started,
        "die" => Change::Died,
        _ => return None,
    };
    let actor = message.actor?;
    Some(Event {
        change,
        container: actor.id?,
        labels: actor.attributes.unwrap_or_default(),
    })
}

fn claim(answer: ContainerInspectResponse) -> Option<Claim> {
    let state = answer.state?;
    let config = answer.config?;
    if !state.running? {
        return None;
    }
    let mut networks: Vec<String> = answer
        .network_settings
        .and_then(|settings| settings.networks)
        .map(|networks| networks.into_keys().collect())
        .unwrap_or_default();
    let mode = answer.host_config.and_then(|host| host.network_mode);
    networks.extend(mode.filter(|mode| mode.starts_with(SHARED)));
    networks.sort_unstable();
    Some(Claim {
        container: answer.id?,
        name: answer.name?.trim_start_matches('/').to_owned(),
        labels: config.labels.unwrap_or_default(),
        image: config.image.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        digests: vec![answer.image?],
        pulled_from: Vec::new(),
        networks,
        pid: state.pid?.try_into().ok().filter(|pid| *pid > 0)?,
        started: OffsetDateTime::parse(&state.started_at?, &Rfc3339).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an engine says of its storage (`docker info`).
    fn engine(status: [[&str; 2]; 2]) -> SystemInfo {
        let status = status.map(|pair| pair.map(str::to_owned).to_vec());
        SystemInfo {
            driver_status: Some(status.to_vec()),
            ..SystemInfo::default()
        }
    }

    #[test]
    fn an_engine_whose_images_are_containerds_is_told_from_one_with_its_own() {
        let own = [["Backing Filesystem", "extfs"], ["Using metacopy", "false"]];
        assert!(!keeps_images_in_containerd(&engine(own)));
        let containerds = [["driver-type", "io.containerd.snapshotter.v1"], ["a", "b"]];
        assert!(keeps_images_in_containerd(&engine(containerds)));
        assert!(!keeps_images_in_containerd(&SystemInfo::default()));
    }
}

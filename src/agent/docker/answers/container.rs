//! One container, as an engine describes it.

use std::collections::HashMap;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::config::{Config, words};
use super::parse;
use crate::agent::identity::Claim;
use crate::agent::image::{Mount, Started, cleaned, is_within};

/// Networks that share another container's are named after it, and a container that has none has none of these.
const SHARED: &str = "container:";

/// A container, as far as the engine knows it.
#[derive(Debug)]
pub(crate) enum Inspection {
    /// The engine knows no such container.
    Absent,
    /// The container does not run: not yet, or not any more.
    Stopped,
    Running(Box<Claim>),
}

impl Inspection {
    /// The container, if it runs.
    pub(crate) fn running(self) -> Option<Claim> {
        match self {
            Inspection::Running(claim) => Some(*claim),
            Inspection::Absent | Inspection::Stopped => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    name: String,
    /// The image's id.
    image: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    mounts: Option<Vec<MountPoint>>,
    state: State,
    config: Config,
    #[serde(default)]
    network_settings: Option<NetworkSettings>,
    #[serde(default)]
    host_config: Option<HostConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    pid: i64,
    started_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MountPoint {
    #[serde(default, rename = "Type")]
    kind: Option<String>,
    #[serde(default)]
    destination: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    networks: Option<HashMap<String, serde::de::IgnoredAny>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    network_mode: Option<String>,
    #[serde(default)]
    pid_mode: Option<String>,
    #[serde(default)]
    privileged: Option<bool>,
    #[serde(default)]
    tmpfs: Option<HashMap<String, serde::de::IgnoredAny>>,
    #[serde(default)]
    links: Option<Vec<String>>,
    #[serde(default)]
    masked_paths: Option<Vec<String>>,
}

/// Reads what an engine says of the container with this id. Its image's names are not in that ([`image()`](super::image())).
///
/// An engine that knows no such id looks for a container of that *name*, and a name may look like any id: that is another one.
pub(crate) fn container(bytes: &[u8], id: &str) -> Result<Inspection, String> {
    let found: Container = parse(bytes)?;
    if found.id != id {
        return Ok(Inspection::Absent);
    }
    // One that waits for its next start is said to run, without a process.
    if !found.state.running || found.state.pid == 0 {
        return Ok(Inspection::Stopped);
    }
    let networks = found.network_settings.and_then(|found| found.networks);
    let mut networks: Vec<String> = networks.unwrap_or_default().into_keys().collect();
    let host = found.host_config.unwrap_or_default();
    let mounts = found.mounts.unwrap_or_default().into_iter();
    let mut mounts: Vec<Mount> = mounts
        .map(|mount| Mount {
            place: mount.destination.unwrap_or_default(),
            is_tmpfs: mount.kind.as_deref() == Some("tmpfs"),
        })
        .collect();
    let tmpfs = host.tmpfs.unwrap_or_default().into_keys();
    mounts.extend(tmpfs.map(|place| Mount {
        place,
        is_tmpfs: true,
    }));
    let masked = host.masked_paths.unwrap_or_default().into_iter();
    mounts.extend(
        masked
            .filter(|place| !is_of_kernel(place))
            .map(|place| Mount {
                place,
                is_tmpfs: false,
            }),
    );
    let mut command = vec![found.path];
    command.extend(found.args.unwrap_or_default());
    let mut health_check = words(found.config.healthcheck);
    if !health_check.is_empty() {
        // No container gets one from its image: it would run another program for the same words.
        health_check.extend(found.config.shell.unwrap_or_default());
    }
    let run = Started {
        command,
        directory: found.config.working_dir.unwrap_or_default(),
        variables: found.config.env.unwrap_or_default(),
        health_check,
        mounts,
        links: host.links.unwrap_or_default(),
        pid_mode: host.pid_mode.unwrap_or_default(),
        is_privileged: host.privileged.unwrap_or_default(),
    };
    let mode = host.network_mode;
    networks.extend(mode.filter(|mode| mode.starts_with(SHARED)));
    networks.sort_unstable();
    let pid = i32::try_from(found.state.pid).ok().filter(|pid| *pid > 0);
    let started = OffsetDateTime::parse(&found.state.started_at, &Rfc3339);
    Ok(Inspection::Running(Box::new(Claim {
        container: found.id,
        name: found.name.trim_start_matches('/').to_owned(),
        labels: found.config.labels.unwrap_or_default(),
        image: found.config.image.unwrap_or_default(),
        user: found.config.user.unwrap_or_default(),
        digests: vec![found.image],
        origins: None,
        run,
        made: None,
        networks,
        pid: pid.ok_or("it runs, and its first process has no number")?,
        started: started.map_err(|error| format!("when it started is no time: {error}"))?,
    })))
}

/// Whether an engine masks such a path by itself; others are chosen by the user who makes the container, and something empty
/// covers them. Deeper in `/proc`, links lead to any file (`/proc/self/root`).
fn is_of_kernel(path: &str) -> bool {
    cleaned(path).is_some_and(|path| {
        let in_proc = path.strip_prefix("/proc/");
        in_proc.is_some_and(|name| !name.contains('/')) || is_within(path, "/sys")
    })
}

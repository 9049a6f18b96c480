//! Reads the answers of an engine, as far as the agent needs them.
//!
//! Everything that comes from a container or its image is chosen by its owner, and engines check little of it:
//! ports of unknown protocols, labels of any size. So nothing is read but what is needed, each container by itself, and never
//! into a closed list of words.

use std::collections::HashMap;

use serde::{Deserialize, de::DeserializeOwned};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Change, Event};
use crate::agent::identity::{Claim, repository};
use crate::agent::image::{Made, Mount, Started, cleaned, is_within};

/// Networks that share another container's are named after it, and a container that has none has none of these.
const SHARED: &str = "container:";
/// How an engine that keeps its images in containerd calls that.
const CONTAINERD: &str = "io.containerd.snapshotter.v1";

/// A container, as far as the engine knows it.
#[derive(Debug)]
pub(crate) enum Inspection {
    /// The engine knows no such container.
    Absent,
    /// The container does not run: not yet, or not any more.
    Stopped,
    /// The container runs.
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

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
    /// The image as it was asked for.
    #[serde(default)]
    image: Option<String>,
    /// The user that the container was to start as.
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    working_dir: Option<String>,
    #[serde(default)]
    healthcheck: Option<HealthCheck>,
    /// The shell that runs a health check which is no list of words.
    #[serde(default)]
    shell: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthCheck {
    #[serde(default)]
    test: Option<Vec<String>>,
}

fn words(check: Option<HealthCheck>) -> Vec<String> {
    check.and_then(|check| check.test).unwrap_or_default()
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

/// Reads what an engine says of the container with this id. Its image's names are not in that ([`image`]).
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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    config: Option<Config>,
}

/// Reads under which names and digests registries know an image, and adds them.
pub(crate) fn image(bytes: &[u8], knows_origins: bool, claim: &mut Claim) -> Result<(), String> {
    let image: Image = parse(bytes)?;
    let pulled = image.repo_digests.unwrap_or_default();
    let mut origins = Vec::new();
    for (name, digest) in pulled.iter().filter_map(|name| name.rsplit_once('@')) {
        claim.digests.push(digest.to_owned());
        origins.push(repository(name).to_owned());
    }
    claim.origins = knows_origins.then_some(origins);
    let config = image.config.unwrap_or_default();
    claim.made = Some(Made {
        entrypoint: config.entrypoint.unwrap_or_default(),
        arguments: config.cmd.unwrap_or_default(),
        directory: config.working_dir.unwrap_or_default(),
        variables: config.env.unwrap_or_default(),
        health_check: words(config.healthcheck),
        user: config.user.unwrap_or_default(),
    });
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

/// Reads the id of a container that is listed.
pub(crate) fn listed(bytes: &[u8]) -> Result<String, String> {
    parse(bytes).and_then(|listed: Listed| checked_id(listed.id))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    #[serde(default, rename = "Type")]
    kind: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    actor: Option<Actor>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
}

/// Reads an event; none where it is about something else.
pub(crate) fn event(bytes: &[u8]) -> Result<Option<Event>, String> {
    let message: Message = parse(bytes)?;
    let change = match (message.kind.as_deref(), message.action.as_deref()) {
        (Some("container"), Some("start")) => Change::Started,
        (Some("container"), Some("die")) => Change::Died,
        _ => return Ok(None),
    };
    let actor = message.actor.ok_or("the event is about no container")?;
    Ok(Some(Event {
        change,
        container: checked_id(actor.id)?,
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(default)]
    driver_status: Option<Vec<Vec<String>>>,
}

/// Reads whether the engine knows from which registry an image was pulled.
///
/// Where containerd keeps the images, every tag makes a digest under its own name (`RepoDigests`), also one that was given by
/// `docker tag`; elsewhere only a pull or a push does.
pub(crate) fn knows_origins(bytes: &[u8]) -> Result<bool, String> {
    let info: Info = parse(bytes)?;
    let mut status = info.driver_status.iter().flatten().flatten();
    Ok(!status.any(|word| word == CONTAINERD))
}

#[derive(Deserialize)]
struct Complaint {
    message: String,
}

/// Reads what an engine says of why it does not do something.
pub(crate) fn complaint(bytes: &[u8]) -> Option<String> {
    parse(bytes).ok().map(|found: Complaint| found.message)
}

/// Whether a container's id looks like one: 64 hexadecimal digits, which need no escape in a path.
pub(crate) fn is_id(text: &str) -> bool {
    let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 64 && text.bytes().all(is_hex)
}

fn checked_id(id: String) -> Result<String, String> {
    if is_id(&id) {
        Ok(id)
    } else {
        Err("its id is not 64 hexadecimal digits".to_owned())
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn inspected(changes: &[(&str, serde_json::Value)]) -> Vec<u8> {
        let mut answer = serde_json::json!({
            "Id": ID,
            "Name": "/timeline",
            "Image": "sha256:1",
            "State": {"Running": true, "Pid": 7, "StartedAt": "2026-01-02T03:04:05.678Z"},
            "Config": {
                "Image": "timeline:1",
                "Labels": {"app": "timeline"},
                "ExposedPorts": {"80/foo": {}},
            },
            "NetworkSettings": {"Networks": {"b": {"Links": null}, "a": null}},
            "HostConfig": {"NetworkMode": "bridge", "RestartPolicy": {"Name": "of another engine"}},
            "Ports": [{"Type": "0"}],
        });
        for (pointer, value) in changes {
            *answer.pointer_mut(pointer).expect("a field") = value.clone();
        }
        answer.to_string().into_bytes()
    }

    #[test]
    fn container_with_its_own_words_is_read() {
        let claim = container(&inspected(&[]), ID).expect("readable");
        let claim = claim.running().expect("running");
        assert_eq!((claim.container.as_str(), claim.pid), (ID, 7));
        assert_eq!(claim.name, "timeline");
        assert_eq!(claim.labels["app"], "timeline");
        assert_eq!(claim.networks, ["a", "b"]);
        assert_eq!(claim.digests, ["sha256:1"]);
        let shared = [("/HostConfig/NetworkMode", "container:x".into())];
        let claim = container(&inspected(&shared), ID)
            .expect("readable")
            .running();
        assert_eq!(claim.expect("running").networks, ["a", "b", "container:x"]);
    }

    #[test]
    fn container_that_stopped_is_neither_running_nor_absent() {
        for (pointer, value) in [("/State/Running", false.into()), ("/State/Pid", 0.into())] {
            let stopped = container(&inspected(&[(pointer, value)]), ID);
            assert!(matches!(stopped, Ok(Inspection::Stopped)), "{stopped:?}");
            assert!(stopped.expect("readable").running().is_none());
        }
    }

    #[test]
    fn masked_place_is_a_mount_unless_it_is_the_kernels() {
        for (place, is_mount) in [
            ("/proc/kcore", false),
            ("/proc/acpi", false),
            ("/sys/firmware", false),
            ("/sys/devices/virtual/powercap", false),
            ("/etc/anteroom.toml", true),
            ("/app", true),
            ("/proc/self/root/etc/anteroom.toml", true),
            ("/proc/1/cwd/app", true),
            ("/sys/../etc", true),
            ("/proc/../etc", true),
            ("/process", true),
            ("proc/kcore", true),
            ("", true),
        ] {
            let host = serde_json::json!({"MaskedPaths": [place]});
            let claim = container(&inspected(&[("/HostConfig", host)]), ID).expect("readable");
            let mounts = claim.running().expect("running").run.mounts;
            let expected = is_mount.then(|| Mount {
                place: place.to_owned(),
                is_tmpfs: false,
            });
            assert_eq!(mounts, Vec::from_iter(expected), "{place}");
        }
    }

    #[test]
    fn health_check_by_another_shell_is_another_one() {
        let read = |shell: serde_json::Value| {
            let mut whole: serde_json::Value =
                serde_json::from_slice(&inspected(&[])).expect("readable");
            whole["Config"]["Healthcheck"] = serde_json::json!({"Test": ["CMD-SHELL", "x"]});
            whole["Config"]["Shell"] = shell;
            let claim = container(whole.to_string().as_bytes(), ID).expect("readable");
            claim.running().expect("running").run.health_check
        };
        assert_eq!(read(serde_json::json!(null)), ["CMD-SHELL", "x"]);
        assert_ne!(read(serde_json::json!(["cat", "/x"])), ["CMD-SHELL", "x"]);
    }

    #[test]
    fn container_that_is_only_named_like_an_id_is_another() {
        let id = "f".repeat(64);
        for name in ["timeline", &id] {
            for running in [true, false] {
                let changes = [
                    ("/Name", format!("/{name}").into()),
                    ("/State/Running", running.into()),
                ];
                let found = container(&inspected(&changes), &id);
                assert!(matches!(found, Ok(Inspection::Absent)), "{found:?}");
            }
        }
    }

    #[test]
    fn container_with_nonsense_is_unreadable_and_not_absent() {
        for (pointer, value) in [
            ("/State/Pid", serde_json::json!(-1)),
            ("/State/Pid", serde_json::json!(1_i64 << 40)),
            ("/State/StartedAt", serde_json::json!("soon")),
            ("/State", serde_json::json!(null)),
            ("/Config/Labels", serde_json::json!([])),
            ("/Config/Labels", serde_json::json!({"app": 7})),
            ("/Image", serde_json::json!(["sha256:1"])),
        ] {
            let found = container(&inspected(&[(pointer, value.clone())]), ID);
            assert!(found.is_err(), "{pointer} {value}: {found:?}");
        }
        assert!(container(b"[]", ID).is_err());
        assert!(container(b"", ID).is_err());
    }

    #[test]
    fn image_is_pulled_from_where_the_engine_says_if_it_knows() {
        let answer =
            br#"{"RepoDigests": ["r.example/team/x@sha256:2", "docker.io/y@sha256:3", "odd"]}"#;
        for (knows, origins) in [
            (true, Some(&["r.example/team/x", "docker.io/y"][..])),
            (false, None),
        ] {
            let claim = container(&inspected(&[]), ID).expect("readable").running();
            let mut claim = claim.expect("running");
            image(answer, knows, &mut claim).expect("readable");
            assert_eq!(claim.digests, ["sha256:1", "sha256:2", "sha256:3"]);
            let found = claim
                .origins
                .as_ref()
                .map(|all| all.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(found.as_deref(), origins);
            image(br#"{"RepoDigests": null}"#, knows, &mut claim).expect("readable");
            assert!(image(br#"{"RepoDigests": 7}"#, knows, &mut claim).is_err());
        }
    }

    #[test]
    fn start_and_image_are_read_as_far_as_they_are_compared() {
        let changes = [
            ("/Path", "/anteroom".into()),
            ("/Args", serde_json::json!(["--", "java"])),
            (
                "/Mounts",
                serde_json::json!([{"Type": "bind", "Destination": "/data"}, {"Type": "tmpfs", "Destination": "/opt"}]),
            ),
            ("/Config/WorkingDir", "/app".into()),
            ("/Config/Env", serde_json::json!(["A=1"])),
            (
                "/Config/Healthcheck",
                serde_json::json!({"Test": ["CMD", "x"], "Interval": 7}),
            ),
            (
                "/HostConfig",
                serde_json::json!({"Tmpfs": {"/run": "size=1m"}, "PidMode": "host", "Privileged": true, "Links": ["/x:/y/z"], "MaskedPaths": ["/proc/kcore", "/etc/x"]}),
            ),
        ];
        let mut whole: serde_json::Value =
            serde_json::from_slice(&inspected(&[])).expect("readable");
        for (pointer, value) in changes {
            let (top, key) = pointer.rsplit_once('/').expect("it has a slash");
            whole.pointer_mut(top).expect("it is there")[key] = value;
        }
        let claim = container(whole.to_string().as_bytes(), ID).expect("readable");
        let mut claim = claim.running().expect("running");
        let mount = |place: &str, is_tmpfs| Mount {
            place: place.to_owned(),
            is_tmpfs,
        };
        let words = |words: &[&str]| -> Vec<String> {
            words.iter().map(|word| (*word).to_owned()).collect()
        };
        let expected = Started {
            command: words(&["/anteroom", "--", "java"]),
            directory: "/app".to_owned(),
            variables: words(&["A=1"]),
            health_check: words(&["CMD", "x"]),
            mounts: vec![
                mount("/data", false),
                mount("/opt", true),
                mount("/run", true),
                mount("/etc/x", false),
            ],
            links: words(&["/x:/y/z"]),
            pid_mode: "host".to_owned(),
            is_privileged: true,
        };
        assert_eq!(claim.run, expected);
        assert_eq!(claim.made, None);
        let answer = br#"{"Config": {"Entrypoint": ["/anteroom"], "Cmd": ["x"], "Env": ["A=2"],
            "WorkingDir": "/w", "User": "app", "Healthcheck": {"Test": ["NONE"]}}}"#;
        image(answer, true, &mut claim).expect("readable");
        let made = Made {
            entrypoint: words(&["/anteroom"]),
            arguments: words(&["x"]),
            directory: "/w".to_owned(),
            variables: words(&["A=2"]),
            health_check: words(&["NONE"]),
            user: "app".to_owned(),
        };
        assert_eq!(claim.made, Some(made));
        image(br#"{"Config": null}"#, true, &mut claim).expect("readable");
        assert_eq!(claim.made, Some(Made::default()));
    }

    #[test]
    fn listed_container_is_known_by_its_id_alone() {
        let entry = format!(r#"{{"Id":"{ID}","Ports":[{{"Type":"0"}}],"Labels":7,"State":{{}}}}"#);
        assert_eq!(listed(entry.as_bytes()), Ok(ID.to_owned()));
        for entry in [r#"{"Id":"../x"}"#, r#"{"Id":7}"#, "{}", r#"{"Id":""}"#] {
            assert!(listed(entry.as_bytes()).is_err(), "{entry}");
        }
    }

    #[test]
    fn events_of_containers_are_told_from_all_others() {
        let read = |kind: &str, action: &str| {
            let actor = format!(r#"{{"ID":"{ID}","Attributes":{{"x":7}}}}"#);
            let text = format!(r#"{{"Type":"{kind}","Action":"{action}","Actor":{actor}}}"#);
            let found = event(text.as_bytes()).expect("readable");
            found.map(|found| (found.change, found.container))
        };
        let id = || ID.to_owned();
        assert_eq!(read("container", "start"), Some((Change::Started, id())));
        assert_eq!(read("container", "die"), Some((Change::Died, id())));
        assert_eq!(read("container", "exec_start: sh"), None);
        assert_eq!(read("network", "start"), None);
        let nameless = br#"{"Type":"container","Action":"die","Actor":{"ID":"x"}}"#;
        assert!(event(nameless).is_err());
        assert!(event(br#"{"Type":"container","Action":"die"}"#).is_err());
    }

    #[test]
    fn engine_whose_images_are_containerds_knows_no_origins() {
        let own = br#"{"DriverStatus": [["Backing Filesystem", "extfs"], ["a", "b"]]}"#;
        assert_eq!(knows_origins(own), Ok(true));
        let other = br#"{"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}"#;
        assert_eq!(knows_origins(other), Ok(false));
        assert_eq!(knows_origins(b"{}"), Ok(true));
        assert!(knows_origins(br#"{"DriverStatus": "x"}"#).is_err());
    }
}

use super::*;
use crate::agent::image::{Made, Mount, Started};

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
    let mut whole: serde_json::Value = serde_json::from_slice(&inspected(&[])).expect("readable");
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
    let words =
        |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
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

//! Containers that may not have a token: they get nothing, and the operator and the application are told.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;

use super::{STAY, TMPFS, TOKEN, entered, on_host, plain, small};
use crate::start::container::image;
use crate::support::agent::{Agent, Setup, id, minted};
use crate::support::docker::{self, Container};
use crate::support::{OpenBao, Service, TempDir, probe, wait_for};

/// Waits for the one refusal of this container, and looks whether it has nothing.
#[track_caller]
fn assert_refused(agent: &Agent, container: &Container, reason: &str) {
    let event = agent.wait_about(container, "refused", 1);
    assert_eq!(event["reason"], reason, "{event}");
    assert_eq!(event["level"], "warn", "{event}");
    assert!(agent.about(container, "handed_out").is_empty());
    let found = container.exec(&["ls", TOKEN]);
    assert_ne!(found.code, 0, "{found:#?}");
}

#[test]
fn image_outside_the_allow_list_gets_no_token_and_is_reported() {
    docker::require!();
    let service = Service::new();
    let image = entered(&small(&service));
    let agent = Setup::of(&service, "team/timeline").start();
    let options = on_host(&["--env", "ANTEROOM_TOKEN_WAIT=3s"]);
    let container = agent.run(&service, image.tag(), &options, &["echo", "started"]);
    let event = agent.wait_about(&container, "refused", 1);
    for (field, value) in [
        ("reason", json!("image")),
        ("level", json!("warn")),
        ("container", json!(id(&container))),
        ("name", json!(container.name())),
        ("app", json!(service.app)),
        ("environment", json!(service.environment)),
        ("image", json!(image.tag())),
        ("image_digest", container.inspect("{{json .Image}}")),
    ] {
        assert_eq!(event[field], value, "{event}");
    }
    assert_eq!(container.wait(), 66, "{:#?}", container.logs());
    let logs = container.logs();
    assert_eq!(logs.stdout, "");
    assert!(logs.stderr.contains("anteroom-agent"), "{logs:#?}");
    assert_eq!(agent.count("refused"), 1, "once");
    assert_eq!(agent.reasons("refused", "image"), 1.0);
    assert_eq!(agent.metric("minted_total"), 0.0);
    assert!(minted(OpenBao::shared(), &service).is_empty());
}

#[test]
fn misleading_labels_are_refused_in_one_line_each() {
    docker::require!();
    let service = Service::new();
    let agent = Setup::of(&service, &plain()).start();
    let (app, environment) = (service.app.as_str(), service.environment.as_str());
    let long = "x".repeat(10 * 1024);
    let line = format!("{app}\n{{\"event\":\"handed_out\"}}");
    let claims = [
        ("/", environment),
        ("..", environment),
        (app, "../production"),
        (app, "production/../test"),
        (&*line, environment),
        (app, "test\r\n"),
        (&*long, environment),
        (app, &*long),
        ("tïmeline\u{202e}\u{1f510}", environment),
        (app, "\u{1b}[2J"),
        ("${app}", "${environment}"),
        ("", ""),
        (app, ""),
        (app, "*"),
    ];
    for (number, (app, environment)) in claims.into_iter().enumerate() {
        let labels = agent.labels(app, environment);
        let options = [TMPFS[0], TMPFS[1], &labels[0], &labels[1]];
        let container = Container::run(plain(), &options, &STAY);
        assert_refused(&agent, &container, "unknown_identity");
        assert_eq!(
            agent.count("refused"),
            number + 1,
            "{app:?} {environment:?}"
        );
    }
    // One of the two is as good as none.
    let labels = agent.labels(app, environment);
    let container = Container::run(plain(), &[TMPFS[0], TMPFS[1], &labels[0]], &STAY);
    assert_refused(&agent, &container, "label_missing");

    let log = agent.log();
    assert_eq!(agent.events().len(), log.lines().count(), "{log}");
    assert!(agent.named("handed_out").is_empty(), "{log}");
    for line in log.lines() {
        assert!(line.len() < 4096, "{} bytes: {line}", line.len());
        assert!(!line.contains(['\u{1b}', '\u{202e}', '\r']), "{line:?}");
    }
    assert!(minted(OpenBao::shared(), &service).is_empty());
    assert_eq!(
        agent.reasons("refused", "unknown_identity"),
        claims.len() as f64
    );
}

#[test]
fn rule_says_which_users_networks_and_digests() {
    docker::require!();
    let image = plain();
    let digest = docker::docker(["inspect", "--format", "{{.Id}}", &image]).stdout;
    let digest = digest.trim();
    let other = format!("sha256:{}", "0".repeat(64));
    let images = format!("images = [{image:?}]");
    let cases = [
        (format!("{images}\nusers = [\"1000\"]"), "--user=1000", None),
        (
            format!("{images}\nusers = [\"1000:1000\"]"),
            "--user=1000:7",
            Some("user"),
        ),
        (
            format!("{images}\nusers = [\"1000\"]"),
            "--user=0",
            Some("user"),
        ),
        (
            format!("{images}\nnetworks = [\"host\"]"),
            "--network=host",
            None,
        ),
        (
            format!("{images}\nnetworks = [\"backend\"]"),
            "--network=host",
            Some("network"),
        ),
        (
            format!("{images}\nnetworks = [\"backend\"]"),
            "--network=none",
            Some("network"),
        ),
        (format!("digests = [{digest:?}]"), "--user=0", None),
        (
            format!("{images}\ndigests = [{digest:?}]"),
            "--user=0",
            None,
        ),
        (
            format!("{images}\ndigests = [{other:?}]"),
            "--user=0",
            Some("image"),
        ),
        (
            format!("images = [\"elsewhere\"]\ndigests = [{digest:?}]"),
            "--user=0",
            Some("image"),
        ),
    ];
    let service = Service::new();
    for (rule, option, reason) in cases {
        let agent = Setup::new(&service.admin)
            .allow_with(&service, &format!("{rule}\n"))
            .start();
        let container = agent.run(&service, &image, &[TMPFS[0], TMPFS[1], option], &STAY);
        match reason {
            None => {
                agent.wait_about(&container, "handed_out", 1);
            }
            Some(reason) => assert_refused(&agent, &container, reason),
        }
    }
}

#[test]
fn container_started_unlike_its_image_gets_nothing() {
    docker::require!();
    let service = Service::new();
    // What runs stays, whatever is changed: the agent looks at a container that lives.
    let lines = [r#"ENTRYPOINT ["sleep"]"#, r#"CMD ["1000"]"#];
    let image = image(&plain(), &small(&service), &lines);
    let start = |command: &str| {
        let images = format!("images = [{:?}]\n", image.tag());
        let rule = format!(
            "{images}command = {command:?}\nvariables = [\"MODE\"]\nmounts = [\"/data\"]\n"
        );
        let setup = Setup::new(&service.admin).allow_with(&service, &rule);
        setup.start()
    };
    let agent = start("image");
    for (options, reason) in [
        (&["--entrypoint", "/bin/sleep"][..], "command"),
        (&["--workdir", "/tmp"], "command"),
        (
            &["--health-cmd", "cat /run/secrets/.anteroom-token"],
            "command",
        ),
        (&["--env", "ANTEROOM_MANIFEST=/tmp/x"], "variable"),
        (&["--env", "LD_PRELOAD=/data/x.so"], "variable"),
        (&["--volume", "/dev/null:/etc/anteroom.toml:ro"], "mount"),
        (&["--tmpfs", "/etc"], "mount"),
        (&["--mount", "type=tmpfs,destination=/opt"], "mount"),
        (&["--volume", "/tmp:/run/x"], "mount"),
        (&["--pid", "host"], "rights"),
    ] {
        let options = on_host(options);
        let container = agent.run(&service, image.tag(), &options, &["1000"]);
        let event = agent.wait_about(&container, "refused", 1);
        assert_eq!(event["reason"], reason, "{options:?}: {event}");
        assert!(agent.about(&container, "handed_out").is_empty());
    }
    let more = [
        "--env",
        "MODE=x",
        "--env",
        "ANTEROOM_TOKEN_WAIT=30s",
        "--volume",
        "/tmp:/data:ro",
    ];
    let options = on_host(&[&more[..], &["--tmpfs", "/tmp"]].concat());
    let container = agent.run(&service, image.tag(), &options, &["999"]);
    agent.wait_about(&container, "handed_out", 1);

    // Docker gives it `DB_ENV_MODE` and others, and names none of them.
    let other = Container::run(plain(), &["--env", "MODE=x"], &STAY);
    let link = format!("{}:db", other.name());
    let options = [TMPFS[0], TMPFS[1], "--link", &link];
    let container = agent.run(&service, image.tag(), &options, &["1000"]);
    let event = agent.wait_about(&container, "refused", 1);
    assert_eq!(event["reason"], "variable", "{event}");

    // The whole command is asked for as well, or said again.
    let agent = start("image-exact");
    let container = agent.run(&service, image.tag(), &on_host(&[]), &["999"]);
    let event = agent.wait_about(&container, "refused", 1);
    assert_eq!(event["reason"], "command", "{event}");
    for command in [&[][..], &["1000"]] {
        let container = agent.run(&service, image.tag(), &on_host(&[]), command);
        agent.wait_about(&container, "handed_out", 1);
    }
}

#[test]
fn container_with_one_differing_user_id_gets_nothing() {
    docker::require!();
    let service = Service::new();
    let (_directory, program) = probe::build("support/as.c");
    let mount = format!("{}:/as:ro", program.display());
    let rule = format!("images = [{:?}]\nusers = [\"1000:1000\"]\n", plain());
    let agent = Setup::new(&service.admin)
        .allow_with(&service, &rule)
        .prepare();
    let free = "--security-opt=seccomp=unconfined";
    for (how, user, event) in [
        ("fs", "--user=0", "refused"),
        ("kept", "--user=0", "refused"),
        // Whole, but Docker was told to start it as root.
        ("whole", "--user=0", "refused"),
        ("whole", "--user=root", "refused"),
        ("apart", "--user=0", "refused"),
        ("whole", "--user=1000:1000", "handed_out"),
    ] {
        let options = [TMPFS[0], TMPFS[1], "--volume", &mount, user, free];
        let container = agent.run(&service, &plain(), &options, &["/as", how]);
        wait_for("the change of its user", Duration::from_secs(60), || {
            container.logs().stdout.contains("done").then_some(())
        });
        // The agent looks when it is what it pretends to be.
        agent.start();
        let event = agent.wait_about(&container, event, 1);
        agent.kill();
        if event["event"] == "refused" {
            assert_eq!(event["reason"], "user", "{how} {user}: {event}");
            assert!(agent.about(&container, "handed_out").is_empty());
        }
    }
}

#[test]
fn token_that_is_denied_or_could_not_be_revoked_is_refused() {
    docker::require!();
    let service = Service::new();
    let images = format!("images = [{:?}]\n", plain());
    // The agent's policy names another role.
    let agent = Setup::new(&service.admin)
        .allow_with(&service, &format!("{images}role = \"root\"\n"))
        .start();
    let container = agent.run(&service, &plain(), &TMPFS, &STAY);
    assert_refused(&agent, &container, "vault_denied");
    let event = &agent.about(&container, "refused")[0];
    let message = event["message"].as_str().expect("it has one");
    assert!(message.contains("auth/token/create/root"), "{event}");
    assert_eq!(agent.healthz().0, 200, "its own token is good");

    let batch = json!({"token_type": "batch", "renewable": false, "orphan": true});
    service.set_token_role(batch);
    let agent = Setup::of(&service, &plain()).start();
    let container = agent.run(&service, &plain(), &TMPFS, &STAY);
    assert_refused(&agent, &container, "no_accessor");
}

#[test]
fn directories_of_the_agent_are_made_or_named_all_at_once() {
    let service = Service::new();
    let base = TempDir::new();
    // Nothing can be made below a file.
    base.write("file", "");
    let directories = [("lib", 0o700), ("run", 0o755), ("run/door", 0o755)];
    let agent_below = |name: &str| {
        let at = |path: &str| base.join(name).join(path).display().to_string();
        let setup = Setup::of(&service, "timeline");
        let files = [
            ("register", at("lib/register.json")),
            ("control", at("run/control.sock")),
            (
                "listen",
                format!("unix:{}", setup.path("listen.sock").display()),
            ),
        ];
        let files: String = files
            .map(|(key, value)| format!("{key} = {value:?}\n"))
            .concat();
        let door = format!("socket = {:?}\n", at("run/door/agent.sock"));
        let agent = setup
            .table("agent", files)
            .table("delivery", door)
            .prepare();
        agent.spawn();
        agent
    };
    let agent = agent_below("file");
    assert_eq!(agent.wait(), Some(73), "{}", agent.log());
    let failed = agent.named("failed");
    assert_eq!(failed.len(), 1, "{failed:#?}");
    let text = failed[0]["message"].to_string();
    for (name, mode) in directories {
        let path = base.join("file").join(name);
        let command = format!("install -d -m {mode:04o} '{}'", path.display());
        assert!(text.contains(&command), "{command}: {text}");
    }

    let agent = agent_below("made");
    agent.wait_for("ready");
    for (name, mode) in directories {
        let found = std::fs::metadata(base.join("made").join(name)).expect("it was made");
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{name}");
    }
    let check = agent.command(&["check"]);
    assert!(
        check.stdout.contains(": 1 kind of container may"),
        "{check:#?}"
    );
}

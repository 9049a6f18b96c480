use super::*;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn made() -> Made {
    Made {
        entrypoint: words("/anteroom --"),
        arguments: words("java -jar app.jar"),
        directory: "/app".to_owned(),
        variables: words("PATH=/bin LANG=C"),
        health_check: words("CMD /anteroom health"),
        user: String::new(),
    }
}

fn started() -> Started {
    Started {
        command: words("/anteroom -- java -jar app.jar"),
        directory: "/app".to_owned(),
        variables: words("PATH=/bin LANG=C ENVIRONMENT=production"),
        health_check: words("CMD /anteroom health"),
        mounts: vec![
            mount("/run/secrets", true),
            mount("/var/lib/timeline", false),
        ],
        pid_mode: String::new(),
        is_privileged: false,
    }
}

fn mount(place: &str, is_tmpfs: bool) -> Mount {
    let place = place.to_owned();
    Mount { place, is_tmpfs }
}

fn demand(command: Command) -> Demand {
    Demand {
        command,
        variables: words("ENVIRONMENT"),
        mounts: words("/var/lib/timeline"),
    }
}

/// The reason for each of the two commands.
fn reasons(change: impl Fn(&mut Started, &mut Made)) -> [&'static str; 2] {
    let (mut started, mut made) = (started(), made());
    change(&mut started, &mut made);
    [Command::Image, Command::ImageExact].map(|command| {
        match demand(command).check(&started, Some(&made)) {
            Ok(()) => "allowed",
            Err(difference) => {
                assert!(!difference.to_string().is_empty());
                difference.reason()
            }
        }
    })
}

#[test]
fn command_is_that_of_the_image_or_begins_like_it() {
    for (command, expected) in [
        ("/anteroom -- java -jar app.jar", ["allowed", "allowed"]),
        ("/anteroom -- sh -c id", ["allowed", "command"]),
        ("/anteroom --", ["allowed", "command"]),
        ("/anteroom", ["command", "command"]),
        ("/anteroom --dry-run -- java", ["command", "command"]),
        ("/bin/sh -c id", ["command", "command"]),
        ("java -jar app.jar", ["command", "command"]),
        ("", ["command", "command"]),
    ] {
        let found = reasons(|started, _| started.command = words(command));
        assert_eq!(found, expected, "{command}");
    }
    // An image without an ENTRYPOINT has nothing to begin with, and one without both nothing at all.
    let found = reasons(|started, made| {
        made.entrypoint.clear();
        started.command = words("java -jar app.jar");
    });
    assert_eq!(found, ["command", "allowed"]);
    let found = reasons(|started, made| {
        made.entrypoint.clear();
        made.arguments.clear();
        started.command.clear();
    });
    assert_eq!(found, ["command", "command"]);
    let exact = demand(Command::ImageExact).check(&started(), None);
    assert_eq!(exact, Err(Difference::NoImage));
}

#[test]
fn directory_and_health_check_are_the_images() {
    let all = |reason| [reason, reason];
    let found = |change: fn(&mut Started, &mut Made)| reasons(change);
    assert_eq!(found(|s, _| s.directory = "/tmp".into()), all("command"));
    assert_eq!(found(|_, m| m.directory.clear()), all("command"));
    assert_eq!(
        found(|s, m| {
            s.directory = "/".into();
            m.directory.clear();
        }),
        all("allowed")
    );
    assert_eq!(
        found(|s, _| s.health_check = words("CMD cat /run/secrets/x")),
        all("command")
    );
    assert_eq!(found(|_, m| m.health_check.clear()), all("command"));
    // Switched off, or never there.
    assert_eq!(found(|s, _| s.health_check = words("NONE")), all("allowed"));
    assert_eq!(found(|s, _| s.health_check.clear()), all("allowed"));
}

#[test]
fn variables_are_the_images_or_named() {
    for (variables, expected) in [
        ("PATH=/bin LANG=C", "allowed"),
        ("LANG=C PATH=/bin ENVIRONMENT=x", "allowed"),
        (
            "PATH=/bin LANG=C ANTEROOM_TOKEN_FILE=/x ANTEROOM_TOKEN_WAIT=3s",
            "allowed",
        ),
        ("PATH=/bin LANG=C LD_PRELOAD=/x.so", "variable"),
        ("PATH=/bin LANG=C ANTEROOM_MANIFEST=/x", "variable"),
        ("PATH=/bin LANG=C JAVA_TOOL_OPTIONS=x", "variable"),
        ("PATH=/tmp LANG=C", "variable"),
        ("PATH=/bin", "variable"),
        ("", "variable"),
        ("PATH=/bin LANG=C ENVIRONMENTS=x", "variable"),
    ] {
        let found = reasons(|started, _| started.variables = words(variables));
        assert_eq!(found, [expected, expected], "{variables}");
    }
}

#[test]
fn mounts_are_named_or_a_tmpfs_where_no_program_is() {
    for (place, is_tmpfs, expected) in [
        ("/run/secrets", true, "allowed"),
        ("/run/secrets/", true, "allowed"),
        ("/run", true, "allowed"),
        ("/tmp", true, "allowed"),
        ("/dev/shm", true, "allowed"),
        ("/run/secrets", false, "mount"),
        ("/tmp", false, "mount"),
        ("/var/lib/timeline", false, "allowed"),
        ("/var/lib/timeline/", true, "allowed"),
        ("/var/lib/timeline/lib", false, "mount"),
        ("/var/lib", false, "mount"),
        ("/anteroom", false, "mount"),
        ("/anteroom", true, "mount"),
        ("/etc/anteroom.toml", false, "mount"),
        ("/etc", true, "mount"),
        ("/", true, "mount"),
        ("/running", true, "mount"),
        ("/run/../etc", true, "mount"),
        ("/run//x", true, "mount"),
        ("/run/./x", true, "mount"),
        ("run", true, "mount"),
        ("", true, "mount"),
    ] {
        let found = reasons(|started, _| started.mounts.push(mount(place, is_tmpfs)));
        assert_eq!(found, [expected, expected], "{place} {is_tmpfs}");
    }
}

#[test]
fn rights_beyond_the_container_are_none() {
    for (mode, expected) in [
        ("", "allowed"),
        ("private", "allowed"),
        ("host", "rights"),
        ("container:abc", "rights"),
    ] {
        let found = reasons(|started, _| started.pid_mode = mode.to_owned());
        assert_eq!(found, [expected, expected], "{mode}");
    }
    let found = reasons(|started, _| started.is_privileged = true);
    assert_eq!(found, ["rights", "rights"]);
}

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

/// A start that fits `made` and `demand`.
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
        links: Vec::new(),
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

/// The outcome where arguments are free, and where they are the image's.
fn outcomes(started: &Started, made: &Made) -> [Result<(), Difference>; 2] {
    [Command::Image, Command::ImageExact].map(|command| demand(command).check(started, Some(made)))
}

/// The outcome where it is the same for both commands.
fn outcome(started: &Started, made: &Made) -> Result<(), Difference> {
    let [with_any_arguments, exact] = outcomes(started, made);
    assert_eq!(with_any_arguments, exact);
    exact
}

const FITS: Result<(), Difference> = Ok(());

fn other(what: &'static str) -> Result<(), Difference> {
    Err(Difference::Command { what })
}

#[test]
fn command_is_that_of_the_image_or_begins_like_it() {
    for (sentence, command, begins, is_whole) in [
        ("the image's", "/anteroom -- java -jar app.jar", true, true),
        ("other arguments", "/anteroom -- sh -c id", true, false),
        (
            "one argument more",
            "/anteroom -- java -jar app.jar x",
            true,
            false,
        ),
        ("the arguments left out", "/anteroom --", true, false),
        ("half of the ENTRYPOINT", "/anteroom", false, false),
        ("a flag within", "/anteroom --dry-run -- java", false, false),
        ("another program", "/bin/sh -c id", false, false),
        ("the CMD alone", "java -jar app.jar", false, false),
        ("nothing", "", false, false),
    ] {
        let mut started = started();
        started.command = words(command);
        let expected = [begins, is_whole].map(|fits| if fits { FITS } else { other("command") });
        assert_eq!(outcomes(&started, &made()), expected, "{sentence}");
    }
}

#[test]
fn image_without_entrypoint_binds_by_its_whole_command_alone() {
    for (sentence, arguments, command, is_whole) in [
        ("its CMD", "java -jar app.jar", "java -jar app.jar", true),
        ("another command", "java -jar app.jar", "sh -c id", false),
        ("any command, where it has none", "", "sh -c id", false),
        ("no command, where it has none", "", "", false),
    ] {
        let (mut started, mut made) = (started(), made());
        made.entrypoint.clear();
        made.arguments = words(arguments);
        started.command = words(command);
        let exact = if is_whole { FITS } else { other("command") };
        let expected = [other("command"), exact];
        assert_eq!(outcomes(&started, &made), expected, "{sentence}");
    }
}

#[test]
fn start_without_its_image_fits_no_demand() {
    for command in [Command::Image, Command::ImageExact] {
        let found = demand(command).check(&started(), None);
        assert_eq!(found, Err(Difference::NoImage));
    }
}

#[test]
fn directory_and_health_check_are_the_images() {
    let directory = || other("working directory");
    for (sentence, own, of_image, expected) in [
        ("the image's", "/app", "/app", FITS),
        ("another", "/tmp", "/app", directory()),
        ("one where the image has none", "/app", "", directory()),
        ("none where the image has one", "", "/app", directory()),
        ("the root where the image has none", "/", "", FITS),
        ("none where the image has the root", "", "/", FITS),
    ] {
        let (mut started, mut made) = (started(), made());
        started.directory = own.to_owned();
        made.directory = of_image.to_owned();
        assert_eq!(outcome(&started, &made), expected, "{sentence}");
    }
    let check = || other("health check");
    for (sentence, own, of_image, expected) in [
        ("the image's", "CMD /x health", "CMD /x health", FITS),
        (
            "another",
            "CMD cat /run/secrets/x",
            "CMD /x health",
            check(),
        ),
        ("one more word", "CMD /x health x", "CMD /x health", check()),
        (
            "one word, which is no switch",
            "CMD",
            "CMD /x health",
            check(),
        ),
        ("one where the image has none", "CMD /x health", "", check()),
        (
            "one where the image has switched it off",
            "CMD /x",
            "NONE",
            check(),
        ),
        ("switched off", "NONE", "CMD /x health", FITS),
        ("none", "", "CMD /x health", FITS),
        ("none at all", "", "", FITS),
        ("switched off by both", "NONE", "NONE", FITS),
    ] {
        let (mut started, mut made) = (started(), made());
        started.health_check = words(own);
        made.health_check = words(of_image);
        assert_eq!(outcome(&started, &made), expected, "{sentence}");
    }
}

#[test]
fn variables_are_the_images_or_named() {
    for (sentence, variables, other) in [
        ("the image's", "PATH=/bin LANG=C", None),
        (
            "in another order, and a named one",
            "LANG=C PATH=/bin ENVIRONMENT=x",
            None,
        ),
        (
            "the place of the token and how long to wait for it",
            "PATH=/bin LANG=C ANTEROOM_TOKEN_FILE=/x ANTEROOM_TOKEN_WAIT=3s",
            None,
        ),
        (
            "a library",
            "PATH=/bin LANG=C LD_PRELOAD=/x.so",
            Some("LD_PRELOAD"),
        ),
        (
            "another variable of anteroom's",
            "PATH=/bin LANG=C ANTEROOM_MANIFEST=/x",
            Some("ANTEROOM_MANIFEST"),
        ),
        (
            "options of a runtime",
            "PATH=/bin LANG=C JAVA_TOOL_OPTIONS=x",
            Some("JAVA_TOOL_OPTIONS"),
        ),
        ("another value", "PATH=/tmp LANG=C", Some("PATH")),
        ("a second value", "PATH=/bin LANG=C LANG=D", Some("LANG")),
        (
            "a value with a sign of its own",
            "PATH=/bin LANG=C X=a=b",
            Some("X"),
        ),
        ("one that is missing", "PATH=/bin", Some("LANG")),
        ("all are missing", "", Some("LANG")),
        (
            "a name that begins like a named one",
            "PATH=/bin LANG=C ENVIRONMENTS=x",
            Some("ENVIRONMENTS"),
        ),
        ("no value", "PATH=/bin LANG=C X", Some("X")),
        ("no name", "PATH=/bin LANG=C =x", Some("")),
    ] {
        let mut started = started();
        started.variables = words(variables);
        let expected = match other {
            None => FITS,
            Some(name) => Err(Difference::Variable {
                name: name.to_owned(),
            }),
        };
        assert_eq!(outcome(&started, &made()), expected, "{sentence}");
    }
}

#[test]
fn link_to_another_container_is_a_difference() {
    let mut started = started();
    started.links = words("/other:/timeline/environment");
    let link = started.links[0].clone();
    assert_eq!(outcome(&started, &made()), Err(Difference::Link { link }));
}

#[test]
fn mounts_are_named_or_a_tmpfs_where_no_program_is() {
    for (sentence, place, is_tmpfs, fits) in [
        ("a tmpfs for secrets", "/run/secrets", true, true),
        ("with a slash at its end", "/run/secrets/", true, true),
        ("a tmpfs of an image's own scratch", "/run", true, true),
        ("a tmpfs of an image's own scratch", "/tmp", true, true),
        ("a tmpfs of an image's own scratch", "/var/run", true, true),
        (
            "a tmpfs of an image's own scratch",
            "/var/tmp/x",
            true,
            true,
        ),
        ("shared memory", "/dev/shm", true, true),
        (
            "files where secrets should be",
            "/run/secrets",
            false,
            false,
        ),
        ("files in scratch", "/tmp", false, false),
        ("a named place", "/var/lib/timeline", false, true),
        ("a tmpfs there", "/var/lib/timeline/", true, true),
        ("below a named place", "/var/lib/timeline/lib", false, false),
        ("above a named place", "/var/lib", false, false),
        ("over the entrypoint", "/anteroom", false, false),
        ("a tmpfs over the entrypoint", "/anteroom", true, false),
        ("over the manifest", "/etc/anteroom.toml", false, false),
        ("a tmpfs that hides the manifest", "/etc", true, false),
        ("over everything", "/", true, false),
        ("a name that begins like scratch", "/running", true, false),
        ("a way out of scratch", "/run/../etc", true, false),
        ("an empty part", "/run//x", true, false),
        ("a part that leads nowhere", "/run/./x", true, false),
        ("no way from the root", "run", true, false),
        ("no place", "", true, false),
    ] {
        let mut started = started();
        started.mounts.push(mount(place, is_tmpfs));
        let expected = if fits {
            FITS
        } else {
            let place = place.to_owned();
            Err(Difference::Mount { place })
        };
        assert_eq!(outcome(&started, &made()), expected, "{sentence}: {place}");
    }
}

#[test]
fn path_is_cleaned_where_it_means_one_place() {
    for (path, clean) in [
        ("/run", Some("/run")),
        ("/run/secrets/", Some("/run/secrets")),
        ("/run/.x/..y", Some("/run/.x/..y")),
        ("/", None),
        ("", None),
        ("run", None),
        ("./run", None),
        ("//run", None),
        ("/run//", None),
        ("/run/.", None),
        ("/run/../x", None),
    ] {
        assert_eq!(cleaned(path), clean, "{path}");
    }
}

#[test]
fn path_is_within_a_place_by_whole_parts() {
    for (path, place, is_inside) in [
        ("/run", "/run", true),
        ("/run/secrets", "/run", true),
        ("/running", "/run", false),
        ("/", "/run", false),
        ("/var/run", "/run", false),
    ] {
        assert_eq!(is_within(path, place), is_inside, "{path} {place}");
    }
}

#[test]
fn rights_beyond_the_container_are_none() {
    let refused = |what| Err(Difference::Rights { what });
    let namespace = "it is in the PID namespace of the host or of another container";
    for (sentence, pid_mode, is_privileged, expected) in [
        ("a namespace of its own", "", false, FITS),
        ("the same, in words", "private", false, FITS),
        ("the host's", "host", false, refused(namespace)),
        ("another's", "container:abc", false, refused(namespace)),
        ("every right", "", true, refused("it is privileged")),
    ] {
        let mut started = started();
        started.pid_mode = pid_mode.to_owned();
        started.is_privileged = is_privileged;
        assert_eq!(outcome(&started, &made()), expected, "{sentence}");
    }
}

#[test]
fn difference_has_a_reason_and_a_text() {
    for (difference, reason, text) in [
        (
            Difference::NoImage,
            "command",
            "its image was removed, so that it cannot be compared with it",
        ),
        (
            Difference::Command {
                what: "health check",
            },
            "command",
            "its health check is not its image's",
        ),
        (
            Difference::Variable {
                name: "LD_PRELOAD".to_owned(),
            },
            "variable",
            "its variable LD_PRELOAD is not its image's, and `variables` in [[allow]] does not name it",
        ),
        (
            Difference::Mount {
                place: "/etc".to_owned(),
            },
            "mount",
            "something is mounted at /etc, and `mounts` in [[allow]] does not name that",
        ),
        (
            Difference::Rights {
                what: "it is privileged",
            },
            "rights",
            "it is privileged",
        ),
    ] {
        let found = (difference.reason(), &*difference.to_string());
        assert_eq!(found, (reason, text));
    }
}

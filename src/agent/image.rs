//! Does a container run what its image says? A submitter chooses command, variables and mounts beside the image's name.

use std::collections::BTreeSet;

/// Where a tmpfs may be without a word: it is empty, and nothing of an image is looked for there.
const SCRATCH: [&str; 5] = ["/run", "/tmp", "/var/run", "/var/tmp", "/dev/shm"];
/// Variables that anteroom reads its token's place from: what is found there must be the promised token all the same.
const OF_TOKENS: [&str; 2] = ["ANTEROOM_TOKEN_FILE", "ANTEROOM_TOKEN_WAIT"];
/// Where the manifest is, if nothing says otherwise.
pub const MANIFEST: &str = "/etc/anteroom.toml";
/// A health check that was switched off.
const NO_CHECK: &str = "NONE";

/// The start of a container, as Docker tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Started {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it starts.
    pub directory: String,
    /// The variables, each as `NAME=value`.
    pub variables: Vec<String>,
    /// The command of its health check; empty is none.
    pub health_check: Vec<String>,
    /// Everything that is mounted into it.
    pub mounts: Vec<Mount>,
    /// Whose PID namespace it is in; empty is its own.
    pub pid_mode: String,
    /// The container has every right.
    pub is_privileged: bool,
}

/// A mount that a container was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where in the container.
    pub place: String,
    /// The mount begins empty, and lies in memory.
    pub is_tmpfs: bool,
}

/// An image's word on the containers that are made of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// The ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// The CMD.
    pub arguments: Vec<String>,
    /// The WORKDIR.
    pub directory: String,
    /// The variables, each as `NAME=value`.
    pub variables: Vec<String>,
    /// The HEALTHCHECK.
    pub health_check: Vec<String>,
    /// USER of the image: numbers, names, or nothing.
    pub user: String,
}

/// How much of what a container runs must be its image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// The image's ENTRYPOINT, with any arguments.
    Image,
    /// The image's ENTRYPOINT and CMD.
    ImageExact,
}

/// A rule's demands on a container's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The program, with or without its arguments.
    pub command: Command,
    /// Variables that may be others than the image's.
    pub variables: Vec<String>,
    /// Places that something may be mounted at.
    pub mounts: Vec<String>,
}

/// Something that is not as the image says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The program, its arguments, its directory or its health check.
    Command {
        /// Which of these.
        what: &'static str,
    },
    /// A variable.
    Variable {
        /// The variable's name.
        name: String,
    },
    /// A mount.
    Mount {
        /// Where it is.
        place: String,
    },
    /// Rights on the host or in another container.
    Rights {
        /// Which rights these are.
        what: &'static str,
    },
    /// The engine does not know the image any more.
    NoImage,
}

impl Difference {
    /// For machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Difference::Command { .. } | Difference::NoImage => "command",
            Difference::Variable { .. } => "variable",
            Difference::Mount { .. } => "mount",
            Difference::Rights { .. } => "rights",
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Difference::Command { what } => write!(f, "its {what} is not its image's"),
            Difference::Variable { name } => write!(
                f,
                "its variable {name} is not its image's, and `variables` in [[allow]] does not name it"
            ),
            Difference::Mount { place } => write!(
                f,
                "something is mounted at {place}, and `mounts` in [[allow]] does not name that"
            ),
            Difference::Rights { what } => write!(f, "{what}"),
            Difference::NoImage => {
                f.write_str("its image was removed, so that it cannot be compared with it")
            }
        }
    }
}

impl Demand {
    /// Compares what a container was started with and what its image says.
    pub fn check(&self, started: &Started, made: Option<&Made>) -> Result<(), Difference> {
        let made = made.ok_or(Difference::NoImage)?;
        if started.is_privileged {
            let what = "it is privileged";
            return Err(Difference::Rights { what });
        }
        if !matches!(started.pid_mode.as_str(), "" | "private") {
            let what = "it is in the PID namespace of the host or of another container";
            return Err(Difference::Rights { what });
        }
        if let Some(what) = self.other_command(started, made) {
            return Err(Difference::Command { what });
        }
        if let Some(name) = self.other_variable(started, made) {
            let name = name.to_owned();
            return Err(Difference::Variable { name });
        }
        match started.mounts.iter().find(|mount| !self.may_mount(mount)) {
            Some(mount) => Err(Difference::Mount {
                place: mount.place.clone(),
            }),
            None => Ok(()),
        }
    }

    fn other_command(&self, started: &Started, made: &Made) -> Option<&'static str> {
        let directory = |path: &str| match path {
            "" => "/".to_owned(),
            path => path.to_owned(),
        };
        let check = |words: &[String]| match words {
            [word] if word == NO_CHECK => Vec::new(),
            words => words.to_vec(),
        };
        let is_command = match self.command {
            // Without an ENTRYPOINT everything would begin with it.
            Command::Image => {
                !made.entrypoint.is_empty() && started.command.starts_with(&made.entrypoint)
            }
            Command::ImageExact => {
                let whole = [&made.entrypoint[..], &made.arguments[..]].concat();
                !whole.is_empty() && started.command == whole
            }
        };
        let own_check = check(&started.health_check);
        if !is_command {
            Some("command")
        } else if directory(&started.directory) != directory(&made.directory) {
            // A name without a slash, or with a dot, is looked for from there.
            Some("working directory")
        } else if !own_check.is_empty() && own_check != check(&made.health_check) {
            // The engine runs it beside the application, with the same files.
            Some("health check")
        } else {
            None
        }
    }

    /// A variable that is not as in the image, be it another, a new one or one that is missing.
    fn other_variable<'a>(&self, started: &'a Started, made: &'a Made) -> Option<&'a str> {
        let own: BTreeSet<&String> = started.variables.iter().collect();
        let its: BTreeSet<&String> = made.variables.iter().collect();
        let name = |variable: &'a String| variable.split('=').next().unwrap_or_default();
        let mut others = own.symmetric_difference(&its).map(|one| name(one));
        others.find(|name| {
            !OF_TOKENS.contains(name) && !self.variables.iter().any(|known| known == name)
        })
    }

    fn may_mount(&self, mount: &Mount) -> bool {
        let Some(place) = cleaned(&mount.place) else {
            return false;
        };
        let is_scratch = || SCRATCH.iter().any(|top| is_within(place, top));
        self.mounts.iter().any(|known| known == place) || mount.is_tmpfs && is_scratch()
    }
}

/// A path that means one place: it begins at the root, and no part is empty or leads back.
pub fn cleaned(path: &str) -> Option<&str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_clean = |part: &str| !matches!(part, "" | "." | "..");
    path.strip_prefix('/')?
        .split('/')
        .all(is_clean)
        .then_some(path)
}

/// The path is this place or below it.
pub fn is_within(path: &str, place: &str) -> bool {
    path.strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
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
}

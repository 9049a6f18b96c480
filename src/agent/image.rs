//! Does a container run what its image says? A submitter chooses command, variables and mounts beside the image's name.

use std::collections::BTreeSet;

/// Where a tmpfs may be without a word: it is empty, and nothing of an image is looked for there.
const SCRATCH: [&str; 5] = ["/run", "/tmp", "/var/run", "/var/tmp", "/dev/shm"];
/// Variables that anteroom reads its token's place from: what is found there must be the promised token all the same.
const OF_TOKENS: [&str; 2] = ["ANTEROOM_TOKEN_FILE", "ANTEROOM_TOKEN_WAIT"];
/// Where the manifest is, if nothing says otherwise.
pub(super) const MANIFEST: &str = "/etc/anteroom.toml";
/// A health check that was switched off.
const NO_CHECK: &str = "NONE";

/// The start of a container, as Docker tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Started {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The working directory.
    pub directory: String,
    /// The variables, each as `NAME=value`.
    pub variables: Vec<String>,
    /// The command of its health check; empty is none.
    pub health_check: Vec<String>,
    pub mounts: Vec<Mount>,
    /// Other containers whose addresses and variables it gets as variables, each as `/OTHER:/ITSELF/ALIAS`.
    pub links: Vec<String>,
    /// Whose PID namespace it is in; empty is its own.
    pub pid_mode: String,
    /// The container has every right.
    pub is_privileged: bool,
}

/// A mount that a container was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where in the container, as the engine writes it.
    pub place: String,
    /// The mount begins empty, and lies in memory.
    pub is_tmpfs: bool,
}

/// An image's word on the containers that are made of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    pub entrypoint: Vec<String>,
    /// CMD of the image.
    pub arguments: Vec<String>,
    /// WORKDIR of the image.
    pub directory: String,
    /// The variables, each as `NAME=value`.
    pub variables: Vec<String>,
    /// The command of HEALTHCHECK; empty is none.
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
        what: &'static str,
    },
    Variable {
        name: String,
    },
    /// A link, which makes variables that the engine does not tell of.
    Link {
        /// The link, as the engine writes it.
        link: String,
    },
    Mount {
        place: String,
    },
    /// Rights on the host or in another container.
    Rights {
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
            Difference::Variable { .. } | Difference::Link { .. } => "variable",
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
            Difference::Link { link } => write!(
                f,
                "its link {link} gives it variables that its image has not and Docker does not tell of"
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
        if let Some(link) = started.links.first() {
            let link = link.to_owned();
            return Err(Difference::Link { link });
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
pub(super) fn cleaned(path: &str) -> Option<&str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_clean = |part: &str| !matches!(part, "" | "." | "..");
    path.strip_prefix('/')?
        .split('/')
        .all(is_clean)
        .then_some(path)
}

/// The path is this place or below it.
pub(super) fn is_within(path: &str, place: &str) -> bool {
    path.strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;

//! The register says what was handed out and is not taken back yet: accessors, never a token. The file outlives the agent.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::lock;

/// A Vault, by what the agent calls it: another address or namespace may be another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The address.
    pub address: String,
    /// The namespace; none is the root's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}, namespace {namespace}", self.address),
            None => f.write_str(&self.address),
        }
    }
}

/// One token, from its minting until its revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The accessor by which the client token is revoked.
    pub accessor: String,
    /// The container's id.
    pub container: String,
    /// The container's start, as nanoseconds since 1970: each start has a token of its own.
    pub started: i64,
    /// The service.
    pub app: String,
    /// The environment it runs in.
    pub environment: String,
    /// The container has it.
    pub delivered: bool,
    /// The container may not use the token any more: the agent is to revoke it.
    pub over: bool,
    /// The Vault that minted the token; a register of an earlier version does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<Place>,
    /// The Vault that was told to end the token and did not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_to: Option<Place>,
}

impl Entry {
    /// Whether this Vault minted the token, as far as the register knows.
    pub(super) fn is_of(&self, vault: &Place) -> bool {
        self.vault.as_ref().is_none_or(|place| place == vault)
    }

    /// Whether this Vault is still to be told that the token ends: one that does not know the token is not asked again.
    fn is_to_be_revoked_at(&self, vault: &Place) -> bool {
        self.over && self.unknown_to.as_ref() != Some(vault)
    }

    /// Whether the Vault that minted the token did not know it when it was asked last.
    pub(super) fn was_unknown_where_minted(&self, vault: &Place) -> bool {
        self.is_of(vault) && self.unknown_to.as_ref() == Some(vault)
    }
}

/// For whom no token is minted until that is allowed again; what is not named is any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Selector {
    /// The service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The environment it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The container's id, or how it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

impl Selector {
    /// Whether the selector names this container.
    pub(super) fn covers(&self, app: &str, environment: &str, container: &str) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|w| w == found);
        is(&self.app, app)
            && is(&self.environment, environment)
            && self
                .container
                .as_ref()
                .is_none_or(|beginning| container.starts_with(beginning))
    }

    /// Whatever the other one names, this one names too.
    pub(super) fn includes(&self, other: &Selector) -> bool {
        let is =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        is(&self.app, &other.app)
            && is(&self.environment, &other.environment)
            && match (&self.container, &other.container) {
                (None, _) => true,
                (Some(beginning), Some(id)) => id.starts_with(beginning),
                (Some(_), None) => false,
            }
    }

    /// There may be containers that both name.
    pub(super) fn overlaps(&self, other: &Selector) -> bool {
        let may = |one: &Option<String>, other: &Option<String>| {
            one.is_none() || other.is_none() || one == other
        };
        may(&self.app, &other.app)
            && may(&self.environment, &other.environment)
            && match (&self.container, &other.container) {
                (Some(one), Some(other)) => one.starts_with(other) || other.starts_with(one),
                _ => true,
            }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut any = true;
        for (name, value) in [
            ("app", &self.app),
            ("environment", &self.environment),
            ("container", &self.container),
        ] {
            if let Some(value) = value {
                write!(f, "{}{name} {value}", if any { "" } else { ", " })?;
                any = false;
            }
        }
        if any {
            f.write_str("every service")
        } else {
            Ok(())
        }
    }
}

/// The register cannot be kept.
#[derive(Debug)]
pub enum Error {
    /// The register's file cannot be read or written.
    File {
        /// The file's path.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// Another agent keeps it.
    Kept {
        /// The file's path.
        path: PathBuf,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::File { path, reason } => {
                write!(f, "the register {}: {reason}", path.display())
            }
            Error::Kept { path } => {
                write!(f, "another agent keeps the register {}", path.display())
            }
        }
    }
}

impl std::error::Error for Error {}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Content {
    entries: Vec<Entry>,
    blocks: Vec<Selector>,
}

/// The register: in memory for reading, in a file of mode 0600 for the next agent.
pub(super) struct Register {
    path: PathBuf,
    state: Mutex<State>,
    /// The last change that is in the file; the task that holds this writes.
    saved: tokio::sync::Mutex<u64>,
    #[expect(dead_code, reason = "it is held, not used")]
    lock: Flock<std::fs::File>,
}

#[derive(Default)]
struct State {
    content: Content,
    changes: u64,
}

impl Register {
    /// Opens the register, and keeps every other agent from doing so (flock(2)).
    pub(super) fn open(path: &Path) -> Result<Register, Error> {
        let failed = |reason: io::Error| Error::File {
            path: path.to_owned(),
            reason: reason.to_string(),
        };
        let lock = private()
            .append(true)
            .create(true)
            .open(with_ending(path, "lock"));
        let lock = Flock::lock(lock.map_err(failed)?, FlockArg::LockExclusiveNonblock).map_err(
            |(_, errno)| match errno {
                Errno::EWOULDBLOCK => Error::Kept {
                    path: path.to_owned(),
                },
                errno => failed(errno.into()),
            },
        )?;
        let content = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| Error::File {
                path: path.to_owned(),
                reason: format!("it is no register ({error}); what it knew is in the agent's log"),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content::default(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Register {
            path: path.to_owned(),
            state: Mutex::new(State {
                content,
                changes: 0,
            }),
            saved: tokio::sync::Mutex::new(0),
            lock,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        let mut state = self.lock();
        state.changes += 1;
        change(&mut state.content)
    }

    /// All entries.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.lock().content.entries.clone()
    }

    /// The entries whose tokens this Vault is to revoke.
    pub(super) fn over(&self, vault: &Place) -> Vec<Entry> {
        let mut entries = self.entries();
        entries.retain(|entry| entry.is_to_be_revoked_at(vault));
        entries
    }

    /// The token with this accessor is in the register.
    pub(super) fn holds(&self, accessor: &str) -> bool {
        let state = self.lock();
        let mut entries = state.content.entries.iter();
        entries.any(|entry| entry.accessor == accessor)
    }

    /// How many tokens are out, and how many of them are to be revoked.
    pub(super) fn count(&self) -> (usize, usize) {
        let state = self.lock();
        let entries = &state.content.entries;
        (
            entries.len(),
            entries.iter().filter(|entry| entry.over).count(),
        )
    }

    /// This start of this container has its token. One that an agent minted before it was killed may never have come:
    /// then there is a second one, and both are revoked in the end.
    pub(super) fn has(&self, container: &str, started: i64) -> bool {
        let is_it = |entry: &Entry| {
            entry.delivered
                && !entry.over
                && entry.container == container
                && entry.started == started
        };
        self.lock().content.entries.iter().any(is_it)
    }

    /// Adds a token that was minted.
    pub(super) fn add(&self, entry: Entry) {
        self.change(|content| content.entries.push(entry));
    }

    /// Notes that the container has its token.
    pub(super) fn delivered(&self, accessor: &str) {
        self.change(|content| {
            for entry in &mut content.entries {
                entry.delivered |= entry.accessor == accessor;
            }
        });
    }

    /// Marks the tokens for which `is_over` holds as to be revoked; returns how many are so for the first time.
    pub(super) fn end(&self, is_over: impl Fn(&Entry) -> bool) -> usize {
        self.change(|content| {
            let ended = content.entries.iter_mut();
            let ended = ended.filter(|entry| !entry.over && is_over(entry));
            ended.map(|entry| entry.over = true).count()
        })
    }

    /// Notes that this Vault does not know the token.
    pub(super) fn note_unknown(&self, accessor: &str, vault: &Place) {
        self.change(|content| {
            for entry in &mut content.entries {
                if entry.accessor == accessor {
                    entry.unknown_to = Some(vault.clone());
                }
            }
        });
    }

    /// Has a Vault that did not know those asked again; returns how many they are.
    pub(super) fn ask_again(&self, is_doubtful: impl Fn(&Entry) -> bool) -> usize {
        self.change(|content| {
            let doubtful = content.entries.iter_mut();
            let doubtful = doubtful.filter(|entry| is_doubtful(entry));
            doubtful
                .map(|entry| (entry.over, entry.unknown_to) = (true, None))
                .count()
        })
    }

    /// Removes a token that is revoked; false when it was removed already.
    pub(super) fn remove(&self, accessor: &str) -> bool {
        self.change(|content| {
            let before = content.entries.len();
            content.entries.retain(|entry| entry.accessor != accessor);
            content.entries.len() < before
        })
    }

    /// Nothing is minted for those until [`allow`](Register::allow).
    pub(super) fn block(&self, selector: &Selector) {
        self.change(|content| {
            if !content.blocks.contains(selector) {
                content.blocks.push(selector.clone());
            }
        });
    }

    /// Takes back every block that this names whole; returns those, and those that still hold for some of it.
    pub(super) fn allow(&self, selector: &Selector) -> (Vec<Selector>, Vec<Selector>) {
        self.change(|content| {
            let blocks = std::mem::take(&mut content.blocks);
            let (gone, kept) = blocks
                .into_iter()
                .partition(|block| selector.includes(block));
            content.blocks = kept;
            let left = content
                .blocks
                .iter()
                .filter(|block| block.overlaps(selector));
            (gone, left.cloned().collect())
        })
    }

    /// The block that names this container.
    pub(super) fn blocked(
        &self,
        app: &str,
        environment: &str,
        container: &str,
    ) -> Option<Selector> {
        let state = self.lock();
        let names = |block: &&Selector| block.covers(app, environment, container);
        state.content.blocks.iter().find(names).cloned()
    }

    /// How many blocks there are.
    pub(super) fn blocks(&self) -> usize {
        self.lock().content.blocks.len()
    }

    /// Returns when everything so far is in the file. Those who come while it is written share the next writing.
    pub(super) async fn save(&self) -> Result<(), Error> {
        let wanted = self.lock().changes;
        let mut saved = self.saved.lock().await;
        if *saved >= wanted {
            return Ok(());
        }
        let (content, changes) = {
            let state = self.lock();
            (state.content.clone(), state.changes)
        };
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || write(&path, &content)).await;
        let failed = |reason: String| Error::File {
            path: self.path.clone(),
            reason,
        };
        match written {
            Ok(Ok(())) => {
                *saved = changes;
                Ok(())
            }
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

fn private() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    options.mode(0o600);
    options
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}

/// All of it or nothing: a new file takes the old one's place once it is on the disk.
fn write(path: &Path, content: &Content) -> io::Result<()> {
    let new = with_ending(path, "new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private().write(true).create_new(true).open(&new)?;
    file.write_all(&serde_json::to_vec(content)?)?;
    file.sync_data()?;
    std::fs::rename(&new, path)?;
    // Else a power cut may bring the old one back, without the services that were blocked since.
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(directory)?.sync_all()
}

/// As the register counts.
pub(super) fn nanoseconds(time: OffsetDateTime) -> i64 {
    time.unix_timestamp_nanos().try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(app: Option<&str>, environment: Option<&str>) -> Selector {
        Selector {
            app: app.map(str::to_owned),
            environment: environment.map(str::to_owned),
            container: None,
        }
    }

    #[test]
    fn unknown_token_is_asked_for_once_and_at_other_vaults_again() {
        let place = |address: &str, namespace: Option<&str>| Place {
            address: address.to_owned(),
            namespace: namespace.map(str::to_owned),
        };
        let (here, there) = (place("https://a", None), place("https://a", Some("eu")));
        let entry = |vault: Option<&Place>, unknown_to: Option<&Place>| Entry {
            accessor: "a".to_owned(),
            container: "c".to_owned(),
            started: 0,
            app: "timeline".to_owned(),
            environment: "test".to_owned(),
            delivered: true,
            over: true,
            vault: vault.cloned(),
            unknown_to: unknown_to.cloned(),
        };
        // Who minted it, who did not know it: is it of this Vault, is this one asked, and was it unknown where it was minted?
        for (vault, unknown_to, expected) in [
            (None, None, [true, true, false]),
            (Some(&here), None, [true, true, false]),
            (Some(&there), None, [false, true, false]),
            (None, Some(&here), [true, false, true]),
            (Some(&here), Some(&here), [true, false, true]),
            (Some(&here), Some(&there), [true, true, false]),
            (Some(&there), Some(&here), [false, false, false]),
        ] {
            let mut entry = entry(vault, unknown_to);
            let found = [
                entry.is_of(&here),
                entry.is_to_be_revoked_at(&here),
                entry.was_unknown_where_minted(&here),
            ];
            assert_eq!(found, expected, "{vault:?} {unknown_to:?}");
            entry.over = false;
            assert!(!entry.is_to_be_revoked_at(&here));
        }
        assert_eq!(there.to_string(), "https://a, namespace eu");
    }

    #[test]
    fn selector_covers_every_value_that_it_does_not_name() {
        let all = Selector::default();
        let timeline = selector(Some("timeline"), None);
        let production = selector(Some("timeline"), Some("production"));
        assert!(all.covers("x", "y", "z"));
        assert!(timeline.covers("timeline", "staging", "z"));
        assert!(!production.covers("timeline", "staging", "z"));
        assert!(all.includes(&timeline) && timeline.includes(&production));
        assert!(!production.includes(&timeline) && !timeline.includes(&all));
        let environment = selector(None, Some("production"));
        let container = Selector {
            container: Some("0123".to_owned()),
            ..Selector::default()
        };
        let longer = Selector {
            container: Some("012345".to_owned()),
            ..Selector::default()
        };
        assert!(container.includes(&longer) && !longer.includes(&container));
        assert!(!timeline.includes(&environment) && timeline.overlaps(&environment));
        assert!(longer.overlaps(&container) && container.overlaps(&timeline));
        assert!(!production.overlaps(&selector(None, Some("staging"))));
        assert_eq!(all.to_string(), "every service");
        assert_eq!(
            production.to_string(),
            "app timeline, environment production"
        );
    }
}

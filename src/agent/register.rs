//! The register says what was handed out and is not taken back yet: accessors, never a token. The file outlives the agent.

mod entry;
mod error;
mod selector;

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::mutex::lock;

pub(super) use entry::{Entry, Place, nanoseconds};
pub(super) use error::Error;
pub(super) use selector::Selector;

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

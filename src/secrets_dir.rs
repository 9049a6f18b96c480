//! The secrets directory: the only place that files are written to, and the only module that writes them.
//!
//! A generation is written whole into a hidden directory; then one symbolic link, `..data`, is swung to it. Each visible
//! name is a link through `..data`, so that a reader sees one generation or the other and never a mixture. The generation
//! before stays until the next one, for readers that are in the middle of it.

mod error;
mod generation;
mod lock;
mod opening;
mod readers;
mod room;
mod withdrawal;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::geteuid;

use crate::config::layout;
use crate::text_file;

pub(crate) use error::Error;
pub(crate) use generation::{Generation, Shown};
pub(crate) use lock::{LAST_KEEPER, is_kept};
pub(crate) use room::{Lack, Room};

use lock::Lock;

/// The link that is swung.
const DATA: &str = "..data";
/// The next `..data`, before it takes the name.
const DATA_NEXT: &str = "..data.next";
/// The beginning of the names of generations, which are hidden directories.
const GENERATION: &str = "..generation-";
/// The target of `status.json`, which changes while a generation stays.
const STATUS: &str = "..status";
/// The next `..status`, before it takes the name.
const STATUS_NEXT: &str = "..status.next";
/// The file that a start has locked for as long as it has the directory, or keeps the files fresh.
const KEEPER: &str = "..keeper";
/// The most bytes of a status: a manifest's worth of names.
const STATUS_MAX: u64 = 16 << 20;

/// The owner of the files, where that is not the process that writes them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// The directory, opened once: nothing is looked up by its path again.
pub(crate) struct SecretsDir {
    path: PathBuf,
    directory: OwnedFd,
    owner: Option<Owner>,
    /// True where the directory was made for this run, and is removed with it.
    is_private: bool,
    /// The number that tells this start's generations from others'.
    id: u32,
    /// The visible names of the last generation.
    shown: BTreeSet<String>,
    /// The lock, held while the directory is this start's, and this process has to do with it.
    lock: Option<Lock>,
    /// True where the lock was lost, and is there again.
    lock_is_new: bool,
    /// The groups that a dry run goes without.
    dropped_groups: Vec<u32>,
}

impl SecretsDir {
    /// Says whether the directory was made for this run, and is removed with it.
    pub(crate) fn is_private(&self) -> bool {
        self.is_private
    }

    /// Returns the directory's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the status that was published in a directory.
    pub(crate) fn read_status(directory: &Path) -> Result<Vec<u8>, text_file::Error> {
        text_file::read(&directory.join(layout::STATUS), STATUS_MAX)
    }

    /// Warns of what the operator should look at in the file system, by the texts of `/proc/self/mountinfo` and
    /// `/proc/swaps`.
    pub(crate) fn swap_warning(&self, mountinfo: &str, swaps: &str) -> Option<String> {
        let path = self.path.to_str()?;
        let options = mountinfo
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                let (mount, options) = (*fields.get(4)?, *fields.last()?);
                let below = path.strip_prefix(mount.trim_end_matches('/'))?;
                (below.is_empty() || below.starts_with('/')).then_some((mount.len(), options))
            })
            .max_by_key(|(length, _)| *length)?
            .1;
        let swap_is_on = swaps.lines().count() > 1;
        (swap_is_on && !options.split(',').any(|option| option == "noswap"))
            .then(|| format!("{path} is mounted without `noswap` and this machine swaps: secrets can reach a disk"))
    }

    fn stat(&self, name: &str) -> Result<Option<FileStat>, Errno> {
        match fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn exists(&self, name: &str) -> Result<bool, Error> {
        self.stat(name)
            .map(|stat| stat.is_some())
            .map_err(|errno| Error::Unusable {
                path: self.path.clone(),
                reason: errno.desc().to_owned(),
            })
    }

    fn link(&self, name: &str) -> Option<String> {
        readlinkat(&self.directory, name).ok()?.into_string().ok()
    }

    fn is_ours(&self, name: &str) -> bool {
        self.is_made_by_us(name) && self.link(name).is_some_and(|link| link == target(name))
    }

    fn is_link_to_generation(&self, name: &str) -> bool {
        self.is_made_by_us(name)
            && self
                .link(name)
                .is_some_and(|link| link.starts_with(GENERATION))
    }

    /// Says whether an earlier start has made this: in a directory that all users may write, others can plant the same
    /// names.
    fn is_made_by_us(&self, name: &str) -> bool {
        let euid = geteuid().as_raw();
        let owner = self.owner.map_or(euid, |owner| owner.uid);
        matches!(self.stat(name), Ok(Some(stat)) if [0, euid, owner].contains(&stat.st_uid))
    }

    fn is_our_file(&self, name: &str) -> bool {
        let is_directory = matches!(
            self.stat(name),
            Ok(Some(stat)) if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
        );
        self.is_made_by_us(name) && !is_directory
    }

    fn is_own_generation(&self, name: &str) -> bool {
        name.starts_with(&self.own_prefix()) && self.is_made_by_us(name)
    }

    fn own_prefix(&self) -> String {
        format!("{GENERATION}{:08x}", self.id)
    }

    fn is_free(&self, name: &str) -> Result<bool, Error> {
        Ok(!self.exists(name)? || self.is_ours(name))
    }

    /// Makes the error for a wanted name that belongs to something else.
    pub(crate) fn taken(&self, name: &str) -> Error {
        Error::Taken {
            path: self.path.clone(),
            name: name.to_owned(),
        }
    }

    /// Makes the error for a directory in which nothing can be made.
    fn unwritable(&self, errno: Errno) -> Error {
        Error::Unwritable {
            path: self.path.clone(),
            reason: errno.desc().to_owned(),
            lack: self.lack(errno),
        }
    }

    fn failed(&self, name: &str, errno: Errno) -> Error {
        Error::Write {
            path: self.path.join(name),
            reason: errno.desc().to_owned(),
            lack: self.lack(errno),
        }
    }

    fn names(&self) -> Vec<String> {
        self.list().unwrap_or_default()
    }

    /// Lists all names; the first error ends the listing, since one that fails does so for ever.
    fn list(&self) -> Result<Vec<String>, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = Dir::openat(&self.directory, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let entry = entry?;
            let name = entry.file_name().to_str().ok();
            names.extend(
                name.filter(|name| !matches!(*name, "." | ".."))
                    .map(str::to_owned),
            );
        }
        Ok(names)
    }
}

/// Returns the target of a visible name.
fn target(name: &str) -> String {
    match name {
        layout::STATUS => STATUS.to_owned(),
        name => format!("{DATA}/{name}"),
    }
}

#[cfg(test)]
mod tests;

//! The secrets directory: the only place that files are written to, and the only module that writes them.
//!
//! A generation is written whole into a hidden directory; then one symbolic link, `..data`, is swung to it. Each visible
//! name is a link through `..data`, so that a reader sees one generation or the other and never a mixture. The generation
//! before stays until the next one, for readers that are in the middle of it.

mod generation;
mod lock;
mod room;
mod withdrawal;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::sys::statvfs::FsFlags;
use nix::unistd::{Gid, Uid, geteuid};

use crate::config::layout;
use crate::random;
use crate::text_file;

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
/// `RAMFS_MAGIC`, which nix does not name (statfs(2)).
const RAMFS: i64 = 0x8584_58f6;
/// The least room that a start needs.
const ROOM_MIN: u64 = 256 << 10;
/// The most bytes of a status: a manifest's worth of names.
const STATUS_MAX: u64 = 16 << 20;

/// Every way in which the directory cannot be used or written.
#[derive(Debug)]
pub enum Error {
    /// The path leads nowhere, to no directory, or to one that is out of reach.
    Unusable {
        /// The directory's path.
        path: PathBuf,
        /// The fault of the directory.
        reason: String,
    },
    /// The directory is on a disk.
    NotTmpfs {
        /// The directory's path.
        path: PathBuf,
    },
    /// The directory is mounted read-only.
    ReadOnly {
        /// The directory's path.
        path: PathBuf,
    },
    /// Another start has the directory.
    Kept {
        /// The directory's path.
        path: PathBuf,
    },
    /// A wanted name belongs to something that anteroom did not make.
    Taken {
        /// The directory's path.
        path: PathBuf,
        /// The name that is taken.
        name: String,
    },
    /// Nothing can be made in the directory.
    Unwritable {
        /// The directory's path.
        path: PathBuf,
        /// The system's complaint.
        reason: String,
        /// The kind of lack.
        lack: Lack,
    },
    /// A file could not be written.
    Write {
        /// The file's path.
        path: PathBuf,
        /// The system's complaint.
        reason: String,
        /// The kind of lack.
        lack: Lack,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unusable { path, reason } => {
                write!(
                    f,
                    "the secrets directory {} cannot be used: {reason}",
                    path.display()
                )
            }
            Error::NotTmpfs { path } => {
                write!(
                    f,
                    "the secrets directory {} is not a tmpfs: secrets would reach a disk",
                    path.display()
                )
            }
            Error::ReadOnly { path } => {
                write!(
                    f,
                    "the secrets directory {} cannot be written: {}",
                    path.display(),
                    Errno::EROFS.desc()
                )
            }
            Error::Kept { path } => {
                write!(
                    f,
                    "the secrets directory {} cannot be used: another anteroom keeps its files fresh",
                    path.display()
                )
            }
            Error::Taken { path, name } => {
                write!(
                    f,
                    "in the secrets directory {} the name `{name}` is taken by something else",
                    path.display()
                )
            }
            Error::Unwritable { path, reason, .. } => {
                write!(
                    f,
                    "the secrets directory {} cannot be used: cannot write it: {reason}",
                    path.display()
                )
            }
            Error::Write { path, reason, .. } => {
                write!(f, "cannot write {}: {reason}", path.display())
            }
        }
    }
}

impl std::error::Error for Error {}

/// The owner of the files, where that is not the process that writes them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    /// The user id.
    pub uid: u32,
    /// The group id.
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
    /// The lock, held while the directory is this start's, and this process has to do with it.
    lock: Option<Lock>,
    /// True where the lock was lost, and is there again.
    lock_is_new: bool,
}

impl SecretsDir {
    /// Opens the directory and checks that only its owner can write it and that it is not on a disk.
    pub(crate) fn open(
        path: &Path,
        allow_disk: bool,
        owner: Option<Owner>,
    ) -> Result<SecretsDir, Error> {
        let unusable = |reason: String| Error::Unusable {
            path: path.to_owned(),
            reason,
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::ENOENT => unusable("it does not exist".to_owned()),
            Errno::ENOTDIR | Errno::ELOOP => unusable(
                "it is a symbolic link or no directory; name the directory itself".to_owned(),
            ),
            errno => unusable(errno.desc().to_owned()),
        })?;
        let failed = |errno: Errno| unusable(errno.desc().to_owned());
        let stat = fstat(&directory).map_err(failed)?;
        let euid = geteuid().as_raw();
        if ![0, euid, owner.map_or(euid, |owner| owner.uid)].contains(&stat.st_uid) {
            return Err(unusable(format!(
                "it belongs to the user {}, who could change what is in it",
                stat.st_uid
            )));
        }
        if let Some(owner) = owner
            && !may_enter(&stat, owner)
        {
            return Err(unusable(format!(
                "the application's user {} cannot enter it: it belongs to {}:{} and has mode {:04o}",
                owner.uid,
                stat.st_uid,
                stat.st_gid,
                stat.st_mode & 0o7777
            )));
        }
        let filesystem = fstatfs(&directory).map_err(failed)?;
        let kind = filesystem.filesystem_type();
        if kind != nix::sys::statfs::TMPFS_MAGIC && kind != FsType(RAMFS) && !allow_disk {
            return Err(Error::NotTmpfs {
                path: path.to_owned(),
            });
        }
        if filesystem.flags().contains(FsFlags::ST_RDONLY) {
            return Err(Error::ReadOnly {
                path: path.to_owned(),
            });
        }
        let shared = stat.st_mode & 0o022 != 0;
        if shared && stat.st_uid == euid && stat.st_mode & Mode::S_ISVTX.bits() == 0 {
            let mode = Mode::from_bits_truncate(stat.st_mode & 0o7755);
            fchmod(&directory, mode).map_err(failed)?;
        } else if shared && stat.st_mode & Mode::S_ISVTX.bits() == 0 {
            return Err(unusable("others than its owner can write it".to_owned()));
        }
        if filesystem.blocks() > 0 {
            let block = u64::try_from(filesystem.block_size()).unwrap_or(0);
            let room = filesystem.blocks_available().saturating_mul(block);
            if room < ROOM_MIN {
                return Err(unusable(format!("it has room for {room} bytes only")));
            }
        }
        Ok(SecretsDir {
            path: path.to_owned(),
            directory,
            owner,
            is_private: false,
            id: u32::from_ne_bytes(random::bytes()),
            lock: None,
            lock_is_new: false,
        })
    }

    /// Says whether the directory was made for this run, and is removed with it.
    pub(crate) fn is_private(&self) -> bool {
        self.is_private
    }

    /// Returns the directory's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a new private directory for a dry run, on a tmpfs where there is one; the application must get into it.
    pub(crate) fn private(
        runtime_dir: Option<&Path>,
        owner: Option<Owner>,
    ) -> Result<SecretsDir, Error> {
        let mut last = Errno::ENOENT;
        for parent in runtime_dir
            .into_iter()
            .chain([Path::new("/dev/shm"), Path::new("/tmp")])
        {
            match make_private(parent, owner) {
                Ok(path) => {
                    let directory = SecretsDir::open(&path, true, owner)?;
                    return Ok(SecretsDir {
                        is_private: true,
                        ..directory
                    });
                }
                Err(errno) => last = errno,
            }
        }
        Err(Error::Unusable {
            path: "/tmp".into(),
            reason: last.desc().to_owned(),
        })
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

/// Says whether the mode lets this user pass through; a group besides its own may let it in, so that any group counts.
fn may_enter(stat: &FileStat, owner: Owner) -> bool {
    let passes = |bit: Mode| stat.st_mode & bit.bits() != 0;
    if owner.uid == 0 {
        true
    } else if owner.uid == stat.st_uid {
        passes(Mode::S_IXUSR)
    } else if owner.gid == stat.st_gid {
        passes(Mode::S_IXGRP)
    } else {
        passes(Mode::S_IXOTH) || passes(Mode::S_IXGRP)
    }
}

/// Returns the target of a visible name.
fn target(name: &str) -> String {
    match name {
        layout::STATUS => STATUS.to_owned(),
        name => format!("{DATA}/{name}"),
    }
}

fn make_private(parent: &Path, owner: Option<Owner>) -> Result<PathBuf, Errno> {
    // mkdtemp(3) puts six characters in the place of these.
    let template = parent.join(format!("anteroom-{}", "X".repeat(6)));
    let path = nix::unistd::mkdtemp(&template)?;
    if let Some(owner) = owner {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        nix::unistd::chown(&path, Some(uid), Some(gid)).inspect_err(|_| {
            let _ = std::fs::remove_dir(&path);
        })?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests;

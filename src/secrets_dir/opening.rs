//! The opening of the directory, or of a new private one: whether secrets may be written there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::sys::statvfs::FsFlags;
use nix::unistd::{Gid, Uid, geteuid};

use super::{Error, Owner, SecretsDir};
use crate::random;

/// `RAMFS_MAGIC`, which nix does not name (statfs(2)).
const RAMFS: i64 = 0x8584_58f6;
/// The least room that a start needs.
const ROOM_MIN: u64 = 256 << 10;

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
            shown: BTreeSet::new(),
            lock: None,
            lock_is_new: false,
            dropped_groups: Vec::new(),
        })
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

pub(super) fn make_private(parent: &Path, owner: Option<Owner>) -> Result<PathBuf, Errno> {
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

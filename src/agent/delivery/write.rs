//! The file: written before it has a name, and given its name at once.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, fchown, linkat, unlinkat};

use super::error::failed;
use super::{Error, RESOLVE, how};
use crate::agent::process::{Owner, Process};
use crate::random;

/// How often the name may be taken and free again in between.
const ATTEMPTS: usize = 8;

/// The directory that a token goes to, and the name it gets.
pub(super) struct Place<'a> {
    pub(super) process: &'a Process,
    pub(super) directory: &'a OwnedFd,
    pub(super) path: &'a str,
    pub(super) name: &'a str,
}

impl Place<'_> {
    /// Writes a file that has no name yet: no process of the container can open, swap or see it, and it goes with its descriptor.
    pub(super) fn write(&self, token: &[u8], owner: Owner) -> Result<File, Error> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = openat2(self.directory, ".", how(flags)).map_err(|errno| self.failed(errno))?;
        let mut file = File::from(file);
        file.write_all(token)
            .map_err(|error| self.failed(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
        fchown(&file, Some(owner.uid), Some(owner.gid))
            .and_then(|()| fchmod(&file, Mode::S_IRUSR))
            .map_err(|errno| self.failed(errno))?;
        Ok(file)
    }

    /// Gives the file its name, which must be free or a regular file's.
    pub(super) fn publish(&self, file: &File) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            // link(2) neither follows nor replaces what has the name: it is free in this very moment or this fails.
            match self.link(file, self.name) {
                Ok(()) => return Ok(()),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(self.failed(errno)),
            }
            match self.occupant()? {
                Some("file") => return self.replace(file),
                Some(kind) => return Err(self.occupied(kind)),
                // The entrypoint took an earlier token just now.
                None => {}
            }
        }
        Err(self.occupied("name that comes and goes"))
    }

    /// Puts the file in the place of another one at once. If that was swapped for anything else meanwhile, that is what
    /// goes: rename(2) replaces the name and never follows it, and a directory stays.
    fn replace(&self, file: &File) -> Result<(), Error> {
        // A name that repeats is noticed by link(2), so that nothing depends on how rare that is.
        let number = u64::from_ne_bytes(random::bytes());
        let hidden = format!(".anteroom-{number:016x}");
        self.link(file, &hidden)
            .map_err(|errno| self.failed(errno))?;
        let renamed = renameat(self.directory, hidden.as_str(), self.directory, self.name);
        // Also after a success: rename(2) does nothing if a process made both names lead to the one file.
        let _ = unlinkat(self.directory, hidden.as_str(), UnlinkatFlags::NoRemoveDir);
        renamed.map_err(|errno| match errno {
            Errno::EISDIR => self.occupied("directory"),
            errno => self.failed(errno),
        })
    }

    /// Closes the file once more by its name: who waits there by inotify(7) hears of a link only that something begins.
    pub(super) fn announce(&self, file: &File) {
        let Ok(found) = self.by_name() else {
            return;
        };
        let is_it = matches!((fstat(&found), fstat(file)), (Ok(found), Ok(own))
            if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino));
        // The agent's own file, so nothing of the container's is opened. If it was taken meanwhile, no process waits any more.
        if is_it {
            let path = format!("self/fd/{}", found.as_raw_fd());
            let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            let _ = openat(self.process.procfs(), path.as_str(), flags, Mode::empty());
        }
    }

    fn link(&self, file: &File, name: &str) -> Result<(), Errno> {
        // A link of the agent's own, to a file of its own: the container has no part in it.
        let unnamed = format!("self/fd/{}", file.as_raw_fd());
        linkat(
            self.process.procfs(),
            unnamed.as_str(),
            self.directory,
            name,
            AtFlags::AT_SYMLINK_FOLLOW,
        )
    }

    /// Whatever has the name now, unless it is a mount: that one's file system might never answer.
    fn by_name(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let how = OpenHow::new()
            .flags(flags)
            .resolve(RESOLVE | ResolveFlag::RESOLVE_NO_XDEV);
        openat2(self.directory, self.name, how)
    }

    /// Finds what has the name now. A mount upon it is not entered: its file system might never answer.
    fn occupant(&self) -> Result<Option<&'static str>, Error> {
        let found = match self.by_name() {
            Ok(found) => found,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::EXDEV) => return Ok(Some("mount")),
            Err(Errno::ELOOP) => return Ok(Some("symbolic link")),
            Err(errno) => return Err(self.failed(errno)),
        };
        let mode = fstat(&found).map_err(|errno| self.failed(errno))?.st_mode;
        Ok(Some(
            match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
                SFlag::S_IFREG => "file",
                SFlag::S_IFLNK => "symbolic link",
                SFlag::S_IFDIR => "directory",
                SFlag::S_IFIFO => "FIFO",
                SFlag::S_IFSOCK => "socket",
                _ => "device",
            },
        ))
    }

    fn occupied(&self, kind: &'static str) -> Error {
        Error::Occupied {
            path: self.path.to_owned(),
            kind,
        }
    }

    fn failed(&self, errno: Errno) -> Error {
        failed(self.path, errno)
    }
}

//! The lock of a directory, which ends with its holders, however they end.
//!
//! A start takes it before anything else, and has the directory to itself then. PID 1 and the keeper hold it together,
//! until the application runs; from then on the keeper alone, for as long as it keeps the files fresh.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{Error, KEEPER, SecretsDir};

/// The time for the keeper of an earlier start to give everything back.
pub(crate) const LAST_KEEPER: Duration = Duration::from_secs(3);

/// A lock that all processes with this file open hold (flock(2)): closing the file takes it from no other one, and so
/// it is never unlocked.
pub(super) struct Lock(File);

impl SecretsDir {
    /// Claims the directory for this start alone; false while another one has it.
    pub(crate) fn claim(&mut self) -> Result<bool, Error> {
        if self.exists(KEEPER)? && !self.is_our_file(KEEPER) {
            return Err(self.taken(KEEPER));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let found = match openat(&self.directory, KEEPER, flags, Mode::empty()) {
            Ok(file) => Some(File::from(file)),
            Err(Errno::ENOENT) => None,
            // A link or a socket, which no start makes.
            Err(Errno::ELOOP | Errno::ENXIO) => return Err(self.taken(KEEPER)),
            Err(errno) => return Err(self.failed(KEEPER, errno)),
        };
        // What was found is replaced, since it may be anything, and locked until then: no other claim comes between.
        let old = match found {
            Some(file) => match self.lock(file)? {
                Some(lock) if self.is_in_place(&lock) => Some(lock),
                // Its holder is there, or has gone just now, and perhaps another one has come.
                _ => return Ok(false),
            },
            None => None,
        };
        if old.is_some() {
            match unlinkat(&self.directory, KEEPER, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(self.unwritable(errno)),
            }
        }
        let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = match openat(&self.directory, KEEPER, flags, Mode::S_IRUSR) {
            Ok(file) => file,
            Err(Errno::EEXIST) => return Ok(false),
            Err(errno) => return Err(self.unwritable(errno)),
        };
        // Others only need to see whether it is locked.
        let all = Mode::S_IRUSR | Mode::S_IRGRP | Mode::S_IROTH;
        fchmod(&file, all).map_err(|errno| self.failed(KEEPER, errno))?;
        let lock = self.lock(file.into())?;
        self.lock = lock.filter(|lock| self.is_in_place(lock));
        Ok(self.lock.is_some())
    }

    /// Makes sure that the directory is this start's, though the lock was removed or replaced meanwhile; fails when
    /// another start has it.
    pub(super) fn hold(&mut self) -> Result<(), Error> {
        if self
            .lock
            .as_ref()
            .is_some_and(|lock| self.is_in_place(lock))
        {
            return Ok(());
        }
        if !self.claim()? {
            return Err(self.kept());
        }
        self.lock_is_new = true;
        Ok(())
    }

    /// Leaves the lock to the other process that holds it.
    pub(crate) fn let_go(&mut self) {
        self.lock = None;
    }

    /// Makes the error for a directory that another start has.
    pub(crate) fn kept(&self) -> Error {
        Error::Kept {
            path: self.path.clone(),
        }
    }

    /// Locks the file; none while another process holds it.
    fn lock(&self, file: File) -> Result<Option<Lock>, Error> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
                Err(self.failed(KEEPER, errno))
            }
        }
    }

    /// Says whether the name leads to the very file that is locked.
    fn is_in_place(&self, lock: &Lock) -> bool {
        match (self.stat(KEEPER), fstat(&lock.0)) {
            (Ok(Some(named)), Ok(held)) => {
                (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
            }
            _ => false,
        }
    }
}

/// Says whether a keeper keeps the files of this directory fresh.
pub(crate) fn is_kept(directory: &Path) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    open(&directory.join(KEEPER), flags, Mode::empty()).is_ok_and(|file| {
        let looked = File::from(file).try_lock_shared();
        matches!(looked, Err(TryLockError::WouldBlock))
    })
}

//! Whether somebody keeps the files fresh: a lock that ends with its holder, however that ends.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod};

use super::{Error, KEEPER, SecretsDir};

/// How often the lock is tried, while others look at it.
const TRIES: u32 = 40;

/// How long the keeper of an earlier start may take to give everything back.
const LAST_KEEPER: Duration = Duration::from_secs(3);

/// Held by the keeper for as long as it lives (flock(2)).
pub struct Lock(#[expect(dead_code, reason = "it is held, not used")] Flock<OwnedFd>);

impl SecretsDir {
    /// Waits a little for the end of a keeper whose application has ended; false when somebody keeps the files all the
    /// same.
    pub(super) fn await_free(&self) -> bool {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let until = Instant::now() + LAST_KEEPER;
        loop {
            let file = openat(&self.directory, KEEPER, flags, Mode::empty());
            if !file.is_ok_and(is_locked) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Says that the files are kept fresh from now on.
    pub fn lock(&self) -> Result<Lock, Error> {
        let failed = |errno| self.failed(KEEPER, errno);
        let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mut file = openat(&self.directory, KEEPER, flags, Mode::S_IRUSR).map_err(failed)?;
        // Others only need to see whether it is locked.
        let everybody = Mode::S_IRUSR | Mode::S_IRGRP | Mode::S_IROTH;
        fchmod(&file, everybody).map_err(failed)?;
        let mut tries = 0;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Lock(lock)),
                Err((again, Errno::EWOULDBLOCK)) if tries < TRIES => {
                    // Somebody looks whether it is locked.
                    file = again;
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((_, errno)) => return Err(failed(errno)),
            }
        }
    }
}

/// Somebody keeps the files of this directory fresh.
pub fn is_kept(directory: &Path) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    open(&directory.join(KEEPER), flags, Mode::empty()).is_ok_and(is_locked)
}

fn is_locked(file: OwnedFd) -> bool {
    matches!(
        Flock::lock(file, FlockArg::LockSharedNonblock),
        Err((_, Errno::EWOULDBLOCK))
    )
}

//! The wait for a token that is not there yet: its directory is watched, so that every look has a reason.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::Error;
use crate::system::refused;

/// The outcome of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// There is something to read.
    Input,
    /// The time is over.
    Late,
    /// The start was called off.
    CalledOff,
}

/// Waits until there is something to read, but no longer than this and not beyond the end of the start.
pub(super) fn await_input(
    fd: BorrowedFd<'_>,
    until: Instant,
    called_off: Option<BorrowedFd<'_>>,
) -> Result<Woken, Errno> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // One more millisecond: a timeout that is rounded down would spin at the end.
        let timeout = if left.is_zero() {
            PollTimeout::ZERO
        } else {
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        };
        // Where the start cannot be called off, the second stands for the first.
        let mut ready = [fd, called_off.unwrap_or(fd)].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut ready, timeout) {
            Ok(0) if left.is_zero() => return Ok(Woken::Late),
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno),
        }
        let [_, is_called_off] =
            ready.map(|entry| entry.revents().is_some_and(|events| !events.is_empty()));
        return Ok(if is_called_off && called_off.is_some() {
            Woken::CalledOff
        } else {
            Woken::Input
        });
    }
}

/// The watch on the directory that the token comes to.
pub(super) struct Watch<'a> {
    inotify: Inotify,
    path: &'a Path,
    name: &'a OsStr,
    directory: PathBuf,
    /// The watch on the parent, with the directory's name there, where the parent can be watched.
    parent: Option<(WatchDescriptor, OsString)>,
}

/// An event in the directory.
enum News {
    /// Nothing that concerns the token.
    Nothing,
    /// The token is there in another form than before.
    Changed,
    /// The directory is not at its place any more.
    Gone,
}

impl<'a> Watch<'a> {
    /// Begins to watch, so that no later event is missed.
    pub(super) fn of(path: &'a Path) -> Result<Watch<'a>, Error> {
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let unwatchable = |errno: Errno| match errno {
            Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC | Errno::ENOMEM => {
                Error::System(refused("watch the directory of the wrapping token")(errno))
            }
            errno => Error::Directory {
                path: path.display().to_string(),
                reason: format!("the directory {}: {}", directory.display(), errno.desc()),
            },
        };
        let name = path.file_name().ok_or(Errno::EISDIR).map_err(unwatchable)?;
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).map_err(unwatchable)?;
        // A file is there when it was moved or written; what is no file, from its making or its mode on.
        let comes = AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_ATTRIB;
        let goes = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let flags = comes | goes | AddWatchFlags::IN_ONLYDIR;
        inotify.add_watch(&directory, flags).map_err(unwatchable)?;
        // A directory that a process has open, as anteroom has the secrets directory, does not tell of its own removal.
        let parent = directory
            .parent()
            .zip(directory.file_name())
            .and_then(|(above, name)| {
                let flags = AddWatchFlags::IN_DELETE
                    | AddWatchFlags::IN_MOVED_FROM
                    | AddWatchFlags::IN_ONLYDIR;
                let above = if above == Path::new("") {
                    Path::new(".")
                } else {
                    above
                };
                Some((inotify.add_watch(above, flags).ok()?, name.to_owned()))
            });
        Ok(Watch {
            inotify,
            path,
            name,
            directory,
            parent,
        })
    }

    /// Waits until something has happened to the token.
    pub(super) fn await_change(
        &self,
        until: Instant,
        called_off: Option<BorrowedFd<'_>>,
    ) -> Result<Woken, Error> {
        let step = "wait for the wrapping token";
        let system = |errno: Errno| Error::System(refused(step)(errno));
        loop {
            match await_input(self.inotify.as_fd(), until, called_off).map_err(system)? {
                Woken::Input => {}
                other => return Ok(other),
            }
            let events = match self.inotify.read_events() {
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                events => events.map_err(system)?,
            };
            for event in events {
                match self.news(&event) {
                    News::Nothing => {}
                    News::Changed => return Ok(Woken::Input),
                    News::Gone => {
                        return Err(Error::Directory {
                            path: self.path.display().to_string(),
                            reason: format!("the directory {} is gone", self.directory.display()),
                        });
                    }
                }
            }
        }
    }

    fn news(&self, event: &InotifyEvent) -> News {
        let has = |flags| event.mask.intersects(flags);
        if let Some((above, name)) = &self.parent
            && event.wd == *above
        {
            return if event.name.as_ref() == Some(name) {
                News::Gone
            } else {
                News::Nothing
            };
        }
        if has(AddWatchFlags::IN_Q_OVERFLOW) {
            return News::Changed;
        }
        if has(AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_UNMOUNT
            | AddWatchFlags::IN_IGNORED)
        {
            return News::Gone;
        }
        let is_whole = has(AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE);
        let is_the_token = event.name.as_deref() == Some(self.name);
        // A file that was only made is still being written.
        if is_the_token && (is_whole || !self.path.symlink_metadata().is_ok_and(|it| it.is_file()))
        {
            return News::Changed;
        }
        News::Nothing
    }
}

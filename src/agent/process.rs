//! The first process of a container, and the way into its file system.
//!
//! A number that Docker named may belong to another process a moment later: the first one ended, and the kernel, or a
//! container that starts processes for that very purpose, gave its number away again. Nothing here goes through a
//! number twice. The directory `/proc/<pid>` is opened once; like a pidfd it stays bound to the process that had the number
//! then (pidfd_open(2), NOTES; proc(5)): once that one is reaped every access through the descriptor says ESRCH, also when
//! the number is in use again. What the descriptor leads to is then *shown* to be the container, by its cgroup, read
//! through the same descriptor.
//!
//! The agent must be root in the initial user namespace. The link `root` is guarded like ptrace(2): an agent with fewer
//! capabilities than the container needs CAP_SYS_PTRACE to follow it.

mod cgroup;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod peer;
mod procfs;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{Gid, Uid};

use super::credentials::Credentials;
use cgroup::{groups, innermost};
use error::unreadable;
use procfs::{FILE_MAX, fdinfo, field, lives, open_procfs, read};

pub use error::Error;
pub use peer::Peer;

/// Most ancestors of a process that are looked at.
const GENERATIONS_MAX: usize = 256;
/// Longest list of the host's own mounts that is read.
const HOST_MOUNTS_MAX: u64 = 1 << 26;

/// One process, for as long as it lives; never another that got its number.
pub struct Process {
    proc: OwnedFd,
    directory: OwnedFd,
    pid: i32,
}

/// The user and group that a process acts as, in the host's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The process's user.
    pub uid: Uid,
    /// The process's group.
    pub gid: Gid,
}

impl Process {
    /// Opens the process with this number, which must live and belong to the container with this id.
    ///
    /// `proc` is the procfs that has the number: `/proc`, or wherever an agent in a container has the host's.
    pub fn open(proc: &Path, pid: i32, container: &str) -> Result<Process, Error> {
        let process = Process::bind(open_procfs(proc)?, pid)?;
        // The number may have been given away between Docker's word and the open. The process that has it now is found out here.
        if innermost(&process.cgroup()?) != Some(container) {
            return Err(if process.is_alive() {
                Error::NotItsContainer {
                    pid,
                    container: container.to_owned(),
                }
            } else {
                // One that has ended is in no cgroup of v1 any more.
                Error::Gone { pid }
            });
        }
        process.must_live()?;
        Ok(process)
    }

    fn bind(proc: OwnedFd, pid: i32) -> Result<Process, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&proc, pid.to_string().as_str(), flags, Mode::empty()) {
            Ok(directory) => Ok(Process {
                proc,
                directory,
                pid,
            }),
            Err(Errno::ENOENT | Errno::ESRCH) => Err(Error::Gone { pid }),
            Err(errno) => Err(unreadable("the process's directory", errno)),
        }
    }

    /// The number it was opened by.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The user and group that the process acts as now: a file must belong to them for the process to read it.
    pub fn owner(&self) -> Result<Owner, Error> {
        let status = self.read("status", FILE_MAX)?;
        if !lives(&status) {
            return Err(Error::Gone { pid: self.pid });
        }
        // Real, effective, saved, file system: the last is whom open(2) asks about.
        let id = |key| field(&status, key)?.split_whitespace().nth(3)?.parse().ok();
        match (id("Uid:"), id("Gid:")) {
            (Some(uid), Some(gid)) => Ok(Owner {
                uid: Uid::from_raw(uid),
                gid: Gid::from_raw(gid),
            }),
            _ => Err(self.failed("status", Errno::EINVAL)),
        }
    }

    /// Whether this process belongs to the container with this first process.
    ///
    /// The process must be in the container's cgroups, by their whole paths and not by a name alone, and in the PID namespace of
    /// the first process or one that was made in there: cgroups are chosen by a container's owner, also another's.
    pub fn shares_container(&self, first: &Process, container: &str) -> Result<bool, Error> {
        let (own, its) = (self.cgroup()?, first.cgroup()?);
        let mut shared = groups(&its, container).peekable();
        let shared = shared.peek().is_some() && shared.eq(groups(&own, container));
        let shared = shared && self.descends_from(first)?;
        self.must_live()?;
        first.must_live()?;
        Ok(shared)
    }

    /// Reads the user that it runs as, whole.
    pub fn credentials(&self) -> Result<Credentials, Error> {
        let status = self.read("status", FILE_MAX)?;
        if !lives(&status) {
            return Err(Error::Gone { pid: self.pid });
        }
        let uid_map = self.read("uid_map", FILE_MAX)?;
        let found = Credentials::read(&status, &uid_map);
        found.ok_or_else(|| self.failed("status", Errno::EINVAL))
    }

    /// Whether this process, or one that it descends from, is in the PID namespace of the other.
    ///
    /// A process is in the PID namespace of its parent or in one that was made in that, whatever its parent is after the first
    /// one has ended: the kernel lets nothing else join (setns(2), pid_namespaces(7)). So an ancestor there is proof.
    fn descends_from(&self, other: &Process) -> Result<bool, Error> {
        let wanted = other.namespace()?;
        if self.namespace()? == wanted {
            return Ok(true);
        }
        let mut parent = self.parent()?;
        for _ in 0..GENERATIONS_MAX {
            let Some(process) = parent else {
                return Ok(false);
            };
            // One that may not be looked at has more rights than any process of a container.
            if process.namespace().is_ok_and(|found| found == wanted) {
                return Ok(true);
            }
            parent = process.parent()?;
        }
        Ok(false)
    }

    /// The PID namespace: device and inode, which are no other's as long as it lives.
    fn namespace(&self) -> Result<(u64, u64), Error> {
        let found = fstatat(&self.directory, "ns/pid", AtFlags::empty());
        let found = found.map_err(|errno| self.failed("ns/pid", errno))?;
        Ok((found.st_dev, found.st_ino))
    }

    /// The process that started it, or that has it since then; none that this procfs shows for the first of them.
    fn parent(&self) -> Result<Option<Process>, Error> {
        let number = || -> Result<i32, Error> {
            let status = self.read("status", FILE_MAX)?;
            let parent = field(&status, "PPid:").and_then(|pid| pid.parse().ok());
            parent.ok_or_else(|| self.failed("status", Errno::EINVAL))
        };
        let pid = number()?;
        if pid <= 0 {
            return Ok(None);
        }
        let procfs = self.proc.try_clone().map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
            unreadable("a descriptor", errno)
        })?;
        let parent = Process::bind(procfs, pid)?;
        // Its parent before the open and after it: no other process can have had the number in between.
        if number()? == pid {
            Ok(Some(parent))
        } else {
            Err(Error::Gone { pid })
        }
    }

    /// The root of its file system, as a descriptor that only names the directory.
    ///
    /// This is the one magic link that is followed on purpose. A process with CAP_SYS_CHROOT chooses where it leads: look at
    /// the mount before going on.
    pub fn root(&self) -> Result<OwnedFd, Error> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(&self.directory, "root", flags, Mode::empty())
            .map_err(|errno| self.failed("root", errno))
    }

    /// The mounts that it sees, in the words of proc_pid_mountinfo(5).
    pub fn mountinfo(&self) -> Result<String, Error> {
        self.read("mountinfo", FILE_MAX)
    }

    /// The mounts that the host's first process sees.
    pub fn host_mountinfo(&self) -> Result<String, Error> {
        read(self.proc.as_fd(), "1/mountinfo", HOST_MOUNTS_MAX)
            .map_err(|errno| unreadable("the host's mountinfo", errno))
    }

    /// The id of the mount that a descriptor of this process lies on.
    ///
    /// The kernel answers alone. fstatfs(2) and statx(2) would ask the file system, and one of the container's making may
    /// never answer.
    pub fn mount_id(&self, descriptor: impl AsFd) -> Result<i64, Error> {
        fdinfo(self.proc.as_fd(), descriptor.as_fd(), "mnt_id:")
    }

    /// The procfs it was found in.
    pub fn procfs(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }

    fn cgroup(&self) -> Result<String, Error> {
        self.read("cgroup", FILE_MAX)
    }

    fn must_live(&self) -> Result<(), Error> {
        if self.is_alive() {
            Ok(())
        } else {
            Err(Error::Gone { pid: self.pid })
        }
    }

    fn is_alive(&self) -> bool {
        read(self.directory.as_fd(), "status", FILE_MAX).is_ok_and(|status| lives(&status))
    }

    fn read(&self, name: &str, limit: u64) -> Result<String, Error> {
        read(self.directory.as_fd(), name, limit).map_err(|errno| self.failed(name, errno))
    }

    fn failed(&self, what: &str, errno: Errno) -> Error {
        if errno != Errno::ESRCH && self.is_alive() {
            unreadable(what, errno)
        } else {
            Error::Gone { pid: self.pid }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn directory_without_a_procfs_is_unreadable() {
        assert!(matches!(
            Process::open(Path::new("/dev"), 1, A),
            Err(Error::Unreadable { .. })
        ));
    }
}

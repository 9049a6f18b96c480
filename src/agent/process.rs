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
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{Mode, fstatat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Gid, SysconfVar, Uid, getpid, sysconf};

use super::credentials::Credentials;
use cgroup::{chain, groups, innermost};

/// Longest file about one process that is read: its writer may be hostile, a container of some use stays far below.
const FILE_MAX: u64 = 1 << 20;
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

/// Who called at a socket.
pub struct Peer {
    /// The caller.
    pub process: Process,
    /// The containers that its cgroup is named after, the innermost first; at least one.
    pub containers: Vec<String>,
    /// The path of the outermost of these cgroups, below which all that this container starts is found.
    pub outermost: String,
    /// The path of the innermost, which is no other container's.
    pub innermost: String,
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

    /// Finds the process at the other end of a unix socket, and the id of the container that it belongs to.
    ///
    /// The kernel recorded who called connect(2) and says so by a pidfd (SO_PEERPIDFD, Linux 6.5), which cannot come to mean
    /// another. A kernel that does not know it names the number alone (SO_PEERCRED). Then a caller may end right after
    /// its connect and leave the connection to an accomplice, while its number goes to another process. If that one started
    /// after this call it is refused. What remains is the time between connect and this call: an accomplice that gets the
    /// number to go round to a process of another container just then is answered as that container. Accept at once, or
    /// run on Linux 6.5.
    ///
    /// The ids are what the cgroups are *called*, and no proof. On a host that delegates cgroups (systemd gives one to every
    /// user who logs in) a user outside any container may call his own as he likes, and the owner of a container may say
    /// which cgroup it is put into (`--cgroup-parent`), another container's too. So ask Docker for these containers, the
    /// innermost first, open the first process of the one that Docker knows, and believe the id if [`Process::shares_container`]
    /// says so.
    pub fn of_peer(proc: &Path, stream: impl AsFd) -> Result<Peer, Error> {
        let called = since_boot()?;
        let procfs = open_procfs(proc)?;
        let process = match getsockopt(&stream, sockopt::PeerPidfd) {
            Ok(pidfd) => Process::of_pidfd(procfs, &pidfd)?,
            Err(Errno::ENOPROTOOPT) => Process::of_credentials(procfs, &stream, called)?,
            // The kernel makes no pidfd of who is reaped already.
            Err(Errno::ESRCH) => return Err(Error::Gone { pid: 0 }),
            Err(errno) => return Err(unreadable("the socket's other end", errno)),
        };
        let cgroups = process.cgroup()?;
        process.must_live()?;
        let outside = Error::Outside { pid: process.pid };
        let chain = chain(&cgroups).ok_or(outside)?;
        let path = |container: Option<&&str>| {
            let group = container.and_then(|container| groups(&cgroups, container).next());
            group.map_or("", |group| group.path).to_owned()
        };
        Ok(Peer {
            containers: chain.iter().rev().map(|&name| name.to_owned()).collect(),
            outermost: path(chain.first()),
            innermost: path(chain.last()),
            process,
        })
    }

    fn of_pidfd(procfs: OwnedFd, pidfd: &OwnedFd) -> Result<Process, Error> {
        let pid = visible(fdinfo(procfs.as_fd(), pidfd.as_fd(), "Pid:")?)?;
        let process = Process::bind(procfs, pid)?;
        // Its owner had the number before the open and has it after: no other process can have had it in between.
        if fdinfo(process.proc.as_fd(), pidfd.as_fd(), "Pid:")? == i64::from(pid) {
            Ok(process)
        } else {
            Err(Error::Gone { pid })
        }
    }

    fn of_credentials(
        procfs: OwnedFd,
        stream: &impl AsFd,
        called: Duration,
    ) -> Result<Process, Error> {
        let credentials = getsockopt(stream, sockopt::PeerCredentials)
            .map_err(|errno| unreadable("the socket's other end", errno))?;
        let pid = visible(i64::from(credentials.pid()))?;
        // The number is one of the agent's own namespace. In another's procfs it is another process's.
        let own = readlinkat(&procfs, "self").map_err(|errno| unreadable("self", errno))?;
        if own.to_str() != Some(getpid().to_string().as_str()) {
            return Err(Error::OtherNamespace);
        }
        let process = Process::bind(procfs, pid)?;
        let hertz = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        let stat = process.read("stat", FILE_MAX)?;
        match started(&stat, hertz.unsigned_abs()) {
            Some(start) if start <= called => Ok(process),
            _ => Err(Error::Gone { pid }),
        }
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

fn open_procfs(path: &Path) -> Result<OwnedFd, Error> {
    let what = || path.display().to_string();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = open(path, flags, Mode::empty()).map_err(|errno| unreadable(&what(), errno))?;
    // A directory that is empty because a mount was forgotten would say of every container that it has ended.
    match fstatfs(&proc).map(|found| found.filesystem_type()) {
        Ok(PROC_SUPER_MAGIC) => Ok(proc),
        Ok(_) => Err(Error::Unreadable {
            what: what(),
            reason: "it is no procfs".to_owned(),
        }),
        Err(errno) => Err(unreadable(&what(), errno)),
    }
}

fn read(directory: BorrowedFd<'_>, name: &str, limit: u64) -> Result<String, Errno> {
    let file = openat(
        directory,
        name,
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let mut bytes = Vec::new();
    let read = File::from(file).take(limit + 1).read_to_end(&mut bytes);
    match read {
        // Half a list of mounts could lack the one that matters.
        Ok(length) if length as u64 > limit => Err(Errno::EFBIG),
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
    }
}

/// The kernel's word on one of the agent's own descriptors.
fn fdinfo(proc: BorrowedFd<'_>, descriptor: BorrowedFd<'_>, key: &str) -> Result<i64, Error> {
    let path = format!("self/fdinfo/{}", descriptor.as_raw_fd());
    let text = read(proc, &path, FILE_MAX).map_err(|errno| unreadable(&path, errno))?;
    field(&text, key)
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| Error::Unreadable {
            what: path,
            reason: format!("it says no {key}"),
        })
}

/// A zombie still has a directory, but neither a root nor mounts, and in cgroups of v1 it is at the top.
fn lives(status: &str) -> bool {
    field(status, "State:").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// The value on the line that begins like this.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim())
}

/// A number that the kernel gave for a process: it says 0 for one that the procfs does not show, and -1 for one that is gone.
fn visible(pid: i64) -> Result<i32, Error> {
    match i32::try_from(pid) {
        Ok(0) => Err(Error::OtherNamespace),
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(Error::Gone { pid: 0 }),
    }
}

fn since_boot() -> Result<Duration, Error> {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .map_err(|errno| unreadable("the clock", errno))
}

/// When a process started, after the machine did; the name in `stat` may hold any bytes, also brackets.
fn started(stat: &str, hertz: u64) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    // The 22nd field of proc_pid_stat(5); the third is the first after the name.
    let ticks: u64 = rest.split_whitespace().nth(19)?.parse().ok()?;
    let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(hertz.max(1));
    Some(Duration::from_nanos(u64::try_from(nanoseconds).ok()?))
}

fn unreadable(what: &str, errno: Errno) -> Error {
    Error::Unreadable {
        what: what.to_owned(),
        reason: errno.desc().to_owned(),
    }
}

/// Why a process is not the one that was meant, or cannot be looked at.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// The process has ended, whichever other process may have its number now.
    Gone {
        /// The number it had; 0 where it was gone before that was known.
        pid: i32,
    },
    /// The number belongs to a process that is not in this container.
    NotItsContainer {
        /// The number.
        pid: i32,
        /// The container it was said to be in.
        container: String,
    },
    /// Who called on the socket is in no container.
    Outside {
        /// The caller.
        pid: i32,
    },
    /// Who called on the socket lives in a PID namespace that the agent cannot see into.
    OtherNamespace,
    /// The kernel does not say what has to be known.
    Unreadable {
        /// The file or answer that was asked for.
        what: String,
        /// Why there is no answer.
        reason: String,
    },
}

impl Error {
    /// The reason in one word, for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Error::Gone { .. } => "process_gone",
            Error::NotItsContainer { .. } => "not_its_container",
            Error::Outside { .. } => "no_container",
            Error::OtherNamespace => "other_namespace",
            Error::Unreadable { .. } => "unreadable",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Gone { pid: 0 } => write!(f, "the process has ended"),
            Error::Gone { pid } => write!(f, "the process {pid} has ended"),
            Error::NotItsContainer { pid, container } => {
                write!(f, "the process {pid} is not in the container {container}")
            }
            Error::Outside { pid } => write!(f, "the process {pid} is in no container"),
            Error::OtherNamespace => write!(
                f,
                "the caller is in a PID namespace that the agent does not see; run the agent with the host's"
            ),
            Error::Unreadable { what, reason } => write!(f, "cannot read {what}: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn start_time_is_read_behind_any_process_name() {
        let stat = "7 (a) R 1) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 250 20 21\n";
        assert_eq!(started(stat, 100), Some(Duration::from_millis(2500)));
        assert_eq!(started("7 (a) S 1", 100), None);
    }

    #[test]
    fn caller_without_a_pidfd_is_found_by_its_number_unless_reused() {
        let (here, _there) = UnixStream::pair().expect("a pair");
        let procfs = || open_procfs(Path::new("/proc")).expect("a procfs");
        let now = since_boot().expect("a clock");
        let found = Process::of_credentials(procfs(), &here, now).expect("ourselves");
        assert_eq!(found.pid(), getpid().as_raw());
        assert!(found.is_alive());
        let earlier = Duration::from_secs(1);
        assert!(matches!(
            Process::of_credentials(procfs(), &here, earlier),
            Err(Error::Gone { .. })
        ));
    }

    #[test]
    fn pid_that_is_not_visible_here_is_no_process() {
        assert_eq!(visible(0), Err(Error::OtherNamespace));
        assert_eq!(visible(-1), Err(Error::Gone { pid: 0 }));
        assert_eq!(visible(7), Ok(7));
    }

    #[test]
    fn directory_without_a_procfs_is_unreadable() {
        assert!(matches!(
            Process::open(Path::new("/dev"), 1, A),
            Err(Error::Unreadable { .. })
        ));
    }
}

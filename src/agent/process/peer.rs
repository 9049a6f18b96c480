//! The process at the other end of a unix socket.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::socket::{getsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, getpid, sysconf};

use super::cgroup::{chain, groups};
use super::error::unreadable;
use super::procfs::{FILE_MAX, fdinfo, open_procfs};
use super::{Error, Process};

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

impl Process {
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
pub(super) fn started(stat: &str, hertz: u64) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    // The 22nd field of proc_pid_stat(5); the third is the first after the name.
    let ticks: u64 = rest.split_whitespace().nth(19)?.parse().ok()?;
    let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(hertz.max(1));
    Some(Duration::from_nanos(u64::try_from(nanoseconds).ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

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
}

//! This process and others: their rights, their ends, their signals and their working directory.

#![expect(
    unsafe_code,
    reason = "process descriptors have no safe wrapper; each use says why it is sound"
)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chdir, getgroups, setegid, seteuid, setgroups};

use super::error::{Error, refused};
use super::exec::make_non_dumpable;
use super::user::User;

/// Leaves the working directory that was received, so that nothing holds its file system once the application has left it
/// too; gives the way back, for commands that are to start there.
///
/// A directory that has no name, or another one's by now, is not left where there are such commands.
pub(crate) fn leave_working_directory(has_commands: bool) -> Option<PathBuf> {
    let identity = |path: &Path| {
        let stat = nix::sys::stat::stat(path).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    let received = std::env::current_dir().ok().filter(|path| {
        path.is_absolute() && identity(path).is_some_and(|it| Some(it) == identity(Path::new(".")))
    });
    if has_commands && received.is_none() {
        return None;
    }
    let _ = chdir("/");
    received
}

/// Looks at the file system with the rights that the application will have.
pub(crate) fn as_user<T>(user: Option<&User>, look: impl FnOnce() -> T) -> Result<T, Error> {
    let Some(user) = user else { return Ok(look()) };
    let failed = refused::<Errno>("become the application's user");
    let groups = getgroups().map_err(&failed)?;
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let theirs: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&theirs).map_err(&failed)?;
    setegid(Gid::from_raw(user.gid)).map_err(&failed)?;
    seteuid(Uid::from_raw(user.uid)).map_err(&failed)?;
    let seen = look();
    seteuid(uid).map_err(&failed)?;
    setegid(gid).map_err(&failed)?;
    setgroups(&groups).map_err(&failed)?;
    // A change of user undoes it (prctl(2), PR_SET_DUMPABLE).
    make_non_dumpable()?;
    Ok(seen)
}

/// Opens a descriptor that becomes readable when the process ends, which need not be a child (pidfd_open(2)).
pub(crate) fn pidfd(process: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes two integers and returns a new descriptor or an error.
    let descriptor =
        Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0) })?;
    // SAFETY: the kernel has just made this descriptor, and no other owner knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as libc::c_int) })
}

/// Sends a process a signal, by its descriptor where there is one.
pub(crate) fn send(
    pid: Pid,
    process: Option<&OwnedFd>,
    signal: Signal,
    user: Option<&User>,
) -> Result<(), Error> {
    with_their_rights(user, || match process {
        Some(process) => match send_by_descriptor(process, signal) {
            // A seccomp filter does not know the call, or there is no right to signal: kill(2) tells. The number is the
            // application's for as long as it has not ended.
            Err(Errno::ENOSYS | Errno::EPERM) if !has_ended(process) => kill(pid, signal),
            sent => sent,
        },
        None => kill(pid, signal),
    })
}

/// Sends a signal by pidfd_send_signal(2).
fn send_by_descriptor(process: &OwnedFd, signal: Signal) -> Result<(), Errno> {
    // SAFETY: the call takes integers and a null pointer, which stands for no further information.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal as libc::c_int,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::ZERO) != Ok(0)
}

/// Sends a signal, with the rights of the application's user where root has none: in a container without CAP_KILL.
pub(crate) fn with_their_rights(
    user: Option<&User>,
    send: impl Fn() -> Result<(), Errno>,
) -> Result<(), Error> {
    match send() {
        Err(Errno::EPERM) if user.is_some() => as_user(user, send)?,
        sent => sent,
    }
    .map_err(refused("signal the application"))
}

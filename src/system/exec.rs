//! Becoming the application, so that it finds the process as anteroom found it.

#![expect(
    unsafe_code,
    reason = "execve, close_range and prctl are system calls; each use says why it is sound"
)]

use std::convert::Infallible;
use std::ffi::{CString, c_char};
use std::fmt;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Gid, Uid, chdir, setgid, setgroups, setuid};

use super::signal::Received;
use super::user::User;
use crate::system::{self, refused};

/// The number that no descriptor exceeds where the administrator has not raised that limit (`fs.nr_open`, proc(5)).
const NUMBERS_MAX: u64 = 1 << 20;

/// Every reason why there is no application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// A step before the exec failed.
    System(system::Error),
    /// The kernel refused the file itself.
    Refused(Errno),
}

impl Error {
    /// Returns the exit code, as a shell gives it (EX_OSERR of sysexits(3) for a step).
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Refused(Errno::ENOENT) => 127,
            Error::Refused(_) => 126,
            Error::System(_) => 71,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::System(error) => error.fmt(f),
            Error::Refused(errno) => write!(f, "cannot exec the command: {}", errno.desc()),
        }
    }
}

impl std::error::Error for Error {}

impl From<system::Error> for Error {
    fn from(error: system::Error) -> Self {
        Error::System(error)
    }
}

/// Makes this process readable by root alone: no core, no debugger, no `/proc/PID/environ` (prctl(2)).
///
/// A fork keeps this state and an exec undoes it, so that the application is as it would be without anteroom.
pub(crate) fn make_non_dumpable() -> Result<(), system::Error> {
    // SAFETY: PR_SET_DUMPABLE takes one integer and touches no memory of ours.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })
        .map(drop)
        .map_err(refused("make this process non-dumpable"))
}

// SAFETY: every C library has it with this type (environ(7)).
unsafe extern "C" {
    static environ: *const *mut libc::c_char;
}

/// Overwrites these variables where the kernel put them: `/proc/PID/environ` shows that memory to root for as long as the
/// process lives, although this program has taken its copy. Only while there is one thread.
pub(crate) fn wipe_variables(names: &[&str]) {
    // SAFETY: `environ` ends with a null pointer, its strings end with a NUL and lie in this process's own writable
    // memory, and without another thread nothing else reads or moves them.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = std::ffi::CStr::from_ptr(*entry).to_bytes();
            let length = text.len();
            let value = names.iter().find_map(|name| {
                let rest = text.strip_prefix(name.as_bytes())?;
                rest.starts_with(b"=").then_some(name.len() + 1)
            });
            for at in value.unwrap_or(length)..length {
                (*entry).add(at).write_volatile(0);
            }
            entry = entry.add(1);
        }
    }
}

/// Becomes the user that the application runs as, for good.
pub(crate) fn become_user(user: &User) -> Result<(), system::Error> {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    // Groups first: without root they cannot be changed any more.
    setgroups(&groups).map_err(refused("set the supplementary groups"))?;
    setgid(Gid::from_raw(user.gid)).map_err(refused("set the group"))?;
    setuid(Uid::from_raw(user.uid)).map_err(refused("set the user"))?;
    // A change of user may undo it (prctl(2)).
    make_non_dumpable()
}

/// Enters a directory, if one is given, and becomes the user, if there is one.
pub(crate) fn become_user_in(
    directory: Option<&Path>,
    user: Option<&User>,
) -> Result<(), system::Error> {
    // Either of the two may be the one who can go there: it was received, and not entered.
    let go = || directory.map_or(Ok(()), chdir);
    let gone = go();
    if let Some(user) = user {
        become_user(user)?;
    }
    gone.or_else(|_| go())
        .map_err(refused("enter the working directory"))
}

/// Becomes the application; it returns only when that did not happen.
pub(crate) fn exec(
    path: &Path,
    arguments: &[CString],
    environment: &[CString],
    passed_descriptors: u32,
    received: &Received,
) -> Result<Infallible, Error> {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let (arguments, variables) = (pointers(arguments), pointers(environment));
    let path = CString::new(path.as_os_str().as_bytes());
    let path = path.map_err(|_| Error::Refused(Errno::EINVAL))?;
    close_descriptors(3 + passed_descriptors);
    received.restore();
    // SAFETY: path is a C string, and both lists are of C strings that outlive the call and end in a null pointer.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), variables.as_ptr()) };
    let errno = Errno::last();
    received.take_back();
    Err(Error::Refused(errno))
}

/// Has every descriptor from `first` on closed by the exec (close_range(2)).
fn close_descriptors(first: u32) {
    // musl has no wrapper for it, hence the number.
    // SAFETY: with CLOSE_RANGE_CLOEXEC no descriptor is closed now; only a flag is set on each.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        return;
    }
    // Linux before 5.11, or a seccomp filter that does not know the call.
    for descriptor in open_descriptors(first as RawFd) {
        // SAFETY: setting a flag on a descriptor that is not open fails and changes nothing.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Closes the descriptors that this process was born with, but the standard ones and so many behind them.
///
/// None of its own is among them: an exec closes each of those.
pub(crate) fn close_inherited(kept: u32) {
    for descriptor in open_descriptors(3 + kept as RawFd) {
        // SAFETY: with F_GETFD nothing is changed, and a closed descriptor gives an error.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == 0 {
            // SAFETY: it has survived the exec that made this process, so that nothing in it owns it.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// Lists at least the open descriptors from `first` on; where `/proc` cannot be read, every number that one may have.
fn open_descriptors(first: RawFd) -> Vec<RawFd> {
    if let Some(open) = listed_descriptors() {
        return open.into_iter().filter(|open| *open >= first).collect();
    }
    // The hard limit: an open descriptor may lie above a soft one that was lowered since.
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(NUMBERS_MAX, |(_, hard)| hard);
    (first..limit.min(NUMBERS_MAX) as RawFd).collect()
}

/// Lists the open descriptors, all read before one of them is changed; none when they cannot be listed to the end.
fn listed_descriptors() -> Option<Vec<RawFd>> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").ok()? {
        open.push(entry.ok()?.file_name().to_str()?.parse().ok()?);
    }
    Some(open)
}

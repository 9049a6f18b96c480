//! The files of a procfs, read through descriptors.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::Error;
use super::error::unreadable;

/// Longest file about one process that is read: its writer may be hostile, a container of some use stays far below.
pub(super) const FILE_MAX: u64 = 1 << 20;

pub(super) fn open_procfs(path: &Path) -> Result<OwnedFd, Error> {
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

pub(super) fn read(directory: BorrowedFd<'_>, name: &str, limit: u64) -> Result<String, Errno> {
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
pub(super) fn fdinfo(
    proc: BorrowedFd<'_>,
    descriptor: BorrowedFd<'_>,
    key: &str,
) -> Result<i64, Error> {
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
pub(super) fn lives(status: &str) -> bool {
    field(status, "State:").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// The value on the line that begins like this.
pub(super) fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim())
}

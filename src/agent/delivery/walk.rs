//! The way to the directory of the file, from descriptor to descriptor.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat2};

use super::error::failed;
use super::mounts::{Mount, mount, mounts};
use super::{Error, Target, how};
use crate::agent::process::Process;

/// A container's root lies on one of these; which layers it has, the engine decides.
const ROOTS: [&str; 10] = [
    "overlay",
    "fuse.fuse-overlayfs",
    "btrfs",
    "zfs",
    "ext4",
    "xfs",
    "aufs",
    "f2fs",
    "tmpfs",
    "ramfs",
];

/// Goes to the directory of the file and makes sure that a token may lie there.
pub(super) fn walk(process: &Process, target: &Target) -> Result<OwnedFd, Error> {
    let host = process.host_mountinfo()?;
    let is_hosts = |mount: &Mount<'_>| mounts(&host).any(|other| other.device == mount.device);

    let mut path = "/".to_owned();
    let mountinfo = process.mountinfo()?;
    // By the list, before even the root is touched.
    let root = mounts(&mountinfo).filter(|mount| mount.point == "/").last();
    let root = match root {
        Some(root) if ROOTS.contains(&root.kind) && (root.is_memory() || is_hosts(&root)) => root,
        other => return Err(foreign(&path, other.as_ref())),
    };
    let root_id = root.id;
    let mut directory = process.root()?;
    let mut id = process.mount_id(&directory)?;
    if id != root_id {
        return Err(foreign(&path, mount(&mountinfo, id).as_ref()));
    }

    let (directories, _) = target.split();
    let mut directories = directories.peekable();
    let mut mountinfo = mountinfo;
    while let Some(name) = directories.next() {
        let parent = path.trim_end_matches('/');
        path = format!("{parent}/{name}");
        let refuse = |mount: Option<&Mount<'_>>, is_last: bool| match (is_last, mount) {
            (true, Some(mount)) => Error::NotTmpfs {
                path: path.clone(),
                kind: mount.kind.to_owned(),
            },
            _ => foreign(&path, mount),
        };
        let is_last = directories.peek().is_none();
        mountinfo = process.mountinfo()?;
        let upon = |mount: &Mount<'_>| mount.is_upon(&path) && !mount.is_memory();
        if let Some(mount) = mounts(&mountinfo).find(upon) {
            return Err(refuse(Some(&mount), is_last));
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        directory = openat2(&directory, name, how(flags)).map_err(|errno| match errno {
            Errno::ELOOP => Error::Symlink { path: path.clone() },
            errno => failed(&path, errno),
        })?;
        id = process.mount_id(&directory)?;
        if id != root_id {
            // What was mounted since may be missing from the list, and is refused for that.
            let found = mount(&mountinfo, id);
            if !found.as_ref().is_some_and(Mount::is_memory) {
                return Err(refuse(found.as_ref(), is_last));
            }
        }
    }

    let Some(last) = mount(&mountinfo, id) else {
        return Err(foreign(&path, None));
    };
    if !last.is_memory() {
        return Err(Error::NotTmpfs {
            path,
            kind: last.kind.to_owned(),
        });
    }
    // A container that has another part of it, or the whole elsewhere, reads the token.
    if last.root != "/" || is_hosts(&last) {
        return Err(Error::SharedTmpfs { path });
    }
    if last.is_read_only() {
        return Err(Error::ReadOnly { path });
    }
    Ok(directory)
}

fn foreign(path: &str, mount: Option<&Mount<'_>>) -> Error {
    Error::ForeignMount {
        path: path.to_owned(),
        kind: mount.map_or("unknown", |mount| mount.kind).to_owned(),
    }
}

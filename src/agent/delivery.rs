//! A token, placed in a container.
//!
//! Everything below the container's root is its own to shape, also while the agent works: names change between two system
//! calls, and file systems may be mounted that never answer. So the way to the file goes one directory at a time, from
//! descriptor to descriptor, and each step stops an attack:
//!
//! | step | what it stops |
//! |---|---|
//! | the path is checked first, without the container ([`target`]) | a label that leads up, in circles, or to names that others rely on |
//! | `openat2` with RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS, one name at a time | a symbolic link anywhere, planted before or swung in between, that would lead out of the container |
//! | before a name is looked up: is a mount upon it a tmpfs, or else is it none? | a network file system or automounter that is asked and never answers |
//! | after it is open: which mount is this, by the kernel's own word (`mnt_id` in fdinfo, `mountinfo`)? | the same, mounted in between; the file system itself is asked only once it is known to be no stranger |
//! | the root must be a mount that the host made | a process that made a file system of its own the root, by chroot(2) |
//! | the last directory must be on a tmpfs or ramfs, whole, writable and unknown to the host | a token on a disk, or where another container reads it |
//! | the file gets no name before it is whole, and link(2) never replaces | a name that is swapped for a FIFO, device or link while it is written; a half-written token; one that is left behind when the agent is killed |
//!
//! Nothing that exists in the container is ever opened for reading or writing: a FIFO cannot hold the agent up.
//!
//! A container that may handle page faults itself (userfaultfd or FUSE, which Docker's default profile
//! forbids) can hold the lock of its own directory for as long as it likes, and so its own delivery. The caller must
//! spend a thread on a container and not wait for it with all others. A tmpfs that two containers share without the host's
//! first process seeing it, for instance where the engine has mounts of its own, is not recognised.
//!
//! The agent needs CAP_CHOWN, CAP_FOWNER and CAP_DAC_OVERRIDE.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, fchown, linkat, unlinkat};

use super::process::{self, Owner, Process};
use crate::random;

/// The kernel's own limits for a name and, with its closing zero, for a path.
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4095;
/// Each directory costs a look at the mounts.
const DEPTH_MAX: usize = 16;
/// How often the name may be taken and free again in between.
const ATTEMPTS: usize = 8;
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
/// Nothing below the place is followed, and nothing leads out of it.
const RESOLVE: ResolveFlag = ResolveFlag::RESOLVE_IN_ROOT
    .union(ResolveFlag::RESOLVE_NO_SYMLINKS)
    .union(ResolveFlag::RESOLVE_NO_MAGICLINKS);

/// Where in a container a token goes: a path that is sound by itself, whatever the container makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    path: String,
}

impl Target {
    /// The whole path.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn split(&self) -> (impl Iterator<Item = &str>, &str) {
        let (directories, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        (directories.split('/').filter(|part| !part.is_empty()), name)
    }
}

/// Checks a path that may come from a container's label, so from any caller who may start one.
pub fn target(path: &str) -> Result<Target, Error> {
    let unusable = |reason| {
        Err(Error::UnusablePath {
            path: path.to_owned(),
            reason,
        })
    };
    let Some(relative) = path.strip_prefix('/') else {
        return unusable("it must begin with a slash");
    };
    if path.len() > PATH_MAX {
        return unusable("it is too long");
    }
    if path.contains(char::is_control) {
        return unusable("it holds a control character");
    }
    for part in relative.split('/') {
        match part {
            "" => return unusable("a name in it is empty"),
            "." | ".." => return unusable("it holds . or .."),
            _ if part.len() > NAME_MAX => return unusable("a name in it is too long"),
            _ => {}
        }
    }
    if relative.split('/').count() > DEPTH_MAX + 1 {
        return unusable("it has too many directories");
    }
    // The entrypoint's own files begin so.
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.starts_with("..") {
        return unusable("the file's name begins with two dots");
    }
    Ok(Target {
        path: path.to_owned(),
    })
}

/// Writes the token to this place in the container of this process, as a file of mode 0400 that the process owns.
///
/// A regular file that is there is replaced; a reader finds the old token or the new one. Anything else that is there is
/// left alone and refused. After an error nothing is left of the token, and after `until` it is too late.
pub fn deliver(
    process: &Process,
    target: &Target,
    token: &[u8],
    until: Instant,
) -> Result<(), Error> {
    let owner = process.owner()?;
    let directory = walk(process, target)?;
    let (_, name) = target.split();
    let place = Place {
        process,
        directory: &directory,
        path: target.path(),
        name,
    };
    let file = place.write(token, owner)?;
    if Instant::now() >= until {
        return Err(Error::Slow);
    }
    place.publish(&file)?;
    place.announce(&file);
    Ok(())
}

/// Goes to the directory of the file and makes sure that a token may lie there.
fn walk(process: &Process, target: &Target) -> Result<OwnedFd, Error> {
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

fn how(flags: OFlag) -> OpenHow {
    OpenHow::new().flags(flags).resolve(RESOLVE)
}

/// The directory that a token goes to, and the name it gets.
struct Place<'a> {
    process: &'a Process,
    directory: &'a OwnedFd,
    path: &'a str,
    name: &'a str,
}

impl Place<'_> {
    /// Writes a file that has no name yet: no process of the container can open, swap or see it, and it goes with its descriptor.
    fn write(&self, token: &[u8], owner: Owner) -> Result<File, Error> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = openat2(self.directory, ".", how(flags)).map_err(|errno| self.failed(errno))?;
        let mut file = File::from(file);
        file.write_all(token)
            .map_err(|error| self.failed(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
        fchown(&file, Some(owner.uid), Some(owner.gid))
            .and_then(|()| fchmod(&file, Mode::S_IRUSR))
            .map_err(|errno| self.failed(errno))?;
        Ok(file)
    }

    /// Gives the file its name, which must be free or a regular file's.
    fn publish(&self, file: &File) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            // link(2) neither follows nor replaces what has the name: it is free in this very moment or this fails.
            match self.link(file, self.name) {
                Ok(()) => return Ok(()),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(self.failed(errno)),
            }
            match self.occupant()? {
                Some("file") => return self.replace(file),
                Some(kind) => return Err(self.occupied(kind)),
                // The entrypoint took an earlier token just now.
                None => {}
            }
        }
        Err(self.occupied("name that comes and goes"))
    }

    /// Puts the file in the place of another one at once. If that was swapped for anything else meanwhile, that is what
    /// goes: rename(2) replaces the name and never follows it, and a directory stays.
    fn replace(&self, file: &File) -> Result<(), Error> {
        // A name that repeats is noticed by link(2), so that nothing depends on how rare that is.
        let number = u64::from_ne_bytes(random::bytes());
        let hidden = format!(".anteroom-{number:016x}");
        self.link(file, &hidden)
            .map_err(|errno| self.failed(errno))?;
        let renamed = renameat(self.directory, hidden.as_str(), self.directory, self.name);
        // Also after a success: rename(2) does nothing if a process made both names lead to the one file.
        let _ = unlinkat(self.directory, hidden.as_str(), UnlinkatFlags::NoRemoveDir);
        renamed.map_err(|errno| match errno {
            Errno::EISDIR => self.occupied("directory"),
            errno => self.failed(errno),
        })
    }

    /// Closes the file once more by its name: who waits there by inotify(7) hears of a link only that something begins.
    fn announce(&self, file: &File) {
        let Ok(found) = self.by_name() else {
            return;
        };
        let is_it = matches!((fstat(&found), fstat(file)), (Ok(found), Ok(own))
            if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino));
        // The agent's own file, so nothing of the container's is opened. If it was taken meanwhile, no process waits any more.
        if is_it {
            let path = format!("self/fd/{}", found.as_raw_fd());
            let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            let _ = openat(self.process.procfs(), path.as_str(), flags, Mode::empty());
        }
    }

    fn link(&self, file: &File, name: &str) -> Result<(), Errno> {
        // A link of the agent's own, to a file of its own: the container has no part in it.
        let unnamed = format!("self/fd/{}", file.as_raw_fd());
        linkat(
            self.process.procfs(),
            unnamed.as_str(),
            self.directory,
            name,
            AtFlags::AT_SYMLINK_FOLLOW,
        )
    }

    /// Whatever has the name now, unless it is a mount: that one's file system might never answer.
    fn by_name(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let how = OpenHow::new()
            .flags(flags)
            .resolve(RESOLVE | ResolveFlag::RESOLVE_NO_XDEV);
        openat2(self.directory, self.name, how)
    }

    /// Finds what has the name now. A mount upon it is not entered: its file system might never answer.
    fn occupant(&self) -> Result<Option<&'static str>, Error> {
        let found = match self.by_name() {
            Ok(found) => found,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::EXDEV) => return Ok(Some("mount")),
            Err(Errno::ELOOP) => return Ok(Some("symbolic link")),
            Err(errno) => return Err(self.failed(errno)),
        };
        let mode = fstat(&found).map_err(|errno| self.failed(errno))?.st_mode;
        Ok(Some(
            match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
                SFlag::S_IFREG => "file",
                SFlag::S_IFLNK => "symbolic link",
                SFlag::S_IFDIR => "directory",
                SFlag::S_IFIFO => "FIFO",
                SFlag::S_IFSOCK => "socket",
                _ => "device",
            },
        ))
    }

    fn occupied(&self, kind: &'static str) -> Error {
        Error::Occupied {
            path: self.path.to_owned(),
            kind,
        }
    }

    fn failed(&self, errno: Errno) -> Error {
        failed(self.path, errno)
    }
}

/// One line of proc_pid_mountinfo(5).
struct Mount<'a> {
    id: i64,
    device: &'a str,
    root: &'a str,
    point: &'a str,
    options: [&'a str; 2],
    kind: &'a str,
}

impl Mount<'_> {
    fn is_memory(&self) -> bool {
        matches!(self.kind, "tmpfs" | "ramfs")
    }

    fn is_read_only(&self) -> bool {
        let mut options = self.options.iter().flat_map(|options| options.split(','));
        options.any(|option| option == "ro")
    }

    fn is_upon(&self, path: &str) -> bool {
        // The kernel writes these so that they do not end a field.
        let escaped = path.replace('\\', "\\134").replace(' ', "\\040");
        self.point == escaped
    }
}

fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ');
        let mut what = what.split(' ');
        Some(Mount {
            id: place.next()?.parse().ok()?,
            device: place.nth(1)?,
            root: place.next()?,
            point: place.next()?,
            options: [place.next()?, what.clone().nth(2)?],
            kind: what.next()?,
        })
    })
}

fn mount(mountinfo: &str, id: i64) -> Option<Mount<'_>> {
    mounts(mountinfo).find(|mount| mount.id == id)
}

fn foreign(path: &str, mount: Option<&Mount<'_>>) -> Error {
    Error::ForeignMount {
        path: path.to_owned(),
        kind: mount.map_or("unknown", |mount| mount.kind).to_owned(),
    }
}

fn failed(path: &str, errno: Errno) -> Error {
    let path = path.to_owned();
    match errno {
        Errno::ENOSPC | Errno::EDQUOT => Error::Full { path },
        Errno::EROFS => Error::ReadOnly { path },
        Errno::EACCES | Errno::EPERM => Error::Denied {
            path,
            reason: "the agent needs CAP_CHOWN, CAP_FOWNER and CAP_DAC_OVERRIDE",
        },
        Errno::EOVERFLOW => Error::Denied {
            path,
            reason: "the tmpfs belongs to a user namespace in which the agent has no user; such a container can ask through the agent's socket",
        },
        Errno::ENOENT => Error::NoDirectory {
            path,
            reason: "it is not there",
        },
        Errno::ENOTDIR => Error::NoDirectory {
            path,
            reason: "it is something else",
        },
        errno => Error::Failed {
            path,
            reason: errno.desc(),
        },
    }
}

/// Why a token was not delivered; a symbolic link, something in the file's place, a foreign mount or a shared tmpfs may
/// be an attacker's doing.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// No file of a container may have this path.
    UnusablePath {
        /// As it was given: hostile.
        path: String,
        /// The reason why the path is refused.
        reason: &'static str,
    },
    /// The container's process is gone or cannot be looked at.
    Process(process::Error),
    /// A directory on the way is missing.
    NoDirectory {
        /// As far as the way went.
        path: String,
        /// The reason why the path is refused.
        reason: &'static str,
    },
    /// A directory on the way is a symbolic link.
    Symlink {
        /// The link.
        path: String,
    },
    /// The way leads over a mount that is neither the container's root, as the host made it, nor a tmpfs.
    ForeignMount {
        /// As far as the way went.
        path: String,
        /// The type of the file system.
        kind: String,
    },
    /// The file would lie on a disk.
    NotTmpfs {
        /// The file's directory.
        path: String,
        /// The type of its file system.
        kind: String,
    },
    /// The tmpfs is not this container's alone.
    SharedTmpfs {
        /// The file's directory.
        path: String,
    },
    /// The tmpfs is mounted read-only.
    ReadOnly {
        /// The path that cannot be written.
        path: String,
    },
    /// There is no room.
    Full {
        /// The file.
        path: String,
    },
    /// The agent lacks a right.
    Denied {
        /// The path that the agent may not work with.
        path: String,
        /// The right or the user that the agent lacks.
        reason: &'static str,
    },
    /// Something that is no regular file has the file's name.
    Occupied {
        /// The file.
        path: String,
        /// The kind of thing that has the name.
        kind: &'static str,
    },
    /// The container's file system took so long that the token was given up.
    Slow,
    /// The kernel refused for another reason.
    Failed {
        /// Where.
        path: String,
        /// The kernel's reason.
        reason: &'static str,
    },
}

impl Error {
    /// The reason in one word, for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Error::UnusablePath { .. } => "unusable_path",
            Error::Process(error) => error.reason(),
            Error::NoDirectory { .. } => "no_directory",
            Error::Symlink { .. } => "symlink",
            Error::ForeignMount { .. } => "foreign_mount",
            Error::NotTmpfs { .. } => "not_tmpfs",
            Error::SharedTmpfs { .. } => "shared_tmpfs",
            Error::ReadOnly { .. } => "read_only",
            Error::Full { .. } => "full",
            Error::Denied { .. } => "denied",
            Error::Occupied { .. } => "occupied",
            Error::Slow => "slow_file_system",
            Error::Failed { .. } => "failed",
        }
    }
}

impl From<process::Error> for Error {
    fn from(error: process::Error) -> Error {
        Error::Process(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Quoted as Rust does it: a hostile path must not end the line or hide what follows.
            Error::UnusablePath { path, reason } => {
                let start: String = path.chars().take(200).collect();
                write!(f, "the token cannot go to {start:?}: {reason}")
            }
            Error::Process(error) => error.fmt(f),
            Error::Slow => {
                f.write_str("the container's file system did not take the token in time")
            }
            Error::NoDirectory { path, reason } => {
                write!(f, "{path:?} in the container is no directory: {reason}")
            }
            Error::Symlink { path } => write!(
                f,
                "{path:?} in the container is a symbolic link, which is not followed"
            ),
            Error::ForeignMount { path, kind } => write!(
                f,
                "{path:?} in the container is on a mount of type {kind:?}, which is not entered"
            ),
            Error::NotTmpfs { path, kind } => write!(
                f,
                "{path:?} in the container is on {kind:?} and not on a tmpfs: mount one there (--tmpfs)"
            ),
            Error::SharedTmpfs { path } => write!(
                f,
                "{path:?} in the container is on a tmpfs that others see too: mount one of its own there (--tmpfs)"
            ),
            Error::ReadOnly { path } => {
                write!(f, "{path:?} in the container is mounted read-only")
            }
            Error::Full { path } => write!(f, "there is no room for {path:?} in the container"),
            Error::Denied { path, reason } => {
                write!(f, "no right to write {path:?} in the container: {reason}")
            }
            Error::Occupied { path, kind } => write!(
                f,
                "{path:?} in the container is a {kind}, which is left alone"
            ),
            Error::Failed { path, reason } => {
                write!(f, "cannot write {path:?} in the container: {reason}")
            }
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_path_is_split_into_its_names() {
        for (path, wanted, name) in [
            ("/run/anteroom/token", &["run", "anteroom"][..], "token"),
            ("/run/secrets/a b", &["run", "secrets"], "a b"),
            ("/run/.hidden/token", &["run", ".hidden"], "token"),
            ("/token", &[], "token"),
        ] {
            let target = target(path).expect(path);
            let (directories, file) = target.split();
            assert_eq!(directories.collect::<Vec<_>>(), wanted);
            assert_eq!(file, name);
        }
    }

    #[test]
    fn hostile_path_is_refused() {
        let long = format!("/{}", "a".repeat(256));
        let longer = format!("/{}token", "a/".repeat(5000));
        let deep = format!("/{}token", "a/".repeat(17));
        for path in [
            "",
            "token",
            "run/token",
            "/",
            "/run/",
            "//run/token",
            "/run/..token",
            "/run/./token",
            "/run/../token",
            "/..",
            "/run/..",
            "/run/.",
            "/run/to\nken",
            "/run/to\0ken",
            "/ru\x1bn/token",
            "/run/secrets/..data",
            "/run/..token",
            &long,
            &longer,
            &deep,
        ] {
            let error = target(path).expect_err(path);
            assert_eq!(error.reason(), "unusable_path");
            let text = error.to_string();
            assert!(
                !text.contains(char::is_control) && text.len() < 500,
                "{text:?}"
            );
        }
    }

    #[test]
    fn mounts_are_read_whatever_their_optional_fields() {
        let mountinfo = "69 45 0:39 / / ro,noatime master:2 - overlay overlay rw,lowerdir=/a\n\
            90 69 0:47 /part /run/a\\040b rw,nosuid shared:1 master:2 - tmpfs tmpfs rw,size=4k\n\
            91 69 0:48 / /x rw - tmpfs tmpfs ro\n\
            nonsense\n";
        let all: Vec<_> = mounts(mountinfo).collect();
        assert_eq!(all.len(), 3);
        assert!(all[0].is_read_only() && !all[0].is_memory());
        assert_eq!(
            (all[1].id, all[1].device, all[1].root),
            (90, "0:47", "/part")
        );
        assert!(all[1].is_memory() && !all[1].is_read_only() && all[1].is_upon("/run/a b"));
        assert!(all[2].is_read_only());
        assert!(mount(mountinfo, 92).is_none());
    }
}

//! A token, placed in a container.
//!
//! Everything below the container's root is its own to shape, also while the agent works: names change between two system
//! calls, and file systems may be mounted that never answer. So the way to the file goes one directory at a time, from
//! descriptor to descriptor, and each step stops an attack:
//!
//! | step | what it stops |
//! |---|---|
//! | the path is checked first, without the container ([`target()`]) | a label that leads up, in circles, or to names that others rely on |
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

mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod mounts;
mod target;
mod walk;
mod write;

use std::time::Instant;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag};

use super::process::Process;
use walk::walk;
use write::Place;

pub use error::Error;
pub use target::{Target, target};

/// Nothing below the place is followed, and nothing leads out of it.
const RESOLVE: ResolveFlag = ResolveFlag::RESOLVE_IN_ROOT
    .union(ResolveFlag::RESOLVE_NO_SYMLINKS)
    .union(ResolveFlag::RESOLVE_NO_MAGICLINKS);

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

fn how(flags: OFlag) -> OpenHow {
    OpenHow::new().flags(flags).resolve(RESOLVE)
}

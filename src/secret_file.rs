//! Files that hold a token or another secret: opened without being led elsewhere, and private.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// Another user than this process's own can read the file, or can put another secret into it.
#[derive(Debug, PartialEq, Eq)]
pub enum Exposed {
    /// The mode gives others a right.
    Mode(u32),
    /// The file belongs to another user.
    Owner {
        /// The user.
        owner: u32,
        /// Who this process is.
        process: u32,
    },
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exposed::Mode(mode) => write!(
                f,
                "its mode {mode:04o} lets others than its owner at it; make it 0400"
            ),
            Exposed::Owner { owner, process: 0 } => write!(
                f,
                "it belongs to user {owner}, who can read it and put another one in its place; chown it to root"
            ),
            Exposed::Owner { owner, process } => write!(
                f,
                "it belongs to user {owner}, who can read it and put another one in its place; chown it to user {process} or to root"
            ),
        }
    }
}

impl std::error::Error for Exposed {}

/// Opens the file itself: ELOOP for a symbolic link, and a pipe without a writer does not hold the open up.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
}

/// Checks that only this process's own user and root have a right on what was opened.
pub fn check(metadata: &Metadata) -> Result<(), Exposed> {
    let process = nix::unistd::geteuid().as_raw();
    check_for(metadata.mode(), metadata.uid(), process)
}

fn check_for(mode: u32, owner: u32, process: u32) -> Result<(), Exposed> {
    if mode & 0o077 != 0 {
        return Err(Exposed::Mode(mode & 0o7777));
    }
    if owner != 0 && owner != process {
        return Err(Exposed::Owner { owner, process });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_belongs_to_its_reader_or_root_alone() {
        for (mode, owner, process, expected) in [
            (0o100400, 0, 0, Ok(())),
            (0o100600, 1000, 1000, Ok(())),
            (0o100400, 0, 1000, Ok(())),
            (0o100440, 0, 0, Err(Exposed::Mode(0o440))),
            (0o100401, 1000, 1000, Err(Exposed::Mode(0o401))),
            (
                0o100400,
                1000,
                0,
                Err(Exposed::Owner {
                    owner: 1000,
                    process: 0,
                }),
            ),
            (
                0o010600,
                1001,
                1000,
                Err(Exposed::Owner {
                    owner: 1001,
                    process: 1000,
                }),
            ),
        ] {
            assert_eq!(
                check_for(mode, owner, process),
                expected,
                "{mode:o} {owner} {process}"
            );
        }
    }
}

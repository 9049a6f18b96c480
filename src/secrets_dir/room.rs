//! Room in the file system: foreseen, waited for, and named when it is missing.

use nix::errno::Errno;
use nix::sys::statfs::fstatfs;

use super::generation::parents;
use super::{Error, SecretsDir};
use crate::files::File;

/// An amount of room that a file system takes, or that files need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// The bytes of contents, whole pages each.
    pub bytes: u64,
    /// The number of files, directories and links.
    pub inodes: u64,
}

/// The reasons why nothing could be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// No page is left.
    Bytes,
    /// No inode is left.
    Inodes,
    /// This process may open no more files.
    Descriptors,
    /// This process may write no file of this size.
    FileSize,
    /// Another reason.
    Other,
}

impl Room {
    /// Says whether there is room for this.
    pub(crate) fn holds(self, needed: Room) -> bool {
        self.bytes >= needed.bytes && self.inodes >= needed.inodes
    }
}

impl Error {
    /// Returns the room that was missing, when something could not be written.
    pub fn lack(&self) -> Option<Lack> {
        match self {
            Error::Write { lack, .. } | Error::Unwritable { lack, .. } => Some(*lack),
            _ => None,
        }
    }

    /// Says whether another try may succeed once something was removed.
    pub fn is_for_want_of_room(&self) -> bool {
        matches!(self.lack(), Some(Lack::Bytes | Lack::Inodes))
    }
}

impl SecretsDir {
    /// Measures the room that is left in the file system; one without bounds has more than anything needs.
    pub(crate) fn room(&self) -> Room {
        let unbounded = Room {
            bytes: u64::MAX,
            inodes: u64::MAX,
        };
        let Ok(filesystem) = fstatfs(&self.directory) else {
            return unbounded;
        };
        let block = u64::try_from(filesystem.block_size()).unwrap_or(1);
        Room {
            bytes: match filesystem.blocks() {
                0 => unbounded.bytes,
                _ => filesystem.blocks_available().saturating_mul(block),
            },
            inodes: match filesystem.files() {
                0 => unbounded.inodes,
                _ => filesystem.files_free(),
            },
        }
    }

    /// Computes the room that a generation of these files needs beside those that are there, with the status that goes
    /// with it.
    pub(crate) fn needed(&self, files: &[File]) -> Room {
        let block = fstatfs(&self.directory)
            .ok()
            .and_then(|filesystem| u64::try_from(filesystem.block_size()).ok())
            .unwrap_or(4096)
            .max(1);
        let pages = files.iter().map(|file| {
            let length = file.contents.expose().len() as u64;
            length.div_ceil(block)
        });
        Room {
            bytes: (pages.sum::<u64>() + 1).saturating_mul(block),
            // With the generation's own directory, the status and the link that is swung.
            inodes: (files.len() + parents(files).len() + 3) as u64,
        }
    }

    pub(super) fn lack(&self, errno: Errno) -> Lack {
        match errno {
            Errno::ENOSPC if self.room().inodes == 0 => Lack::Inodes,
            Errno::ENOSPC | Errno::EDQUOT => Lack::Bytes,
            Errno::EMFILE | Errno::ENFILE => Lack::Descriptors,
            Errno::EFBIG => Lack::FileSize,
            _ => Lack::Other,
        }
    }
}

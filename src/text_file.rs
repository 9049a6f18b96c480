//! Files whose text comes from outside, such as the manifest or a CA: regular, of a bounded size, and read at once.

use std::fmt;
use std::fs::{FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// The most bytes of a manifest or of the agent's configuration.
pub(crate) const CONFIGURATION_MAX: u64 = 1 << 20;

/// Every reason why a file cannot be read.
#[derive(Debug)]
pub(crate) enum Error {
    /// The system refused the file.
    System(io::Error),
    /// The path leads to something that may never end, or may do more than be read.
    NoFile {
        /// The kind of thing there.
        found: &'static str,
    },
    /// The file is larger than the limit.
    TooLarge {
        /// The limit in bytes.
        most: u64,
    },
    /// The text is not UTF-8.
    NotUtf8,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::System(error) => error.fmt(f),
            Error::NoFile { found } => write!(f, "it is {found}, no regular file"),
            Error::TooLarge { most } => write!(f, "it is larger than {} MiB", most >> 20),
            Error::NotUtf8 => f.write_str("it is not UTF-8"),
        }
    }
}

impl std::error::Error for Error {}

/// Reads a text of at most so many bytes.
pub(crate) fn read_text(path: &Path, most: u64) -> Result<String, Error> {
    String::from_utf8(read(path, most)?).map_err(|_| Error::NotUtf8)
}

/// Reads at most so many bytes.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    // Before the open as well, which can be an order to a device.
    check(&std::fs::metadata(path).map_err(Error::System)?)?;
    let file = OpenOptions::new()
        .read(true)
        // NONBLOCK: a pipe that has come to the path since must not hold the open up.
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
        .map_err(Error::System)?;
    check(&file.metadata().map_err(Error::System)?)?;
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::System)?;
    if bytes.len() as u64 > most {
        return Err(Error::TooLarge { most });
    }
    Ok(bytes)
}

fn check(metadata: &Metadata) -> Result<(), Error> {
    if metadata.is_file() {
        return Ok(());
    }
    let found = kind(metadata.file_type());
    Err(Error::NoFile { found })
}

/// Names a kind of file, with its article.
pub(crate) fn kind(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "a regular file"
    }
}

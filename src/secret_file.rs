//! Files that hold a token or another secret: opened without being led elsewhere, and private.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::text_file;

/// The longest token that is sent anywhere.
const TOKEN_MAX: u64 = 4096;

/// Another user than this process's own can read the file, or can put another secret into it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Exposed {
    /// The mode gives others a right.
    Mode(u32),
    /// The file belongs to another user.
    Owner {
        /// The user.
        owner: u32,
        /// The user of this process.
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

/// Opens the file itself: a symbolic link is refused with ELOOP, and a pipe without a writer does not hold the open
/// up.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
}

/// Checks that only this process's own user and root have a right on what was opened.
pub(crate) fn check(metadata: &Metadata) -> Result<(), Exposed> {
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

/// Every reason against the file of a token, or of another secret in one line.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// The file cannot be read, or not only by its owner.
    File { reason: String },
    /// The content is no token; the value itself is never shown.
    Content {
        /// The fault in the content.
        reason: &'static str,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::File { reason } => f.write_str(reason),
            Unusable::Content { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for Unusable {}

/// Reads the token in a file by the rules for token files; none when there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<Secret>, Unusable> {
    let unusable = |reason: String| Unusable::File { reason };
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {
            return Err(unusable(
                "it is a symbolic link; name the file itself".to_owned(),
            ));
        }
        // What open(2) says of a socket.
        Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => {
            return Err(unusable("it is a socket, no regular file".to_owned()));
        }
        Err(error) => return Err(unusable(error.to_string())),
    };
    let metadata = file
        .metadata()
        .map_err(|error| unusable(error.to_string()))?;
    if !metadata.is_file() {
        let found = text_file::kind(metadata.file_type());
        return Err(unusable(format!("it is {found}, no regular file")));
    }
    check(&metadata).map_err(|exposed| unusable(exposed.to_string()))?;
    // With room for what is too long, and never grown, so that no copy is left behind.
    let mut input = Zeroizing::new(Vec::with_capacity(TOKEN_MAX as usize + 64));
    file.take(TOKEN_MAX + 3)
        .read_to_end(&mut input)
        .map_err(|error| unusable(error.to_string()))?;
    let line = input.strip_suffix(b"\n").unwrap_or(&input);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match checked(line) {
        Ok(secret) => Ok(Some(secret)),
        Err(reason) => Err(Unusable::Content { reason }),
    }
}

/// Accepts a text that may be a token, or says why it is none.
pub(crate) fn checked(token: &[u8]) -> Result<Secret, &'static str> {
    if token.is_empty() {
        return Err("it is empty");
    }
    if token.len() as u64 > TOKEN_MAX {
        return Err("it is too long");
    }
    match std::str::from_utf8(token) {
        Ok(text) if token.iter().all(u8::is_ascii_graphic) => Ok(Secret::new(text.to_owned())),
        _ => Err("it holds a blank, a control character or a character that is not ASCII"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_belongs_to_its_reader_or_root_alone() {
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

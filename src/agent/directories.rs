//! The directories of the agent's own files: made where they are missing, or named all at once with the command to make them.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::configuration::{Configuration, Listen};

/// The register names accessors.
const PRIVATE: u32 = 0o700;
/// Sockets say themselves who may connect, and one's directory is mounted into containers.
const PUBLIC: u32 = 0o755;

/// A directory that is missing and cannot be made.
#[derive(Debug)]
pub struct Missing {
    path: PathBuf,
    mode: u32,
    reason: String,
}

impl Missing {
    /// The directory, and why it cannot be made.
    pub fn reason(&self) -> String {
        format!("{} ({})", self.path.display(), self.reason)
    }

    /// The command that makes it.
    pub fn command(&self) -> String {
        format!("install -d -m {:04o} '{}'", self.mode, self.path.display())
    }
}

/// Makes the directories of the register and of the sockets where they are missing; returns all that could not be made.
pub(super) fn make(configuration: &Configuration) -> Result<(), Vec<Missing>> {
    let listen = match &configuration.own.listen {
        Some(Listen::Unix(path)) => Some(path),
        Some(Listen::Tcp(_)) | None => None,
    };
    let sockets = [
        Some(&configuration.own.control),
        listen,
        configuration.delivery.socket.as_ref(),
    ];
    let sockets = sockets.into_iter().flatten().map(|path| (path, PUBLIC));
    let files = sockets.chain([(&configuration.own.register, PRIVATE)]);
    let mut missing: Vec<Missing> = Vec::new();
    for (file, mode) in files {
        let Some(directory) = file.parent() else {
            continue;
        };
        if missing.iter().any(|missing| missing.path == directory) {
            continue;
        }
        if let Err(error) = make_one(directory, mode) {
            missing.push(Missing {
                path: directory.to_owned(),
                mode,
                reason: error.to_string(),
            });
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(missing)
    }
}

/// Makes a directory, and those above it; what is there stays as it is.
fn make_one(directory: &Path, mode: u32) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = directory.parent() {
        make_one(above, PUBLIC)?;
    }
    match DirBuilder::new().mode(mode).create(directory) {
        // Whatever the umask takes away.
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

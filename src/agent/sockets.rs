//! Sockets in the file system: one that an earlier agent left behind goes, and nothing else.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::sys::stat::{Mode, umask};
use tokio::net::UnixListener;

/// Listens at a path, in place of whoever listened there before and has ended.
pub(super) fn listen(path: &Path, mode: Mode) -> io::Result<UnixListener> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("at {}: {error}", path.display()));
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(named(io::ErrorKind::AlreadyExists.into()));
        }
        Ok(_) => std::fs::remove_file(path).map_err(named)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(named(error)),
    }
    // Its mode from the first moment on, and not by chmod(2): the directory may be a container's too, and a name in it
    // lead anywhere a moment later.
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let _ = std::fs::remove_file(&new);
    let before = umask(Mode::from_bits_truncate(0o777).difference(mode));
    let listener = UnixListener::bind(&new);
    umask(before);
    let listener = listener.map_err(named)?;
    // It comes to its place when it listens: whoever waits there connects in the moment in which the name appears.
    std::fs::rename(&new, path).map_err(named)?;
    Ok(listener)
}

/// For its owner alone.
pub(super) const PRIVATE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// For everybody who can reach it.
pub(super) const PUBLIC: Mode = PRIVATE
    .union(Mode::S_IRGRP)
    .union(Mode::S_IWGRP)
    .union(Mode::S_IROTH)
    .union(Mode::S_IWOTH);

//! The standard descriptors, of which this process lets go.

use super::error::{Error, refused};

/// Has this process take nothing of what is meant for the application.
pub(crate) fn replace_stdin() {
    let _ = open_null().map(nix::unistd::dup2_stdin);
}

/// Has this process say nothing any more: a reader of what the application says waits for the end of both.
pub(crate) fn replace_stderr() {
    let _ = open_null().map(nix::unistd::dup2_stderr);
}

/// Opens `/dev/null` for both directions.
pub(crate) fn open_null() -> Result<std::fs::File, Error> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    null.map_err(refused("open /dev/null"))
}

//! The input through a descriptor or at a path: read once, capped and in time.

use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use zeroize::Zeroizing;

use super::read::{Found, read_capped};
use super::wait::{Watch, Woken};
use super::{Error, Limits, socket};
use crate::log::{Level, Log, Value};
use crate::secret_file;
use crate::system::refused;
use crate::text_file;

/// The first pause before a socket that did not answer is asked again; the next is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
/// The pauses after which there must be news: a socket is there a moment before the agent listens to it.
const PAUSES_MAX: u32 = 7;

/// The kinds of files that may be at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kinds {
    /// A regular file, a pipe or an agent's socket.
    All,
    /// A regular file.
    FileOnly,
}

/// Reads what is at the path, or what comes to it in time, and whether it was in a file.
pub(super) fn read_path(
    path: &Path,
    kinds: Kinds,
    until: Instant,
    limits: &Limits<'_>,
    log: Log,
) -> Result<(Zeroizing<Vec<u8>>, bool), Error> {
    let mut watch = None;
    let mut pauses = 0;
    let left = limits.deadline.saturating_duration_since(Instant::now());
    let in_vain = |reason| Error::InVain {
        origin: path.display().to_string(),
        waited: limits.wait.min(left),
        is_cut: left < limits.wait,
        reason,
    };
    loop {
        let reason = match look(path, kinds, until, limits)? {
            Found::File(input) => return Ok((input, true)),
            Found::Answer(input) => return Ok((input, false)),
            Found::Nothing(reason) => reason,
        };
        if limits.wait.is_zero() {
            return Err(Error::Source {
                origin: path.display().to_string(),
                reason: reason.to_owned(),
            });
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(in_vain(reason));
        }
        let Some(watch) = &watch else {
            watch = Some(Watch::of(path)?);
            let path = path.to_string_lossy();
            let fields = [
                ("path", Value::Text(&path)),
                ("wait_ms", Value::Number(left.as_millis() as u64)),
            ];
            let text = "waiting for the wrapping token";
            log.event(Level::Info, "token_awaited", text, &fields);
            // It may have come just before.
            continue;
        };
        let is_asked_again = path
            .symlink_metadata()
            .is_ok_and(|it| it.file_type().is_socket())
            && pauses < PAUSES_MAX;
        let next = if is_asked_again {
            until.min(Instant::now() + PAUSE_FIRST * (1 << pauses))
        } else {
            until
        };
        match watch.await_change(next, limits.called_off)? {
            Woken::Input => pauses = 0,
            Woken::Late if next < until => pauses += 1,
            Woken::Late | Woken::CalledOff => return Err(in_vain(reason)),
        }
    }
}

/// Reads what is at the path now.
fn look(path: &Path, kinds: Kinds, until: Instant, limits: &Limits<'_>) -> Result<Found, Error> {
    let origin = path.display().to_string();
    let unusable = |reason: String| Error::Source {
        origin: origin.clone(),
        reason,
    };
    let file = secret_file::open(path);
    let file = match file.map_err(|error| (error.raw_os_error().map(Errno::from_raw), error)) {
        Ok(file) => file,
        Err((Some(errno @ Errno::ENOENT), _)) => return Ok(Found::Nothing(errno.desc())),
        // What open(2) says of a socket.
        Err((Some(Errno::ENXIO), _)) if kinds == Kinds::FileOnly => {
            return Err(unusable("it is a socket, no regular file".to_owned()));
        }
        Err((Some(Errno::ENXIO), _)) => return socket::ask(path, until, limits.called_off),
        Err((Some(Errno::ELOOP), _)) => {
            return Err(unusable("it is a symbolic link, which another user may have pointed elsewhere; name the file itself".to_owned()));
        }
        Err((Some(errno @ (Errno::EMFILE | Errno::ENFILE)), _)) => {
            return Err(Error::System(refused("open the token file")(errno)));
        }
        Err((_, error)) => return Err(unusable(error.to_string())),
    };
    let metadata = file
        .metadata()
        .map_err(|error| unusable(error.to_string()))?;
    let kind = metadata.file_type();
    if !kind.is_file() && kinds == Kinds::FileOnly {
        return Err(unusable(format!(
            "it is {}, no regular file",
            text_file::kind(kind)
        )));
    }
    if !kind.is_file() && !kind.is_fifo() {
        return Err(unusable(
            "it is neither a file nor a pipe nor a socket".to_owned(),
        ));
    }
    if kind.is_file() && metadata.len() == 0 && !limits.wait.is_zero() {
        return Ok(Found::Nothing("it is empty"));
    }
    secret_file::check(&metadata).map_err(|exposed| unusable(exposed.to_string()))?;
    let input = read_capped(file.as_fd(), &origin, until, limits.called_off)?;
    Ok(Found::File(input))
}

//! The agent's socket: a caller connects, says nothing, and is told its token.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use zeroize::Zeroizing;

use super::read::{Found, read_capped};
use super::wait::{Woken, await_input};
use super::{Error, Json};
use crate::system::refused;

/// The time that a connect waits for room in the queue before it looks whether the start was called off, in
/// milliseconds.
const QUEUE_MS: i64 = 100;
/// The longest reason that is read: more than any needs.
const REASON_MAX: usize = 256;

/// Connects and reads to the end; a refusal is an error.
pub(super) fn ask(
    path: &Path,
    until: Instant,
    called_off: Option<BorrowedFd<'_>>,
) -> Result<Found, Error> {
    let origin = path.display().to_string();
    let connection = match open(path, until, called_off) {
        Ok(connection) => connection,
        Err(errno @ (Errno::ENOENT | Errno::ECONNREFUSED | Errno::EACCES | Errno::EAGAIN)) => {
            return Ok(Found::Nothing(errno.desc()));
        }
        Err(errno @ (Errno::EMFILE | Errno::ENFILE)) => {
            let step = "ask the agent for the wrapping token";
            return Err(Error::System(refused(step)(errno)));
        }
        Err(errno) => {
            let reason = errno.desc().to_owned();
            return Err(Error::Source { origin, reason });
        }
    };
    let input = match read_capped(connection.as_fd(), &origin, until, called_off) {
        Err(Error::Silent { .. }) => return Ok(Found::Nothing("it gave no answer")),
        input => input?,
    };
    read_answer(input, &origin)
}

/// Tells a refusal from what may be a token.
pub(super) fn read_answer(input: Zeroizing<Vec<u8>>, origin: &str) -> Result<Found, Error> {
    if input.is_empty() {
        return Ok(Found::Nothing("it was closed without an answer"));
    }
    // Only what is said to be an error is shown: anything else may be a token.
    match serde_json::from_slice::<Json>(&input) {
        Ok(Json {
            error: Some(mut reason),
            ..
        }) => {
            let end = (0..=REASON_MAX).rfind(|&end| reason.is_char_boundary(end));
            reason.truncate(end.unwrap_or(0));
            Err(Error::Refused {
                origin: origin.to_owned(),
                reason,
            })
        }
        _ => Ok(Found::Answer(input)),
    }
}

fn open(path: &Path, until: Instant, called_off: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Errno> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC;
    let connection = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    setsockopt(
        &connection,
        sockopt::SendTimeout,
        &TimeVal::milliseconds(QUEUE_MS),
    )?;
    loop {
        match connect(connection.as_raw_fd(), &address) {
            Ok(()) => return Ok(connection),
            // Others are in the queue before us; the kernel wakes us when there is room.
            Err(Errno::EAGAIN | Errno::EINTR)
                if Instant::now() < until && !is_called_off(called_off) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn is_called_off(called_off: Option<BorrowedFd<'_>>) -> bool {
    called_off.is_some_and(|fd| await_input(fd, Instant::now(), None) == Ok(Woken::Input))
}

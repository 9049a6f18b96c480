//! Reading what may be a token: capped, in time, and without a copy that is left behind.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::errno::Errno;
use zeroize::Zeroizing;

use super::Error;
use super::wait::{Woken, await_input};

/// The longest input that is read: a token in its JSON with room for what else the CLI prints.
const INPUT_MAX: usize = 16 * 1024;

/// The input at the path.
pub(super) enum Found {
    /// The bytes of the file or pipe.
    File(Zeroizing<Vec<u8>>),
    /// The answer of a socket.
    Answer(Zeroizing<Vec<u8>>),
    /// Nothing yet, for this reason.
    Nothing(&'static str),
}

/// Reads to the end, but no more than fits and no longer than this.
pub(super) fn read_capped(
    fd: BorrowedFd<'_>,
    origin: &str,
    until: Instant,
    called_off: Option<BorrowedFd<'_>>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let unusable = |reason: &str| Error::Source {
        origin: origin.to_owned(),
        reason: reason.to_owned(),
    };
    // Never grown, so that no copy is left behind.
    let mut buffer = Zeroizing::new(vec![0; INPUT_MAX + 1]);
    let mut filled = 0;
    loop {
        match await_input(fd, until, called_off) {
            Ok(Woken::Input) => {}
            Ok(Woken::Late) => {
                return Err(Error::Silent {
                    origin: origin.to_owned(),
                });
            }
            Ok(Woken::CalledOff) => return Err(unusable("the start was called off")),
            Err(errno) => return Err(unusable(errno.desc())),
        }
        match nix::unistd::read(fd, &mut buffer[filled..]) {
            // An agent that ends before it answers resets the connection.
            Ok(0) | Err(Errno::ECONNRESET) => break,
            Ok(n) => {
                filled += n;
                if filled > INPUT_MAX {
                    return Err(Error::Malformed {
                        length: filled,
                        reason: "it is longer than any token",
                    });
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(unusable(errno.desc())),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

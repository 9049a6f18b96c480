//! Between PID 1 and the keeper: one message up, one byte down, and an end that either side notices.
//!
//! Up: the variables for the application, which are all that PID 1 ever learns. Down: leave to end; if the connection
//! ends instead, the start was called off, and the keeper gives back what it has.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroize::Zeroizing;

use crate::secret::Secret;

const RELEASE: u8 = b'r';
/// More than an exec takes.
const MESSAGE_MAX: usize = 16 << 20;

/// PID 1's end.
pub struct ParentEnd {
    stream: UnixStream,
    message: Zeroizing<Vec<u8>>,
}

/// The keeper's end.
pub struct KeeperEnd {
    stream: UnixStream,
}

/// What came from the keeper so far.
pub enum News {
    /// Not all of it yet.
    Nothing,
    /// The variables, each as `NAME=value`.
    Ready(Vec<Secret<Vec<u8>>>),
    /// The keeper is gone.
    Ended,
}

/// Both ends, closed by an exec.
pub fn pair() -> io::Result<(ParentEnd, KeeperEnd)> {
    let (parent, keeper) = UnixStream::pair()?;
    parent.set_nonblocking(true)?;
    Ok((
        ParentEnd {
            stream: parent,
            message: Zeroizing::default(),
        },
        KeeperEnd { stream: keeper },
    ))
}

impl ParentEnd {
    /// Takes what has arrived.
    pub fn read(&mut self) -> io::Result<News> {
        let mut chunk = Zeroizing::new([0; 4096]);
        loop {
            match self.stream.read(&mut chunk[..]) {
                Ok(0) => return Ok(News::Ended),
                Ok(n) => self.message.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The keeper ended without having read what was sent to it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(News::Ended);
                }
                Err(error) => return Err(error),
            }
        }
        let Some((length, body)) = self.message.split_first_chunk::<4>() else {
            return Ok(News::Nothing);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MESSAGE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if body.len() < length {
            return Ok(News::Nothing);
        }
        let variables = body
            .split(|byte| *byte == 0)
            .filter(|variable| !variable.is_empty());
        Ok(News::Ready(
            variables
                .map(|variable| Secret::new(variable.to_vec()))
                .collect(),
        ))
    }

    /// Lets the keeper end.
    pub fn release(&mut self) -> io::Result<()> {
        self.stream.write_all(&[RELEASE])
    }

    /// Calls the start off.
    pub fn call_off(&self) {
        // When the keeper is gone already there is nobody to tell.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }
}

impl AsFd for ParentEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl KeeperEnd {
    /// Readable or closed when the start is called off; before [`KeeperEnd::ready`] there is nothing else to read.
    pub fn called_off(&self) -> io::Result<Arc<OwnedFd>> {
        Ok(Arc::new(self.stream.as_fd().try_clone_to_owned()?))
    }

    /// Hands the variables over, unless they are too long for any exec.
    pub fn ready(&mut self, variables: &[(String, Secret)]) -> io::Result<()> {
        let length: usize = variables
            .iter()
            .map(|(name, value)| name.len() + value.expose().len() + 2)
            .sum();
        if length > MESSAGE_MAX {
            return Err(io::ErrorKind::ArgumentListTooLong.into());
        }
        let mut message = Zeroizing::new(Vec::with_capacity(length + 4));
        let length = u32::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?;
        message.extend_from_slice(&length.to_le_bytes());
        for (name, value) in variables {
            message.extend_from_slice(name.as_bytes());
            message.push(b'=');
            message.extend_from_slice(value.expose().as_bytes());
            message.push(0);
        }
        self.stream.write_all(&message)
    }

    /// The start was called off.
    pub fn is_called_off(&self) -> bool {
        let mut ready = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut ready, PollTimeout::ZERO), Ok(n) if n > 0)
    }

    /// Waits for leave to end; false when the start was called off.
    pub fn await_release(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.stream.read_exact(&mut byte), Ok(()) if byte == [RELEASE])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_arrive_whole_and_once() {
        let (mut parent, mut keeper) = pair().expect("sockets");
        assert!(matches!(parent.read(), Ok(News::Nothing)));
        let variables = [
            ("A".to_owned(), Secret::new("1=2\n".to_owned())),
            ("B".to_owned(), Secret::new(String::new())),
        ];
        keeper.ready(&variables).expect("sent");
        let Ok(News::Ready(variables)) = parent.read() else {
            panic!("not ready")
        };
        let variables: Vec<_> = variables
            .iter()
            .map(|variable| variable.expose().clone())
            .collect();
        assert_eq!(variables, [b"A=1=2\n".to_vec(), b"B=".to_vec()]);
        parent.release().expect("sent");
        assert!(keeper.await_release());
        drop(keeper);
        assert!(matches!(parent.read(), Ok(News::Ended)));
    }

    #[test]
    fn a_parent_that_is_gone_has_called_the_start_off_f34() {
        let (parent, mut keeper) = pair().expect("sockets");
        drop(parent);
        assert!(!keeper.await_release());
    }
}

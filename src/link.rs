//! The link between PID 1 and the keeper: few and short messages, and an end that either side notices.
//!
//! Up go the variables for the application, which are all that PID 1 ever learns; where PID 1 stays, also what the
//! application is to be told, and the variables that it starts again with. Down go the leave to go on, the news that the
//! application runs, the answer to an order to start it again, and the order to give everything back. An exec closes PID
//! 1's end.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use zeroize::Zeroizing;

use crate::secret::Secret;

const RELEASE: u8 = b'r';
const RUNS: u8 = b'a';
const ACCEPTED: u8 = b'y';
const REFUSED: u8 = b'n';
const END: u8 = b'e';
const SIGNAL: u8 = b's';
const TELL: u8 = b'h';
const TERMINATE: u8 = b't';
const RESTART: u8 = b'v';
/// The most bytes of a message: more than an exec takes.
const MESSAGE_MAX: usize = 16 << 20;

/// PID 1's end.
pub(crate) struct ParentEnd {
    stream: UnixStream,
    message: Zeroizing<Vec<u8>>,
    is_ready: bool,
}

/// The keeper's end.
pub(crate) struct KeeperEnd {
    stream: UnixStream,
}

/// A message from the keeper.
pub(crate) enum News {
    /// The message is not complete yet.
    Nothing,
    /// Everything is published.
    Ready(Ready),
    /// The application is to get this signal.
    Signal(Signal),
    /// The application is to get this signal once it can take it.
    Tell(Signal),
    /// The application is to be ended.
    Terminate,
    /// The application is to be ended, and started again with these variables, each as `NAME=value`.
    Restart(Vec<Secret<Vec<u8>>>),
    /// The keeper is gone.
    Ended,
}

/// The keeper's first message.
pub(crate) struct Ready {
    /// The variables, each as `NAME=value`.
    pub variables: Vec<Secret<Vec<u8>>>,
    /// True where the keeper has something to keep fresh, or to tidy up.
    pub stays: bool,
}

/// Makes both ends, which an exec closes.
pub(crate) fn pair() -> io::Result<(ParentEnd, KeeperEnd)> {
    let (parent, keeper) = UnixStream::pair()?;
    parent.set_nonblocking(true)?;
    Ok((
        ParentEnd {
            stream: parent,
            message: Zeroizing::default(),
            is_ready: false,
        },
        KeeperEnd { stream: keeper },
    ))
}

impl ParentEnd {
    /// Takes one message, if it has arrived.
    pub(crate) fn read(&mut self) -> io::Result<News> {
        let ended = self.receive()?;
        let news = if self.is_ready {
            self.order()?
        } else {
            self.first()?
        };
        Ok(match news {
            News::Nothing if ended => News::Ended,
            news => news,
        })
    }

    /// Takes the bytes that are there; true when there will be no more.
    fn receive(&mut self) -> io::Result<bool> {
        let mut chunk = Zeroizing::new([0; 4096]);
        loop {
            match self.stream.read(&mut chunk[..]) {
                Ok(0) => return Ok(true),
                Ok(n) => {
                    if self.message.capacity() < self.message.len() + n {
                        // What grows in place leaves a copy behind.
                        let room = self.message.len() * 2 + chunk.len();
                        let mut larger = Zeroizing::new(Vec::with_capacity(room));
                        larger.extend_from_slice(&self.message);
                        self.message = larger;
                    }
                    self.message.extend_from_slice(&chunk[..n]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The keeper ended without having read what was sent to it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    fn first(&mut self) -> io::Result<News> {
        let Some((length, body)) = self.message.split_first_chunk::<4>() else {
            return Ok(News::Nothing);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MESSAGE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some((stays, variables)) = body.get(..length).and_then(<[u8]>::split_first) else {
            return Ok(News::Nothing);
        };
        let ready = Ready {
            variables: split(variables),
            stays: *stays != 0,
        };
        // What follows are orders; the old buffer is zeroed with its secrets.
        self.message = Zeroizing::new(body[length..].to_vec());
        self.is_ready = true;
        Ok(News::Ready(ready))
    }

    fn order(&mut self) -> io::Result<News> {
        let [kind, number, ..] = self.message[..] else {
            return Ok(News::Nothing);
        };
        if kind == RESTART {
            return self.restart();
        }
        self.message.drain(..2);
        Ok(match (kind, Signal::try_from(i32::from(number))) {
            (SIGNAL, Ok(signal)) => News::Signal(signal),
            (TELL, Ok(signal)) => News::Tell(signal),
            (TERMINATE, _) => News::Terminate,
            _ => News::Nothing,
        })
    }

    fn restart(&mut self) -> io::Result<News> {
        let Some((length, body)) = self.message[1..].split_first_chunk::<4>() else {
            return Ok(News::Nothing);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MESSAGE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some((variables, rest)) = body.split_at_checked(length) else {
            return Ok(News::Nothing);
        };
        let variables = split(variables);
        // The old buffer is zeroed with its secrets.
        self.message = Zeroizing::new(rest.to_vec());
        Ok(News::Restart(variables))
    }

    /// Lets the keeper go on: from now on the application runs.
    pub(crate) fn release(&mut self) -> io::Result<()> {
        self.stream.write_all(&[RELEASE])
    }

    /// Tells the keeper, where PID 1 stays, that the application runs.
    pub(crate) fn report_start(&mut self) {
        // A keeper that is gone is noticed by its end.
        let _ = self.stream.write_all(&[RUNS]);
    }

    /// Tells the keeper that the application is started again, as ordered.
    pub(crate) fn accept(&mut self) {
        // A keeper that is gone needs no answer, here and below.
        let _ = self.stream.write_all(&[ACCEPTED]);
    }

    /// Tells the keeper that the application is not started again.
    pub(crate) fn refuse(&mut self) {
        let _ = self.stream.write_all(&[REFUSED]);
    }

    /// Orders the keeper to give back what it has, and to end.
    pub(crate) fn call_off(&mut self) {
        // A keeper that is gone already needs no order.
        let _ = self.stream.write_all(&[END]);
    }
}

impl AsFd for ParentEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsFd for KeeperEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl KeeperEnd {
    /// Returns a descriptor that is readable or closed when everything is to be given back; not between
    /// [`KeeperEnd::send_ready`] and the last of [`KeeperEnd::await_release`] and [`KeeperEnd::await_start`], and not between
    /// [`KeeperEnd::restart`] and [`KeeperEnd::await_answer`].
    pub(crate) fn ending(&self) -> io::Result<Arc<OwnedFd>> {
        Ok(Arc::new(self.stream.as_fd().try_clone_to_owned()?))
    }

    /// Hands the variables over, unless they are too long for any exec.
    pub(crate) fn send_ready(
        &mut self,
        variables: &[(String, Secret)],
        stays: bool,
    ) -> io::Result<()> {
        let message = message(&[], &[stays.into()], variables)?;
        self.stream.write_all(&message)
    }

    /// Has PID 1 end the application and start it again with these variables, unless they are too long for any exec.
    pub(crate) fn restart(&mut self, variables: &[(String, Secret)]) -> io::Result<()> {
        let message = message(&[RESTART], &[], variables)?;
        self.stream.write_all(&message)
    }

    /// Says whether everything is to be given back.
    pub(crate) fn is_ending(&self) -> bool {
        let mut ready = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut ready, PollTimeout::ZERO), Ok(n) if n > 0)
    }

    /// Waits so long; false when everything is to be given back meanwhile.
    pub(crate) fn is_quiet_for(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return !self.is_ending();
            }
            let mut ready = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            let patience = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            if matches!(poll(&mut ready, patience), Ok(n) if n > 0) {
                return false;
            }
        }
    }

    /// Waits for leave to go on; false when the start was called off.
    pub(crate) fn await_release(&mut self) -> bool {
        self.next_word() == Some(RELEASE)
    }

    /// Waits until PID 1 has started the application as its child; false when that did not succeed.
    pub(crate) fn await_start(&mut self) -> bool {
        self.next_word() == Some(RUNS)
    }

    /// Waits for PID 1's answer to an order to start the application again; false when that is refused. While another
    /// process has stopped PID 1, this waits too.
    pub(crate) fn await_answer(&mut self) -> bool {
        match self.next_word() {
            Some(ACCEPTED) => true,
            Some(REFUSED) => false,
            _ => {
                // It is the order to give everything back, which is taken now: its descriptor is to tell of it all the same.
                let _ = self.stream.shutdown(Shutdown::Read);
                false
            }
        }
    }

    /// Waits for the next word of PID 1; none where that is gone.
    fn next_word(&mut self) -> Option<u8> {
        let mut word = [0];
        self.stream.read_exact(&mut word).ok()?;
        let [word] = word;
        Some(word)
    }

    /// Waits until PID 1 has become the application; false when that did not succeed.
    pub(crate) fn await_exec(&mut self) -> bool {
        let mut byte = [0];
        loop {
            match self.stream.read(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(n) => return n == 0,
                Err(_) => return true,
            }
        }
    }

    /// Has PID 1 send the application a signal.
    pub(crate) fn send_signal(&mut self, signal: Signal) -> io::Result<()> {
        // The numbers of all signals fit in a byte (signal(7)).
        self.stream.write_all(&[SIGNAL, signal as u8])
    }

    /// Has PID 1 send the application a signal as soon as there is a handler for it.
    pub(crate) fn tell(&mut self, signal: Signal) -> io::Result<()> {
        self.stream.write_all(&[TELL, signal as u8])
    }

    /// Has PID 1 end the application.
    pub(crate) fn terminate(&mut self) -> io::Result<()> {
        self.stream.write_all(&[TERMINATE, 0])
    }
}

/// Makes a message of a kind, the length of what follows, and that: a prefix and the variables.
fn message(
    kind: &[u8],
    prefix: &[u8],
    variables: &[(String, Secret)],
) -> io::Result<Zeroizing<Vec<u8>>> {
    let sizes = variables
        .iter()
        .map(|(name, value)| name.len() + value.expose().len() + 2);
    let length = prefix.len() + sizes.sum::<usize>();
    if length > MESSAGE_MAX {
        return Err(io::ErrorKind::ArgumentListTooLong.into());
    }
    let mut message = Zeroizing::new(Vec::with_capacity(kind.len() + 4 + length));
    let length = u32::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?;
    message.extend_from_slice(kind);
    message.extend_from_slice(&length.to_le_bytes());
    message.extend_from_slice(prefix);
    for (name, value) in variables {
        message.extend_from_slice(name.as_bytes());
        message.push(b'=');
        message.extend_from_slice(value.expose().as_bytes());
        message.push(0);
    }
    Ok(message)
}

fn split(variables: &[u8]) -> Vec<Secret<Vec<u8>>> {
    variables
        .split(|byte| *byte == 0)
        .filter(|variable| !variable.is_empty())
        .map(|variable| Secret::new(variable.to_vec()))
        .collect()
}

#[cfg(test)]
mod tests;

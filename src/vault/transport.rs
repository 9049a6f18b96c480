//! Bytes to and from the server, under one deadline, and given up at once when the start is called off.
//!
//! ureq's own resolver starts a thread for each lookup and its own sockets cannot be interrupted, hence these two.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockopt, setsockopt, socket,
    sockopt,
};
use ureq::Timeout;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::lookup::Lookup;
use crate::mutex::lock;

/// A time that can be moved for every request that goes by it.
#[derive(Debug, Clone)]
pub(crate) struct Deadline(Arc<Mutex<Instant>>);

impl Deadline {
    /// Makes a deadline at this time.
    pub(crate) fn at(time: Instant) -> Deadline {
        Deadline(Arc::new(Mutex::new(time)))
    }

    pub(crate) fn time(&self) -> Instant {
        *lock(&self.0)
    }

    pub(crate) fn move_to(&self, time: Instant) {
        *lock(&self.0) = time;
    }
}

/// The limits of a request, which end it besides its answer.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// The end of everything.
    pub deadline: Deadline,
    /// The descriptors of which one is readable or closed when the start, or another owner of the request, calls it off.
    pub abort: Vec<Arc<OwnedFd>>,
    /// The wait for an answer after that.
    pub grace: Duration,
    /// Whether a request that may be repeated is repeated until the deadline; else the caller asks again when it suits.
    pub persistent: bool,
}

impl Limits {
    /// Time left.
    pub(crate) fn remaining(&self) -> Duration {
        self.deadline
            .time()
            .saturating_duration_since(Instant::now())
    }

    /// Whether the start was called off.
    pub(crate) fn is_aborted(&self) -> bool {
        matches!(poll(&mut self.abort_fds(), PollTimeout::ZERO), Ok(n) if n > 0)
    }

    /// Sleeps, but not beyond the deadline or the end of the start; says whether there is time for another try.
    pub(crate) fn pause(&self, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        if until >= self.deadline.time() {
            return false;
        }
        loop {
            let left = PollTimeout::try_from(until.saturating_duration_since(Instant::now()))
                .unwrap_or(PollTimeout::MAX);
            match poll(&mut self.abort_fds(), left) {
                Ok(0) => return true,
                Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => return false,
            }
        }
    }

    fn abort_fds(&self) -> Vec<PollFd<'_>> {
        let watch = |abort| PollFd::new(AsFd::as_fd(abort), PollFlags::POLLIN);
        self.abort.iter().map(|abort| watch(&**abort)).collect()
    }
}

/// The progress of a request that got no answer; shared by a connection and its request.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether a connection stood, so that bytes of the request may have gone out.
    pub(super) connected: AtomicBool,
    /// Whether the start was called off meanwhile.
    pub(super) aborted: AtomicBool,
    /// The time at which that was noticed: a server that answers byte by byte gets no more time for each.
    aborted_at: OnceLock<Instant>,
}

/// Opens TCP connections.
#[derive(Debug)]
pub(super) struct Tcp {
    pub(super) limits: Limits,
    pub(super) progress: Arc<Progress>,
    pub(super) lookup: Lookup,
}

impl Connector<()> for Tcp {
    type Out = Socket;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Socket>, ureq::Error> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let count = details.addrs.len() as u32;
        for (index, address) in (0..).zip(details.addrs.iter()) {
            // An address that does not answer leaves a share of the time to those after it.
            let share = self.limits.remaining() / (count - index);
            match open(*address, share, &self.limits, &self.progress) {
                Ok(stream) => {
                    self.lookup.note_opened(details.uri, *address);
                    return Ok(Some(Socket {
                        stream,
                        buffers: LazyBuffers::new(
                            details.config.input_buffer_size(),
                            details.config.output_buffer_size(),
                        ),
                        limits: self.limits.clone(),
                        progress: Arc::clone(&self.progress),
                    }));
                }
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }
}

fn open(
    address: SocketAddr,
    timeout: Duration,
    limits: &Limits,
    progress: &Progress,
) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    match connect(
        std::os::fd::AsRawFd::as_raw_fd(&fd),
        &SockaddrStorage::from(address),
    ) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => {
            wait(
                fd.as_fd(),
                PollFlags::POLLOUT,
                Some(timeout),
                limits,
                progress,
            )?;
            match getsockopt(&fd, sockopt::SocketError)? {
                0 => {}
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
        Err(errno) => return Err(errno.into()),
    }
    setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    Ok(TcpStream::from(fd))
}

/// Waits until the socket is ready; the deadline and the end of the start come as errors.
fn wait(
    fd: BorrowedFd<'_>,
    events: PollFlags,
    timeout: Option<Duration>,
    limits: &Limits,
    progress: &Progress,
) -> io::Result<()> {
    let mut until = limits.deadline.time();
    if let Some(timeout) = timeout {
        until = until.min(Instant::now() + timeout);
    }
    let mut listens = true;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // One more millisecond: a timeout that is rounded down would spin at the end.
        let left =
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut ready = vec![PollFd::new(fd, events)];
        if listens {
            ready.extend(limits.abort_fds());
        }
        match poll(&mut ready, left) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut has = ready
            .iter()
            .map(|entry| entry.revents().is_some_and(|revents| !revents.is_empty()));
        if has.next() == Some(true) {
            return Ok(());
        }
        if has.any(|has| has) {
            progress.aborted.store(true, Ordering::Relaxed);
            // Without a connection nothing is under way whose answer would matter.
            if limits.grace.is_zero() || !progress.connected.load(Ordering::Relaxed) {
                return Err(io::Error::other("called off"));
            }
            let since = *progress.aborted_at.get_or_init(Instant::now);
            until = until.min(since + limits.grace);
            listens = false;
        }
    }
}

/// One TCP connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    buffers: LazyBuffers,
    limits: Limits,
    progress: Arc<Progress>,
}

impl Socket {
    fn wait(&self, events: PollFlags, timeout: NextTimeout) -> io::Result<()> {
        let timeout = (!timeout.after.is_not_happening()).then_some(*timeout.after);
        wait(
            self.stream.as_fd(),
            events,
            timeout,
            &self.limits,
            &self.progress,
        )
    }
}

fn timed_out(error: io::Error) -> ureq::Error {
    if error.kind() == io::ErrorKind::TimedOut {
        ureq::Error::Timeout(Timeout::Global)
    } else {
        error.into()
    }
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let mut sent = 0;
        while sent < amount {
            match self.stream.write(&self.buffers.output()[sent..amount]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::POLLOUT, timeout).map_err(timed_out)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        loop {
            self.wait(PollFlags::POLLIN, timeout).map_err(timed_out)?;
            match self.stream.read(self.buffers.input_append_buf()) {
                Ok(n) => {
                    self.buffers.input_appended(n);
                    return Ok(n > 0);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_open(&mut self) -> bool {
        // An idle connection that is readable was closed, or holds bytes that no request asked for.
        let mut ready = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut ready, PollTimeout::ZERO), Ok(0))
    }
}

/// Notes that a connection stands; the last link of the chain, behind TLS.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) progress: Arc<Progress>,
    pub(super) lookup: Lookup,
}

impl<In: Transport> Connector<In> for Connected {
    type Out = In;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<In>, ureq::Error> {
        self.lookup.note_connected(details.uri);
        self.progress.connected.store(true, Ordering::Relaxed);
        Ok(chained)
    }
}

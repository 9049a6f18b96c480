//! Signals: those that anteroom received, those that it listens to while it waits, and how the application gets them
//! all back.
//!
//! Signals are blocked, not handled: nothing but the mask has to be put back, a signal that comes early is kept, and
//! PID 1, which is deaf to every signal without a handler, still gets those it has blocked.

#![expect(
    unsafe_code,
    reason = "dispositions can be read and set only through libc; each use says why it is sound"
)]

mod handler;

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::unistd::{Pid, getpid};

pub use handler::{Disposition, Next, Waiting};

/// Signals that end a start, unless they were blocked or ignored already.
pub const ENDING: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// Signals that say that a process is broken: an init that blocked them could not be ended by its own.
const FAULTS: [Signal; 7] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGABRT,
];

/// Signals by which limits on CPU time and file size come.
const LIMITS: [Signal; 2] = [Signal::SIGXCPU, Signal::SIGXFSZ];

/// Signals of the C library itself, for threads (nptl(7)). Its functions refuse to tell of them or to set them, and
/// its first thread gives the last one a handler, so that an exec leaves it at the default.
const INTERNAL: [libc::c_int; 2] = [32, 33];

/// `F_SETSIG`, which the C library's bindings do not name (fcntl(2)).
const F_SETSIG: libc::c_int = 10;

/// The mask and those dispositions and descriptors that anteroom, or Rust's runtime, changes.
#[derive(Debug)]
pub struct Received {
    mask: SigSet,
    pipe_was_ignored: bool,
    child_was_ignored: bool,
    limits_were_ignored: [bool; 2],
    internal_were_ignored: [bool; 2],
    ending: SigSet,
    /// The standard descriptors that were closed: Rust's runtime opens `/dev/null` in their place.
    closed: [bool; 3],
}

static RECEIVED: OnceLock<Received> = OnceLock::new();

/// Reads what was received, for the binary's `.init_array`, which runs before Rust's runtime sets SIGPIPE to ignore:
/// no later look could tell how it came. Not for the library's: a program that links that would find its own signals
/// blocked.
pub extern "C" fn receive() {
    received();
}

/// Returns what was received; the first call blocks what is listened to, and SIGCHLD can be waited for from then on.
pub fn received() -> &'static Received {
    RECEIVED.get_or_init(|| {
        let mut listened = SigSet::empty();
        listened.add(Signal::SIGCHLD);
        let mut ending = SigSet::empty();
        let mask = SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty());
        for signal in ENDING {
            if !is_ignored(signal) && !mask.contains(signal) {
                ending.add(signal);
                listened.add(signal);
            }
        }
        let _ = listened.thread_block();
        let received = Received {
            mask,
            pipe_was_ignored: is_ignored(Signal::SIGPIPE),
            child_was_ignored: is_ignored(Signal::SIGCHLD),
            limits_were_ignored: LIMITS.map(is_ignored),
            internal_were_ignored: INTERNAL.map(is_internal_ignored),
            ending,
            closed: [0, 1, 2].map(|descriptor| {
                // SAFETY: with F_GETFD nothing is changed, and a closed descriptor gives an error.
                unsafe { libc::fcntl(descriptor, libc::F_GETFD) == -1 }
            }),
        };
        if received.child_was_ignored {
            // Else the kernel would reap the keeper, and PID 1 would not learn how it ended.
            set(Signal::SIGCHLD, SigHandler::SigDfl);
        }
        received
    })
}

impl Received {
    /// Opens a descriptor that is readable when a signal has come that ends the start.
    pub fn listen(&self) -> Result<SignalFd, Errno> {
        SignalFd::with_flags(&self.ending, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
    }

    /// Says whether this signal ends a start.
    pub fn ends_a_start(&self, signal: Signal) -> bool {
        self.ending.contains(signal)
    }

    /// Gives the application what was received; to be called when nothing but the exec follows.
    pub fn restore(&self) {
        if !self.pipe_was_ignored {
            set(Signal::SIGPIPE, SigHandler::SigDfl);
        }
        if self.child_was_ignored {
            set(Signal::SIGCHLD, SigHandler::SigIgn);
        }
        for (limit, was_ignored) in LIMITS.into_iter().zip(self.limits_were_ignored) {
            if !was_ignored {
                set(limit, SigHandler::SigDfl);
            }
        }
        for (signal, was_ignored) in INTERNAL.into_iter().zip(self.internal_were_ignored) {
            if was_ignored {
                ignore_internal(signal);
            }
        }
        for (descriptor, closed) in (0..).zip(self.closed) {
            if closed {
                // SAFETY: only a flag is set; this descriptor is the runtime's `/dev/null`, which has no owner.
                unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
            }
        }
        let _ = self.mask.thread_set_mask();
    }

    /// Undoes [`Received::restore`] when there was no exec after all.
    pub fn take_back(&self) {
        set(Signal::SIGPIPE, SigHandler::SigIgn);
        let mut listened = self.ending;
        listened.add(Signal::SIGCHLD);
        let _ = listened.thread_block();
    }
}

/// Has a limit on file size or CPU time come as an error of the call, for a process that never execs: the keeper must
/// give back what it has before it ends.
pub fn ignore_limits() {
    for limit in LIMITS {
        set(limit, SigHandler::SigIgn);
    }
}

/// Blocks every signal that can be blocked, so that none disturbs this process.
pub fn block_all() {
    let _ = SigSet::all().thread_block();
}

/// Blocks all signals but those of a fault, so that they disturb this process no more, and opens a descriptor that is
/// readable when one has come.
pub fn listen_to_all() -> Result<(SigSet, SignalFd), Errno> {
    let mut all = SigSet::all();
    for fault in FAULTS {
        all.remove(fault);
    }
    let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    all.thread_block()?;
    // pthread_sigmask(3) gives its error back in a way that is easily missed, and a signal that is not blocked would be
    // waited for in vain.
    if SigSet::thread_get_mask()?.contains(Signal::SIGCHLD) {
        Ok((all, signals))
    } else {
        Err(Errno::EPERM)
    }
}

/// Opens a descriptor that is readable when a child of this process has ended, in a process that has blocked every
/// signal.
pub fn child_ended() -> Result<OwnedFd, Errno> {
    let mut child = SigSet::empty();
    child.add(Signal::SIGCHLD);
    let signals = SignalFd::with_flags(&child, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    // What has come before stays: it may be of the very child that is asked about, and of another it costs one look.
    Ok(signals.into())
}

/// Fails where no signal can be waited for, so that this is known before an application depends on it.
pub fn check_wait() -> Result<(), Errno> {
    let now = TimeSpec::new(0, 0);
    // SAFETY: the set and the time live during the call, and nothing is written without a signal, of which none is asked
    // for.
    let number =
        unsafe { libc::sigtimedwait(SigSet::empty().as_ref(), ptr::null_mut(), now.as_ref()) };
    match Errno::result(number) {
        Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// A signal that has come, and its source (sigaction(2), `si_code` and `si_pid`).
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The signal's number.
    pub number: i32,
    /// The code that tells how the signal was sent.
    pub code: i32,
    /// The sender, if a process sent the signal.
    pub sender: Pid,
}

/// Takes the next of these signals, which must be blocked; none when the time is over (sigtimedwait(2)).
pub fn next(listened: &SigSet, patience: Option<Duration>) -> Option<Arrival> {
    let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
    let patience = patience.map(TimeSpec::from);
    let patience = patience
        .as_ref()
        .map_or(ptr::null(), |patience| ptr::from_ref(patience.as_ref()));
    // SAFETY: the set and the time live during the call, and `info` is filled in when a signal is returned.
    let number = unsafe { libc::sigtimedwait(listened.as_ref(), info.as_mut_ptr(), patience) };
    (number > 0).then(|| {
        // SAFETY: a signal was returned.
        let info = unsafe { info.assume_init() };
        Arrival {
            number,
            code: info.si_code,
            // SAFETY: of a signal that no process sent this is some other number, and no caller reads it.
            sender: Pid::from_raw(unsafe { info.si_pid() }),
        }
    })
}

/// Has SIGIO come when something can be read here, so that one wait is for everything (fcntl(2), `F_SETSIG`).
pub fn announce(descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    let descriptor = descriptor.as_raw_fd();
    let signal = Signal::SIGIO as libc::c_int;
    let flags = libc::O_ASYNC | libc::O_NONBLOCK;
    for (command, argument) in [
        (libc::F_SETOWN, getpid().as_raw()),
        (F_SETSIG, signal),
        (libc::F_SETFL, flags),
    ] {
        // SAFETY: the call takes integers and changes flags of a descriptor alone.
        Errno::result(unsafe { libc::fcntl(descriptor, command, argument) })?;
    }
    Ok(())
}

/// Sends a signal by its number, since those for real time have no name; to a group when the process is negative (kill(2)).
pub fn send(process: Pid, number: i32) -> Result<(), Errno> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    Errno::result(unsafe { libc::kill(process.as_raw(), number) }).map(drop)
}

/// Stops this process and its group as the terminal does it, until the shell continues them; false when the kernel has
/// not let them stop, since no shell would continue them (an orphaned process group, or PID 1).
pub fn stop_group() -> bool {
    if getpid() == Pid::from_raw(1) {
        return false;
    }
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTSTP);
    let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
    // It stops here, where the signal is delivered.
    let _ = stop.thread_unblock();
    let _ = stop.thread_block();
    discard(Signal::SIGCONT)
}

/// Takes a signal off that waits; true when there was one.
fn discard(signal: Signal) -> bool {
    let mut set = SigSet::empty();
    set.add(signal);
    let Ok(waiting) = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
    else {
        return false;
    };
    let mut found = false;
    while matches!(waiting.read_signal(), Ok(Some(_))) {
        found = true;
    }
    found
}

/// Takes the signal that has come, if one has.
pub fn pending(signals: &SignalFd) -> Option<Signal> {
    let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    match poll(&mut ready, PollTimeout::ZERO) {
        Ok(n) if n > 0 => {
            let info = signals.read_signal().ok()??;
            Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()
        }
        _ => None,
    }
}

fn set(number: Signal, handler: SigHandler) {
    // SAFETY: the handlers given are SIG_DFL and SIG_IGN, which run no code of ours.
    let _ = unsafe { signal(number, handler) };
}

/// The kernel's form of a disposition: its first word is the handler, and the rest is nothing for a signal that is ignored.
type KernelAction = [libc::c_ulong; 4];

/// The size of the kernel's set of signals, in bytes.
const KERNEL_SET: usize = 8;

fn is_internal_ignored(signal: libc::c_int) -> bool {
    let mut action: KernelAction = [0; 4];
    let unchanged = ptr::null::<KernelAction>();
    // SAFETY: with a null new action rt_sigaction(2) changes nothing and fills in no more than `action`.
    let done = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            unchanged,
            action.as_mut_ptr(),
            KERNEL_SET,
        )
    };
    done == 0 && action[0] == libc::SIG_IGN as libc::c_ulong
}

fn ignore_internal(signal: libc::c_int) {
    let action: KernelAction = [libc::SIG_IGN as libc::c_ulong, 0, 0, 0];
    let nowhere = ptr::null_mut::<KernelAction>();
    // SAFETY: SIG_IGN runs no code of ours, and nothing but the exec follows, for which no thread of this process lives on.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            action.as_ptr(),
            nowhere,
            KERNEL_SET,
        )
    };
}

fn is_ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with a null new action sigaction(2) changes nothing and fills `action` in when it succeeds.
    unsafe {
        libc::sigaction(signal as libc::c_int, ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

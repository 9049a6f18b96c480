//! The begin and the end of this program's own processes.

#![expect(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "this is the module that forks; each use says why it is sound"
)]

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid, fork};

/// Forks like fork(2), but the child has no exit signal: the application that this process becomes finds with no
/// wait(2) a child that it did not start (clone(2), `__WALL`). Should the keeper die before it, it gets one SIGCHLD
/// all the same, as the kernel does after an exec.
///
/// Only while there is one thread.
pub(crate) fn fork_unseen() -> Result<ForkResult, Errno> {
    let none: libc::c_long = 0;
    // SAFETY: without any flag nothing is shared, and a stack of null is a copy of this one; the C library is not told
    // of a new process, which matters to a process with threads alone.
    let child = unsafe { libc::syscall(libc::SYS_clone, none, none, none, none, none) };
    Ok(match Errno::result(child)? {
        0 => ForkResult::Child,
        pid => ForkResult::Parent {
            child: Pid::from_raw(pid as libc::pid_t),
        },
    })
}

/// Forks a child like any other.
///
/// Only while there is one thread.
pub(crate) fn fork_child() -> Result<ForkResult, Errno> {
    // SAFETY: there is one thread, so that the child may do whatever the parent may.
    unsafe { fork() }
}

/// Takes a child that has ended or stopped, and its status, which may hold a signal without a name (waitpid(2)); none
/// when none has, an error when there are none.
pub(crate) fn wait_any() -> Result<Option<(Pid, libc::c_int)>, Errno> {
    let mut status = 0;
    // SAFETY: the call writes the status where it is told to, and nothing else.
    let child = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
    Ok(match Errno::result(child)? {
        0 => None,
        pid => Some((Pid::from_raw(pid), status)),
    })
}

/// Sets the umask (umask(2)), which only a seccomp filter lets fail.
pub(crate) fn set_umask(mask: Mode) -> Result<Mode, Errno> {
    // SAFETY: the call takes an integer and changes nothing but the mask.
    let before = unsafe { libc::umask(mask.bits()) };
    Mode::from_bits(before).ok_or_else(Errno::last)
}

/// Ends a process that has become nothing else.
pub(crate) fn leave(code: u8) -> ! {
    // SAFETY: the call ends this process, and what its parent has to tidy up at an exit stays the parent's.
    unsafe { libc::_exit(code.into()) }
}

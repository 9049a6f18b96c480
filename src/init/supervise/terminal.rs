//! The terminal, and the processes that its keys reach.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

use crate::system::signal::send;

/// The terminal of this session, if a standard descriptor leads to it.
pub(super) struct Terminal {
    descriptor: OwnedFd,
    /// True where standard input and output are this terminal: no other process of the group reads from it.
    pub(super) is_whole: bool,
}

impl Terminal {
    /// Looks at the standard descriptors.
    pub(super) fn find() -> Option<Terminal> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let standard = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        // It fails where the descriptor is none, or another session's.
        let leads_here = standard.map(|descriptor| tcgetpgrp(descriptor).is_ok());
        let first = leads_here.iter().position(|leads| *leads)?;
        Some(Terminal {
            descriptor: standard[first].try_clone_to_owned().ok()?,
            is_whole: leads_here[0] && leads_here[1],
        })
    }

    /// Makes the second group the one in the foreground, if the first one is; SIGTTOU must be blocked.
    pub(super) fn pass(&self, from: Pid, to: Pid) -> bool {
        tcgetpgrp(&self.descriptor) == Ok(from) && tcsetpgrp(&self.descriptor, to).is_ok()
    }

    /// Takes the terminal back from a group, or from one that is gone: a job of an application that was a shell may have had
    /// it. SIGTTOU must be blocked.
    pub(super) fn take_back(&self, from: Pid) {
        let foreground = tcgetpgrp(&self.descriptor);
        // Signal 0 only tells whether there is a process (kill(2)).
        let is_gone = |group: Pid| send(Pid::from_raw(-group.as_raw()), 0) == Err(Errno::ESRCH);
        if foreground.is_ok_and(|group| group == from || is_gone(group)) {
            let _ = tcsetpgrp(&self.descriptor, getpgrp());
        }
    }
}

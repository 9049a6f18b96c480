//! PID 1 as the application's init: forwards signals, reaps children, and leaves no process behind.

mod again;
mod child;
mod life;
mod restarts;
mod stragglers;
mod terminal;

use std::ffi::CString;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;

use super::{Error, Failure, Watch};
use crate::command::Command;
use crate::config::{Config, Supervision};
use crate::log::Log;
use crate::system::fork::wait_any;
use crate::system::{refused, signal};

use child::Launch;
use life::{Life, State};

/// Runs the application, and returns its exit code when it and all processes that it has started have ended.
pub(super) fn run(
    keeper: &mut Watch,
    stays: bool,
    supervision: &Supervision,
    command: &Command,
    environment: Vec<CString>,
    config: &Config,
    log: Log,
) -> Result<u8, Failure> {
    let (listened, signals) = signal::listen_to_all().map_err(refused("listen for signals"))?;
    signal::check_wait().map_err(refused("wait for signals"))?;
    check_reaping().map_err(refused("wait for children"))?;
    if stays {
        signal::announce(keeper.link.as_fd()).map_err(refused("listen to the keeper"))?;
    }
    if supervision.subreaper {
        set_child_subreaper(true).map_err(refused("adopt orphans"))?;
    }
    keeper.release(stays)?;
    // The last that could end the start; those that come now are the application's.
    keeper.check_signals()?;
    let mut launch = Launch::new(command, config);
    let application = launch.start(environment)?;
    if stays {
        keeper.link.report_start();
    }
    // From now on it is the keeper's: when that is lost, others are to see it.
    keeper.directory.let_go();
    let mut life = Life {
        launch,
        config,
        supervision,
        application: Some(application),
        listened,
        signals,
        keeper: keeper.child,
        log,
        state: State::default(),
    };
    let ended = life.look_after(keeper, stays);
    life.end_all();
    if life.state.is_expired {
        return Err(Error::Expired.into());
    }
    let code = ended?;
    Ok(if supervision.remap_exit.contains(&code) {
        0
    } else {
        code
    })
}

/// Fails where no child can be waited for, so that this is known before there is an application.
fn check_reaping() -> Result<(), Errno> {
    match wait_any() {
        // The keeper is no child that such a wait sees; an orphan that has ended may be one.
        Ok(_) | Err(Errno::ECHILD | Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

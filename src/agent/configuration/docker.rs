//! The table `[docker]`.

use std::path::PathBuf;

use super::reader::{Reader, absolute};
use crate::manifest::table::Table;

/// Where Docker is, and the processes that it numbers.
pub struct Docker {
    pub socket: PathBuf,
    /// The procfs of Docker's host (proc(5)).
    pub proc: PathBuf,
}

impl Docker {
    pub(super) fn read(root: &mut Table<'_>, reader: &mut Reader) -> Docker {
        let mut docker = Docker {
            socket: "/var/run/docker.sock".into(),
            proc: "/proc".into(),
        };
        if let Some(mut t) = root.table("docker") {
            reader.set(&mut docker.socket, t.text("socket"), absolute);
            reader.set(&mut docker.proc, t.text("proc"), absolute);
            t.finish(&mut reader.mistakes);
        }
        docker
    }
}

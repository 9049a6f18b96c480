//! Threads: one for all that waits for events, and others for what may wait for Vault or for the kernel.

use crate::system::{self, refused};

/// Threads for what may wait for Vault or for the kernel.
pub(super) const THREADS_MAX: usize = 32;

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, system::Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS_MAX)
        .build()
        .map_err(refused("start a runtime"))
}

/// Runs what may wait for the kernel beside everything else.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // A panic has ended the process already.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

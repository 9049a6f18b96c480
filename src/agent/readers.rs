//! Readers of `/metrics` and `/healthz` at one moment: those that say nothing make room for those that ask.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

/// Readers at one moment.
pub(super) const READERS_MAX: usize = 16;

/// All readers, the oldest first.
#[derive(Default)]
pub(super) struct Readers(VecDeque<Reader>);

pub(super) struct Reader {
    /// The task that serves it.
    pub(super) task: AbortHandle,
    /// The request has come.
    pub(super) has_asked: Arc<AtomicBool>,
}

impl Readers {
    /// Takes one more. Where there are too many, the one goes that has said nothing for longest; else the oldest.
    pub(super) fn add(&mut self, reader: Reader) {
        self.0.retain(|reader| !reader.task.is_finished());
        if self.0.len() >= READERS_MAX {
            let is_silent = |reader: &Reader| !reader.has_asked.load(Ordering::Relaxed);
            let silent = self.0.iter().position(is_silent).unwrap_or(0);
            if let Some(gone) = self.0.remove(silent) {
                gone.task.abort();
            }
        }
        self.0.push_back(reader);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::runtime::runtime;

    #[test]
    fn silent_readers_make_room_for_others_the_oldest_first() {
        let runtime = runtime().expect("a runtime");
        runtime.block_on(async {
            let mut readers = Readers::default();
            let mut tasks = Vec::new();
            let mut add = |asks: bool| {
                let task = tokio::spawn(std::future::pending::<()>());
                readers.add(Reader {
                    task: task.abort_handle(),
                    has_asked: Arc::new(AtomicBool::new(asks)),
                });
                tasks.push(task);
            };
            // The first asks and is slow; the others say nothing.
            add(true);
            for _ in 0..READERS_MAX + 3 {
                add(false);
            }
            tokio::task::yield_now().await;
            let gone: Vec<bool> = tasks.iter().map(|task| task.is_finished()).collect();
            let expected: Vec<bool> = (0..READERS_MAX + 4)
                .map(|number| (1..5).contains(&number))
                .collect();
            assert_eq!(gone, expected);
        });
    }
}

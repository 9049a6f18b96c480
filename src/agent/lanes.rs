//! Deliveries at one moment: a file system that hangs holds up its own service, and no other.
//!
//! A delivery waits inside the kernel for as long as the container's file system lets it, and keeps its thread after it was
//! given up. So each service has few lanes, and all of them together half of the threads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::runtime::{THREADS_MAX, blocking};
use crate::mutex::lock;

/// Half of the threads that there are.
const DELIVERIES_MAX: usize = THREADS_MAX / 2;
/// Deliveries to containers of one service in one environment.
const LANES: usize = 2;

/// All deliveries that go on.
pub(super) struct Lanes {
    all: Arc<Semaphore>,
    /// The lanes of each service and environment that the rules name.
    own: Mutex<HashMap<(String, String), Arc<Semaphore>>>,
    going_on: Arc<Mutex<GoingOn>>,
    /// How long one may take.
    limit: Duration,
}

#[derive(Default)]
struct GoingOn {
    next: u64,
    began: HashMap<u64, ((String, String), Instant)>,
}

/// One that goes on, until it is dropped.
struct Delivery {
    going_on: Arc<Mutex<GoingOn>>,
    number: u64,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Drop for Delivery {
    fn drop(&mut self) {
        lock(&self.going_on).began.remove(&self.number);
    }
}

impl Lanes {
    /// Lanes in which a delivery may take so long.
    pub(super) fn new(limit: Duration) -> Lanes {
        Lanes {
            all: Arc::new(Semaphore::new(DELIVERIES_MAX)),
            own: Mutex::default(),
            going_on: Arc::default(),
            limit,
        }
    }

    /// Delivers in a lane of this service; none where that took too long, and goes on in vain.
    pub(super) async fn deliver<T: Send + 'static>(
        &self,
        service: &(String, String),
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let delivered = async {
            let own = Arc::clone(lock(&self.own).entry(service.clone()).or_insert_with(lanes));
            let own = own.acquire_owned().await.ok()?;
            let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            let delivery = self.begin(service, [own, all]);
            let delivered = blocking(move || {
                let _delivery = delivery;
                work()
            });
            Some(delivered.await)
        };
        tokio::time::timeout(self.limit, delivered).await.ok()?
    }

    fn begin(&self, service: &(String, String), permits: [OwnedSemaphorePermit; 2]) -> Delivery {
        let mut going_on = lock(&self.going_on);
        let number = going_on.next;
        going_on.next += 1;
        going_on
            .began
            .insert(number, (service.clone(), Instant::now()));
        Delivery {
            going_on: Arc::clone(&self.going_on),
            number,
            _permits: permits,
        }
    }

    /// How many were given up and still wait for their file systems.
    pub(super) fn hung(&self) -> usize {
        let going_on = lock(&self.going_on);
        let began = going_on.began.values();
        began
            .filter(|(_, began)| began.elapsed() > self.limit)
            .count()
    }

    /// Whether all lanes of this service hang, so that nothing can be delivered there.
    pub(super) fn is_stuck(&self, service: &(String, String)) -> bool {
        let going_on = lock(&self.going_on);
        let began = going_on.began.values();
        let hung = began.filter(|(whose, began)| whose == service && began.elapsed() > self.limit);
        hung.count() >= LANES
    }
}

fn lanes() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(LANES))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::agent::runtime::runtime;

    #[test]
    fn service_whose_deliveries_hang_holds_up_no_other() {
        let runtime = runtime().expect("a runtime");
        let lanes = Lanes::new(Duration::from_millis(20));
        let service = |name: &str| (name.to_owned(), "test".to_owned());
        let (hangs, works) = (service("hangs"), service("works"));
        let mut ends: Vec<Sender<()>> = Vec::new();
        runtime.block_on(async {
            // More than there are threads for all.
            for _ in 0..DELIVERIES_MAX + 1 {
                let (end, wait) = channel();
                ends.push(end);
                let given_up = lanes.deliver(&hangs, move || wait.recv()).await;
                assert!(given_up.is_none());
            }
            assert_eq!(lanes.hung(), LANES);
            assert!(lanes.is_stuck(&hangs));
            assert!(!lanes.is_stuck(&works));
            // However busy the machine is, one of these ends in time.
            while lanes.deliver(&works, || ()).await.is_none() {}
            drop(ends);
            while lanes.hung() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            while lanes.deliver(&hangs, || ()).await.is_none() {}
        });
    }
}

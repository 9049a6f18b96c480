//! The harness: real servers, a builder that runs the binary, and the faults that real servers do not show on demand.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "each test uses a part of the harness, and the harness may touch the world"
)]

#[cfg(feature = "agent")]
pub mod agent;
pub mod anteroom;
pub mod docker;
#[cfg(feature = "agent")]
pub mod engine;
pub mod mariadb;
pub mod nursery;
pub mod openbao;
pub mod postgres;
pub mod probe;
pub mod proxy;
pub mod rabbitmq;
pub mod redis;
pub mod report;
pub mod scene;
mod selftest;
pub mod service;
pub mod tls;

pub use anteroom::{Anteroom, Entry, Run, Running, assert_started};
pub use mariadb::MariaDb;
pub use openbao::{Admin, Answer, OpenBao, Options, Pki, Storage, Wrapped};
pub use postgres::Postgres;
pub use probe::probe;
pub use proxy::{Cut, Fault, FaultProxy, Reply, Seen};
pub use rabbitmq::RabbitMq;
pub use redis::Redis;
pub use service::{Manifest, Service, assert_revoked};
pub use tls::{Authority, Defect, TlsServer};

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A name that no other test, and no other test process on this machine, uses.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    report::measure();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{number}", std::process::id())
}

/// A TCP port on 127.0.0.1 without a listener.
pub fn free_port() -> u16 {
    // Below the kernel's range for outgoing connections: a server that is restarted must find its port free again.
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(step)) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free TCP port on 127.0.0.1");
}

/// Locks, also when a failed test panicked with the lock: the next one must fail for its own reasons only.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `done` until it gives a value; panics with `what` when `limit` has passed.
pub fn wait_for<T>(what: &str, limit: Duration, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(
            start.elapsed() < limit,
            "waited {limit:?} in vain for {what}"
        );
        pause_after(start.elapsed());
    }
}

/// Sleeps until the next look at something that did not come for so long: what took a moment is seen in a moment, and a
/// look, which may be a `docker` command or the parsing of a whole log, does not cost a core for minutes.
pub fn pause_after(waited: Duration) {
    let next = waited / 20;
    std::thread::sleep(next.clamp(Duration::from_millis(2), Duration::from_millis(50)));
}

/// Waits for a core to compute on, until the guard is dropped. More tests run at once than there are cores, because most
/// of them wait: what computes for seconds must not keep those from their time.
#[must_use]
pub fn core() -> Core {
    let mut busy = lock(&BUSY_CORES);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    while *busy >= cores {
        busy = CORE_IS_FREE
            .wait(busy)
            .unwrap_or_else(PoisonError::into_inner);
    }
    *busy += 1;
    Core(())
}

static BUSY_CORES: Mutex<usize> = Mutex::new(0);
static CORE_IS_FREE: Condvar = Condvar::new();

/// One of this machine's cores, as [`core`] gives it.
pub struct Core(());

impl Drop for Core {
    fn drop(&mut self) {
        *lock(&BUSY_CORES) -= 1;
        CORE_IS_FREE.notify_one();
    }
}

/// The root directory of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A directory that is removed with everything in it on Drop, and in any case when the test process is gone.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// A new directory below the system's directory for temporary files (a disk, usually); mode 0755.
    pub fn new() -> Self {
        static ROOT: LazyLock<PathBuf> = LazyLock::new(|| process_root(&std::env::temp_dir()));
        Self::below(&ROOT, 0o755)
    }

    fn below(parent: &Path, mode: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        report::measure();
        let path = parent.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&path).expect("a temporary directory can be made");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .expect("chmod of our own directory");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of `name` in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file into it and gives its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content).expect("a file in our own directory can be written");
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("left behind {}: {error}", self.0.display());
        }
    }
}

/// A new empty directory with mode 0700 on a real tmpfs.
pub fn tmpfs_dir() -> TempDir {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| process_root(Path::new("/dev/shm")));
    TempDir::below(&ROOT, 0o700)
}

/// The same with mode 0755: other users can go through it, as through a container's tmpfs.
pub fn open_tmpfs_dir() -> TempDir {
    let directory = tmpfs_dir();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
        .expect("chmod of our own directory");
    directory
}

/// The directory of this process below `parent`.
fn process_root(parent: &Path) -> PathBuf {
    let root = parent.join(format!("anteroom-test-{}", std::process::id()));
    fs::create_dir_all(&root).expect("a temporary directory can be made");
    // Others must get through to what a test gives them, whatever the umask is.
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))
        .expect("chmod of our own directory");
    // Statics are never dropped, and a killed process drops nothing.
    nursery::remove_at_exit(&root);
    root
}

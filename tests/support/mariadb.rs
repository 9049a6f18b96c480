//! A real MariaDB.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::nursery::Nursling;
use super::{TempDir, core, free_port, wait_for};

/// Options for a server that holds little and may lose it.
const OPTIONS: &[&str] = &[
    "--no-defaults",
    "--skip-name-resolve",
    "--innodb-log-file-size=4M",
    "--innodb-buffer-pool-size=8M",
    "--innodb-flush-method=nosync",
    "--innodb-flush-log-at-trx-commit=0",
    "--performance-schema=OFF",
];

/// A MariaDB server on 127.0.0.1, whose superuser has no password.
pub struct MariaDb {
    port: u16,
    _directory: TempDir,
    _child: Nursling,
}

impl MariaDb {
    /// The server that all tests share.
    pub fn shared() -> &'static MariaDb {
        static SHARED: LazyLock<MariaDb> = LazyLock::new(MariaDb::start);
        &SHARED
    }

    fn start() -> Self {
        let _core = core();
        let directory = TempDir::new();
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective());
        let user = user.ok().flatten().expect("our own user has a name");
        let common = |program: &str| {
            let mut command = Command::new(program);
            command
                .args(OPTIONS)
                .arg(format!("--user={}", user.name))
                .arg(format!("--datadir={}", directory.join("data").display()))
                .stdin(Stdio::null());
            command
        };
        let output = common("mariadb-install-db")
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            .output()
            .expect("mariadb-install-db can be started: run scripts/install clients");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mariadb-install-db: {stderr}");

        let port = free_port();
        let log = std::fs::File::create(directory.join("server.log")).expect("ours");
        let mut server = common("/usr/sbin/mariadbd");
        server
            .arg(format!("--port={port}"))
            .arg("--bind-address=127.0.0.1")
            .arg(format!("--socket={}", directory.join("socket").display()))
            .arg(format!("--pid-file={}", directory.join("pid").display()))
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log);
        let child = Nursling::spawn(server, Signal::SIGKILL).expect("mariadbd can be started");
        wait_for("MariaDB to listen", Duration::from_secs(30), || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            port,
            _directory: directory,
            _child: child,
        }
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL as the superuser.
    #[track_caller]
    pub fn query(&self, sql: &str) {
        let output = Command::new("mariadb")
            .args(["--no-defaults", "--default-character-set=utf8mb4"])
            .args(["-h", "127.0.0.1", "-u", "root", "-e", sql])
            .arg(format!("-P{}", self.port))
            .stdin(Stdio::null())
            .output()
            .expect("mariadb can be started");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {stderr}");
    }
}

//! A real Redis.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::nursery::Nursling;
use super::{TempDir, free_port, wait_for};

/// A Redis server on 127.0.0.1.
pub struct Redis {
    port: u16,
    _directory: TempDir,
    _child: Nursling,
}

impl Redis {
    /// The password of the user `default`.
    pub const PASSWORD: &'static str = "d:e@f/a#u%41l$t \"'\\\n\r{}ü";

    /// The server that all tests share.
    pub fn shared() -> &'static Redis {
        static SHARED: LazyLock<Redis> = LazyLock::new(Redis::start);
        &SHARED
    }

    fn start() -> Self {
        let directory = TempDir::new();
        let port = free_port();
        // One program is the server and the tools; its name decides.
        let mut server = Command::new("redis-check-rdb");
        server
            .arg0("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = Nursling::spawn(server, Signal::SIGKILL)
            .expect("redis can be started: run scripts/install clients");
        let server = Self {
            port,
            _directory: directory,
            _child: child,
        };
        let password = ["CONFIG", "SET", "requirepass", Self::PASSWORD];
        wait_for("Redis to take a password", Duration::from_secs(30), || {
            (server.cli(&password) == "OK").then_some(())
        });
        server
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs a command as the user `default`, and gives the answer.
    pub fn query(&self, words: &[&str]) -> String {
        let password = ["--pass", Self::PASSWORD, "--no-auth-warning"];
        self.cli(&[&password, words].concat())
    }

    fn cli(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("redis-cli can be started");
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }
}

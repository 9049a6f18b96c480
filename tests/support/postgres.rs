//! A real PostgreSQL.

use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};

use super::{TempDir, free_port, lock, nursery, wait_for};

const USER: &str = "harness";
const PASSWORD: &str = "harness-password";

/// A PostgreSQL server on 127.0.0.1 with password authentication and one superuser.
pub struct Postgres {
    port: u16,
    directory: TempDir,
    child: Mutex<Child>,
}

impl Postgres {
    /// The server that all tests share.
    pub fn shared() -> &'static Postgres {
        static SHARED: LazyLock<Postgres> = LazyLock::new(Postgres::start);
        &SHARED
    }

    /// A server of the test's own, ended on Drop.
    pub fn start() -> Self {
        let directory = TempDir::new();
        let data = directory.join("data");
        let password_file = directory.write("password", PASSWORD);
        let owner = owner();
        if let Some((uid, gid)) = owner {
            for path in [directory.path(), &password_file] {
                chown(path, Some(uid), Some(gid)).expect("root can give files away");
            }
        }
        let output = command("initdb", owner)
            .args([
                "--auth=scram-sha-256",
                "--no-sync",
                "--encoding=UTF8",
                "--no-locale",
            ])
            .arg(format!("--username={USER}"))
            .arg(format!("--pwfile={}", password_file.display()))
            .arg(format!("--pgdata={}", data.display()))
            .current_dir(directory.path())
            .output()
            .expect("initdb can be started");
        assert!(
            output.status.success(),
            "initdb failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );

        let port = free_port();
        let log = std::fs::File::create(directory.join("server.log"))
            .expect("our own directory can be written");
        let mut server = command("postgres", owner);
        server
            .arg("-D")
            .arg(&data)
            .arg("-p")
            .arg(port.to_string())
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
            ])
            .args(["-c", "fsync=off", "-c", "max_connections=200"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log);
        // SIGQUIT is its immediate shutdown: it frees its shared memory, which SIGKILL would leave behind.
        let child = nursery::spawn(server, Signal::SIGQUIT).expect("postgres can be started");
        let server = Self {
            port,
            directory,
            child: Mutex::new(child),
        };
        wait_for(
            "PostgreSQL to accept a login",
            Duration::from_secs(30),
            || {
                let mut child = lock(&server.child);
                if let Ok(Some(status)) = child.try_wait() {
                    let log = std::fs::read_to_string(server.directory.join("server.log"))
                        .unwrap_or_default();
                    panic!("PostgreSQL ended ({status}):\n{log}");
                }
                drop(child);
                TcpStream::connect(("127.0.0.1", port)).ok()?;
                server.query("SELECT 1").ok()
            },
        );
        server
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's name.
    pub fn user(&self) -> &str {
        USER
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        PASSWORD
    }

    /// The connection as OpenBao's database engine wants it, with places for name and password.
    pub fn connection_url(&self) -> String {
        format!(
            "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        )
    }

    /// Runs SQL as the superuser; the rows, one a line, or what psql complains of.
    pub fn query(&self, sql: &str) -> Result<String, String> {
        self.query_as(USER, PASSWORD, sql)
    }

    /// Runs SQL as this user; the rows, one a line, or what psql complains of.
    pub fn query_as(&self, user: &str, password: &str, sql: &str) -> Result<String, String> {
        let output = Command::new(program("psql"))
            .args([
                "-X",
                "-w",
                "-A",
                "-t",
                "-q",
                "-h",
                "127.0.0.1",
                "-d",
                "postgres",
                "-U",
                user,
            ])
            .args([
                "-p",
                &self.port.to_string(),
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                sql,
            ])
            .env("PGPASSWORD", password)
            .stdin(Stdio::null())
            .output()
            .expect("psql can be started");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout)
                .trim_end()
                .to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Whether a login role of this name exists.
    pub fn role_exists(&self, name: &str) -> bool {
        let sql = format!(
            "SELECT count(*) FROM pg_roles WHERE rolname = '{}'",
            name.replace('\'', "''")
        );
        self.query(&sql).expect("the superuser can read the roles") == "1"
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, Signal::SIGQUIT);
        let _ = child.wait();
    }
}

/// PostgreSQL refuses to run as root: the user to become instead, if we are.
fn owner() -> Option<(u32, u32)> {
    if !Uid::effective().is_root() {
        return None;
    }
    let user = ["postgres", "daemon"]
        .into_iter()
        .find_map(|name| User::from_name(name).ok().flatten())
        .expect("there is a user postgres or daemon");
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn command(name: &str, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program(name));
    command.env_remove("PGDATA").env("LC_ALL", "C");
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command
}

/// The program of the newest PostgreSQL that is installed.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    versions
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let program = entry.path().join("bin").join(name);
            let is_executable = program
                .metadata()
                .is_ok_and(|found| found.mode() & 0o111 != 0);
            is_executable.then_some((version, program))
        })
        .max()
        .map(|(_, program)| program)
        .unwrap_or_else(|| {
            panic!("there is no PostgreSQL program {name}: run scripts/install postgres")
        })
}

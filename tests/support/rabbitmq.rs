//! A real RabbitMQ.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::nursery::Nursling;
use super::{TempDir, core, free_port, repository, wait_for};

/// A RabbitMQ server on 127.0.0.1 with one user and one virtual host.
pub struct RabbitMq {
    port: u16,
    _directory: TempDir,
    _children: [Nursling; 2],
}

impl RabbitMq {
    /// The name of the user.
    pub const USER: &'static str = "o'r\"d:e@r/s \\%41ü";
    /// The user's password.
    pub const PASSWORD: &'static str = " 'c\"`p\\w\\:/@#%41$;&=?+,${HOME}\n\r\tü€\\ ";
    /// The name of the virtual host.
    pub const VHOST: &'static str = "/v:h@o/s t%2fü";

    /// The server that all tests share.
    pub fn shared() -> &'static RabbitMq {
        static SHARED: LazyLock<RabbitMq> = LazyLock::new(RabbitMq::start);
        &SHARED
    }

    fn start() -> Self {
        let _core = core();
        let programs = repository().join(".cache/rabbitmq");
        let erlang = programs.join("usr/lib/erlang");
        let runtime = only_match(&erlang, "erts-").join("bin");
        let server = only_match(&programs.join("usr/lib/rabbitmq/lib"), "rabbitmq_server-");
        let directory = TempDir::new();
        let at = |name: &str| directory.join(name);
        // The package's own script knows the place where the package would be installed.
        let erl = directory.write(
            "erl",
            format!(
                "#!/bin/sh\nexport ROOTDIR='{}' BINDIR='{}' EMU=beam PROGNAME=erl\nexec \"$BINDIR/erlexec\" \"$@\"\n",
                erlang.display(),
                runtime.display()
            ),
        );
        fs::set_permissions(&erl, Permissions::from_mode(0o755)).expect("ours");
        let bytes = |text: &str| {
            text.bytes()
                .map(|byte| byte.to_string())
                .collect::<Vec<_>>()
                .join(",")
        };
        directory.write(
            "advanced.config",
            format!(
                "[{{rabbit, [{{default_user, <<{}>>}}, {{default_pass, <<{}>>}}, {{default_vhost, <<{}>>}}]}}].",
                bytes(Self::USER),
                bytes(Self::PASSWORD),
                bytes(Self::VHOST)
            ),
        );

        let names = free_port();
        let mut names_server = Command::new(runtime.join("epmd"));
        names_server.args(["-address", "127.0.0.1", "-port", &names.to_string()]);
        let names_server = Nursling::spawn(names_server, Signal::SIGKILL)
            .expect("epmd can be started: run scripts/install clients");

        let port = free_port();
        let path = std::env::var("PATH").unwrap_or_default();
        let log = fs::File::create(at("server.log")).expect("ours");
        let mut command = Command::new(server.join("sbin/rabbitmq-server"));
        command
            .env("PATH", format!("{}:{path}", directory.path().display()))
            .env("HOME", directory.path())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", names.to_string())
            // The script becomes the server then, so that no child of it outlives the test.
            .env("RUNNING_UNDER_SYSTEMD", "1")
            .env("RABBITMQ_NODENAME", "anteroom@localhost")
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", free_port().to_string())
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config"))
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq"))
            .env("RABBITMQ_CONF_ENV_FILE", at("environment"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_FEATURE_FLAGS_FILE", at("features"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", at("generated"))
            .env("RABBITMQ_LOG_BASE", at("log"))
            .env("RABBITMQ_MNESIA_BASE", at("data"))
            .env("RABBITMQ_PID_FILE", at("pid"))
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log);
        let server =
            Nursling::spawn(command, Signal::SIGKILL).expect("rabbitmq-server can be started");
        let log = at("server.log");
        wait_for("RabbitMQ to start", Duration::from_secs(60), || {
            let log = fs::read_to_string(&log).ok()?;
            assert!(!log.contains("BOOT FAILED"), "{log}");
            log.contains("Server startup complete").then_some(())
        });
        Self {
            port,
            _directory: directory,
            _children: [server, names_server],
        }
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Finds the directory whose name begins so.
fn only_match(parent: &Path, start: &str) -> PathBuf {
    let entries = fs::read_dir(parent).unwrap_or_else(|error| {
        panic!("{}: {error}; run scripts/install clients", parent.display())
    });
    let mut names = entries.filter_map(Result::ok).map(|entry| entry.path());
    let found = names.find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(start))
    });
    found.unwrap_or_else(|| panic!("nothing begins with {start} in {}", parent.display()))
}

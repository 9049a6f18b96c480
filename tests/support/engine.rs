//! A Docker engine of a test's own, in a network namespace of its own: it may be stopped, or become a Swarm.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::docker::{self, Outcome};
use super::{TempDir, nursery, repository, wait_for};

const LIMIT: Duration = Duration::from_secs(90);

/// An engine; ended on Drop with all that it runs.
pub struct Engine {
    directory: TempDir,
    options: Vec<&'static str>,
    child: Option<Child>,
}

impl Engine {
    /// Starts one with these options of `dockerd`.
    pub fn start(options: &[&'static str]) -> Self {
        let directory = TempDir::new();
        directory.write("daemon.json", "{}");
        let mut engine = Self {
            directory,
            options: options.to_vec(),
            child: None,
        };
        engine.start_again();
        engine
    }

    /// Starts it once more, with what it had.
    pub fn start_again(&mut self) {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let log = File::options()
            .create(true)
            .append(true)
            .open(at("log"))
            .expect("our own directory can be written");
        let mut command = Command::new("unshare");
        // In a network of its own: without a bridge an engine removes the one of the machine's.
        let script = "ip link set lo up && exec dockerd \"$@\"";
        command
            .args(["--net", "sh", "-c", script, "dockerd"])
            // The machine's own engine keeps its configuration, its data and its port numbers.
            .args(["--config-file", &at("daemon.json")])
            .args(["--data-root", &at("data"), "--exec-root", &at("exec")])
            .args(["--pidfile", &at("pid")])
            .args(["--host", &format!("unix://{}", self.socket())])
            .args(["--bridge=none", "--iptables=false"])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log);
        let child = nursery::spawn(command, Signal::SIGTERM).expect("unshare can be started");
        self.child = Some(child);
        wait_for("the engine to answer", LIMIT, || {
            (self.docker(["version"]).code == 0).then_some(())
        });
    }

    /// Says TERM and waits for its end.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let pid = Pid::from_raw(child.id().cast_signed());
        kill(pid, Signal::SIGTERM).expect("our own child");
        wait_for("the engine to end", LIMIT, || {
            child.try_wait().expect("our own child")
        });
    }

    /// The engine's process, which is in its network namespace.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn socket(&self) -> String {
        self.directory.join("docker.sock").display().to_string()
    }

    /// A command that asks this engine; `name` is `docker`, or what speaks to it as docker does.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket()))
            .env("DOCKER_SOCKET", self.socket())
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::null());
        command
    }

    /// Runs `docker` with these arguments.
    pub fn docker<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        run(self.command("docker").args(arguments))
    }

    /// The same, which must succeed; gives what it printed.
    #[track_caller]
    pub fn must<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        let outcome = self.docker(arguments);
        assert!(outcome.code == 0, "{outcome:#?}");
        outcome.stdout.trim().to_owned()
    }

    /// Makes an image of a root file system of scripts/images.
    pub fn import(&self, tree: &str, tag: &str) {
        let tree = repository().join(".cache/rootfs").join(tree);
        assert!(tree.is_dir(), "no {}: run scripts/images", tree.display());
        let tar = Command::new("tar")
            .args(["--create", "--numeric-owner", "--directory"])
            .arg(tree)
            .arg(".")
            .stdout(Stdio::piped())
            .spawn();
        let mut tar = tar.expect("tar can be started");
        let files = tar.stdout.take().expect("it is piped");
        let mut import = self.command("docker");
        let imported = run(import.args(["import", "-", tag]).stdin(files));
        assert!(tar.wait().is_ok_and(|status| status.success()), "tar");
        assert!(imported.code == 0, "{imported:#?}");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.is_some() {
            let containers = self.docker(["ps", "--all", "--quiet"]).stdout;
            // Else a Swarm makes others.
            self.docker(["swarm", "leave", "--force"]);
            let remove = ["rm", "--force", "--volumes"];
            self.docker(remove.into_iter().chain(containers.lines()));
            self.stop();
        }
        // What is left mounted would keep the directory.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| Path::new(point).starts_with(self.directory.path())) {
            run(Command::new("umount").args(["--lazy", point]));
        }
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Outcome {
    docker::run(command)
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()))
}

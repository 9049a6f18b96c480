//! A Docker engine of a test's own: it may become a Swarm, and its containers may be called as the examples call them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::copy;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::docker::{self, Outcome};
use crate::support::{OpenBao, TempDir, nursery, repository, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

/// An engine in a network namespace of its own, ended on Drop with all that it runs.
pub(super) struct Engine {
    directory: TempDir,
    child: Child,
}

impl Engine {
    /// Starts one, in whose network this server has the address that it has outside.
    pub(super) fn start(server: &OpenBao) -> Self {
        let directory = TempDir::new();
        let at = |name: &str| directory.join(name).display().to_string();
        directory.write("daemon.json", "{}");
        let log = File::create(directory.join("log")).expect("our own directory can be written");
        let mut command = Command::new("unshare");
        command
            .args([
                "--net",
                "sh",
                "-c",
                "ip link set lo up && exec dockerd \"$@\"",
                "dockerd",
            ])
            // The machine's own engine keeps its configuration, its data and its port numbers.
            .args([
                "--config-file",
                &at("daemon.json"),
                "--data-root",
                &at("data"),
            ])
            .args(["--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["--host", &format!("unix://{}", at("docker.sock"))])
            .args(["--bridge=none", "--iptables=false"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log);
        let child = nursery::spawn(command, Signal::SIGTERM).expect("unshare can be started");
        let engine = Self { directory, child };
        wait_for("the engine to answer", LIMIT, || {
            (engine.docker(["version"]).code == 0).then_some(())
        });
        engine.forward(server);
        engine
    }

    /// Its socket.
    pub(super) fn socket(&self) -> String {
        self.directory.join("docker.sock").display().to_string()
    }

    /// A command that asks this engine; `name` is `docker`, or what speaks to it as docker does.
    pub(super) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket()))
            .env("DOCKER_SOCKET", self.socket())
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::null());
        command
    }

    /// Runs `docker` with these arguments.
    pub(super) fn docker<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Outcome {
        run(self.command("docker").args(arguments))
    }

    /// The same, which must succeed; gives what it printed.
    #[track_caller]
    pub(super) fn must<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        let outcome = self.docker(arguments);
        assert!(outcome.code == 0, "{outcome:#?}");
        outcome.stdout.trim().to_owned()
    }

    /// The ids of the containers that run and have this label.
    pub(super) fn running(&self, label: &str) -> Vec<String> {
        let filter = format!("label={label}");
        let ids = self.must(["ps", "--no-trunc", "--quiet", "--filter", &filter]);
        ids.lines().map(str::to_owned).collect()
    }

    /// What the containers of a Swarm service wrote, one by one; of those that are not there any more, nothing.
    pub(super) fn logs_of_service(&self, name: &str) -> Vec<(String, String)> {
        let filter = format!("label=com.docker.swarm.service.name={name}");
        let ids = self.must(["ps", "--all", "--no-trunc", "--quiet", "--filter", &filter]);
        let logs = ids.lines().filter_map(|id| {
            let logs = self.docker(["logs", id]);
            (logs.code == 0).then(|| (id.to_owned(), logs.stdout + &logs.stderr))
        });
        logs.collect()
    }

    /// What a container wrote.
    pub(super) fn logs(&self, container: &str) -> String {
        let outcome = self.docker(["logs", container]);
        outcome.stdout + &outcome.stderr
    }

    /// Makes an image of a root file system of scripts/images.
    pub(super) fn import(&self, tree: &str, tag: &str) {
        let tree = repository().join(".cache/rootfs").join(tree);
        assert!(tree.is_dir(), "no {}: run scripts/images", tree.display());
        let tar = Command::new("tar")
            .arg("--directory")
            .arg(tree)
            .args(["--create", "."])
            .stdout(Stdio::piped())
            .spawn();
        let mut tar = tar.expect("tar can be started");
        let files = tar.stdout.take().expect("it is piped");
        let imported = run(self
            .command("docker")
            .args(["import", "-", tag])
            .stdin(files));
        assert!(tar.wait().is_ok_and(|status| status.success()), "tar");
        assert!(imported.code == 0, "{imported:#?}");
    }

    /// Builds an image from a directory.
    pub(super) fn build(&self, context: &Path, options: &[&str], tag: &str) {
        let mut command = self.command("docker");
        command.args(["build", "--quiet", "--network=none", "--tag", tag]);
        let outcome = run(command.args(options).arg(context));
        assert!(outcome.code == 0, "{outcome:#?}");
    }

    /// Makes it a Swarm of one node.
    pub(super) fn become_swarm(&self) {
        let init = ["swarm", "init", "--advertise-addr", "127.0.0.1"];
        // A node that a busy machine keeps from saying that it is there is believed to be gone, and its tasks are replaced.
        let patience = ["--dispatcher-heartbeat", "60s"];
        self.must(init.iter().chain(&patience));
    }

    /// Whoever connects to the server's address in the engine's network is connected to the server.
    fn forward(&self, server: &OpenBao) {
        let (_, port) = server.address().rsplit_once(':').expect("it has a port");
        let port: u16 = port.parse().expect("a number");
        let listener = listen_in(self.child.id(), port);
        std::thread::spawn(move || {
            for inner in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let outer = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
                    // A server that is away refuses the connection, and so it ends here.
                    outer.map(|outer| join(&inner, &outer))
                });
            }
        });
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let containers = self.docker(["ps", "--all", "--quiet"]).stdout;
        self.docker(["swarm", "leave", "--force"]);
        self.docker(
            ["rm", "--force", "--volumes"]
                .into_iter()
                .chain(containers.lines()),
        );
        let _ = kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        );
        let _ = self.child.wait();
        // What is left mounted would keep the directory.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| Path::new(point).starts_with(self.directory.path())) {
            run(Command::new("umount").args(["--lazy", point]));
        }
    }
}

/// Listens in the network namespace of this process.
#[allow(
    unsafe_code,
    reason = "a thread's network namespace can be changed by a system call alone"
)]
fn listen_in(pid: u32, port: u16) -> TcpListener {
    let listening = std::thread::spawn(move || {
        let namespace = File::open(format!("/proc/{pid}/ns/net")).expect("the engine runs");
        // SAFETY: it changes this thread alone, which ends below.
        let entered = unsafe { nix::libc::setns(namespace.as_raw_fd(), nix::libc::CLONE_NEWNET) };
        assert_eq!(entered, 0, "setns needs root");
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("nobody listens there")
    });
    listening.join().expect("it says so itself")
}

fn join(one: &TcpStream, other: &TcpStream) {
    std::thread::scope(|scope| {
        for (mut from, mut to) in [(one, other), (other, one)] {
            scope.spawn(move || {
                let _ = copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    });
}

/// Runs a command to its end.
pub(super) fn run(command: &mut Command) -> Outcome {
    docker::run(command)
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()))
}

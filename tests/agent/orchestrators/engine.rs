//! An engine for the examples: it has a way to the server, images, Swarms, and the logs of their containers.

use std::fs::File;
use std::io::copy;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::support::OpenBao;
use crate::support::engine::{Engine, run};

impl Engine {
    /// Starts one in whose network this server has the address that it has outside.
    pub(super) fn with(server: &OpenBao) -> Self {
        let engine = Self::start(&[]);
        engine.forward(server);
        engine
    }

    /// The ids of the containers that run and have this label.
    pub(super) fn running(&self, label: &str) -> Vec<String> {
        let filter = format!("label={label}");
        let ids = self.must(["ps", "--no-trunc", "--quiet", "--filter", &filter]);
        ids.lines().map(str::to_owned).collect()
    }

    /// The logs of a Swarm service's containers, one by one, without containers that are not there any more.
    pub(super) fn logs_of_service(&self, name: &str) -> Vec<(String, String)> {
        let filter = format!("label=com.docker.swarm.service.name={name}");
        let ids = self.must(["ps", "--all", "--no-trunc", "--quiet", "--filter", &filter]);
        let logs = ids.lines().filter_map(|id| {
            let logs = self.docker(["logs", id]);
            (logs.code == 0).then(|| (id.to_owned(), logs.stdout + &logs.stderr))
        });
        logs.collect()
    }

    pub(super) fn logs(&self, container: &str) -> String {
        let outcome = self.docker(["logs", container]);
        outcome.stdout + &outcome.stderr
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

    /// Connects clients of the server's address in the engine's network to the server.
    fn forward(&self, server: &OpenBao) {
        let (_, port) = server.address().rsplit_once(':').expect("it has a port");
        let port: u16 = port.parse().expect("a number");
        let listener = listen_in(self.pid(), port);
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
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free there")
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

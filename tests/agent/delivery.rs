//! A token, placed in real containers that are built to keep it, to send it elsewhere, or to hold the agent up.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts containers and looks at what was written"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use anteroom::agent::delivery::{self, deliver, target};
use anteroom::agent::process::{self, Process};

use crate::support::docker::{self, Container, Image};
use crate::support::probe::{Built, build};
use crate::support::{TempDir, lock, tmpfs_dir, unique, wait_for};

const TOKEN: &[u8] = b"hvs.a-wrapping-token";
const LIMIT: Duration = Duration::from_secs(60);
const PROC: &str = "/proc";

/// The program that lives in the containers; the top of its source says what it can do.
fn resident() -> &'static Path {
    static RESIDENT: LazyLock<Built> = LazyLock::new(|| build("agent/resident.c"));
    &RESIDENT.1
}

fn image() -> String {
    static IMAGE: LazyLock<Mutex<Option<Image>>> = LazyLock::new(Default::default);
    let mut image = lock(&IMAGE);
    let image = image.get_or_insert_with(|| {
        let root = TempDir::new();
        fs::create_dir(root.join("bin")).expect("made");
        for name in ["busybox", "sh"] {
            fs::copy("/bin/busybox", root.join("bin").join(name)).expect("busybox is installed");
        }
        fs::copy(resident(), root.join("bin/resident")).expect("copied");
        Image::import("resident", &[root.path()], &[])
    });
    image.tag().to_owned()
}

/// A container whose shell has run these lines; the last one must end in a process that stays and have said `ready`.
fn container(options: &[&str], lines: &str) -> Container {
    let mut all = vec!["--network", "none"];
    all.extend(options);
    let container = Container::run(image(), &all, &["/bin/sh", "-e", "-c", lines]);
    wait_for("the container to be ready", LIMIT, || {
        let logs = container.logs();
        assert!(
            container.inspect("{{json .State.Running}}") == true,
            "{logs:#?}"
        );
        logs.stdout.contains("ready").then_some(())
    });
    container
}

const STAY: &str = "echo ready; exec busybox sleep 100000";

fn stay(options: &[&str]) -> Container {
    container(options, STAY)
}

fn pid(container: &Container) -> i32 {
    let pid = container.inspect("{{json .State.Pid}}");
    i32::try_from(pid.as_i64().expect("a number")).expect("a small one")
}

fn id(container: &Container) -> String {
    let id = container.inspect("{{json .Id}}");
    id.as_str().expect("a text").to_owned()
}

fn first(container: &Container) -> Arc<Process> {
    let process = Process::open(Path::new(PROC), pid(container), &id(container));
    Arc::new(process.expect("it runs"))
}

/// No test takes so long.
fn in_time() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Delivers in a thread of its own: an agent that is held up must fail the test and not hold it up.
fn send(process: &Arc<Process>, path: &str) -> Result<(), delivery::Error> {
    let (done, answer) = channel();
    let (process, path) = (Arc::clone(process), path.to_owned());
    let what = path.clone();
    std::thread::spawn(move || {
        let result = target(&path).and_then(|target| deliver(&process, &target, TOKEN, in_time()));
        let _ = done.send(result);
    });
    let answer = answer.recv_timeout(LIMIT);
    answer.unwrap_or_else(|_| panic!("the delivery to {what} was held up"))
}

#[track_caller]
fn refused(process: &Arc<Process>, path: &str, reason: &str) {
    let error = send(process, path).expect_err(path);
    assert_eq!(error.reason(), reason, "{path}: {error}");
    assert!(error.to_string().len() > 10, "{error}");
}

fn see(container: &Container, line: &str) -> String {
    let outcome = container.exec(&["/bin/sh", "-c", line]);
    assert_eq!(outcome.code, 0, "{line}: {outcome:#?}");
    outcome.stdout
}

#[test]
fn token_reaches_a_read_only_container_as_its_users_own_file() {
    docker::require!();
    let user = ["--read-only", "--user", "1000:1000"];
    let container = stay(&[&user[..], &["--tmpfs", "/run/secrets"]].concat());
    let process = first(&container);
    for round in ["first", "again"] {
        send(&process, "/run/secrets/token").expect(round);
        let seen = see(
            &container,
            "cd /run/secrets; busybox ls -A; busybox stat -c '%u %g %a %h %F' token; busybox cat token",
        );
        let token = String::from_utf8_lossy(TOKEN);
        assert_eq!(
            seen,
            format!("token\n1000 1000 400 1 regular file\n{token}"),
            "{round}"
        );
    }
    // A reader that has the old one open keeps it whole.
    assert_eq!(process.owner().expect("alive").uid.as_raw(), 1000);
}

#[test]
fn obstacle_at_the_tokens_path_is_named_and_left_alone() {
    docker::require!();
    let container = container(
        &["--tmpfs", "/run/secrets"],
        &format!(
            "cd /run/secrets; busybox mkdir -p real/deep directory kept
             busybox ln -s /bin/busybox link; busybox ln -s nowhere dangling; busybox ln -s real way
             busybox mkfifo fifo; busybox mknod device c 1 3; resident socket socket
             echo old > file; busybox ln file kept/other; echo x > plain; {STAY}"
        ),
    );
    let process = first(&container);
    let before = see(
        &container,
        "busybox ls -lR /run/secrets; busybox md5sum /bin/busybox",
    );
    for name in [
        "link",
        "dangling",
        "fifo",
        "device",
        "socket",
        "directory",
        "way",
    ] {
        refused(&process, &format!("/run/secrets/{name}"), "occupied");
    }
    for path in ["/run/secrets/way/token", "/run/secrets/way/deep/token"] {
        refused(&process, path, "symlink");
    }
    for path in [
        "/run/secrets/plain/token",
        "/run/secrets/fifo/token",
        "/run/secrets/none/token",
    ] {
        refused(&process, path, "no_directory");
    }
    assert_eq!(
        see(
            &container,
            "busybox ls -lR /run/secrets; busybox md5sum /bin/busybox"
        ),
        before
    );
    send(&process, "/run/secrets/real/deep/token").expect("a real directory");
    // A hard link to what was there keeps what was there.
    send(&process, "/run/secrets/file").expect("a regular file is replaced");
    let seen = see(
        &container,
        "busybox cat /run/secrets/kept/other /run/secrets/file",
    );
    assert_eq!(seen.as_bytes(), [b"old\n", TOKEN].concat());
}

#[test]
fn token_goes_only_to_a_private_writable_tmpfs_with_room() {
    docker::require!();
    let (disk, shared) = (TempDir::new(), tmpfs_dir());
    let volume = |from: &TempDir, to: &str| format!("{}:{to}", from.path().display());
    let container = container(
        &[
            "--tmpfs", "/run/secrets", "--tmpfs", "/run/full:size=4k", "--tmpfs", "/run/inodes:nr_inodes=2",
            "--tmpfs", "/run/closed:ro", "--cap-add", "SYS_ADMIN", "--security-opt", "apparmor=unconfined",
            "--volume", &volume(&disk, "/run/disk"), "--volume", &volume(&shared, "/run/shared"),
        ],
        &format!(
            "busybox dd if=/dev/zero of=/run/full/all bs=4096 count=1; echo > /run/inodes/all
             busybox mkdir /run/disk/deep /run/secrets/part /run/secrets/whole /run/secrets/name
             busybox mount -t tmpfs own /run/secrets/whole
             busybox mkdir /run/secrets/whole/inner; busybox mount -o bind /run/secrets/whole/inner /run/secrets/part
             busybox mount -t proc proc /run/secrets/name; {STAY}"
        ),
    );
    let process = first(&container);
    for (path, reason) in [
        ("/run/full/token", "full"),
        ("/run/inodes/token", "full"),
        ("/run/closed/token", "read_only"),
        ("/run/disk/token", "not_tmpfs"),
        ("/run/disk/deep/token", "foreign_mount"),
        ("/run/shared/token", "shared_tmpfs"),
        ("/run/secrets/part/token", "shared_tmpfs"),
        ("/run/token", "not_tmpfs"),
        ("/token", "not_tmpfs"),
        ("/proc/token", "not_tmpfs"),
        ("/proc/self/fd/token", "foreign_mount"),
        // Something is mounted where the file would be.
        ("/run/secrets/name", "occupied"),
        ("/etc/hosts", "not_tmpfs"),
    ] {
        refused(&process, path, reason);
    }
    for empty in [disk.path(), shared.path()] {
        let names: Vec<_> = fs::read_dir(empty)
            .expect("ours")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert!(names.iter().all(|name| name == "deep"), "{names:?}");
    }
    assert_eq!(
        see(&container, "busybox ls -A /run/full /run/inodes"),
        "/run/full:\nall\n\n/run/inodes:\nall\n"
    );
    send(&process, "/run/secrets/token").expect("beside all that");
    send(&process, "/run/secrets/whole/token").expect("a tmpfs of its own in a tmpfs of its own");
}

#[test]
fn file_system_that_never_answers_does_not_hold_the_agent_up() {
    docker::require!();
    assert!(
        Path::new("/dev/fuse").exists(),
        "no /dev/fuse: modprobe fuse"
    );
    let options = [
        "--tmpfs",
        "/run",
        "--cap-add",
        "SYS_ADMIN",
        "--device",
        "/dev/fuse",
        "--security-opt",
        "apparmor=unconfined",
    ];
    let container = container(
        &options,
        "busybox mkdir /run/silent; exec resident fuse /run/silent",
    );
    let process = first(&container);
    refused(&process, "/run/silent/token", "not_tmpfs");
    refused(&process, "/run/silent/a/token", "foreign_mount");
    refused(&process, "/run/silent", "occupied");
    send(&process, "/run/token").expect("beside it");
}

#[test]
fn root_that_the_container_made_itself_is_not_entered() {
    docker::require!();
    let options = [
        "--tmpfs",
        "/run",
        "--cap-add",
        "SYS_ADMIN",
        "--security-opt",
        "apparmor=unconfined",
    ];
    let layered = container(&options, "exec resident root /run");
    refused(&first(&layered), "/token", "foreign_mount");
    let inner = container(
        &["--tmpfs", "/run:exec"],
        "busybox mkdir -p /run/new/bin /run/new/etc; busybox cp /bin/busybox /run/new/bin/
         echo ready; exec busybox chroot /run/new /bin/busybox sleep 100000",
    );
    let process = first(&inner);
    let moved = wait_for("the chroot", LIMIT, || send(&process, "/etc/token").err());
    assert_eq!(moved.reason(), "foreign_mount", "{moved}");
}

#[test]
fn tmpfs_of_a_user_namespace_is_refused_with_the_way_out() {
    docker::require!();
    let container = container(
        &[
            "--tmpfs",
            "/run",
            "--user",
            "1000:1000",
            "--security-opt",
            "seccomp=unconfined",
            "--security-opt",
            "apparmor=unconfined",
        ],
        "busybox mkdir /run/secrets; exec resident remap /run/secrets",
    );
    let process = first(&container);
    let error = send(&process, "/run/secrets/token").expect_err("it is denied");
    assert_eq!(error.reason(), "denied");
    assert!(error.to_string().contains("socket"), "{error}");
}

#[test]
fn swap_by_the_container_puts_no_file_outside_its_tmpfs() {
    docker::require!();
    let outside = TempDir::new();
    // There in the container too, so that a link to it leads somewhere from within and from without.
    let path = outside.path().to_str().expect("our own paths are text");
    let container = container(
        &[
            "--tmpfs",
            "/run/secrets",
            "--volume",
            &format!("{path}:{path}"),
        ],
        &format!("exec resident swap /run/secrets {path}"),
    );
    let process = first(&container);
    let place = target("/run/secrets/place/token").expect("sound");
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..2000 {
        let reason = match deliver(&process, &place, TOKEN, in_time()) {
            Ok(()) => "delivered",
            Err(error) => error.reason(),
        };
        *seen.entry(reason).or_insert(0) += 1;
    }
    let expected = ["delivered", "no_directory", "occupied", "symlink"];
    assert!(
        seen.keys().all(|reason| expected.contains(reason)),
        "{seen:?}"
    );
    assert_eq!(
        fs::read_dir(outside.path()).expect("ours").count(),
        0,
        "{seen:?}"
    );
    let left = see(
        &container,
        "busybox find /run/secrets -name '.*' 2>/dev/null || :",
    );
    assert_eq!(left, "", "a name of the agent's own is left");
    container.kill("KILL");
}

#[test]
fn process_that_ended_is_gone_for_good() {
    docker::require!();
    let container = stay(&["--tmpfs", "/run/secrets"]);
    let process = first(&container);
    let number = pid(&container);
    container.kill("KILL");
    container.wait();
    refused(&process, "/run/secrets/token", "process_gone");
    let again = Process::open(Path::new(PROC), number, &id(&container)).map(drop);
    let reason = again.expect_err("the process is gone").reason();
    assert!(
        ["process_gone", "not_its_container"].contains(&reason),
        "{reason}"
    );
    container.start();
    wait_for("the second start", LIMIT, || {
        send(&first(&container), "/run/secrets/token").ok()
    });
    refused(&process, "/run/secrets/token", "process_gone");
}

#[test]
fn reused_pid_does_not_lead_to_the_new_process() {
    docker::require!();
    // The container's own procfs, seen from here: no other process takes a number in its namespace.
    let container = container(
        &["--tmpfs", "/run", "--cap-add", "SYS_ADMIN", "--security-opt", "systempaths=unconfined", "--security-opt", "apparmor=unconfined"],
        "busybox mkfifo /run/go; busybox sleep 100000 & old=$!; echo ready $old; read word < /run/go
         kill $old; wait $old || :; echo $((old - 1)) > /proc/sys/kernel/ns_last_pid
         busybox sleep 100000 & echo again $!; wait",
    );
    let number: i32 = container
        .logs()
        .stdout
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .expect("a number");
    let proc = PathBuf::from(format!("/proc/{}/root/proc", pid(&container)));
    let old = Process::open(&proc, number, &id(&container)).expect("it runs");
    old.owner().expect("it runs");
    see(&container, "echo > /run/go");
    wait_for("the number to be used again", LIMIT, || {
        container
            .logs()
            .stdout
            .contains(&format!("again {number}\n"))
            .then_some(())
    });
    let new = Process::open(&proc, number, &id(&container)).expect("the new one runs");
    new.owner().expect("the new one runs");
    assert_eq!(old.owner(), Err(process::Error::Gone { pid: number }));
    assert_eq!(old.mountinfo(), Err(process::Error::Gone { pid: number }));
    assert!(matches!(old.root(), Err(process::Error::Gone { .. })));
}

#[test]
fn pid_of_another_container_or_of_none_is_refused() {
    docker::require!();
    let (one, other) = (stay(&[]), stay(&[]));
    let open = |pid, id: &str| {
        Process::open(Path::new(PROC), pid, id)
            .map(drop)
            .map_err(|error| error.reason())
    };
    assert_eq!(open(pid(&one), &id(&one)), Ok(()));
    assert_eq!(open(pid(&one), &id(&other)), Err("not_its_container"));
    let own = i32::try_from(std::process::id()).expect("small");
    assert_eq!(open(own, &id(&one)), Err("not_its_container"));
    assert_eq!(open(i32::MAX, &id(&one)), Err("process_gone"));
    let shares = |id: &str| first(&one).shares_container(&first(&other), id);
    assert_eq!(shares(&id(&one)), Ok(false));
    assert_eq!(shares(&id(&other)), Ok(false));
}

#[test]
fn agent_can_have_the_hosts_procfs_elsewhere() {
    docker::require!();
    let elsewhere = Procfs::mount();
    let container = stay(&["--tmpfs", "/run/secrets"]);
    let process = Process::open(elsewhere.0.path(), pid(&container), &id(&container));
    let process = Arc::new(process.expect("it runs"));
    send(&process, "/run/secrets/token").expect("written");
    assert_eq!(
        see(&container, "busybox cat /run/secrets/token").as_bytes(),
        TOKEN
    );
    let (here, _there) = UnixStream::pair().expect("a pair");
    let peer = Process::of_peer(elsewhere.0.path(), &here).map(|peer| peer.process.pid());
    let own = i32::try_from(std::process::id()).expect("small");
    assert!(
        peer == Ok(own) || peer == Err(process::Error::Outside { pid: own }),
        "{peer:?}"
    );
}

/// A second mount of this machine's procfs.
struct Procfs(TempDir);

impl Procfs {
    fn mount() -> Self {
        let directory = TempDir::new();
        let mount = Command::new("mount")
            .args(["-t", "proc", "proc"])
            .arg(directory.path())
            .status();
        assert!(mount.is_ok_and(|status| status.success()), "root may mount");
        Self(directory)
    }
}

impl Drop for Procfs {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
    }
}

#[test]
fn token_that_was_given_up_does_not_come_later() {
    docker::require!();
    let container = stay(&["--tmpfs", "/run/secrets"]);
    let place = target("/run/secrets/token").expect("sound");
    let late = deliver(&first(&container), &place, TOKEN, Instant::now());
    assert_eq!(late, Err(delivery::Error::Slow));
    assert_eq!(see(&container, "busybox ls -A /run/secrets"), "");
}

#[test]
fn caller_on_the_socket_is_known_by_its_container() {
    docker::require!();
    let directory = TempDir::new();
    let socket = directory.join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let volume = format!("{}:/door", directory.path().display());
    let options = ["--volume", volume.as_str(), "--user", "0:0"];
    let one = container(&options, "resident call /door/socket & wait");
    let (first_call, _) = listener.accept().expect("a caller");
    let peer_of = |call| Process::of_peer(Path::new(PROC), call).expect("it stays");
    let found = peer_of(&first_call);
    let caller = found.process;
    assert_eq!(found.containers, [id(&one)]);
    assert_ne!(caller.pid(), pid(&one), "a child of the first process");
    assert_eq!(caller.shares_container(&first(&one), &id(&one)), Ok(true));

    let other = container(&options, "exec resident call /door/socket");
    let (second_call, _) = listener.accept().expect("a caller");
    let found = peer_of(&second_call);
    let caller = found.process;
    assert_eq!(found.containers, [id(&other)]);
    assert_eq!(caller.pid(), pid(&other));
    assert_eq!(caller.shares_container(&first(&one), &id(&one)), Ok(false));

    // A caller that is gone is not answered, even while its connection is still open.
    other.kill("KILL");
    other.wait();
    assert_eq!(peer(&second_call), Err("process_gone"));
    assert_eq!(
        caller.owner().map_err(|error| error.reason()),
        Err("process_gone")
    );
}

#[test]
fn caller_outside_any_container_or_one_that_left_is_refused() {
    let directory = TempDir::new();
    let socket = directory.join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    // Through another name, as a container sees it.
    let other_name = directory.join("other");
    symlink(&socket, &other_name).expect("made");
    let mut caller = Command::new(resident())
        .arg("call")
        .arg(&other_name)
        .spawn()
        .expect("it can be started");
    let (call, _) = listener.accept().expect("a caller");
    assert_eq!(peer(&call), Err("no_container"));
    caller.kill().expect("it runs");
    // Ended and not yet reaped: its number is still its own.
    wait_for("the caller to end", LIMIT, || {
        (peer(&call) == Err("process_gone")).then_some(())
    });
    caller.wait().expect("it ended");
    assert_eq!(peer(&call), Err("process_gone"));

    let left = Command::new(resident())
        .arg("leave")
        .arg(&socket)
        .status()
        .expect("it can be started");
    assert!(left.success());
    let (call, _) = listener.accept().expect("a caller");
    assert_eq!(peer(&call), Err("process_gone"));
}

fn peer(stream: &UnixStream) -> Result<String, &'static str> {
    let found = Process::of_peer(Path::new(PROC), stream);
    found
        .map(|peer| peer.containers.concat())
        .map_err(|error| error.reason())
}

#[test]
fn cgroup_named_like_a_container_is_not_that_container() {
    docker::require!();
    let container = stay(&[]);
    let forged = Cgroup::make(&id(&container));
    let directory = TempDir::new();
    let socket = directory.join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let mut caller = Command::new("/bin/sh")
        .args(["-c", "for group; do echo 0 > \"$group/cgroup.procs\" || exit 1; done; exec \"$0\" call \"$SOCKET\""])
        .arg(resident())
        .args(&forged.0)
        .env("SOCKET", &socket)
        .spawn()
        .expect("it can be started");
    let (call, _) = listener.accept().expect("a caller");
    let found = Process::of_peer(Path::new(PROC), &call).expect("it stays");
    assert_eq!(found.containers, [id(&container)], "by its name");
    let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid(&container)));
    let cgroups = cgroups.expect("it runs");
    let is_its = |line: &str| line.ends_with(&format!(":{}", found.innermost));
    assert!(!cgroups.lines().any(is_its), "by its path: {cgroups}");
    assert_eq!(
        found
            .process
            .shares_container(&first(&container), &id(&container)),
        Ok(false),
        "by its place"
    );
    caller.kill().expect("it runs");
    caller.wait().expect("it ended");
}

#[test]
fn outside_process_in_a_containers_cgroup_is_not_of_it() {
    docker::require!();
    let container = stay(&[]);
    let directory = TempDir::new();
    let socket = directory.join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let mut caller = Command::new("/bin/sh")
        .args(["-c", "for group; do echo 0 > \"$group/cgroup.procs\" || exit 1; done; exec \"$0\" call \"$SOCKET\""])
        .arg(resident())
        .args(cgroups_of(pid(&container)))
        .env("SOCKET", &socket)
        .spawn()
        .expect("it can be started");
    let (call, _) = listener.accept().expect("a caller");
    let found = Process::of_peer(Path::new(PROC), &call).expect("it stays");
    assert_eq!(found.containers, [id(&container)]);
    let group = |pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    assert_eq!(group(found.process.pid()), group(pid(&container)));
    let shares = found
        .process
        .shares_container(&first(&container), &id(&container));
    assert_eq!(shares, Ok(false), "by its PID namespace");
    caller.kill().expect("it runs");
    caller.wait().expect("it ended");
}

/// The directories of a process's cgroups.
fn cgroups_of(pid: i32) -> Vec<PathBuf> {
    let lines = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let directories = lines.lines().filter_map(|line| {
        let (hierarchy, path) = line.split_once(":/")?;
        let (_, controllers) = hierarchy.split_once(':')?;
        let bases = match controllers {
            "" => vec![
                "/sys/fs/cgroup/unified".to_owned(),
                "/sys/fs/cgroup".to_owned(),
            ],
            named => vec![format!(
                "/sys/fs/cgroup/{}",
                named.trim_start_matches("name=")
            )],
        };
        let groups = bases.iter().map(|base| Path::new(base).join(path));
        groups
            .into_iter()
            .find(|group| group.join("cgroup.procs").exists())
    });
    directories.collect()
}

/// A cgroup of the test's own in one hierarchy.
struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    fn make(name: &str) -> Self {
        let base = [
            "/sys/fs/cgroup/unified",
            "/sys/fs/cgroup/systemd",
            "/sys/fs/cgroup",
        ];
        let base = base
            .iter()
            .find(|base| Path::new(base).join("cgroup.procs").exists());
        let parent = Path::new(base.expect("cgroups are mounted")).join(unique("anteroom-test"));
        let group = parent.join(name);
        fs::create_dir_all(&group).expect("root may make a cgroup");
        Self(vec![group])
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for group in &self.0 {
            let _ = fs::remove_dir(group);
            let _ = group.parent().map(fs::remove_dir);
        }
    }
}

//! Runs the binary and shows what came of it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::Value;

use super::{TempDir, lock, pause_after, report, tmpfs_dir, wait_for};

/// The name of the file that a manifest is handed in with.
const MANIFEST: &str = "anteroom.toml";
/// Generous: so long a keeper may take when its application has ended.
const LAST_WORDS: Duration = Duration::from_secs(10);

type PreExec = Box<dyn FnMut() -> io::Result<()> + Send + Sync>;

/// A call of the binary that is being put together; its environment is empty but for PATH.
#[must_use]
pub struct Anteroom {
    program: PathBuf,
    under: Vec<OsString>,
    manifest: Option<String>,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    command: Option<Vec<OsString>>,
    stdin: Option<Vec<u8>>,
    secrets_dir: Option<PathBuf>,
    pass_secrets_dir: bool,
    uid: Option<u32>,
    current_dir: Option<PathBuf>,
    pre_exec: Vec<PreExec>,
    keep_files: bool,
    limit: Duration,
}

impl Default for Anteroom {
    fn default() -> Self {
        Self::new()
    }
}

impl Anteroom {
    /// A call without arguments but `--secrets-dir`.
    pub fn new() -> Self {
        report::measure();
        Self {
            program: env!("CARGO_BIN_EXE_anteroom").into(),
            under: Vec::new(),
            manifest: None,
            args: Vec::new(),
            environment: Vec::new(),
            command: None,
            stdin: None,
            secrets_dir: None,
            pass_secrets_dir: true,
            uid: None,
            current_dir: None,
            pre_exec: Vec::new(),
            keep_files: false,
            limit: Duration::from_secs(60),
        }
    }

    /// Runs this program instead, for instance a copy or `strace`; the rest stays.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = path.into();
        self
    }

    /// Starts it through these words, which become it: `strace -f`, or a shell's `-c` and `exec "$0" "$@"`.
    pub fn under<A: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = A>) -> Self {
        self.under = words
            .into_iter()
            .map(|word| word.as_ref().to_owned())
            .collect();
        self
    }

    /// The manifest's text, handed in as a file with `--manifest`.
    pub fn manifest(mut self, text: impl Into<String>) -> Self {
        self.manifest = Some(text.into());
        self
    }

    /// The wrapping token, handed in with `ANTEROOM_TOKEN`.
    pub fn token(self, token: impl AsRef<OsStr>) -> Self {
        self.env("ANTEROOM_TOKEN", token)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Adds an argument before `--`.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.args.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments before `--`.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// The command after `--`; an empty one leaves a lone `--`.
    pub fn command<A: AsRef<OsStr>>(mut self, command: impl IntoIterator<Item = A>) -> Self {
        self.command = Some(
            command
                .into_iter()
                .map(|word| word.as_ref().to_owned())
                .collect(),
        );
        self
    }

    /// A shell script as the command.
    pub fn shell(self, script: &str) -> Self {
        self.command(["/bin/sh", "-c", script])
    }

    /// Gives these bytes on standard input, which is `/dev/null` otherwise.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// The secrets directory instead of a fresh one on a tmpfs.
    pub fn secrets_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.secrets_dir = Some(path.into());
        self
    }

    /// Leaves `--secrets-dir` out, for commands that do not know it.
    pub fn without_secrets_dir(mut self) -> Self {
        self.pass_secrets_dir = false;
        self
    }

    /// The user (and group of the same number) to run as; the fresh secrets directory is given to it.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// The working directory.
    pub fn current_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.current_dir = Some(path.into());
        self
    }

    /// Something to do in the child before it becomes anteroom; only async-signal-safe calls, no allocation.
    pub fn pre_exec(
        mut self,
        action: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.pre_exec.push(Box::new(action));
        self
    }

    /// Has the application, which then runs below a shell, end only when everything in the secrets directory was copied:
    /// with the application its files go, and [`Run::files`] and its like show the copy.
    pub fn keep_files(mut self) -> Self {
        self.keep_files = true;
        self
    }

    /// How long it may run until the test fails; 60 s by default.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Run {
        self.spawn().wait()
    }

    /// Starts it.
    #[allow(unsafe_code, reason = "a test sets up the child's process state")]
    pub fn spawn(self) -> Running {
        let scratch = TempDir::new();
        let own_secrets_dir = self.secrets_dir.is_none().then(tmpfs_dir);
        let secrets_dir = match (&self.secrets_dir, &own_secrets_dir) {
            (Some(path), _) => path.clone(),
            (None, Some(fresh)) => fresh.path().to_owned(),
            (None, None) => unreachable!("a fresh one is made when none is given"),
        };
        let mut words = self.under.iter().map(OsString::as_os_str);
        let mut command = Command::new(words.next().unwrap_or(self.program.as_os_str()));
        if !self.under.is_empty() {
            command.args(words).arg(&self.program);
        }
        command.env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(text) = &self.manifest {
            command.arg("--manifest").arg(scratch.write(MANIFEST, text));
        }
        if self.pass_secrets_dir {
            command.arg("--secrets-dir").arg(&secrets_dir);
        }
        command.args(&self.args);
        let gate = self.keep_files.then(|| Gate::below(&scratch));
        if let Some(words) = &self.command {
            let through = gate.iter().flat_map(Gate::words);
            command.arg("--").args(through).args(words);
        }
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
            if let Some(fresh) = &own_secrets_dir {
                chown(fresh.path(), Some(uid), Some(uid)).expect("root can give directories away");
            }
        }
        if let Some(path) = &self.current_dir {
            command.current_dir(path);
        }
        command
            .stdin(if self.stdin.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that Drop can end whatever is left of it.
            .process_group(0);
        for action in self.pre_exec {
            // SAFETY: the documentation of `Anteroom::pre_exec` asks for async-signal-safe calls only.
            unsafe {
                command.pre_exec(action);
            }
        }
        let started = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{} cannot be started: {error}", self.program.display())
        });
        if let (Some(bytes), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            std::thread::spawn(move || {
                // A program that does not read its input gets none.
                let _ = pipe.write_all(&bytes);
            });
        }
        let stdout = Collector::of(child.stdout.take().expect("it is piped"));
        let stderr = Collector::of(child.stderr.take().expect("it is piped"));
        Running {
            left: Some(Left {
                group: child.id().cast_signed(),
                scratch,
                own_secrets_dir,
                kept: None,
                outputs: [stdout.clone(), stderr.clone()],
                has_ended: false,
            }),
            child,
            stdout,
            stderr,
            started,
            limit: self.limit,
            secrets_dir,
            gate,
        }
    }
}

/// Where an application waits at its end, until its files were copied.
struct Gate(PathBuf);

impl Gate {
    /// Runs the command behind it, and then waits until a writer has come and gone.
    const SCRIPT: &str = r#""$@"; code=$?; read -r gone <"$0"; exit "$code""#;

    fn below(scratch: &TempDir) -> Self {
        let path = scratch.join("gate");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("our own directory can be written");
        // The application may be any user.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(&path, mode).expect("chmod of our own file");
        Self(path)
    }

    fn words(&self) -> [&OsStr; 4] {
        let [shell, option, script] = ["/bin/sh", "-c", Self::SCRIPT].map(OsStr::new);
        [shell, option, script, self.0.as_os_str()]
    }

    /// None before the application is there; it ends once this is dropped.
    fn hold(&self) -> Option<fs::File> {
        let mut writer = fs::OpenOptions::new();
        writer.write(true).custom_flags(libc::O_NONBLOCK);
        writer.open(&self.0).ok()
    }
}

/// A copy of a directory, with modes, owners, times and symlinks.
fn copy_of(directory: &Path) -> TempDir {
    let copy = tmpfs_dir();
    let done = Command::new("cp")
        .args(["-a", "--no-target-directory"])
        .args([directory, copy.path()])
        .status()
        .expect("cp can be started");
    assert!(done.success(), "{} cannot be copied", directory.display());
    copy
}

/// Reads a pipe to its end in a thread.
#[derive(Clone)]
struct Collector {
    /// The name of the pipe in /proc.
    pipe: PathBuf,
    bytes: Arc<Mutex<Vec<u8>>>,
    open: Arc<AtomicBool>,
}

impl Collector {
    fn of(mut pipe: impl AsFd + Read + Send + 'static) -> Self {
        let own = format!("/proc/self/fd/{}", pipe.as_fd().as_raw_fd());
        let collector = Self {
            pipe: fs::read_link(own).expect("it is open"),
            bytes: Arc::default(),
            open: Arc::new(AtomicBool::new(true)),
        };
        let writer = collector.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            loop {
                match pipe.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => lock(&writer.bytes).extend_from_slice(&buffer[..count]),
                }
            }
            writer.open.store(false, Ordering::Release);
        });
        collector
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Whether this process can write to the pipe.
    fn is_held_by(&self, pid: i32) -> bool {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        descriptors.filter_map(Result::ok).any(|descriptor| {
            let path = descriptor.path();
            let is_writable =
                fs::symlink_metadata(&path).is_ok_and(|link| link.mode() & 0o200 != 0);
            is_writable && fs::read_link(&path).is_ok_and(|target| target == self.pipe)
        })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.bytes)).into_owned()
    }
}

/// The remains of a run; on Drop they go: processes first, then directories.
struct Left {
    group: i32,
    scratch: TempDir,
    own_secrets_dir: Option<TempDir>,
    /// The files that [`Anteroom::keep_files`] has kept.
    kept: Option<TempDir>,
    outputs: [Collector; 2],
    /// Whether no process is left that could be killed, but for those that hold no output.
    has_ended: bool,
}

impl Left {
    /// The process ids of those in the process group, and of a keeper, which has left it.
    fn processes(&self) -> Vec<i32> {
        let mut found = group_members(self.group);
        found.extend(self.started_with_manifest());
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The process ids of those that were started with this run's manifest and have become nothing else.
    fn started_with_manifest(&self) -> Vec<i32> {
        let manifest = self.scratch.join(MANIFEST);
        let mut found = processes();
        found.retain(|pid| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words
                .split(|byte| *byte == 0)
                .any(|word| word == manifest.as_os_str().as_encoded_bytes())
        });
        found
    }
}

impl Left {
    /// Kills every process below this one and its group, but for a keeper, which tidies up.
    fn kill_below(&self, pid: i32) {
        let keepers = self.started_with_manifest();
        let mut below = children(pid);
        while let Some(pid) = below.pop() {
            below.extend(children(pid));
            if !keepers.contains(&pid) {
                // A group of this number is the process's own.
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// The process ids of those that hold an output, wherever they have gone.
    fn holders(&self) -> Vec<i32> {
        let open: Vec<&Collector> = self.outputs.iter().filter(|pipe| pipe.is_open()).collect();
        let mut found = if open.is_empty() {
            Vec::new()
        } else {
            processes()
        };
        found.retain(|pid| open.iter().any(|pipe| pipe.is_held_by(*pid)));
        found
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        // An empty group gives an error that means nothing.
        let _ = killpg(Pid::from_raw(self.group), Signal::SIGKILL);
        // A keeper tidies up when its application has ended.
        let patience = Instant::now() + LAST_WORDS;
        while !self.has_ended {
            let (mut left, keepers) = (self.holders(), self.started_with_manifest());
            if Instant::now() > patience {
                left.extend(&keepers);
            } else {
                left.retain(|pid| !keepers.contains(pid));
            }
            for pid in &left {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            self.has_ended = left.is_empty() && keepers.is_empty();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The binary while it runs; killed on Drop, with every process that it has started.
pub struct Running {
    child: Child,
    /// None after [`Running::wait`].
    left: Option<Left>,
    stdout: Collector,
    stderr: Collector,
    started: Instant,
    limit: Duration,
    secrets_dir: PathBuf,
    gate: Option<Gate>,
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Where it puts the files.
    pub fn secrets_dir(&self) -> &Path {
        &self.secrets_dir
    }

    /// Sends it a signal.
    pub fn kill(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("our own child can be signalled");
    }

    /// Kills the keeper and then the application: whatever lies in the secrets directory stays.
    pub fn kill_both(&self) {
        let keeper = self.keeper();
        kill(Pid::from_raw(keeper), Signal::SIGKILL).expect("it is there");
        wait_for("the keeper to end", LAST_WORDS, || {
            has_ended(keeper).then_some(())
        });
        self.kill(Signal::SIGKILL);
    }

    /// The text on standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// The text on standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Whether no process holds the standard output any more, and none the standard error.
    pub fn outputs_have_ended(&self) -> (bool, bool) {
        (!self.stdout.is_open(), !self.stderr.is_open())
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("our own child can be waited for")
            .is_none()
    }

    /// The process ids of its children.
    pub fn children(&self) -> Vec<i32> {
        children(self.pid())
    }

    /// The process id of the keeper, once the application runs.
    #[track_caller]
    pub fn keeper(&self) -> i32 {
        let left = self.left.as_ref().expect("it is running");
        let mut found = left.started_with_manifest();
        // Whatever has started anteroom was given its arguments too.
        let is_anteroom = |pid: &i32| {
            fs::read_link(format!("/proc/{pid}/exe"))
                .is_ok_and(|path| path == Path::new(env!("CARGO_BIN_EXE_anteroom")))
        };
        found.retain(is_anteroom);
        assert_eq!(found.len(), 1, "one keeper\n{}", self.outputs());
        found[0]
    }

    /// The events of this name so far.
    pub fn named(&self, name: &str) -> Vec<Value> {
        named(&self.stderr(), name)
    }

    /// Waits until there are so many events of this name.
    #[track_caller]
    pub fn wait_for_events(&mut self, name: &str, count: usize) {
        let what = format!("event {count} of {name}");
        self.wait_until(&what, |run| run.named(name).len() >= count);
    }

    /// Waits until standard output holds `text`.
    pub fn wait_for_stdout(&mut self, text: &str) {
        self.wait_until(&format!("{text:?} on standard output"), |run| {
            run.stdout().contains(text)
        });
    }

    /// Waits until standard error holds `text`.
    pub fn wait_for_stderr(&mut self, text: &str) {
        self.wait_until(&format!("{text:?} on standard error"), |run| {
            run.stderr().contains(text)
        });
    }

    /// Waits until `done`; panics with the output when it ends before, or at the limit.
    pub fn wait_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !done(self) {
            let ended = !self.is_running() && !self.stdout.is_open() && !self.stderr.is_open();
            // What was written last may have come between the two looks.
            if (ended && !done(self)) || self.started.elapsed() > self.limit {
                panic!("waited in vain for {what}\n{}", self.outputs());
            }
            pause_after(began.elapsed());
        }
    }

    /// Waits until the program ends, and every process that holds its outputs.
    pub fn wait(mut self) -> Run {
        let mut left = self.left.take().expect("it is waited for once");
        let status = loop {
            if let Some(status) = self
                .child
                .try_wait()
                .expect("our own child can be waited for")
            {
                break status;
            }
            if left.kept.is_none()
                && let Some(_held) = self.gate.as_ref().and_then(Gate::hold)
            {
                left.kept = Some(copy_of(&self.secrets_dir));
            }
            if self.started.elapsed() > self.limit {
                panic!("it did not end within {:?}\n{}", self.limit, self.outputs());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let elapsed = self.started.elapsed();
        // A keeper ends after its application. Another process that outlives that and holds the pipes is a finding, no
        // reason to hang.
        let ended = Instant::now();
        let (mut looked, mut was_alone) = (ended, false);
        while (self.stdout.is_open() || self.stderr.is_open()) && ended.elapsed() < LAST_WORDS {
            if looked.elapsed() > Duration::from_millis(500) {
                let is_alone = left.started_with_manifest().is_empty();
                // A keeper's last words may still be on their way when it has gone.
                if is_alone && was_alone {
                    break;
                }
                (looked, was_alone) = (Instant::now(), is_alone);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let output_closed = !self.stdout.is_open() && !self.stderr.is_open();
        left.has_ended = output_closed;
        let kept = left.kept.as_ref().map(|copy| copy.path().to_owned());
        Run {
            status,
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
            elapsed,
            output_closed,
            secrets_dir: kept.unwrap_or_else(|| self.secrets_dir.clone()),
            pid: self.pid(),
            real_secrets_dir: self.secrets_dir.clone(),
            left,
        }
    }

    fn outputs(&self) -> String {
        format!(
            "--- stdout\n{}\n--- stderr\n{}",
            self.stdout(),
            self.stderr()
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // None after `wait`: then the child is reaped, and the rest belongs to the Run.
        if let Some(left) = self.left.take() {
            if std::thread::panicking() {
                eprintln!("{}", self.outputs());
            }
            // One that has ended has no children any more, and its number may be another's.
            if self.is_running() {
                left.kill_below(self.pid());
            }
            drop(left);
            let _ = self.child.wait();
        }
    }
}

/// Whether the process is a zombie that waits for its parent, or gone altogether.
pub fn has_ended(process: i32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// The process ids of all processes.
fn processes() -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("/proc is mounted");
    processes
        .filter_map(Result::ok)
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .collect()
}

/// The process ids of all in this process group.
pub fn group_members(group: i32) -> Vec<i32> {
    let mut found = processes();
    found.retain(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The command name, in brackets, may hold anything: state, parent and group follow it.
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        after_name.split(' ').nth(2) == Some(&group.to_string())
    });
    found
}

/// The process ids of the children of `pid`.
pub fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .filter_map(Result::ok)
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Where these bytes lie in the memory that this process may write to.
pub fn found_in_memory(pid: i32, needle: &[u8]) -> Vec<String> {
    use std::os::unix::fs::FileExt;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("root may read it");
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("root may read it");
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line
            .split(' ')
            .next()
            .and_then(|range| range.split_once('-'));
        let (start, end) = range.expect("a range comes first");
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).expect("hex"));
        // Read as a whole: what lies across a border of pages counts too.
        let mut bytes = vec![0; usize::try_from(end - start).expect("64 bits")];
        if memory.read_exact_at(&mut bytes, start).is_err() {
            continue;
        }
        if bytes.windows(needle.len()).any(|window| window == needle) {
            found.push(line.to_owned());
        }
    }
    found
}

/// A file or symlink in the secrets directory.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The content; empty for a directory.
    pub bytes: Vec<u8>,
    /// The permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Where it points, if it is a symlink.
    pub link: Option<PathBuf>,
    /// Whether it is a directory.
    pub is_dir: bool,
}

impl Entry {
    /// The content as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("the file is text")
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = self.bytes.len();
        write!(
            out,
            "{:04o} {}:{} {size} bytes",
            self.mode, self.uid, self.gid
        )?;
        match &self.link {
            Some(link) => write!(out, " -> {}", link.display()),
            None => Ok(()),
        }
    }
}

/// Every file that a reader of this secrets directory sees, by its visible path, symlinks followed.
pub fn files_in(directory: &Path) -> BTreeMap<String, Entry> {
    let mut found = BTreeMap::new();
    walk(directory, directory, true, &mut found);
    found.retain(|_, entry| !entry.is_dir);
    found
}

/// Everything in this secrets directory as it lies there: hidden generations too, symlinks not followed.
pub fn entries_in(directory: &Path) -> BTreeMap<String, Entry> {
    let mut found = BTreeMap::new();
    walk(directory, directory, false, &mut found);
    found
}

fn walk(root: &Path, directory: &Path, follow: bool, found: &mut BTreeMap<String, Entry>) {
    let Ok(list) = fs::read_dir(directory) else {
        return;
    };
    for item in list.filter_map(Result::ok) {
        let path = item.path();
        let is_hidden = item.file_name().as_encoded_bytes().starts_with(b"..");
        if follow && is_hidden {
            continue;
        }
        let metadata = if follow {
            fs::metadata(&path)
        } else {
            fs::symlink_metadata(&path)
        };
        // A generation may be swapped away while we look.
        let Ok(metadata) = metadata else { continue };
        let bytes = if metadata.is_file() {
            fs::read(&path).unwrap_or_default()
        } else {
            Vec::new()
        };
        let name = path.strip_prefix(root).expect("it lies below the root");
        let entry = Entry {
            bytes,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            link: fs::read_link(&path).ok(),
            is_dir: metadata.is_dir(),
        };
        found.insert(name.to_string_lossy().into_owned(), entry);
        if metadata.is_dir() {
            walk(root, &path, follow, found);
        }
    }
}

/// The outcome of a run; on Drop the rest of its process group is killed and its fresh secrets directory removed.
pub struct Run {
    /// How it ended.
    pub status: ExitStatus,
    /// The exit code, if no signal ended the program.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// From its start to its end.
    pub elapsed: Duration,
    /// Whether no process held the standard output and error any more soon after the end.
    pub output_closed: bool,
    /// Where its files are: where it put them, or in the copy of [`Anteroom::keep_files`].
    pub secrets_dir: PathBuf,
    /// The process id that it had.
    pub pid: i32,
    real_secrets_dir: PathBuf,
    left: Left,
}

impl Run {
    /// Fails with both outputs unless it ended with this exit code.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert!(
            self.code == Some(code),
            "exit code {code} was expected, it was {}\n{self:?}",
            self.status
        );
        self
    }

    /// Fails with both outputs unless this signal ended it.
    #[track_caller]
    pub fn assert_signal(&self, signal: Signal) -> &Self {
        assert!(
            self.signal == Some(signal as i32),
            "an end by {signal} was expected, it was {}\n{self:?}",
            self.status
        );
        self
    }

    /// Fails with both outputs unless standard error holds `text`.
    #[track_caller]
    pub fn assert_stderr(&self, text: &str) -> &Self {
        assert!(
            self.stderr.contains(text),
            "{text:?} is missing on standard error\n{self:?}"
        );
        self
    }

    /// Fails when an output holds one of these secrets.
    #[track_caller]
    pub fn assert_no<C: AsRef<str>>(&self, canaries: impl IntoIterator<Item = C>) -> &Self {
        for canary in canaries {
            let canary = canary.as_ref();
            assert!(!canary.is_empty(), "an empty canary proves nothing");
            for (name, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
                assert!(
                    !output.contains(canary),
                    "{name} holds the secret {canary:?}\n{self:?}"
                );
            }
        }
        self
    }

    /// Fails unless the secrets directory is empty, hidden names included.
    #[track_caller]
    pub fn assert_no_files(&self) -> &Self {
        let entries = entries_in(&self.real_secrets_dir);
        assert!(
            entries.is_empty(),
            "files were left: {entries:#?}\n{self:?}"
        );
        self
    }

    /// Fails unless it ended with this exit code, started no application and left no file; for runs whose application
    /// would write to standard output.
    #[track_caller]
    pub fn assert_refused(&self, code: i32) -> &Self {
        self.assert_code(code);
        assert!(
            self.stdout.is_empty(),
            "the application was started\n{self:?}"
        );
        self.assert_no_files()
    }

    /// The process ids of those that are still there: in its process group, or a keeper.
    pub fn survivors(&self) -> Vec<i32> {
        self.left.processes()
    }

    /// Every file that a reader of the secrets directory sees, by its visible path, symlinks followed.
    pub fn files(&self) -> BTreeMap<String, Entry> {
        files_in(&self.secrets_dir)
    }

    /// One file by its visible path.
    #[track_caller]
    pub fn file(&self, name: &str) -> Entry {
        let mut files = self.files();
        files
            .remove(name)
            .unwrap_or_else(|| panic!("there is no file {name} among {:?}\n{self:?}", files.keys()))
    }

    /// Everything in the secrets directory as it lies there.
    pub fn entries(&self) -> BTreeMap<String, Entry> {
        entries_in(&self.secrets_dir)
    }

    /// The JSON log lines on standard error.
    pub fn events(&self) -> Vec<Value> {
        events(&self.stderr)
    }

    /// The events of this name.
    pub fn named(&self, name: &str) -> Vec<Value> {
        named(&self.stderr, name)
    }
}

/// The events of this name among these lines.
fn named(lines: &str, name: &str) -> Vec<Value> {
    let mut events = events(lines);
    events.retain(|event| event["event"] == name);
    events
}

/// The JSON log lines among these.
pub fn events(lines: &str) -> Vec<Value> {
    lines
        .lines()
        .filter(|line| line.starts_with('{'))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

impl std::fmt::Debug for Run {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "--- {} after {:?}", self.status, self.elapsed)?;
        writeln!(out, "--- stdout\n{}", self.stdout)?;
        writeln!(out, "--- stderr\n{}", self.stderr)
    }
}

/// The application ran to its end, and said what it is made to say in these tests.
#[track_caller]
pub fn assert_started(run: &Run, what: &str) {
    assert_eq!(
        (run.code, run.stdout.as_str()),
        (Some(0), "the application runs\n"),
        "{what}\n{run:?}"
    );
}

//! A real Docker engine: images from nothing, containers that are removed again.

use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{TempDir, report, unique, wait_for};

/// In which the engine does anything that a test asks of it, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(300);
/// Whether a command took longer: engines that hang do not come back, and no other test shall wait as long.
static HANGS: AtomicBool = AtomicBool::new(false);

/// Ends a test here, and says so, when `ANTEROOM_TEST_NO_DOCKER=1` leaves out what needs an engine; panics when there is
/// none.
macro_rules! require {
    () => {
        if !$crate::support::docker::is_there() {
            return;
        }
    };
}
pub(crate) use require;

/// For [`require`]: `false` when the test is left out.
pub fn is_there() -> bool {
    static VERSION: LazyLock<Outcome> = LazyLock::new(|| docker(["version"]));
    if std::env::var_os("ANTEROOM_TEST_NO_DOCKER").is_some_and(|value| value == "1") {
        report::leave_out("it needs a Docker engine (ANTEROOM_TEST_NO_DOCKER=1)");
        return false;
    }
    report::measure();
    let hint = "(ANTEROOM_TEST_NO_DOCKER=1 leaves these tests out)";
    assert!(
        VERSION.code == 0,
        "no Docker engine {hint}: {:#?}",
        *VERSION
    );
    let hangs = HANGS.load(Ordering::Relaxed);
    assert!(
        !hangs,
        "the Docker engine hangs, as an earlier test saw {hint}"
    );
    true
}

/// The result of a `docker` command.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The JSON log lines on standard error.
    pub fn events(&self) -> Vec<Value> {
        super::anteroom::events(&self.stderr)
    }
}

/// Runs `docker` with these arguments.
pub fn docker<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Outcome {
    let mut command = Command::new("docker");
    command
        // Images come from nothing and no registry is asked: the classic builder is enough and always there.
        .env("DOCKER_BUILDKIT", "0")
        .args(arguments)
        .stdin(Stdio::null());
    ask(&mut command)
}

/// A failure, and no panic, where the engine lets it wait: a Drop may ask too.
fn ask(command: &mut Command) -> Outcome {
    let answer = if HANGS.load(Ordering::Relaxed) {
        Err(io::Error::other(
            "not asked, because the Docker engine hangs",
        ))
    } else {
        run(command)
    };
    answer.unwrap_or_else(|error| {
        if error.kind() == io::ErrorKind::TimedOut {
            HANGS.store(true, Ordering::Relaxed);
        }
        Outcome {
            code: -1,
            stdout: String::new(),
            stderr: error.to_string(),
        }
    })
}

/// Runs a command to its end, or kills it when it takes minutes.
pub fn run(command: &mut Command) -> io::Result<Outcome> {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let (ended, output) = channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    output.recv_timeout(LIMIT).map_or_else(
        |_| {
            let _ = kill(pid, Signal::SIGKILL);
            let text = format!("{command:?} gave no answer within {LIMIT:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        },
        |output| Ok(outcome(&output?)),
    )
}

fn outcome(output: &Output) -> Outcome {
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn must<A: AsRef<std::ffi::OsStr>>(what: &str, arguments: impl IntoIterator<Item = A>) -> Outcome {
    let outcome = docker(arguments);
    assert!(outcome.code == 0, "docker {what} failed: {outcome:#?}");
    outcome
}

/// An image built from nothing; removed on Drop.
#[derive(Debug)]
pub struct Image {
    tag: String,
}

impl Image {
    /// Builds `FROM scratch`: `files` are (path in the image, file on this machine, mode), then come `lines`.
    pub fn build(name: &str, files: &[(&str, &Path, u32)], lines: &[&str]) -> Self {
        Self::build_on("scratch", name, files, lines)
    }

    /// The same on the image with the tag `base`.
    pub fn build_on(base: &str, name: &str, files: &[(&str, &Path, u32)], lines: &[&str]) -> Self {
        use std::os::unix::fs::PermissionsExt;

        let context = TempDir::new();
        let mut dockerfile = format!("FROM {base}\n");
        for (number, (target, source, mode)) in files.iter().enumerate() {
            let staged = context.join(format!("file-{number}"));
            std::fs::copy(source, &staged)
                .unwrap_or_else(|error| panic!("{} cannot be copied: {error}", source.display()));
            std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(*mode))
                .expect("chmod of our own file");
            dockerfile.push_str(&format!("COPY [\"file-{number}\", \"{target}\"]\n"));
        }
        for line in lines {
            dockerfile.push_str(line);
            dockerfile.push('\n');
        }
        context.write("Dockerfile", dockerfile);
        let tag = unique(&format!("anteroom-test-{name}"));
        let context = context.path().to_str().expect("our own paths are text");
        must(
            "build",
            [
                "build",
                "--quiet",
                "--pull=false",
                "--network=none",
                "--force-rm",
                // A layer of another test's image may be removed while this one is built on it.
                "--no-cache",
                "--tag",
                &tag,
                context,
            ],
        );
        Self { tag }
    }

    /// An image that holds the trees below `roots`, with these lines of a Dockerfile; one that is kept in a static
    /// goes with the test process.
    pub fn import(name: &str, roots: &[&Path], lines: &[&str]) -> Self {
        let tag = unique(&format!("anteroom-test-{name}"));
        super::nursery::at_exit(r#"docker rmi --force "$0" >/dev/null 2>&1"#, tag.as_ref());
        let mut tar = Command::new("tar");
        tar.args(["--create", "--numeric-owner", "--owner=0", "--group=0"]);
        for root in roots {
            // Name by name: the engine takes no path twice, and each tree has a `.`.
            let names = std::fs::read_dir(root).expect("the tree is there");
            let names = names.filter_map(|entry| Some(entry.ok()?.file_name()));
            tar.arg("--directory").arg(root).args(names);
        }
        let mut tar = tar
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar can be started");
        let mut import = Command::new("docker");
        import
            .arg("import")
            .args(lines.iter().flat_map(|line| ["--change", line]))
            .args(["-", &tag])
            .stdin(tar.stdout.take().expect("it is piped"));
        let outcome = ask(&mut import);
        // Its end of the pipe: without a reader `tar` ends.
        drop(import);
        let status = tar.wait().expect("our own child can be waited for");
        assert!(
            status.success() && outcome.code == 0,
            "docker import failed: {outcome:#?}"
        );
        Self { tag }
    }

    /// The image's name for `docker run`.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl AsRef<str> for Image {
    fn as_ref(&self) -> &str {
        &self.tag
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        docker(["rmi", "--force", &self.tag]);
    }
}

/// A container; removed on Drop.
#[derive(Debug)]
pub struct Container {
    name: String,
}

impl Container {
    /// Starts one in the background: `options` for `docker run`, then the image, then `command`.
    pub fn run(image: impl AsRef<str>, options: &[&str], command: &[&str]) -> Self {
        let container = Self::create(image, options, command);
        container.start();
        container
    }

    /// Makes one without starting it.
    pub fn create(image: impl AsRef<str>, options: &[&str], command: &[&str]) -> Self {
        let name = unique("anteroom-test");
        let mut arguments = vec!["create", "--pull=never", "--name", &name];
        arguments.extend(options);
        arguments.push(image.as_ref());
        arguments.extend(command);
        must("create", arguments);
        Self { name }
    }

    /// Starts it, also a second time.
    pub fn start(&self) {
        must("start", ["start", &self.name]);
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The container's output so far.
    pub fn logs(&self) -> Outcome {
        must("logs", ["logs", &self.name])
    }

    /// Waits until it ends and gives its exit code.
    pub fn wait(&self) -> i32 {
        wait_for("the container to end", Duration::from_secs(60), || {
            let state = self.inspect("{{json .State}}");
            let ended = !matches!(
                state["Status"].as_str(),
                Some("running" | "created" | "restarting")
            );
            ended.then(|| {
                state["ExitCode"]
                    .as_i64()
                    .expect("an ended container has an exit code")
            })
        })
        .try_into()
        .expect("exit codes are small")
    }

    /// Runs a command in it.
    pub fn exec(&self, command: &[&str]) -> Outcome {
        docker(["exec", &self.name].iter().chain(command))
    }

    /// `docker stop` with this patience.
    pub fn stop(&self, patience: Duration) {
        must(
            "stop",
            [
                "stop",
                "--time",
                &patience.as_secs().to_string(),
                &self.name,
            ],
        );
    }

    /// Sends a signal to its first process.
    pub fn kill(&self, signal: &str) {
        must("kill", ["kill", "--signal", signal, &self.name]);
    }

    /// The answer of `docker inspect`; `format` must give JSON, for instance `{{json .State}}`.
    pub fn inspect(&self, format: &str) -> Value {
        let outcome = must("inspect", ["inspect", "--format", format, &self.name]);
        serde_json::from_str(&outcome.stdout).expect("the format gives JSON")
    }

    /// The status as HEALTHCHECK sees it: `starting`, `healthy` or `unhealthy`.
    pub fn health(&self) -> String {
        let status = self.inspect("{{json .State.Health.Status}}");
        status
            .as_str()
            .expect("the image has a HEALTHCHECK")
            .to_owned()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(["rm", "--force", "--volumes", &self.name]);
    }
}

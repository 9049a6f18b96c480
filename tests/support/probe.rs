//! Small C programs: what a process was handed and what others can see of it, and what stands under an init.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::{TempDir, repository};

/// A directory for a program, and the program in it.
pub type Built = (TempDir, PathBuf);

/// The probe, static; what it can do stands at the top of `probe.c`.
pub fn probe() -> &'static Path {
    static PROBE: LazyLock<Built> = LazyLock::new(|| build("support/probe.c"));
    &PROBE.1
}

/// The static program below an init; the top of `application.c` says what it can do.
pub fn application() -> &'static Path {
    static APPLICATION: LazyLock<Built> = LazyLock::new(|| build("support/application.c"));
    &APPLICATION.1
}

/// The one that refuses a system call, static; what it can do stands at the top of `deny.c`.
pub fn deny() -> &'static Path {
    static DENY: LazyLock<Built> = LazyLock::new(|| build("support/deny.c"));
    &DENY.1
}

/// An application without a C library.
pub fn bare() -> &'static Path {
    static BARE: LazyLock<Built> = LazyLock::new(|| {
        let directory = TempDir::new();
        let path = directory.join("bare");
        let options = [
            "-static",
            "-nostdlib",
            "-ffreestanding",
            "-fno-stack-protector",
        ];
        compile_source("support/bare.c", &options, &path);
        (directory, path)
    });
    &BARE.1
}

/// Builds a static program; `source` is its path below `tests`.
pub fn build(source: &str) -> Built {
    let directory = TempDir::new();
    let name = Path::new(source).file_stem();
    let path = directory.join(name.expect("a source has a name"));
    compile_source(source, &["-static"], &path);
    (directory, path)
}

/// Builds the probe in another way, for instance with a loader that is nowhere.
pub fn compile(options: &[&str], path: &Path) {
    compile_source("support/probe.c", options, path);
}

fn compile_source(source: &str, options: &[&str], path: &Path) {
    let output = Command::new("gcc")
        .args(["-Wall", "-Werror", "-o"])
        .arg(path)
        .args(options)
        .arg(repository().join("tests").join(source))
        .output()
        .expect("gcc can be started: scripts/install tools");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

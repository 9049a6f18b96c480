//! A small C program that shows what a process was handed, and what others can see of it.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use super::{TempDir, repository};

/// The probe, static; what it can do stands at the top of `probe.c`.
pub fn probe() -> &'static Path {
    static PROBE: LazyLock<(TempDir, std::path::PathBuf)> = LazyLock::new(|| {
        let directory = TempDir::new();
        let path = directory.join("probe");
        compile(&["-static"], &path);
        (directory, path)
    });
    &PROBE.1
}

/// Builds the probe in another way, for instance with a loader that is nowhere.
pub fn compile(options: &[&str], path: &Path) {
    let output = Command::new("gcc")
        .args(["-Wall", "-Werror", "-o"])
        .arg(path)
        .args(options)
        .arg(repository().join("tests/support/probe.c"))
        .output()
        .expect("gcc can be started: scripts/install tools");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

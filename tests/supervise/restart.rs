//! The application is told: by a command that runs at the start too.
#![allow(
    clippy::disallowed_methods,
    reason = "a test looks at processes and makes links"
)]

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::{Anteroom, Service, TempDir, unique};

/// The words that hold each application back for a moment before it is there.
const LATE: [&str; 9] = [
    "strace",
    "-f",
    "-qq",
    "-o",
    "/dev/null",
    "-e",
    "trace=setpgid",
    "-e",
    "inject=setpgid:delay_enter=500000",
];

#[test]
fn command_runs_at_start_beside_the_application() {
    let service = Service::new();
    for lifecycle in ["exec", "supervise"] {
        // A process is called as the file that it became.
        let (directory, name) = (TempDir::new(), unique("up"));
        let application = directory.join(&name);
        symlink("/bin/sh", &application).expect("our own directory can be written");
        let count = format!("grep -slx {name} /proc/[0-9]*/comm | wc -l");
        let told = format!("echo \"told: $ANTEROOM_CHANGED, $KEY, beside $({count});\"");
        let manifest = service
            .manifest()
            .set("certificate.ttl", "8s")
            .set("environment.KEY", "{{ payment.api_key }}")
            .set("process.lifecycle", lifecycle)
            .set("process.on_rotate", json!(["/bin/sh", "-c", told]))
            .set("process.on_rotate_at_start", true);
        let end = directory.join("end");
        let stay = format!("until test -e {}; do sleep 0.05; done", end.display());
        let mut run = Anteroom::new()
            .under(LATE)
            .manifest(manifest)
            .token(service.mint())
            .command([application.as_os_str(), "-c".as_ref(), stay.as_ref()])
            .spawn();
        let key = Service::API_KEY;
        run.wait_for_stderr("told: ");
        let first = format!("told: certificate legacy payment, {key}, beside 1;");
        assert!(run.stderr().contains(&first), "{}", run.stderr());
        run.wait_for_events("rotated", 1);
        run.wait_for_stderr(&format!("told: certificate, {key}, beside 1;"));
        directory.write("end", "");
        run.wait().assert_code(0);
    }
}

#[test]
fn command_at_start_needs_a_command_and_is_planned() {
    let service = Service::new();
    let check = |manifest: crate::support::Manifest| {
        let manifest = manifest.set("process.on_rotate_at_start", true);
        Anteroom::new().manifest(manifest).arg("check").run()
    };
    let of = |on_rotate: serde_json::Value| service.manifest().set("process.on_rotate", on_rotate);
    for manifest in [service.manifest(), of(json!("SIGHUP"))] {
        check(manifest)
            .assert_code(78)
            .assert_stderr("`on_rotate_at_start` in [process] is for a command");
    }
    let run = check(of(json!(["/bin/true"])));
    run.assert_code(0);
    let planned = "/bin/true (at most 30 s, at the start too)";
    assert!(run.stdout.contains(planned), "{run:?}");
}

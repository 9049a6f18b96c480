//! The main job on a real OpenBao.

use crate::support::{Anteroom, Service};

#[test]
fn wrapping_token_becomes_files_and_a_running_application() {
    let service = Service::with_database();
    let run = Anteroom::new()
        .manifest(service.manifest())
        .token(service.mint())
        .shell("echo the application runs")
        .keep_files()
        .run();
    run.assert_code(0);
    assert_eq!(run.stdout, "the application runs\n");
    let files = run.files();
    for name in [
        "tls.crt",
        "tls.key",
        "ca.crt",
        "tls.pem",
        "status.json",
        "payment/api_key",
        "db/username",
    ] {
        assert!(
            files.contains_key(name),
            "{name} is missing from {:?}",
            files.keys()
        );
    }
}

#[test]
fn variables_that_are_set_to_nothing_count_as_not_set() {
    let service = Service::new();
    let mut start = Anteroom::new()
        .manifest(service.manifest())
        .token(service.mint());
    for name in [
        "TOKEN_FILE",
        "LIFECYCLE",
        "DEADLINE",
        "LOG",
        "LOG_LEVEL",
        "DRY_RUN",
    ] {
        start = start.env(format!("ANTEROOM_{name}"), "");
    }
    let run = start.shell("echo started").run();
    run.assert_code(0);
    assert_eq!(run.stdout, "started\n");
    assert!(
        run.stderr.contains("unwrapped"),
        "it was no dry run: {run:?}"
    );
}

#[test]
fn wrong_label_is_one_mistake_and_not_one_for_each_use() {
    let service = Service::new();
    let run = Anteroom::new()
        .manifest(
            service
                .manifest()
                .set("service.environment", "${NOWHERE_SET}")
                .set(
                    "token.creation_path",
                    "auth/token/create/${app}-${environment}",
                ),
        )
        .token(service.mint())
        .shell("echo started")
        .run();
    run.assert_refused(78);
    assert_eq!(
        run.stderr.matches("\"event\":\"failed\"").count(),
        1,
        "{run:?}"
    );
}

#[test]
fn invented_value_of_a_variable_is_reported() {
    let manifest = || {
        Service::new()
            .manifest()
            .set("service.environment", "${NOWHERE_SET}")
    };
    let dry = Anteroom::new()
        .manifest(manifest())
        .arg("--dry-run")
        .command(["/bin/true"])
        .run();
    dry.assert_code(0);
    assert!(
        dry.stderr.contains("NOWHERE_SET is not set here"),
        "{dry:?}"
    );
    let check = Anteroom::new()
        .without_secrets_dir()
        .manifest(manifest())
        .arg("check")
        .run();
    check.assert_code(0);
    assert!(
        check.stdout.contains("NOWHERE_SET is not set here"),
        "{check:?}"
    );
}

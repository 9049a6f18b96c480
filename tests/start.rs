//! The main job on a real OpenBao.

use crate::support::{Anteroom, Service};

#[test]
fn a_wrapping_token_becomes_files_and_a_running_application() {
    let service = Service::with_database();
    let run = Anteroom::new()
        .manifest(service.manifest())
        .token(service.mint())
        .shell("echo the application runs")
        .run();
    run.assert_code(0);
    assert_eq!(run.stdout, "the application runs\n");
    let files = run.files();
    for name in [
        "tls.crt",
        "tls.key",
        "ca.crt",
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
fn a_second_start_with_the_same_token_is_refused_with_80_f42() {
    let service = Service::new();
    let token = service.mint().token;
    let start = || {
        Anteroom::new()
            .manifest(service.manifest())
            .token(token.as_str())
            .shell("echo started")
            .run()
    };
    start().assert_code(0);
    let again = start();
    again.assert_code(80);
    assert_eq!(again.stdout, "");
    again.assert_no_files();
}

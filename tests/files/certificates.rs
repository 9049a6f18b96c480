//! The other files of a certificate, and several certificates: each of its own mount, with its own files and its own clock.
#![allow(
    clippy::disallowed_methods,
    reason = "tests start other programs to compare with"
)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::certificate::openssl;
use crate::support::nursery::Nursling;
use crate::support::{Anteroom, Service, free_port, wait_for};

fn at(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

/// Fails unless OpenSSL serves TLS with `tls.pem` alone, and a client finds the way to `ca.crt` and this name.
#[track_caller]
fn assert_serves(directory: &Path, name: &str) {
    let (pem, anchors) = (at(directory, "tls.pem"), at(directory, "ca.crt"));
    let address = format!("127.0.0.1:{}", free_port());
    let mut server = Command::new("openssl");
    server
        .args(["s_server", "-quiet", "-accept", &address])
        .args(["-cert", &pem, "-cert_chain", &pem])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _server = Nursling::spawn(server, Signal::SIGKILL).expect("openssl is installed");
    let client = || {
        let mut client = Command::new("openssl");
        client
            .args(["s_client", "-connect", &address, "-CAfile", &anchors])
            .args(["-verify_return_error", "-verify_hostname", name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        client.status().expect("openssl is installed").success()
    };
    wait_for("a verified connection", Duration::from_secs(20), || {
        client().then_some(())
    });
}

#[test]
fn pem_and_der_hold_the_same_key_and_chain() {
    for kind in ["ec-p256", "ed25519", "rsa-2048"] {
        let service = Service::new();
        let manifest = service
            .manifest()
            .remove("dependencies")
            .set("certificate.key_type", kind)
            .set("certificate.der", true);
        let run = Anteroom::new()
            .manifest(manifest)
            .token(service.mint())
            .shell("true")
            .keep_files()
            .run();
        run.assert_code(0);
        for (name, mode) in [("tls.pem", 0o400), ("key.der", 0o400), ("tls.der", 0o444)] {
            assert_eq!(run.file(name).mode, mode, "{name}");
        }
        let whole = format!(
            "{}{}",
            run.file("tls.key").text(),
            run.file("tls.crt").text()
        );
        assert_eq!(run.file("tls.pem").text(), whole, "{kind}");

        let directory = &run.secrets_dir;
        let [key, leaf, der_key, der_leaf] =
            ["tls.key", "tls.crt", "key.der", "tls.der"].map(|name| at(directory, name));
        // Of all encodings in DER, OpenSSL reads here that of PKCS#8 alone.
        let read = ["pkcs8", "-inform", "DER", "-nocrypt", "-in", &der_key];
        assert_eq!(openssl(&read), openssl(&["pkey", "-in", &key]), "{kind}");
        let fingerprint = ["-noout", "-fingerprint", "-sha256"];
        assert_eq!(
            openssl(
                &[
                    &["x509", "-inform", "DER", "-in", &der_leaf],
                    &fingerprint[..]
                ]
                .concat()
            ),
            openssl(&[&["x509", "-in", &leaf], &fingerprint[..]].concat()),
            "{kind}"
        );
        assert_serves(directory, &service.common_name());
    }
}

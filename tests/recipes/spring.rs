//! docs/recipes/spring.md: real Spring Boot, compiled and run.

use std::os::unix::fs::symlink;

use serde_json::json;

use super::load::Peers;
use super::page::{Image, Vault};
use crate::support::scene::LONG;
use crate::support::{core, free_port, repository};

const LIFE: &str = "6s";
const ROTATIONS: usize = 2;

#[test]
fn spring_reads_the_tree_and_reloads_its_bundle() {
    let port = free_port();
    let image = Image::build("spring", &[("8443", &port.to_string())]);
    let libraries = repository().join(".cache/spring");
    assert!(libraries.exists(), "run scripts/install recipes");
    symlink(libraries, image.path("/app/lib")).expect("our own directory");
    let starting = core();
    image.run("javac");
    let vault = Vault::of(image.anteroom(), "timeline");
    let pki = vault.enable_pki("pki", "timeline", LIFE);
    vault.admin.enable_kv2("secret");
    let secret = json!({"data": {"api_key": "sesame"}});
    vault.admin.kv_put("secret/data/timeline/payment", secret);
    let call = vault
        .introduce(image.call())
        .env("SPRING_SSL_BUNDLE_WATCH_FILE_QUIETPERIOD", "200ms");
    let mut run = call.limit(2 * LONG).spawn();

    let peers = Peers {
        vault: &vault,
        pki: &pki,
        port,
    };
    peers.assert_served(
        &mut run,
        starting,
        "CN=client.example.io, a key of 6 letters",
        ROTATIONS,
    );
}

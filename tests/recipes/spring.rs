//! docs/recipes/spring.md: real Spring Boot, compiled and run.

use std::os::unix::fs::symlink;

use serde_json::json;

use super::load::{Client, Load};
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

    let (name, own) = ("timeline.production.example.io", "client.example.io");
    let client = Client::with_certificate(&vault, &pki, "timeline", own, name, port);
    run.wait_until("an answer", |_| client.ask().is_ok());
    drop(starting);
    let stranger = Client::stranger(&pki, name, port).ask();
    assert!(stranger.is_err(), "{stranger:?}");

    let load = Load::start(&client, "CN=client.example.io, a key of 6 letters");
    run.wait_until("new certificates", |_| {
        load.has_lost() || load.has_seen(ROTATIONS)
    });
    load.assert_nothing_lost();
    assert!(run.is_running(), "{}", run.stderr());
}

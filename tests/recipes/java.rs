//! docs/recipes/java.md: a JVM that takes each new store, compiled and run.

use super::load::{Client, Load};
use super::page::{Image, Vault};
use crate::support::scene::LONG;
use crate::support::{core, free_port};

const LIFE: &str = "4s";
const ROTATIONS: usize = 3;

#[test]
fn jvm_takes_new_stores_without_restart_or_lost_request() {
    let port = free_port();
    let image = Image::build("java", &[("8443", &port.to_string())]);
    let starting = core();
    image.run("javac");
    let vault = Vault::of(image.anteroom(), "timeline");
    let pki = vault.enable_pki("pki", "timeline", LIFE);
    let mut run = vault.introduce(image.call()).limit(2 * LONG).spawn();

    let (name, own) = ("timeline.production.example.io", "client.example.io");
    let client = Client::with_certificate(&vault, &pki, "timeline", own, name, port);
    run.wait_until("an answer", |_| client.ask().is_ok());
    drop(starting);
    let stranger = Client::stranger(&pki, name, port).ask();
    assert!(stranger.is_err(), "{stranger:?}");

    let load = Load::start(&client, "CN=client.example.io");
    run.wait_until("new certificates", |_| {
        load.has_lost() || load.has_seen(ROTATIONS)
    });
    load.assert_nothing_lost();
    assert!(run.is_running(), "{}", run.stderr());
}

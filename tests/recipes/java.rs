//! docs/recipes/java.md: a JVM that takes each new store, compiled and run.

use super::load::Peers;
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

    let peers = Peers {
        vault: &vault,
        pki: &pki,
        port,
    };
    peers.assert_served(&mut run, starting, "CN=client.example.io", ROTATIONS);
}

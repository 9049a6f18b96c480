//! docs/recipes/nginx.md: mutual TLS, and reloads under load.

use super::load::{Client, Load};
use super::page::{Image, Vault};
use crate::support::free_port;
use crate::support::scene::LONG;

/// The user that nginx runs as.
const USER: u32 = 54_323;
/// Half of this life is left when a new certificate comes.
const LIFE: &str = "4s";
const ROTATIONS: usize = 20;

#[test]
fn nginx_loses_no_request_over_20_rotations_under_load() {
    let port = free_port();
    let image = Image::build("nginx", &[("8443", &port.to_string())]);
    let vault = Vault::of(image.anteroom(), "edge");
    let pki = vault.enable_pki("pki", "edge", LIFE);
    let mut run = vault
        .introduce(image.call())
        .uid(USER)
        .limit(2 * LONG)
        .spawn();

    let name = "edge.production.example.io";
    let client = Client::with_certificate(&vault, &pki, "edge", "client.example.io", name, port);
    run.wait_until("an answer", |_| client.ask().is_ok());
    let stranger = Client::stranger(&pki, name, port).ask().expect("an answer");
    assert!(stranger.starts_with("HTTP/1.1 400 "), "{stranger}");

    let load = Load::start(&client, "CN=client.example.io");
    run.wait_until("20 rotations", |_| {
        load.has_lost() || load.has_seen(ROTATIONS)
    });
    load.assert_nothing_lost();
    assert!(run.is_running(), "{}", run.stderr());
}

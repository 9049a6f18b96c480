//! docs/recipes/haproxy.md: new certificates under load, by a reload and through the runtime API.

use super::load::{Client, Load};
use super::page::{Image, Vault};
use crate::support::free_port;
use crate::support::scene::LONG;

/// The user that HAProxy runs as.
const USER: u32 = 54_324;
const LIFE: &str = "4s";
const ROTATIONS: usize = 5;

/// Fails unless all requests of a load are answered while new certificates come; gives the processes that HAProxy had
/// at the end.
#[track_caller]
fn assert_nothing_lost(dockerfile: &str) -> Vec<i32> {
    let port = free_port();
    let image = Image::of(dockerfile, "haproxy", &[("8443", &port.to_string())]);
    let vault = Vault::of(image.anteroom(), "edge");
    let pki = vault.enable_pki("pki", "edge", LIFE);
    let call = vault.introduce(image.call());
    let mut run = call.uid(USER).limit(2 * LONG).spawn();

    let name = "edge.production.example.io";
    let client = Client::with_certificate(&vault, &pki, "edge", "client.example.io", name, port);
    run.wait_until("an answer", |_| client.ask().is_ok());
    let stranger = Client::stranger(&pki, name, port).ask();
    assert!(stranger.is_err(), "{stranger:?}");

    let first = run.children();
    let load = Load::start(&client, "CN=client.example.io");
    run.wait_until("rotations", |_| load.has_lost() || load.has_seen(ROTATIONS));
    load.assert_nothing_lost();
    assert!(run.is_running(), "{}", run.stderr());
    let failed = run.named("on_rotate_failed");
    assert!(failed.is_empty(), "{failed:?}");
    let mut children = run.children();
    children.retain(|child| first.contains(child));
    children
}

#[test]
fn haproxy_loses_no_request_while_it_reloads() {
    let same = assert_nothing_lost("Dockerfile");
    assert_eq!(same.len(), 1, "of its children only the keeper stays");
}

#[test]
fn haproxy_takes_certificates_at_runtime_without_a_reload() {
    let same = assert_nothing_lost("Dockerfile.api");
    assert_eq!(same.len(), 2, "the worker stays, as the keeper does");
}

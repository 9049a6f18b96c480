//! docs/recipes/python.md: an application that knows its database from a variable alone.

use std::collections::BTreeSet;

use serde_json::json;

use super::page::{Image, Vault};
use crate::support::scene::LONG;
use crate::support::{Postgres, Running};

/// The users that the application must have been.
const USERS: usize = 4;

fn users(run: &Running) -> BTreeSet<String> {
    run.stdout().lines().map(str::to_owned).collect()
}

#[test]
fn python_starts_again_with_each_new_database_url() {
    let postgres = Postgres::shared();
    let image = Image::build("python", &[]);
    let vault = Vault::of(image.anteroom(), "timeline");
    vault.admin.enable_database("database", postgres);
    let lives = json!({"default_ttl": "6s", "max_ttl": "6s"});
    vault.admin.database_role("database", "timeline", lives);
    let database = format!("127.0.0.1:{}/postgres", postgres.port());
    let call = vault
        .introduce(image.call())
        .env("DATABASE", database)
        .env("RESTART_SPLAY", "0s")
        .env("PAUSE", "0.02");
    let mut run = call.limit(2 * LONG).spawn();
    run.wait_until("another user", |run| users(run).len() >= USERS);
    assert!(
        run.named("restarted").len() >= USERS - 1,
        "{}",
        run.stderr()
    );
    assert!(run.named("restart_failed").is_empty(), "{}", run.stderr());
    assert!(!run.stderr().contains("Traceback"), "{}", run.stderr());
}

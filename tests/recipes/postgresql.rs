//! docs/recipes/postgresql.md: a pool that outlives the users of its connections.

use std::collections::BTreeSet;

use serde_json::json;

use super::page::{Image, Vault};
use crate::support::scene::LONG;
use crate::support::{Postgres, Running, wait_for};

/// The users that the pool must have been.
const USERS: usize = 4;

fn users(run: &Running) -> BTreeSet<String> {
    run.stdout().lines().map(str::to_owned).collect()
}

#[test]
fn pool_takes_each_new_password_and_fails_no_query() {
    let postgres = Postgres::shared();
    let image = Image::build("postgresql", &[]);
    let vault = Vault::of(image.anteroom(), "timeline");
    vault.admin.enable_database("database", postgres);
    let lives = json!({"default_ttl": "5s", "max_ttl": "5s"});
    vault.admin.database_role("database", "timeline", lives);
    let call = vault
        .introduce(image.call())
        .env("DB_HOST", "127.0.0.1")
        .env("DB_PORT", postgres.port().to_string())
        .env("DB_NAME", "postgres")
        .env("POOL_RECYCLE", "1")
        .env("PAUSE", "0.02");
    let mut run = call.limit(2 * LONG).spawn();
    // A query that fails ends the program, and so this wait.
    run.wait_until("another user", |run| users(run).len() >= USERS);
    let queries = run.stdout().lines().count();
    assert!(queries > 10 * USERS, "{queries} queries");
    let first = run.stdout().lines().next().expect("a user").to_owned();
    wait_for("the first user to be gone", LONG, || {
        (!postgres.role_exists(&first)).then_some(())
    });
}

//! docs/recipes/mariadb.md: a job whose database users come and go.

use std::collections::BTreeSet;

use serde_json::json;

use super::page::{Image, Vault};
use crate::support::MariaDb;
use crate::support::scene::LONG;

/// The users that the job must have been.
const USERS: usize = 3;

#[test]
fn mariadb_client_logs_in_as_each_new_user() {
    let server = MariaDb::shared();
    let image = Image::build("mariadb", &[]);
    let vault = Vault::of(image.anteroom(), "report");
    server.query("CREATE DATABASE IF NOT EXISTS orders");
    vault.admin.mount("database", "database", json!({}));
    let connection = json!({
        "plugin_name": "mysql-database-plugin",
        "connection_url": format!("{{{{username}}}}@tcp(127.0.0.1:{})/", server.port()),
        "username": "root",
        "allowed_roles": "*",
    });
    vault
        .admin
        .ok("POST", "database/config/mariadb", connection);
    let statements = image.page().between("creation_statements=\"", "\"\n");
    let role = json!({
        "db_name": "mariadb",
        "creation_statements": statements,
        "default_ttl": "5s",
        "max_ttl": "5s",
    });
    vault.admin.ok("POST", "database/roles/report", role);
    let call = vault
        .introduce(image.call())
        .env("DB_HOST", "127.0.0.1")
        .env("DB_PORT", server.port().to_string())
        .env("PAUSE", "0.05");
    let mut run = call.limit(2 * LONG).spawn();
    // A query that fails ends the job, and so this wait.
    run.wait_until("another user", |run| {
        run.stdout().lines().collect::<BTreeSet<_>>().len() >= USERS
    });
    assert!(run.stdout().lines().count() > 5 * USERS, "{}", run.stdout());
}

//! docs/migrate.md: the example does what it stands for.

use serde_json::{Value, json};

use super::page::{ENVIRONMENT, Page, Vault};
use crate::support::Anteroom;

#[test]
fn example_of_the_migration_writes_what_vault_agent_would() {
    let page = Page::read("migrate");
    let call = || {
        Anteroom::new()
            .manifest(page.block("anteroom.toml"))
            .env("ENVIRONMENT", ENVIRONMENT)
    };
    let vault = Vault::of(call(), "timeline");
    vault.admin.enable_kv2("secret");
    let secret = json!({"data": {"api_key": "it's $5", "other": "not asked for"}});
    vault.admin.kv_put("secret/data/timeline/payment", secret);
    let run = vault.introduce(call()).keep_files().shell("true").run();
    run.assert_code(0);
    let file = run.file("app.env");
    assert_eq!(file.text(), "API_KEY='it'\\''s $5'\n");
    assert_eq!(file.mode, 0o440);
    let status = run.file("status.json");
    let status: Value = serde_json::from_str(status.text()).expect("it is JSON");
    assert_eq!(status["dependencies"][0]["refresh"], 600, "{status}");
}

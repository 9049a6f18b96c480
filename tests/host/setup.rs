//! `anteroom policy --setup`: the printed commands, run as they stand, are all that an administrator has to do.
#![expect(
    clippy::disallowed_methods,
    reason = "a test types what is printed, where the shell is found"
)]

use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::openbao::{self, text};
use crate::support::{
    Admin, Anteroom, Manifest, OpenBao, Postgres, Service, TempDir, assert_started, unique,
};

#[track_caller]
fn printed(manifest: &Manifest, options: &[&str]) -> String {
    let run = Anteroom::new()
        .without_secrets_dir()
        .manifest(manifest.clone())
        .arg("policy")
        .args(options)
        .run();
    run.assert_code(0);
    assert_eq!(run.stderr, "");
    run.stdout
}

/// Runs the commands in a shell as this server's administrator, who has OpenBao's command line.
#[track_caller]
fn run_as_administrator(admin: &Admin, commands: &str) {
    let home = TempDir::new();
    symlink(openbao::binary(), home.join("bao")).expect("our own directory can be written");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-euc", commands])
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", format!("{}:{path}", home.path().display()))
        .env("BAO_ADDR", admin.address())
        .env("BAO_TOKEN", admin.root_token())
        .output()
        .expect("there is a shell");
    assert!(output.status.success(), "{output:?}\n{commands}");
}

/// Mints with the printed policy of a minter, and starts what the printed policy of the service is for.
#[track_caller]
fn assert_mints_and_starts(admin: &Admin, manifest: &Manifest, role: &str) {
    let minter = format!("{role}-minter");
    let body = json!({"policies": [minter], "no_default_policy": true, "period": "1h"});
    let made = admin.ok("POST", "auth/token/create", body);
    let mut mint = Anteroom::new()
        .without_secrets_dir()
        .env("VAULT_ADDR", admin.address())
        .env("VAULT_TOKEN", text(&made["auth"]["client_token"]))
        .args(["mint", "--role", role]);
    if let Some(namespace) = admin.namespace_path() {
        mint = mint.env("VAULT_NAMESPACE", namespace);
    }
    let minted = mint.run();
    minted.assert_code(0);
    let run = Anteroom::new()
        .manifest(manifest.clone())
        .token(&minted.stdout)
        .shell("echo the application runs")
        .run();
    assert_started(&run, "after the printed commands alone");
    assert!(!run.stderr.contains("permission denied"), "{run:?}");
}

/// Makes a command of the policy that is only shown, as an administrator does who knows that no other service has it.
fn with_the_shown_policy(commands: &str) -> String {
    let mut text = String::new();
    let mut is_inside = false;
    for line in commands.lines() {
        is_inside |= line.starts_with("# bao policy write ");
        let typed = if is_inside {
            line.trim_start_matches('#').trim_start()
        } else {
            line
        };
        text.push_str(typed);
        text.push('\n');
        is_inside &= line != "# POLICY";
    }
    text
}

/// Takes away what the harness has made, so that the commands alone can put it there.
fn forget(service: &Service) {
    let admin = &service.admin;
    for path in [
        format!("sys/policies/acl/{}", service.policy),
        format!("auth/token/roles/{}", service.token_role),
    ] {
        admin.request("DELETE", &path, Value::Null);
    }
}

#[test]
fn printed_setup_is_all_that_a_start_needs() {
    let service = Service::with_database();
    forget(&service);
    let manifest = service.manifest();
    let commands = printed(&manifest, &["--setup=bao"]);
    let left: Vec<&str> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("#   "))
        .collect();
    let expected = [
        format!("{}/sign/{}", service.pki.mount, service.app),
        service.database_path(),
        service.legacy_path(),
        service.payment_path(),
    ];
    assert_eq!(left, expected, "{commands}");
    run_as_administrator(&service.admin, &commands);
    assert_mints_and_starts(&service.admin, &manifest, &service.token_role);
    // Once more changes nothing.
    run_as_administrator(&service.admin, &commands);
    assert_mints_and_starts(&service.admin, &manifest, &service.token_role);
}

#[test]
fn setup_with_names_that_a_shell_would_read_is_typed_safely() {
    let service = Service::new();
    forget(&service);
    for name in ["it's; a \"b\" $(reboot)", "-rf", "@etc"] {
        let name = unique(name);
        let manifest = service.manifest().set("token.policies", json!([name]));
        let commands = with_the_shown_policy(&printed(&manifest, &["--setup=bao"]));
        run_as_administrator(&service.admin, &commands);
        assert_mints_and_starts(&service.admin, &manifest, &service.token_role);
    }
}

#[test]
fn setup_leaves_a_shared_policy_as_it_is() {
    let services = [Service::new(), Service::new()];
    let admin = &services[0].admin;
    let shared = unique("web");
    let manifests: Vec<Manifest> = services
        .iter()
        .map(|service| service.manifest().set("token.policies", json!([shared])))
        .collect();
    let needs: String = manifests
        .iter()
        .map(|manifest| printed(manifest, &[]))
        .collect();
    admin.policy(&shared, &needs);
    for (service, manifest) in services.iter().zip(&manifests) {
        forget(service);
        run_as_administrator(admin, &printed(manifest, &["--setup=bao"]));
    }
    for (service, manifest) in services.iter().zip(&manifests) {
        assert_mints_and_starts(admin, manifest, &service.token_role);
    }
}

#[test]
fn setup_in_a_namespace_is_that_of_the_namespace() {
    let space = OpenBao::shared().namespace(&unique("setup"));
    let service = Service::build(&space, Some(Postgres::shared()));
    forget(&service);
    let commands = printed(&service.manifest(), &["--setup=bao"]);
    run_as_administrator(&space, &commands);
    let manifest = service.manifest();
    assert_mints_and_starts(&space, &manifest, &service.token_role);
}

#[test]
fn setup_is_for_vault_unless_another_program_is_named() {
    let manifest = Service::new().manifest();
    let vault = printed(&manifest, &["--setup"]);
    let bao = printed(&manifest, &["--setup=bao"]);
    let begins = |text: &str, word: &str| {
        let lines = text.lines().filter(|line| line.starts_with(word));
        lines.count()
    };
    assert_eq!((begins(&vault, "vault "), begins(&vault, "bao ")), (3, 0));
    assert_eq!((begins(&bao, "vault "), begins(&bao, "bao ")), (0, 3));
    let run = Anteroom::new()
        .without_secrets_dir()
        .manifest(manifest)
        .args(["policy", "--setup=curl"])
        .run();
    run.assert_code(64).assert_stderr("vault");
}

//! The commands that an administrator types once for a service.

use std::fmt::Write as _;

use super::{
    CREATE, Policy, TOKEN_ROLE, comment, of_minter, of_service, own_name, policies, quoted,
};
use crate::cli::Client;
use crate::config::Config;
use crate::log::sanitised;

/// Writes the commands that make the service's policy, its token role and its minter's policy.
pub(crate) fn setup(config: &Config, client: Client) -> String {
    let (app, environment) = (&config.app, &config.environment);
    let (own, names) = (own_name(config), policies(config));
    // A policy of another name may be shared with other services, which would lose what is not in this one.
    let is_own = names.contains(&own);
    let name = if is_own { &own } else { &names[0] };
    let mut text = String::new();
    let mut line = |words: &str| comment(&mut text, words);
    line(&format!(
        "The commands that an administrator types once for {app} in {environment}."
    ));
    let policy = of_service(config);
    let paths: Vec<&str> = policy.paths().filter(|path| !is_vaults_own(path)).collect();
    if !paths.is_empty() {
        line(
            "Left to the administrator, for no manifest knows them: the engines behind these paths, with",
        );
        line("their roles (of a PKI, of a database) and their secrets:");
        for path in paths {
            line(&format!("  {path}"));
        }
    }
    if names.len() > 1 {
        let others: Vec<&str> = names
            .iter()
            .filter(|other| *other != name)
            .map(String::as_str)
            .collect();
        line(&format!(
            "All that the service needs is in its policy {name}; also left to the administrator: {}",
            others.join(", ")
        ));
    }
    let program = program(config, client);
    text.push_str("\n# The policy of the service's token.\n");
    if is_own {
        write_policy(&mut text, &program, name, policy);
    } else {
        show_policy(&mut text, &program, name, policy);
    }
    if let Some(role) = config.promise.creation_path.strip_prefix(CREATE) {
        text.push_str("\n# The token role, which alone decides what the service's token may do. How long the token may live is\n");
        text.push_str("# the administrator's choice: with token_period=1h as long as it is renewed within each hour; with\n");
        text.push_str("# token_explicit_max_ttl=720h in its place no longer than that.\n");
        let command = format!(
            "{program} write {} {} {}",
            quoted(&format!("auth/token/roles/{role}")),
            allowed(&names),
            TOKEN_ROLE.join(" ")
        );
        push_line(&mut text, &command);
    } else {
        text.push_str("\n# No token role: `creation_path` in [token] names none, so that what makes the token also says\n");
        text.push_str("# what it may do.\n");
    }
    text.push_str("\n# The policy of the minter, an agent's or that of `anteroom mint`.\n");
    let minter = format!("{own}-minter");
    write_policy(&mut text, &program, &minter, of_minter(config));
    text
}

/// Says whether every Vault has the path, so that there is nothing to make behind it.
fn is_vaults_own(path: &str) -> bool {
    path.starts_with("auth/token/") || path.starts_with("sys/")
}

/// Writes the program's name, behind the namespace where the service has one.
fn program(config: &Config, client: Client) -> String {
    let (program, variable) = match client {
        Client::Vault => ("vault", "VAULT_NAMESPACE"),
        Client::Bao => ("bao", "BAO_NAMESPACE"),
    };
    match &config.promise.namespace {
        Some(namespace) => format!("{variable}={} {program}", quoted(namespace)),
        None => program.to_owned(),
    }
}

/// Writes the command that makes a policy of this name; no line of a policy is the word that ends it.
fn write_policy(text: &mut String, program: &str, name: &str, policy: Policy) {
    // Without the dashes such a name would be a flag.
    let dashes = if name.starts_with('-') { "-- " } else { "" };
    push_line(
        text,
        &format!(
            "{program} policy write {dashes}{} - <<'POLICY'",
            quoted(name)
        ),
    );
    let body = policy.write(String::new());
    let _ = writeln!(text, "{}\nPOLICY", body.trim());
}

/// Writes as a comment the command that makes a policy of this name, which would replace what other services need.
fn show_policy(text: &mut String, program: &str, name: &str, policy: Policy) {
    text.push_str("# Not written: `policies` in [token] gives it a name that is not the service's own, so that it may be\n");
    text.push_str("# another service's too, which would lose what it needs. See what is there, add these paths, or take\n");
    text.push_str("# away each `# ` at the line's beginning:\n#\n");
    let mut command = String::new();
    write_policy(&mut command, program, name, policy);
    for line in command.lines() {
        push_line(text, format!("# {line}").trim_end());
    }
}

/// Writes the parameter of a token role that lists its policies. A value that begins with `@` would be a file's name.
pub(super) fn allowed(names: &[String]) -> String {
    let list = names.join(",");
    let list = if list.starts_with('@') {
        format!("\\{list}")
    } else {
        list
    };
    format!("allowed_policies={}", quoted(&list))
}

/// Writes one line: a name that holds what drives a terminal is none that Vault has.
fn push_line(text: &mut String, line: &str) {
    let _ = writeln!(text, "{}", sanitised(line, usize::MAX));
}

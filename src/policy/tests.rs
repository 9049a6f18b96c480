use std::ffi::OsString;

use super::*;
use crate::cli::{Cli, Client};
use crate::config::{Purpose, Surroundings, resolve};

/// The usual `[token]` table.
const TOKEN: &str = "creation_path = 'auth/token/create/timeline-production'";

/// Resolves the manifest of a service with these lines in its `[token]` table, and these tables besides.
#[track_caller]
fn service_with(token: &str, others: &str) -> Config {
    let manifest = format!(
        "[service]\napp = 'timeline'\nenvironment = 'production'\n[token]\n{token}\n{others}"
    );
    let words = ["anteroom", "policy"].map(OsString::from).to_vec();
    let cli = Cli::read(words).unwrap_or_else(|_| panic!("a command line"));
    resolve(&cli, &manifest, Surroundings::bare(), Purpose::Policy)
        .unwrap_or_else(|error| panic!("{error}\n{manifest}"))
}

/// A policy's parts: the comment at its top, then a stanza for each path.
fn parts(policy: &str) -> Vec<&str> {
    policy.trim_end().split("\n\n").collect()
}

/// Every path with what may be done there: `kv/x: read, update`.
#[track_caller]
fn grants(policy: &str) -> Vec<String> {
    let grant = |part: &&str| {
        let (_, rest) = part.split_once("path \"")?;
        let (path, rest) = rest.split_once("\" {\n  capabilities = [")?;
        let (capabilities, _) = rest.split_once("]\n")?;
        Some(format!("{path}: {}", capabilities.replace('"', "")))
    };
    parts(policy)[1..]
        .iter()
        .map(|part| grant(part).expect(part))
        .collect()
}

/// The stanza of one path.
#[track_caller]
fn stanza<'a>(policy: &'a str, path: &str) -> &'a str {
    let begin = format!("path \"{path}\" {{\n");
    let mut found = parts(policy)
        .into_iter()
        .filter(|part| part.contains(&begin));
    let stanza = found.next().expect(path);
    assert_eq!(found.next(), None, "{path} stands there twice");
    stanza
}

/// The commands in a policy's comments.
fn commands(policy: &str) -> Vec<&str> {
    parts(policy)[0]
        .lines()
        .filter(|line| line.contains("vault "))
        .map(|line| line.trim_start_matches(['#', ' ']))
        .collect()
}

#[test]
fn service_is_granted_what_its_manifest_asks_for() {
    let certificate = "[certificate]\nrole = 'timeline'\ncommon_name = 'timeline.example.io'\n";
    let own = [
        "auth/token/lookup-self: read",
        "auth/token/renew-self: update",
        "auth/token/revoke-self: update",
    ];
    let leases = ["sys/leases/renew: update", "sys/leases/revoke: update"];
    let mount_and_anchors = format!("{certificate}mount = 'pki-eu'\nca_path = 'kv/anchors'");
    for (sentence, tables, asked, is_leased) in [
        ("its own token alone", "", &[][..], false),
        (
            "a certificate has no lease that is renewed",
            certificate,
            &["pki/sign/timeline: update"],
            false,
        ),
        (
            "trust anchors are a path of their own",
            &mount_and_anchors,
            &["pki-eu/sign/timeline: update", "kv/anchors: read"],
            false,
        ),
        (
            "what is read may be leased",
            "[dependencies.db]\npath = 'database/creds/timeline'",
            &["database/creds/timeline: read"],
            true,
        ),
        (
            "what is written may be leased",
            "[dependencies.db]\npath = 'pki/issue/other'\nmethod = 'write'",
            &["pki/issue/other: update"],
            true,
        ),
        (
            "KV version 2 leases nothing",
            "[dependencies.key]\npath = 'secret/data/timeline'",
            &["secret/data/timeline: read"],
            false,
        ),
        (
            "a mount that is called `data` may be any engine's",
            "[dependencies.key]\npath = 'data/timeline'",
            &["data/timeline: read"],
            true,
        ),
        (
            "one dependency of two may be leased",
            "[dependencies.key]\npath = 'secret/data/timeline'\n[dependencies.db]\npath = 'database/creds/timeline'",
            &[
                "secret/data/timeline: read",
                "database/creds/timeline: read",
            ],
            true,
        ),
        (
            "a path that is asked twice in the same way is granted once",
            "[dependencies.a]\npath = 'secret/data/x'\n[dependencies.b]\npath = 'secret/data/x'",
            &["secret/data/x: read"],
            false,
        ),
        (
            "a path that is asked in two ways is granted both",
            "[dependencies.a]\npath = 'secret/data/x'\n[dependencies.b]\npath = 'secret/data/x'\nmethod = 'write'",
            &["secret/data/x: read, update"],
            false,
        ),
    ] {
        let leases = if is_leased { &leases[..] } else { &[] };
        let expected = [asked, &own, leases].concat();
        let policy = service(&service_with(TOKEN, tables));
        assert_eq!(grants(&policy), expected, "{sentence}");
    }
}

#[test]
fn path_stands_behind_every_reason_for_which_it_is_granted() {
    let tables = "[dependencies.a]\npath = 'kv/x'\n[dependencies.b]\npath = 'kv/x'\nmethod = 'write'\n[dependencies.c]\npath = 'secret/data/y'";
    let policy = service(&service_with(TOKEN, tables));
    assert_eq!(
        stanza(&policy, "kv/x"),
        "# start: [dependencies.a]; later: another when its lease cannot be renewed
# start: [dependencies.b]; later: another when its lease cannot be renewed
path \"kv/x\" {
  capabilities = [\"read\", \"update\"]
}"
    );
    assert_eq!(
        stanza(&policy, "secret/data/y"),
        "# start: [dependencies.c]
path \"secret/data/y\" {
  capabilities = [\"read\"]
}"
    );
}

#[test]
fn reason_stands_once_above_a_path() {
    let tables = "[certificates.a]\nrole = 'a'\ncommon_name = 'a.example.io'\nca_path = 'kv/anchors'\n\
        [certificates.b]\nrole = 'b'\ncommon_name = 'b.example.io'\nca_path = 'kv/anchors'";
    let policy = service(&service_with(TOKEN, tables));
    let anchors = stanza(&policy, "kv/anchors");
    assert_eq!(anchors.matches("the trust anchors").count(), 1, "{anchors}");
}

#[test]
fn leases_of_the_own_paths_alone_may_be_renewed_and_revoked() {
    let tables = "[dependencies.a]\npath = 'kv/x'\n[dependencies.b]\npath = 'secret/data/y'\n[dependencies.c]\npath = 'kv/x'\n[dependencies.d]\npath = 'kv/z'";
    let policy = service(&service_with(TOKEN, tables));
    assert_eq!(
        stanza(&policy, "sys/leases/renew"),
        "# later: leases are renewed, of a, c, d and of nothing else; none of KV version 1 has any
path \"sys/leases/renew\" {
  capabilities = [\"update\"]
  allowed_parameters = {
    \"lease_id\"  = [\"kv/x/*\", \"kv/z/*\"]
    \"increment\" = []
  }
}"
    );
    assert_eq!(
        stanza(&policy, "sys/leases/revoke"),
        "# later: what was replaced ends after `revoke_after` instead of with its lease, of a, c, d; none of KV version 1 has any
path \"sys/leases/revoke\" {
  capabilities = [\"update\"]
  allowed_parameters = {
    \"lease_id\" = [\"kv/x/*\", \"kv/z/*\"]
  }
}"
    );
}

#[test]
fn secret_that_is_read_again_needs_no_right_to_leases() {
    let tables = "[dependencies.a]\npath = 'kv/x'\nrefresh = '5m'\n[dependencies.b]\npath = 'secret/data/y'\nrefresh = '5m'";
    let policy = service(&service_with(TOKEN, tables));
    assert_eq!(
        stanza(&policy, "kv/x"),
        "# start: [dependencies.a]; later: read again every `refresh`\npath \"kv/x\" {\n  capabilities = [\"read\"]\n}"
    );
    assert!(!policy.contains("sys/leases"), "{policy}");
}

#[test]
fn limit_of_leases_stands_at_their_own_path() {
    let tables = "[dependencies.odd]\npath = 'sys/leases/renew'\nmethod = 'write'";
    let policy = service(&service_with(TOKEN, tables));
    assert!(stanza(&policy, "sys/leases/renew").contains("\"lease_id\""));
    assert!(!stanza(&policy, "auth/token/revoke-self").contains("allowed_parameters"));
}

#[test]
fn path_that_is_a_pattern_to_vault_is_named() {
    for (path, is_pattern) in [
        ("secret/data/timeline", false),
        ("secret/data/*", true),
        ("secret/data/time*", true),
        ("secret/data/*/line", false),
        ("secret/data/+/payment", true),
        ("+/data/payment", true),
        ("secret/data/+", true),
        ("secret/data/time+line", false),
    ] {
        let tables = format!("[dependencies.a]\npath = '{path}'");
        let policy = service(&service_with(TOKEN, &tables));
        let caution = "# CAUTION: to a policy this is a pattern, which grants more than this path";
        let first = stanza(&policy, path).lines().next();
        assert_eq!(first == Some(caution), is_pattern, "{policy}");
    }
}

#[test]
fn minter_is_granted_one_token_role_and_what_an_agent_does() {
    let policy = minter(&service_with(TOKEN, "[dependencies.a]\npath = 'kv/x'"));
    let expected = [
        "auth/token/create/timeline-production: update",
        "auth/token/revoke-accessor: update",
        "auth/token/lookup-self: read",
        "auth/token/renew-self: update",
        "auth/token/revoke-self: update",
    ];
    assert_eq!(grants(&policy), expected);
}

#[test]
fn wrapped_token_waits_no_longer_than_the_manifest_says() {
    for (said, seconds) in [
        ("", 30),
        ("max_wrap_ttl = '90s'", 90),
        ("max_wrap_ttl = '90500ms'", 90),
        ("max_wrap_ttl = '500ms'", 1),
    ] {
        let policy = minter(&service_with(&format!("{TOKEN}\n{said}"), ""));
        let expected = format!(
            "# tokens for the service: wrapped alone, and for no longer
path \"auth/token/create/timeline-production\" {{
  capabilities = [\"update\"]
  min_wrapping_ttl = \"1s\"
  max_wrapping_ttl = \"{seconds}s\"
}}"
        );
        let path = "auth/token/create/timeline-production";
        assert_eq!(stanza(&policy, path), expected, "{said}");
    }
}

#[test]
fn policy_is_named_as_promised_or_by_the_token_role() {
    let (role, no_role) = (
        "creation_path = 'auth/token/create/eu'",
        "creation_path = 'auth/token/create'",
    );
    for (sentence, creation_path, promised, expected) in [
        ("promised", role, "policies = ['a', 'b']", &["a", "b"][..]),
        (
            "`default` is no policy of the service's own",
            role,
            "policies = ['default', 'a']",
            &["a"],
        ),
        (
            "`default` alone promises no name",
            role,
            "policies = ['default']",
            &["eu"],
        ),
        ("not promised", role, "", &["eu"]),
        ("no role", no_role, "", &["timeline-production"]),
    ] {
        let config = service_with(&format!("{creation_path}\n{promised}"), "");
        assert_eq!(policies(&config), expected, "{sentence}");
        let command = format!("vault policy write {} -", expected[0]);
        assert_eq!(commands(&service(&config)), [command], "{sentence}");
    }
}

#[test]
fn command_in_a_comment_does_what_it_says_in_a_shell() {
    for (sentence, token, namespace, policy, role) in [
        (
            "ordinary names stand as they are",
            "creation_path = 'auth/token/create/timeline-eu_1.0'",
            "",
            "vault policy write timeline-eu_1.0 -",
            "vault write auth/token/roles/timeline-eu_1.0 allowed_policies=timeline-eu_1.0 \\",
        ),
        (
            "the namespace is the command's",
            TOKEN,
            "payments/eu",
            "VAULT_NAMESPACE=payments/eu vault policy write timeline-production -",
            "VAULT_NAMESPACE=payments/eu vault write auth/token/roles/timeline-production allowed_policies=timeline-production \\",
        ),
        (
            "a role",
            "creation_path = 'auth/token/create/$(reboot)'",
            "",
            "vault policy write '$(reboot)' -",
            "vault write 'auth/token/roles/$(reboot)' allowed_policies='$(reboot)' \\",
        ),
        (
            "a namespace",
            TOKEN,
            "eu;reboot",
            "VAULT_NAMESPACE='eu;reboot' vault policy write timeline-production -",
            "VAULT_NAMESPACE='eu;reboot' vault write auth/token/roles/timeline-production allowed_policies=timeline-production \\",
        ),
        (
            "policies",
            "creation_path = 'auth/token/create/eu'\npolicies = ['a', 'b c', 'd\"']",
            "",
            "vault policy write a -",
            "vault write auth/token/roles/eu allowed_policies='a,b c,d\"' \\",
        ),
        (
            "an end of line",
            "creation_path = 'auth/token/create/eu'\npolicies = [\"a\\nreboot\"]",
            "",
            "vault policy write 'a\\u{a}reboot' -",
            "vault write auth/token/roles/eu allowed_policies='a\\u{a}reboot' \\",
        ),
    ] {
        let tables = format!("[vault]\nnamespace = '{namespace}'");
        let config = service_with(token, &tables);
        assert_eq!(commands(&service(&config)), [policy], "{sentence}");
        assert_eq!(commands(&minter(&config)), [role], "{sentence}");
    }
}

#[test]
fn word_of_a_command_is_quoted_where_a_shell_reads_it_otherwise() {
    for plain in ["timeline-eu_1.0", "auth/token/roles/eu", "a,b", "a+b:c@d"] {
        assert_eq!(quoted(plain), plain);
    }
    for (sentence, word, expected) in [
        ("a command in its place", "$(reboot)", "'$(reboot)'"),
        ("another command behind it", "a;reboot", "'a;reboot'"),
        ("a command beside it", "a&reboot", "'a&reboot'"),
        ("names of files", "a*", "'a*'"),
        ("a file's content", "a<b", "'a<b'"),
        ("a home directory", "~root", "'~root'"),
        ("a command's place, to zsh", "=reboot", "'=reboot'"),
        ("an earlier command", "a!b", "'a!b'"),
        ("two words", "a b", "'a b'"),
        ("a comment", "#a", "'#a'"),
        (
            "the end of a quotation",
            "a'$(reboot)'b",
            r"'a'\''$(reboot)'\''b'",
        ),
        ("letters of other scripts", "é", "'é'"),
        ("no word at all", "", "''"),
    ] {
        assert_eq!(quoted(word), expected, "{sentence}");
    }
}

#[test]
fn setup_has_a_token_role_where_the_path_names_one() {
    for (creation_path, is_written) in [
        ("auth/token/create/eu", true),
        ("auth/token/create", false),
        ("auth/approle/login", false),
    ] {
        let config = service_with(&format!("creation_path = '{creation_path}'"), "");
        let text = setup(&config, Client::Vault);
        let has = |word: &str| text.lines().any(|line| line.starts_with(word));
        assert_eq!(
            has("vault write auth/token/roles/eu "),
            is_written,
            "{text}"
        );
        assert_eq!(has("# No token role"), !is_written, "{text}");
    }
}

#[test]
fn setup_writes_no_policy_that_may_be_another_services() {
    let no_role = "creation_path = 'auth/token/create'";
    for (sentence, token, promised, written, shown) in [
        ("not promised", TOKEN, "", Some("timeline-production"), None),
        (
            "promised by the role's name, behind another",
            TOKEN,
            "policies = ['web', 'timeline-production']",
            Some("timeline-production"),
            None,
        ),
        (
            "promised by other names",
            TOKEN,
            "policies = ['web', 'b']",
            None,
            Some("web"),
        ),
        (
            "promised without a role",
            no_role,
            "policies = ['timeline-production']",
            Some("timeline-production"),
            None,
        ),
        (
            "of another name without a role",
            no_role,
            "policies = ['web']",
            None,
            Some("web"),
        ),
    ] {
        let text = setup(
            &service_with(&format!("{token}\n{promised}"), ""),
            Client::Vault,
        );
        let named = |start: &str| -> Vec<String> {
            text.lines()
                .filter_map(|line| line.strip_prefix(start)?.strip_suffix(" - <<'POLICY'"))
                .map(str::to_owned)
                .collect()
        };
        let minter = "timeline-production-minter";
        let expected: Vec<&str> = written.into_iter().chain([minter]).collect();
        assert_eq!(named("vault policy write "), expected, "{sentence}: {text}");
        let expected: Vec<&str> = shown.into_iter().collect();
        assert_eq!(
            named("# vault policy write "),
            expected,
            "{sentence}: {text}"
        );
        assert_eq!(
            text.contains("another service's"),
            shown.is_some(),
            "{text}"
        );
    }
}

#[test]
fn setup_names_the_paths_that_are_left() {
    let tables =
        "[dependencies.db]\npath = 'database/creds/timeline'\n[dependencies.key]\npath = 'kv/x'";
    for (tables, left) in [
        ("", &[][..]),
        (tables, &["database/creds/timeline", "kv/x"]),
    ] {
        let text = setup(&service_with(TOKEN, tables), Client::Vault);
        let named: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("#   "))
            .collect();
        assert_eq!(named, left, "{text}");
        let says = text.contains("Left to the administrator");
        assert_eq!(says, !left.is_empty(), "{text}");
        assert!(!text.contains("also left"), "{text}");
    }
}

#[test]
fn setup_is_for_one_program_and_namespace() {
    for (client, namespace, start) in [
        (Client::Vault, "", "vault "),
        (Client::Bao, "", "bao "),
        (Client::Vault, "eu", "VAULT_NAMESPACE=eu vault "),
        (Client::Bao, "eu", "BAO_NAMESPACE=eu bao "),
    ] {
        let tables = format!("[vault]\nnamespace = '{namespace}'");
        let text = setup(&service_with(TOKEN, &tables), client);
        let commands = text.lines().filter(|line| line.starts_with(start));
        assert_eq!(commands.count(), 3, "{text}");
    }
}

#[test]
fn setup_names_the_policies_that_are_left() {
    for (promised, own, left) in [
        ("['a', 'b', 'c']", "a", "b, c"),
        (
            "['a', 'timeline-production', 'b']",
            "timeline-production",
            "a, b",
        ),
    ] {
        let config = service_with(&format!("{TOKEN}\npolicies = {promised}"), "");
        let text = setup(&config, Client::Vault);
        for line in [
            format!("is in its policy {own}; also left to the administrator: {left}\n"),
            format!("allowed_policies={} ", policies(&config).join(",")),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }
}

#[test]
fn name_in_a_setup_ends_no_line_of_a_command() {
    let config = service_with(
        &format!("{TOKEN}\npolicies = [\"a\\nPOLICY\\nreboot\"]"),
        "",
    );
    let text = setup(&config, Client::Vault);
    let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    let commands = (lines("vault "), lines("# vault "));
    assert_eq!(commands, (2, 1), "{text}");
    assert_eq!((lines("POLICY"), lines("# POLICY")), (1, 1), "{text}");
    assert!(
        !text.lines().any(|line| line.starts_with("reboot")),
        "{text}"
    );
}

#[test]
fn token_role_is_presumed_where_tokens_are_made_by_one() {
    for (creation_path, is_presumed) in [
        ("auth/token/create/eu", true),
        ("auth/token/create", false),
        ("auth/token/create-orphan", false),
    ] {
        let policy = minter(&service_with(
            &format!("creation_path = '{creation_path}'"),
            "",
        ));
        let head = parts(&policy)[0];
        assert_eq!(
            head.contains("It presumes this token role"),
            is_presumed,
            "{head}"
        );
        assert_eq!(head.lines().count() > 1, is_presumed, "{head}");
    }
}

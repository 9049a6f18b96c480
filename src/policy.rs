//! The least Vault policies: one for the service's own token, and one for its minter.

mod setup;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use crate::config::{Config, Method, TrustAnchors};
use crate::log::sanitised;

pub(crate) use setup::setup;

/// The life of a wrapping token, where the manifest names no other.
const WRAP_TTL: Duration = Duration::from_secs(30);
/// The path below which the tokens of a token role are made.
const CREATE: &str = "auth/token/create/";
/// The parameters of a token role besides its policies, the life of its tokens last.
const TOKEN_ROLE: [&str; 2] = [
    "token_no_default_policy=true token_type=service orphan=true renewable=true",
    "token_period=1h",
];

const READ: &str = "read";
const UPDATE: &str = "update";

/// Writes the policy of the service's token, for every request from its start to its end.
pub(crate) fn service(config: &Config) -> String {
    let mut text = String::new();
    let mut line = |words: &str| comment(&mut text, words);
    let (app, environment) = (&config.app, &config.environment);
    line(&format!(
        "The least that the token of {app} in {environment} needs, without the policy `default`."
    ));
    line(&format!(
        "{}vault policy write {} -",
        within(config),
        quoted(&policies(config)[0])
    ));
    of_service(config).write(text)
}

fn of_service(config: &Config) -> Policy {
    let mut policy = Policy::default();
    for certificate in &config.certificates {
        policy.grant(
            &format!("{}/sign/{}", certificate.mount, certificate.role),
            UPDATE,
            &format!("start: {}; later: another in good time", certificate.name),
        );
        if let TrustAnchors::Path(path) = &certificate.trust_anchors {
            let why = "with each certificate: the trust anchors (`ca_path`); a PKI answers cert/ca_chain without a policy";
            policy.grant(path, READ, why);
        }
    }
    for dependency in &config.dependencies {
        let capability = match dependency.method {
            Method::Read => READ,
            Method::Write(_) => UPDATE,
        };
        let again = if dependency.may_have_lease() {
            "; later: another when its lease cannot be renewed"
        } else if dependency.refresh.is_some() {
            "; later: read again every `refresh`"
        } else {
            ""
        };
        let why = format!("start: [dependencies.{}]{again}", dependency.name);
        policy.grant(&dependency.path, capability, &why);
    }
    let own = [
        (
            "lookup-self",
            READ,
            "start: is it the promised token? Later: does it still live?",
        ),
        ("renew-self", UPDATE, "later: the token is renewed"),
        (
            "revoke-self",
            UPDATE,
            "a start that fails, and the end: nothing is left behind",
        ),
    ];
    policy.grant_tokens(&own);
    policy.grant_leases(config);
    policy
}

/// Writes the policy of the token that mints for the service, in `anteroom mint` or an agent.
pub(crate) fn minter(config: &Config) -> String {
    let mut text = String::new();
    let mut line = |words: &str| comment(&mut text, words);
    let (app, environment) = (&config.app, &config.environment);
    line(&format!(
        "The least that the minter for {app} in {environment} needs; `anteroom mint` needs the first path alone."
    ));
    if let Some(role) = config.promise.creation_path.strip_prefix(CREATE) {
        line("It presumes this token role, which alone decides what the service's token may do:");
        line(&format!(
            "  {}vault write {} {} \\",
            within(config),
            quoted(&format!("auth/token/roles/{role}")),
            setup::allowed(&policies(config))
        ));
        let [kind, life] = TOKEN_ROLE;
        line(&format!("    {kind} \\"));
        line(&format!("    {life}"));
        line(
            "How long a token may live is the operator's choice. With token_period=1h: as long as it is renewed within",
        );
        line(
            "each hour, by a thief too. With token_explicit_max_ttl=720h in its place: no longer than that, and the",
        );
        line(
            "service has to start again. With neither the minting side chooses, up to the server's maximum.",
        );
    }
    of_minter(config).write(text)
}

fn of_minter(config: &Config) -> Policy {
    let path = &config.promise.creation_path;
    let longest = config.promise.max_wrap_ttl.unwrap_or(WRAP_TTL).as_secs();
    let mut policy = Policy::default();
    let tokens = policy.grant(
        path,
        UPDATE,
        "tokens for the service: wrapped alone, and for no longer",
    );
    tokens.limits = vec![
        "min_wrapping_ttl = \"1s\"".to_owned(),
        format!("max_wrapping_ttl = \"{}s\"", longest.max(1)),
    ];
    let agents = [
        (
            "revoke-accessor",
            UPDATE,
            "an agent: a token ends with its container (this ends any token whose accessor is known)",
        ),
        (
            "lookup-self",
            READ,
            "an agent: how long does its own token live?",
        ),
        ("renew-self", UPDATE, "an agent: its own token is renewed"),
        (
            "revoke-self",
            UPDATE,
            "an agent: a token that it logged in for or unwrapped ends with it, or when another one replaces it",
        ),
    ];
    policy.grant_tokens(&agents);
    policy
}

/// Chooses the name that is this service's alone: that of its token role.
fn own_name(config: &Config) -> String {
    match config.promise.creation_path.strip_prefix(CREATE) {
        Some(role) => role.to_owned(),
        None => format!("{}-{}", config.app, config.environment),
    }
}

/// Lists the names of the service's policies: as promised, else its own.
fn policies(config: &Config) -> Vec<String> {
    let promise = &config.promise;
    let promised = promise.policies.iter().flatten();
    let mut names: Vec<String> = promised
        .filter(|name| *name != "default")
        .cloned()
        .collect();
    if names.is_empty() {
        names.push(own_name(config));
    }
    names
}

/// Writes the variable in front of a command, where the service has a namespace.
fn within(config: &Config) -> String {
    match &config.promise.namespace {
        Some(namespace) => format!("VAULT_NAMESPACE={} ", quoted(namespace)),
        None => String::new(),
    }
}

/// Quotes a word of a shell's command, so that no shell reads it as anything else: names come from the manifest, and
/// an operator may copy the command.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:+@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

/// Paths with what may be done there, each path once.
#[derive(Default)]
struct Policy(Vec<Stanza>);

struct Stanza {
    path: String,
    capabilities: Vec<&'static str>,
    limits: Vec<String>,
    comments: Vec<String>,
}

impl Stanza {
    fn new(path: &str) -> Self {
        let is_pattern = path.ends_with('*') || path.split('/').any(|part| part == "+");
        let caution = "CAUTION: to a policy this is a pattern, which grants more than this path";
        Self {
            path: path.to_owned(),
            capabilities: Vec::new(),
            limits: Vec::new(),
            comments: is_pattern.then(|| caution.to_owned()).into_iter().collect(),
        }
    }
}

impl Policy {
    /// Grants a capability at the path; the stanza is the path's own, also where the path was granted something
    /// before.
    fn grant(&mut self, path: &str, capability: &'static str, why: &str) -> &mut Stanza {
        let known = self.0.iter().position(|stanza| stanza.path == path);
        let at = known.unwrap_or(self.0.len());
        if known.is_none() {
            self.0.push(Stanza::new(path));
        }
        let stanza = &mut self.0[at];
        if !stanza.capabilities.contains(&capability) {
            stanza.capabilities.push(capability);
        }
        if !stanza.comments.iter().any(|comment| comment == why) {
            stanza.comments.push(why.to_owned());
        }
        stanza
    }

    fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|stanza| &*stanza.path)
    }

    /// Grants paths below `auth/token/`.
    fn grant_tokens(&mut self, grants: &[(&str, &'static str, &str)]) {
        for (name, capability, why) in grants {
            self.grant(&format!("auth/token/{name}"), capability, why);
        }
    }

    /// Grants renewing and revoking leases of the service's own paths. Vault asks nothing else about a lease: without a limit
    /// the id of any lease would do, and ids are in logs and in `status.json`.
    ///
    /// The lease of a certificate is neither renewed nor revoked, so that its path is not among them.
    fn grant_leases(&mut self, config: &Config) {
        let leased = || {
            config
                .dependencies
                .iter()
                .filter(|one| one.may_have_lease())
        };
        let mut ids: Vec<String> = Vec::new();
        for dependency in leased() {
            let id = format!("\"{}/*\"", dependency.path);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        if ids.is_empty() {
            return;
        }
        let names: Vec<&str> = leased().map(|one| one.name.as_str()).collect();
        let (names, ids) = (names.join(", "), ids.join(", "));
        let unless = "none of KV version 1 has any";
        let parameters = |fields: &[String]| {
            let mut lines = vec!["allowed_parameters = {".to_owned()];
            lines.extend(fields.iter().map(|field| format!("  {field}")));
            lines.push("}".to_owned());
            lines
        };
        let renewal = self.grant(
            "sys/leases/renew",
            UPDATE,
            &format!("later: leases are renewed, of {names} and of nothing else; {unless}"),
        );
        renewal.limits = parameters(&[
            format!("\"lease_id\"  = [{ids}]"),
            "\"increment\" = []".to_owned(),
        ]);
        let revocation = self.grant(
            "sys/leases/revoke",
            UPDATE,
            &format!(
                "later: what was replaced ends after `revoke_after` instead of with its lease, of {names}; {unless}"
            ),
        );
        revocation.limits = parameters(&[format!("\"lease_id\" = [{ids}]")]);
    }

    /// Writes the policy as HCL, behind this text.
    fn write(&self, mut text: String) -> String {
        for stanza in &self.0 {
            text.push('\n');
            for words in &stanza.comments {
                comment(&mut text, words);
            }
            let capabilities = stanza.capabilities.join("\", \"");
            let _ = writeln!(
                text,
                "path \"{}\" {{\n  capabilities = [\"{capabilities}\"]",
                stanza.path
            );
            for limit in &stanza.limits {
                let _ = writeln!(text, "  {limit}");
            }
            text.push_str("}\n");
        }
        text
    }
}

/// Writes a comment of one line, whatever the words hold.
fn comment(text: &mut String, words: &str) {
    let _ = writeln!(text, "# {}", sanitised(words, 2048));
}

#[cfg(test)]
mod tests;

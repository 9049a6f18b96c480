//! `/etc/anteroom-agent.toml`: where Docker and Vault are, the agent's own token, and who may have which.

mod allow;
mod labels;
mod reader;
mod roles;
mod token;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::identity::{LabelNames, Rule};
use crate::config::{self, Vault};
use crate::environment::Environment;
use crate::manifest::table::{self, Table};
use crate::manifest::{Mistake, read_vault};
use crate::text;

use allow::{role_name, token_path_of};
use reader::{Reader, absolute};
use roles::Grant;

pub(super) use token::Login;

/// The longest life of a wrapping token, which is also the default.
const WRAP_TTL: Duration = Duration::from_secs(30);
/// The life that a service's token has until it is renewed.
const TTL: Duration = Duration::from_secs(3600);
/// A container that starts more often than this in a minute has to wait.
const STARTS_PER_MINUTE: u32 = 10;
const TOKEN_PATH: &str = "/run/secrets/.anteroom-token";
const ROLE: &str = "${app}-${environment}";

/// Everything that the agent needs to know.
pub struct Configuration {
    /// The engine's socket.
    pub docker: PathBuf,
    /// Where the host's processes are (proc(5)).
    pub proc: PathBuf,
    /// Where Vault is.
    pub vault: Vault,
    /// Where the agent's own token comes from.
    pub login: Login,
    /// The labels that are looked at.
    pub labels: LabelNames,
    /// Life of a wrapping token.
    pub wrap_ttl: Duration,
    /// Life of a client token until it is renewed, where its role has no period.
    pub ttl: Duration,
    /// How many tokens one container may have in a minute.
    pub starts_per_minute: u32,
    /// Where a token goes in its container.
    pub token_path: String,
    /// The socket at which containers ask for their token.
    pub socket: Option<PathBuf>,
    /// The socket for break-glass.
    pub control: PathBuf,
    /// The file that says what was handed out.
    pub register: PathBuf,
    /// Where metrics and health are.
    pub listen: Option<Listen>,
    /// This host's name, for the tokens' metadata.
    pub host: String,
    /// Who may have which token.
    pub rules: Vec<Rule>,
    /// The notices say what was decided that the operator may not expect.
    pub notices: Vec<String>,
}

/// Where metrics and health are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On a loopback address.
    Tcp(SocketAddr),
    /// On a socket in the file system.
    Unix(PathBuf),
}

/// Reads the configuration; all mistakes are reported at once.
pub(super) fn read(
    text: &str,
    environment: &Environment,
    hostname: &str,
) -> Result<Configuration, Vec<Mistake>> {
    let (root, mistakes) = table::read(text);
    let mut reader = Reader { mistakes };
    let configuration = reader.configuration(root, environment, hostname);
    let Reader { mut mistakes } = reader;
    mistakes.sort_by_key(|mistake| mistake.place);
    match configuration {
        Some(configuration) if mistakes.is_empty() => Ok(configuration),
        _ => Err(mistakes),
    }
}

impl Reader {
    fn configuration(
        &mut self,
        mut root: Table<'_>,
        environment: &Environment,
        hostname: &str,
    ) -> Option<Configuration> {
        let mut docker = None;
        let mut proc = None;
        if let Some(mut t) = root.table("docker") {
            docker = self.parsed(t.text("socket"), absolute);
            proc = self.parsed(t.text("proc"), absolute);
            t.finish(&mut self.mistakes);
        }
        let mut vault = crate::manifest::Vault::default();
        if let Some(mut t) = root.table("vault") {
            vault = read_vault(&mut t);
            t.finish(&mut self.mistakes);
        }
        if let Some(deadline) = &vault.deadline {
            let text = "`deadline` in [vault] is a start's; the agent has none";
            self.mistake(Some(deadline.place), text);
        }
        let (vault, mistakes, notices) = config::vault_alone(&vault, environment);
        self.mistakes.extend(mistakes);
        let login = self.login(&mut root);
        let labels = self.labels(&mut root);
        let mut wrap_ttl = None;
        let mut ttl = None;
        let mut starts_per_minute = None;
        let mut role = None;
        if let Some(mut t) = root.table("mint") {
            wrap_ttl = self.parsed(t.text("wrap_ttl"), short);
            ttl = self.parsed(t.text("ttl"), text::whole_seconds);
            starts_per_minute = t.number("starts_per_minute");
            if starts_per_minute == Some(0) {
                let text = "`starts_per_minute` in [mint]: with 0 no container could start";
                self.mistake(None, text);
            }
            role = self.parsed(t.text("role"), role_name);
            t.finish(&mut self.mistakes);
        }
        let mut token_path = None;
        let mut socket = None;
        if let Some(mut t) = root.table("delivery") {
            token_path = self.parsed(t.text("path"), token_path_of);
            socket = self.parsed(t.text("socket"), absolute);
            t.finish(&mut self.mistakes);
        }
        let mut register = None;
        let mut control = None;
        let mut listen = None;
        let mut host = None;
        if let Some(mut t) = root.table("agent") {
            register = self.parsed(t.text("register"), absolute);
            control = self.parsed(t.text("control"), absolute);
            listen = self.parsed(t.text("listen"), listener);
            host = t.text("host").map(|host| host.value);
            t.finish(&mut self.mistakes);
        }
        let control: PathBuf = control.unwrap_or_else(|| "/run/anteroom-agent/control.sock".into());
        let register: PathBuf =
            register.unwrap_or_else(|| "/var/lib/anteroom-agent/register.json".into());
        let own = [
            ("control", Some(&control)),
            ("register", Some(&register)),
            (
                "listen",
                match &listen {
                    Some(Listen::Unix(path)) => Some(path),
                    _ => None,
                },
            ),
        ];
        let shared = socket.as_deref().and_then(Path::parent);
        for (key, path) in own {
            if path
                .zip(shared)
                .is_some_and(|(path, shared)| path.starts_with(shared))
            {
                let text = format!(
                    "`{key}` in [agent] lies in the directory of `socket` in [delivery], which is mounted into containers"
                );
                self.mistake(None, text);
            }
        }
        let role = role.unwrap_or_else(|| ROLE.to_owned());
        let mut rules = Vec::new();
        let mut grants = Vec::new();
        for t in root.list("allow") {
            let place = t.place();
            let Some((rule, is_named)) = self.rule(t, &role, socket.is_some()) else {
                continue;
            };
            grants.extend(rule.environments.iter().map(|environment| Grant {
                app: rule.app.clone(),
                environment: environment.clone(),
                role: rule.role_in(environment),
                is_named,
                place,
            }));
            rules.push(rule);
        }
        for (place, text) in roles::clashes(&grants) {
            self.mistake(Some(place), text);
        }
        if rules.is_empty() && self.mistakes.is_empty() {
            self.mistake(None, "no [[allow]]: no container could have a token");
        }
        root.finish(&mut self.mistakes);
        Some(Configuration {
            docker: docker.unwrap_or_else(|| "/var/run/docker.sock".into()),
            proc: proc.unwrap_or_else(|| "/proc".into()),
            vault: vault?,
            login: login?,
            labels,
            wrap_ttl: wrap_ttl.unwrap_or(WRAP_TTL),
            ttl: ttl.unwrap_or(TTL),
            starts_per_minute: starts_per_minute.unwrap_or(STARTS_PER_MINUTE),
            token_path: token_path.unwrap_or_else(|| TOKEN_PATH.to_owned()),
            socket,
            control,
            register,
            listen,
            host: host.unwrap_or_else(|| hostname.to_owned()),
            rules,
            notices,
        })
    }
}

fn short(text: &str) -> Result<Duration, String> {
    text::whole_seconds(text).and_then(|ttl| {
        if ttl <= WRAP_TTL {
            Ok(ttl)
        } else {
            Err("a wrapping token lives 30 s at the most".to_owned())
        }
    })
}

/// `127.0.0.1:9180`, `[::1]:9180` or `unix:/run/…`.
fn listener(text: &str) -> Result<Listen, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return absolute(path).map(Listen::Unix);
    }
    let address: SocketAddr = text.parse().map_err(|_| {
        "a listener is an address and a port, as in `127.0.0.1:9180`, or `unix:` and a path"
            .to_owned()
    })?;
    if address.ip().is_loopback() {
        Ok(Listen::Tcp(address))
    } else {
        Err("metrics are for this host: listen on a loopback address".to_owned())
    }
}

#[cfg(test)]
mod tests;

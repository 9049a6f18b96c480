//! `/etc/anteroom-agent.toml`: where Docker and Vault are, the agent's own token, and who may have which.
//!
//! Each table of the file is read in a file of its own; `[vault]` is read like the entrypoint's.

mod allow;
mod delivery;
mod docker;
mod labels;
mod mint;
mod own;
mod reader;
mod roles;
mod token;

use super::identity::{LabelNames, Rule};
use crate::config::{self, Vault};
use crate::environment::Environment;
use crate::manifest::table::{self, Table};
use crate::manifest::{self, Mistake};

use delivery::Delivery;
use docker::Docker;
use mint::Mint;
use own::Own;
use reader::Reader;

pub(super) use own::Listen;
pub(super) use token::Login;

/// Everything that the agent needs to know.
pub struct Configuration {
    pub docker: Docker,
    pub vault: Vault,
    /// The table `[token]`.
    pub login: Login,
    pub labels: LabelNames,
    pub mint: Mint,
    pub delivery: Delivery,
    /// The table `[agent]`.
    pub own: Own,
    /// The tables `[[allow]]`, at least one.
    pub rules: Vec<Rule>,
    /// The notices say what was decided that the operator may not expect.
    pub notices: Vec<String>,
}

/// Reads the configuration; all mistakes are reported at once.
pub(super) fn read(
    text: &str,
    environment: &Environment,
    hostname: &str,
) -> Result<Configuration, Vec<Mistake>> {
    let (root, mistakes) = table::read(text);
    let mut reader = Reader { mistakes };
    let configuration = Configuration::read(root, environment, hostname, &mut reader);
    let Reader { mut mistakes } = reader;
    mistakes.sort_by_key(|mistake| mistake.place);
    match configuration {
        Some(configuration) if mistakes.is_empty() => Ok(configuration),
        _ => Err(mistakes),
    }
}

impl Configuration {
    fn read(
        mut root: Table<'_>,
        environment: &Environment,
        hostname: &str,
        reader: &mut Reader,
    ) -> Option<Configuration> {
        let docker = Docker::read(&mut root, reader);
        let (vault, notices) = vault(&mut root, environment, reader);
        let login = Login::read(&mut root, reader);
        let labels = LabelNames::read(&mut root, reader);
        let mint = Mint::read(&mut root, reader);
        let delivery = Delivery::read(&mut root, reader);
        let own = Own::read(&mut root, hostname, reader);
        own.check_apart_from(delivery.socket.as_deref(), reader);
        let rules = allow::read(&mut root, &mint.role, delivery.socket.is_some(), reader);
        root.finish(&mut reader.mistakes);
        Some(Configuration {
            docker,
            vault: vault?,
            login: login?,
            labels,
            mint,
            delivery,
            own,
            rules,
            notices,
        })
    }
}

/// Reads `[vault]`, and what was decided there that the operator may not expect.
fn vault(
    root: &mut Table<'_>,
    environment: &Environment,
    reader: &mut Reader,
) -> (Option<Vault>, Vec<String>) {
    let mut vault = manifest::Vault::default();
    if let Some(mut t) = root.table("vault") {
        vault = manifest::read_vault(&mut t);
        t.finish(&mut reader.mistakes);
    }
    if let Some(deadline) = &vault.deadline {
        let text = "`deadline` in [vault] is a start's; the agent has none";
        reader.mistake(Some(deadline.place), text);
    }
    let (vault, mistakes, notices) = config::vault_alone(&vault, environment);
    reader.mistakes.extend(mistakes);
    (vault, notices)
}

#[cfg(test)]
mod tests;

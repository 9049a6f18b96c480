//! Where the token arrives, and where the files go.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Resolver;
use crate::cli::Cli;
use crate::config::{Delivery, Purpose, layout};
use crate::manifest::{self, Manifest};
use crate::text::named;

/// The default directory of the files.
pub(crate) const SECRETS_DIR: &str = "/run/secrets";
/// The default wait for an agent's token.
const AGENT_WAIT: Duration = Duration::from_secs(20);

impl Resolver<'_> {
    /// Chooses where the token arrives: one that is handed in another way wins over the agent's.
    pub(super) fn delivery(
        &mut self,
        cli: &Cli,
        table: &manifest::Token,
        secrets_dir: Option<&Path>,
    ) -> Delivery {
        let from = table.from.as_ref();
        let from_agent = from.is_some_and(|value| {
            self.parsed(value, |text| named(text, &[("agent", ())]))
                .is_some()
        });
        let received = &self.surroundings.environment;
        let expects_agent = from_agent && !received.has_token("ANTEROOM_TOKEN");
        let agents = || Some(secrets_dir?.join(layout::TOKEN));
        let default = if from_agent {
            AGENT_WAIT
        } else {
            Duration::ZERO
        };
        Delivery {
            path: (cli.token_file.clone()).or_else(|| expects_agent.then(agents).flatten()),
            wait: cli.token_wait.unwrap_or(default),
        }
    }

    pub(super) fn secrets_dir(&mut self, cli: &Cli, manifest: &Manifest) -> Option<PathBuf> {
        let written = match &manifest.secrets.directory {
            Some(value) => self.text(value).map(PathBuf::from),
            None => None,
        };
        let directory = match (&cli.secrets_dir, written, self.purpose) {
            (Some(typed), ..) => typed.clone(),
            (None, _, Purpose::DryRun) => return None,
            (None, written, _) => written.unwrap_or_else(|| SECRETS_DIR.into()),
        };
        if !directory.is_absolute()
            || directory
                .components()
                .any(|part| part == std::path::Component::ParentDir)
        {
            let written = manifest.secrets.directory.as_ref();
            let place = written
                .filter(|_| cli.secrets_dir.is_none())
                .map(|at| at.place);
            self.report_mistake(
                place,
                format!(
                    "the secrets directory `{}` must be an absolute path without `..`",
                    directory.display()
                ),
            );
        }
        if directory == Path::new("/") {
            self.report_mistake(None, "the secrets directory cannot be `/`");
        }
        Some(directory)
    }
}

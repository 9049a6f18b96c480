//! From what was typed, set and written to a [`Config`].

mod certificate;
mod delivery;
mod dependencies;
mod files;
mod names;
mod presets;
mod process;
mod surroundings;
mod trust;
mod variables;
mod vault;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

pub(crate) use self::delivery::SECRETS_DIR;
use self::presets::Others;
pub(crate) use self::surroundings::Surroundings;
use super::expand::{Names, expand, meant};
use super::{Config, Error, Purpose, Way};
use crate::cli::Cli;
use crate::environment::Environment;
use crate::manifest::{self, At, Manifest, Mistake};
use crate::text::{label, positive};

/// The default time from start to exec.
pub(crate) const DEADLINE: Duration = Duration::from_secs(25);
const MIN_TTL: Duration = Duration::from_secs(10);
/// The default wait for one answer, as in the Vault CLI.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Brings flags, environment and manifest together; `text` is the manifest's.
pub(crate) fn resolve(
    cli: &Cli,
    text: &str,
    surroundings: Surroundings,
    purpose: Purpose,
) -> Result<Config, Error> {
    let (manifest, mistakes) = manifest::parse(text);
    let mut resolver = Resolver {
        mistakes,
        notices: Vec::new(),
        purpose,
        surroundings: &surroundings,
        folder: cli.manifest().parent().unwrap_or(Path::new("")),
        app: None,
        environment: None,
        invented: RefCell::default(),
    };
    let config = resolver.config(cli, &manifest);
    let Resolver {
        mut mistakes,
        mut notices,
        invented,
        ..
    } = resolver;
    for name in invented.into_inner() {
        let meant = meant(&name, &surroundings.environment);
        notices.push(format!(
            "the variable {name} is not set here{meant}; its name in lower case stands in its place"
        ));
    }
    let config = config.map(|config| Config {
        notices,
        command: cli.command.clone(),
        received: surroundings.environment,
        ..config
    });
    if let Some(mut config) = config
        && mistakes.is_empty()
    {
        // A start knows it from the answers.
        if matches!(purpose, Purpose::Check | Purpose::DryRun) {
            for stale in config.stale_variables(|spec| spec.change()) {
                let notices = if stale.is_guess {
                    &mut config.guesses
                } else {
                    &mut config.notices
                };
                notices.push(stale.text);
            }
        }
        return Ok(config);
    }
    mistakes.sort_by_key(|mistake| mistake.place);
    Err(Error::Mistakes {
        manifest: cli.manifest().to_owned(),
        mistakes,
    })
}

/// Reads from the environment where Vault is, with notices for its user.
pub(crate) fn vault_from_environment(
    environment: &Environment,
) -> Result<(super::Vault, Vec<String>), Error> {
    match vault_alone(&manifest::Vault::default(), environment) {
        (Some(vault), mistakes, notices) if mistakes.is_empty() => Ok((vault, notices)),
        (_, mistakes, _) => Err(Error::Environment { mistakes }),
    }
}

/// Reads from `[vault]` and the environment where Vault is, with the mistakes in them and notices for their user.
pub(crate) fn vault_alone(
    table: &manifest::Vault,
    environment: &Environment,
) -> (Option<super::Vault>, Vec<Mistake>, Vec<String>) {
    let surroundings = Surroundings {
        environment: environment.clone(),
        ..Surroundings::bare()
    };
    let mut resolver = Resolver {
        mistakes: Vec::new(),
        notices: Vec::new(),
        purpose: Purpose::Mint,
        surroundings: &surroundings,
        folder: Path::new(""),
        app: None,
        environment: None,
        invented: RefCell::default(),
    };
    let namespace = resolver.namespace(table);
    let ca_cert = resolver.ca_cert(table);
    let vault = resolver.vault(table, namespace, ca_cert);
    let Resolver {
        mistakes, notices, ..
    } = resolver;
    (vault, mistakes, notices)
}

struct Resolver<'a> {
    mistakes: Vec<Mistake>,
    notices: Vec<String>,
    purpose: Purpose,
    surroundings: &'a Surroundings,
    /// The folder of the manifest, where a relative path of a template begins.
    folder: &'a Path,
    app: Option<String>,
    environment: Option<String>,
    invented: RefCell<BTreeSet<String>>,
}

impl Resolver<'_> {
    fn report_mistake(&mut self, place: Option<manifest::Place>, text: impl Into<String>) {
        self.mistakes.push(Mistake {
            place,
            text: text.into(),
        });
    }

    /// Collects the values that `${…}` may stand for.
    fn names(&self) -> Names<'_> {
        let invents = matches!(
            self.purpose,
            Purpose::DryRun | Purpose::Check | Purpose::Health
        );
        Names {
            app: self.app.as_deref(),
            environment: self.environment.as_deref(),
            variables: &self.surroundings.environment,
            invented: invents.then_some(&self.invented),
        }
    }

    /// Expands `${…}`, then reads the text with `parse`; a failure becomes a mistake at its place.
    fn parsed<T>(
        &mut self,
        value: &At<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match expand(&value.value, &self.names()).and_then(|text| parse(&text)) {
            Ok(value) => Some(value),
            Err(text) => {
                self.report_mistake(Some(value.place), text);
                None
            }
        }
    }

    fn text(&mut self, value: &At<String>) -> Option<String> {
        self.parsed(value, |text| Ok(text.to_owned()))
    }

    fn list<T>(
        &mut self,
        values: &[At<String>],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        values
            .iter()
            .filter_map(|value| self.parsed(value, &parse))
            .collect()
    }

    /// Takes a value that the manifest must contain.
    fn required<T>(
        &mut self,
        value: Option<&At<String>>,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match value {
            Some(value) => self.parsed(value, parse),
            None => {
                // What is there in another form has been named already.
                if !self
                    .mistakes
                    .iter()
                    .any(|known| known.text.starts_with(key))
                {
                    self.report_mistake(None, format!("{key} is missing"));
                }
                None
            }
        }
    }

    fn config(&mut self, cli: &Cli, manifest: &Manifest) -> Option<Config> {
        // One that is wrong is named once; what is made of it goes on with a name that fits.
        let mut identity = |value: Option<&At<String>>, key: &str| {
            self.required(value, &format!("`{key}` in [service]"), label)
                .or_else(|| Some(key.to_owned()))
        };
        let app = identity(manifest.service.app.as_ref(), "app");
        let environment = identity(manifest.service.environment.as_ref(), "environment");
        (self.app, self.environment) = (app, environment);
        let deadline = self.deadline(cli, &manifest.vault);
        let namespace = self.namespace(&manifest.vault);
        let ca_cert = self.ca_cert(&manifest.vault);
        let vault = self.vault(&manifest.vault, namespace.clone(), ca_cert.clone());
        let written = manifest.vault.address.as_ref();
        let written = written.map(|address| address.value.clone());
        let way = Way {
            address: vault.as_ref().map(|vault| vault.address.url()).or(written),
            ca: ca_cert.or_else(|| self.system_bundle(&manifest.vault)),
        };
        let promise = self.promise(&manifest.token, namespace);
        let tables = certificate::tables(manifest);
        let certificates: Vec<_> = tables
            .iter()
            .map(|(name, table)| self.certificate(name, table))
            .collect();
        let trust = manifest
            .trust
            .as_ref()
            .map(|table| self.trust(table, manifest));
        let java = match &manifest.java {
            Some(java) => self.java(java, manifest),
            None => None,
        };
        let known = self.known(manifest);
        let others = Others {
            manifest,
            java: java.as_ref(),
        };
        let mut dependencies = Vec::new();
        let mut files = self.files(manifest, &known);
        for table in &manifest.dependencies {
            if self.is_fetched(table) {
                dependencies.extend(self.dependency(table, &others, &known));
            } else {
                files.extend(self.bare_files(table, &others, &known));
            }
        }
        self.check_distinct_names(manifest, java.as_ref(), &dependencies, &files);
        let variables = self.variables(manifest, &known);
        self.check_field_variables(&dependencies, &variables);
        self.samples(manifest, &dependencies, &files, &variables);
        let secrets_dir = self.secrets_dir(cli, manifest);
        let delivery = self.delivery(cli, &manifest.token, secrets_dir.as_deref());
        let lifecycle = self.lifecycle(cli, &manifest.process);
        let renewal = self.renewal(manifest, &lifecycle);
        let user = self.user(&manifest.process);
        let start = self.purpose == Purpose::Start;
        Some(Config {
            app: self.app.clone()?,
            environment: self.environment.clone()?,
            vault: if start { Some(vault?) } else { None },
            way,
            promise: promise?,
            delivery,
            certificates: certificates.into_iter().collect::<Option<_>>()?,
            dependencies,
            trust,
            java,
            files,
            variables,
            secrets_dir,
            allow_disk: manifest.secrets.allow_disk,
            user,
            lifecycle,
            renewal,
            deadline: deadline?,
            command: Vec::new(),
            received: Environment::default(),
            notices: Vec::new(),
            guesses: Vec::new(),
        })
    }

    fn deadline(&mut self, cli: &Cli, table: &manifest::Vault) -> Option<Duration> {
        let written = table
            .deadline
            .as_ref()
            .and_then(|value| self.parsed(value, positive));
        let chosen = if table.pin {
            written.or(cli.deadline)
        } else {
            cli.deadline.or(written)
        };
        Some(chosen.unwrap_or(DEADLINE))
    }
}

//! From what was typed, set and written to a [`Config`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::expand::{Names, expand, is_variable_name};
use super::names::{Address, duration, file_name, is_host_name, namespace, vault_path};
use super::{
    Certificate, Config, Dependency, Environment, Error, Java, KeyType, Method, Profile, Promise,
    Purpose, TrustAnchors, Variable, Vault,
};
use crate::cli::Cli;
use crate::files::template::{self, Template};
use crate::manifest::{self, At, Manifest, Mistake};
use crate::user::User;

/// What the process found around it, as plain values.
pub struct Surroundings {
    /// The environment as received.
    pub environment: Environment,
    /// The text of `/etc/passwd`, empty when there is none.
    pub passwd: String,
    /// The text of `/etc/group`, empty when there is none.
    pub group: String,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

const SECRETS_DIR: &str = "/run/secrets";
const DEADLINE: Duration = Duration::from_secs(25);
const MAX_WRAP_TTL: Duration = Duration::from_secs(60);
const MIN_TTL: Duration = Duration::from_secs(10);
/// As the Vault CLI has it.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Brings everything together; `text` is the manifest's.
pub fn resolve(
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
        app: None,
        environment: None,
    };
    let config = resolver.config(cli, manifest);
    let Resolver {
        mut mistakes,
        notices,
        ..
    } = resolver;
    match config {
        Some(config) if mistakes.is_empty() => Ok(Config {
            notices,
            command: cli.command.clone(),
            received: surroundings.environment,
            ..config
        }),
        _ => {
            mistakes.sort_by_key(|mistake| mistake.place);
            Err(Error::Mistakes {
                manifest: cli.manifest.clone(),
                mistakes,
            })
        }
    }
}

struct Resolver<'a> {
    mistakes: Vec<Mistake>,
    notices: Vec<String>,
    purpose: Purpose,
    surroundings: &'a Surroundings,
    app: Option<String>,
    environment: Option<String>,
}

impl Resolver<'_> {
    fn mistake(&mut self, place: Option<manifest::Place>, text: impl Into<String>) {
        self.mistakes.push(Mistake {
            place,
            text: text.into(),
        });
    }

    /// Puts `${…}` in, then reads the text with `parse`; what goes wrong becomes a mistake at its place.
    fn parsed<T>(
        &mut self,
        value: &At<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let names = Names {
            app: self.app.as_deref(),
            environment: self.environment.as_deref(),
            variables: &self.surroundings.environment,
            invent: self.purpose != Purpose::Start,
        };
        match expand(&value.value, &names).and_then(|text| parse(&text)) {
            Ok(value) => Some(value),
            Err(text) => {
                self.mistake(Some(value.place), text);
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

    /// A value that must be written in the manifest.
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
                    self.mistake(None, format!("{key} is missing"));
                }
                None
            }
        }
    }

    /// The first of these variables that is set, read with `parse`.
    fn variable<T>(
        &mut self,
        names: &[&str],
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (name, value) = names.iter().find_map(|name| {
            self.surroundings
                .environment
                .text(name)
                .map(|value| (*name, value))
        })?;
        match parse(value) {
            Ok(value) => Some(value),
            Err(text) => {
                self.mistake(None, format!("in the environment, {name}: {text}"));
                None
            }
        }
    }

    fn config(&mut self, cli: &Cli, manifest: Manifest) -> Option<Config> {
        self.app = self.required(manifest.service.app.as_ref(), "`app` in [service]", label);
        self.environment = self.required(
            manifest.service.environment.as_ref(),
            "`environment` in [service]",
            label,
        );
        let deadline = self.deadline(cli, &manifest.vault);
        let vault = self.vault(&manifest.vault);
        let promise = self.promise(
            &manifest.token,
            vault.as_ref().and_then(|vault| vault.namespace.clone()),
        );
        let certificate = manifest
            .certificate
            .as_ref()
            .map(|table| self.certificate(table));
        let java = match &manifest.java {
            Some(java) => self.java(java, manifest.certificate.is_some()),
            None => None,
        };
        let dependencies: Vec<_> = manifest
            .dependencies
            .iter()
            .filter_map(|dependency| self.dependency(dependency))
            .collect();
        self.distinct_names(&manifest, java.as_ref());
        let variables = self.variables(&manifest, &dependencies);
        let secrets_dir = self.secrets_dir(cli, &manifest);
        self.lifecycle(cli, &manifest);
        let user = self.user(&manifest);
        let start = self.purpose == Purpose::Start;
        Some(Config {
            purpose: self.purpose,
            app: self.app.clone()?,
            environment: self.environment.clone()?,
            vault: if start { Some(vault?) } else { None },
            promise: if start { Some(promise?) } else { None },
            certificate: match certificate {
                Some(certificate) => Some(certificate?),
                None => None,
            },
            java,
            dependencies,
            variables,
            secrets_dir,
            is_private_dir: false,
            allow_disk: manifest.secrets.allow_disk,
            user,
            deadline: deadline?,
            command: Vec::new(),
            received: Environment::default(),
            notices: Vec::new(),
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

    fn vault(&mut self, table: &manifest::Vault) -> Option<Vault> {
        let pin = table.pin;
        let chosen = |resolver: &mut Self, names: &[&str], written: Option<&At<String>>| {
            let set = if pin {
                None
            } else {
                resolver.variable(names, |text| Ok(text.to_owned()))
            };
            match (set, written) {
                (Some(text), _) => Some((
                    text,
                    format!("in the environment, {}", names.join(" or ")),
                    None,
                )),
                (None, Some(value)) => {
                    Some((resolver.text(value)?, String::new(), Some(value.place)))
                }
                (None, None) => None,
            }
        };
        let address = chosen(self, &["BAO_ADDR", "VAULT_ADDR"], table.address.as_ref());
        let ca_cert = chosen(
            self,
            &["BAO_CACERT", "VAULT_CACERT"],
            table.ca_cert.as_ref(),
        );
        let server_name = chosen(
            self,
            &["BAO_TLS_SERVER_NAME", "VAULT_TLS_SERVER_NAME"],
            table.tls_server_name.as_ref(),
        );
        let namespace_text = chosen(
            self,
            &["BAO_NAMESPACE", "VAULT_NAMESPACE"],
            table.namespace.as_ref(),
        );
        let timeout = chosen(
            self,
            &["BAO_CLIENT_TIMEOUT", "VAULT_CLIENT_TIMEOUT"],
            table.client_timeout.as_ref(),
        );

        let address = match address {
            Some((text, origin, place)) => self.from(&origin, place, Address::parse(&text)),
            None => {
                // An address that cannot be read is a mistake of its own.
                if self.purpose == Purpose::Start && table.address.is_none() {
                    self.mistake(
                        None,
                        if pin {
                            "`address` in [vault] is missing, and `pin = true` leaves no other source"
                        } else {
                            "no address: set VAULT_ADDR (or BAO_ADDR), or `address` in [vault]"
                        },
                    );
                }
                None
            }
        };
        if let Some(address) = &address
            && !address.https
            && !address.is_loopback()
            && !table.allow_http
        {
            self.mistake(
                table.address.as_ref().map(|at| at.place),
                format!("{} is not https; secrets would cross the network in clear (`allow_http = true` in [vault] permits it)", address.url()),
            );
        }
        let tls_server_name = match server_name {
            Some((text, origin, place)) => {
                let checked = if is_host_name(&text) {
                    Ok(text)
                } else {
                    Err("not a host name".to_owned())
                };
                self.from(&origin, place, checked)
            }
            None => None,
        };
        let namespace = namespace_text
            .and_then(|(text, origin, place)| self.from(&origin, place, namespace(&text)))
            .flatten();
        let client_timeout = timeout
            .and_then(|(text, origin, place)| self.from(&origin, place, positive(&text)))
            .unwrap_or(CLIENT_TIMEOUT);
        let standby_hosts = self.list(&table.standby_hosts, |text| {
            if is_host_name(text) || text.parse::<std::net::IpAddr>().is_ok() {
                Ok(text.to_ascii_lowercase())
            } else {
                Err("not a host name or IP address".to_owned())
            }
        });
        for name in ["VAULT_SKIP_VERIFY", "BAO_SKIP_VERIFY"] {
            if self.surroundings.environment.text(name).is_some() {
                self.notices.push(format!(
                    "{name} is ignored: the server's certificate is always verified"
                ));
            }
        }
        let system_bundle = if pin {
            None
        } else {
            self.surroundings.environment.text("SSL_CERT_FILE")
        };
        Some(Vault {
            address: address?,
            ca_cert: ca_cert.map(|(text, ..)| PathBuf::from(text)),
            system_bundle: system_bundle.map(PathBuf::from),
            tls_server_name,
            namespace,
            client_timeout,
            standby_hosts,
            allow_http: table.allow_http,
        })
    }

    fn from<T>(
        &mut self,
        origin: &str,
        place: Option<manifest::Place>,
        value: Result<T, String>,
    ) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(text) if origin.is_empty() => {
                self.mistake(place, text);
                None
            }
            Err(text) => {
                self.mistake(place, format!("{origin}: {text}"));
                None
            }
        }
    }

    fn promise(&mut self, table: &manifest::Token, namespace: Option<String>) -> Option<Promise> {
        let creation_path = self.required(
            table.creation_path.as_ref(),
            "`creation_path` in [token]",
            vault_path,
        );
        let max_wrap_ttl = table
            .max_wrap_ttl
            .as_ref()
            .and_then(|value| self.parsed(value, positive))
            .unwrap_or(MAX_WRAP_TTL);
        let min_ttl = table
            .min_ttl
            .as_ref()
            .and_then(|value| self.parsed(value, duration))
            .unwrap_or(MIN_TTL);
        let policies = table
            .policies
            .as_ref()
            .map(|policies| self.list(policies, |text| Ok(text.to_owned())));
        Some(Promise {
            creation_path: creation_path?,
            max_wrap_ttl,
            min_ttl,
            policies,
            namespace,
            app: self.app.clone()?,
            environment: self.environment.clone()?,
        })
    }

    fn certificate(&mut self, table: &manifest::Certificate) -> Option<Certificate> {
        let mount = match &table.mount {
            Some(value) => self.parsed(value, vault_path),
            None => Some("pki".to_owned()),
        };
        let role = self.required(table.role.as_ref(), "`role` in [certificate]", vault_path);
        let common_name = self.required(
            table.common_name.as_ref(),
            "`common_name` in [certificate]",
            common_name,
        );
        let mut dns_names = self.list(&table.dns_names, dns_name);
        if let Some(name) = &common_name
            && dns_name(name).is_ok()
            && !dns_names.contains(name)
        {
            // Since RFC 6125 clients look at the alternative names alone.
            dns_names.insert(0, name.clone());
        }
        let ip_addresses = self.list(&table.ip_addresses, |text| {
            text.parse()
                .map_err(|_| format!("`{}` is not an IP address", text.escape_default()))
        });
        let uris = self.list(&table.uris, uri);
        let ttl = table
            .ttl
            .as_ref()
            .and_then(|value| self.parsed(value, positive));
        let key_type = match &table.key_type {
            Some(value) => self.parsed(value, |text| named(text, &KeyType::NAMES)),
            None => Some(KeyType::EcP256),
        };
        let trust_anchors = match (&table.ca_file, &table.ca_path) {
            (Some(_), Some(path)) => {
                self.mistake(
                    Some(path.place),
                    "`ca_file` and `ca_path` in [certificate] exclude each other",
                );
                None
            }
            (Some(file), None) => self
                .text(file)
                .map(|text| TrustAnchors::File(PathBuf::from(text))),
            (None, Some(path)) => self.parsed(path, vault_path).map(TrustAnchors::Path),
            (None, None) => Some(TrustAnchors::Answer),
        };
        Some(Certificate {
            mount: mount?,
            role: role?,
            common_name: common_name?,
            dns_names,
            ip_addresses,
            uris,
            ttl,
            key_type: key_type?,
            trust_anchors: trust_anchors?,
        })
    }

    fn java(&mut self, table: &manifest::Java, has_certificate: bool) -> Option<Java> {
        if !has_certificate {
            self.mistake(None, "[java] needs [certificate]: its stores hold that certificate and its trust anchors");
        }
        let mut name = |value: &Option<At<String>>, default: &str| match value {
            Some(value) => self.parsed(value, |text| file_name(text).map(|()| text.to_owned())),
            None => Some(default.to_owned()),
        };
        let keystore = name(&table.keystore, "keystore.p12");
        let truststore = name(&table.truststore, "truststore.p12");
        let profile = match &table.profile {
            Some(value) => self.parsed(value, |text| {
                named(
                    text,
                    &[("modern", Profile::Modern), ("java8", Profile::Java8)],
                )
            }),
            None => Some(Profile::Modern),
        };
        Some(Java {
            keystore: keystore?,
            truststore: truststore?,
            profile: profile?,
        })
    }

    fn dependency(&mut self, table: &manifest::Dependency) -> Option<Dependency> {
        let name = &table.name;
        if let Err(text) = dependency_name(&name.value) {
            self.mistake(Some(name.place), text);
        }
        let key = format!("`path` in [dependencies.{}]", name.value);
        let path = self.required(table.path.as_ref(), &key, vault_path);
        let write = match &table.method {
            Some(value) => self
                .parsed(value, |text| {
                    named(text, &[("read", false), ("write", true)])
                })
                // Whatever was meant, `data` is not the mistake.
                .unwrap_or(true),
            None => false,
        };
        if !write && let Some((field, _)) = table.data.first() {
            self.mistake(
                Some(field.place),
                "`data` goes with `method = \"write\"` only",
            );
        }
        let data = table
            .data
            .iter()
            .filter_map(|(field, value)| Some((field.value.clone(), self.text(value)?)))
            .collect();
        let fields = table
            .fields
            .as_ref()
            .map(|fields| self.list(fields, |text| file_name(text).map(|()| text.to_owned())));
        for (index, field) in table.fields.iter().flatten().enumerate() {
            let before = table.fields.iter().flatten().take(index);
            if before.into_iter().any(|known| known.value == field.value) {
                self.mistake(
                    Some(field.place),
                    format!("`{}` is listed twice", field.value.escape_default()),
                );
            }
        }
        let mut templates = Vec::new();
        for (file, source) in &table.files {
            if let Err(text) = file_name(&file.value) {
                self.mistake(Some(file.place), text);
            }
            if fields
                .as_ref()
                .is_some_and(|fields| fields.contains(&file.value))
            {
                self.mistake(
                    Some(file.place),
                    format!("`{}` is already the file of a field", file.value),
                );
            }
            templates.extend(
                self.template(source)
                    .map(|template| (file.value.clone(), template)),
            );
        }
        let sample = table
            .sample
            .iter()
            .map(|(field, value)| (field.value.clone(), value.value.clone()))
            .collect();
        Some(Dependency {
            name: name.value.clone(),
            path: path?,
            method: if write {
                Method::Write(data)
            } else {
                Method::Read
            },
            fields,
            templates,
            sample,
        })
    }

    fn template(&mut self, source: &At<String>) -> Option<Template> {
        match Template::parse(&source.value) {
            Ok(template) => Some(template),
            Err(text) => {
                self.mistake(Some(source.place), text);
                None
            }
        }
    }

    /// Two things that would get one file name, or one name in templates.
    fn distinct_names(&mut self, manifest: &Manifest, java: Option<&Java>) {
        let mut taken = vec![super::file::STATUS.to_owned()];
        if manifest.certificate.is_some() {
            taken.extend(
                [
                    super::file::CERTIFICATE,
                    super::file::PRIVATE_KEY,
                    super::file::TRUST_ANCHORS,
                ]
                .map(str::to_owned),
            );
        }
        if let Some(java) = java {
            taken.extend(
                [super::file::STORE_PASSWORD, super::file::JAVA_ARGUMENTS].map(str::to_owned),
            );
            let place = manifest
                .java
                .as_ref()
                .and_then(|table| table.truststore.as_ref().or(table.keystore.as_ref()));
            for name in [&java.keystore, &java.truststore] {
                if taken.contains(name) {
                    self.mistake(
                        place.map(|at| at.place),
                        format!("two files would be named `{name}`"),
                    );
                }
                taken.push(name.clone());
            }
        }
        let mut identifiers: Vec<String> = template::RESERVED.map(str::to_owned).to_vec();
        for dependency in &manifest.dependencies {
            let name = &dependency.name;
            if taken.contains(&name.value) {
                self.mistake(
                    Some(name.place),
                    format!("`{}` is already the name of a file", name.value),
                );
            }
            let identifier = name.value.replace(['-', '.'], "_");
            if identifiers.contains(&identifier) {
                self.mistake(
                    Some(name.place),
                    format!("`{identifier}` already means something else in templates"),
                );
            }
            identifiers.push(identifier);
        }
    }

    fn variables(&mut self, manifest: &Manifest, dependencies: &[Dependency]) -> Vec<Variable> {
        let known: Vec<String> = dependencies
            .iter()
            .map(Dependency::identifier)
            .chain(template::RESERVED.map(str::to_owned))
            .collect();
        let mut variables = Vec::new();
        for (name, source) in &manifest.environment {
            if !is_variable_name(&name.value) {
                self.mistake(
                    Some(name.place),
                    format!(
                        "`{}` cannot be the name of a variable",
                        name.value.escape_default()
                    ),
                );
            } else if super::TOKEN_VARIABLES.contains(&name.value.as_str()) {
                self.mistake(
                    Some(name.place),
                    format!("{} never reaches the application", name.value),
                );
            } else if self.purpose != Purpose::Check
                && self.surroundings.environment.value(&name.value).is_some()
            {
                self.mistake(
                    Some(name.place),
                    format!("{} is already set in the environment anteroom received; drop one of the two", name.value),
                );
            }
            let Some(template) = self.template(source) else {
                continue;
            };
            for unknown in template.names().iter().filter(|name| !known.contains(name)) {
                self.mistake(
                    Some(source.place),
                    format!(
                        "`{unknown}` is no dependency; known are {}",
                        known.join(", ")
                    ),
                );
            }
            variables.push(Variable {
                name: name.value.clone(),
                template,
            });
        }
        variables
    }

    fn secrets_dir(&mut self, cli: &Cli, manifest: &Manifest) -> Option<PathBuf> {
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
            self.mistake(
                manifest.secrets.directory.as_ref().map(|at| at.place),
                format!(
                    "the secrets directory `{}` must be an absolute path without `..`",
                    directory.display()
                ),
            );
        }
        if directory == Path::new("/") {
            self.mistake(None, "the secrets directory cannot be `/`");
        }
        Some(directory)
    }

    fn lifecycle(&mut self, cli: &Cli, manifest: &Manifest) {
        let (text, place) = match (&cli.lifecycle, &manifest.process.lifecycle) {
            (Some(text), _) => (Some(text.clone()), None),
            (None, Some(value)) => (self.text(value), Some(value.place)),
            (None, None) => (None, None),
        };
        if let Some(text) = text
            && text != "exec"
        {
            self.mistake(
                place,
                format!(
                    "the lifecycle `{}` is not known to this version; known is exec",
                    text.escape_default()
                ),
            );
        }
    }

    fn user(&mut self, manifest: &Manifest) -> Option<User> {
        let written = manifest.process.user.as_ref()?;
        let (passwd, group) = (&self.surroundings.passwd, &self.surroundings.group);
        if self.purpose == Purpose::Check {
            return None;
        }
        if self.surroundings.uid != 0 {
            let user = User::parse(&written.value, passwd, group).ok();
            let (uid, gid) = (self.surroundings.uid, self.surroundings.gid);
            if user.is_none_or(|user| (user.uid, user.gid) != (uid, gid)) {
                self.notices.push(format!(
                    "`user` in [process] does not apply: only root can become somebody else, and this is {uid}:{gid}"
                ));
            }
            return None;
        }
        self.parsed(written, |text| User::parse(text, passwd, group))
    }
}

fn named<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<T, String> {
    known
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            format!(
                "`{}` is not one of {}",
                text.escape_default(),
                names.join(", ")
            )
        })
}

/// A duration of more than nothing.
pub fn positive(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|duration| {
        if duration.is_zero() {
            Err("the duration must be more than zero".to_owned())
        } else {
            Ok(duration)
        }
    })
}

/// An identity label: it becomes part of names and paths.
fn label(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 128 {
        return Err("a label has 1 to 128 characters".to_owned());
    }
    if !text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        || text.starts_with('.')
    {
        return Err(
            "a label holds letters, digits, `-`, `_` and `.`, and does not begin with a dot"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

fn dependency_name(text: &str) -> Result<(), String> {
    file_name(text)?;
    if !text.starts_with(|c: char| c.is_ascii_alphabetic())
        || !text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    {
        return Err(
            "a dependency's name begins with a letter and holds letters, digits, `-`, `_` and `.`"
                .to_owned(),
        );
    }
    Ok(())
}

fn common_name(text: &str) -> Result<String, String> {
    // X.520 ub-common-name.
    if text.is_empty() || text.chars().count() > 64 || text.chars().any(char::is_control) {
        return Err(
            "a common name has 1 to 64 characters; longer names go in `dns_names`".to_owned(),
        );
    }
    Ok(text.to_owned())
}

fn dns_name(text: &str) -> Result<String, String> {
    if is_host_name(text.strip_prefix("*.").unwrap_or(text))
        && text.parse::<std::net::IpAddr>().is_err()
    {
        Ok(text.to_owned())
    } else {
        Err(format!("`{}` is not a DNS name", text.escape_default()))
    }
}

fn uri(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((scheme, rest))
            if scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
                && !rest.is_empty()
                && rest.chars().all(|c| c.is_ascii_graphic()) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(format!("`{}` is not a URI", text.escape_default())),
    }
}

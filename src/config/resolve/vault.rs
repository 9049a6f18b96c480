//! `[vault]` and `[token]`: where Vault is and what the token must be, against the environment.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{CLIENT_TIMEOUT, MIN_TTL, Resolver};
use crate::config::expand::meant;
use crate::config::{Promise, Purpose, Vault};
use crate::manifest::{self, At, Place};
use crate::spelling::is_slip;
use crate::text::{Address, duration, is_host_name, namespace, positive, vault_path};

/// The variables that other clients of Vault go by, and why this one does not.
const IGNORED: [(&[&str], &str); 4] = [
    (
        &["VAULT_SKIP_VERIFY", "BAO_SKIP_VERIFY"],
        "the server's certificate is always verified",
    ),
    (
        &[
            "HTTPS_PROXY",
            "https_proxy",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "all_proxy",
            "VAULT_PROXY_ADDR",
            "BAO_PROXY_ADDR",
            "VAULT_HTTP_PROXY",
            "BAO_HTTP_PROXY",
        ],
        "Vault is spoken to directly",
    ),
    (
        &[
            "VAULT_CLIENT_CERT",
            "VAULT_CLIENT_KEY",
            "BAO_CLIENT_CERT",
            "BAO_CLIENT_KEY",
        ],
        "no client certificate is shown to Vault",
    ),
    (
        &["VAULT_CAPATH", "BAO_CAPATH"],
        "name one file with VAULT_CACERT, or with `ca_cert` in [vault]",
    ),
];

/// A value of `[vault]`, and its source.
struct Chosen {
    text: String,
    from: Origin,
    /// The variables in it that are not set where the manifest is looked at.
    invented: BTreeSet<String>,
}

enum Origin {
    Manifest(Place),
    Variable(&'static str),
}

impl Resolver<'_> {
    pub(super) fn namespace(&mut self, table: &manifest::Vault) -> Option<String> {
        let chosen = self.chosen(
            table.pin,
            ["BAO_NAMESPACE", "VAULT_NAMESPACE"],
            table.namespace.as_ref(),
        );
        chosen
            .and_then(|chosen| self.read(chosen, namespace))
            .flatten()
    }

    pub(super) fn ca_cert(&mut self, table: &manifest::Vault) -> Option<PathBuf> {
        let names = ["BAO_CACERT", "VAULT_CACERT"];
        let chosen = self.chosen(table.pin, names, table.ca_cert.as_ref());
        let chosen = chosen?;
        self.invented.borrow_mut().extend(chosen.invented);
        Some(PathBuf::from(chosen.text))
    }

    /// Finds the bundle that is tried before the system's own places, unless the manifest is pinned.
    pub(super) fn system_bundle(&self, table: &manifest::Vault) -> Option<PathBuf> {
        let named = self.surroundings.environment.text("SSL_CERT_FILE");
        named.filter(|_| !table.pin).map(PathBuf::from)
    }

    pub(super) fn vault(
        &mut self,
        table: &manifest::Vault,
        namespace: Option<String>,
        ca_cert: Option<PathBuf>,
    ) -> Option<Vault> {
        let pin = table.pin;
        let address = self.chosen(pin, ["BAO_ADDR", "VAULT_ADDR"], table.address.as_ref());
        let server_name = self.chosen(
            pin,
            ["BAO_TLS_SERVER_NAME", "VAULT_TLS_SERVER_NAME"],
            table.tls_server_name.as_ref(),
        );
        let timeout = self.chosen(
            pin,
            ["BAO_CLIENT_TIMEOUT", "VAULT_CLIENT_TIMEOUT"],
            table.client_timeout.as_ref(),
        );

        // An address that cannot be read is a mistake of its own.
        if address.is_none() && table.address.is_none() {
            let text = match (self.purpose, pin) {
                (Purpose::Health, _) => None,
                (_, true) => {
                    Some("`address` in [vault] is missing, and `pin = true` leaves no other source")
                }
                (Purpose::Start, _) => {
                    Some("no address: set VAULT_ADDR (or BAO_ADDR), or `address` in [vault]")
                }
                (Purpose::Mint, _) => Some("no address: set VAULT_ADDR (or BAO_ADDR)"),
                _ => None,
            };
            if let Some(text) = text {
                self.report_mistake(None, text);
            }
        }
        let way_out = match self.purpose {
            Purpose::Mint => "",
            _ => " (`allow_http = true` in [vault] permits it)",
        };
        let address = address.and_then(|chosen| {
            self.read(chosen, |text| {
                let address = Address::parse(text)?;
                if address.https || address.is_loopback() || table.allow_http {
                    return Ok(address);
                }
                Err(format!(
                    "{} is not https; secrets would cross the network in clear{way_out}",
                    address.url()
                ))
            })
        });
        let tls_server_name = server_name.and_then(|chosen| {
            self.read(chosen, |text| {
                if is_host_name(text) {
                    Ok(text.to_owned())
                } else {
                    Err("not a host name".to_owned())
                }
            })
        });
        let client_timeout = timeout
            .and_then(|chosen| self.read(chosen, positive))
            .unwrap_or(CLIENT_TIMEOUT);
        let standby_hosts = self.list(&table.standby_hosts, |text| {
            if is_host_name(text) || text.parse::<std::net::IpAddr>().is_ok() {
                Ok(text.to_ascii_lowercase())
            } else {
                Err("not a host name or IP address".to_owned())
            }
        });
        self.notice_ignored();
        Some(Vault {
            address: address?,
            ca_cert,
            system_bundle: self.system_bundle(table),
            tls_server_name,
            namespace,
            client_timeout,
            standby_hosts,
            allow_http: table.allow_http,
        })
    }

    /// Notes which variables other clients would go by, once for each kind.
    fn notice_ignored(&mut self) {
        for (names, why) in IGNORED {
            let set: Vec<&str> = names
                .iter()
                .copied()
                .filter(|name| self.surroundings.environment.text(name).is_some())
                .collect();
            let verb = match set.len() {
                0 => continue,
                1 => "is",
                _ => "are",
            };
            self.notices
                .push(format!("{} {verb} ignored: {why}", set.join(", ")));
        }
    }

    /// Chooses the first of these variables that is set, unless the manifest is pinned; else the manifest's value.
    fn chosen(
        &mut self,
        pin: bool,
        names: [&'static str; 2],
        written: Option<&At<String>>,
    ) -> Option<Chosen> {
        let environment = &self.surroundings.environment;
        let set = names
            .into_iter()
            .find_map(|name| environment.text(name).map(|text| (name, text.to_owned())));
        match (set, written) {
            (Some((name, text)), _) if !pin => Some(Chosen {
                text,
                from: Origin::Variable(name),
                invented: BTreeSet::new(),
            }),
            (_, Some(value)) => {
                let invented = self.invented.take();
                let text = self.text(value);
                let invented = self.invented.replace(invented);
                Some(Chosen {
                    text: text?,
                    from: Origin::Manifest(value.place),
                    invented,
                })
            }
            _ => None,
        }
    }

    fn read<T>(
        &mut self,
        chosen: Chosen,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match (parse(&chosen.text), chosen.from) {
            (Ok(value), _) => {
                self.invented.borrow_mut().extend(chosen.invented);
                return Some(value);
            }
            // The start alone knows what is written there.
            (Err(_), _) if !chosen.invented.is_empty() => {
                for name in chosen.invented {
                    let meant = meant(&name, &self.surroundings.environment);
                    self.notices.push(format!(
                        "the variable {name} is not set here{meant}; what it stands for in [vault] is left to the start"
                    ));
                }
            }
            (Err(text), Origin::Manifest(place)) => self.report_mistake(Some(place), text),
            (Err(text), Origin::Variable(name)) => {
                self.report_mistake(None, format!("in the environment, {name}: {text}"));
            }
        }
        None
    }

    pub(super) fn promise(
        &mut self,
        table: &manifest::Token,
        namespace: Option<String>,
    ) -> Option<Promise> {
        let creation_path = match &table.creation_path {
            Some(value) => self.parsed(value, creation_path),
            None => self.default_creation_path(),
        };
        let max_wrap_ttl = table
            .max_wrap_ttl
            .as_ref()
            .and_then(|value| self.parsed(value, positive));
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

    /// Makes the path of the token role that has the name of the service.
    fn default_creation_path(&mut self) -> Option<String> {
        let (app, environment) = (self.app.as_ref()?, self.environment.as_ref()?);
        match creation_path(&format!("auth/token/create/{app}-{environment}")) {
            Ok(path) => Some(path),
            Err(text) => {
                let text = format!("the default of `creation_path` in [token]: {text}");
                self.report_mistake(None, text);
                None
            }
        }
    }
}

/// Reads the path at which a client token is made: a token role's, a path of the token store without a role, or a login.
fn creation_path(text: &str) -> Result<String, String> {
    let path = vault_path(text)?;
    let parts: Vec<&str> = path.split('/').collect();
    let why = match parts[..] {
        ["auth", "token", "create"] | ["auth", "token", "create-orphan"] => return Ok(path),
        ["auth", "token", "create", _] => return Ok(path),
        ["auth", "token", "create", ..] => "the name of a token role holds no `/`",
        ["auth", "token", ..] => "no client token is made there",
        ["auth", mount, "create", ..] if is_slip(mount, "token") => {
            "token roles are those of `auth/token`, which has this name in every Vault"
        }
        ["auth", .., "secret-id"] | ["auth", .., "role", _, "custom-secret-id" | "role-id"] => {
            "an AppRole's role id and secret id are no client tokens; wrap the login"
        }
        ["auth", _, _, ..] => return Ok(path),
        [.., "auth", "token", "create", _] => "the namespace stands in [vault], and not in front",
        _ => "no client token is made there",
    };
    Err(format!(
        "{why}: write a token role's path, `auth/token/create/ROLE`, or that of the login that is wrapped, such as `auth/approle/login`"
    ))
}

//! `[vault]` and `[token]`: where Vault is and what the token must be, against the environment.

use std::path::PathBuf;

use super::{CLIENT_TIMEOUT, MAX_WRAP_TTL, MIN_TTL, Resolver, positive};
use crate::config::names::{Address, duration, is_host_name, namespace, vault_path};
use crate::config::{Promise, Purpose, Vault};
use crate::manifest::{self, At};

impl Resolver<'_> {
    pub(super) fn vault(&mut self, table: &manifest::Vault) -> Option<Vault> {
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

    pub(super) fn from<T>(
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

    pub(super) fn promise(
        &mut self,
        table: &manifest::Token,
        namespace: Option<String>,
    ) -> Option<Promise> {
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
}

//! The manifest, `anteroom.toml`: the needs of the image, read as written.
//!
//! Every value keeps its place, and every mistake is collected, so that one run names them all. Nothing is resolved
//! here: `${NAME}` and templates are text until [`config`](crate::config) looks at them.

mod certificate;
mod dependency;
mod file;
pub(crate) mod table;
mod trust;

use std::fmt;

pub(crate) use certificate::Certificate;
pub(crate) use dependency::Dependency;
pub(crate) use file::{File, Source};
pub(crate) use table::{FlagOrText, Words};
pub(crate) use trust::Trust;

use table::Table;

/// A place in the manifest, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    /// The value.
    pub value: T,
    /// The value's place.
    pub place: Place,
}

/// One mistake in the configuration, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The place in the manifest, or none for the environment and the command line.
    pub place: Option<Place>,
    /// The mistake, and what would be right.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(
                f,
                "line {}, column {}: {}",
                place.line, place.column, self.text
            ),
            None => f.write_str(&self.text),
        }
    }
}

/// The whole manifest.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    /// The table `[service]`.
    pub service: Service,
    /// The table `[vault]`.
    pub vault: Vault,
    /// The table `[token]`.
    pub token: Token,
    /// The table `[certificate]`.
    pub certificate: Option<Certificate>,
    /// The tables `[certificates.NAME]`, in the order of the file.
    pub certificates: Vec<(At<String>, Certificate)>,
    /// The table `[trust]`.
    pub trust: Option<Trust>,
    /// The table `[java]`.
    pub java: Option<Java>,
    /// The tables `[dependencies.NAME]`, in the order of the file.
    pub dependencies: Vec<Dependency>,
    /// The table `[files]`, in the order of the file.
    pub files: Vec<File>,
    /// The table `[environment]`: name and template of each variable.
    pub environment: Vec<(At<String>, At<String>)>,
    /// The table `[secrets]`.
    pub secrets: Secrets,
    /// The table `[process]`.
    pub process: Process,
}

/// The identity labels.
#[derive(Debug, Default)]
pub(crate) struct Service {
    /// The service's name.
    pub app: Option<At<String>>,
    /// The environment that the service runs in.
    pub environment: Option<At<String>>,
}

/// The way to Vault.
#[derive(Debug, Default)]
pub(crate) struct Vault {
    /// Vault's URL.
    pub address: Option<At<String>>,
    /// The PEM file of the CA that signed Vault's certificate.
    pub ca_cert: Option<At<String>>,
    /// The name on Vault's certificate, where that is not the host of the address.
    pub tls_server_name: Option<At<String>>,
    /// The namespace of Vault Enterprise or OpenBao.
    pub namespace: Option<At<String>>,
    /// The time from start to exec.
    pub deadline: Option<At<String>>,
    /// The longest wait for one answer.
    pub client_timeout: Option<At<String>>,
    /// The other hosts that a standby may redirect to.
    pub standby_hosts: Vec<At<String>>,
    /// True where plain http may go to other machines.
    pub allow_http: bool,
    /// True where this table wins over the environment.
    pub pin: bool,
}

/// The properties that the handed-in token must have.
#[derive(Debug, Default)]
pub(crate) struct Token {
    /// The path at which the token was wrapped.
    pub creation_path: Option<At<String>>,
    /// The longest life of the wrapping token.
    pub max_wrap_ttl: Option<At<String>>,
    /// The shortest life of the client token.
    pub min_ttl: Option<At<String>>,
    /// The exact policies besides `default`.
    pub policies: Option<Vec<At<String>>>,
    /// The program that hands the token in.
    pub from: Option<At<String>>,
    /// The interval between the keeper's checks for a revocation.
    pub revocation_check: Option<At<String>>,
}

/// The Java stores.
#[derive(Debug)]
pub(crate) struct Java {
    /// The place of the table.
    pub place: Place,
    /// The file name of the key store.
    pub keystore: Option<At<String>>,
    /// The file name of the trust store.
    pub truststore: Option<At<String>>,
    /// The encoding of the stores.
    pub profile: Option<At<String>>,
    /// The trust store that `java.args` names.
    pub default_trust: Option<At<String>>,
}

/// The secrets directory.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    /// The directory's path.
    pub directory: Option<At<String>>,
    /// True where the directory may lie on a disk.
    pub allow_disk: bool,
    /// The time for which a credential that was replaced may still be used.
    pub revoke_after: Option<At<String>>,
}

/// The application's process.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// The lifecycle of anteroom once the application runs.
    pub lifecycle: Option<At<String>>,
    /// The application's user.
    pub user: Option<At<String>>,
    /// The way in which the application learns of a new generation: a signal, a restart, or a command.
    pub on_rotate: Option<Words>,
    /// The time limit of that command.
    pub on_rotate_timeout: Option<At<String>>,
    /// True where that command runs for the first generation too.
    pub on_rotate_at_start: bool,
    /// The longest wait before a restart.
    pub restart_splay: Option<At<String>>,
    /// The action at the end of the token's life.
    pub on_expiry: Option<At<String>>,
    /// The signal that tells the application of that end.
    pub expiry_signal: Option<At<String>>,
    /// The time from TERM to KILL, when anteroom ends the application.
    pub stop_timeout: Option<At<String>>,
    /// True where signals go to the application's whole process group.
    pub signal_group: bool,
    /// The exit codes of the application that become 0.
    pub remap_exit: Vec<At<String>>,
    /// True where orphans are adopted although this process is not PID 1.
    pub subreaper: bool,
}

/// Reads a manifest; what could not be read is missing from it and named in the mistakes.
pub(crate) fn parse(text: &str) -> (Manifest, Vec<Mistake>) {
    let (mut root, mut mistakes) = table::read(text);
    let mut manifest = Manifest::default();

    if let Some(mut t) = root.table("service") {
        manifest.service = Service {
            app: t.text("app"),
            environment: t.text("environment"),
        };
        t.finish(&mut mistakes);
    }
    if let Some(mut t) = root.table("vault") {
        manifest.vault = read_vault(&mut t);
        t.finish(&mut mistakes);
    }
    if let Some(mut t) = root.table("token") {
        manifest.token = Token {
            creation_path: t.text("creation_path"),
            max_wrap_ttl: t.text("max_wrap_ttl"),
            min_ttl: t.text("min_ttl"),
            policies: t.texts("policies"),
            from: t.text("from"),
            revocation_check: t.text("revocation_check"),
        };
        t.finish(&mut mistakes);
    }
    if let Some(t) = root.table("certificate") {
        certificate::read_main(t, &mut manifest, &mut mistakes);
    }
    if let Some(mut t) = root.table("certificates") {
        for (name, mut inner) in t.inner_tables() {
            manifest
                .certificates
                .push((name, certificate::read(&mut inner)));
            inner.finish(&mut mistakes);
        }
        for key in t.keys() {
            mistakes.push(Mistake {
                place: Some(key.place),
                text: format!(
                    "`{}` is no certificate: each certificate below [certificates] has a table of its own with a name, such as [certificates.kafka]",
                    key.value
                ),
            });
        }
        t.finish(&mut mistakes);
    }
    if let Some(mut t) = root.table("trust") {
        manifest.trust = Some(trust::read(&mut t));
        t.finish(&mut mistakes);
    }
    if let Some(mut t) = root.table("java") {
        manifest.java = Some(Java {
            place: t.place(),
            keystore: t.text("keystore"),
            truststore: t.text("truststore"),
            profile: t.text("profile"),
            default_trust: t.text("default_trust"),
        });
        t.finish(&mut mistakes);
    }
    if let Some(mut t) = root.table("dependencies") {
        for (name, table) in t.tables() {
            manifest
                .dependencies
                .push(dependency::read(name, table, &mut mistakes));
        }
        t.finish(&mut mistakes);
    }
    if let Some(t) = root.table("files") {
        manifest.files = file::read(t, &mut mistakes);
    }
    if let Some(mut t) = root.table("environment") {
        manifest.environment = t.entries();
        t.finish(&mut mistakes);
    }
    if let Some(mut t) = root.table("secrets") {
        manifest.secrets = Secrets {
            directory: t.text("directory"),
            allow_disk: t.flag("allow_disk"),
            revoke_after: t.text("revoke_after"),
        };
        t.finish(&mut mistakes);
    }
    if let Some(mut t) = root.table("process") {
        manifest.process = Process {
            lifecycle: t.text("lifecycle"),
            user: t.text("user"),
            on_rotate: t.words("on_rotate"),
            on_rotate_timeout: t.text("on_rotate_timeout"),
            on_rotate_at_start: t.flag("on_rotate_at_start"),
            restart_splay: t.text("restart_splay"),
            on_expiry: t.text("on_expiry"),
            expiry_signal: t.text("expiry_signal"),
            stop_timeout: t.text("stop_timeout"),
            signal_group: t.flag("signal_group"),
            remap_exit: t.texts("remap_exit").unwrap_or_default(),
            subreaper: t.flag("subreaper"),
        };
        t.finish(&mut mistakes);
    }
    root.finish(&mut mistakes);
    mistakes.sort_by_key(|mistake| mistake.place);
    (manifest, mistakes)
}

/// Reads `[vault]`, which the agent's configuration has too.
pub(crate) fn read_vault(t: &mut Table<'_>) -> Vault {
    Vault {
        address: t.text("address"),
        ca_cert: t.text("ca_cert"),
        tls_server_name: t.text("tls_server_name"),
        namespace: t.text("namespace"),
        deadline: t.text("deadline"),
        client_timeout: t.text("client_timeout"),
        standby_hosts: t.texts("standby_hosts").unwrap_or_default(),
        allow_http: t.flag("allow_http"),
        pin: t.flag("pin"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        parse(text).1.iter().map(Mistake::to_string).collect()
    }

    #[test]
    fn values_keep_their_place() {
        let (manifest, mistakes) = parse("[service]\napp = \"timeline\"\n");
        assert!(mistakes.is_empty());
        let app = manifest.service.app.expect("set");
        assert_eq!(app.value, "timeline");
        assert_eq!(app.place, Place { line: 2, column: 7 });
    }

    // f4
    #[test]
    fn every_mistake_is_named_with_its_place() {
        let found = mistakes(
            "[service]\napp = 3\nnmae = \"x\"\n[certificate]\ndns_names = [\"a\", 1]\n[nonsense]\n[vault]\npin = \"yes\"\n",
        );
        assert_eq!(
            found,
            [
                "line 2, column 7: `app` in [service] must be a string, not an integer: put it in quotes",
                "line 3, column 1: unknown key `nmae` in [service]; known are app, environment",
                "line 5, column 19: `dns_names` in [certificate] must be a list of strings; this entry is an integer: put it in quotes",
                "line 6, column 2: unknown table [nonsense]; known are certificate, certificates, dependencies, environment, files, java, process, secrets, service, token, trust, vault",
                "line 8, column 7: `pin` in [vault] must be true or false, not a string",
            ]
        );
    }

    #[test]
    fn certificate_in_the_wrong_table_is_one_mistake() {
        let kafka =
            "line 1, column 14: unknown table [certificate.kafka] (is [certificates.kafka] meant?)";
        let own = "each certificate below [certificates] has a table of its own with a name, such as [certificates.kafka]";
        for (text, expected) in [
            ("[certificate.kafka]\nrole = 'x'", vec![kafka.to_owned()]),
            (
                "[certificate.kafka]\nrloe = 'x'\n[certificate]\nrole = 'y'",
                vec![
                    kafka.to_owned(),
                    "line 2, column 1: unknown key `rloe` in [certificate.kafka] (is `role` meant?); known are ca_file, ca_path, common_name, der, dns_names, ip_addresses, key_type, mount, role, ttl, uris".to_owned(),
                ],
            ),
            (
                "[certificates]\nrole = 'x'",
                vec![format!("line 2, column 1: `role` is no certificate: {own}")],
            ),
            (
                "[certificate.role]\nx = 'y'",
                vec!["line 1, column 1: `role` in [certificate] must be a string, not a table".to_owned()],
            ),
        ] {
            assert_eq!(mistakes(text), expected, "{text}");
        }
        let (manifest, _) = parse("[certificate.kafka]\nrole = 'x'");
        assert!(manifest.certificate.is_none());
        assert_eq!(manifest.certificates.len(), 1);
        assert!(parse("[certificate]").0.certificate.is_some());
    }

    #[test]
    fn broken_toml_is_one_clear_mistake_with_its_place() {
        let found = mistakes("[service\napp = \"x\"\n");
        assert!(found[0].starts_with("line 1, column "), "{found:?}");
    }

    #[test]
    fn duplicate_keys_are_refused() {
        let found = mistakes("[service]\napp = \"a\"\napp = \"b\"\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("line 3"), "{found:?}");
    }
}

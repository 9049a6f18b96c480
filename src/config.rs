//! What will happen: flags, environment and manifest brought together, resolved and checked.
//!
//! A flag wins over the environment, the environment over the manifest; `[vault] pin = true` turns that round for the
//! whole `[vault]` table. Every mistake is collected before the first is reported.

mod expand;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod resolve;

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::environment::Environment;
use crate::manifest::{Mistake, Place};
use crate::system::user::User;
use crate::template::{self, Template};
use crate::text::Address;
use crate::vault::{Endpoint, Roots};

pub use resolve::{
    DEADLINE, SECRETS_DIR, Surroundings, resolve, vault_alone, vault_from_environment,
};

/// What the configuration is for; it decides what must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A start with a Vault: everything.
    Start,
    /// A dry run: no Vault; variables that are not set are invented.
    DryRun,
    /// A look at the manifest: as a dry run, and no command.
    Check,
    /// A look at what was published: as a look at the manifest, whose templates have been filled in.
    Health,
    /// The manifest's policy: as a look at it, but nothing is invented.
    Policy,
    /// The host side: no manifest, and Vault as the environment has it.
    Mint,
}

impl Purpose {
    /// Whether an application is to run on this machine, as it is.
    pub fn is_here(self) -> bool {
        matches!(self, Purpose::Start | Purpose::DryRun)
    }
}

/// Everything that a start needs to know.
pub struct Config {
    /// The service's name; alias of the key in the Java key store.
    pub app: String,
    /// The environment it runs in.
    pub environment: String,
    /// Where Vault is; for a start alone.
    pub vault: Option<Vault>,
    /// What the handed-in token must be.
    pub promise: Promise,
    /// Where the wrapping token comes to.
    pub delivery: Delivery,
    /// Everything to fetch: certificates, then credentials in the order of the manifest.
    pub specs: Vec<Spec>,
    /// The Java stores to write; only with a certificate.
    pub java: Option<Java>,
    /// What is added to the application's environment.
    pub variables: Vec<Variable>,
    /// Where the files go; none is a new private directory (dry run only).
    pub secrets_dir: Option<PathBuf>,
    /// The secrets directory may lie on a disk.
    pub allow_disk: bool,
    /// Whom the application runs as, when that is not who anteroom runs as.
    pub user: Option<User>,
    /// How anteroom lives on once the application runs.
    pub lifecycle: Lifecycle,
    /// How what was fetched is kept fresh.
    pub upkeep: Upkeep,
    /// From start to exec, all retries in it.
    pub deadline: Duration,
    /// The application and its arguments.
    pub command: Vec<OsString>,
    /// The environment as received.
    pub received: Environment,
    /// What was decided that the user may not expect.
    pub notices: Vec<String>,
}

/// How anteroom lives on once the application runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lifecycle {
    /// The application becomes the process that anteroom was.
    Exec,
    /// Anteroom stays, as the application's init.
    Supervise(Supervision),
}

/// What anteroom does as an init, where there is a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervision {
    /// Signals go to the application's whole process group.
    pub signal_group: bool,
    /// Exit codes of the application that become 0.
    pub remap_exit: Vec<u8>,
    /// Orphans are adopted by a process that is not PID 1 too.
    pub subreaper: bool,
    /// From TERM to KILL, when anteroom ends the application.
    pub stop_timeout: Duration,
}

/// How what was fetched is kept fresh, and who is told.
#[derive(Debug, Clone)]
pub struct Upkeep {
    /// How the application learns of a new generation.
    pub on_rotate: OnRotate,
    /// What happens when the token's life is over.
    pub on_expiry: OnExpiry,
    /// How often somebody looks whether the token was revoked; none is never.
    pub revocation_check: Option<Duration>,
    /// How long a credential that was replaced may still be used.
    pub revoke_after: Duration,
}

/// How the application learns of a new generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnRotate {
    /// Not at all: it reads the files when it needs them.
    Nothing,
    /// By a signal.
    Signal(Signal),
    /// By a command.
    Command {
        /// The command and its arguments.
        words: Vec<String>,
        /// How long it may take.
        timeout: Duration,
    },
}

/// What happens when the token's life is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExpiry {
    /// The application goes on with what it has.
    Ignore,
    /// It is told by a signal.
    Signal(Signal),
    /// It is ended, so that it is started again with a new token; only where anteroom is its init.
    Terminate,
}

/// How to reach Vault.
#[derive(Debug, Clone)]
pub struct Vault {
    /// Its address.
    pub address: Address,
    /// PEM file of the CA that signed its certificate; none is the system's CAs.
    pub ca_cert: Option<PathBuf>,
    /// PEM bundle named by `SSL_CERT_FILE`, tried before the system's own places.
    pub system_bundle: Option<PathBuf>,
    /// The name on its certificate, when that is not the host of the address.
    pub tls_server_name: Option<String>,
    /// Namespace, without slashes around it.
    pub namespace: Option<String>,
    /// Longest wait for one answer.
    pub client_timeout: Duration,
    /// Other hosts that a standby may redirect to.
    pub standby_hosts: Vec<String>,
    /// Plain http may go to other machines, not to this one alone.
    pub allow_http: bool,
}

impl Vault {
    /// How its client is to speak to it.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            url: self.address.url(),
            namespace: self.namespace.clone(),
            tls_server_name: self.tls_server_name.clone(),
            client_timeout: self.client_timeout,
            standby_hosts: self.standby_hosts.clone(),
            allow_http: self.allow_http,
        }
    }

    /// Whom its client is to trust.
    pub fn roots(&self) -> Roots<'_> {
        match (&self.ca_cert, &self.system_bundle) {
            (Some(file), _) => Roots::File(file),
            (None, bundle) => Roots::System(bundle.as_deref()),
        }
    }
}

/// Where the wrapping token comes to, and when.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The file, pipe or socket; none is a variable, or nothing.
    pub path: Option<PathBuf>,
    /// How long a token that is not there yet is waited for; not at all when it is zero.
    pub wait: Duration,
}

/// What the handed-in token must be.
#[derive(Debug, Clone)]
pub struct Promise {
    /// The path at which it was wrapped, exactly.
    pub creation_path: String,
    /// Longest life of the wrapping token, where the manifest says it.
    pub max_wrap_ttl: Option<Duration>,
    /// Shortest life of the client token.
    pub min_ttl: Duration,
    /// Exactly these besides `default`; none is any but `root`.
    pub policies: Option<Vec<String>>,
    /// Namespace of the client token, without slashes around it.
    pub namespace: Option<String>,
    /// `app` in the token's metadata, when it has one.
    pub app: String,
    /// `environment` in the token's metadata, when it has one.
    pub environment: String,
}

/// One thing to fetch, as the manifest asks for it.
#[derive(Debug, Clone)]
pub enum Spec {
    /// A certificate, whose key is made here.
    Certificate(Certificate),
    /// The credential of a dependency.
    Credential(Dependency),
}

/// A certificate to ask for.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The name in events and in `ANTEROOM_CHANGED`.
    pub name: String,
    /// Mount of the PKI engine.
    pub mount: String,
    /// Role of the PKI engine.
    pub role: String,
    /// Subject common name.
    pub common_name: String,
    /// Subject alternative names of type DNS; the common name is among them when it is a host name.
    pub dns_names: Vec<String>,
    /// Subject alternative names of type IP address.
    pub ip_addresses: Vec<IpAddr>,
    /// Subject alternative names of type URI.
    pub uris: Vec<String>,
    /// Life to ask for; none is the role's.
    pub ttl: Option<Duration>,
    /// Kind of key.
    pub key_type: KeyType,
    /// Where the trust anchors come from.
    pub trust_anchors: TrustAnchors,
}

/// Kinds of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// `ec-p256`
    EcP256,
    /// `ec-p384`
    EcP384,
    /// `ed25519`
    Ed25519,
    /// `rsa-2048`
    Rsa2048,
    /// `rsa-3072`
    Rsa3072,
    /// `rsa-4096`
    Rsa4096,
}

impl KeyType {
    /// All of them with their names in the manifest.
    pub const NAMES: [(&'static str, KeyType); 6] = [
        ("ec-p256", KeyType::EcP256),
        ("ec-p384", KeyType::EcP384),
        ("ed25519", KeyType::Ed25519),
        ("rsa-2048", KeyType::Rsa2048),
        ("rsa-3072", KeyType::Rsa3072),
        ("rsa-4096", KeyType::Rsa4096),
    ];

    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, known)| *known == self)
            .map_or("", |(name, _)| name)
    }
}

/// Where the trust anchors come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustAnchors {
    /// The self-signed certificates of the answer's chain, else its issuing CA.
    Answer,
    /// A PEM file in the image.
    File(PathBuf),
    /// A Vault path that answers PEM as `certificate`, `ca_chain` or `issuing_ca`.
    Path(String),
}

/// The Java stores.
#[derive(Debug, Clone)]
pub struct Java {
    /// File name of the key store.
    pub keystore: String,
    /// File name of the trust store.
    pub truststore: String,
    /// Which encryption.
    pub profile: Profile,
}

/// Encodings of a PKCS#12 store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// AES-256 and HMAC-SHA-256.
    Modern,
    /// Triple DES and HMAC-SHA-1, which JDKs before 8u301 read.
    Java8,
}

/// One credential.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// Its name, also that of its directory.
    pub name: String,
    /// Vault path.
    pub path: String,
    /// How the path is asked.
    pub method: Method,
    /// Fields that must be there, and the only ones written; none is all that come.
    pub fields: Option<Vec<String>>,
    /// Extra files.
    pub templates: Vec<FileTemplate>,
    /// What a dry run puts in place of the answer.
    pub sample: Vec<(String, String)>,
}

impl Dependency {
    /// Its name in templates, where a dash would be a minus.
    pub fn identifier(&self) -> String {
        template::identifier(&self.name)
    }
}

/// An extra file of a dependency.
#[derive(Debug, Clone)]
pub struct FileTemplate {
    /// The file's name in the dependency's directory.
    pub name: String,
    /// The file's content.
    pub template: Template,
    /// The template's place in the manifest.
    pub place: Place,
}

/// How a Vault path is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Read,
    /// POST with these fields.
    Write(Vec<(String, String)>),
}

/// One variable of the application's environment.
#[derive(Debug, Clone)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub template: Template,
    /// The template's place in the manifest.
    pub place: Place,
}

/// Names that the files of every start may have at the top of the secrets directory.
pub mod file {
    /// Leaf first, then intermediates, no root.
    pub const CERTIFICATE: &str = "tls.crt";
    /// PKCS#8.
    pub const PRIVATE_KEY: &str = "tls.key";
    /// Trust anchors.
    pub const TRUST_ANCHORS: &str = "ca.crt";
    /// Opens both Java stores.
    pub const STORE_PASSWORD: &str = "keystore.password";
    /// Options for `JDK_JAVA_OPTIONS`.
    pub const JAVA_ARGUMENTS: &str = "java.args";
    /// What was fetched, without any secret.
    pub const STATUS: &str = "status.json";
    /// Where an agent puts the wrapping token; removed once it was read.
    pub const TOKEN: &str = ".anteroom-token";
}

impl Config {
    /// The certificates among what is to be fetched.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.specs.iter().filter_map(|spec| match spec {
            Spec::Certificate(certificate) => Some(certificate),
            Spec::Credential(_) => None,
        })
    }

    /// The dependencies among what is to be fetched, in the order of the manifest.
    pub fn dependencies(&self) -> impl Iterator<Item = &Dependency> {
        self.specs.iter().filter_map(|spec| match spec {
            Spec::Certificate(_) => None,
            Spec::Credential(dependency) => Some(dependency),
        })
    }

    /// The names that will be visible at the top of the secrets directory.
    pub fn visible_names(&self) -> Vec<String> {
        let mut names = vec![file::STATUS.to_owned()];
        for _ in self.certificates() {
            names.extend(
                [file::CERTIFICATE, file::PRIVATE_KEY, file::TRUST_ANCHORS].map(str::to_owned),
            );
        }
        if let Some(java) = &self.java {
            names.extend([java.keystore.clone(), java.truststore.clone()]);
            names.extend([file::STORE_PASSWORD, file::JAVA_ARGUMENTS].map(str::to_owned));
        }
        names.extend(
            self.dependencies()
                .map(|dependency| dependency.name.clone()),
        );
        names
    }
}

/// The configuration is wrong.
#[derive(Debug)]
pub enum Error {
    /// The manifest could not be read.
    Unreadable {
        /// Its path.
        manifest: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// It was read, and these things are wrong.
    Mistakes {
        /// The manifest's path.
        manifest: PathBuf,
        /// All of them, in the order of the file.
        mistakes: Vec<Mistake>,
    },
    /// There is no manifest, and these things are wrong with the environment.
    Environment {
        /// All of them.
        mistakes: Vec<Mistake>,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreadable { manifest, reason } => {
                write!(
                    f,
                    "cannot read the manifest {}: {reason}",
                    manifest.display()
                )
            }
            Error::Mistakes { manifest, mistakes } => {
                write!(f, "{}: ", manifest.display())?;
                write_all(f, mistakes)
            }
            Error::Environment { mistakes } => write_all(f, mistakes),
        }
    }
}

fn write_all(f: &mut fmt::Formatter<'_>, mistakes: &[Mistake]) -> fmt::Result {
    for (n, mistake) in mistakes.iter().enumerate() {
        if n > 0 {
            f.write_str("; ")?;
        }
        write!(f, "{mistake}")?;
    }
    Ok(())
}

impl std::error::Error for Error {}

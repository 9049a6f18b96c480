//! The configuration: flags, environment and manifest brought together, resolved and checked.
//!
//! A flag wins over the environment, the environment over the manifest; `[vault] pin = true` turns that round for the
//! whole `[vault]` table. Every mistake is collected before the first is reported.

mod expand;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod layout;
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

pub(crate) use resolve::{
    DEADLINE, SECRETS_DIR, Surroundings, resolve, vault_alone, vault_from_environment,
};

/// The purpose of the configuration, which decides what must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A start with a Vault needs everything.
    Start,
    /// A dry run needs no Vault, and invents variables that are not set.
    DryRun,
    /// A check of the manifest is like a dry run, and needs no command.
    Check,
    /// A health check is like a check of the manifest, whose templates a start has already filled in.
    Health,
    /// A policy is like a check of the manifest, but nothing is invented.
    Policy,
    /// The host side has no manifest, and finds Vault by the environment.
    Mint,
}

impl Purpose {
    /// Says whether an application is to run on this machine, as it is.
    pub(crate) fn is_here(self) -> bool {
        matches!(self, Purpose::Start | Purpose::DryRun)
    }
}

/// Everything that a start needs to know.
pub(crate) struct Config {
    /// The service's name; alias of the key in the Java key store.
    pub app: String,
    /// The environment that the service runs in.
    pub environment: String,
    /// The way to Vault, which only a start has.
    pub vault: Option<Vault>,
    /// The properties that the handed-in token must have.
    pub promise: Promise,
    /// The place where the wrapping token arrives.
    pub delivery: Delivery,
    /// The certificates to fetch.
    pub certificates: Vec<Certificate>,
    /// The dependencies whose credentials are to be fetched, in the order of the manifest.
    pub dependencies: Vec<Dependency>,
    /// The Java stores to write; only with a certificate.
    pub java: Option<Java>,
    /// The variables that are added to the application's environment.
    pub variables: Vec<Variable>,
    /// The directory of the files; without it a dry run makes a new private one.
    pub secrets_dir: Option<PathBuf>,
    /// True where the secrets directory may lie on a disk.
    pub allow_disk: bool,
    /// The application's user, where that is not the user of anteroom.
    pub user: Option<User>,
    /// The lifecycle of anteroom once the application runs.
    pub lifecycle: Lifecycle,
    /// The settings by which fetched items are kept fresh.
    pub renewal: Renewal,
    /// The time from start to exec, with all retries.
    pub deadline: Duration,
    /// The application and its arguments.
    pub command: Vec<OsString>,
    /// The environment as received.
    pub received: Environment,
    /// The decisions that the user may not expect.
    pub notices: Vec<String>,
}

/// The lifecycle of anteroom once the application runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// The application becomes the process that anteroom was.
    Exec,
    /// The process of anteroom stays, as the application's init.
    Supervise(Supervision),
}

/// The choices that anteroom has as an init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Supervision {
    /// True where signals go to the application's whole process group.
    pub signal_group: bool,
    /// The exit codes of the application that become 0.
    pub remap_exit: Vec<u8>,
    /// True where orphans are adopted although this process is not PID 1.
    pub subreaper: bool,
    /// The time from TERM to KILL, when anteroom ends the application.
    pub stop_timeout: Duration,
}

/// The settings by which fetched items are kept fresh, and the application is told.
#[derive(Debug, Clone)]
pub(crate) struct Renewal {
    /// The way in which the application learns of a new generation.
    pub on_rotate: OnRotate,
    /// The action at the end of the token's life.
    pub on_expiry: OnExpiry,
    /// The interval between the keeper's checks for a revocation; none turns the check off.
    pub revocation_check: Option<Duration>,
    /// The time for which a credential that was replaced may still be used.
    pub revoke_after: Duration,
}

/// The way in which the application learns of a new generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OnRotate {
    /// The application is not told: it reads the files when it needs them.
    Nothing,
    /// The application gets a signal.
    Signal(Signal),
    /// The keeper runs a command.
    Command {
        /// The command and its arguments.
        words: Vec<String>,
        /// The time limit of the command.
        timeout: Duration,
    },
}

/// The action at the end of the token's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnExpiry {
    /// The application goes on with what it has.
    Ignore,
    /// The application gets a signal.
    Signal(Signal),
    /// The application is ended, so that it is started again with a new token; only where anteroom is its init.
    Terminate,
}

/// The way to Vault.
#[derive(Debug, Clone)]
pub struct Vault {
    /// Vault's address.
    pub address: Address,
    /// The PEM file of the CA that signed Vault's certificate; without it the system's CAs are trusted.
    pub ca_cert: Option<PathBuf>,
    /// The PEM bundle named by `SSL_CERT_FILE`, tried before the system's own places.
    pub system_bundle: Option<PathBuf>,
    /// The name on Vault's certificate, where that is not the host of the address.
    pub tls_server_name: Option<String>,
    /// The namespace, without slashes around it.
    pub namespace: Option<String>,
    /// The longest wait for one answer.
    pub client_timeout: Duration,
    /// The other hosts that a standby may redirect to.
    pub standby_hosts: Vec<String>,
    /// True where plain http may go to other machines, and not to this one alone.
    pub allow_http: bool,
}

impl Vault {
    /// Describes Vault's endpoint for a client.
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

    /// Chooses the CAs that a client trusts.
    pub fn roots(&self) -> Roots<'_> {
        match (&self.ca_cert, &self.system_bundle) {
            (Some(file), _) => Roots::File(file),
            (None, bundle) => Roots::System(bundle.as_deref()),
        }
    }
}

/// The place where the wrapping token arrives, and the wait for it.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// The path of a file, pipe or socket; without it the token comes in a variable, or not at all.
    pub path: Option<PathBuf>,
    /// The longest wait for a token that is not there yet; zero does not wait.
    pub wait: Duration,
}

/// The properties that the handed-in token must have.
#[derive(Debug, Clone)]
pub(crate) struct Promise {
    /// The exact path at which the token was wrapped.
    pub creation_path: String,
    /// The longest life of the wrapping token, where the manifest names it.
    pub max_wrap_ttl: Option<Duration>,
    /// The shortest life of the client token.
    pub min_ttl: Duration,
    /// The exact policies besides `default`; without them every policy but `root` will do.
    pub policies: Option<Vec<String>>,
    /// The namespace of the client token, without slashes around it.
    pub namespace: Option<String>,
    /// The value of `app` in the token's metadata, where the token has one.
    pub app: String,
    /// The value of `environment` in the token's metadata, where the token has one.
    pub environment: String,
}

/// One item to fetch, as the manifest asks for it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spec<'a> {
    /// A certificate, whose key is made here.
    Certificate(&'a Certificate),
    /// The credential of a dependency.
    Credential(&'a Dependency),
}

impl<'a> Spec<'a> {
    /// Returns the name of the item, also in events and in `ANTEROOM_CHANGED`.
    pub(crate) fn name(self) -> &'a str {
        match self {
            Spec::Certificate(certificate) => &certificate.name,
            Spec::Credential(dependency) => &dependency.name,
        }
    }
}

/// A certificate to ask for.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    /// The name in events and in `ANTEROOM_CHANGED`.
    pub name: String,
    /// The mount of the PKI engine.
    pub mount: String,
    /// The role of the PKI engine.
    pub role: String,
    /// The subject's common name.
    pub common_name: String,
    /// Subject alternative names of type DNS; the common name is among them when it is a host name.
    pub dns_names: Vec<String>,
    /// Subject alternative names of type IP address.
    pub ip_addresses: Vec<IpAddr>,
    /// Subject alternative names of type URI.
    pub uris: Vec<String>,
    /// The life to ask for; without it the role decides.
    pub ttl: Option<Duration>,
    /// The kind of key.
    pub key_type: KeyType,
    /// The source of the trust anchors.
    pub trust_anchors: TrustAnchors,
}

/// The kinds of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyType {
    /// An EC key on P-256, `ec-p256` in the manifest.
    EcP256,
    /// An EC key on P-384, `ec-p384` in the manifest.
    EcP384,
    /// An Ed25519 key, `ed25519` in the manifest.
    Ed25519,
    /// An RSA key of 2048 bits, `rsa-2048` in the manifest.
    Rsa2048,
    /// An RSA key of 3072 bits, `rsa-3072` in the manifest.
    Rsa3072,
    /// An RSA key of 4096 bits, `rsa-4096` in the manifest.
    Rsa4096,
}

impl KeyType {
    /// The kinds with their names in the manifest.
    pub(crate) const NAMES: [(&'static str, KeyType); 6] = [
        ("ec-p256", KeyType::EcP256),
        ("ec-p384", KeyType::EcP384),
        ("ed25519", KeyType::Ed25519),
        ("rsa-2048", KeyType::Rsa2048),
        ("rsa-3072", KeyType::Rsa3072),
        ("rsa-4096", KeyType::Rsa4096),
    ];

    /// Returns the name in the manifest.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, known)| *known == self)
            .map_or("", |(name, _)| name)
    }
}

/// The source of the trust anchors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TrustAnchors {
    /// The self-signed certificates of the answer's chain, else its issuing CA.
    Answer,
    /// A PEM file in the image.
    File(PathBuf),
    /// A Vault path that answers PEM as `certificate`, `ca_chain` or `issuing_ca`.
    Path(String),
}

/// The Java stores.
#[derive(Debug, Clone)]
pub(crate) struct Java {
    /// The file name of the key store.
    pub keystore: String,
    /// The file name of the trust store.
    pub truststore: String,
    /// The encoding of both stores.
    pub profile: Profile,
}

/// Encodings of a PKCS#12 store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// AES-256 and HMAC-SHA-256.
    Modern,
    /// Triple DES and HMAC-SHA-1, which JDKs before 8u301 read.
    Java8,
}

/// A dependency, whose credential is fetched.
#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    /// The name of the dependency and of its directory.
    pub name: String,
    /// The Vault path of the credential.
    pub path: String,
    /// The method of the request.
    pub method: Method,
    /// The fields that must be there, and the only ones written; without them every field is written.
    pub fields: Option<Vec<String>>,
    /// The extra files.
    pub templates: Vec<FileTemplate>,
    /// The fields that a dry run uses in place of an answer.
    pub sample: Vec<(String, String)>,
}

impl Dependency {
    /// Returns the name in templates, where a dash would be a minus.
    pub(crate) fn identifier(&self) -> String {
        template::identifier(&self.name)
    }
}

/// An extra file of a dependency.
#[derive(Debug, Clone)]
pub(crate) struct FileTemplate {
    /// The file's name in the dependency's directory.
    pub name: String,
    /// The file's content.
    pub template: Template,
    /// The template's place in the manifest.
    pub place: Place,
}

/// The method by which a Vault path is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Method {
    /// The request is a GET.
    Read,
    /// The request is a POST with these fields.
    Write(Vec<(String, String)>),
}

/// One variable of the application's environment.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    /// The variable's name.
    pub name: String,
    /// The template of the variable's value.
    pub template: Template,
    /// The template's place in the manifest.
    pub place: Place,
}

impl Config {
    /// Iterates over everything to fetch: certificates, then credentials.
    pub(crate) fn specs(&self) -> impl Iterator<Item = Spec<'_>> {
        let certificates = self.certificates.iter().map(Spec::Certificate);
        certificates.chain(self.dependencies.iter().map(Spec::Credential))
    }
}

/// Every reason against a configuration.
#[derive(Debug)]
pub enum Error {
    /// The manifest could not be read.
    Unreadable {
        /// The manifest's path.
        manifest: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The manifest was read, and these things are wrong.
    Mistakes {
        /// The manifest's path.
        manifest: PathBuf,
        /// The mistakes, in the order of the file.
        mistakes: Vec<Mistake>,
    },
    /// There is no manifest, and these things are wrong with the environment.
    Environment {
        /// The mistakes.
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

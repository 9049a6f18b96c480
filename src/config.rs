//! The configuration: flags, environment and manifest brought together, resolved and checked.
//!
//! A flag wins over the environment, the environment over the manifest; `[vault] pin = true` turns that round for the
//! whole `[vault]` table. Every mistake is collected before the first is reported.

mod error;
mod expand;
mod file_template;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod layout;
mod resolve;
mod spec;
mod stale;
mod trust;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::environment::Environment;
use crate::manifest::Place;
use crate::system::user::User;
use crate::template::Template;
use crate::text::Address;
use crate::vault::{Endpoint, Roots};

pub(crate) use error::Error;
pub(crate) use file_template::{FileTemplate, TemplateSource};
pub(crate) use resolve::{
    DEADLINE, SECRETS_DIR, Surroundings, resolve, vault_alone, vault_from_environment,
};
pub(crate) use spec::{
    Certificate, CertificateName, CertificateValue, DefaultTrust, Dependency, EnvPrefix, Java,
    KeyType, Method, Profile, Spec, TrustAnchors,
};
pub(crate) use stale::{Change, Stale};
pub(crate) use trust::{Trust, TrustOrigin, TrustSource, TrustedFile};

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
    /// The way to Vault as far as it is known, for the plan.
    pub way: Way,
    /// The properties that the handed-in token must have.
    pub promise: Promise,
    /// The place where the wrapping token arrives.
    pub delivery: Delivery,
    /// The certificates to fetch, the main one first.
    pub certificates: Vec<Certificate>,
    /// The dependencies whose credentials are to be fetched, in the order of the manifest.
    pub dependencies: Vec<Dependency>,
    /// The CAs of the image that the application trusts too, where the manifest names any.
    pub trust: Option<Trust>,
    /// The Java stores to write for each certificate; only with a certificate.
    pub java: Option<Java>,
    /// The files that are no dependency's, in the order of the manifest.
    pub files: Vec<FileTemplate>,
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
    /// The notices that may be wrong, so that no check fails for them.
    pub guesses: Vec<String>,
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
        /// True where the command runs for the first generation too.
        runs_at_start: bool,
    },
    /// PID 1 ends the application and starts it again with the new variables.
    Restart {
        /// The longest wait before it, which differs from one container to the next.
        splay: Duration,
        /// The longest time from the order to the new start.
        limit: Duration,
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

/// The way to Vault as far as it is known without a start.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// Vault's URL, or what stands for it where a variable in it is not set here; none where only the container's
    /// environment will say.
    pub address: Option<String>,
    /// The file with the CAs that are trusted; none where that is the system's.
    pub ca: Option<PathBuf>,
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

/// One variable of the application's environment.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub name: String,
    pub template: Template,
    /// The template's place in the manifest.
    pub place: Place,
    /// True where the environment has a variable of the name already, which only a dry run permits: there it wins.
    pub is_received: bool,
}

impl Config {
    /// Iterates over everything to fetch: certificates, then credentials.
    pub(crate) fn specs(&self) -> impl Iterator<Item = Spec<'_>> {
        let certificates = self.certificates.iter().map(Spec::Certificate);
        certificates.chain(self.dependencies.iter().map(Spec::Credential))
    }
}

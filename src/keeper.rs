//! The keeper: the process that talks to Vault and holds every secret.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::unistd::Pid;
use rustls::crypto::aws_lc_rs;
use time::OffsetDateTime;

use crate::certificate::{self, Clocks};
use crate::command;
use crate::config::{Config, Promise, Vault};
use crate::dry_run;
use crate::error::Error;
use crate::fetch::fetch;
use crate::files::status::Status;
use crate::files::{self, Material, Rendered};
use crate::handover;
use crate::link::Keeper;
use crate::log::{Level, Log, Value};
use crate::secret::Secret;
use crate::secrets_dir::{Generation, SecretsDir};
use crate::vault::{Auth, Client, Endpoint, Limits, Roots, Session};
use crate::wrapping_token::{self, Source};

/// How long a revocation may take when a start fails.
const REVOCATION: Duration = Duration::from_millis(1500);

/// Fetches, publishes and reports, then waits for leave to end.
pub fn run(
    config: &Config,
    source: Option<Source>,
    directory: SecretsDir,
    mut link: Keeper,
    application: Pid,
    log: Log,
    began: Instant,
) -> Result<(), Error> {
    warn_of_swap(&directory, log);
    let mut steps = Steps::new(began);
    let abort = link.abort().map_err(|error| crate::init::Error::System {
        step: "listen to PID 1",
        reason: error.to_string(),
    })?;
    // From here on, whatever fails has to take back what lies in the directory.
    let generation = directory.prepare(&config.visible_names())?;
    let done = match (&config.vault, &config.promise, source) {
        (Some(vault), Some(promise), Some(source)) => {
            let start = Start {
                config,
                directory: &directory,
                abort,
                log,
                deadline: began + config.deadline,
            };
            start.with_vault(vault, promise, source, generation, &mut link, &mut steps)
        }
        _ => {
            drop(abort);
            without_vault(config, &directory, generation, &mut link, &mut steps, log)
        }
    };
    let done = done.map_err(|error| silenced(error, &link));
    // Now, while it cannot have ended yet. In a container of its own the directory ends with it.
    let watched = (config.is_private_dir && application != Pid::from_raw(1))
        .then(|| crate::init::watch(application).ok())
        .flatten();
    // PID 1 takes the end of the link for the end of the keeper, and whoever stays behind must not hold it open.
    drop(link);
    match watched {
        _ if done.is_err() => directory.withdraw(),
        Some(watched) => dry_run::tidy_up_after(watched, directory),
        None => {}
    }
    done
}

struct Start<'a> {
    config: &'a Config,
    directory: &'a SecretsDir,
    abort: Arc<OwnedFd>,
    log: Log,
    deadline: Instant,
}

impl Start<'_> {
    /// The story of a start.
    fn with_vault(
        &self,
        vault: &Vault,
        promise: &Promise,
        source: Source,
        generation: Generation,
        link: &mut Keeper,
        steps: &mut Steps,
    ) -> Result<(), Error> {
        let request = self
            .config
            .certificate
            .as_ref()
            .map(certificate::prepare)
            .transpose()?;
        let client = self.client(vault)?;
        steps.mark("key");

        let taken = wrapping_token::take(source, self.deadline)?;
        if let Some(warning) = taken.warning {
            self.log
                .event(Level::Warn, "token_file_kept", &warning, &[]);
        }
        handover::inspect(&client, &taken.token, promise, self.log)?;
        steps.mark("lookup");
        let (session, auth) = handover::unwrap(client, taken.token)?;
        steps.mark("unwrap");

        let done = self.with_session(&session, &auth, promise, request, generation, link, steps);
        if done.is_err() {
            self.give_back(&session);
        }
        done
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the rest of the story, split where the token begins to need a revocation"
    )]
    fn with_session(
        &self,
        session: &Session,
        auth: &Auth,
        promise: &Promise,
        request: Option<certificate::Request>,
        generation: Generation,
        link: &mut Keeper,
        steps: &mut Steps,
    ) -> Result<(), Error> {
        self.log.event(
            Level::Info,
            "unwrapped",
            "unwrapped the client token",
            &[
                ("accessor", Value::Text(session.accessor())),
                ("ttl_s", Value::Number(auth.lease_duration)),
            ],
        );
        handover::verify(session, auth, promise)?;
        let answer_time = steps.mark("verify");
        let clocks = || clocks(session.clock_skew());
        let fetched = fetch(session, self.config, request, answer_time, clocks, self.log)?;
        steps.mark_parallel(&[
            ("certificate", fetched.certificate_took),
            ("dependencies", fetched.credentials_took),
        ]);
        let material = Material {
            certificate: fetched.certificate,
            credentials: fetched.credentials,
            store_password: self.config.java.as_ref().map(|_| password()),
        };
        publish(
            self.config,
            &material,
            Some(auth.lease_duration),
            self.directory,
            generation,
            link,
            steps,
            self.log,
        )
    }

    fn client(&self, vault: &Vault) -> Result<Client, Error> {
        let roots = match (&vault.ca_cert, &vault.system_bundle) {
            (Some(file), _) => Roots::File(file),
            (None, bundle) => Roots::System(bundle.as_deref()),
        };
        let endpoint = Endpoint {
            url: vault.address.url(),
            namespace: vault.namespace.clone(),
            tls_server_name: vault.tls_server_name.clone(),
            client_timeout: vault.client_timeout,
            standby_hosts: vault.standby_hosts.clone(),
        };
        let limits = Limits {
            deadline: self.deadline,
            abort: vec![Arc::clone(&self.abort)],
            grace: Duration::ZERO,
        };
        Ok(Client::new(endpoint, roots, limits, self.log)?)
    }

    /// Revokes the token and with it all its leases.
    fn give_back(&self, session: &Session) {
        let accessor = [("accessor", Value::Text(session.accessor()))];
        match session.revoke_self(REVOCATION) {
            Ok(()) => self.log.event(
                Level::Info,
                "revoked",
                "revoked the client token",
                &accessor,
            ),
            Err(error) => {
                let text = format!(
                    "cannot revoke the client token ({error}); revoke its accessor {}",
                    session.accessor()
                );
                self.log.event(Level::Warn, "not_revoked", &text, &accessor);
            }
        }
    }
}

fn without_vault(
    config: &Config,
    directory: &SecretsDir,
    generation: Generation,
    link: &mut Keeper,
    steps: &mut Steps,
    log: Log,
) -> Result<(), Error> {
    let material = dry_run::material(config, password)?;
    steps.mark("samples");
    publish(
        config, &material, None, directory, generation, link, steps, log,
    )
}

#[expect(
    clippy::too_many_arguments,
    reason = "the last step needs what all steps before it have made"
)]
fn publish(
    config: &Config,
    material: &Material,
    token_ttl: Option<u64>,
    directory: &SecretsDir,
    generation: Generation,
    link: &mut Keeper,
    steps: &mut Steps,
    log: Log,
) -> Result<(), Error> {
    let path = directory.path().to_string_lossy();
    let Rendered {
        mut files,
        variables,
    } = files::render(config, material, &path)?;
    files.push(files::status_file(&Status::new(
        config,
        material,
        token_ttl,
        now(),
    )));
    directory.publish(generation, &files)?;
    steps.mark("files");
    link.ready(&variables).map_err(|error| match error.kind() {
        io::ErrorKind::ArgumentListTooLong => Error::Command(command::Error::TooLong),
        _ => Error::CalledOff,
    })?;
    let text = steps.text();
    log.event(
        Level::Info,
        "ready",
        &text,
        &[
            ("directory", Value::Text(&path)),
            ("files", Value::Number(files.len() as u64)),
        ],
    );
    if link.await_release() {
        Ok(())
    } else {
        Err(Error::CalledOff)
    }
}

/// When PID 1 has called the start off it says why; of the errors that come with that, only those of the hand-over that
/// somebody must look into are worth a word.
fn silenced(error: Error, link: &Keeper) -> Error {
    match error {
        Error::HandOver(
            handover::Error::Unknown { .. }
            | handover::Error::NotValid { .. }
            | handover::Error::NotPromised { .. },
        ) => error,
        _ if link.is_called_off() => Error::CalledOff,
        error => error,
    }
}

fn warn_of_swap(directory: &SecretsDir, log: Log) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    if let Some(warning) =
        directory.swap_warning(&read("/proc/self/mountinfo"), &read("/proc/swaps"))
    {
        log.event(Level::Warn, "swap", &warning, &[]);
    }
}

/// 192 random bits, as text that needs no quoting anywhere.
fn password() -> Secret {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = zeroize::Zeroizing::new([0_u8; 32]);
    let filled = aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes[..]);
    assert!(filled.is_ok(), "the kernel gives random bytes");
    Secret::new(
        bytes
            .iter()
            .map(|byte| char::from(LETTERS[usize::from(byte & 63)]))
            .collect(),
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "the keeper reads the clock and hands the time on"
)]
fn now() -> OffsetDateTime {
    SystemTime::now().into()
}

fn clocks(skew: Option<i64>) -> Clocks {
    let here = now().unix_timestamp();
    Clocks {
        here,
        vault: here + skew.unwrap_or(0),
    }
}

/// How long each step took.
struct Steps {
    began: Instant,
    last: Instant,
    taken: Vec<(&'static str, Duration)>,
}

impl Steps {
    fn new(began: Instant) -> Self {
        Steps {
            began,
            last: Instant::now(),
            taken: Vec::new(),
        }
    }

    /// Ends a step; returns how long it took.
    fn mark(&mut self, step: &'static str) -> Duration {
        let now = Instant::now();
        let took = now - self.last;
        self.taken.push((step, took));
        self.last = now;
        took
    }

    /// Steps that ran beside one another.
    fn mark_parallel(&mut self, steps: &[(&'static str, Duration)]) {
        self.taken
            .extend(steps.iter().filter(|(_, took)| !took.is_zero()));
        self.last = Instant::now();
    }

    fn text(&self) -> String {
        let steps: Vec<String> = self
            .taken
            .iter()
            .map(|(step, taken)| format!("{step} {}", taken.as_millis()))
            .collect();
        format!(
            "ready in {} ms: {}",
            self.began.elapsed().as_millis(),
            steps.join(", ")
        )
    }
}

//! The keeper: the process that talks to Vault and holds every secret.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use nix::unistd::Pid;
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
use crate::init;
use crate::link::KeeperEnd;
use crate::log::{Level, Log, Value};
use crate::secrets_dir::{Generation, SecretsDir};
use crate::vault::{Auth, Client, Endpoint, Limits, Roots, Session};
use crate::wrapping_token::{self, Source};

/// How long a revocation may take when a start fails.
pub const REVOCATION: Duration = Duration::from_millis(1500);

/// Fetches, publishes and reports, then waits for leave to end.
pub fn run(
    config: &Config,
    source: Option<Source>,
    directory: SecretsDir,
    mut link: KeeperEnd,
    application: Pid,
    log: Log,
    began: Instant,
) -> Result<(), Error> {
    warn_of_swap(&directory, log);
    let generation = directory.prepare(&config.visible_names())?;
    let mut start = Start {
        config,
        directory: &directory,
        link: &mut link,
        steps: Steps::new(began),
        log,
        deadline: began + config.deadline,
    };
    // From here on, whatever fails has to take back what lies in the directory.
    let done = match (&config.vault, source) {
        (Some(vault), Some(source)) => start.with_vault(vault, source, generation),
        (None, None) => start.without_vault(generation),
        // Never an invented secret where a real one was asked for.
        _ => Err(Error::Usage(
            "a start has a Vault and a token, a dry run has neither".to_owned(),
        )),
    };
    let done = done.map_err(|error| silenced(error, &link));
    // Now, while it cannot have ended yet. In a container of its own the directory ends with it.
    let watched = (directory.is_private() && application != Pid::from_raw(1))
        .then(|| init::pidfd(application).ok())
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

/// A start: what it goes by and how far it is.
struct Start<'a> {
    config: &'a Config,
    directory: &'a SecretsDir,
    link: &'a mut KeeperEnd,
    steps: Steps,
    log: Log,
    deadline: Instant,
}

impl Start<'_> {
    /// The story of a start.
    fn with_vault(
        &mut self,
        vault: &Vault,
        source: Source,
        generation: Generation,
    ) -> Result<(), Error> {
        let certificate = self.config.certificate.as_ref();
        let request = certificate.map(certificate::prepare).transpose()?;
        let client = self.client(vault)?;
        self.steps.mark("key");

        let taken = wrapping_token::take(source, self.deadline)?;
        if let Some(warning) = taken.warning {
            self.log
                .event(Level::Warn, "token_file_kept", &warning, &[]);
        }
        handover::inspect(&client, &taken.token, &vault.promise, self.log)?;
        self.steps.mark("lookup");
        let (session, auth) = handover::unwrap(client, taken.token)?;
        self.steps.mark("unwrap");

        let done = self
            .fetch(&session, &auth, &vault.promise, request)
            .and_then(|material| self.publish(&material, Some(auth.lease_duration), generation));
        if done.is_err() {
            self.revoke(&session);
        }
        done
    }

    /// The same without a Vault: everything is invented.
    fn without_vault(&mut self, generation: Generation) -> Result<(), Error> {
        let material = dry_run::material(self.config, now())?;
        self.steps.mark("samples");
        self.publish(&material, None, generation)
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
        let called_off = self
            .link
            .called_off()
            .map_err(|error| init::Error::System {
                step: "listen to PID 1",
                reason: error.to_string(),
            })?;
        let limits = Limits {
            deadline: self.deadline,
            abort: vec![called_off],
            grace: Duration::ZERO,
        };
        Ok(Client::new(endpoint, roots, limits, self.log)?)
    }

    /// Checks the client token and asks for everything that it is for.
    fn fetch(
        &mut self,
        session: &Session,
        auth: &Auth,
        promise: &Promise,
        request: Option<certificate::Request>,
    ) -> Result<Material, Error> {
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
        let answer_time = self.steps.mark("verify");
        let fetched = fetch(
            session,
            self.config,
            request,
            answer_time,
            || clocks(session.clock_skew()),
            self.log,
        )?;
        self.steps.mark_parallel(&[
            ("certificate", fetched.certificate_took),
            ("dependencies", fetched.credentials_took),
        ]);
        Ok(Material::new(
            self.config,
            fetched.certificate,
            fetched.credentials,
        ))
    }

    /// Writes the files, hands the variables over and waits for leave to end.
    fn publish(
        &mut self,
        material: &Material,
        token_ttl: Option<u64>,
        generation: Generation,
    ) -> Result<(), Error> {
        let path = self.directory.path().to_string_lossy();
        let Rendered {
            mut files,
            variables,
        } = files::render(self.config, material, &path)?;
        let status = Status::new(self.config, material, token_ttl, now());
        files.push(files::status_file(&status));
        self.directory.publish(generation, &files)?;
        self.steps.mark("files");
        self.link
            .ready(&variables)
            .map_err(|error| match error.kind() {
                io::ErrorKind::ArgumentListTooLong => Error::Command(command::Error::TooLong),
                _ => Error::CalledOff,
            })?;
        self.log.event(
            Level::Info,
            "ready",
            &self.steps.text(),
            &[
                ("directory", Value::Text(&path)),
                ("files", Value::Number(files.len() as u64)),
            ],
        );
        if self.link.await_release() {
            Ok(())
        } else {
            Err(Error::CalledOff)
        }
    }

    /// Revokes the token and with it all its leases.
    fn revoke(&self, session: &Session) {
        let accessor = [("accessor", Value::Text(session.accessor()))];
        match session.revoke_self(REVOCATION) {
            Ok(()) => {
                let text = "revoked the client token";
                self.log.event(Level::Info, "revoked", text, &accessor);
            }
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

/// When PID 1 has called the start off it says why; of the errors that come with that, only those of the hand-over that
/// somebody must look into are worth a word.
fn silenced(error: Error, link: &KeeperEnd) -> Error {
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

//! The keeper after the start: what was fetched is renewed and replaced for as long as the application lives.
//!
//! Nothing wakes it but what is due, the end of the application and the end of a command of its own. It has one thread,
//! and one request is under way at a time.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use time::OffsetDateTime;

use super::application::Application;
use super::clock::{self, calendar, chance, moment};
use super::holdings::{Holdings, certificate_term, lease_term};
use crate::certificate;
use crate::command::Command;
use crate::config::{Config, OnExpiry, OnRotate};
use crate::dependencies;
use crate::error::Error;
use crate::files::status::Loss;
use crate::files::{self, Credential, Rendered};
use crate::init::{self, Hook};
use crate::log::{Level, Log, Value};
use crate::renewal::{self, Moment, Step, Term};
use crate::secret::Secret;
use crate::secrets_dir::SecretsDir;
use crate::vault::{self, GRACE, Limits, Session};

/// What a change of the certificate is called where the changes are named.
const CERTIFICATE: &str = "certificate";
/// Names what changed to the command of `on_rotate`.
const CHANGED: &str = "ANTEROOM_CHANGED";
/// What is replaced within this time of one another is published together: a generation that was replaced stays until
/// the next one, and readers in the middle of it need that time.
const TOGETHER: Duration = Duration::from_secs(1);
/// Pauses between tries to write files.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// The loop and all that it goes by.
pub(super) struct Upkeep<'a> {
    pub(super) config: &'a Config,
    pub(super) directory: &'a SecretsDir,
    pub(super) session: Session,
    pub(super) application: Application,
    pub(super) holdings: Holdings,
    /// What tells the application of a new generation, when that is a command.
    pub(super) on_rotate: Option<&'a Command>,
    pub(super) log: Log,
    pub(super) state: State,
}

/// What changes while it goes on.
#[derive(Default)]
pub(super) struct State {
    /// When to look whether the token was revoked.
    check: Option<Moment>,
    outage: Option<Outage>,
    /// Leases that were replaced, and when to revoke them.
    retired: Vec<Retired>,
    /// What changed and was not published yet, and when to publish it.
    changed: BTreeSet<String>,
    changed_since: Moment,
    publish: Option<Moment>,
    publish_failed: bool,
    /// The variables of the last generation.
    variables: Vec<(String, Secret)>,
    hook: Option<(Hook, Moment)>,
    /// What changed since the command was started.
    untold: BTreeSet<String>,
    is_warned: bool,
    farewell: Option<Moment>,
    is_told_of_the_end: bool,
    /// `status.json` says something else than what is.
    status_is_old: bool,
}

struct Outage {
    since: Moment,
    since_calendar: OffsetDateTime,
    failures: u32,
    until: Moment,
}

/// A lease whose credential was replaced.
struct Retired {
    lease: String,
    end: Moment,
    /// When to revoke it; none while readers still find it.
    due: Option<Moment>,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Token,
    Lease(usize),
    Certificate,
    Check,
    Publish,
    Revoke(usize),
    Warn,
    Farewell,
    End,
    StopHook,
}

/// Why a request did not succeed, as far as it matters for what comes next.
enum Trouble {
    /// Nobody answered, or somebody who cannot now.
    Away(String),
    /// This request failed; others may succeed.
    Failed(String),
    /// 403: a right is missing, or the token is gone.
    Denied(String),
    /// 400 and 404: what was asked for is not there.
    Refused(String),
    /// Everything is to be given back.
    Ending,
}

/// Why the loop went on.
enum Wake {
    Due,
    Hook,
    End,
}

impl Upkeep<'_> {
    /// Keeps everything fresh until the application has ended.
    pub(super) fn run(&mut self) -> Result<(), Error> {
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC)
            .map_err(|errno| system("make a timer", errno))?;
        self.heard();
        self.state.farewell = self.farewell();
        loop {
            let next = self.next();
            match self.wait(&timer, next.map(|(due, _)| due))? {
                Wake::Due => {
                    if let Some((due, job)) = next
                        && due <= moment()
                    {
                        self.perform(job);
                    }
                }
                Wake::Hook => self.hook_ended(),
                Wake::End => {
                    if let Some((hook, _)) = self.state.hook.take() {
                        hook.kill();
                    }
                    return Ok(());
                }
            }
            if std::mem::take(&mut self.state.status_is_old) {
                self.write_status();
            }
        }
    }

    /// Sleeps until the next thing is due, or until something happens.
    fn wait(&self, timer: &TimerFd, due: Option<Moment>) -> Result<Wake, Error> {
        match due {
            Some(due) => timer.set(
                Expiration::OneShot(TimeSpec::from(due)),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            ),
            None => timer.unset(),
        }
        .map_err(|errno| system("set a timer", errno))?;
        let ended = self.application.ended();
        let hook = self.state.hook.as_ref().map(|(hook, _)| hook.as_fd());
        let mut ready = vec![PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
        ready.extend(ended.map(|ended| PollFd::new(ended, PollFlags::POLLIN)));
        ready.extend(hook.map(|hook| PollFd::new(hook, PollFlags::POLLIN)));
        loop {
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) => break,
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(system("wait", errno)),
            }
        }
        let has = |index: usize| {
            ready
                .get(index)
                .and_then(PollFd::revents)
                .is_some_and(|revents| !revents.is_empty())
        };
        let after_end = 1 + usize::from(ended.is_some());
        Ok(if ended.is_some() && has(1) {
            Wake::End
        } else if hook.is_some() && has(after_end) {
            Wake::Hook
        } else {
            Wake::Due
        })
    }

    /// What is due first.
    fn next(&self) -> Option<(Moment, Job)> {
        let state = &self.state;
        let mut jobs: Vec<(Moment, Job)> = Vec::new();
        jobs.extend(state.publish.map(|due| (due, Job::Publish)));
        jobs.extend(
            state
                .hook
                .as_ref()
                .map(|(_, until)| (*until, Job::StopHook)),
        );
        let token = self.holdings.token.as_ref();
        if let Some(token) = token.filter(|token| token.lost.is_none()) {
            let away_until = state
                .outage
                .as_ref()
                .map_or(Moment::ZERO, |outage| outage.until);
            let leases = self.holdings.leases.iter().enumerate();
            let terms = leases
                .filter_map(|(index, term)| Some((term.as_ref()?, Job::Lease(index))))
                .chain(
                    self.holdings
                        .certificate
                        .iter()
                        .map(|term| (term, Job::Certificate)),
                )
                .chain([(&token.term, Job::Token)])
                .filter(|(term, _)| term.step != Step::Nothing)
                .map(|(term, job)| (term.due, job));
            let retired = state.retired.iter().enumerate();
            let asks = terms
                .chain(
                    retired.filter_map(|(index, retired)| Some((retired.due?, Job::Revoke(index)))),
                )
                .chain(state.check.map(|due| (due, Job::Check)));
            jobs.extend(asks.map(|(due, job)| (due.max(away_until), job)));
            if let Some(horizon) = token.horizon {
                if !state.is_warned {
                    jobs.push((horizon.warning(), Job::Warn));
                }
                jobs.push((horizon.end + Duration::from_secs(1), Job::End));
            }
            jobs.extend(state.farewell.map(|due| (due, Job::Farewell)));
        }
        jobs.into_iter().min()
    }

    fn perform(&mut self, job: Job) {
        match job {
            Job::Token => self.renew_token(),
            Job::Lease(index) => self.keep_lease(index),
            Job::Certificate => self.reissue(),
            Job::Check => {
                self.token_lives();
            }
            Job::Publish => self.publish(),
            Job::Revoke(index) => self.revoke_retired(index),
            Job::Warn => self.warn(),
            Job::Farewell => {
                self.state.farewell = None;
                self.tell_of_the_end();
            }
            Job::End => self.lost(Loss::Expired),
            Job::StopHook => {
                if let Some((hook, _)) = self.state.hook.take() {
                    self.hook_failed(&hook.kill());
                    self.start_hook();
                }
            }
        }
    }

    fn renew_token(&mut self) {
        let Some(term) = self.holdings.token.as_ref().map(|token| token.term) else {
            return;
        };
        let renewed = self.ask(term.left(moment()), |session| session.renew_self(term.full));
        let renewed = match renewed {
            // A token that may live but not renew itself is as one that cannot be renewed.
            Err(Trouble::Denied(reason)) if self.token_lives() => Err(Trouble::Refused(reason)),
            other => other,
        };
        let Some(token) = self
            .holdings
            .token
            .as_mut()
            .filter(|token| token.lost.is_none())
        else {
            return;
        };
        let now = moment();
        match renewed {
            Ok(seconds) => {
                token
                    .term
                    .renewed(now, renewal::life(seconds), true, chance());
                let fields = [("ttl_s", Value::Number(seconds))];
                self.log
                    .event(Level::Debug, "renewed", "renewed the client token", &fields);
                if token.term.step == Step::Replace {
                    let known = token.horizon.is_some();
                    if !known {
                        token.ends_for_good();
                        self.state.farewell = self.farewell();
                    } else {
                        token.term.step = Step::Nothing;
                    }
                }
            }
            Err(Trouble::Refused(reason)) => {
                token.ends_for_good();
                let text = format!("the client token cannot be renewed ({reason})");
                self.log.event(Level::Warn, "token_not_renewed", &text, &[]);
                self.state.farewell = self.farewell();
            }
            Err(Trouble::Failed(reason)) => {
                let first = !token.term.is_failing();
                token.term.failed(now, chance());
                self.failed("token_not_renewed", "the client token", &reason, first);
            }
            Err(Trouble::Away(_) | Trouble::Denied(_) | Trouble::Ending) => return,
        }
        self.state.status_is_old = true;
    }

    fn keep_lease(&mut self, index: usize) {
        match self.holdings.leases[index].map(|term| (term.step, term)) {
            Some((Step::Renew, term)) => self.renew_lease(index, term),
            Some((Step::Replace, term)) if self.would_outlive(&term) => self.replace(index, term),
            Some(_) => self.holdings.leases[index].iter_mut().for_each(|term| {
                term.step = Step::Nothing;
            }),
            None => {}
        }
    }

    fn renew_lease(&mut self, index: usize, term: Term) {
        let dependency = &self.config.dependencies[index];
        let Some(lease) = self.holdings.material.credentials[index].lease.clone() else {
            return;
        };
        let renewed = self.ask(term.left(moment()), |session| {
            session.renew_lease(&lease.id, term.full)
        });
        let is_denied = matches!(renewed, Err(Trouble::Denied(_)));
        if is_denied && !self.token_lives() {
            return;
        }
        let Some(term) = self.holdings.leases[index].as_mut() else {
            return;
        };
        let now = moment();
        let name = [("dependency", Value::Text(&dependency.name))];
        match renewed {
            Ok(renewed) => {
                let life = renewal::life(renewed.duration);
                term.renewed(now, life, renewed.renewable, chance());
                self.log
                    .event(Level::Debug, "renewed", "renewed a lease", &name);
            }
            Err(Trouble::Denied(reason)) => {
                term.must_be_replaced(now, chance());
                let text = format!(
                    "the lease of {} cannot be renewed ({reason}); its credential is replaced instead",
                    dependency.name
                );
                self.log
                    .event(Level::Warn, "lease_not_renewed", &text, &name);
            }
            Err(Trouble::Refused(reason)) => {
                term.is_gone(now);
                let text = format!("the lease of {} is gone ({reason})", dependency.name);
                self.log.event(Level::Warn, "lease_gone", &text, &name);
            }
            Err(Trouble::Failed(reason)) => {
                let first = !term.is_failing();
                term.failed(now, chance());
                // Whatever is wrong with renewing may not be wrong with making.
                if term.left(now) < term.full / 4 {
                    term.must_be_replaced(now, chance());
                }
                let what = format!("the lease of {}", dependency.name);
                self.failed("lease_not_renewed", &what, &reason, first);
            }
            Err(Trouble::Away(_) | Trouble::Ending) => return,
        }
        self.state.status_is_old = true;
    }

    /// Near the end of the token a new credential would live no longer than the old one.
    fn would_outlive(&self, term: &Term) -> bool {
        let horizon = self.holdings.token.as_ref().and_then(|token| token.horizon);
        horizon.is_none_or(|horizon| horizon.end > term.end + term.full / 10)
    }

    fn replace(&mut self, index: usize, term: Term) {
        let (config, log) = (self.config, self.log);
        let dependency = &config.dependencies[index];
        let fetched = self.ask(term.left(moment()), |session| {
            dependencies::fetch(session, dependency, log).map_err(|error| match error {
                dependencies::Error::Vault { error, .. } => Asked::Vault(error),
                other => Asked::Other(other.to_string()),
            })
        });
        let is_denied = matches!(fetched, Err(Trouble::Denied(_)));
        if is_denied && !self.token_lives() {
            return;
        }
        let now = moment();
        match fetched {
            Ok(credential) => self.take_credential(index, credential, &term, now),
            Err(Trouble::Failed(reason) | Trouble::Denied(reason) | Trouble::Refused(reason)) => {
                let first = !term.is_failing();
                self.holdings.leases[index]
                    .iter_mut()
                    .for_each(|term| term.failed(now, chance()));
                let what = format!("the credential of {}", dependency.name);
                self.failed("not_replaced", &what, &reason, first);
            }
            Err(Trouble::Away(_) | Trouble::Ending) => {}
        }
    }

    fn take_credential(&mut self, index: usize, credential: Credential, term: &Term, now: Moment) {
        self.holdings.leases[index] = lease_term(now, &credential);
        let new_lease = credential.lease.as_ref().map(|lease| lease.id.clone());
        let old = std::mem::replace(&mut self.holdings.material.credentials[index], credential);
        if let Some(lease) = old
            .lease
            .filter(|lease| Some(&lease.id) != new_lease.as_ref())
        {
            self.state.retired.push(Retired {
                lease: lease.id,
                end: term.end,
                due: None,
            });
        }
        // An engine may answer with what it answered before; then there is nothing to publish.
        if old.fields != self.holdings.material.credentials[index].fields {
            self.publish_soon(&self.config.dependencies[index].name, now);
        } else if self.state.changed.is_empty() {
            self.retire(now);
        }
        self.state.status_is_old = true;
    }

    /// Readers find what took the place of each lease that was replaced: its grace begins.
    fn retire(&mut self, now: Moment) {
        let due = now + self.config.upkeep.revoke_after;
        for retired in &mut self.state.retired {
            retired.due.get_or_insert(due);
        }
    }

    fn reissue(&mut self) {
        let (Some(asked), Some(term)) = (&self.config.certificate, self.holdings.certificate)
        else {
            return;
        };
        let request = match certificate::prepare(asked) {
            Ok(request) => request,
            Err(error) => return self.not_reissued(&error.to_string(), &term),
        };
        let obtained = self.ask(term.left(moment()), |session| {
            let clocks = || clock::clocks(session.clock_skew());
            certificate::obtain(request, asked, session, clocks).map_err(|error| match error {
                certificate::Error::Vault(error) => Asked::Vault(error),
                other => Asked::Other(other.to_string()),
            })
        });
        let is_denied = matches!(obtained, Err(Trouble::Denied(_)));
        if is_denied && !self.token_lives() {
            return;
        }
        match obtained {
            Ok(issued) => {
                let now = moment();
                let term = certificate_term(now, &issued, self.session.clock_skew());
                self.holdings.certificate = Some(term);
                self.holdings.material.certificate = Some(issued);
                self.publish_soon(CERTIFICATE, now);
                self.state.status_is_old = true;
            }
            Err(Trouble::Failed(reason) | Trouble::Denied(reason) | Trouble::Refused(reason)) => {
                self.not_reissued(&reason, &term);
            }
            Err(Trouble::Away(_) | Trouble::Ending) => {}
        }
    }

    fn not_reissued(&mut self, reason: &str, term: &Term) {
        let first = !term.is_failing();
        if let Some(term) = &mut self.holdings.certificate {
            term.failed(moment(), chance());
        }
        self.failed("not_replaced", "the certificate", reason, first);
    }

    fn publish_soon(&mut self, name: &str, now: Moment) {
        if self.state.changed.is_empty() {
            self.state.changed_since = now;
        }
        self.state.changed.insert(name.to_owned());
        self.state.publish = Some(now);
    }

    /// When to publish what changed: with what is about to change too, but before anything that was replaced ends.
    fn publish_at(&self, now: Moment) -> Moment {
        let leases = self
            .holdings
            .leases
            .iter()
            .chain([&self.holdings.certificate]);
        let next = leases
            .flatten()
            .filter(|term| term.step == Step::Replace && term.due > now)
            .map(|term| term.due + Duration::from_millis(1))
            .filter(|due| *due <= self.state.changed_since + TOGETHER)
            .max();
        let ends_soon = self
            .state
            .retired
            .iter()
            .any(|retired| retired.due.is_none() && retired.end < now + TOGETHER * 2);
        next.filter(|_| !ends_soon).unwrap_or(now)
    }

    /// Renders everything anew and swings the link; then the application is told.
    fn publish(&mut self) {
        let now = moment();
        let due = self.publish_at(now);
        if due > now {
            self.state.publish = Some(due);
            return;
        }
        let path = self.directory.path().to_string_lossy().into_owned();
        let published = files::render(self.config, &self.holdings.material, &path)
            .map_err(Error::from)
            .and_then(|Rendered { files, variables }| {
                let generation = self.directory.next()?;
                self.directory.publish(generation, &files)?;
                Ok(variables)
            });
        match published {
            Ok(variables) => {
                self.state.variables = variables;
                self.state.publish = None;
                self.state.publish_failed = false;
                self.holdings.rendered = calendar();
                self.retire(moment());
                self.write_status();
                let changed = std::mem::take(&mut self.state.changed);
                let names: Vec<&str> = changed.iter().map(String::as_str).collect();
                let mut fields = vec![];
                let names = names.join(" ");
                fields.push(("changed", Value::Text(&names)));
                let serial = self.holdings.material.certificate.as_ref();
                let serial = serial.filter(|_| changed.contains(CERTIFICATE));
                fields.extend(
                    serial.map(|issued| ("serial_number", Value::Text(&issued.serial_number))),
                );
                self.log.event(
                    Level::Info,
                    "rotated",
                    "published a new generation",
                    &fields,
                );
                self.tell(changed);
            }
            Err(error) => {
                // The last generation but one may be what fills the file system.
                self.directory.forget_last();
                self.state.publish = Some(moment() + WRITE_AGAIN);
                let first = !std::mem::replace(&mut self.state.publish_failed, true);
                let text = format!("cannot publish a new generation: {error}");
                let level = if first { Level::Warn } else { Level::Debug };
                self.log.event(level, "not_published", &text, &[]);
            }
        }
    }

    fn tell(&mut self, changed: BTreeSet<String>) {
        match &self.config.upkeep.on_rotate {
            OnRotate::Nothing => {}
            OnRotate::Signal(signal) => {
                if let Err(error) = self.application.signal(*signal) {
                    self.log
                        .event(Level::Warn, "on_rotate_failed", &error.to_string(), &[]);
                }
            }
            OnRotate::Command { .. } => {
                self.state.untold.extend(changed);
                if self.state.hook.is_none() {
                    self.start_hook();
                }
            }
        }
    }

    fn start_hook(&mut self) {
        let (OnRotate::Command { timeout, .. }, Some(command)) =
            (&self.config.upkeep.on_rotate, self.on_rotate)
        else {
            return;
        };
        if self.state.untold.is_empty() {
            return;
        }
        let untold = std::mem::take(&mut self.state.untold);
        let names: Vec<String> = untold.into_iter().collect();
        let started = self
            .hook_environment(&names.join(" "))
            .and_then(|environment| {
                let user = self.config.user.as_ref();
                Hook::start(command, &environment, user, self.log)
            });
        match started {
            Ok(hook) => self.state.hook = Some((hook, moment() + *timeout)),
            Err(error) => {
                self.log
                    .event(Level::Warn, "on_rotate_failed", &error.to_string(), &[]);
            }
        }
    }

    /// The application's environment, with the values of the last generation, and what changed.
    fn hook_environment(&self, changed: &str) -> Result<Vec<CString>, Error> {
        let variables = self.state.variables.iter();
        let mut variables: Vec<Secret<Vec<u8>>> = variables
            .map(|(name, value)| Secret::new(format!("{name}={}", value.expose()).into_bytes()))
            .collect();
        variables.push(Secret::new(format!("{CHANGED}={changed}").into_bytes()));
        init::environment(self.config, &variables)
    }

    fn hook_ended(&mut self) {
        let outcome = self
            .state
            .hook
            .as_ref()
            .and_then(|(hook, _)| hook.outcome());
        let Some(outcome) = outcome else { return };
        self.state.hook = None;
        if let Err(failure) = outcome {
            self.hook_failed(&failure);
        }
        self.start_hook();
    }

    fn hook_failed(&self, failure: &init::HookFailure) {
        let text = format!("the command of `on_rotate` failed: {failure}");
        self.log.event(Level::Warn, "on_rotate_failed", &text, &[]);
    }

    fn revoke_retired(&mut self, index: usize) {
        let retired = self.state.retired.swap_remove(index);
        let now = moment();
        if retired.end <= now {
            return;
        }
        match self.ask(retired.end - now, |session| {
            session.revoke_lease(&retired.lease)
        }) {
            Ok(()) => {
                let fields = [("lease_id", Value::Text(&retired.lease))];
                let text = "revoked a credential that was replaced";
                self.log.event(Level::Debug, "lease_revoked", text, &fields);
            }
            Err(Trouble::Away(_)) => self.state.retired.push(retired),
            Err(Trouble::Denied(reason)) => {
                if self.token_lives() {
                    self.not_revoked(&retired.lease, &reason);
                }
            }
            Err(Trouble::Failed(reason)) => self.not_revoked(&retired.lease, &reason),
            // It has gone by itself, or goes with the token.
            Err(Trouble::Refused(_) | Trouble::Ending) => {}
        }
    }

    fn not_revoked(&self, lease: &str, reason: &str) {
        let text = format!("a credential that was replaced lives until its lease ends ({reason})");
        let fields = [("lease_id", Value::Text(lease))];
        self.log
            .event(Level::Info, "lease_not_revoked", &text, &fields);
    }

    /// Looks whether the token is still one; when nobody can say, it is.
    fn token_lives(&mut self) -> bool {
        let left = self
            .holdings
            .token
            .as_ref()
            .map(|token| token.term.left(moment()));
        match self.ask(left.unwrap_or_default(), Session::lookup_self) {
            Err(Trouble::Denied(_)) => {
                let token = self.holdings.token.as_ref();
                let is_over = token.is_some_and(|token| token.term.left(moment()).is_zero());
                self.lost(if is_over {
                    Loss::Expired
                } else {
                    Loss::Revoked
                });
                false
            }
            Ok(_) => true,
            Err(Trouble::Failed(_) | Trouble::Refused(_)) => {
                self.plan_check();
                true
            }
            Err(Trouble::Away(_) | Trouble::Ending) => true,
        }
    }

    /// Nothing can be renewed any more; what is published stays.
    fn lost(&mut self, loss: Loss) {
        let Some(token) = self
            .holdings
            .token
            .as_mut()
            .filter(|token| token.lost.is_none())
        else {
            return;
        };
        token.lost = Some(loss);
        self.state.status_is_old = true;
        let (event, text) = match loss {
            Loss::Revoked => (
                "token_revoked",
                "the client token was revoked from outside, and with it every credential",
            ),
            Loss::Expired => (
                "token_expired",
                "the client token's life is over, and with it that of every credential",
            ),
        };
        let fields = [("accessor", Value::Text(self.session.accessor()))];
        self.log.event(Level::Error, event, text, &fields);
        self.tell_of_the_end();
    }

    fn warn(&mut self) {
        self.state.is_warned = true;
        let horizon = self.holdings.token.as_ref().and_then(|token| token.horizon);
        let left = horizon.map_or(0, |horizon| horizon.end.saturating_sub(moment()).as_secs());
        let text = format!(
            "the client token ends in {left} s and cannot be renewed beyond that: start this container again before, with a new wrapping token"
        );
        let fields = [("left_s", Value::Number(left))];
        self.log.event(Level::Warn, "token_ends", &text, &fields);
    }

    /// When the application is to be told of the end of a token whose end is known.
    fn farewell(&self) -> Option<Moment> {
        let horizon = self.holdings.token.as_ref()?.horizon?;
        (self.config.upkeep.on_expiry != OnExpiry::Ignore).then(|| horizon.farewell(chance()))
    }

    fn tell_of_the_end(&mut self) {
        if std::mem::replace(&mut self.state.is_told_of_the_end, true) {
            return;
        }
        let (text, told) = match self.config.upkeep.on_expiry {
            OnExpiry::Ignore => return,
            OnExpiry::Signal(signal) => (
                format!("the token ends: sending {signal} to the application"),
                self.application.signal(signal),
            ),
            OnExpiry::Terminate => (
                "the token ends: ending the application".to_owned(),
                self.application.terminate(),
            ),
        };
        self.log.event(Level::Warn, "on_expiry", &text, &[]);
        if let Err(error) = told {
            self.log
                .event(Level::Warn, "on_expiry_failed", &error.to_string(), &[]);
        }
    }

    /// Asks Vault once; `left` is how long what it is about still lives.
    fn ask<T, E: Into<Asked>>(
        &mut self,
        left: Duration,
        request: impl FnOnce(&Session) -> Result<T, E>,
    ) -> Result<T, Trouble> {
        let session = self.session.within(Limits {
            deadline: Instant::now() + renewal::patience(left),
            abort: self.application.abort(),
            grace: GRACE,
            persistent: false,
        });
        match request(&session).map_err(Into::into) {
            Ok(answer) => {
                self.heard();
                Ok(answer)
            }
            Err(Asked::Other(reason)) => {
                self.heard();
                Err(Trouble::Failed(reason))
            }
            Err(Asked::Vault(error)) => {
                let trouble = trouble(error);
                if let Trouble::Away(reason) = &trouble {
                    self.away(reason);
                }
                Err(trouble)
            }
        }
    }

    /// Vault has accepted the token.
    fn heard(&mut self) {
        self.plan_check();
        if let Some(outage) = self.state.outage.take() {
            let seconds = moment().saturating_sub(outage.since).as_secs();
            let fields = [
                ("seconds", Value::Number(seconds)),
                ("failures", Value::Number(outage.failures.into())),
            ];
            self.log
                .event(Level::Info, "vault_back", "Vault answers again", &fields);
            self.state.status_is_old = true;
        }
    }

    fn plan_check(&mut self) {
        let interval = self.config.upkeep.revocation_check;
        self.state.check =
            interval.map(|interval| moment() + interval.mul_f64(0.8 + 0.2 * chance()));
    }

    fn away(&mut self, reason: &str) {
        let now = moment();
        let shortest = self.holdings.shortest();
        let left = self.holdings.left_of_next(now);
        if self.state.outage.is_none() {
            let text = format!(
                "Vault is away ({reason}); the application goes on with what it has, and Vault is asked again from time to time"
            );
            self.log.event(Level::Warn, "vault_away", &text, &[]);
            self.state.status_is_old = true;
        }
        let outage = self.state.outage.get_or_insert_with(|| Outage {
            since: now,
            since_calendar: calendar(),
            failures: 0,
            until: now,
        });
        outage.until = now + renewal::pause(outage.failures, shortest, left, chance());
        outage.failures = outage.failures.saturating_add(1);
    }

    fn failed(&self, event: &str, what: &str, reason: &str, first: bool) {
        let level = if first { Level::Warn } else { Level::Debug };
        let text = format!("{what} could not be had anew ({reason}); trying again");
        self.log.event(level, event, &text, &[]);
    }

    fn write_status(&mut self) {
        self.state.status_is_old = false;
        let away = self
            .state
            .outage
            .as_ref()
            .map(|outage| outage.since_calendar);
        let status = self.holdings.status(self.config, true, away);
        if let Err(error) = self.directory.write_status(status.to_json()) {
            self.log
                .event(Level::Debug, "status_not_written", &error.to_string(), &[]);
        }
    }
}

/// A request of more than one layer failed.
enum Asked {
    Vault(vault::Error),
    /// Vault answered, but not with what can be used.
    Other(String),
}

impl From<vault::Error> for Asked {
    fn from(error: vault::Error) -> Self {
        Asked::Vault(error)
    }
}

fn trouble(error: vault::Error) -> Trouble {
    let text = error.to_string();
    match error {
        vault::Error::Aborted => Trouble::Ending,
        vault::Error::Status { status: 403, .. } => Trouble::Denied(text),
        vault::Error::Status {
            status: 400 | 404, ..
        } => Trouble::Refused(text),
        // A node that has just been unsealed says so too before it knows who leads.
        vault::Error::Unavailable { by_vault: true, .. } if !text.contains("not active") => {
            Trouble::Failed(text)
        }
        vault::Error::Unavailable { .. } | vault::Error::Unknown { .. } => Trouble::Away(text),
        // Somebody else answers in Vault's place, or nobody can be reached safely.
        vault::Error::Tls { .. }
        | vault::Error::Malformed { .. }
        | vault::Error::Redirect { .. }
        | vault::Error::NoDescriptor { .. } => Trouble::Away(text),
        vault::Error::Status { .. } => Trouble::Failed(text),
    }
}

fn system(step: &'static str, errno: nix::errno::Errno) -> Error {
    init::Error::System {
        step,
        reason: errno.desc().to_owned(),
    }
    .into()
}

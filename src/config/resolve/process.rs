//! `[process]`: how the application runs, how it is told, and what becomes of it.

use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::Resolver;
use crate::cli;
use crate::config::{Lifecycle, OnExpiry, OnRotate, Purpose, Renewal, Supervision};
use crate::manifest::{self, At, Manifest, Words};
use crate::spelling::meant;
use crate::system::user::User;
use crate::text::{duration, named, positive};

/// The word of `on_rotate` for a new start.
const RESTART: &str = "restart";
const ON_ROTATE_TIMEOUT: Duration = Duration::from_secs(30);
/// The default time from TERM to KILL: Docker waits 10 s, of which the revocation needs some.
const STOP_TIMEOUT: Duration = Duration::from_secs(7);
const RESTART_SPLAY: Duration = Duration::from_secs(30);
/// The time of a restart besides `stop_timeout`: for what the application leaves behind, and for the new start.
const RESTART_REST: Duration = Duration::from_secs(2);
const REVOCATION_CHECK: Duration = Duration::from_secs(60);
const REVOKE_AFTER: Duration = Duration::from_secs(300);

impl Resolver<'_> {
    /// Chooses the lifecycle: a flag or its variable wins over the manifest.
    pub(super) fn lifecycle(&mut self, cli: &cli::Cli, table: &manifest::Process) -> Lifecycle {
        let known = [
            ("exec", cli::Lifecycle::Exec),
            ("supervise", cli::Lifecycle::Supervise),
        ];
        let written = table
            .lifecycle
            .as_ref()
            .and_then(|value| self.parsed(value, |text| named(text, &known)));
        let supervision = Supervision {
            signal_group: table.signal_group,
            remap_exit: self.list(&table.remap_exit, exit_code),
            subreaper: table.subreaper,
            stop_timeout: self.or_default(table.stop_timeout.as_ref(), positive, STOP_TIMEOUT),
        };
        match cli.lifecycle.or(written) {
            Some(cli::Lifecycle::Supervise) => Lifecycle::Supervise(supervision),
            // A flag of the start may have chosen it, which a health check does not know.
            _ if self.purpose == Purpose::Health => Lifecycle::Supervise(supervision),
            Some(cli::Lifecycle::Exec) | None => Lifecycle::Exec,
        }
    }

    pub(super) fn renewal(&mut self, manifest: &Manifest, lifecycle: &Lifecycle) -> Renewal {
        let table = &manifest.process;
        let timeout = self.or_default(
            table.on_rotate_timeout.as_ref(),
            positive,
            ON_ROTATE_TIMEOUT,
        );
        let check = self.or_default(
            manifest.token.revocation_check.as_ref(),
            seconds_or_never,
            REVOCATION_CHECK,
        );
        Renewal {
            on_rotate: self.on_rotate(table, timeout, lifecycle),
            on_expiry: self.on_expiry(table, lifecycle),
            revocation_check: Some(check).filter(|check| !check.is_zero()),
            revoke_after: self.or_default(
                manifest.secrets.revoke_after.as_ref(),
                duration,
                REVOKE_AFTER,
            ),
        }
    }

    fn on_rotate(
        &mut self,
        table: &manifest::Process,
        timeout: Duration,
        lifecycle: &Lifecycle,
    ) -> OnRotate {
        let splay = self.or_default(table.restart_splay.as_ref(), duration, RESTART_SPLAY);
        let runs_at_start = table.on_rotate_at_start;
        if runs_at_start && !matches!(table.on_rotate, Some(Words::List(_))) {
            let place = match &table.on_rotate {
                Some(Words::One(name)) => Some(name.place),
                _ => None,
            };
            self.report_mistake(
                place,
                "`on_rotate_at_start` in [process] is for a command: give `on_rotate` as a list of words, or leave it out",
            );
        }
        match &table.on_rotate {
            None => OnRotate::Nothing,
            Some(Words::One(name)) => {
                let told = self.parsed(name, |text| told(text, splay, lifecycle));
                told.unwrap_or(OnRotate::Nothing)
            }
            Some(Words::List(words)) => {
                if words.value.is_empty() {
                    self.report_mistake(
                        Some(words.place),
                        "`on_rotate` in [process] names no command",
                    );
                }
                OnRotate::Command {
                    words: self.list(&words.value, |text| Ok(text.to_owned())),
                    timeout,
                    runs_at_start,
                }
            }
        }
    }

    fn on_expiry(&mut self, table: &manifest::Process, lifecycle: &Lifecycle) -> OnExpiry {
        let told_by = self.or_default(table.expiry_signal.as_ref(), signal, Signal::SIGTERM);
        let known = [
            ("ignore", OnExpiry::Ignore),
            ("signal", OnExpiry::Signal(told_by)),
            ("terminate", OnExpiry::Terminate),
        ];
        let Some(written) = &table.on_expiry else {
            return OnExpiry::Ignore;
        };
        let chosen = self.or_default(Some(written), |text| named(text, &known), OnExpiry::Ignore);
        if chosen == OnExpiry::Terminate && *lifecycle == Lifecycle::Exec {
            self.report_mistake(
                Some(written.place),
                "`on_expiry = \"terminate\"` needs the lifecycle `supervise`: no process in the container can end an application that is PID 1",
            );
        }
        chosen
    }

    fn or_default<T>(
        &mut self,
        value: Option<&At<String>>,
        parse: impl FnOnce(&str) -> Result<T, String>,
        default: T,
    ) -> T {
        value
            .and_then(|value| self.parsed(value, parse))
            .unwrap_or(default)
    }

    pub(super) fn user(&mut self, table: &manifest::Process) -> Option<User> {
        let written = table.user.as_ref()?;
        let (passwd, group) = (&self.surroundings.passwd, &self.surroundings.group);
        let (uid, gid) = (self.surroundings.uid, self.surroundings.gid);
        if uid == 0 && self.purpose.is_here() {
            return self.parsed(written, |text| User::parse(text, passwd, group));
        }
        // Another machine has other users; only what it is made of can be looked at.
        let user = self.text(written)?;
        let is_already =
            User::parse(&user, passwd, group).is_ok_and(|user| (user.uid, user.gid) == (uid, gid));
        if self.purpose.is_here() && !is_already {
            self.notices.push(format!(
                "`user` in [process] does not apply: only root can become another user, and anteroom runs as {uid}:{gid}"
            ));
        }
        None
    }
}

fn seconds_or_never(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|duration| {
        if duration.is_zero() || duration >= Duration::from_secs(1) {
            Ok(duration)
        } else {
            Err("more often than once a second is too often; `0s` is never".to_owned())
        }
    })
}

/// Reads the one word that says how the application is told.
fn told(text: &str, splay: Duration, lifecycle: &Lifecycle) -> Result<OnRotate, String> {
    match (text, lifecycle) {
        (RESTART, Lifecycle::Supervise(supervision)) => Ok(OnRotate::Restart {
            splay,
            limit: supervision.stop_timeout + RESTART_REST,
        }),
        (RESTART, Lifecycle::Exec) => Err(
            "`on_rotate = \"restart\"` needs the lifecycle `supervise`: in `exec` the application is PID 1, and no process can start it again; set `lifecycle = \"supervise\"`, over which --lifecycle and ANTEROOM_LIFECYCLE win, or tell the application by a signal or a command".to_owned(),
        ),
        _ => signal(text)
            .map(OnRotate::Signal)
            .map_err(|error| format!(
                "{error}, nor `{RESTART}`{}; a command is a list of words, such as [\"/app/reload\"]",
                meant(text, [RESTART])
            )),
    }
}

/// Reads the name of a signal, with `SIG` or without.
fn signal(text: &str) -> Result<Signal, String> {
    let name = if text.starts_with("SIG") {
        text.to_owned()
    } else {
        format!("SIG{text}")
    };
    match Signal::from_str(&name) {
        Ok(Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGCHLD) => {
            Err(format!("{name} tells an application nothing"))
        }
        Ok(signal) => Ok(signal),
        Err(_) => Err(format!(
            "`{}` is not a signal such as SIGHUP",
            text.escape_default()
        )),
    }
}

fn exit_code(text: &str) -> Result<u8, String> {
    text.parse().map_err(|_| {
        format!(
            "`{}` is not an exit code from 0 to 255",
            text.escape_default()
        )
    })
}

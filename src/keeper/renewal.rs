//! The keeper after the start: what was fetched is renewed and replaced for as long as the application lives.
//!
//! The keeper wakes for a job that is due, for the end of the application and for the end of a command of its own. It has
//! one thread, and one request is under way at a time.

mod certificate;
mod credentials;
mod ends;
mod notice;
mod outage;
mod publication;
mod reading;
mod replacement;
mod request;
mod restart;
mod token;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{Expiration, TimerFd, TimerSetTimeFlags};

use super::application::Application;
use super::items::{Items, Token};
use crate::clock::moment;
use crate::command::Command;
use crate::config::Config;
use crate::files::Material;
use crate::files::status::Loss;
use crate::log::Log;
use crate::schedule::{Moment, Step};
use crate::secret::Secret;
use crate::secrets_dir::SecretsDir;
use crate::system::memory::forget_code;
use crate::system::process::leave_working_directory;
use crate::vault::Session;

use credentials::Retired;
use notice::Notice;
use outage::Outage;
use publication::Publication;
use token::TokenEnd;

/// The pause between looks at the application where no descriptor tells of its end.
const LOOK: Duration = Duration::from_secs(5);

/// The loop and everything that it works with.
pub(super) struct Renewal<'a> {
    config: &'a Config,
    directory: &'a mut SecretsDir,
    session: Session,
    application: Application,
    items: Items<'a>,
    /// The command that tells the application of a new generation, if one is configured.
    on_rotate: Option<&'a Command>,
    /// The umask that this command is started with.
    umask: Mode,
    /// The directory in which this command is started, when the keeper is in another one.
    working_directory: Option<PathBuf>,
    log: Log,
    /// A timer of the clock that goes on while the machine sleeps.
    timer: TimerFd,
    /// The next look whether the token was revoked.
    check: Option<Moment>,
    outage: Option<Outage>,
    /// The leases that were replaced, to be revoked later.
    retired: Vec<Retired>,
    publication: Publication,
    notice: Notice,
    token_end: TokenEnd,
    /// Whether `status.json` is out of date.
    status_is_old: bool,
}

/// The things that a start hands over to the renewal.
pub(super) struct Beginning<'a> {
    pub(super) config: &'a Config,
    pub(super) directory: &'a mut SecretsDir,
    pub(super) session: Session,
    pub(super) application: Application,
    pub(super) items: Items<'a>,
    /// The command that tells the application of a new generation, if one is configured.
    pub(super) on_rotate: Option<&'a Command>,
    pub(super) umask: Mode,
    pub(super) log: Log,
    pub(super) timer: TimerFd,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Token,
    /// Renew, replace, reissue or read again the item at this place.
    Item(usize),
    Check,
    Publish,
    Revoke(usize),
    Warn,
    TellOfTheEnd,
    End,
    StopHook,
    Tell,
    Restart,
    Ended(usize),
}

/// The reason why the loop went on.
enum Wake {
    Due,
    Hook,
    End,
}

impl<'a> Renewal<'a> {
    /// Begins with what a start has made.
    pub(super) fn new(beginning: Beginning<'a>) -> Renewal<'a> {
        let Beginning {
            config,
            directory,
            session,
            application,
            items,
            on_rotate,
            umask,
            log,
            timer,
        } = beginning;
        Renewal {
            working_directory: leave_working_directory(on_rotate.is_some()),
            config,
            directory,
            session: session.within(application.limits()),
            application,
            items,
            on_rotate,
            umask,
            log,
            timer,
            check: None,
            outage: None,
            retired: Vec::new(),
            publication: Publication::default(),
            notice: Notice::default(),
            token_end: TokenEnd::default(),
            status_is_old: false,
        }
    }

    /// Keeps everything fresh until the application has ended; returns the session whose token is then to be revoked, unless
    /// the token is lost. The variables are for a command that runs for the first generation.
    pub(super) fn run(mut self, variables: Vec<(String, Secret)>) -> Option<Session> {
        self.tell_at_start(variables);
        self.note_answer();
        self.plan_notice();
        loop {
            let next = self.next();
            match self.wait(next.map(|(due, _)| due)) {
                Wake::Due => {
                    if let Some((due, job)) = next
                        && due <= moment()
                    {
                        self.perform(job);
                    }
                }
                Wake::Hook => self.finish_hook(),
                Wake::End => {
                    self.kill_hook();
                    let is_lost = |token: &Token| token.lost.is_some();
                    let token = self.items.token.as_ref();
                    return (!token.is_some_and(is_lost)).then_some(self.session);
                }
            }
            if std::mem::take(&mut self.status_is_old) {
                self.write_status();
            }
        }
    }

    /// Sleeps until the next thing is due, or until something happens.
    fn wait(&self, due: Option<Moment>) -> Wake {
        let ended = self.application.ended();
        // Without a descriptor that tells of the end the keeper has to look.
        let look = ended.is_none().then(|| moment() + LOOK);
        // The timer refuses only times that are none.
        let _ = match due.into_iter().chain(look).min() {
            Some(due) => self.timer.set(
                Expiration::OneShot(TimeSpec::from(due.max(Moment::from_nanos(1)))),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            ),
            None => self.timer.unset(),
        };
        let hook = self.notice.hook_end();
        let mut ready = vec![PollFd::new(self.timer.as_fd(), PollFlags::POLLIN)];
        ready.extend(ended.map(|ended| PollFd::new(ended, PollFlags::POLLIN)));
        ready.extend(hook.map(|hook| PollFd::new(hook, PollFlags::POLLIN)));
        forget_code();
        while let Err(errno) = poll(&mut ready, PollTimeout::NONE) {
            if errno != Errno::EINTR {
                // The kernel lacks memory; the application goes on, and so does the keeper.
                std::thread::sleep(LOOK);
            }
        }
        let has = |index: usize| {
            ready
                .get(index)
                .and_then(PollFd::revents)
                .is_some_and(|revents| !revents.is_empty())
        };
        let after_end = 1 + usize::from(ended.is_some());
        if (ended.is_some() && has(1)) || self.application.is_gone() {
            Wake::End
        } else if hook.is_some() && has(after_end) {
            Wake::Hook
        } else {
            Wake::Due
        }
    }

    /// The job that is due first.
    fn next(&self) -> Option<(Moment, Job)> {
        let mut jobs: Vec<(Moment, Job)> = Vec::new();
        jobs.extend(self.publication.due().map(|due| (due, Job::Publish)));
        jobs.extend(self.notice.hook_until().map(|until| (until, Job::StopHook)));
        jobs.extend(self.notice.signal_due().map(|due| (due, Job::Tell)));
        jobs.extend(self.notice.restart_due().map(|due| (due, Job::Restart)));
        let ends = self.items.ends();
        jobs.extend(ends.map(|(end, place)| (end, Job::Ended(place))));
        let token = self.items.token.as_ref();
        if let Some(token) = token.filter(|token| token.lost.is_none()) {
            let away_until = self.outage.as_ref().map_or(Moment::ZERO, Outage::until);
            let items = self.items.all.iter().enumerate();
            let terms = items
                .filter_map(|(place, item)| Some((item.lifetime.term.as_ref()?, Job::Item(place))))
                .chain([(&token.term, Job::Token)])
                .filter(|(term, _)| term.step != Step::Nothing)
                .map(|(term, job)| (term.due, job));
            let retired = self.retired.iter().enumerate();
            let asks = terms
                .chain(
                    retired.filter_map(|(index, retired)| Some((retired.due?, Job::Revoke(index)))),
                )
                .chain(self.check.map(|due| (due, Job::Check)));
            jobs.extend(asks.map(|(due, job)| (due.max(away_until), job)));
            if let Some(horizon) = token.horizon {
                if !self.token_end.is_warned() {
                    jobs.push((horizon.warning(), Job::Warn));
                }
                jobs.push((horizon.end + Duration::from_secs(1), Job::End));
            }
            jobs.extend(self.token_end.notice().map(|due| (due, Job::TellOfTheEnd)));
        }
        jobs.into_iter().min()
    }

    /// Does the job that is due for an item.
    fn keep(&mut self, place: usize) {
        let item = &self.items.all[place];
        let Some(term) = item.lifetime.term else {
            return;
        };
        match item.material {
            Material::Certificate { spec, .. } => self.reissue(place, spec, term),
            Material::Credential { spec, .. } if term.step == Step::ReadAgain => {
                self.read_again(place, spec, term);
            }
            Material::Credential {
                spec,
                ref credential,
            } if credential.lease.is_none() => {
                self.replace(place, spec, term);
            }
            Material::Credential { spec, .. } => self.keep_lease(place, spec, term),
        }
    }

    fn perform(&mut self, job: Job) {
        match job {
            Job::Token => self.renew_token(),
            Job::Item(place) => self.keep(place),
            Job::Check => {
                self.look_up();
            }
            Job::Publish => self.publish(),
            Job::Revoke(index) => self.revoke_retired(index),
            Job::Warn => self.warn_of_token_end(),
            Job::TellOfTheEnd => self.tell_of_the_end(),
            Job::End => self.lose_token(Loss::Expired),
            Job::Tell => self.tell_waiting(),
            Job::Restart => self.restart(),
            Job::Ended(place) => self.say_ended(place),
            Job::StopHook => self.stop_hook(),
        }
    }
}

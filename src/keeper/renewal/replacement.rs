//! Another certificate or credential takes the place of an item's.

use super::Renewal;
use super::request::Trouble;
use crate::clock::{self, jitter, moment};
use crate::fetch;
use crate::files::Material;
use crate::keeper::items::{Lifetime, Times};
use crate::schedule::{Moment, Term};

impl<'a> Renewal<'a> {
    /// Puts the material that was asked for at a moment in the place of the old one, which it returns.
    pub(super) fn take_material(
        &mut self,
        place: usize,
        new: Material<'a>,
        asked: Moment,
    ) -> Material<'a> {
        let times = Times::now(self.session.clock_skew());
        let item = &mut self.items.all[place];
        item.lifetime = Lifetime::new(&new, asked, times);
        self.status_is_old = true;
        std::mem::replace(&mut item.material, new)
    }

    /// Fetches what is to take the place of an item's material.
    pub(super) fn fetch_again(
        &mut self,
        place: usize,
        term: &Term,
    ) -> Result<Material<'a>, Trouble> {
        let job = fetch::Job::prepare(self.items.all[place].material.spec());
        let job = job.map_err(|error| Trouble::Failed(error.to_string()))?;
        let log = self.log;
        self.ask(term.left(moment()), |session| {
            let clocks = || clock::clocks(session.clock_skew());
            fetch::perform(session, job, clocks, log)
        })
    }

    /// Plans another try where nothing could take the place of an item, and says so unless Vault is away.
    pub(super) fn put_off_replacement(
        &mut self,
        place: usize,
        what: &str,
        term: &Term,
        trouble: Trouble,
    ) {
        let reason = match trouble {
            Trouble::Ending => return,
            Trouble::Away(_) => None,
            Trouble::Failed(reason)
            | Trouble::Unheard(reason)
            | Trouble::Denied(reason)
            | Trouble::Refused(reason) => Some(reason),
        };
        self.try_again(place);
        if let Some(reason) = reason {
            let name = self.items.all[place].material.name();
            self.report_failure("not_replaced", name, what, &reason, !term.is_failing());
        }
    }

    /// Plans another try for an item at which a request failed.
    fn try_again(&mut self, place: usize) {
        if let Some(term) = &mut self.items.all[place].lifetime.term {
            term.retry_later(moment(), jitter());
        }
    }
}

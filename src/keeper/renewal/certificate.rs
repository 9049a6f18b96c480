//! The certificate: reissued with a new key in good time.

use super::Renewal;
use super::request::{Asked, Trouble};
use crate::certificate;
use crate::clock::{self, moment};
use crate::config::Certificate;
use crate::files::Material;
use crate::keeper::items::Times;
use crate::schedule::Term;

impl<'a> Renewal<'a> {
    pub(super) fn reissue(&mut self, place: usize, spec: &'a Certificate, term: Term) {
        let request = match certificate::prepare(spec) {
            Ok(request) => request,
            Err(error) => return self.report_not_reissued(place, &error.to_string(), &term),
        };
        let obtained = self.ask(term.left(moment()), |session| {
            let clocks = || clock::clocks(session.clock_skew());
            certificate::obtain(request, spec, session, clocks).map_err(|error| match error {
                certificate::Error::Vault(error) => Asked::Vault(error),
                other => Asked::Other(other.to_string()),
            })
        });
        match obtained {
            Ok(issued) => {
                let next = Times::now(self.session.clock_skew()).certificate_term(&issued);
                if let Some(ca) = &issued.ends_with
                    && !term.is_outlived_by(&next)
                {
                    let reason =
                        format!("one that is signed now ends no later, since its CA {ca} ends");
                    return self.report_not_reissued(place, &reason, &term);
                }
                let issued = Box::new(issued);
                self.take_material(place, Material::Certificate { spec, issued }, moment());
                self.publish_soon(&spec.name, moment());
                self.status_is_old = true;
            }
            Err(
                Trouble::Failed(reason)
                | Trouble::Unheard(reason)
                | Trouble::Denied(reason)
                | Trouble::Refused(reason),
            ) => {
                self.report_not_reissued(place, &reason, &term);
            }
            Err(Trouble::Away(_)) => self.try_again(place),
            Err(Trouble::Ending) => {}
        }
    }

    fn report_not_reissued(&mut self, place: usize, reason: &str, term: &Term) {
        self.try_again(place);
        let first = !term.is_failing();
        let name = self.items.all[place].material.name();
        self.report_failure("not_replaced", name, "the certificate", reason, first);
    }
}

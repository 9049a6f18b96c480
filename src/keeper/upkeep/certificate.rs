//! The certificate: reissued with a new key in good time.

use super::Upkeep;
use super::request::{Asked, Trouble};
use crate::certificate;
use crate::clock::{self, chance, moment};
use crate::keeper::holdings::{Item, Times};
use crate::renewal::Term;

/// What a change of it is called where the changes are named.
pub(super) const CERTIFICATE: &str = "certificate";

impl Upkeep<'_> {
    pub(super) fn reissue(&mut self) {
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
        match obtained {
            Ok(issued) => {
                let next = Times::now(self.session.clock_skew()).certificate_term(&issued);
                if let Some(ca) = &issued.ends_with
                    && !term.is_outlived_by(&next)
                {
                    let reason =
                        format!("one that is signed now ends no later, since its CA {ca} ends");
                    return self.not_reissued(&reason, &term);
                }
                self.holdings.certificate = Some(next);
                self.holdings.material.certificate = Some(issued);
                self.state.ended.remove(&Item::Certificate);
                self.publish_soon(CERTIFICATE, moment());
                self.state.status_is_old = true;
            }
            Err(Trouble::Failed(reason) | Trouble::Denied(reason) | Trouble::Refused(reason)) => {
                self.not_reissued(&reason, &term);
            }
            Err(Trouble::Away(_)) => self.try_again(),
            Err(Trouble::Ending) => {}
        }
    }

    fn not_reissued(&mut self, reason: &str, term: &Term) {
        self.try_again();
        let first = !term.is_failing();
        self.failed(
            "not_replaced",
            CERTIFICATE,
            "the certificate",
            reason,
            first,
        );
    }

    fn try_again(&mut self) {
        if let Some(term) = &mut self.holdings.certificate {
            term.failed(moment(), chance());
        }
    }
}

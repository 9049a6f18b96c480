//! A certificate: reissued with a new key in good time.

use super::Renewal;
use super::request::Trouble;
use crate::clock::moment;
use crate::config::Certificate;
use crate::files::Material;
use crate::keeper::items::Times;
use crate::schedule::Term;

impl<'a> Renewal<'a> {
    pub(super) fn reissue(&mut self, place: usize, spec: &'a Certificate, term: Term) {
        let what = spec.name.to_string();
        let new = match self.fetch_again(place, &term) {
            Ok(new) => new,
            Err(trouble) => return self.put_off_replacement(place, &what, &term, trouble),
        };
        if let Material::Certificate { issued, .. } = &new
            && let Some(ca) = &issued.ends_with
        {
            let next = Times::now(self.session.clock_skew()).certificate_term(issued);
            if !term.is_outlived_by(&next) {
                let reason =
                    format!("one that is signed now ends no later, since its CA {ca} ends");
                return self.put_off_replacement(place, &what, &term, Trouble::Failed(reason));
            }
        }
        self.take_material(place, new, moment());
        self.publish_soon(spec.name.as_str(), Some(term.end), moment());
    }
}

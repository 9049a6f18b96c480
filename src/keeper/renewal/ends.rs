//! The log says once that an item has ended.

use super::Renewal;
use crate::files::Material;
use crate::log::{Level, Value};
use crate::schedule::Step;

impl Renewal<'_> {
    pub(super) fn say_ended(&mut self, place: usize) {
        self.status_is_old = true;
        let item = &mut self.items.all[place];
        item.lifetime.is_end_told = true;
        let name = item.material.name();
        let text = match &item.material {
            Material::Certificate { spec, issued } => {
                let ca = issued.ends_with.as_ref();
                let with = ca.map_or_else(String::new, |ca| format!(", since its CA {ca} has"));
                let what = &spec.name;
                format!("{what} has ended{with}; another one is asked for again")
            }
            Material::Credential { .. } => {
                let next = match item.lifetime.term {
                    Some(term) if term.step == Step::Nothing => {
                        "another one would live no longer than the token"
                    }
                    _ => "another one is asked for again",
                };
                format!("the credential of {name} has ended; {next}")
            }
        };
        let fields = [("name", Value::Text(name))];
        self.log.event(Level::Warn, "ended", &text, &fields);
    }
}

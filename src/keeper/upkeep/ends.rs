//! Says once that something has ended.

use super::Upkeep;
use super::certificate::CERTIFICATE;
use crate::keeper::holdings::Item;
use crate::log::{Level, Value};
use crate::renewal::Step;

impl Upkeep<'_> {
    pub(super) fn say_ended(&mut self, item: Item) {
        self.state.ended.insert(item);
        self.state.status_is_old = true;
        let (name, text) = match item {
            Item::Certificate => {
                let issued = self.holdings.material.certificate.as_ref();
                let ca = issued.and_then(|issued| issued.ends_with.as_ref());
                let with = ca.map_or_else(String::new, |ca| format!(", since its CA {ca} has"));
                let text =
                    format!("the certificate has ended{with}; another one is asked for again");
                (CERTIFICATE, text)
            }
            Item::Credential(index) => {
                let name = self.config.dependencies[index].name.as_str();
                let next = match self.holdings.leases[index] {
                    Some(term) if term.step == Step::Nothing => {
                        "another one would live no longer than the token"
                    }
                    Some(_) => "another one is asked for again",
                    None => "it has no lease and is fetched once: start this container again",
                };
                (name, format!("the credential of {name} has ended; {next}"))
            }
        };
        let fields = [("name", Value::Text(name))];
        self.log.event(Level::Warn, "ended", &text, &fields);
    }
}

//! The rehearsal: every template is rendered with samples, so that mistakes are found while the token is untouched.

use super::scope::Scope;
use super::{Material, sample};
use crate::config::{Config, Purpose};
use crate::manifest::{Mistake, Place};
use crate::template::{Failure, Template};

/// Names the templates that fail; at a start only those that no other value would put right, since the samples are not
/// the real values.
pub(crate) fn mistakes(config: &Config, purpose: Purpose) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    if purpose == Purpose::Health {
        return mistakes;
    }
    let materials: Vec<Material<'_>> = config
        .dependencies
        .iter()
        .map(|spec| Material::Credential {
            spec,
            credential: sample::credential(spec, config),
        })
        .collect();
    let mut scope = Scope::rehearsed(config, &materials.iter().collect::<Vec<_>>());
    if !purpose.is_here() {
        scope.invent_variables();
    }
    let mut rehearse =
        |template: &Template, target: &str, failure: Option<Failure>, place: Place| {
            let Some(failure) = failure else {
                return;
            };
            let needs_values = !template.names().iter().all(|name| scope.is_plain(name));
            if purpose == Purpose::Start && needs_values && !failure.is_certain {
                return;
            }
            let with = if needs_values && !failure.is_certain {
                "; this is with the values of `sample`, or with invented ones"
            } else {
                ""
            };
            mistakes.push(Mistake {
                place: Some(place),
                text: format!("the template of {target}, {}{with}", failure.reason),
            });
        };
    for material in &materials {
        let Material::Credential { spec, credential } = material else {
            continue;
        };
        let values = scope.within(credential);
        for file in &spec.templates {
            let target = format!("{}/{}", spec.name, file.name);
            let failure = file.template.render_file(&values).err();
            rehearse(&file.template, &target, failure, file.place);
        }
    }
    let values = scope.all();
    for variable in &config.variables {
        let target = format!("the variable {}", variable.name);
        let failure = variable.template.render(&values).err();
        rehearse(&variable.template, &target, failure, variable.place);
    }
    mistakes
}

//! Every template once with samples, so that what a start would stumble over is found while the token is untouched.

use super::sample;
use super::scope::Scope;
use crate::config::{Config, Purpose, SECRETS_DIR};
use crate::manifest::{Manifest, Mistake, Place};
use crate::template::{Template, Values};

/// Names the templates that fail; at a start only those that no other value would put right, since the samples are not
/// the real values.
pub fn mistakes(config: &Config, manifest: &Manifest, purpose: Purpose) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    if purpose == Purpose::Health {
        return mistakes;
    }
    let credentials: Vec<_> = config
        .dependencies
        .iter()
        .map(|dependency| sample::credential(dependency, config))
        .collect();
    let mut scope = Scope::new(config, &credentials, SECRETS_DIR);
    if !purpose.is_here() {
        scope.invent_variables();
    }
    let mut rehearse = |template: &Template, target: &str, values: &Values, place: Place| {
        let Err(failure) = template.render(values) else {
            return;
        };
        let needs_values = !template.names().iter().all(|name| scope.is_plain(name));
        if purpose == Purpose::Start && needs_values && !failure.is_certain {
            return;
        }
        let with = match needs_values && !failure.is_certain {
            true => "; this is with the values of `sample`, or with invented ones",
            false => "",
        };
        mistakes.push(Mistake {
            place: Some(place),
            text: format!("the template of {target}, {}{with}", failure.reason),
        });
    };
    let dependencies = config.dependencies.iter().zip(&manifest.dependencies);
    for ((dependency, table), credential) in dependencies.zip(&credentials) {
        let values = scope.within(credential);
        for ((name, template), (_, source)) in dependency.templates.iter().zip(&table.files) {
            let target = format!("{}/{name}", dependency.name);
            rehearse(template, &target, &values, source.place);
        }
    }
    let values = scope.all();
    for (variable, (_, source)) in config.variables.iter().zip(&manifest.environment) {
        let target = format!("the variable {}", variable.name);
        rehearse(&variable.template, &target, &values, source.place);
    }
    mistakes
}

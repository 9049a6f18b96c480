//! The rehearsal: every template is rendered with samples, so that mistakes are found while the token is untouched.

use super::scope::Scope;
use super::{Credential, Error, Material, sample, variables};
use crate::config::{Config, Purpose};
use crate::manifest::{Mistake, Place};
use crate::template::{Failure, Template};

/// Names the templates that fail; at a start only those that no other value would put right, since the samples are not
/// the real values.
pub(crate) fn mistakes(config: &Config, purpose: Purpose) -> Vec<Mistake> {
    if purpose == Purpose::Health {
        return Vec::new();
    }
    let with = "this is with the values of `sample`, or with invented ones";
    let mistakes = rehearse_all(config, purpose, true, with);
    let has_optional = config.dependencies.iter().any(|spec| spec.is_optional);
    if !mistakes.is_empty() || !has_optional || purpose == Purpose::Start {
        return mistakes;
    }
    let without = "this is where no dependency that is `optional` is there: test it with `if`, or use `default`";
    rehearse_all(config, purpose, false, without)
}

/// Renders every template, with optional dependencies or without; `circumstance` says in a mistake which of both.
fn rehearse_all(
    config: &Config,
    purpose: Purpose,
    has_optional: bool,
    circumstance: &str,
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let materials: Vec<Material<'_>> = config
        .dependencies
        .iter()
        .map(|spec| Material::Credential {
            spec,
            credential: if has_optional || !spec.is_optional {
                sample::credential(spec, config)
            } else {
                Credential::default()
            },
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
                format!("; {circumstance}")
            } else {
                String::new()
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
        if credential.is_absent() && spec.is_optional {
            continue;
        }
        let values = scope.within(credential);
        for file in &spec.templates {
            let target = file.described(&format!("{}/{}", spec.name, file.name));
            let failure = file.template.render_file(&values).err();
            rehearse(&file.template, &target, failure, file.place);
        }
    }
    let values = scope.all();
    for file in &config.files {
        let failure = file.template.render_file(values).err();
        rehearse(
            &file.template,
            &file.described(&file.name),
            failure,
            file.place,
        );
    }
    for variable in &config.variables {
        let target = format!("the variable {}", variable.name);
        let failure = variable.template.render(values).err();
        rehearse(&variable.template, &target, failure, variable.place);
    }
    // A start has real fields, and those that are declared were looked at before.
    if purpose != Purpose::Start
        && let Err(error) = variables::of_fields(config, &materials.iter().collect::<Vec<_>>())
    {
        let spec = match &error {
            Error::Variable { dependency, .. } => {
                let mut specs = config.dependencies.iter();
                specs.find(|spec| spec.name == *dependency)
            }
            _ => None,
        };
        let prefix = spec.and_then(|spec| spec.env_prefix.as_ref());
        mistakes.push(Mistake {
            place: prefix.map(|prefix| prefix.place),
            text: format!("{error}; {circumstance}"),
        });
    }
    mistakes
}

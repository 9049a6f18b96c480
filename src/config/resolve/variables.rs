//! `[environment]` and `env_prefix`: the names of the variables that the application gets.

use super::Resolver;
use crate::config::expand::is_variable_name;
use crate::config::{Dependency, EnvPrefix, Purpose, Variable};
use crate::environment::TOKEN_VARIABLES;
use crate::manifest::{At, Manifest, Place};
use crate::template::Known;

impl Resolver<'_> {
    /// Reads `[environment]`.
    pub(super) fn variables(&mut self, manifest: &Manifest, known: &Known) -> Vec<Variable> {
        let mut variables = Vec::new();
        for (name, source) in &manifest.environment {
            let is_received = self.surroundings.environment.value(&name.value).is_some();
            if is_variable_name(&name.value) {
                self.check_variable(&name.value, name.place, "[environment]");
            } else {
                let text = format!(
                    "`{}` cannot be the name of a variable",
                    name.value.escape_default()
                );
                self.report_mistake(Some(name.place), text);
            }
            let target = format!("the variable {}", name.value.escape_default());
            let Some(template) = self.template(source, &target, known) else {
                continue;
            };
            variables.push(Variable {
                name: name.value.clone(),
                template,
                place: source.place,
                is_received,
            });
        }
        variables
    }

    /// Checks a name against what the environment has; `source` is the table or key that gives the variable.
    fn check_variable(&mut self, name: &str, place: Place, source: &str) {
        let is_received = self.surroundings.environment.value(name).is_some();
        if TOKEN_VARIABLES.contains(&name) {
            self.report_mistake(Some(place), format!("{name} never reaches the application"));
        } else if is_received && self.purpose == Purpose::DryRun {
            self.notices.push(format!(
                "{name} is set in the environment here and wins over {source}, since this is a dry run; a start would refuse it"
            ));
        } else if is_received && self.purpose.is_here() {
            self.report_mistake(
                Some(place),
                format!("{name} is already set in the environment anteroom received; drop one of the two"),
            );
        }
    }

    /// Reads the prefix of a dependency's variables.
    pub(super) fn env_prefix(&mut self, written: &At<String>) -> Option<EnvPrefix> {
        self.parsed(written, |text| {
            if is_variable_name(text) {
                return Ok(EnvPrefix {
                    text: text.to_owned(),
                    place: written.place,
                });
            }
            Err(format!(
                "`{}` cannot begin the name of a variable: write letters, digits and `_`, no digit first",
                text.escape_default()
            ))
        })
    }

    /// Reports the variables of declared fields that another field gives too, or something else.
    pub(super) fn check_field_variables(
        &mut self,
        dependencies: &[Dependency],
        variables: &[Variable],
    ) {
        let mut taken: Vec<(String, String)> = variables
            .iter()
            .map(|variable| (variable.name.clone(), "[environment]".to_owned()))
            .collect();
        for dependency in dependencies {
            let Some(prefix) = &dependency.env_prefix else {
                continue;
            };
            for field in dependency.known_fields() {
                let name = prefix.variable(field);
                let source = format!("the field `{field}` of {}", dependency.name);
                if let Some((_, other)) = taken.iter().find(|(known, _)| *known == name) {
                    let text = format!("{source} and {other} both give the variable {name}");
                    self.report_mistake(Some(prefix.place), text);
                    continue;
                }
                self.check_variable(&name, prefix.place, "`env_prefix`");
                taken.push((name, source));
            }
        }
    }
}

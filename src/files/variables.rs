//! The variables that the application gets: those of `[environment]`, and those of fields by `env_prefix`.

use super::scope::Scope;
use super::{Error, Material, field_text};
use crate::config::Config;
use crate::environment::TOKEN_VARIABLES;
use crate::secret::Secret;

/// Renders the variables of `[environment]`.
pub(super) fn of_environment(
    config: &Config,
    scope: &Scope,
) -> Result<Vec<(String, Secret)>, Error> {
    let mut variables = Vec::new();
    for variable in &config.variables {
        let failed = |reason: String| Error::Template {
            target: format!("the variable {}", variable.name),
            reason,
        };
        let value = variable.template.render(scope.all());
        let value = value.map_err(|failure| failed(failure.reason))?;
        if value.expose().contains('\0') {
            let reason = "whose value holds a NUL byte, as no variable can";
            return Err(failed(reason.to_owned()));
        }
        if !variable.is_received {
            variables.push((variable.name.clone(), value));
        }
    }
    Ok(variables)
}

/// Makes the variables of fields; a dry run goes without those that the environment has already.
pub(super) fn of_fields(
    config: &Config,
    materials: &[&Material<'_>],
) -> Result<Vec<(String, Secret)>, Error> {
    let mut variables: Vec<(String, Secret)> = Vec::new();
    for material in materials {
        let Material::Credential { spec, credential } = material else {
            continue;
        };
        let Some(prefix) = &spec.env_prefix else {
            continue;
        };
        let wanted = credential.fields.iter();
        for (field, value) in wanted.filter(|(field, _)| spec.is_wanted(field)) {
            let name = prefix.variable(field);
            let is_ours = variables.iter().any(|(known, _)| *known == name)
                || config.variables.iter().any(|known| known.name == name);
            let value = field_text(value);
            let reason = if is_ours {
                "another field, or [environment], gives a variable of this name"
            } else if TOKEN_VARIABLES.contains(&name.as_str()) {
                "a variable of this name never reaches the application"
            } else if config.received.value(&name).is_some() {
                if config.vault.is_none() {
                    continue;
                }
                "the environment that anteroom received has a variable of this name"
            } else if value.expose().contains('\0') {
                "the value holds a NUL byte, as no variable can"
            } else {
                variables.push((name, value));
                continue;
            };
            return Err(Error::Variable {
                dependency: spec.name.clone(),
                field: field.clone(),
                name,
                reason,
            });
        }
    }
    Ok(variables)
}

//! The values that the templates of a start may use: labels, variables, the directory and the credentials.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::value::Object;

use super::{Credential, Material};
use crate::config::Config;
use crate::environment::TOKEN_VARIABLES;
use crate::template::{RESERVED, Value, Values, map};

/// The values that all templates of a start may use.
pub(super) struct Scope(BTreeMap<String, Value>);

impl Scope {
    /// Collects the labels, the environment without tokens, the secrets directory, and each dependency under its
    /// identifier.
    pub(super) fn new(config: &Config, materials: &[&Material<'_>], secrets_dir: &str) -> Scope {
        let mut values = BTreeMap::new();
        values.insert("app".to_owned(), Value::from(config.app.as_str()));
        values.insert(
            "environment".to_owned(),
            Value::from(config.environment.as_str()),
        );
        values.insert("secrets_dir".to_owned(), Value::from(secrets_dir));
        let environment: BTreeMap<String, Value> = config
            .received
            .without_tokens()
            .filter_map(|(name, value)| {
                Some((name.to_str()?.to_owned(), Value::from(value.to_str()?)))
            })
            .collect();
        values.insert("env".to_owned(), map(environment));
        for material in materials {
            if let Material::Credential { spec, credential } = material {
                values.insert(spec.identifier(), map(fields(credential)));
            }
        }
        Scope(values)
    }

    /// Says whether the value of a name is the same in every start of this container, unlike a credential's.
    pub(super) fn is_plain(&self, name: &str) -> bool {
        RESERVED.contains(&name)
    }

    /// Sets every variable, for a look at templates where those of the container are not known.
    pub(super) fn invent_variables(&mut self) {
        let any = Value::from_object(AnyVariable);
        self.0.insert("env".to_owned(), any);
    }

    /// Returns everything, for a variable.
    pub(super) fn all(&self) -> Values {
        Values(self.0.clone())
    }

    /// Returns everything for a file of one dependency, its own fields also without the dependency's name before them.
    pub(super) fn within(&self, credential: &Credential) -> Values {
        let mut values = self.0.clone();
        values.extend(fields(credential));
        Values(values)
    }
}

fn fields(credential: &Credential) -> BTreeMap<String, Value> {
    credential
        .fields
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.expose().as_str())))
        .collect()
}

/// An environment in which each variable has its own name for a value.
#[derive(Debug)]
struct AnyVariable;

impl Object for AnyVariable {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        (!TOKEN_VARIABLES.contains(&name)).then(|| Value::from(name.to_lowercase()))
    }
}

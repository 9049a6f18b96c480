//! What the templates of a start may use: labels, variables, the directory and the credentials.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::value::Object;

use super::{Credential, Material};
use crate::config::Config;
use crate::environment::TOKEN_VARIABLES;
use crate::template::{RESERVED, Value, Values, map};

/// What all templates of a start may use.
pub(super) struct Scope(BTreeMap<String, Value>);

impl Scope {
    /// The labels, the environment without tokens, the secrets directory, and each dependency under its identifier.
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

    /// The name is the same in every start of this container, unlike a credential.
    pub(super) fn is_plain(&self, name: &str) -> bool {
        RESERVED.contains(&name)
    }

    /// Has every variable set, for a look at templates where those of the container are not known.
    pub(super) fn invent_variables(&mut self) {
        let any = Value::from_object(AnyVariable);
        self.0.insert("env".to_owned(), any);
    }

    /// For a variable: everything.
    pub(super) fn all(&self) -> Values {
        Values(self.0.clone())
    }

    /// For a file of one dependency: everything, and its own fields without the dependency's name before them.
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

//! Templates for extra files and for variables: Jinja's language, without includes and without the file system.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use super::Credential;
use crate::config::Config;
use crate::secret::Secret;

/// Names that every template knows besides the dependencies.
pub const RESERVED: [&str; 4] = ["app", "env", "environment", "secrets_dir"];

/// A template whose syntax is known to be right.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    names: Vec<String>,
}

impl Template {
    /// Checks the syntax.
    pub fn parse(source: &str) -> Result<Template, String> {
        let engine = engine();
        // The text is the manifest's, so the library's message can name it.
        let parsed = engine
            .template_from_str(source)
            .map_err(|error| format!("the template: {}", reason(&error)))?;
        let mut names: Vec<String> = parsed.undeclared_variables(false).into_iter().collect();
        names.sort_unstable();
        Ok(Template {
            source: source.to_owned(),
            names,
        })
    }

    /// The outermost names it uses.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// `name.field` and `name` as it uses them.
    pub fn references(&self) -> Vec<String> {
        let engine = engine();
        let Ok(parsed) = engine.template_from_str(&self.source) else {
            return Vec::new();
        };
        parsed.undeclared_variables(true).into_iter().collect()
    }

    /// Fills it in; an error never quotes a value.
    pub fn render(&self, values: &Values) -> Result<Secret, String> {
        engine()
            .render_str(&self.source, &values.0)
            .map(Secret::new)
            .map_err(|error| match error.kind() {
                minijinja::ErrorKind::UndefinedError => {
                    format!(
                        "line {} uses a value that is not there; known are {}",
                        error.line().unwrap_or(1),
                        values.known()
                    )
                }
                // Details of other errors may quote the value that was operated on.
                kind => format!("line {}: {kind}", error.line().unwrap_or(1)),
            })
    }
}

fn reason(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn engine() -> Environment<'static> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_syntax(
        SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .build()
            .unwrap_or_default(),
    );
    engine
}

/// What one template may use.
pub struct Values(BTreeMap<String, Value>);

impl Values {
    fn known(&self) -> String {
        let mut names = Vec::new();
        for (name, value) in &self.0 {
            // A map's iterator gives its keys; that of anything else gives values, which must not be named.
            match value.try_iter() {
                Ok(fields) if value.kind() == ValueKind::Map && name != "env" => {
                    names.extend(fields.map(|field| format!("{name}.{field}")))
                }
                _ => names.push(name.clone()),
            }
        }
        names.join(", ")
    }
}

/// What all templates of a start may use.
pub struct Scope(BTreeMap<String, Value>);

impl Scope {
    /// The labels, the environment without tokens, the secrets directory, and each dependency under its identifier.
    pub fn new(config: &Config, credentials: &[Credential], secrets_dir: &str) -> Scope {
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
        for (dependency, credential) in config.dependencies.iter().zip(credentials) {
            values.insert(dependency.identifier(), map(fields(credential)));
        }
        Scope(values)
    }

    /// For a variable: everything.
    pub fn all(&self) -> Values {
        Values(self.0.clone())
    }

    /// For a file of one dependency: everything, and its own fields without the dependency's name before them.
    pub fn within(&self, credential: &Credential) -> Values {
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

/// Collected from an iterator it would be a list of pairs instead.
fn map(values: BTreeMap<String, Value>) -> Value {
    Value::from_object(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        Values(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
                .collect(),
        )
    }

    #[test]
    fn text_comes_out_as_written_with_values_unescaped() {
        let template = Template::parse("a:{{ password }}\n").expect("valid");
        let rendered = template
            .render(&values(&[("password", "<&\"'>")]))
            .expect("known");
        assert_eq!(rendered.expose(), "a:<&\"'>\n");
    }

    #[test]
    fn a_value_that_is_not_there_is_an_error_not_an_empty_string() {
        let template = Template::parse("{{ pasword }}").expect("valid");
        let error = template
            .render(&values(&[("password", "canary")]))
            .expect_err("unknown");
        assert!(
            error.contains("password") && !error.contains("canary"),
            "{error}"
        );
    }

    #[test]
    fn a_dependency_is_reached_by_its_fields_and_what_is_missing_names_no_value_t15() {
        let credential = Credential {
            fields: vec![("password".to_owned(), Secret::new("canary".to_owned()))],
            lease: None,
        };
        let mut values = values(&[("app", "timeline")]);
        let fields = map(fields(&credential));
        values.0.insert("orders_db".to_owned(), fields);
        let render = |source| Template::parse(source).expect("valid").render(&values);
        let rendered = render("{{ orders_db.password }}").expect("known");
        assert_eq!(rendered.expose(), "canary");
        let error = render("{{ orders_db.pasword }}").expect_err("unknown");
        assert!(
            error.ends_with("known are app, orders_db.password"),
            "{error}"
        );
    }

    #[test]
    fn an_error_never_quotes_a_value_t15() {
        for source in [
            "{{ password + 1 }}",
            "{{ password|int }}",
            "{{ password() }}",
            "{{ [1][password] }}",
        ] {
            let template = Template::parse(source).expect("valid");
            if let Err(error) = template.render(&values(&[("password", "canary")])) {
                assert!(!error.contains("canary"), "{source}: {error}");
            }
        }
    }

    #[test]
    fn nothing_reaches_the_file_system() {
        assert!(Template::parse("{% include \"/etc/passwd\" %}").is_err());
    }

    #[test]
    fn names_can_be_asked_for() {
        let template = Template::parse("{{ orders_db.username }}{{ app }}").expect("valid");
        assert_eq!(template.names(), ["app", "orders_db"]);
    }
}

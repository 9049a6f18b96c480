//! `${NAME}` and `${NAME:-default}` in the manifest's values.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::environment::Environment;
use crate::spelling;

/// The values that a name in `${…}` may stand for.
pub(super) struct Names<'a> {
    /// The value of `${app}`, once it is known.
    pub(super) app: Option<&'a str>,
    /// The value of `${environment}`, once it is known.
    pub(super) environment: Option<&'a str>,
    /// The variables, for every other name.
    pub(super) variables: &'a Environment,
    /// The variables that were invented: one that is not set becomes its own name in lower case instead of a mistake.
    pub(super) invented: Option<&'a RefCell<BTreeSet<String>>>,
}

/// Expands `${…}`; `$${` stands for `${` itself.
pub(super) fn expand(text: &str, names: &Names<'_>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            expanded.push_str(&rest[..start - 1]);
            expanded.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        expanded.push_str(&rest[..start]);
        let inner = &rest[start + 2..];
        let end = inner
            .find('}')
            .ok_or("`${` without its `}`; write `$${` for the text itself")?;
        expanded.push_str(&value(&inner[..end], names)?);
        rest = &inner[end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn value(reference: &str, names: &Names<'_>) -> Result<String, String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let label = match name {
        "app" => names.app,
        "environment" => names.environment,
        _ if !is_variable_name(name) => {
            return Err(format!(
                "`${{{reference}}}` is not ${{NAME}} or ${{NAME:-default}}"
            ));
        }
        _ if crate::environment::TOKEN_VARIABLES.contains(&name) => {
            return Err(format!(
                "`${{{name}}}` would copy a token into the configuration"
            ));
        }
        _ => names.variables.text(name),
    };
    if let (None, None, Some(invented)) = (label, default, names.invented) {
        invented.borrow_mut().insert(name.to_owned());
        return Ok(name.to_lowercase().replace('_', "-"));
    }
    match (label, default) {
        (Some(value), _) => Ok(value.to_owned()),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => match names.variables.value(name) {
            Some(value) if !value.is_empty() => Err(format!("the variable {name} is not UTF-8")),
            Some(_) => Err(format!(
                "the variable {name} is empty; set it, or write `${{{name}:-default}}`"
            )),
            None if name == "app" || name == "environment" => {
                Err(format!("`${{{name}}}` needs `{name}` in [service]"))
            }
            None => Err(format!(
                "the variable {name} is not set{}; set it, or write `${{{name}:-default}}`",
                meant(name, names.variables)
            )),
        },
    }
}

/// Asks whether the nearest variable that is set was meant; or a label, which is written in lower case.
pub(super) fn meant(name: &str, variables: &Environment) -> String {
    let is_lower = !name.contains(|c: char| c.is_ascii_uppercase());
    let labels = ["app", "environment"].into_iter().filter(|_| is_lower);
    let set = variables.without_tokens();
    spelling::meant(
        name,
        labels.chain(set.filter_map(|(name, _)| name.to_str())),
    )
}

/// Says whether POSIX allows a variable's name: letters, digits and underscores, no digit first.
pub(super) fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let variables = Environment::new(
            [("REGION".into(), "eu".into()), ("EMPTY".into(), "".into())].into_iter(),
        );
        expand(
            text,
            &Names {
                app: Some("timeline"),
                environment: None,
                variables: &variables,
                invented: None,
            },
        )
    }

    #[test]
    fn variables_and_defaults_are_put_in() {
        assert_eq!(
            expanded("${app}-${REGION}.${ZONE:-a}").expect("valid"),
            "timeline-eu.a"
        );
        assert_eq!(expanded("${EMPTY:-x}$").expect("valid"), "x$");
        assert_eq!(expanded("$${REGION}").expect("valid"), "${REGION}");
    }

    #[test]
    fn variable_without_a_value_is_named() {
        assert!(
            expanded("${ZONE}")
                .expect_err("not set")
                .contains("ZONE is not set")
        );
        assert!(
            expanded("${EMPTY}")
                .expect_err("empty")
                .contains("EMPTY is empty")
        );
        assert!(
            expanded("${environment}")
                .expect_err("no label")
                .contains("[service]")
        );
        assert!(
            expanded("${ANTEROOM_TOKEN}")
                .expect_err("a token")
                .contains("token")
        );
        assert!(expanded("${a b}").is_err());
        assert!(expanded("${REGION").is_err());
    }
}

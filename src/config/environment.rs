//! The environment as anteroom received it.

use std::ffi::{OsStr, OsString};

/// Variables that hold a token or say where one is: the application never gets them.
pub const TOKEN_VARIABLES: [&str; 4] = [
    "ANTEROOM_TOKEN",
    "ANTEROOM_TOKEN_FILE",
    "VAULT_TOKEN",
    "BAO_TOKEN",
];

/// Names and values, bytes as they came, each name once: of duplicates the last one counts.
#[derive(Clone, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// Takes the variables over.
    pub fn new(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut kept: Vec<(OsString, OsString)> = Vec::new();
        for (name, value) in variables {
            match kept.iter_mut().find(|(known, _)| *known == name) {
                Some(entry) => entry.1 = value,
                None => kept.push((name, value)),
            }
        }
        Environment(kept)
    }

    /// The value of a variable.
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// The value of a variable that is set, not empty and UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name)
            .and_then(OsStr::to_str)
            .filter(|value| !value.is_empty())
    }

    /// What the application gets of it.
    pub fn without_tokens(&self) -> impl Iterator<Item = &(OsString, OsString)> {
        self.0
            .iter()
            .filter(|(name, _)| !TOKEN_VARIABLES.iter().any(|token| name == token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::new(
            pairs
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
        )
    }

    #[test]
    fn of_duplicates_the_last_one_counts_b27() {
        let environment = environment(&[("A", "1"), ("B", "2"), ("A", "3")]);
        assert_eq!(environment.text("A"), Some("3"));
        assert_eq!(environment.without_tokens().count(), 2);
    }

    #[test]
    fn token_variables_are_left_out() {
        let environment = environment(&[
            ("ANTEROOM_TOKEN", "a"),
            ("BAO_TOKEN", "b"),
            ("VAULT_TOKEN", "c"),
            ("ANTEROOM_TOKEN_FILE", "d"),
            ("HOME", "/"),
        ]);
        let left: Vec<_> = environment
            .without_tokens()
            .map(|(name, _)| name.clone())
            .collect();
        assert_eq!(left, ["HOME"]);
    }
}

//! The environment as anteroom received it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use crate::secret::Secret;

/// Variables that hold a token or say where one is: the application never gets them.
pub(crate) const TOKEN_VARIABLES: [&str; 4] = [
    "ANTEROOM_TOKEN",
    "ANTEROOM_TOKEN_FILE",
    "VAULT_TOKEN",
    "BAO_TOKEN",
];

/// The only token variable that holds no secret.
const PATH_VARIABLE: &str = "ANTEROOM_TOKEN_FILE";

/// Names and values, bytes as they came, each name once: the last duplicate counts. Of a token only the name is kept.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    variables: Vec<(OsString, OsString)>,
    /// The variables with a token that were set.
    withheld: Vec<&'static str>,
}

/// The tokens of an environment, each kept until its use.
#[derive(Default)]
pub(crate) struct Tokens(Vec<(&'static str, Secret<Vec<u8>>)>);

impl Environment {
    /// Takes the variables over, and zeroes every token among them.
    pub(crate) fn new(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        Self::with_tokens(variables).0
    }

    /// Takes the variables over, and gives the tokens apart.
    pub(crate) fn with_tokens(
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> (Self, Tokens) {
        let mut environment = Environment::default();
        let mut tokens = Tokens::default();
        for (name, value) in variables {
            let is_secret = |token: &&str| name == **token && **token != *PATH_VARIABLE;
            if let Some(token) = TOKEN_VARIABLES.into_iter().find(|token| is_secret(token)) {
                // The memory moves along: no copy is left behind.
                tokens.put(token, Secret::new(value.into_vec()));
                continue;
            }
            let kept = &mut environment.variables;
            match kept.iter_mut().find(|(known, _)| *known == name) {
                Some(entry) => entry.1 = value,
                None => kept.push((name, value)),
            }
        }
        environment.withheld = tokens.0.iter().map(|(name, _)| *name).collect();
        (environment, tokens)
    }

    /// Returns the value of a variable; none for a token's.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// Returns the value of a variable that is set, not empty and UTF-8.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.value(name)
            .and_then(OsStr::to_str)
            .filter(|value| !value.is_empty())
    }

    /// Says whether this variable, which holds a token, was set.
    pub(crate) fn has_token(&self, name: &str) -> bool {
        self.withheld.contains(&name)
    }

    /// Iterates over the variables that the application gets.
    pub(crate) fn without_tokens(&self) -> impl Iterator<Item = &(OsString, OsString)> {
        self.variables
            .iter()
            .filter(|(name, _)| name != PATH_VARIABLE)
    }
}

impl Tokens {
    fn put(&mut self, name: &'static str, value: Secret<Vec<u8>>) {
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value));
    }

    /// Takes the value of this variable, for its one use.
    pub(crate) fn take(&mut self, name: &str) -> Option<Secret<Vec<u8>>> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.swap_remove(at).1)
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

    // b27
    #[test]
    fn last_of_duplicate_variables_counts() {
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

    #[test]
    fn token_is_kept_by_its_name_alone_and_given_once() {
        let pairs = [
            ("ANTEROOM_TOKEN", "first"),
            ("HOME", "/"),
            ("ANTEROOM_TOKEN", "last"),
            ("ANTEROOM_TOKEN_FILE", "/token"),
        ];
        let pairs = pairs.map(|(name, value)| (name.into(), value.into()));
        let (environment, mut tokens) = Environment::with_tokens(pairs.into_iter());
        assert!(environment.has_token("ANTEROOM_TOKEN"));
        assert!(!environment.has_token("VAULT_TOKEN"));
        assert_eq!(environment.value("ANTEROOM_TOKEN"), None);
        assert_eq!(environment.text("ANTEROOM_TOKEN_FILE"), Some("/token"));
        let token = tokens.take("ANTEROOM_TOKEN").expect("it was set");
        assert_eq!(token.expose(), b"last");
        assert!(tokens.take("ANTEROOM_TOKEN").is_none());
    }
}

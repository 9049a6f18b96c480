//! Which token role stands for whom: one role for two identities would give the one what is the other's.

use crate::manifest::Place;

/// A service in one of its environments, and the role of its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) app: String,
    pub(super) environment: String,
    pub(super) role: String,
    /// The rule names the role itself.
    pub(super) is_named: bool,
    /// Where the rule stands in the file.
    pub(super) place: Place,
}

impl Grant {
    /// Two identities have one role, and the operator has not said of both that this is meant.
    fn clashes_with(&self, other: &Grant) -> bool {
        let is_same = (&self.app, &self.environment) == (&other.app, &other.environment);
        self.role == other.role && !is_same && !(self.is_named && other.is_named)
    }
}

/// Each grant that clashes with an earlier one, and what is wrong.
pub(super) fn clashes(grants: &[Grant]) -> Vec<(Place, String)> {
    let earlier = |at: usize| grants[..at].iter().find(|one| grants[at].clashes_with(one));
    let clashes = (0..grants.len()).filter_map(|at| {
        let (one, other) = (earlier(at)?, &grants[at]);
        let text = format!(
            "the tokens of {} in {} and of {} in {} would have one role, {}, and with it each other's secrets: name `role` in [[allow]] for both of them, if they are to share one",
            one.app, one.environment, other.app, other.environment, other.role
        );
        Some((other.place, text))
    });
    clashes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(app: &str, environment: &str, role: &str, is_named: bool, line: usize) -> Grant {
        Grant {
            app: app.to_owned(),
            environment: environment.to_owned(),
            role: role.to_owned(),
            is_named,
            place: Place { line, column: 1 },
        }
    }

    #[test]
    fn role_of_two_identities_is_a_clash_unless_both_name_it() {
        for (named, expected) in [
            ([false, false], 1),
            ([true, false], 1),
            ([false, true], 1),
            ([true, true], 0),
        ] {
            let grants = [
                grant("timeline", "eu-production", "r", named[0], 3),
                grant("timeline-eu", "production", "r", named[1], 7),
            ];
            let found = clashes(&grants);
            assert_eq!(found.len(), expected, "{named:?}: {found:?}");
            assert!(found.iter().all(|(place, _)| place.line == 7), "{found:?}");
        }
        let one = |environment, role| grant("timeline", environment, role, false, 1);
        assert_eq!(clashes(&[one("a", "r"), one("a", "r")]), []);
        assert_eq!(clashes(&[one("a", "r"), one("b", "s")]), []);
        assert_eq!(clashes(&[one("a", "r"), one("b", "r")]).len(), 1);
        let other = grant("other", "a", "r", false, 2);
        assert_eq!(clashes(&[one("a", "r"), other]).len(), 1);
    }
}

//! The containers that an operator names when tokens are revoked, blocked or allowed again.

use std::fmt;

use serde::{Deserialize, Serialize};

/// For whom no token is minted until that is allowed again; what is not named is any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Selector {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The container's id, or how it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

impl Selector {
    /// Whether the selector names this container.
    pub(crate) fn covers(&self, app: &str, environment: &str, container: &str) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|w| w == found);
        is(&self.app, app)
            && is(&self.environment, environment)
            && self
                .container
                .as_ref()
                .is_none_or(|beginning| container.starts_with(beginning))
    }

    /// Whatever the other one names, this one names too.
    pub(crate) fn includes(&self, other: &Selector) -> bool {
        let is =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        is(&self.app, &other.app)
            && is(&self.environment, &other.environment)
            && match (&self.container, &other.container) {
                (None, _) => true,
                (Some(beginning), Some(id)) => id.starts_with(beginning),
                (Some(_), None) => false,
            }
    }

    /// There may be containers that both name.
    pub(crate) fn overlaps(&self, other: &Selector) -> bool {
        let may = |one: &Option<String>, other: &Option<String>| {
            one.is_none() || other.is_none() || one == other
        };
        may(&self.app, &other.app)
            && may(&self.environment, &other.environment)
            && match (&self.container, &other.container) {
                (Some(one), Some(other)) => one.starts_with(other) || other.starts_with(one),
                _ => true,
            }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut any = true;
        for (name, value) in [
            ("app", &self.app),
            ("environment", &self.environment),
            ("container", &self.container),
        ] {
            if let Some(value) = value {
                write!(f, "{}{name} {value}", if any { "" } else { ", " })?;
                any = false;
            }
        }
        if any {
            f.write_str("every service")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(app: Option<&str>, environment: Option<&str>) -> Selector {
        Selector {
            app: app.map(str::to_owned),
            environment: environment.map(str::to_owned),
            container: None,
        }
    }

    #[test]
    fn selector_covers_every_value_that_it_does_not_name() {
        let all = Selector::default();
        let timeline = selector(Some("timeline"), None);
        let production = selector(Some("timeline"), Some("production"));
        assert!(all.covers("x", "y", "z"));
        assert!(timeline.covers("timeline", "staging", "z"));
        assert!(!production.covers("timeline", "staging", "z"));
        assert!(all.includes(&timeline) && timeline.includes(&production));
        assert!(!production.includes(&timeline) && !timeline.includes(&all));
        let environment = selector(None, Some("production"));
        let container = Selector {
            container: Some("0123".to_owned()),
            ..Selector::default()
        };
        let longer = Selector {
            container: Some("012345".to_owned()),
            ..Selector::default()
        };
        assert!(container.includes(&longer) && !longer.includes(&container));
        assert!(!timeline.includes(&environment) && timeline.overlaps(&environment));
        assert!(longer.overlaps(&container) && container.overlaps(&timeline));
        assert!(!production.overlaps(&selector(None, Some("staging"))));
        assert_eq!(all.to_string(), "every service");
        assert_eq!(
            production.to_string(),
            "app timeline, environment production"
        );
    }
}

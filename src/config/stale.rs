//! Variables that go stale: an environment stays what it was when an item changes whose values are in it.

use super::{CertificateName, Config, OnRotate, Spec};
use crate::template;

/// Parts of the paths at which engines give what ends.
const SHORT_LIVED: [&str; 9] = [
    "creds",
    "impersonated-account",
    "issue",
    "roleset",
    "sign",
    "static-account",
    "static-cred",
    "static-creds",
    "sts",
];
/// The beginning of the paths of identity tokens.
const IDENTITY: &str = "identity/oidc/token/";

/// The knowledge of whether an item changes while the application runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The item stays as it is.
    No,
    /// The item changes if its engine is the one that its path looks like.
    Likely,
    /// The item changes.
    Certain,
}

/// Variables that go stale with one item.
pub(crate) struct Stale {
    /// The name of the item.
    pub item: String,
    /// True where the item may as well stay as it is.
    pub is_guess: bool,
    /// The variables, the reason, and what to do about it.
    pub text: String,
}

impl Config {
    /// Names for each item that changes the variables that hold its values, where the application does not get the new ones. A
    /// command of `on_rotate` gets them, and can hand them on.
    pub(crate) fn stale_variables(&self, change: impl Fn(Spec<'_>) -> Change) -> Vec<Stale> {
        let why = match &self.renewal.on_rotate {
            OnRotate::Nothing => "nothing tells the application".to_owned(),
            OnRotate::Signal(signal) => format!("{signal} changes no environment"),
            OnRotate::Command { .. } | OnRotate::Restart { .. } => return Vec::new(),
        };
        let stale = self.specs().filter_map(|spec| {
            let names = self.variables_of(spec);
            let (will, is_guess) = match change(spec) {
                _ if names.is_empty() => return None,
                Change::No => return None,
                Change::Likely => ("may", true),
                Change::Certain => ("will", false),
            };
            let what = match spec {
                Spec::Certificate(certificate) => certificate.name.to_string(),
                Spec::Credential(dependency) => format!("the dependency {}", dependency.name),
            };
            let of_path = if is_guess { ", as its path looks" } else { "" };
            let names = names.join(", ");
            let text = format!(
                "{names} in the environment {will} go stale: {what} changes while the application runs{of_path}, and {why}; set `on_rotate = \"restart\"` with `lifecycle = \"supervise\"` in [process], or give it the path of a file instead"
            );
            Some(Stale {
                item: spec.name().to_owned(),
                is_guess,
                text,
            })
        });
        stale.collect()
    }

    /// Lists the variables with values of an item.
    fn variables_of(&self, spec: Spec<'_>) -> Vec<String> {
        let identifier = template::identifier(spec.name());
        let path = match spec {
            Spec::Certificate(certificate) if certificate.name == CertificateName::Main => {
                vec![template::CERTIFICATE]
            }
            Spec::Certificate(_) => vec![template::CERTIFICATES, &identifier],
            Spec::Credential(_) => vec![identifier.as_str()],
        };
        let variables = self.variables.iter();
        let variables = variables.filter(|it| !it.is_received && it.template.reads(&path));
        let mut names: Vec<String> = variables.map(|it| it.name.clone()).collect();
        if let Spec::Credential(dependency) = spec
            && let Some(prefix) = &dependency.env_prefix
        {
            names.extend(
                dependency
                    .known_fields()
                    .map(|field| prefix.variable(field)),
            );
            if dependency.fields.is_none() {
                names.push(format!("{}…", prefix.text));
            }
        }
        names
    }
}

impl Spec<'_> {
    /// Says whether the item changes while the application runs, as far as the manifest tells: only an answer has a lease.
    pub(crate) fn change(self) -> Change {
        let Spec::Credential(dependency) = self else {
            return Change::Certain;
        };
        let path = &dependency.path;
        let mut parts = path.split('/').skip(1);
        if dependency.refresh.is_some() || path.starts_with(IDENTITY) {
            Change::Certain
        } else if dependency.may_have_lease() && parts.any(|part| SHORT_LIVED.contains(&part)) {
            Change::Likely
        } else {
            Change::No
        }
    }
}

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
/// The begin of the paths of identity tokens.
const IDENTITY: &str = "identity/oidc/token/";

impl Config {
    /// Names for each item that changes, by its name, the variables that hold its values, where nothing tells the application
    /// of that; with what to do about it.
    pub(crate) fn stale_variables(
        &self,
        changes: impl Fn(Spec<'_>) -> bool,
    ) -> Vec<(String, String)> {
        if self.renewal.on_rotate != OnRotate::Nothing {
            return Vec::new();
        }
        let specs = self.specs().filter(|spec| changes(*spec));
        let stale = specs.filter_map(|spec| {
            let names = self.variables_of(spec);
            let what = match spec {
                Spec::Certificate(certificate) => certificate.name.to_string(),
                Spec::Credential(dependency) => format!("the dependency {}", dependency.name),
            };
            (!names.is_empty()).then(|| {
                let names = names.join(", ");
                let text = format!(
                    "{names} in the environment will go stale: {what} changes while the application runs, and nothing tells the application; set `on_rotate = \"restart\"` with `lifecycle = \"supervise\"` in [process], or give it the path of a file instead"
                );
                (spec.name().to_owned(), text)
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
    /// Says whether the item changes while the application runs, as far as its path tells: only an answer has a lease.
    pub(crate) fn may_change(self) -> bool {
        match self {
            Spec::Certificate(_) => true,
            Spec::Credential(dependency) => {
                let path = &dependency.path;
                let mut parts = path.split('/').skip(1);
                dependency.refresh.is_some()
                    || path.starts_with(IDENTITY)
                    || (dependency.may_have_lease()
                        && parts.any(|part| SHORT_LIVED.contains(&part)))
            }
        }
    }
}

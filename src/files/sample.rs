//! Samples of credentials and certificates, made from the manifest before there is an answer.

use std::collections::BTreeSet;

use super::Credential;
use crate::config::{CertificateValue, Config, Dependency};
use crate::secret::Secret;
use crate::template::{CERTIFICATE, CERTIFICATES, JAVA, RESERVED, Value};

/// The names of values that are no dependency's.
const OF_CERTIFICATES: [&str; 3] = [CERTIFICATE, CERTIFICATES, JAVA];

/// Makes the sample of a certificate's text.
pub(super) fn of_certificate(value: CertificateValue) -> Value {
    const LEAF: &str = "-----BEGIN CERTIFICATE-----\nsample\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nsample\n-----END PRIVATE KEY-----\n";
    match value {
        CertificateValue::Chain | CertificateValue::TrustAnchors => Value::from(LEAF),
        CertificateValue::Key => Value::from(KEY),
        CertificateValue::KeyAndChain => Value::from(format!("{KEY}{LEAF}")),
        CertificateValue::SerialNumber => Value::from("5a:3f"),
        CertificateValue::NotAfter => Value::from("2030-01-01T00:00:00Z"),
    }
}

/// Makes a credential of the manifest's samples, and of an invented value for every other field that the manifest
/// names.
pub(crate) fn credential(dependency: &Dependency, config: &Config) -> Credential {
    let mut fields: Vec<(String, Secret)> = dependency
        .sample
        .iter()
        .map(|(name, value)| (name.clone(), Secret::new(value.clone())))
        .collect();
    for name in wanted(dependency, config) {
        if !fields.iter().any(|(known, _)| *known == name) {
            let value = format!("sample-{}-{name}", dependency.name);
            fields.push((name, Secret::new(value)));
        }
    }
    Credential {
        fields,
        lease: None,
        end: None,
    }
}

/// Collects the declared fields; where none are declared, those that templates name, and the two that engines with
/// users answer.
fn wanted(dependency: &Dependency, config: &Config) -> BTreeSet<String> {
    if let Some(fields) = &dependency.fields {
        let others = dependency.optional_fields.iter();
        let others = others.map(|&field| field.to_owned());
        return fields.iter().cloned().chain(others).collect();
    }
    let identifier = dependency.identifier();
    let templates = config
        .dependencies
        .iter()
        .flat_map(|other| &other.templates)
        .chain(&config.files)
        .map(|file| &file.template)
        .chain(config.variables.iter().map(|variable| &variable.template));
    let mut wanted: BTreeSet<&str> = templates
        .flat_map(|template| template.fields_of(&identifier))
        .collect();
    let own = dependency.templates.iter().flat_map(|file| {
        let names = file.template.names().into_iter();
        // A field is a text: what has a field is the certificate, or the Java stores.
        names.filter(|name| {
            !OF_CERTIFICATES.contains(name) || file.template.fields_of(name).is_empty()
        })
    });
    let others: Vec<String> = config
        .dependencies
        .iter()
        .map(Dependency::identifier)
        .collect();
    wanted.extend(
        own.filter(|name| !RESERVED.contains(name) && !others.iter().any(|other| other == name)),
    );
    if wanted.is_empty() && dependency.sample.is_empty() {
        wanted.extend(["username", "password"]);
    }
    wanted.into_iter().map(str::to_owned).collect()
}

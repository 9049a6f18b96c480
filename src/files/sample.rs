//! Samples of credentials and certificates, made from the manifest before there is an answer.

use std::collections::{BTreeMap, BTreeSet};

use super::Credential;
use crate::config::{CertificateValue, Config, Dependency};
use crate::secret::Secret;
use crate::template::{CERTIFICATE, CERTIFICATES, JAVA, RESERVED, Template, Value};
use crate::vault;

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
    let mut fields = dependency.sample.clone();
    let identifier = dependency.identifier();
    for name in wanted(dependency, config) {
        if !fields.iter().any(|(known, _)| *known == name) {
            let own = dependency.templates.iter();
            let mut behind: Vec<&[String]> =
                own.flat_map(|file| file.template.below(&[&name])).collect();
            behind.extend(
                templates(config).flat_map(|template| template.below(&[&identifier, &name])),
            );
            let label = format!("sample-{}-{name}", dependency.name);
            fields.push((name, invented(&label, &behind)));
        }
    }
    Credential {
        fields,
        lease: None,
        end: None,
    }
}

/// Invents a text, or an object where templates name values in it.
fn invented(label: &str, behind: &[&[String]]) -> vault::Value {
    let mut members: BTreeMap<&str, Vec<&[String]>> = BTreeMap::new();
    for names in behind {
        if let Some((first, rest)) = names.split_first() {
            members.entry(first).or_default().push(rest);
        }
    }
    if members.is_empty() {
        return vault::Value::Text(Secret::new(label.to_owned()));
    }
    let members = members.into_iter().map(|(name, behind)| {
        let label = format!("{label}-{name}");
        (name.to_owned(), invented(&label, &behind))
    });
    vault::Value::Object(members.collect())
}

/// Iterates over the templates that may name values of any dependency.
fn templates(config: &Config) -> impl Iterator<Item = &Template> {
    let files = config
        .dependencies
        .iter()
        .flat_map(|other| &other.templates);
    let files = files.chain(&config.files).map(|file| &file.template);
    files.chain(config.variables.iter().map(|variable| &variable.template))
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
    let mut wanted: BTreeSet<&str> = templates(config)
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

//! A start without a Vault: a throwaway CA, a certificate with the manifest's names, and sample credentials.

use std::collections::BTreeSet;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::certificate::{self, Issued, make_key, params, pkcs8};
use crate::config::{Certificate, Config, Dependency, KeyType};
use crate::files::{Credential, Material};
use crate::secret::Secret;

/// Makes everything that a start would have fetched.
pub fn material(config: &Config, now: OffsetDateTime) -> Result<Material, certificate::Error> {
    let certificate = config.certificate.as_ref();
    let issued = certificate.map(|asked| issue(asked, now)).transpose()?;
    let dependencies = config.dependencies.iter();
    let credentials = dependencies.map(|dependency| sample(dependency, config));
    Ok(Material::new(config, issued, credentials.collect()))
}

fn issue(config: &Certificate, now: OffsetDateTime) -> Result<Issued, certificate::Error> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name = rcgen::DistinguishedName::new();
    authority
        .distinguished_name
        .push(DnType::CommonName, "anteroom dry run: do not trust");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.not_before = now - Duration::minutes(1);
    authority.not_after = now + Duration::days(30);
    let authority = CertifiedIssuer::self_signed(authority, make_key(KeyType::EcP256)?)?;

    let key = make_key(config.key_type)?;
    let mut leaf = params(config)?;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    leaf.use_authority_key_identifier_extension = true;
    leaf.not_before = now - Duration::minutes(1);
    leaf.not_after = now
        + config
            .ttl
            .and_then(|ttl| ttl.try_into().ok())
            .unwrap_or(Duration::days(1))
            .min(Duration::days(29));
    let not_after = leaf.not_after;
    let leaf = leaf.signed_by(&key, &authority)?;
    let serial_number = x509_parser::parse_x509_certificate(leaf.der()).map_or_else(
        |_| String::new(),
        |(_, leaf)| {
            let bytes = leaf.serial.to_bytes_be();
            let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            bytes.join(":")
        },
    );
    Ok(Issued {
        private_key: pkcs8(&key, config.key_type),
        chain: vec![leaf.der().clone()],
        trust_anchors: vec![authority.der().clone()],
        serial_number,
        not_after,
        end: not_after.unix_timestamp(),
        ends_with: None,
        clock: certificate::Clock::Here,
        is_leased: false,
    })
}

/// What the manifest gives as a sample, and an invented value for every other field that it names.
fn sample(dependency: &Dependency, config: &Config) -> Credential {
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
    }
}

/// Fields that `fields` and the templates name; engines that make users answer these two.
fn wanted(dependency: &Dependency, config: &Config) -> BTreeSet<String> {
    let mut wanted: BTreeSet<String> = dependency.fields.iter().flatten().cloned().collect();
    let identifier = format!("{}.", dependency.identifier());
    let templates = config
        .variables
        .iter()
        .map(|variable| &variable.template)
        .chain(
            config
                .dependencies
                .iter()
                .flat_map(|other| other.templates.iter().map(|(_, template)| template)),
        );
    for reference in templates.flat_map(|template| template.references()) {
        if let Some(field) = reference.strip_prefix(&identifier) {
            wanted.insert(field.to_owned());
        }
    }
    let others: BTreeSet<String> = config
        .dependencies
        .iter()
        .map(Dependency::identifier)
        .chain(crate::files::template::RESERVED.map(str::to_owned))
        .collect();
    for name in dependency
        .templates
        .iter()
        .flat_map(|(_, template)| template.names())
    {
        if !others.contains(name) {
            wanted.insert(name.clone());
        }
    }
    if wanted.is_empty() && dependency.sample.is_empty() {
        wanted.extend(["username", "password"].map(str::to_owned));
    }
    wanted
}

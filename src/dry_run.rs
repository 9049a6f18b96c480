//! A start without a Vault: a throwaway CA, a certificate with the manifest's names, and sample credentials.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::certificate::{self, Issued, make_key, params, pkcs8};
use crate::config::{Certificate, Config, KeyType, Spec};
use crate::files::{Material, sample};

/// Makes everything that a start would have fetched.
pub(crate) fn materials(
    config: &Config,
    now: OffsetDateTime,
) -> Result<Vec<Material<'_>>, certificate::Error> {
    let materials = config.specs().map(|spec| match spec {
        Spec::Certificate(asked) => issue(asked, now)
            .map(|issued| Material::Certificate {
                spec: asked,
                issued: Box::new(issued),
            })
            .map_err(certificate::Error::of(asked)),
        Spec::Credential(dependency) => Ok(Material::Credential {
            spec: dependency,
            credential: sample::credential(dependency, config),
        }),
    });
    materials.collect()
}

fn issue(config: &Certificate, now: OffsetDateTime) -> Result<Issued, certificate::Cause> {
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

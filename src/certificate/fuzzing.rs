//! Promises about every certificate that is found good.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::check::{Answer, Clocks, check};
use crate::config::{Certificate, CertificateName, KeyType, TrustAnchors};
use crate::pem;

/// Checks a leaf and its issuers. The input is a row of certificates in DER, each behind its length in two bytes; what is
/// asked for is what the leaf says, so that the check goes as far as the leaf lets it.
pub(crate) fn certificate(input: &[u8]) {
    let mut found: Vec<CertificateDer<'static>> = Vec::new();
    let mut rest = input;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        found.push(behind[..length].to_vec().into());
        rest = &behind[length..];
    }
    let Some((leaf, issuers)) = found.split_first() else {
        return;
    };
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else {
        return;
    };
    let config = asked_for(&parsed);
    let text = |der: &CertificateDer<'static>| {
        String::from_utf8_lossy(&pem::certificates(std::slice::from_ref(der))).into_owned()
    };
    let issuers: Vec<String> = issuers.iter().map(text).collect();
    let certificate = text(leaf);
    let validity = parsed.validity();
    let now = validity.not_before.timestamp();
    for anchors in [None, found.last().map(|last| vec![last.clone()])] {
        let is_configured = anchors.is_some();
        let answer = Answer {
            certificate: &certificate,
            issuers: &issuers,
            anchors,
        };
        let clocks = Clocks {
            here: now,
            vault: now.saturating_add(1),
        };
        let Ok(checked) = check(answer, &config, parsed.public_key().raw, clocks) else {
            continue;
        };
        assert_eq!(checked.chain[0], *leaf);
        assert!(!checked.trust_anchors.is_empty());
        for (at, der) in checked.chain.iter().enumerate() {
            assert!(found.contains(der));
            assert!(!checked.chain[..at].contains(der), "a certificate twice");
        }
        for anchor in &checked.trust_anchors {
            assert!(found.contains(anchor));
            assert!(is_configured || *anchor != *leaf);
        }
        assert_eq!(
            checked.not_after.unix_timestamp(),
            validity.not_after.timestamp()
        );
        let now = clocks.at(checked.clock);
        assert!((now..=checked.not_after.unix_timestamp()).contains(&checked.end));
    }
}

fn asked_for(leaf: &X509Certificate<'_>) -> Certificate {
    let common_name = leaf.subject().iter_common_name().next();
    let mut config = Certificate {
        name: CertificateName::Main,
        mount: "pki".to_owned(),
        role: "role".to_owned(),
        common_name: common_name
            .and_then(|name| name.as_str().ok())
            .unwrap_or_default()
            .to_owned(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        ttl: None,
        key_type: KeyType::EcP256,
        trust_anchors: TrustAnchors::Answer,
        has_der: false,
    };
    let names = leaf.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => config.dns_names.push((*name).to_owned()),
            GeneralName::URI(uri) => config.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                config.ip_addresses.extend(v4.or(v6).ok());
            }
            _ => {}
        }
    }
    config
}

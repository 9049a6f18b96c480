//! Is the certificate the one that was asked for? Vault's roles may change names, dates and chain without an error.

use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert,
};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::Certificate;
use crate::pem;

/// Most certificates that an answer may hold besides the leaf.
const ISSUERS_MAX: usize = 64;

/// What came back, as PEM texts.
pub(super) struct Answer<'a> {
    /// The leaf; what stands behind it counts among the issuers.
    pub(super) certificate: &'a str,
    /// Chain and issuing CA, in any order.
    pub(super) issuers: &'a [String],
    /// Configured trust anchors; none takes them from the issuers.
    pub(super) anchors: Option<Vec<CertificateDer<'static>>>,
}

/// This machine's time and Vault's, in seconds of Unix: a certificate is good now if it is by either of them.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// This machine's.
    pub here: i64,
    /// The server's, as its answers say.
    pub vault: i64,
}

/// What was found good.
pub(super) struct Checked {
    /// Leaf first, then intermediates, no root.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Whom to trust.
    pub(super) trust_anchors: Vec<CertificateDer<'static>>,
    /// Colon-separated hexadecimal.
    pub(super) serial_number: String,
    /// End of the leaf's validity.
    pub(super) not_after: OffsetDateTime,
}

/// Checks key, names, dates and chain.
pub(super) fn check(
    answer: Answer<'_>,
    config: &Certificate,
    public_key: &[u8],
    clocks: Clocks,
) -> Result<Checked, String> {
    let mut found = pem::read(answer.certificate.as_bytes())?
        .certificates
        .into_iter();
    let leaf = found.next().ok_or("it holds no certificate")?;
    let mut issuers: Vec<CertificateDer<'static>> = found.collect();
    for text in answer.issuers {
        issuers.extend(pem::read(text.as_bytes())?.certificates);
    }
    if issuers.len() > ISSUERS_MAX {
        return Err(format!("{} certificates came with it", issuers.len()));
    }
    let parsed = parse(&leaf)?;
    if parsed.public_key().raw != public_key {
        return Err("it is for another key than the one made here".to_owned());
    }
    check_names(&parsed, config)?;
    let now = check_dates(&parsed, clocks)?;

    let mut chain = vec![leaf.clone()];
    let mut roots: Vec<CertificateDer<'static>> = Vec::new();
    loop {
        let last = parse(&chain[chain.len() - 1])?;
        let issuer = last.issuer().as_raw().to_vec();
        let key = authority_key(&last);
        let named: Vec<&CertificateDer<'static>> = issuers
            .iter()
            .filter(|der| {
                !chain.contains(der)
                    && parse(der).is_ok_and(|certificate| certificate.subject().as_raw() == issuer)
            })
            .collect();
        // A CA that was made anew has the name of the old one; the key tells them apart.
        let next = named
            .iter()
            .find(|der| key.is_some() && parse(der).is_ok_and(|found| subject_key(&found) == key))
            .or(named.first())
            .copied();
        match next {
            Some(der) if is_self_signed(der) => {
                roots.push(der.clone());
                break;
            }
            Some(der) => chain.push(der.clone()),
            None => break,
        }
    }
    let trust_anchors = match answer.anchors {
        Some(anchors) => anchors,
        None if roots.is_empty() => chain.get(1).cloned().into_iter().collect(),
        None => roots,
    };
    if trust_anchors.is_empty() {
        return Err("neither a chain nor an issuing CA came with it".to_owned());
    }
    let mut good = Vec::new();
    let mut expired = String::new();
    for der in &trust_anchors {
        let anchor = parse(der)?;
        if clocks.any(|now| now <= anchor.validity().not_after.timestamp()) {
            good.push(der.clone());
        } else {
            expired.push_str(&format!(
                "; its trust anchor {} expired {}",
                anchor.subject(),
                anchor.validity().not_after
            ));
        }
    }
    // An anchor that has had its time may still lie beside the one that counts.
    verify_chain(&leaf, &chain[1..], &good, now).map_err(|error| error + &expired)?;
    let not_after = OffsetDateTime::from_unix_timestamp(parsed.validity().not_after.timestamp())
        .map_err(|_| "its end lies outside the calendar")?;
    Ok(Checked {
        serial_number: parsed.raw_serial_as_string(),
        not_after,
        chain,
        trust_anchors,
    })
}

impl Clocks {
    fn any(self, holds: impl Fn(i64) -> bool) -> bool {
        holds(self.here) || holds(self.vault)
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|_| "it cannot be read".to_owned())
}

fn subject_key(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })
}

fn authority_key(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0.to_vec())
            }
            _ => None,
        })
}

fn is_self_signed(der: &CertificateDer<'_>) -> bool {
    parse(der)
        .is_ok_and(|certificate| certificate.subject().as_raw() == certificate.issuer().as_raw())
}

fn check_names(leaf: &X509Certificate<'_>, config: &Certificate) -> Result<(), String> {
    let common_names: Vec<&str> = leaf
        .subject()
        .iter_common_name()
        .filter_map(|attribute| attribute.as_str().ok())
        .collect();
    if common_names != [config.common_name.as_str()] {
        return Err(format!(
            "its common name is {:?}, not `{}`",
            common_names.join(", "),
            config.common_name
        ));
    }
    let (mut dns_names, mut addresses, mut uris) = (Vec::new(), Vec::new(), Vec::new());
    let extension = leaf
        .subject_alternative_name()
        .map_err(|_| "its alternative names cannot be read")?;
    for name in extension
        .iter()
        .flat_map(|extension| &extension.value.general_names)
    {
        match name {
            GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
            GeneralName::URI(uri) => uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => {
                match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                    (Ok(v4), _) => addresses.push(IpAddr::from(v4).to_string()),
                    (_, Ok(v6)) => addresses.push(IpAddr::from(v6).to_string()),
                    _ => return Err("it names an IP address of no known length".to_owned()),
                }
            }
            other => return Err(format!("it has a name that was not asked for: {other}")),
        }
    }
    let wanted: Vec<String> = config
        .ip_addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    same_names(
        "DNS names",
        &dns_names,
        &config.dns_names,
        str::eq_ignore_ascii_case,
    )?;
    same_names("IP addresses", &addresses, &wanted, str::eq)?;
    same_names("URIs", &uris, &config.uris, str::eq)
}

fn same_names(
    kind: &str,
    found: &[String],
    wanted: &[String],
    same: fn(&str, &str) -> bool,
) -> Result<(), String> {
    let without = |these: &[String], those: &[String]| -> Vec<String> {
        these
            .iter()
            .filter(|this| !those.iter().any(|that| same(this, that)))
            .cloned()
            .collect()
    };
    let (missing, added) = (without(wanted, found), without(found, wanted));
    if missing.is_empty() && added.is_empty() {
        return Ok(());
    }
    Err(format!(
        "of the {kind} asked for it lacks {missing:?} and adds {added:?}"
    ))
}

/// The time by which it is good.
fn check_dates(leaf: &X509Certificate<'_>, clocks: Clocks) -> Result<i64, String> {
    let (from, until) = (leaf.validity().not_before, leaf.validity().not_after);
    [clocks.here, clocks.vault]
        .into_iter()
        .find(|now| (from.timestamp()..=until.timestamp()).contains(now))
        .ok_or_else(|| {
            let problem = if clocks.here < from.timestamp() {
                "is not yet valid"
            } else {
                "has expired"
            };
            format!(
                "by this machine's clock ({}) it {problem}: it runs from {from} to {until}",
                OffsetDateTime::from_unix_timestamp(clocks.here)
                    .map_or_else(|_| String::new(), |now| now.to_string())
            )
        })
}

/// Client, server or both: that is the role's choice.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

fn verify_chain(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[CertificateDer<'_>],
    now: i64,
) -> Result<(), String> {
    let anchors = anchors
        .iter()
        .map(anchor_from_trusted_cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("a trust anchor: {error}"))?;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.unsigned_abs()));
    let algorithms =
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    EndEntityCert::try_from(leaf)
        .and_then(|leaf| {
            leaf.verify_for_usage(
                algorithms.all,
                &anchors,
                intermediates,
                time,
                AnyUsage,
                None,
                None,
            )
            .map(|_| ())
        })
        .map_err(|error| format!("its chain does not lead to the trust anchors: {error}"))
}

//! The way from a leaf to the trust anchors, whatever CAs have signed one another and in whatever order they came.

use std::cmp::Reverse;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert,
};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The way from a leaf to the trust anchors.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// The intermediates, from the leaf's issuer upwards, without a self-signed root.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    /// The CAs to trust, each once.
    pub(super) anchors: Vec<CertificateDer<'static>>,
    /// The CA of this path that ends first.
    pub(super) first_end: Option<End>,
}

/// The end of a CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// The end, in seconds of Unix time.
    pub(super) at: i64,
    /// The subject of the CA.
    pub(super) of: String,
}

/// A CA that is valid at the moment that counts.
struct Authority {
    der: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
    until: i64,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    name: String,
    is_self_signed: bool,
}

/// The CAs that came.
#[derive(Default)]
struct Found {
    /// The CAs that are valid now, each once, the longest-lived first whatever the order they came in.
    valid: Vec<Authority>,
    /// True where a self-signed CA came, valid or not.
    has_root: bool,
    /// True where a CA could not be read.
    has_unreadable: bool,
    /// The names of CAs that have expired.
    expired: String,
}

/// Finds the path that holds at `now`. Without configured anchors these are the self-signed issuers that the leaf
/// leads to, and where none came at all, the leaf's own issuer.
pub(super) fn find(
    leaf: &CertificateDer<'_>,
    issuers: &[CertificateDer<'static>],
    configured: Option<&[CertificateDer<'static>]>,
    now: i64,
) -> Result<Path, String> {
    let found = Found::among(issuers, now, "");
    let trusted = configured.map(|anchors| Found::among(anchors, now, "its trust anchor "));
    let (own, others): (Vec<_>, Vec<_>) = found.valid.iter().partition(|ca| ca.is_self_signed);
    let leads = |end: &Authority| lead(leaf, &others, &[end], now).ok();
    let no_path = |error: webpki::Error| {
        let expired = &found.expired;
        format!("its chain does not lead to the trust anchors: {error}{expired}")
    };
    let anchors: Vec<&Authority> = match &trusted {
        Some(trusted) if trusted.has_unreadable => {
            return Err("one of its trust anchors cannot be read".to_owned());
        }
        Some(trusted) => {
            let anchors: Vec<_> = trusted.valid.iter().collect();
            lead(leaf, &others, &anchors, now)
                .map_err(|error| no_path(error) + &trusted.expired)?;
            anchors
        }
        None if found.has_root => {
            let reached = own.iter().filter(|root| leads(root).is_some());
            let reached: Vec<&Authority> = reached.copied().collect();
            if reached.is_empty() {
                lead(leaf, &others, &own, now).map_err(no_path)?;
            }
            reached
        }
        None if others.is_empty() && found.expired.is_empty() => {
            return Err("neither a chain nor an issuing CA came with it".to_owned());
        }
        None => {
            let direct = |ca: &&&Authority| lead(leaf, &[], &[**ca], now).is_ok();
            let issuer = others.iter().find(direct).copied();
            vec![issuer.ok_or_else(|| no_path(webpki::Error::UnknownIssuer))?]
        }
    };
    // What is published should lead on to a root also where a CA below the root is the anchor: others may trust the root.
    let tops = others
        .iter()
        .filter(|ca| others.iter().all(|other| other.subject != ca.issuer));
    let roots = anchors.iter().filter(|ca| ca.is_self_signed);
    let ends: [Vec<&Authority>; 4] = [
        roots.copied().collect(),
        own.clone(),
        tops.copied().collect(),
        anchors.clone(),
    ];
    let way = ends.iter().find_map(|ends| {
        let ways = ends.iter().filter_map(|end| {
            let mut way = leads(end)?;
            way.extend((!end.is_self_signed).then_some(*end));
            // Where CAs have signed one another, the way to this end may pass none of the anchors.
            if anchors.iter().all(|anchor| anchor.der != end.der) {
                lead(leaf, &way, &anchors, now).ok()?;
            }
            Some((way, *end))
        });
        ways.min_by_key(|(way, end)| {
            let first = way.iter().chain([end]).map(|ca| ca.until).min();
            (Reverse(first), way.len())
        })
    });
    let (way, end) = way.ok_or_else(|| no_path(webpki::Error::UnknownIssuer))?;
    let first_end = way.iter().chain([&end]).min_by_key(|ca| ca.until);
    let first_end = first_end.map(|ca| End {
        at: ca.until,
        of: ca.name.clone(),
    });
    let ders = |these: Vec<&Authority>| these.into_iter().map(|ca| ca.der.clone()).collect();
    Ok(Path {
        intermediates: ders(way),
        anchors: ders(anchors),
        first_end,
    })
}

/// Finds the CAs between a leaf and one of these ends, from the leaf upwards.
fn lead<'a>(
    leaf: &CertificateDer<'_>,
    between: &[&'a Authority],
    ends: &[&Authority],
    now: i64,
) -> Result<Vec<&'a Authority>, webpki::Error> {
    let algorithms =
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
    let anchors: Vec<TrustAnchor<'_>> = ends.iter().map(|end| end.anchor.clone()).collect();
    let pool: Vec<CertificateDer<'_>> = between.iter().map(|ca| ca.der.clone()).collect();
    let leaf = EndEntityCert::try_from(leaf)?;
    let path =
        leaf.verify_for_usage(algorithms.all, &anchors, &pool, time, AnyUsage, None, None)?;
    let find = |found: &webpki::Cert<'_>| between.iter().find(|ca| ca.der == found.der()).copied();
    Ok(path.intermediate_certificates().filter_map(find).collect())
}

impl Found {
    /// Sorts the CAs that came; `what` stands before the name of one that has expired.
    fn among(ders: &[CertificateDer<'static>], now: i64, what: &str) -> Found {
        let mut found = Found::default();
        for der in ders {
            let Some((authority, from)) = read(der) else {
                found.has_unreadable = true;
                continue;
            };
            found.has_root |= authority.is_self_signed;
            if found.valid.iter().any(|known| known.der == authority.der) {
                continue;
            }
            if now > authority.until {
                let end = time::OffsetDateTime::from_unix_timestamp(authority.until);
                let end = end.map_or_else(|_| String::new(), |end| end.to_string());
                let text = format!("; {what}{} expired {end}", authority.name);
                if !found.expired.contains(&text) {
                    found.expired.push_str(&text);
                }
            } else if from <= now {
                found.valid.push(authority);
            }
        }
        let order = |a: &Authority, b: &Authority| {
            (b.until, a.der.as_ref()).cmp(&(a.until, b.der.as_ref()))
        };
        found.valid.sort_by(order);
        found
    }
}

/// Reads a CA, and since when it is valid.
fn read(der: &CertificateDer<'static>) -> Option<(Authority, i64)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let (subject, issuer) = (certificate.subject(), certificate.issuer());
    // A CA that took a new key may have its old one sign a certificate in which both names are its own.
    let is_signed_by_another = authority_key(&certificate)
        .zip(subject_key(&certificate))
        .is_some_and(|(signer, own)| signer != own);
    let authority = Authority {
        der: der.clone(),
        anchor: anchor_from_trusted_cert(der).ok()?.to_owned(),
        until: certificate.validity().not_after.timestamp(),
        subject: subject.as_raw().to_vec(),
        issuer: issuer.as_raw().to_vec(),
        name: subject.to_string(),
        is_self_signed: subject.as_raw() == issuer.as_raw() && !is_signed_by_another,
    };
    Some((authority, certificate.validity().not_before.timestamp()))
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

/// Any extended key usage: whether a certificate is for clients, servers or both is the role's choice.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! The way from a leaf to the trust anchors, whatever CAs have signed one another and in whatever order they came.

use std::cmp::Reverse;
use std::fmt::Write as _;
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
    /// From the leaf's issuer upwards, without a self-signed root.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    /// Each CA that is to be trusted, once.
    pub(super) anchors: Vec<CertificateDer<'static>>,
    /// The CA of this path that ends first.
    pub(super) first_end: Option<End>,
}

/// When a CA ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// In seconds of Unix.
    pub(super) at: i64,
    /// The subject.
    pub(super) of: String,
}

/// A CA that is valid at the moment that counts.
#[derive(Clone)]
struct Authority {
    der: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
    until: i64,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    name: String,
    is_self_signed: bool,
}

/// Finds the path that holds at `now`; without configured anchors those are the self-signed issuers that the leaf leads to,
/// and where none came at all the leaf's own issuer.
pub(super) fn find(
    leaf: &CertificateDer<'_>,
    issuers: &[CertificateDer<'static>],
    configured: Option<&[CertificateDer<'static>]>,
    now: i64,
) -> Result<Path, String> {
    let mut expired = String::new();
    let (issuers, has_root) = valid(issuers, now, "", &mut expired);
    let (own, others): (Vec<_>, Vec<_>) = issuers.into_iter().partition(|ca| ca.is_self_signed);
    let leads = |end: &Authority| lead(leaf, &others, std::slice::from_ref(end), now).ok();
    let no_path = |error: webpki::Error| {
        format!("its chain does not lead to the trust anchors: {error}{expired}")
    };
    let anchors = match configured {
        Some(configured) => {
            if configured.iter().any(|der| read(der).is_none()) {
                return Err("one of its trust anchors cannot be read".to_owned());
            }
            let mut expired = expired.clone();
            let (anchors, _) = valid(configured, now, "its trust anchor ", &mut expired);
            lead(leaf, &others, &anchors, now).map_err(|error| {
                format!("its chain does not lead to the trust anchors: {error}{expired}")
            })?;
            anchors
        }
        None if has_root => {
            lead(leaf, &others, &own, now).map_err(no_path)?;
            let reached = own.iter().filter(|root| leads(root).is_some());
            reached.cloned().collect()
        }
        None if others.is_empty() && expired.is_empty() => {
            return Err("neither a chain nor an issuing CA came with it".to_owned());
        }
        None => {
            let direct = |ca: &&Authority| lead(leaf, &[], std::slice::from_ref(*ca), now).is_ok();
            let issuer = others.iter().find(direct).cloned();
            vec![issuer.ok_or_else(|| no_path(webpki::Error::UnknownIssuer))?]
        }
    };
    // What is published should lead on to a root also where a CA below the root is the anchor: others may trust the root.
    let tops = others
        .iter()
        .filter(|ca| others.iter().all(|other| other.subject != ca.issuer));
    let ends: [Vec<&Authority>; 4] = [
        anchors.iter().filter(|ca| ca.is_self_signed).collect(),
        own.iter().collect(),
        tops.collect(),
        anchors.iter().collect(),
    ];
    let way = ends.iter().find_map(|ends| {
        let ways = ends.iter().filter_map(|end| Some((leads(end)?, *end)));
        ways.min_by_key(|(between, end)| {
            let first = between.iter().chain([end]).map(|ca| ca.until).min();
            (Reverse(first), between.len())
        })
    });
    let (between, end) = way.ok_or_else(|| no_path(webpki::Error::UnknownIssuer))?;
    let first_end = between.iter().chain([&end]).min_by_key(|ca| ca.until);
    let first_end = first_end.map(|ca| End {
        at: ca.until,
        of: ca.name.clone(),
    });
    let own_end = (!end.is_self_signed).then_some(end);
    Ok(Path {
        intermediates: between
            .into_iter()
            .chain(own_end)
            .map(|ca| ca.der.clone())
            .collect(),
        anchors: anchors.into_iter().map(|ca| ca.der).collect(),
        first_end,
    })
}

/// The CAs between a leaf and one of these ends, from the leaf upwards.
fn lead<'a>(
    leaf: &CertificateDer<'_>,
    between: &'a [Authority],
    ends: &[Authority],
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
    let find = |found: &webpki::Cert<'_>| between.iter().find(|ca| ca.der == found.der());
    Ok(path.intermediate_certificates().filter_map(find).collect())
}

/// The certificates that can be read and are valid now, each once, in an order of their own: what lives longest first. Says too
/// whether a self-signed one came at all, and names those that have had their time.
fn valid(
    found: &[CertificateDer<'static>],
    now: i64,
    what: &str,
    expired: &mut String,
) -> (Vec<Authority>, bool) {
    let mut has_root = false;
    let mut valid: Vec<Authority> = Vec::new();
    for der in found {
        let Some((authority, from)) = read(der) else {
            continue;
        };
        has_root |= authority.is_self_signed;
        if valid.iter().any(|known| known.der == authority.der) {
            continue;
        }
        if now > authority.until {
            let end = time::OffsetDateTime::from_unix_timestamp(authority.until);
            let end = end.map_or_else(|_| String::new(), |end| end.to_string());
            let text = format!("; {what}{} expired {end}", authority.name);
            if !expired.contains(&text) {
                let _ = expired.write_str(&text);
            }
        } else if from <= now {
            valid.push(authority);
        }
    }
    valid.sort_by(|a, b| (b.until, a.der.as_ref()).cmp(&(a.until, b.der.as_ref())));
    (valid, has_root)
}

/// A CA, and since when it is valid.
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

/// Client, server or both: that is the role's choice.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
    };

    use super::*;

    /// 2030-01-01.
    const NOW: i64 = 1_893_456_000;

    struct Ca {
        params: CertificateParams,
        key: KeyPair,
    }

    fn ca(name: &str) -> Ca {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.use_authority_key_identifier_extension = true;
        params.not_before = date_time_ymd(2020, 1, 1);
        let key = KeyPair::generate().expect("a key");
        Ca { params, key }
    }

    impl Ca {
        /// A certificate of it until the first day of this year, signed by this one or by itself.
        fn until(&self, year: i32, by: Option<&Ca>) -> CertificateDer<'static> {
            let mut params = self.params.clone();
            params.not_after = date_time_ymd(year, 1, 1);
            let certificate = match by {
                Some(ca) => params.signed_by(&self.key, &Issuer::from_params(&ca.params, &ca.key)),
                None => params.self_signed(&self.key),
            };
            certificate.expect("a certificate").der().clone()
        }

        fn leaf(&self) -> CertificateDer<'static> {
            let mut params = CertificateParams::default();
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2080, 1, 1);
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate().expect("a key");
            let issuer = Issuer::from_params(&self.params, &self.key);
            let leaf = params.signed_by(&key, &issuer).expect("a certificate");
            leaf.der().clone()
        }
    }

    type Ders<'a> = &'a [&'a CertificateDer<'static>];

    fn owned(ders: Ders<'_>) -> Vec<CertificateDer<'static>> {
        ders.iter().map(|der| (*der).clone()).collect()
    }

    /// Each order of the same.
    fn orders(ders: Ders<'_>) -> Vec<Vec<CertificateDer<'static>>> {
        let Some((first, rest)) = ders.split_first() else {
            return vec![Vec::new()];
        };
        let with = |order: Vec<CertificateDer<'static>>| {
            (0..=order.len()).map(move |at| {
                let mut order = order.clone();
                order.insert(at, (*first).clone());
                order
            })
        };
        orders(rest).into_iter().flat_map(with).collect()
    }

    /// Whatever the order and however often each comes, these are the intermediates and the anchors.
    #[track_caller]
    fn assert_found(
        leaf: &CertificateDer<'_>,
        issuers: Ders<'_>,
        intermediates: Ders<'_>,
        anchors: Ders<'_>,
    ) -> Option<End> {
        let mut first_end = None;
        for mut order in orders(issuers) {
            order.extend(order.clone());
            let path = find(leaf, &order, None, NOW).expect("a path");
            assert_eq!(path.intermediates, owned(intermediates));
            assert_eq!(path.anchors, owned(anchors));
            first_end = path.first_end;
        }
        first_end
    }

    fn year(year: i32) -> i64 {
        date_time_ymd(year, 1, 1).unix_timestamp()
    }

    #[test]
    fn chain_with_two_roots_has_both_as_anchors() {
        let (old, new, below) = (ca("old"), ca("new"), ca("below"));
        let (old_root, new_root) = (old.until(2040, None), new.until(2060, None));
        let by_old = below.until(2050, Some(&old));
        let by_new = below.until(2049, Some(&new));
        let first = assert_found(
            &below.leaf(),
            &[&by_old, &by_new, &old_root, &new_root],
            &[&by_new],
            &[&new_root, &old_root],
        );
        assert_eq!(first.map(|end| end.at), Some(year(2049)));
    }

    #[test]
    fn chain_of_a_root_signed_by_an_older_one_has_both_as_anchors() {
        // With a name of its own, and with the name of the older one.
        for name in ["new", "old"] {
            let (old, new) = (ca("old"), ca(name));
            let (old_root, new_root) = (old.until(2060, None), new.until(2040, None));
            let cross = new.until(2041, Some(&old));
            assert_found(
                &new.leaf(),
                &[&old_root, &new_root, &cross],
                &[&cross],
                &[&old_root, &new_root],
            );
        }
    }

    #[test]
    fn chain_with_an_expired_way_takes_the_other_one() {
        let (old, new, below) = (ca("old"), ca("new"), ca("below"));
        let (old_root, new_root) = (old.until(2060, None), new.until(2060, None));
        let by_old = below.until(2029, Some(&old));
        let by_new = below.until(2031, Some(&new));
        assert_found(
            &below.leaf(),
            &[&by_old, &by_new, &old_root, &new_root],
            &[&by_new],
            &[&new_root],
        );
        let old_root = old.until(2029, None);
        let cross = new.until(2040, Some(&old));
        let leaf = new.leaf();
        assert_found(&leaf, &[&old_root, &new_root, &cross], &[], &[&new_root]);
    }

    #[test]
    fn chain_whose_cross_certificate_leads_nowhere_ends_at_its_root() {
        let (absent, root, below) = (ca("absent"), ca("root"), ca("below"));
        let own_root = root.until(2040, None);
        let cross = root.until(2060, Some(&absent));
        let middle = below.until(2050, Some(&root));
        let end = assert_found(
            &below.leaf(),
            &[&cross, &own_root, &middle],
            &[&middle],
            &[&own_root],
        );
        assert_eq!(
            end,
            Some(End {
                at: year(2040),
                of: "CN=root".to_owned()
            })
        );
    }

    #[test]
    fn chain_without_a_root_has_the_issuing_ca_as_anchor() {
        let (root, middle, lower) = (ca("root"), ca("middle"), ca("lower"));
        let (above, issuing) = (
            middle.until(2040, Some(&root)),
            lower.until(2050, Some(&middle)),
        );
        assert_found(
            &lower.leaf(),
            &[&above, &issuing],
            &[&issuing, &above],
            &[&issuing],
        );
        // Two that have signed one another alone.
        let other = ca("other");
        let (a, b) = (
            other.until(2040, Some(&lower)),
            lower.until(2050, Some(&other)),
        );
        assert_found(&lower.leaf(), &[&a, &b], &[&b], &[&b]);
    }

    #[test]
    fn chain_to_configured_anchors_publishes_the_way_to_the_root() {
        let (root, middle, stranger) = (ca("root"), ca("middle"), ca("stranger"));
        let (top, below) = (root.until(2040, None), middle.until(2050, Some(&root)));
        let (leaf, issuers) = (middle.leaf(), [top.clone(), below.clone()]);
        let gone = stranger.until(2029, None);
        let trusted = |anchors: Ders<'_>| find(&leaf, &issuers, Some(&owned(anchors)), NOW);
        for (anchors, expected) in [
            (&[&top, &gone, &top][..], &[&top][..]),
            (&[&below], &[&below]),
            (&[&top, &below], &[&below, &top]),
        ] {
            let path = trusted(anchors).expect("a path");
            assert_eq!(path.intermediates, owned(&[&below]));
            assert_eq!(path.anchors, owned(expected));
        }
        for (anchors, words) in [
            (&[&stranger.until(2040, None)][..], "does not lead"),
            (&[&gone], "its trust anchor CN=stranger expired 2029-01-01"),
            (&[], "does not lead"),
            (&[&CertificateDer::from(vec![0])], "cannot be read"),
        ] {
            let reason = trusted(anchors).expect_err("no path");
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn chain_that_is_broken_or_not_there_is_an_error() {
        let (root, middle, namesake) = (ca("root"), ca("middle"), ca("middle"));
        let (top, leaf) = (root.until(2040, None), middle.leaf());
        for (issuers, words) in [
            (&[][..], "neither a chain nor an issuing CA"),
            (&[&top], "does not lead"),
            (&[&namesake.until(2040, Some(&root)), &top], "does not lead"),
            (
                &[&middle.until(2029, Some(&root)), &top],
                "does not lead to the trust anchors: UnknownIssuer; CN=middle expired 2029-01-01",
            ),
            (&[&middle.until(2029, Some(&root))], "CN=middle expired"),
            (
                &[&middle.until(2040, Some(&root)), &root.until(2029, None)],
                "CN=root expired",
            ),
        ] {
            let reason = find(&leaf, &owned(issuers), None, NOW).expect_err("no path");
            assert!(reason.contains(words), "{reason}");
        }
        let reason = find(&leaf, &[middle.until(2040, Some(&root)), top], None, 0);
        assert!(reason.is_err(), "none of it is valid yet");
    }
}

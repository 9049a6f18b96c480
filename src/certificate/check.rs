//! Whether the certificate is the one that was asked for: Vault's roles may change names, dates and chain without an
//! error.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, Validity, X509Certificate};

use super::chain;
use crate::config::Certificate;
use crate::pem;

/// The most certificates that an answer may hold besides the leaf.
const ISSUERS_MAX: usize = 64;

/// Vault's answer, as PEM texts.
pub(super) struct Answer<'a> {
    /// The leaf; certificates behind it count among the issuers.
    pub(super) certificate: &'a str,
    /// The chain and the issuing CA, in any order.
    pub(super) issuers: &'a [String],
    /// The configured trust anchors; without them the issuers provide the anchors.
    pub(super) anchors: Option<Vec<CertificateDer<'static>>>,
}

/// The time of this machine and of Vault, in seconds of Unix time: a certificate is good now if either clock says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    /// The time of this machine.
    pub here: i64,
    /// The time of the server, from its answers.
    pub vault: i64,
}

/// One of the two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The clock of this machine.
    Here,
    /// The clock of the server.
    Vault,
}

/// The parts of an answer that was found good.
pub(super) struct Checked {
    /// The leaf, then intermediates, without the root.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The CAs to trust, each once.
    pub(super) trust_anchors: Vec<CertificateDer<'static>>,
    /// The serial number, in colon-separated hexadecimal.
    pub(super) serial_number: String,
    /// The end of the leaf's validity.
    pub(super) not_after: OffsetDateTime,
    /// The end of the certificate that expires first on the path from the leaf to an anchor, in seconds of Unix time.
    pub(super) end: i64,
    /// The CA with that end; none where it is the leaf's own.
    pub(super) ends_with: Option<String>,
    /// The clock by which all of it is valid now.
    pub(super) clock: Clock,
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
    let validity = parsed.validity();
    let (from, until) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    let mut tried = clocks.accepting(from, until).into_iter().map(|clock| {
        let anchors = answer.anchors.as_deref();
        chain::find(&leaf, &issuers, anchors, clocks.at(clock)).map(|path| (clock, path))
    });
    let first = tried.next();
    let (clock, path) = first
        .unwrap_or_else(|| Err(out_of_date(validity, clocks.here)))
        .or_else(|reason| tried.find_map(Result::ok).ok_or(reason))?;
    let first_end = path.first_end.filter(|end| end.at < until);
    let chain = std::iter::once(leaf.clone()).chain(path.intermediates);
    Ok(Checked {
        serial_number: serial_number(parsed.raw_serial()),
        not_after: validity.not_after.to_datetime(),
        end: first_end.as_ref().map_or(until, |end| end.at),
        ends_with: first_end.map(|end| end.of),
        clock,
        chain: chain.collect(),
        trust_anchors: path.anchors,
    })
}

impl Clocks {
    /// Returns the time of this clock.
    pub(crate) fn at(self, clock: Clock) -> i64 {
        match clock {
            Clock::Here => self.here,
            Clock::Vault => self.vault,
        }
    }

    /// Lists the clocks by which a validity from one time until another holds, in the order in which they count: the
    /// clock by which it ends first comes first. A clock that leaves less than a tenth of what the other one leaves is
    /// plainly wrong: trusting it would mean asking for another certificate without end.
    pub(crate) fn accepting(self, from: i64, until: i64) -> Vec<Clock> {
        let mut clocks = vec![Clock::Here, Clock::Vault];
        clocks.retain(|clock| (from..=until).contains(&self.at(*clock)));
        let left = |clock: &Clock| until.saturating_sub(self.at(*clock));
        clocks.sort_by_key(left);
        if let [first, last] = clocks[..]
            && left(&first).saturating_mul(10) < left(&last)
        {
            clocks.reverse();
        }
        clocks
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|_| "it cannot be read".to_owned())
}

fn check_names(leaf: &X509Certificate<'_>, config: &Certificate) -> Result<(), String> {
    let common_names: Vec<&str> = leaf
        .subject()
        .iter_common_name()
        .map(AttributeTypeAndValue::as_str)
        .collect::<Result<_, _>>()
        .map_err(|_| "its common name cannot be read")?;
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

fn out_of_date(validity: &Validity, now: i64) -> String {
    let (from, until) = (
        validity.not_before.to_datetime(),
        validity.not_after.to_datetime(),
    );
    let problem = if now < from.unix_timestamp() {
        "is not yet valid"
    } else {
        "has expired"
    };
    format!(
        "by this machine's clock ({}) it {problem}: it runs from {from} to {until}",
        OffsetDateTime::from_unix_timestamp(now)
            .map_or_else(|_| String::new(), |now| now.to_string())
    )
}

/// Formats a serial number as Vault writes it: without the zero octet that DER puts before a number whose first bit is
/// set (X.690, 8.3), and with which Vault would not know the certificate.
fn serial_number(der: &[u8]) -> String {
    let zeros = der.iter().take_while(|octet| **octet == 0).count();
    let octets = &der[zeros.min(der.len().saturating_sub(1))..];
    let octets: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

#[cfg(test)]
mod tests;

//! The service's certificate: a key made here, a request, and what Vault made of it.

mod chain;
mod check;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use std::fmt;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData, RsaKeySize, SanType,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::config::{Certificate, CertificateName, KeyType, TrustAnchors};
use crate::pem;
use crate::secret::Secret;
use crate::vault::{self, Session, SignRequest, Value};

use check::{Answer, check};
pub(crate) use check::{Clock, Clocks};

/// A certificate with its key, checked.
pub(crate) struct Issued {
    /// The private key, as PKCS#8 in DER.
    pub private_key: Secret<Vec<u8>>,
    /// The leaf, then intermediates, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The CAs that the service trusts, each once, none that has expired.
    pub trust_anchors: Vec<CertificateDer<'static>>,
    /// The serial number, in colon-separated hexadecimal.
    pub serial_number: String,
    /// The end of the leaf's validity.
    pub not_after: OffsetDateTime,
    /// The end of the certificate that expires first on the path from the leaf to an anchor, in seconds of Unix time.
    pub end: i64,
    /// The CA with that end; none where it is the leaf's own.
    pub ends_with: Option<String>,
    /// The clock by which that end counts.
    pub clock: Clock,
    /// True where Vault revokes the certificate together with the token.
    pub is_leased: bool,
}

/// A key and the request for its certificate, made before any token is used.
pub(crate) struct Request {
    /// The private key, as PKCS#8 in DER.
    private_key: Secret<Vec<u8>>,
    /// The public key, as SubjectPublicKeyInfo in DER.
    public_key: Vec<u8>,
    csr: String,
    anchors: Option<Vec<CertificateDer<'static>>>,
}

/// A certificate could not be obtained.
#[derive(Debug)]
pub struct Error {
    /// The name of the certificate.
    pub certificate: CertificateName,
    /// The reason.
    pub cause: Cause,
}

impl Error {
    /// Makes errors of this certificate.
    pub(crate) fn of(certificate: &Certificate) -> impl Fn(Cause) -> Error {
        |cause| Error {
            certificate: certificate.name.clone(),
            cause,
        }
    }
}

/// Every way in which obtaining a certificate fails.
#[derive(Debug)]
pub enum Cause {
    /// Making the key or the request failed.
    Request {
        /// The library's reason.
        reason: String,
    },
    /// The file with the trust anchors cannot be used.
    AnchorFile(vault::TrustError),
    /// Vault did not sign the request, or did not answer the trust anchors.
    Vault(vault::Error),
    /// Each certificate ended before everything else was there.
    Ended,
    /// The certificate is not what was asked for.
    Check {
        /// The fault of the certificate.
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificate = &self.certificate;
        match &self.cause {
            Cause::Request { reason } => {
                write!(
                    f,
                    "cannot make a key and a request for {certificate}: {reason}"
                )
            }
            Cause::AnchorFile(error) => error.fmt(f),
            Cause::Vault(error) => write!(f, "{certificate}: {error}"),
            Cause::Ended => write!(f, "{certificate} ends before everything else is there"),
            Cause::Check { reason } => {
                write!(f, "{certificate} that Vault signed is refused: {reason}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<rcgen::Error> for Cause {
    fn from(error: rcgen::Error) -> Self {
        Cause::Request {
            reason: error.to_string(),
        }
    }
}

/// Makes a key of the kind asked for.
pub(crate) fn make_key(kind: KeyType) -> Result<KeyPair, rcgen::Error> {
    match kind {
        KeyType::EcP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyType::EcP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyType::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        KeyType::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyType::Rsa3072 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
        KeyType::Rsa4096 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
    }
}

/// Encodes the key as PKCS#8 version 1, which every reader knows.
pub(crate) fn pkcs8(key: &KeyPair, kind: KeyType) -> Secret<Vec<u8>> {
    let der = Secret::new(key.serialize_der());
    if kind != KeyType::Ed25519 {
        return der;
    }
    // OpenSSL 3.0 does not read version 2 (RFC 5958), which the library writes for this kind: the seed stands at
    // 16..48, and the prefix is that of RFC 8410, section 7.
    let mut version_1 = Vec::with_capacity(48);
    version_1
        .extend_from_slice(b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20");
    version_1.extend_from_slice(&der.expose()[16..48]);
    Secret::new(version_1)
}

/// Builds subject and alternative names, for a request or a certificate.
pub(crate) fn params(config: &Certificate) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, config.common_name.as_str());
    for name in &config.dns_names {
        params
            .subject_alt_names
            .push(SanType::DnsName(name.as_str().try_into()?));
    }
    for address in &config.ip_addresses {
        params.subject_alt_names.push(SanType::IpAddress(*address));
    }
    for uri in &config.uris {
        params
            .subject_alt_names
            .push(SanType::URI(uri.as_str().try_into()?));
    }
    Ok(params)
}

/// Makes the key and the request, and reads the trust anchors if they lie in a file.
pub(crate) fn prepare(config: &Certificate) -> Result<Request, Cause> {
    let anchors = match &config.trust_anchors {
        TrustAnchors::File(path) => {
            Some(vault::read_certificates(path).map_err(Cause::AnchorFile)?)
        }
        TrustAnchors::Answer | TrustAnchors::Path(_) => None,
    };
    let key = make_key(config.key_type)?;
    let csr = params(config)?.serialize_request(&key)?.pem()?;
    Ok(Request {
        private_key: pkcs8(&key, config.key_type),
        public_key: key.subject_public_key_info(),
        csr,
        anchors,
    })
}

/// Has the request signed and checks what comes back.
pub(crate) fn obtain(
    request: Request,
    config: &Certificate,
    session: &Session,
    clocks: impl FnOnce() -> Clocks,
) -> Result<Issued, Cause> {
    let signed = session
        .sign(
            &config.mount,
            &config.role,
            &SignRequest {
                csr: &request.csr,
                common_name: &config.common_name,
                alt_names: config.dns_names.join(","),
                ip_sans: joined(&config.ip_addresses),
                uri_sans: config.uris.join(","),
                ttl: config.ttl.map(|ttl| format!("{}s", ttl.as_secs().max(1))),
                format: "pem",
            },
        )
        .map_err(Cause::Vault)?;
    let anchors = match (&config.trust_anchors, request.anchors) {
        (TrustAnchors::Path(path), _) => Some(fetch_anchors(session, path)?),
        (_, anchors) => anchors,
    };
    let is_leased = signed.is_leased;
    let mut issuers = signed.ca_chain.unwrap_or_default();
    issuers.push(signed.issuing_ca);
    let answer = Answer {
        certificate: &signed.certificate,
        issuers: &issuers,
        anchors,
    };
    let checked = check(answer, config, &request.public_key, clocks())
        .map_err(|reason| Cause::Check { reason })?;
    Ok(Issued {
        private_key: request.private_key,
        chain: checked.chain,
        trust_anchors: checked.trust_anchors,
        serial_number: checked.serial_number,
        not_after: checked.not_after,
        end: checked.end,
        ends_with: checked.ends_with,
        clock: checked.clock,
        is_leased,
    })
}

fn joined(values: &[impl ToString]) -> String {
    values
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// Reads the trust anchors from a path such as `pki/cert/ca_chain`.
fn fetch_anchors(session: &Session, path: &str) -> Result<Vec<CertificateDer<'static>>, Cause> {
    let reply = session.read(path).map_err(Cause::Vault)?;
    let mut anchors = Vec::new();
    for (name, value) in reply.data {
        if !["certificate", "ca_chain", "issuing_ca"].contains(&name.as_str()) {
            continue;
        }
        let texts = match value {
            Value::Text(text) => vec![text],
            Value::List(values) => values.iter().filter_map(Value::text).collect(),
            _ => Vec::new(),
        };
        for text in texts {
            let found =
                pem::read(text.expose().as_bytes()).map_err(|reason| Cause::Check { reason })?;
            for certificate in found.certificates {
                if !anchors.contains(&certificate) {
                    anchors.push(certificate);
                }
            }
        }
    }
    if anchors.is_empty() {
        return Err(Cause::Check {
            reason: format!("{path} answered no trust anchors"),
        });
    }
    Ok(anchors)
}

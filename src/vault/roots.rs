//! The CAs whose signature on the server's certificate counts.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::pem;
use crate::text_file;

/// The places where Linux distributions keep the CAs they trust.
pub(crate) const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// More than any organisation's own bundle, fewer than would slow a start down.
pub(crate) const CERTIFICATES_MAX: usize = 1000;
/// The most bytes of a file with CAs.
pub(crate) const BUNDLE_MAX: u64 = 4 << 20;

/// The CAs whose signature on the server's certificate counts.
#[derive(Debug, Clone, Copy)]
pub enum Roots<'a> {
    /// This file's alone.
    File(&'a Path),
    /// The system's: the bundle named, else one at the well-known places, else Mozilla's as built in.
    System(Option<&'a Path>),
}

/// The CA file cannot be used.
#[derive(Debug)]
pub struct Error {
    /// The file.
    pub path: PathBuf,
    pub reason: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the CA file {} cannot be used: {}",
            self.path.display(),
            self.reason
        )
    }
}

impl std::error::Error for Error {}

/// Reads the certificates that are trusted.
pub(super) fn load(roots: Roots<'_>) -> Result<RootCertStore, Error> {
    match roots {
        Roots::File(path) => read_file(path),
        Roots::System(Some(path)) => read_bundle(path),
        Roots::System(None) => match system_bundle() {
            Some(path) => read_bundle(path),
            None => Ok(RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            }),
        },
    }
}

/// Finds the bundle of this system's distribution.
pub(crate) fn system_bundle() -> Option<&'static Path> {
    BUNDLES
        .map(Path::new)
        .into_iter()
        .find(|path| path.exists())
}

/// The certificates of a PEM file that holds nothing else of weight.
pub(crate) fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |reason: String| Error {
        path: path.to_owned(),
        reason,
    };
    let text = text_file::read(path, BUNDLE_MAX).map_err(|error| wrong(error.to_string()))?;
    let found = pem::read(&text).map_err(wrong)?;
    if found.has_private_key {
        return Err(wrong(
            "it holds a private key; take that out of the image".to_owned(),
        ));
    }
    if found.certificates.is_empty() {
        return Err(wrong(match text.first() {
            None => "it is empty".to_owned(),
            Some(0x30) => "it is DER; convert it with `openssl x509 -inform der`".to_owned(),
            Some(_) => "it holds no PEM certificate".to_owned(),
        }));
    }
    if found.certificates.len() > CERTIFICATES_MAX {
        return Err(wrong(format!(
            "it holds more than {CERTIFICATES_MAX} certificates"
        )));
    }
    Ok(found.certificates)
}

/// A file of our own choosing: each certificate in it must be usable.
fn read_file(path: &Path) -> Result<RootCertStore, Error> {
    let wrong = |reason: String| Error {
        path: path.to_owned(),
        reason,
    };
    let mut store = RootCertStore::empty();
    let mut expired = Vec::new();
    let certificates = read(path)?;
    let count = certificates.len();
    #[expect(
        clippy::disallowed_methods,
        reason = "the verifier's own clock, by which these are judged at each handshake"
    )]
    let now = UnixTime::now().as_secs() as i64;
    for der in certificates {
        let (_, certificate) =
            X509Certificate::from_der(&der).map_err(|error| wrong(error.to_string()))?;
        if certificate.validity().not_after.timestamp() < now {
            expired.push(format!(
                "{} (until {})",
                certificate.subject(),
                certificate.validity().not_after
            ));
        }
        store.add(der).map_err(|error| wrong(error.to_string()))?;
    }
    if expired.len() == count {
        return Err(wrong(format!(
            "every certificate in it has expired: {}",
            expired.join(", ")
        )));
    }
    Ok(store)
}

/// A bundle of the system: one certificate that this library cannot read does not make the others useless.
fn read_bundle(path: &Path) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(read(path)?);
    if added == 0 {
        return Err(Error {
            path: path.to_owned(),
            reason: "none of its certificates can be read".to_owned(),
        });
    }
    Ok(store)
}

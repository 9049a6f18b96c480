//! The CAs of the image that `[trust]` names, read before the token is touched.
//!
//! Expired CAs are left out without a failure: real bundles hold old roots, and a library that meets such a root first
//! may refuse a chain that leads to a valid root as well. A source where nothing is left is a mistake.

#[cfg(all(feature = "java", any(test, feature = "fuzzing")))]
pub(crate) mod fuzzing;
#[cfg(feature = "java")]
mod java_store;
mod pattern;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{Trust, TrustOrigin, TrustedFile};
use crate::manifest::Mistake;
use crate::text_file;
use crate::vault::{self, BUNDLE_MAX, BUNDLES, CERTIFICATES_MAX};

/// The places of a JVM's own store below its directory; the second is that of Java 8 in a JDK.
const CACERTS: [&str; 2] = ["lib/security/cacerts", "jre/lib/security/cacerts"];

/// Whether each certificate of a file has to be readable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// The file was made for this service, and a certificate that cannot be read is a fault in it.
    EachCounts,
    /// The file is a collection, in which one that this library cannot read takes nothing from the others.
    OddOnesPass,
}

/// Reads the files of all sources; `now` is the time by which the certificates are judged, in seconds of Unix time.
pub(crate) fn read(trust: &mut Trust, now: i64) -> Result<(), Vec<Mistake>> {
    let mut mistakes = Vec::new();
    for source in &trust.sources {
        let mut refuse = |text| {
            mistakes.push(Mistake {
                place: Some(source.place),
                text,
            });
        };
        match read_source(&source.origin, now) {
            Ok(files) => trust.files.extend(files),
            Err(text) => refuse(text),
        }
        let all = trust.files.iter().flat_map(|file| &file.certificates);
        let different: BTreeSet<&[u8]> = all.map(AsRef::as_ref).collect();
        if different.len() > CERTIFICATES_MAX {
            refuse(format!(
                "with this one, [trust] names more than {CERTIFICATES_MAX} different certificates"
            ));
            break;
        }
    }
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(mistakes)
    }
}

fn read_source(origin: &TrustOrigin, now: i64) -> Result<Vec<TrustedFile>, String> {
    match origin {
        TrustOrigin::System => {
            let path = vault::system_bundle().ok_or_else(|| {
                format!(
                    "`system` in [trust]: this image has no CA bundle, which would be {}; install the package ca-certificates, or name a file in `files`",
                    BUNDLES.join(", ")
                )
            })?;
            Ok(vec![read_pem(path, Rule::OddOnesPass, now)?])
        }
        TrustOrigin::Pem(pattern) => {
            let paths = pattern::paths(pattern)?;
            let files = paths.iter();
            files
                .map(|path| read_pem(path, Rule::EachCounts, now))
                .collect()
        }
        TrustOrigin::Jvm(home) => {
            let home = home.as_deref().ok_or(
                "`java = true` in [trust] is the store of the JVM in JAVA_HOME, and JAVA_HOME is not set: set it in the image, or give the path of the store",
            )?;
            let path = CACERTS
                .map(|path| home.join(path))
                .into_iter()
                .find(|path| path.exists());
            let path = path.ok_or_else(|| {
                format!(
                    "`java = true` in [trust]: JAVA_HOME is {}, where there is neither {}",
                    home.display(),
                    CACERTS.join(" nor ")
                )
            })?;
            Ok(vec![read_java(path, now)?])
        }
        TrustOrigin::JavaStore(path) => Ok(vec![read_java(path.clone(), now)?]),
    }
}

fn read_pem(path: &Path, rule: Rule, now: i64) -> Result<TrustedFile, String> {
    let certificates = vault::read_certificates(path).map_err(|error| error.to_string())?;
    judged(path.to_owned(), certificates, rule, now)
        .map_err(|reason| unusable("CA file", path, &reason))
}

fn read_java(path: PathBuf, now: i64) -> Result<TrustedFile, String> {
    let read = || {
        let bytes = text_file::read(&path, BUNDLE_MAX).map_err(|error| error.to_string())?;
        store(&bytes)
    };
    let what = "Java store";
    let certificates = read().map_err(|reason| unusable(what, &path, &reason))?;
    judged(path.clone(), certificates, Rule::OddOnesPass, now)
        .map_err(|reason| unusable(what, &path, &reason))
}

#[cfg(feature = "java")]
fn store(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    java_store::read(bytes)
}

/// Reads nothing: the configuration refuses such a store where this feature is missing.
#[cfg(not(feature = "java"))]
fn store(_: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    Ok(Vec::new())
}

fn unusable(what: &str, path: &Path, reason: &str) -> String {
    format!("the {what} {} cannot be used: {reason}", path.display())
}

/// Leaves out what has expired, and fails where nothing is left.
fn judged(
    path: PathBuf,
    mut certificates: Vec<CertificateDer<'static>>,
    rule: Rule,
    now: i64,
) -> Result<TrustedFile, String> {
    if certificates.is_empty() {
        return Err("it holds no trusted certificate".to_owned());
    }
    let mut unreadable = None;
    let count = certificates.len();
    certificates.retain(|der| match X509Certificate::from_der(der) {
        Ok(([], certificate)) => certificate.validity().not_after.timestamp() >= now,
        Ok(_) => {
            unreadable = Some("it goes on behind its end".to_owned());
            false
        }
        Err(error) => {
            unreadable = Some(error.to_string());
            false
        }
    });
    if let (Some(reason), Rule::EachCounts) = (unreadable, rule) {
        return Err(format!("a certificate in it cannot be read: {reason}"));
    }
    if certificates.is_empty() {
        return Err("every certificate in it has expired".to_owned());
    }
    Ok(TrustedFile {
        path,
        left_out: count - certificates.len(),
        certificates,
    })
}

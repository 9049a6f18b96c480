//! The CAs of the image that `[trust]` names, read before the token is touched.
//!
//! Expired CAs are left out without a failure: real bundles hold old roots, and a library that meets such a root first
//! may refuse a chain that leads to a valid root as well. A source where nothing is left is a mistake, and all of `files`
//! are one source.

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

/// The most bytes of all certificates together, also where files hold the same ones.
const BYTES_MAX: usize = 16 << 20;

/// The kinds of files, as messages name them.
const CA_FILE: &str = "CA file";
const JAVA_STORE: &str = "Java store";

/// Whether each certificate of a file has to be readable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// The file was made for this service, and a certificate that cannot be read is a fault in it.
    EachCounts,
    /// The file is a collection, in which one that this library cannot read takes nothing from the others.
    OddOnesPass,
}

/// The files that were read so far.
#[derive(Default)]
struct Found {
    files: Vec<TrustedFile>,
    different: BTreeSet<Vec<u8>>,
    bytes: usize,
}

impl Found {
    /// Adds a file, and fails once there is more than any service needs.
    fn add(&mut self, file: TrustedFile) -> Result<(), String> {
        let certificates = &file.certificates;
        self.bytes += certificates.iter().map(|der| der.len()).sum::<usize>();
        self.different
            .extend(certificates.iter().map(|der| der.to_vec()));
        let path = file.path.display().to_string();
        self.files.push(file);
        match self.excess() {
            Some(bound) => Err(format!("with {path}, [trust] names more than {bound}")),
            None => Ok(()),
        }
    }

    /// Says what there is too much of.
    fn excess(&self) -> Option<String> {
        if self.different.len() > CERTIFICATES_MAX {
            Some(format!("{CERTIFICATES_MAX} different certificates"))
        } else if self.bytes > BYTES_MAX {
            Some(format!("{} MiB of certificates", BYTES_MAX >> 20))
        } else {
            None
        }
    }
}

/// Reads the files of all sources; `now` is the time by which the certificates are judged, in seconds of Unix time.
pub(crate) fn read(trust: &mut Trust, now: i64) -> Result<(), Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut found = Found::default();
    // The end of one CA must not end all starts: `files` are a mistake only where none of them has a CA left.
    let (mut expired_files, mut has_file_left) = (Vec::new(), false);
    for source in &trust.sources {
        let mistake = |text| Mistake {
            place: Some(source.place),
            text,
        };
        let is_of_files = matches!(source.origin, TrustOrigin::Pem(_));
        let before = found.files.len();
        let done = read_source(&source.origin, now, &mut found);
        let files = &found.files[before..];
        match done {
            Err(text) => mistakes.push(mistake(text)),
            Ok(()) if files.iter().any(|file| !file.certificates.is_empty()) => {}
            Ok(()) if is_of_files => {
                expired_files.push(mistake(expired(&source.origin, files)));
                continue;
            }
            Ok(()) => mistakes.push(mistake(expired(&source.origin, files))),
        }
        has_file_left |= is_of_files;
        if found.excess().is_some() {
            break;
        }
    }
    if !has_file_left {
        mistakes.extend(expired_files);
    }
    trust.files = found.files;
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(mistakes)
    }
}

fn read_source(origin: &TrustOrigin, now: i64, found: &mut Found) -> Result<(), String> {
    match origin {
        TrustOrigin::System => {
            let path = vault::system_bundle().ok_or_else(|| {
                format!(
                    "`system` in [trust]: this image has no CA bundle, which would be {}; install the package ca-certificates, or name a file in `files`",
                    BUNDLES.join(", ")
                )
            })?;
            found.add(read_pem(path, Rule::OddOnesPass, now)?)
        }
        TrustOrigin::Pem(pattern) => {
            let paths = pattern::paths(pattern)?;
            let mut files = paths.iter();
            files.try_for_each(|path| found.add(read_pem(path, Rule::EachCounts, now)?))
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
            found.add(read_java(path, now)?)
        }
        TrustOrigin::JavaStore(path) => found.add(read_java(path.clone(), now)?),
    }
}

fn read_pem(path: &Path, rule: Rule, now: i64) -> Result<TrustedFile, String> {
    let certificates = vault::read_certificates(path).map_err(|error| error.to_string())?;
    judged(path.to_owned(), certificates, rule, now)
        .map_err(|reason| unusable(CA_FILE, path, &reason))
}

fn read_java(path: PathBuf, now: i64) -> Result<TrustedFile, String> {
    let read = || {
        let bytes = text_file::read(&path, BUNDLE_MAX).map_err(|error| error.to_string())?;
        store(&bytes)
    };
    let certificates = read().map_err(|reason| unusable(JAVA_STORE, &path, &reason))?;
    judged(path.clone(), certificates, Rule::OddOnesPass, now)
        .map_err(|reason| unusable(JAVA_STORE, &path, &reason))
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

/// Says that nothing is left of the files of a source.
fn expired(origin: &TrustOrigin, files: &[TrustedFile]) -> String {
    let reason = "every certificate in it has expired";
    let (what, path) = match (origin, files) {
        (TrustOrigin::Pem(_) | TrustOrigin::System, [file]) => (CA_FILE, &file.path),
        (_, [file]) => (JAVA_STORE, &file.path),
        (TrustOrigin::Pem(pattern), _) => {
            let reason = "every certificate in them has expired";
            return unusable("CA files", pattern, reason);
        }
        _ => return reason.to_owned(),
    };
    unusable(what, path, reason)
}

/// Leaves out what has expired.
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
    Ok(TrustedFile {
        path,
        left_out: count - certificates.len(),
        certificates,
    })
}

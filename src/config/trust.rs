//! The CAs of the image that the manifest asks for.

use std::path::PathBuf;

use rustls::pki_types::CertificateDer;

use crate::manifest::Place;

/// The CAs of the image that are trusted besides the certificates' own anchors, for connections that the application opens.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// The sources, as the manifest names them.
    pub sources: Vec<TrustSource>,
    /// The files of these sources, once they are read.
    pub files: Vec<TrustedFile>,
}

/// A source of CAs in the image.
#[derive(Debug, Clone)]
pub(crate) struct TrustSource {
    /// The place in the manifest.
    pub place: Place,
    /// The files that are meant.
    pub origin: TrustOrigin,
}

/// The files of a source of CAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TrustOrigin {
    /// The bundle of the image's distribution.
    System,
    /// The PEM file of this name, or each whose name fits this one, which ends with a pattern.
    Pem(PathBuf),
    /// The store of the JVM in this directory, where `JAVA_HOME` names one.
    Jvm(Option<PathBuf>),
    /// A store of Java.
    JavaStore(PathBuf),
}

/// A file of the image, and the CAs in it.
#[derive(Debug)]
pub(crate) struct TrustedFile {
    /// The file.
    pub path: PathBuf,
    /// The CAs that have not expired.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The number of CAs that are left out, because they have expired or cannot be read.
    pub left_out: usize,
}

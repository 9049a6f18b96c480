//! The files with all that is trusted for connections that the application opens.

use std::collections::BTreeSet;

use rustls::pki_types::CertificateDer;

#[cfg(feature = "java")]
use super::keystore;
use super::{Access, Error, File, Material, file};
use crate::config::layout::{self, TrustPart};
use crate::config::{Config, Trust};
use crate::pem;
use crate::secret::Secret;

/// Renders the anchors of all certificates together with the CAs of the image.
pub(super) fn files(
    trust: &Trust,
    config: &Config,
    materials: &[&Material<'_>],
    access: &Access<'_>,
) -> Result<Vec<File>, Error> {
    let trusted = trusted(trust, materials);
    let mut files = Vec::new();
    for entry in layout::of_trust(config.java.as_ref()) {
        match (entry.source, &config.java, access.store_password) {
            (TrustPart::Bundle, ..) => {
                files.push(file(entry, Secret::new(pem::certificates(&trusted))));
            }
            #[cfg(feature = "java")]
            (TrustPart::JavaBundle, Some(java), Some(password)) if access.has_stores => {
                files.push(file(entry, keystore::bundle(&trusted, java, password)?));
            }
            (TrustPart::JavaBundle, ..) => {}
        }
    }
    Ok(files)
}

/// Lists each CA once: the anchors of the certificates, then those of the image.
fn trusted(trust: &Trust, materials: &[&Material<'_>]) -> Vec<CertificateDer<'static>> {
    let anchors = materials.iter().filter_map(|material| match material {
        Material::Certificate { issued, .. } => Some(&issued.trust_anchors),
        Material::Credential { .. } => None,
    });
    let others = trust.files.iter().map(|file| &file.certificates);
    let mut seen = BTreeSet::new();
    let mut trusted = Vec::new();
    for der in anchors.chain(others).flatten() {
        if seen.insert(der.as_ref()) {
            trusted.push(der.clone());
        }
    }
    trusted
}

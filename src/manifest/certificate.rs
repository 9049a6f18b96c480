//! The tables `[certificate]` and `[certificates.NAME]`.

use super::table::Table;
use super::{At, Manifest, Mistake};

/// A certificate to ask for: `[certificate]`, or a table below `[certificates]`.
#[derive(Debug, Default)]
pub(crate) struct Certificate {
    /// The mount of the PKI engine.
    pub mount: Option<At<String>>,
    /// The role of the PKI engine.
    pub role: Option<At<String>>,
    /// The subject's common name.
    pub common_name: Option<At<String>>,
    /// Subject alternative names of type DNS.
    pub dns_names: Vec<At<String>>,
    /// Subject alternative names of type IP address.
    pub ip_addresses: Vec<At<String>>,
    /// Subject alternative names of type URI.
    pub uris: Vec<At<String>>,
    /// The life to ask for.
    pub ttl: Option<At<String>>,
    /// The kind of key.
    pub key_type: Option<At<String>>,
    /// The file with the trust anchors.
    pub ca_file: Option<At<String>>,
    /// The Vault path that answers the trust anchors.
    pub ca_path: Option<At<String>>,
    /// True where leaf and key are also written in DER.
    pub der: bool,
}

/// Reads `[certificate]`, and takes a table below for one that belongs below `[certificates]`.
pub(super) fn read_main(mut t: Table<'_>, manifest: &mut Manifest, mistakes: &mut Vec<Mistake>) {
    let entries = t.len();
    let certificate = read(&mut t);
    let misplaced = t.inner_tables();
    // Without a key of its own the table was not meant, so that it lacks nothing.
    if misplaced.is_empty() || misplaced.len() < entries {
        manifest.certificate = Some(certificate);
    }
    for (name, mut inner) in misplaced {
        mistakes.push(Mistake {
            place: Some(name.place),
            text: format!(
                "unknown table [certificate.{0}] (is [certificates.{0}] meant?)",
                name.value
            ),
        });
        manifest.certificates.push((name, read(&mut inner)));
        inner.finish(mistakes);
    }
    t.finish(mistakes);
}

pub(super) fn read(t: &mut Table<'_>) -> Certificate {
    Certificate {
        mount: t.text("mount"),
        role: t.text("role"),
        common_name: t.text("common_name"),
        dns_names: t.texts("dns_names").unwrap_or_default(),
        ip_addresses: t.texts("ip_addresses").unwrap_or_default(),
        uris: t.texts("uris").unwrap_or_default(),
        ttl: t.text("ttl"),
        key_type: t.text("key_type"),
        ca_file: t.text("ca_file"),
        ca_path: t.text("ca_path"),
        der: t.flag("der"),
    }
}

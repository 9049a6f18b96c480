//! `status.json`: what was fetched and how long it lives, without any secret value.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The whole file; times are RFC 3339.
#[derive(Serialize, Deserialize)]
pub(crate) struct Status {
    /// The service's name.
    pub app: String,
    /// The environment that the service runs in.
    pub environment: String,
    /// True where nothing came from a Vault.
    pub dry_run: bool,
    /// True where a keeper keeps the files fresh.
    pub kept: bool,
    /// The time when the files were rendered.
    pub rendered: String,
    /// The time when this status was written.
    pub written: String,
    /// The time since which Vault has not answered.
    pub vault_away_since: Option<String>,
    /// The time since which a change could not be written to the files: they hold what was before.
    pub unpublished_since: Option<String>,
    /// The client token.
    pub token: Option<Token>,
    /// The main certificate.
    pub certificate: Option<Certificate>,
    /// The other certificates.
    pub certificates: Vec<NamedCertificate>,
    /// The credentials.
    pub dependencies: Vec<Dependency>,
}

/// The life of the client token.
#[derive(Serialize, Deserialize)]
pub(crate) struct Token {
    /// The seconds that the token lives whenever it is renewed.
    pub lease_duration: u64,
    /// The end of the token unless it is renewed; none beyond the calendar.
    pub expires: Option<String>,
    /// The end of the token in any case, where that is known.
    pub expires_at_last: Option<String>,
    /// The reason why the token is of no use any more.
    pub lost: Option<Loss>,
}

/// The ways in which a token is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Loss {
    /// The token was revoked.
    Revoked,
    /// The token's life is over.
    Expired,
}

/// The identity and the life of a certificate.
#[derive(Serialize, Deserialize)]
pub(crate) struct Certificate {
    /// The serial number in colon-separated hexadecimal, as Vault writes it.
    pub serial_number: String,
    /// The subject's common name.
    pub common_name: String,
    /// The end of the certificate's validity.
    pub not_after: String,
    /// The end in any case: a certificate with a lease is revoked with the token.
    pub expires: String,
    /// The way in which it is kept fresh.
    pub kept: Kept,
}

/// A certificate that is not the main one.
#[derive(Serialize, Deserialize)]
pub(crate) struct NamedCertificate {
    /// The certificate's name in the manifest.
    pub name: String,
    /// The identity and the life.
    #[serde(flatten)]
    pub issued: Certificate,
}

/// The identity and the life of a credential.
#[derive(Serialize, Deserialize)]
pub(crate) struct Dependency {
    /// The dependency's name.
    pub name: String,
    /// The dependency's Vault path.
    pub path: String,
    /// The names of the fields.
    pub fields: Vec<String>,
    /// The id of the credential's lease.
    pub lease_id: Option<String>,
    /// The seconds that the lease lives whenever it is renewed.
    pub lease_duration: Option<u64>,
    /// True where the lease can be renewed.
    pub renewable: Option<bool>,
    /// The end unless the lease is renewed: the lease's, or the token's at last.
    pub expires: Option<String>,
    /// The way in which it is kept fresh.
    pub kept: Kept,
    /// The interval at which it is read again in any case, in seconds.
    pub refresh: Option<u64>,
    /// Present while Vault has another answer than a value where it is read again.
    pub unread: Option<Unread>,
}

/// The ways in which an item is kept fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kept {
    /// The item's lease is renewed.
    Renewed,
    /// Another one takes its place before it ends.
    Replaced,
    /// The item is read again, and published where it has changed.
    ReadAgain,
    /// Nothing is done for it.
    FetchedOnce,
}

/// A credential that could not be read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unread {
    /// The time of the first reading in vain.
    pub since: String,
    /// The reason of the last one.
    pub reason: Want,
}

/// The reasons why a credential cannot be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Want {
    /// The secret is not there.
    Missing,
    /// Vault does not give it, or what it gives cannot be used.
    Failed,
}

impl Status {
    /// Encodes the file.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}

/// Formats a time as the file has it.
pub(crate) fn rfc3339(time: OffsetDateTime) -> String {
    time.replace_nanosecond(0)
        .unwrap_or(time)
        .format(&Rfc3339)
        .unwrap_or_default()
}

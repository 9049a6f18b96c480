//! `status.json`: what was fetched and how long it lives, without any secret value.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The whole file; times are RFC 3339.
#[derive(Serialize, Deserialize)]
pub struct Status {
    /// The service's name.
    pub app: String,
    /// The environment it runs in.
    pub environment: String,
    /// Nothing here came from a Vault.
    pub dry_run: bool,
    /// Somebody keeps all this fresh.
    pub kept: bool,
    /// When the files were rendered.
    pub rendered: String,
    /// When this was written.
    pub written: String,
    /// Since when Vault has not answered.
    pub vault_away_since: Option<String>,
    /// Since when what follows could not be written to the files: they hold what was before.
    pub unpublished_since: Option<String>,
    /// The client token.
    pub token: Option<Token>,
    /// The certificate.
    pub certificate: Option<Certificate>,
    /// The credentials.
    pub dependencies: Vec<Dependency>,
}

/// What is known of the client token.
#[derive(Serialize, Deserialize)]
pub struct Token {
    /// Seconds it lives whenever it is renewed.
    pub lease_duration: u64,
    /// Its end unless it is renewed; none beyond the calendar.
    pub expires: Option<String>,
    /// Its end in any case, when that is known.
    pub expires_at_last: Option<String>,
    /// Why it is of no use any more.
    pub lost: Option<Loss>,
}

/// How a token was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Somebody revoked it.
    Revoked,
    /// Its life is over.
    Expired,
}

/// What is known of the certificate.
#[derive(Serialize, Deserialize)]
pub struct Certificate {
    /// Colon-separated hexadecimal, as Vault writes it.
    pub serial_number: String,
    /// Subject common name.
    pub common_name: String,
    /// Its end by itself.
    pub not_after: String,
    /// Its end in any case: one with a lease is revoked with the token.
    pub expires: String,
}

/// What is known of a credential.
#[derive(Serialize, Deserialize)]
pub struct Dependency {
    /// Its name.
    pub name: String,
    /// Its Vault path.
    pub path: String,
    /// The names of its fields.
    pub fields: Vec<String>,
    /// The lease it lives under.
    pub lease_id: Option<String>,
    /// Seconds that the lease lives whenever it is renewed.
    pub lease_duration: Option<u64>,
    /// The lease can be renewed.
    pub renewable: Option<bool>,
    /// Its end unless it is renewed: the lease's, or the token's at last.
    pub expires: Option<String>,
}

impl Status {
    /// The file's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}

/// A time as the file has it.
pub fn rfc3339(time: OffsetDateTime) -> String {
    time.replace_nanosecond(0)
        .unwrap_or(time)
        .format(&Rfc3339)
        .unwrap_or_default()
}

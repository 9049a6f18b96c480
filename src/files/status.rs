//! `status.json`: what was fetched and how long it lives, without any secret value.

use serde::Serialize;

/// The whole file.
#[derive(Serialize)]
pub struct Status<'a> {
    /// The service's name.
    pub app: &'a str,
    /// The environment it runs in.
    pub environment: &'a str,
    /// Nothing here came from a Vault.
    pub dry_run: bool,
    /// When this generation was rendered, RFC 3339.
    pub rendered: String,
    /// The client token.
    pub token: Option<Token>,
    /// The certificate.
    pub certificate: Option<Certificate>,
    /// The credentials.
    pub dependencies: Vec<Dependency<'a>>,
}

/// What is known of the client token.
#[derive(Serialize)]
pub struct Token {
    /// Seconds it lived from when it was unwrapped.
    pub lease_duration: u64,
    /// Its end, RFC 3339; none beyond the calendar.
    pub expires: Option<String>,
}

/// What is known of the certificate.
#[derive(Serialize)]
pub struct Certificate {
    /// Colon-separated hexadecimal, as Vault writes it.
    pub serial_number: String,
    /// Subject common name.
    pub common_name: String,
    /// RFC 3339.
    pub not_after: String,
}

/// What is known of a credential.
#[derive(Serialize)]
pub struct Dependency<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Vault path.
    pub path: &'a str,
    /// The names of its fields.
    pub fields: Vec<&'a str>,
    /// The lease it lives under.
    pub lease_id: Option<&'a str>,
    /// Seconds.
    pub lease_duration: Option<u64>,
    /// The lease can be renewed.
    pub renewable: Option<bool>,
}

impl Status<'_> {
    /// The file's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}

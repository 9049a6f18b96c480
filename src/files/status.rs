//! `status.json`: what was fetched and how long it lives, without any secret value.

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Material;
use crate::config::Config;

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

impl<'a> Status<'a> {
    /// Brings it together; `token_ttl` are the seconds that the client token lives from `now` on.
    pub fn new(
        config: &'a Config,
        material: &'a Material,
        token_ttl: Option<u64>,
        now: OffsetDateTime,
    ) -> Status<'a> {
        let certificate = material.certificate.as_ref();
        Status {
            app: &config.app,
            environment: &config.environment,
            dry_run: config.vault.is_none(),
            rendered: rfc3339(now),
            token: token_ttl.map(|seconds| Token {
                lease_duration: seconds,
                expires: later(now, seconds).map(rfc3339),
            }),
            certificate: certificate
                .zip(config.certificate.as_ref())
                .map(|(issued, asked)| Certificate {
                    serial_number: issued.serial_number.clone(),
                    common_name: asked.common_name.clone(),
                    not_after: rfc3339(issued.not_after),
                }),
            dependencies: config
                .dependencies
                .iter()
                .zip(&material.credentials)
                .map(|(dependency, credential)| Dependency {
                    name: &dependency.name,
                    path: &dependency.path,
                    fields: credential.field_names(),
                    lease_id: credential.lease.as_ref().map(|lease| lease.id.as_str()),
                    lease_duration: credential.lease.as_ref().map(|lease| lease.duration),
                    renewable: credential.lease.as_ref().map(|lease| lease.renewable),
                })
                .collect(),
        }
    }

    /// The file's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}

/// So many seconds later, if the calendar goes that far.
fn later(time: OffsetDateTime, seconds: u64) -> Option<OffsetDateTime> {
    let seconds = i64::try_from(seconds).ok()?;
    time.checked_add(time::Duration::seconds(seconds))
}

fn rfc3339(time: OffsetDateTime) -> String {
    time.replace_nanosecond(0)
        .unwrap_or(time)
        .format(&Rfc3339)
        .unwrap_or_default()
}

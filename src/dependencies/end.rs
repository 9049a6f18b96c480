//! The end that an answer itself names, beside its lease or without one.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::ssh_certificate;
use crate::files::OwnEnd;
use crate::text;
use crate::vault::Value;

/// The fields that stand beside the `ttl` of a password that the engine exchanges by itself.
const ROTATION: [&str; 3] = [
    "rotation_period",
    "rotation_schedule",
    "last_vault_rotation",
];

/// The field in which SSH engines answer a certificate.
const SSH_CERTIFICATE: &str = "signed_key";

/// The earliest time that counts as an end (2001); a smaller number is a life, or whatever else an engine counts.
const FIRST_END: i64 = 1_000_000_000;

/// Reads the end that an answer names; `lease_duration` is in seconds. Fields of KV version 2 belong to the user and
/// name no end.
pub(super) fn own_end(
    data: &[(String, Value)],
    has_lease: bool,
    lease_duration: u64,
) -> Option<OwnEnd> {
    let field = |name: &str| {
        let found = data.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    };
    // KV version 1 makes a lease's duration of the user's own `ttl`, or of nothing, and gives no lease.
    let is_kv = !has_lease && lease_duration > 0;
    let ttl = field("ttl").and_then(seconds);
    let is_rotated = ROTATION.iter().any(|name| field(name).is_some());
    let is_identity = ["client_id", "token"]
        .iter()
        .all(|name| field(name).is_some());
    if is_kv {
        let life = ttl.filter(|ttl| *ttl == lease_duration);
        return life.map(|life| OwnEnd::In { life, whole: life });
    }
    match ttl {
        Some(life) if is_rotated => {
            let whole = field("rotation_period").and_then(seconds);
            let whole = whole.unwrap_or(life).max(life);
            Some(OwnEnd::Rotation { life, whole })
        }
        Some(life) if is_identity && !has_lease => Some(OwnEnd::In { life, whole: life }),
        _ => {
            let expiration = field("expiration").and_then(time_of);
            let expiration = expiration.or_else(|| field(SSH_CERTIFICATE).and_then(end_of_ssh));
            expiration.map(OwnEnd::At)
        }
    }
}

/// Reads seconds, or a duration as Vault takes it.
fn seconds(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
        Value::Text(text) => text::duration(text.expose())
            .ok()
            .map(|duration| duration.as_secs()),
        _ => None,
    }
}

fn whole(seconds: f64) -> Option<u64> {
    let seconds = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    Some(seconds.as_secs())
}

/// Reads seconds of Unix time, or RFC 3339.
fn time_of(value: &Value) -> Option<i64> {
    let time = match value {
        Value::Number(number) => number.as_i64(),
        Value::Text(text) => text.expose().parse().ok().or_else(|| {
            let time = OffsetDateTime::parse(text.expose(), &Rfc3339).ok()?;
            Some(time.unix_timestamp())
        }),
        _ => None,
    };
    time.filter(|time| *time >= FIRST_END)
}

fn end_of_ssh(value: &Value) -> Option<i64> {
    match value {
        Value::Text(text) => ssh_certificate::valid_before(text.expose()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_that_names_its_end_is_believed() {
        use OwnEnd::{At, In, Rotation};
        for (json, has_lease, lease_duration, expected) in [
            // Static roles of database and LDAP engines.
            (
                r#"{"password":"x","ttl":86,"rotation_period":86400,"last_vault_rotation":"2026-01-01T00:00:00Z"}"#,
                false,
                0,
                Some(Rotation {
                    life: 86,
                    whole: 86_400,
                }),
            ),
            (
                r#"{"password":"x","ttl":0,"last_vault_rotation":"2026-01-01T00:00:00Z"}"#,
                false,
                0,
                Some(Rotation { life: 0, whole: 0 }),
            ),
            (
                r#"{"ttl":7.9,"rotation_schedule":"0 0 * * *"}"#,
                false,
                0,
                Some(Rotation { life: 7, whole: 7 }),
            ),
            (
                r#"{"ttl":9,"rotation_period":3}"#,
                false,
                0,
                Some(Rotation { life: 9, whole: 9 }),
            ),
            // KV version 1: with a life of its own, with none, and with one that nothing makes of it.
            (
                r#"{"a":"x","ttl":"1h30m"}"#,
                false,
                5400,
                Some(In {
                    life: 5400,
                    whole: 5400,
                }),
            ),
            (
                r#"{"a":"x","ttl":30}"#,
                false,
                30,
                Some(In {
                    life: 30,
                    whole: 30,
                }),
            ),
            (r#"{"a":"x"}"#, false, 2_764_800, None),
            (r#"{"a":"x","ttl":"soon"}"#, false, 2_764_800, None),
            (r#"{"a":"x","ttl":30}"#, false, 2_764_800, None),
            (r#"{"expiration":30}"#, false, 2_764_800, None),
            // Certificates and keys.
            (
                r#"{"certificate":"x","expiration":1893456000}"#,
                false,
                0,
                Some(At(1_893_456_000)),
            ),
            (
                r#"{"certificate":"x","expiration":"1893456000"}"#,
                true,
                60,
                Some(At(1_893_456_000)),
            ),
            (
                r#"{"access_key":"x","expiration":"2030-01-01T01:00:00+01:00"}"#,
                false,
                0,
                Some(At(1_893_456_000)),
            ),
            (r#"{"expiration":"never"}"#, false, 0, None),
            (r#"{"expiration":true}"#, false, 0, None),
            // A life in seconds, or whatever the engine counts there.
            (r#"{"expiration":3600}"#, false, 0, None),
            (r#"{"expiration":"30"}"#, true, 60, None),
            (r#"{"expiration":-1}"#, false, 0, None),
            // A token of identity, and what only looks like one.
            (
                r#"{"client_id":"x","token":"y","ttl":60}"#,
                false,
                0,
                Some(In {
                    life: 60,
                    whole: 60,
                }),
            ),
            (r#"{"client_id":"x","token":"y","ttl":60}"#, true, 90, None),
            (r#"{"token":"y","ttl":60}"#, false, 0, None),
            (r#"{"password":"x","ttl":60}"#, false, 0, None),
            (r#"{"ttl":-1,"rotation_period":1}"#, false, 0, None),
        ] {
            let Ok(Value::Object(data)) = serde_json::from_str(json) else {
                panic!("{json}")
            };
            let found = own_end(&data, has_lease, lease_duration);
            assert_eq!(found, expected, "{json}");
        }
    }
}

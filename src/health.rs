//! Whether everything that was published is still good, by `status.json` and the keeper's lock.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::CertificateName;
use crate::files::status::{Dependency, Loss, Status, Want};

/// The number of intervals for which a secret may be unread.
const PATIENCE: u64 = 3;

/// Fails with everything that is wrong, the most important first; `is_kept` says whether a keeper holds the lock.
pub(crate) fn judge(status: &Status, is_kept: bool, now: OffsetDateTime) -> Result<(), String> {
    let mut stale = Vec::new();
    if status.kept && !is_kept {
        stale.push("the keeper is gone, and nothing is kept fresh any more".to_owned());
    }
    if let Some(since) = &status.unpublished_since {
        stale.push(format!("new files could not be written since {since}"));
    }
    if let Some(token) = &status.token {
        match token.lost {
            Some(Loss::Revoked) => stale.push("the client token was revoked".to_owned()),
            Some(Loss::Expired) => stale.push("the client token's life is over".to_owned()),
            None => stale.extend(ended("the client token", token.expires.as_deref(), now)),
        }
    }
    if let Some(certificate) = &status.certificate {
        stale.extend(ended(
            &CertificateName::Main.to_string(),
            Some(&certificate.expires),
            now,
        ));
    }
    for certificate in &status.certificates {
        let what = CertificateName::Further(certificate.name.clone()).to_string();
        stale.extend(ended(&what, Some(&certificate.issued.expires), now));
    }
    for dependency in &status.dependencies {
        let what = format!("the credential of {}", dependency.name);
        stale.extend(ended(&what, dependency.expires.as_deref(), now));
        stale.extend(unread(dependency, now));
    }
    if stale.is_empty() {
        return Ok(());
    }
    if let Some(since) = &status.vault_away_since {
        stale.push(format!("Vault has not answered since {since}"));
    }
    Err(stale.join("; "))
}

/// Says that a secret could not be read again for three times its interval.
fn unread(dependency: &Dependency, now: OffsetDateTime) -> Option<String> {
    let (unread, refresh) = dependency.unread.as_ref().zip(dependency.refresh)?;
    let (name, since) = (&dependency.name, &unread.since);
    let patience = refresh.saturating_mul(PATIENCE);
    let is_early = |since: OffsetDateTime| {
        let passed = (now - since).whole_seconds();
        u64::try_from(passed).map_or(true, |passed| passed < patience)
    };
    if OffsetDateTime::parse(since, &Rfc3339).is_ok_and(is_early) {
        return None;
    }
    let what = match unread.reason {
        Want::Missing => "is not there any more",
        Want::Failed => "cannot be read again",
    };
    Some(format!("the secret of {name} {what} since {since}"))
}

fn ended(what: &str, expires: Option<&str>, now: OffsetDateTime) -> Option<String> {
    let text = expires?;
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(expires) if now < expires => None,
        Ok(_) => Some(format!("{what} ended at {text}")),
        Err(_) => Some(format!(
            "it is not known when {what} ends: `{text}` is no time"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::status::Unread;

    fn status() -> Status {
        serde_json::from_value(serde_json::json!({
            "app": "timeline", "environment": "test", "dry_run": false, "kept": true,
            "rendered": "2026-01-01T00:00:00Z", "written": "2026-01-01T00:00:00Z", "vault_away_since": null, "unpublished_since": null,
            "token": {"lease_duration": 3600, "expires": "2026-01-01T01:00:00Z", "expires_at_last": null, "lost": null},
            "certificate": {"serial_number": "01", "common_name": "x", "not_after": "2026-01-01T02:00:00Z",
                "expires": "2026-01-01T02:00:00Z", "kept": "replaced"},
            "certificates": [{"name": "kafka", "serial_number": "02", "common_name": "y",
                "not_after": "2026-01-01T03:00:00Z", "expires": "2026-01-01T03:00:00Z", "kept": "replaced"}],
            "dependencies": [{
                "name": "db", "path": "database/creds/x", "fields": ["password"], "lease_id": "database/creds/x/1",
                "lease_duration": 600, "renewable": true, "expires": "2026-01-01T00:10:00Z", "kept": "renewed", "refresh": null, "unread": null,
            }],
        }))
        .expect("a status")
    }

    fn at(time: &str) -> OffsetDateTime {
        OffsetDateTime::parse(time, &Rfc3339).expect("a time")
    }

    #[test]
    fn health_is_good_until_the_first_item_ends() {
        let status = status();
        assert_eq!(judge(&status, true, at("2026-01-01T00:09:59Z")), Ok(()));
        for (time, stale) in [
            ("2026-01-01T00:10:00Z", ["the credential of db ended", ""]),
            ("2026-01-01T01:00:00Z", ["the client token ended", "db"]),
            ("2026-01-01T02:00:01Z", ["the certificate ended", "db"]),
            (
                "2026-01-01T03:00:00Z",
                ["the certificate kafka ended", "db"],
            ),
        ] {
            let text = judge(&status, true, at(time)).expect_err("stale");
            assert!(stale.iter().all(|part| text.contains(part)), "{text}");
        }
    }

    #[test]
    fn secret_unread_for_three_intervals_is_stale() {
        let mut status = status();
        let since = "2026-01-01T00:01:00Z".to_owned();
        let mut with = |refresh, reason| {
            status.dependencies[0].refresh = refresh;
            let since = since.clone();
            status.dependencies[0].unread = Some(Unread { since, reason });
            judge(&status, true, at("2026-01-01T00:02:30Z"))
        };
        assert_eq!(with(Some(31), Want::Missing), Ok(()));
        assert_eq!(with(None, Want::Missing), Ok(()));
        assert_eq!(with(Some(u64::MAX), Want::Missing), Ok(()));
        for (reason, words) in [
            (
                Want::Missing,
                "the secret of db is not there any more since",
            ),
            (Want::Failed, "the secret of db cannot be read again since"),
        ] {
            let text = with(Some(30), reason).expect_err("stale");
            assert!(text.contains(words), "{text}");
        }
    }

    // f39
    #[test]
    fn keeper_that_is_gone_is_noticed_at_once() {
        let text = judge(&status(), false, at("2026-01-01T00:00:01Z")).expect_err("stale");
        assert!(text.contains("keeper"), "{text}");
        let dry = Status {
            kept: false,
            ..status()
        };
        assert_eq!(judge(&dry, false, at("2026-01-01T00:00:01Z")), Ok(()));
    }

    #[test]
    fn lost_token_and_an_absent_vault_are_named() {
        let mut status = status();
        status.vault_away_since = Some("2026-01-01T00:00:30Z".to_owned());
        if let Some(token) = &mut status.token {
            token.lost = Some(Loss::Revoked);
        }
        let text = judge(&status, true, at("2026-01-01T00:01:00Z")).expect_err("stale");
        assert!(
            text.contains("revoked") && text.contains("since 2026-01-01T00:00:30Z"),
            "{text}"
        );
    }
}

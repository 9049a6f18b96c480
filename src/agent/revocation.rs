//! The end of a token: revoked by its accessor, and not forgotten before that is done.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use super::Agent;
use super::own_token::Trouble;
use super::register::Entry;
use crate::clock::chance;
use crate::log::{Level, Value};
use crate::vault;

/// Revocations at one moment; a database engine drops a user for each.
pub(super) const AT_ONCE: usize = 4;
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LAST: Duration = Duration::from_secs(30);

impl Agent {
    /// Revokes whatever is over, as it comes; what cannot be revoked now is tried again.
    pub(super) async fn revoke_ended(&self) {
        let mut pause = PAUSE_FIRST;
        let mut failed = HashMap::new();
        loop {
            let over = self.register.over();
            failed.retain(|accessor, _| over.iter().any(|entry| &entry.accessor == accessor));
            let is_done = self.revoke_some(over, &mut failed).await;
            self.save().await;
            let wait = match is_done {
                true => None,
                false => Some(pause.mul_f64(0.75 + chance() / 2.0)),
            };
            pause = match is_done {
                true => PAUSE_FIRST,
                false => (pause * 2).min(PAUSE_LAST),
            };
            tokio::select! {
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                () = self.ended.notified() => {}
            }
        }
    }

    /// Revokes those, until Vault turns out to be away; true when all of it is done. `failed` are those that could not be
    /// revoked before, and whether that was said: they come last, so that one that never can be holds up no other.
    pub(super) async fn revoke_some(
        &self,
        mut over: Vec<Entry>,
        failed: &mut HashMap<String, bool>,
    ) -> bool {
        over.sort_by_key(|entry| failed.contains_key(&entry.accessor));
        let is_away = &AtomicBool::new(false);
        let mut results = stream::iter(over)
            .map(|entry| async move {
                if is_away.load(Ordering::Relaxed) {
                    return (entry, None);
                }
                let cause = match entry.delivered {
                    true => "died",
                    false => "undelivered",
                };
                let revoked = self.revoke(&entry, cause).await;
                (entry, Some(revoked))
            })
            .buffer_unordered(AT_ONCE);
        let mut is_done = true;
        while let Some((entry, revoked)) = results.next().await {
            if let Some(Ok(())) = revoked {
                continue;
            }
            is_done = false;
            let Some(Err(trouble)) = revoked else {
                continue;
            };
            let is_said = failed.entry(entry.accessor.clone()).or_default();
            // That Vault is away is said once for all of them.
            if trouble.is_outage() {
                is_away.store(true, Ordering::Relaxed);
            } else if !std::mem::replace(is_said, true) {
                let text = format!(
                    "the token {} of the container {} is not revoked yet: {trouble}",
                    entry.accessor, entry.container
                );
                let fields = fields(&entry);
                self.log.event(Level::Error, "not_revoked", &text, &fields);
            }
        }
        is_done
    }

    /// Revokes one token, and with it whatever it was used for.
    pub(super) async fn revoke(&self, entry: &Entry, cause: &'static str) -> Result<(), Trouble> {
        let accessor = entry.accessor.clone();
        let revoked = self
            .own_token
            .ask(move |session| session.revoke_accessor(&accessor))
            .await;
        match revoked {
            Err(trouble) if !is_gone(&trouble) => Err(trouble),
            // An operator and the end of its container may both ask for it.
            _ if !self.register.remove(&entry.accessor) => Ok(()),
            _ => {
                self.metrics.revoked();
                let [accessor, container, app, environment] = fields(entry);
                let cause = ("cause", Value::Text(cause));
                let fields = [accessor, container, app, environment, cause];
                let text = "the token and its leases are revoked";
                self.log.event(Level::Info, "revoked", text, &fields);
                Ok(())
            }
        }
    }

    /// Writes the register, or says that it cannot.
    pub(super) async fn save(&self) {
        if let Err(error) = self.register.save().await {
            let text = error.to_string();
            self.log.event(Level::Error, "register", &text, &[]);
        }
    }
}

fn fields(entry: &Entry) -> [(&'static str, Value<'_>); 4] {
    [
        ("accessor", Value::Text(&entry.accessor)),
        ("container", Value::Text(&entry.container)),
        ("app", Value::Text(&entry.app)),
        ("environment", Value::Text(&entry.environment)),
    ]
}

/// Vault knows no such token any more: it has ended by itself, or its service has revoked it. OpenBao, and Vault since
/// 1.10, say that with a success and a warning, earlier ones with this error.
fn is_gone(trouble: &Trouble) -> bool {
    let Trouble::Vault(vault::Error::Status {
        status: 400,
        errors,
        ..
    }) = trouble
    else {
        return false;
    };
    errors.iter().any(|error| error == "invalid accessor")
}

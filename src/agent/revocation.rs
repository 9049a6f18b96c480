//! The end of a token: revoked by its accessor, and not forgotten before that is done.

use std::collections::HashSet;
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
        let mut said = HashSet::new();
        loop {
            let over = self.register.over();
            said.retain(|accessor| over.iter().any(|entry| &entry.accessor == accessor));
            let is_done = self.revoke_some(over, &mut said).await;
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

    /// Revokes those, until Vault turns out to be away; true when all of it is done.
    pub(super) async fn revoke_some(&self, over: Vec<Entry>, said: &mut HashSet<String>) -> bool {
        let mut results = stream::iter(over)
            .map(|entry| async move {
                let cause = match entry.delivered {
                    true => "died",
                    false => "undelivered",
                };
                let revoked = self.revoke(&entry, cause).await;
                (entry, revoked)
            })
            .buffer_unordered(AT_ONCE);
        let mut is_done = true;
        while let Some((entry, revoked)) = results.next().await {
            let Err(trouble) = revoked else { continue };
            is_done = false;
            // That Vault is away is said once for all of them.
            if trouble.may_pass() {
                break;
            }
            if said.insert(entry.accessor.clone()) {
                let text = format!("the token is not revoked yet: {trouble}");
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
            _ => {
                self.register.remove(&entry.accessor);
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

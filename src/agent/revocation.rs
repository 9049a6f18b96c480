//! The end of a token: revoked by its accessor, and not forgotten before that is done.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use super::Agent;
use super::register::{Entry, Place};
use super::trouble::Trouble;
use crate::clock::jitter;
use crate::log::{Level, Value};
use crate::mutex::lock;
use crate::vault::End;

/// Revocations at one moment; a database engine drops a user for each.
pub(super) const AT_ONCE: usize = 4;
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LAST: Duration = Duration::from_secs(30);
/// Between two looks whether another one has done with the same token.
const OTHER_LOOK: Duration = Duration::from_millis(20);

impl Agent {
    /// Revokes whatever is over, as it comes; what cannot be revoked now is tried again.
    pub(super) async fn revoke_ended(&self) {
        let mut pause = PAUSE_FIRST;
        let mut failed = HashMap::new();
        loop {
            let over = self.register.over(&self.vault);
            failed.retain(|accessor, _| over.iter().any(|entry| &entry.accessor == accessor));
            let is_done = self.revoke_some(over, &mut failed).await;
            self.save().await;
            let wait = if is_done {
                None
            } else {
                Some(pause.mul_f64(0.75 + jitter() / 2.0))
            };
            pause = if is_done {
                PAUSE_FIRST
            } else {
                (pause * 2).min(PAUSE_LAST)
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
                let cause = if entry.delivered {
                    "died"
                } else {
                    "undelivered"
                };
                let revoked = self.revoke(&entry, cause, Wanted::ByItsEnd).await;
                (entry, Some(revoked))
            })
            .buffer_unordered(AT_ONCE);
        let mut is_done = true;
        while let Some((entry, revoked)) = results.next().await {
            // One that this Vault does not know is noted, and not asked for again.
            if let Some(Ok(_)) = revoked {
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

    /// Revokes one token, and with it whatever it was used for. An operator and the end of its container may both ask for
    /// that: one of them waits, lest the other one's work looks like a token that Vault does not know.
    pub(super) async fn revoke(
        &self,
        entry: &Entry,
        cause: &'static str,
        wanted: Wanted,
    ) -> Result<Outcome, Trouble> {
        let _turn = Turn::take(&self.revoking, &entry.accessor).await;
        if self.register.holds(&entry.accessor) {
            self.revoke_alone(entry, cause, wanted).await
        } else {
            Ok(Outcome::Revoked)
        }
    }

    async fn revoke_alone(
        &self,
        entry: &Entry,
        cause: &'static str,
        wanted: Wanted,
    ) -> Result<Outcome, Trouble> {
        let accessor = entry.accessor.clone();
        let end = self
            .own_token
            .ask(move |session| session.revoke_accessor(&accessor))
            .await?;
        let outcome = outcome(end, wanted, entry.is_of(&self.vault));
        let text = match outcome {
            Outcome::Revoked => "the token and its leases are revoked",
            Outcome::HadEnded => "the token had ended before, and its leases with it",
            Outcome::Unknown => {
                self.register.note_unknown(&entry.accessor, &self.vault);
                let text = format!(
                    "the token {} of the container {} is not revoked: {}",
                    entry.accessor,
                    entry.container,
                    unknown(entry, &self.vault)
                );
                let fields = fields(entry);
                self.log.event(Level::Error, "not_revoked", &text, &fields);
                return Ok(outcome);
            }
        };
        self.register.remove(&entry.accessor);
        self.metrics.revoked();
        let [accessor, container, app, environment] = fields(entry);
        let cause = ("cause", Value::Text(cause));
        let fields = [accessor, container, app, environment, cause];
        self.log.event(Level::Info, "revoked", text, &fields);
        Ok(outcome)
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

/// The only work on the revocation of one token; ends when it is dropped, so also where that work is called off.
struct Turn<'a> {
    taken: &'a Mutex<HashSet<String>>,
    accessor: &'a str,
}

impl<'a> Turn<'a> {
    /// Waits until nothing else works on this token.
    async fn take(taken: &'a Mutex<HashSet<String>>, accessor: &'a str) -> Self {
        while !lock(taken).insert(accessor.to_owned()) {
            tokio::time::sleep(OTHER_LOOK).await;
        }
        Turn { taken, accessor }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(self.taken).remove(self.accessor);
    }
}

/// Why a token is to be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The container has ended, or did not get the token.
    ByItsEnd,
    /// An operator says so, and must know whether it was done.
    ByOrder,
}

/// The fate of a token that was to be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Vault has revoked it.
    Revoked,
    /// The Vault that minted it does not know it any more: its service revoked it, or its life was over.
    HadEnded,
    /// This Vault does not know it, and it may live elsewhere: it stays in the register.
    Unknown,
}

/// A token that Vault does not know has ended where its container has too, and where this Vault minted it. An operator's
/// order is about tokens in use, of which none should be unknown: this may be another Vault, or an older state of it.
fn outcome(end: End, wanted: Wanted, is_own: bool) -> Outcome {
    match (end, wanted, is_own) {
        (End::Revoked, ..) => Outcome::Revoked,
        (End::Unknown, Wanted::ByItsEnd, true) => Outcome::HadEnded,
        (End::Unknown, ..) => Outcome::Unknown,
    }
}

/// Says why a token that this Vault does not know is not revoked.
pub(super) fn unknown(entry: &Entry, here: &Place) -> String {
    match &entry.vault {
        Some(place) if place == here => format!(
            "{here}, which minted it, does not know it: it ended before, or an older state of this Vault was restored. When its container ends it is asked for once more, and leaves the register"
        ),
        Some(place) => format!(
            "{here} does not know it, and it may live at {place}, which minted it: revoke it from there. It stays in the register"
        ),
        None => format!(
            "{here} does not know it, and the register does not say which Vault minted it. When its container ends it is asked for once more, and leaves the register"
        ),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::agent::runtime::runtime;

    #[test]
    fn turn_that_is_called_off_leaves_the_token_to_the_next() {
        let runtime = runtime().expect("a runtime");
        let taken = Mutex::default();
        runtime.block_on(async {
            let work = async {
                let _turn = Turn::take(&taken, "a").await;
                std::future::pending::<()>().await;
            };
            let mut work = Box::pin(work);
            assert!(work.as_mut().now_or_never().is_none());
            let other = Turn::take(&taken, "b").now_or_never();
            assert!(other.is_some(), "another token");
            assert!(Turn::take(&taken, "a").now_or_never().is_none());
            drop(work);
            assert!(Turn::take(&taken, "a").now_or_never().is_some());
        });
    }

    #[test]
    fn unknown_token_of_its_own_vault_has_ended_with_its_container() {
        use Wanted::{ByItsEnd, ByOrder};
        for (end, wanted, is_own, expected) in [
            (End::Revoked, ByItsEnd, true, Outcome::Revoked),
            (End::Revoked, ByOrder, false, Outcome::Revoked),
            (End::Unknown, ByItsEnd, true, Outcome::HadEnded),
            (End::Unknown, ByItsEnd, false, Outcome::Unknown),
            (End::Unknown, ByOrder, true, Outcome::Unknown),
            (End::Unknown, ByOrder, false, Outcome::Unknown),
        ] {
            let found = outcome(end, wanted, is_own);
            assert_eq!(found, expected, "{end:?} {wanted:?} {is_own}");
        }
    }
}

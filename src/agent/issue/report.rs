//! The lines that say what became of a container's token.

use std::time::{Duration, Instant};

use super::Error;
use crate::agent::Agent;
use crate::agent::docker;
use crate::agent::identity::{Claim, Identity};
use crate::log::{Level, Value};

/// The token that a container got, and for whom.
pub(in crate::agent) struct Issued {
    pub(super) identity: Identity,
    pub(super) user: String,
    pub(super) accessor: String,
    pub(super) mint: Duration,
}

impl Agent {
    pub(in crate::agent) fn tell(&self, claim: &Claim, issued: &Issued, seen: Instant) {
        let latency = seen.elapsed();
        self.metrics.delivered(latency);
        let identity = &issued.identity;
        self.log.event(
            Level::Info,
            "handed_out",
            "the container has its wrapping token",
            &[
                ("container", Value::Text(&claim.container)),
                ("name", Value::Text(&claim.name)),
                ("app", Value::Text(&identity.app)),
                ("environment", Value::Text(&identity.environment)),
                ("role", Value::Text(&identity.role)),
                ("image", Value::Text(&claim.image)),
                ("image_digest", Value::Text(claim.image_digest())),
                ("user", Value::Text(&issued.user)),
                ("accessor", Value::Text(&issued.accessor)),
                ("mint_us", Value::Number(issued.mint.as_micros() as u64)),
                ("us", Value::Number(latency.as_micros() as u64)),
            ],
        );
    }

    pub(super) fn tell_not_inspected(&self, container: &str, error: docker::Error) {
        // When Docker is back every container is looked at.
        if self.engine().is_none() {
            return;
        }
        let error = Error::NotInspected(error);
        self.metrics.refused(error.reason());
        let text = format!("the container gets no token: {error}");
        let fields = [
            ("reason", Value::Text(error.reason())),
            ("container", Value::Text(container)),
        ];
        self.log.event(Level::Warn, "refused", &text, &fields);
    }

    pub(in crate::agent) fn tell_refusal(
        &self,
        claim: &Claim,
        labels: Option<&(String, String)>,
        error: &Error,
    ) {
        let (name, beginning) = if error.is_late() {
            self.metrics.undelivered(error.reason());
            ("undelivered", "the container did not get its token")
        } else {
            self.metrics.refused(error.reason());
            ("refused", "the container gets no token")
        };
        let mut fields = vec![
            ("reason", Value::Text(error.reason())),
            ("container", Value::Text(&claim.container)),
            ("name", Value::Text(&claim.name)),
        ];
        if let Some((app, environment)) = labels {
            fields.push(("app", Value::Text(app)));
            fields.push(("environment", Value::Text(environment)));
        }
        fields.push(("image", Value::Text(&claim.image)));
        fields.push(("image_digest", Value::Text(claim.image_digest())));
        let text = format!("{beginning}: {error}");
        self.log.event(Level::Warn, name, &text, &fields);
    }
}

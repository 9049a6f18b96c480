//! `auth/approle`: a login for those who live long and start alone.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::super::call::{Call, Repeat};
use super::super::client::{Client, Session};
use super::super::error::Error;
use crate::secret::Secret;

impl Client {
    /// Logs in (`auth/MOUNT/login`).
    pub fn login_approle(
        self,
        mount: &str,
        role_id: &str,
        secret_id: &Secret,
    ) -> Result<Session, Error> {
        let path = format!("auth/{mount}/login");
        let body = [("role_id", role_id), ("secret_id", secret_id.expose())];
        // A secret id may be good for one login only.
        let call = Call::post(&path)
            .json(&BTreeMap::from(body))
            .repeat(Repeat::Never);
        let (envelope, connections) =
            self.call_alone::<IgnoredAny>(&call, "", std::time::Duration::ZERO)?;
        let auth = envelope.auth.ok_or_else(|| Error::Malformed {
            request: call.to_string(),
            reason: "it holds no token".to_owned(),
        })?;
        Ok(self.into_session(
            auth.client_token.clone(),
            auth.accessor.clone(),
            connections,
        ))
    }
}

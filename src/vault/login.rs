//! `auth/MOUNT/login`: a client token for a proof; a file for each method.

mod approle;

use std::time::Duration;

use serde::Serialize;
use serde::de::IgnoredAny;

use super::answer::Auth;
use super::call::{Call, Repeat};
use super::client::{Client, Session};
use super::error::Error;

pub(crate) use approle::AppRole;

impl Client {
    /// Logs in with a proof in the form that the method reads.
    fn log_in(self, mount: &str, proof: &impl Serialize) -> Result<(Session, Auth), Error> {
        let path = format!("auth/{mount}/login");
        // A proof may be good for one login only, as a secret id may.
        let call = Call::post(&path).json(proof).repeat(Repeat::Never);
        let (envelope, connections) = self.call_alone::<IgnoredAny>(&call, "", Duration::ZERO)?;
        let auth = envelope.auth.ok_or_else(|| Error::Malformed {
            request: call.to_string(),
            reason: "it holds no token".to_owned(),
        })?;
        let (token, accessor) = (auth.client_token.clone(), auth.accessor.clone());
        Ok((self.into_session(token, accessor, connections), auth))
    }
}

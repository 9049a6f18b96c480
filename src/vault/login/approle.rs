//! `auth/approle`: the id of a role, and a secret id.

use std::collections::BTreeMap;

use super::super::answer::Auth;
use super::super::client::{Client, Session};
use super::super::error::Error;
use crate::secret::Secret;

/// The two ids, and where the method is mounted.
pub(crate) struct AppRole {
    /// Below `auth/`.
    pub mount: String,
    pub role_id: String,
    pub secret_id: Secret,
}

impl AppRole {
    pub(crate) fn log_in(&self, client: Client) -> Result<(Session, Auth), Error> {
        let proof = [
            ("role_id", self.role_id.as_str()),
            ("secret_id", self.secret_id.expose()),
        ];
        client.log_in(&self.mount, &BTreeMap::from(proof))
    }
}

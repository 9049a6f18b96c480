//! The envelope that every answer of the API comes in.

use serde::Deserialize;

use super::call::Call;
use super::error::Error;
use super::value::Value;
use crate::secret::Secret;

/// One answer.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(super) struct Envelope<T> {
    /// The request's name in Vault's audit log; empty in a wrapped answer.
    #[serde(default)]
    request_id: Option<String>,
    /// Empty when there is no lease.
    #[serde(default)]
    lease_id: Option<String>,
    /// Seconds.
    #[serde(default)]
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
    /// The engine's own answer.
    #[serde(default = "none")]
    pub(super) data: Option<T>,
    /// A wrapping token where the answer should be.
    #[serde(default)]
    pub(super) wrap_info: Option<Value>,
    /// A client token.
    #[serde(default)]
    pub(super) auth: Option<Auth>,
    /// The server's warnings.
    #[serde(default)]
    pub(super) warnings: Option<Vec<String>>,
    /// The server's errors; not expected in an answer that succeeded.
    #[serde(default)]
    pub(super) errors: Option<Vec<String>>,
}

fn none<T>() -> Option<T> {
    None
}

impl<T> Envelope<T> {
    /// Whether the two fields are there that every answer of Vault's holds.
    pub(super) fn is_in_full(&self) -> bool {
        self.request_id.is_some() && self.lease_id.is_some()
    }

    /// The lease's name; empty when there is no lease.
    pub(super) fn take_lease_id(&mut self) -> String {
        self.lease_id.take().unwrap_or_default()
    }

    /// The engine's own answer, which must be there.
    pub(super) fn take_data(&mut self, call: &Call<'_>) -> Result<T, Error> {
        self.data.take().ok_or_else(|| Error::Malformed {
            request: call.to_string(),
            reason: "it holds no data".to_owned(),
        })
    }
}

/// A client token with its properties.
#[derive(Deserialize)]
pub(crate) struct Auth {
    /// The token itself.
    #[serde(deserialize_with = "secret")]
    pub client_token: Secret,
    /// The accessor, which names the token without being one.
    #[serde(default)]
    pub accessor: String,
    /// All policies, those of an identity included.
    #[serde(default)]
    pub policies: Option<Vec<String>>,
    /// The metadata that the minting side gave the token.
    #[serde(default)]
    pub metadata: Option<std::collections::BTreeMap<String, String>>,
    /// Seconds.
    #[serde(default)]
    pub lease_duration: u64,
    #[serde(default)]
    pub renewable: bool,
    /// The uses that the token has; 0 is without limit.
    #[serde(default)]
    pub num_uses: u64,
    /// The data of the same answer, which should hold none.
    #[serde(skip)]
    pub beside: Option<&'static str>,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

/// The body of a failed request, as far as it says whose it is and why.
#[derive(Deserialize)]
pub(super) struct Failure {
    #[serde(default)]
    pub(super) errors: Option<Vec<String>>,
    #[serde(default)]
    pub(super) data: Option<Value>,
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    lease_id: Option<String>,
}

impl Failure {
    /// Whether the body is an answer in full, of which the status alone says that something is not there.
    pub(super) fn is_in_full(&self) -> bool {
        self.request_id.is_some() && self.lease_id.is_some()
    }
}

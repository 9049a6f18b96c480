//! Any path of any engine: read or write, and what it answers.

use std::collections::BTreeMap;

use super::call::{Call, Repeat};
use super::client::Session;
use super::error::Error;
use super::value::Value;

/// The answer of an engine.
pub(crate) struct Reply {
    /// The answer's fields.
    pub data: Vec<(String, Value)>,
    /// Empty when there is no lease.
    pub lease_id: String,
    /// Seconds.
    pub lease_duration: u64,
    pub renewable: bool,
    /// The server's warnings.
    pub warnings: Vec<String>,
}

impl Session {
    /// Reads a path. Engines make users and leases at a read, so it is repeated a few times at most.
    pub(crate) fn read(&self, path: &str) -> Result<Reply, Error> {
        self.ask(Call::get(path))
    }

    /// Writes fields to a path.
    pub(crate) fn write(&self, path: &str, fields: &[(String, String)]) -> Result<Reply, Error> {
        let body: BTreeMap<_, _> = fields.iter().map(|(name, value)| (name, value)).collect();
        self.ask(Call::post(path).json(&body))
    }

    fn ask(&self, call: Call<'_>) -> Result<Reply, Error> {
        let call = call.repeat(Repeat::AFewTimes);
        let mut envelope = self.call::<Value>(&call)?;
        let Value::Object(data) = envelope.take_data(&call)? else {
            return Err(Error::Malformed {
                request: call.to_string(),
                reason: "its data is no object".to_owned(),
            });
        };
        Ok(Reply {
            data,
            lease_id: envelope.take_lease_id(),
            lease_duration: envelope.lease_duration,
            renewable: envelope.renewable,
            warnings: envelope.warnings.unwrap_or_default(),
        })
    }
}

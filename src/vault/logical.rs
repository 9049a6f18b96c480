//! Any path of any engine: read or write, and what it answers.

use ureq::http::Method;
use zeroize::Zeroizing;

use super::call::{Call, Repeat};
use super::client::Session;
use super::error::Error;
use super::value::Value;

/// What an engine answered.
pub struct Reply {
    /// Its fields.
    pub data: Vec<(String, Value)>,
    /// Empty when there is no lease.
    pub lease_id: String,
    /// Seconds.
    pub lease_duration: u64,
    /// The lease can be renewed.
    pub renewable: bool,
    /// What the server wants to say.
    pub warnings: Vec<String>,
}

impl Session {
    /// Reads a path. Engines make users and leases at a read, so it is repeated a few times at most.
    pub fn read(&self, path: &str) -> Result<Reply, Error> {
        self.ask(Method::GET, path, None)
    }

    /// Writes fields to a path.
    pub fn write(&self, path: &str, fields: &[(String, String)]) -> Result<Reply, Error> {
        let object: serde_json::Map<String, serde_json::Value> = fields
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        let body = serde_json::Value::Object(object).to_string().into_bytes();
        self.ask(Method::POST, path, Some(Zeroizing::new(body)))
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Reply, Error> {
        let call = Call {
            method,
            path,
            body,
            repeat: Repeat::AFewTimes,
            wrap_ttl: None,
        };
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

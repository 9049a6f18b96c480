//! `pki/sign`: a certificate for a key that never leaves this machine.

use serde::{Deserialize, Serialize};

use super::call::{Call, Repeat};
use super::client::Session;
use super::error::Error;

/// The request for a signature. Names stand in the CSR too: which of the two counts is the role's choice.
#[derive(Debug, Serialize)]
pub(crate) struct SignRequest<'a> {
    /// PEM.
    pub csr: &'a str,
    /// Subject common name.
    pub common_name: &'a str,
    /// DNS names, separated by commas.
    pub alt_names: String,
    /// IP addresses, separated by commas.
    pub ip_sans: String,
    /// URIs, separated by commas.
    pub uri_sans: String,
    /// Such as `86400s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// `pem`
    pub format: &'a str,
}

/// The answer to a request for a signature, not checked yet.
#[derive(Debug, Deserialize)]
pub(crate) struct Signed {
    /// The leaf, PEM.
    pub certificate: String,
    /// The CA that signed the leaf, PEM.
    #[serde(default)]
    pub issuing_ca: String,
    /// The CA's chain, PEM; may be missing.
    #[serde(default)]
    pub ca_chain: Option<Vec<String>>,
    /// Whether the certificate is revoked with the token.
    #[serde(skip)]
    pub is_leased: bool,
}

impl Session {
    /// Has a CSR signed (`MOUNT/sign/ROLE`).
    pub(crate) fn sign(
        &self,
        mount: &str,
        role: &str,
        request: &SignRequest<'_>,
    ) -> Result<Signed, Error> {
        let path = format!("{mount}/sign/{role}");
        let call = Call::post(&path).json(request).repeat(Repeat::AFewTimes);
        let mut envelope = self.call::<Signed>(&call)?;
        Ok(Signed {
            is_leased: !envelope.take_lease_id().is_empty(),
            ..envelope.take_data(&call)?
        })
    }
}

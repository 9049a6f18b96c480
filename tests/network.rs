//! The way to Vault: TLS, redirects, retries, hostile answers.

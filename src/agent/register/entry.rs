//! One token in the register, and the Vault that minted it.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A Vault, by what the agent calls it: another address or namespace may be another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// A URL.
    pub address: String,
    /// The namespace; none is the root's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}, namespace {namespace}", self.address),
            None => f.write_str(&self.address),
        }
    }
}

/// One token, from its minting until its revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The accessor by which the client token is revoked.
    pub accessor: String,
    /// The container's id, 64 hexadecimal digits.
    pub container: String,
    /// The container's start, as nanoseconds since 1970: each start has a token of its own.
    pub started: i64,
    pub app: String,
    pub environment: String,
    /// The container has it.
    pub delivered: bool,
    /// The container may not use the token any more: the agent is to revoke it.
    pub over: bool,
    /// The Vault that minted the token; a register of an earlier version does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<Place>,
    /// The Vault that was told to end the token and did not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_to: Option<Place>,
}

impl Entry {
    /// Whether this Vault minted the token, as far as the register knows.
    pub(crate) fn is_of(&self, vault: &Place) -> bool {
        self.vault.as_ref().is_none_or(|place| place == vault)
    }

    /// Whether this Vault is still to be told that the token ends: one that does not know the token is not asked again.
    pub(super) fn is_to_be_revoked_at(&self, vault: &Place) -> bool {
        self.over && self.unknown_to.as_ref() != Some(vault)
    }

    /// Whether the Vault that minted the token did not know it when it was asked last.
    pub(crate) fn was_unknown_where_minted(&self, vault: &Place) -> bool {
        self.is_of(vault) && self.unknown_to.as_ref() == Some(vault)
    }
}

/// As the register counts.
pub(crate) fn nanoseconds(time: OffsetDateTime) -> i64 {
    time.unix_timestamp_nanos().try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_token_is_asked_for_once_and_at_other_vaults_again() {
        let place = |address: &str, namespace: Option<&str>| Place {
            address: address.to_owned(),
            namespace: namespace.map(str::to_owned),
        };
        let (here, there) = (place("https://a", None), place("https://a", Some("eu")));
        let entry = |vault: Option<&Place>, unknown_to: Option<&Place>| Entry {
            accessor: "a".to_owned(),
            container: "c".to_owned(),
            started: 0,
            app: "timeline".to_owned(),
            environment: "test".to_owned(),
            delivered: true,
            over: true,
            vault: vault.cloned(),
            unknown_to: unknown_to.cloned(),
        };
        // Who minted it, who did not know it: is it of this Vault, is this one asked, and was it unknown where it was minted?
        for (vault, unknown_to, expected) in [
            (None, None, [true, true, false]),
            (Some(&here), None, [true, true, false]),
            (Some(&there), None, [false, true, false]),
            (None, Some(&here), [true, false, true]),
            (Some(&here), Some(&here), [true, false, true]),
            (Some(&here), Some(&there), [true, true, false]),
            (Some(&there), Some(&here), [false, false, false]),
        ] {
            let mut entry = entry(vault, unknown_to);
            let found = [
                entry.is_of(&here),
                entry.is_to_be_revoked_at(&here),
                entry.was_unknown_where_minted(&here),
            ];
            assert_eq!(found, expected, "{vault:?} {unknown_to:?}");
            entry.over = false;
            assert!(!entry.is_to_be_revoked_at(&here));
        }
        assert_eq!(there.to_string(), "https://a, namespace eu");
    }
}

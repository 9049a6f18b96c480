//! A request of the agent that did not succeed, as far as it matters for what comes next.

use std::fmt;

use crate::vault::{self, Class};

/// Why Vault was not asked, or did not do it.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The agent has no token.
    NoToken,
    /// Vault's answer, or why there is none.
    Vault(vault::Error),
}

impl Trouble {
    /// Whether the request may succeed later: Vault is away, or the agent's token is.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Trouble::NoToken => true,
            Trouble::Vault(error) => match error.class() {
                // Vault may fail at it for a moment.
                Class::Failed => true,
                Class::Away | Class::Untrusted | Class::Foreign | Class::Redirected => true,
                Class::Barred | Class::Local => true,
                // A status of its own says the same at each try.
                Class::Denied | Class::Refused | Class::Unexpected | Class::CalledOff => false,
            },
        }
    }

    /// There is no Vault to ask, or no token to ask with, which is said once for all that is asked.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Trouble::NoToken => true,
            Trouble::Vault(error) => presence(error) == Presence::Away,
        }
    }

    /// Vault does not permit it.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Trouble::Vault(error) if error.class() == Class::Denied)
    }

    /// For machines.
    pub(crate) fn reason(&self) -> &'static str {
        let Trouble::Vault(error) = self else {
            return "own_token_lost";
        };
        match error.class() {
            Class::Away | Class::Untrusted => "vault_away",
            Class::Foreign => "vault_malformed",
            Class::Redirected => "vault_redirected",
            Class::Denied => "vault_denied",
            Class::Refused | Class::Unexpected => "vault_refused",
            Class::Failed => "vault_failed",
            Class::Barred => "vault_in_clear",
            Class::Local => "no_descriptor",
            Class::CalledOff => "called_off",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NoToken => f.write_str("the agent has no token of its own"),
            Trouble::Vault(error) => error.fmt(f),
        }
    }
}

/// A failed request's word on whether Vault is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Vault is not there, or something else answers in its place.
    Away,
    /// Vault answers, whatever it says to this request.
    There,
    /// Nothing: it was not asked.
    NotAsked,
}

/// Whether Vault is there, as far as this failure says.
pub(crate) fn presence(error: &vault::Error) -> Presence {
    match error.class() {
        Class::Away | Class::Untrusted | Class::Foreign | Class::Redirected => Presence::Away,
        Class::Denied | Class::Refused | Class::Unexpected | Class::Failed => Presence::There,
        Class::Barred | Class::Local | Class::CalledOff => Presence::NotAsked,
    }
}

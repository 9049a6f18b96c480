//! A request of the keeper that did not succeed, as far as it matters for what comes next.

use crate::vault::{self, Class};

/// The kinds of a failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Vault is away, and is left alone for a while.
    Away(String),
    /// No word of Vault's came, for a reason that is not Vault's absence: this request is made again.
    Unheard(String),
    /// This request failed; others may succeed.
    Failed(String),
    /// A right is missing, or the token is gone.
    Denied(String),
    /// Vault says that the request is wrong, or that its path is not there.
    Refused(String),
    /// There is nothing more to ask: the application has ended, or the token is gone.
    Ending,
}

impl From<vault::Error> for Trouble {
    fn from(error: vault::Error) -> Self {
        let text = error.to_string();
        match error.class() {
            Class::Away | Class::Untrusted => Trouble::Away(text),
            Class::Foreign | Class::Redirected | Class::Barred | Class::Local => {
                Trouble::Unheard(text)
            }
            Class::Failed | Class::Unexpected => Trouble::Failed(text),
            Class::Denied => Trouble::Denied(text),
            Class::Refused => Trouble::Refused(text),
            Class::CalledOff => Trouble::Ending,
        }
    }
}

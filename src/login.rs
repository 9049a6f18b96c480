//! From an introduction to a session, the one way to a client token.
//!
//! An introduction is moved into its use. A further method is a variant here and a file of its own in `vault/login/`. Where a
//! token is there already, as the minting side has one, [`Session::with_token`] takes it as it is.

use crate::vault::{self, AppRole, Auth, Client, Session, Unwrapped};
use crate::wrapping_token::WrappingToken;

/// The proof of who asks for a client token.
pub(crate) enum Introduction {
    /// A wrapping token: the client token is in it, and its one use takes it out.
    WrappingToken(WrappingToken),
    /// The ids of AppRole.
    AppRole(AppRole),
}

/// There is no client token.
#[derive(Debug)]
pub enum Error {
    /// The wrapping token does not exist any more.
    NotValid {
        /// The accessor that revokes the client token, when it was handed in.
        wrapped_accessor: Option<String>,
    },
    /// The wrapping token was used up, and held no client token.
    NoToken {
        /// The content.
        found: &'static str,
    },
    /// No answer says whether the wrapping token was used up, and it does not exist any more.
    Unknown {
        /// The event that stood in place of an answer.
        reason: String,
        /// The accessor that revokes the client token, when it was handed in.
        wrapped_accessor: Option<String>,
    },
    /// Vault did not answer, or does not take the introduction.
    Vault(vault::Error),
}

impl From<vault::Error> for Error {
    fn from(error: vault::Error) -> Self {
        Error::Vault(error)
    }
}

/// Makes a session of an introduction, with what Vault says of its token.
pub(crate) fn log_in(client: Client, introduction: Introduction) -> Result<(Session, Auth), Error> {
    match introduction {
        Introduction::WrappingToken(token) => unwrap(client, token),
        Introduction::AppRole(approle) => Ok(approle.log_in(client)?),
    }
}

/// Unwraps the token, once.
fn unwrap(client: Client, token: WrappingToken) -> Result<(Session, Auth), Error> {
    let wrapped_accessor = token.wrapped_accessor.clone();
    match client.unwrap(token)? {
        Unwrapped::Token { session, auth } => Ok((*session, auth)),
        Unwrapped::NoToken { found } => Err(Error::NoToken { found }),
        Unwrapped::NotValid => Err(Error::NotValid { wrapped_accessor }),
        Unwrapped::Unknown { reason } => Err(Error::Unknown {
            reason,
            wrapped_accessor,
        }),
    }
}

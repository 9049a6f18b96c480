//! Vault's and OpenBao's HTTP API, as far as a start, the renewal and the minting side need it.
//!
//! [`Client`] has no token and can look up, unwrap and log in; the latter two consume it and make a [`Session`], which has
//! a token and can do the rest. On the minting side a session begins with a token that is there already. Nothing here
//! knows the manifest or the secrets directory's layout: plain values come in and go out.

mod answer;
mod call;
mod client;
mod error;
mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod leases;
mod logical;
mod login;
mod lookup;
mod mint;
mod pki;
mod retry;
mod roots;
mod tls;
mod token;
mod transport;
mod value;
mod verdict;
mod watch;
mod wrapping;

pub use answer::Auth;
pub use client::{Client, Endpoint, GRACE, Session};
pub use error::{Class, Error};
pub use leases::Renewed;
pub use logical::Reply;
pub use login::AppRole;
pub use mint::{End, MintRequest, Minted};
pub use pki::SignRequest;
pub use roots::{Error as TrustError, Roots, read as read_certificates};
pub use token::TokenProperties;
pub use transport::{Deadline, Limits};
pub use value::Value;
pub use wrapping::{Unwrapped, Wrapping};

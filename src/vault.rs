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
pub(crate) mod fuzzing;
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

pub(crate) use answer::Auth;
pub(crate) use client::{Client, Endpoint, GRACE, Session};
pub(crate) use error::{Class, Error};
pub(crate) use login::AppRole;
pub(crate) use mint::{End, MintRequest, Minted};
pub(crate) use pki::SignRequest;
pub(crate) use roots::{
    BUNDLE_MAX, BUNDLES, CERTIFICATES_MAX, Error as TrustError, Roots, read as read_certificates,
    system_bundle,
};
pub(crate) use token::TokenProperties;
pub(crate) use transport::{Deadline, Limits};
pub(crate) use value::Value;
pub(crate) use wrapping::{Unwrapped, Wrapping};

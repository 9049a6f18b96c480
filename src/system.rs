//! The floor: what every program here asks of the kernel and of the C library, and how.

pub(crate) mod descriptors;
mod error;
pub(crate) mod exec;
pub(crate) mod fork;
pub(crate) mod memory;
pub mod name_lookup;
pub(crate) mod process;
pub(crate) mod random;
pub mod signal;
pub(crate) mod user;

pub use error::{Error, refused};

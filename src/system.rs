//! The floor: what every program here asks of the kernel and of the C library, and how.

pub mod descriptors;
mod error;
pub mod exec;
pub mod fork;
pub mod memory;
pub mod name_lookup;
pub mod process;
pub mod random;
pub mod signal;
pub mod user;

pub use error::{Error, refused};

//! The floor: what every program here asks of the kernel and of the C library, and how.

pub mod exec;
mod memory;
pub mod name_lookup;
pub mod signal;
pub mod user;

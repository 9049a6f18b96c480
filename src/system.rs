//! The things that every program here takes from the C library, and how.

mod memory;
pub mod name_lookup;

//! What every program here takes from the C library, and how.

pub mod name_lookup;

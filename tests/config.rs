//! Manifest, environment and flags.

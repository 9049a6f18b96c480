//! The static binary in containers of every kind.

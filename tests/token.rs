//! Token intake: one source, read once and removed.

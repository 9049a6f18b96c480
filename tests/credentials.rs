//! Credentials from every engine, and answers that are none.

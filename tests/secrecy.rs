//! No secret in any output, environment or command line.

//! PID 1, the keeper and the exec: what the application finds.

//! `auth/MOUNT/login`: a client token for a proof; a file for each method.

mod approle;

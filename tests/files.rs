//! The secrets directory: modes, owners, generations.

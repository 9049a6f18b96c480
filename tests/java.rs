//! What real JREs make of the stores.

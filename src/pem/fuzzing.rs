//! Promises about every text that holds certificates.

use super::{certificates, read};

/// Reads a text, and reads again what is written of it.
pub(crate) fn pem(input: &[u8]) {
    let Ok(found) = read(input) else {
        return;
    };
    let written = certificates(&found.certificates);
    let again = read(&written).expect("what was written");
    assert_eq!(again.certificates, found.certificates);
    assert!(!again.has_private_key);
}

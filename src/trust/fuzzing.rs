//! Promises about every store of Java.

use super::java_store::{digest, read};

/// Reads a store, and a JKS store also with the digest that its content should have.
pub(crate) fn java_store(input: &[u8]) {
    check(input);
    if input.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) {
        let content = &input[..input.len().saturating_sub(20)];
        let sealed = [content, &digest(content)].concat();
        check(&sealed);
    }
}

fn check(store: &[u8]) {
    let Ok(certificates) = read(store) else {
        return;
    };
    if !store.starts_with(&[0x30]) {
        let length: usize = certificates.iter().map(|der| der.len()).sum();
        assert!(length < store.len());
        for der in certificates {
            let bytes = der.as_ref();
            assert!(bytes.is_empty() || store.windows(bytes.len()).any(|part| part == bytes));
        }
    }
}

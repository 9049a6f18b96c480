//! A value that must not be shown.

use std::fmt;

use zeroize::Zeroize;

/// A secret value: it has no `Display` and no `Serialize`, its `Debug` is redacted, and its memory is zeroed on drop.
///
/// Zeroing reaches only this value, not copies that a TLS or JSON library made of it before.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret<T: Zeroize = String>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes a value over.
    pub(crate) fn new(value: T) -> Self {
        Secret(value)
    }

    /// Returns the value itself; every use of a secret is found by searching for this name.
    pub(crate) fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_part_of_the_value() {
        let secret = Secret::new("canary".to_owned());
        assert_eq!(format!("{secret:?}"), "[redacted]");
    }
}

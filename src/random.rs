//! Random bytes, passwords, numbers and fractions, all of them the kernel's.
//!
//! A start has seen that the kernel gives them; without them the process ends, since a zero in their place would be a
//! password or a name that others know.

use std::time::Duration;

use crate::secret::Secret;
use crate::system::random;

/// Fills the whole slice with random bytes.
pub(crate) fn fill(bytes: &mut [u8]) {
    let filled = random::fill(bytes);
    assert!(filled.is_ok(), "the kernel gives random bytes");
}

/// Makes an array of random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// Makes 192 random bits, as text that needs no quoting anywhere.
pub(crate) fn password() -> Secret {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = zeroize::Zeroizing::new([0_u8; 32]);
    fill(&mut bytes[..]);
    Secret::new(
        bytes
            .iter()
            .map(|byte| char::from(LETTERS[usize::from(byte & 63)]))
            .collect(),
    )
}

/// A number from 0 to 1, a new one each time and in each container.
pub(crate) fn fraction() -> f64 {
    f64::from(u32::from_ne_bytes(bytes())) / f64::from(u32::MAX)
}

/// A random time between the duration and half as much again, so that many containers do not come back at once.
pub(crate) fn lengthened(duration: Duration) -> Duration {
    duration.mul_f64(1.0 + fraction() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_filled_and_none_repeats_itself() {
        let bytes: [u8; 600] = bytes();
        // 32 equal bytes side by side come once in 2^248 runs.
        assert!(
            bytes
                .windows(32)
                .all(|some| some.iter().any(|byte| *byte != some[0]))
        );
    }

    #[test]
    fn fraction_lies_between_0_and_1_and_differs() {
        let fractions: Vec<f64> = (0..100).map(|_| fraction()).collect();
        assert!(
            fractions
                .iter()
                .all(|fraction| (0.0..=1.0).contains(fraction))
        );
        assert!(fractions.iter().any(|fraction| *fraction < 0.5));
        assert!(fractions.iter().any(|fraction| *fraction > 0.5));
    }

    #[test]
    fn lengthening_is_real_and_bounded() {
        let base = Duration::from_secs(1);
        let waits: Vec<Duration> = (0..100).map(|_| lengthened(base)).collect();
        assert!(
            waits
                .iter()
                .all(|wait| (base..=base * 3 / 2).contains(wait))
        );
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}

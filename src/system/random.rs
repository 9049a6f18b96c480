//! Random bytes of the kernel.
#![expect(
    unsafe_code,
    reason = "random numbers have no safe wrapper; the use says why it is sound"
)]

use nix::errno::Errno;
use nix::libc;

use super::error::{Error, refused};

/// Fills all of it, or fails where the kernel gives no random numbers (getrandom(2)).
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: the buffer is as long as the call is told.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match Errno::result(count) {
            Ok(count) => filled += count.unsigned_abs(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(refused("read random numbers")(errno)),
        }
    }
    Ok(())
}

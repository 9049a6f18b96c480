//! The heap: what is freed is zeroed first.

#![expect(
    unsafe_code,
    reason = "an allocator takes and gives raw memory; each use says why it is sound"
)]

use std::alloc::{GlobalAlloc, Layout, System};

use nix::libc;

/// The allocator of every program here.
///
/// A secret passes through libraries that know nothing of it: HTTP, JSON, templates, TLS. Whatever they copy is freed
/// sooner or later, and then it is gone.
struct ZeroingHeap;

#[global_allocator]
static HEAP: ZeroingHeap = ZeroingHeap;

// SAFETY: all memory is the system allocator's, asked for and given back in the same words. `realloc` is the trait's own:
// it takes new memory, copies, and gives the old back by `dealloc`.
unsafe impl GlobalAlloc for ZeroingHeap {
    // SAFETY: the trait says what a caller owes.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the trait says what a caller owes.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    // SAFETY: the trait says what a caller owes.
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // A plain write before a free is one that the compiler may leave out (explicit_bzero(3)).
        // SAFETY: so many bytes are the caller's, who gives them up with this call.
        unsafe { libc::explicit_bzero(memory.cast(), layout.size()) };
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

//! The heap, which zeroes what is freed, and the memory that goes back to the kernel.

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

/// Keeps this process to one heap: one for each thread that fetches would stay for good.
///
/// Only while there is one thread.
pub(crate) fn keep_one_heap() {
    // SAFETY: the call takes two integers, and there is one thread only.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// Gives memory that a start needed, and that nothing needs now, back to the system.
pub(crate) fn trim_memory() {
    // SAFETY: the call takes an integer; it gives back what is not allocated.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
    forget_code();
}

/// Lets go of the pages of code and constants that were used so far, some 4 MiB: those that are used again come back from
/// the file.
pub(crate) fn forget_code() {
    // SAFETY: the function is of the type that is asked for, and needs no data.
    unsafe { libc::dl_iterate_phdr(Some(forget_segments), std::ptr::null_mut()) };
}

// SAFETY: only dl_iterate_phdr(3) calls it, which describes a loaded program truly.
unsafe extern "C" fn forget_segments(
    program: *mut libc::dl_phdr_info,
    _: usize,
    _: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the pointer is to a description that is valid during the call, and so is the one in it.
    let (base, headers) = unsafe {
        let program = &*program;
        let count = program.dlpi_phnum.into();
        (
            program.dlpi_addr,
            std::slice::from_raw_parts(program.dlpi_phdr, count),
        )
    };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let page = 4095;
        let begin = (base + header.p_vaddr) & !page;
        let end = (base + header.p_vaddr + header.p_memsz + page) & !page;
        // SAFETY: a private mapping of a file, which cannot have been written: what is dropped is read again when it is
        // needed. Pages are of 4 KiB or more; with larger ones the call refuses, and nothing is dropped.
        unsafe {
            libc::madvise(
                begin as *mut libc::c_void,
                (end - begin) as usize,
                libc::MADV_DONTNEED,
            )
        };
    }
    0
}

//! An allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting what each thread asks of it.
pub struct Counting;

/// What was asked of the allocator.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Allocations {
    /// Allocations, growing included.
    pub count: u64,
    /// Their octets; for a growing one, those added.
    pub bytes: u64,
}

impl Allocations {
    /// What `work` asks for on this thread.
    pub fn of<T>(work: impl FnOnce() -> T) -> (Self, T) {
        let before = ASKED.get();
        let output = work();
        let after = ASKED.get();
        (Self { count: after.count - before.count, bytes: after.bytes - before.bytes }, output)
    }
}

thread_local! {
    static ASKED: Cell<Allocations> = const { Cell::new(Allocations { count: 0, bytes: 0 }) };
}

fn note(bytes: usize) {
    let asked = ASKED.get();
    ASKED.set(Allocations { count: asked.count + 1, bytes: asked.bytes + bytes as u64 });
}

// SAFETY: every call goes to `System` unchanged; the counting beside it touches a thread-local without a destructor.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this layout, by the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`, which is that of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size.saturating_sub(layout.size()));
        // SAFETY: `pointer` came from `System` with this layout, and `size` is fit for it, by the caller's contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

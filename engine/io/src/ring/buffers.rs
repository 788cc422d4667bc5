//! Buffers that the kernel picks from when it receives: a ring of descriptions in memory that both sides see.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue, squeue};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// One group of buffers, all of the same size.
///
/// A buffer belongs to the kernel from [`give`](Self::give) on until a completion names it, and to this side from then
/// on until it is given again.
#[derive(Debug)]
pub(super) struct Buffers {
    entries: NonNull<BufRingEntry>,
    octets: NonNull<u8>,
    count: u16,
    buffer_bytes: usize,
    group: u16,
    /// Buffers given so far, modulo 2^16.
    tail: u16,
    /// From one buffer to the next.
    stride: usize,
    /// The kernel may still write to them: they are not freed.
    is_abandoned: bool,
}

/// Buffers a power of two apart would share a few sets of the processor's caches; so they are one line further apart.
const LINE_BYTES: usize = 64;

impl Buffers {
    /// Makes `count` buffers, a power of two, and registers them with the ring.
    pub(super) fn new(ring: &IoUring, group: u16, count: u16, buffer_bytes: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel takes powers of two only");
        let entries = map(entries_bytes(count))?;
        let stride = buffer_bytes + LINE_BYTES;
        let octets = map(usize::from(count) * stride)?;
        let mut buffers =
            Self { entries: entries.cast(), octets, count, buffer_bytes, group, tail: 0, stride, is_abandoned: false };
        for buffer in 0..count {
            buffers.give(buffer);
        }
        // SAFETY: the memory is as large as `count` descriptions, starts on a page, and is freed only by `drop`, which
        // the owner calls after the ring is gone or has ended all that could use it.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, count, group, 0)? };
        Ok(buffers)
    }

    pub(super) fn group(&self) -> u16 {
        self.group
    }

    /// The octets that a completion said are in a buffer.
    pub(super) fn octets(&self, buffer: u16, length: usize) -> &[u8] {
        assert!(buffer < self.count && length <= self.buffer_bytes);
        // SAFETY: the kernel named `buffer` in a completion, so it is ours until `give`, which needs `&mut self`; the
        // assertion keeps the range inside the allocation, which is initialised (zeroed, then written by the kernel).
        unsafe {
            let start = self.octets.as_ptr().add(usize::from(buffer) * self.stride);
            std::slice::from_raw_parts(start, length)
        }
    }

    /// Leaves the memory to the kernel for good.
    pub(super) fn abandon(&mut self) {
        self.is_abandoned = true;
    }

    /// Gives a buffer to the kernel.
    pub(super) fn give(&mut self, buffer: u16) {
        assert!(buffer < self.count);
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot` is within the ring; the kernel reads descriptions below the tail only, and this one is not yet.
        let entry = unsafe { &mut *self.entries.as_ptr().add(slot) };
        entry.set_addr(self.octets.as_ptr() as u64 + u64::from(buffer) * self.stride as u64);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the reserved field of the first description, aligned to two, and is shared with the
        // kernel: hence the atomic store, after which it may read what was written above.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.is_abandoned {
            return;
        }
        // SAFETY: mapped by `new` with the same sizes, and nobody uses them any more (see `new`).
        unsafe {
            let _ = munmap(self.entries.as_ptr().cast(), entries_bytes(self.count));
            let _ = munmap(self.octets.as_ptr().cast(), usize::from(self.count) * self.stride);
        }
    }
}

fn entries_bytes(count: u16) -> usize {
    usize::from(count) * size_of::<BufRingEntry>()
}

/// Memory that starts on a page and takes room only where it is used.
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at a place of the kernel's choice touches nobody's memory.
    let start =
        unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)? };
    NonNull::new(start.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
}

/// What a completion says, copied out of the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) user_data: u64,
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    pub(super) fn new(entry: &cqueue::Entry) -> Self {
        Self { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() }
    }

    /// More completions of the same operation follow.
    pub(super) fn has_more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// The buffer that was filled.
    pub(super) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// Queues one operation.
///
/// # Safety
/// What the operation points to lives, and is not touched, until its last completion, or until it was submitted if it
/// never outlives that.
pub(super) unsafe fn push(ring: &mut IoUring, entry: &squeue::Entry) -> bool {
    // SAFETY: the caller's duty, as above.
    unsafe { ring.submission().push(entry).is_ok() }
}

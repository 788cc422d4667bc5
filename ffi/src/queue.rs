//! Way three: messages that the engine's threads verify for a program with an event loop of its own.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mailproof::network::{Completion, Completions};

use crate::engine::{Core, log_of, mailproof_engine};
use crate::envelope::{self, mailproof_envelope};
use crate::log::Log;
use crate::pointers;
use crate::status::{Failure, guard, guard_quietly, mailproof_status};
use crate::verdict::mailproof_verdict;

/// Way three: takes messages without waiting, has them verified by the threads of the engine, and tells by a descriptor when
/// verdicts are there. May be used from any number of threads at once. With a zone, or the caller's DNS, there are no
/// threads, and a message is verified when it is submitted.
#[derive(Debug)]
pub struct mailproof_queue {
    core: Arc<Core>,
    completions: Completions,
    /// Taken from the engine, and not handed out yet.
    waiting: Mutex<VecDeque<Completion>>,
    /// Submitted, and not handed out yet.
    open_count: AtomicUsize,
    capacity: usize,
}

/// A message that was submitted, with its verdict.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_completion {
    /// What the caller named the message.
    pub token: u64,
    /// Its verdict, which belongs to the caller: mailproof_verdict_free().
    pub verdict: *mut mailproof_verdict,
}

/// Messages of a queue that says nothing else.
const CAPACITY_DEFAULT: usize = 4096;

/// Way three: makes a queue for up to `capacity` messages that have not been drained, 0 for 4096. It belongs to the caller:
/// mailproof_queue_free(). From any thread.
///
/// MAILPROOF_STATUS_NO_DRIVER when the process has no descriptor left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_new(
    engine: *const mailproof_engine,
    capacity: usize,
    queue: *mut *mut mailproof_queue,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of(engine) }, || {
        // SAFETY: the caller's.
        let core = &unsafe { pointers::shared(engine, "the engine")? }.core;
        // SAFETY: the caller's.
        let queue = unsafe { pointers::out(queue)? };
        let completions = core.engine.completions();
        let completions = completions.map_err(|error| Failure::new(mailproof_status::NoDriver, error.to_string()))?;
        queue.write(pointers::handle(mailproof_queue {
            core: Arc::clone(core),
            completions,
            waiting: Mutex::default(),
            open_count: AtomicUsize::new(0),
            capacity: if capacity == 0 { CAPACITY_DEFAULT } else { capacity },
        }));
        Ok(())
    })
}

/// Has a whole message of `length` octets verified; `token` comes back with its verdict. The message is copied. Never waits
/// for the DNS. From any thread.
///
/// MAILPROOF_STATUS_FULL when so many messages are under way as the queue has room for: drain first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_submit(
    queue: *const mailproof_queue,
    message: *const c_void,
    length: usize,
    envelope: *const mailproof_envelope,
    token: u64,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of_queue(queue) }, || {
        // SAFETY: the caller's.
        let queue = unsafe { pointers::shared(queue, "the queue")? };
        // SAFETY: the caller's.
        let message = unsafe { pointers::octets(message, length)? };
        // SAFETY: the caller's.
        let (envelope, has_lf) = unsafe { envelope::read(envelope)? };
        if queue.open_count.fetch_add(1, Ordering::Relaxed) >= queue.capacity {
            queue.open_count.fetch_sub(1, Ordering::Relaxed);
            return Err(Failure::new(mailproof_status::Full, format!("{} messages are under way", queue.capacity)));
        }
        let octets = if has_lf { envelope::with_crlf(message) } else { message.to_vec() };
        queue.completions.submit(octets, envelope, token);
        Ok(())
    })
}

/// The descriptor that is readable while verdicts wait: for poll, epoll, or an event loop. It belongs to the queue: not to
/// be read from, written to or closed. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_descriptor(
    queue: *const mailproof_queue,
    descriptor: *mut i32,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of_queue(queue) }, || {
        // SAFETY: the caller's.
        let queue = unsafe { pointers::shared(queue, "the queue")? };
        // SAFETY: the caller's.
        unsafe { pointers::out(descriptor)? }.write(queue.completions.descriptor().as_raw_fd());
        Ok(())
    })
}

/// Takes verdicts that are there, up to `capacity` of them, in the order in which they were reached; `count` becomes how
/// many, 0 included. While more of them wait, the descriptor is readable again at once. Never waits. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_drain(
    queue: *const mailproof_queue,
    completions: *mut mailproof_completion,
    capacity: usize,
    count: *mut usize,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of_queue(queue) }, || {
        // SAFETY: the caller's.
        let queue = unsafe { pointers::shared(queue, "the queue")? };
        // SAFETY: the caller's.
        let count = unsafe { pointers::out(count)? };
        if completions.is_null() {
            return Err(Failure::null("the room for completions"));
        }
        let mut waiting = queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(queue.completions.drain());
        let taken = waiting.len().min(capacity);
        for (at, Completion { token, verdict }) in waiting.drain(..taken).enumerate() {
            queue.core.note_trouble(&verdict);
            let verdict = pointers::handle(mailproof_verdict::new(verdict));
            // SAFETY: below the caller's capacity.
            unsafe { completions.add(at).write(mailproof_completion { token, verdict }) };
        }
        queue.open_count.fetch_sub(taken, Ordering::Relaxed);
        if !waiting.is_empty() {
            // Fails only when the counter is full, and then the descriptor is readable.
            let _ = rustix::io::write(queue.completions.descriptor(), &1_u64.to_ne_bytes());
        }
        count.write(taken);
        Ok(())
    })
}

/// Frees a queue; NULL is fine. Messages that are under way are verified to their end, and their verdicts are dropped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_free(queue: *mut mailproof_queue) {
    // SAFETY: the caller's.
    guard_quietly(|| unsafe { pointers::free(queue) });
}

/// Whom to tell what happens with a queue.
///
/// # Safety
/// As [`pointers`] says.
unsafe fn log_of_queue(queue: *const mailproof_queue) -> Log {
    // SAFETY: the caller's.
    unsafe { queue.as_ref() }.map_or_else(Log::default, |queue| queue.core.log)
}

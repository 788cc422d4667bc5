//! Way three: messages that the engine's threads verify for a program with an event loop of its own.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mailproof::network::{Completion, Completions};

use crate::engine::{Core, Dns, log_of, mailproof_engine};
use crate::envelope::{self, mailproof_envelope};
use crate::log::{Level, Log};
use crate::pointers;
use crate::session::{inside, mailproof_session};
use crate::status::{Failure, Outcome, guard, guard_quietly, mailproof_status};
use crate::verdict::mailproof_verdict;

/// Way three: takes messages without waiting, has them verified by the threads of the engine, and tells by a descriptor when
/// verdicts are there. May be used from any number of threads at once. With a zone, or the caller's DNS, there are no
/// threads, and a message is verified when it is submitted. After a fork() it is of use to the process that made it alone:
/// MAILPROOF_STATUS_WRONG_STATE in a child, where it can only be freed.
#[derive(Debug)]
pub struct mailproof_queue {
    core: Arc<Core>,
    completions: Completions,
    /// Taken from the engine, and not handed out yet.
    waiting: Mutex<VecDeque<Completion>>,
    /// Submitted, and not handed out yet; those that were cancelled are still counted here.
    open_count: AtomicUsize,
    capacity: usize,
    /// Who made it.
    process: u32,
}

/// A message that was submitted, with its verdict.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_completion {
    /// What the caller named the message.
    pub token: u64,
    /// Its verdict, which belongs to the caller: mailproof_verdict_free(). NULL when a defect of the library was met in this
    /// message; the log callback is told, and other messages go on.
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
            process: std::process::id(),
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
        queue.stays_here()?;
        // SAFETY: the caller's.
        let (envelope, has_lf) = unsafe { envelope::read(envelope)? };
        queue.reserve()?;
        let octets = if has_lf { envelope::with_crlf(message) } else { message.to_vec() };
        queue.completions.submit(octets, envelope, token);
        Ok(())
    })
}

/// Ends the message of a session and has its verdict come through the queue, with `token`: what a server needs that takes
/// messages piece by piece and can not wait. Nothing is copied. The session, which must be of the engine of the queue, can
/// be restarted or freed afterwards; the message does not depend on it any more, and can not be cancelled. Never waits for
/// the DNS. From any thread.
///
/// MAILPROOF_STATUS_FULL as for mailproof_queue_submit(), and the session is as it was. _WRONG_STATE with
/// MAILPROOF_DNS_CALLER, where mailproof_session_poll() says when a message is done; _BAD_OPTION for a session of another
/// engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_finish(
    queue: *const mailproof_queue,
    session: *mut mailproof_session,
    token: u64,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        inside(session, |it| {
            // SAFETY: the caller's.
            let queue = pointers::shared(queue, "the queue")?;
            queue.stays_here()?;
            it.unfinished()?;
            if it.core().dns == Dns::Caller {
                return Err(Failure::new(mailproof_status::WrongState, "the caller answers: poll the session"));
            }
            if !std::ptr::eq(it.core(), &raw const *queue.core) {
                return Err(Failure::new(mailproof_status::BadOption, "the session is of another engine"));
            }
            queue.reserve()?;
            queue.completions.finish(it.hand_over(), token);
            Ok(())
        })
    }
}

/// Forgets the message that was submitted last under this token, and what it holds: its sender has gone. Its verdict does
/// not come unless it was reached already. Never waits. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_cancel(queue: *const mailproof_queue, token: u64) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of_queue(queue) }, || {
        // SAFETY: the caller's.
        unsafe { pointers::shared(queue, "the queue")? }.completions.cancel(token);
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
        queue.stays_here()?;
        let mut waiting = queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(queue.completions.drain());
        let taken = waiting.len().min(capacity);
        for (at, Completion { token, verdict }) in waiting.drain(..taken).enumerate() {
            let verdict = match verdict {
                Ok(verdict) => {
                    queue.core.note_trouble(&verdict);
                    pointers::handle(mailproof_verdict::new(verdict))
                }
                Err(defect) => {
                    queue.core.log.write(Level::Error, &defect.to_string());
                    std::ptr::null_mut()
                }
            };
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

/// Frees a queue; NULL is fine. Messages that are under way are verified to their end, and their verdicts are dropped. Where
/// it is the last that the threads of the engine are there for, it waits for them: see mailproof_engine_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_free(queue: *mut mailproof_queue) {
    // SAFETY: the caller's.
    guard_quietly(|| unsafe { pointers::free(queue) });
}

impl mailproof_queue {
    /// Takes a place for one more message.
    fn reserve(&self) -> Outcome {
        let open_count = self.open_count.fetch_add(1, Ordering::Relaxed);
        let cancelled_count = usize::try_from(self.completions.cancelled_count()).unwrap_or(usize::MAX);
        if open_count.saturating_sub(cancelled_count) < self.capacity {
            return Ok(());
        }
        self.open_count.fetch_sub(1, Ordering::Relaxed);
        Err(Failure::new(mailproof_status::Full, format!("{} messages are under way", self.capacity)))
    }

    /// The descriptor is shared with the parent: a child that read from it would take what the parent waits for.
    fn stays_here(&self) -> Outcome {
        if std::process::id() != self.process {
            return Err(Failure::new(
                mailproof_status::WrongState,
                "the process has forked: the queue is of the parent",
            ));
        }
        Ok(())
    }
}

/// Whom to tell what happens with a queue.
///
/// # Safety
/// As [`pointers`] says.
unsafe fn log_of_queue(queue: *const mailproof_queue) -> Log {
    // SAFETY: the caller's.
    unsafe { queue.as_ref() }.map_or_else(Log::default, |queue| queue.core.log)
}

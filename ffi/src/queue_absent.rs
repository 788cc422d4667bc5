//! The entries of way three in a build without threads: each says so.

use std::ffi::c_void;

use crate::engine::mailproof_engine;
use crate::envelope::mailproof_envelope;
use crate::log::Log;
use crate::session::mailproof_session;
use crate::status::{Failure, guard, mailproof_status};
use crate::verdict::mailproof_verdict;

/// There is none in this build.
#[derive(Debug)]
pub struct mailproof_queue {
    _none: (),
}

/// As in the build with threads; never written.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_completion {
    /// What the caller named the message.
    pub token: u64,
    /// Its verdict.
    pub verdict: *mut mailproof_verdict,
}

fn unsupported() -> mailproof_status {
    guard(Log::default(), || Err(Failure::unsupported("threads")))
}

/// MAILPROOF_STATUS_UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_new(
    _engine: *const mailproof_engine,
    _capacity: usize,
    _queue: *mut *mut mailproof_queue,
) -> mailproof_status {
    unsupported()
}

/// MAILPROOF_STATUS_UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_submit(
    _queue: *const mailproof_queue,
    _message: *const c_void,
    _length: usize,
    _envelope: *const mailproof_envelope,
    _token: u64,
) -> mailproof_status {
    unsupported()
}

/// MAILPROOF_STATUS_UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_descriptor(
    _queue: *const mailproof_queue,
    _descriptor: *mut i32,
) -> mailproof_status {
    unsupported()
}

/// MAILPROOF_STATUS_UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_drain(
    _queue: *const mailproof_queue,
    _completions: *mut mailproof_completion,
    _capacity: usize,
    _count: *mut usize,
) -> mailproof_status {
    unsupported()
}

/// MAILPROOF_STATUS_UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_finish(
    _queue: *const mailproof_queue,
    _session: *mut mailproof_session,
    _token: u64,
) -> mailproof_status {
    unsupported()
}

/// MAILPROOF_STATUS_UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_cancel(_queue: *const mailproof_queue, _token: u64) -> mailproof_status {
    unsupported()
}

/// Nothing to free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_queue_free(_queue: *mut mailproof_queue) {}

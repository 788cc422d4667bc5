//! Threads of a library are none of the program's.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

/// Starts a thread that no signal of the process comes to: those are for the program's own threads, which may block them
/// later, wait for them, or read them from a descriptor. What a thread does to itself still reaches its handler.
pub(super) fn without_signals<R>(start: impl FnOnce() -> R) -> R {
    let mut blocked = SigSet::all();
    for own in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGTRAP, Signal::SIGSYS] {
        blocked.remove(own);
    }
    // Neither fails for sets that the library made.
    let before = blocked.thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let started = start();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    started
}

//! What the library has to say beside the status of a call.

use std::ffi::{c_char, c_void};

use crate::status::c_text;

/// What a message of the log is: a defect of the library, which it survived.
pub const MAILPROOF_LOG_ERROR: u32 = 1;
/// What a message of the log is: something that an operator should look at, such as DNS servers that never answer.
pub const MAILPROOF_LOG_WARNING: u32 = 2;
/// What a message of the log is: how the engine works, once when it starts.
pub const MAILPROOF_LOG_INFO: u32 = 3;

/// Takes one message of the log: one line of UTF-8 without a line end, good until the callback returns. It is called on
/// the thread that has called the library, before that call returns, so from several threads at once where several call.
/// It must return by itself: no longjmp, no C++ exception. It must not call the library.
pub type mailproof_log_callback = Option<unsafe extern "C" fn(context: *mut c_void, level: u32, text: *const c_char)>;

/// Who is told; nobody by default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    callback: mailproof_log_callback,
    context: *mut c_void,
}

#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Level {
    Error = MAILPROOF_LOG_ERROR,
    Warning = MAILPROOF_LOG_WARNING,
    Info = MAILPROOF_LOG_INFO,
}

// SAFETY: the two are handed to the callback and never looked at; that the callback may be called from every thread that
// uses the engine is the duty of whoever set it.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

impl Log {
    pub(crate) fn new(callback: mailproof_log_callback, context: *mut c_void) -> Self {
        Self { callback, context }
    }

    pub(crate) fn write(self, level: Level, text: &str) {
        if let Some(callback) = self.callback {
            let text = c_text(text);
            // SAFETY: whoever set the callback promised that it can be called with this context, from any thread.
            unsafe { callback(self.context, level as u32, text.as_ptr()) };
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { callback: None, context: std::ptr::null_mut() }
    }
}

//! Status codes, the words behind them, and what keeps a panic on this side.

use std::any::Any;
use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::log::{Level, Log};

/// How a call ended. A number is never given another meaning, and later versions may add numbers. Out pointers are
/// written only where it is MAILPROOF_STATUS_OK.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum mailproof_status {
    /// Done.
    Ok = 0,
    /// A pointer that must not be NULL is NULL.
    NullPointer = 1,
    /// A defect of the library: it stopped on its own side. mailproof_last_error() says which; the log callback is told too,
    /// where the call has an engine, a session or a queue. What the call was working on can only be freed, a session also
    /// restarted.
    Defect = 2,
    /// A structure of a size that this version does not know: `size` was not set, or something is set that only a later
    /// version has.
    BadSize = 3,
    /// A text is no UTF-8, or a length is beyond all memory.
    BadText = 4,
    /// The address of the client can not be read.
    BadAddress = 5,
    /// A choice, a flag or a combination of options that there is not.
    BadOption = 6,
    /// Not at this stage: see the order of calls of a session.
    WrongState = 7,
    /// No DNS server is configured, or the system's configuration can not be read.
    NoResolver = 8,
    /// The address of a DNS server can not be read.
    BadServer = 9,
    /// The threads of the engine can not be started, or a descriptor can not be had.
    NoDriver = 10,
    /// A zone can not be read.
    BadZone = 11,
    /// A file can not be read or written.
    File = 12,
    /// No private key that can be used.
    BadKey = 13,
    /// No domain name.
    BadName = 14,
    /// The message can not be signed.
    NotSigned = 15,
    /// This build of the library leaves it out; see mailproof_features().
    Unsupported = 16,
    /// There is nothing of this index.
    OutOfRange = 17,
    /// There is nothing to hand out at the moment.
    Empty = 18,
    /// The question belongs to no message that is under way: the answer is late.
    UnknownQuestion = 19,
    /// The answer can not be read, or is one to another question. The question is still open.
    BadAnswer = 20,
    /// The answer was cut off; ask again over TCP. The question is still open.
    Truncated = 21,
    /// What was to be loaded is no dump of a cache.
    BadDump = 22,
    /// The queue has no room for another message: drain it first.
    Full = 23,
}

/// Why a call did not do what it is for.
#[derive(Debug)]
pub(crate) struct Failure {
    status: mailproof_status,
    text: Cow<'static, str>,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: mailproof_status, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into() }
    }

    pub(crate) fn null(what: &'static str) -> Self {
        Self::new(mailproof_status::NullPointer, format!("{what} is NULL"))
    }

    #[cfg(not(all(feature = "explain", feature = "network", feature = "zone-files")))]
    pub(crate) fn unsupported(what: &'static str) -> Self {
        Self::new(mailproof_status::Unsupported, format!("this build of libmailproof is without {what}"))
    }

    pub(crate) fn into_text(self) -> String {
        self.text.into_owned()
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> mailproof_status {
        self.status
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs the body of an entry: what it fails with becomes a status, and so does a panic.
pub(crate) fn guard(log: Log, work: impl FnOnce() -> Outcome) -> mailproof_status {
    let failure = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return mailproof_status::Ok,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            let text = format!("a defect of libmailproof: {}", words(&*payload));
            // Dropping it may run code of anyone's, which may panic again.
            std::mem::forget(payload);
            log.write(Level::Error, &text);
            Failure::new(mailproof_status::Defect, text)
        }
    };
    let text = c_text(&failure.text);
    // A thread that is ending has no place for it any more, and nobody there to read it.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = text);
    failure.status
}

/// As [`guard`], for entries without a status: nothing is said.
pub(crate) fn guard_quietly(work: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(work)) {
        std::mem::forget(payload);
    }
}

fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("panic")
}

/// The text for C: a NUL inside, where C would stop reading, becomes U+FFFD.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default())
}

/// What a status means, in English. Never NULL; a constant of the library. May be called from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn mailproof_status_text(status: u32) -> *const c_char {
    let text: &'static CStr = match status {
        0 => c"done",
        1 => c"a pointer is NULL",
        2 => c"a defect of the library",
        3 => c"a structure of unknown size",
        4 => c"a text that is no UTF-8",
        5 => c"not an address",
        6 => c"no such option",
        7 => c"not at this stage",
        8 => c"no DNS server",
        9 => c"not the address of a DNS server",
        10 => c"threads or descriptors can not be had",
        11 => c"the zone can not be read",
        12 => c"the file can not be read or written",
        13 => c"not a usable private key",
        14 => c"not a domain name",
        15 => c"the message can not be signed",
        16 => c"not in this build",
        17 => c"no such index",
        18 => c"nothing there at the moment",
        19 => c"not a question of this message",
        20 => c"the answer can not be read",
        21 => c"the answer was cut off",
        22 => c"no dump of a cache",
        23 => c"the queue is full",
        _ => c"an unknown status",
    };
    text.as_ptr()
}

/// What was wrong with the last call of this thread that did not end with MAILPROOF_STATUS_OK, in English, with the file
/// and line or the server at fault where there is one. Never NULL; empty before the first such call. It may hold text
/// that came from outside. The text belongs to the library and is good until the next call of the same thread.
#[unsafe(no_mangle)]
pub extern "C" fn mailproof_last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status_and_is_told() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let status = guard(Log::default(), || panic!("of {}", "tests"));
        std::panic::set_hook(hook);
        assert_eq!(status, mailproof_status::Defect);
        // SAFETY: the pointer is good until the next call of this thread.
        let told = unsafe { CStr::from_ptr(mailproof_last_error()) };
        assert_eq!(told, c"a defect of libmailproof: of tests");
    }

    #[test]
    fn texts_end_where_they_end() {
        assert_eq!(c_text("a\0b").to_str(), Ok("a\u{fffd}b"));
        assert_eq!(c_text(""), c"".to_owned());
    }

    #[test]
    fn every_status_has_its_words() {
        let words = |status| {
            // SAFETY: the words are constants.
            unsafe { CStr::from_ptr(mailproof_status_text(status)) }.to_str().unwrap()
        };
        let mut all: Vec<&str> = (0..=mailproof_status::Full as u32 + 1).map(words).collect();
        assert_eq!(all.pop(), Some("an unknown status"));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}

//! Memory for verdicts, used again.
//!
//! A verdict is 1.8 KiB: for as much glibc's allocator merges its free lists at each call, which costs more than the rest
//! of what Python adds to a verification. And what a verdict holds was allocated by the thread that reached it; let go of
//! by another, it contends for that thread's memory. So verdicts that Python lets go of wait, whole, for the next ones.

use std::ops::Deref;
use std::sync::Mutex;

/// Verdicts that wait; as many as threads make while one hands them out.
const SPARE_MAX: usize = 64;

/// Never waited for: the lock may be that of a thread that a child process does not have.
#[expect(clippy::vec_box, reason = "the boxes are what is used again")]
static SPARE: Mutex<Vec<Box<mailproof::Verdict>>> = Mutex::new(Vec::new());

/// A verdict for keeps.
#[derive(Debug, PartialEq)]
pub(crate) struct Kept(Option<Box<mailproof::Verdict>>);

impl Kept {
    pub(crate) fn new(verdict: mailproof::Verdict) -> Self {
        let spare = SPARE.try_lock().ok().and_then(|mut spare| spare.pop());
        Self(Some(match spare {
            Some(mut place) => {
                *place = verdict;
                place
            }
            None => Box::new(verdict),
        }))
    }
}

impl Deref for Kept {
    type Target = mailproof::Verdict;

    fn deref(&self) -> &mailproof::Verdict {
        // Taken out by `drop` alone.
        self.0.as_deref().expect("a verdict that is kept")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(place) = self.0.take() else { return };
        if let Ok(mut spare) = SPARE.try_lock()
            && spare.len() < SPARE_MAX
        {
            spare.push(place);
        }
    }
}

//! Memory for verdicts, used again.
//!
//! A verdict is 1.8 KiB: for as much glibc's allocator merges its free lists at each call, which costs more than the rest
//! of what Python adds to a verification. And what a verdict holds was allocated by the thread that reached it; let go of
//! by another, it contends for that thread's memory and takes it into the cache of another processor. So verdicts that
//! Python lets go of go home, whole, and wait there for the next ones of the same thread.

use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// Places where verdicts wait. Threads share one when there are more of them, which costs time and nothing else.
const HOME_COUNT: usize = u16::BITS as usize;
/// Verdicts that wait at one; as many as are under way from a thread to whoever asked for them.
const SPARE_MAX: usize = 32;

/// On lines of the cache, and of the one fetched with it, that no other has.
#[repr(align(128))]
#[expect(clippy::vec_box, reason = "the boxes are what is used again")]
struct Home(Mutex<Vec<Box<mailproof::Verdict>>>);

/// Never waited for: a lock may be that of a thread that a child process does not have.
static HOMES: [Home; HOME_COUNT] = [const { Home(Mutex::new(Vec::new())) }; HOME_COUNT];

/// Which homes have a thread, a bit for each.
static TAKEN: AtomicU16 = AtomicU16::new(0);

/// The place of a thread, free again when it ends.
struct Resident(usize);

impl Resident {
    /// The first that is free; the last where none is, which nobody has alone then.
    fn new() -> Self {
        let mut taken = TAKEN.load(Ordering::Relaxed);
        loop {
            let home = (taken.trailing_ones() as usize).min(HOME_COUNT - 1);
            match TAKEN.compare_exchange_weak(taken, taken | 1 << home, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Self(home),
                Err(now) => taken = now,
            }
        }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        TAKEN.fetch_and(!(1 << self.0), Ordering::Relaxed);
    }
}

thread_local! {
    static HOME: Resident = Resident::new();
}

/// A verdict for keeps.
#[derive(Debug)]
pub(crate) struct Kept {
    place: Option<Box<mailproof::Verdict>>,
    home: usize,
}

impl Kept {
    pub(crate) fn new(verdict: mailproof::Verdict) -> Self {
        // A thread that ends already has none.
        let home = HOME.try_with(|home| home.0).unwrap_or(HOME_COUNT - 1);
        let spare = HOMES[home].0.try_lock().ok().and_then(|mut spare| spare.pop());
        let place = match spare {
            Some(mut place) => {
                *place = verdict;
                place
            }
            None => Box::new(verdict),
        };
        Self { place: Some(place), home }
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Deref for Kept {
    type Target = mailproof::Verdict;

    fn deref(&self) -> &mailproof::Verdict {
        // Taken out by `drop` alone.
        self.place.as_deref().expect("a verdict that is kept")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        if let Ok(mut spare) = HOMES[self.home].0.try_lock()
            && spare.len() < SPARE_MAX
        {
            spare.push(place);
        }
    }
}

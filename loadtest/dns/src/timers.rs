//! What is to be done later, soonest first: one heap, whatever the number of delayed replies.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Instant;

/// Jobs by time; those of the same time in the order they were added.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    added: u64,
}

#[derive(Debug)]
struct Entry<T> {
    due: Instant,
    number: u64,
    job: T,
}

/// Jobs that wait at a time.
pub(crate) const JOBS_MAX: usize = 1 << 18;

impl<T> Timers<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), added: 0 }
    }

    /// False when there are [`JOBS_MAX`] already; the job is gone then.
    pub(crate) fn add(&mut self, due: Instant, job: T) -> bool {
        if self.heap.len() >= JOBS_MAX {
            return false;
        }
        self.added += 1;
        self.heap.push(Reverse(Entry { due, number: self.added, job }));
        true
    }

    /// The next job whose time has come.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<T> {
        self.next_due().filter(|due| *due <= now)?;
        self.heap.pop().map(|Reverse(entry)| entry.job)
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.due)
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn jobs_come_in_the_order_of_their_times_and_then_of_their_adding() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut timers = Timers::new();
        for (due, job) in [(5, 'd'), (1, 'a'), (3, 'b'), (3, 'c')] {
            assert!(timers.add(at(due), job));
        }
        assert_eq!((timers.next_due(), timers.take_due(at(0))), (Some(at(1)), None));
        let due: Vec<char> = std::iter::from_fn(|| timers.take_due(at(3))).collect();
        assert_eq!(due, ['a', 'b', 'c']);
        assert_eq!(timers.next_due(), Some(at(5)));
    }

    #[test]
    fn the_limit_of_jobs_holds_on_both_sides() {
        let (mut timers, now) = (Timers::new(), Instant::now());
        assert!((0..JOBS_MAX).all(|_| timers.add(now, ())));
        assert!(!timers.add(now, ()));
    }
}

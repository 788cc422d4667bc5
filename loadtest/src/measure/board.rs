//! Where the threads of a run leave what they have counted, and what is made of it at every tick.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::process::Usage;
use super::tally::{Tally, histogram};

/// Shared by the threads of a run.
///
/// A thread that drives hands a tally over and takes an empty one for it, which costs it a few pointers; adding them up, four
/// histograms of 20,000 places each, is the work of the thread that looks on.
#[derive(Debug, Default)]
pub struct Board {
    handed: Mutex<Handed>,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Handed {
    tallies: Vec<Tally>,
    empty: Vec<Tally>,
    in_flight: Vec<u64>,
}

#[derive(Debug)]
struct Entries {
    total: Tally,
    /// Of the current tick.
    recent: Histogram<u64>,
    /// Counts at the last tick.
    before: [u64; 5],
}

/// One tick of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Seconds from the start to its end.
    pub at: f64,
    /// Messages offered, answered, failed a second.
    pub offered: f64,
    /// Answered a second.
    pub answered: f64,
    /// Failed a second.
    pub failed: f64,
    /// Wrong a second.
    pub wrong: f64,
    /// From the planned moment to the answer, milliseconds: the median.
    pub p50_ms: f64,
    /// The same: 99 in a hundred are below.
    pub p99_ms: f64,
    /// The greatest.
    pub max_ms: f64,
    /// Messages under way or waiting at its end.
    pub in_flight: u64,
    /// CPU of the target, in processors.
    pub target_cpu: f64,
    /// CPU of the generator, in processors.
    pub generator_cpu: f64,
    /// Memory of the target.
    pub target_rss_bytes: u64,
}

impl Default for Entries {
    fn default() -> Self {
        Self { total: Tally::default(), recent: histogram(), before: [0; 5] }
    }
}

impl Board {
    /// Takes in what a thread has counted since the last time, and leaves it an empty tally.
    pub(crate) fn leave(&self, worker: usize, delta: &mut Tally, in_flight: u64) {
        let mut handed = lock(&self.handed);
        if handed.in_flight.len() <= worker {
            handed.in_flight.resize(worker + 1, 0);
        }
        handed.in_flight[worker] = in_flight;
        let empty = handed.empty.pop().unwrap_or_default();
        handed.tallies.push(mem::replace(delta, empty));
    }

    /// Adds up what was handed over.
    pub(crate) fn gather(&self) {
        let mut entries = lock(&self.entries);
        let mut tallies = mem::take(&mut lock(&self.handed).tallies);
        for tally in &mut tallies {
            if !tally.whole.is_empty() {
                entries.recent.add(&tally.whole).expect("histograms of the same bounds");
            }
            entries.total.absorb(tally);
        }
        lock(&self.handed).empty.append(&mut tallies);
    }

    /// What came since the last tick.
    pub(crate) fn tick(
        &self,
        at: Duration,
        since: Duration,
        target: (Usage, Usage),
        generator: (Usage, Usage),
    ) -> Point {
        self.gather();
        let in_flight = lock(&self.handed).in_flight.iter().sum();
        let mut entries = lock(&self.entries);
        let total = &entries.total;
        let now = [total.offered, total.answered(), total.failed, total.wrong, total.started];
        let seconds = since.as_secs_f64().max(1e-9);
        let rate = |at: usize| (now[at] - entries.before[at]) as f64 / seconds;
        let (offered, answered, failed, wrong) = (rate(0), rate(1), rate(2), rate(3));
        let quantile = |part| entries.recent.value_at_quantile(part) as f64 / 1e3;
        let cpu = |(before, after): (Usage, Usage)| after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds;
        let point = Point {
            at: at.as_secs_f64(),
            offered,
            answered,
            failed,
            wrong,
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            max_ms: quantile(1.0),
            in_flight,
            target_cpu: cpu(target),
            generator_cpu: cpu(generator),
            target_rss_bytes: target.1.rss_bytes,
        };
        entries.before = now;
        entries.recent.reset();
        point
    }

    /// Everything up to now.
    #[must_use]
    pub fn total(&self) -> Tally {
        self.gather();
        lock(&self.entries).total.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counts are whole between any two statements that could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_threads_leave_is_added_up_once() {
        let board = Board::default();
        let mut tallies = [Tally::default(), Tally::default()];
        for round in 1..=3 {
            for (worker, tally) in tallies.iter_mut().enumerate() {
                tally.offered += 2;
                tally.trouble("silent".to_owned());
                super::super::record(&mut tally.whole, Duration::from_millis(round));
                board.leave(worker, tally, round);
                assert_eq!((tally.offered, tally.failed, tally.whole.len()), (0, 0, 0));
            }
        }
        let usage = (Usage::default(), Usage::default());
        let second = Duration::from_secs(1);
        let point = board.tick(second, second, usage, usage);
        assert_eq!((point.offered, point.failed, point.in_flight), (12.0, 6.0, 6));
        let total = board.total();
        assert_eq!((total.offered, total.failed, total.whole.len()), (12, 6, 6));
        assert_eq!(total.troubles.get("silent"), Some(&6));
        assert_eq!(board.tick(second * 2, second, usage, usage).offered, 0.0);
    }
}

//! Where the threads of a run leave what they have counted, and what is made of it at every tick.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::process::Usage;
use super::tally::{Tally, histogram};

/// Shared by the threads of a run.
#[derive(Debug, Default)]
pub struct Board(Mutex<Entries>);

#[derive(Debug)]
struct Entries {
    total: Tally,
    /// Of the current tick.
    recent: Histogram<u64>,
    /// Counts at the last tick.
    before: [u64; 5],
    in_flight: Vec<u64>,
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
        Self { total: Tally::default(), recent: histogram(), before: [0; 5], in_flight: Vec::new() }
    }
}

impl Board {
    /// Takes in what a thread has counted since the last time.
    pub(crate) fn leave(&self, worker: usize, delta: &mut Tally, in_flight: u64) {
        let mut entries = self.entries();
        if !delta.whole.is_empty() {
            entries.recent.add(&delta.whole).expect("histograms of the same bounds");
        }
        entries.total.absorb(delta);
        if entries.in_flight.len() <= worker {
            entries.in_flight.resize(worker + 1, 0);
        }
        entries.in_flight[worker] = in_flight;
    }

    /// What came since the last tick.
    pub(crate) fn tick(
        &self,
        at: Duration,
        since: Duration,
        target: (Usage, Usage),
        generator: (Usage, Usage),
    ) -> Point {
        let mut entries = self.entries();
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
            in_flight: entries.in_flight.iter().sum(),
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
        self.entries().total.clone()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Counts are whole between any two statements that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

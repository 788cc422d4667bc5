//! Work in order on several threads: a reader ahead of the workers by a bounded amount, outcomes as they were read.
//!
//! Jobs travel in parcels, so that hand-over costs nothing beside the work; each parcel in flight holds a token, which
//! bounds both what is read ahead and what waits for a slow message in front of it.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::failure::Failure;
use crate::measure::CpuMeter;

/// Jobs of one parcel.
const PARCEL_JOBS: usize = 8;
/// Parcels in flight for each thread.
const PARCELS_PER_THREAD: usize = 4;

/// A numbered parcel of jobs or outcomes.
type Parcel<T> = (u64, Vec<T>);

/// What one worker thread does; it owns what it uses from one job to the next.
pub(crate) trait Worker<Job>: Send {
    /// What comes out of a job.
    type Outcome: Send;

    /// Does one job.
    fn work(&mut self, job: Job) -> Self::Outcome;
}

/// Gives every job of `jobs` to one of the workers and every outcome, in the order of the jobs, to `sink`. Ends early
/// when `sink` fails.
///
/// # Errors
/// What `sink` said, or that no thread could be started.
pub(crate) fn run<Job: Send, W: Worker<Job>>(
    jobs: impl Iterator<Item = Job> + Send,
    workers: Vec<W>,
    meter: &CpuMeter,
    sink: impl FnMut(W::Outcome) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let in_flight = workers.len() * PARCELS_PER_THREAD;
    let (token_back, tokens) = sync_channel::<()>(in_flight);
    for _ in 0..in_flight {
        // The channel has room for every token.
        let _ = token_back.send(());
    }
    let (to_workers, parcels) = sync_channel::<Parcel<Job>>(in_flight);
    let (to_sink, outcomes) = sync_channel::<Parcel<W::Outcome>>(in_flight);
    let parcels = Mutex::new(parcels);
    thread::scope(|scope| {
        for worker in workers {
            let (parcels, to_sink) = (&parcels, to_sink.clone());
            let share = move || meter.measure(|| serve(worker, parcels, &to_sink));
            thread::Builder::new().name("judge".to_owned()).spawn_scoped(scope, share).map_err(Failure::System)?;
        }
        drop(to_sink);
        let share = move || meter.measure(|| feed(jobs, tokens, to_workers));
        thread::Builder::new().name("read".to_owned()).spawn_scoped(scope, share).map_err(Failure::System)?;
        meter.measure(|| collect(outcomes, token_back, sink))
    })
}

/// One thread for each processor.
pub(crate) fn threads_default() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Reads jobs into parcels, as long as there are tokens and somebody who works on them.
#[expect(clippy::needless_pass_by_value, reason = "the other ends notice when this one is gone")]
fn feed<Job>(mut jobs: impl Iterator<Item = Job>, tokens: Receiver<()>, to_workers: SyncSender<Parcel<Job>>) {
    for number in 0.. {
        if tokens.recv().is_err() {
            return;
        }
        let parcel: Vec<Job> = jobs.by_ref().take(PARCEL_JOBS).collect();
        let is_last = parcel.len() < PARCEL_JOBS;
        if to_workers.send((number, parcel)).is_err() || is_last {
            return;
        }
    }
}

fn serve<Job, W: Worker<Job>>(
    mut worker: W,
    parcels: &Mutex<Receiver<Parcel<Job>>>,
    to_sink: &SyncSender<Parcel<W::Outcome>>,
) {
    loop {
        // A worker that panicked while it waited for a parcel took none, so the queue is as good as before.
        let parcel = parcels.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
        let Ok((number, jobs)) = parcel else { return };
        let outcomes = jobs.into_iter().map(|job| worker.work(job)).collect();
        if to_sink.send((number, outcomes)).is_err() {
            return;
        }
    }
}

/// Puts parcels back into order.
#[expect(clippy::needless_pass_by_value, reason = "the other ends notice when this one is gone")]
fn collect<Outcome>(
    outcomes: Receiver<Parcel<Outcome>>,
    token_back: SyncSender<()>,
    mut sink: impl FnMut(Outcome) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut early: BTreeMap<u64, Vec<Outcome>> = BTreeMap::new();
    let mut next = 0;
    for (number, parcel) in outcomes.iter() {
        early.insert(number, parcel);
        while let Some(parcel) = early.remove(&next) {
            next += 1;
            // The reader may have ended already.
            let _ = token_back.send(());
            parcel.into_iter().try_for_each(&mut sink)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Uneven<'a> {
        done: &'a AtomicU64,
    }

    impl Worker<u64> for Uneven<'_> {
        type Outcome = u64;

        fn work(&mut self, job: u64) -> u64 {
            // Some jobs take far longer than others.
            let rounds = if job.is_multiple_of(97) { 100_000 } else { 10 };
            let sum = (0..rounds).fold(job, |sum, round| std::hint::black_box(sum ^ round));
            self.done.fetch_add(1, Ordering::Relaxed);
            sum.wrapping_mul(0) + job
        }
    }

    #[test]
    fn outcomes_come_in_the_order_of_the_jobs() {
        for (threads, count) in [(1, 0), (1, 1), (3, 8), (3, 1000), (8, 1001)] {
            let done = AtomicU64::new(0);
            let workers = (0..threads).map(|_| Uneven { done: &done }).collect();
            let mut seen = Vec::new();
            let sink = |outcome| {
                seen.push(outcome);
                Ok(())
            };
            run(0..count, workers, &CpuMeter::start(), sink).unwrap();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_sink_that_fails_ends_an_endless_run() {
        let done = AtomicU64::new(0);
        let workers = (0..3).map(|_| Uneven { done: &done }).collect();
        let sink = |outcome| if outcome < 100 { Ok(()) } else { Err(Failure::Usage("enough".to_owned())) };
        assert!(run(0.., workers, &CpuMeter::start(), sink).is_err());
        let in_flight = 3 * PARCELS_PER_THREAD * PARCEL_JOBS;
        assert!(done.into_inner() <= (100 + 2 * in_flight) as u64);
    }
}

//! Work in order on several threads: a reader ahead of the workers by a bounded amount, outcomes as they were read.
//!
//! Each worker thread does everything that is to be done with a job, and puts it aside while it waits for answers; so a
//! thread has many messages under way while the DNS is slow, and hands nothing over while it is not. Jobs travel in
//! parcels, so that taking them costs nothing beside the work.
//!
//! The reader alone keeps the bounds: so many jobs that nobody has begun, so many that are not written, so many octets.

use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use crate::failure::Failure;

/// Jobs of one parcel.
const PARCEL_JOBS: usize = 8;
/// Octets from which on a parcel is complete.
const PARCEL_OCTETS: usize = 512 * 1024;
/// Parcels that wait to be begun, for each thread: few, so that messages are still in the processor's cache.
const PARCELS_AHEAD: usize = 4;
/// Jobs that were read and are not written: what may wait for answers, or for a slow message in front.
const JOBS_MAX: usize = 2048;
/// Octets that these hold.
const OCTETS_MAX: usize = 64 * 1024 * 1024;

/// What one worker thread does; it owns what it uses from one job to the next.
pub(crate) trait Worker<Job> {
    /// What comes out of a job.
    type Outcome: Send + 'static;

    /// Does one job, as far as that goes without waiting.
    fn work(&mut self, job: Job) -> Work<Self::Outcome>;
}

/// How far a job has come.
pub(crate) enum Work<Outcome> {
    Done(Outcome),
    /// It has to wait, and holds about so many octets meanwhile.
    Waits {
        octets: usize,
        rest: Pin<Box<dyn Future<Output = Outcome>>>,
    },
}

impl<Outcome: 'static> Work<Outcome> {
    /// The same work with something done to its outcome.
    pub(crate) fn map<T: 'static>(self, then: impl FnOnce(Outcome) -> T + 'static) -> Work<T> {
        match self {
            Self::Done(outcome) => Work::Done(then(outcome)),
            Self::Waits { octets, rest } => Work::Waits { octets, rest: Box::pin(async move { then(rest.await) }) },
        }
    }
}

/// What is known of a job that nobody has begun.
pub(crate) trait Job: Send {
    /// Octets it holds.
    fn octets(&self) -> usize;
}

/// Gives every job of `jobs` to a worker of one of `thread_count` threads, each made by `worker`, and every outcome, in
/// the order of the jobs, to `sink`. The calling thread is one of them. Ends early when `sink` fails.
///
/// # Errors
/// What `sink` said, or that no thread could be started.
pub(crate) fn run<J: Job, W: Worker<J>>(
    jobs: impl Iterator<Item = J> + Send,
    thread_count: usize,
    worker: impl Fn() -> W + Sync,
    sink: impl FnMut(W::Outcome) -> Result<(), Failure> + Send,
) -> Result<(), Failure> {
    let bells: Vec<Arc<Bell>> = (0..thread_count.max(1)).map(|_| Arc::default()).collect();
    let desk = Desk { state: Mutex::new(State::default()), has_room: Condvar::new(), bells };
    let out = Mutex::new(Out { sink, early: VecDeque::new(), next: 0 });
    thread::scope(|scope| {
        // Whoever leaves, by whatever way, ends the run for all: nobody waits for a thread that is gone.
        let serve = |number| desk.leave_after(|| Thread::new(&desk, &out, number, worker()).run());
        let start = || -> Result<(), Failure> {
            let feed = || desk.leave_after(|| feed(jobs, &desk));
            thread::Builder::new().name("read".to_owned()).spawn_scoped(scope, feed).map_err(Failure::System)?;
            for number in 1..desk.bells.len() {
                let share = move || serve(number);
                thread::Builder::new().name("judge".to_owned()).spawn_scoped(scope, share).map_err(Failure::System)?;
            }
            Ok(())
        };
        match start() {
            Ok(()) => serve(0),
            Err(failure) => desk.fail(failure),
        }
    });
    let mut state = desk.lock();
    if let Some(panic) = state.panic.take() {
        resume_unwind(panic);
    }
    state.failure.take().map_or(Ok(()), Err)
}

/// One thread for each processor.
pub(crate) fn threads_default() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Where the reader lays parcels down and the workers take them.
struct Desk<J> {
    state: Mutex<State<J>>,
    has_room: Condvar,
    /// One for each worker thread.
    bells: Vec<Arc<Bell>>,
}

struct State<J> {
    parcels: VecDeque<Parcel<J>>,
    /// Numbers of threads that have nothing to do.
    idle: Vec<usize>,
    read_count: u64,
    written_count: u64,
    octets: usize,
    reader_is_done: bool,
    /// The reader waits to be called.
    reader_waits: bool,
    /// The run is over before its end.
    is_over: bool,
    failure: Option<Failure>,
    panic: Option<Box<dyn Any + Send>>,
}

struct Parcel<J> {
    first: u64,
    jobs: Vec<J>,
    octets: usize,
}

impl<J> Default for State<J> {
    fn default() -> Self {
        Self {
            parcels: VecDeque::new(),
            idle: Vec::new(),
            read_count: 0,
            written_count: 0,
            octets: 0,
            reader_is_done: false,
            reader_waits: false,
            is_over: false,
            failure: None,
            panic: None,
        }
    }
}

impl<J> State<J> {
    /// What is under way leaves room for more.
    fn has_room(&self) -> bool {
        let under_way = self.read_count - self.written_count;
        // One job at least is always under way.
        under_way <= (JOBS_MAX - PARCEL_JOBS) as u64 && (self.octets < OCTETS_MAX || under_way == 0)
    }
}

/// What a worker thread finds on the desk.
enum Found<J> {
    Parcel(Parcel<J>),
    /// Nothing yet; the bell rings when there is.
    Nothing,
    /// Nothing any more.
    End,
}

impl<J> Desk<J> {
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // The counts are whole whatever happened to a thread that held them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room; false when there is no more use in reading.
    fn wait_for_room(&self) -> bool {
        let mut state = self.lock();
        let parcels_max = self.bells.len() * PARCELS_AHEAD;
        let goes_on = |state: &State<J>| state.is_over || (state.has_room() && state.parcels.len() < parcels_max);
        while !goes_on(&state) {
            state.reader_waits = true;
            state = self.has_room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.is_over
    }

    /// Lets the reader go on, once there is room for more than a parcel or two.
    fn call_reader(&self, mut state: MutexGuard<'_, State<J>>) {
        if state.reader_waits && state.has_room() && state.parcels.len() <= self.bells.len() * PARCELS_AHEAD / 2 {
            state.reader_waits = false;
            drop(state);
            self.has_room.notify_one();
        }
    }

    fn lay_down(&self, jobs: Vec<J>, octets: usize) {
        let mut state = self.lock();
        let first = state.read_count;
        state.read_count += jobs.len() as u64;
        state.octets += octets;
        state.parcels.push_back(Parcel { first, jobs, octets });
        let idle = state.idle.pop();
        drop(state);
        self.ring(idle);
    }

    fn take(&self, thread: usize) -> Found<J> {
        let mut state = self.lock();
        state.idle.retain(|idle| *idle != thread);
        if state.is_over {
            return Found::End;
        }
        let Some(parcel) = state.parcels.pop_front() else {
            if state.reader_is_done {
                return Found::End;
            }
            state.idle.push(thread);
            return Found::Nothing;
        };
        self.call_reader(state);
        Found::Parcel(parcel)
    }

    fn note_written(&self, count: u64) {
        let mut state = self.lock();
        state.written_count += count;
        self.call_reader(state);
    }

    /// These octets are held no more, and those are.
    fn exchange_octets(&self, less: usize, more: usize) {
        let mut state = self.lock();
        state.octets = (state.octets + more).saturating_sub(less);
        self.call_reader(state);
    }

    fn finish_reading(&self) {
        self.lock().reader_is_done = true;
        self.ring_all();
    }

    fn is_over(&self) -> bool {
        self.lock().is_over
    }

    fn fail(&self, failure: Failure) {
        let mut state = self.lock();
        state.is_over = true;
        state.failure.get_or_insert(failure);
        drop(state);
        self.ring_all();
    }

    /// Runs a thread's share; a panic ends the run.
    fn leave_after(&self, share: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(share)) {
            let mut state = self.lock();
            state.is_over = true;
            state.panic = Some(panic);
            drop(state);
            self.ring_all();
        }
    }

    fn ring(&self, thread: Option<usize>) {
        if let Some(bell) = thread.and_then(|thread| self.bells.get(thread)) {
            bell.ring(None);
        }
    }

    fn ring_all(&self) {
        self.has_room.notify_all();
        self.bells.iter().for_each(|bell| bell.ring(None));
    }
}

/// Reads jobs into parcels while there is room.
fn feed<J: Job>(mut jobs: impl Iterator<Item = J>, desk: &Desk<J>) {
    while desk.wait_for_room() {
        let (mut parcel, mut octets) = (Vec::with_capacity(PARCEL_JOBS), 0);
        while parcel.len() < PARCEL_JOBS && octets < PARCEL_OCTETS {
            let Some(job) = jobs.next() else { break };
            octets += job.octets();
            parcel.push(job);
        }
        if parcel.is_empty() {
            return desk.finish_reading();
        }
        desk.lay_down(parcel, octets);
    }
}

/// Calls one thread to what it waits for.
#[derive(Default)]
struct Bell {
    state: Mutex<Rung>,
    rang: Condvar,
}

#[derive(Default)]
struct Rung {
    is_rung: bool,
    /// Jobs that can go on.
    ready: Vec<usize>,
}

impl Bell {
    fn ring(&self, place: Option<usize>) {
        let mut state = self.lock();
        state.is_rung = true;
        state.ready.extend(place);
        drop(state);
        self.rang.notify_one();
    }

    /// What can go on; waits for something to happen if asked to.
    fn listen(&self, waits: bool, ready: &mut Vec<usize>) {
        let mut state = self.lock();
        while waits && !state.is_rung {
            state = self.rang.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_rung = false;
        ready.append(&mut state.ready);
    }

    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rings for one job.
struct JobBell {
    bell: Arc<Bell>,
    place: usize,
}

impl Wake for JobBell {
    fn wake(self: Arc<Self>) {
        self.bell.ring(Some(self.place));
    }
}

/// Puts outcomes into order.
struct Out<Outcome, Sink> {
    sink: Sink,
    early: VecDeque<Option<Outcome>>,
    next: u64,
}

impl<Outcome, Sink: FnMut(Outcome) -> Result<(), Failure>> Out<Outcome, Sink> {
    /// Takes outcomes with their numbers; gives how many were written.
    fn take(&mut self, outcomes: &mut Vec<(u64, Outcome)>) -> Result<u64, Failure> {
        for (number, outcome) in outcomes.drain(..) {
            let place = (number - self.next) as usize;
            if self.early.len() <= place {
                self.early.resize_with(place + 1, || None);
            }
            self.early[place] = Some(outcome);
        }
        let before = self.next;
        while let Some(outcome) = self.early.front_mut().and_then(Option::take) {
            self.early.pop_front();
            self.next += 1;
            (self.sink)(outcome)?;
        }
        Ok(self.next - before)
    }
}

/// One worker thread.
struct Thread<'a, J, W: Worker<J>, Sink> {
    desk: &'a Desk<J>,
    out: &'a Mutex<Out<W::Outcome, Sink>>,
    number: usize,
    worker: W,
    waiting: Vec<Option<Waiting<W::Outcome>>>,
    free: Vec<usize>,
    done: Vec<(u64, W::Outcome)>,
}

/// A job that waits for answers.
struct Waiting<Outcome> {
    number: u64,
    octets: usize,
    rest: Pin<Box<dyn Future<Output = Outcome>>>,
    waker: Waker,
}

impl<'a, J, W: Worker<J>, Sink: FnMut(W::Outcome) -> Result<(), Failure>> Thread<'a, J, W, Sink> {
    fn new(desk: &'a Desk<J>, out: &'a Mutex<Out<W::Outcome, Sink>>, number: usize, worker: W) -> Self {
        Self { desk, out, number, worker, waiting: Vec::new(), free: Vec::new(), done: Vec::new() }
    }

    fn run(mut self) {
        let bell = Arc::clone(&self.desk.bells[self.number]);
        let mut ready = Vec::new();
        loop {
            let is_idle = match self.desk.take(self.number) {
                Found::Parcel(parcel) => {
                    self.begin(parcel, &bell);
                    false
                }
                Found::Nothing => true,
                Found::End if self.has_waiting() && !self.desk.is_over() => true,
                Found::End => return,
            };
            // Those that wait are looked at after each parcel, and waited for when there is none.
            if is_idle || self.has_waiting() {
                bell.listen(is_idle, &mut ready);
                ready.drain(..).for_each(|place| self.go_on(place));
            }
            if let Err(failure) = self.write() {
                return self.desk.fail(failure);
            }
        }
    }

    fn has_waiting(&self) -> bool {
        self.free.len() < self.waiting.len()
    }

    fn begin(&mut self, parcel: Parcel<J>, bell: &Arc<Bell>) {
        let mut held = 0;
        for (number, job) in (parcel.first..).zip(parcel.jobs) {
            match self.worker.work(job) {
                Work::Done(outcome) => self.done.push((number, outcome)),
                Work::Waits { octets, rest } => {
                    held += octets;
                    let place = self.free.pop().unwrap_or_else(|| {
                        self.waiting.push(None);
                        self.waiting.len() - 1
                    });
                    let waker = Waker::from(Arc::new(JobBell { bell: Arc::clone(bell), place }));
                    self.waiting[place] = Some(Waiting { number, octets, rest, waker });
                    self.go_on(place);
                }
            }
        }
        if parcel.octets > 0 || held > 0 {
            self.desk.exchange_octets(parcel.octets, held);
        }
    }

    fn go_on(&mut self, place: usize) {
        // A bell may ring for the job that had the place before.
        let Some(waiting) = &mut self.waiting[place] else { return };
        let Poll::Ready(outcome) = waiting.rest.as_mut().poll(&mut Context::from_waker(&waiting.waker)) else { return };
        let (number, octets) = (waiting.number, waiting.octets);
        self.waiting[place] = None;
        self.free.push(place);
        self.done.push((number, outcome));
        self.desk.exchange_octets(octets, 0);
    }

    fn write(&mut self) -> Result<(), Failure> {
        if self.done.is_empty() {
            return Ok(());
        }
        let written = self.out.lock().unwrap_or_else(PoisonError::into_inner).take(&mut self.done)?;
        if written > 0 {
            self.desk.note_written(written);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    impl Job for u64 {
        fn octets(&self) -> usize {
            usize::try_from(*self).unwrap_or(usize::MAX) % 4096
        }
    }

    struct Uneven<'a> {
        done: &'a AtomicU64,
    }

    impl Worker<u64> for Uneven<'_> {
        type Outcome = u64;

        fn work(&mut self, job: u64) -> Work<u64> {
            // Some jobs take far longer than others.
            let rounds = if job.is_multiple_of(97) { 100_000 } else { 10 };
            let sum = (0..rounds).fold(job, |sum, round| std::hint::black_box(sum ^ round));
            self.done.fetch_add(1, Ordering::Relaxed);
            let outcome = sum.wrapping_mul(0) + job;
            if !job.is_multiple_of(3) {
                return Work::Done(outcome);
            }
            Work::Waits { octets: 10, rest: Box::pin(elsewhere(outcome)) }
        }
    }

    /// Waits for another thread.
    async fn elsewhere(outcome: u64) -> u64 {
        let helper: Mutex<Option<thread::JoinHandle<()>>> = Mutex::new(None);
        std::future::poll_fn(|context| {
            let mut helper = helper.lock().unwrap();
            match helper.take() {
                Some(running) => {
                    running.join().unwrap();
                    Poll::Ready(())
                }
                None => {
                    let waker = context.waker().clone();
                    *helper = Some(thread::spawn(move || waker.wake()));
                    Poll::Pending
                }
            }
        })
        .await;
        outcome
    }

    #[test]
    fn outcomes_come_in_the_order_of_the_jobs() {
        for (threads, count) in [(1, 0), (1, 1), (1, 300), (3, 8), (3, 1000), (8, 1001)] {
            let done = AtomicU64::new(0);
            let mut seen = Vec::new();
            let sink = |outcome| {
                seen.push(outcome);
                Ok(())
            };
            run(0..count, threads, || Uneven { done: &done }, sink).unwrap();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_sink_that_fails_ends_an_endless_run() {
        for threads in [1, 3] {
            let done = AtomicU64::new(0);
            let sink = |outcome| if outcome < 100 { Ok(()) } else { Err(Failure::Usage("enough".to_owned())) };
            assert!(run(0.., threads, || Uneven { done: &done }, sink).is_err());
            assert!(done.into_inner() <= (100 + JOBS_MAX) as u64);
        }
    }

    #[test]
    fn a_panic_of_a_worker_reaches_the_caller() {
        struct Broken;
        impl Worker<u64> for Broken {
            type Outcome = u64;
            fn work(&mut self, job: u64) -> Work<u64> {
                assert!(job < 100, "broken");
                Work::Done(job)
            }
        }
        let caught = catch_unwind(|| run(0.., 2, || Broken, |_| Ok(())));
        assert!(caught.is_err());
    }

    /// Never ends; counts how many were begun.
    struct Stuck<'a> {
        begun: &'a AtomicU64,
        octets: usize,
    }

    impl Worker<u64> for Stuck<'_> {
        type Outcome = u64;

        fn work(&mut self, job: u64) -> Work<u64> {
            self.begun.fetch_add(1, Ordering::Relaxed);
            let begun = job;
            let octets = self.octets;
            let mut rounds = 0;
            let rest = std::future::poll_fn(move |context: &mut Context<'_>| {
                rounds += 1;
                // Long enough for the reader to fill every bound: it reads while this goes round.
                if rounds > 2_000 {
                    return Poll::Ready(begun);
                }
                context.waker().wake_by_ref();
                thread::yield_now();
                Poll::Pending
            });
            Work::Waits { octets, rest: Box::pin(rest) }
        }
    }

    #[test]
    fn what_waits_is_bounded_by_number_and_octets() {
        for (octets, bound) in [(0, JOBS_MAX), (8 * 1024 * 1024, 8 + PARCELS_AHEAD * PARCEL_JOBS)] {
            let begun = AtomicU64::new(0);
            let mut first = None;
            let sink = |outcome| {
                if outcome == 0 {
                    first = Some(begun.load(Ordering::Relaxed));
                    return Err(Failure::Usage("enough".to_owned()));
                }
                Ok(())
            };
            assert!(run(0.., 1, || Stuck { begun: &begun, octets }, sink).is_err());
            assert!(first.unwrap() as usize <= bound + PARCEL_JOBS, "{first:?} of {bound}");
        }
    }
}

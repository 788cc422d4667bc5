//! How threads outside the workers wait for answers and verdicts: blocked, as a future, or by a descriptor.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task;
use std::time::Instant;

use mailproof_proto::dns::{Answer, Question};
use mailproof_proto::verdict::Verdict;
use mailproof_proto::verification::Envelope;
use rustix::event::{EventfdFlags, eventfd};

use super::ring::{Defect, guarded};
use crate::engine::Engine;
use crate::session::Session;

/// Answers on their way to one caller.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    state: Mutex<Gathered>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Gathered {
    answers: Vec<(Question, Answer)>,
    open_count: usize,
    waker: Option<task::Waker>,
}

impl Gathering {
    /// More answers are going to come.
    pub(crate) fn expect(&self, count: usize) {
        self.lock().open_count += count;
    }

    /// An answer has come.
    pub(crate) fn deliver(&self, question: Question, answer: Answer) {
        let mut state = self.lock();
        state.answers.push((question, answer));
        state.open_count = state.open_count.saturating_sub(1);
        let waker = state.waker.take();
        drop(state);
        self.arrived.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until some answer is there, or none is expected, or the moment has come; takes what is there.
    pub(crate) fn wait(&self, until: Instant) -> Vec<(Question, Answer)> {
        let mut state = self.lock();
        while state.answers.is_empty() && state.open_count > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut state.answers)
    }

    /// Takes what is there; wakes the task when there is more.
    pub(crate) fn take_or_wake(&self, context: &task::Context<'_>) -> Vec<(Question, Answer)> {
        let mut state = self.lock();
        if state.answers.is_empty() {
            state.waker = Some(context.waker().clone());
        }
        std::mem::take(&mut state.answers)
    }

    /// Takes what is there.
    pub(crate) fn take(&self) -> Vec<(Question, Answer)> {
        std::mem::take(&mut self.lock().answers)
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        // A list of answers is whole whatever happened to a thread that held it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages that the workers verify for a program with an event loop of its own.
///
/// [`submit`](Self::submit) never waits. When verdicts are there the descriptor is readable, and
/// [`drain`](Self::drain) takes them, in the order in which they were reached.
#[derive(Clone, Debug)]
pub struct Completions {
    engine: Engine,
    event: Arc<OwnedFd>,
    queue: Arc<CompletionQueue>,
}

/// A message that was submitted, with its verdict.
#[derive(Debug)]
pub struct Completion {
    /// What the caller named it.
    pub token: u64,
    /// The verdict.
    pub verdict: Result<Verdict, Defect>,
}

/// Verdicts that were reached, and who is to be told: a descriptor, a task, or both.
#[derive(Debug)]
pub(crate) struct CompletionQueue {
    event: Option<Arc<OwnedFd>>,
    state: Mutex<Completed>,
    /// Messages that nobody wanted any more before they had their verdict.
    forgotten_count: AtomicU64,
    /// Whose descriptor and locks these are.
    process: u32,
}

impl Default for CompletionQueue {
    fn default() -> Self {
        Self { event: None, state: Mutex::default(), forgotten_count: AtomicU64::new(0), process: std::process::id() }
    }
}

/// The place of a message in its queue: whatever becomes of the message, whoever submitted it hears of it once, unless it
/// was forgotten on their behalf.
#[derive(Debug)]
pub(crate) struct Place {
    queue: Arc<CompletionQueue>,
    token: u64,
    is_open: bool,
}

impl Place {
    pub(crate) fn new(queue: &Arc<CompletionQueue>, token: u64) -> Self {
        Self { queue: Arc::clone(queue), token, is_open: true }
    }

    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    pub(crate) fn queue(&self) -> &Arc<CompletionQueue> {
        &self.queue
    }

    /// This came of the message.
    pub(crate) fn conclude(mut self, verdict: Result<Verdict, Defect>) {
        self.is_open = false;
        self.queue.push(Completion { token: self.token, verdict });
    }

    /// Nobody wants to hear of it.
    pub(crate) fn forget(mut self) {
        self.is_open = false;
        self.queue.forgotten_count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The copy that a child of a fork has is none of a message: the parent has that, and hears of it.
        if self.is_open && std::process::id() == self.queue.process {
            self.queue.push(Completion { token: self.token, verdict: Err(Defect) });
        }
    }
}

#[derive(Debug, Default)]
struct Completed {
    done: VecDeque<Completion>,
    waker: Option<task::Waker>,
}

impl Completions {
    pub(crate) fn new(engine: Engine) -> io::Result<Self> {
        let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let queue = CompletionQueue { event: Some(Arc::clone(&event)), ..CompletionQueue::default() };
        Ok(Self { engine, event, queue: Arc::new(queue) })
    }

    /// Hands a whole message to a worker. `token` comes back with the verdict.
    pub fn submit(&self, message: Vec<u8>, envelope: Envelope, token: u64) {
        self.engine.submit_job(message, envelope, token, &self.queue);
    }

    /// Ends the message of a session and has its verdict reached as answers come, without a copy of the message: for what
    /// arrives piece by piece. Never waits; it can not be cancelled.
    pub fn finish(&self, session: Session, token: u64) {
        Finishing::begin(session, Place::new(&self.queue, token));
    }

    /// Forgets a message whose verdict nobody wants any more, and what it holds; its verdict does not come unless it was
    /// reached already. Never waits. Of several messages with the same token it is the last.
    pub fn cancel(&self, token: u64) {
        self.engine.cancel_job(token, &self.queue);
    }

    /// How many messages have been cancelled so far whose verdicts do not come.
    #[must_use]
    pub fn cancelled_count(&self) -> u64 {
        self.queue.forgotten_count.load(Ordering::Relaxed)
    }

    /// The descriptor that is readable while verdicts wait: for poll, epoll or an event loop. Not to be read from.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Takes the verdicts that are there.
    #[must_use]
    pub fn drain(&self) -> VecDeque<Completion> {
        // Before the queue is looked at, so that what comes later makes it readable again.
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
        self.queue.take()
    }
}

/// A session that waits for its last answers. Whoever brings them goes on with it.
struct Finishing(Mutex<Option<(Rest, Place)>>);

/// What is left to do of a verification.
type Rest = Pin<Box<dyn Future<Output = Option<Verdict>> + Send>>;

impl Finishing {
    fn begin(mut session: Session, place: Place) {
        let rest: Rest = Box::pin(async move {
            session.finish_async().await;
            session.take_verdict()
        });
        Arc::new(Self(Mutex::new(Some((rest, place))))).go_on();
    }

    fn go_on(self: Arc<Self>) {
        let waker = task::Waker::from(Arc::clone(&self));
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((rest, _)) = left.as_mut() else { return };
        let verdict = match guarded(|| rest.as_mut().poll(&mut task::Context::from_waker(&waker))) {
            Ok(task::Poll::Pending) => return,
            Ok(task::Poll::Ready(verdict)) => verdict.ok_or(Defect),
            Err(defect) => Err(defect),
        };
        let done = left.take();
        drop(left);
        if let Some((_, place)) = done {
            place.conclude(verdict);
        }
    }
}

impl task::Wake for Finishing {
    fn wake(self: Arc<Self>) {
        self.go_on();
    }
}

impl CompletionQueue {
    pub(crate) fn push(&self, completion: Completion) {
        let mut state = self.lock();
        state.done.push_back(completion);
        let (is_first, waker) = (state.done.len() == 1, state.waker.take());
        drop(state);
        if let Some(event) = self.event.as_ref().filter(|_| is_first) {
            // Fails only when the counter is full, and then it is readable already.
            let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next verdict; for one task at a time.
    pub(crate) async fn next(&self) -> Completion {
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            match state.done.pop_front() {
                Some(completion) => task::Poll::Ready(completion),
                None => {
                    state.waker = Some(context.waker().clone());
                    task::Poll::Pending
                }
            }
        })
        .await
    }

    /// Takes the verdicts that are there.
    pub(super) fn take(&self) -> VecDeque<Completion> {
        std::mem::take(&mut self.lock().done)
    }

    fn lock(&self) -> MutexGuard<'_, Completed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Many messages on several threads, their verdicts in order.
//!
//! The thread that takes the verdicts fetches the messages, since only it may touch Python, and verifies with the others
//! while it would wait. A message that waits for the DNS holds no thread: whichever thread is free goes on with it. What is
//! between the iterable and the caller is bounded by messages and by octets.
//!
//! Cost of a message beside its verification: a place in a queue under a lock (0.1 µs, taken for several messages at a
//! time), its verdict boxed, two switches of the interpreter's lock for as many messages as a thread takes at a time.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use std::{mem, thread};

use mailproof::{Engine, Envelope, Progress, Session};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use pyo3::{PyTraverseError, PyVisit};

use crate::arguments::Natural;
use crate::engine::THREADS_MAX;
use crate::envelope::Request;
use crate::kept::Kept;
use crate::living::{Living, check_process, forks};
use crate::message::Octets;
use crate::verdict::Verdict;
use crate::waiting::SIGNAL_TIME;

/// The most messages that may be asked to be fetched ahead. The 256 of the signature are enough for 12,000 messages a
/// second where the DNS takes 20 ms.
const LOOK_AHEAD_MAX: usize = 65_536;
/// Octets of messages that are fetched ahead; one message is, whatever its size.
const LOOK_AHEAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Messages that a thread takes at a time.
const TAKEN_MAX: usize = 8;
/// A source that has taken longer is slow: what is done is handed out before more is fetched.
const FETCH_TIME: Duration = Duration::from_millis(1);

/// An iterator over the verdicts of `Engine.verify_many`.
///
/// May be used from any thread, by one at a time; another is answered with ValueError.
#[pyclass(frozen, module = "mailproof")]
pub(crate) struct Verdicts {
    /// Taken out while a thread is in `__next__`.
    intake: Mutex<Option<Intake>>,
    shared: Arc<Shared>,
    began: u64,
    /// Ends the engine's threads when nobody uses them any more.
    _living: Arc<Living>,
}

/// The side of the caller.
struct Intake {
    /// `None` when there is nothing more to fetch.
    source: Option<Py<PyIterator>>,
    /// What fetching raised, told behind the verdicts of what came before.
    failure: Option<PyErr>,
    /// The octets of the messages that are under way.
    under_way: VecDeque<usize>,
    under_way_bytes: usize,
    /// Verdicts taken from the threads, in order, that the caller has not asked for.
    ready: VecDeque<Done>,
    look_ahead: usize,
    /// Threads that may still be started to verify beside this one, and those that were.
    helpers_left: usize,
    helper_count: usize,
    /// Its own memory for messages.
    room: Room,
}

/// What the threads have in common.
struct Shared {
    engine: Engine,
    state: Mutex<State>,
    /// There is something to do, or nothing will ever be.
    work: Condvar,
    /// A verdict is there that the caller waits for.
    news: Condvar,
}

#[derive(Default)]
struct State {
    /// Messages that nobody has begun.
    pending: VecDeque<Entry>,
    /// Messages whose answers have come.
    woken: VecDeque<Arc<Waiting>>,
    /// Those under way, in order.
    verdicts: VecDeque<Option<Done>>,
    /// The number of the first of them.
    first: u64,
    is_closed: bool,
}

struct Entry {
    number: u64,
    item: Item,
}

/// A message as the iterable gave it. It belongs to Python, so a thread of Python should let go of it.
enum Item {
    Request(Py<Request>),
    Message(Octets),
}

struct Done {
    verdict: Kept,
    item: Item,
}

/// The rest of a verification.
type Awaited = dyn Future<Output = Kept> + Send;

/// A message that waits for answers.
struct Waiting {
    number: u64,
    verdict: Mutex<Option<(Pin<Box<Awaited>>, Item)>>,
    shared: Weak<Shared>,
}

/// A session for the next message, and room for what is taken and what is done.
#[derive(Default)]
struct Room {
    session: Option<Box<Session>>,
    taken: Vec<Entry>,
    woken: Option<Arc<Waiting>>,
    done: Vec<(u64, Done)>,
}

impl Verdicts {
    pub(crate) fn new(
        engine: Engine,
        living: Arc<Living>,
        source: Bound<'_, PyIterator>,
        threads: Option<Natural>,
        look_ahead: Natural,
    ) -> PyResult<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.map(|threads| threads.count_within("threads", 1..=THREADS_MAX)).transpose()?;
        let threads = threads.unwrap_or(processors);
        let look_ahead = look_ahead.count_within("look_ahead", 1..=LOOK_AHEAD_MAX)?;
        let intake = Intake {
            source: Some(source.unbind()),
            failure: None,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            ready: VecDeque::new(),
            look_ahead,
            helpers_left: threads.min(processors) - 1,
            helper_count: 0,
            room: Room::default(),
        };
        let (work, news, state) = (Condvar::new(), Condvar::new(), Mutex::default());
        let shared = Arc::new(Shared { engine, state, work, news });
        Ok(Self { intake: Mutex::new(Some(intake)), shared, began: forks(), _living: living })
    }
}

#[pymethods]
impl Verdicts {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Verdict>> {
        check_process(self.began)?;
        let taken = self.intake.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut intake = taken.ok_or_else(|| PyValueError::new_err("another thread takes these verdicts"))?;
        let next = intake.next(py, &self.shared);
        *self.intake.lock().unwrap_or_else(PoisonError::into_inner) = Some(intake);
        next
    }

    /// The source may well refer to whoever keeps these verdicts.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.intake.try_lock().as_deref() {
            Ok(Some(intake)) => visit.call(&intake.source),
            // A thread is in `__next__`, so these verdicts are in use.
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let source = match self.intake.try_lock().as_deref_mut() {
            Ok(Some(intake)) => intake.source.take(),
            _ => None,
        };
        // Letting go of it may run what looks at these verdicts.
        drop(source);
    }
}

impl Drop for Verdicts {
    fn drop(&mut self) {
        if self.began != forks() {
            return;
        }
        self.shared.close();
    }
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verdicts")
    }
}

impl Intake {
    /// The next verdict, `None` behind the last.
    fn next(&mut self, py: Python<'_>, shared: &Arc<Shared>) -> PyResult<Option<Verdict>> {
        loop {
            if self.under_way.len() <= self.look_ahead / 2 {
                self.fetch(py, shared)?;
            }
            if self.under_way.is_empty() {
                if self.source.is_none() {
                    self.close(shared);
                }
                return self.failure.take().map_or(Ok(None), Err);
            }
            if self.ready.is_empty() {
                shared.take_ready(&mut self.ready);
            }
            if let Some(done) = self.ready.pop_front() {
                self.under_way_bytes -= self.under_way.pop_front().unwrap_or_default();
                return Ok(Some(Verdict::new(done.item.id().to_owned(), done.verdict)));
            }
            let room = &mut self.room;
            py.detach(|| shared.help(room, Instant::now() + SIGNAL_TIME));
            py.check_signals()?;
        }
    }

    /// Fetches messages until the look-ahead is full, or a slow source has let a verdict come first. What goes wrong is
    /// told later, and ends it.
    ///
    /// # Errors
    /// What is no `Exception`, such as `KeyboardInterrupt`: it is told at once, and the stream goes on when asked again.
    fn fetch(&mut self, py: Python<'_>, shared: &Arc<Shared>) -> PyResult<()> {
        let Some(source) = &self.source else { return Ok(()) };
        let mut source = source.bind(py).clone();
        let began = Instant::now();
        let mut fetched = Vec::with_capacity(TAKEN_MAX);
        let mut interruption = None;
        while self.under_way.len() < self.look_ahead && self.under_way_bytes < LOOK_AHEAD_BYTES_MAX {
            match source.next().map(|given| given.and_then(|given| Item::of(&given))) {
                Some(Ok(item)) => {
                    self.under_way_bytes += item.octets().len();
                    self.under_way.push_back(item.octets().len());
                    fetched.push(item);
                }
                Some(Err(failure)) if !failure.is_instance_of::<PyException>(py) => {
                    interruption = Some(failure);
                    break;
                }
                Some(Err(failure)) => {
                    (self.failure, self.source) = (Some(failure), None);
                    break;
                }
                None => {
                    self.source = None;
                    break;
                }
            }
            let is_slow = began.elapsed() > FETCH_TIME;
            if is_slow || fetched.len() == TAKEN_MAX {
                self.put(shared, &mut fetched);
            }
            if is_slow && self.helper_count == 0 && self.helpers_left == 0 {
                // Nobody else does it.
                let room = &mut self.room;
                py.detach(|| shared.work_through(room));
            }
            if is_slow && (!self.ready.is_empty() || shared.has_first()) {
                break;
            }
        }
        self.put(shared, &mut fetched);
        interruption.map_or(Ok(()), Err)
    }

    /// Gives messages to the threads.
    fn put(&mut self, shared: &Arc<Shared>, fetched: &mut Vec<Item>) {
        if fetched.is_empty() {
            return;
        }
        shared.put(fetched);
        // One message is for this thread. Where the system gives no more threads, those there are do it.
        while self.helpers_left > 0 && self.helper_count + 1 < self.under_way.len() {
            let shared = Arc::clone(shared);
            let body = move || shared.work_until_closed();
            let is_started = thread::Builder::new().name("mailproof-batch".to_owned()).spawn(body).is_ok();
            self.helpers_left = if is_started { self.helpers_left - 1 } else { 0 };
            self.helper_count += usize::from(is_started);
        }
    }

    /// There is nothing more to come: the threads end.
    fn close(&mut self, shared: &Shared) {
        self.helpers_left = 0;
        shared.close();
    }
}

impl Item {
    /// # Errors
    /// Those of [`Octets::of`].
    fn of(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        match given.cast::<Request>() {
            Ok(request) => Ok(Self::Request(request.clone().unbind())),
            Err(_) => Octets::of(given).map(Self::Message),
        }
    }

    fn octets(&self) -> &Octets {
        match self {
            Self::Request(request) => &request.get().octets,
            Self::Message(octets) => octets,
        }
    }

    /// For the thread that judges it, which lets go of it too.
    fn envelope(&self) -> Envelope {
        match self {
            Self::Request(request) => request.get().envelope.clone(),
            Self::Message(_) => Envelope::default(),
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Request(request) => &request.get().id,
            Self::Message(_) => "",
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Queues are whole whatever happened to a thread that held them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, fetched: &mut Vec<Item>) {
        let mut state = self.lock();
        for item in fetched.drain(..) {
            let number = state.first + state.verdicts.len() as u64;
            state.verdicts.push_back(None);
            state.pending.push_back(Entry { number, item });
        }
        drop(state);
        self.work.notify_all();
    }

    /// The next verdict is there.
    fn has_first(&self) -> bool {
        self.lock().has_first()
    }

    /// Ends the threads.
    fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let left = (mem::take(&mut state.pending), mem::take(&mut state.woken));
        drop(state);
        drop(left);
        self.work.notify_all();
    }

    /// Moves the verdicts that are next in order, as far as they are there.
    fn take_ready(&self, ready: &mut VecDeque<Done>) {
        let mut state = self.lock();
        let count = state.verdicts.iter().take_while(|done| done.is_some()).count();
        state.first += count as u64;
        ready.extend(state.verdicts.drain(..count).flatten());
    }

    /// Verifies on the caller's thread until the first verdict is there, or it is time to see to signals. No longer:
    /// verdicts that wait to be handed out push what verification uses out of the processor's cache.
    fn help(self: &Arc<Self>, room: &mut Room, until: Instant) {
        loop {
            let mut state = self.lock();
            if state.has_first() {
                return;
            }
            let now = Instant::now();
            if now >= until {
                return;
            }
            if !state.give_work(room) {
                drop(self.news.wait_timeout(state, until - now));
                continue;
            }
            drop(state);
            self.work_on(room);
        }
    }

    /// Verifies on the caller's thread what can be without waiting.
    fn work_through(self: &Arc<Self>, room: &mut Room) {
        while self.lock().give_work(room) {
            self.work_on(room);
        }
    }

    /// What the other threads do.
    fn work_until_closed(self: Arc<Self>) {
        let mut room = Room::default();
        let mut state = self.lock();
        while !state.is_closed {
            if state.give_work(&mut room) {
                drop(state);
                self.work_on(&mut room);
                state = self.lock();
            } else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn work_on(self: &Arc<Self>, room: &mut Room) {
        if let Some(waiting) = room.woken.take()
            && let Some(done) = waiting.poll()
        {
            room.done.push((waiting.number, done));
        }
        let mut taken = mem::take(&mut room.taken);
        for entry in taken.drain(..) {
            self.verify(entry, room);
        }
        room.taken = taken;
        let mut state = self.lock();
        let first = state.first;
        for (number, done) in room.done.drain(..) {
            if let Some(place) = state.verdicts.get_mut((number - first) as usize) {
                *place = Some(done);
            }
        }
        let has_first = state.has_first();
        drop(state);
        if has_first {
            self.news.notify_one();
        }
    }

    fn verify(self: &Arc<Self>, entry: Entry, room: &mut Room) {
        let Entry { number, item } = entry;
        let mut session = room.session.take().unwrap_or_else(|| Box::new(self.engine.session(Envelope::default())));
        session.take_whole(item.octets(), item.envelope());
        if session.poll() == Progress::Done {
            if let Some(verdict) = session.take_verdict().map(Kept::new) {
                room.done.push((number, Done { verdict, item }));
            }
            room.session = Some(session);
            return;
        }
        let verdict = Box::pin(async move { Kept::new(session.finish_async().await.clone()) });
        let verdict: (Pin<Box<Awaited>>, Item) = (verdict, item);
        let waiting = Arc::new(Waiting { number, verdict: Mutex::new(Some(verdict)), shared: Arc::downgrade(self) });
        if let Some(done) = waiting.poll() {
            room.done.push((number, done));
        }
    }
}

impl State {
    fn has_first(&self) -> bool {
        matches!(self.verdicts.front(), Some(Some(_)))
    }

    /// Moves the next pieces of work to a thread; false when there are none.
    fn give_work(&mut self, room: &mut Room) -> bool {
        room.woken = self.woken.pop_front();
        if room.woken.is_none() {
            // Towards the end of what there is in small pieces, so that no thread is left with much.
            let count = (self.pending.len() / 4).clamp(1, TAKEN_MAX).min(self.pending.len());
            room.taken.extend(self.pending.drain(..count));
        }
        room.woken.is_some() || !room.taken.is_empty()
    }
}

impl Waiting {
    /// The verdict, when the last answers have come.
    fn poll(self: &Arc<Self>) -> Option<Done> {
        let mut awaited = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = Waker::from(Arc::clone(self));
        let Poll::Ready(verdict) = awaited.as_mut()?.0.as_mut().poll(&mut Context::from_waker(&waker)) else {
            return None;
        };
        awaited.take().map(|(_, item)| Done { verdict, item })
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut state = shared.lock();
        if !state.is_closed {
            state.woken.push_back(self);
        }
        drop(state);
        shared.work.notify_one();
        shared.news.notify_one();
    }
}

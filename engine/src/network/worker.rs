//! The threads that ask the DNS, verify what was submitted and host services.
//!
//! A thread has one driver, and does everything that belongs to its sockets. Between two slices of verification it looks
//! at them, so an answer waits for one slice at the most. A question belongs to the thread that its hash says, so that it
//! is asked once whoever asks.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mailproof_io::{Backend, Driver, DriverError, Event, SocketId};
use mailproof_proto::dns::{Answer, Failure, Question};
use mailproof_proto::time::Timestamp;

use super::calls::{CompletionQueue, Gathering};
use super::hosting::{ConversationId, Conversations};
use super::inbox::{Inbox, Local, Message, Published};
use super::inquiries::Inquiries;
use super::jobs::{Job, Jobs, Slice};
use super::ring::guarded;
use super::seeds::Seeds;
use super::signals::without_signals;
use super::sockets::{LinkStep, Role, Sockets};
use super::tls::TlsSetup;
use super::{NetworkOptions, NetworkStatistics};
use crate::engine::Engine;
use crate::hashing::Hashing;
use crate::service::{Peer, Service};

/// The worker threads of an engine; they end when this is dropped, after the work they have.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<Thread>,
    options: NetworkOptions,
    owners: Owners,
    next_job: AtomicUsize,
    process: u32,
    backend: Backend,
}

#[derive(Debug)]
struct Thread {
    inbox: Arc<Inbox>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

/// Anybody who waits for an answer.
enum Waiter {
    Caller(Arc<Gathering>),
    Local(Local),
    Worker(usize, Local),
}

pub(super) struct Worker {
    number: usize,
    engine: Engine,
    peers: Vec<Arc<Inbox>>,
    inbox: Arc<Inbox>,
    owners: Owners,
    sockets: Sockets,
    inquiries: Inquiries<Waiter>,
    jobs: Jobs,
    conversations: Conversations,
    services: Vec<Listening>,
    next_peer: usize,
    /// Room for a question that has its answer, and those who wait for it.
    question: Option<Box<Question>>,
    waiters: Vec<Waiter>,
    /// Room for what a conversation asks.
    questions: Vec<(ConversationId, Question)>,
    /// A datagram or a piece of a DNS stream, copied out so that the driver can be used while it is read.
    room: Vec<u8>,
    clock: (Instant, Timestamp),
    stopping: Option<Instant>,
}

/// A listener of this worker, and whose it is.
struct Listening {
    socket: SocketId,
    service: Arc<dyn Service>,
    connections: Arc<AtomicUsize>,
    is_paused: bool,
}

/// Slices between two looks at the inbox and the clock.
const SLICES_MAX: usize = 8;
/// How long work that is under way may go on once the engine is dropped.
const DRAIN_TIME: Duration = Duration::from_secs(30);
/// Datagrams are received into this much room.
const DATAGRAM_BYTES: usize = 2048;

impl Workers {
    /// Starts the threads. `engine` is what they verify with; it must not hold the workers themselves.
    pub(crate) fn start(engine: &Engine, options: NetworkOptions, tls: Option<TlsSetup>) -> Result<Self, DriverError> {
        let count = match options.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let owners = Owners(Hashing::random());
        let (mut threads, mut inboxes) = (Vec::new(), Vec::new());
        let mut starts = Vec::new();
        for number in 0..count {
            let (send_inbox, receive_inbox) = mpsc::channel();
            let (start, started) = mpsc::channel::<Vec<Arc<Inbox>>>();
            let (engine, options, owners, tls) = (engine.clone(), options.clone(), owners.clone(), tls.clone());
            let body = move || {
                let driver = match Driver::new(options.backend, mailproof_io::Options::default()) {
                    Ok(driver) => driver,
                    Err(error) => return drop(send_inbox.send(Err(error))),
                };
                let inbox = Arc::new(Inbox {
                    messages: Mutex::new(Some(Vec::new())),
                    is_done: AtomicBool::new(false),
                    waker: driver.waker(),
                    statistics: Published {
                        backend: Mutex::new(Some(driver.backend().clone())),
                        ..Published::default()
                    },
                });
                if send_inbox.send(Ok((Arc::clone(&inbox), driver.backend().clone()))).is_err() {
                    return;
                }
                // Without its peers the start has failed elsewhere.
                if let Ok(peers) = started.recv() {
                    Worker::new(number, engine, peers, inbox, owners, driver, options, tls, Seeds::system()).run();
                }
            };
            let spawned = without_signals(|| thread::Builder::new().name(format!("mailproof-{number}")).spawn(body));
            let handle = spawned.map_err(|source| DriverError::System { step: "starting a thread", source })?;
            let (inbox, backend) = receive_inbox.recv().unwrap_or_else(|_| {
                Err(DriverError::System { step: "starting a thread", source: io::ErrorKind::BrokenPipe.into() })
            })?;
            inboxes.push(Arc::clone(&inbox));
            threads.push((Thread { inbox, handle: Mutex::new(Some(handle)) }, backend));
            starts.push(start);
        }
        for start in starts {
            // A thread that is gone shows itself when it is asked.
            let _ = start.send(inboxes.clone());
        }
        let backend = threads.first().map_or(Backend::Epoll, |(_, backend)| backend.clone());
        let threads = threads.into_iter().map(|(thread, _)| thread).collect();
        let next_job = AtomicUsize::new(0);
        Ok(Self { threads, options, owners, next_job, process: std::process::id(), backend })
    }

    /// Asks for answers, which come to `gathering`, each within the time of a lookup.
    pub(crate) fn ask(&self, questions: Vec<Question>, gathering: &Arc<Gathering>) {
        gathering.expect(questions.len());
        if self.is_in_another_process() {
            for question in questions {
                gathering.deliver(question, Answer::failed(Failure::Unreachable));
            }
            return;
        }
        if let [thread] = &self.threads[..] {
            thread.inbox.put(Message::Ask { questions, gathering: Arc::clone(gathering) });
            return;
        }
        let mut shares: Vec<Vec<Question>> = vec![Vec::new(); self.threads.len()];
        for question in questions {
            shares[self.owners.of(&question, self.threads.len())].push(question);
        }
        for (thread, questions) in self.threads.iter().zip(shares) {
            if !questions.is_empty() {
                thread.inbox.put(Message::Ask { questions, gathering: Arc::clone(gathering) });
            }
        }
    }

    /// Fetches an answer again that is about to expire.
    pub(crate) fn prefetch(&self, question: &Question) {
        if self.options.prefetch && !self.is_in_another_process() {
            let thread = &self.threads[self.owners.of(question, self.threads.len())];
            thread.inbox.statistics.prefetches.fetch_add(1, Ordering::Relaxed);
            thread.inbox.put(Message::Prefetch(question.clone()));
        }
    }

    /// Verifies a message on one of the threads.
    pub(crate) fn verify(&self, job: Job) {
        let number = self.next_job.fetch_add(1, Ordering::Relaxed) % self.threads.len();
        self.threads[number].inbox.put(Message::Verify(job));
    }

    /// Forgets a message, whichever thread has it.
    pub(crate) fn cancel(&self, token: u64, queue: &Arc<CompletionQueue>) {
        if self.is_in_another_process() {
            return;
        }
        for thread in &self.threads {
            thread.inbox.put(Message::Cancel { token, queue: Arc::clone(queue) });
        }
    }

    /// Does a piece of work on one of the threads.
    #[cfg(feature = "tokio-uring")]
    pub(crate) fn run(&self, work: Box<dyn FnOnce() + Send>) {
        let number = self.next_job.fetch_add(1, Ordering::Relaxed) % self.threads.len();
        self.threads[number].inbox.put(Message::Run(work));
    }

    /// Hosts a service on all threads.
    pub(crate) fn listen(&self, listener: OwnedFd, service: Arc<dyn Service>) {
        self.threads[0].inbox.put(Message::Listen { listener, service });
    }

    /// The process has forked: these are the threads of the parent, and nothing here may be used.
    pub(crate) fn is_in_another_process(&self) -> bool {
        std::process::id() != self.process
    }

    /// The backend of the threads; the first that had to move to epoll is the one that is told.
    pub(crate) fn backend(&self) -> Backend {
        let of_threads = self.threads.iter().filter_map(|thread| thread.inbox.statistics.backend.lock().ok()?.clone());
        of_threads.into_iter().find(|backend| *backend != self.backend).unwrap_or_else(|| self.backend.clone())
    }

    pub(crate) fn statistics(&self) -> NetworkStatistics {
        let mut sum = NetworkStatistics::default();
        for thread in &self.threads {
            let published = &thread.inbox.statistics;
            let figures = *published.figures.lock().unwrap_or_else(PoisonError::into_inner);
            let prefetches = published.prefetches.load(Ordering::Relaxed);
            sum = sum.plus(NetworkStatistics { prefetches, ..figures });
        }
        sum
    }

    pub(crate) fn driver_statistics(&self) -> Vec<mailproof_io::Statistics> {
        let of = |thread: &Thread| *thread.inbox.statistics.driver.lock().unwrap_or_else(PoisonError::into_inner);
        self.threads.iter().map(of).collect()
    }

    /// What went wrong with TLS last, on some thread.
    #[cfg(feature = "dns-over-tls")]
    pub(crate) fn tls_trouble(&self) -> Option<super::tls::TlsTrouble> {
        self.threads.iter().find_map(|thread| {
            thread.inbox.statistics.tls_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.threads.iter().any(|thread| thread.inbox.statistics.has_answered.load(Ordering::Relaxed))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shut_down(DRAIN_TIME);
    }
}

impl Workers {
    /// Ends the threads after the work they have, at the latest when this time is over; waits for them.
    pub(crate) fn shut_down(&self, within: Duration) {
        if self.is_in_another_process() {
            return;
        }
        let until = Instant::now() + within;
        for thread in &self.threads {
            thread.inbox.put(Message::Stop(until));
        }
        for thread in &self.threads {
            let handle = thread.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
            // A conversation may hold the last engine of the program; a thread does not wait for itself.
            if let Some(handle) = handle.filter(|handle| handle.thread().id() != thread::current().id()) {
                let _ = handle.join();
            }
        }
    }
}

impl Worker {
    #[expect(clippy::too_many_arguments, reason = "what a thread is given, in one place")]
    fn new(
        number: usize,
        engine: Engine,
        peers: Vec<Arc<Inbox>>,
        inbox: Arc<Inbox>,
        owners: Owners,
        driver: Driver,
        options: NetworkOptions,
        tls: Option<TlsSetup>,
        seeds: Seeds,
    ) -> Self {
        let clock = (driver.now(), engine.now());
        let sockets = Sockets::new(driver, options.servers.clone(), options.connect_time, tls);
        let inquiries = Inquiries::new(options.servers.len(), options, seeds, clock.1);
        Self {
            number,
            jobs: Jobs::new(engine.clone()),
            engine,
            peers,
            inbox,
            owners,
            sockets,
            inquiries,
            conversations: Conversations::new(clock.1),
            services: Vec::new(),
            next_peer: 0,
            question: Some(Box::new(Question::new(
                mailproof_proto::dns::Name::ROOT,
                mailproof_proto::dns::RecordType::Txt,
            ))),
            waiters: Vec::new(),
            questions: Vec::new(),
            room: Vec::with_capacity(DATAGRAM_BYTES),
            clock,
            stopping: None,
        }
    }

    fn run(mut self) {
        // A defect that nothing further in has stopped ends this thread, and everybody is answered.
        let _ = guarded(|| while self.turn() {});
        if guarded(|| self.give_up()).is_err() {
            let _ = guarded(|| self.jobs.give_up());
            for message in self.inbox.close() {
                let _ = guarded(|| message.refuse());
            }
        }
        self.inbox.is_done.store(true, Ordering::SeqCst);
        self.peers.iter().for_each(|peer| peer.waker.wake());
    }

    /// Waits, and does what there is to do then; false when the thread is to end.
    pub(super) fn turn(&mut self) -> bool {
        let until = self.wait_until();
        if self.sockets.driver.wait(until).is_err() {
            return false;
        }
        self.resume_listeners();
        self.look();
        self.take_messages();
        self.work();
        self.expire();
        self.deliver();
        !self.has_stopped()
    }

    pub(super) fn wait_until(&self) -> Option<Instant> {
        if self.jobs.has_ready() {
            return Some(self.clock.0);
        }
        let moments = [self.inquiries.next_moment(), self.jobs.next_moment(), self.conversations.next_moment()];
        let next = moments.into_iter().flatten().min().map(|moment| self.instant(moment));
        next.into_iter().chain(self.stopping).chain(self.sockets.next_deadline()).min()
    }

    /// Hears what the sockets have to say.
    fn look(&mut self) {
        let now = self.now();
        while let Some(heard) = self.hear(now) {
            self.act(heard, now);
        }
        self.deliver();
    }

    /// The next event, with its octets copied out or handed on.
    fn hear(&mut self, now: Timestamp) -> Option<Heard> {
        let event = self.sockets.next_event()?;
        Some(match event {
            (Event::Received { octets, .. }, Some(Role::Conversation(socket))) => {
                self.conversations.received(socket.index(), octets, now);
                Heard::Conversation(socket.index())
            }
            (Event::Received { octets, .. }, Some(role)) => {
                self.room.clear();
                self.room.extend_from_slice(octets);
                match role {
                    Role::Port(socket) => Heard::Datagram(socket),
                    _ => Heard::Stream(role),
                }
            }
            (Event::DatagramFailed { socket, .. }, _) => Heard::DatagramFailed(socket),
            (Event::Connected { .. }, Some(role)) => Heard::Connected(role),
            (Event::Ended { socket, .. }, Some(role)) => Heard::Ended(socket, role),
            (Event::Accepted { socket, .. }, Some(Role::Listener(_, service))) => Heard::Accepted(socket, service),
            (Event::AcceptFailed { .. }, Some(Role::Listener(_, service))) => Heard::AcceptFailed(service),
            (Event::Sent { .. }, Some(Role::Conversation(socket))) => Heard::Sent(socket),
            (Event::DatagramsLost, _) => Heard::DatagramsLost,
            (Event::Moved, _) => Heard::Moved,
            _ => Heard::Nothing,
        })
    }

    fn act(&mut self, heard: Heard, now: Timestamp) {
        match heard {
            Heard::Datagram(socket) => {
                let is_cut = self.room.len() >= DATAGRAM_BYTES;
                self.inquiries.udp_received(socket.index() as u32, &self.room, is_cut, now, &mut self.sockets);
            }
            Heard::Stream(Role::Link(socket)) => {
                let step = self.sockets.link_received(socket, &mut self.room);
                self.go_on(socket, step, now);
            }
            Heard::DatagramFailed(socket) => {
                self.inquiries.udp_failed(socket.index() as u32, now, &mut self.sockets);
            }
            Heard::Connected(Role::Link(socket)) => {
                self.room.clear();
                let step = self.sockets.link_connected(socket);
                self.go_on(socket, step, now);
            }
            Heard::Ended(socket, Role::Link(_)) => {
                self.sockets.link_ended(socket);
                self.inquiries.link_ended(socket.index() as u32, now, &mut self.sockets);
            }
            Heard::Ended(socket, Role::Conversation(_)) => {
                self.sockets.close(socket);
                self.conversations.ended(socket.index());
            }
            Heard::Conversation(slot) => self.carry_out(slot, now),
            Heard::Sent(socket) => self.conversations.sent(socket.index(), now, &mut self.sockets.driver),
            Heard::Accepted(socket, service) => self.pass_on(socket, service),
            Heard::AcceptFailed(service) => {
                if let Some(listening) = self.services.get_mut(service as usize) {
                    // Until a connection ends: then there is a descriptor again.
                    listening.is_paused = true;
                }
            }
            Heard::DatagramsLost => self.inquiries.send_again(&mut self.sockets),
            Heard::Moved => {
                self.inquiries.send_again(&mut self.sockets);
                let backend = self.sockets.driver.backend().clone();
                *self.inbox.statistics.backend.lock().unwrap_or_else(PoisonError::into_inner) = Some(backend);
            }
            _ => {}
        }
    }

    /// Tells the inquiries what has come of a connection; what was received is in the room.
    fn go_on(&mut self, socket: SocketId, step: LinkStep, now: Timestamp) {
        let link = socket.index() as u32;
        match step {
            LinkStep::Underway => return,
            LinkStep::Failed => {
                self.sockets.close(socket);
                return self.inquiries.link_ended(link, now, &mut self.sockets);
            }
            LinkStep::Connected => self.inquiries.link_connected(link, now, &mut self.sockets),
            LinkStep::Open => {}
        }
        if !self.room.is_empty() {
            self.inquiries.link_received(link, &self.room, now, &mut self.sockets);
        }
    }

    fn take_messages(&mut self) {
        let now = self.now();
        for message in self.inbox.take() {
            match message {
                Message::Ask { questions, gathering } => {
                    for question in questions {
                        self.ask(&question, Some(Waiter::Caller(Arc::clone(&gathering))), now);
                    }
                }
                Message::AskFor { question, worker, waiter } => {
                    self.ask(&question, Some(Waiter::Worker(worker, waiter)), now);
                }
                Message::Prefetch(question) => self.inquiries.ask(&question, None, now, &mut self.sockets),
                Message::Answered { question, answer, waiter } => self.tell(waiter, &question, answer, now),
                Message::Verify(job) => self.jobs.start(job),
                Message::Cancel { token, queue } => self.jobs.cancel(&queue, token),
                #[cfg(feature = "tokio-uring")]
                Message::Run(work) => {
                    work();
                    if self.sockets.driver.glance().is_ok() {
                        self.look();
                    }
                }
                Message::Listen { listener, service } => self.listen(listener, service),
                Message::Converse { stream, service } => self.converse(stream, service),
                Message::Stop(until) => self.stop(until, now),
            }
        }
    }

    /// Verifies in slices, and looks at the sockets after each.
    fn work(&mut self) {
        for _ in 0..SLICES_MAX {
            match self.jobs.run_slice() {
                Slice::Idle => return,
                Slice::Worked => {}
                Slice::Asks(id, questions) => {
                    let now = self.now();
                    for question in questions {
                        self.ask_for(Local::Job(id), question, now);
                    }
                }
            }
            if self.sockets.driver.glance().is_ok() {
                self.look();
            }
        }
    }

    fn expire(&mut self) {
        let now = self.now();
        while let Some(socket) = self.sockets.next_late_link() {
            self.go_on(socket, LinkStep::Failed, now);
        }
        self.inquiries.expire(now, &mut self.sockets);
        self.jobs.expire(now);
        while let Some(slot) = self.conversations.wake_next(now, &mut self.sockets.driver) {
            self.carry_out(slot, now);
        }
        self.conversations.expire_closing(now, &mut self.sockets.driver);
    }

    /// Hands answers to those who wait for them.
    fn deliver(&mut self) {
        if !self.inquiries.has_finished() {
            return;
        }
        // First, so that whoever is told something finds it in the figures.
        self.publish();
        let now = self.now();
        let time = self.engine.time_at(now);
        // Taken out while they are in use, because answering may ask.
        let Some(mut question) = self.question.take() else { return };
        let mut waiters = std::mem::take(&mut self.waiters);
        while let Some((answer, is_news)) = self.inquiries.next_finished(&mut question, &mut waiters) {
            let answer = if is_news { self.engine.keep(&question, answer, time) } else { answer };
            for waiter in waiters.drain(..) {
                match waiter {
                    Waiter::Caller(gathering) => gathering.deliver((*question).clone(), answer.clone()),
                    Waiter::Local(local) => self.tell(local, &question, answer.clone(), now),
                    Waiter::Worker(worker, waiter) => {
                        let (question, answer) = ((*question).clone(), answer.clone());
                        self.peers[worker].put(Message::Answered { question, answer, waiter });
                    }
                }
            }
        }
        self.question = Some(question);
        self.waiters = waiters;
    }

    fn tell(&mut self, waiter: Local, question: &Question, answer: Answer, now: Timestamp) {
        match waiter {
            Local::Job(id) => self.jobs.answer(id, question, answer),
            Local::Conversation(id) => {
                if let Some(slot) = self.conversations.answered(id, question, &answer, now) {
                    self.carry_out(slot, now);
                }
            }
        }
    }

    /// Asks on behalf of somebody on this thread, of the thread that the question belongs to.
    fn ask_for(&mut self, waiter: Local, question: Question, now: Timestamp) {
        let worker = self.owners.of(&question, self.peers.len());
        let left = match worker == self.number {
            true => Some(question),
            false => match self.peers[worker].offer(Message::AskFor { question, worker: self.number, waiter }) {
                Some(Message::AskFor { question, .. }) => Some(question),
                _ => None,
            },
        };
        // Its own, or that of a thread that has ended before this one.
        if let Some(question) = left {
            self.ask(&question, Some(Waiter::Local(waiter)), now);
        }
    }

    fn ask(&mut self, question: &Question, waiter: Option<Waiter>, now: Timestamp) {
        // It may have come while this was on its way here; then it is answered like one that finishes now.
        match self.engine.at_hand(question, self.engine.time_at(now)) {
            Some(answer) => self.inquiries.answer_at_once(question, answer, waiter),
            None => self.inquiries.ask(question, waiter, now, &mut self.sockets),
        }
    }

    fn carry_out(&mut self, slot: usize, now: Timestamp) {
        let mut questions = std::mem::take(&mut self.questions);
        self.conversations.carry_out(slot, now, &mut self.sockets.driver, &mut questions);
        for (id, question) in questions.drain(..) {
            self.ask_for(Local::Conversation(id), question, now);
        }
        self.questions = questions;
    }

    fn listen(&mut self, listener: OwnedFd, service: Arc<dyn Service>) {
        // The socket listens already; one that can not be watched is closed, which its peers see.
        let Ok(socket) = self.sockets.driver.add_listener(listener) else { return };
        let number = self.services.len() as u32;
        let connections = Arc::new(AtomicUsize::new(0));
        self.services.push(Listening { socket, service, connections, is_paused: false });
        self.sockets.set_role(socket, Role::Listener(socket, number));
        self.sockets.driver.receive(socket);
    }

    /// Gives a connection that was accepted to the next worker.
    fn pass_on(&mut self, socket: SocketId, service: u32) {
        let Some(listening) = self.services.get_mut(service as usize) else {
            // Accepted just before the listeners closed: the peer is told at once.
            return self.sockets.close(socket);
        };
        let Some(stream) = self.sockets.driver.release(socket) else { return };
        let count = listening.connections.fetch_add(1, Ordering::Relaxed) + 1;
        if count >= listening.service.connections_max() && !std::mem::replace(&mut listening.is_paused, true) {
            self.sockets.driver.pause(listening.socket);
        }
        let connections = Arc::clone(&listening.connections);
        let (service, inbox) = (Arc::clone(&listening.service), Arc::clone(&self.inbox));
        let service: Arc<dyn Service> = Arc::new(Counted { service, connections, inbox });
        let peer = self.next_peer % self.peers.len();
        self.next_peer += 1;
        if peer == self.number {
            self.converse(stream, service);
        } else {
            self.peers[peer].put(Message::Converse { stream, service });
        }
    }

    fn converse(&mut self, stream: OwnedFd, service: Arc<dyn Service>) {
        if self.stopping.is_some() {
            return;
        }
        let peer = peer_of(&stream);
        let Ok(socket) = self.sockets.driver.add_stream(stream) else { return };
        let conversation = service.converse(&self.engine, peer);
        self.sockets.set_role(socket, Role::Conversation(socket));
        let now = self.now();
        self.conversations.add(socket, service, conversation, peer, now, &mut self.sockets.driver);
    }

    /// Accepts again where a connection has ended.
    fn resume_listeners(&mut self) {
        for listening in self.services.iter_mut().filter(|listening| listening.is_paused) {
            if listening.connections.load(Ordering::Relaxed) < listening.service.connections_max() {
                listening.is_paused = false;
                self.sockets.driver.receive(listening.socket);
            }
        }
    }

    fn stop(&mut self, until: Instant, now: Timestamp) {
        self.stopping = Some(until);
        for listening in self.services.drain(..) {
            self.sockets.close(listening.socket);
        }
        for slot in self.conversations.drain(now) {
            self.carry_out(slot, now);
        }
    }

    fn has_stopped(&mut self) -> bool {
        let Some(until) = self.stopping else { return false };
        if self.sockets.driver.now() >= until {
            return true;
        }
        if !self.conversations.has_conversations() {
            // Last replies go out now: nothing else may ever wake this thread.
            if self.sockets.driver.glance().is_ok() {
                self.look();
            }
            self.conversations.expire_closing(self.now(), &mut self.sockets.driver);
        }
        let is_done = self.conversations.is_empty()
            && self.jobs.is_empty()
            && self.inquiries.open_count() == 0
            && !self.sockets.driver.is_closing_streams();
        let was_done = self.inbox.is_done.swap(is_done, Ordering::SeqCst);
        if is_done && !was_done {
            self.peers.iter().for_each(|peer| peer.waker.wake());
        }
        is_done && self.peers.iter().all(|peer| peer.is_done.load(Ordering::SeqCst))
    }

    /// This thread ends, or its sockets are of no use any more: everybody is answered with a failure.
    pub(super) fn give_up(&mut self) {
        for socket in self.conversations.sockets() {
            self.conversations.ended(socket.index());
        }
        let messages = self.inbox.close();
        self.inquiries.expire(self.now() + DRAIN_TIME, &mut self.sockets);
        self.deliver();
        for message in messages {
            match message {
                Message::AskFor { question, worker, waiter } => {
                    let answer = Answer::failed(Failure::Unreachable);
                    self.peers[worker].put(Message::Answered { question, answer, waiter });
                }
                message => message.refuse(),
            }
        }
        self.jobs.give_up();
    }

    fn publish(&mut self) {
        let published = &self.inbox.statistics;
        if let Some(trouble) = self.sockets.take_trouble() {
            *published.tls_trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
        }
        if let Ok(mut figures) = published.figures.try_lock() {
            *figures = self.inquiries.statistics();
        }
        if let Ok(mut figures) = published.driver.try_lock() {
            *figures = self.sockets.driver.statistics();
        }
        if self.inquiries.has_answered() {
            published.has_answered.store(true, Ordering::Relaxed);
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.1 + self.sockets.driver.now().saturating_duration_since(self.clock.0)
    }

    fn instant(&self, moment: Timestamp) -> Instant {
        self.clock.0 + Duration::from_millis(moment.milliseconds().saturating_sub(self.clock.1.milliseconds()))
    }
}

/// An event that was heard, without its octets.
enum Heard {
    Datagram(SocketId),
    Stream(Role),
    DatagramFailed(SocketId),
    Connected(Role),
    Ended(SocketId, Role),
    Conversation(usize),
    Sent(SocketId),
    Accepted(SocketId, u32),
    AcceptFailed(u32),
    DatagramsLost,
    Moved,
    Nothing,
}

/// A service for one connection, which is counted until this is dropped.
struct Counted {
    service: Arc<dyn Service>,
    connections: Arc<AtomicUsize>,
    /// Of the worker that accepts.
    inbox: Arc<Inbox>,
}

impl Service for Counted {
    fn converse(&self, engine: &Engine, peer: Peer) -> Box<dyn crate::service::Conversation> {
        self.service.converse(engine, peer)
    }

    fn idle_time(&self) -> Option<Duration> {
        self.service.idle_time()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.inbox.waker.wake();
    }
}

fn peer_of(stream: &OwnedFd) -> Peer {
    let address = rustix::net::getpeername(stream).ok().flatten();
    match address.and_then(|address| std::net::SocketAddr::try_from(address).ok()) {
        Some(address) => Peer::Ip(address),
        None => Peer::Local,
    }
}

/// Which worker a question belongs to.
#[derive(Clone, Debug)]
pub(super) struct Owners(Hashing);

impl Owners {
    fn of(&self, question: &Question, worker_count: usize) -> usize {
        if worker_count == 1 {
            return 0;
        }
        self.0.hash(question) as usize % worker_count
    }
}

#[cfg(feature = "simulation")]
pub(super) mod simulated;

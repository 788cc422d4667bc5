//! The loop of one thread: sockets, timers, and the order in which they get their turn.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::connection::{Connection, HOLD_TIME, Next};
use crate::datagrams::{BATCH, Received, ToSend, address};
use crate::desk::{Desk, Faulty, Shared};
use crate::plan::{Fault, Transport};
use crate::server::Options;
use crate::statistics::Counters;
use crate::timers::Timers;

/// A UDP socket that is asked, and those that answer in its place when a fault says so.
#[derive(Debug)]
pub(crate) struct Datagrams {
    pub(crate) socket: UdpSocket,
    pub(crate) other_port: Option<UdpSocket>,
    pub(crate) other_address: Option<UdpSocket>,
}

/// One thread's share of the server.
pub(crate) struct Worker {
    poll: Poll,
    desk: Desk,
    datagrams: Vec<Datagrams>,
    listeners: Vec<TcpListener>,
    connections: HashMap<usize, Connection>,
    connections_max: usize,
    joins: bool,
    /// Tokens are never used twice, so that timers of a connection that is gone find nothing.
    next_token: usize,
    timers: Timers<Job>,
    /// Sockets that may have more to read: the kernel tells only once.
    ready: Vec<usize>,
}

/// Datagrams on their way through one socket.
struct Batch {
    received: Received,
    to_send: ToSend,
}

/// What timers start.
enum Job {
    Datagrams { which: usize, to: SocketAddr, faulty: Faulty },
    Stream { token: usize, faulty: Faulty },
    Write { token: usize },
    Release { token: usize, number: u64 },
}

/// Connections that a server can have open at a time.
pub const TCP_CONNECTIONS_MAX: usize = 1024;

/// Batches or chunks that one socket gets before the others have their turn.
const TURNS: usize = 16;
const WAKER: Token = Token(0);
/// Tokens below are those of the sockets that live as long as the worker.
const FIRST_CONNECTION: usize = 100;
const FIRST_LISTENER: usize = 50;

impl Worker {
    /// Takes over sockets that do not block.
    pub(crate) fn new(
        shared: Arc<Shared>,
        datagrams: Vec<Datagrams>,
        mut listeners: Vec<TcpListener>,
        options: Options,
    ) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        for (index, it) in datagrams.iter().enumerate() {
            let mut source = SourceFd(&it.socket.as_raw_fd());
            poll.registry().register(&mut source, Token(1 + index), Interest::READABLE)?;
        }
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener, Token(FIRST_LISTENER + index), Interest::READABLE)?;
        }
        let worker = Self {
            poll,
            desk: Desk::new(shared),
            datagrams,
            listeners,
            connections: HashMap::new(),
            connections_max: options.tcp_connections_max.min(TCP_CONNECTIONS_MAX),
            joins: options.joins,
            next_token: FIRST_CONNECTION,
            timers: Timers::new(),
            ready: Vec::new(),
        };
        Ok((worker, waker))
    }

    /// Serves until the server stops.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        // Made here, because what points into itself stays on its thread.
        let mut batches: Vec<Batch> = self.datagrams.iter().map(|_| Batch::new(self.joins)).collect();
        while !self.desk.shared.is_stopping.load(Ordering::Acquire) {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The poll is gone; so is the server.
                Err(_) => return,
            }
            self.desk.refresh();
            let mut ready = std::mem::take(&mut self.ready);
            for event in &events {
                let Token(token) = event.token();
                if token >= FIRST_CONNECTION && event.is_writable() {
                    self.write(token);
                }
                if (event.is_readable() || event.is_read_closed()) && !ready.contains(&token) {
                    ready.push(token);
                }
            }
            for token in ready {
                let has_more = match token {
                    0 => false,
                    1..FIRST_LISTENER => batches.get_mut(token - 1).is_some_and(|batch| self.receive(token - 1, batch)),
                    FIRST_LISTENER..FIRST_CONNECTION => self.accept(token - FIRST_LISTENER),
                    _ => self.read(token),
                };
                if has_more {
                    self.ready.push(token);
                }
            }
            let now = Instant::now();
            while let Some(job) = self.timers.take_due(now) {
                self.start(job);
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers.next_due().map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Answers datagrams in batches; true when there may be more.
    fn receive(&mut self, which: usize, batch: &mut Batch) -> bool {
        for _ in 0..TURNS {
            let Some(datagrams) = self.datagrams.get(which) else { return false };
            // An error here is what an earlier datagram met at its receiver, and is over with this call.
            let Ok(count) = batch.received.receive(&datagrams.socket) else { continue };
            self.desk.shared.counters.udp_queries.fetch_add(count as u64, Ordering::Relaxed);
            if self.desk.is_paused() {
                self.desk.shared.counters.paused.fetch_add(count as u64, Ordering::Relaxed);
            } else {
                self.answer(which, batch);
            }
            if count < BATCH {
                return false;
            }
        }
        true
    }

    /// Answers what was received last.
    fn answer(&mut self, which: usize, batch: &mut Batch) {
        let Some(datagrams) = self.datagrams.get(which) else { return };
        let shared = Arc::clone(&self.desk.shared);
        let counters = &shared.counters;
        for (query, from) in batch.received.iter() {
            let mut faulty = None;
            batch.to_send.add(from, |out| faulty = self.desk.handle(query, Transport::Udp, out));
            let (Some(faulty), Some(to)) = (faulty, address(&from)) else { continue };
            let Some(delay) = faulty.delay else {
                send(datagrams, to, &faulty, counters);
                continue;
            };
            if !self.timers.add(Instant::now() + delay, Job::Datagrams { which, to, faulty }) {
                counters.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Counted first: who has a reply finds it counted.
        let count = batch.to_send.len();
        counters.udp_replies.fetch_add(count as u64, Ordering::Relaxed);
        let missing = (count - batch.to_send.send(&datagrams.socket)) as u64;
        counters.udp_replies.fetch_sub(missing, Ordering::Relaxed);
        counters.lost.fetch_add(missing, Ordering::Relaxed);
    }

    /// Accepts connections; true when there may be more.
    fn accept(&mut self, which: usize) -> bool {
        for _ in 0..TURNS {
            let Some(Ok((stream, _))) = self.listeners.get(which).map(TcpListener::accept) else { return false };
            let counters = &self.desk.shared.counters;
            let nth = counters.tcp_connections.fetch_add(1, Ordering::Relaxed) + 1;
            if self.connections.len() >= self.connections_max {
                counters.tcp_over_limit.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            if self.desk.refuses(nth) {
                continue;
            }
            let mut connection = Connection::new(stream);
            let token = self.next_token;
            self.next_token += 1;
            let interest = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut connection.stream, Token(token), interest).is_ok() {
                self.connections.insert(token, connection);
            }
        }
        true
    }

    /// Reads and answers what a connection sent; true when there may be more.
    fn read(&mut self, token: usize) -> bool {
        let mut has_more = true;
        for _ in 0..TURNS {
            let Some(connection) = self.connections.get_mut(&token) else { return false };
            match connection.read() {
                Ok(more) => has_more = more,
                Err(_) => {
                    self.connections.remove(&token);
                    return false;
                }
            }
            while let Some(query) = self.connections.get_mut(&token).and_then(Connection::query) {
                self.answer_stream(token, &query);
            }
            if !has_more {
                break;
            }
        }
        self.write(token);
        has_more
    }

    fn answer_stream(&mut self, token: usize, query: &[u8]) {
        let counters = &self.desk.shared.counters;
        counters.tcp_queries.fetch_add(1, Ordering::Relaxed);
        if self.desk.is_paused() {
            counters.paused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut reply = Vec::new();
        let faulty = self.desk.handle(query, Transport::Tcp, &mut reply);
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let counters = &self.desk.shared.counters;
        match faulty {
            None if reply.is_empty() => {}
            None => {
                counters.tcp_replies.fetch_add(1, Ordering::Relaxed);
                connection.reply(&reply);
            }
            Some(faulty) => match faulty.delay {
                None => self.deliver(token, faulty),
                Some(delay) => {
                    if !self.timers.add(Instant::now() + delay, Job::Stream { token, faulty }) {
                        counters.lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
            },
        }
    }

    /// Hands the replies of a query that met faults to its connection.
    fn deliver(&mut self, token: usize, faulty: Faulty) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        self.desk.shared.counters.tcp_replies.fetch_add(faulty.replies.len() as u64, Ordering::Relaxed);
        if let Some(number) = connection.faulty(faulty) {
            self.timers.add(Instant::now() + HOLD_TIME, Job::Release { token, number });
        }
    }

    fn write(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if !connection.is_slow() {
            self.write_on(token);
        }
    }

    fn write_on(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let next = connection.write();
        if connection.is_over_limit() {
            self.desk.shared.counters.lost.fetch_add(1, Ordering::Relaxed);
        } else if let Next::WriteAfter(pause) = next
            && self.timers.add(Instant::now() + pause, Job::Write { token })
        {
            return;
        } else if next == Next::Wait {
            return;
        }
        self.connections.remove(&token);
    }

    fn start(&mut self, job: Job) {
        let counters = &self.desk.shared.counters;
        let is_paused = self.desk.is_paused();
        match job {
            Job::Datagrams { .. } | Job::Stream { .. } if is_paused => {
                counters.lost.fetch_add(1, Ordering::Relaxed);
            }
            Job::Datagrams { which, to, faulty } => {
                if let Some(datagrams) = self.datagrams.get(which) {
                    send(datagrams, to, &faulty, counters);
                }
            }
            Job::Stream { token, faulty } => {
                self.deliver(token, faulty);
                self.write(token);
            }
            Job::Write { token } => self.write_on(token),
            Job::Release { token, number } => {
                if let Some(connection) = self.connections.get_mut(&token) {
                    connection.release_number(number);
                    self.write(token);
                }
            }
        }
    }
}

impl Batch {
    fn new(joins: bool) -> Self {
        let to_send = if joins { ToSend::new() } else { ToSend::new().without_joining() };
        Self { received: Received::new(), to_send }
    }
}

/// Sends the replies of a query that met faults.
fn send(datagrams: &Datagrams, to: SocketAddr, faulty: &Faulty, counters: &Counters) {
    let own = &datagrams.socket;
    for (index, reply) in faulty.replies.iter().enumerate() {
        let from = match faulty.delivery {
            Some(Fault::OtherPort) if index == 0 => datagrams.other_port.as_ref(),
            Some(Fault::OtherAddress) if index == 0 => {
                datagrams.other_address.as_ref().or(datagrams.other_port.as_ref())
            }
            _ => None,
        };
        counters.udp_replies.fetch_add(1, Ordering::Relaxed);
        if from.unwrap_or(own).send_to(reply, to).is_err() {
            counters.udp_replies.fetch_sub(1, Ordering::Relaxed);
            counters.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

//! What is being asked of the servers: every question once, whoever wants to know.
//!
//! [`Inquiries`] opens no socket and reads no clock. It is told what came, and tells a [`Network`] what to send.
//!
//! Cost of a question that one datagram answers: a slot of the table, which is used again; one entry in the list of the
//! port it went out by, found by looking along that list (in flight divided by ports, 16 at the most by default); one
//! place on the wheel. The answer is the only thing that stays allocated.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::time::Duration;

use hashbrown::HashTable;
use mailproof_proto::dns::lookup::{Lookup, LookupOptions, Step};
use mailproof_proto::dns::{Answer, Failure, Outcome, Question};
use mailproof_proto::time::Timestamp;

use super::seeds::Seeds;
use super::servers::{self, Order, ServerState};
use super::wheel::Wheel;
use super::{NetworkOptions, NetworkStatistics};

/// What queries travel by. Ports and links have small numbers that are used again after they were closed.
pub(crate) trait Network {
    /// A new socket connected to a server, with a port that nobody can foresee; `None` when there is none to be had.
    fn open_port(&mut self, server: usize) -> Option<u32>;

    /// Sends a datagram.
    fn send_udp(&mut self, port: u32, query: &[u8]);

    /// Closes a port.
    fn close_port(&mut self, port: u32);

    /// Starts a connection to a server.
    fn open_link(&mut self, server: usize) -> Option<u32>;

    /// Sends octets over a connection that is there.
    fn send_tcp(&mut self, link: u32, octets: &[u8]);

    /// Closes a connection.
    fn close_link(&mut self, link: u32);
}

/// All questions that are on their way.
pub(crate) struct Inquiries<W> {
    options: NetworkOptions,
    servers: Vec<Server>,
    table: Vec<Inquiry<W>>,
    free: Vec<u32>,
    /// Numbers in the table, found by their questions.
    by_question: HashTable<u32>,
    hasher: RandomState,
    /// Those that wait until fewer are in flight.
    waiting: VecDeque<(u32, u32)>,
    in_flight: usize,
    ports: Vec<Port>,
    links: Vec<Option<Link>>,
    wheel: Wheel,
    seeds: Seeds,
    /// Those that have their answer and keep their place until somebody has taken it.
    finished: VecDeque<Finished>,
    statistics: NetworkStatistics,
}

struct Finished {
    number: u32,
    answer: Answer,
    is_news: bool,
}

struct Server {
    state: ServerState,
    /// Its ports, by their numbers; opened when they are first drawn.
    ports: Vec<Option<u32>>,
    /// The ports that queries of this moment leave by, those of one length by one port.
    runs: [Run; RUNS],
    /// Its connections, those that are still being made included.
    links: Vec<u32>,
}

/// Queries of one length that leave together leave by one port, drawn by lot: they go through the kernel at once, and one
/// call fetches their replies. A forger's guess at the port of any of them is as good as before.
#[derive(Clone, Copy, Default)]
struct Run {
    /// The length of its queries.
    bytes: usize,
    slot: usize,
    left: u8,
    at: Timestamp,
}

struct Inquiry<W> {
    question: Question,
    /// Of the question.
    hash: u64,
    generation: u32,
    /// Of the question, or of an earlier one in this slot.
    lookup: Option<Box<Lookup>>,
    /// The lookup is of this question; not while it waits.
    is_started: bool,
    order: Order,
    waiters: Vec<W>,
    deadline: Timestamp,
    /// Where queries are outstanding.
    sent: Vec<Sent>,
    /// The server whose reply is waited for, if it has not failed.
    asked: Option<u8>,
}

#[derive(Clone, Copy, PartialEq)]
struct Sent {
    way: Way,
    server: u8,
    id: u16,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Port(u32),
    Link(u32),
}

#[derive(Default)]
struct Port {
    server: u8,
    is_open: bool,
    /// Closed as soon as nothing is outstanding.
    is_retired: bool,
    opened: Timestamp,
    query_count: u32,
    outstanding: Vec<Outstanding>,
}

#[derive(Clone, Copy)]
struct Outstanding {
    id: u16,
    inquiry: u32,
    at: Timestamp,
}

struct Link {
    server: u8,
    is_connected: bool,
    outstanding: Vec<Outstanding>,
    /// Octets to send once it is connected.
    queue: Vec<u8>,
    /// A message that has not come whole.
    input: Vec<u8>,
    last_use: Timestamp,
    /// When the other side did something last.
    last_heard: Timestamp,
    has_answered: bool,
}

/// Queries that leave by one port at one moment.
const RUN_QUERIES_MAX: u8 = 32;
/// Runs at a time; two lengths that share a place begin a new one in turn.
const RUNS: usize = 16;
/// Draws of a port whose list has the same ID already; twice in a row is one in four billion.
const PORT_DRAWS: usize = 4;

impl<W> Inquiries<W> {
    pub(crate) fn new(server_count: usize, options: NetworkOptions, seeds: Seeds, now: Timestamp) -> Self {
        let server = |index: usize| {
            let mut state = ServerState::default();
            state.traits.stream_only = options.servers.get(index).is_some_and(|server| server.tls_name.is_some());
            Server { state, ports: vec![None; options.ports.max(1)], runs: [Run::default(); RUNS], links: Vec::new() }
        };
        Self {
            servers: (0..server_count).map(server).collect(),
            options,
            table: Vec::new(),
            free: Vec::new(),
            by_question: HashTable::new(),
            hasher: RandomState::new(),
            waiting: VecDeque::new(),
            in_flight: 0,
            ports: Vec::new(),
            links: Vec::new(),
            wheel: Wheel::new(now),
            seeds,
            finished: VecDeque::new(),
            statistics: NetworkStatistics::default(),
        }
    }

    /// Asks; `waiter` comes back with the answer. Without a waiter it is asked ahead of need.
    pub(crate) fn ask(&mut self, question: &Question, waiter: Option<W>, now: Timestamp, network: &mut dyn Network) {
        let hash = self.hasher.hash_one(question);
        let table = &self.table;
        let is_it = |number: &u32| table.get(*number as usize).is_some_and(|it| it.question == *question);
        if let Some(&number) = self.by_question.find(hash, is_it) {
            self.statistics.joined += 1;
            self.table[number as usize].waiters.extend(waiter);
            return;
        }
        if self.in_flight >= self.options.in_flight_max && self.waiting.len() >= self.options.waiting_max {
            self.statistics.turned_away += 1;
            self.answer_at_once(question, Answer::failed(Failure::Unreachable), waiter);
            return;
        }
        let number = self.take_slot(question, waiter);
        let inquiry = &mut self.table[number as usize];
        inquiry.hash = hash;
        inquiry.deadline = now + self.options.lookup.total_time;
        let (generation, deadline) = (inquiry.generation, inquiry.deadline);
        let table = &self.table;
        self.by_question.insert_unique(hash, number, |number| table[*number as usize].hash);
        if self.in_flight < self.options.in_flight_max {
            self.start(number, now, network);
        } else {
            self.waiting.push_back((number, generation));
            self.wheel.set(number, deadline);
        }
    }

    /// Answers without asking anybody.
    pub(crate) fn answer_at_once(&mut self, question: &Question, answer: Answer, waiter: Option<W>) {
        let number = self.take_slot(question, waiter);
        self.finished.push_back(Finished { number, answer, is_news: false });
    }

    /// A datagram came in by a port, from the server that the port is connected to. One that fills the room there is
    /// (`is_cut`) may have been longer.
    pub(crate) fn udp_received(
        &mut self,
        port: u32,
        datagram: &[u8],
        is_cut: bool,
        now: Timestamp,
        network: &mut dyn Network,
    ) {
        let id = datagram.first_chunk().map(|id| u16::from_be_bytes(*id));
        let found = self.ports.get(port as usize).and_then(|port| {
            let outstanding = port.outstanding.iter().find(|it| Some(it.id) == id)?;
            Some((*outstanding, port.server))
        });
        let Some((outstanding, server)) = found else {
            self.statistics.unmatched += 1;
            return;
        };
        let number = outstanding.inquiry;
        let Some((inquiry, position)) = self.inquiry(number, server) else { return };
        let Some(lookup) = inquiry.lookup.as_deref_mut().filter(|_| inquiry.is_started) else { return };
        let mismatches = lookup.mismatch_count();
        if is_cut {
            // What is missing is asked for as if the server had said so.
            let mut datagram = datagram.to_vec();
            if let Some(flags) = datagram.get_mut(2) {
                *flags |= TRUNCATED;
            }
            lookup.udp_received(position, &datagram);
        } else {
            lookup.udp_received(position, datagram);
        }
        if lookup.mismatch_count() != mismatches {
            self.statistics.unmatched += 1;
            return;
        }
        inquiry.asked = None;
        self.note_reply(server, outstanding.at, now);
        self.drive(number, now, network);
    }

    /// The host of a port's server says that nobody listens.
    pub(crate) fn udp_failed(&mut self, port: u32, now: Timestamp, network: &mut dyn Network) {
        let Some(port) = self.ports.get(port as usize) else { return };
        let server = port.server;
        let numbers: Vec<u32> = port.outstanding.iter().map(|it| it.inquiry).collect();
        for number in numbers {
            let Some((inquiry, position)) = self.inquiry(number, server) else { continue };
            if let Some(lookup) = inquiry.lookup.as_deref_mut().filter(|_| inquiry.is_started) {
                lookup.udp_failed(position);
            }
            self.drive(number, now, network);
        }
    }

    /// A connection stands.
    pub(crate) fn link_connected(&mut self, link: u32, now: Timestamp, network: &mut dyn Network) {
        let Some(it) = self.link(link) else { return };
        it.is_connected = true;
        (it.last_use, it.last_heard) = (now, now);
        let queue = mem::take(&mut it.queue);
        network.send_tcp(link, &queue);
    }

    /// Octets came over a connection.
    pub(crate) fn link_received(&mut self, link: u32, octets: &[u8], now: Timestamp, network: &mut dyn Network) {
        let Some(it) = self.link(link) else { return };
        (it.last_use, it.last_heard) = (now, now);
        let server = it.server;
        let mut input = mem::take(&mut it.input);
        input.extend_from_slice(octets);
        let mut rest = &input[..];
        while let Some((message, after)) = split_message(rest) {
            self.message_received(link, server, message, now, network);
            rest = after;
        }
        // The connection may be gone by now.
        if let Some(it) = self.link(link) {
            it.input = rest.to_vec();
        }
    }

    /// A connection ended or could not be made. Its number is free.
    pub(crate) fn link_ended(&mut self, link: u32, now: Timestamp, network: &mut dyn Network) {
        let Some(it) = self.links.get_mut(link as usize).and_then(Option::take) else { return };
        if let Some(server) = self.servers.get_mut(usize::from(it.server)) {
            server.links.retain(|&other| other != link);
        }
        // First all, then on: the next connection may have the same number, and an inquiry may be here twice.
        let mut numbers: Vec<u32> = it.outstanding.iter().map(|outstanding| outstanding.inquiry).collect();
        numbers.dedup();
        for &number in &numbers {
            let Some((inquiry, position)) = self.inquiry(number, it.server) else { continue };
            inquiry.sent.retain(|sent| sent.way != Way::Link(link));
            match inquiry.lookup.as_deref_mut().filter(|_| inquiry.is_started) {
                // It answers some queries, or one, and then closes: the others were never tried (RFC 7766 section 6.2.4).
                Some(lookup) if it.has_answered => lookup.tcp_interrupted(position),
                Some(lookup) => lookup.tcp_failed(position),
                None => {}
            }
        }
        for number in numbers {
            self.drive(number, now, network);
        }
    }

    /// Time has passed.
    pub(crate) fn expire(&mut self, now: Timestamp, network: &mut dyn Network) {
        while let Some(number) = self.wheel.next_expired(now) {
            let Some(inquiry) = self.table.get(number as usize) else { continue };
            if inquiry.is_started {
                self.drive(number, now, network);
            } else if now >= inquiry.deadline {
                self.finish(number, Answer::failed(Failure::TimedOut), network);
            } else {
                self.wheel.set(number, inquiry.deadline);
            }
        }
        for link in 0..self.links.len() as u32 {
            let idle_time = self.options.link_idle_time;
            let is_idle = |link: &Link| link.outstanding.is_empty() && link.last_use + idle_time <= now;
            if self.links[link as usize].as_ref().is_some_and(is_idle) {
                network.close_link(link);
                self.link_ended(link, now, network);
            }
        }
    }

    /// The moment at which [`expire`](Self::expire) has something to do.
    pub(crate) fn next_moment(&self) -> Option<Timestamp> {
        let idle = |link: &Link| link.outstanding.is_empty().then_some(link.last_use + self.options.link_idle_time);
        let links = self.links.iter().flatten().filter_map(idle);
        links.chain(self.wheel.next_moment()).min()
    }

    /// Some question has its answer.
    pub(crate) fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    /// The next question that has its answer: the question is written over `question`, those who wait for it are put
    /// into `waiters` in place of what is there. True says that the answer has just come from the servers.
    pub(crate) fn next_finished(&mut self, question: &mut Question, waiters: &mut Vec<W>) -> Option<(Answer, bool)> {
        let Finished { number, answer, is_news } = self.finished.pop_front()?;
        let inquiry = &mut self.table[number as usize];
        question.assign(&inquiry.question);
        waiters.clear();
        mem::swap(waiters, &mut inquiry.waiters);
        self.free.push(number);
        Some((answer, is_news))
    }

    /// Datagrams on their way may be lost: asks again for all that is outstanding.
    pub(crate) fn send_again(&mut self, network: &mut dyn Network) {
        for inquiry in &mut self.table {
            let Some(lookup) = inquiry.lookup.as_deref_mut().filter(|_| inquiry.is_started) else { continue };
            for sent in &inquiry.sent {
                let Way::Port(port) = sent.way else { continue };
                let Some(position) = position(&inquiry.order, sent.server) else { continue };
                // An earlier query of another form, or for an alias, has had its reply.
                if let Some(query) = lookup.udp_query(position).filter(|query| id_of(query) == sent.id) {
                    network.send_udp(port, query);
                }
            }
        }
    }

    /// Questions that have no answer yet.
    pub(crate) fn open_count(&self) -> usize {
        self.by_question.len()
    }

    pub(crate) fn statistics(&self) -> NetworkStatistics {
        self.statistics
    }

    /// What is held.
    #[cfg(feature = "simulation")]
    pub(crate) fn census(&self) -> super::Census {
        super::Census {
            ports: self.ports.iter().filter(|port| port.is_open).count(),
            links: self.links.iter().flatten().count(),
            questions: self.by_question.len(),
            in_flight: self.in_flight,
            waiting: self.waiting.len(),
            link_outstanding: self.links.iter().flatten().map(|link| link.outstanding.len()).max().unwrap_or(0),
            question_places: self.table.len(),
            ..super::Census::default()
        }
    }

    /// Whether this server has ever said anything.
    pub(crate) fn has_answered(&self) -> bool {
        self.servers.iter().any(|server| server.state.has_answered)
    }

    fn start(&mut self, number: u32, now: Timestamp, network: &mut dyn Network) {
        let states = self.servers.iter().map(|server| &server.state);
        let order = servers::order(states.clone(), now, self.seeds.next());
        let seed = self.seeds.next();
        let Some(inquiry) = self.table.get_mut(number as usize) else { return };
        let question = &inquiry.question;
        let left = inquiry.deadline.milliseconds().saturating_sub(now.milliseconds());
        let total_time = Duration::from_millis(left);
        let mut traits = [mailproof_proto::dns::lookup::ServerTraits::default(); servers::COUNT_MAX];
        let count = self.servers.len().min(traits.len());
        for (traits, &server) in traits.iter_mut().zip(&order).take(count) {
            *traits = self.servers[usize::from(server)].state.traits;
        }
        let traits = &traits[..count];
        match &mut inquiry.lookup {
            Some(lookup) => lookup.restart(question, traits, total_time, seed, now),
            None => {
                let options = LookupOptions { total_time, ..self.options.lookup.clone() };
                inquiry.lookup = Some(Box::new(Lookup::new(question.clone(), traits, options, seed, now)));
            }
        }
        inquiry.is_started = true;
        inquiry.order = order;
        self.in_flight += 1;
        self.statistics.lookups += 1;
        self.advance(number, now, network);
    }

    /// Goes on with a question; when it is done, with those that wait for its place.
    fn drive(&mut self, number: u32, now: Timestamp, network: &mut dyn Network) {
        self.advance(number, now, network);
        // A loop and no recursion: all that wait may be over as soon as they start.
        while self.in_flight < self.options.in_flight_max {
            let Some((number, generation)) = self.waiting.pop_front() else { break };
            if self.table.get(number as usize).is_some_and(|it| it.generation == generation) {
                self.start(number, now, network);
            }
        }
    }

    /// Does what the lookup says until it waits or is done.
    fn advance(&mut self, number: u32, now: Timestamp, network: &mut dyn Network) {
        loop {
            let Some(inquiry) = self.table.get_mut(number as usize) else { return };
            let Some(lookup) = inquiry.lookup.as_deref_mut().filter(|_| inquiry.is_started) else { return };
            let order = inquiry.order;
            match lookup.poll(now) {
                Step::SendUdp { server: position, query } => {
                    let server = order[position];
                    let before = inquiry.asked.replace(server);
                    let known = inquiry.sent.iter().find(|sent| sent.is(server, query)).copied();
                    let port = match known {
                        Some(Sent { way: Way::Port(port), .. }) => Some(port),
                        _ => take_port(
                            &mut self.servers,
                            &mut self.ports,
                            &self.options,
                            &mut self.seeds,
                            server,
                            query,
                            now,
                            network,
                        ),
                    };
                    match port {
                        Some(port) => {
                            network.send_udp(port, query);
                            self.statistics.udp_queries += 1;
                            if known.is_none() {
                                let id = id_of(query);
                                inquiry.sent.push(Sent { way: Way::Port(port), server, id });
                                let outstanding = Outstanding { id, inquiry: number, at: now };
                                self.ports[port as usize].outstanding.push(outstanding);
                            }
                        }
                        None => lookup.udp_failed(position),
                    }
                    self.note_silence(before, now);
                }
                Step::SendTcp { server: position, query } => {
                    let server = order[position];
                    let before = inquiry.asked.replace(server);
                    let link = take_link(&mut self.servers, &mut self.links, &self.options, server, now, network);
                    match link.and_then(|link| Some((link, self.links.get_mut(link as usize)?.as_mut()?))) {
                        Some((link, it)) => {
                            self.statistics.tcp_queries += 1;
                            let id = id_of(query);
                            it.send(link, query, network);
                            it.outstanding.push(Outstanding { id, inquiry: number, at: now });
                            it.last_use = now;
                            inquiry.sent.push(Sent { way: Way::Link(link), server, id });
                        }
                        None => lookup.tcp_failed(position),
                    }
                    self.note_silence(before, now);
                }
                Step::WaitUntil(until) => {
                    self.wheel.set(number, until);
                    return;
                }
                Step::Done(answer) => {
                    let last = inquiry.asked.take();
                    if *answer.outcome() == Outcome::Failed(Failure::TimedOut) {
                        self.note_silence(last, now);
                    }
                    self.finish(number, answer, network);
                    return;
                }
            }
        }
    }

    fn finish(&mut self, number: u32, answer: Answer, network: &mut dyn Network) {
        self.wheel.remove(number);
        let Some(inquiry) = self.table.get_mut(number as usize) else { return };
        if let Ok(entry) = self.by_question.find_entry(inquiry.hash, |it| *it == number) {
            entry.remove();
        }
        inquiry.generation = inquiry.generation.wrapping_add(1);
        inquiry.asked = None;
        if let Some(lookup) = inquiry.lookup.as_deref().filter(|_| mem::take(&mut inquiry.is_started)) {
            self.in_flight -= 1;
            for (traits, &server) in lookup.traits().zip(&inquiry.order) {
                self.servers[usize::from(server)].state.traits.knows_edns &= traits.knows_edns;
            }
        }
        for sent in inquiry.sent.drain(..) {
            match sent.way {
                Way::Port(port) => {
                    let Some(it) = self.ports.get_mut(port as usize) else { continue };
                    it.outstanding.retain(|outstanding| outstanding.inquiry != number);
                    if it.is_retired && it.outstanding.is_empty() && mem::take(&mut it.is_open) {
                        network.close_port(port);
                    }
                }
                Way::Link(link) => {
                    if let Some(it) = self.links.get_mut(link as usize).and_then(Option::as_mut) {
                        it.outstanding.retain(|outstanding| outstanding.inquiry != number);
                    }
                }
            }
        }
        if matches!(answer.outcome(), Outcome::Failed(_)) {
            self.statistics.failures += 1;
        }
        self.finished.push_back(Finished { number, answer, is_news: true });
    }

    fn message_received(&mut self, link: u32, server: u8, message: &[u8], now: Timestamp, network: &mut dyn Network) {
        let id = message.first_chunk().map(|id| u16::from_be_bytes(*id));
        let Some(it) = self.link(link) else { return };
        // Two questions may have the same ID on one connection; each takes what is its own.
        let candidates: Vec<Outstanding> = it.outstanding.iter().filter(|it| Some(it.id) == id).copied().collect();
        for outstanding in candidates {
            let number = outstanding.inquiry;
            let Some((inquiry, position)) = self.inquiry(number, server) else { continue };
            let Some(lookup) = inquiry.lookup.as_deref_mut().filter(|_| inquiry.is_started) else { continue };
            let mismatches = lookup.mismatch_count();
            lookup.tcp_received(position, message);
            if lookup.mismatch_count() == mismatches {
                inquiry.asked = None;
                if let Some(link) = self.link(link) {
                    link.has_answered = true;
                }
                self.note_reply(server, outstanding.at, now);
                self.drive(number, now, network);
                return;
            }
        }
        self.statistics.unmatched += 1;
    }

    fn note_reply(&mut self, server: u8, asked_at: Timestamp, now: Timestamp) {
        if let Some(server) = self.servers.get_mut(usize::from(server)) {
            let took = now.milliseconds().saturating_sub(asked_at.milliseconds());
            server.state.note_reply(Duration::from_millis(took));
        }
    }

    fn note_silence(&mut self, server: Option<u8>, now: Timestamp) {
        if let Some(server) = server.and_then(|server| self.servers.get_mut(usize::from(server))) {
            server.state.note_silence(now);
            self.statistics.silent_tries += 1;
        }
    }

    /// An inquiry, and the number by which its lookup knows the server.
    fn inquiry(&mut self, number: u32, server: u8) -> Option<(&mut Inquiry<W>, usize)> {
        let inquiry = self.table.get_mut(number as usize)?;
        let position = position(&inquiry.order, server)?;
        Some((inquiry, position))
    }

    fn link(&mut self, link: u32) -> Option<&mut Link> {
        self.links.get_mut(link as usize)?.as_mut()
    }

    fn take_slot(&mut self, question: &Question, waiter: Option<W>) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.table.push(Inquiry {
                question: question.clone(),
                hash: 0,
                generation: 0,
                lookup: None,
                is_started: false,
                order: Order::default(),
                waiters: Vec::new(),
                deadline: Timestamp::default(),
                sent: Vec::new(),
                asked: None,
            });
            (self.table.len() - 1) as u32
        });
        let inquiry = &mut self.table[number as usize];
        inquiry.question.assign(question);
        inquiry.waiters.extend(waiter);
        number
    }
}

impl Sent {
    fn is(&self, server: u8, query: &[u8]) -> bool {
        self.server == server && self.id == id_of(query) && matches!(self.way, Way::Port(_))
    }
}

impl Link {
    /// The other side has said nothing for the time of a try although something is outstanding. Its host may have started
    /// again and forgotten the connection, which would not end for a quarter of an hour.
    fn is_deaf(&self, options: &NetworkOptions, now: Timestamp) -> bool {
        let try_time = options.lookup.try_time;
        self.last_heard + try_time <= now && self.outstanding.first().is_some_and(|it| it.at + try_time <= now)
    }

    fn send(&mut self, link: u32, query: &[u8], network: &mut dyn Network) {
        // A query is 384 octets at the most.
        let length = (query.len() as u16).to_be_bytes();
        if self.is_connected {
            network.send_tcp(link, &[&length, query].concat());
        } else {
            self.queue.extend_from_slice(&length);
            self.queue.extend_from_slice(query);
        }
    }
}

/// A port of the server drawn by lot, on which no query with the same ID is outstanding.
#[expect(clippy::too_many_arguments, reason = "parts of one struct, borrowed apart")]
fn take_port(
    servers: &mut [Server],
    ports: &mut Vec<Port>,
    options: &NetworkOptions,
    seeds: &mut Seeds,
    server: u8,
    query: &[u8],
    now: Timestamp,
    network: &mut dyn Network,
) -> Option<u32> {
    let Server { ports: slots, runs, .. } = servers.get_mut(usize::from(server))?;
    let run = &mut runs[query.len() % RUNS];
    for _ in 0..PORT_DRAWS {
        if run.left == 0 || run.at != now || run.bytes != query.len() {
            let slot = seeds.next() as usize % slots.len();
            *run = Run { bytes: query.len(), slot, left: RUN_QUERIES_MAX, at: now };
        }
        run.left -= 1;
        let slot = run.slot;
        let fresh = slots[slot].filter(|&port| !ports[port as usize].is_worn(options, now));
        let Some(port) = fresh.or_else(|| replace_port(&mut slots[slot], ports, server, now, network)) else {
            run.left = 0;
            continue;
        };
        let it = &mut ports[port as usize];
        if it.outstanding.iter().all(|outstanding| outstanding.id != id_of(query)) {
            it.query_count += 1;
            return Some(port);
        }
        run.left = 0;
    }
    // There may be no descriptor left: whatever is open has to do.
    let is_fit = |&port: &u32| ports[port as usize].outstanding.iter().all(|it| it.id != id_of(query));
    slots.iter().copied().flatten().find(is_fit)
}

/// Opens a port in the place of one that is worn, or of none; keeps the one that is there when none can be had.
fn replace_port(
    slot: &mut Option<u32>,
    ports: &mut Vec<Port>,
    server: u8,
    now: Timestamp,
    network: &mut dyn Network,
) -> Option<u32> {
    let Some(port) = network.open_port(usize::from(server)) else { return *slot };
    if let Some(worn) = slot.replace(port) {
        let it = &mut ports[worn as usize];
        it.is_retired = true;
        if it.outstanding.is_empty() && mem::take(&mut it.is_open) {
            network.close_port(worn);
        }
    }
    if ports.len() <= port as usize {
        ports.resize_with(port as usize + 1, Port::default);
    }
    let mut outstanding = mem::take(&mut ports[port as usize].outstanding);
    outstanding.clear();
    ports[port as usize] = Port { server, is_open: true, opened: now, outstanding, ..Port::default() };
    Some(port)
}

impl Port {
    /// It has been used for as long, or as often, as one is.
    fn is_worn(&self, options: &NetworkOptions, now: Timestamp) -> bool {
        self.query_count >= options.port_queries_max || self.opened + options.port_time_max <= now
    }
}

/// The connection to a server, new if need be.
fn take_link(
    servers: &mut [Server],
    links: &mut Vec<Option<Link>>,
    options: &NetworkOptions,
    server: u8,
    now: Timestamp,
    network: &mut dyn Network,
) -> Option<u32> {
    let it = servers.get_mut(usize::from(server))?;
    let is_fit = |link: &Link| link.outstanding.len() < options.link_outstanding_max && !link.is_deaf(options, now);
    let found = it.links.iter().find(|&&link| links.get(link as usize).and_then(Option::as_ref).is_some_and(is_fit));
    if let Some(&link) = found {
        return Some(link);
    }
    let link = network.open_link(usize::from(server))?;
    if links.len() <= link as usize {
        links.resize_with(link as usize + 1, || None);
    }
    links[link as usize] = Some(Link {
        server,
        is_connected: false,
        outstanding: Vec::new(),
        queue: Vec::new(),
        input: Vec::new(),
        last_use: now,
        last_heard: now,
        has_answered: false,
    });
    it.links.push(link);
    Some(link)
}

fn position(order: &Order, server: u8) -> Option<usize> {
    order.iter().position(|&it| it == server)
}

fn id_of(query: &[u8]) -> u16 {
    query.first_chunk().map_or(0, |id| u16::from_be_bytes(*id))
}

/// The first whole message of a stream, without its length, and what follows (RFC 1035 section 4.2.2).
fn split_message(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// The TC bit, in the third octet of a message (RFC 1035 section 4.1.1).
const TRUNCATED: u8 = 0x02;

#[cfg(test)]
mod tests;

//! The network of a run: time, datagrams, streams, DNS servers and the wires to the mail servers.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mailproof::simulation::{Happening, Network, Opened};
use mailproof_fault_dns::{Fault, Replies, Transport};
use mailproof_testkit::random::Random;

use super::plan::{Plan, Trouble};

/// Everything outside of the workers.
pub(super) struct World {
    plan: Plan,
    random: Random,
    /// Milliseconds since the beginning.
    now_ms: u64,
    base: Instant,
    base_ms: u64,
    clock: Arc<AtomicU64>,
    events: BTreeMap<(u64, u64), Event>,
    serial: u64,
    ends: Vec<End>,
    /// Those that are open, by descriptor.
    by_descriptor: HashMap<RawFd, usize>,
    /// Those that are open, in the order in which they came.
    open: Vec<usize>,
    /// What the servers say, before and after everything is withdrawn.
    replies: [Rc<Replies>; 2],
    /// When each server says nothing, and when nobody listens there.
    silences: Vec<Option<(u64, u64)>>,
    deaths: Vec<Option<(u64, u64)>>,
    wires: Vec<Wire>,
    /// Connections that nobody has accepted yet.
    incoming: VecDeque<usize>,
    /// What the mail servers hear.
    pub(super) heard: Vec<(usize, Heard)>,
    /// Of everything that happened.
    pub(super) hash: u64,
    /// Everything that happened, when it is to be shown.
    pub(super) trace: Option<Vec<String>>,
}

/// What a mail server hears of its connection.
pub(super) enum Heard {
    Octets(Vec<u8>),
    Ended,
}

/// A socket of a worker.
struct End {
    descriptor: RawFd,
    worker: usize,
    role: Role,
    wants: bool,
    is_connecting: bool,
    inbox: VecDeque<Happening>,
    /// Streams keep their order: what comes later arrives later.
    last_arrival: u64,
    is_full: bool,
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Port(usize),
    /// A connection to this server.
    Link(usize),
    Listener,
    Wire(usize),
    Closed,
}

/// The way between a mail server and the filter.
#[derive(Default)]
struct Wire {
    /// The filter's end.
    end: Option<usize>,
    /// What came before it was accepted.
    early: Vec<Option<Vec<u8>>>,
    is_reset: bool,
    has_ended: bool,
    last_arrival: u64,
}

enum Event {
    ToServer { end: usize, query: Vec<u8> },
    StreamToServer { end: usize, octets: Vec<u8> },
    ToEnd { end: usize, happening: Happening },
    Writable { end: usize },
    ToFilter { wire: usize, octets: Option<Vec<u8>>, is_reset: bool },
    ToMailServer { wire: usize, octets: Vec<u8> },
    MailServerEnd { wire: usize },
    Incoming { wire: usize },
}

impl World {
    pub(super) fn new(plan: &Plan, replies: [Rc<Replies>; 2], base_ms: u64, traces: bool) -> Self {
        let mut random = Random::of_case(plan.seed, WORLD_CASE);
        let mut windows = |rate: usize| -> Vec<Option<(u64, u64)>> {
            let window = |random: &mut Random| {
                // About when records change, it matters most.
                let about = plan.revoked_ms.map(|moment| moment.saturating_sub(random.below(3_000) as u64));
                let from = about.unwrap_or_else(|| random.below(8_000) as u64);
                (from, from + random.between(200, if about.is_some() { 600_000 } else { 150_000 }) as u64)
            };
            (0..plan.servers).map(|_| (rate > 0 && random.chance(rate.max(50))).then(|| window(&mut random))).collect()
        };
        let (silences, deaths) = (windows(plan.rate(Trouble::Silence)), windows(plan.rate(Trouble::DeadPort)));
        Self {
            random,
            now_ms: 0,
            base: Instant::now(),
            base_ms,
            clock: Arc::new(AtomicU64::new(base_ms)),
            events: BTreeMap::new(),
            serial: 0,
            ends: Vec::new(),
            by_descriptor: HashMap::new(),
            open: Vec::new(),
            replies,
            silences,
            deaths,
            wires: plan.connections.iter().map(|_| Wire::default()).collect(),
            incoming: VecDeque::new(),
            heard: Vec::new(),
            hash: 0,
            trace: traces.then(Vec::new),
            plan: plan.clone(),
        }
    }

    pub(super) fn clock(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.clock)
    }

    pub(super) const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Milliseconds from the beginning to a moment, rounded up.
    pub(super) fn milliseconds(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.base).as_nanos().div_ceil(1_000_000) as u64
    }

    /// A number below `count`, for whoever runs the workers.
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.random.below(count)
    }

    pub(super) fn strikes(&mut self, trouble: Trouble) -> bool {
        let rate = self.plan.rate(trouble);
        rate > 0 && self.random.chance(rate)
    }

    pub(super) fn next_event(&self) -> Option<u64> {
        self.events.first_key_value().map(|((moment, _), _)| *moment)
    }

    /// Lets time pass, and everything happen that is due.
    pub(super) fn advance(&mut self, to_ms: u64) {
        self.now_ms = self.now_ms.max(to_ms);
        self.clock.store(self.base_ms + self.now_ms, Ordering::Relaxed);
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now_ms) {
            let event = entry.remove();
            self.happen(event);
        }
    }

    /// A mail server connects.
    pub(super) fn connect(&mut self, wire: usize, at_ms: u64) {
        self.schedule(at_ms, Event::Incoming { wire });
    }

    /// A mail server sends, in pieces, or ends its side (`None`), or resets the connection.
    pub(super) fn send(
        &mut self,
        wire: usize,
        octets: Option<&[u8]>,
        pause_ms: u64,
        piece_bytes: usize,
        is_reset: bool,
    ) {
        let mut at = (self.now_ms + pause_ms).max(self.wires[wire].last_arrival);
        let Some(octets) = octets else {
            at += self.latency();
            self.wires[wire].last_arrival = at;
            return self.schedule(at, Event::ToFilter { wire, octets: None, is_reset });
        };
        let mut rest = octets;
        while !rest.is_empty() {
            let few = self.strikes(Trouble::ShortReads);
            let most = if few { 40.min(piece_bytes) } else { piece_bytes };
            let length = if most > 60_000 { rest.len() } else { self.random.between(1, most).min(rest.len()) };
            let (piece, after) = rest.split_at(length);
            at += if self.random.chance(10) { self.latency() } else { 0 };
            self.schedule(at, Event::ToFilter { wire, octets: Some(piece.to_vec()), is_reset: false });
            rest = after;
        }
        self.wires[wire].last_arrival = at;
    }

    /// When the last of what mail servers have sent comes.
    pub(super) fn last_arrival(&self) -> u64 {
        self.wires.iter().map(|wire| wire.last_arrival).max().unwrap_or(0)
    }

    /// When the last of what a mail server has sent comes.
    pub(super) fn arrival(&self, wire: usize) -> u64 {
        self.wires[wire].last_arrival
    }

    /// The filter still holds its end of a wire.
    pub(super) fn is_held(&self, wire: usize) -> bool {
        self.wires[wire].end.is_some()
    }

    pub(super) fn note(&mut self, code: u64, number: u64, text: impl FnOnce() -> String) {
        let mixed = code ^ number.rotate_left(20) ^ self.now_ms.rotate_left(40);
        self.hash = (self.hash.rotate_left(5) ^ mixed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let now_ms = self.now_ms;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now_ms:>8} ms  {}", text()));
        }
    }

    fn schedule(&mut self, at_ms: u64, event: Event) {
        self.serial += 1;
        self.events.insert((at_ms.max(self.now_ms), self.serial), event);
    }

    fn latency(&mut self) -> u64 {
        if self.strikes(Trouble::Delay) { self.random.between(1, 2_500) as u64 } else { self.random.below(4) as u64 }
    }

    /// Within this window of a server.
    fn is_within(&self, windows: &[Option<(u64, u64)>], server: usize) -> bool {
        windows[server].is_some_and(|(from, until)| (from..until).contains(&self.now_ms))
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToServer { end, query } => self.answer_datagram(end, &query),
            Event::StreamToServer { end, octets } => self.answer_stream(end, &octets),
            Event::ToEnd { end, happening } => {
                let it = &mut self.ends[end];
                if !matches!(it.role, Role::Closed) {
                    it.inbox.push_back(happening);
                }
            }
            Event::Writable { end } => {
                let descriptor = self.ends[end].descriptor;
                if std::mem::take(&mut self.ends[end].is_full) && !matches!(self.ends[end].role, Role::Closed) {
                    self.ends[end].inbox.push_back(Happening::Writable(descriptor));
                }
            }
            Event::Incoming { wire } => {
                self.note(1, wire as u64, || format!("mail server {wire} connects"));
                self.incoming.push_back(wire);
            }
            Event::ToFilter { wire, octets, is_reset } => self.filter_hears(wire, octets, is_reset),
            Event::ToMailServer { wire, octets } => {
                self.note(2, octets.len() as u64, || format!("mail server {wire} hears {} octets", octets.len()));
                self.heard.push((wire, Heard::Octets(octets)));
            }
            Event::MailServerEnd { wire } => {
                self.note(3, wire as u64, || format!("mail server {wire} hears the end"));
                self.heard.push((wire, Heard::Ended));
            }
        }
    }

    fn filter_hears(&mut self, wire: usize, octets: Option<Vec<u8>>, is_reset: bool) {
        let length = octets.as_ref().map_or(0, Vec::len);
        self.note(4, length as u64, || format!("{length} octets of mail server {wire} come, reset {is_reset}"));
        self.wires[wire].is_reset |= is_reset;
        match self.wires[wire].end {
            Some(end) => {
                let descriptor = self.ends[end].descriptor;
                self.ends[end].inbox.push_back(match octets {
                    Some(octets) => Happening::Received(descriptor, octets),
                    None => Happening::Ended(descriptor, is_reset),
                });
            }
            None => self.wires[wire].early.push(octets),
        }
    }

    fn answer_datagram(&mut self, end: usize, query: &[u8]) {
        let Role::Port(server) = self.ends[end].role else { return };
        let question = Replies::question(query);
        if self.is_within(&self.deaths.clone(), server) {
            let descriptor = self.ends[end].descriptor;
            return self.schedule(self.now_ms, Event::ToEnd { end, happening: Happening::DatagramFailed(descriptor) });
        }
        if self.is_within(&self.silences.clone(), server) || self.strikes(Trouble::Loss) {
            return self.note(5, end as u64, || format!("server {server} says nothing to {question:?}"));
        }
        let replies = self.replies();
        if self.strikes(Trouble::Impostor)
            && let Some(forged) = replies.to_another_question(query)
        {
            self.datagram_to(end, forged);
        }
        let fault = self.fault(Transport::Udp);
        let Some(reply) = replies.reply(query, Transport::Udp, fault, &mut self.random) else { return };
        self.note(6, reply.len() as u64, || {
            let question = question.map(|it| it.to_string()).unwrap_or_default();
            format!("server {server} answers {question} with {} octets, {fault:?}", reply.len())
        });
        if self.strikes(Trouble::Duplicate) {
            self.datagram_to(end, reply.clone());
        }
        // What belongs to no query does not end the wait; the right reply may follow.
        if fault.is_some_and(is_no_reply) && self.random.chance(60) {
            let right = replies.reply(query, Transport::Udp, None, &mut self.random).unwrap_or_default();
            self.datagram_to(end, right);
        }
        self.datagram_to(end, reply);
    }

    fn datagram_to(&mut self, end: usize, octets: Vec<u8>) {
        let at = self.now_ms + self.latency();
        let happening = Happening::Received(self.ends[end].descriptor, octets);
        self.schedule(at, Event::ToEnd { end, happening });
    }

    fn replies(&self) -> Rc<Replies> {
        let is_withdrawn = self.plan.revoked_ms.is_some_and(|moment| moment <= self.now_ms);
        Rc::clone(&self.replies[usize::from(is_withdrawn)])
    }

    fn fault(&mut self, by: Transport) -> Option<Fault> {
        for (trouble, faults) in FAULTS {
            if self.strikes(trouble) {
                let fault = faults[self.random.below(faults.len())];
                let is_of_datagrams = matches!(fault, Fault::Truncation | Fault::TruncationPartial | Fault::Empty);
                return (by == Transport::Udp || !is_of_datagrams).then_some(fault);
            }
        }
        None
    }

    /// Whole queries of a stream; the workers write each at once.
    fn answer_stream(&mut self, end: usize, octets: &[u8]) {
        let Role::Link(server) = self.ends[end].role else { return };
        let mut rest = octets;
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
            let (query, after) = after.split_at(length);
            rest = after;
            if self.is_within(&self.silences.clone(), server) {
                continue;
            }
            let is_closed = self.strikes(Trouble::Closed);
            let fault = self.fault(Transport::Tcp);
            let replies = self.replies();
            let Some(reply) = replies.reply(query, Transport::Tcp, fault, &mut self.random) else { continue };
            self.note(7, reply.len() as u64, || {
                format!("server {server} answers by TCP, {fault:?}, closes {is_closed}")
            });
            let mut framed = (reply.len() as u16).to_be_bytes().to_vec();
            framed.extend(reply);
            if is_closed {
                framed.truncate(self.random.below(framed.len() + 1));
            }
            self.stream_to(end, &framed);
            if is_closed {
                let is_reset = self.random.chance(50);
                let happening = Happening::Ended(self.ends[end].descriptor, is_reset);
                let at = self.ends[end].last_arrival;
                self.schedule(at, Event::ToEnd { end, happening });
                return;
            }
        }
    }

    fn stream_to(&mut self, end: usize, octets: &[u8]) {
        let mut at = self.ends[end].last_arrival.max(self.now_ms) + self.latency();
        let size = if self.strikes(Trouble::ShortReads) { self.random.between(1, 40) } else { usize::MAX };
        for piece in octets.chunks(size.min(octets.len().max(1))) {
            let happening = Happening::Received(self.ends[end].descriptor, piece.to_vec());
            self.schedule(at, Event::ToEnd { end, happening });
            at += u64::from(self.random.chance(20));
        }
        self.ends[end].last_arrival = at;
    }

    fn opened(&mut self, worker: usize, descriptor: RawFd, way: Opened) {
        if way == Opened::Brought
            && let Some(&end) = self.by_descriptor.get(&descriptor)
        {
            self.ends[end].worker = worker;
            self.ends[end].wants = false;
            return;
        }
        self.close(descriptor);
        let end = self.ends.len();
        let server = |address: SocketAddr| usize::from(address.port() - SERVER_PORT);
        let role = match way {
            Opened::Datagram(address) => Role::Port(server(address)),
            Opened::Connecting(address) => Role::Link(server(address)),
            Opened::Accepted(_) => match self.incoming.pop_front() {
                Some(wire) => Role::Wire(wire),
                None => Role::Closed,
            },
            Opened::Brought => Role::Listener,
        };
        self.ends.push(End {
            descriptor,
            worker,
            role,
            wants: false,
            is_connecting: matches!(role, Role::Link(_)),
            inbox: VecDeque::new(),
            last_arrival: 0,
            is_full: false,
        });
        self.by_descriptor.insert(descriptor, end);
        self.open.push(end);
        match role {
            Role::Wire(wire) => {
                self.wires[wire].end = Some(end);
                let is_reset = self.wires[wire].is_reset;
                let early = std::mem::take(&mut self.wires[wire].early).into_iter().map(|octets| match octets {
                    Some(octets) => Happening::Received(descriptor, octets),
                    None => Happening::Ended(descriptor, is_reset),
                });
                self.ends[end].inbox.extend(early);
            }
            Role::Link(server) => self.connect_link(end, server),
            _ => {}
        }
        self.note(8, end as u64, || format!("worker {worker} opens {role:?} as {end}"));
    }

    fn connect_link(&mut self, end: usize, server: usize) {
        let descriptor = self.ends[end].descriptor;
        let (is_refused, is_dead) = (self.strikes(Trouble::Refused), self.is_within(&self.deaths.clone(), server));
        if is_refused && self.random.chance(50) || self.is_within(&self.silences.clone(), server) {
            // Nobody says anything.
            return;
        }
        let at = self.now_ms + self.latency();
        let happening = match is_refused || is_dead {
            true => Happening::Ended(descriptor, true),
            false => Happening::Connected(descriptor),
        };
        self.ends[end].last_arrival = at;
        self.schedule(at, Event::ToEnd { end, happening });
    }

    fn close(&mut self, descriptor: RawFd) {
        let Some(end) = self.by_descriptor.remove(&descriptor) else { return };
        self.open.retain(|it| *it != end);
        let role = std::mem::replace(&mut self.ends[end].role, Role::Closed);
        self.ends[end].inbox.clear();
        self.note(9, end as u64, || format!("{role:?} {end} is closed"));
        if let Role::Wire(wire) = role {
            self.wires[wire].end = None;
            if !std::mem::replace(&mut self.wires[wire].has_ended, true) {
                let at = self.ends[end].last_arrival.max(self.now_ms) + 1;
                self.schedule(at, Event::MailServerEnd { wire });
            }
        }
    }

    fn stream_sent(&mut self, descriptor: RawFd, octets: &[u8]) -> io::Result<usize> {
        let Some(&end) = self.by_descriptor.get(&descriptor) else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let mut taken = octets.len();
        if matches!(self.ends[end].role, Role::Wire(_)) && self.strikes(Trouble::PartialWrites) {
            if self.random.chance(50) {
                self.ends[end].is_full = true;
                let at = self.now_ms + self.random.between(1, 300) as u64;
                self.schedule(at, Event::Writable { end });
                return Err(io::ErrorKind::WouldBlock.into());
            }
            taken = self.random.between(1, taken);
        }
        let octets = octets[..taken].to_vec();
        match self.ends[end].role {
            Role::Wire(wire) if self.wires[wire].is_reset => return Err(io::ErrorKind::BrokenPipe.into()),
            Role::Wire(wire) => {
                let at = self.ends[end].last_arrival.max(self.now_ms) + self.latency().min(1_000);
                self.ends[end].last_arrival = at;
                self.schedule(at, Event::ToMailServer { wire, octets });
            }
            Role::Link(_) => {
                let at = self.now_ms + self.random.below(4) as u64;
                self.schedule(at, Event::StreamToServer { end, octets });
            }
            _ => {}
        }
        Ok(taken)
    }

    fn ready(&self, worker: usize) -> impl Iterator<Item = usize> {
        self.open.iter().copied().filter(move |&end| {
            let it = &self.ends[end];
            if it.worker != worker {
                return false;
            }
            match (it.role, it.inbox.front()) {
                (Role::Listener, _) => it.wants && !self.incoming.is_empty(),
                (_, None) => false,
                (_, Some(Happening::Writable(_) | Happening::Connected(_))) => true,
                (_, Some(_)) => it.wants || it.is_connecting,
            }
        })
    }

    fn next_of(&mut self, worker: usize) -> Option<Happening> {
        let ready: Vec<usize> = self.ready(worker).collect();
        let end = *ready.get(self.random.below(ready.len().max(1)))?;
        let it = &mut self.ends[end];
        if matches!(it.role, Role::Listener) {
            return Some(Happening::Incoming(it.descriptor));
        }
        let happening = it.inbox.pop_front()?;
        if matches!(happening, Happening::Connected(_) | Happening::Ended(..)) {
            it.is_connecting = false;
        }
        let code = match &happening {
            Happening::Received(_, octets) => octets.len() as u64,
            _ => 0,
        };
        self.note(10, code ^ (end as u64) << 32, || format!("worker {worker} is told of {end}: {code} octets"));
        Some(happening)
    }
}

/// What one worker's sockets are connected to.
pub(super) struct Wires {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) worker: usize,
}

impl Network for Wires {
    fn now(&self) -> Instant {
        let world = self.world.borrow();
        world.base + Duration::from_millis(world.now_ms)
    }

    fn opened(&mut self, end: RawFd, way: Opened) {
        self.world.borrow_mut().opened(self.worker, end, way);
    }

    fn wants(&mut self, end: RawFd, wants: bool) {
        let mut world = self.world.borrow_mut();
        if let Some(&end) = world.by_descriptor.get(&end) {
            world.ends[end].wants = wants;
        }
    }

    fn send_datagram(&mut self, end: RawFd, datagram: &[u8]) {
        let mut world = self.world.borrow_mut();
        let Some(&end) = world.by_descriptor.get(&end) else { return };
        world.note(11, datagram.len() as u64, || format!("{end} sends a query"));
        if !world.strikes(Trouble::Loss) {
            let at = world.now_ms + world.latency();
            world.schedule(at, Event::ToServer { end, query: datagram.to_vec() });
        }
    }

    fn send(&mut self, end: RawFd, octets: &[u8]) -> io::Result<usize> {
        self.world.borrow_mut().stream_sent(end, octets)
    }

    fn closed(&mut self, end: RawFd) {
        self.world.borrow_mut().close(end);
    }

    fn has_next(&self) -> bool {
        self.world.borrow().ready(self.worker).next().is_some()
    }

    fn next(&mut self) -> Option<Happening> {
        self.world.borrow_mut().next_of(self.worker)
    }
}

/// The address of a DNS server.
pub(super) fn server_address(number: usize) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, 53), SERVER_PORT + number as u16).into()
}

/// The message is not the reply to any query.
const fn is_no_reply(fault: Fault) -> bool {
    use Fault::{Empty, NoQuestion, Noise, WrongClass, WrongId, WrongName, WrongType};
    matches!(fault, WrongId | WrongName | WrongType | WrongClass | NoQuestion | Noise | Empty)
}

/// What troubles make of replies. None of it is a lie that a resolver would have to believe.
const FAULTS: [(Trouble, &[Fault]); 4] = [
    (
        Trouble::ServerError,
        &[Fault::ServFail, Fault::Refused, Fault::NotImp, Fault::FormErr, Fault::FormErrEdns, Fault::BadVers],
    ),
    (
        Trouble::WrongReply,
        &[
            Fault::WrongId,
            Fault::WrongName,
            Fault::WrongType,
            Fault::WrongClass,
            Fault::NoQuestion,
            Fault::LowerCase,
            Fault::EdnsIgnored,
            Fault::TtlZero,
        ],
    ),
    (Trouble::Truncation, &[Fault::Truncation, Fault::TruncationPartial]),
    (Trouble::Octets, &[Fault::Cut, Fault::CompressionLoop, Fault::Garbage, Fault::Noise, Fault::Empty]),
];

/// The servers differ in their ports.
const SERVER_PORT: u16 = 5300;
/// Draws for the world meet those of no message and no plan.
const WORLD_CASE: u64 = 1 << 53;

//! Inquiries over a simulated network: everything that happens follows from one seed.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;

use mailproof_proto::dns::lookup::Random;
use mailproof_proto::dns::wire::{Query, ReplyWriter, Section};
use mailproof_proto::dns::{Name, RecordSet, RecordType, Txt};
use proptest::prelude::*;

use super::*;

const START: Timestamp = Timestamp::from_seconds(1_795_392_000);
/// A moment fires up to a tick of the wheel late.
const TICK: Duration = Duration::from_millis(4);
const SERVERS_MAX: usize = 3;
/// Steps at one moment.
const IDLE_STEPS_MAX: u32 = 100_000;
/// Larger tables are not looked through after every step.
const CHECKED_MAX: usize = 200;

/// How often what goes wrong, in percent.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    loss: u64,
    late: u64,
    duplicate: u64,
    forged: u64,
    truncated: u64,
    cut: u64,
    server_failure: u64,
    malformed: u64,
    alias: u64,
    without_edns: u64,
    port_unreachable: u64,
    no_port: u64,
    no_link: u64,
    link_refused: u64,
    link_closed: u64,
    link_silent: u64,
    link_in_pieces: u64,
    /// A connection is closed after one reply.
    link_one_reply: u64,
    /// A connection takes everything and says nothing for good.
    link_deaf: u64,
}

/// The sizes of a simulation.
#[derive(Clone, Debug)]
struct Scene {
    seed: u64,
    servers: usize,
    asks: usize,
    names: u64,
    /// All questions are asked within this time.
    span_ms: u64,
    options: NetworkOptions,
    faults: Faults,
}

enum Arrival {
    Datagram { port: u32, serial: u64, octets: Vec<u8> },
    Unreachable { port: u32, serial: u64 },
    Connected { link: u32, serial: u64 },
    Octets { link: u32, serial: u64, octets: Vec<u8> },
    Ended { link: u32, serial: u64 },
}

/// Ports and links with their numbers, and what is on its way.
struct Fake {
    random: Random,
    faults: Faults,
    now: Timestamp,
    sockets: Vec<Option<Socket>>,
    free: Vec<u32>,
    arrivals: BTreeMap<(Timestamp, u64), Arrival>,
    links_opened: u32,
    serial: u64,
    /// Questions whose queries went out since the last look.
    sent: Vec<u64>,
    course: DefaultHasher,
}

struct Socket {
    serial: u64,
    is_link: bool,
    /// Replies that it gives before it is closed.
    replies_left: u64,
}

impl Fake {
    fn happens(&mut self, percent: u64) -> bool {
        self.random.next_u64() % 100 < percent
    }

    fn arrive(&mut self, arrival: Arrival) {
        let most = if self.happens(self.faults.late) { 1_500 } else { 40 };
        self.arrive_in(self.random.clone().next_u64() % most, arrival);
        self.random.next_u64();
    }

    fn arrive_in(&mut self, milliseconds: u64, arrival: Arrival) {
        self.serial += 1;
        self.arrivals.insert((self.now + Duration::from_millis(milliseconds), self.serial), arrival);
    }

    fn open(&mut self, is_link: bool) -> u32 {
        self.serial += 1;
        let replies_left = match self.happens(self.faults.link_deaf) {
            true => 0,
            false if self.happens(self.faults.link_one_reply) => 1,
            false => u64::MAX,
        };
        let socket = Some(Socket { serial: self.serial, is_link, replies_left });
        match self.free.pop() {
            Some(number) => {
                self.sockets[number as usize] = socket;
                number
            }
            None => {
                self.sockets.push(socket);
                self.sockets.len() as u32 - 1
            }
        }
    }

    fn socket(&mut self, number: u32) -> &mut Socket {
        self.sockets[number as usize].as_mut().expect("an open socket")
    }

    fn close(&mut self, number: u32, is_link: bool) {
        let socket = self.sockets[number as usize].take().expect("nothing is closed twice");
        assert_eq!(socket.is_link, is_link);
        self.free.push(number);
        self.course.write_u32(number);
    }

    fn is_open(&self, number: u32, serial: u64) -> bool {
        self.sockets.get(number as usize).and_then(Option::as_ref).is_some_and(|it| it.serial == serial)
    }

    /// Notes a query; gives the serial number of what it went out by.
    fn note(&mut self, number: u32, query: &[u8], is_link: bool) -> u64 {
        self.course.write_u64(self.now.milliseconds());
        self.course.write(query);
        let question = number_of(&Query::read(query).expect("a query").question);
        self.sent.push(question);
        let socket = self.socket(number);
        assert_eq!(socket.is_link, is_link);
        socket.serial
    }

    /// What a server says by UDP, and whether it fills the client's room.
    fn reply(&mut self, query: &[u8]) -> Vec<u8> {
        let read = Query::read(query).expect("a query");
        if read.edns_payload_bytes.is_some() && self.happens(self.faults.without_edns) {
            return ReplyWriter::new(&read).rcode(1).finish();
        }
        if self.happens(self.faults.truncated) {
            return ReplyWriter::new(&read).set_bits(0x200).finish();
        }
        if self.happens(self.faults.server_failure) {
            return ReplyWriter::new(&read).rcode(2).finish();
        }
        let mut reply = self.good(query);
        if self.happens(self.faults.malformed) {
            let length = query.len() + 2;
            reply.truncate(length);
        }
        reply
    }

    fn good(&mut self, query: &[u8]) -> Vec<u8> {
        let read = Query::read(query).expect("a query");
        let name = read.question.name;
        let mut reply = ReplyWriter::new(&read);
        if self.happens(self.faults.alias) {
            reply.alias(&name, &next_alias(&name), 60);
        } else {
            reply.records(Section::Answer, &name, &records(&right_text(&read.question)), 60);
        }
        reply.finish()
    }

    /// A reply of somebody who does not see the query: one thing he had to guess is wrong.
    fn forge(&mut self, port: u32, query: &[u8]) {
        let read = Query::read(query).expect("a query");
        let mut reply = ReplyWriter::new(&read);
        reply.records(Section::Answer, &read.question.name, &records("forged"), 60);
        let mut octets = reply.finish();
        let mut at = port;
        match self.random.next_u64() % 5 {
            0 => octets[0] ^= 1 + (self.random.next_u64() as u8 & 0x7f),
            // A letter of the name, or of another name.
            1 => octets[13] ^= 0x20,
            2 => octets[14] ^= 0x40,
            3 => octets[12 + read.question.name.wire().len() + 1] ^= 2,
            _ => {
                at = self.random.next_u64() as u32 % self.sockets.len() as u32;
                if at == port || self.sockets[at as usize].as_ref().is_none_or(|it| it.is_link) {
                    octets[1] ^= 1;
                    at = port;
                }
            }
        }
        let serial = self.socket(at).serial;
        self.arrive(Arrival::Datagram { port: at, serial, octets });
    }

    fn stream(&mut self, link: u32, serial: u64, message: &[u8]) {
        let octets = [&(message.len() as u16).to_be_bytes(), message].concat();
        let delay = self.random.next_u64() % 40;
        if self.happens(self.faults.link_in_pieces) {
            for octet in octets {
                self.arrive_in(delay, Arrival::Octets { link, serial, octets: vec![octet] });
            }
        } else {
            self.arrive_in(delay, Arrival::Octets { link, serial, octets });
        }
    }
}

impl Network for Fake {
    fn open_port(&mut self, _server: usize) -> Option<u32> {
        if self.happens(self.faults.no_port) { None } else { Some(self.open(false)) }
    }

    fn send_udp(&mut self, port: u32, query: &[u8]) {
        let serial = self.note(port, query, false);
        if self.happens(self.faults.forged) {
            self.forge(port, query);
        }
        if self.happens(self.faults.port_unreachable) {
            return self.arrive(Arrival::Unreachable { port, serial });
        }
        if self.happens(self.faults.loss) {
            return;
        }
        let octets = self.reply(query);
        if self.happens(self.faults.duplicate) {
            self.arrive(Arrival::Datagram { port, serial, octets: octets.clone() });
        }
        self.arrive(Arrival::Datagram { port, serial, octets });
    }

    fn close_port(&mut self, port: u32) {
        self.close(port, false);
    }

    fn open_link(&mut self, _server: usize) -> Option<u32> {
        if self.happens(self.faults.no_link) {
            return None;
        }
        self.links_opened += 1;
        let link = self.open(true);
        let serial = self.socket(link).serial;
        let refused = self.happens(self.faults.link_refused);
        self.arrive(if refused { Arrival::Ended { link, serial } } else { Arrival::Connected { link, serial } });
        Some(link)
    }

    fn send_tcp(&mut self, link: u32, octets: &[u8]) {
        let mut rest = octets;
        while let Some((query, after)) = split_message(rest) {
            let serial = self.note(link, query, true);
            if self.happens(self.faults.link_closed) {
                self.arrive(Arrival::Ended { link, serial });
            } else if self.socket(link).replies_left > 0 && !self.happens(self.faults.link_silent) {
                let message = self.good(query);
                self.stream(link, serial, &message);
                let left = &mut self.socket(link).replies_left;
                *left -= 1;
                if *left == 0 {
                    self.arrive_in(40, Arrival::Ended { link, serial });
                }
            }
            rest = after;
        }
        assert!(rest.is_empty(), "messages are sent whole");
    }

    fn close_link(&mut self, link: u32) {
        self.close(link, true);
    }
}

/// The questions of a simulation have numbers, which their names begin with, those of aliases included.
fn question(number: u64) -> Question {
    Question::new(Name::parse(format!("n{number}-abcdefghijklmnopqrstuvw.example")).unwrap(), RecordType::Txt)
}

fn number_of(question: &Question) -> u64 {
    let text = question.name.to_string().to_ascii_lowercase();
    let label = text.split('-').next().unwrap();
    label.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap()
}

fn next_alias(name: &Name) -> Name {
    Name::parse(format!("{}.x", name.to_string().trim_end_matches('.'))).unwrap()
}

fn right_text(question: &Question) -> String {
    format!("right {}", number_of(question))
}

fn records(text: &str) -> RecordSet {
    RecordSet::Txt([Txt(text.as_bytes().into())].into())
}

/// A simulation under way, with what its asker expects.
struct Simulation {
    scene: Scene,
    fake: Fake,
    inquiries: Inquiries<u64>,
    asks: Random,
    /// Questions without answer, with when they were asked first.
    open: HashMap<u64, Timestamp>,
    waiters: HashMap<u64, u64>,
    waiter: u64,
    asked: u64,
    idle_steps: u32,
}

impl Simulation {
    fn new(scene: Scene) -> Self {
        let fake = Fake {
            random: Random::new(!scene.seed),
            faults: scene.faults,
            now: START,
            sockets: Vec::new(),
            free: Vec::new(),
            arrivals: BTreeMap::new(),
            links_opened: 0,
            serial: 0,
            sent: Vec::new(),
            course: DefaultHasher::new(),
        };
        let seeds = Seeds::Fixed(Random::new(scene.seed));
        let inquiries = Inquiries::new(scene.servers, scene.options.clone(), seeds, START);
        let asks = Random::new(scene.seed.rotate_left(32));
        Self {
            scene,
            fake,
            inquiries,
            asks,
            open: HashMap::new(),
            waiters: HashMap::new(),
            waiter: 0,
            asked: 0,
            idle_steps: 0,
        }
    }

    /// Runs to the end; gives what tells one course from another.
    fn run(mut self) -> (u64, NetworkStatistics) {
        self.work();
        (self.fake.course.finish(), self.inquiries.statistics())
    }

    fn work(&mut self) {
        let moments: Vec<u64> =
            (0..self.scene.asks).map(|_| self.asks.next_u64() % self.scene.span_ms.max(1)).collect();
        let mut asks: Vec<Timestamp> = moments.iter().map(|ms| START + Duration::from_millis(*ms)).collect();
        asks.sort_unstable();
        let mut asks = asks.into_iter().peekable();
        loop {
            let moments = [asks.peek().copied(), self.next_moment()];
            let Some(next) = moments.into_iter().flatten().min() else { break };
            if asks.next_if(|moment| *moment <= next).is_some() {
                self.fake.now = self.fake.now.max(next);
                self.ask();
                self.look();
            } else {
                self.step();
            }
        }
        self.check_end();
    }

    fn next_moment(&self) -> Option<Timestamp> {
        let arrival = self.fake.arrivals.keys().next().map(|key| key.0);
        arrival.into_iter().chain(self.inquiries.next_moment()).min()
    }

    /// What is on its way arrives, or time passes.
    fn step(&mut self) {
        let next = self.next_moment().expect("something is to happen");
        self.idle_steps = if next > self.fake.now { 0 } else { self.idle_steps + 1 };
        assert!(self.idle_steps < IDLE_STEPS_MAX, "time stands still");
        self.fake.now = self.fake.now.max(next);
        if let Some(entry) = self.fake.arrivals.first_entry().filter(|entry| entry.key().0 <= self.fake.now) {
            let arrival = entry.remove();
            self.deliver(arrival);
        } else {
            self.inquiries.expire(self.fake.now, &mut self.fake);
        }
        self.look();
    }

    fn ask(&mut self) {
        self.asked += 1;
        let number = self.asks.next_u64() % self.scene.names;
        let now = self.fake.now;
        let was_open = self.open.contains_key(&number);
        let waiter = (!self.asks.next_u64().is_multiple_of(8)).then(|| {
            self.waiter += 1;
            self.waiters.insert(self.waiter, number);
            self.waiter
        });
        self.fake.sent.clear();
        let turned_away = self.inquiries.statistics().turned_away;
        let before = self.inquiries.open_count();
        self.inquiries.ask(&question(number), waiter, now, &mut self.fake);
        if was_open {
            assert!(self.fake.sent.is_empty(), "a question that is on its way is not asked again");
        }
        let room = self.scene.options.in_flight_max + self.scene.options.waiting_max;
        if self.inquiries.statistics().turned_away > turned_away {
            assert_eq!(before, room, "turned away although there was room");
        } else if !was_open {
            self.open.insert(number, now);
        }
        assert!(self.inquiries.open_count() <= room);
    }

    fn deliver(&mut self, arrival: Arrival) {
        let (now, fake) = (self.fake.now, &mut self.fake);
        match arrival {
            Arrival::Datagram { port, serial, mut octets } if fake.is_open(port, serial) => {
                let is_cut = fake.happens(fake.faults.cut);
                if is_cut {
                    octets.truncate(octets.len() - 1);
                }
                self.inquiries.udp_received(port, &octets, is_cut, now, fake);
            }
            Arrival::Unreachable { port, serial } if fake.is_open(port, serial) => {
                self.inquiries.udp_failed(port, now, fake);
            }
            Arrival::Connected { link, serial } if fake.is_open(link, serial) => {
                self.inquiries.link_connected(link, now, fake);
            }
            Arrival::Octets { link, serial, octets } if fake.is_open(link, serial) => {
                self.inquiries.link_received(link, &octets, now, fake);
            }
            Arrival::Ended { link, serial } if fake.is_open(link, serial) => {
                // As the worker does: the socket is closed, and its number free, before the inquiries hear of it.
                fake.sockets[link as usize] = None;
                fake.free.push(link);
                self.inquiries.link_ended(link, now, fake);
            }
            _ => {}
        }
    }

    /// Takes the answers that are there and checks what must hold at any time.
    fn look(&mut self) {
        let (mut asked, mut waiters) = (question(0), Vec::new());
        while let Some((answer, is_news)) = self.inquiries.next_finished(&mut asked, &mut waiters) {
            let number = number_of(&asked);
            let outcome = answer.outcome();
            match outcome {
                Outcome::Records(it) => assert_eq!(*it, records(&right_text(&asked))),
                Outcome::Failed(_) => {}
                other => panic!("nobody said so: {other:?}"),
            }
            if is_news {
                let start = self.open.remove(&number).expect("an answer to a question that is open");
                let deadline = start + self.scene.options.lookup.total_time + TICK;
                assert!(self.fake.now <= deadline, "late: {:?} after {deadline:?}", self.fake.now);
            }
            for waiter in waiters.drain(..) {
                assert_eq!(self.waiters.remove(&waiter), Some(number), "one answer for each");
            }
            self.fake.course.write_u64(number);
        }
        self.check_sockets();
        let in_flight = self.inquiries.in_flight;
        assert!(in_flight <= self.scene.options.in_flight_max);
        assert_eq!(self.inquiries.open_count(), self.open.len());
        let waiting = self.open.len() - in_flight;
        assert!(waiting == 0 || in_flight == self.scene.options.in_flight_max, "waits although there is room");
        assert!(waiting <= self.scene.options.waiting_max);
    }

    /// What is outstanding is so on a socket that is open, and the socket knows it.
    fn check_sockets(&self) {
        let inquiries = &self.inquiries;
        if inquiries.table.len() > CHECKED_MAX {
            return;
        }
        let is_open = |number: u32, is_link| {
            self.fake.sockets[number as usize].as_ref().is_some_and(|socket| socket.is_link == is_link)
        };
        let mut counts = (0, 0);
        for (number, inquiry) in inquiries.table.iter().enumerate() {
            for sent in &inquiry.sent {
                assert!(inquiry.lookup.is_some(), "nothing is outstanding for what is done");
                let outstanding = match sent.way {
                    Way::Port(port) => {
                        assert!(is_open(port, false) && inquiries.ports[port as usize].is_open, "closed too early");
                        counts.0 += 1;
                        &inquiries.ports[port as usize].outstanding
                    }
                    Way::Link(link) => {
                        assert!(is_open(link, true), "closed too early");
                        counts.1 += 1;
                        &inquiries.links[link as usize].as_ref().expect("a link that is there").outstanding
                    }
                };
                assert!(outstanding.iter().any(|it| it.inquiry == number as u32 && it.id == sent.id));
            }
        }
        let on_ports: usize = inquiries.ports.iter().map(|port| port.outstanding.len()).sum();
        let on_links: usize = inquiries.links.iter().flatten().map(|link| link.outstanding.len()).sum();
        assert_eq!((on_ports, on_links), counts, "and nothing else is outstanding");
    }

    fn check_end(&self) {
        assert!(self.waiters.is_empty() && self.open.is_empty());
        let inquiries = &self.inquiries;
        assert_eq!((inquiries.open_count(), inquiries.in_flight), (0, 0));
        assert_eq!(inquiries.free.len(), inquiries.table.len());
        assert!(inquiries.table.iter().all(|it| it.sent.is_empty() && !it.is_started && it.waiters.is_empty()));
        assert!(inquiries.ports.iter().all(|port| port.outstanding.is_empty()));
        assert!(inquiries.links.iter().all(Option::is_none), "idle links are closed");
        let mut kept: Vec<u32> = inquiries.servers.iter().flat_map(|it| it.ports.iter().copied().flatten()).collect();
        kept.sort_unstable();
        let sockets = self.fake.sockets.iter().enumerate();
        let open: Vec<u32> = sockets.filter(|(_, it)| it.is_some()).map(|(number, _)| number as u32).collect();
        assert_eq!(kept, open, "what is open is in use");
        let NetworkStatistics { lookups, joined, turned_away, .. } = inquiries.statistics();
        assert!(lookups + joined + turned_away <= self.asked);
    }
}

fn any_faults() -> impl Strategy<Value = Faults> {
    let percent = || prop_oneof![4 => Just(0_u64), 3 => 0..60_u64, 1 => Just(100)];
    let first = [(); 9].map(|()| percent());
    let second = [(); 10].map(|()| percent());
    (first, second).prop_map(|(a, b)| Faults {
        loss: a[0],
        late: a[1],
        duplicate: a[2],
        forged: a[3],
        truncated: a[4],
        cut: a[5],
        server_failure: a[6],
        malformed: a[7],
        alias: a[8],
        without_edns: b[0],
        port_unreachable: b[1],
        no_port: b[2],
        no_link: b[3],
        link_refused: b[4],
        link_closed: b[5],
        link_silent: b[6],
        link_in_pieces: b[7],
        link_one_reply: b[8],
        link_deaf: b[9],
    })
}

fn options(servers: usize) -> NetworkOptions {
    let mut options = NetworkOptions::new(vec![std::net::SocketAddr::from(([127, 0, 0, 1], 53)); servers]);
    options.lookup.first_try_time = Duration::from_millis(50);
    options.lookup.try_time = Duration::from_millis(200);
    options.lookup.total_time = Duration::from_millis(800);
    options
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let sizes = (any::<u64>(), 0..=SERVERS_MAX, 1..60_usize, 1..30_u64, 1..2_000_u64);
    let limits = (1..5_usize, 1..10_u32, 1..8_usize, 0..8_usize, 1..5_usize, 20..500_u64, 10..2_000_u64);
    (sizes, limits, any_faults()).prop_map(|((seed, servers, asks, names, span_ms), limits, faults)| {
        let (ports, queries, in_flight, waiting, outstanding, idle_ms, port_ms) = limits;
        let mut options = options(servers);
        (options.ports, options.port_queries_max) = (ports, queries);
        (options.in_flight_max, options.waiting_max) = (in_flight, waiting);
        options.link_outstanding_max = outstanding;
        options.link_idle_time = Duration::from_millis(idle_ms);
        options.port_time_max = Duration::from_millis(port_ms);
        Scene { seed, servers, asks, names, span_ms, options, faults }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn over_any_network_everybody_has_one_true_answer_in_time(scene in any_scene()) {
        let course = Simulation::new(scene.clone()).run();
        prop_assert_eq!(Simulation::new(scene).run(), course, "the same seed, the same course");
    }
}

/// A scene of silence: every question waits for its deadline.
fn silent(asks: usize, in_flight_max: usize, waiting_max: usize) -> Scene {
    let mut options = options(1);
    (options.in_flight_max, options.waiting_max) = (in_flight_max, waiting_max);
    let faults = Faults { loss: 100, ..Faults::default() };
    Scene { seed: 1, servers: 1, asks, names: u64::MAX, span_ms: 1, options, faults }
}

#[test]
fn as_many_as_may_wait_fail_together() {
    let (_, statistics) = Simulation::new(silent(20_001, 1, 20_000)).run();
    assert_eq!((statistics.turned_away, statistics.failures), (0, 20_001));
    let (_, statistics) = Simulation::new(silent(20_002, 1, 20_000)).run();
    assert_eq!((statistics.turned_away, statistics.failures), (1, 20_001));
}

/// Questions that are all answered over connections.
fn by_links(asks: usize) -> Scene {
    let faults = Faults { truncated: 100, ..Faults::default() };
    let span_ms = 1;
    Scene { seed: 2, servers: 1, asks, names: u64::MAX, span_ms, options: options(1), faults }
}

#[test]
fn a_server_that_closes_after_each_reply_is_asked_again_by_all_others() {
    let mut scene = by_links(20);
    scene.faults.link_one_reply = 100;
    scene.options.lookup.total_time = Duration::from_secs(3);
    let (_, statistics) = Simulation::new(scene).run();
    assert_eq!((statistics.lookups, statistics.failures), (20, 0));
}

#[test]
fn a_connection_that_has_gone_deaf_is_left_for_another() {
    let mut simulation = Simulation::new(by_links(0));
    simulation.fake.faults.link_deaf = 100;
    simulation.ask();
    while !simulation.fake.sockets.iter().flatten().any(|it| it.is_link) {
        simulation.step();
    }
    simulation.fake.faults.link_deaf = 0;
    let (_, statistics) = simulation.run();
    assert_eq!((statistics.lookups, statistics.failures), (1, 0));
}

#[test]
fn without_descriptors_the_ports_that_are_open_are_used() {
    let mut scene = by_links(0);
    scene.faults.truncated = 0;
    (scene.options.ports, scene.options.port_queries_max) = (8, 2);
    let mut simulation = Simulation::new(scene);
    simulation.ask();
    simulation.look();
    simulation.fake.faults.no_port = 100;
    (0..50).for_each(|_| simulation.ask());
    let (_, statistics) = simulation.run();
    assert_eq!((statistics.lookups, statistics.failures), (51, 0));
}

#[test]
fn connections_that_have_room_again_are_used_again() {
    let mut scene = by_links(400);
    scene.span_ms = 4_000;
    scene.options.link_outstanding_max = 2;
    scene.options.link_idle_time = Duration::from_secs(10);
    let mut simulation = Simulation::new(scene);
    simulation.work();
    assert!(simulation.fake.links_opened <= 16, "{}", simulation.fake.links_opened);
}

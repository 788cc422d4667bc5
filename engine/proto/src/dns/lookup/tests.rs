use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::dns::wire::{Query, ReplyWriter, Section};
use crate::dns::{Name, Outcome, RecordSet, RecordType, Txt};

const START: Timestamp = Timestamp::from_seconds(1_795_392_000);

fn n(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn question() -> Question {
    Question::new(n("a.example"), RecordType::Txt)
}

fn records(text: &str) -> RecordSet {
    RecordSet::Txt([Txt(text.as_bytes().into())].into())
}

/// A lookup with its clock, stepped by hand.
struct Hand {
    lookup: Lookup,
    now: Timestamp,
}

#[derive(Debug, PartialEq)]
enum Did {
    Udp(usize, Vec<u8>),
    Tcp(usize, Vec<u8>),
    Wait(u64),
    Done(Outcome),
}

impl Hand {
    fn new(servers: usize, options: LookupOptions) -> Self {
        let traits = vec![ServerTraits::default(); servers];
        Self { lookup: Lookup::new(question(), &traits, options, 42, START), now: START }
    }

    fn next(&mut self) -> Did {
        match self.lookup.poll(self.now) {
            Step::SendUdp { server, query } => Did::Udp(server, query.to_vec()),
            Step::SendTcp { server, query } => Did::Tcp(server, query.to_vec()),
            Step::WaitUntil(until) => Did::Wait(until.milliseconds() - START.milliseconds()),
            Step::Done(answer) => Did::Done(answer.outcome().clone()),
        }
    }

    /// The query that is sent next, to this server by UDP.
    #[track_caller]
    fn udp(&mut self, expected: usize) -> Vec<u8> {
        let Did::Udp(server, query) = self.next() else { panic!("no datagram is sent") };
        assert_eq!(server, expected);
        assert!(matches!(self.next(), Did::Wait(_)));
        query
    }

    #[track_caller]
    fn tcp(&mut self, expected: usize) -> Vec<u8> {
        let Did::Tcp(server, query) = self.next() else { panic!("no TCP message is sent") };
        assert_eq!(server, expected);
        assert!(matches!(self.next(), Did::Wait(_)));
        query
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now = self.now + Duration::from_millis(milliseconds);
    }
}

fn reply(query: &[u8], fill: impl FnOnce(ReplyWriter) -> ReplyWriter) -> Vec<u8> {
    fill(ReplyWriter::new(&Query::read(query).unwrap())).finish()
}

fn good(query: &[u8]) -> Vec<u8> {
    reply(query, |mut it| {
        let name = Query::read(query).unwrap().question.name;
        it.records(Section::Answer, &name, &records("it"), 60);
        it
    })
}

fn it() -> Did {
    Did::Done(Outcome::Records(records("it")))
}

#[test]
fn silence_is_tried_three_times_and_then_fails() {
    let mut hand = Hand::new(1, LookupOptions::default());
    let first = hand.udp(0);
    for time in [500, 1_000] {
        hand.pass(time - 1);
        assert!(matches!(hand.next(), Did::Wait(_)));
        hand.pass(1);
        assert_eq!(hand.udp(0), first, "a retry repeats the query");
    }
    hand.pass(2_000);
    assert_eq!(hand.next(), Did::Done(Outcome::Failed(Failure::TimedOut)));
    // Too late.
    hand.lookup.udp_received(0, &good(&first));
    assert_eq!(hand.next(), Did::Done(Outcome::Failed(Failure::TimedOut)));
}

#[test]
fn tries_go_round_the_servers_until_the_time_is_over() {
    let mut hand = Hand::new(2, LookupOptions { total_time: Duration::from_millis(6_500), ..Default::default() });
    let first = hand.udp(0);
    for (server, time) in [(1, 500), (0, 1_000), (1, 2_000), (0, 2_000)] {
        hand.pass(time);
        hand.udp(server);
    }
    assert_eq!(hand.next(), Did::Wait(6_500));
    hand.lookup.udp_received(0, &good(&first));
    assert_eq!(hand.next(), it());
}

#[test]
fn without_servers_there_is_no_answer() {
    let failed = Did::Done(Outcome::Failed(Failure::Unreachable));
    assert_eq!(Hand::new(0, LookupOptions::default()).next(), failed);
    // A server that starts again refuses for a moment.
    let mut hand = Hand::new(1, LookupOptions::default());
    for (pause, until) in [(500, 500), (1_000, 1_500)] {
        hand.udp(0);
        hand.lookup.udp_failed(0);
        assert_eq!(hand.next(), Did::Wait(until));
        hand.pass(pause);
    }
    let query = hand.udp(0);
    hand.lookup.udp_failed(0);
    assert_eq!(hand.next(), failed);
    hand.lookup.udp_received(0, &good(&query));
    assert_eq!(hand.next(), failed);
}

#[test]
fn a_refusal_hands_over_at_once_and_pauses_when_all_refuse() {
    let mut hand = Hand::new(2, LookupOptions::default());
    hand.udp(0);
    hand.lookup.udp_failed(0);
    let query = hand.udp(1);
    hand.lookup.udp_failed(1);
    hand.lookup.udp_failed(1);
    assert_eq!(hand.next(), Did::Wait(1_000));
    hand.pass(1_000);
    hand.udp(0);
    hand.lookup.udp_failed(0);
    assert_eq!(hand.udp(1), query);
    hand.lookup.udp_received(1, &good(&query));
    assert_eq!(hand.next(), it());
}

#[test]
fn servers_over_the_bound_are_left_out() {
    for (given, used) in [(8, 8), (9, 8)] {
        assert_eq!(Hand::new(given, LookupOptions::default()).lookup.servers.len(), used);
    }
}

#[test]
fn replies_that_do_not_match_are_counted_and_ignored() {
    let mut hand = Hand::new(1, LookupOptions::default());
    let query = hand.udp(0);
    let mut forged = good(&query);
    forged[0] ^= 1;
    hand.lookup.udp_received(0, &forged);
    hand.lookup.udp_received(1, &good(&query));
    hand.lookup.tcp_received(0, &good(&query));
    hand.lookup.udp_received(0, b"");
    assert_eq!(hand.lookup.mismatch_count(), 4);
    assert_eq!(hand.next(), Did::Wait(500));
    hand.lookup.udp_received(0, &good(&query));
    assert_eq!(hand.next(), it());
}

#[test]
fn truncated_content_is_discarded_and_tcp_asked() {
    let mut hand = Hand::new(1, LookupOptions::default());
    let query = hand.udp(0);
    let truncated = reply(&query, |mut it| {
        it.records(Section::Answer, &n("a.example"), &records("part"), 60);
        it.set_bits(0x200)
    });
    hand.lookup.udp_received(0, &truncated);
    let by_tcp = hand.tcp(0);
    assert_ne!(by_tcp[..2], query[..2], "an ID of its own");
    hand.lookup.udp_received(0, &truncated);
    assert!(matches!(hand.next(), Did::Wait(_)), "a duplicate starts nothing");
    hand.lookup.udp_received(0, &good(&query));
    assert!(matches!(hand.next(), Did::Wait(_)), "a query has one reply");
    hand.lookup.tcp_received(0, &good(&by_tcp));
    assert_eq!(hand.next(), it());
}

#[test]
fn tcp_is_tried_three_times_and_its_truncation_is_malformed() {
    let mut hand = Hand::new(1, LookupOptions::default());
    let query = hand.udp(0);
    hand.lookup.udp_received(0, &reply(&query, |it| it.set_bits(0x200)));
    // A connection that was idle may have ended just then: the second query follows at once, the third does not.
    hand.tcp(0);
    hand.lookup.tcp_failed(0);
    hand.tcp(0);
    hand.lookup.tcp_failed(0);
    assert_eq!(hand.next(), Did::Wait(2_000));
    hand.pass(2_000);
    hand.tcp(0);
    hand.lookup.tcp_failed(0);
    assert_eq!(hand.next(), Did::Done(Outcome::Failed(Failure::Unreachable)));
    let mut hand = Hand::new(1, LookupOptions::default());
    let query = hand.udp(0);
    hand.lookup.udp_received(0, &reply(&query, |it| it.set_bits(0x200)));
    let by_tcp = hand.tcp(0);
    hand.lookup.tcp_received(0, &reply(&by_tcp, |it| it.set_bits(0x200)));
    assert_eq!(hand.next(), Did::Done(Outcome::Failed(Failure::Malformed)));
}

#[test]
fn a_query_that_was_passed_over_has_not_been_tried() {
    let mut hand = Hand::new(1, LookupOptions::default());
    let query = hand.udp(0);
    hand.lookup.udp_received(0, &reply(&query, |it| it.set_bits(0x200)));
    let by_tcp = hand.tcp(0);
    for _ in 0..10 {
        hand.lookup.tcp_interrupted(0);
        assert_eq!(hand.tcp(0), by_tcp);
    }
    hand.pass(6_000);
    hand.lookup.tcp_interrupted(0);
    assert_eq!(hand.next(), Did::Done(Outcome::Failed(Failure::TimedOut)));
}

#[test]
fn another_case_is_asked_again_by_tcp() {
    let mut hand = Hand::new(1, LookupOptions::default());
    let in_small_letters = |mut reply: Vec<u8>| {
        reply[12..].make_ascii_lowercase();
        reply
    };
    let query = hand.udp(0);
    hand.lookup.udp_received(0, &in_small_letters(good(&query)));
    let by_tcp = hand.tcp(0);
    hand.lookup.tcp_received(0, &in_small_letters(good(&by_tcp)));
    assert_eq!(hand.next(), it());
}

#[test]
fn a_server_without_edns_is_asked_plainly_and_remembered() {
    let mut hand = Hand::new(1, LookupOptions::default());
    let query = hand.udp(0);
    assert_eq!(Query::read(&query).unwrap().edns_payload_bytes, Some(1232));
    // Only the header comes back.
    hand.lookup.udp_received(0, &[&query[..2], &[0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]].concat());
    let plain = hand.udp(0);
    assert_eq!(Query::read(&plain).unwrap().edns_payload_bytes, None);
    hand.lookup.udp_received(0, &good(&plain));
    assert_eq!(hand.next(), it());
    let traits: Vec<ServerTraits> = hand.lookup.traits().collect();
    assert_eq!(traits, [ServerTraits { knows_edns: false, stream_only: false }]);
    let mut next = Lookup::new(question(), &traits, LookupOptions::default(), 1, START);
    let Step::SendUdp { query, .. } = next.poll(START) else { panic!() };
    assert_eq!(Query::read(query).unwrap().edns_payload_bytes, None);
}

#[test]
fn a_server_for_streams_is_never_sent_a_datagram() {
    let traits = [ServerTraits { stream_only: true, ..ServerTraits::default() }, ServerTraits::default()];
    let lookup = Lookup::new(question(), &traits, LookupOptions::default(), 42, START);
    let mut hand = Hand { lookup, now: START };
    let query = hand.tcp(0);
    assert_eq!(query.len() % 128, 0, "padded");
    assert_eq!(Query::read(&query).unwrap().edns_payload_bytes, Some(1232));
    hand.lookup.tcp_failed(0);
    assert!(hand.udp(1).len() < 100);
    hand.lookup.udp_failed(1);
    let alias = hand.tcp(0);
    hand.lookup.tcp_received(
        0,
        &reply(&alias, |mut it| {
            it.alias(&n("a.example"), &n("b.example"), 60);
            it
        }),
    );
    // For the target too; and without EDNS there is nothing to pad.
    let query = hand.tcp(0);
    hand.lookup.tcp_received(0, &[&query[..2], &[0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]].concat());
    let plain = hand.tcp(0);
    assert_eq!(plain.len(), 12 + 11 + 4);
    hand.lookup.tcp_received(0, &good(&plain));
    assert_eq!(hand.next(), it());
}

#[test]
fn a_server_that_fails_hands_over_to_the_next() {
    let failures = [(2, Failure::ServFail), (5, Failure::Refused), (9, Failure::Refused)];
    for (rcode, failure) in failures {
        let mut hand = Hand::new(2, LookupOptions::default());
        for server in 0..2 {
            let query = hand.udp(server);
            hand.lookup.udp_received(server, &reply(&query, |it| it.rcode(rcode)));
        }
        assert_eq!(hand.next(), Did::Done(Outcome::Failed(failure)), "and none is asked again");
    }
    let mut hand = Hand::new(2, LookupOptions::default());
    let query = hand.udp(0);
    let mut malformed = good(&query);
    malformed.truncate(query.len() + 3);
    hand.lookup.udp_received(0, &malformed);
    let query = hand.udp(1);
    hand.lookup.udp_received(1, &good(&query));
    assert_eq!(hand.next(), it());
}

#[test]
fn what_was_said_outranks_silence() {
    let mut hand = Hand::new(2, LookupOptions { tries_max: 1, ..Default::default() });
    let query = hand.udp(0);
    hand.lookup.udp_received(0, &reply(&query, |it| it.rcode(2)));
    hand.udp(1);
    hand.pass(2_000);
    assert_eq!(hand.next(), Did::Done(Outcome::Failed(Failure::ServFail)));
}

#[test]
fn aliases_are_asked_on_up_to_eight_links() {
    let end_of = |links: usize| {
        let mut hand = Hand::new(1, LookupOptions::default());
        for index in 0..links {
            let query = hand.udp(0);
            let name = Query::read(&query).unwrap().question.name;
            hand.lookup.udp_received(
                0,
                &reply(&query, |mut it| {
                    it.alias(&name, &n(&format!("c{index}.example")), 60);
                    it
                }),
            );
        }
        if let Did::Udp(_, query) = hand.next() {
            hand.lookup.udp_received(0, &good(&query));
        }
        hand.next()
    };
    assert_eq!(end_of(8), it());
    assert_eq!(end_of(9), Did::Done(Outcome::Failed(Failure::OverLimit)));
}

/// A network with faults of every kind, all of them following from one seed.
struct Network {
    random: Random,
    faults: Faults,
    /// When, in which order, at which lookup input.
    in_flight: BTreeMap<(Timestamp, u64), Event>,
    sent: u64,
}

#[derive(Clone, Copy, Debug)]
struct Faults {
    loss: u64,
    duplicate: u64,
    forged: u64,
    truncated: u64,
    server_failure: u64,
    tcp_failure: u64,
    late: u64,
}

#[derive(Debug)]
enum Event {
    Udp(usize, Vec<u8>),
    Tcp(usize, Vec<u8>),
    TcpFailed(usize),
}

impl Network {
    fn happens(&mut self, percent: u64) -> bool {
        self.random.next_u64() % 100 < percent
    }

    fn arrive(&mut self, now: Timestamp, event: Event) {
        let most = if self.happens(self.faults.late) { 5_000 } else { 50 };
        let delay = Duration::from_millis(self.random.next_u64() % most);
        self.sent += 1;
        self.in_flight.insert((now + delay, self.sent), event);
    }

    fn udp(&mut self, server: usize, query: &[u8], now: Timestamp) {
        if self.happens(self.faults.forged) {
            let mut forged = reply(query, |mut it| {
                it.records(Section::Answer, &n("a.example"), &records("forged"), 60);
                it
            });
            forged[0] ^= 1 + (self.random.next_u64() as u8 & 0x7f);
            self.arrive(now, Event::Udp(server, forged));
        }
        if self.happens(self.faults.loss) {
            return;
        }
        let answer = if self.happens(self.faults.truncated) {
            reply(query, |it| it.set_bits(0x200))
        } else if self.happens(self.faults.server_failure) {
            reply(query, |it| it.rcode(2))
        } else {
            good(query)
        };
        if self.happens(self.faults.duplicate) {
            self.arrive(now, Event::Udp(server, answer.clone()));
        }
        self.arrive(now, Event::Udp(server, answer));
    }

    fn tcp(&mut self, server: usize, query: &[u8], now: Timestamp) {
        if self.happens(self.faults.tcp_failure) {
            self.arrive(now, Event::TcpFailed(server));
        } else {
            self.arrive(now, Event::Tcp(server, good(query)));
        }
    }
}

/// Runs a lookup over the network; gives its outcome, the time it took and what was sent, as text.
fn run(seed: u64, servers: usize, faults: Faults) -> (Outcome, Duration, Vec<String>) {
    let traits = vec![ServerTraits::default(); servers];
    let mut lookup = Lookup::new(question(), &traits, LookupOptions::default(), seed, START);
    let mut network = Network { random: Random::new(!seed), faults, in_flight: BTreeMap::new(), sent: 0 };
    let (mut now, mut log) = (START, Vec::new());
    loop {
        match lookup.poll(now) {
            Step::SendUdp { server, query } => {
                log.push(format!("{now:?} udp {server} {query:?}"));
                network.udp(server, query, now);
            }
            Step::SendTcp { server, query } => {
                log.push(format!("{now:?} tcp {server} {query:?}"));
                network.tcp(server, query, now);
            }
            Step::WaitUntil(until) => {
                assert!(until > now, "a wait for the past");
                match network.in_flight.first_entry().filter(|event| event.key().0 <= until) {
                    Some(event) => {
                        now = now.max(event.key().0);
                        match event.remove() {
                            Event::Udp(server, reply) => lookup.udp_received(server, &reply),
                            Event::Tcp(server, reply) => lookup.tcp_received(server, &reply),
                            Event::TcpFailed(server) => lookup.tcp_failed(server),
                        }
                    }
                    None => now = until,
                }
            }
            Step::Done(answer) => {
                let took = Duration::from_millis(now.milliseconds() - START.milliseconds());
                return (answer.outcome().clone(), took, log);
            }
        }
    }
}

fn any_faults() -> impl Strategy<Value = Faults> {
    let percent = || prop_oneof![Just(0_u64), 0..100_u64, Just(100)];
    (percent(), percent(), percent(), percent(), percent(), percent(), percent()).prop_map(
        |(loss, duplicate, forged, truncated, server_failure, tcp_failure, late)| Faults {
            loss,
            duplicate,
            forged,
            truncated,
            server_failure,
            tcp_failure,
            late,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn over_any_network_a_lookup_ends_in_time_within_its_bounds(seed: u64, servers in 0..4_usize, faults in any_faults()) {
        let (outcome, took, log) = run(seed, servers, faults);
        prop_assert!(took <= DNS_TIME_MAX, "{took:?}");
        prop_assert!(log.len() <= servers * 2 * usize::from(DNS_TRIES_MAX));
        match outcome {
            Outcome::Records(it) => prop_assert_eq!(it, records("it")),
            Outcome::Failed(_) => {}
            other => prop_assert!(false, "{other:?}"),
        }
        prop_assert_eq!(run(seed, servers, faults).2, log, "the same seed, the same course");
    }

    /// Forged replies, duplicates and delays within a try cost nothing but their count.
    #[test]
    fn noise_does_not_change_the_answer(seed: u64, forged in 0..=100_u64, duplicate in 0..=100_u64) {
        let faults = Faults { loss: 0, duplicate, forged, truncated: 0, server_failure: 0, tcp_failure: 0, late: 0 };
        let (outcome, _, log) = run(seed, 1, faults);
        prop_assert_eq!((outcome, log.len()), (Outcome::Records(records("it")), 1));
    }
}

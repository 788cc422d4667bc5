//! The lookup of one question over several servers, by UDP and TCP.
//!
//! [`Lookup`] opens no socket: it says what to send where and until when to wait, and is told what came back. Queries
//! go to one server after the other; a server is asked at most [`LookupOptions::tries_max`] times by each transport.
//! A reply that does not match its query is counted and ignored, whatever it says, and does not end the wait. A retry
//! repeats the query with its ID, so that the late reply to an earlier one still counts.

use std::time::Duration;

use super::wire::{self, Links, Match, QUERY_BYTES_MAX, QueryOptions, Reply, ServerError};
use super::{Answer, Failure, Question};
use crate::limits::{DNS_FIRST_TRY_TIME, DNS_SERVERS_MAX, DNS_TIME_MAX, DNS_TRIES_MAX, DNS_TRY_TIME};
use crate::time::Timestamp;

/// One question on its way.
///
/// The driver calls [`Lookup::poll`] until it says `WaitUntil` or `Done`; then it waits for a reply, a failure or the
/// deadline, hands in what happened, and polls again.
#[derive(Debug)]
pub struct Lookup {
    /// What is being asked: the question, or the target of an alias.
    question: Question,
    links: Option<Links>,
    options: LookupOptions,
    servers: Vec<Server>,
    /// The server whose turn is next.
    turn: usize,
    /// Queries sent so far for the name asked for now.
    tries: u8,
    random: Random,
    deadline: Timestamp,
    state: State,
    failure: Failure,
    mismatch_count: u32,
    /// The query that stands in `room`, and how long it is.
    written: Option<(Sent, usize)>,
    heard: Option<Heard>,
    room: [u8; QUERY_BYTES_MAX],
}

/// How lookups are done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LookupOptions {
    /// Queries to one server by one transport (RFC 9520 section 3.1).
    pub tries_max: u8,
    /// Time after which a second server is asked, or the same one again, while the reply to the first still counts.
    /// Doubled with every try, up to `try_time`; the last try has `try_time` whole.
    pub first_try_time: Duration,
    /// Time that one try may take.
    pub try_time: Duration,
    /// Time that the whole lookup may take.
    pub total_time: Duration,
    /// The size of UDP reply to ask for; `None` never uses EDNS.
    pub edns_payload_bytes: Option<u16>,
    /// Mixes great and small letters in the name as a hurdle for forgers.
    pub mixes_case: bool,
    /// The servers validate and the way to them is secure, so their AD bit is believed (RFC 4035 section 4.9.3).
    pub trusts_ad: bool,
}

/// What is known of a server; worth keeping from one lookup to the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServerTraits {
    /// False once the server has answered a query with OPT record by an error (RFC 6891 section 7).
    pub knows_edns: bool,
    /// The server is asked over connections only, which are encrypted: queries are padded.
    pub stream_only: bool,
}

/// What the driver does next; servers are numbered as they were given to [`Lookup::new`].
#[derive(Debug)]
pub enum Step<'a> {
    /// Send this datagram.
    SendUdp {
        /// To this server.
        server: usize,
        /// The message.
        query: &'a [u8],
    },
    /// Send this message over a TCP connection, its length in two octets before it (RFC 1035 section 4.2.2).
    SendTcp {
        /// To this server.
        server: usize,
        /// The message, without its length.
        query: &'a [u8],
    },
    /// Wait for a reply, at the longest until then.
    WaitUntil(Timestamp),
    /// The end. Connections and sockets of this lookup are no longer needed.
    Done(Answer),
}

#[derive(Debug)]
struct Server {
    traits: ServerTraits,
    /// It has failed for good, as far as this question goes.
    is_out: bool,
    /// The last try ended at once: nobody listens there.
    has_refused: bool,
    /// It has more to say than fits a datagram, or does not keep the case of letters.
    needs_tcp: bool,
    udp_tries: u8,
    tcp_tries: u8,
    udp: Option<Sent>,
    tcp: Option<Sent>,
}

/// What is needed to make a query again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Sent {
    id: u16,
    options: QueryOptions,
}

/// What carries a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A connection.
    Tcp,
}

/// What a message from a server was taken for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Heard {
    /// The answer.
    Answer,
    /// An alias whose target is asked for next: [`Lookup::asked`].
    Alias,
    /// More records or aliases than are looked at; the lookup ends.
    OverLimit,
    /// Cut off, so that TCP has to tell.
    Truncated,
    /// The question in other letter case than asked, which a forger might have guessed: TCP has to tell.
    OtherCase,
    /// The server gave no answer.
    Error(ServerError),
    /// It breaks the rules of the format.
    Malformed,
    /// It belongs to no query; ignored, whatever it says.
    NoMatch,
    /// The lookup had ended.
    Late,
}

#[derive(Debug)]
enum State {
    /// The next server in turn is to be asked.
    Choosing,
    /// This server is to be asked.
    Sending(usize, Transport),
    /// This server was asked.
    Waiting {
        server: usize,
        transport: Transport,
        until: Timestamp,
        /// When the next may be asked in case this one refuses.
        refused_until: Timestamp,
    },
    /// All who may still be asked have refused just now.
    Pausing(Timestamp),
    Done(Answer),
}

impl Lookup {
    /// Starts a lookup. `seed` is drawn for this lookup by a source that nobody can foresee (RFC 5452 section 9.2): all
    /// IDs and letter cases follow from it. Servers over [`DNS_SERVERS_MAX`] are left out.
    #[must_use]
    pub fn new(
        question: Question,
        servers: &[ServerTraits],
        options: LookupOptions,
        seed: u64,
        now: Timestamp,
    ) -> Self {
        let mut it = Self {
            question,
            links: None,
            deadline: now + options.total_time,
            options,
            servers: Vec::new(),
            turn: 0,
            tries: 0,
            random: Random::new(seed),
            state: State::Choosing,
            failure: Failure::Unreachable,
            mismatch_count: 0,
            written: None,
            heard: None,
            room: [0; QUERY_BYTES_MAX],
        };
        it.set_servers(servers);
        it
    }

    /// Starts on another question in the same place, with the same options but for the time.
    pub fn restart(
        &mut self,
        question: &Question,
        servers: &[ServerTraits],
        total_time: Duration,
        seed: u64,
        now: Timestamp,
    ) {
        self.question.assign(question);
        self.written = None;
        self.links = None;
        self.options.total_time = total_time;
        self.deadline = now + total_time;
        self.set_servers(servers);
        (self.turn, self.tries, self.mismatch_count) = (0, 0, 0);
        self.random = Random::new(seed);
        self.state = State::Choosing;
        self.failure = Failure::Unreachable;
        self.heard = None;
    }

    fn set_servers(&mut self, servers: &[ServerTraits]) {
        self.servers.clear();
        self.servers.extend(servers.iter().take(DNS_SERVERS_MAX).map(|&traits| Server::new(traits)));
    }

    /// What to do next.
    pub fn poll(&mut self, now: Timestamp) -> Step<'_> {
        self.step_time(now);
        if let State::Choosing = self.state {
            self.choose();
        }
        match self.state {
            State::Done(ref answer) => Step::Done(answer.clone()),
            State::Waiting { until, .. } | State::Pausing(until) => Step::WaitUntil(until),
            State::Sending(server, transport) => self.send(server, transport, now),
            // `choose` left this state.
            State::Choosing => Step::WaitUntil(now),
        }
    }

    /// A datagram came from a server, from the address and port the query went to.
    pub fn udp_received(&mut self, server: usize, datagram: &[u8]) {
        self.heard = Some(self.received(server, Transport::Udp, datagram));
    }

    /// A datagram could not be sent, or the server's host said that nobody listens.
    pub fn udp_failed(&mut self, server: usize) {
        self.failed(server, Transport::Udp);
    }

    /// A message came from a server over TCP; without the two octets of its length.
    pub fn tcp_received(&mut self, server: usize, message: &[u8]) {
        self.heard = Some(self.received(server, Transport::Tcp, message));
    }

    /// A connection could not be made, or ended before there was a reply.
    pub fn tcp_failed(&mut self, server: usize) {
        self.failed(server, Transport::Tcp);
    }

    /// A connection that has answered other queries ended before it answered this one, which does not count as a try: the
    /// query follows over the next connection. The caller sees to it that every connection answers something.
    pub fn tcp_interrupted(&mut self, server: usize) {
        let State::Waiting { server: waited, transport: Transport::Tcp, .. } = self.state else { return };
        let Some(it) = self.servers.get_mut(server).filter(|_| waited == server) else { return };
        it.tcp_tries = it.tcp_tries.saturating_sub(1);
        self.state = State::Sending(server, Transport::Tcp);
    }

    /// The query that a server was sent by UDP last, to be sent again where it was lost on this side.
    pub fn udp_query(&mut self, server: usize) -> Option<&[u8]> {
        let sent = self.servers.get(server)?.udp?;
        Some(query(&mut self.written, sent, &self.question, &mut self.room))
    }

    /// What the last message that came was taken for.
    #[must_use]
    pub fn heard(&self) -> Option<Heard> {
        self.heard
    }

    /// What is being asked: the question, or the target of an alias.
    #[must_use]
    pub fn asked(&self) -> &Question {
        &self.question
    }

    /// Replies that were ignored because they did not match a query: many are a sign of an attack (RFC 5452).
    #[must_use]
    pub fn mismatch_count(&self) -> u32 {
        self.mismatch_count
    }

    /// What is known of each server by now.
    pub fn traits(&self) -> impl Iterator<Item = ServerTraits> {
        self.servers.iter().map(|server| server.traits)
    }

    fn step_time(&mut self, now: Timestamp) {
        match self.state {
            State::Done(_) => return,
            State::Waiting { until, .. } if now >= until => {
                self.note(Failure::TimedOut);
                self.state = State::Choosing;
            }
            State::Pausing(until) if now >= until => self.state = State::Choosing,
            _ => {}
        }
        if now >= self.deadline {
            self.note(Failure::TimedOut);
            self.state = State::Done(Answer::failed(self.failure));
        }
    }

    /// Chooses the next server that may still be asked; without one the lookup has failed.
    fn choose(&mut self) {
        let count = self.servers.len();
        for index in (self.turn..count).chain(0..self.turn) {
            let tries_max = self.options.tries_max;
            let Some(server) = self.servers.get(index).filter(|it| it.has_tries(tries_max)) else { continue };
            self.state = State::Sending(index, server.transport());
            self.turn = (index + 1) % count;
            return;
        }
        self.state = State::Done(Answer::failed(self.failure));
    }

    fn time_of_try(&self, index: usize, transport: Transport) -> Duration {
        let LookupOptions { tries_max, first_try_time, try_time, .. } = self.options;
        if transport == Transport::Tcp {
            // It repeats by itself what is lost.
            return try_time;
        }
        let is_last = self.servers.iter().enumerate().all(|(number, server)| {
            let mut tries = if server.by_tcp() { server.tcp_tries } else { server.udp_tries };
            tries += u8::from(number == index);
            server.is_out || tries >= tries_max
        });
        if is_last { try_time } else { (first_try_time * (1 << self.tries.min(16))).min(try_time) }
    }

    fn send(&mut self, index: usize, transport: Transport, now: Timestamp) -> Step<'_> {
        let until = (now + self.time_of_try(index, transport)).min(self.deadline);
        let LookupOptions { first_try_time, try_time, .. } = self.options;
        let refused_until = now + (first_try_time * (1 << self.tries.min(16))).min(try_time);
        let refused_until = refused_until.min(self.deadline);
        self.tries = self.tries.saturating_add(1);
        self.state = State::Waiting { server: index, transport, until, refused_until };
        let Some(server) = self.servers.get_mut(index) else { return Step::WaitUntil(until) };
        server.has_refused = false;
        let sent = match transport {
            Transport::Udp => {
                server.udp_tries += 1;
                &mut server.udp
            }
            Transport::Tcp => {
                server.tcp_tries += 1;
                &mut server.tcp
            }
        };
        let traits = server.traits;
        let sent = *sent.get_or_insert_with(|| Sent {
            id: self.random.next_u64() as u16,
            options: QueryOptions {
                edns_payload_bytes: self.options.edns_payload_bytes.filter(|_| traits.knows_edns),
                authentic_data: self.options.trusts_ad,
                case_seed: self.options.mixes_case.then(|| self.random.next_u64()),
                pads: traits.stream_only,
            },
        });
        let query = query(&mut self.written, sent, &self.question, &mut self.room);
        match transport {
            Transport::Udp => Step::SendUdp { server: index, query },
            Transport::Tcp => Step::SendTcp { server: index, query },
        }
    }

    fn received(&mut self, index: usize, transport: Transport, message: &[u8]) -> Heard {
        if matches!(self.state, State::Done(_)) {
            return Heard::Late;
        }
        let sent = self.servers.get(index).and_then(|server| match transport {
            Transport::Udp => server.udp,
            Transport::Tcp => server.tcp,
        });
        let Some(sent) = sent else {
            self.mismatch_count = self.mismatch_count.saturating_add(1);
            return Heard::NoMatch;
        };
        let query = query(&mut self.written, sent, &self.question, &mut self.room);
        let read = || wire::read_reply(message, &self.question, self.links.as_ref(), self.options.trusts_ad);
        let found = wire::matches(query, message);
        let reply = match (found, transport) {
            (Match::Exact, _) | (Match::OtherCase, Transport::Tcp) => Some(read()),
            // Either the server does not keep the case, or a forger guessed the ID: TCP tells.
            (Match::OtherCase, Transport::Udp) => Some(Reply::Truncated),
            (Match::ErrorOnly, _) => Some(read()).filter(|reply| matches!(reply, Reply::Error(_))),
            (Match::No, _) => None,
        };
        let heard = Heard::of(reply.as_ref(), found == Match::OtherCase && transport == Transport::Udp);
        match reply {
            None => self.mismatch_count = self.mismatch_count.saturating_add(1),
            Some(Reply::Answer(answer)) => self.state = State::Done(answer),
            Some(Reply::Alias(links)) => self.ask_alias(links),
            Some(Reply::OverLimit) => self.state = State::Done(Answer::failed(Failure::OverLimit)),
            Some(Reply::Truncated) if transport == Transport::Udp => self.ask_by_tcp(index),
            Some(Reply::Error(ServerError::NoEdns)) if sent.options.edns_payload_bytes.is_some() => {
                self.ask_without_edns(index, transport);
            }
            Some(Reply::Error(ServerError::ServFail)) => self.give_up_on(index, Failure::ServFail),
            Some(Reply::Error(_)) => self.give_up_on(index, Failure::Refused),
            Some(Reply::Malformed | Reply::Truncated) => self.give_up_on(index, Failure::Malformed),
        }
        heard
    }

    /// Asks for the target of an alias, all servers anew.
    fn ask_alias(&mut self, links: Links) {
        self.question.name = *links.target();
        self.written = None;
        self.links = Some(links);
        self.tries = 0;
        for server in &mut self.servers {
            *server = Server::new(server.traits);
        }
        // The server that knew the alias is the one to ask.
        if let State::Waiting { server, .. } = self.state {
            self.turn = server;
        }
        self.state = State::Choosing;
    }

    fn ask_by_tcp(&mut self, index: usize) {
        let tries_max = self.options.tries_max;
        let Some(server) = self.servers.get_mut(index) else { return };
        // A second reply to the same query changes nothing while TCP is on its way.
        if !server.needs_tcp {
            server.needs_tcp = true;
            // The datagram has its reply; another one is a duplicate, or somebody else's.
            server.udp = None;
            if server.has_tries(tries_max) {
                self.state = State::Sending(index, Transport::Tcp);
            }
        }
    }

    fn ask_without_edns(&mut self, index: usize, transport: Transport) {
        let tries_max = self.options.tries_max;
        let Some(server) = self.servers.get_mut(index) else { return };
        server.traits.knows_edns = false;
        // A query of another form has an ID of its own.
        (server.udp, server.tcp) = (None, None);
        if server.has_tries(tries_max) {
            self.state = State::Sending(index, transport);
        } else {
            self.give_up_on(index, Failure::Refused);
        }
    }

    fn give_up_on(&mut self, index: usize, failure: Failure) {
        self.note(failure);
        let Some(server) = self.servers.get_mut(index) else { return };
        server.is_out = true;
        (server.udp, server.tcp) = (None, None);
        self.go_on_after(index);
    }

    /// Whoever has not refused yet is asked at once. When all have, there is a pause, in which a server may start again.
    fn failed(&mut self, index: usize, transport: Transport) {
        let State::Waiting { server, transport: waited, refused_until, .. } = self.state else { return };
        if (server, waited) != (index, transport) {
            return;
        }
        self.note(Failure::Unreachable);
        if let Some(server) = self.servers.get_mut(index) {
            // A first failure over TCP may be that of an idle connection that the server ended just then.
            server.has_refused = transport == Transport::Udp || server.tcp_tries > 1;
        }
        let tries_max = self.options.tries_max;
        let mut left = self.servers.iter().filter(|server| server.has_tries(tries_max)).peekable();
        let pauses = left.peek().is_some() && left.all(|server| server.has_refused);
        self.state = if pauses {
            self.servers.iter_mut().for_each(|server| server.has_refused = false);
            State::Pausing(refused_until)
        } else {
            State::Choosing
        };
    }

    /// Goes on to the next server if this is the one waited for.
    fn go_on_after(&mut self, index: usize) {
        if matches!(self.state, State::Waiting { server, .. } if server == index) {
            self.state = State::Choosing;
        }
    }

    /// Keeps the failure that tells most: what a server said, before silence, before no way to it.
    fn note(&mut self, failure: Failure) {
        let rank = |failure| match failure {
            Failure::Unreachable => 0,
            Failure::TimedOut => 1,
            _ => 2,
        };
        if rank(failure) >= rank(self.failure) {
            self.failure = failure;
        }
    }
}

/// The query of a try, written unless it stands there from the time before.
fn query<'a>(
    written: &mut Option<(Sent, usize)>,
    sent: Sent,
    question: &Question,
    room: &'a mut [u8; QUERY_BYTES_MAX],
) -> &'a [u8] {
    let len = match *written {
        Some((before, len)) if before == sent => len,
        _ => wire::write_query(sent.id, question, &sent.options, room).len(),
    };
    *written = Some((sent, len));
    room.get(..len).unwrap_or_default()
}

impl Heard {
    fn of(reply: Option<&Reply>, is_other_case: bool) -> Self {
        match reply {
            None => Self::NoMatch,
            Some(Reply::Answer(_)) => Self::Answer,
            Some(Reply::Alias(_)) => Self::Alias,
            Some(Reply::OverLimit) => Self::OverLimit,
            Some(Reply::Truncated) if is_other_case => Self::OtherCase,
            Some(Reply::Truncated) => Self::Truncated,
            Some(&Reply::Error(error)) => Self::Error(error),
            Some(Reply::Malformed) => Self::Malformed,
        }
    }
}

impl Default for LookupOptions {
    fn default() -> Self {
        Self {
            tries_max: DNS_TRIES_MAX,
            first_try_time: DNS_FIRST_TRY_TIME,
            try_time: DNS_TRY_TIME,
            total_time: DNS_TIME_MAX,
            edns_payload_bytes: Some(1232),
            mixes_case: true,
            trusts_ad: false,
        }
    }
}

impl Default for ServerTraits {
    fn default() -> Self {
        Self { knows_edns: true, stream_only: false }
    }
}

impl Server {
    fn new(traits: ServerTraits) -> Self {
        Self {
            traits,
            is_out: false,
            has_refused: false,
            needs_tcp: false,
            udp_tries: 0,
            tcp_tries: 0,
            udp: None,
            tcp: None,
        }
    }

    fn transport(&self) -> Transport {
        if self.by_tcp() { Transport::Tcp } else { Transport::Udp }
    }

    fn by_tcp(&self) -> bool {
        self.needs_tcp || self.traits.stream_only
    }

    fn has_tries(&self, tries_max: u8) -> bool {
        let tries = match self.transport() {
            Transport::Udp => self.udp_tries,
            Transport::Tcp => self.tcp_tries,
        };
        !self.is_out && tries < tries_max
    }
}

/// A stream of numbers from a seed (SplitMix64): as hard to foresee as the seed, and the same on every run.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
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
}

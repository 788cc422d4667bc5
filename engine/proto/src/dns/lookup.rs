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
mod tests;

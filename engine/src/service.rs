//! Conversations over stream sockets: what a milter or a policy service is to the loop that hosts it.
//!
//! A [`Conversation`] is the state of one connection. It opens no socket and waits for nothing: octets, answers and
//! moments come in, and through its [`Host`] it says what to send, what to ask of the DNS and when to be woken. The
//! same conversation runs on an engine's worker, over a program's own streams, and in a simulator.

use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use mailproof_proto::dns::{Answer, Question};
use mailproof_proto::time::Timestamp;

use crate::engine::Engine;

/// One connection of a service, as a state machine.
///
/// The contract: one input, then everything that the [`Host`] was told is carried out, then the next input. After
/// [`Host::close`] there is no more input but [`closed`](Conversation::closed).
pub trait Conversation: Send {
    /// Octets came from the peer, cut anywhere.
    fn received(&mut self, octets: &[u8], host: &mut Host<'_>);

    /// The answer to a question that was asked through [`Host::ask`]; every question gets exactly one.
    fn answered(&mut self, question: &Question, answer: &Answer, host: &mut Host<'_>);

    /// The moment named by [`Host::wake_at`] has come.
    fn woken(&mut self, host: &mut Host<'_>);

    /// The program is about to end: the message under way may be finished, no other begun.
    fn drain(&mut self, host: &mut Host<'_>);

    /// The peer has gone or the connection failed; nothing can be sent any more.
    fn closed(&mut self);
}

/// Makes a conversation of every connection.
pub trait Service: Send + Sync {
    /// The conversation of a new connection. Sessions of `engine` are to be driven by [`Session::poll`]; whoever waits
    /// in one holds up every other conversation of the thread.
    ///
    /// [`Session::poll`]: crate::Session::poll
    fn converse(&self, engine: &Engine, peer: Peer) -> Box<dyn Conversation>;

    /// Connections of one listening socket at a time, on all threads; further ones wait in the kernel's queue.
    fn connections_max(&self) -> usize {
        4096
    }

    /// How long nothing may come or go on a connection before it is closed; `None` for any time. Asked once a connection.
    fn idle_time(&self) -> Option<Duration> {
        None
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Peer {
    /// A host, over TCP.
    Ip(SocketAddr),
    /// A process of this host, over a unix socket.
    Local,
}

/// What a conversation may ask of the loop that hosts it.
#[derive(Debug)]
pub struct Host<'a> {
    now: Timestamp,
    requests: &'a mut Requests,
}

/// What a conversation asked for in answer to one input; the loop carries it out and hands it in again, emptied.
#[derive(Debug, Default)]
pub struct Requests {
    output: Vec<u8>,
    questions: Vec<Question>,
    wake_at: Option<Timestamp>,
    closes: bool,
}

impl<'a> Host<'a> {
    /// A host for one input.
    pub fn new(now: Timestamp, requests: &'a mut Requests) -> Self {
        Self { now, requests }
    }

    /// The moment of this input.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Octets to be sent to the peer, appended to those not sent yet.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.requests.output
    }

    /// Asks the DNS; the answer comes through [`Conversation::answered`], a failure at the latest when the time of a
    /// message is over.
    pub fn ask(&mut self, question: Question) {
        self.requests.questions.push(question);
    }

    /// Asks to be woken at a moment, in place of any moment named before; `None` for not at all.
    pub fn wake_at(&mut self, moment: Option<Timestamp>) {
        self.requests.wake_at = moment;
    }

    /// Ends the connection once the output is sent.
    pub fn close(&mut self) {
        self.requests.closes = true;
    }
}

impl Requests {
    /// The octets to send, taken out.
    pub fn take_output(&mut self) -> Vec<u8> {
        mem::take(&mut self.output)
    }

    /// The octets to send; what the loop has sent it removes.
    pub fn output_mut(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// The questions to ask, taken out one by one.
    pub fn drain_questions(&mut self) -> impl Iterator<Item = Question> + '_ {
        self.questions.drain(..)
    }

    /// When to wake the conversation; stands until it names another moment.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.wake_at
    }

    /// Takes the moment out: it has come.
    pub fn take_wake(&mut self) -> Option<Timestamp> {
        self.wake_at.take()
    }

    /// Whether the connection ends once the output is sent.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.closes
    }
}

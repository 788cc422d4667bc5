//! The conversations of a worker: connections of a service, each with its state machine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mailproof_io::{Driver, SocketId};
use mailproof_proto::dns::{Answer, Question};
use mailproof_proto::time::Timestamp;

use super::wheel::Wheel;
use crate::service::{Conversation, Host, Peer, Requests, Service};

/// All conversations of one worker, by the numbers of their sockets.
pub(crate) struct Conversations {
    slots: Vec<Option<Hosted>>,
    wheel: Wheel,
    count: usize,
    serial: u32,
    /// Sockets without a conversation whose last octets are on their way, and when that is given up.
    closing: VecDeque<(Timestamp, SocketId)>,
}

struct Hosted {
    socket: SocketId,
    /// Kept for as long as the connection counts.
    _service: Arc<dyn Service>,
    conversation: Box<dyn Conversation>,
    requests: Requests,
    /// Tells this conversation from an earlier one on a socket with the same number.
    serial: u32,
    /// Its peer takes too little of what is sent.
    is_paused: bool,
    /// Octets are acknowledged by segments of their own.
    is_tcp: bool,
    idle_time: Option<Duration>,
    /// When octets came or went last.
    active: Timestamp,
}

/// A conversation, as those who answer its questions know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConversationId {
    slot: u32,
    serial: u32,
}

/// Octets that may wait to be sent to a peer before nothing more is received from it.
const UNSENT_BYTES_MAX: usize = 256 * 1024;
/// How long a peer has to take the last octets of a connection.
const CLOSING_TIME_MAX: Duration = Duration::from_secs(10);

impl Conversations {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { slots: Vec::new(), wheel: Wheel::new(now), count: 0, serial: 0, closing: VecDeque::new() }
    }

    pub(crate) fn add(
        &mut self,
        socket: SocketId,
        service: Arc<dyn Service>,
        conversation: Box<dyn Conversation>,
        peer: Peer,
        now: Timestamp,
        driver: &mut Driver,
    ) {
        if self.slots.len() <= socket.index() {
            self.slots.resize_with(socket.index() + 1, || None);
        }
        self.serial = self.serial.wrapping_add(1);
        let hosted = Hosted {
            socket,
            idle_time: service.idle_time(),
            _service: service,
            conversation,
            requests: Requests::default(),
            serial: self.serial,
            is_paused: false,
            is_tcp: matches!(peer, Peer::Ip(_)),
            active: now,
        };
        if let Some(moment) = hosted.next_moment() {
            self.wheel.set(socket.index() as u32, moment);
        }
        self.slots[socket.index()] = Some(hosted);
        self.count += 1;
        driver.receive(socket);
    }

    /// Octets came; [`carry_out`](Self::carry_out) follows, once they are no longer lent.
    pub(crate) fn received(&mut self, slot: usize, octets: &[u8], now: Timestamp) {
        if let Some(hosted) = self.hosted(slot) {
            hosted.active = now;
            hosted.conversation.received(octets, &mut Host::new(now, &mut hosted.requests));
        }
    }

    /// All that was queued for a peer is sent.
    pub(crate) fn sent(&mut self, slot: usize, now: Timestamp, driver: &mut Driver) {
        if let Some(hosted) = self.hosted(slot).filter(|hosted| hosted.is_paused) {
            hosted.is_paused = false;
            hosted.active = now;
            driver.receive(hosted.socket);
        }
    }

    /// The peer has gone.
    pub(crate) fn ended(&mut self, slot: usize) {
        let Some(mut hosted) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        self.count -= 1;
        self.wheel.remove(slot as u32);
        hosted.conversation.closed();
    }

    /// An answer came; `None` when nobody waits for it any more.
    pub(crate) fn answered(
        &mut self,
        id: ConversationId,
        question: &Question,
        answer: &Answer,
        now: Timestamp,
    ) -> Option<usize> {
        let hosted = self.hosted(id.slot as usize).filter(|hosted| hosted.serial == id.serial)?;
        hosted.conversation.answered(question, answer, &mut Host::new(now, &mut hosted.requests));
        Some(id.slot as usize)
    }

    /// Wakes one whose moment has come, and gives its slot; closes those on which nothing happens.
    pub(crate) fn wake_next(&mut self, now: Timestamp, driver: &mut Driver) -> Option<usize> {
        while let Some(slot) = self.wheel.next_expired(now) {
            let Some(hosted) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { continue };
            if hosted.requests.wake_at().is_some_and(|moment| moment <= now) {
                hosted.requests.take_wake();
                hosted.conversation.woken(&mut Host::new(now, &mut hosted.requests));
                return Some(slot as usize);
            }
            if hosted.idle_moment().is_some_and(|moment| moment <= now) {
                // What it was sent it does not take, so nobody waits for that.
                driver.close(hosted.socket);
                self.ended(slot as usize);
            } else if let Some(moment) = hosted.next_moment() {
                self.wheel.set(slot, moment);
            }
        }
        None
    }

    /// Tells every conversation that the program is about to end.
    pub(crate) fn drain(&mut self, now: Timestamp) -> Vec<usize> {
        let mut slots = Vec::new();
        for (slot, hosted) in self.slots.iter_mut().enumerate() {
            if let Some(hosted) = hosted {
                hosted.conversation.drain(&mut Host::new(now, &mut hosted.requests));
                slots.push(slot);
            }
        }
        slots
    }

    /// Does what the conversation asked for; its questions are for the caller to ask.
    pub(crate) fn carry_out(
        &mut self,
        slot: usize,
        now: Timestamp,
        driver: &mut Driver,
        questions: &mut Vec<(ConversationId, Question)>,
    ) {
        let Some(hosted) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return };
        let socket = hosted.socket;
        let output = hosted.requests.output_mut();
        if output.is_empty() {
            if hosted.is_tcp
                && let Some(descriptor) = driver.descriptor(socket)
            {
                // A peer that sends small pieces without waiting for replies, as mail servers send header fields, sends the
                // next when this one is acknowledged (Nagle's algorithm), which without a reply takes the kernel 40 ms.
                let _ = rustix::net::sockopt::set_tcp_quickack(descriptor, true);
            }
        } else {
            driver.send(socket, output);
            output.clear();
            if !hosted.is_paused {
                hosted.active = now;
            }
            if !hosted.is_paused && driver.unsent_bytes(socket) > UNSENT_BYTES_MAX {
                hosted.is_paused = true;
                driver.pause(socket);
                driver.notify_when_sent(socket);
            }
        }
        let id = ConversationId { slot: slot as u32, serial: hosted.serial };
        questions.extend(hosted.requests.drain_questions().map(|question| (id, question)));
        if hosted.requests.closes() {
            driver.close_when_sent(socket);
            if driver.unsent_bytes(socket) > 0 {
                self.closing.push_back((now + CLOSING_TIME_MAX, socket));
            }
            self.ended(slot);
            return;
        }
        match hosted.next_moment() {
            Some(moment) => self.wheel.set(slot as u32, moment),
            None => self.wheel.remove(slot as u32),
        }
    }

    /// Gives up connections whose peers do not take the last octets.
    pub(crate) fn expire_closing(&mut self, now: Timestamp, driver: &mut Driver) {
        while let Some((moment, socket)) = self.closing.front().copied() {
            if moment > now && driver.unsent_bytes(socket) > 0 {
                return;
            }
            driver.close(socket);
            self.closing.pop_front();
        }
    }

    pub(crate) fn next_moment(&self) -> Option<Timestamp> {
        self.wheel.next_moment().into_iter().chain(self.closing.front().map(|(moment, _)| *moment)).min()
    }

    /// True when there is no conversation, and nothing of an earlier one still to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && self.closing.is_empty()
    }

    pub(crate) fn has_conversations(&self) -> bool {
        self.count > 0
    }

    /// Sockets without a conversation whose last octets are on their way.
    #[cfg(feature = "simulation")]
    pub(crate) fn closing_count(&self) -> usize {
        self.closing.len()
    }

    /// Sockets of all conversations.
    pub(crate) fn sockets(&self) -> Vec<SocketId> {
        self.slots.iter().flatten().map(|hosted| hosted.socket).collect()
    }

    fn hosted(&mut self, slot: usize) -> Option<&mut Hosted> {
        self.slots.get_mut(slot)?.as_mut()
    }
}

impl Hosted {
    /// When it has to be looked at.
    fn next_moment(&self) -> Option<Timestamp> {
        self.requests.wake_at().into_iter().chain(self.idle_moment()).min()
    }

    /// When nothing has happened on it for too long.
    fn idle_moment(&self) -> Option<Timestamp> {
        self.idle_time.map(|time| self.active + time)
    }
}

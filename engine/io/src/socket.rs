//! The sockets of a driver.

use std::mem;
use std::os::fd::{AsFd, OwnedFd};

use crate::outbox::{self, Latest};

/// A socket of a driver. The number of one that was closed is used again, the whole ID is not (within 16 million uses).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SocketId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Socket {
    /// What comes from it still interests its owner.
    pub(crate) fn is_heard(&self) -> bool {
        self.state == State::Open && !self.output.closes
    }

    /// Notes that it has ended, of which its owner is told once; false when it was.
    pub(crate) fn end(&mut self) -> bool {
        self.wants = false;
        !mem::replace(&mut self.has_ended, true)
    }

    /// Sending has failed: nothing more can be sent, nor is received.
    pub(crate) fn fail(&mut self) {
        self.state = State::Failed;
        self.output.queue.clear();
        self.output.sending.clear();
        self.output.sent = 0;
    }
}

impl SocketId {
    /// The number of the socket, small and unique among the open ones: an index for a table of its owner.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Datagram,
    Stream,
    Listener,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Open,
    Connecting,
    /// A connection that was given up, until the owner lets go.
    Failed,
    /// The owner has let go; what is in flight still has to end.
    Closing,
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    pub(crate) kind: Kind,
    pub(crate) state: State,
    /// The owner wants to receive, or to accept.
    pub(crate) wants: bool,
    /// The ring receives, or accepts.
    pub(crate) armed: bool,
    /// Its descriptor is registered with the ring.
    pub(crate) has_place: bool,
    /// The kernel parts its datagrams.
    pub(crate) segments: bool,
    pub(crate) latest: Latest,
    /// What epoll watches.
    pub(crate) interest: Interest,
    /// Operations of the ring whose last completion is still to come.
    pub(crate) in_flight: u16,
    pub(crate) output: Output,
    /// Its owner was told that it has ended.
    pub(crate) has_ended: bool,
    generation: u32,
}

/// What epoll watches a socket for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Interest {
    pub(crate) input: bool,
    pub(crate) output: bool,
}

/// What a stream has to send.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Octets the kernel may be reading: not touched before the operation has ended.
    pub(crate) sending: Vec<u8>,
    /// How many of them are sent.
    pub(crate) sent: usize,
    /// Octets that come after them.
    pub(crate) queue: Vec<u8>,
    /// An operation of the ring stands, or epoll waits for room.
    pub(crate) is_busy: bool,
    /// The ring's count of submissions when that operation was queued.
    pub(crate) submission: u64,
    /// It is on the list of those that have something to send.
    pub(crate) is_listed: bool,
    /// The owner wants to know when all is sent.
    pub(crate) notifies: bool,
    /// The socket closes once all is sent.
    pub(crate) closes: bool,
}

impl Output {
    /// Octets accepted and not sent yet.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.sending.len() - self.sent + self.queue.len()
    }

    /// Moves on to the queue when all that was being sent is; false when there is nothing to send.
    pub(crate) fn advance(&mut self) -> bool {
        if self.sent == self.sending.len() {
            self.sending.clear();
            self.sent = 0;
            mem::swap(&mut self.sending, &mut self.queue);
        }
        !self.sending.is_empty()
    }
}

/// A table of sockets: numbers are reused, generations tell old from new.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
}

#[derive(Debug)]
enum Slot {
    Free { generation: u32 },
    Used(Box<Socket>),
}

/// Generations have 24 bits, so that they fit the ring's user data beside the number.
pub(crate) const GENERATION_MASK: u32 = 0x00ff_ffff;

impl Sockets {
    pub(crate) fn insert(&mut self, fd: OwnedFd, kind: Kind) -> SocketId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free { generation: 0 });
            (self.slots.len() - 1) as u32
        });
        let generation = match self.slots.get(index as usize) {
            Some(Slot::Free { generation }) => *generation,
            _ => 0,
        };
        let segments = kind == Kind::Datagram && outbox::segments(fd.as_fd());
        let socket = Socket {
            fd,
            kind,
            state: State::Open,
            wants: false,
            armed: false,
            has_place: false,
            segments,
            latest: Latest::default(),
            interest: Interest::default(),
            in_flight: 0,
            output: Output::default(),
            has_ended: false,
            generation,
        };
        if let Some(slot) = self.slots.get_mut(index as usize) {
            *slot = Slot::Used(Box::new(socket));
        }
        self.count += 1;
        SocketId { index, generation }
    }

    pub(crate) fn get(&mut self, id: SocketId) -> Option<&mut Socket> {
        match self.slots.get_mut(id.index as usize) {
            Some(Slot::Used(socket)) if socket.generation == id.generation => Some(socket),
            _ => None,
        }
    }

    pub(crate) fn peek(&self, id: SocketId) -> Option<&Socket> {
        match self.slots.get(id.index as usize) {
            Some(Slot::Used(socket)) if socket.generation == id.generation => Some(socket),
            _ => None,
        }
    }

    /// The socket, unless its owner has let go of it.
    pub(crate) fn open(&mut self, id: SocketId) -> Option<&mut Socket> {
        self.get(id).filter(|socket| socket.state != State::Closing)
    }

    /// Takes the socket out; its descriptor closes when the result is dropped.
    pub(crate) fn remove(&mut self, id: SocketId) -> Option<Box<Socket>> {
        self.get(id)?;
        let slot = self.slots.get_mut(id.index as usize)?;
        let generation = id.generation.wrapping_add(1) & GENERATION_MASK;
        let Slot::Used(socket) = mem::replace(slot, Slot::Free { generation }) else { return None };
        self.free.push(id.index);
        self.count -= 1;
        Some(socket)
    }

    pub(crate) fn ids(&self) -> Vec<SocketId> {
        let id = |(index, slot): (usize, &Slot)| match slot {
            Slot::Used(socket) => Some(SocketId { index: index as u32, generation: socket.generation }),
            Slot::Free { .. } => None,
        };
        self.slots.iter().enumerate().filter_map(id).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

//! A driver without a kernel: sockets, peers and time are those of a simulation.
//!
//! Every socket has a descriptor of its own (of an eventfd), so that it can be handed from thread to thread as others are;
//! by its number the simulation knows it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::driver::{DriverError, Found, Place};
use crate::socket::{Kind, SocketId, Sockets, State};

/// What a simulated driver's sockets are connected to. Ends are named by descriptors, which are unique while they are open.
pub trait Network {
    /// The time.
    fn now(&self) -> Instant;

    /// There is a new end, or another driver has taken it over.
    fn opened(&mut self, end: RawFd, way: Opened);

    /// Whether what comes to an end is to be told.
    fn wants(&mut self, end: RawFd, wants: bool);

    /// A datagram leaves.
    fn send_datagram(&mut self, end: RawFd, datagram: &[u8]);

    /// Octets of a stream leave; gives how many.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is no room; [`Happening::Writable`] follows. Others end the stream.
    fn send(&mut self, end: RawFd, octets: &[u8]) -> io::Result<usize>;

    /// An end is closed.
    fn closed(&mut self, end: RawFd);

    /// [`Network::next`] has something to tell.
    fn has_next(&self) -> bool;

    /// What happened next.
    fn next(&mut self) -> Option<Happening>;
}

/// How an end came to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opened {
    /// A datagram socket with this peer.
    Datagram(SocketAddr),
    /// A stream that is being connected to this peer.
    Connecting(SocketAddr),
    /// A stream that this listener has accepted.
    Accepted(RawFd),
    /// A socket that its owner has brought along: a listener, or a stream that was accepted elsewhere.
    Brought,
}

/// What happened to an end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Happening {
    /// A datagram or the next octets of a stream came.
    Received(RawFd, Vec<u8>),
    /// Nobody listens at the peer's port.
    DatagramFailed(RawFd),
    /// A stream is connected.
    Connected(RawFd),
    /// A stream ended or could not be connected; true when it was not its peer's orderly end.
    Ended(RawFd, bool),
    /// A connection can be accepted by this listener.
    Incoming(RawFd),
    /// There is room to send again.
    Writable(RawFd),
}

/// The backend.
pub(crate) struct Simulated {
    network: Box<dyn Network>,
    ids: HashMap<RawFd, SocketId>,
    /// Datagrams that go out with the next wait.
    datagrams: Vec<(SocketId, Vec<u8>)>,
    /// Streams with something to send.
    senders: Vec<SocketId>,
    told: VecDeque<Found>,
    room: Vec<u8>,
}

impl Simulated {
    pub(crate) fn new(network: Box<dyn Network>) -> Self {
        Self {
            network,
            ids: HashMap::new(),
            datagrams: Vec::new(),
            senders: Vec::new(),
            told: VecDeque::new(),
            room: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.network.now()
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.told.is_empty() || self.network.has_next()
    }

    pub(crate) fn connect(&mut self, sockets: &mut Sockets, peer: SocketAddr) -> Result<SocketId, DriverError> {
        let id = self.insert(sockets, Kind::Stream, Opened::Connecting(peer))?;
        if let Some(socket) = sockets.get(id) {
            socket.state = State::Connecting;
        }
        Ok(id)
    }

    pub(crate) fn connect_datagram(
        &mut self,
        sockets: &mut Sockets,
        peer: SocketAddr,
    ) -> Result<SocketId, DriverError> {
        self.insert(sockets, Kind::Datagram, Opened::Datagram(peer))
    }

    fn insert(&mut self, sockets: &mut Sockets, kind: Kind, way: Opened) -> Result<SocketId, DriverError> {
        let fd = descriptor().map_err(|source| DriverError::System { step: "eventfd", source })?;
        let end = fd.as_raw_fd();
        let id = sockets.insert(fd, kind);
        self.ids.insert(end, id);
        self.network.opened(end, way);
        Ok(id)
    }

    /// Takes a socket that its owner has brought along.
    pub(crate) fn adopt(&mut self, sockets: &mut Sockets, id: SocketId) {
        if let Some(end) = end(sockets, id) {
            self.ids.insert(end, id);
            self.network.opened(end, Opened::Brought);
        }
    }

    pub(crate) fn update(&mut self, sockets: &mut Sockets, id: SocketId) {
        let Some(socket) = sockets.open(id) else { return };
        let wants = socket.wants && matches!(socket.state, State::Open | State::Connecting);
        self.network.wants(socket.fd.as_raw_fd(), wants);
    }

    pub(crate) fn send_datagram(&mut self, sockets: &mut Sockets, id: SocketId, datagram: &[u8]) {
        if sockets.open(id).is_some() {
            self.datagrams.push((id, datagram.to_vec()));
        }
    }

    pub(crate) fn list_sender(&mut self, id: SocketId) {
        self.senders.push(id);
    }

    pub(crate) fn close(&mut self, sockets: &mut Sockets, id: SocketId) {
        let Some(end) = end(sockets, id) else { return };
        self.ids.remove(&end);
        self.network.closed(end);
        sockets.remove(id);
    }

    /// Sends what is queued.
    #[expect(clippy::unnecessary_wraps, reason = "as the other backends, which may fail")]
    pub(crate) fn carry_out(&mut self, sockets: &mut Sockets) -> io::Result<()> {
        for (id, datagram) in std::mem::take(&mut self.datagrams) {
            if let Some(end) = end(sockets, id) {
                self.network.send_datagram(end, &datagram);
            }
        }
        for id in std::mem::take(&mut self.senders) {
            if let Some(socket) = sockets.open(id) {
                socket.output.is_listed = false;
            }
            self.send_stream(sockets, id);
        }
        Ok(())
    }

    /// What happened next.
    pub(crate) fn next(&mut self, sockets: &mut Sockets) -> Option<Found> {
        loop {
            if let Some(found) = self.told.pop_front() {
                return Some(found);
            }
            let happening = self.network.next()?;
            let found = self.found(sockets, happening);
            if found.is_some() {
                return found;
            }
        }
    }

    pub(crate) fn room(&self, length: usize) -> &[u8] {
        self.room.get(..length).unwrap_or_default()
    }

    fn found(&mut self, sockets: &mut Sockets, happening: Happening) -> Option<Found> {
        let id = |end: &RawFd| self.ids.get(end).copied();
        match happening {
            Happening::Received(end, octets) => {
                let socket = id(&end)?;
                sockets.open(socket).filter(|it| it.is_heard() && it.wants)?;
                self.room = octets;
                Some(Found::Received { socket, place: Place::Room { length: self.room.len() } })
            }
            Happening::DatagramFailed(end) => {
                Some(Found::DatagramFailed { socket: id(&end)?, error: Errno::CONNREFUSED })
            }
            Happening::Connected(end) => {
                let socket = id(&end)?;
                let it = sockets.open(socket).filter(|it| it.state == State::Connecting)?;
                it.state = State::Open;
                self.senders.push(socket);
                self.update(sockets, socket);
                Some(Found::Connected { socket })
            }
            Happening::Ended(end, is_error) => {
                let socket = id(&end)?;
                let it = sockets.open(socket).filter(|it| matches!(it.state, State::Open | State::Connecting))?;
                if it.state == State::Connecting {
                    it.state = State::Failed;
                }
                let is_news = it.end();
                self.update(sockets, socket);
                is_news.then_some(Found::Ended { socket, error: is_error.then_some(Errno::CONNRESET) })
            }
            Happening::Incoming(listener) => {
                let socket = self.insert(sockets, Kind::Stream, Opened::Accepted(listener)).ok()?;
                Some(Found::Accepted { listener: id_of(&self.ids, listener)?, socket })
            }
            Happening::Writable(end) => {
                let socket = id(&end)?;
                sockets.open(socket)?.output.is_busy = false;
                self.send_stream(sockets, socket);
                None
            }
        }
    }

    fn send_stream(&mut self, sockets: &mut Sockets, id: SocketId) {
        let Some(socket) = sockets.open(id).filter(|socket| socket.state == State::Open) else { return };
        let end = socket.fd.as_raw_fd();
        while !socket.output.is_busy && socket.output.advance() {
            let output = &mut socket.output;
            let rest = output.sending.get(output.sent..).unwrap_or_default();
            match self.network.send(end, rest) {
                Ok(sent) => output.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => output.is_busy = true,
                Err(_) if output.closes => return self.close(sockets, id),
                Err(_) => {
                    socket.fail();
                    if socket.end() {
                        self.told.push_back(Found::Ended { socket: id, error: Some(Errno::PIPE) });
                    }
                    return;
                }
            }
        }
        if socket.output.waiting_bytes() > 0 {
            return;
        }
        let (closes, notifies) = (socket.output.closes, std::mem::take(&mut socket.output.notifies));
        if closes {
            self.close(sockets, id);
        } else if notifies {
            self.told.push_back(Found::Sent { socket: id });
        }
    }
}

fn id_of(ids: &HashMap<RawFd, SocketId>, end: RawFd) -> Option<SocketId> {
    ids.get(&end).copied()
}

fn end(sockets: &Sockets, id: SocketId) -> Option<RawFd> {
    sockets.peek(id).map(|socket| socket.fd.as_raw_fd())
}

/// A descriptor that nothing ever happens on.
///
/// # Errors
/// When the process has none left.
pub fn descriptor() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

//! The epoll backend: level-triggered, datagrams in batches.

use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use rustix::time::Timespec;

use crate::batch::{self, BATCH, Inbox};
use crate::driver::{Found, Place, Statistics};
use crate::outbox::{Outbox, Parcel, is_about_segments};
use crate::socket::{Interest, Kind, SocketId, Sockets, State};
use crate::waker::Waker;

/// One epoll instance with its buffers.
pub(crate) struct Epoll {
    epoll: OwnedFd,
    waker: Waker,
    ready: Vec<epoll::Event>,
    next_ready: usize,
    /// What is left to do for the socket looked at.
    current: Option<Ready>,
    inbox: Inbox,
    room: Box<[u8]>,
    /// Datagrams that go out with the next wait.
    outbox: Outbox,
    /// Room for the order in which they do.
    order: Vec<(SocketId, usize)>,
    /// Streams with something to send.
    senders: Vec<SocketId>,
    /// What was found out while sending.
    told: Vec<Found>,
    waits: u64,
    transfers: u64,
}

#[derive(Clone, Copy, Debug)]
struct Ready {
    socket: SocketId,
    input: bool,
    output: bool,
    /// Connections accepted or batches read so far: other sockets have their turn.
    rounds: u32,
    /// The last batch was full, so there may be more.
    may_have_more: bool,
}

const EVENTS_MAX: usize = 256;
const ROOM_BYTES: usize = 64 * 1024;
const DATAGRAM_BYTES: usize = 2048;
/// Batches of datagrams, or connections, taken from one socket before the next has its turn.
const ROUNDS_MAX: u32 = 16;
/// Marks the event of the waker; no socket has this number.
const WAKER: u64 = u64::MAX;

impl Epoll {
    pub(crate) fn new(waker: &Waker) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, waker.event(), EventData::new_u64(WAKER), EventFlags::IN)?;
        Ok(Self {
            epoll,
            waker: waker.clone(),
            ready: Vec::with_capacity(EVENTS_MAX),
            next_ready: 0,
            current: None,
            inbox: Inbox::new(DATAGRAM_BYTES),
            room: vec![0; ROOM_BYTES].into_boxed_slice(),
            outbox: Outbox::new(),
            order: Vec::new(),
            senders: Vec::new(),
            told: Vec::new(),
            waits: 0,
            transfers: 0,
        })
    }

    /// Takes over a socket of another backend.
    pub(crate) fn adopt(&mut self, sockets: &mut Sockets, id: SocketId) {
        let Some(socket) = sockets.get(id) else { return };
        if socket.state == State::Closing {
            sockets.remove(id);
            return;
        }
        if socket.output.waiting_bytes() > 0 || socket.output.notifies {
            socket.output.is_listed = true;
            self.senders.push(id);
        }
        self.update(sockets, id);
    }

    /// Watches a socket for what it is wanted for now.
    pub(crate) fn update(&mut self, sockets: &mut Sockets, id: SocketId) {
        let Some(socket) = sockets.open(id) else { return };
        let wanted = match socket.state {
            State::Connecting => Interest { input: false, output: true },
            State::Open => Interest { input: socket.wants, output: socket.output.is_busy },
            State::Failed | State::Closing => Interest::default(),
        };
        let before = mem::replace(&mut socket.interest, wanted);
        if before == wanted {
            return;
        }
        let data = EventData::new_u64(u64::from(id.generation) << 32 | u64::from(id.index));
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, wanted.input);
        flags.set(EventFlags::OUT, wanted.output);
        // A socket that is not wanted is taken out: epoll would go on to report that its peer has gone.
        let _ = match (before == Interest::default(), wanted == Interest::default()) {
            (true, _) => epoll::add(&self.epoll, &socket.fd, data, flags),
            (false, false) => epoll::modify(&self.epoll, &socket.fd, data, flags),
            (false, true) => epoll::delete(&self.epoll, &socket.fd),
        };
    }

    pub(crate) fn send_datagram(&mut self, sockets: &mut Sockets, id: SocketId, datagram: &[u8]) {
        let Some(socket) = sockets.open(id) else { return };
        if self.outbox.add(id, socket, datagram) {
            return;
        }
        // There is no room, or it is too long to be queued: then after the others.
        self.send_datagrams(sockets);
        let Some(socket) = sockets.open(id) else { return };
        if !self.outbox.add(id, socket, datagram) {
            self.transfers += 1;
            let _ = batch::send(socket.fd.as_fd(), &[Parcel { octets: datagram, segment_bytes: None }]);
        }
    }

    pub(crate) fn list_sender(&mut self, id: SocketId) {
        self.senders.push(id);
    }

    pub(crate) fn close(&mut self, sockets: &mut Sockets, id: SocketId) {
        // The last descriptor closes, and epoll forgets it.
        sockets.remove(id);
    }

    /// Sends what is queued and waits; `None` waits without end.
    pub(crate) fn wait(&mut self, sockets: &mut Sockets, timeout: Option<Duration>) -> io::Result<()> {
        self.send_datagrams(sockets);
        self.send_streams(sockets);
        let has_more = self.current.is_some() || self.next_ready < self.ready.len() || !self.told.is_empty();
        if has_more {
            return Ok(());
        }
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        self.ready.clear();
        self.next_ready = 0;
        self.waits += 1;
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.ready), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// What happened next.
    pub(crate) fn next(&mut self, sockets: &mut Sockets) -> Option<Found> {
        loop {
            if let Some(found) = self.told.pop() {
                return Some(found);
            }
            let ready = self.current.take().or_else(|| self.next_ready())?;
            let Some(socket) = sockets.open(ready.socket) else { continue };
            let found = match (socket.state, socket.kind) {
                (State::Connecting, _) => self.connected(sockets, ready),
                (State::Open, Kind::Datagram) => self.read_datagrams(sockets, ready),
                (State::Open, Kind::Stream) => self.read_stream(sockets, ready),
                (State::Open, Kind::Listener) => self.accept(sockets, ready),
                _ => None,
            };
            if found.is_some() {
                return found;
            }
        }
    }

    /// The datagram that was found last.
    pub(crate) fn datagram(&mut self) -> &[u8] {
        self.inbox.last()
    }

    /// The octets of a stream that were found last.
    pub(crate) fn room(&self, length: usize) -> &[u8] {
        self.room.get(..length).unwrap_or_default()
    }

    pub(crate) fn count(&self, statistics: &mut Statistics) {
        statistics.waits += self.waits;
        statistics.transfers += self.transfers;
        statistics.joined += self.outbox.joined();
    }

    fn next_ready(&mut self) -> Option<Ready> {
        loop {
            let event = self.ready.get(self.next_ready)?;
            self.next_ready += 1;
            let (data, flags) = (event.data.u64(), event.flags);
            if data == WAKER {
                self.waker.clear();
                continue;
            }
            let socket = SocketId { index: data as u32, generation: (data >> 32) as u32 };
            let has_failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            return Some(Ready {
                socket,
                input: has_failed || flags.contains(EventFlags::IN),
                output: has_failed || flags.contains(EventFlags::OUT),
                rounds: 0,
                may_have_more: true,
            });
        }
    }

    fn read_datagrams(&mut self, sockets: &mut Sockets, mut ready: Ready) -> Option<Found> {
        let id = ready.socket;
        if ready.rounds > 0 && self.inbox.advance() {
            self.current = Some(ready);
            return Some(Found::Received { socket: id, place: Place::Inbox });
        }
        let socket = sockets.open(id)?;
        if !socket.wants || !ready.may_have_more || ready.rounds == ROUNDS_MAX {
            return None;
        }
        ready.rounds += 1;
        self.transfers += 1;
        match self.inbox.fill(socket.fd.as_fd()) {
            Ok(count) => {
                ready.may_have_more = count == BATCH;
                self.current = Some(ready);
                None
            }
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                if matches!(errno, Errno::AGAIN | Errno::INTR) {
                    return None;
                }
                self.current = Some(ready);
                Some(Found::DatagramFailed { socket: id, error: errno })
            }
        }
    }

    fn read_stream(&mut self, sockets: &mut Sockets, ready: Ready) -> Option<Found> {
        let id = ready.socket;
        if ready.output {
            if let Some(socket) = sockets.open(id) {
                socket.output.is_busy = false;
            }
            self.send_stream(sockets, id);
            self.update(sockets, id);
        }
        let socket = sockets.open(id).filter(|socket| socket.is_heard() && socket.wants && ready.input)?;
        self.transfers += 1;
        match rustix::net::recv(&socket.fd, &mut self.room[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) if length > 0 => Some(Found::Received { socket: id, place: Place::Room { length } }),
            Err(Errno::AGAIN | Errno::INTR) => None,
            result => {
                let is_news = socket.end();
                self.update(sockets, id);
                is_news.then_some(Found::Ended { socket: id, error: result.err() })
            }
        }
    }

    fn accept(&mut self, sockets: &mut Sockets, mut ready: Ready) -> Option<Found> {
        let id = ready.socket;
        let listener = sockets.open(id).filter(|listener| listener.wants)?;
        if ready.rounds == ROUNDS_MAX {
            return None;
        }
        ready.rounds += 1;
        self.transfers += 1;
        match rustix::net::accept_with(&listener.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(stream) => {
                self.current = Some(ready);
                let socket = sockets.insert(stream, Kind::Stream);
                Some(Found::Accepted { listener: id, socket })
            }
            Err(Errno::AGAIN) => None,
            Err(Errno::CONNABORTED | Errno::INTR) => {
                self.current = Some(ready);
                None
            }
            Err(error) => {
                listener.wants = false;
                self.update(sockets, id);
                Some(Found::AcceptFailed { listener: id, error })
            }
        }
    }

    fn connected(&mut self, sockets: &mut Sockets, ready: Ready) -> Option<Found> {
        let id = ready.socket;
        let socket = sockets.open(id)?;
        let found = match rustix::net::sockopt::socket_error(&socket.fd) {
            Ok(Ok(())) => {
                socket.state = State::Open;
                Found::Connected { socket: id }
            }
            Ok(Err(error)) | Err(error) => {
                socket.state = State::Failed;
                Found::Ended { socket: id, error: Some(error) }
            }
        };
        if socket.output.waiting_bytes() > 0 && !mem::replace(&mut socket.output.is_listed, true) {
            self.senders.push(id);
        }
        self.update(sockets, id);
        Some(found)
    }

    /// Sends the queued datagrams, those of one socket together.
    fn send_datagrams(&mut self, sockets: &mut Sockets) {
        if self.outbox.len() == 0 {
            return;
        }
        self.outbox.seal();
        let mut order = mem::take(&mut self.order);
        order.extend((0..self.outbox.len()).filter_map(|index| Some((self.outbox.group(index)?.socket, index))));
        // In the order of a socket's groups, so that its datagrams keep theirs.
        order.sort_unstable();
        let mut joins = self.outbox.joins();
        for groups in order.chunk_by(|(a, _), (b, _)| a == b) {
            let Some(socket) = groups.first().and_then(|(id, _)| sockets.open(*id)) else { continue };
            let mut rest: Vec<Parcel<'_>> =
                groups.iter().flat_map(|&(_, index)| self.outbox.parcels(index, joins)).collect();
            while let Some(first) = rest.first() {
                self.transfers += 1;
                let sent = match batch::send(socket.fd.as_fd(), &rest) {
                    Ok(sent) => sent,
                    Err(error) if joins && first.segment_bytes.is_some() && is_about_segments(&error) => {
                        joins = false;
                        rest = rest.into_iter().flat_map(Parcel::parted).collect();
                        continue;
                    }
                    // An error belongs to an earlier datagram, or to the first, which is then lost as datagrams are.
                    Err(_) => 1,
                };
                rest.drain(..sent.clamp(1, rest.len()));
            }
        }
        if !joins {
            self.outbox.stop_joining();
        }
        order.clear();
        self.order = order;
        self.outbox.clear();
    }

    fn send_streams(&mut self, sockets: &mut Sockets) {
        let mut senders = mem::take(&mut self.senders);
        for id in senders.drain(..) {
            if let Some(socket) = sockets.open(id) {
                socket.output.is_listed = false;
            }
            self.send_stream(sockets, id);
            self.update(sockets, id);
        }
        if self.senders.is_empty() {
            self.senders = senders;
        }
    }

    fn send_stream(&mut self, sockets: &mut Sockets, id: SocketId) {
        let Some(socket) = sockets.open(id).filter(|socket| socket.state == State::Open) else { return };
        let output = &mut socket.output;
        while !output.is_busy && output.advance() {
            let rest = output.sending.get(output.sent..).unwrap_or_default();
            self.transfers += 1;
            match rustix::net::send(&socket.fd, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => output.sent += sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => output.is_busy = true,
                Err(_) if output.closes => {
                    sockets.remove(id);
                    return;
                }
                Err(error) => {
                    socket.fail();
                    if socket.end() {
                        self.told.push(Found::Ended { socket: id, error: Some(error) });
                    }
                    return;
                }
            }
        }
        if output.waiting_bytes() > 0 {
            return;
        }
        let (closes, notifies) = (output.closes, mem::take(&mut output.notifies));
        if closes {
            sockets.remove(id);
        } else if notifies {
            self.told.push(Found::Sent { socket: id });
        }
    }
}

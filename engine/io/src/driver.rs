//! The driver: what both backends have in common.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::epoll::Epoll;
use crate::ring::Ring;
#[cfg(feature = "simulation")]
use crate::simulated::{Network, Simulated};
use crate::socket::{Kind, SocketId, Sockets, State};
use crate::waker::Waker;

/// The sockets of one thread.
///
/// The contract: [`wait`](Self::wait) carries out what was asked for and sleeps until something happened or the moment
/// has come; then [`next_event`](Self::next_event) is called until it gives nothing. Between long pieces of work
/// [`glance`](Self::glance) looks without sleeping.
#[derive(Debug)]
pub struct Driver {
    sockets: Sockets,
    means: Means,
    waker: Waker,
    backend: Backend,
    options: Options,
    /// Connections under way, with the moment at which they are given up.
    connecting: Vec<(Instant, SocketId)>,
    /// What this side found out.
    found: VecDeque<Found>,
    was_woken: bool,
    statistics: Statistics,
}

/// Which backend to take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Choice {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll.
    Epoll,
}

/// The backend that was taken, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Backend {
    /// io_uring works here.
    Uring,
    /// epoll, as was asked for.
    Epoll,
    /// epoll, because io_uring was refused.
    EpollInstead {
        /// What was refused, how, and what helps.
        reason: String,
    },
}

/// Limits of a driver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// Sockets at a time; more are refused.
    pub sockets_max: usize,
    /// Buffers that datagrams wait in, of 2 KiB each; a power of two. (Ring only.)
    pub datagram_buffers: u16,
    /// Buffers that octets of streams wait in, of 16 KiB each; a power of two. (Ring only.)
    pub stream_buffers: u16,
}

/// What a driver has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Statistics {
    /// Calls that submit and wait (io_uring_enter, epoll_wait).
    pub waits: u64,
    /// System calls of the epoll backend that receive, send or accept.
    pub transfers: u64,
    /// How often the kernel had no buffer to receive into.
    pub no_buffers: u64,
    /// Completions that did not fit the queue; the kernel kept them.
    pub overflows: u64,
    /// Moves from io_uring to epoll: one at most.
    pub moves: u64,
    /// Datagrams that went through the kernel together with others of their length.
    pub joined: u64,
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A datagram came, or the next octets of a stream.
    Received {
        /// On this socket.
        socket: SocketId,
        /// The octets, until the next call.
        octets: &'a [u8],
    },
    /// A datagram socket had an error to report, such as a peer's port that nobody listens on. It goes on.
    DatagramFailed {
        /// On this socket.
        socket: SocketId,
        /// What was reported.
        error: io::Error,
    },
    /// A stream ended or could not be connected: nothing more is received. What is queued may still be sent when there
    /// was no error. The owner closes it.
    Ended {
        /// This stream.
        socket: SocketId,
        /// `None` when the peer said that it has no more to send.
        error: Option<io::Error>,
    },
    /// A stream is connected.
    Connected {
        /// This stream.
        socket: SocketId,
    },
    /// A connection was accepted; receiving is still to be asked for.
    Accepted {
        /// By this listener.
        listener: SocketId,
        /// The new stream.
        socket: SocketId,
    },
    /// A connection could not be accepted. The listener pauses until [`Driver::receive`] is called again.
    AcceptFailed {
        /// This listener.
        listener: SocketId,
        /// Why; often that the process has no descriptor left.
        error: io::Error,
    },
    /// All octets queued on a stream are with the kernel, after [`Driver::notify_when_sent`].
    Sent {
        /// This stream.
        socket: SocketId,
    },
    /// A [`Waker`] was used.
    Woken,
    /// Datagrams that were sent since the last wait may be lost: they went together, which the kernel or a device does not
    /// take here. From now on each goes alone.
    DatagramsLost,
    /// io_uring is refused from now on and epoll has taken over. Datagrams that were being sent may be lost. Streams that
    /// were being sent to have ended.
    Moved,
}

/// An event without its octets.
#[derive(Debug)]
pub(crate) enum Found {
    Received { socket: SocketId, place: Place },
    DatagramFailed { socket: SocketId, error: Errno },
    Ended { socket: SocketId, error: Option<Errno> },
    Connected { socket: SocketId },
    Accepted { listener: SocketId, socket: SocketId },
    AcceptFailed { listener: SocketId, error: Errno },
    Sent { socket: SocketId },
    DatagramsLost,
    Refused(Errno),
}

impl Found {
    /// The socket it is about.
    fn socket(&self) -> Option<SocketId> {
        match *self {
            Self::Received { socket, .. }
            | Self::DatagramFailed { socket, .. }
            | Self::Ended { socket, .. }
            | Self::Connected { socket }
            | Self::Sent { socket } => Some(socket),
            // A connection that was accepted is there, whatever has become of the listener.
            Self::Accepted { .. } | Self::AcceptFailed { .. } | Self::DatagramsLost | Self::Refused(_) => None,
        }
    }
}

/// Where received octets are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// In this buffer of the ring's, of a kind's group.
    Buffer { kind: Kind, buffer: u16, length: usize },
    /// In the epoll backend's batch of datagrams: the next one.
    Inbox,
    /// In its room for streams.
    Room { length: usize },
}

enum Means {
    Ring(Box<Ring>),
    Epoll(Box<Epoll>),
    #[cfg(feature = "simulation")]
    Simulated(Box<Simulated>),
}

impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring(_) => "Ring",
            Self::Epoll(_) => "Epoll",
            #[cfg(feature = "simulation")]
            Self::Simulated(_) => "Simulated",
        })
    }
}

/// Why there is no driver, or no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// io_uring was asked for and is refused.
    #[error(
        "io_uring does not work here: {step}: {source} (allow io_uring in the container's seccomp profile, see sysctl \
         kernel.io_uring_disabled, or use the epoll backend)"
    )]
    UringRefused {
        /// The step that failed.
        step: &'static str,
        /// How it failed.
        source: io::Error,
    },
    /// There are as many sockets as the options allow.
    #[error("no more than {limit} sockets are allowed")]
    TooManySockets {
        /// As many.
        limit: usize,
    },
    /// The machine refused.
    #[error("{step}: {source}")]
    System {
        /// The step that failed.
        step: &'static str,
        /// How it failed.
        source: io::Error,
    },
}

impl Driver {
    /// A driver for the calling thread.
    ///
    /// # Errors
    /// [`DriverError::UringRefused`] for [`Choice::Uring`] where io_uring does not work; [`DriverError::System`] when not
    /// even epoll can be had, as when the process has no descriptor left.
    pub fn new(choice: Choice, options: Options) -> Result<Self, DriverError> {
        let waker = Waker::new().map_err(|source| DriverError::System { step: "eventfd", source })?;
        let epoll = |waker: &Waker| {
            let epoll = Epoll::new(waker).map_err(|source| DriverError::System { step: "epoll_create", source })?;
            Ok(Means::Epoll(Box::new(epoll)))
        };
        let (means, backend) = match choice {
            Choice::Epoll => (epoll(&waker)?, Backend::Epoll),
            Choice::Auto | Choice::Uring => match Ring::new(&waker, &options) {
                Ok(ring) => (Means::Ring(Box::new(ring)), Backend::Uring),
                Err(refused) if choice == Choice::Uring => return Err(refused),
                Err(refused) => (epoll(&waker)?, Backend::EpollInstead { reason: refused.to_string() }),
            },
        };
        Ok(Self {
            sockets: Sockets::default(),
            means,
            waker,
            backend,
            options,
            connecting: Vec::new(),
            found: VecDeque::new(),
            was_woken: false,
            statistics: Statistics::default(),
        })
    }

    /// A driver whose sockets, clock and peers are those of a simulation. It never sleeps: [`wait`](Self::wait) carries out
    /// what was asked for, and whoever simulates decides when to look.
    ///
    /// # Errors
    /// [`DriverError::System`] when the process has no descriptor left.
    #[cfg(feature = "simulation")]
    pub fn simulated(network: Box<dyn Network>, options: Options) -> Result<Self, DriverError> {
        let waker = Waker::new().map_err(|source| DriverError::System { step: "eventfd", source })?;
        Ok(Self {
            sockets: Sockets::default(),
            means: Means::Simulated(Box::new(Simulated::new(network))),
            waker,
            backend: Backend::Epoll,
            options,
            connecting: Vec::new(),
            found: VecDeque::new(),
            was_woken: false,
            statistics: Statistics::default(),
        })
    }

    /// Whether a wait would end at once: somebody used the waker, or something is there to be told.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn has_events(&self) -> bool {
        let has_news = matches!(&self.means, Means::Simulated(simulated) if simulated.has_news());
        has_news || self.was_woken || !self.found.is_empty() || self.waker.is_wanted()
    }

    /// Takes a connected datagram socket.
    ///
    /// # Errors
    /// [`DriverError::TooManySockets`], and [`DriverError::System`] when the socket cannot be made non-blocking.
    pub fn add_datagram(&mut self, socket: OwnedFd) -> Result<SocketId, DriverError> {
        self.add(socket, Kind::Datagram)
    }

    /// Takes a connected stream.
    ///
    /// # Errors
    /// As [`Driver::add_datagram`].
    pub fn add_stream(&mut self, socket: OwnedFd) -> Result<SocketId, DriverError> {
        self.add(socket, Kind::Stream)
    }

    /// Takes a listening socket; [`Driver::receive`] starts to accept.
    ///
    /// # Errors
    /// As [`Driver::add_datagram`].
    pub fn add_listener(&mut self, socket: OwnedFd) -> Result<SocketId, DriverError> {
        self.add(socket, Kind::Listener)
    }

    fn add(&mut self, socket: OwnedFd, kind: Kind) -> Result<SocketId, DriverError> {
        if self.sockets.len() >= self.options.sockets_max {
            return Err(DriverError::TooManySockets { limit: self.options.sockets_max });
        }
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|errno| DriverError::System { step: "ioctl", source: errno.into() })?;
        let id = self.sockets.insert(socket, kind);
        #[cfg(feature = "simulation")]
        if let Means::Simulated(simulated) = &mut self.means {
            simulated.adopt(&mut self.sockets, id);
        }
        Ok(id)
    }

    /// Makes a datagram socket that is connected to a peer, by a port that the kernel draws. It shares the port with nobody,
    /// so that nobody else on this machine can take what comes for it. `receive_bytes` is the room for datagrams that wait;
    /// the system may allow less.
    ///
    /// # Errors
    /// As [`Driver::add_datagram`], and when the process has no descriptor left or the address cannot be reached from here.
    pub fn connect_datagram(&mut self, peer: SocketAddr, receive_bytes: usize) -> Result<SocketId, DriverError> {
        #[cfg(feature = "simulation")]
        if let Means::Simulated(simulated) = &mut self.means {
            if self.sockets.len() >= self.options.sockets_max {
                return Err(DriverError::TooManySockets { limit: self.options.sockets_max });
            }
            return simulated.connect_datagram(&mut self.sockets, peer);
        }
        let system = |step| move |errno: Errno| DriverError::System { step, source: errno.into() };
        let (family, local): (_, SocketAddr) = match peer {
            SocketAddr::V4(_) => (AddressFamily::INET, (Ipv4Addr::UNSPECIFIED, 0).into()),
            SocketAddr::V6(_) => (AddressFamily::INET6, (Ipv6Addr::UNSPECIFIED, 0).into()),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None).map_err(system("socket"))?;
        // The system's bound may be lower: then it is what it is.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, receive_bytes);
        rustix::net::bind(&socket, &local).map_err(system("bind"))?;
        rustix::net::connect(&socket, &peer).map_err(system("connect"))?;
        self.add_datagram(socket)
    }

    /// Starts to connect a stream; [`Event::Connected`] follows, or [`Event::Ended`], at the latest at the deadline.
    ///
    /// # Errors
    /// As [`Driver::add_datagram`], and when the address cannot be reached from here.
    pub fn connect(&mut self, peer: SocketAddr, deadline: Instant) -> Result<SocketId, DriverError> {
        if self.sockets.len() >= self.options.sockets_max {
            return Err(DriverError::TooManySockets { limit: self.options.sockets_max });
        }
        #[cfg(feature = "simulation")]
        if let Means::Simulated(simulated) = &mut self.means {
            let id = simulated.connect(&mut self.sockets, peer)?;
            self.connecting.push((deadline, id));
            return Ok(id);
        }
        let system = |step| move |errno: Errno| DriverError::System { step, source: errno.into() };
        let family = if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(system("socket"))?;
        // Messages are written whole; waiting for more only delays them.
        rustix::net::sockopt::set_tcp_nodelay(&socket, true).map_err(system("setsockopt"))?;
        match rustix::net::connect(&socket, &peer) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(system("connect")(errno)),
        }
        let id = self.sockets.insert(socket, Kind::Stream);
        if let Some(socket) = self.sockets.get(id) {
            socket.state = State::Connecting;
        }
        match &mut self.means {
            Means::Ring(ring) => ring.watch_connect(&mut self.sockets, id),
            Means::Epoll(epoll) => epoll.update(&mut self.sockets, id),
            #[cfg(feature = "simulation")]
            Means::Simulated(simulated) => simulated.update(&mut self.sockets, id),
        }
        self.connecting.push((deadline, id));
        Ok(id)
    }

    /// Receives from now on, or accepts, until [`Driver::pause`].
    pub fn receive(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.open(id) else { return };
        socket.wants = true;
        match &mut self.means {
            Means::Ring(ring) => ring.receive(&mut self.sockets, id),
            Means::Epoll(epoll) => epoll.update(&mut self.sockets, id),
            #[cfg(feature = "simulation")]
            Means::Simulated(simulated) => simulated.update(&mut self.sockets, id),
        }
    }

    /// Receives no more for now. Octets the kernel has handed over already still come.
    pub fn pause(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.open(id) else { return };
        socket.wants = false;
        match &mut self.means {
            Means::Ring(ring) => ring.pause(&mut self.sockets, id),
            Means::Epoll(epoll) => epoll.update(&mut self.sockets, id),
            #[cfg(feature = "simulation")]
            Means::Simulated(simulated) => simulated.update(&mut self.sockets, id),
        }
    }

    /// Queues a datagram to the peer of the socket; it goes out with the next [`wait`](Self::wait) or
    /// [`glance`](Self::glance), together with others of its length. One that the kernel has no room for is lost, as
    /// datagrams are.
    pub fn send_datagram(&mut self, id: SocketId, datagram: &[u8]) {
        if self.sockets.open(id).is_none() {
            return;
        }
        match &mut self.means {
            Means::Ring(ring) => ring.send_datagram(&mut self.sockets, id, datagram),
            Means::Epoll(epoll) => epoll.send_datagram(&mut self.sockets, id, datagram),
            #[cfg(feature = "simulation")]
            Means::Simulated(simulated) => simulated.send_datagram(&mut self.sockets, id, datagram),
        }
    }

    /// Queues octets on a stream, after those queued before. The caller bounds what is queued by
    /// [`unsent_bytes`](Self::unsent_bytes).
    pub fn send(&mut self, id: SocketId, octets: &[u8]) {
        let Some(socket) = self.sockets.open(id) else { return };
        socket.output.queue.extend_from_slice(octets);
        self.list_sender(id);
    }

    /// Octets queued on a stream that are not with the kernel yet.
    pub fn unsent_bytes(&mut self, id: SocketId) -> usize {
        self.sockets.open(id).map_or(0, |socket| socket.output.waiting_bytes())
    }

    /// Says [`Event::Sent`] once all that is queued is with the kernel.
    pub fn notify_when_sent(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.open(id) else { return };
        socket.output.notifies = true;
        self.list_sender(id);
    }

    /// Closes a stream once all that is queued is with the kernel, or it fails. No event of it follows.
    pub fn close_when_sent(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.open(id) else { return };
        if socket.output.waiting_bytes() == 0 {
            return self.close(id);
        }
        socket.output.closes = true;
        self.pause(id);
        self.list_sender(id);
    }

    /// Whether a stream is still being sent to that closes afterwards: what its owner looks at before the driver is
    /// dropped. Looks at every socket.
    #[must_use]
    pub fn is_closing_streams(&self) -> bool {
        let output = |id| self.sockets.peek(id).map(|socket| &socket.output);
        self.sockets.ids().into_iter().filter_map(output).any(|output| output.closes && output.waiting_bytes() > 0)
    }

    /// Closes a socket. What is queued is dropped; no event of it follows.
    pub fn close(&mut self, id: SocketId) {
        self.stop_connecting(id);
        let Some(socket) = self.sockets.open(id) else { return };
        socket.state = State::Closing;
        match &mut self.means {
            Means::Ring(ring) => ring.close(&mut self.sockets, id),
            Means::Epoll(epoll) => epoll.close(&mut self.sockets, id),
            #[cfg(feature = "simulation")]
            Means::Simulated(simulated) => simulated.close(&mut self.sockets, id),
        }
    }

    /// Gives a socket back that is not receiving, connecting or sending: one that was just accepted.
    pub fn release(&mut self, id: SocketId) -> Option<OwnedFd> {
        let socket = self.sockets.open(id)?;
        if socket.in_flight > 0 || socket.wants || socket.output.waiting_bytes() > 0 {
            return None;
        }
        self.sockets.remove(id).map(|socket| socket.fd)
    }

    /// The descriptor of a socket, to read its options and addresses.
    #[must_use]
    pub fn descriptor(&self, id: SocketId) -> Option<BorrowedFd<'_>> {
        self.sockets.peek(id).map(|socket| socket.fd.as_fd())
    }

    /// Ends the wait of this driver from other threads.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The backend that was taken, and why.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// What this driver has done.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.statistics;
        match &self.means {
            Means::Ring(ring) => ring.count(&mut statistics),
            Means::Epoll(epoll) => epoll.count(&mut statistics),
            #[cfg(feature = "simulation")]
            Means::Simulated(_) => {}
        }
        statistics
    }

    /// Sockets that are open or still closing.
    #[must_use]
    pub fn socket_count(&self) -> usize {
        self.sockets.len()
    }

    /// The driver's clock: the machine's, unless it is simulated.
    #[must_use]
    pub fn now(&self) -> Instant {
        #[cfg(feature = "simulation")]
        if let Means::Simulated(simulated) = &self.means {
            return simulated.now();
        }
        Instant::now()
    }

    /// The moment at which the driver itself has to act: a connection is given up.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.connecting.iter().map(|(deadline, _)| *deadline).min()
    }

    /// Carries out what was asked for and waits until something happens, the driver is woken, or the moment has come.
    ///
    /// # Errors
    /// When the kernel refuses to wait, for a reason that using epoll instead does not heal.
    pub fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        let deadline = until.into_iter().chain(self.next_deadline()).min();
        let sleeps = self.found.is_empty() && !self.was_woken && self.waker.fall_asleep();
        let timeout = if sleeps {
            deadline.map(|deadline| deadline.saturating_duration_since(self.now()))
        } else {
            Some(Duration::ZERO)
        };
        let result = match &mut self.means {
            Means::Ring(ring) => ring.wait(&mut self.sockets, timeout),
            Means::Epoll(epoll) => epoll.wait(&mut self.sockets, timeout),
            #[cfg(feature = "simulation")]
            Means::Simulated(simulated) => simulated.carry_out(&mut self.sockets),
        };
        if self.waker.wake_up() {
            self.was_woken = true;
        }
        self.give_up_late_connections();
        result
    }

    /// Carries out what was asked for and looks for what happened, without waiting; cheap when there is nothing to do.
    ///
    /// # Errors
    /// As [`Driver::wait`].
    pub fn glance(&mut self) -> io::Result<()> {
        match &mut self.means {
            Means::Ring(ring) => ring.glance(&mut self.sockets),
            Means::Epoll(epoll) => epoll.wait(&mut self.sockets, Some(Duration::ZERO)),
            #[cfg(feature = "simulation")]
            Means::Simulated(simulated) => simulated.carry_out(&mut self.sockets),
        }
    }

    /// What happened next; `None` when all is said.
    pub fn next_event(&mut self) -> Option<Event<'_>> {
        if std::mem::take(&mut self.was_woken) {
            return Some(Event::Woken);
        }
        let found = loop {
            let found = match self.found.pop_front() {
                Some(found) => found,
                None => match &mut self.means {
                    Means::Ring(ring) => ring.next(&mut self.sockets)?,
                    Means::Epoll(epoll) => epoll.next(&mut self.sockets)?,
                    #[cfg(feature = "simulation")]
                    Means::Simulated(simulated) => simulated.next(&mut self.sockets)?,
                },
            };
            // Of a socket that was let go meanwhile nothing is told.
            if found.socket().is_none_or(|id| self.sockets.open(id).is_some()) {
                break found;
            }
        };
        Some(match found {
            Found::Received { socket, place } => Event::Received { socket, octets: self.octets(place) },
            Found::DatagramFailed { socket, error } => Event::DatagramFailed { socket, error: error.into() },
            Found::Ended { socket, error } => {
                self.stop_connecting(socket);
                Event::Ended { socket, error: error.map(Into::into) }
            }
            Found::Connected { socket } => {
                self.stop_connecting(socket);
                Event::Connected { socket }
            }
            Found::Accepted { listener, socket } => Event::Accepted { listener, socket },
            Found::AcceptFailed { listener, error } => Event::AcceptFailed { listener, error: error.into() },
            Found::Sent { socket } => Event::Sent { socket },
            Found::DatagramsLost => Event::DatagramsLost,
            Found::Refused(errno) => return self.move_to_epoll(errno),
        })
    }

    fn octets(&mut self, place: Place) -> &[u8] {
        match (&mut self.means, place) {
            (Means::Ring(ring), Place::Buffer { kind, buffer, length }) => ring.octets(kind, buffer, length),
            (Means::Epoll(epoll), Place::Inbox) => epoll.datagram(),
            (Means::Epoll(epoll), Place::Room { length }) => epoll.room(length),
            #[cfg(feature = "simulation")]
            (Means::Simulated(simulated), Place::Room { length }) => simulated.room(length),
            // Places are made by the backend that is asked.
            _ => &[],
        }
    }

    fn list_sender(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.open(id) else { return };
        if std::mem::replace(&mut socket.output.is_listed, true) {
            return;
        }
        match &mut self.means {
            Means::Ring(ring) => ring.list_sender(id),
            Means::Epoll(epoll) => epoll.list_sender(id),
            #[cfg(feature = "simulation")]
            Means::Simulated(simulated) => simulated.list_sender(id),
        }
    }

    fn stop_connecting(&mut self, socket: SocketId) {
        if !self.connecting.is_empty() {
            self.connecting.retain(|(_, id)| *id != socket);
        }
    }

    fn give_up_late_connections(&mut self) {
        if self.connecting.is_empty() {
            return;
        }
        let now = self.now();
        let (sockets, found) = (&mut self.sockets, &mut self.found);
        self.connecting.retain(|&(deadline, id)| {
            let Some(socket) = sockets.get(id).filter(|socket| socket.state == State::Connecting) else { return false };
            if deadline > now {
                return true;
            }
            // From now on it is a stream that failed; what the backend still says of it is not passed on.
            socket.state = State::Failed;
            found.push_back(Found::Ended { socket: id, error: Some(Errno::TIMEDOUT) });
            false
        });
    }

    /// Goes on with epoll after the kernel has refused the ring.
    fn move_to_epoll(&mut self, errno: Errno) -> Option<Event<'_>> {
        let mut epoll = match Epoll::new(&self.waker) {
            Ok(epoll) => epoll,
            Err(_) => return None,
        };
        if let Means::Ring(ring) = &mut self.means {
            ring.count(&mut self.statistics);
            self.found.extend(ring.leave(&mut self.sockets));
        }
        for id in self.sockets.ids() {
            epoll.adopt(&mut self.sockets, id);
        }
        self.means = Means::Epoll(Box::new(epoll));
        self.statistics.moves += 1;
        let source = io::Error::from(errno);
        let reason = DriverError::UringRefused { step: "io_uring_enter", source }.to_string();
        self.backend = Backend::EpollInstead { reason };
        Some(Event::Moved)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Means::Ring(ring) = &mut self.means {
            ring.shut_down(&mut self.sockets);
        }
    }
}

impl Event<'_> {
    /// The socket it is about; the listener where one was accepted.
    #[must_use]
    pub fn socket(&self) -> Option<SocketId> {
        match *self {
            Self::Received { socket, .. }
            | Self::DatagramFailed { socket, .. }
            | Self::Ended { socket, .. }
            | Self::Connected { socket }
            | Self::Sent { socket } => Some(socket),
            Self::Accepted { listener, .. } | Self::AcceptFailed { listener, .. } => Some(listener),
            Self::Woken | Self::DatagramsLost | Self::Moved => None,
        }
    }
}

impl Backend {
    /// `uring` or `epoll`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll | Self::EpollInstead { .. } => "epoll",
        }
    }
}

impl std::str::FromStr for Choice {
    type Err = UnknownBackend;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(UnknownBackend),
        }
    }
}

/// The word names no backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a backend is auto, uring or epoll")]
pub struct UnknownBackend;

impl Default for Options {
    fn default() -> Self {
        Self { sockets_max: 16 * 1024, datagram_buffers: 1024, stream_buffers: 256 }
    }
}

//! Sockets that never wait, and the set of them that a thread watches.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use crate::target::Address;

/// A stream socket, connected or about to be.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// What became of an attempt that does not wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transfer {
    /// So many octets.
    Moved(usize),
    /// None for now.
    Later,
    /// The other side has closed.
    Ended,
}

impl Socket {
    /// Begins to connect. `None` where the listener's queue is full, which a unix socket reports instead of waiting.
    pub(crate) fn connect(address: &Address) -> io::Result<Option<Self>> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let open = |family| rustix::net::socket_with(family, SocketType::STREAM, flags, None);
        let (socket, result) = match address {
            Address::Tcp(address) => {
                let socket = open(if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 })?;
                sockopt::set_tcp_nodelay(&socket, true)?;
                let result = rustix::net::connect(&socket, address);
                (socket, result)
            }
            Address::Unix(path) => {
                let socket = open(AddressFamily::UNIX)?;
                let result = rustix::net::connect(&socket, &rustix::net::SocketAddrUnix::new(path.as_path())?);
                (socket, result)
            }
        };
        match result {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Some(Self(socket))),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn send(&self, octets: &[u8]) -> io::Result<Transfer> {
        match rustix::net::send(&self.0, octets, SendFlags::NOSIGNAL) {
            Ok(count) => Ok(Transfer::Moved(count)),
            // A connection that is not there yet.
            Err(Errno::AGAIN | Errno::NOTCONN) => Ok(Transfer::Later),
            Err(Errno::INTR) => Ok(Transfer::Moved(0)),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Transfer> {
        match rustix::net::recv(&self.0, buffer, RecvFlags::empty()) {
            Ok((0, _)) => Ok(Transfer::Ended),
            Ok((count, _)) => Ok(Transfer::Moved(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Transfer::Later),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Socket {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

/// The sockets of one thread, with an alarm. Each socket is told of once when octets come or may go, so that it costs one
/// call to add it and none to go on.
pub(crate) struct Watch {
    epoll: OwnedFd,
    /// Wakes to the microsecond; the waiting time of the set itself is counted in milliseconds.
    alarm: OwnedFd,
    events: Vec<epoll::Event>,
}

/// Something happened to the socket of this token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Happening {
    pub(crate) token: u64,
    /// Octets, or the end, may be read.
    pub(crate) is_readable: bool,
    /// Octets may be written.
    pub(crate) is_writable: bool,
}

const EVENTS_MAX: usize = 256;
const ALARM: u64 = u64::MAX;

impl Watch {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // Never read: it is told of anew each time it is set and goes off.
        epoll::add(&epoll, &alarm, EventData::new_u64(ALARM), EventFlags::IN | EventFlags::ET)?;
        Ok(Self { epoll, alarm, events: Vec::with_capacity(EVENTS_MAX) })
    }

    pub(crate) fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), flags)?)
    }

    /// For a listening socket, of which every waiting thread would be told otherwise.
    pub(crate) fn add_listener(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), flags)?)
    }

    /// Waits for a happening, but no longer than this.
    pub(crate) fn wait(&mut self, at_most: Duration) -> io::Result<()> {
        // Nothing would disarm the alarm.
        let at_most = at_most.max(Duration::from_nanos(1));
        let it_value = Timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: at_most.subsec_nanos().into() };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.alarm, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        self.take(None)
    }

    /// Takes what has happened.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        self.take(Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
    }

    fn take(&mut self, at_most: Option<&Timespec>) -> io::Result<()> {
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), at_most) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How many sockets something happened to, and whether the alarm went off.
    pub(crate) fn happening_count(&self) -> usize {
        self.events.len()
    }

    /// One of them; `None` is the alarm.
    pub(crate) fn happening(&self, at: usize) -> Option<Happening> {
        let over = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        let event = self.events.get(at)?;
        let (flags, token) = (event.flags, event.data.u64());
        (token != ALARM).then(|| Happening {
            token,
            is_readable: flags.intersects(EventFlags::IN | over),
            is_writable: flags.intersects(EventFlags::OUT | over),
        })
    }
}

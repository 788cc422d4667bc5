//! Datagrams in batches: one system call for up to 64 queries, and one for their replies.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

/// Datagrams of one system call.
pub const BATCH: usize = 64;

/// Octets of a query that are read; queries are shorter by far, and what is cut off is no query that can be read.
const QUERY_BYTES_MAX: usize = 2048;

/// Room for the datagrams received together.
pub struct Received {
    headers: MultiHeaders<SockaddrStorage>,
    rooms: Vec<[u8; QUERY_BYTES_MAX]>,
    /// Octets and sender of each.
    datagrams: Vec<(usize, Option<SockaddrStorage>)>,
}

/// Datagrams to be sent together.
pub struct ToSend {
    headers: MultiHeaders<SockaddrStorage>,
    octets: Vec<u8>,
    ranges: Vec<Range<usize>>,
    receivers: Vec<Option<SockaddrStorage>>,
}

impl Received {
    /// Room for [`BATCH`] datagrams.
    #[must_use]
    pub fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            rooms: vec![[0; QUERY_BYTES_MAX]; BATCH],
            datagrams: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what has come to a socket that does not block; fewer than [`BATCH`] datagrams are all there were.
    ///
    /// # Errors
    /// As `recvmmsg`; that nothing has come is none.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.datagrams.clear();
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = self.rooms.iter_mut().map(|room| [IoSliceMut::new(room)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        match recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None) {
            Ok(messages) => self.datagrams.extend(messages.map(|message| (message.bytes, message.address))),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.datagrams.len())
    }

    /// The datagrams received last, with their senders.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], SockaddrStorage)> {
        self.datagrams.iter().zip(&self.rooms).filter_map(|((len, from), room)| Some((room.get(..*len)?, (*from)?)))
    }
}

impl ToSend {
    /// Room for [`BATCH`] datagrams.
    #[must_use]
    pub fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            octets: Vec::new(),
            ranges: Vec::with_capacity(BATCH),
            receivers: Vec::with_capacity(BATCH),
        }
    }

    /// Adds a datagram; `write` appends its octets. Without octets there is none.
    pub fn add(&mut self, to: SockaddrStorage, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.octets.len();
        write(&mut self.octets);
        if self.octets.len() == start {
            return;
        }
        self.ranges.push(start..self.octets.len());
        self.receivers.push(Some(to));
    }

    /// Datagrams added since the last sending.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// True when there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Sends them all, and gives how many the kernel took. Those that it did not take are lost, as datagrams may be.
    pub fn send(&mut self, socket: &UdpSocket) -> usize {
        let mut sent = 0;
        let mut at = 0;
        while at < self.ranges.len() {
            let octets = &self.octets;
            let slices: Vec<[IoSlice<'_>; 1]> = self
                .ranges
                .iter()
                .skip(at)
                .take(BATCH)
                .map(|range| [IoSlice::new(octets.get(range.clone()).unwrap_or_default())])
                .collect();
            let receivers = self.receivers.get(at..).unwrap_or_default();
            let no_control: [ControlMessage<'_>; 0] = [];
            let flags = MsgFlags::MSG_DONTWAIT;
            let took = sendmmsg(socket.as_raw_fd(), &mut self.headers, &slices, receivers, no_control, flags)
                .map_or(0, |results| results.count());
            sent += took;
            // After an error the first that was not taken is given up: its receiver may be the reason.
            at += took.max(1);
        }
        self.octets.clear();
        self.ranges.clear();
        self.receivers.clear();
        sent
    }
}

impl Default for Received {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for ToSend {
    fn default() -> Self {
        Self::new()
    }
}

/// The address in the form of the standard library; `None` for other families than IPv4 and IPv6.
#[must_use]
pub fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|it| SocketAddr::from((it.ip(), it.port())));
    v4.or_else(|| storage.as_sockaddr_in6().map(|it| SocketAddr::from((it.ip(), it.port()))))
}

//! Datagrams in batches: one system call for up to 64 queries, and one for their replies.
//!
//! Five sixths of the server's time went into the kernel's send path, once for every datagram. Datagrams of one length
//! to one receiver therefore travel it together (UDP segmentation offload) and are parted at the receiver's socket,
//! which does not see a difference.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, sendmsg};

/// Datagrams of one system call.
pub const BATCH: usize = 64;

/// Octets of a query that are read; queries are shorter by far, and what is cut off is no query that can be read.
const QUERY_BYTES_MAX: usize = 2048;

/// Octets that travel together: what one IPv4 datagram can hold.
const JOINED_BYTES_MAX: usize = 65_507;

/// Room for the datagrams received together, from sockets of one family: the kernel leaves the length of the last
/// sender's address where it looks for the room for the next one's.
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
    datagrams: Vec<Datagram>,
    /// Cleared when the kernel refuses.
    joins: bool,
}

struct Datagram {
    to: SockaddrStorage,
    range: Range<usize>,
    /// IPv4 address, port and length of the datagram; nothing is joined with a datagram that has none.
    key: Option<u64>,
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
    pub fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<usize> {
        self.datagrams.clear();
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = self.rooms.iter_mut().map(|room| [IoSliceMut::new(room)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        match recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None) {
            Ok(messages) => self.datagrams.extend(messages.map(|message| (message.bytes, message.address))),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
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
    /// Room for [`BATCH`] datagrams, of which those of one length to one receiver are joined.
    #[must_use]
    pub fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            octets: Vec::new(),
            datagrams: Vec::with_capacity(BATCH),
            joins: true,
        }
    }

    /// Sends each datagram on its own, as a client without segmentation does.
    #[must_use]
    pub fn without_joining(mut self) -> Self {
        self.joins = false;
        self
    }

    /// Adds a datagram; `write` appends its octets. Without octets there is none.
    pub fn add(&mut self, to: SockaddrStorage, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.octets.len();
        write(&mut self.octets);
        let range = start..self.octets.len();
        if range.is_empty() {
            return;
        }
        let key = to.as_sockaddr_in().filter(|_| self.joins).and_then(|to| {
            let len = u16::try_from(range.len()).ok()?;
            Some(u64::from(to.ip().to_bits()) << 32 | u64::from(to.port()) << 16 | u64::from(len))
        });
        self.datagrams.push(Datagram { to, range, key });
    }

    /// Datagrams added since the last sending.
    #[must_use]
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// True when there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Sends them all, and gives how many the kernel took. Those that it did not take are lost, as datagrams may be.
    /// Datagrams of one length to one receiver keep their order.
    pub fn send(&mut self, socket: &impl AsRawFd) -> usize {
        let mut sent = 0;
        if self.joins && self.datagrams.len() > 1 {
            self.datagrams.sort_by_key(|datagram| datagram.key);
            let mut alone = Vec::with_capacity(self.datagrams.len());
            for datagrams in self.datagrams.chunk_by(|a, b| a.key.is_some() && a.key == b.key) {
                let bytes = datagrams.first().map_or(1, |datagram| datagram.range.len());
                for datagrams in datagrams.chunks((JOINED_BYTES_MAX / bytes).clamp(1, BATCH)) {
                    if datagrams.len() > 1 && self.joins {
                        match send_joined(socket, datagrams, &self.octets) {
                            Ok(()) => {
                                sent += datagrams.len();
                                continue;
                            }
                            // A kernel or device without segmentation, or datagrams that are no single packets there.
                            Err(Errno::EINVAL | Errno::EIO | Errno::EMSGSIZE | Errno::ENOPROTOOPT) => {
                                self.joins = false
                            }
                            Err(_) => continue,
                        }
                    }
                    alone.extend(datagrams);
                }
            }
            sent += send_each(socket, &mut self.headers, &alone, &self.octets);
        } else {
            let all: Vec<&Datagram> = self.datagrams.iter().collect();
            sent += send_each(socket, &mut self.headers, &all, &self.octets);
        }
        self.octets.clear();
        self.datagrams.clear();
        sent
    }
}

/// One way through the kernel for several datagrams of one length to one receiver.
fn send_joined(socket: &impl AsRawFd, datagrams: &[Datagram], octets: &[u8]) -> nix::Result<()> {
    let Some(first) = datagrams.first() else { return Ok(()) };
    let slices: Vec<IoSlice<'_>> = datagrams.iter().map(|datagram| slice(datagram, octets)).collect();
    let bytes = u16::try_from(first.range.len()).unwrap_or(u16::MAX);
    let control = [ControlMessage::UdpGsoSegments(&bytes)];
    sendmsg(socket.as_raw_fd(), &slices, &control, MsgFlags::MSG_DONTWAIT, Some(&first.to)).map(|_| ())
}

/// One system call for up to [`BATCH`] datagrams.
fn send_each(
    socket: &impl AsRawFd,
    headers: &mut MultiHeaders<SockaddrStorage>,
    datagrams: &[&Datagram],
    octets: &[u8],
) -> usize {
    let (mut sent, mut at) = (0, 0);
    while at < datagrams.len() {
        let batch = || datagrams.iter().skip(at).take(BATCH);
        let slices: Vec<[IoSlice<'_>; 1]> = batch().map(|datagram| [slice(datagram, octets)]).collect();
        let receivers: Vec<Option<SockaddrStorage>> = batch().map(|datagram| Some(datagram.to)).collect();
        let no_control: [ControlMessage<'_>; 0] = [];
        let flags = MsgFlags::MSG_DONTWAIT;
        let took = sendmmsg(socket.as_raw_fd(), headers, &slices, receivers, no_control, flags)
            .map_or(0, |results| results.count());
        sent += took;
        // After an error the first that was not taken is given up: its receiver may be the reason.
        at += took.max(1);
    }
    sent
}

fn slice<'a>(datagram: &Datagram, octets: &'a [u8]) -> IoSlice<'a> {
    IoSlice::new(octets.get(datagram.range.clone()).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::UdpSocket;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Everything that comes to a socket, until as many datagrams are there as were sent.
    fn drain(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut room = [0; 4096];
        let mut one = || socket.recv(&mut room).map(|len| room[..len].to_vec()).unwrap();
        (0..count).map(|_| one()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Joined or not, every datagram arrives as it is, and those of one length in their order.
        #[test]
        fn datagrams_arrive_as_they_were_added(
            datagrams in prop::collection::vec((0_usize..2, 1_usize..5, any::<bool>()), 0..150),
            joins in any::<bool>(),
        ) {
            let receivers: Vec<UdpSocket> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut to_send = if joins { ToSend::new() } else { ToSend::new().without_joining() };
            let mut expected = [(); 2].map(|()| HashMap::<usize, Vec<Vec<u8>>>::new());
            for (number, (which, len, is_long)) in datagrams.iter().enumerate() {
                let octets = vec![number as u8; if *is_long { len * 300 } else { *len }];
                to_send.add(receivers[*which].local_addr().unwrap().into(), |out| out.extend_from_slice(&octets));
                expected[*which].entry(octets.len()).or_default().push(octets);
            }
            prop_assert_eq!(to_send.len(), datagrams.len());
            prop_assert_eq!(to_send.send(&sender), datagrams.len());
            prop_assert!(to_send.is_empty());
            for (receiver, expected) in receivers.iter().zip(expected) {
                let mut got = HashMap::<usize, Vec<Vec<u8>>>::new();
                for octets in drain(receiver, expected.values().map(Vec::len).sum()) {
                    got.entry(octets.len()).or_default().push(octets);
                }
                prop_assert_eq!(got, expected);
            }
        }
    }

    #[test]
    fn a_batch_is_received_with_its_senders_and_the_rest_stays() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let clients: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for number in 0..BATCH + 3 {
            let (client, octets) = (&clients[number % 3], vec![number as u8; number + 1]);
            client.send_to(&octets, server.local_addr().unwrap()).unwrap();
        }
        let mut received = Received::new();
        assert_eq!(received.receive(&server).unwrap(), BATCH);
        for (number, (octets, from)) in received.iter().enumerate() {
            assert_eq!(octets, vec![number as u8; number + 1]);
            assert_eq!(address(&from), Some(clients[number % 3].local_addr().unwrap()));
        }
        assert_eq!(received.receive(&server).unwrap(), 3);
        assert_eq!(received.receive(&server).unwrap(), 0);
        assert_eq!(received.iter().count(), 0);
    }
}

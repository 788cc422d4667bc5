//! The sockets of one lookup.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// The UDP sockets of one lookup, one for each query: a retry repeats its query on the same one.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    open: Vec<Open>,
    /// Room for one datagram.
    room: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    server: usize,
    query: Vec<u8>,
    socket: UdpSocket,
}

/// How long one socket is waited on while there are others.
const TURN: Duration = Duration::from_millis(20);
/// Octets of the largest UDP datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;

impl Sockets {
    /// Sends a query, from a new socket unless it is a retry.
    pub(super) fn send(&mut self, server: usize, address: SocketAddr, query: &[u8]) -> io::Result<()> {
        if let Some(open) = self.open.iter().find(|open| open.server == server && open.query == query) {
            return open.socket.send(query).map(|_| ());
        }
        let own: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(own)?;
        socket.connect(address)?;
        socket.send(query)?;
        self.open.retain(|open| open.server != server);
        self.open.push(Open { server, query: query.to_vec(), socket });
        Ok(())
    }

    /// The next datagram, with the server it came from, or an error of its socket; `None` when the time is over.
    pub(super) fn receive(&mut self, until: Instant) -> Option<(usize, io::Result<&[u8]>)> {
        self.room.resize(DATAGRAM_BYTES_MAX, 0);
        loop {
            let is_alone = self.open.len() == 1;
            // The query that went out last is answered most likely.
            for open in self.open.iter().rev() {
                let left = time_left(until)?;
                let turn = if is_alone { left } else { left.min(TURN) };
                if let Err(error) = open.socket.set_read_timeout(Some(turn)) {
                    return Some((open.server, Err(error)));
                }
                match open.socket.recv(&mut self.room) {
                    Ok(len) => return Some((open.server, Ok(self.room.get(..len).unwrap_or_default()))),
                    Err(error) if is_no_news(&error) => {}
                    Err(error) => return Some((open.server, Err(error))),
                }
            }
            // Without a socket there is nothing but the time to wait for.
            if self.open.is_empty() {
                std::thread::sleep(time_left(until)?);
            }
        }
    }
}

/// Sends one query over a new connection and reads one reply, all before `until`.
pub(super) fn exchange_by_tcp(address: SocketAddr, query: &[u8], until: Instant) -> io::Result<Vec<u8>> {
    let left = || time_left(until).ok_or_else(|| io::Error::from(ErrorKind::TimedOut));
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    let len = u16::try_from(query.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    // The length and the message in one segment (RFC 7766 section 8).
    stream.write_all(&[&len.to_be_bytes(), query].concat())?;
    let mut fill = |mut room: &mut [u8]| {
        while !room.is_empty() {
            stream.set_read_timeout(Some(left()?))?;
            match stream.read(room) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof)),
                Ok(len) => room = room.get_mut(len..).unwrap_or_default(),
                Err(error) if is_no_news(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let mut len = [0; 2];
    fill(&mut len)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(len))];
    fill(&mut reply)?;
    Ok(reply)
}

/// `None` when the time is over; never zero, which sockets take for "without end".
fn time_left(until: Instant) -> Option<Duration> {
    until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}

fn is_no_news(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

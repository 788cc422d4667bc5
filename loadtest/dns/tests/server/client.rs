//! A plain client over blocking sockets, and a reader of replies that shares no code with the server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use mailproof::zone::Zone;

/// How long a test waits for what has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const A: u16 = 1;
pub(crate) const CNAME: u16 = 5;
pub(crate) const SOA: u16 = 6;
pub(crate) const TXT: u16 = 16;
pub(crate) const OPT: u16 = 41;

pub(crate) fn zone() -> Zone {
    let many: String = (0..20).map(|index| format!("- TXT: number {index} {}\n", "x".repeat(100))).collect();
    Zone::from_yaml(&format!(
        "a.example:\n- TXT: it\n- A: 192.0.2.1\n- MX: [10, mx.example]\nalias.example:\n- CNAME: a.example\n\
         many.example:\n{many}silent.example: TIMEOUT\nfails.example: SERVFAIL\n"
    ))
    .unwrap()
}

/// A query with RD set.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) code: u16,
    pub(crate) edns: Option<u16>,
}

impl Query {
    pub(crate) fn txt(name: &str) -> Self {
        Self { id: 0x1234, name: name.to_owned(), code: TXT, edns: None }
    }

    pub(crate) fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    pub(crate) fn code(mut self, code: u16) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn edns(mut self, payload: u16) -> Self {
        self.edns = Some(payload);
        self
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        let mut out = self.id.to_be_bytes().to_vec();
        out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())]);
        out.extend(wire(&self.name));
        out.extend(self.code.to_be_bytes());
        out.extend([0, 1]);
        if let Some(payload) = self.edns {
            out.extend([0, 0, 41]);
            out.extend(payload.to_be_bytes());
            out.extend([0; 6]);
        }
        out
    }

    /// Name, type and class as they stand in the query.
    pub(crate) fn question(&self) -> Vec<u8> {
        [&wire(&self.name)[..], &self.code.to_be_bytes(), &[0, 1]].concat()
    }
}

pub(crate) fn wire(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

/// A datagram socket.
pub(crate) struct Udp {
    pub(crate) socket: UdpSocket,
    pub(crate) server: SocketAddr,
}

impl Udp {
    pub(crate) fn new(server: SocketAddr) -> Self {
        let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, server }
    }

    pub(crate) fn send(&self, query: &Query) {
        self.socket.send_to(&query.octets(), self.server).unwrap();
    }

    /// The next datagram and its sender.
    pub(crate) fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut room = vec![0; 65_536];
        let (len, from) = self.socket.recv_from(&mut room).expect("a datagram in time");
        room.truncate(len);
        (room, from)
    }

    pub(crate) fn ask(&self, query: &Query) -> Vec<u8> {
        self.send(query);
        let (reply, from) = self.receive();
        assert_eq!(from, self.server);
        reply
    }
}

/// A connection.
pub(crate) struct Tcp(pub(crate) TcpStream);

impl Tcp {
    pub(crate) fn new(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, query: &Query) {
        self.0.write_all(&framed(&query.octets())).unwrap();
    }

    pub(crate) fn receive(&mut self) -> Vec<u8> {
        let mut len = [0; 2];
        self.0.read_exact(&mut len).expect("a length in time");
        let mut reply = vec![0; usize::from(u16::from_be_bytes(len))];
        self.0.read_exact(&mut reply).expect("a message in time");
        reply
    }

    pub(crate) fn ask(&mut self, query: &Query) -> Vec<u8> {
        self.send(query);
        self.receive()
    }

    /// Everything up to the end of the stream.
    pub(crate) fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).map(|_| rest)
    }
}

pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// A reply taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reply {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) question: Vec<u8>,
    pub(crate) sections: [Vec<Record>; 3],
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Record {
    pub(crate) owner: Vec<u8>,
    pub(crate) code: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    pub(crate) data: Vec<u8>,
}

impl Reply {
    /// Reads a whole message; `None` for whatever breaks the format, octets after the end included.
    pub(crate) fn read(octets: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u16::from_be_bytes([*octets.get(at)?, *octets.get(at + 1)?]));
        let mut at = 12;
        let question_start = at;
        for _ in 0..number(4)? {
            name(octets, &mut at)?;
            at += 4;
        }
        let question = octets.get(question_start..at)?.to_vec();
        let mut sections = [const { Vec::new() }; 3];
        for (section, records) in sections.iter_mut().enumerate() {
            for _ in 0..number(6 + 2 * section)? {
                let owner = name(octets, &mut at)?;
                let ttl = u32::from(number(at + 4)?) << 16 | u32::from(number(at + 6)?);
                let len = usize::from(number(at + 8)?);
                let data = octets.get(at + 10..at + 10 + len)?.to_vec();
                records.push(Record { owner, code: number(at)?, class: number(at + 2)?, ttl, data });
                at += 10 + len;
            }
        }
        (at == octets.len()).then_some(())?;
        Some(Self { id: number(0)?, flags: number(2)?, question, sections })
    }

    pub(crate) fn rcode(&self) -> u16 {
        self.flags & 15
    }

    pub(crate) fn has_tc(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    pub(crate) fn answer(&self) -> &[Record] {
        &self.sections[0]
    }

    pub(crate) fn opt(&self) -> Option<&Record> {
        self.sections[2].iter().find(|record| record.code == OPT)
    }
}

fn name(octets: &[u8], at: &mut usize) -> Option<Vec<u8>> {
    let (mut from, mut out, mut jumps) = (*at, Vec::new(), 0);
    loop {
        let len = usize::from(*octets.get(from)?);
        if len >= 0xc0 {
            if jumps == 0 {
                *at = from + 2;
            }
            jumps += 1;
            if jumps > 10 {
                return None;
            }
            from = (len & 0x3f) << 8 | usize::from(*octets.get(from + 1)?);
            continue;
        }
        out.extend(octets.get(from..=from + len)?);
        from += len + 1;
        if len == 0 {
            if jumps == 0 {
                *at = from;
            }
            return Some(out);
        }
    }
}

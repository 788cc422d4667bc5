//! DNS messages taken apart, so that a fault can change one thing and leave the rest right.

use mailproof_proto::dns::wire::Query;

/// A message as its parts; writing it gives octets that every reader accepts, unless a fault says otherwise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) question: Option<AskedFor>,
    pub(crate) answer: Vec<Record>,
    pub(crate) authority: Vec<Record>,
    pub(crate) additional: Vec<Record>,
}

/// A question section of one entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AskedFor {
    /// Wire form, each letter's case as it came.
    pub(crate) name: Vec<u8>,
    pub(crate) code: u16,
    pub(crate) class: u16,
}

/// A resource record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Record {
    /// Wire form without compression.
    pub(crate) owner: Vec<u8>,
    pub(crate) code: u16,
    pub(crate) class: u16,
    pub(crate) ttl_seconds: u32,
    pub(crate) data: Vec<u8>,
}

/// A query, read far enough to reply to it in any way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) octets: &'a [u8],
    /// Name, type and class of the question.
    pub(crate) question: &'a [u8],
    pub(crate) opcode: u8,
    pub(crate) code: u16,
    pub(crate) class: u16,
    /// The UDP payload size of the OPT record, when there is one.
    pub(crate) edns_payload_bytes: Option<u16>,
}

/// What came instead of a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoQuery {
    /// Too short, or a reply: there is nothing to reply to.
    Noise,
    /// A query whose question can not be read.
    Unreadable,
}

pub(crate) const HEADER_BYTES: usize = 12;
pub(crate) const CLASS_IN: u16 = 1;
pub(crate) const TYPE_CNAME: u16 = 5;
pub(crate) const TYPE_SOA: u16 = 6;
pub(crate) const TYPE_TXT: u16 = 16;
pub(crate) const TYPE_OPT: u16 = 41;
pub(crate) const FLAG_QR: u16 = 0x8000;
pub(crate) const FLAG_TC: u16 = 0x0200;
pub(crate) const FLAG_RD: u16 = 0x0100;
pub(crate) const FLAG_RA: u16 = 0x0080;
pub(crate) const FLAG_AD: u16 = 0x0020;
/// UDP octets of a reply to a query without OPT record (RFC 1035 section 4.2.1).
pub(crate) const UDP_BYTES_MAX: u16 = 512;
/// A pointer to the name of the question.
const QUESTION_POINTER: [u8; 2] = [0xc0, HEADER_BYTES as u8];

impl Message {
    /// A reply without records to a query, RCODE 0, from a server that offers recursion.
    pub(crate) fn reply_to(asked: &Asked<'_>) -> Self {
        let flags = asked.octets.get(2).map_or(0, |&octet| u16::from(octet) << 8) & FLAG_RD;
        let name = asked.name().to_vec();
        let mut message = Self {
            id: asked.id(),
            flags: FLAG_QR | FLAG_RA | flags | u16::from(asked.opcode) << 11,
            question: Some(AskedFor { name, code: asked.code, class: asked.class }),
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
        };
        if asked.edns_payload_bytes.is_some() {
            message.additional.push(Record::opt(0));
        }
        message
    }

    /// Takes apart a message without compressed names, such as our own writer makes.
    pub(crate) fn read(octets: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(octets);
        let (id, flags) = (cursor.number()?, cursor.number()?);
        let counts = [cursor.number()?, cursor.number()?, cursor.number()?, cursor.number()?];
        let question = match counts[0] {
            0 => None,
            _ => Some(AskedFor { name: cursor.name()?, code: cursor.number()?, class: cursor.number()? }),
        };
        let mut section = |count: u16| (0..count).map(|_| cursor.record()).collect::<Option<Vec<Record>>>();
        let (answer, authority, additional) = (section(counts[1])?, section(counts[2])?, section(counts[3])?);
        Some(Self { id, flags, question, answer, authority, additional })
    }

    /// The octets; owners that are the name of the question are written as a pointer to it, as servers do.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let records = [&self.answer, &self.authority, &self.additional];
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&self.flags.to_be_bytes());
        out.extend_from_slice(&u16::from(self.question.is_some()).to_be_bytes());
        for section in records {
            out.extend_from_slice(&u16::try_from(section.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
        let asked = self.question.as_ref().map(|question| {
            out.extend_from_slice(&question.name);
            out.extend_from_slice(&question.code.to_be_bytes());
            out.extend_from_slice(&question.class.to_be_bytes());
            question.name.as_slice()
        });
        for record in records.into_iter().flatten() {
            let is_asked = record.owner.len() > 1 && asked.is_some_and(|it| it.eq_ignore_ascii_case(&record.owner));
            out.extend_from_slice(if is_asked { &QUESTION_POINTER } else { &record.owner });
            out.extend_from_slice(&record.code.to_be_bytes());
            out.extend_from_slice(&record.class.to_be_bytes());
            out.extend_from_slice(&record.ttl_seconds.to_be_bytes());
            out.extend_from_slice(&u16::try_from(record.data.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(&record.data);
        }
        out
    }

    /// Drops every record but OPT and sets the RCODE.
    pub(crate) fn fail(&mut self, rcode: u8) {
        self.answer.clear();
        self.authority.clear();
        self.additional.retain(|record| record.code == TYPE_OPT);
        self.set_rcode(rcode);
    }

    pub(crate) fn set_rcode(&mut self, rcode: u8) {
        self.flags = self.flags & 0xfff0 | u16::from(rcode & 0x0f);
    }

    pub(crate) fn rcode(&self) -> u8 {
        (self.flags & 0x0f) as u8
    }

    /// Adds the SOA of a negative answer, owned by `owner` (RFC 2308 section 3).
    pub(crate) fn add_soa(&mut self, owner: &[u8], ttl_seconds: u32) {
        let mut data = vec![0; 2];
        // Serial, refresh, retry, expire; then the minimum, by which the denial lives.
        for number in [1, 3600, 600, 86_400, ttl_seconds] {
            data.extend_from_slice(&number.to_be_bytes());
        }
        self.authority.push(Record { owner: owner.to_vec(), code: TYPE_SOA, class: CLASS_IN, ttl_seconds, data });
    }

    /// No record lives longer, nor does what an SOA denies.
    pub(crate) fn limit_times(&mut self, ttl_seconds: u32) {
        for record in self.records_mut().filter(|record| record.code != TYPE_OPT) {
            record.ttl_seconds = record.ttl_seconds.min(ttl_seconds);
        }
    }

    pub(crate) fn records_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.answer.iter_mut().chain(&mut self.authority).chain(&mut self.additional)
    }
}

impl Record {
    /// An OPT record with the upper octet of an extended RCODE; 1232 octets is the size of the "DNS flag day".
    pub(crate) fn opt(extended_rcode: u8) -> Self {
        let ttl_seconds = u32::from(extended_rcode) << 24;
        Self { owner: vec![0], code: TYPE_OPT, class: 1232, ttl_seconds, data: Vec::new() }
    }
}

impl<'a> Asked<'a> {
    pub(crate) fn read(octets: &'a [u8]) -> Result<Self, NoQuery> {
        let (header, body) = octets.split_at_checked(HEADER_BYTES).ok_or(NoQuery::Noise)?;
        let flags = header.get(2).copied().unwrap_or(0);
        if flags & 0x80 != 0 {
            return Err(NoQuery::Noise);
        }
        if header.get(4..6) != Some(&[0, 1]) {
            return Err(NoQuery::Unreadable);
        }
        let name_bytes = name_bytes(body).ok_or(NoQuery::Unreadable)?;
        let (question, rest) = body.split_at_checked(name_bytes + 4).ok_or(NoQuery::Unreadable)?;
        let number =
            |at: usize| question.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u16::from_be_bytes);
        let (code, class) = (number(name_bytes), number(name_bytes + 2));
        let edns_payload_bytes = match rest {
            [0, 0, 41, high, low, ..] if header.get(10..12) != Some(&[0, 0]) => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        };
        Ok(Self { octets, question, opcode: flags >> 3 & 0x0f, code, class, edns_payload_bytes })
    }

    pub(crate) fn id(&self) -> u16 {
        self.octets.first_chunk().copied().map_or(0, u16::from_be_bytes)
    }

    /// The name of the question as it came, in wire form.
    pub(crate) fn name(&self) -> &'a [u8] {
        self.question.split_last_chunk::<4>().map_or(&[], |(name, _)| name)
    }

    /// The query as the engine's reader sees it; `None` for types that mail authentication never asks for.
    pub(crate) fn query(&self) -> Option<Query<'a>> {
        Query::read(self.octets)
    }

    /// Octets that a reply by UDP may have.
    pub(crate) fn room_bytes(&self) -> usize {
        usize::from(self.edns_payload_bytes.unwrap_or(UDP_BYTES_MAX).max(UDP_BYTES_MAX))
    }
}

/// Octets of the uncompressed name in front; `None` when there is none.
pub(crate) fn name_bytes(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match octets.get(at)? {
            0 => return (at < 255).then_some(at + 1),
            len @ 1..=63 => at += usize::from(*len) + 1,
            _ => return None,
        }
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken.to_vec())
    }

    fn number(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    fn name(&mut self) -> Option<Vec<u8>> {
        self.take(name_bytes(self.0)?)
    }

    fn record(&mut self) -> Option<Record> {
        let (owner, code, class) = (self.name()?, self.number()?, self.number()?);
        let ttl_seconds = u32::from(self.number()?) << 16 | u32::from(self.number()?);
        let len = self.number()?;
        Some(Record { owner, code, class, ttl_seconds, data: self.take(usize::from(len))? })
    }
}

//! The other end of the wire: reading queries and writing replies, as the DNS servers of tests, simulations and load
//! tests do.

use super::{CLASS_IN, HEADER_BYTES, TYPE_OPT, name_len};
use crate::dns::{Name, Question, RecordSet, RecordType, Txt};

/// A query as a server sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Query<'a> {
    /// What is asked.
    pub question: Question,
    /// The UDP payload size of the OPT record, when there is one.
    pub edns_payload_bytes: Option<u16>,
    /// Header and question as they came, each letter's case included.
    octets: &'a [u8],
}

/// The sections of a reply, in their order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// Who is responsible, and the SOA of a negative answer.
    Authority,
    /// Anything else.
    Additional,
}

/// A reply in the making.
#[derive(Clone, Debug)]
pub struct ReplyWriter {
    octets: Vec<u8>,
}

impl<'a> Query<'a> {
    /// Reads a query of one question; `None` when it is none, or of a type that mail authentication never asks for.
    #[must_use]
    pub fn read(octets: &'a [u8]) -> Option<Self> {
        let (header, body) = octets.split_at_checked(HEADER_BYTES)?;
        if header.get(2)? & 0xf8 != 0 || header.get(4..6)? != [0, 1] {
            return None;
        }
        let name_len = name_len(body)?;
        let name = Name::from_wire(body.get(..name_len)?).ok()?;
        let (kind, rest) = body.get(name_len..)?.split_first_chunk::<2>()?;
        let (class, additional) = rest.split_first_chunk::<2>()?;
        if u16::from_be_bytes(*class) != CLASS_IN {
            return None;
        }
        let kind = RecordType::from_code(u16::from_be_bytes(*kind))?;
        let edns_payload_bytes = match additional {
            [0, high, low, payload @ ..] if u16::from_be_bytes([*high, *low]) == TYPE_OPT => {
                payload.first_chunk().copied().map(u16::from_be_bytes)
            }
            _ => None,
        };
        let octets = octets.get(..HEADER_BYTES + name_len + 4)?;
        Some(Self { question: Question::new(name, kind), edns_payload_bytes, octets })
    }
}

impl ReplyWriter {
    /// An empty reply of a resolver to `query`, RCODE 0.
    #[must_use]
    pub fn new(query: &Query<'_>) -> Self {
        let mut octets = query.octets.to_vec();
        // QR, and RD as it was asked; RA; one question and nothing else yet.
        octets.splice(2..HEADER_BYTES, [0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
        Self { octets }
    }

    /// Sets the RCODE of the header.
    #[must_use]
    pub fn rcode(mut self, rcode: u8) -> Self {
        if let Some(octet) = self.octets.get_mut(3) {
            *octet = *octet & 0xf0 | rcode & 0x0f;
        }
        self
    }

    /// Sets header bits: TC is `0x0200`, AD is `0x0020`, AA is `0x0400`.
    #[must_use]
    pub fn set_bits(self, bits: u16) -> Self {
        self.change_bits(|old| old | bits)
    }

    /// Clears header bits: RA is `0x0080`.
    #[must_use]
    pub fn clear_bits(self, bits: u16) -> Self {
        self.change_bits(|old| old & !bits)
    }

    /// Adds one record of class IN. Sections are filled in their order.
    pub fn record(&mut self, section: Section, owner: &Name, code: u16, ttl_seconds: u32, data: &[u8]) {
        self.octets.extend_from_slice(owner.wire());
        self.octets.extend_from_slice(&code.to_be_bytes());
        self.octets.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.octets.extend_from_slice(&ttl_seconds.to_be_bytes());
        self.octets.extend_from_slice(&u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.octets.extend_from_slice(data);
        self.count(section);
    }

    /// Adds the records of a set.
    pub fn records(&mut self, section: Section, owner: &Name, records: &RecordSet, ttl_seconds: u32) {
        let mut add = |kind: RecordType, data: &[u8]| self.record(section, owner, kind.code(), ttl_seconds, data);
        match records {
            RecordSet::A(list) => list.iter().for_each(|address| add(RecordType::A, &address.octets())),
            RecordSet::Aaaa(list) => list.iter().for_each(|address| add(RecordType::Aaaa, &address.octets())),
            RecordSet::Mx(list) => {
                for mx in list {
                    let host = mx.exchange.as_ref().unwrap_or(&Name::ROOT);
                    add(RecordType::Mx, &[&mx.preference.to_be_bytes(), host.wire()].concat());
                }
            }
            RecordSet::Ptr(list) => list.iter().for_each(|host| add(RecordType::Ptr, host.wire())),
            RecordSet::Txt(list) => list.iter().for_each(|txt| add(RecordType::Txt, &strings(txt))),
        }
    }

    /// Adds a CNAME record to the answer section.
    pub fn alias(&mut self, owner: &Name, target: &Name, ttl_seconds: u32) {
        self.record(Section::Answer, owner, TYPE_CNAME, ttl_seconds, target.wire());
    }

    /// Adds an SOA record to the authority section.
    pub fn soa(&mut self, owner: &Name, ttl_seconds: u32, minimum_seconds: u32) {
        let mut data = [Name::ROOT.wire(), Name::ROOT.wire(), &[0; 20]].concat();
        let minimum_at = data.len() - 4;
        data.splice(minimum_at.., minimum_seconds.to_be_bytes());
        self.record(Section::Authority, owner, TYPE_SOA, ttl_seconds, &data);
    }

    /// Adds an OPT record with the upper bits of an extended RCODE.
    pub fn opt(&mut self, payload_bytes: u16, extended_rcode: u8) {
        self.octets.push(0);
        self.octets.extend_from_slice(&TYPE_OPT.to_be_bytes());
        self.octets.extend_from_slice(&payload_bytes.to_be_bytes());
        self.octets.extend_from_slice(&[extended_rcode, 0, 0, 0, 0, 0]);
        self.count(Section::Additional);
    }

    /// The message.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.octets
    }

    fn change_bits(mut self, change: impl FnOnce(u16) -> u16) -> Self {
        if let Some(flags) = self.octets.get_mut(2..).and_then(<[u8]>::first_chunk_mut::<2>) {
            *flags = change(u16::from_be_bytes(*flags)).to_be_bytes();
        }
        self
    }

    fn count(&mut self, section: Section) {
        let at = match section {
            Section::Answer => 6,
            Section::Authority => 8,
            Section::Additional => 10,
        };
        if let Some(count) = self.octets.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) {
            *count = u16::from_be_bytes(*count).saturating_add(1).to_be_bytes();
        }
    }
}

/// The text as character-strings of 255 octets; one empty string when it is empty.
fn strings(txt: &Txt) -> Vec<u8> {
    let mut data = Vec::with_capacity(txt.0.len() + txt.0.len() / 255 + 1);
    for string in txt.0.chunks(255) {
        data.push(string.len() as u8);
        data.extend_from_slice(string);
    }
    if data.is_empty() {
        data.push(0);
    }
    data
}

const TYPE_CNAME: u16 = 5;
const TYPE_SOA: u16 = 6;

//! A DNS server without sockets: queries in, replies out, from a zone.

use std::collections::HashMap;

use mailproof::zone::Zone;
use mailproof_proto::dns::wire::{Query, ReplyWriter, Section};
use mailproof_proto::dns::{Answer, Failure, Name, Outcome, RecordSet};
use mailproof_proto::limits::CNAME_CHAIN_MAX;

/// Answers as a resolver would that knows a zone and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Responder {
    /// What it knows.
    pub zone: Zone,
    /// Records it adds, unasked, to the answer and additional sections of every reply for a name.
    pub extra: HashMap<Name, Vec<(Name, RecordSet)>>,
}

/// How a query came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// Replies that do not fit what the query allows are truncated.
    Udp,
    /// Every reply fits.
    Tcp,
}

/// Octets of a UDP reply to a query without OPT record (RFC 1035 section 4.2.1).
const UDP_BYTES_MAX: u16 = 512;

impl Responder {
    /// A server for this zone.
    #[must_use]
    pub fn new(zone: Zone) -> Self {
        Self { zone, extra: HashMap::new() }
    }

    /// The reply; `None` for what is no query, and where the zone says `TIMEOUT`.
    #[must_use]
    pub fn reply(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let query = Query::read(query)?;
        let question = &query.question;
        let answer = self.zone.lookup(question);
        let rcode = match answer.outcome() {
            Outcome::Failed(Failure::TimedOut) => return None,
            Outcome::Failed(_) => 2,
            Outcome::NxDomain => 3,
            Outcome::Records(_) | Outcome::NoData => 0,
        };
        let mut reply = ReplyWriter::new(&query).rcode(rcode);
        let mut owner = question.name;
        for _ in 0..CNAME_CHAIN_MAX {
            let Some((target, ttl_seconds)) = self.zone.alias(&owner, question.kind) else { break };
            reply.alias(&owner, target, ttl_seconds);
            owner = *target;
        }
        if let (Outcome::Records(records), Some(ttl_seconds)) = (answer.outcome(), answer.ttl_seconds()) {
            reply.records(Section::Answer, &owner, records, ttl_seconds);
        }
        let extra = self.extra.get(&question.name).map(Vec::as_slice).unwrap_or_default();
        for section in [Section::Answer, Section::Authority, Section::Additional] {
            if section == Section::Authority {
                add_soa(&mut reply, &owner, &answer);
            } else {
                extra.iter().for_each(|(name, records)| reply.records(section, name, records, 300));
            }
        }
        if query.edns_payload_bytes.is_some() {
            reply.opt(1232, 0);
        }
        let reply = reply.finish();
        let room = usize::from(query.edns_payload_bytes.unwrap_or(UDP_BYTES_MAX).max(UDP_BYTES_MAX));
        let is_cut = transport == Transport::Udp && reply.len() > room;
        Some(if is_cut { ReplyWriter::new(&query).set_bits(TRUNCATED).finish() } else { reply })
    }
}

/// Negative answers of a zone have no SOA unless they carry a time to live.
fn add_soa(reply: &mut ReplyWriter, owner: &Name, answer: &Answer) {
    if let (Outcome::NoData | Outcome::NxDomain, Some(ttl_seconds)) = (answer.outcome(), answer.ttl_seconds()) {
        reply.soa(owner, ttl_seconds, ttl_seconds);
    }
}

const TRUNCATED: u16 = 0x0200;

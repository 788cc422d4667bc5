//! Replies: the right one, and what faults make of it.

use mailproof::zone::Zone;
use mailproof_proto::dns::{Name, Outcome, Question, RecordType};
use mailproof_testkit::random::Random;
use mailproof_testkit::responder::{Responder, Transport as By};

use crate::message::{
    Asked, AskedFor, CLASS_IN, FLAG_AD, FLAG_QR, FLAG_RA, FLAG_RD, FLAG_TC, HEADER_BYTES, Message, NoQuery, Record,
    TYPE_CNAME, TYPE_OPT, TYPE_TXT, name_bytes,
};
use crate::plan::{Fault, Transport};

/// Answers from a zone.
#[derive(Debug)]
pub(crate) struct Answering {
    responder: Responder,
    negative_ttl_seconds: Option<u32>,
}

const NOERROR: u8 = 0;
const FORMERR: u8 = 1;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;
/// The upper bits of BADVERS, 16.
const BADVERS_UPPER: u8 = 1;
/// Seconds that invented records live.
const TTL_SECONDS: u32 = 60;
/// Octets that an oversize reply has more than it may.
const OVERSIZE_BYTES: usize = 200;
/// Octets of garbage.
const GARBAGE_BYTES_MAX: usize = 600;

impl Answering {
    pub(crate) fn new(zone: Zone, negative_ttl_seconds: Option<u32>) -> Self {
        Self { responder: Responder::new(zone), negative_ttl_seconds }
    }

    /// The whole reply without faults; `None` where the zone says `TIMEOUT`.
    pub(crate) fn right(&self, asked: &Asked<'_>) -> Option<Message> {
        if asked.opcode != 0 {
            return Some(failure(asked, NOTIMP));
        }
        if asked.class != CLASS_IN {
            return Some(failure(asked, REFUSED));
        }
        let mut reply = match asked.query() {
            Some(_) => Message::read(&self.responder.reply(asked.octets, By::Tcp)?)?,
            None => self.right_without_data(asked),
        };
        let own = Message::reply_to(asked);
        reply.flags = reply.flags & !FLAG_RD | own.flags & FLAG_RD;
        reply.question = own.question;
        let is_negative = matches!(reply.rcode(), NOERROR | NXDOMAIN)
            && reply.authority.is_empty()
            && !reply.answer.iter().any(|record| record.code == asked.code);
        if let (true, Some(ttl_seconds)) = (is_negative, self.negative_ttl_seconds) {
            let owner = parent(asked.name());
            reply.add_soa(&owner, ttl_seconds);
        }
        Some(reply)
    }

    /// The reply to a question of a type that zones do not hold: the name exists or not.
    fn right_without_data(&self, asked: &Asked<'_>) -> Message {
        let mut reply = Message::reply_to(asked);
        if let Ok(name) = Name::from_wire(asked.name()) {
            let question = Question::new(name, RecordType::Txt);
            let is_denied = *self.responder.zone.lookup(&question).outcome() == Outcome::NxDomain;
            reply.set_rcode(if is_denied { NXDOMAIN } else { NOERROR });
        }
        reply
    }
}

/// The reply to what can not be read as a query; `None` for what deserves none.
pub(crate) fn unreadable(octets: &[u8], why: NoQuery) -> Option<Vec<u8>> {
    if why == NoQuery::Noise {
        return None;
    }
    let (header, _) = octets.split_first_chunk::<HEADER_BYTES>()?;
    let mut reply = [0; HEADER_BYTES];
    let (front, _) = reply.split_first_chunk_mut::<4>()?;
    *front = [header[0], header[1], 0x80 | header[2] & 0x79, 0x80 | FORMERR];
    Some(reply.to_vec())
}

/// The octets of a whole reply for this transport: what does not fit a datagram is truncated.
pub(crate) fn fitted(reply: &Message, asked: &Asked<'_>, transport: Transport) -> Vec<u8> {
    let octets = reply.write();
    if transport == Transport::Tcp || octets.len() <= asked.room_bytes() {
        return octets;
    }
    truncated(reply).write()
}

fn truncated(reply: &Message) -> Message {
    let mut short = reply.clone();
    short.fail(NOERROR);
    short.flags |= FLAG_TC;
    short
}

fn failure(asked: &Asked<'_>, rcode: u8) -> Message {
    let mut reply = Message::reply_to(asked);
    reply.set_rcode(rcode);
    reply
}

/// The octets of the reply with a fault of the stage `Answer`.
pub(crate) fn wrong(fault: Fault, right: &Message, asked: &Asked<'_>, by: Transport, random: &mut Random) -> Vec<u8> {
    let mut reply = right.clone();
    match fault {
        Fault::Truncation => return truncated(&reply).write(),
        Fault::TruncationPartial => return truncated_partly(reply, asked).write(),
        Fault::Oversize => return oversize(reply, asked).write(),
        Fault::WrongId => reply.id = reply.id.wrapping_add(random.between(1, 0xffff) as u16),
        Fault::WrongName | Fault::WrongType | Fault::WrongClass => question(fault, &mut reply),
        Fault::NoQuestion => reply.question = None,
        Fault::LowerCase => {
            if let Some(question) = &mut reply.question {
                question.name.make_ascii_lowercase();
            }
        }
        Fault::ServFail => reply.fail(SERVFAIL),
        Fault::Refused => reply.fail(REFUSED),
        Fault::NotImp => reply.fail(NOTIMP),
        Fault::FormErr => reply.fail(FORMERR),
        Fault::FormErrEdns => {
            reply.fail(FORMERR);
            reply.additional.clear();
        }
        Fault::BadVers => {
            reply.fail(NOERROR);
            reply.additional = vec![Record::opt(BADVERS_UPPER)];
        }
        Fault::EdnsIgnored => reply.additional.retain(|record| record.code != TYPE_OPT),
        Fault::NxDomain => reply.fail(NXDOMAIN),
        Fault::NoData => reply.fail(NOERROR),
        Fault::NxDomainSoa => {
            reply.fail(NXDOMAIN);
            reply.add_soa(&parent(asked.name()), TTL_SECONDS);
        }
        Fault::NoDataSoa => {
            reply.fail(NOERROR);
            reply.add_soa(&parent(asked.name()), TTL_SECONDS);
        }
        Fault::CnameChain { links } => chain(&mut reply, asked, links),
        Fault::CnameLoop => circle(&mut reply, asked),
        Fault::WrongOwner => {
            let owner = sibling(asked.name());
            reply.answer.iter_mut().for_each(|record| record.owner.clone_from(&owner));
        }
        Fault::Unrelated => unrelated(&mut reply, asked),
        Fault::AuthenticData => reply.flags |= FLAG_AD,
        Fault::TtlZero => times(&mut reply, 0),
        Fault::TtlHuge => times(&mut reply, u32::MAX),
        _ => {}
    }
    fitted(&reply, asked, by)
}

/// TC, with the records that fit and not all of them.
fn truncated_partly(mut reply: Message, asked: &Asked<'_>) -> Message {
    reply.flags |= FLAG_TC;
    reply.authority.clear();
    loop {
        reply.answer.pop();
        if reply.answer.is_empty() || reply.write().len() <= asked.room_bytes() {
            return reply;
        }
    }
}

/// Padded with a record of private-use type, whose owner is the root, until it is larger than it may be.
fn oversize(mut reply: Message, asked: &Asked<'_>) -> Message {
    let missing = (asked.room_bytes() + OVERSIZE_BYTES).saturating_sub(reply.write().len());
    let root = vec![0];
    // A datagram holds fewer octets than the largest size that a query can name.
    let data = vec![0; missing.min(60_000)];
    reply.additional.insert(0, Record { owner: root, code: 0xff00, class: CLASS_IN, ttl_seconds: TTL_SECONDS, data });
    reply
}

fn question(fault: Fault, reply: &mut Message) {
    let Some(question) = &mut reply.question else { return };
    match fault {
        Fault::WrongName => question.name = sibling(&question.name),
        Fault::WrongType => question.code = if question.code == TYPE_TXT { 1 } else { TYPE_TXT },
        // CHAOS.
        _ => question.class = 3,
    }
}

/// The records of the answer, or an invented one, stand at the end of a chain.
fn chain(reply: &mut Message, asked: &Asked<'_>, links: u16) {
    let mut owner = asked.name().to_ascii_lowercase();
    let mut answer = Vec::with_capacity(usize::from(links) + reply.answer.len());
    for link in 1..=links {
        let target = below_root(format!("link-{link}").as_bytes());
        answer.push(alias(&owner, &target));
        owner = target;
    }
    reply.answer.retain(|record| record.code == asked.code);
    reply.answer.iter_mut().for_each(|record| record.owner.clone_from(&owner));
    answer.append(&mut reply.answer);
    reply.answer = answer;
    reply.authority.clear();
    reply.set_rcode(NOERROR);
}

fn circle(reply: &mut Message, asked: &Asked<'_>) {
    let names = [asked.name().to_ascii_lowercase(), below_root(b"circle-1"), below_root(b"circle-2")];
    reply.fail(NOERROR);
    for (index, owner) in names.iter().enumerate() {
        let target = names.get(index + 1).or(names.first()).unwrap_or(owner);
        reply.answer.push(alias(owner, target));
    }
}

/// What a poisoner would like to be believed: records for the name's sibling and its parent.
fn unrelated(reply: &mut Message, asked: &Asked<'_>) {
    let text = b"\x0dv=spf1 +all p";
    let record = |owner: &[u8], code: u16, data: &[u8]| Record {
        owner: owner.to_vec(),
        code,
        class: CLASS_IN,
        ttl_seconds: 86_400,
        data: data.to_vec(),
    };
    let (sibling, parent) = (sibling(asked.name()), parent(asked.name()));
    reply.answer.push(record(&sibling, asked.code, invented_data(asked.code)));
    // NS, with the server's address behind it.
    reply.authority.push(record(&parent, 2, &sibling));
    reply.additional.insert(0, record(&sibling, 1, &[192, 0, 2, 66]));
    reply.additional.insert(0, record(&parent, TYPE_TXT, text));
}

/// Data of an invented record of a type.
fn invented_data(code: u16) -> &'static [u8] {
    match code {
        1 => &[192, 0, 2, 66],
        28 => &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x66],
        15 => b"\0\x0a\x06forged\0",
        12 => b"\x06forged\0",
        _ => b"\x06forged",
    }
}

/// Every record of the question's type gets other data; there is one even where there was none.
pub(crate) fn with_other_data(right: &Message, asked: &Asked<'_>) -> Message {
    let mut reply = right.clone();
    reply.set_rcode(NOERROR);
    reply.authority.clear();
    let owner = asked.name().to_ascii_lowercase();
    let data = invented_data(asked.code).to_vec();
    reply.answer = vec![Record { owner, code: asked.code, class: CLASS_IN, ttl_seconds: TTL_SECONDS, data }];
    reply
}

/// The reply becomes one to another question, of the same ID, that says what a poisoner would like to be believed.
pub(crate) fn impostor(reply: &mut Message, asked: &Asked<'_>, ttl_seconds: u32) {
    reply.fail(NOERROR);
    question(Fault::WrongName, reply);
    let data: &[u8] = if asked.code == TYPE_TXT { b"\x0bv=spf1 +all" } else { invented_data(asked.code) };
    // Its own records, and the same for the name that was asked for.
    for owner in [sibling(asked.name()), asked.name().to_vec()] {
        reply.answer.push(Record { owner, code: asked.code, class: CLASS_IN, ttl_seconds, data: data.to_vec() });
    }
}

/// A reply that nobody gave: one invented record.
pub(crate) fn forged(question: &Question) -> Message {
    let (name, code) = (question.name.wire().to_vec(), question.kind.code());
    let data = invented_data(code).to_vec();
    let record = Record { owner: name.clone(), code, class: CLASS_IN, ttl_seconds: 86_400, data };
    Message {
        id: 0,
        flags: FLAG_QR | FLAG_RD | FLAG_RA,
        question: Some(AskedFor { name, code, class: CLASS_IN }),
        answer: vec![record],
        authority: Vec::new(),
        additional: Vec::new(),
    }
}

fn times(reply: &mut Message, ttl_seconds: u32) {
    reply.records_mut().filter(|record| record.code != TYPE_OPT).for_each(|record| record.ttl_seconds = ttl_seconds);
}

fn alias(owner: &[u8], target: &[u8]) -> Record {
    let (owner, data) = (owner.to_vec(), target.to_vec());
    Record { owner, code: TYPE_CNAME, class: CLASS_IN, ttl_seconds: TTL_SECONDS, data }
}

/// A name of two labels that no zone of a test has.
fn below_root(label: &[u8]) -> Vec<u8> {
    [&[label.len() as u8], label, b"\x05chain\0"].concat()
}

/// The name of the question with the last octet of its first label changed; the root becomes `x`.
fn sibling(name: &[u8]) -> Vec<u8> {
    let mut other = name.to_vec();
    match name.first() {
        Some(&len) if len > 0 => {
            if let Some(octet) = other.get_mut(usize::from(len)) {
                *octet = if octet.eq_ignore_ascii_case(&b'x') { b'y' } else { b'x' };
            }
            other
        }
        _ => b"\x01x\0".to_vec(),
    }
}

/// The name without its first label; the root stays.
fn parent(name: &[u8]) -> Vec<u8> {
    match name.first() {
        Some(&len) if len > 0 => name.get(usize::from(len) + 1..).unwrap_or(&[0]).to_ascii_lowercase(),
        _ => vec![0],
    }
}

/// Damages the octets of a reply.
pub(crate) fn damage(fault: Fault, reply: &mut Vec<u8>, random: &mut Random) {
    match fault {
        Fault::Cut => reply.truncate(random.below(reply.len().max(1))),
        Fault::BitFlips { count } => {
            for _ in 0..count {
                // Past the ID, so that the reply is looked at.
                let at = random.between(2, reply.len().max(3) - 1);
                if let Some(octet) = reply.get_mut(at) {
                    *octet ^= 1 << random.below(8);
                }
            }
        }
        Fault::CompressionLoop => compression_loop(reply),
        Fault::CountsLie => {
            let at = 6 + 2 * random.below(3);
            let old = reply.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u16::from_be_bytes);
            // By little, or by anything.
            let step = if random.chance(50) { random.between(1, 3) } else { random.between(1, 0xffff) };
            put(reply, at, old.wrapping_add(step as u16).to_be_bytes());
        }
        Fault::Garbage => {
            let count = random.below(GARBAGE_BYTES_MAX);
            reply.truncate(4);
            reply.extend((0..count).map(|_| random.number() as u8));
        }
        Fault::Noise => {
            let count = random.between(1, GARBAGE_BYTES_MAX);
            *reply = (0..count).map(|_| random.number() as u8).collect();
        }
        Fault::Empty => reply.clear(),
        _ => {}
    }
}

/// The owner of the first record becomes a pointer to itself; there is one record at least.
fn compression_loop(reply: &mut Vec<u8>) {
    let name = reply.get(HEADER_BYTES..).and_then(name_bytes).unwrap_or(0);
    let at = HEADER_BYTES + name + 4;
    if reply.get(4..6) != Some(&[0, 1]) || at > reply.len() {
        return;
    }
    let pointer = [0xc0 | (at >> 8) as u8, at as u8];
    reply.truncate(at);
    reply.extend_from_slice(&pointer);
    // TXT, IN, 60 seconds, one character-string of one octet.
    reply.extend_from_slice(b"\0\x10\0\x01\0\0\0\x3c\0\x02\x01x");
    put(reply, 6, [0, 1]);
    put(reply, 8, [0, 0]);
    put(reply, 10, [0, 0]);
}

fn put(octets: &mut [u8], at: usize, pair: [u8; 2]) {
    if let Some(room) = octets.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *room = pair;
    }
}

//! DNS messages on the wire: queries are written without the heap, replies are matched and read.
//!
//! A reply is judged in two steps. [`matches()`] says whether it answers a query at all (RFC 5452 section 9.1); one that
//! does not is nobody's answer, whatever it holds. [`read_reply`] then reads it: only records on the CNAME chain that
//! starts at the name asked for are looked at, and nothing else in the message is believed.
//!
//! Cost: one pass over the answer section, a second one when a CNAME leads on; every name is walked once a pass, and
//! both the records and the links are bounded.

mod serve;

pub use self::serve::{Query, ReplyWriter, Section};

use domain::base::iana::{Class, OptRcode, Rtype};
use domain::base::name::ParsedName;
use domain::base::opt::{Opt, OptRecord};
use domain::base::record::ParsedRecord;
use domain::base::{Message, ParseRecordData, RecordSection, Ttl};
use domain::rdata::{A, Aaaa, Cname, Mx as MxData, Ptr, Soa, Txt as TxtData};

use super::{Answer, Mx, Name, Outcome, Question, RecordSet, RecordType, Txt};
use crate::limits::{ANSWER_RECORDS_MAX, CNAME_CHAIN_MAX};

/// Octets of the largest query: header, longest name, type and class, OPT record, padding.
pub const QUERY_BYTES_MAX: usize =
    (HEADER_BYTES + 255 + 4 + OPT_BYTES + OPTION_HEADER_BYTES).next_multiple_of(PADDED_BYTES);

/// How a query is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueryOptions {
    /// The size of UDP reply to ask for with an EDNS OPT record (RFC 6891 section 6.2.3); `None` leaves the record out.
    pub edns_payload_bytes: Option<u16>,
    /// Sets AD, by which a resolver is asked for its AD bit (RFC 6840 section 5.7).
    pub authentic_data: bool,
    /// Decides the case of each letter of the name; `None` leaves them small. A reply repeats the case, which an
    /// off-path forger has to guess.
    pub case_seed: Option<u64>,
    /// Fills the OPT record up, so that the length of an encrypted query tells little (RFC 7830, RFC 8467 section 4.1).
    pub pads: bool,
}

/// Whether a reply answers a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Match {
    /// ID and question are those of the query, each letter included.
    Exact,
    /// As `Exact`, but for the case of some letter.
    OtherCase,
    /// The ID is that of the query, the message reports an error and repeats no question, as servers do that could not
    /// read the query. Nothing but the error counts.
    ErrorOnly,
    /// Not an answer to this query.
    No,
}

/// What a reply says.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The question is answered: records, no data, or no such name.
    Answer(Answer),
    /// The message ends on a CNAME whose target it does not resolve: to be asked next.
    Alias(Links),
    /// The reply did not fit; what it holds is not to be used (RFC 7766 section 5).
    Truncated,
    /// The server gave no answer.
    Error(ServerError),
    /// The message breaks the rules of the format.
    Malformed,
    /// More records or CNAME links than are looked at.
    OverLimit,
}

/// CNAME links followed so far.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Links {
    /// The name asked for, then every target; never empty.
    names: Vec<Name>,
    /// The lowest of the links.
    ttl_seconds: u32,
}

/// Why a server gave no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServerError {
    /// The server does not understand EDNS: FORMERR or NOTIMP without an OPT record of its own, or BADVERS.
    NoEdns,
    /// RCODE 2.
    ServFail,
    /// Any other RCODE that is no answer, and a referral to other servers.
    Refused,
}

const HEADER_BYTES: usize = 12;
const OPT_BYTES: usize = 11;
/// Code and length of an EDNS option.
const OPTION_HEADER_BYTES: usize = 4;
/// Queries are padded to a multiple of this (RFC 8467 section 4.1).
const PADDED_BYTES: usize = 128;
/// RFC 7830 section 3.
const OPTION_PADDING: u16 = 12;

/// What RFC 2181 section 8 and RFC 8767 section 4 make of a time to live with its top bit set: a large one.
const TTL_SECONDS_MAX: u32 = i32::MAX as u32;

/// Writes a query for `question` with recursion desired; gives the octets in use.
pub fn write_query<'a>(
    id: u16,
    question: &Question,
    options: &QueryOptions,
    room: &'a mut [u8; QUERY_BYTES_MAX],
) -> &'a [u8] {
    let mut out = Writer { room, len: 0 };
    out.put(&id.to_be_bytes());
    out.put(&[0x01, if options.authentic_data { 0x20 } else { 0 }]);
    let additional_count = u8::from(options.edns_payload_bytes.is_some());
    out.put(&[0, 1, 0, 0, 0, 0, 0, additional_count]);
    let name_start = out.len;
    out.put(question.name.wire());
    if let Some(seed) = options.case_seed {
        mix_case(out.room.get_mut(name_start..out.len).unwrap_or_default(), seed);
    }
    out.put(&question.kind.code().to_be_bytes());
    out.put(&CLASS_IN.to_be_bytes());
    if let Some(payload_bytes) = options.edns_payload_bytes {
        out.put(&[0]);
        out.put(&TYPE_OPT.to_be_bytes());
        out.put(&payload_bytes.to_be_bytes());
        // Extended RCODE, version 0, flags.
        out.put(&[0; 4]);
        if options.pads {
            out.put_padding();
        } else {
            out.put(&[0; 2]);
        }
    }
    let Writer { room, len } = out;
    room.get(..len).unwrap_or_default()
}

/// Whether `reply` answers `query`, a message made by [`write_query`]; the caller compares addresses and ports.
#[must_use]
pub fn matches(query: &[u8], reply: &[u8]) -> Match {
    let Some((header, body)) = reply.split_at_checked(HEADER_BYTES) else { return Match::No };
    let Some((asked_header, asked)) = query.split_at_checked(HEADER_BYTES) else { return Match::No };
    let (Some(id), Some(asked_id)) = (header.get(..2), asked_header.get(..2)) else { return Match::No };
    let flags = header.get(2).copied().unwrap_or(0);
    let is_reply = flags & 0x80 != 0 && flags & 0x78 == 0;
    if id != asked_id || !is_reply {
        return Match::No;
    }
    let question_count = header.get(4..6).unwrap_or_default();
    if question_count == [0, 0] {
        let is_error = !matches!(header.get(3).map(|octet| octet & 0x0f), Some(0 | 3) | None);
        return if is_error { Match::ErrorOnly } else { Match::No };
    }
    let Some(question_len) = name_len(asked).map(|len| len + 4) else { return Match::No };
    let (Some(asked), Some(question)) = (asked.get(..question_len), body.get(..question_len)) else { return Match::No };
    let split = question_len.saturating_sub(4);
    if question_count != [0, 1] || asked.get(split..) != question.get(split..) {
        Match::No
    } else if asked == question {
        Match::Exact
    } else if asked.eq_ignore_ascii_case(question) {
        // The octets of length are below 64 and no letters.
        Match::OtherCase
    } else {
        Match::No
    }
}

/// Reads a reply that matched the query for `question`.
///
/// `links` are those that led from the name first asked for to `question`. `trusts_ad` says that the AD bit of this
/// server may be believed (RFC 4035 section 4.9.3).
#[must_use]
pub fn read_reply(reply: &[u8], question: &Question, links: Option<&Links>, trusts_ad: bool) -> Reply {
    let Ok(message) = Message::from_slice(reply) else { return Reply::Malformed };
    read(message, question, links, trusts_ad).unwrap_or_else(|error| error.into())
}

impl Links {
    /// The name the next question is for.
    #[must_use]
    pub fn target(&self) -> &Name {
        // Never empty; the root would be no worse than a panic.
        self.names.last().unwrap_or(&Name::ROOT)
    }

    /// Links followed.
    #[must_use]
    pub fn count(&self) -> usize {
        self.names.len().saturating_sub(1)
    }

    fn start(name: Name) -> Self {
        Self { names: vec![name], ttl_seconds: TTL_SECONDS_MAX }
    }
}

/// Why reading stops before there is an answer.
enum Stop {
    Malformed,
    OverLimit,
    /// A CNAME loop: a fault of the owner, and no data (RFC 1034 section 3.6.2 leaves it open).
    Loop,
}

impl From<domain::base::wire::ParseError> for Stop {
    fn from(_: domain::base::wire::ParseError) -> Self {
        Self::Malformed
    }
}

impl From<Stop> for Reply {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Malformed => Self::Malformed,
            Stop::OverLimit => Self::OverLimit,
            Stop::Loop => Self::Answer(Answer::new(Outcome::NoData, None)),
        }
    }
}

type Octets = [u8];

fn read(message: &Message<Octets>, question: &Question, links: Option<&Links>, trusts_ad: bool) -> Result<Reply, Stop> {
    let counts = message.header_counts();
    let record_count =
        [counts.ancount(), counts.nscount(), counts.arcount()].map(usize::from).into_iter().sum::<usize>();
    if record_count > ANSWER_RECORDS_MAX {
        return Err(Stop::OverLimit);
    }
    let header = message.header();
    if header.tc() {
        return Ok(Reply::Truncated);
    }
    let opt = find_opt(message)?;
    let rcode = opt.as_ref().map_or_else(|| header.rcode().into(), |opt| opt.rcode(header));
    let is_denial = match rcode {
        OptRcode::NOERROR => false,
        OptRcode::NXDOMAIN => true,
        OptRcode::BADVERS => return Ok(Reply::Error(ServerError::NoEdns)),
        OptRcode::FORMERR | OptRcode::NOTIMP if opt.is_none() => return Ok(Reply::Error(ServerError::NoEdns)),
        OptRcode::SERVFAIL => return Ok(Reply::Error(ServerError::ServFail)),
        _ => return Ok(Reply::Error(ServerError::Refused)),
    };
    let mut chain = links.cloned().unwrap_or_else(|| Links::start(question.name));
    let found = read_answers(message.answer()?, question, &mut chain)?;
    let authentic = trusts_ad.then(|| header.ad());
    if let Some(Found { records, ttl_seconds }) = found {
        // RFC 2308 section 2.1: a name that does not exist has no records.
        if is_denial {
            return Err(Stop::Malformed);
        }
        let ttl_seconds = ttl_seconds.min(chain.ttl_seconds);
        let outcome = Outcome::Records(records);
        return Ok(Reply::Answer(Answer::with_authenticity(outcome, Some(ttl_seconds), authentic)));
    }
    let authority = read_authority(message.authority()?, chain.target())?;
    let ttl_seconds = authority.soa_ttl_seconds.map(|ttl| ttl.min(chain.ttl_seconds));
    let is_alias = chain.count() > 0;
    if is_denial {
        let answer = if is_alias {
            Answer::denied_alias(*chain.target(), ttl_seconds, authentic)
        } else {
            Answer::with_authenticity(Outcome::NxDomain, ttl_seconds, authentic)
        };
        return Ok(Reply::Answer(answer));
    }
    let has_followed = chain.count() > links.map_or(0, Links::count);
    if has_followed && ttl_seconds.is_none() {
        return Ok(Reply::Alias(chain));
    }
    if authority.has_servers && ttl_seconds.is_none() && !header.aa() && !header.ra() {
        // A referral: this server does not look names up for others.
        return Ok(Reply::Error(ServerError::Refused));
    }
    Ok(Reply::Answer(Answer::with_authenticity(Outcome::NoData, ttl_seconds, authentic)))
}

/// The OPT record; more than one is against RFC 6891 section 6.1.1. Its version may be above ours, the format is not.
fn find_opt(message: &Message<Octets>) -> Result<Option<OptRecord<&Octets>>, Stop> {
    let mut found = None;
    for record in message.additional()? {
        let record = record?;
        if record.rtype() == Rtype::OPT {
            let record = record.into_record::<Opt<&Octets>>()?.ok_or(Stop::Malformed)?;
            if found.replace(OptRecord::from(record)).is_some() {
                return Err(Stop::Malformed);
            }
        }
    }
    Ok(found)
}

struct Found {
    records: RecordSet,
    ttl_seconds: u32,
}

type Parsed<'a> = ParsedRecord<'a, Octets>;

/// The records asked for at the end of the chain that starts at the question; `chain` grows by the links followed. The
/// order of the records carries no meaning.
fn read_answers<'a>(
    section: RecordSection<'a, Octets>,
    question: &Question,
    chain: &mut Links,
) -> Result<Option<Found>, Stop> {
    let asked = Rtype::from_int(question.kind.code());
    let mut found = Vec::new();
    let mut aliases: Vec<Parsed<'a>> = Vec::new();
    for record in section {
        let record = record?;
        if record.class() != Class::IN {
            continue;
        }
        if record.rtype() == asked && is_name(&record.owner(), chain.target()) {
            found.push(record);
        } else if record.rtype() == Rtype::CNAME {
            // One more than can be of use, so that a chain which is too long shows as that.
            if aliases.len() > 2 * CNAME_CHAIN_MAX {
                return Err(Stop::OverLimit);
            }
            aliases.push(record);
        }
    }
    if !found.is_empty() {
        return read_records(&found, question.kind);
    }
    if !follow(&aliases, chain)? {
        return Ok(None);
    }
    for record in section {
        let record = record?;
        if record.class() == Class::IN && record.rtype() == asked && is_name(&record.owner(), chain.target()) {
            found.push(record);
        }
    }
    read_records(&found, question.kind)
}

/// Follows the links as far as the message has them; true when there was one.
fn follow(aliases: &[Parsed<'_>], chain: &mut Links) -> Result<bool, Stop> {
    let before = chain.count();
    loop {
        let owner = *chain.target();
        let mut target = None;
        for alias in aliases.iter().filter(|alias| is_name(&alias.owner(), &owner)) {
            let cname = data::<Cname<_>>(alias)?;
            let name = name(cname.cname())?;
            // RFC 1034 section 3.6.2, RFC 2181 section 10.1: one CNAME a name; the same one twice is a duplicate.
            if target.replace(name).is_some_and(|other| other != name) {
                return Err(Stop::Malformed);
            }
            chain.ttl_seconds = chain.ttl_seconds.min(ttl_seconds(alias.ttl()));
        }
        let Some(target) = target else { return Ok(chain.count() > before) };
        if chain.names.contains(&target) {
            return Err(Stop::Loop);
        }
        if chain.count() >= CNAME_CHAIN_MAX {
            return Err(Stop::OverLimit);
        }
        chain.names.push(target);
    }
}

/// A set in an order of its own, so that the turns in which servers list records change nothing.
fn read_records(found: &[Parsed<'_>], kind: RecordType) -> Result<Option<Found>, Stop> {
    let Some(ttl_seconds) = found.iter().map(|record| ttl_seconds(record.ttl())).min() else { return Ok(None) };
    let records = match kind {
        RecordType::A => {
            RecordSet::A(set(found.iter().map(|record| Ok(data::<A>(record)?.addr())).collect::<Result<_, Stop>>()?))
        }
        RecordType::Aaaa => RecordSet::Aaaa(set(found
            .iter()
            .map(|record| Ok(data::<Aaaa>(record)?.addr()))
            .collect::<Result<_, Stop>>()?)),
        RecordType::Mx => RecordSet::Mx(set(found.iter().map(exchange).collect::<Result<_, Stop>>()?)),
        RecordType::Ptr => {
            let names: Vec<Option<Name>> = found.iter().map(host).collect::<Result<_, Stop>>()?;
            let names = set(names.into_iter().flatten().collect());
            if names.is_empty() {
                return Ok(None);
            }
            RecordSet::Ptr(names)
        }
        // Not made a set: readers count records, and a text that a server gives twice is two (RFC 7208 section 4.5).
        RecordType::Txt => RecordSet::Txt(sorted(found.iter().map(text).collect::<Result<_, Stop>>()?).into()),
    };
    Ok(Some(Found { records, ttl_seconds }))
}

fn exchange(record: &Parsed<'_>) -> Result<Mx, Stop> {
    let mx = data::<MxData<_>>(record)?;
    let exchange = (!mx.exchange().is_root()).then(|| name(mx.exchange())).transpose()?;
    Ok(Mx { preference: mx.preference(), exchange })
}

/// The root is no host name.
fn host(record: &Parsed<'_>) -> Result<Option<Name>, Stop> {
    let ptr = data::<Ptr<_>>(record)?;
    (!ptr.ptrdname().is_root()).then(|| name(ptr.ptrdname())).transpose()
}

/// The strings must fill the data exactly, and there is at least one (RFC 1035 section 3.3.14).
fn text(record: &Parsed<'_>) -> Result<Txt, Stop> {
    let txt = data::<TxtData<&Octets>>(record)?;
    if record.rdlen() == 0 {
        return Err(Stop::Malformed);
    }
    let mut joined = Vec::with_capacity(usize::from(record.rdlen()));
    for string in txt.iter_charstrs() {
        joined.extend_from_slice(string.as_slice());
    }
    Ok(Txt(joined.into()))
}

struct Authority {
    /// How long a negative answer may be kept (RFC 2308 section 5).
    soa_ttl_seconds: Option<u32>,
    has_servers: bool,
}

/// Reads what the authority section says of `name`; an SOA of another part of the tree is none of its business.
fn read_authority(section: RecordSection<'_, Octets>, name: &Name) -> Result<Authority, Stop> {
    let mut authority = Authority { soa_ttl_seconds: None, has_servers: false };
    for record in section {
        let record = record?;
        if record.class() != Class::IN {
            continue;
        }
        if record.rtype() == Rtype::NS {
            authority.has_servers = true;
        } else if record.rtype() == Rtype::SOA && is_at_or_below(name, &record.owner()) {
            let soa = data::<Soa<_>>(&record)?;
            let ttl_seconds = ttl_seconds(record.ttl()).min(ttl_seconds(soa.minimum()));
            authority.soa_ttl_seconds = Some(authority.soa_ttl_seconds.unwrap_or(u32::MAX).min(ttl_seconds));
        }
    }
    Ok(authority)
}

/// The data of a record of that type; octets left over are an error.
fn data<'a, D: ParseRecordData<'a, Octets>>(record: &Parsed<'a>) -> Result<D, Stop> {
    Ok(record.to_record::<D>()?.ok_or(Stop::Malformed)?.into_data())
}

fn ttl_seconds(ttl: Ttl) -> u32 {
    ttl.as_secs().min(TTL_SECONDS_MAX)
}

fn name(name: &ParsedName<&Octets>) -> Result<Name, Stop> {
    Name::from_labels(labels(name)).map_err(|_| Stop::Malformed)
}

fn is_name(parsed: &ParsedName<&Octets>, name: &Name) -> bool {
    let mut labels = labels(parsed);
    name.labels().all(|label| labels.next().is_some_and(|it| it.eq_ignore_ascii_case(label))) && labels.next().is_none()
}

fn is_at_or_below(name: &Name, above: &ParsedName<&Octets>) -> bool {
    let (count, above_count) = (name.label_count(), labels(above).count());
    count >= above_count
        && name.labels().skip(count - above_count).zip(labels(above)).all(|(a, b)| a.eq_ignore_ascii_case(b))
}

fn labels<'n>(name: &'n ParsedName<&Octets>) -> impl Iterator<Item = &'n [u8]> {
    name.iter().map(|label| label.as_slice()).take_while(|label| !label.is_empty())
}

fn set<T: Ord>(records: Vec<T>) -> Box<[T]> {
    let mut records = sorted(records);
    records.dedup();
    records.into()
}

/// Servers turn the order of records; no result may depend on it.
fn sorted<T: Ord>(mut records: Vec<T>) -> Vec<T> {
    records.sort_unstable();
    records
}

const CLASS_IN: u16 = 1;
const TYPE_OPT: u16 = 41;

/// Octets of the uncompressed name in front of `octets`.
fn name_len(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *octets.get(at)? {
            0 => return Some(at + 1),
            len => at += usize::from(len) + 1,
        }
    }
}

/// Makes letters great or small, as the bits of a stream that starts at `seed` decide.
fn mix_case(wire: &mut [u8], seed: u64) {
    let mut random = super::lookup::Random::new(seed);
    let mut bits = 0;
    for (index, octet) in wire.iter_mut().enumerate() {
        if index % 64 == 0 {
            bits = random.next_u64();
        }
        if bits & 1 == 1 {
            // The octets of length are below 64 and stay.
            octet.make_ascii_uppercase();
        }
        bits >>= 1;
    }
}

/// Octets put one after the other into room that is known to suffice.
struct Writer<'a> {
    room: &'a mut [u8; QUERY_BYTES_MAX],
    len: usize,
}

impl Writer<'_> {
    fn put(&mut self, octets: &[u8]) {
        if let Some(room) = self.room.get_mut(self.len..self.len + octets.len()) {
            room.copy_from_slice(octets);
            self.len += octets.len();
        }
    }

    /// The length of the OPT record's data, and as data the padding that ends the message on a whole block.
    fn put_padding(&mut self) {
        let start = self.len + 2 + OPTION_HEADER_BYTES;
        let padding = start.next_multiple_of(PADDED_BYTES) - start;
        for word in [(OPTION_HEADER_BYTES + padding) as u16, OPTION_PADDING, padding as u16] {
            self.put(&word.to_be_bytes());
        }
        self.put([0; PADDED_BYTES].get(..padding).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;

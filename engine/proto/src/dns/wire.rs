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
        RecordType::Txt => RecordSet::Txt(set(found.iter().map(text).collect::<Result<_, Stop>>()?)),
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

fn set<T: Ord>(mut records: Vec<T>) -> Box<[T]> {
    records.sort_unstable();
    records.dedup();
    records.into()
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUIET: QueryOptions =
        QueryOptions { edns_payload_bytes: Some(1232), authentic_data: false, case_seed: None, pads: false };

    fn n(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn txt_question(text: &str) -> Question {
        Question::new(n(text), RecordType::Txt)
    }

    fn texts(list: &[&str]) -> RecordSet {
        RecordSet::Txt(list.iter().map(|text| Txt(text.as_bytes().into())).collect())
    }

    fn query(question: &Question) -> Vec<u8> {
        write_query(7, question, &QUIET, &mut [0; QUERY_BYTES_MAX]).to_vec()
    }

    fn writer(question: &Question) -> ReplyWriter {
        ReplyWriter::new(&Query::read(&query(question)).unwrap())
    }

    fn read_txt(name: &str, fill: impl FnOnce(&mut ReplyWriter)) -> Reply {
        let question = txt_question(name);
        let mut reply = writer(&question);
        fill(&mut reply);
        read_reply(&reply.finish(), &question, None, false)
    }

    #[track_caller]
    fn answer(reply: Reply) -> Answer {
        let Reply::Answer(answer) = reply else { panic!("{reply:?}") };
        answer
    }

    #[track_caller]
    fn assert_answer(reply: Reply, outcome: &Outcome, ttl_seconds: Option<u32>) {
        let answer = answer(reply);
        assert_eq!((answer.outcome(), answer.ttl_seconds()), (outcome, ttl_seconds));
    }

    #[test]
    fn a_query_is_what_the_rfcs_say() {
        let question = Question::new(n("a.bc"), RecordType::Mx);
        let options = QueryOptions { authentic_data: true, ..QUIET };
        let mut room = [0; QUERY_BYTES_MAX];
        let it = write_query(0x1234, &question, &options, &mut room);
        assert_eq!(
            it,
            b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x01a\x02bc\0\0\x0f\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0".as_slice()
        );
        let plain = QueryOptions { edns_payload_bytes: None, ..QUIET };
        assert_eq!(
            write_query(0x1234, &question, &plain, &mut room),
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x0f\0\x01"
        );
        let label = "a".repeat(63);
        let longest = txt_question(&format!("{label}.{label}.{label}.{}", "a".repeat(61)));
        assert_eq!(query(&longest).len(), HEADER_BYTES + 255 + 4 + OPT_BYTES);
    }

    #[test]
    fn padded_queries_are_of_few_lengths() {
        let padded = QueryOptions { pads: true, ..QUIET };
        for length in 1..=243 {
            let labels: Vec<String> = [63, 63, 63, 51]
                .into_iter()
                .scan(length, |left, most: usize| {
                    let label = (*left).min(most);
                    *left -= label;
                    (label > 0).then(|| "a".repeat(label))
                })
                .collect();
            let question = txt_question(&labels.join("."));
            let mut room = [0xff; QUERY_BYTES_MAX];
            let it = write_query(7, &question, &padded, &mut room);
            let expected = (query(&question).len() + OPTION_HEADER_BYTES).next_multiple_of(PADDED_BYTES);
            assert_eq!(it.len(), expected, "{length}");
            // The option fills the record to the end of the message, with zeros.
            let message = Message::from_slice(it).unwrap();
            let opt = message.opt().unwrap();
            let options: Vec<_> = opt.opt().iter::<domain::base::opt::AllOptData<_, _>>().map(Result::unwrap).collect();
            let [domain::base::opt::AllOptData::Padding(padding)] = &options[..] else { panic!("{options:?}") };
            assert!(padding.as_slice().iter().all(|&octet| octet == 0));
            assert_eq!(Query::read(it).unwrap().question, question);
        }
    }

    #[test]
    fn letter_case_follows_the_seed_and_nothing_else_changes() {
        let question = txt_question("a1-_.abcdefghijklmnopqrstuvwxyz.example");
        let of_seed = |seed| {
            let options = QueryOptions { case_seed: Some(seed), ..QUIET };
            write_query(7, &question, &options, &mut [0; QUERY_BYTES_MAX]).to_vec()
        };
        assert_eq!(of_seed(1), of_seed(1));
        assert_ne!(of_seed(1), of_seed(2));
        assert!(of_seed(1).eq_ignore_ascii_case(&query(&question)));
        assert_eq!(Query::read(&of_seed(1)).unwrap().question, question);
    }

    #[test]
    fn replies_match_by_id_and_question() {
        let question = txt_question("a.example");
        let asked = query(&question);
        let reply = writer(&question).finish();
        let changed = |at: usize, octet: u8| {
            let mut reply = reply.clone();
            reply[at] = octet;
            matches(&asked, &reply)
        };
        assert_eq!(matches(&asked, &reply), Match::Exact);
        assert_eq!(changed(13, b'A'), Match::OtherCase);
        assert_eq!(changed(13, b'b'), Match::No);
        assert_eq!(changed(1, 8), Match::No, "ID");
        assert_eq!(changed(2, 0x01), Match::No, "a query");
        assert_eq!(changed(2, 0x91), Match::No, "opcode");
        assert_eq!(changed(5, 2), Match::No, "two questions");
        assert_eq!(changed(24, 17), Match::No, "type");
        assert_eq!(changed(26, 3), Match::No, "class");
        for len in 0..reply.len() {
            assert_eq!(matches(&asked, &reply[..len]), Match::No, "{len}");
        }
        // A NUL in a label does not end the name.
        let (odd, other) = (txt_question("a\0b.example"), txt_question("a\0c.example"));
        assert_eq!(matches(&query(&odd), &writer(&odd).finish()), Match::Exact);
        assert_eq!(matches(&query(&odd), &writer(&other).finish()), Match::No);
        let header_only = |rcode: u8| [&reply[..3], &[0x80 | rcode, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(matches(&asked, &header_only(1)), Match::ErrorOnly);
        assert_eq!(matches(&asked, &header_only(0)), Match::No);
        assert_eq!(matches(&asked, &header_only(3)), Match::No);
    }

    #[test]
    fn only_records_on_the_chain_count() {
        let reply = read_txt("a.example", |reply| {
            // Out of order, with other names, another class and a duplicate in between.
            reply.records(Section::Answer, &n("c.example"), &texts(&["it", "it", "also"]), 50);
            reply.records(Section::Answer, &n("victim.example"), &texts(&["forged"]), 1);
            reply.alias(&n("b.example"), &n("C.example"), 40);
            reply.alias(&n("x.example"), &n("victim.example"), 1);
            reply.alias(&n("a.example"), &n("b.example"), 60);
            reply.records(Section::Authority, &n("c.example"), &texts(&["authority"]), 1);
            reply.records(Section::Additional, &n("c.example"), &texts(&["additional"]), 1);
        });
        assert_answer(reply, &Outcome::Records(texts(&["also", "it"])), Some(40));
    }

    #[test]
    fn ttls_are_the_lowest_and_the_top_bit_makes_a_large_one() {
        let reply = read_txt("a.example", |reply| {
            reply.records(Section::Answer, &n("a.example"), &texts(&["1"]), 0x8000_0000);
            reply.records(Section::Answer, &n("a.example"), &texts(&["2"]), 0x7fff_ffff);
        });
        assert_answer(reply, &Outcome::Records(texts(&["1", "2"])), Some(0x7fff_ffff));
        let reply = read_txt("a.example", |reply| {
            reply.records(Section::Answer, &n("a.example"), &texts(&["1"]), 9);
            reply.records(Section::Answer, &n("a.example"), &texts(&["2"]), 8);
        });
        assert_answer(reply, &Outcome::Records(texts(&["1", "2"])), Some(8));
    }

    #[test]
    fn negative_answers_live_as_long_as_their_soa_says() {
        let negative = |rcode: u8, owner: &str, ttl, minimum| {
            let question = txt_question("a.b.example");
            let mut reply = writer(&question).rcode(rcode);
            reply.soa(&n(owner), ttl, minimum);
            read_reply(&reply.finish(), &question, None, false)
        };
        assert_answer(negative(0, "b.example", 100, 60), &Outcome::NoData, Some(60));
        assert_answer(negative(3, "example", 60, 100), &Outcome::NxDomain, Some(60));
        assert_answer(negative(3, "a.b.example", 60, 0), &Outcome::NxDomain, Some(0));
        assert_answer(negative(3, "other.example", 60, 60), &Outcome::NxDomain, None);
        assert_answer(read_txt("a.example", |_| ()), &Outcome::NoData, None);
    }

    #[test]
    fn no_such_name_after_an_alias_is_the_last_name() {
        let question = txt_question("a.example");
        let mut reply = writer(&question).rcode(3);
        reply.alias(&n("a.example"), &n("gone.test"), 30);
        reply.soa(&n("test"), 90, 90);
        let answer = answer(read_reply(&reply.finish(), &question, None, false));
        assert_eq!((answer.outcome(), answer.ttl_seconds()), (&Outcome::NxDomain, Some(30)));
        assert_eq!(answer.denied_name(), Some(&n("gone.test")));
        // A name can not both have the record and not exist.
        let mut reply = writer(&question).rcode(3);
        reply.records(Section::Answer, &n("a.example"), &texts(&["it"]), 30);
        assert!(matches!(read_reply(&reply.finish(), &question, None, false), Reply::Malformed));
    }

    #[test]
    fn an_alias_without_its_target_is_asked_on() {
        let reply = read_txt("a.example", |reply| reply.alias(&n("a.example"), &n("b.example"), 30));
        let Reply::Alias(links) = reply else { panic!("{reply:?}") };
        assert_eq!((links.target(), links.count()), (&n("b.example"), 1));
        let next = txt_question("b.example");
        let mut reply = writer(&next);
        reply.records(Section::Answer, &n("b.example"), &texts(&["it"]), 90);
        let reply = read_reply(&reply.finish(), &next, Some(&links), false);
        assert_answer(reply, &Outcome::Records(texts(&["it"])), Some(30));
        // The target has no such records; nothing more to ask.
        assert_answer(read_reply(&writer(&next).finish(), &next, Some(&links), false), &Outcome::NoData, None);
        // Back to where it began, over two messages.
        let mut reply = writer(&next);
        reply.alias(&n("b.example"), &n("a.example"), 30);
        assert_answer(read_reply(&reply.finish(), &next, Some(&links), false), &Outcome::NoData, None);
    }

    #[test]
    fn chains_have_an_end() {
        let chain = |links: usize| {
            read_txt("c0.example", |reply| {
                let name = |index: usize| n(&format!("c{index}.example"));
                for index in 0..links {
                    reply.alias(&name(index), &name(index + 1), 30);
                }
                reply.records(Section::Answer, &name(links), &texts(&["end"]), 30);
            })
        };
        assert_answer(chain(8), &Outcome::Records(texts(&["end"])), Some(30));
        assert!(matches!(chain(9), Reply::OverLimit));
        assert!(matches!(chain(1000), Reply::OverLimit));
        let reply = read_txt("a.example", |reply| {
            reply.alias(&n("a.example"), &n("b.example"), 30);
            reply.alias(&n("b.example"), &n("a.example"), 30);
        });
        assert_answer(reply, &Outcome::NoData, None);
        let two_targets = |second: &str| {
            read_txt("a.example", |reply| {
                reply.alias(&n("a.example"), &n("b.example"), 30);
                reply.alias(&n("a.example"), &n(second), 30);
                reply.records(Section::Answer, &n("b.example"), &texts(&["it"]), 30);
            })
        };
        assert!(matches!(two_targets("c.example"), Reply::Malformed));
        assert_answer(two_targets("b.example"), &Outcome::Records(texts(&["it"])), Some(30));
    }

    #[test]
    fn errors_are_told_apart() {
        let question = txt_question("a.example");
        let of = |rcode: u8, opt: Option<u8>| {
            let mut reply = writer(&question).rcode(rcode);
            if let Some(extended) = opt {
                reply.opt(1232, extended);
            }
            let reply = read_reply(&reply.finish(), &question, None, false);
            let Reply::Error(error) = reply else { panic!("{reply:?}") };
            error
        };
        assert_eq!(of(1, None), ServerError::NoEdns);
        assert_eq!(of(4, None), ServerError::NoEdns);
        assert_eq!(of(1, Some(0)), ServerError::Refused);
        assert_eq!(of(0, Some(1)), ServerError::NoEdns, "BADVERS");
        assert_eq!(of(2, Some(0)), ServerError::ServFail);
        assert_eq!(of(3, Some(1)), ServerError::Refused, "an extended RCODE is not NXDOMAIN");
        assert_eq!(of(5, None), ServerError::Refused);
        let mut twice = writer(&question);
        twice.opt(1232, 0);
        twice.opt(1232, 0);
        assert!(matches!(read_reply(&twice.finish(), &question, None, false), Reply::Malformed));
        let mut referral = writer(&question).clear_bits(0x80);
        referral.record(Section::Authority, &n("example"), 2, 9, n("ns.example").wire());
        let reply = read_reply(&referral.finish(), &question, None, false);
        assert!(matches!(reply, Reply::Error(ServerError::Refused)), "{reply:?}");
        let truncated = read_reply(&writer(&question).set_bits(0x200).finish(), &question, None, false);
        assert!(matches!(truncated, Reply::Truncated));
    }

    #[test]
    fn the_ad_bit_counts_only_where_it_is_trusted() {
        let question = txt_question("a.example");
        let of = |bits, trusts_ad| {
            answer(read_reply(&writer(&question).set_bits(bits).finish(), &question, None, trusts_ad)).authentic()
        };
        assert_eq!(of(0x20, false), None);
        assert_eq!(of(0x20, true), Some(true));
        assert_eq!(of(0, true), Some(false));
    }

    #[test]
    fn data_that_disagrees_with_its_length_is_malformed() {
        let of = |kind: RecordType, data: &[u8]| {
            let question = Question::new(n("a.example"), kind);
            let mut reply = writer(&question);
            reply.record(Section::Answer, &question.name, kind.code(), 9, data);
            read_reply(&reply.finish(), &question, None, false)
        };
        // The first is CVE-2008-2469.
        for data in [&b"\xffvsf1"[..], b"", b"\x02a", b"\x01ab", b"\x01a\x05b"] {
            assert!(matches!(of(RecordType::Txt, data), Reply::Malformed), "{data:?}");
        }
        assert_answer(of(RecordType::Txt, b"\0"), &Outcome::Records(texts(&[""])), Some(9));
        assert_answer(of(RecordType::Txt, b"\x02ab\0\x01c"), &Outcome::Records(texts(&["abc"])), Some(9));
        for (kind, data) in [
            (RecordType::A, &b"\x01\x02\x03"[..]),
            (RecordType::A, b"\x01\x02\x03\x04\x05"),
            (RecordType::Aaaa, &[0; 15]),
            (RecordType::Mx, b"\0\x01"),
            (RecordType::Mx, b"\0\x01\x01a\0\0"),
            (RecordType::Ptr, b"\x01a"),
            (RecordType::Ptr, b"\xc0\xff"),
        ] {
            assert!(matches!(of(kind, data), Reply::Malformed), "{kind} {data:?}");
        }
        let null_mx = RecordSet::Mx([Mx { preference: 0, exchange: None }].into());
        assert_answer(of(RecordType::Mx, b"\0\0\0"), &Outcome::Records(null_mx), Some(9));
        assert_answer(of(RecordType::Ptr, b"\0"), &Outcome::NoData, None);
    }

    #[test]
    fn names_may_be_compressed_but_not_in_circles() {
        let question = txt_question("a.example");
        let with_owner = |owner: &[u8]| {
            let mut reply = writer(&question).finish();
            reply[7] = 1;
            reply.extend_from_slice(owner);
            reply.extend_from_slice(b"\0\x10\0\x01\0\0\0\x09\0\x02\x01x");
            read_reply(&reply, &question, None, false)
        };
        assert_answer(with_owner(b"\xc0\x0c"), &Outcome::Records(texts(&["x"])), Some(9));
        assert_answer(with_owner(b"\x01A\xc0\x0e"), &Outcome::Records(texts(&["x"])), Some(9));
        // Itself; forward; a label type that is not defined.
        for owner in [&b"\xc0\x1b"[..], b"\xc0\x1d", b"\xc0\xff", b"\x40a\0"] {
            assert!(matches!(with_owner(owner), Reply::Malformed), "{owner:?}");
        }
    }

    #[test]
    fn the_bound_on_records_holds_on_both_sides() {
        let question = Question::new(n("a.example"), RecordType::A);
        let of = |count: u32| {
            let mut reply = writer(&question).finish();
            reply[6..8].copy_from_slice(&(count as u16).to_be_bytes());
            for index in 0..count {
                reply.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x09\0\x04");
                reply.extend_from_slice(&index.to_be_bytes());
            }
            read_reply(&reply, &question, None, false)
        };
        let most = ANSWER_RECORDS_MAX as u32;
        assert!(matches!(of(most), Reply::Answer(_)));
        assert!(matches!(of(most + 1), Reply::OverLimit));
    }

    fn any_name() -> impl Strategy<Value = Name> {
        prop::collection::vec("[a-c]{1,3}", 1..4).prop_map(|labels| n(&labels.join(".")))
    }

    fn any_records() -> impl Strategy<Value = RecordSet> {
        let size = 1..6;
        prop_oneof![
            prop::collection::vec(any::<[u8; 4]>(), size.clone())
                .prop_map(|list| RecordSet::A(set(list.into_iter().map(Into::into).collect()))),
            prop::collection::vec(any::<[u8; 16]>(), size.clone())
                .prop_map(|list| RecordSet::Aaaa(set(list.into_iter().map(Into::into).collect()))),
            prop::collection::vec((any::<u16>(), prop::option::of(any_name())), size.clone()).prop_map(|list| {
                let mx = list.into_iter().map(|(preference, exchange)| Mx { preference, exchange });
                RecordSet::Mx(set(mx.collect()))
            }),
            prop::collection::vec(any_name(), size.clone()).prop_map(|list| RecordSet::Ptr(set(list))),
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), size)
                .prop_map(|list| RecordSet::Txt(set(list.into_iter().map(|text| Txt(text.into())).collect()))),
        ]
    }

    fn kind_of(records: &RecordSet) -> RecordType {
        match records {
            RecordSet::A(_) => RecordType::A,
            RecordSet::Aaaa(_) => RecordType::Aaaa,
            RecordSet::Mx(_) => RecordType::Mx,
            RecordSet::Ptr(_) => RecordType::Ptr,
            RecordSet::Txt(_) => RecordType::Txt,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(name in any_name(), alias in any_name(), records in any_records(), ttl in 0..i32::MAX as u32) {
            prop_assume!(name != alias);
            let question = Question::new(alias, kind_of(&records));
            let mut reply = writer(&question);
            reply.records(Section::Answer, &name, &records, ttl);
            reply.alias(&alias, &name, ttl);
            reply.opt(1232, 0);
            assert_answer(read_reply(&reply.finish(), &question, None, false), &Outcome::Records(records), Some(ttl));
        }

        /// Whatever a damaged message says, records that are not its own are never made up.
        #[test]
        fn damage_never_panics_and_never_adds(
            records in any_records(),
            damage in prop::collection::vec((12_usize..400, any::<u8>()), 0..4),
            cut in prop::option::of(0_usize..400),
        ) {
            let question = Question::new(n("a.example"), kind_of(&records));
            let mut reply = writer(&question);
            reply.records(Section::Answer, &question.name, &records, 9);
            reply.soa(&n("example"), 9, 9);
            let mut reply = reply.finish();
            for (at, octet) in damage {
                if let Some(it) = reply.get_mut(at) {
                    *it = octet;
                }
            }
            reply.truncate(cut.unwrap_or(reply.len()));
            let _ = matches(&query(&question), &reply);
            let _ = read_reply(&reply, &question, None, true);
            let _ = Query::read(&reply);
        }

        /// Comparing in place says what comparing whole names says.
        #[test]
        fn names_compare_as_whole_names_do(mine in any_name(), theirs in any_name()) {
            let parsed = ParsedName::parse_ref(&mut octets_parser(theirs.wire())).unwrap();
            prop_assert_eq!(is_name(&parsed, &mine), mine == theirs);
            prop_assert_eq!(is_at_or_below(&mine, &parsed), mine.is_at_or_below(&theirs));
        }
    }

    fn octets_parser(octets: &[u8]) -> domain::dep::octseq::Parser<'_, [u8]> {
        domain::dep::octseq::Parser::from_ref(octets)
    }
}

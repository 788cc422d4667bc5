//! Way four: questions for the caller's own DNS, and its answers.
//!
//! Records of the caller are written into a DNS message and read back by the one reader of such messages, so that order,
//! duplicates and limits are what they are for every other answer.

use std::ffi::{CString, c_char, c_void};
use std::net::{Ipv4Addr, Ipv6Addr};

use mailproof::proto::dns::wire::{
    QUERY_BYTES_MAX, Query, QueryOptions, Reply, ReplyWriter, Section, ServerError, read_reply, write_query,
};
use mailproof::proto::dns::{Answer, Failure as DnsFailure, Name, Outcome as DnsOutcome, Question, RecordType};

use crate::engine::{Dns, log_of, mailproof_engine, read_name};
use crate::pointers::{self, Given, Told, first_size};
use crate::session::{inside, mailproof_session};
use crate::status::{Failure, Outcome, c_text, guard, mailproof_status};

/// A question to the DNS, class IN.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_question {
    /// What the answer is given by. Never the same twice in the life of a session, so an answer that comes too late meets no
    /// other question.
    pub id: u64,
    /// The name in the form of master files (RFC 1035 section 5.1), without a final dot. Belongs to the session, and is good
    /// until that is restarted or freed.
    pub name: *const c_char,
    /// The record type, as in ns_t_txt: 1 A, 12 PTR, 15 MX, 16 TXT, 28 AAAA.
    pub record_type: u64,
}

// SAFETY: its members fill it.
unsafe impl Told for mailproof_question {
    const FIRST_SIZE: usize = first_size!(mailproof_question, record_type);
}

/// There are records of the type asked for.
pub const MAILPROOF_ANSWER_RECORDS: u32 = 1;
/// The name exists, without records of this type.
pub const MAILPROOF_ANSWER_NO_DATA: u32 = 2;
/// The name does not exist (RCODE 3).
pub const MAILPROOF_ANSWER_NO_SUCH_NAME: u32 = 3;
/// No server answered in time.
pub const MAILPROOF_ANSWER_TIMED_OUT: u32 = 4;
/// The servers failed (RCODE 2); also what a validating resolver says of bogus data.
pub const MAILPROOF_ANSWER_SERVFAIL: u32 = 5;
/// The servers refused (RCODE 5), or any other RCODE that is no answer.
pub const MAILPROOF_ANSWER_REFUSED: u32 = 6;
/// The answer could not be read.
pub const MAILPROOF_ANSWER_MALFORMED: u32 = 7;
/// The servers could not be reached at all.
pub const MAILPROOF_ANSWER_UNREACHABLE: u32 = 8;

/// Records are RDATA as on the wire, names in them uncompressed: what libunbound and ldns give.
pub const MAILPROOF_RECORDS_WIRE: u32 = 0;
/// Records are texts: `192.0.2.1`, `mx.example.org`, `10 mx.example.org`; of TXT the strings joined, without quotes.
pub const MAILPROOF_RECORDS_TEXT: u32 = 1;

/// In `ttl_seconds`: the answer has no time to live, as a negative one without SOA; it is not kept.
pub const MAILPROOF_TTL_NONE: u64 = u64::MAX;

/// Nobody who is trusted has validated the answer.
pub const MAILPROOF_AUTHENTIC_UNKNOWN: u32 = 0;
/// A validator that is trusted says that the answer is signed (RFC 4035 section 4.9.3).
pub const MAILPROOF_AUTHENTIC_YES: u32 = 1;
/// A validator that is trusted says that the answer is not signed.
pub const MAILPROOF_AUTHENTIC_NO: u32 = 2;

/// One record of an answer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_record {
    /// Its octets, in the form that the answer names.
    pub octets: *const c_void,
    /// How many.
    pub length: usize,
}

/// The answer to a question, without the CNAME records that led to it. Copied: it needs to be good during the call only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_answer {
    /// sizeof(mailproof_answer).
    pub size: usize,
    /// MAILPROOF_ANSWER_RECORDS or another.
    pub outcome: u32,
    /// MAILPROOF_RECORDS_WIRE or _TEXT.
    pub form: u32,
    /// With MAILPROOF_ANSWER_RECORDS, one or more.
    pub records: *const mailproof_record,
    /// How many.
    pub record_count: usize,
    /// Seconds the answer may be kept, or MAILPROOF_TTL_NONE.
    pub ttl_seconds: u64,
    /// MAILPROOF_AUTHENTIC_UNKNOWN, _YES or _NO.
    pub authentic: u32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: the first member is the size; pointers and numbers may be zero.
unsafe impl Given for mailproof_answer {
    const FIRST_SIZE: usize = first_size!(mailproof_answer, reserved);
}

/// The questions that a session has given out.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    first_id: u64,
    questions: Vec<(Question, CString)>,
}

/// Way four: the next question of the session that the cache has no answer to; each is given out once. Questions come up in
/// mailproof_session_poll(), before the message has ended already, and again after answers. Any number may be open, and
/// their answers may come in any order. `size` is sizeof(mailproof_question).
///
/// MAILPROOF_STATUS_EMPTY when there is none at the moment, _WRONG_STATE when the engine is not of MAILPROOF_DNS_CALLER.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_next_question(
    session: *mut mailproof_session,
    size: usize,
    question: *mut mailproof_question,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        inside(session, |it| {
            is_callers(it)?;
            // A question is given out once, so not into nowhere.
            pointers::has_room(size, question)?;
            let next = it.session_mut().next_question();
            let next = next.ok_or_else(|| Failure::new(mailproof_status::Empty, "no question at the moment"))?;
            let record_type = next.kind.code().into();
            let (id, name) = it.asked.add(next);
            // SAFETY: the caller's.
            pointers::tell(mailproof_question { id, name, record_type }, size, question)
        })
    }
}

/// Way four: the answer to a question; the first one counts. It goes into the cache of the engine too. Poll next.
///
/// MAILPROOF_STATUS_UNKNOWN_QUESTION when the message of the question is over: nothing is lost by that. _BAD_ANSWER or
/// _BAD_OPTION when the answer can not be read; the question is still open then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_answer(
    session: *mut mailproof_session,
    id: u64,
    answer: *const mailproof_answer,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        inside(session, |it| {
            let question = it.asked.find(id)?.clone();
            // SAFETY: the caller's.
            let answer = read(&question, answer)?;
            learn(it, &question, answer);
            Ok(())
        })
    }
}

/// Way four: the answer to a question as a whole DNS message of `length` octets, as a resolver sent it, CNAME records
/// included (RFC 1035 section 4). That it came from the resolver is for the caller to know; that it is for this question is
/// looked at. `trusts_ad` says that its AD bit may be believed (RFC 4035 section 4.9.3).
///
/// MAILPROOF_STATUS_TRUNCATED when TC is set: ask over TCP. _BAD_ANSWER when it can not be read, is for another question, or
/// ends on a CNAME that the resolver did not follow. The question is still open then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_answer_message(
    session: *mut mailproof_session,
    id: u64,
    message: *const c_void,
    length: usize,
    trusts_ad: u32,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        inside(session, |it| {
            let question = it.asked.find(id)?.clone();
            // SAFETY: the caller's.
            let message = pointers::octets(message, length)?;
            if !is_reply_to(message, &question) {
                return Err(bad("not a reply to this question"));
            }
            let answer = read_message(message, &question, trusts_ad != 0)?;
            learn(it, &question, answer);
            Ok(())
        })
    }
}

/// Puts an answer into the cache of an engine as if it had just been fetched, for every session to come: names known before,
/// or found by other means. `record_type` is as in mailproof_question. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_engine_remember(
    engine: *const mailproof_engine,
    name: *const c_char,
    record_type: u32,
    answer: *const mailproof_answer,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of(engine) }, || {
        // SAFETY: the caller's.
        let engine = unsafe { pointers::shared(engine, "the engine")? };
        // SAFETY: the caller's.
        let name = unsafe { read_name(name)? };
        let kind = u16::try_from(record_type).ok().and_then(RecordType::from_code);
        let kind = kind.ok_or_else(|| bad_option(format!("record type {record_type}")))?;
        let question = Question::new(name, kind);
        // SAFETY: the caller's.
        engine.core.engine.remember(&question, &unsafe { read(&question, answer)? });
        Ok(())
    })
}

impl Asked {
    /// What was given out before is late from now on.
    pub(crate) fn restart(&mut self) {
        self.first_id += self.questions.len() as u64;
        self.questions.clear();
    }

    fn add(&mut self, question: Question) -> (u64, *const c_char) {
        let name = c_text(&question.name.to_string());
        // Where the text stands does not depend on the list, which may move.
        let text = name.as_ptr();
        self.questions.push((question, name));
        (self.first_id + self.questions.len() as u64 - 1, text)
    }

    fn find(&self, id: u64) -> Outcome<&Question> {
        let at = id.checked_sub(self.first_id).and_then(|at| usize::try_from(at).ok());
        let found = at.and_then(|at| self.questions.get(at)).map(|(question, _)| question);
        found.ok_or_else(|| Failure::new(mailproof_status::UnknownQuestion, format!("question {id}")))
    }
}

fn is_callers(session: &mailproof_session) -> Outcome {
    if session.core().dns != Dns::Caller {
        return Err(Failure::new(mailproof_status::WrongState, "the DNS of the engine is not the caller's"));
    }
    session.unfinished()
}

fn learn(session: &mut mailproof_session, question: &Question, answer: Answer) {
    session.core().engine.remember(question, &answer);
    session.session_mut().learn(question, answer);
}

fn bad(what: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(mailproof_status::BadAnswer, what)
}

fn bad_option(what: String) -> Failure {
    Failure::new(mailproof_status::BadOption, what)
}

/// Reads an answer of the caller.
///
/// # Safety
/// As [`pointers`] says.
unsafe fn read(question: &Question, answer: *const mailproof_answer) -> Outcome<Answer> {
    // SAFETY: the caller's.
    let given = unsafe { pointers::given(answer, "the answer")? };
    let ttl_seconds = match given.ttl_seconds {
        MAILPROOF_TTL_NONE => None,
        seconds => Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
    };
    let authentic = match given.authentic {
        MAILPROOF_AUTHENTIC_UNKNOWN => None,
        MAILPROOF_AUTHENTIC_YES => Some(true),
        MAILPROOF_AUTHENTIC_NO => Some(false),
        authentic => return Err(bad_option(format!("authenticity {authentic}"))),
    };
    let failure = match given.outcome {
        MAILPROOF_ANSWER_RECORDS => {
            // SAFETY: the caller's.
            let records = unsafe { pointers::list(given.records, given.record_count)? };
            // SAFETY: the caller's.
            return unsafe { read_records(question, records, given.form, ttl_seconds, authentic) };
        }
        MAILPROOF_ANSWER_NO_DATA => {
            return Ok(Answer::with_authenticity(DnsOutcome::NoData, ttl_seconds, authentic));
        }
        MAILPROOF_ANSWER_NO_SUCH_NAME => {
            return Ok(Answer::with_authenticity(DnsOutcome::NxDomain, ttl_seconds, authentic));
        }
        MAILPROOF_ANSWER_TIMED_OUT => DnsFailure::TimedOut,
        MAILPROOF_ANSWER_SERVFAIL => DnsFailure::ServFail,
        MAILPROOF_ANSWER_REFUSED => DnsFailure::Refused,
        MAILPROOF_ANSWER_MALFORMED => DnsFailure::Malformed,
        MAILPROOF_ANSWER_UNREACHABLE => DnsFailure::Unreachable,
        outcome => return Err(bad_option(format!("outcome {outcome}"))),
    };
    Ok(Answer::failed(failure))
}

/// Reads records of the caller, by way of a DNS message.
///
/// # Safety
/// As [`pointers`] says.
unsafe fn read_records(
    question: &Question,
    records: &[mailproof_record],
    form: u32,
    ttl_seconds: Option<u32>,
    authentic: Option<bool>,
) -> Outcome<Answer> {
    let mut room = [0; QUERY_BYTES_MAX];
    let plain = QueryOptions { edns_payload_bytes: None, authentic_data: false, case_seed: None, pads: false };
    let query = Query::read(write_query(0, question, &plain, &mut room)).ok_or_else(|| bad("a name that is none"))?;
    let mut reply = ReplyWriter::new(&query);
    let mut octets_left = REPLY_BYTES_MAX;
    for record in records {
        // SAFETY: the caller's.
        let octets = unsafe { pointers::octets(record.octets, record.length)? };
        let turned = match form {
            MAILPROOF_RECORDS_WIRE => None,
            MAILPROOF_RECORDS_TEXT => Some(from_text(question.kind, octets)?),
            form => return Err(bad_option(format!("form {form} of records"))),
        };
        let data = turned.as_deref().unwrap_or(octets);
        let taken = data.len().checked_add(RECORD_BYTES);
        octets_left = taken
            .and_then(|taken| octets_left.checked_sub(taken))
            .ok_or_else(|| bad("more octets of records than a DNS message holds"))?;
        reply.record(Section::Answer, &question.name, question.kind.code(), ttl_seconds.unwrap_or_default(), data);
    }
    match read_message(&reply.finish(), question, false)?.outcome() {
        DnsOutcome::Records(set) => {
            Ok(Answer::with_authenticity(DnsOutcome::Records(set.clone()), ttl_seconds, authentic))
        }
        DnsOutcome::Failed(failure) => Ok(Answer::failed(*failure)),
        _ => Err(bad("no record")),
    }
}

/// Octets of records that a DNS message holds beside its header and its question.
const REPLY_BYTES_MAX: usize = 65_535 - 12 - 255 - 4;
/// Octets of a record beside its data, its name written in full.
const RECORD_BYTES: usize = 255 + 10;
/// Octets of one character-string (RFC 1035 section 3.3).
const STRING_BYTES_MAX: usize = 255;

/// RDATA of a text.
fn from_text(kind: RecordType, octets: &[u8]) -> Outcome<Vec<u8>> {
    if kind == RecordType::Txt {
        let mut data = Vec::with_capacity(octets.len() + octets.len() / STRING_BYTES_MAX + 1);
        let mut strings = octets.chunks(STRING_BYTES_MAX);
        let mut string = strings.next().unwrap_or_default();
        loop {
            data.push(string.len() as u8);
            data.extend_from_slice(string);
            match strings.next() {
                Some(next) => string = next,
                None => return Ok(data),
            }
        }
    }
    let fault = || bad(format!("{}: not {kind} data", String::from_utf8_lossy(octets)));
    let text = std::str::from_utf8(octets).map_err(|_| fault())?.trim();
    let host = |text: &str| match text {
        "." => Ok(vec![0]),
        text => Name::parse(text).map(|name| name.wire().to_vec()).map_err(|_| fault()),
    };
    match kind {
        RecordType::A => Ok(text.parse::<Ipv4Addr>().map_err(|_| fault())?.octets().to_vec()),
        RecordType::Aaaa => Ok(text.parse::<Ipv6Addr>().map_err(|_| fault())?.octets().to_vec()),
        RecordType::Mx => {
            let (preference, exchange) = text.split_once(char::is_whitespace).ok_or_else(fault)?;
            let mut data = preference.parse::<u16>().map_err(|_| fault())?.to_be_bytes().to_vec();
            data.extend(host(exchange.trim_start())?);
            Ok(data)
        }
        RecordType::Ptr => host(text),
        _ => Err(fault()),
    }
}

fn read_message(message: &[u8], question: &Question, trusts_ad: bool) -> Outcome<Answer> {
    match read_reply(message, question, None, trusts_ad) {
        Reply::Answer(answer) => Ok(answer),
        Reply::Error(ServerError::ServFail) => Ok(Answer::failed(DnsFailure::ServFail)),
        Reply::Error(ServerError::NoEdns | ServerError::Refused) => Ok(Answer::failed(DnsFailure::Refused)),
        Reply::OverLimit => Ok(Answer::failed(DnsFailure::OverLimit)),
        Reply::Truncated => Err(Failure::new(mailproof_status::Truncated, "the answer was cut off")),
        Reply::Alias(links) => Err(bad(format!("ends on a CNAME to {}, which is not resolved", links.target()))),
        Reply::Malformed => Err(bad("a malformed message")),
    }
}

/// The message is a reply, and its question is this one (RFC 5452 section 9.1).
fn is_reply_to(message: &[u8], question: &Question) -> bool {
    let Some((header, rest)) = message.split_at_checked(12) else { return false };
    let is_reply = header[2] & 0x80 != 0 && header[4..6] == [0, 1];
    let wire = question.name.wire();
    let Some((name, rest)) = rest.split_at_checked(wire.len()) else { return false };
    let [kind_high, kind_low] = question.kind.code().to_be_bytes();
    is_reply && name.eq_ignore_ascii_case(wire) && rest.starts_with(&[kind_high, kind_low, 0, 1])
}

#[cfg(test)]
mod tests {
    use mailproof::proto::dns::{Mx, RecordSet, Txt};

    use super::*;

    fn question(kind: RecordType) -> Question {
        Question::new(Name::parse("a.example").unwrap(), kind)
    }

    fn answered(kind: RecordType, form: u32, records: &[&[u8]]) -> Result<RecordSet, mailproof_status> {
        let records: Vec<mailproof_record> =
            records.iter().map(|it| mailproof_record { octets: it.as_ptr().cast(), length: it.len() }).collect();
        // SAFETY: each record is as long as it says.
        let answer = unsafe { read_records(&question(kind), &records, form, Some(60), Some(true)) };
        let answer = answer.map_err(|failure| failure.status())?;
        assert_eq!((answer.ttl_seconds(), answer.authentic()), (Some(60), Some(true)));
        match answer.outcome() {
            DnsOutcome::Records(set) => Ok(set.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn records_come_in_two_forms() {
        let wire = |kind, records: &[&[u8]]| answered(kind, MAILPROOF_RECORDS_WIRE, records);
        let text = |kind, records: &[&[u8]]| answered(kind, MAILPROOF_RECORDS_TEXT, records);
        let a = Ok(RecordSet::A([Ipv4Addr::new(192, 0, 2, 1)].into()));
        assert_eq!(wire(RecordType::A, &[&[192, 0, 2, 1], &[192, 0, 2, 1]]), a);
        assert_eq!(text(RecordType::A, &[b"192.0.2.1"]), a);
        assert_eq!(text(RecordType::Aaaa, &[b"::1"]), Ok(RecordSet::Aaaa([Ipv6Addr::LOCALHOST].into())));
        let exchange = Name::parse("mx.example").ok();
        let mx = Ok(RecordSet::Mx([Mx { preference: 0, exchange: None }, Mx { preference: 10, exchange }].into()));
        assert_eq!(wire(RecordType::Mx, &[b"\x00\x0a\x02mx\x07example\x00", b"\x00\x00\x00"]), mx);
        assert_eq!(text(RecordType::Mx, &[b"10 mx.example.", b"0 ."]), mx);
        let ptr = Ok(RecordSet::Ptr([Name::parse("h.example").unwrap()].into()));
        assert_eq!(wire(RecordType::Ptr, &[b"\x01h\x07example\x00"]), ptr);
        assert_eq!(text(RecordType::Ptr, &[b"H.example"]), ptr);
        let txt = Ok(RecordSet::Txt([Txt(b"v=spf1 -all".as_slice().into())].into()));
        assert_eq!(wire(RecordType::Txt, &[b"\x05v=spf\x061 -all"]), txt);
        assert_eq!(text(RecordType::Txt, &[b"v=spf1 -all"]), txt);
        assert_eq!(text(RecordType::Txt, &[b""]), Ok(RecordSet::Txt([Txt([].into())].into())));
        let long = [b'x'; 600];
        assert_eq!(text(RecordType::Txt, &[&long]), Ok(RecordSet::Txt([Txt(long.as_slice().into())].into())));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let bad = Err(mailproof_status::BadAnswer);
        for (kind, octets) in [
            (RecordType::A, &b"\x01\x02\x03"[..]),
            (RecordType::Aaaa, b"\x01"),
            (RecordType::Mx, b"\x00"),
            (RecordType::Ptr, b"\x05h"),
            (RecordType::Txt, b""),
            (RecordType::Txt, b"\x05v"),
        ] {
            assert_eq!(answered(kind, MAILPROOF_RECORDS_WIRE, &[octets]), bad, "{kind} {octets:?}");
        }
        for (kind, octets) in [
            (RecordType::A, &b"192.0.2"[..]),
            (RecordType::Aaaa, b"x"),
            (RecordType::Mx, b"mx.example"),
            (RecordType::Mx, b"70000 mx.example"),
            (RecordType::Ptr, b"a..b"),
            (RecordType::Ptr, b"\xff\xfe\x00\xff."),
        ] {
            if !(kind == RecordType::Ptr && octets[0] == 0xff) {
                assert_eq!(answered(kind, MAILPROOF_RECORDS_TEXT, &[octets]), bad, "{kind} {octets:?}");
            }
        }
        assert_eq!(answered(RecordType::A, MAILPROOF_RECORDS_WIRE, &[]), bad);
        assert_eq!(answered(RecordType::A, 2, &[&[1, 2, 3, 4]]), Err(mailproof_status::BadOption));
    }

    #[test]
    fn records_of_more_than_a_message_are_refused() {
        let fits = vec![b'x'; REPLY_BYTES_MAX - RECORD_BYTES - 256];
        assert!(answered(RecordType::Txt, MAILPROOF_RECORDS_TEXT, &[&fits]).is_ok());
        let longer = vec![b'x'; REPLY_BYTES_MAX];
        assert_eq!(answered(RecordType::Txt, MAILPROOF_RECORDS_TEXT, &[&longer]), Err(mailproof_status::BadAnswer));
    }

    #[test]
    fn a_reply_to_another_question_is_none() {
        let mut message =
            b"\x12\x34\x81\x80\x00\x01\x00\x00\x00\x00\x00\x00\x01A\x07example\x00\x00\x10\x00\x01".to_vec();
        assert!(is_reply_to(&message, &question(RecordType::Txt)));
        assert!(!is_reply_to(&message, &question(RecordType::A)));
        for cut in 0..message.len() {
            assert!(!is_reply_to(&message[..cut], &question(RecordType::Txt)));
        }
        message[2] = 0x01;
        assert!(!is_reply_to(&message, &question(RecordType::Txt)));
    }

    #[test]
    fn late_answers_meet_no_question() {
        let mut asked = Asked::default();
        let (first, _) = asked.add(question(RecordType::A));
        asked.restart();
        let (second, _) = asked.add(question(RecordType::Txt));
        assert!(asked.find(first).is_err() && asked.find(second + 1).is_err());
        assert_eq!(asked.find(second).unwrap().kind, RecordType::Txt);
    }
}

//! Properties of the core over arbitrary octets, one function each; the fuzz targets and the replay of their corpora call
//! them. A function returns when the property holds and panics when it does not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use mailproof::service::{Conversation, Host, Requests};
use mailproof::zone::Zone;
use mailproof::{Engine, EngineBuilder};
use mailproof_kernels::{RelaxedBody, SimpleBody};
use mailproof_milter::config::Config;
use mailproof_milter::log::Sink;
use mailproof_milter::signing::Signer;
use mailproof_milter::{MilterConversation, Service};
use mailproof_proto::arc::ArcResult;
use mailproof_proto::authres::{self, AuthenticationResults, Layout, Writer};
use mailproof_proto::dkim::{self, DkimResult};
use mailproof_proto::dmarc;
use mailproof_proto::dns::wire::{self, Reply};
use mailproof_proto::dns::{Answer, Failure, Name, Outcome, Question, RecordSet, RecordType, Txt};
use mailproof_proto::limits::{
    AUTHRES_KEYWORD_BYTES_MAX, AUTHRES_VALUE_BYTES_MAX, DKIM_KEY_RECORDS_MAX, DKIM_SIGNATURES_MAX, HEADER_FIELDS_MAX,
    QUESTIONS_MAX,
};
use mailproof_proto::message::HeaderIndex;
use mailproof_proto::message::address::{Author, author};
use mailproof_proto::spf::{self, Check, SpfOptions};
use mailproof_proto::tag_list::TagList;
use mailproof_proto::time::Timestamp;
use mailproof_proto::verification::{Envelope, Options};
use serde_json::json;

use crate::drive::{ORDERS, drive};
use crate::verify::Case;

/// A property over arbitrary octets.
pub type Property = fn(&[u8]);

/// Every property by the name of its fuzz target.
pub const PROPERTIES: [(&str, Property); 13] = [
    ("address", address),
    ("arc_chain", arc_chain),
    ("authentication_results", authentication_results),
    ("canonicalisation", canonicalisation),
    ("dkim_signature", dkim_signature),
    ("dmarc_record", dmarc_record),
    ("dns_answer", dns_answer),
    ("header_scan", header_scan),
    ("key_record", key_record),
    ("milter_frames", milter_frames),
    ("spf_evaluation", spf_evaluation),
    ("spf_record", spf_record),
    ("tag_list", tag_list),
];

/// Fields lie in order within the octets, and each one scanned alone is itself again.
pub fn header_scan(octets: &[u8]) {
    let mut index = HeaderIndex::new();
    let headers = index.scan(octets);
    let mut from = octets.as_ptr();
    for field in headers.fields() {
        assert!(field.raw.as_ptr() >= from && field.raw.as_ptr_range().end <= octets.as_ptr_range().end);
        from = field.raw.as_ptr_range().end;
        assert!(field.raw.starts_with(field.name) && field.raw.ends_with(field.value));
        let mut alone = HeaderIndex::new();
        let again = alone.scan(field.raw).field(0).expect("a field alone is a field");
        assert_eq!((again.name, again.value, again.kind), (field.name, field.value, field.kind));
    }
    let defects = headers.defects();
    assert!(headers.len() <= HEADER_FIELDS_MAX || defects.header_over_limit);
    assert!(defects.nul as usize <= octets.len() && defects.bare_lf as usize <= octets.len());
}

/// An author that was found is found again in its plain form.
pub fn address(octets: &[u8]) {
    let header = [b"From: ", octets, b"\r\n"].concat();
    match author(HeaderIndex::new().scan(&header)) {
        Author::One(domain) => {
            let plain = format!("From: <x@{domain}>\r\n");
            assert_eq!(author(HeaderIndex::new().scan(plain.as_bytes())), Author::One(domain));
        }
        Author::Several(domains) => assert!(domains.len() > 1),
        Author::Unusable(_) => {}
    }
}

/// In chunks equals whole equals plain, for both forms.
pub fn canonicalisation(octets: &[u8]) {
    let Some((&step, body)) = octets.split_first() else { return };
    for chunk in [usize::from(step) + 1, body.len().max(1)] {
        let (mut relaxed, mut simple) = (Vec::new(), Vec::new());
        let (mut relaxing, mut simplifying) = (RelaxedBody::new(), SimpleBody::new());
        for piece in body.chunks(chunk) {
            relaxing.update(piece, |run| relaxed.extend_from_slice(run));
            simplifying.update(piece, |run| simple.extend_from_slice(run));
        }
        relaxing.finish(|run| relaxed.extend_from_slice(run));
        simplifying.finish(|run| simple.extend_from_slice(run));
        assert_eq!(relaxed, plain_relaxed(body), "relaxed in chunks of {chunk}");
        assert_eq!(simple, plain_simple(body), "simple in chunks of {chunk}");
    }
}

/// RFC 6376 section 3.4.4, line by line.
fn plain_relaxed(body: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in split_lines(body) {
        let mut out: Vec<u8> = Vec::new();
        for &octet in line {
            match octet {
                b' ' | b'\t' if out.last() == Some(&b' ') => {}
                b' ' | b'\t' => out.push(b' '),
                _ => out.push(octet),
            }
        }
        // White space at the end of the last line goes too, CRLF or not.
        if out.last() == Some(&b' ') {
            out.pop();
        }
        lines.push(out);
    }
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines.into_iter().flat_map(|line| [line, b"\r\n".to_vec()].concat()).collect()
}

/// RFC 6376 section 3.4.3.
fn plain_simple(body: &[u8]) -> Vec<u8> {
    let mut rest = body;
    while let Some(shorter) = rest.strip_suffix(b"\r\n") {
        rest = shorter;
    }
    [rest, b"\r\n"].concat()
}

/// The lines of a body, its last one without CRLF included.
fn split_lines(body: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = body;
    while let Some(at) = memchr::memmem::find(rest, b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    lines
}

/// A record that was read is the same record when it is written and read again.
pub fn spf_record(octets: &[u8]) {
    let Ok(record) = spf::Record::parse(octets) else { return };
    let again = spf::Record::parse(record.as_str().as_bytes()).expect("a record reads as it is written");
    assert_eq!(again.as_str(), record.as_str());
}

/// Whatever the records, an evaluation ends within its limits, the same in every order of answers.
pub fn spf_evaluation(octets: &[u8]) {
    let mut texts = octets.split(|&octet| octet == b'\n').map(|text| String::from_utf8_lossy(text).into_owned());
    let mut next = || texts.next().unwrap_or_default();
    let (first, second, third, local, target) = (next(), next(), next(), next(), next());
    let zone = json!({
        "a.example": [{"TXT": first}, {"A": "192.0.2.1"}, {"MX": [0, "b.example"]}],
        "b.example": [{"TXT": second}, {"A": "192.0.2.2"}, {"AAAA": "2001:db8::1"}],
        "c.example": [{"TXT": third}, {"MX": [0, "a.example"]}, {"MX": [1, "t.example"]}],
        "t.example": ["TIMEOUT"],
        "1.2.0.192.in-addr.arpa": [{"PTR": "a.example"}, {"PTR": target}],
    });
    let Ok(zone) = Zone::from_value(&zone) else { return };
    for ip in [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))] {
        let mail_from = format!("{local}@a.example");
        let check = Check { ip, helo: "b.example", mail_from: &mail_from, receiver: "mx.example.net", now_seconds: 1 };
        let run = |order| drive(&zone, order, |answers| spf::check_mail_from(&check, &SpfOptions::default(), answers));
        let (outcome, transcript) = run(ORDERS[0]);
        assert!(transcript.question_count() < QUESTIONS_MAX);
        for order in ORDERS {
            assert_eq!(run(order).0, outcome, "{order:?}");
        }
    }
}

/// Tags read are tags written.
pub fn tag_list(octets: &[u8]) {
    let Ok(tags) = TagList::parse(octets) else { return };
    let written: String = tags.iter().map(|tag| format!("{}={};", tag.name, tag.value)).collect();
    let again = TagList::parse(written.as_bytes()).expect("a list reads as it is written");
    let pairs = |list: &TagList<'_>| -> Vec<(String, String)> {
        list.iter().map(|tag| (tag.name.to_owned(), tag.value.to_owned())).collect()
    };
    assert_eq!(pairs(&again), pairs(&tags));
}

/// Key records are bounded in number, and none of arbitrary octets is shorter than what may verify.
pub fn key_record(octets: &[u8]) {
    let published =
        dkim::Published::read(&[Txt(octets.into()), Txt(octets.into()), Txt(octets.into()), Txt(octets.into())]);
    assert!(published.records().count() <= DKIM_KEY_RECORDS_MAX);
    for key in published.records().flatten() {
        assert!(key.bits() >= 255, "{} bits", key.bits());
    }
}

/// A signature of arbitrary octets gets exactly one result, which is not pass, however the message is cut.
pub fn dkim_signature(octets: &[u8]) {
    let message = [b"DKIM-Signature: ", octets, b"\r\nFrom: <a@example.com>\r\n\r\nbody\r\n"].concat();
    let (verdict, _) = message_case(message).verify_every_way(&key_zone()).expect("the same in every way");
    assert!(verdict.dkim.len() <= DKIM_SIGNATURES_MAX);
    assert!(verdict.dkim.iter().all(|it| it.result != DkimResult::Pass), "{verdict:?}");
}

/// A chain of arbitrary octets never validates.
pub fn arc_chain(octets: &[u8]) {
    let message = [octets, b"\r\nFrom: <a@example.com>\r\n\r\nbody\r\n"].concat();
    let (verdict, _) = message_case(message).verify_every_way(&key_zone()).expect("the same in every way");
    assert_ne!(verdict.arc.result, ArcResult::Pass);
}

/// A record is read the same with blanks around it; what is said of it is bounded.
pub fn dmarc_record(octets: &[u8]) {
    let findings = dmarc::record::lint(octets);
    assert!(findings.len() <= octets.len() + 8);
    if dmarc::record::Record::read(octets).is_some() {
        let trailing = [octets, b" "].concat();
        assert!(dmarc::record::Record::read(&trailing).is_some(), "a blank at the end spoils the record");
    }
}

/// What was read can be written, and reads the same again.
pub fn authentication_results(octets: &[u8]) {
    let Ok(parsed) = authres::parse(octets) else { return };
    if !parsed.regular || !is_short(&parsed) {
        return;
    }
    let mut written = String::new();
    Writer::write(&mut written, &parsed, Layout::Folded);
    assert!(!written.replace("\r\n\t", " ").contains(|it: char| it.is_control()), "{written:?}");
    let again = authres::parse(written.as_bytes()).unwrap_or_else(|error| panic!("{written:?}: {error}"));
    assert_eq!(words(&again), words(&parsed), "{written:?}");
}

/// True when nothing is so long that the writer would leave it out or cut it.
fn is_short(results: &AuthenticationResults<'_>) -> bool {
    let words = |words: [&str; 2]| words.iter().all(|word| word.len() <= AUTHRES_KEYWORD_BYTES_MAX);
    let value = |value: &str| value.len() <= AUTHRES_VALUE_BYTES_MAX / 2;
    value(&results.authserv_id)
        && results.results.iter().all(|it| {
            let mut properties = it.properties.iter();
            words([&it.method, &it.result])
                && properties.all(|property| words([&property.ptype, &property.name]) && value(&property.value))
        })
}

/// What a reader acts on, comments left out. Control characters are not written; a tab becomes a space.
fn words(results: &AuthenticationResults<'_>) -> Vec<String> {
    let plain = |text: String| -> String {
        text.replace('\t', " ").chars().filter(|character| !character.is_control()).collect()
    };
    let of_one = |it: &authres::Resinfo<'_>| {
        let properties =
            it.properties.iter().map(|property| format!("{}.{}={}", property.ptype, property.name, property.value));
        format!("{}={} {}", it.method, it.result, properties.collect::<Vec<_>>().join("; "))
    };
    let id = results.authserv_id.to_string();
    std::iter::once(id).chain(results.results.iter().map(of_one)).map(plain).collect()
}

/// Arbitrary octets are an answer of one kind or another; records are never empty.
pub fn dns_answer(octets: &[u8]) {
    let name = Name::parse("example.com").expect("a name");
    for kind in [RecordType::A, RecordType::Aaaa, RecordType::Mx, RecordType::Ptr, RecordType::Txt] {
        let Reply::Answer(answer) = wire::read_reply(octets, &Question::new(name, kind), None, false) else { continue };
        if let Outcome::Records(records) = answer.outcome() {
            let count = match records {
                RecordSet::A(it) => it.len(),
                RecordSet::Aaaa(it) => it.len(),
                RecordSet::Mx(it) => it.len(),
                RecordSet::Ptr(it) => it.len(),
                RecordSet::Txt(it) => it.len(),
                _ => 0,
            };
            assert!(count > 0 && answer.weight_bytes() < 64 * octets.len() + 1024);
        }
    }
}

/// Whatever a mail server sends, in pieces of any size: whole replies come back, the same for every cut where answers are
/// at hand, and a connection that ends before its time leaves one line in the log. The first octet is the size of the
/// pieces.
pub fn milter_frames(octets: &[u8]) {
    static AT_HAND: OnceLock<(Arc<Service>, Engine)> = OnceLock::new();
    static OFFLINE: OnceLock<(Arc<Service>, Engine)> = OnceLock::new();
    let Some((&step, octets)) = octets.split_first() else { return };
    let chunk = usize::from(step) + 1;
    let at_hand = AT_HAND.get_or_init(|| milter_service(Engine::builder().zone(key_zone())));
    let whole = milter_replies(at_hand, octets, octets.len().max(1));
    assert_eq!(milter_replies(at_hand, octets, chunk), whole, "in pieces of {chunk}");
    let offline = OFFLINE.get_or_init(|| milter_service(Engine::builder().offline()));
    for replies in [whole.0, milter_replies(offline, octets, chunk).0] {
        let mut rest = replies.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            assert!(length > 0);
            rest = after.get(length..).expect("a whole reply");
        }
        assert!(rest.is_empty(), "half a length");
    }
}

fn milter_service(engine: EngineBuilder) -> (Arc<Service>, Engine) {
    let config = "authserv-id = 'mx.example.net'\n[headers]\nreceived-spf = true\nexplain = true\n\
                  [policy]\nmode = 'enforce'\nrules.spf-fail = 'reject'";
    let config = Config::parse(config, Path::new("fuzz.toml")).expect("a configuration");
    let engine = engine.options(config.options("mx.example.net")).fixed_time(Timestamp::from_seconds(1));
    let signer = Signer::load(&config.signing).expect("no keys");
    let engine = engine.build().expect("an engine");
    let service = Service::new(&config, "mx.example.net", signer, Arc::default(), Arc::new(ErrorCount));
    (Arc::new(service), engine)
}

/// What comes back, and whether the connection ends; a question that is asked fails, after the piece that it came from.
fn milter_replies((service, engine): &(Arc<Service>, Engine), octets: &[u8], chunk: usize) -> (Vec<u8>, bool) {
    ERRORS.with(|errors| errors.store(0, Ordering::Relaxed));
    let mut conversation = MilterConversation::new(Arc::clone(service), engine.clone());
    let mut requests = Requests::default();
    let now = Timestamp::from_seconds(1);
    for piece in octets.chunks(chunk) {
        conversation.received(piece, &mut Host::new(now, &mut requests));
        loop {
            let questions: Vec<Question> = requests.drain_questions().collect();
            if questions.is_empty() || requests.closes() {
                break;
            }
            for question in questions {
                let answer = Answer::failed(Failure::TimedOut);
                conversation.answered(&question, &answer, &mut Host::new(now, &mut requests));
            }
        }
        if requests.closes() {
            break;
        }
    }
    conversation.closed();
    let errors = ERRORS.with(|errors| errors.load(Ordering::Relaxed));
    assert!(errors <= usize::from(requests.closes()), "{errors} errors");
    (requests.take_output(), requests.closes())
}

thread_local! {
    static ERRORS: AtomicUsize = const { AtomicUsize::new(0) };
}

/// Counts the lines that tell of errors; each has its place on the thread that ran into it.
struct ErrorCount;

impl Sink for ErrorCount {
    fn write_line(&self, line: &str) {
        assert!(!line.contains(|it: char| it.is_control()), "{line:?}");
        assert!(!line.starts_with("event=internal-error"), "{line}");
        if line.starts_with("event=protocol-error") {
            ERRORS.with(|errors| errors.fetch_add(1, Ordering::Relaxed));
        }
    }
}

fn message_case(message: Vec<u8>) -> Case {
    let options = Options { authserv_id: "mx.example.net".to_owned(), ..Options::default() };
    Case { options, envelope: Envelope::default(), message, now: Timestamp::from_seconds(1_795_392_000) }
}

/// A key that anybody may look up; nobody here has its private half.
fn key_zone() -> Zone {
    let key = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    Zone::from_value(&json!({"s._domainkey.example.com": [{"TXT": key}]})).expect("a zone")
}

//! The cache as text: what a start finds again, and what a damaged or hostile dump can do.

use std::io::{self, Cursor, Read};
use std::time::Duration;

use mailproof::Engine;
use mailproof::cache::dump::{DUMP_BYTES_PER_CACHE_BYTE, LINE_BYTES_MAX, LoadError, Loaded};
use mailproof::cache::{Cache, CacheOptions};
use mailproof_proto::dns::{Answer, Failure, Mx, Name, Outcome, Question, RecordSet, RecordType, Txt};
use mailproof_proto::time::Timestamp;
use proptest::prelude::*;

const START: Timestamp = Timestamp::from_seconds(1_795_392_000);
const HEADER: &str = "mailproof-cache 1\n";

fn after(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

fn question(name: &str, kind: RecordType) -> Question {
    Question::new(Name::parse(name).unwrap(), kind)
}

fn dump(cache: &Cache, now: Timestamp) -> Vec<u8> {
    let mut text = Vec::new();
    cache.dump(now, &mut text).unwrap();
    text
}

fn load(text: impl AsRef<[u8]>, now: Timestamp) -> (Cache, Loaded) {
    let cache = Cache::default();
    let loaded = cache.load(&mut text.as_ref(), now, true).unwrap();
    (cache, loaded)
}

/// The entries of a dump, in order.
fn lines(dump: &[u8]) -> Vec<&str> {
    let mut lines: Vec<&str> = std::str::from_utf8(dump).unwrap().lines().skip(2).collect();
    lines.sort_unstable();
    lines
}

fn txt(texts: &[&[u8]]) -> Outcome {
    Outcome::Records(RecordSet::Txt(texts.iter().map(|&text| Txt(text.into())).collect()))
}

#[test]
fn a_person_can_read_it() {
    let cache = Cache::default();
    let mx = |preference, host: Option<&str>| Mx { preference, exchange: host.map(|it| Name::parse(it).unwrap()) };
    let addresses = RecordSet::A(["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()].into());
    let entries = [
        ("Example.org", RecordType::Txt, Answer::new(txt(&[b"v=spf1 -all", b"q\"\\\xff"]), Some(300))),
        ("example.org", RecordType::A, Answer::with_authenticity(Outcome::Records(addresses), Some(60), Some(false))),
        (
            "example.org",
            RecordType::Mx,
            Answer::with_authenticity(
                Outcome::Records(RecordSet::Mx([mx(10, Some("mx.example.org")), mx(20, None)].into())),
                Some(60),
                Some(true),
            ),
        ),
        ("a b.org", RecordType::Aaaa, Answer::new(Outcome::NoData, Some(60))),
        ("gone.org", RecordType::Txt, Answer::new(Outcome::NxDomain, Some(60))),
        (
            "alias.org",
            RecordType::Txt,
            Answer::denied_alias(Name::parse("nobody.example.org").unwrap(), Some(60), None),
        ),
        ("failed.org", RecordType::Txt, Answer::failed(Failure::TimedOut)),
        ("short.org", RecordType::Txt, Answer::new(txt(&[b"x"]), Some(1))),
    ];
    for (name, kind, answer) in entries {
        cache.insert(&question(name, kind), &answer, START + Duration::from_millis(250));
    }
    let dumped = dump(&cache, after(2));
    let expected = [
        "a\\032b.org. AAAA 1795392060.250 60 - nodata",
        "alias.org. TXT 1795392060.250 60 - nxdomain nobody.example.org.",
        "example.org. A 1795392060.250 60 no-ad records 192.0.2.1 | 192.0.2.2",
        "example.org. MX 1795392060.250 60 ad records 10 mx.example.org. | 20 .",
        r#"example.org. TXT 1795392300.250 300 - records "v=spf1 -all" | "q\034\092\255""#,
        "gone.org. * 1795392060.250 60 - nxdomain",
    ];
    assert_eq!(lines(&dumped), expected);
}

#[test]
fn what_has_expired_meanwhile_is_left_out_and_times_are_bounded() {
    let text = format!(
        "{HEADER}; by hand\n\na.example. A 1795392010 60 - records 192.0.2.1\nb.example. A 1795392011 60 - records 192.0.2.1\n\
         c.example. A 9999999999 60 - records 192.0.2.1\nd.example. A 9999999999 4000000000 - nodata\n\
         e.example. A 9999999999 0 - records 192.0.2.1\n"
    );
    let (cache, loaded) = load(text, after(10));
    assert_eq!(loaded, Loaded { kept: 3, expired: 2, ..Loaded::default() });
    let end = |name| cache.find(&question(name, RecordType::A), after(10)).map(|hit| hit.expires);
    assert_eq!(end("a.example"), None);
    assert_eq!(end("b.example"), Some(after(11)));
    assert_eq!(end("c.example"), Some(after(70)), "no longer than its time to live");
    assert_eq!(end("d.example"), Some(after(10 + 3 * 60 * 60)), "no longer than an absence is kept");
}

#[test]
fn what_the_cache_knows_is_newer() {
    let cache = Cache::default();
    let (records, gone) = (question("a.example", RecordType::Txt), question("b.example", RecordType::Txt));
    cache.insert(&records, &Answer::new(txt(&[b"new"]), Some(60)), START);
    cache.insert(&gone, &Answer::new(Outcome::NxDomain, Some(60)), START);
    let text = format!(
        "{HEADER}a.example. TXT 1795392050 60 - records \"old\"\nb.example. TXT 1795392050 60 - records \"old\"\n"
    );
    let loaded = cache.load(&mut text.as_bytes(), START, true).unwrap();
    assert_eq!(loaded, Loaded { known: 2, ..Loaded::default() });
    assert_eq!(cache.get(&records, START).unwrap().outcome(), &txt(&[b"new"]));
    assert_eq!(cache.get(&gone, START).unwrap().outcome(), &Outcome::NxDomain);
}

#[test]
fn bad_lines_are_passed_over_and_counted() {
    let bad = [
        "a.example. A 1795392060 60 - records",
        "a.example. A 1795392060 60 - records 192.0.2.1 |",
        "a.example. A 1795392060 60 - records 192.0.2.1  | 192.0.2.2",
        "a.example. A 1795392060 60 - records 192.0.2.1 192.0.2.2",
        "a.example. A 1795392060 60 - records 2001:db8::1",
        "a.example A 1795392060 60 - nodata",
        "a..example. A 1795392060 60 - nodata",
        ".. A 1795392060 60 - nodata",
        "a.example. CNAME 1795392060 60 - nodata",
        "a.example. A 1795392060.1234 60 - nodata",
        "a.example. A 1795392060. 60 - nodata",
        "a.example. A +1795392060 60 - nodata",
        "a.example. A 1795392060 -1 - nodata",
        "a.example. A 1795392060 60 maybe nodata",
        "a.example. A 1795392060 60 - failed",
        "a.example. A 1795392060 60 - nodata more",
        "a.example. A 1795392060 60 - nxdomain",
        "a.example. * 1795392060 60 - nodata",
        "a.example. * 1795392060 60 - nxdomain b.example.",
        "a.example. TXT 1795392060 60 - records \"open",
        "a.example. TXT 1795392060 60 - records \"a\"\"b\"",
        "a.example. TXT 1795392060 60 - records bare",
        "a.example. TXT 1795392060 60 - records \"\\256\"",
        "a.example. TXT 1795392060 60 - records \"\\12\"",
        "a\\2.example. A 1795392060 60 - nodata",
    ];
    for line in bad {
        let (_, loaded) = load(format!("{HEADER}{line}\nb.example. A 1795392060 60 - nodata\n"), START);
        assert_eq!(loaded, Loaded { kept: 1, bad: 1, ..Loaded::default() }, "{line}");
    }
    // A torn last line may be the beginning of another address.
    let (_, loaded) = load(format!("{HEADER}a.example. A 1795392060 60 - records 192.0.2.1"), START);
    assert_eq!(loaded, Loaded { bad: 1, ..Loaded::default() });
}

#[test]
fn it_is_a_dump_of_this_version_or_nothing() {
    let cache = Cache::default();
    let load = |text: &str| cache.load(&mut text.as_bytes(), START, true);
    assert!(load("mailproof-cache 1\n").is_ok());
    assert!(matches!(load("mailproof-cache 2\n"), Err(LoadError::OtherVersion)));
    for text in ["", "mailproof-cache 1", "mailproof-cache\n", "a.example. A 1795392060 60 - nodata\n"] {
        assert!(matches!(load(text), Err(LoadError::NoDump)), "{text}");
    }
    let mut failing = Cursor::new(HEADER).chain(Failing);
    assert!(matches!(cache.load(&mut failing, START, true), Err(LoadError::Io(_))));
}

/// A reader that fails.
struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Other.into())
    }
}

#[test]
fn lines_and_dumps_have_a_length() {
    let line = |length: usize| format!("a.example. A 1795392060 60 - {}nodata\n", " ".repeat(length - 36));
    // Neither is an entry, for its spaces; only the second is not even looked at, and the next line is found again.
    for length in [LINE_BYTES_MAX, LINE_BYTES_MAX + 1, 3 * LINE_BYTES_MAX] {
        let (_, loaded) = load(format!("{HEADER}{}b.example. A 1795392060 60 - nodata\n", line(length)), START);
        assert_eq!(loaded, Loaded { kept: 1, bad: 1, ..Loaded::default() }, "{length}");
    }
    let comment = |length: usize| format!(";{}\n", "x".repeat(length - 2));
    for (length, bad) in [(LINE_BYTES_MAX, 0), (LINE_BYTES_MAX + 1, 1)] {
        assert_eq!(load(format!("{HEADER}{}", comment(length)), START).1.bad, bad);
    }
    let bytes_max = 1000;
    let room = (bytes_max * DUMP_BYTES_PER_CACHE_BYTE) as usize - HEADER.len();
    for (length, is_cut) in [(room, false), (room + 1, true), (room * 2, true)] {
        let cache = Cache::new(CacheOptions { bytes_max, ..Default::default() });
        let text = format!("{HEADER}{}", comment(length));
        let loaded = cache.load(&mut text.as_bytes(), START, true).unwrap();
        assert_eq!(loaded, Loaded { is_cut, ..Loaded::default() }, "{length}");
    }
    // An answer as large as the DNS can carry comes back whole.
    let cache = Cache::default();
    let (large, asked) = (Answer::new(txt(&[&[0xff; 65_000]]), Some(60)), question("a.example", RecordType::Txt));
    cache.insert(&asked, &large, START);
    assert_eq!(load(dump(&cache, START), START).0.get(&asked, START).unwrap().outcome(), large.outcome());
}

#[test]
fn an_engine_starts_warm_and_forgets_a_name_on_demand() {
    let engine = |at| Engine::builder().offline().fixed_time(at).build().unwrap();
    let before = engine(START);
    let (spf, mx) = (question("example.org", RecordType::Txt), question("example.org", RecordType::Mx));
    let other = question("www.example.org", RecordType::Txt);
    for question in [&spf, &mx, &other] {
        before.remember(question, &Answer::with_authenticity(Outcome::NoData, Some(60), Some(true)));
    }
    let mut text = Vec::new();
    assert_eq!(before.dump_cache(&mut text).unwrap(), 3);
    let engine = engine(after(59));
    assert_eq!(engine.load_cache(&mut text.as_slice()).unwrap().kept, 3);
    let answer = engine.ask(&spf);
    assert_eq!((answer.outcome(), answer.authentic()), (&Outcome::NoData, Some(true)));
    assert_eq!(engine.purge(&spf.name), 2);
    for question in [&spf, &mx] {
        assert_eq!(engine.ask(question).outcome(), &Outcome::Failed(Failure::Unreachable), "{question}");
    }
    assert_eq!(engine.ask(&other).outcome(), &Outcome::NoData);
    // The absence of a name is of the name, whatever type was asked for.
    engine.remember(&spf, &Answer::new(Outcome::NxDomain, Some(60)));
    assert_eq!(engine.purge(&spf.name), 1);
    assert_eq!(engine.purge(&spf.name), 0);
}

#[test]
fn ad_bits_count_only_where_they_are_trusted() {
    let cache = Cache::default();
    let text = format!("{HEADER}a.example. A 1795392060 60 ad nodata\n");
    cache.load(&mut text.as_bytes(), START, false).unwrap();
    assert_eq!(cache.get(&question("a.example", RecordType::A), START).unwrap().authentic(), None);
}

fn any_name() -> impl Strategy<Value = Name> {
    let label = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..12),
        prop::collection::vec(any::<u8>(), 63..64),
        "[a-z]{1,3}".prop_map(String::into_bytes),
        prop::sample::select(vec![&b"."[..], b"\\", b"\"", b"|", b" ", b"\n", b"@", b";", b"*"])
            .prop_map(<[u8]>::to_vec),
    ];
    prop::collection::vec(label, 1..4)
        .prop_filter_map("too long", |labels| Name::from_labels(labels.iter().map(Vec::as_slice)).ok())
}

fn set<T: Ord + Clone + std::fmt::Debug>(record: impl Strategy<Value = T>) -> impl Strategy<Value = Box<[T]>> {
    prop::collection::btree_set(record, 1..4).prop_map(|records| records.into_iter().collect())
}

fn any_records() -> impl Strategy<Value = (RecordType, RecordSet)> {
    let text = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 250..260),
        prop::collection::vec(any::<u8>(), 510..512),
    ];
    let mx = (any::<u16>(), prop::option::of(any_name()));
    prop_oneof![
        set(any::<std::net::Ipv4Addr>()).prop_map(|it| (RecordType::A, RecordSet::A(it))),
        set(any::<std::net::Ipv6Addr>()).prop_map(|it| (RecordType::Aaaa, RecordSet::Aaaa(it))),
        set(mx.prop_map(|(preference, exchange)| Mx { preference, exchange }))
            .prop_map(|it| (RecordType::Mx, RecordSet::Mx(it))),
        set(any_name()).prop_map(|it| (RecordType::Ptr, RecordSet::Ptr(it))),
        set(text.prop_map(|text| Txt(text.into()))).prop_map(|it| (RecordType::Txt, RecordSet::Txt(it))),
    ]
}

fn any_entry() -> impl Strategy<Value = (Question, Answer)> {
    let ttl = prop_oneof![Just(None), (0..100_u32).prop_map(Some), any::<u32>().prop_map(Some)];
    let kind = prop::sample::select(RecordType::ALL.to_vec());
    let answer = prop_oneof![
        4 => any_records().prop_map(|(kind, records)| (kind, Outcome::Records(records))),
        1 => kind.clone().prop_map(|kind| (kind, Outcome::NoData)),
        1 => kind.clone().prop_map(|kind| (kind, Outcome::NxDomain)),
        1 => kind.prop_map(|kind| (kind, Outcome::Failed(Failure::ServFail))),
    ];
    let name = prop_oneof![any_name(), "[ab]".prop_map(|text| Name::parse(text).unwrap())];
    (name, answer, ttl, any::<Option<bool>>(), prop::option::weighted(0.3, any_name())).prop_map(
        |(name, (kind, outcome), ttl, authentic, target)| {
            let answer = match (outcome, target) {
                (Outcome::NxDomain, Some(target)) => Answer::denied_alias(target, ttl, authentic),
                (Outcome::Failed(failure), _) => Answer::failed(failure),
                (outcome, _) => Answer::with_authenticity(outcome, ttl, authentic),
            };
            (Question::new(name, kind), answer)
        },
    )
}

/// What a cache says to a question, with the end of its time.
fn said(cache: &Cache, question: &Question, now: Timestamp) -> impl PartialEq + std::fmt::Debug + use<> {
    cache.find(question, now).map(|hit| {
        let answer = hit.answer;
        let denied = answer.denied_name().copied();
        (answer.outcome().clone(), answer.ttl_seconds(), answer.authentic(), denied, hit.expires, hit.is_ageing)
    })
}

proptest! {
    #[test]
    fn a_loaded_cache_says_what_the_dumped_one_said(
        entries in prop::collection::vec((any_entry(), 0..50_000_u64), 1..20),
        passed_ms in 0..200_000_u64,
    ) {
        let cache = Cache::default();
        let mut now = START;
        for ((question, answer), later_ms) in &entries {
            now = now + Duration::from_millis(*later_ms);
            cache.insert(question, answer, now);
        }
        now = now + Duration::from_millis(passed_ms);
        let text = dump(&cache, now);
        let (loaded, figures) = load(&text, now);
        prop_assert_eq!(figures, Loaded { kept: lines(&text).len() as u64, ..Loaded::default() });
        for ((question, _), _) in &entries {
            for kind in RecordType::ALL {
                let question = Question::new(question.name, kind);
                if cache.get(&question, now).is_some_and(|answer| matches!(answer.outcome(), Outcome::Failed(_))) {
                    continue;
                }
                prop_assert_eq!(said(&loaded, &question, now), said(&cache, &question, now), "{}", question);
            }
        }
        let again = dump(&loaded, now);
        prop_assert_eq!(lines(&again), lines(&text));
    }

    /// Whatever was done to a dump, loading it ends, and what it holds can be dumped again.
    #[test]
    fn damage_is_bounded(
        entries in prop::collection::vec(any_entry(), 1..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let cache = Cache::default();
        for (question, answer) in &entries {
            cache.insert(question, answer, START);
        }
        let mut text = dump(&cache, START);
        for (at, octet) in damage {
            let length = text.len() - HEADER.len();
            text[HEADER.len() + at.index(length)] = octet;
        }
        text.extend(tail);
        let (loaded, _) = load(&text, START);
        let dumped = dump(&loaded, START);
        prop_assert_eq!(load(&dumped, START).1.kept, lines(&dumped).len() as u64);
    }
}

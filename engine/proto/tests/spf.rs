//! SPF seen from outside: limits on both sides, identities, choices, hostile records.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use mailproof_proto::dns::{
    Answer, AnswerSource, Answers, Failure, Mx, Name, Outcome, Question, RecordSet, RecordType, Transcript, Txt,
};
use mailproof_proto::limits::{SPF_EXPLANATION_BYTES_MAX, TXT_ANSWER_BYTES_MAX};
use mailproof_proto::spf::macros::{MacroString, Usage, Variables};
use mailproof_proto::spf::{
    Check, Identity, Published, ReceivedSpf, Record, SpfOptions, SpfOutcome, SpfResult, check_helo, check_mail_from,
};
use proptest::prelude::*;

/// Names with their records; what is not listed does not exist.
#[derive(Default)]
struct Zone(HashMap<(Name, RecordType), Outcome>);

impl Zone {
    fn with(mut self, name: &str, kind: RecordType, outcome: Outcome) -> Self {
        self.0.insert((Name::parse(name).unwrap(), kind), outcome);
        self
    }

    fn txt(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let texts = RecordSet::Txt(Box::from([Txt(text.as_ref().into())]));
        self.with(name, RecordType::Txt, Outcome::Records(texts))
    }

    fn a(self, name: &str, address: [u8; 4]) -> Self {
        let addresses = RecordSet::A(Box::from([Ipv4Addr::from(address)]));
        self.with(name, RecordType::A, Outcome::Records(addresses))
    }

    fn mx(self, name: &str, hosts: usize) -> Self {
        let host = |index| Mx { preference: 0, exchange: Name::parse(format!("mx{index}.example")).ok() };
        let exchanges = RecordSet::Mx((0..hosts).map(host).collect());
        self.with(name, RecordType::Mx, Outcome::Records(exchanges))
    }

    /// Reverse names of the client, `h0.example.com` and so on.
    fn ptr(self, hosts: usize) -> Self {
        let names = (0..hosts).map(|index| Name::parse(format!("h{index}.example.com")).unwrap()).collect();
        self.with("1.2.0.192.in-addr.arpa", RecordType::Ptr, Outcome::Records(RecordSet::Ptr(names)))
    }
}

impl AnswerSource for &Zone {
    fn answer(&mut self, question: &Question) -> Option<Answer> {
        let outcome = self.0.get(&(question.name, question.kind)).cloned().unwrap_or(Outcome::NxDomain);
        Some(Answer::new(outcome, Some(300)))
    }
}

const CHECK: Check<'_> = Check {
    ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    helo: "mx.example.net",
    mail_from: "user@example.com",
    receiver: "receiver.example",
    now_seconds: 0,
};

/// The outcome and the questions it took.
fn evaluate(zone: &Zone, check: &Check<'_>, options: &SpfOptions) -> (SpfOutcome, Vec<String>) {
    let mut transcript = Transcript::new();
    let mut source = zone;
    let outcome = check_mail_from(check, options, &mut Answers::new(&mut transcript, &mut source)).unwrap();
    (outcome, transcript.iter().map(|(question, _)| question.to_string()).collect())
}

/// The result and the word of the problem.
fn result(zone: &Zone) -> (SpfResult, Option<&'static str>) {
    let (outcome, _) = evaluate(zone, &CHECK, &SpfOptions::default());
    (outcome.result, outcome.problem.map(|problem| problem.word()))
}

#[test]
fn the_tenth_querying_term_counts_and_the_eleventh_is_permerror() {
    let zone = |record: String| Zone::default().txt("example.com", record).a("h.example.com", [192, 0, 2, 9]);
    let terms = |count| " a:h.example.com".repeat(count);
    assert_eq!(result(&zone(format!("v=spf1{} -all", terms(10)))), (SpfResult::Fail, None));
    let over = zone(format!("v=spf1{} -all", terms(11)));
    assert_eq!(result(&over), (SpfResult::PermError, Some("too-many-lookups")));
    // A match before the eleventh is a match.
    assert_eq!(result(&zone(format!("v=spf1{} ip4:192.0.2.1{}", terms(10), terms(9)))), (SpfResult::Pass, None));
}

#[test]
fn include_chains_share_one_counter() {
    let chain = |depth: usize| {
        let mut zone = Zone::default().txt("example.com", "v=spf1 include:c1.example -all");
        for n in 1..depth {
            zone = zone.txt(&format!("c{n}.example"), format!("v=spf1 include:c{}.example -all", n + 1));
        }
        zone.txt(&format!("c{depth}.example"), "v=spf1 ip4:192.0.2.1 -all")
    };
    assert_eq!(result(&chain(10)), (SpfResult::Pass, None));
    assert_eq!(result(&chain(11)), (SpfResult::PermError, Some("too-many-lookups")));
    let (outcome, _) = evaluate(&chain(10), &CHECK, &SpfOptions::default());
    assert_eq!((outcome.lookup_count, outcome.mechanism.unwrap().as_str()), (10, "include:c1.example"));
}

#[test]
fn the_third_void_lookup_is_permerror_unless_set_otherwise() {
    let zone = |count: usize| {
        let terms: String = (0..count).map(|n| format!(" exists:e{n}.example")).collect();
        Zone::default().txt("example.com", format!("v=spf1{terms} -all"))
    };
    assert_eq!(result(&zone(2)), (SpfResult::Fail, None));
    assert_eq!(result(&zone(3)), (SpfResult::PermError, Some("too-many-void-lookups")));
    let options = SpfOptions { void_lookups_max: 5, ..SpfOptions::default() };
    assert_eq!(evaluate(&zone(5), &CHECK, &options).0.result, SpfResult::Fail);
    assert_eq!(evaluate(&zone(6), &CHECK, &options).0.result, SpfResult::PermError);
}

#[test]
fn addresses_of_exchanges_and_reverse_names_are_void_lookups_when_asked_for() {
    let exchanges = Zone::default().txt("example.com", "v=spf1 mx -all").mx("example.com", 3);
    let names = Zone::default().txt("example.com", "v=spf1 ptr -all").ptr(3);
    let options = SpfOptions { count_nested_voids: true, ..SpfOptions::default() };
    for zone in [exchanges, names] {
        assert_eq!(result(&zone), (SpfResult::Fail, None));
        assert_eq!(evaluate(&zone, &CHECK, &options).0.result, SpfResult::PermError);
    }
}

#[test]
fn ten_exchanges_are_looked_up_and_an_eleventh_is_permerror() {
    let zone = |count| Zone::default().txt("example.com", "v=spf1 mx -all").mx("example.com", count);
    assert_eq!(result(&zone(10)), (SpfResult::Fail, None));
    assert_eq!(result(&zone(11)), (SpfResult::PermError, Some("too-many-mx-hosts")));
    assert_eq!(result(&zone(11).a("mx9.example", [192, 0, 2, 1])), (SpfResult::Pass, None));
    let late = zone(11).a("mx10.example", [192, 0, 2, 1]);
    assert_eq!(result(&late), (SpfResult::PermError, Some("too-many-mx-hosts")));
}

#[test]
fn ten_reverse_names_are_looked_at_and_the_rest_ignored() {
    let zone = |ours| Zone::default().txt("example.com", "v=spf1 ptr -all").ptr(1000).a(ours, [192, 0, 2, 1]);
    assert_eq!(result(&zone("h9.example.com")), (SpfResult::Pass, None));
    assert_eq!(result(&zone("h10.example.com")), (SpfResult::Fail, None));
}

#[test]
fn every_exchange_is_asked_for_before_waiting() {
    struct NoAddresses<'z>(&'z Zone);
    impl AnswerSource for NoAddresses<'_> {
        fn answer(&mut self, question: &Question) -> Option<Answer> {
            if question.kind == RecordType::A { None } else { self.0.answer(question) }
        }
    }
    let zone = Zone::default().txt("example.com", "v=spf1 mx -all").mx("example.com", 4);
    let mut transcript = Transcript::new();
    let mut source = NoAddresses(&zone);
    let outcome = check_mail_from(&CHECK, &SpfOptions::default(), &mut Answers::new(&mut transcript, &mut source));
    assert_eq!((outcome, transcript.question_count()), (None, 6));
}

#[test]
fn dns_errors_are_temporary_and_named() {
    let zone = Zone::default().with("example.com", RecordType::Txt, Outcome::Failed(Failure::TimedOut));
    assert_eq!(result(&zone), (SpfResult::TempError, Some("dns-timeout")));
    let zone = Zone::default().txt("example.com", "v=spf1 a:b.example.com +all");
    let zone = zone.with("b.example.com", RecordType::A, Outcome::Failed(Failure::ServFail));
    assert_eq!(result(&zone), (SpfResult::TempError, Some("dns-servfail")));
}

#[test]
fn what_is_no_domain_is_none_without_a_question() {
    let zone = Zone::default();
    let long = format!("u@{}.example.com", "ü".repeat(60_000));
    for mail_from in [
        "u@[192.0.2.1]",
        "u@localhost",
        "u@a..example",
        "u@192.0.2.1",
        "u@a(b.example",
        "u@",
        "@",
        "u@x y.example",
        &long,
    ] {
        let (outcome, questions) = evaluate(&zone, &Check { mail_from, ..CHECK }, &SpfOptions::default());
        assert_eq!((outcome.result, outcome.domain, questions.len()), (SpfResult::None, None, 0), "{mail_from}");
    }
}

#[test]
fn identities_are_postmaster_where_a_local_part_is_missing() {
    let zone = Zone::default()
        .txt("mx.example.net", "v=spf1 exists:%{l}.%{o}.%{d}.list.example -all")
        .a("postmaster.mx.example.net.mx.example.net.list.example", [127, 0, 0, 2]);
    let mut source = &zone;
    let mut transcript = Transcript::new();
    let helo = check_helo(&CHECK, &SpfOptions::default(), &mut Answers::new(&mut transcript, &mut source)).unwrap();
    let (null_sender, _) = evaluate(&zone, &Check { mail_from: "", ..CHECK }, &SpfOptions::default());
    assert_eq!(helo.result, SpfResult::Pass);
    assert_eq!(helo, null_sender);
}

#[test]
fn a_local_part_that_is_not_ascii_matches_nothing_unless_set_otherwise() {
    let record = "v=spf1 exists:%{l}.%{o}.x.example exists:%{L}.y.example -all";
    let zone = Zone::default().txt("xn--bcher-kva.example", record);
    let check = Check { mail_from: "ü@Bücher.example", ..CHECK };
    let (outcome, questions) = evaluate(&zone, &check, &SpfOptions::default());
    assert_eq!((outcome.result, questions.len()), (SpfResult::Fail, 1));
    let options = SpfOptions { utf8_local_part: true, ..SpfOptions::default() };
    let (_, questions) = evaluate(&zone, &check, &options);
    let raw = "\\195\\188.xn--bcher-kva.example.x.example A";
    assert_eq!(questions[1..], [raw.to_owned(), "%c3%bc.y.example A".to_owned()]);
}

#[test]
fn an_unusable_target_does_not_match_unless_set_otherwise() {
    let zone = Zone::default().txt("example.com", format!("v=spf1 a:{}.example.com ?all", "a".repeat(64)));
    assert_eq!(result(&zone), (SpfResult::Neutral, None));
    let options = SpfOptions { unusable_target_is_permerror: true, ..SpfOptions::default() };
    assert_eq!(evaluate(&zone, &CHECK, &options).0.problem.unwrap().word(), "unusable-target");
    let include = Zone::default().txt("example.com", "v=spf1 include:a..example.com ?all");
    assert_eq!(result(&include), (SpfResult::PermError, Some("include-none")));
}

#[test]
fn explanations_are_cut_cleaned_and_optional() {
    let zone =
        |text: &str| Zone::default().txt("example.com", "v=spf1 -all exp=e.example.com").txt("e.example.com", text);
    let explanation =
        |zone: &Zone, helo: &str| evaluate(zone, &Check { helo, ..CHECK }, &SpfOptions::default()).0.explanation;
    let full = "x".repeat(SPF_EXPLANATION_BYTES_MAX);
    assert_eq!(explanation(&zone(&full), ""), Some(full.clone()));
    assert_eq!(explanation(&zone(&format!("{full}y")), ""), Some(full));
    assert_eq!(explanation(&zone("you are %{h}."), "a\r\nb\0c"), Some("you are abc.".to_owned()));
    assert_eq!(explanation(&zone("a\tb"), ""), None);
    assert_eq!(explanation(&zone("%{h}"), "é é"), None);
    let silent = SpfOptions { fetch_explanation: false, ..SpfOptions::default() };
    assert_eq!(evaluate(&zone("text"), &CHECK, &silent).1.len(), 1);
}

#[test]
fn a_record_as_long_as_an_answer_may_be_is_read_and_a_longer_one_refused() {
    let zone = |len: usize| Zone::default().txt("example.com", format!("v=spf1 -all{}", " ".repeat(len - 11)));
    assert_eq!(result(&zone(TXT_ANSWER_BYTES_MAX)), (SpfResult::Fail, None));
    assert_eq!(result(&zone(TXT_ANSWER_BYTES_MAX + 1)), (SpfResult::PermError, Some("syntax-error")));
}

/// Far above what any of these costs on a busy machine, far below what a loop over a product would.
const PATIENCE: Duration = Duration::from_millis(500);

#[test]
fn hostile_records_cost_little() {
    let dashes = format!("{}@example.com", "a-".repeat(30_000));
    let percents = format!("{}@example.com", "%".repeat(60_000));
    let terms = |unit: &str| format!("v=spf1 {}", unit.repeat((TXT_ANSWER_BYTES_MAX - 7) / unit.len()));
    let target = |unit: &str| format!("v=spf1 exists:{}.x.example -all", unit.repeat(60_000 / unit.len()));
    let cases = [
        (terms("a "), 2),
        (terms("exists:%{p} "), 14),
        (terms("ip6:::/1 "), 1),
        (terms("a=% "), 1),
        (terms("%"), 1),
        (terms("a:%{d127r.-+,/_=}.x "), 5),
        (target("%{S}"), 2),
        (target("%{s1r-}"), 2),
        (target("%{l}%{h}%{h}%{h}"), 2),
        (target("%{p}"), 14),
        (target("%{h}"), 2),
        (target("%%"), 2),
        (target("."), 2),
    ];
    for (record, questions_max) in cases {
        for mail_from in [&dashes, &percents] {
            let zone = Zone::default().txt("example.com", &record).ptr(2000);
            let start = Instant::now();
            let (_, questions) = evaluate(&zone, &Check { mail_from, helo: "", ..CHECK }, &SpfOptions::default());
            let (took, shown) = (start.elapsed(), &record[..40.min(record.len())]);
            println!("{took:?} {shown}");
            assert!(took < PATIENCE, "{shown}: {took:?}");
            assert!(questions.len() <= questions_max, "{shown}: {} questions", questions.len());
        }
    }
}

#[test]
fn received_spf_is_written_without_controls_and_read_again() {
    let zone = Zone::default().txt("example.com", "v=spf1 -all");
    let check = Check { mail_from: "\"a\r\nX: y\\\"(\"@example.com", helo: "a\u{85}b)c\\", ..CHECK };
    let (outcome, _) = evaluate(&zone, &check, &SpfOptions::default());
    let text = ReceivedSpf::new(Identity::MailFrom, &check, &outcome).to_string();
    assert!(text.replace("\r\n\t", "").chars().all(|it| !it.is_control()), "{text:?}");
    let read = ReceivedSpf::parse(&text).unwrap();
    assert_eq!(read.result, SpfResult::Fail);
    assert_eq!(read.value("envelope-from"), Some("\"aX: y\\\"(\"@example.com"));
    assert_eq!(read.value("helo"), Some("ab)c\\"));
    assert_eq!(read.value("mechanism"), Some("-all"));
    assert_eq!(read.value("client-ip"), Some("192.0.2.1"));
}

#[test]
fn received_spf_keeps_its_bounds() {
    let pairs = |count: usize| (0..count).fold("pass".to_owned(), |text, n| format!("{text} k{n}=v;"));
    assert_eq!(ReceivedSpf::parse(&pairs(31)).unwrap().pairs.len(), 31);
    assert_eq!(ReceivedSpf::parse(&pairs(33)).unwrap().pairs.len(), ReceivedSpf::PAIRS_MAX);
    assert!(ReceivedSpf::parse(&format!("pass {}", "(".repeat(65_536 - 5))).is_ok());
    assert!(ReceivedSpf::parse(&format!("pass {}", "(".repeat(65_536 - 4))).is_err());
    for bad in ["", "passed x=y", "(pass)", "x=y", "pass=x"] {
        assert!(ReceivedSpf::parse(bad).is_err(), "{bad}");
    }
}

/// Section 7.3 by the book: split, reverse, keep, join.
fn plain_transform(value: &str, parts: usize, reverse: bool, delimiters: &str) -> String {
    let delimiters = if delimiters.is_empty() { "." } else { delimiters };
    let mut list: Vec<&str> = value.split(|it| delimiters.contains(it)).collect();
    if reverse {
        list.reverse();
    }
    list[list.len().saturating_sub(if parts == 0 { usize::MAX } else { parts })..].join(".")
}

fn variables<'a>(helo: &'a str, domain: &'a Name) -> Variables<'a> {
    Variables {
        ip: CHECK.ip,
        local_part: "",
        sender_domain: "",
        domain,
        validated_name: None,
        helo,
        receiver: "",
        now_seconds: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_octets_are_read_and_evaluated(record in prop::collection::vec(any::<u8>(), 0..200), spf in any::<bool>()) {
        let text = if spf { [b"v=spf1 ".as_slice(), &record].concat() } else { record };
        let _ = Published::read(&[Txt(text.clone().into())]);
        let (outcome, _) = evaluate(&Zone::default().txt("example.com", &text), &CHECK, &SpfOptions::default());
        prop_assert!(outcome.result != SpfResult::TempError);
        if let Ok(record) = Record::parse(&text) {
            let terms: Vec<&str> = record.as_str().split(' ').filter(|term| !term.is_empty()).collect();
            prop_assert!(Record::parse(terms.join("  ").as_bytes()).is_ok());
        }
    }

    #[test]
    fn macros_transform_as_the_rfc_tells(
        value in "[a-c.+_-]{0,12}",
        parts in 0..5_usize,
        reverse in any::<bool>(),
        delimiters in "[.+_-]{0,2}",
    ) {
        let digits = if parts == 0 { String::new() } else { parts.to_string() };
        let text = format!("<%{{h{digits}{}{delimiters}}}>", if reverse { "r" } else { "" });
        let expected = format!("<{}>", plain_transform(&value, parts, reverse, &delimiters));
        let domain = Name::parse("example.com").unwrap();
        let variables = variables(&value, &domain);
        let parsed = MacroString::parse(text.as_bytes(), Usage::Explanation).unwrap();
        prop_assert_eq!(parsed.expand_explanation(&variables), Some(expected.clone()));
        let expanded = parsed.expand_domain(&variables);
        prop_assert_eq!(expanded.as_bytes(), expected.as_bytes());
    }

    #[test]
    fn long_domains_lose_labels_from_the_left(labels in prop::collection::vec("[a-z]{1,20}", 1..60)) {
        let whole = labels.join(".");
        let mut expected = whole.as_str();
        while expected.len() > 253 {
            expected = expected.split_once('.').map_or("", |(_, rest)| rest);
        }
        let domain = Name::parse("example.com").unwrap();
        let parsed = MacroString::parse(b"%{h}.", Usage::Modifier).unwrap();
        let expanded = parsed.expand_domain(&variables(&whole, &domain));
        prop_assert_eq!(expanded.as_bytes(), expected.as_bytes());
    }

    #[test]
    fn any_received_spf_is_read(text in ".{0,100}") {
        if let Ok(field) = ReceivedSpf::parse(&format!("pass {text}")) {
            let written = field.to_string();
            prop_assert!(written.replace("\r\n\t", "").chars().all(|it| !it.is_control()));
            prop_assert!(ReceivedSpf::parse(&written).is_ok());
        }
    }
}

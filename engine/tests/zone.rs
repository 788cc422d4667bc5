//! Zone files: what they answer, in each of their forms.

use std::fs;
use std::net::Ipv4Addr;

use mailproof::zone::{CountedZone, Zone, ZoneError};
use mailproof_proto::dns::{Answer, AnswerSource, Failure, Mx, Name, Outcome, Question, RecordSet, RecordType, Txt};
use proptest::prelude::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn ask(zone: &Zone, text: &str, kind: RecordType) -> Answer {
    zone.lookup(&Question::new(name(text), kind))
}

fn txt(zone: &Zone, text: &str) -> Outcome {
    ask(zone, text, RecordType::Txt).outcome().clone()
}

fn texts(list: &[&str]) -> Outcome {
    Outcome::Records(RecordSet::Txt(list.iter().map(|text| Txt(text.as_bytes().into())).collect()))
}

fn yaml(text: &str) -> Zone {
    Zone::from_yaml(text).unwrap()
}

#[test]
fn records_words_and_names() {
    let zone = yaml(
        "a.example:\n- A: 192.0.2.1\n- A: [192.0.2.2, 192.0.2.1]\n- AAAA: 2001:db8::1\n- MX: [20, m2.example]\n- MX: [[10, \
         m1.example], [0, '']]\n- TXT: [one, ' two']\n- TXT: three\n- ttl: 60\n  PTR: b.example\n\
         t.example: TIMEOUT\ns.example:\n- SERVFAIL\nd.example:\n- NODATA\nn.example:\n- NXDOMAIN\n\
         type.example:\n- A: TIMEOUT\n- TXT: here\n- TIMEOUT: true\n",
    );
    let a = ask(&zone, "A.Example.", RecordType::A);
    let addresses = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
    assert_eq!(*a.outcome(), Outcome::Records(RecordSet::A(addresses.into())));
    assert_eq!(a.ttl_seconds(), Some(300));
    let mx = |preference, host: Option<&str>| Mx { preference, exchange: host.map(name) };
    let exchanges = [mx(0, None), mx(10, Some("m1.example")), mx(20, Some("m2.example"))];
    let answer = ask(&zone, "a.example", RecordType::Mx);
    assert_eq!(*answer.outcome(), Outcome::Records(RecordSet::Mx(exchanges.into())));
    assert_eq!(txt(&zone, "a.example"), texts(&["one two", "three"]));
    assert_eq!(ask(&zone, "a.example", RecordType::Ptr).ttl_seconds(), Some(60));
    assert_eq!(txt(&zone, "t.example"), Outcome::Failed(Failure::TimedOut));
    assert_eq!(txt(&zone, "s.example"), Outcome::Failed(Failure::ServFail));
    assert_eq!(txt(&zone, "d.example"), Outcome::NoData);
    assert_eq!(txt(&zone, "n.example"), Outcome::NxDomain);
    assert_eq!(txt(&zone, "type.example"), texts(&["here"]));
    assert_eq!(*ask(&zone, "type.example", RecordType::Mx).outcome(), Outcome::Failed(Failure::TimedOut));
    assert_eq!(txt(&zone, "absent.example"), Outcome::NxDomain);
    assert_eq!((zone.len(), zone.is_empty()), (6, false));
}

#[test]
fn answers_and_what_is_derived_from_them_are_shared() {
    let zone = yaml("a.example:\n- TXT: v=spf1 -all\nc.example:\n- CNAME: a.example\n");
    let (first, second) = (ask(&zone, "a.example", RecordType::Txt), ask(&zone, "c.example", RecordType::Txt));
    assert!(std::ptr::eq(first.spf(), second.spf()));
}

#[test]
fn wildcards_and_empty_non_terminals() {
    let zone = yaml("'*.w.example':\n- TXT: wild\nx.y.w.example:\n- A: 192.0.2.1\ngone.w.example: NXDOMAIN\n");
    assert_eq!(txt(&zone, "a.w.example"), texts(&["wild"]));
    assert_eq!(txt(&zone, "a.b.w.example"), texts(&["wild"]));
    // RFC 4592 section 3.3: y.w.example exists, so the wildcard covers neither it nor what is below.
    assert_eq!(txt(&zone, "y.w.example"), Outcome::NoData);
    assert_eq!(txt(&zone, "z.y.w.example"), Outcome::NxDomain);
    assert_eq!(txt(&zone, "w.example"), Outcome::NoData);
    assert_eq!(txt(&zone, "gone.w.example"), Outcome::NxDomain);
    assert_eq!(txt(&zone, "example"), Outcome::NoData);
    // A name that is only denied makes nothing above it exist.
    assert_eq!(txt(&yaml("a.b.example: NXDOMAIN\n"), "b.example"), Outcome::NxDomain);
}

#[test]
fn aliases_are_followed_up_to_eight_links() {
    let chain = |links: usize| {
        let mut text: String = (0..links).map(|i| format!("c{i}.example:\n- CNAME: c{}.example\n", i + 1)).collect();
        text.push_str(&format!("c{links}.example:\n- TXT: end\n  ttl: 9\n"));
        yaml(&text)
    };
    let answer = ask(&chain(8), "c0.example", RecordType::Txt);
    assert_eq!((answer.outcome(), answer.ttl_seconds()), (&texts(&["end"]), Some(9)));
    assert_eq!(txt(&chain(9), "c0.example"), Outcome::Failed(Failure::OverLimit));
    let zone = yaml(
        "l1.example:\n- CNAME: l2.example\nl2.example:\n- CNAME: l1.example\nd.example:\n- CNAME: absent.example\n\
         short.example:\n- CNAME: long.example\n  ttl: 5\nlong.example:\n- TXT: it\n- A: 192.0.2.1\n",
    );
    assert_eq!(txt(&zone, "l1.example"), Outcome::NoData);
    let denied = ask(&zone, "d.example", RecordType::Txt);
    assert_eq!((denied.outcome(), denied.denied_name()), (&Outcome::NxDomain, Some(&name("absent.example"))));
    assert_eq!(ask(&zone, "short.example", RecordType::Txt).ttl_seconds(), Some(5));
}

#[test]
fn the_spf_type_stands_for_txt_where_there_is_none() {
    let zone = yaml(
        "only.example:\n- SPF: v=spf1 a\nboth.example:\n- SPF: v=spf1 b\n- TXT: t\nnone.example:\n- SPF: v=spf1 c\n- \
         TXT: NONE\nword.example:\n- SPF: TIMEOUT\ntime.example:\n- SPF: v=spf1 d\n- TXT: TIMEOUT\n",
    );
    assert_eq!(txt(&zone, "only.example"), texts(&["v=spf1 a"]));
    assert_eq!(txt(&zone, "both.example"), texts(&["t"]));
    assert_eq!(txt(&zone, "none.example"), Outcome::NoData);
    assert_eq!(txt(&zone, "word.example"), Outcome::NoData);
    assert_eq!(txt(&zone, "time.example"), Outcome::Failed(Failure::TimedOut));
}

#[test]
fn the_bound_on_texts_holds_on_both_sides() {
    let of_length = |len: usize| txt(&yaml(&format!("a.example:\n- TXT: {}\n", "x".repeat(len))), "a.example");
    assert!(matches!(of_length(65_536), Outcome::Records(_)));
    assert_eq!(of_length(65_537), Outcome::Failed(Failure::OverLimit));
}

#[test]
fn later_files_replace_names() {
    let mut zone = yaml("a.example:\n- TXT: old\nb.a.example:\n- TXT: b\n");
    zone.add(&serde_json::json!({"a.example": [{"TXT": "new"}], "a..b": [{"TXT": "no such name"}]})).unwrap();
    assert_eq!(txt(&zone, "a.example"), texts(&["new"]));
    assert_eq!(txt(&zone, "b.a.example"), texts(&["b"]));
    assert_eq!(zone.len(), 2);
}

#[test]
fn errors_name_the_place() {
    let error = |text: &str| Zone::from_yaml(text).unwrap_err().to_string();
    assert_eq!(error("a.example:\n- A: 2001:db8::1\n"), "a.example: A: unreadable: \"2001:db8::1\"");
    assert_eq!(error("a.example:\n- TIMEOOT\n"), "a.example: unknown word TIMEOOT");
    assert_eq!(error("a.example:\n- TXT: x\n  ttl: -1\n"), "a.example: ttl: not a number of seconds: -1");
    assert_eq!(error("- 1\n"), "zone: not a map of names");
    assert!(matches!(Zone::from_yaml("a: [").unwrap_err(), ZoneError::Yaml(_)));
    let error = |text: &str| Zone::from_master(text.as_bytes()).unwrap_err().to_string();
    assert!(error("a. A 192.0.2.1\n\n(\n) b. A 192.0.2.\n").starts_with("line 4: "));
    assert!(error("$INCLUDE other\n").starts_with("line 1: "));
    assert!(error("\n;ERROR,a.example,TXT,NEVER\n").starts_with("line 2: "));
    let missing = Zone::load("/nonexistent/x.zone").unwrap_err();
    assert!(missing.to_string().starts_with("/nonexistent/x.zone: "), "{missing}");
}

#[test]
fn master_files() {
    let text = "$ORIGIN example.\n$TTL 1h\n@ IN SOA ns root 1 2 3 4 5\n\tIN NS ns\n  3m TXT (\"v=spf1 \" ; a comment\n  \
                \"-all\")\na 60 IN A 192.0.2.1\n  AAAA 2001:db8::1\nm MX 10 a\n  MX 5 b.test.\n0 IN 1w PTR host\n\
                odd TXT\nspf SPF \"v=spf1\"\nw.* TXT x\nalias CNAME a\n*.wild TXT \"semi;colon\" \"\\\"q\\\"\" \\065b\n\
                chaos CH TXT no\npar ( IN\n 9 TXT \"in\" )\n;ERROR,t.example,TXT,TIMEOUT\n;ERROR,192.0.2.9,PTR,SERVFAIL\n\
                ;ERROR,gone.example,TXT,NXDOMAIN\nlast TXT end";
    let zone = Zone::from_master(text.as_bytes()).unwrap();
    let top = ask(&zone, "example", RecordType::Txt);
    assert_eq!((top.outcome(), top.ttl_seconds()), (&texts(&["v=spf1 -all"]), Some(180)));
    assert_eq!(ask(&zone, "a.example", RecordType::A).ttl_seconds(), Some(60));
    assert_eq!(ask(&zone, "a.example", RecordType::Aaaa).ttl_seconds(), Some(3600));
    let mx = |preference, host: &str| Mx { preference, exchange: Some(name(host)) };
    let exchanges = Outcome::Records(RecordSet::Mx([mx(5, "b.test"), mx(10, "a.example")].into()));
    assert_eq!(*ask(&zone, "m.example", RecordType::Mx).outcome(), exchanges);
    assert_eq!(ask(&zone, "0.example", RecordType::Ptr).ttl_seconds(), Some(604_800));
    for exists in ["odd.example", "spf.example", "chaos.example"] {
        assert_eq!(txt(&zone, exists), Outcome::NoData, "{exists}");
    }
    assert_eq!(ask(&zone, "alias.example", RecordType::A).ttl_seconds(), Some(60));
    assert_eq!(txt(&zone, "x.wild.example"), texts(&["semi;colon\"q\"Ab"]));
    assert_eq!(ask(&zone, "par.example", RecordType::Txt).ttl_seconds(), Some(9));
    assert_eq!(txt(&zone, "t.example"), Outcome::Failed(Failure::TimedOut));
    assert_eq!(*ask(&zone, "9.2.0.192.in-addr.arpa", RecordType::Ptr).outcome(), Outcome::Failed(Failure::ServFail));
    assert_eq!(*ask(&zone, "gone.example", RecordType::A).outcome(), Outcome::NxDomain);
    assert_eq!(txt(&zone, "last.example"), texts(&["end"]));
}

#[test]
fn files_are_read_by_their_ending() {
    let dir = std::env::temp_dir().join(format!("mailproof-zone-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let (master, yaml) = (dir.join("a.zone"), dir.join("b.yml"));
    fs::write(&master, "a.example. TXT master\n").unwrap();
    fs::write(&yaml, "b.example:\n- TXT: yaml\n").unwrap();
    let mut zone = Zone::load(&master).unwrap();
    zone.add_file(&yaml).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(txt(&zone, "a.example"), texts(&["master"]));
    assert_eq!(txt(&zone, "b.example"), texts(&["yaml"]));
}

#[test]
fn the_line_form_of_the_corpus_loads() {
    let Some(corpus) = mailproof_testkit::corpus::directory() else { return };
    let path = corpus.join("auth-milter/zonefile.txt");
    let Ok(text) = fs::read(&path) else { return };
    let zone = Zone::from_master(&text).unwrap();
    assert_eq!(txt(&zone, "_policy._domainkey.marcbradshaw.net"), Outcome::NxDomain);
    assert_eq!(txt(&zone, "_domainkey.goestheweasel.com"), Outcome::NoData);
    assert_eq!(txt(&zone, "_dmarc.spfuvictim.com"), texts(&["v=DMARC1; p=reject"]));
    let host = ask(&zone, "mail-we0-f172.google.com", RecordType::A);
    assert_eq!(*host.outcome(), Outcome::Records(RecordSet::A([Ipv4Addr::new(74, 125, 82, 172)].into())));
}

#[test]
fn questions_are_counted() {
    let zone = yaml("a.example:\n- A: 192.0.2.1\n");
    let mut counted = CountedZone::new(&zone);
    let question = Question::new(name("a.example"), RecordType::A);
    for _ in 0..2 {
        assert!(counted.answer(&question).is_some());
    }
    counted.answer(&Question::new(name("b.example"), RecordType::A));
    assert_eq!((counted.count(&question), counted.total(), counted.iter().count()), (2, 3, 2));
}

proptest! {
    /// Both forms never panic, and a master file made of the records of a zone answers as the zone does.
    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\\n\\t\"();$]{0,200}") {
        let _ = Zone::from_master(text.as_bytes());
        let _ = Zone::from_yaml(&text);
    }

    #[test]
    fn both_forms_agree(records in prop::collection::vec(("[ab*]{1,2}(\\.[ab]){0,2}", "[a-z ;()\"\\\\]{0,9}"), 1..9), asked in "[ab](\\.[ab]){0,3}") {
        let mut master = String::from("$ORIGIN test.\n");
        let mut map = serde_json::Map::new();
        for (owner, text) in &records {
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            master.push_str(&format!("{owner} TXT \"{quoted}\"\n"));
            let list = map.entry(format!("{owner}.test")).or_insert_with(|| serde_json::json!([]));
            list.as_array_mut().unwrap().push(serde_json::json!({"TXT": text}));
        }
        let (one, other) = (Zone::from_master(master.as_bytes()).unwrap(), Zone::from_value(&map.into()).unwrap());
        let asked = format!("{asked}.test");
        prop_assert_eq!(txt(&one, &asked), txt(&other, &asked));
    }
}

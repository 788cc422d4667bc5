//! Every scenario of the project gives the same octets of JSON through each way into the library as through Rust.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mailproof_fault_dns::{Plan, Server};
use mailproof_proto::dmarc::Discovery;
use mailproof_proto::dns::wire::{QUERY_BYTES_MAX, Query, QueryOptions, ReplyWriter, Section, write_query};
use mailproof_proto::dns::{Answer, Failure, Outcome, Question, RecordSet, Transcript};
use mailproof_testkit::drive::Order;
use mailproof_testkit::responder::{Responder, Transport};
use mailproof_testkit::scenario::{Scenario, directory, load_all};

use crate::c::{Language, SANITIZERS, compile, folder, has, said, scratch, skip};

/// The list of cases for the driver, and what it has to print.
pub(crate) struct Cases {
    pub(crate) list: PathBuf,
    pub(crate) expected: String,
    /// The DNS, where it is asked over the network.
    _servers: Vec<Server>,
}

/// Where the answers come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Dns {
    Zone,
    /// A server each; cases in which that is silent, and which take seconds, are left out.
    Servers,
}

impl Cases {
    pub(crate) fn write(to: &Path, dns: Dns, only: impl Fn(&Scenario) -> bool) -> Self {
        let mut cases = Self { list: to.join("list"), expected: String::new(), _servers: Vec::new() };
        let mut list = String::new();
        for scenario in load_all(&directory()).unwrap().iter().filter(|scenario| only(scenario)) {
            let (verdict, transcript) = scenario.case.verify(&scenario.zone, Order::AtHand, usize::MAX).unwrap();
            if dns == Dns::Servers && transcript.iter().any(|(_, answer)| is_silence(answer)) {
                continue;
            }
            writeln!(cases.expected, "{}", verdict.to_json(&scenario.name)).unwrap();
            let server = (dns == Dns::Servers).then(|| Server::start(scenario.zone.clone(), Plan::new(7)).unwrap());
            let address = server.as_ref().map_or_else(|| "-".to_owned(), |server| server.addr().to_string());
            cases._servers.extend(server);
            writeln!(list, "{}", line(to, scenario, &address, &transcript)).unwrap();
        }
        fs::write(&cases.list, list).unwrap();
        cases
    }
}

fn is_silence(answer: Option<&Answer>) -> bool {
    answer.is_some_and(|answer| *answer.outcome() == Outcome::Failed(Failure::TimedOut))
}

/// Writes the files of a case and gives its line.
fn line(to: &Path, scenario: &Scenario, server: &str, transcript: &Transcript) -> String {
    let case = &scenario.case;
    let file = |ending: &str, octets: &[u8]| {
        let path = to.join(format!("{}.{ending}", scenario.name));
        fs::write(&path, octets).unwrap();
        path.display().to_string()
    };
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let policy = if case.options.dmarc.discovery == Discovery::PublicSuffixList { 7489 } else { 9989 };
    let flags = u64::from(case.options.policy.defer_on_temperror)
        | u64::from(case.options.dkim.honour_length) << 1
        | u64::from(case.options.dmarc.strictest_of_several) << 2;
    let words = [
        scenario.name.clone(),
        file("eml", &case.message),
        case.envelope.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string()),
        or_none(&case.envelope.helo),
        or_none(&case.envelope.mail_from),
        policy.to_string(),
        flags.to_string(),
        case.now.seconds().to_string(),
        file("yml", zone_text(&scenario.name).as_bytes()),
        server.to_owned(),
        file("answers", answers(scenario, transcript).as_bytes()),
    ];
    assert!(words.iter().all(|word| !word.contains(['\t', '\n'])), "{words:?}");
    words.join("\t")
}

/// The zone of a scenario; JSON is YAML too.
fn zone_text(name: &str) -> String {
    let text = fs::read_to_string(directory().join(format!("{name}.yml"))).unwrap();
    let scenario: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    if scenario["zone"].is_null() { "{}".to_owned() } else { scenario["zone"].to_string() }
}

/// The answers to every question that the case asks, for a driver that brings its own DNS: name, type, outcome, time to
/// live, the answer as a DNS message, and the data of its records.
fn answers(scenario: &Scenario, transcript: &Transcript) -> String {
    let responder = Responder::new(scenario.zone.clone());
    let mut text = String::new();
    for (question, answer) in transcript.iter() {
        let answer = answer.expect("every answer was at hand");
        let mut room = [0; QUERY_BYTES_MAX];
        let plain = QueryOptions { edns_payload_bytes: None, authentic_data: false, case_seed: None, pads: false };
        let query = write_query(7, question, &plain, &mut room);
        // A failure is told by its number: a message can not say all of them.
        let is_failure = matches!(answer.outcome(), Outcome::Failed(_));
        let message = responder.reply(query, Transport::Tcp).filter(|_| !is_failure);
        writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}",
            question.name,
            question.kind.code(),
            outcome(answer),
            answer.ttl_seconds().map_or_else(|| "-".to_owned(), |ttl| ttl.to_string()),
            message.map_or_else(|| "-".to_owned(), |message| hex(&message)),
            records(query, question, answer).map_or_else(|| "-".to_owned(), |data| data.join(","))
        )
        .unwrap();
    }
    text
}

/// The number that the header has for an outcome.
fn outcome(answer: &Answer) -> u32 {
    match answer.outcome() {
        Outcome::Records(_) => mailproof_ffi::MAILPROOF_ANSWER_RECORDS,
        Outcome::NoData => mailproof_ffi::MAILPROOF_ANSWER_NO_DATA,
        Outcome::NxDomain => mailproof_ffi::MAILPROOF_ANSWER_NO_SUCH_NAME,
        Outcome::Failed(Failure::TimedOut) => mailproof_ffi::MAILPROOF_ANSWER_TIMED_OUT,
        Outcome::Failed(Failure::ServFail) => mailproof_ffi::MAILPROOF_ANSWER_SERVFAIL,
        Outcome::Failed(Failure::Refused) => mailproof_ffi::MAILPROOF_ANSWER_REFUSED,
        Outcome::Failed(Failure::Malformed) => mailproof_ffi::MAILPROOF_ANSWER_MALFORMED,
        Outcome::Failed(_) => mailproof_ffi::MAILPROOF_ANSWER_UNREACHABLE,
    }
}

/// The data of each record, in hexadecimal digits.
fn records(query: &[u8], question: &Question, answer: &Answer) -> Option<Vec<String>> {
    let Outcome::Records(records) = answer.outcome() else { return None };
    let single: Vec<RecordSet> = match records {
        RecordSet::A(list) => list.iter().map(|it| RecordSet::A([*it].into())).collect(),
        RecordSet::Aaaa(list) => list.iter().map(|it| RecordSet::Aaaa([*it].into())).collect(),
        RecordSet::Mx(list) => list.iter().map(|it| RecordSet::Mx([it.clone()].into())).collect(),
        RecordSet::Ptr(list) => list.iter().map(|it| RecordSet::Ptr([*it].into())).collect(),
        RecordSet::Txt(list) => list.iter().map(|it| RecordSet::Txt([it.clone()].into())).collect(),
        _ => panic!("records of another type"),
    };
    let query = Query::read(query).unwrap();
    let empty = ReplyWriter::new(&query).finish().len();
    let data = single.iter().map(|record| {
        let mut reply = ReplyWriter::new(&query);
        reply.records(Section::Answer, &question.name, record, 0);
        let octets = reply.finish();
        // Behind the owner's name stand type, class, time to live and length.
        let owner = if octets[empty] >= 0xc0 { 2 } else { question.name.wire().len() };
        hex(&octets[empty + owner + 10..])
    });
    Some(data.collect())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").unwrap();
        text
    })
}

/// Runs the driver, and compares verdict by verdict.
pub(crate) fn check(command: &mut Command, way: &str, cases: &Cases) {
    let found = said(command.arg(way).arg(&cases.list));
    for (found, expected) in found.lines().zip(cases.expected.lines()) {
        assert_eq!(found, expected, "{way}");
    }
    assert_eq!(found.lines().count(), cases.expected.lines().count(), "{way}");
}

#[test]
fn verdicts_are_those_of_rust_through_every_way() {
    let folder_of_test = scratch("scenarios");
    let source = folder().join("tests/library/driver.c");
    let cases = Cases::write(&folder_of_test, Dns::Zone, |_| true);
    assert!(cases.expected.lines().count() > 30);
    for language in [Language::C11, Language::Cpp17] {
        let driver = compile(&source, language, &[], &folder_of_test);
        for way in ["one", "stream", "queued", "loop", "own", "threads"] {
            check(&mut Command::new(&driver), way, &cases);
        }
    }
    let ends_its_header = |scenario: &Scenario| scenario.case.message.windows(4).any(|it| it == b"\r\n\r\n");
    let cases = Cases::write(&folder_of_test, Dns::Zone, ends_its_header);
    let driver = compile(&source, Language::C11, &[], &folder_of_test);
    check(&mut Command::new(&driver), "fields", &cases);
}

#[test]
fn verdicts_are_those_of_rust_over_the_network() {
    let folder_of_test = scratch("scenarios-network");
    let driver = compile(&folder().join("tests/library/driver.c"), Language::C11, &[], &folder_of_test);
    let cases = Cases::write(&folder_of_test, Dns::Servers, |_| true);
    for way in ["one", "stream", "queued", "loop", "threads"] {
        check(&mut Command::new(&driver), way, &cases);
    }
}

#[test]
fn sanitizers_find_nothing() {
    let folder_of_test = scratch("scenarios-sanitized");
    let driver = compile(&folder().join("tests/library/driver.c"), Language::C11, SANITIZERS, &folder_of_test);
    let cases = Cases::write(&folder_of_test, Dns::Zone, |_| true);
    for way in ["one", "stream", "queued", "loop", "own", "threads"] {
        check(&mut Command::new(&driver), way, &cases);
    }
    let cases = Cases::write(&folder_of_test, Dns::Servers, |_| true);
    for way in ["loop", "queued", "threads"] {
        check(&mut Command::new(&driver), way, &cases);
    }
}

#[test]
fn valgrind_finds_nothing() {
    if !has("valgrind") {
        return skip("needs valgrind");
    }
    let folder_of_test = scratch("scenarios-valgrind");
    let driver = compile(&folder().join("tests/library/driver.c"), Language::C11, &[], &folder_of_test);
    let cases = Cases::write(&folder_of_test, Dns::Zone, |_| true);
    for way in ["one", "stream", "queued", "loop", "own", "threads"] {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
        // Valgrind knows no AVX-512.
        valgrind.env("MAILPROOF_KERNELS", "portable");
        check(valgrind.arg(&driver), way, &cases);
    }
}

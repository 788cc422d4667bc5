//! Rules, seeds and the files that hold them.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use mailproof_fault_dns::{Counts, Fault, Plan, PlanError, RULES_MAX, Rule, Server, Span, Transport};
use mailproof_proto::dns::{Name, RecordType};

use crate::client::*;

fn rcode(server: &Server, name: &str, code: u16) -> u16 {
    Reply::read(&Udp::new(server.addr()).ask(&Query::txt(name).code(code))).unwrap().rcode()
}

fn rcodes(server: &Server, names: &[&str]) -> Vec<u16> {
    names.iter().map(|name| rcode(server, name, TXT)).collect()
}

fn n(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn refused() -> Rule {
    Rule::new(Fault::Refused)
}

#[test]
fn rules_match_names_types_transports_and_turns() {
    let server = Server::start(zone(), Plan::new(0).with(refused().name(n("a.example")))).unwrap();
    assert_eq!(rcodes(&server, &["a.example", "A.EXAMPLE", "x.a.example", "alias.example"]), [5, 5, 3, 0]);
    server.set_plan(Plan::new(0).with(refused().below(n("a.example"))));
    assert_eq!(rcodes(&server, &["a.example", "x.a.example", "ba.example"]), [5, 5, 3]);
    server.set_plan(Plan::new(0).with(refused().kind(RecordType::A)));
    assert_eq!((rcode(&server, "a.example", A), rcode(&server, "a.example", TXT)), (5, 0));
    server.set_plan(Plan::new(0).with(refused().transport(Transport::Tcp)));
    assert_eq!(rcode(&server, "a.example", TXT), 0);
    assert_eq!(Reply::read(&Tcp::new(server.addr()).ask(&Query::txt("a.example"))).unwrap().rcode(), 5);
}

#[test]
fn turns_count_a_question_or_a_rule() {
    let names = ["a.example", "a.example", "alias.example", "a.example", "alias.example"];
    let of = |rule: Rule| rcodes(&Server::start(zone(), Plan::new(0).with(rule)).unwrap(), &names);
    assert_eq!(of(refused().nth(2..=2)), [0, 5, 0, 0, 5]);
    assert_eq!(of(refused().nth(2..=3).counts(Counts::Rule)), [0, 5, 5, 0, 0]);
}

/// Which of these queries are refused.
fn pattern(plan: Plan) -> Vec<bool> {
    let server = Server::start(zone(), plan).unwrap();
    let names = (0..300).map(|index| format!("n{}.example", index % 100));
    names.map(|name| rcode(&server, &name, TXT) == 5).collect()
}

#[test]
fn the_same_seed_gives_the_same_faults_and_another_one_others() {
    let plan = |seed| Plan::new(seed).with_probability(0.1).with(refused());
    let first = pattern(plan(7));
    assert_eq!(first, pattern(plan(7)));
    assert_ne!(first, pattern(plan(8)));
    let count = first.iter().filter(|it| **it).count();
    assert!((12..=52).contains(&count), "{count} of 300 at 10 %");
    assert!(pattern(plan(7).with_probability(0.0)).iter().all(|it| !it));
    assert!(pattern(plan(7).with_probability(1.0)).iter().all(|it| *it));
}

/// Every octet that comes back is the same: what faults draw for themselves is drawn from the seed too, and neither
/// the socket nor the order of other questions matters.
#[test]
fn a_run_repeats_to_the_octet_whatever_else_is_asked() {
    let faults = [Fault::Cut, Fault::BitFlips { count: 5 }, Fault::Garbage, Fault::Noise, Fault::CountsLie];
    let run = |others: bool| {
        let plan = Plan::new(99).with(Rule::any_of(faults)).with(Rule::new(Fault::WrongId).probability(0.5));
        let server = Server::start(zone(), plan).unwrap();
        let ask = |name: &str| Udp::new(server.addr()).ask(&Query::txt(name));
        (0..50)
            .map(|index| {
                if others && index % 3 == 0 {
                    ask("alias.example");
                }
                ask("a.example")
            })
            .collect::<Vec<_>>()
    };
    let first = run(false);
    assert_eq!(first, run(true));
    assert!(first.iter().collect::<HashSet<_>>().len() > 40);
}

#[test]
fn a_plan_reads_as_it_would_be_written_in_code() {
    let text = "
seed: 5
probability: 0.25
rules:
- fault: loss
  name: a.example
  type: txt
  nth: 1
- faults: [delay: {milliseconds: [10, 20]}, cname-chain: {links: 9}, bit-flips: {count: 2}, serv-fail]
  below: example
  transport: tcp
  nth: [2, 4]
  counts: rule
  probability: 1
  then-right: true
";
    let faults = [
        Fault::Delay { milliseconds: Span::new(10, 20) },
        Fault::CnameChain { links: 9 },
        Fault::BitFlips { count: 2 },
        Fault::ServFail,
    ];
    let second = Rule::any_of(faults).below(n("example")).transport(Transport::Tcp).nth(2..=4).counts(Counts::Rule);
    let expected = Plan::new(5)
        .with_probability(0.25)
        .with(Rule::new(Fault::Loss).name(n("a.example")).kind(RecordType::Txt).nth(1..=1))
        .with(second.probability(1.0).then_right());
    assert_eq!(format!("{:?}", Plan::from_yaml(text).unwrap()), format!("{expected:?}"));
}

#[test]
fn plans_that_make_no_sense_are_refused_with_the_place() {
    for (rule, expected) in [
        ("fault: los", "line 2"),
        ("fault: loss, colour: red", "line 2"),
        ("fault: {delay: {seconds: 1}}", "line 2"),
        ("name: a", "rule 1: no fault"),
        ("fault: loss, faults: [cut]", "rule 1: both fault and faults"),
        ("fault: loss, name: a, below: b", "rule 1: both name and below"),
        ("fault: loss, name: a..b", "rule 1: not a name"),
        ("fault: loss, type: SOA", "rule 1: type"),
        ("fault: loss, probability: 1.5", "rule 1: the probability"),
        ("fault: loss, nth: 0", "rule 1: nth"),
        ("fault: loss, nth: [3, 2]", "before its start"),
        ("fault: loss, transport: tcp", "rule 1: the fault does not happen by this transport"),
        ("fault: tcp-close, transport: udp", "rule 1: the fault does not happen by this transport"),
        ("fault: tcp-refuse, name: a", "rule 1: tcp-refuse"),
        ("fault: {delay: {milliseconds: 3600001}}", "rule 1: more than an hour"),
        ("fault: {cname-chain: {links: 201}}", "rule 1: links"),
        ("fault: {bit-flips: {count: 1025}}", "rule 1: count"),
    ] {
        let error = Plan::from_yaml(&format!("rules:\n- {{{rule}}}\n")).expect_err(rule).to_string();
        assert!(error.contains(expected), "{rule}: {error}");
    }
    for rule in ["delay: {milliseconds: 3600000}", "cname-chain: {links: 200}", "bit-flips: {count: 1024}"] {
        Plan::from_yaml(&format!("rules:\n- fault: {{{rule}}}\n")).expect(rule);
    }
    assert!(matches!(Plan::from_yaml("probability: 2"), Err(PlanError::Probability)));
    let many = |count| format!("rules:\n{}", "- fault: loss\n".repeat(count));
    assert_eq!(Plan::from_yaml(&many(RULES_MAX)).unwrap().rules().len(), RULES_MAX);
    assert!(matches!(Plan::from_yaml(&many(RULES_MAX + 1)), Err(PlanError::TooManyRules)));
    let error = Plan::load("/no/such/plan.yml").unwrap_err().to_string();
    assert!(error.starts_with("/no/such/plan.yml: "), "{error}");
}

#[test]
fn the_plans_that_come_along_are_read_and_hold_every_fault() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let mut words = HashSet::new();
    let mut texts = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let plan = Plan::load(&path).unwrap_or_else(|error| panic!("{error}"));
        words.extend(plan.rules().iter().flat_map(|rule| rule.faults()).map(|fault| fault.word()));
        texts.push_str(&fs::read_to_string(&path).unwrap());
    }
    let all: HashSet<&str> = Fault::all().into_iter().map(Fault::word).collect();
    assert_eq!(words, all);
    // The guide names every fault as well.
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let unnamed: Vec<_> = all.iter().filter(|word| !guide.contains(&format!("`{word}"))).collect();
    assert!(unnamed.is_empty(), "not in the README: {unnamed:?}");
}

/// The words of plans and those of statistics are the same.
#[test]
fn every_word_reads_as_its_fault() {
    for fault in Fault::all() {
        let text = match fault {
            Fault::Delay { .. } => "{delay: {milliseconds: [5, 20]}}".to_owned(),
            Fault::TcpSlow { .. } => "{tcp-slow: {milliseconds: [20, 50]}}".to_owned(),
            Fault::CnameChain { .. } => "{cname-chain: {links: 20}}".to_owned(),
            Fault::BitFlips { .. } => "{bit-flips: {count: 3}}".to_owned(),
            plain => plain.word().to_owned(),
        };
        let plan = Plan::from_yaml(&format!("rules:\n- fault: {text}\n")).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(plan.rules()[0].faults(), [fault]);
    }
}

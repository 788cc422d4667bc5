use mailproof::zone::Zone;
use mailproof_fault_dns::{Fault, Plan, Rule, Server};
use mailproof_proto::dns::Name;
use serde_json::{Value, json};

use crate::{file, folder, run};

const ZONE: &str = "a.example: [{TXT: 'v=spf1 -all'}, {TXT: 'x \"y\"'}, {MX: [10, mx.a.example]}]\n\
    mx.a.example: [{A: 192.0.2.1}, {AAAA: '2001:db8::1'}]\n\
    alias.example: [{CNAME: a.example}]\n\
    broken.example: [SERVFAIL]\n\
    7.2.0.192.in-addr.arpa: [{PTR: mx.a.example}]\n";

fn server(plan: Plan) -> Server {
    Server::start(Zone::from_yaml(ZONE).unwrap(), plan).unwrap()
}

/// The JSON of one question, with the exit code.
fn ask(words: &[&str]) -> (Option<i32>, Value) {
    let run = run(&[&["resolve", "--json"], words].concat());
    let answer = serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {}{}", run.out, run.err));
    (run.code, answer)
}

#[test]
fn four_kinds_of_answer_with_exit_codes_of_their_own() {
    let server = server(Plan::new(0).with(Rule::new(Fault::Refused).name(Name::parse("closed.example").unwrap())));
    let address = server.addr().to_string();
    let dir = folder("resolve");
    let zone = file(&dir, "zone.yml", ZONE);
    let cases = [
        ("a.example", "TXT", 0, "records", json!(["v=spf1 -all", "x \"y\""])),
        ("A.Example.", "mx", 0, "records", json!([{"preference": 10, "exchange": "mx.a.example"}])),
        ("mx.a.example", "A", 0, "records", json!(["192.0.2.1"])),
        ("mx.a.example", "AAAA", 0, "records", json!(["2001:db8::1"])),
        ("192.0.2.7", "PTR", 0, "records", json!(["mx.a.example"])),
        ("mx.a.example", "TXT", 1, "no-data", json!([])),
        ("nobody.example", "A", 1, "nxdomain", json!([])),
        ("broken.example", "A", 75, "failed", json!([])),
    ];
    for source in [["--resolver", &address], ["--zone", &zone]] {
        for more in [&[][..], &["--trace"]] {
            for (name, kind, code, outcome, records) in &cases {
                let (found, answer) = ask(&[&[*name, *kind], &source[..], more].concat());
                assert_eq!((found, &answer["outcome"]), (Some(*code), &json!(outcome)), "{name} {kind}: {answer}");
                assert_eq!(&answer["records"], records);
                assert_eq!(answer["ttl"].is_u64(), *outcome == "records", "{answer}");
                assert_eq!(answer["failure"], if *code == 75 { json!("servfail") } else { Value::Null });
                assert_eq!(answer["authentic"], Value::Null);
            }
        }
    }
    let (code, refused) = ask(&["closed.example", "A", "--resolver", &address]);
    assert_eq!((code, &refused["failure"]), (Some(75), &json!("refused")));
}

#[test]
fn people_see_records_as_a_master_file_has_them() {
    let server = server(Plan::new(0));
    let address = server.addr().to_string();
    let found = run(&["resolve", "a.example", "TXT", "--resolver", &address]);
    let lines: Vec<&str> = found.out.lines().collect();
    assert_eq!((found.code, lines.len()), (Some(0), 2), "{}{}", found.out, found.err);
    assert!(lines[0].starts_with("a.example  ") && lines[0].ends_with("  TXT  \"v=spf1 -all\""), "{}", found.out);
    assert!(lines[1].ends_with(r#""x \"y\"""#), "{}", found.out);
    for (name, kind, said) in
        [("mx.a.example", "MX", "no data"), ("b.example", "A", "NXDOMAIN"), ("broken.example", "A", "failed: SERVFAIL")]
    {
        let absent = run(&["resolve", name, kind, "--resolver", &address]);
        assert!(absent.out.contains(said) && absent.err.is_empty(), "{}{}", absent.out, absent.err);
    }
}

#[test]
fn the_ad_bit_counts_only_where_it_is_trusted() {
    let server = server(Plan::new(0).with(Rule::new(Fault::AuthenticData)));
    let address = server.addr().to_string();
    let words = ["mx.a.example", "A", "--resolver", &address];
    assert_eq!(ask(&words).1["authentic"], Value::Null);
    for more in [&["--trust-ad"][..], &["--trust-ad", "--trace"]] {
        assert_eq!(ask(&[&words[..], more].concat()).1["authentic"], json!(true));
    }
}

#[test]
fn a_trace_tells_every_query_and_what_came() {
    let rule = |fault, name| Rule::new(fault).name(Name::parse(name).unwrap());
    let server = server(
        Plan::new(0)
            .with(rule(Fault::Truncation, "alias.example"))
            .with(rule(Fault::WrongId, "a.example").then_right())
            .with(rule(Fault::Loss, "mx.a.example").nth(1..=1)),
    );
    let address = server.addr().to_string();
    let steps = |name, kind| {
        let (_, answer) = ask(&[name, kind, "--trace", "--resolver", &address]);
        let steps = answer["trace"].as_array().unwrap().clone();
        assert!(steps.iter().all(|step| step["ms"].is_f64()));
        let told =
            |step: &Value| format!("{} {}", step["transport"].as_str().unwrap_or("-"), step["what"].as_str().unwrap());
        steps.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(steps("alias.example", "TXT"), ["udp query", "udp truncated", "tcp query", "tcp answer"]);
    assert_eq!(steps("a.example", "TXT"), ["udp query", "udp no-match", "udp answer"]);
    assert_eq!(steps("mx.a.example", "A"), ["udp query", "- timed-out", "udp query-again", "udp answer"]);
    assert_eq!(steps("broken.example", "A"), ["udp query", "udp servfail"]);
    let text = run(&["resolve", "a.example", "TXT", "--trace", "--resolver", &address]).out;
    assert!(text.starts_with("Trace  answered from DNS servers") && text.contains(&address), "{text}");
}

#[test]
fn nobody_who_answers_is_75_with_a_remedy() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = socket.local_addr().unwrap().to_string();
    drop(socket);
    for more in [&[][..], &["--trace"]] {
        let run = run(&[&["resolve", "a.example", "A", "--resolver", &nobody], more].concat());
        assert_eq!(run.code, Some(75), "{}", run.err);
        assert!(run.out.contains("failed: unreachable"), "{}", run.out);
        assert!(run.err.contains(&nobody) && run.err.contains("--resolver"), "{}", run.err);
        assert_eq!(run.err.lines().count(), 1);
    }
}

#[test]
fn wrong_words_are_64() {
    for words in [&["a.example"][..], &["a.example", "SOA"], &["a..example", "A"]] {
        let run = run(&[&["resolve"], words].concat());
        assert_eq!((run.code, run.out.as_str()), (Some(64), ""), "{words:?}: {}", run.err);
    }
}

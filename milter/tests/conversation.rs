//! What dialogues can not show: time, faults of the order of frames, memory, and that verdicts are those of the engine.

mod server;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailproof::service::{Conversation, Host, Requests};
use mailproof::zone::Zone;
use mailproof::{Engine, Envelope, Options};
use mailproof_milter::config::Config;
use mailproof_milter::metrics::Metrics;
use mailproof_milter::protocol::HEADER_BYTES_MAX;
use mailproof_milter::signing::Signer;
use mailproof_milter::{MessageReport, MilterConversation, Observer, Service};
use mailproof_proto::dkim::{BodyHashes, Canonicalization, SigningKey, SigningPlan, sign};
use mailproof_proto::dns::{Answer, Failure, Name};
use mailproof_proto::message::HeaderIndex;
use mailproof_testkit::scenario::{self, Scenario};
use mailproof_testkit::verify::{Case, with_crlf};
use mailproof_testkit::{corpus, mail_server};
use proptest::prelude::*;
use server::{Daemon, HOST_NAME, Lines, NOW, decode, encode, frame};

const OFFER: &str = "offer 6 1ff 1fffff";
const ZONE: &str = "example.org: [{TXT: v=spf1 ip4:192.0.2.7 -all}]\n_dmarc.example.org: [{TXT: v=DMARC1; p=reject}]";

fn begin(lines: &[&str]) -> Vec<u8> {
    let client = [OFFER, "connect mail.example.org 192.0.2.7", "helo mail.example.org", "mail <ann@example.org>"];
    client.iter().chain(lines).flat_map(|line| encode(line)).collect()
}

#[test]
fn a_waiting_server_gets_signs_of_life_until_the_answer() {
    let daemon = Daemon::new("", ZONE, true);
    let mut connection = daemon.connect();
    connection.send(&begin(&["header From: ann@example.org", "end-of-header", "end"]), usize::MAX);
    assert_eq!(connection.replies().len(), 1, "the agreement alone");
    assert!(connection.open_questions() > 0);
    for round in 1..=2 {
        assert_eq!(connection.requests.wake_at(), Some(NOW + Duration::from_secs(10 * round)));
        connection.now = connection.requests.take_wake().unwrap();
        connection.wake();
        assert_eq!(connection.replies(), ["progress"]);
    }
    connection.answer_all();
    let replies = connection.replies();
    assert!(replies[0].starts_with("insert 0 Authentication-Results: mx.example.net;\\n\\tspf=pass"), "{replies:?}");
    assert_eq!((&replies[1..], connection.requests.wake_at()), (&["continue".to_owned()][..], None));
    assert!(daemon.take_lines()[0].ends_with("ms=20000"));
}

#[test]
fn failed_answers_end_in_temperror() {
    let daemon = Daemon::new("[policy]\nmode = 'enforce'\nrules.dmarc-temperror = 'defer'", "{}", true);
    let mut requests = Requests::default();
    let mut conversation = MilterConversation::new(Arc::clone(&daemon.service), daemon.engine.clone());
    let octets = begin(&["header From: ann@example.org", "end-of-header", "end"]);
    conversation.received(&octets, &mut Host::new(NOW, &mut requests));
    loop {
        let questions: Vec<_> = requests.drain_questions().collect();
        if questions.is_empty() {
            break;
        }
        for question in questions {
            let answer = Answer::failed(Failure::TimedOut);
            conversation.answered(&question, &answer, &mut Host::new(NOW, &mut requests));
        }
    }
    let replies = decode(&requests.take_output());
    assert_eq!(
        replies[1..],
        ["reply 451 4.7.1 DMARC: the policy of example.org can not be looked up now (record-lookup-failed)"]
    );
}

#[test]
fn a_server_that_gives_up_while_waiting_is_let_go() {
    let daemon = Daemon::new("", ZONE, true);
    for (line, closes) in [("abort", false), ("quit", true), ("end", true), ("mail <x@example.org>", true)] {
        let mut connection = daemon.connect();
        connection.send(&begin(&["header From: ann@example.org", "end-of-header", "end"]), usize::MAX);
        connection.replies();
        connection.send(&encode(line), usize::MAX);
        // The answers come all the same, and nothing comes of them.
        connection.answer_all();
        assert_eq!((connection.replies().len(), connection.requests.closes()), (0, closes), "{line}");
        if !closes {
            connection.send(&encode("mail <ann@example.org>"), usize::MAX);
            connection.send(&encode("header From: ann@example.org"), usize::MAX);
            connection.send(&encode("end"), usize::MAX);
            connection.answer_all();
            assert_eq!(connection.replies().len(), 2, "the next message is judged");
        }
    }
    let lines = daemon.take_lines();
    assert_eq!(lines.iter().filter(|line| line.contains("command-before-reply")).count(), 2, "{lines:?}");
}

#[test]
fn a_header_of_any_size_goes_through() {
    let daemon = Daemon::new("", ZONE, false);
    let mut connection = daemon.connect();
    connection.send(&begin(&["header From: ann@example.org"]), usize::MAX);
    let field = encode(&format!("header Authentication-Results: x; none; {}", "y".repeat(60_000)));
    for _ in 0..40 {
        connection.send(&field, usize::MAX);
    }
    connection.send(&encode("end"), usize::MAX);
    let replies = connection.replies();
    let removed = replies.iter().filter(|reply| reply.starts_with("change ")).count();
    assert_eq!(removed, 40, "beyond its limits nothing is known of a header, so all results go");
    assert_eq!(replies.last().map(String::as_str), Some("continue"));
}

#[test]
fn a_header_over_every_limit_is_judged_and_loses_all_results() {
    let daemon = Daemon::new("policy.mode = 'enforce'", ZONE, false);
    let mut connection = daemon.connect();
    connection.send(&begin(&["header Authentication-Results: mx.example.net; dmarc=pass"]), usize::MAX);
    let field = frame(b'L', &[b"X\0".as_slice(), &vec![b'x'; 1024 * 1024 - 64], &[0]].concat());
    for _ in 0..20 {
        connection.send(&field, usize::MAX);
    }
    connection.send(&encode("header From: eve@example.org"), usize::MAX);
    connection.send(&encode("end"), usize::MAX);
    let replies = connection.replies();
    assert_eq!(replies.iter().filter(|reply| reply.starts_with("change ")).count(), 1, "{replies:?}");
    assert!(replies.iter().any(|reply| reply.starts_with("quarantine ")), "{replies:?}");
    assert!(daemon.take_lines()[0].contains("dmarc=permerror"));
}

#[test]
fn forged_results_are_looked_for_up_to_a_limit() {
    let daemon = Daemon::new("", ZONE, false);
    let field = |name: &str, value: &[u8]| frame(b'L', &[name.as_bytes(), &[0], value, &[0]].concat());
    let (name, value) = ("Authentication-Results", b" mx.example.net; none".as_slice());
    let between = HEADER_BYTES_MAX - 2 * (name.len() + value.len());
    let filler = vec![b'x'; 1024 * 1024 - 64];
    for (between, removed) in [(between, 2), (between + 1, 1)] {
        let mut connection = daemon.connect();
        connection.send(&begin(&[]), usize::MAX);
        connection.send(&field(name, value), usize::MAX);
        let mut left = between;
        while left > 0 {
            let take = left.min(filler.len() + 1);
            connection.send(&field("X", &filler[..take - 1]), usize::MAX);
            left -= take;
        }
        connection.send(&field(name, value), usize::MAX);
        connection.send(&encode("end"), usize::MAX);
        let replies = connection.replies();
        assert_eq!(replies.iter().filter(|reply| reply.starts_with("change ")).count(), removed, "{between}");
        assert_eq!(replies.last().map(String::as_str), Some("continue"));
    }
}

#[test]
fn outgoing_mail_over_the_limit_of_a_header_is_said_not_to_be_signed() {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/testkit/keys");
    let settings = format!(
        "signing.require-safe-keys = false\n[[signing.key]]\ndomain = 'example.org'\nselector = 'e'\n\
         file = '{keys}/ed25519-a.pem'"
    );
    let daemon = Daemon::new(&settings, ZONE, false);
    let field = frame(b'L', &[b"X\0".as_slice(), &vec![b'x'; 600 * 1024], &[0]].concat());
    for (count, word) in [(1, "signatures=1"), (2, "not-signed")] {
        let mut connection = daemon.connect();
        for line in ["offer 6 1ff 1fffff", "connect localhost 127.0.0.1", "helo x.example", "mail <ann@example.org>"] {
            connection.send(&encode(line), usize::MAX);
        }
        connection.send(&encode("header From: ann@example.org"), usize::MAX);
        for _ in 0..count {
            connection.send(&field, usize::MAX);
        }
        connection.send(&encode("end"), usize::MAX);
        assert_eq!(connection.replies().last().map(String::as_str), Some("continue"));
        assert!(daemon.take_lines()[0].contains(word));
    }
}

/// Keeps every verdict.
#[derive(Default)]
struct Verdicts(Mutex<Vec<String>>);

impl Observer for Verdicts {
    fn message(&self, report: &MessageReport<'_>) {
        self.0.lock().unwrap().push(report.verdict.map(|verdict| verdict.to_json("x")).unwrap_or_default());
    }
}

/// Stands for a fault of ours in the midst of the end of a message.
struct Faulty;

impl Observer for Faulty {
    fn message(&self, report: &MessageReport<'_>) {
        assert_ne!(report.mail_from, "ann@example.org", "a fault that the test makes");
    }
}

#[test]
fn a_fault_of_ours_lets_mail_pass_or_defers_it() {
    for (policy, reply) in [("accept", "continue"), ("defer", "reply 451 4.3.0 The message could not be checked now")] {
        let text = format!("policy.mode = 'enforce'\npolicy.internal-error = '{policy}'");
        let config = Config::parse(&text, Path::new("test.toml")).unwrap();
        let zone = Zone::from_yaml(ZONE).unwrap();
        let engine = Engine::builder().options(config.options(HOST_NAME)).zone(zone).build().unwrap();
        let signer = Signer::load(&config.signing).unwrap();
        let (metrics, lines) = (Arc::new(Metrics::default()), Arc::new(Lines::default()));
        let service = Service::new(&config, HOST_NAME, signer, metrics.clone(), lines.clone());
        let mut conversation = MilterConversation::new(Arc::new(service.with_observer(Arc::new(Faulty))), engine);
        let mut requests = Requests::default();
        let octets = begin(&["header From: ann@example.org", "end-of-header", "end"]);
        conversation.received(&octets, &mut Host::new(NOW, &mut requests));
        assert_eq!(decode(&requests.take_output())[1..], [reply]);
        let next = ["mail <eve@example.org>", "header From: eve@example.org", "end"];
        let octets: Vec<u8> = next.iter().flat_map(|line| encode(line)).collect();
        conversation.received(&octets, &mut Host::new(NOW, &mut requests));
        assert_eq!(decode(&requests.take_output()).len(), 2, "the next message is judged");
        assert!(metrics.render(None).contains("mailproof_internal_errors_total 1\n"));
        assert_eq!(lines.0.lock().unwrap()[1], "event=internal-error queue-id=-");
    }
}

#[test]
fn scenarios_have_the_verdicts_of_the_engine() {
    let scenarios = scenario::load_all(&scenario::directory()).unwrap();
    for Scenario { name, case, zone, .. } in scenarios {
        let verdict = milter_verdict(&case, &zone);
        let engine = Engine::builder().options(case.options).zone(zone).fixed_time(case.now).build().unwrap();
        assert_eq!(verdict, engine.verify(&case.message, case.envelope).to_json("x"), "{name}");
    }
}

#[test]
fn messages_of_the_corpus_have_the_verdicts_of_the_engine() {
    let Some(corpus) = corpus::directory() else {
        println!("corpus absent: set MAILPROOF_CORPUS; 0 messages compared");
        return;
    };
    let mut compared = 0;
    for (set, folder) in [("auth-milter", "source"), ("auth-rspamd", "messages"), ("dkim-opendkim", "messages")] {
        let zone = std::fs::read_to_string(corpus.join(set).join("dns.yml")).unwrap_or_else(|_| "{}".to_owned());
        let zone = Zone::from_yaml(&zone).unwrap();
        for entry in std::fs::read_dir(corpus.join(set).join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let message = with_crlf(&std::fs::read(&path).unwrap());
            let envelope = Envelope::new("192.0.2.7".parse().unwrap(), "host.example", "someone@example.org");
            let options = Options { authserv_id: HOST_NAME.to_owned(), ..Options::default() };
            let case = Case { options, envelope, message, now: NOW };
            let verdict = milter_verdict(&case, &zone);
            let engine = Engine::builder().options(case.options).zone(zone.clone()).fixed_time(NOW).build().unwrap();
            let expected = engine.verify(&case.message, case.envelope).to_json("x");
            assert_eq!(verdict, expected, "{}", path.display());
            compared += 1;
        }
    }
    println!("{compared} messages compared");
    assert!(compared >= 100, "{compared}");
}

/// The verdict of a case that comes over a milter connection.
fn milter_verdict(case: &Case, zone: &Zone) -> String {
    let frames = mail_server::session(&case.envelope, "x", &case.message).expect("a message that a server hands over");
    let octets = [vec![mail_server::frame(b'O', &mail_server::OFFER)], frames].concat().concat();
    let engine =
        Engine::builder().options(case.options.clone()).zone(zone.clone()).fixed_time(case.now).build().unwrap();
    let verdicts = Arc::new(Verdicts::default());
    let config = Config::parse("skip = { local = false, networks = [] }", Path::new("test.toml")).unwrap();
    let signer = Signer::load(&config.signing).unwrap();
    let (metrics, lines) = (Arc::new(Metrics::default()), Arc::new(Lines::default()));
    let service = Service::new(&config, HOST_NAME, signer, metrics, lines);
    let mut conversation = MilterConversation::new(Arc::new(service.with_observer(verdicts.clone())), engine);
    let mut requests = Requests::default();
    for piece in octets.chunks(4096) {
        conversation.received(piece, &mut Host::new(case.now, &mut requests));
    }
    let mut verdicts = verdicts.0.lock().unwrap();
    assert_eq!(verdicts.len(), 1);
    verdicts.remove(0)
}

/// RFC 6376 section 3.4.1: simple canonicalisation changes no octet, so the space after the colon and the folding have to
/// come through, whether the server hands that space over or takes it away; the body may be cut within a CRLF.
#[test]
fn simple_signatures_survive_both_ways_of_handing_fields_over() {
    let key =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/testkit/keys/ed25519-a.pem")).unwrap();
    let key = SigningKey::read(&key).unwrap();
    let fields =
        ["From: Ann\r\n\t<ann@example.org>", "Subject: a  b ", "X-Tab:\tx", "X-Empty: ", "To: \r\n b@example.net"];
    let header = fields.join("\r\n") + "\r\n";
    let body = "Hello.\r\n \r\n\r\n";
    let domain = Name::parse_domain("example.org").unwrap();
    let plan = SigningPlan {
        domain: &domain,
        selector: "e",
        identity: None,
        header_form: Canonicalization::Simple,
        body_form: Canonicalization::Simple,
        names: &["From", "Subject", "X-Tab", "X-Empty", "To"],
        oversigned: &[],
        signed_at: None,
        expires_at: None,
    };
    let mut bodies = BodyHashes::new();
    plan.want_body(&mut bodies);
    bodies.update(body.as_bytes());
    bodies.finish();
    let signature = sign(&plan, &key, HeaderIndex::new().scan(header.as_bytes()), &bodies).unwrap();
    let zone = format!("e._domainkey.example.org: [{{TXT: \"{}\"}}]", key.record().unwrap());
    let daemon = Daemon::new("", &zone, false);
    for (offer, with_space) in [(OFFER, true), ("offer 6 1ff fffff", false), ("offer 2 3f 7f", false)] {
        let mut connection = daemon.connect();
        for line in [offer, "connect mail.example.org 192.0.2.7", "helo x", "mail <ann@example.org>"] {
            connection.send(&encode(line), usize::MAX);
        }
        for field in std::iter::once(signature.trim_end()).chain(fields) {
            let (name, value) = field.split_once(':').unwrap();
            let value = if with_space { value } else { value.strip_prefix(' ').unwrap_or(value) };
            let value = value.replace("\r\n", "\n");
            connection.send(&frame(b'L', format!("{name}\0{value}\0").as_bytes()), usize::MAX);
        }
        connection.send(&encode("end-of-header"), usize::MAX);
        for chunk in body.as_bytes().chunks(7) {
            connection.send(&frame(b'B', chunk), usize::MAX);
        }
        connection.send(&encode("end"), usize::MAX);
        let replies = connection.replies();
        let results = replies.iter().find(|reply| reply.starts_with("insert 0 Authentication-Results")).unwrap();
        assert!(results.contains("dkim=pass"), "{offer}: {results}");
    }
}

/// The commands of a session that may or may not come in order, and some that nobody sends.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "connect mail.example.org 192.0.2.7",
        "connect x local",
        "helo x",
        "mail <ann@example.org>",
        "mail <>",
        "recipient <b@example.net>",
        "data",
        "unknown X",
        "header From: ann@example.org",
        "header Authentication-Results: mx.example.net; none",
        "header X: \\n\\n",
        "end-of-header",
        "body Hello.\\r\\n",
        "end",
        "end more\\r\\n",
        "abort",
        "quit-new-connection",
        "macros M i=1",
    ]);
    prop_oneof![
        20 => line.prop_map(encode),
        1 => (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..12)).prop_map(|(it, fields)| frame(it, &fields)),
    ]
}

/// A session in order, of which some commands are left out.
fn session() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let lines = [
        "connect mail.example.org 192.0.2.7",
        "helo x",
        "mail <ann@example.org>",
        "recipient <b@example.net>",
        "data",
        "header From: ann@example.org",
        "end-of-header",
        "body Hello.\\r\\n",
        "end",
    ];
    proptest::collection::vec(proptest::bool::weighted(0.9), lines.len())
        .prop_map(move |kept| lines.iter().zip(kept).filter(|(_, kept)| *kept).map(|(line, _)| encode(line)).collect())
}

proptest! {
    #[test]
    fn every_command_has_one_reply_or_the_connection_ends(
        first in session(),
        more in proptest::collection::vec(frames(), 0..30),
        chunk in 1_usize..40,
        enforce in any::<bool>(),
    ) {
        let config = if enforce { "[policy]\nmode = 'enforce'\nrules.spf-fail = 'reject'" } else { "" };
        let daemon = Daemon::new(config, ZONE, false);
        let mut connection = daemon.connect();
        // Version 2 keeps no command silent.
        connection.send(&encode("offer 2 3f 7f"), usize::MAX);
        connection.replies();
        for octets in first.iter().chain(&more) {
            connection.send(octets, chunk);
            let replies = connection.replies();
            let is_change = |reply: &&String| {
                ["insert", "change", "quarantine"].iter().any(|word| reply.starts_with(word))
            };
            let finals = replies.iter().filter(|reply| !is_change(reply)).count();
            prop_assert!(finals == replies.len() || octets[4] == b'E', "{replies:?}");
            if connection.requests.closes() {
                prop_assert_eq!(finals, 0);
                break;
            }
            let silent = matches!(octets[4], b'D' | b'A' | b'K');
            prop_assert_eq!(finals, usize::from(!silent), "{:?}: {:?}", octets, replies);
        }
        connection.conversation.closed();
        let page = daemon.service.metrics.render(None);
        prop_assert!(page.contains("\nmailproof_connections 0\n") && page.contains("\nmailproof_internal_errors_total 0\n"));
    }
}

//! The blocking resolver against a real DNS server, where one is installed.

mod unbound;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mailproof::resolver::BlockingResolver;
use mailproof_proto::dns::{Failure, Mx, Name, Outcome, Question, RecordSet, RecordType, Txt};

use self::unbound::Unbound;

fn configuration(address: SocketAddr, directory: &std::path::Path) -> String {
    let many: String = (0..20)
        .map(|index| format!("  local-data: 'many.example. 300 IN TXT \"{index} {}\"'\n", "x".repeat(200)))
        .collect();
    format!(
        "server:\n  verbosity: 1\n  use-syslog: no\n  logfile: \"\"\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  \
         directory: \"{}\"\n  interface: {}@{}\n  do-ip6: no\n  num-threads: 1\n  module-config: \"iterator\"\n  \
         access-control: 127.0.0.0/8 allow\n  local-zone: \"example.\" static\n  \
         local-zone: \"refused.test.\" refuse\n  \
         local-data: 'example. 300 IN SOA ns.example. root.example. 1 2 3 4 60'\n  \
         local-data: 'a.example. 120 IN TXT \"v=spf1 \" \"-all\"'\n  local-data: 'a.example. 120 IN A 192.0.2.1'\n  \
         local-data: 'a.example. 120 IN AAAA 2001:db8::1'\n  local-data: 'a.example. 120 IN MX 20 mx2.example.'\n  \
         local-data: 'a.example. 120 IN MX 10 mx1.example.'\n  local-data: 'b.ent.example. 120 IN TXT \"b\"'\n  \
         local-data: 'alias.example. 90 IN CNAME a.example.'\n  \
         local-data-ptr: '192.0.2.1 120 host.example'\n{many}\
         remote-control:\n  control-enable: no\n",
        directory.display(),
        address.ip(),
        address.port()
    )
}

fn question(name: &str, kind: RecordType) -> Question {
    Question::new(Name::parse(name).unwrap(), kind)
}

#[test]
fn answers_of_unbound() {
    let Some(unbound) = Unbound::start(configuration) else { return };
    let resolver = BlockingResolver::new(&[unbound.address]).unwrap();
    let mx = |preference, host| Mx { preference, exchange: Some(Name::parse(host).unwrap()) };
    let txt = |text: &str| Outcome::Records(RecordSet::Txt([Txt(text.as_bytes().into())].into()));
    let expected = [
        ("a.example", RecordType::Txt, txt("v=spf1 -all"), Some(120)),
        ("A.EXAMPLE", RecordType::A, Outcome::Records(RecordSet::A(["192.0.2.1".parse().unwrap()].into())), Some(120)),
        (
            "a.example",
            RecordType::Aaaa,
            Outcome::Records(RecordSet::Aaaa(["2001:db8::1".parse().unwrap()].into())),
            Some(120),
        ),
        (
            "a.example",
            RecordType::Mx,
            Outcome::Records(RecordSet::Mx([mx(10, "mx1.example"), mx(20, "mx2.example")].into())),
            Some(120),
        ),
        (
            "1.2.0.192.in-addr.arpa",
            RecordType::Ptr,
            Outcome::Records(RecordSet::Ptr([Name::parse("host.example").unwrap()].into())),
            Some(120),
        ),
        ("a.example", RecordType::Ptr, Outcome::NoData, Some(60)),
        ("ent.example", RecordType::Txt, Outcome::NoData, Some(60)),
        ("gone.example", RecordType::Txt, Outcome::NxDomain, Some(60)),
        // The server gives the alias alone; its target is asked for next.
        ("alias.example", RecordType::Txt, txt("v=spf1 -all"), Some(90)),
        ("refused.test", RecordType::Txt, Outcome::Failed(Failure::Refused), None),
    ];
    let questions: Vec<Question> = expected.iter().map(|(name, kind, ..)| question(name, *kind)).collect();
    let answers = resolver.resolve(&questions, Instant::now() + Duration::from_secs(20));
    for ((question, (.., outcome, ttl_seconds)), answer) in questions.iter().zip(&expected).zip(&answers) {
        assert_eq!((answer.outcome(), answer.ttl_seconds()), (outcome, *ttl_seconds), "{question}");
    }
    // Too large for a datagram.
    let many = resolver.resolve(&[question("many.example", RecordType::Txt)], Instant::now() + Duration::from_secs(20));
    assert_eq!(many[0].texts().len(), 20);
    assert!(resolver.trouble().is_none());
}

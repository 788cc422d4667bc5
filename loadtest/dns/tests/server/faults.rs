//! Every fault of datagrams and messages, seen from outside.

use std::collections::HashSet;

use mailproof_fault_dns::{Fault, Plan, Rule, Server, Transport};

use crate::client::*;

/// A server that does one thing wrong, always.
fn server(fault: Fault) -> Server {
    Server::start(zone(), Plan::new(1).with(Rule::new(fault))).unwrap()
}

/// What a client gets by UDP.
fn octets(fault: Fault, query: &Query) -> Vec<u8> {
    let server = server(fault);
    let reply = Udp::new(server.addr()).ask(query);
    assert_eq!(server.statistics().faults, [(fault.word(), 1)].into());
    reply
}

fn reply(fault: Fault, query: &Query) -> Reply {
    Reply::read(&octets(fault, query)).unwrap_or_else(|| panic!("{fault:?}: not a message"))
}

fn right(query: &Query) -> Reply {
    let server = Server::start(zone(), Plan::new(0)).unwrap();
    Reply::read(&Udp::new(server.addr()).ask(query)).unwrap()
}

fn a() -> Query {
    Query::txt("A.example").edns(1232)
}

#[test]
fn errors_say_so_and_nothing_else() {
    for (fault, rcode) in [(Fault::FormErr, 1), (Fault::ServFail, 2), (Fault::NotImp, 4), (Fault::Refused, 5)] {
        let server = server(fault);
        let expected = Reply { flags: 0x8180 | rcode, sections: [vec![], vec![], vec![opt(0)]], ..right(&a()) };
        assert_eq!(Reply::read(&Udp::new(server.addr()).ask(&a())).as_ref(), Some(&expected), "{fault:?}");
        assert_eq!(Reply::read(&Tcp::new(server.addr()).ask(&a())), Some(expected), "{fault:?}");
        assert_eq!(server.statistics().faults, [(fault.word(), 2)].into());
    }
}

#[test]
fn servers_that_hate_edns_answer_without_it() {
    let refused = reply(Fault::FormErrEdns, &a());
    assert_eq!((refused.rcode(), refused.sections), (1, [vec![], vec![], vec![]]));
    let refused = reply(Fault::BadVers, &a());
    assert_eq!((refused.rcode(), refused.sections), (0, [vec![], vec![], vec![opt(1)]]));
    let ignored = reply(Fault::EdnsIgnored, &a());
    assert_eq!((ignored.answer(), ignored.opt()), (right(&a()).answer(), None));
    let without = Query::txt("a.example");
    for fault in [Fault::FormErrEdns, Fault::BadVers, Fault::EdnsIgnored] {
        let server = server(fault);
        assert_eq!(Reply::read(&Udp::new(server.addr()).ask(&without)), Some(right(&without)));
        assert!(server.statistics().faults.is_empty());
    }
}

#[test]
fn denials_come_with_and_without_soa() {
    for (fault, rcode, has_soa) in [
        (Fault::NxDomain, 3, false),
        (Fault::NxDomainSoa, 3, true),
        (Fault::NoData, 0, false),
        (Fault::NoDataSoa, 0, true),
    ] {
        let reply = reply(fault, &a());
        let soa: Vec<_> = reply.sections[1].iter().map(|it| (it.code, &it.owner[..], it.ttl)).collect();
        let expected = if has_soa { vec![(SOA, &b"\x07example\0"[..], 60)] } else { vec![] };
        assert_eq!((reply.rcode(), reply.answer().len(), soa), (rcode, 0, expected), "{fault:?}");
    }
}

#[test]
fn truncation_leaves_nothing_or_not_everything() {
    for query in [a(), Query::txt("many.example").edns(4096)] {
        let (right, bare) = (right(&query), reply(Fault::Truncation, &query));
        assert_eq!((bare.flags, bare.answer().len(), &bare.question), (0x8380, 0, &right.question));
        let partial = reply(Fault::TruncationPartial, &query);
        let count = right.answer().len() - 1;
        assert_eq!((partial.flags, partial.answer()), (0x8380, &right.answer()[..count]));
    }
    // No more than fits.
    let octets = octets(Fault::TruncationPartial, &Query::txt("many.example"));
    let partial = Reply::read(&octets).unwrap();
    assert!(octets.len() <= 512 && partial.has_tc() && partial.answer().len() == 3, "{partial:?}");
    // By TCP only where the rule says so.
    let server = server(Fault::Truncation);
    let mut tcp = Tcp::new(server.addr());
    assert!(!Reply::read(&tcp.ask(&a())).unwrap().has_tc());
    server.set_plan(Plan::new(0).with(Rule::new(Fault::Truncation).transport(Transport::Tcp)));
    assert!(Reply::read(&tcp.ask(&a())).unwrap().has_tc());
}

#[test]
fn oversize_is_more_than_was_allowed() {
    for (query, room) in [(Query::txt("a.example"), 512), (a(), 1232), (Query::txt("many.example"), 512)] {
        let octets = octets(Fault::Oversize, &query);
        let reply = Reply::read(&octets).unwrap();
        assert!(octets.len() > room && !reply.has_tc() && !reply.answer().is_empty(), "{} octets", octets.len());
    }
}

#[test]
fn what_should_match_the_query_does_not() {
    let (query, right) = (a(), right(&a()));
    assert_ne!(reply(Fault::WrongId, &query).id, query.id);
    let question = |fault| reply(fault, &query).question;
    assert_eq!(question(Fault::WrongName), Query::txt("x.example").question());
    assert_eq!(question(Fault::WrongType), Query::txt("A.example").code(A).question());
    assert_eq!(question(Fault::WrongClass), [&wire("A.example")[..], b"\0\x10\0\x03"].concat());
    assert_eq!(question(Fault::LowerCase), Query::txt("a.example").question());
    let (lower, expected) = (reply(Fault::LowerCase, &query), &right.answer()[0].data);
    assert_eq!((lower.id, lower.flags, &lower.answer()[0].data), (right.id, right.flags, expected));
    let none = octets(Fault::NoQuestion, &query);
    assert_eq!((&none[4..6], Reply::read(&none).unwrap().answer().len()), (&[0, 0][..], 1));
}

#[test]
fn chains_of_aliases_are_as_long_as_planned() {
    let chain = reply(Fault::CnameChain { links: 20 }, &a());
    let mut owner = wire("A.example");
    for record in &chain.answer()[..20] {
        assert_eq!((record.code, &record.owner), (CNAME, &owner));
        owner.clone_from(&record.data);
    }
    let last = &chain.answer()[20];
    assert_eq!((chain.answer().len(), last.code, &last.owner, &last.data[..]), (21, TXT, &owner, &b"\x02it"[..]));

    let circle = reply(Fault::CnameLoop, &a());
    let mut owner = wire("A.example");
    for record in circle.answer() {
        assert_eq!((record.code, &record.owner), (CNAME, &owner));
        owner.clone_from(&record.data);
    }
    assert_eq!((circle.answer().len(), owner), (3, wire("a.example")));
}

#[test]
fn records_of_others_are_slipped_in() {
    let (right, foreign) = (right(&a()), reply(Fault::WrongOwner, &a()));
    assert_eq!((&foreign.answer()[0].owner, &foreign.answer()[0].data), (&wire("x.example"), &right.answer()[0].data));
    let poisoned = reply(Fault::Unrelated, &a());
    assert_eq!(&poisoned.answer()[..1], right.answer());
    for (section, owners) in [(0, vec!["A", "x"]), (1, vec![""]), (2, vec!["", "x"])] {
        let expected: Vec<Vec<u8>> = owners
            .iter()
            .map(|it| if it.is_empty() { wire("example") } else { wire(&format!("{it}.example")) })
            .collect();
        let records = poisoned.sections[section].iter().filter(|record| record.code != OPT);
        assert_eq!(records.map(|record| record.owner.clone()).collect::<Vec<_>>(), expected, "section {section}");
    }
}

#[test]
fn bits_and_times_are_what_was_planned() {
    let right = right(&a());
    assert_eq!(reply(Fault::AuthenticData, &a()), Reply { flags: right.flags | 0x20, ..right });
    for (fault, ttl) in [(Fault::TtlZero, 0), (Fault::TtlHuge, u32::MAX)] {
        let reply = reply(fault, &Query::txt("alias.example").edns(1232));
        assert_eq!(reply.answer().iter().map(|record| record.ttl).collect::<Vec<_>>(), [ttl, ttl]);
        assert_eq!(reply.opt(), Some(&opt(0)));
    }
}

#[test]
fn malformed_octets_are_malformed() {
    let query = a();
    let right = {
        let server = Server::start(zone(), Plan::new(0)).unwrap();
        Udp::new(server.addr()).ask(&query)
    };
    // Each question once more is another draw.
    let many = |fault: Fault| {
        let server = server(fault);
        let udp = Udp::new(server.addr());
        (0..200).map(|_| udp.ask(&query)).collect::<Vec<_>>()
    };
    let cuts = many(Fault::Cut);
    assert!(cuts.iter().all(|it| it.len() < right.len() && *it == right[..it.len()]));
    let places: HashSet<usize> = cuts.iter().map(Vec::len).collect();
    assert!(places.len() > right.len() / 2, "cut at {places:?}");
    for flipped in many(Fault::BitFlips { count: 3 }) {
        assert_eq!((flipped.len(), &flipped[..2]), (right.len(), &right[..2]));
        let bits: u32 = flipped.iter().zip(&right).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert!(bits == 3 || bits == 1, "{bits} bits: one may be hit twice");
    }
    let lies = many(Fault::CountsLie);
    assert!(lies.iter().all(|it| it[6..12] != right[6..12] && it[12..] == right[12..]));
    assert!(lies.iter().all(|it| Reply::read(it).is_none()));
    assert!(many(Fault::Garbage).iter().all(|it| it[..4] == right[..4] && Reply::read(it).is_none()));
    assert!(many(Fault::Noise).iter().filter(|it| it.get(..2) == Some(&right[..2])).count() < 3);
    let looped = octets(Fault::CompressionLoop, &query);
    let at = 12 + query.question().len();
    assert_eq!(looped[at..at + 2], [0xc0, at as u8]);
    assert_eq!((Reply::read(&looped), &looped[..6]), (None, &right[..6]));
    assert_eq!(octets(Fault::Empty, &query), b"");
}

#[test]
fn a_lost_reply_never_comes_and_the_next_one_does() {
    let server = Server::start(zone(), Plan::new(0).with(Rule::new(Fault::Loss).nth(1..=2))).unwrap();
    let udp = Udp::new(server.addr());
    for id in 1..=3 {
        udp.send(&a().id(id));
    }
    assert_eq!(Reply::read(&udp.receive().0).unwrap().id, 3);
    let it = server.statistics();
    assert_eq!((it.udp_queries, it.udp_replies, it.faults), (3, 1, [("loss", 2)].into()));
}

#[test]
fn duplicates_are_equal_or_differ_in_their_records() {
    let right = right(&a());
    for (fault, data) in [(Fault::Duplicate, &b"\x02it"[..]), (Fault::DuplicateDifferent, b"\x06forged")] {
        let server = server(fault);
        let udp = Udp::new(server.addr());
        assert_eq!(Reply::read(&udp.ask(&a())).as_ref(), Some(&right));
        let second = Reply::read(&udp.receive().0).unwrap();
        assert_eq!((second.id, &second.question, &second.answer()[0].data[..]), (right.id, &right.question, data));
        let mut tcp = Tcp::new(server.addr());
        assert_eq!(Reply::read(&tcp.ask(&a())).as_ref(), Some(&right));
        assert_eq!(Reply::read(&tcp.receive()).unwrap(), second);
    }
}

#[test]
fn replies_come_from_where_nobody_was_asked() {
    for fault in [Fault::OtherPort, Fault::OtherAddress] {
        let server = Server::start(zone(), Plan::new(1).with(Rule::new(fault).then_right())).unwrap();
        let udp = Udp::new(server.addr());
        udp.send(&a());
        let (wrong, from) = udp.receive();
        let mut stranger = server.addr();
        match fault {
            Fault::OtherPort => stranger.set_port(from.port()),
            _ => stranger.set_ip([127, 0, 0, 2].into()),
        }
        assert_eq!(from, stranger);
        assert_ne!(from, server.addr());
        assert_eq!(udp.receive(), (wrong, server.addr()));
    }
}

#[test]
fn the_right_reply_may_follow_a_forged_one() {
    let plan = Plan::new(1).with(Rule::new(Fault::WrongId).then_right());
    let server = Server::start(zone(), plan).unwrap();
    let udp = Udp::new(server.addr());
    assert_ne!(Reply::read(&udp.ask(&a())).unwrap().id, a().id);
    assert_eq!(Reply::read(&udp.receive().0), Some(right(&a())));
}

/// Faults of different stages meet; the first rule of a stage wins.
#[test]
fn faults_of_several_stages_meet_in_one_reply() {
    let faults = [Fault::AuthenticData, Fault::ServFail, Fault::Cut, Fault::Duplicate];
    let plan = faults.into_iter().fold(Plan::new(1), |plan, fault| plan.with(Rule::new(fault)));
    let server = Server::start(zone(), plan).unwrap();
    let udp = Udp::new(server.addr());
    let first = udp.ask(&a());
    assert_eq!(first.get(2..4), Some(&[0x81, 0xa0][..]));
    assert_eq!(udp.receive().0, first);
    assert_eq!(server.statistics().faults, [("authentic-data", 1), ("cut", 1), ("duplicate", 1)].into());
}

fn opt(extended_rcode: u32) -> Record {
    Record { owner: vec![0], code: OPT, class: 1232, ttl: extended_rcode << 24, data: vec![] }
}

//! A server without faults answers as the zone says.

use crate::client::*;
use mailproof::zone::Zone;
use mailproof_fault_dns::{Plan, Server};
use mailproof_proto::dns::{Name, Question, RecordType};

fn server() -> Server {
    Server::start(zone(), Plan::new(0)).unwrap()
}

#[test]
fn a_question_is_repeated_letter_by_letter_and_answered() {
    let server = server();
    let query = Query::txt("A.eXample");
    let expected = [
        &b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0"[..],
        &query.question(),
        b"\xc0\x0c\0\x10\0\x01\0\0\x01\x2c\0\x03\x02it",
    ];
    assert_eq!(Udp::new(server.addr()).ask(&query), expected.concat());
    assert_eq!(Tcp::new(server.addr()).ask(&query), expected.concat());
}

#[test]
fn each_kind_of_answer_has_its_rcode() {
    let server = server();
    let (udp, mut tcp) = (Udp::new(server.addr()), Tcp::new(server.addr()));
    for (name, code, rcode, answers) in [
        ("a.example", TXT, 0, vec![TXT]),
        ("a.example", 28, 0, vec![]),
        ("alias.example", TXT, 0, vec![CNAME, TXT]),
        ("absent.example", TXT, 3, vec![]),
        ("fails.example", TXT, 2, vec![]),
        // NS: a type that no zone holds, of a name that is there and of one that is not.
        ("a.example", 2, 0, vec![]),
        ("absent.example", 2, 3, vec![]),
    ] {
        let query = Query::txt(name).code(code).edns(1232);
        let reply = Reply::read(&udp.ask(&query)).unwrap();
        let codes: Vec<u16> = reply.answer().iter().map(|record| record.code).collect();
        assert_eq!((reply.rcode(), codes, reply.opt().is_some()), (rcode, answers, true), "{query:?}");
        assert_eq!(reply.question, query.question());
        assert_eq!(Reply::read(&tcp.ask(&query)), Some(reply));
    }
}

#[test]
fn what_does_not_fit_is_truncated_by_udp_alone() {
    let server = server();
    let udp = Udp::new(server.addr());
    for (query, fits) in [
        (Query::txt("many.example"), false),
        (Query::txt("many.example").edns(1232), false),
        (Query::txt("many.example").edns(4096), true),
    ] {
        let reply = Reply::read(&udp.ask(&query)).unwrap();
        assert_eq!((reply.has_tc(), reply.answer().len()), (!fits, if fits { 20 } else { 0 }), "{query:?}");
    }
    let reply = Reply::read(&Tcp::new(server.addr()).ask(&Query::txt("many.example"))).unwrap();
    assert_eq!((reply.has_tc(), reply.answer().len()), (false, 20));
}

#[test]
fn what_is_no_query_gets_the_reply_it_deserves() {
    let server = server();
    let udp = Udp::new(server.addr());
    let send = |octets: &[u8]| udp.socket.send_to(octets, server.addr()).unwrap();
    let mut query = Query::txt("a.example").octets();
    // Too short, and a reply: no answer at all.
    send(&query[..11]);
    query[2] |= 0x80;
    send(&query);
    query[2] = 0x11;
    send(&query);
    assert_eq!(Reply::read(&udp.receive().0).unwrap().rcode(), 4, "an opcode that is not QUERY");
    query[2] = 1;
    query[5] = 2;
    send(&query);
    assert_eq!(udp.receive().0, b"\x12\x34\x81\x81\0\0\0\0\0\0\0\0", "two questions");
    query[5] = 1;
    *query.last_mut().unwrap() = 3;
    send(&query);
    assert_eq!(Reply::read(&udp.receive().0).unwrap().rcode(), 5, "another class");
    assert_eq!(server.statistics().ignored, 3);
}

#[test]
fn questions_and_queries_are_counted() {
    let server = server();
    let (udp, mut tcp) = (Udp::new(server.addr()), Tcp::new(server.addr()));
    udp.ask(&Query::txt("A.example"));
    udp.ask(&Query::txt("a.example").edns(1232));
    tcp.ask(&Query::txt("a.example"));
    udp.send(&Query::txt("silent.example"));
    udp.ask(&Query::txt("a.example").code(A));
    let question = |name: &str, kind| Question::new(Name::parse(name).unwrap(), kind);
    let expected = [
        (question("a.example", RecordType::Txt), 3),
        (question("a.example", RecordType::A), 1),
        (question("silent.example", RecordType::Txt), 1),
    ];
    assert_eq!(server.questions(), expected.clone().into());
    assert_eq!(server.question_count(&expected[0].0), 3);
    let it = server.statistics();
    assert_eq!((it.udp_queries, it.tcp_queries, it.silent, it.tcp_connections), (4, 1, 1, 1));
    assert_eq!((it.udp_replies, it.tcp_replies), (3, 1));
    assert!(it.to_string().starts_with("udp-queries=4 tcp-queries=1 tcp-connections=1 "));
}

#[test]
fn another_zone_is_served_from_the_next_query_on() {
    let server = server();
    let udp = Udp::new(server.addr());
    assert_eq!(Reply::read(&udp.ask(&Query::txt("a.example"))).unwrap().answer().len(), 1);
    server.set_zone(Zone::from_yaml("b.example:\n- TXT: other\n").unwrap());
    assert_eq!(Reply::read(&udp.ask(&Query::txt("a.example"))).unwrap().rcode(), 3);
    assert_eq!(Reply::read(&udp.ask(&Query::txt("b.example"))).unwrap().answer().len(), 1);
}

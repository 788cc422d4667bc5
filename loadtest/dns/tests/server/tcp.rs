//! Faults of streams.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mailproof_fault_dns::{Fault, Options, Plan, Rule, Server, Span};

use crate::client::*;

fn server(fault: Fault, nth: u64) -> Server {
    Server::start(zone(), Plan::new(1).with(Rule::new(fault).nth(nth..=nth))).unwrap()
}

fn query(id: u16) -> Query {
    Query::txt("a.example").id(id)
}

/// The message as it stands in the stream.
fn right(id: u16) -> Vec<u8> {
    let server = Server::start(zone(), Plan::new(0)).unwrap();
    framed(&Tcp::new(server.addr()).ask(&query(id)))
}

#[test]
fn a_refused_connection_ends_before_the_question() {
    let server = server(Fault::TcpRefuse, 1);
    let mut refused = Tcp::new(server.addr());
    assert_eq!(refused.rest().unwrap(), b"");
    assert_eq!(framed(&Tcp::new(server.addr()).ask(&query(7))), right(7), "the second connection");
    assert_eq!(server.statistics().faults, [("tcp-refuse", 1)].into());
}

#[test]
fn connections_end_instead_of_a_reply_or_within_it() {
    for fault in [Fault::TcpClose, Fault::TcpCloseMidReply, Fault::TcpReset] {
        let server = server(fault, 2);
        let mut tcp = Tcp::new(server.addr());
        assert_eq!(framed(&tcp.ask(&query(1))), right(1));
        tcp.send(&query(2));
        let (rest, whole) = (tcp.rest(), right(2));
        match fault {
            Fault::TcpClose => assert_eq!(rest.unwrap(), b""),
            Fault::TcpReset => assert_eq!(rest.unwrap_err().kind(), ErrorKind::ConnectionReset),
            _ => {
                let rest = rest.unwrap();
                assert!(rest.len() >= 2 && rest.len() < whole.len() && rest == whole[..rest.len()], "{rest:?}");
            }
        }
        assert_eq!(server.statistics().faults, [(fault.word(), 1)].into());
    }
}

#[test]
fn a_slow_reply_takes_its_time_and_comes_whole() {
    let milliseconds = Span::from(250);
    let server = server(Fault::TcpSlow { milliseconds }, 1);
    let mut tcp = Tcp::new(server.addr());
    tcp.0.set_nodelay(true).unwrap();
    let start = Instant::now();
    tcp.send(&query(1));
    let mut first = [0; 4096];
    let count = tcp.0.read(&mut first).unwrap();
    let whole = right(1);
    assert!(count < whole.len(), "{count} octets at once");
    // The next query does not wait for the first reply's end, its reply does.
    tcp.send(&query(2));
    let mut rest = vec![0; whole.len() - count];
    tcp.0.read_exact(&mut rest).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(240), "{:?}", start.elapsed());
    assert_eq!([&first[..count], &rest].concat(), whole);
    assert_eq!(framed(&tcp.receive()), right(2));
}

#[test]
fn silence_keeps_the_connection() {
    let server = server(Fault::TcpSilence, 1);
    let mut tcp = Tcp::new(server.addr());
    tcp.send(&query(1));
    assert_eq!(framed(&tcp.ask(&query(2))), right(2));
}

#[test]
fn replies_share_a_segment_or_change_their_order() {
    for (fault, order) in [(Fault::TcpTwoInOneSegment, [1, 2]), (Fault::TcpOutOfOrder, [2, 1])] {
        let server = server(fault, 1);
        let mut tcp = Tcp::new(server.addr());
        // At once, so that the second comes before the first is let go without it.
        tcp.0.write_all(&[framed(&query(1).octets()), framed(&query(2).octets())].concat()).unwrap();
        let mut room = [0; 4096];
        let expected = order.map(right);
        if fault == Fault::TcpTwoInOneSegment {
            let count = tcp.0.read(&mut room).unwrap();
            assert_eq!(room[..count], expected.concat());
        } else {
            assert_eq!(expected.map(|it| it[2..].to_vec()), [tcp.receive(), tcp.receive()]);
        }
        // One that nothing follows comes alone, late.
        let mut tcp = Tcp::new(server.addr());
        server.set_plan(Plan::new(1).with(Rule::new(fault)));
        assert_eq!(framed(&tcp.ask(&query(3))), right(3));
    }
}

#[test]
fn the_length_in_front_lies() {
    let whole = right(1);
    for (fault, is_longer) in [(Fault::TcpLengthShort, false), (Fault::TcpLengthLong, true)] {
        let server = server(fault, 1);
        let mut tcp = Tcp::new(server.addr());
        tcp.send(&query(1));
        let mut got = vec![0; whole.len()];
        tcp.0.read_exact(&mut got).unwrap();
        assert_eq!(got[2..], whole[2..]);
        let (said, is) = (u16::from_be_bytes([got[0], got[1]]), whole.len() as u16 - 2);
        assert_eq!((said > is, said < is), (is_longer, !is_longer));
    }
}

#[test]
fn queries_may_come_in_pieces_and_together() {
    let server = Server::start(zone(), Plan::new(0)).unwrap();
    let mut tcp = Tcp::new(server.addr());
    tcp.0.set_nodelay(true).unwrap();
    let stream: Vec<u8> = (1..=3).flat_map(|id| framed(&query(id).octets())).collect();
    for piece in stream.chunks(7) {
        tcp.0.write_all(piece).unwrap();
    }
    for id in 1..=3 {
        assert_eq!(framed(&tcp.receive()), right(id));
    }
}

#[test]
fn connections_over_the_limit_are_closed_at_once() {
    let mut options = Options::default();
    options.tcp_connections_max = 3;
    let server = Server::start_with(zone(), Plan::new(0), options).unwrap();
    let mut open: Vec<Tcp> = (0..3).map(|_| Tcp::new(server.addr())).collect();
    open.iter_mut().for_each(|tcp| assert_eq!(framed(&tcp.ask(&query(1))), right(1)));
    assert_eq!(Tcp::new(server.addr()).rest().unwrap(), b"");
    assert_eq!(server.statistics().tcp_over_limit, 1);
    assert_eq!(framed(&open[0].ask(&query(1))), right(1));
    // One that goes makes room; the server sees that before it sees the next one.
    open.pop();
    let mut next = Tcp::new(server.addr());
    assert_eq!(framed(&next.ask(&query(1))), right(1));
}

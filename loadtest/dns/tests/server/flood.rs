//! Forged answers from beside the path.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};

use mailproof_fault_dns::{Flood, FloodWay, Plan, Server};
use mailproof_proto::dns::{Name, Question, RecordType};

use crate::client::*;

fn flood(claimed: SocketAddr, victim: &UdpSocket, may_use_raw: bool) -> Flood {
    let victim = victim.local_addr().unwrap();
    Flood {
        claimed,
        victim: victim.ip(),
        ports: victim.port()..=victim.port(),
        ids: 0..=0xffff,
        question: Question::new(Name::parse("a.example").unwrap(), RecordType::Txt),
        count: 100,
        seed: 4,
        may_use_raw,
    }
}

/// The forged answers that came, with the addresses they came from.
fn received(udp: &Udp, count: usize) -> (Vec<Reply>, HashSet<SocketAddr>) {
    let got: Vec<_> = (0..count).map(|_| udp.receive()).collect();
    let replies = got.iter().map(|(octets, _)| Reply::read(octets).unwrap()).collect();
    (replies, got.into_iter().map(|(_, from)| from).collect())
}

#[test]
fn without_a_raw_socket_the_sender_is_a_stranger() {
    let server = Server::start(zone(), Plan::new(0)).unwrap();
    let udp = Udp::new(server.addr());
    let report = flood(server.addr(), &udp.socket, false).run().unwrap();
    let FloodWay::OtherAddress(stranger) = report.way else { panic!("{report:?}") };
    assert_eq!((report.sent, report.lost, stranger.port()), (100, 0, server.addr().port()));
    assert_ne!(stranger.ip(), server.addr().ip());
    let (replies, senders) = received(&udp, 100);
    assert_eq!(senders, [stranger].into());
    assert!(replies.iter().map(|reply| reply.id).collect::<HashSet<_>>().len() > 90);
    let expected = Query::txt("a.example").question();
    assert!(replies.iter().all(|it| it.question == expected && it.answer()[0].data == b"\x06forged"));
}

#[test]
fn with_a_raw_socket_the_sender_is_the_server() {
    let server = Server::start(zone(), Plan::new(0)).unwrap();
    let udp = Udp::new(server.addr());
    // A connected socket takes nothing from strangers.
    udp.socket.connect(server.addr()).unwrap();
    let report = flood(server.addr(), &udp.socket, true).run().unwrap();
    if report.way != FloodWay::Exact {
        eprintln!("not run: no raw socket ({})", report.way);
        return;
    }
    assert_eq!((report.sent, received(&udp, 100).1), (100, [server.addr()].into()));
}

#[test]
fn where_no_other_address_is_left_the_port_is_another() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("not run: no IPv6");
        return;
    }
    let claimed = "[::1]:53".parse().unwrap();
    let udp = Udp::new(claimed);
    let report = flood(claimed, &udp.socket, true).run().unwrap();
    let FloodWay::OtherPort(stranger) = report.way else { panic!("{report:?}") };
    assert_eq!(received(&udp, 100).1, [stranger].into());
}

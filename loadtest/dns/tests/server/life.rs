//! Delays, pauses, stops and restarts.

use std::collections::HashSet;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use mailproof_fault_dns::{Fault, Options, Plan, Rule, Server, Span};

use crate::client::*;

fn a(id: u16) -> Query {
    Query::txt("a.example").id(id)
}

#[test]
fn delayed_replies_overtake_each_other_as_their_delays_say() {
    let plan = |milliseconds| {
        let slow = Rule::new(Fault::Delay { milliseconds: Span::from(milliseconds) }).nth(1..=1);
        Plan::new(0).with(slow).with(Rule::new(Fault::Delay { milliseconds: Span::from(100) }).nth(2..=2))
    };
    let server = Server::start(zone(), plan(300)).unwrap();
    let (udp, start) = (Udp::new(server.addr()), Instant::now());
    (1..=3).for_each(|id| udp.send(&a(id)));
    let ids: Vec<u16> = (0..3).map(|_| Reply::read(&udp.receive().0).unwrap().id).collect();
    assert_eq!(ids, [3, 2, 1]);
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    let server = Server::start(zone(), plan(300)).unwrap();
    let mut tcp = Tcp::new(server.addr());
    (1..=3).for_each(|id| tcp.send(&a(id)));
    let ids: Vec<u16> = (0..3).map(|_| Reply::read(&tcp.receive()).unwrap().id).collect();
    assert_eq!(ids, [3, 2, 1]);
}

/// One after the other they would take hours.
#[test]
fn ten_thousand_delayed_queries_wait_together() {
    let plan = Plan::new(3).with(Rule::new(Fault::Delay { milliseconds: Span::new(1500, 2000) }));
    let server = Server::start(zone(), plan).unwrap();
    // Many sockets, because the kernel keeps a few hundred datagrams for one that is not read yet.
    let (clients, start) = ((0..100).map(|_| Udp::new(server.addr())).collect::<Vec<_>>(), Instant::now());
    for id in 0..10_000 {
        clients[usize::from(id) % 100].send(&a(id));
        // As fast as the server reads, so that its socket does not run over.
        while u64::from(id) > server.statistics().udp_queries + 64 {
            std::thread::yield_now();
        }
    }
    let sent_replies = server.statistics().udp_replies;
    assert!(sent_replies == 0 || start.elapsed() >= Duration::from_millis(1500), "all of them wait");
    let ids: HashSet<u16> =
        (0..10_000).map(|index| Reply::read(&clients[index % 100].receive().0).unwrap().id).collect();
    assert_eq!(ids.len(), 10_000);
    assert_eq!(server.statistics().faults, [("delay", 10_000)].into());
}

#[test]
fn a_paused_server_is_silent_and_comes_back() {
    let server = Server::start(zone(), Plan::new(0)).unwrap();
    let (udp, mut tcp) = (Udp::new(server.addr()), Tcp::new(server.addr()));
    tcp.ask(&a(1));
    server.pause();
    udp.send(&a(2));
    tcp.send(&a(3));
    while server.statistics().paused < 2 {
        std::thread::yield_now();
    }
    server.resume();
    assert_eq!(Reply::read(&udp.ask(&a(4))).unwrap().id, 4);
    assert_eq!(Reply::read(&tcp.ask(&a(5))).unwrap().id, 5);
}

#[test]
fn a_stopped_server_is_gone_and_starts_again_on_its_port() {
    let mut options = Options::default();
    options.also_ipv6 = UdpSocket::bind("[::1]:0").is_ok();
    let mut server = Server::start_with(zone(), Plan::new(0), options).unwrap();
    let addresses = server.addrs().to_vec();
    assert!(addresses.iter().all(|it| it.port() == server.addr().port()));
    assert_eq!(addresses.len(), if options.also_ipv6 { 2 } else { 1 });
    for _ in 0..3 {
        let mut connections = Vec::new();
        for address in &addresses {
            Udp::new(*address).ask(&a(1));
            let mut tcp = Tcp::new(*address);
            tcp.ask(&a(2));
            connections.push(tcp);
        }
        server.stop();
        assert!(!server.is_running());
        for (tcp, address) in connections.iter_mut().zip(&addresses) {
            assert_eq!(tcp.rest().unwrap(), b"");
            TcpStream::connect(address).unwrap_err();
            let udp = Udp::new(*address);
            udp.socket.connect(address).unwrap();
            udp.socket.send(&a(3).octets()).unwrap();
            // The port is closed: the kernel says so.
            udp.socket.recv(&mut [0; 512]).unwrap_err();
        }
        server.restart().unwrap();
        assert_eq!(server.addrs(), addresses);
    }
    assert_eq!(server.statistics().udp_queries, 3 * addresses.len() as u64);
}

#[test]
fn a_server_that_is_dropped_frees_its_port() {
    for _ in 0..50 {
        let server = Server::start(zone(), Plan::new(0)).unwrap();
        let address = server.addr();
        Udp::new(address).ask(&a(1));
        drop(server);
        drop(UdpSocket::bind(address).unwrap());
        drop(TcpListener::bind(address).unwrap());
    }
}

#[test]
fn several_threads_serve_one_port() {
    let mut options = Options::default();
    options.threads = 4;
    let plan = Plan::new(0).with(Rule::new(Fault::Refused).nth(10..=u64::MAX));
    let server = Server::start_with(zone(), plan, options).unwrap();
    // The kernel divides clients by their ports; counting is for all threads together.
    let rcodes: Vec<u16> =
        (0..20).map(|id| Reply::read(&Udp::new(server.addr()).ask(&a(id))).unwrap().rcode()).collect();
    assert_eq!(rcodes, [[0; 9].as_slice(), &[5; 11]].concat());
    Tcp::new(server.addr()).ask(&a(1));
    assert_eq!(server.statistics().udp_queries, 20);
}

#[test]
fn denials_have_an_soa_when_it_is_asked_for() {
    let mut options = Options::default();
    options.negative_ttl_seconds = Some(30);
    let server = Server::start_with(zone(), Plan::new(0), options).unwrap();
    for (name, code, is_denial) in [
        ("x.absent.example", TXT, true),
        ("a.example", 28, true),
        ("a.example", TXT, false),
        ("fails.example", TXT, false),
    ] {
        let reply = Reply::read(&Udp::new(server.addr()).ask(&Query::txt(name).code(code).edns(1232))).unwrap();
        let soa: Vec<u32> = reply.sections[1].iter().filter(|it| it.code == SOA).map(|it| it.ttl).collect();
        assert_eq!(soa, if is_denial { vec![30] } else { vec![] }, "{name} {code}");
        assert!(reply.opt().is_some());
    }
}

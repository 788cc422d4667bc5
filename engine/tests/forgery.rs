//! An off-path forger against an engine with questions outstanding: none of the answers is believed, all that reach a port
//! are counted.
//!
//! The long form, a million answers: `cargo test --release -p mailproof --test forgery -- --ignored --nocapture`

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mailproof::Engine;
use mailproof::network::NetworkOptions;
use mailproof::zone::Zone;
use mailproof_fault_dns::{Fault, Flood, FloodWay, Plan, Rule, Server};
use mailproof_io::Choice;
use mailproof_proto::dns::{Name, Outcome, Question, RecordSet, RecordType};

/// Questions outstanding while the forger sends.
const QUESTIONS: usize = 64;
const PORTS: usize = 64;

fn question(number: usize) -> Question {
    Question::new(Name::parse(format!("victim{number}.example")).unwrap(), RecordType::Txt)
}

fn zone() -> Zone {
    let records: String = (0..QUESTIONS).map(|number| format!("victim{number}.example: [{{TXT: right}}]\n")).collect();
    Zone::from_yaml(&records).unwrap()
}

/// The local ports of this process's UDP sockets that are connected to this server.
fn ports_to(server: SocketAddr) -> Vec<u16> {
    let table = fs::read_to_string("/proc/self/net/udp").unwrap();
    let hexadecimal = |address: SocketAddr| {
        let SocketAddr::V4(address) = address else { panic!("IPv4") };
        format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
    };
    let remote = hexadecimal(server);
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let connected = lines.filter(|fields| fields.get(2).is_some_and(|it| **it == remote));
    connected.map(|fields| u16::from_str_radix(fields[1].split(':').nth(1).unwrap(), 16).unwrap()).collect()
}

fn flood(count: u64, backend: Choice) {
    // The server says nothing until the forger is done.
    let silence = || Plan::new(1).with(Rule::new(Fault::Loss));
    let server = Server::start(zone(), silence()).unwrap();
    let mut options = NetworkOptions::new(vec![server.addr()]);
    (options.threads, options.ports, options.backend) = (1, PORTS, backend);
    options.lookup.total_time = Duration::from_secs(120);
    (options.lookup.tries_max, options.lookup.try_time) = (200, Duration::from_secs(1));
    options.lookup.first_try_time = Duration::from_millis(200);
    options.port_time_max = Duration::from_secs(3600);
    let engine = Engine::builder().network(options).build().unwrap();
    let asked: Vec<_> = (0..QUESTIONS)
        .map(|number| {
            let engine = engine.clone();
            thread::spawn(move || engine.ask(&question(number)))
        })
        .collect();
    // Every question is out once the server has met it twice.
    while (0..QUESTIONS).any(|number| server.question_count(&question(number)) < 2) {
        thread::yield_now();
    }
    let ports = ports_to(server.addr());
    assert!(!ports.is_empty());
    // The forger has learnt the ports, the server and a question; the ID and the case of letters are left to guess.
    let shares = count / ports.len() as u64 + 1;
    let (mut sent, mut is_exact) = (0, true);
    for (index, &port) in ports.iter().enumerate() {
        let flood = Flood {
            claimed: server.addr(),
            victim: Ipv4Addr::LOCALHOST.into(),
            ports: port..=port,
            ids: 0..=u16::MAX,
            question: question(index % QUESTIONS),
            count: shares,
            seed: 9 + index as u64,
            may_use_raw: true,
        };
        let report = flood.run().unwrap();
        sent += report.sent;
        is_exact &= report.way == FloodWay::Exact;
    }
    server.set_plan(Plan::new(1));
    let answers: Vec<_> = asked.into_iter().map(|thread| thread.join().unwrap()).collect();
    let right = zone().lookup(&question(0)).outcome().clone();
    assert!(matches!(right, Outcome::Records(RecordSet::Txt(_))));
    for answer in &answers {
        assert_eq!(*answer.outcome(), right, "forged, or none");
    }
    let statistics = engine.network_statistics();
    println!("{backend:?}: {sent} forged answers to {} ports, {statistics:?}", ports.len());
    if is_exact {
        // The kernel may drop some of a flood, and a guess of an ID that is outstanding leads to TCP.
        assert!(statistics.unmatched >= sent / 2 && statistics.unmatched <= sent, "{statistics:?}");
    } else {
        println!("not from the server's own address: a raw socket takes root");
    }
}

#[test]
fn no_forged_answer_is_believed() {
    for backend in [Choice::Uring, Choice::Epoll] {
        flood(50_000, backend);
    }
}

#[test]
#[ignore = "long: a million forged answers"]
fn no_forged_answer_in_a_million_is_believed() {
    for backend in [Choice::Uring, Choice::Epoll] {
        flood(1_000_000, backend);
    }
}

/// Answers that come while the server answers too are told apart just as well.
#[test]
fn a_flood_beside_the_right_answers_changes_none() {
    let server = Server::start(zone(), Plan::new(1)).unwrap();
    for backend in [Choice::Uring, Choice::Epoll] {
        let mut options = NetworkOptions::new(vec![server.addr()]);
        (options.threads, options.backend) = (2, backend);
        let engine = Engine::builder().network(options).build().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let (claimed, over) = (server.addr(), Arc::clone(&is_over));
        let forger = thread::spawn(move || {
            let mut seed = 0;
            while !over.load(Ordering::Relaxed) {
                for port in ports_to(claimed) {
                    seed += 1;
                    let question = question(seed as usize % QUESTIONS);
                    let victim = Ipv4Addr::LOCALHOST.into();
                    let (ports, ids, count, may_use_raw) = (port..=port, 0..=u16::MAX, 20, true);
                    Flood { claimed, victim, ports, ids, question, count, seed, may_use_raw }.run().unwrap();
                }
            }
        });
        for _ in 0..20 {
            for number in 0..QUESTIONS {
                let answer = engine.ask(&question(number));
                assert_eq!(answer.outcome(), zone().lookup(&question(number)).outcome());
                engine.purge(&question(number).name);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        forger.join().unwrap();
        assert_eq!(engine.network_statistics().failures, 0);
    }
}

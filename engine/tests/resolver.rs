//! The blocking resolver against servers that misbehave in every way.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mailproof::resolver::{BlockingResolver, ResolverError};
use mailproof::zone::Zone;
use mailproof::{Engine, EngineBuilder, Envelope};
use mailproof_proto::dns::lookup::LookupOptions;
use mailproof_proto::dns::wire::{Query, ReplyWriter};
use mailproof_proto::dns::{Answer, Failure, Name, Outcome, Question, RecordSet, RecordType, Txt};
use mailproof_proto::time::Timestamp;
use mailproof_testkit::responder::{Responder, Transport};

/// A server on a port of its own, by UDP and TCP, that lives as long as the test process. The function gives the
/// datagrams or messages to send back for each query.
fn serve<F>(mut reply: F) -> SocketAddr
where
    F: FnMut(&[u8], Transport) -> Vec<Vec<u8>> + Clone + Send + 'static,
{
    let (udp, tcp) = ports();
    let address = udp.local_addr().unwrap();
    let mut by_tcp = reply.clone();
    thread::spawn(move || {
        let mut room = [0; 4096];
        while let Ok((len, client)) = udp.recv_from(&mut room) {
            for datagram in reply(&room[..len], Transport::Udp) {
                udp.send_to(&datagram, client).unwrap();
            }
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
            stream.read_exact(&mut query).unwrap();
            for message in by_tcp(&query, Transport::Tcp) {
                let len = u16::try_from(message.len()).unwrap().to_be_bytes();
                stream.write_all(&[&len, message.as_slice()].concat()).unwrap();
            }
        }
    });
    address
}

fn ports() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn responder() -> Responder {
    let many: String = (0..20).map(|i| format!("- TXT: record number {i} {}\n", "x".repeat(200))).collect();
    Responder::new(
        Zone::from_yaml(&format!(
            "a.example:\n- TXT: it\n- MX: [10, mx.example]\nalias.example:\n- CNAME: a.example\nmany.example:\n{many}\
             silent.example: TIMEOUT\nfails.example: SERVFAIL\n"
        ))
        .unwrap(),
    )
}

fn good() -> SocketAddr {
    let responder = responder();
    serve(move |query, transport| responder.reply(query, transport).into_iter().collect())
}

fn hasty() -> LookupOptions {
    let try_time = Duration::from_millis(60);
    LookupOptions { try_time, total_time: 3 * try_time, ..LookupOptions::default() }
}

fn txt(name: &str) -> Question {
    Question::new(Name::parse(name).unwrap(), RecordType::Txt)
}

fn it() -> Outcome {
    Outcome::Records(RecordSet::Txt([Txt(b"it"[..].into())].into()))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn one(resolver: &BlockingResolver, name: &str) -> Outcome {
    let answers: Vec<Answer> = resolver.resolve(&[txt(name)], soon());
    answers[0].outcome().clone()
}

fn resolver(servers: &[SocketAddr]) -> BlockingResolver {
    BlockingResolver::new(servers).unwrap()
}

fn impatient(servers: &[SocketAddr]) -> BlockingResolver {
    BlockingResolver::new(servers).unwrap().with_options(hasty())
}

#[test]
fn questions_get_their_own_answers_in_order() {
    let resolver = resolver(&[good()]);
    let names = ["a.example", "absent.example", "alias.example", "fails.example", "many.example"];
    let questions: Vec<Question> = (0..40).map(|index| txt(names[index % names.len()])).collect();
    let answers = resolver.resolve(&questions, soon());
    let zone = responder().zone;
    for (question, answer) in questions.iter().zip(&answers) {
        let expected = zone.lookup(question);
        match (expected.outcome(), answer.outcome()) {
            // A set; the resolver has an order of its own.
            (Outcome::Records(RecordSet::Txt(listed)), Outcome::Records(RecordSet::Txt(got))) => {
                assert_eq!(listed.iter().collect::<HashSet<_>>(), got.iter().collect(), "{question}");
            }
            (expected, got) => assert_eq!(expected, got, "{question}"),
        }
    }
    assert!(resolver.trouble().is_none());
    assert!(resolver.resolve(&[], soon()).is_empty());
}

#[test]
fn a_verdict_over_the_network_is_the_verdict_over_the_zone() {
    let zone = Zone::from_yaml(
        "mail.example:\n- TXT: v=spf1 include:part.example a:alias.example -all\npart.example:\n- TXT: v=spf1 mx ?all\n\
         - MX: [10, host.example]\nhost.example:\n- A: 192.0.2.1\nalias.example:\n- CNAME: host.example\n\
         _dmarc.mail.example:\n- CNAME: dmarc.host.example\ndmarc.host.example:\n- TXT: v=DMARC1; p=reject\n\
         k._domainkey.mail.example: SERVFAIL\n",
    )
    .unwrap();
    let responder = Responder::new(zone.clone());
    let server = serve(move |query, transport| responder.reply(query, transport).into_iter().collect());
    let verify = |builder: EngineBuilder, ip: &str| {
        let engine = builder.authserv_id("mx.example.net").fixed_time(Timestamp::from_seconds(1_795_392_000)).build();
        let envelope = Envelope::new(ip.parse().unwrap(), "mail.example", "ann@mail.example");
        let message = b"From: ann@mail.example\r\nDKIM-Signature: v=1; a=rsa-sha256; d=mail.example; s=k; h=from;\r\n \
                        bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\n\r\n";
        engine.unwrap().verify(message, envelope)
    };
    for (ip, result) in [("192.0.2.1", "pass"), ("192.0.2.2", "temperror")] {
        let by_zone = verify(Engine::builder().zone(zone.clone()), ip);
        let by_network = verify(Engine::builder().resolver(resolver(&[server])), ip);
        assert_eq!(by_zone.dmarc.result.word(), result);
        assert_eq!(by_network.authentication_results, by_zone.authentication_results);
    }
}

#[test]
fn questions_are_asked_in_parallel() {
    // Nobody gets a reply before all four have asked.
    let (udp, _tcp) = ports();
    let address = udp.local_addr().unwrap();
    thread::spawn(move || {
        let (responder, mut room, mut asked) = (responder(), [0; 4096], Vec::new());
        while asked.len() < 4 {
            let (len, client) = udp.recv_from(&mut room).unwrap();
            if !asked.iter().any(|(_, other)| *other == client) {
                asked.push((room[..len].to_vec(), client));
            }
        }
        for (query, client) in asked {
            udp.send_to(&responder.reply(&query, Transport::Udp).unwrap(), client).unwrap();
        }
    });
    let questions = vec![txt("a.example"); 4];
    for answer in resolver(&[address]).resolve(&questions, soon()) {
        assert_eq!(*answer.outcome(), it());
    }
}

#[test]
fn silence_ends_with_the_lookup_and_with_the_deadline() {
    let silent = serve(|_, _| Vec::new());
    let start = Instant::now();
    let resolver = impatient(&[silent]);
    assert_eq!(one(&resolver, "a.example"), Outcome::Failed(Failure::TimedOut));
    assert!(start.elapsed() >= Duration::from_millis(180), "three tries");
    assert!(matches!(resolver.trouble(), Some(ResolverError::Unreachable { .. })));
    let patient = self::resolver(&[silent]);
    let start = Instant::now();
    let answers = patient.resolve(&vec![txt("a.example"); 40], start + Duration::from_millis(100));
    assert!(answers.iter().all(|answer| *answer.outcome() == Outcome::Failed(Failure::TimedOut)));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(*patient.resolve(&[txt("a.example")], start)[0].outcome(), Outcome::Failed(Failure::TimedOut));
}

#[test]
fn forged_replies_are_waited_out() {
    let responder = responder();
    let address = serve(move |query, transport| {
        let reply = responder.reply(query, transport).unwrap();
        let (mut other_id, mut other_name) = (reply.clone(), reply.clone());
        other_id[0] ^= 1;
        other_name[13] ^= 2;
        vec![other_id, other_name, b"junk".to_vec(), Vec::new(), reply]
    });
    assert_eq!(one(&resolver(&[address]), "a.example"), it());
}

#[test]
fn truncated_replies_are_asked_again_by_tcp() {
    let Outcome::Records(RecordSet::Txt(texts)) = one(&resolver(&[good()]), "many.example") else { panic!() };
    assert_eq!(texts.len(), 20);
}

#[test]
fn a_tcp_server_that_hangs_does_not_hold_us() {
    let (udp, tcp) = ports();
    let address = udp.local_addr().unwrap();
    thread::spawn(move || {
        let mut room = [0; 4096];
        while let Ok((len, client)) = udp.recv_from(&mut room) {
            let query = Query::read(&room[..len]).unwrap();
            udp.send_to(&ReplyWriter::new(&query).set_bits(0x200).finish(), client).unwrap();
        }
    });
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            // Half a length, and nothing more.
            stream.write_all(&[1]).unwrap();
            open.push(stream);
        }
    });
    let start = Instant::now();
    assert_eq!(one(&impatient(&[address]), "a.example"), Outcome::Failed(Failure::TimedOut));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_server_without_edns_is_remembered() {
    let with_opt = Arc::new(Mutex::new(Vec::new()));
    let (seen, responder) = (Arc::clone(&with_opt), responder());
    let address = serve(move |query, transport| {
        let read = Query::read(query).unwrap();
        let has_opt = read.edns_payload_bytes.is_some();
        seen.lock().unwrap().push(has_opt);
        vec![if has_opt {
            ReplyWriter::new(&read).rcode(1).finish()
        } else {
            responder.reply(query, transport).unwrap()
        }]
    });
    let resolver = resolver(&[address]);
    for _ in 0..2 {
        assert_eq!(one(&resolver, "a.example"), it());
    }
    assert_eq!(*with_opt.lock().unwrap(), [true, false, false]);
}

#[test]
fn the_next_server_is_asked() {
    let silent = serve(|_, _| Vec::new());
    let refusing = serve(|query, _| vec![ReplyWriter::new(&Query::read(query).unwrap()).rcode(5).finish()]);
    assert_eq!(one(&impatient(&[silent, good()]), "a.example"), it());
    assert_eq!(one(&resolver(&[refusing, good()]), "a.example"), it());
    assert_eq!(one(&resolver(&[closed(), good()]), "a.example"), it());
    assert_eq!(one(&resolver(&[refusing]), "a.example"), Outcome::Failed(Failure::Refused));
}

#[test]
fn a_late_reply_of_an_earlier_server_counts() {
    // The first server replies once the second was asked.
    let (udp, _tcp) = ports();
    let first = udp.local_addr().unwrap();
    let waker = Arc::new(udp.try_clone().unwrap());
    let second = serve(move |_, _| {
        waker.send_to(b"now", first).unwrap();
        Vec::new()
    });
    thread::spawn(move || {
        let (responder, mut room, mut asked) = (responder(), [0; 4096], None);
        loop {
            let (len, client) = udp.recv_from(&mut room).unwrap();
            if room[..len] != *b"now" {
                asked = Some((room[..len].to_vec(), client));
            } else if let Some((query, client)) = &asked {
                udp.send_to(&responder.reply(query, Transport::Udp).unwrap(), *client).unwrap();
            }
        }
    });
    let options = LookupOptions { try_time: Duration::from_millis(300), tries_max: 1, ..LookupOptions::default() };
    let resolver = BlockingResolver::new(&[first, second]).unwrap().with_options(options);
    assert_eq!(one(&resolver, "a.example"), it());
}

fn closed() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_closed_port_is_told_at_once() {
    let (start, address) = (Instant::now(), closed());
    let resolver = resolver(&[address]);
    assert_eq!(one(&resolver, "a.example"), Outcome::Failed(Failure::Unreachable));
    assert!(start.elapsed() < Duration::from_secs(2), "no try waits for its time");
    assert_eq!(resolver.trouble().unwrap().to_string(), format!("no answer from the DNS server {address}"));
}

#[test]
fn every_query_has_a_port_and_an_id_of_its_own() {
    let (udp, _tcp) = ports();
    let address = udp.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (noted, responder) = (Arc::clone(&seen), responder());
    thread::spawn(move || {
        let mut room = [0; 4096];
        while let Ok((len, client)) = udp.recv_from(&mut room) {
            noted.lock().unwrap().push((client.port(), [room[0], room[1]], room[12..len].to_vec()));
            udp.send_to(&responder.reply(&room[..len], Transport::Udp).unwrap(), client).unwrap();
        }
    });
    let resolver = resolver(&[address]);
    for _ in 0..100 {
        assert_eq!(one(&resolver, "a.example"), it());
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 100);
    let ports: HashSet<u16> = seen.iter().map(|(port, ..)| *port).collect();
    let ids: HashSet<[u8; 2]> = seen.iter().map(|(_, id, _)| *id).collect();
    let cases: HashSet<&[u8]> = seen.iter().map(|(.., question)| question.as_slice()).collect();
    assert!(ports.len() > 90 && ids.len() > 90 && cases.len() > 40, "{} {} {}", ports.len(), ids.len(), cases.len());
}

#[test]
fn configurations() {
    let text = |servers: &[&str]| {
        let resolver = BlockingResolver::from_texts(servers)?;
        Ok::<_, ResolverError>(resolver.servers().map(|it| it.to_string()).collect::<Vec<_>>())
    };
    let servers = text(&["192.0.2.1", "192.0.2.1:54", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:54"]).unwrap();
    assert_eq!(servers, ["192.0.2.1:53", "192.0.2.1:54", "[2001:db8::1]:53", "[2001:db8::1]:53", "[2001:db8::1]:54"]);
    let error = text(&["dns.example"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "dns.example: not the address of a DNS server (IP or IP:PORT, [IP]:PORT for IPv6; #NAME after it for TLS)"
    );
    assert_eq!(text(&[]).unwrap_err().to_string(), "no DNS server is configured");

    let path = std::env::temp_dir().join(format!("mailproof-resolv-conf-{}", std::process::id()));
    let from = |text: &str| {
        fs::write(&path, text).unwrap();
        BlockingResolver::from_resolv_conf(&path)
    };
    let read = from(
        "# comment\nnameserver 192.0.2.1\nbogus line\nnameserver 2001:db8::1\nnameserver fe80::1%3\noptions trust-ad\n",
    );
    let servers: Vec<String> = read.unwrap().servers().map(|it| it.to_string()).collect();
    assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%3]:53"]);
    let error = from("search example\n").unwrap_err().to_string();
    assert_eq!(error, format!("no DNS server is configured in {}", path.display()));
    fs::remove_file(&path).unwrap();
    let missing = BlockingResolver::from_resolv_conf(&path).unwrap_err();
    assert!(matches!(missing, ResolverError::Configuration { .. }));
}

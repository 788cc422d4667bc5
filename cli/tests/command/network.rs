use std::net::UdpSocket;

use mailproof::zone::Zone;
use mailproof_fault_dns::{Plan, Server};

use crate::{MESSAGE, ZONE, file, folder, run, run_with_input};

/// An address at which nobody listens.
fn nobody() -> String {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn answers_come_from_the_resolver_that_was_named() {
    let dir = folder("network");
    let server = Server::start(Zone::from_yaml(ZONE).unwrap(), Plan::new(0)).unwrap();
    let (server, message) = (server.addr().to_string(), file(&dir, "one.eml", MESSAGE));
    let envelope = ["--ip", "192.0.2.1", "--helo", "mx.a.example", "--mail-from", "x@a.example"];
    let verify = run(&[&["verify", "--json", "--resolver", &server], &envelope[..], &[&message]].concat());
    assert_eq!(verify.code, Some(0), "{}", verify.err);
    assert_eq!(verify.verdicts()[0]["dmarc"]["result"], "pass");
    let spf = run(&[&["spf", "--resolver", &server], &envelope[..]].concat());
    assert!(spf.code == Some(0) && spf.out.contains("MAIL FROM  pass"), "{}", spf.out);
}

#[test]
fn nobody_who_answers_is_69_with_verdicts() {
    let dir = folder("network-silent");
    let (nobody, message) = (nobody(), file(&dir, "one.eml", MESSAGE));
    let verify = run(&["verify", "--json", "--resolver", &nobody, &message]);
    assert_eq!(verify.code, Some(69), "{}", verify.err);
    assert_eq!(verify.verdicts()[0]["dmarc"]["result"], "temperror");
    let line = verify.err.lines().last().unwrap();
    assert!(line.contains(&nobody) && line.contains("--resolver"), "{line}");
    let stream = r#"{"id":"a","message_b64":"RnJvbTogeEBhLmV4YW1wbGUNCg0K"}"#;
    let batch = run_with_input(&["verify", "--batch", "-", "--resolver", &nobody], stream.as_bytes());
    assert_eq!((batch.code, batch.verdicts().len()), (Some(69), 1), "{}", batch.err);
    let spf = run(&["spf", "--ip", "192.0.2.1", "--helo", "mx.a.example", "--resolver", &nobody]);
    assert_eq!(spf.code, Some(69), "{}", spf.err);
    let explain = run(&["explain", "--resolver", &nobody, &message]);
    assert_eq!(explain.code, Some(69), "{}", explain.err);
}

//! The engine's own DNS client behind the command, on either backend.

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use mailproof::zone::Zone;
use mailproof_fault_dns::{Fault, Plan, Rule, Server, Span};
use mailproof_testkit::demo::NOW_SECONDS;
use mailproof_testkit::responder::{Responder, Transport};
use mailproof_testkit::stream;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::{Run, ZONE, folder, run, run_in};

/// A stream with a bad line and a path that is not there in its midst, and its zone.
fn make_stream(dir: &Path) -> (String, String) {
    let options = stream::Options { count: 150, domain_count: 30, seed: 11, body_bytes: 1500, is_inline: false };
    stream::write(dir, &options).unwrap();
    let (stream, zone) = (dir.join("stream.jsonl"), dir.join("zone.yml"));
    let text = fs::read_to_string(&stream).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.insert(40, "{\"id\": 1");
    lines.insert(90, r#"{"id":"gone","path":"messages/nowhere.eml"}"#);
    fs::write(&stream, lines.join("\n")).unwrap();
    (stream.to_str().unwrap().to_owned(), zone.to_str().unwrap().to_owned())
}

fn with_backend(word: &str, arguments: &[&str]) -> Run {
    run_in(&[("MAILPROOF_BACKEND", word)], arguments, b"")
}

#[test]
fn a_batch_is_the_same_as_offline_on_both_backends() {
    let dir = folder("backend-batch");
    let (stream, zone) = make_stream(&dir);
    let now = NOW_SECONDS.to_string();
    let words = ["verify", "--batch", &stream, "--now", &now];
    let offline = run(&[&words[..], &["--zone", &zone]].concat());
    assert_eq!((offline.code, offline.out.lines().count()), (Some(0), 152), "{}", offline.err);
    // Some answers come late, so that messages overtake each other.
    let delay = Fault::Delay { milliseconds: Span::new(1, 40) };
    let plan = Plan::new(3).with(Rule::new(delay).probability(0.3));
    let server = Server::start(Zone::load(&zone).unwrap(), plan).unwrap();
    let address = server.addr().to_string();
    for backend in ["uring", "epoll"] {
        for more in [&["--threads", "1"][..], &["--threads", "3"], &["--threads", "2", "--passes", "2"]] {
            let online = with_backend(backend, &[&words[..], &["--resolver", &address], more].concat());
            if backend == "uring" && online.code == Some(71) {
                println!("io_uring is refused here: {}", online.err);
                continue;
            }
            assert_eq!(online.code, Some(0), "{backend} {more:?}: {}", online.err);
            assert!(online.out == offline.out, "{backend} {more:?}");
            let dns = online.err.lines().last().unwrap();
            assert!(dns.starts_with("DNS: ") && dns.contains(&backend.replace("uring", "io_uring")), "{}", online.err);
            assert!(online.err.contains("150 messages, ") && online.err.contains("2 not judged"), "{}", online.err);
        }
    }
}

#[test]
fn messages_of_one_thread_wait_for_answers_together() {
    /// More than one message asks, and than a parcel of them could.
    const QUESTIONS: usize = 100;
    let dir = folder("backend-ahead");
    let (stream, zone) = make_stream(&dir);
    let responder = Responder::new(Zone::load(&zone).unwrap());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let (told, were_together) = mpsc::channel();
    // Nothing is answered before so many different questions are there.
    thread::spawn(move || {
        let mut query = [0; 4096];
        let (mut held, mut names) = (Vec::new(), BTreeSet::new());
        while let Ok((count, from)) = socket.recv_from(&mut query) {
            // The question behind the header: name, type and class.
            names.insert(query[12..count].to_ascii_lowercase());
            held.push((query[..count].to_vec(), from));
            if names.len() >= QUESTIONS {
                let _ = told.send(());
                for (query, from) in held.drain(..) {
                    let reply = responder.reply(&query, Transport::Udp).unwrap();
                    let _ = socket.send_to(&reply, from);
                }
            }
        }
    });
    let run = run(&["verify", "--batch", &stream, "--resolver", &address, "--threads", "1"]);
    assert_eq!((run.code, run.out.lines().count()), (Some(0), 152), "{}", run.err);
    assert!(were_together.try_recv().is_ok() && !run.out.contains("temperror"), "{}", run.err);
}

#[test]
fn an_unknown_backend_is_64() {
    for words in [
        &["spf", "--ip", "192.0.2.1", "--helo", "mx.example", "--resolver", "127.0.0.1:1"][..],
        &["resolve", "a.example", "A", "--resolver", "127.0.0.1:1"],
        &["verify", "--batch", "-", "--resolver", "127.0.0.1:1"],
    ] {
        let run = with_backend("kqueue", words);
        assert_eq!((run.code, run.out.as_str()), (Some(64), ""), "{}", run.err);
        assert!(run.err.contains("MAILPROOF_BACKEND=kqueue: a backend is auto, uring or epoll"), "{}", run.err);
        assert_eq!(run.err.lines().count(), 1);
    }
}

#[test]
fn refused_io_uring_is_told_and_does_not_matter_unless_it_was_demanded() {
    let server = Server::start(Zone::from_yaml(ZONE).unwrap(), Plan::new(0)).unwrap();
    let address = server.addr().to_string();
    let words =
        ["spf", "--ip", "192.0.2.1", "--helo", "mx.a.example", "--mail-from", "x@a.example", "--resolver", &address];
    let (demanded, automatic) = without_io_uring(|| (with_backend("uring", &words), with_backend("auto", &words)));
    assert_eq!((demanded.code, demanded.out.as_str()), (Some(71), ""), "{}", demanded.err);
    assert_eq!(demanded.err.lines().count(), 1, "{}", demanded.err);
    for part in ["io_uring does not work here", "seccomp", "MAILPROOF_BACKEND=auto"] {
        assert!(demanded.err.contains(part), "{part}: {}", demanded.err);
    }
    assert_eq!(automatic.code, Some(0), "{}", automatic.err);
    assert!(automatic.out.contains("MAIL FROM  pass"), "{}", automatic.out);
    assert!(automatic.out.contains("by epoll: io_uring does not work here"), "{}", automatic.out);
}

#[test]
fn who_answered_is_named() {
    let server = Server::start(Zone::from_yaml(ZONE).unwrap(), Plan::new(0)).unwrap();
    let address = server.addr().to_string();
    let message = crate::demo_path("message.eml");
    let told = with_backend("epoll", &["explain", "--resolver", &address, &message]);
    assert!(told.out.contains("answered from DNS servers, by epoll\n"), "{}", told.out);
    let zone = crate::demo_path("zone.yml");
    assert!(run(&["explain", "--zone", &zone, &message]).out.contains("answered from zone files\n"));
}

/// Runs on a thread whose system calls for io_uring are refused, and those of the programs it starts.
fn without_io_uring<T: Send>(share: impl FnOnce() -> T + Send) -> T {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let filter = SeccompFilter::new(
        calls.into_iter().map(|call| (call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    )
    .unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    thread::scope(|scope| {
        let share = || {
            seccompiler::apply_filter(&program).unwrap();
            share()
        };
        scope.spawn(share).join().unwrap()
    })
}

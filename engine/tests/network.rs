//! The engine's own DNS client, over real sockets, on both backends.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use mailproof::network::NetworkOptions;
use mailproof::zone::Zone;
use mailproof::{Engine, Envelope};
use mailproof_fault_dns::{Fault, Plan, Rule, Server, Span};
use mailproof_io::{Backend, Choice};
use mailproof_proto::dns::{Failure, Name, Outcome, Question, RecordType};

const ZONE: &str = "
example.org:
- TXT: v=spf1 include:one.example.org include:two.example.org -all
- MX: [10, mx.example.org]
one.example.org: [{TXT: 'v=spf1 ip4:198.51.100.0/24 -all'}]
two.example.org: [{TXT: 'v=spf1 ip4:192.0.2.0/24 -all'}]
_dmarc.example.org: [{TXT: v=DMARC1; p=reject}]
alias.example.org: [{CNAME: example.org}]
";
const MESSAGE: &[u8] = b"From: ann@example.org\r\nSubject: hello\r\n\r\nHello.\r\n";

/// The servers of a test, and an engine of each backend that asks them.
fn on_both(servers: &[SocketAddr], test: impl Fn(&Engine)) {
    for backend in [Choice::Uring, Choice::Epoll] {
        let engine = engine(servers, |options| options.backend = backend);
        match backend {
            Choice::Uring => assert_eq!(engine.backend(), Some(Backend::Uring)),
            _ => assert_eq!(engine.backend(), Some(Backend::Epoll)),
        }
        test(&engine);
    }
}

fn engine(servers: &[SocketAddr], change: impl FnOnce(&mut NetworkOptions)) -> Engine {
    let mut options = NetworkOptions::new(servers.to_vec());
    options.threads = 2;
    change(&mut options);
    Engine::builder().authserv_id("mx.example.net").network(options).build().unwrap()
}

fn server(plan: Plan) -> Server {
    Server::start(Zone::from_yaml(ZONE).unwrap(), plan).unwrap()
}

fn envelope() -> Envelope {
    Envelope::new(IpAddr::from([192, 0, 2, 7]), "mail.example.org", "ann@example.org")
}

fn question(name: &str, kind: RecordType) -> Question {
    Question::new(Name::parse(name).unwrap(), kind)
}

fn offline_verdict() -> mailproof::Verdict {
    let engine = Engine::builder().authserv_id("mx.example.net").zone(Zone::from_yaml(ZONE).unwrap()).build().unwrap();
    engine.verify(MESSAGE, envelope())
}

/// Runs a future to its end on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn every_form_of_call_gives_the_verdict_of_the_zone() {
    let expected = offline_verdict();
    assert_eq!(expected.dmarc.result.word(), "pass");
    let server = server(Plan::new(1));
    on_both(&[server.addr()], |engine| {
        assert_eq!(engine.verify(MESSAGE, envelope()), expected, "cold");
        assert_eq!(engine.verify(MESSAGE, envelope()), expected, "warm");
    });
    on_both(&[server.addr()], |engine| assert_eq!(block_on(engine.verify_async(MESSAGE, envelope())), expected));
    on_both(&[server.addr()], |engine| {
        let mut session = engine.session(envelope());
        for octet in MESSAGE.chunks(1) {
            session.push(octet);
        }
        assert_eq!(*session.finish(), expected);
    });
    on_both(&[server.addr()], |engine| {
        let completions = engine.completions().unwrap();
        for token in 0..100 {
            completions.submit(MESSAGE.to_vec(), envelope(), token);
        }
        let mut tokens = Vec::new();
        while tokens.len() < 100 {
            let mut descriptors =
                [rustix::event::PollFd::from_borrowed_fd(completions.descriptor(), rustix::event::PollFlags::IN)];
            assert_eq!(rustix::event::poll(&mut descriptors, Some(&SECONDS_10)).unwrap(), 1, "{tokens:?}");
            for completion in completions.drain() {
                assert_eq!(completion.verdict.as_ref(), Ok(&expected));
                tokens.push(completion.token);
            }
        }
        tokens.sort_unstable();
        assert_eq!(tokens, (0..100).collect::<Vec<u64>>());
    });
}

const SECONDS_10: rustix::time::Timespec = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };

#[test]
fn a_name_that_ten_thousand_ask_for_is_asked_for_once() {
    let server = server(Plan::new(1).with(Rule::new(Fault::Delay { milliseconds: Span::new(200, 200) })));
    on_both(&[server.addr()], |engine| {
        let before = server.questions();
        let mut futures: Vec<_> = (0..10_000).map(|_| Box::pin(engine.verify_async(MESSAGE, envelope()))).collect();
        let verdicts = block_on(std::future::poll_fn(|context| {
            let mut verdicts = Vec::new();
            futures.retain_mut(|future| match future.as_mut().poll(context) {
                Poll::Ready(verdict) => {
                    verdicts.push(verdict);
                    false
                }
                Poll::Pending => true,
            });
            if futures.is_empty() { Poll::Ready(verdicts) } else { Poll::Pending }
        }));
        assert!(!verdicts.is_empty() && verdicts.iter().all(|verdict| verdict.dmarc.result.word() == "pass"));
        let zone = Zone::from_yaml(ZONE).unwrap();
        for (question, count) in server.questions() {
            if !matches!(zone.lookup(&question).outcome(), Outcome::Records(_)) {
                // Its absence may not be kept: this zone has no SOA.
                continue;
            }
            let asked = count - before.get(&question).copied().unwrap_or(0);
            assert!(asked <= 1, "{question}: {asked}");
        }
    });
}

#[test]
fn faults_of_one_server_are_made_up_for_by_the_other() {
    let good = server(Plan::new(1));
    for fault in ["loss", "serv-fail", "refused", "wrong-id", "wrong-name", "garbage", "other-port", "cut"] {
        let bad = server(Plan::from_yaml(&format!("seed: 1\nrules:\n- fault: {fault}\n")).unwrap());
        on_both(&[bad.addr(), good.addr()], |engine| {
            assert_eq!(engine.verify(MESSAGE, envelope()), offline_verdict(), "{fault}");
        });
    }
}

#[test]
fn what_is_truncated_is_asked_for_by_tcp_over_one_connection() {
    let server = server(Plan::new(1).with(Rule::new(Fault::Truncation)));
    on_both(&[server.addr()], |engine| {
        let before = server.statistics();
        assert_eq!(engine.verify(MESSAGE, envelope()), offline_verdict());
        let statistics = server.statistics();
        assert!(statistics.tcp_queries > before.tcp_queries);
        // A connection a thread at the most.
        assert!(statistics.tcp_connections - before.tcp_connections <= 2, "{statistics:?}");
    });
}

#[test]
fn an_alias_is_followed_and_the_absence_of_names_is_no_failure() {
    let server = server(Plan::new(1));
    on_both(&[server.addr()], |engine| {
        let records = |name: &str, kind| engine.ask(&question(name, kind)).outcome().clone();
        assert_eq!(records("alias.example.org", RecordType::Mx), records("example.org", RecordType::Mx));
        assert_eq!(records("nobody.example.org", RecordType::Txt), Outcome::NxDomain);
        assert_eq!(records("example.org", RecordType::Ptr), Outcome::NoData);
    });
}

#[test]
fn silence_is_a_temporary_error_in_time() {
    let server = server(Plan::new(1));
    server.pause();
    on_both(&[server.addr()], |engine| {
        let started = Instant::now();
        let answer = engine.ask(&question("example.org", RecordType::Txt));
        assert_eq!(*answer.outcome(), Outcome::Failed(Failure::TimedOut));
        assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
        assert!(engine.resolver_trouble().is_some());
    });
}

#[test]
fn a_server_that_comes_back_is_asked_again() {
    let mut server = server(Plan::new(1));
    let engine = engine(&[server.addr()], |_| {});
    assert_eq!(engine.verify(MESSAGE, envelope()), offline_verdict());
    server.stop();
    let failed = engine.ask(&question("other.example.org", RecordType::Txt));
    assert!(matches!(failed.outcome(), Outcome::Failed(_)));
    server.restart().unwrap();
    let answer = engine.ask(&question("one.example.org", RecordType::A));
    assert_eq!(*answer.outcome(), Outcome::NoData);
}

#[cfg(not(feature = "dns-over-tls"))]
#[test]
fn a_server_to_be_asked_over_tls_is_not_asked_in_clear() {
    let options = NetworkOptions::from_texts(&["192.0.2.1#dns.example"]).unwrap();
    let built = Engine::builder().network(options).build();
    assert!(matches!(built, Err(mailproof::resolver::ResolverError::NoTls { .. })));
}

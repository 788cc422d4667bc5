//! How engines end: dropped with work under way, and copied into a child process.

use std::future::Future;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use mailproof::network::NetworkOptions;
use mailproof::service::{Conversation, Host, Peer, Service};
use mailproof::zone::Zone;
use mailproof::{Engine, Envelope};
use mailproof_fault_dns::{Fault, Plan, Rule, Server, Span};
use mailproof_io::Choice;
use mailproof_proto::dns::{Answer, Name, Outcome, Question, RecordType};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// Names that a conversation asks for, one round after the other, so that both threads are asked in each.
const NAMES: usize = 8;
const ROUNDS: usize = 4;
const MESSAGE: &[u8] = b"From: ann@n0.example\r\nSubject: hello\r\n\r\nHello.\r\n";

fn zone() -> Zone {
    let records: String =
        (0..NAMES * ROUNDS).map(|number| format!("n{number}.example: [{{TXT: v=spf1 -all}}]\n")).collect();
    Zone::from_yaml(&records).unwrap()
}

fn engine(server: &Server, backend: Choice) -> Engine {
    let mut options = NetworkOptions::new(vec![server.addr()]);
    (options.threads, options.backend) = (2, backend);
    Engine::builder().network(options).build().unwrap()
}

fn question(number: usize) -> Question {
    Question::new(Name::parse(format!("n{number}.example")).unwrap(), RecordType::Txt)
}

fn slow_server() -> Server {
    let delay = Fault::Delay { milliseconds: Span::new(100, 100) };
    Server::start(zone(), Plan::new(1).with(Rule::new(delay))).unwrap()
}

/// Asks for some names, then for more, and says how many answers were records.
struct Asker;

#[derive(Default)]
struct Asking {
    open: usize,
    round: usize,
    good: u8,
}

impl Service for Asker {
    fn converse(&self, _engine: &Engine, _peer: Peer) -> Box<dyn Conversation> {
        Box::new(Asking::default())
    }
}

impl Asking {
    fn ask(&mut self, host: &mut Host<'_>) {
        self.open = NAMES;
        (0..NAMES).for_each(|number| host.ask(question(self.round * NAMES + number)));
        self.round += 1;
    }
}

impl Conversation for Asking {
    fn received(&mut self, _octets: &[u8], host: &mut Host<'_>) {
        self.ask(host);
    }

    fn answered(&mut self, _question: &Question, answer: &Answer, host: &mut Host<'_>) {
        self.open -= 1;
        self.good += u8::from(matches!(answer.outcome(), Outcome::Records(_)));
        if self.open == 0 && self.round < ROUNDS {
            self.ask(host);
        } else if self.open == 0 {
            host.output().push(self.good);
            host.close();
        }
    }

    fn woken(&mut self, _host: &mut Host<'_>) {}

    fn drain(&mut self, _host: &mut Host<'_>) {}

    fn closed(&mut self) {}
}

#[test]
fn what_is_under_way_is_finished_before_an_engine_ends() {
    for backend in [Choice::Uring, Choice::Epoll] {
        let server = slow_server();
        let engine = engine(&server, backend);
        let path = env::temp_dir().join(format!("mailproof-endings-{}-{backend:?}", process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        engine.listen(OwnedFd::from(listener), Arc::new(Asker)).unwrap();
        let mut peer = UnixStream::connect(&path).unwrap();
        fs::remove_file(&path).unwrap();
        peer.write_all(b"go").unwrap();
        while server.question_count(&question(0)) == 0 {
            std::thread::yield_now();
        }
        let started = Instant::now();
        drop(engine);
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        let mut said = Vec::new();
        peer.read_to_end(&mut said).unwrap();
        assert_eq!(said, [(NAMES * ROUNDS) as u8], "every question of the conversation was answered");
    }
}

#[test]
fn submitted_messages_have_their_verdicts_though_the_engine_is_dropped() {
    for backend in [Choice::Uring, Choice::Epoll] {
        let server = slow_server();
        let engine = engine(&server, backend);
        let completions = engine.completions().unwrap();
        drop(engine);
        for token in 0..50 {
            completions.submit(MESSAGE.to_vec(), envelope(), token);
        }
        let until = Instant::now() + Duration::from_secs(10);
        let mut count = 0;
        while count < 50 && Instant::now() < until {
            for completion in completions.drain() {
                assert_eq!(completion.verdict.unwrap().spf.result.word(), "fail");
                count += 1;
            }
            std::thread::yield_now();
        }
        assert_eq!(count, 50);
    }
}

#[test]
fn a_session_has_its_verdict_through_a_queue() {
    for backend in [Choice::Uring, Choice::Epoll] {
        let server = slow_server();
        let engine = engine(&server, backend);
        let completions = engine.completions().unwrap();
        for token in 0..50 {
            let mut session = engine.session(envelope());
            MESSAGE.chunks(7).for_each(|piece| session.push(piece));
            completions.finish(session, token);
        }
        // What waits for answers keeps the threads that bring them.
        drop(engine);
        let mut tokens = Vec::new();
        while tokens.len() < 50 {
            let mut descriptor = [PollFd::new(completions.descriptor(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut descriptor, PollTimeout::from(10_000_u16)), Ok(1));
            for completion in completions.drain() {
                assert_eq!(completion.verdict.unwrap().spf.result.word(), "fail");
                tokens.push(completion.token);
            }
        }
        tokens.sort_unstable();
        assert_eq!(tokens, (0..50).collect::<Vec<u64>>());
    }
}

/// A service with a defect that nothing guards.
struct Defective;

impl Service for Defective {
    fn converse(&self, _engine: &Engine, _peer: Peer) -> Box<dyn Conversation> {
        panic!("planted")
    }
}

#[test]
fn a_thread_that_ends_by_a_defect_leaves_nobody_waiting() {
    for backend in [Choice::Uring, Choice::Epoll] {
        // Nobody answers before the threads have ended.
        let server = Server::start(zone(), Plan::new(1).with(Rule::new(Fault::Loss))).unwrap();
        let engine = engine(&server, backend);
        let completions = engine.completions().unwrap();
        (0..50).for_each(|token| completions.submit(MESSAGE.to_vec(), envelope(), token));
        let mut begun = engine.session(envelope());
        begun.push(MESSAGE);
        while server.question_count(&Question::new(Name::parse("n0.example").unwrap(), RecordType::Txt)) == 0 {
            std::thread::yield_now();
        }
        let path = env::temp_dir().join(format!("mailproof-defect-{}-{backend:?}", process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        engine.listen(OwnedFd::from(listener), Arc::new(Defective)).unwrap();
        // One connection for each thread.
        let peers = [UnixStream::connect(&path), UnixStream::connect(&path)];
        fs::remove_file(&path).unwrap();
        let started = Instant::now();
        let mut count = 0;
        while count < 50 {
            let mut descriptor = [PollFd::new(completions.descriptor(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut descriptor, PollTimeout::from(10_000_u16)), Ok(1));
            for completion in completions.drain() {
                assert_eq!(completion.verdict.unwrap().spf.result.word(), "temperror");
                count += 1;
            }
        }
        assert_eq!(begun.finish().spf.result.word(), "temperror");
        assert_eq!(engine.verify(MESSAGE, envelope()).spf.result.word(), "temperror");
        drop((peers, completions, begun, engine));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

fn envelope() -> Envelope {
    Envelope::new(IpAddr::from([192, 0, 2, 7]), "mail.example.org", "ann@n0.example")
}

/// What a child process finds: nothing of the engine's threads is there, and nothing waits for them.
fn in_a_child(engine: &Engine, begun: mailproof::Session, mut pending: std::pin::Pin<&mut impl Future>) -> bool {
    let started = Instant::now();
    let mut begun = begun;
    let is_temporary = |verdict: &mailproof::Verdict| verdict.spf.result.word() == "temperror";
    let mut is_right = is_temporary(begun.finish());
    is_right &= is_temporary(&engine.verify(MESSAGE, envelope()));
    is_right &= matches!(engine.ask(&question(1)).outcome(), Outcome::Failed(_));
    is_right &= matches!(pending.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_));
    let completions = engine.completions().unwrap();
    completions.submit(MESSAGE.to_vec(), envelope(), 1);
    is_right &= completions.drain().iter().any(|completion| completion.verdict.as_ref().is_ok_and(is_temporary));
    is_right & (started.elapsed() < Duration::from_secs(2))
}

#[test]
fn a_child_process_is_told_at_once_and_the_parent_goes_on() {
    for backend in [Choice::Uring, Choice::Epoll] {
        let server = slow_server();
        server.pause();
        let engine = engine(&server, backend);
        let mut begun = engine.session(envelope());
        begun.push(MESSAGE);
        let mut pending = pin!(engine.verify_async(MESSAGE, envelope()));
        assert!(pending.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        // SAFETY: the child has this thread only. It takes no lock that a thread of the parent could hold for long, and
        // ends without running what the parent is to run at its end.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let is_right = in_a_child(&engine, begun, pending);
                drop(engine.clone());
                // SAFETY: it does not come back.
                unsafe { nix::libc::_exit(i32::from(!is_right)) }
            }
            ForkResult::Parent { child } => {
                let started = Instant::now();
                assert_eq!(
                    waitpid(child, None).unwrap(),
                    WaitStatus::Exited(child, 0),
                    "after {:?}",
                    started.elapsed()
                );
            }
        }
        server.resume();
        server.set_plan(Plan::new(1));
        assert_eq!(begun.finish().spf.result.word(), "fail", "of the parent");
    }
}

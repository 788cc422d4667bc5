//! Conversations over the streams of a program that lives on tokio-uring.
#![cfg(feature = "tokio-uring")]

#[path = "../examples/tokio_uring/line_service.rs"]
mod line_service;

use std::future::Future;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use mailproof::network::NetworkOptions;
use mailproof::proto::dns::{Answer, Failure, Outcome, Question};
use mailproof::resolver::BlockingResolver;
use mailproof::service::{Conversation, Host, Peer, Service};
use mailproof::zone::Zone;
use mailproof::{Engine, Envelope, tokio_uring};
use mailproof_fault_dns::{Fault, Plan, Rule, Server, Span};
use mailproof_proto::dns::{Name, RecordType};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use self::line_service::LineService;

const ZONE: &str = "
example.org: [{TXT: 'v=spf1 include:one.example.org -all'}]
one.example.org: [{TXT: 'v=spf1 ip4:192.0.2.0/24 -all'}]
_dmarc.example.org: [{TXT: v=DMARC1; p=reject}]
";

fn engine(servers: &[SocketAddr]) -> Engine {
    let mut options = NetworkOptions::new(servers.to_vec());
    options.threads = 2;
    Engine::builder().authserv_id("mx.example.net").network(options).build().unwrap()
}

fn server() -> Server {
    let slow = Rule::new(Fault::Delay { milliseconds: Span::new(5, 20) });
    Server::start(Zone::from_yaml(ZONE).unwrap(), Plan::new(1).with(slow)).unwrap()
}

fn envelope() -> Envelope {
    Envelope::new([192, 0, 2, 7].into(), "mail.example.org", "ann@example.org")
}

fn message(body_bytes: usize) -> Vec<u8> {
    let line = "0123456789012345678901234567890123456789012345678901234567890\r\n";
    format!("From: ann@example.org\r\nSubject: hello\r\n\r\n{}", line.repeat(body_bytes / line.len())).into_bytes()
}

/// Runs a future on tokio-uring; false, with a word, where io_uring is refused.
fn on_ring(future: impl Future<Output = ()>) -> bool {
    match tokio_uring::runtime() {
        Ok(runtime) => {
            runtime.block_on(future);
            true
        }
        Err(error) => {
            println!("skipped: {error}");
            false
        }
    }
}

/// Sends messages, the whole of each in pieces, and reads a line of results for each.
fn converse_as_client(mut stream: impl Read + Write, messages: &[Vec<u8>], piece_bytes: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for message in messages {
        let head = format!("192.0.2.7 mail.example.org ann@example.org {}\r\n", message.len());
        for piece in [head.as_bytes(), message].concat().chunks(piece_bytes) {
            stream.write_all(piece).unwrap();
        }
        let mut line = String::new();
        BufReader::with_capacity(1, &mut stream).read_line(&mut line).unwrap();
        lines.push(line);
    }
    lines
}

#[test]
fn verdicts_come_back_over_tcp_and_unix_sockets() {
    let server = server();
    let engine = engine(&[server.addr()]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    on_ring(async {
        let clients: Vec<_> = [(1, 100), (7, 2_000), (1_000, 30_000), (100_000, 300_000), (1_000_000, 300_000)]
            .into_iter()
            .map(|(piece_bytes, body_bytes)| {
                thread::spawn(move || {
                    let stream = TcpStream::connect(address).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let messages = vec![message(body_bytes), message(0), message(100)];
                    converse_as_client(stream, &messages, piece_bytes)
                })
            })
            .collect();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let mut hosted = Vec::new();
        for _ in &clients {
            let (stream, _) = listener.accept().await.unwrap();
            let one = tokio_uring::converse(&engine, stream.into_std().unwrap(), &LineService).unwrap();
            hosted.push(one);
        }
        let (here, there) = UnixStream::pair().unwrap();
        let local = thread::spawn(move || converse_as_client(there, &[message(500)], 64));
        hosted.push(tokio_uring::converse(&engine, here, &LineService).unwrap());
        for one in hosted {
            one.await.unwrap();
        }
        for client in clients {
            assert_eq!(client.join().unwrap(), ["spf=pass dmarc=pass\r\n"; 3]);
        }
        assert_eq!(local.join().unwrap(), ["spf=pass dmarc=pass\r\n"]);
    });
    assert!(server.question_count(&Question::new(Name::parse("one.example.org").unwrap(), RecordType::Txt)) <= 1);
}

#[test]
fn the_engine_is_a_future_on_any_executor() {
    let server = server();
    let offline = Engine::builder().authserv_id("mx.example.net").zone(Zone::from_yaml(ZONE).unwrap()).build().unwrap();
    let expected = offline.verify(&message(3_000), envelope());
    let engine = engine(&[server.addr()]);
    let verify = async || {
        assert_eq!(engine.verify_async(&message(3_000), envelope()).await, expected);
        assert_eq!(engine.verify_on_threads(message(3_000), envelope()).await, expected);
        // Without threads of its own, at once.
        assert_eq!(offline.verify_on_threads(message(3_000), envelope()).await, expected);
    };
    on_ring(verify());
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(verify());
}

/// A service whose conversations tell what happens to them, and on which thread.
struct Telling(Sender<String>);

struct Told(Sender<String>);

impl Service for Telling {
    fn converse(&self, _: &Engine, peer: Peer) -> Box<dyn Conversation> {
        self.0.send(format!("{peer:?}")).unwrap();
        Box::new(Told(self.0.clone()))
    }
}

impl Told {
    fn tell(&self, what: &str) {
        let thread = thread::current().name().unwrap_or_default().to_owned();
        assert!(what == "closed" || thread.starts_with("mailproof-"), "{what} on {thread}");
        self.0.send(what.to_owned()).unwrap();
    }
}

impl Conversation for Told {
    /// `q` asks, `t` wants to be woken, `c` closes; everything is echoed.
    fn received(&mut self, octets: &[u8], host: &mut Host<'_>) {
        self.tell("received");
        host.output().extend_from_slice(octets);
        match octets.first() {
            Some(b'q') => host.ask(Question::new(Name::parse("example.org").unwrap(), RecordType::Txt)),
            Some(b't') => host.wake_at(Some(host.now() + Duration::from_millis(20))),
            Some(b'c') => host.close(),
            _ => {}
        }
    }

    fn answered(&mut self, _: &Question, answer: &Answer, host: &mut Host<'_>) {
        self.tell("answered");
        host.output().push(b'0' + u8::from(matches!(answer.outcome(), Outcome::Records(_))));
    }

    fn woken(&mut self, host: &mut Host<'_>) {
        self.tell("woken");
        host.output().push(b'w');
    }

    fn drain(&mut self, host: &mut Host<'_>) {
        self.tell("drain");
        host.output().push(b'd');
        host.close();
    }

    fn closed(&mut self) {
        self.tell("closed");
    }
}

#[test]
fn a_conversation_hears_everything_on_the_threads_of_the_engine() {
    let server = server();
    let engine = engine(&[server.addr()]);
    let (send, told) = channel();
    let (here, mut there) = UnixStream::pair().unwrap();
    let works = on_ring(async {
        let hosted = tokio_uring::converse(&engine, here, &Telling(send)).unwrap();
        let (sent, drains) = tokio::sync::oneshot::channel();
        let client = thread::spawn(move || {
            let mut room = [0; 2];
            // Twice: the second answer is at hand.
            for (octet, expected) in [(b'q', b"q1"), (b'q', b"q1"), (b't', b"tw")] {
                there.write_all(&[octet]).unwrap();
                there.read_exact(&mut room).unwrap();
                assert_eq!(&room, expected);
            }
            sent.send(()).unwrap();
            let mut rest = Vec::new();
            there.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"d");
        });
        drains.await.unwrap();
        hosted.drain();
        hosted.await.unwrap();
        client.join().unwrap();
    });
    let told: Vec<String> = told.iter().collect();
    if works {
        let expected =
            ["Local", "received", "answered", "received", "answered", "received", "woken", "drain", "closed"];
        assert_eq!(told, expected);
    }
}

#[test]
fn a_conversation_ends_with_its_peer_its_owner_or_itself() {
    let server = server();
    let engine = engine(&[server.addr()]);
    for end in ["peer", "owner", "itself"] {
        let (send, told) = channel();
        let (here, mut there) = UnixStream::pair().unwrap();
        let works = on_ring(async {
            let hosted = tokio_uring::converse(&engine, here, &Telling(send)).unwrap();
            match end {
                "peer" => {
                    there.write_all(b"x").unwrap();
                    there.shutdown(Shutdown::Write).unwrap();
                    hosted.await.unwrap();
                }
                // With a read that is pending.
                "owner" => {
                    ::tokio_uring::no_op().await.unwrap();
                    drop(hosted);
                }
                _ => {
                    there.write_all(b"c").unwrap();
                    hosted.await.unwrap();
                }
            }
            // Its task may still have to end: it lives on this thread, which must not wait for it.
            let ended = tokio::task::spawn_blocking(move || {
                let mut rest = Vec::new();
                there.read_to_end(&mut rest).unwrap();
                rest
            });
            let expected: &[u8] = match end {
                "peer" => b"x",
                "owner" => b"",
                _ => b"c",
            };
            assert_eq!(ended.await.unwrap(), expected, "{end}");
        });
        if works {
            assert_eq!(told.iter().last().unwrap(), "closed", "{end}");
        }
    }
}

#[test]
fn a_peer_that_reads_nothing_is_read_from_no_more() {
    let server = server();
    let engine = engine(&[server.addr()]);
    let (send, _told) = channel();
    let (here, mut there) = UnixStream::pair().unwrap();
    let octets_max = 8 * 1024 * 1024;
    on_ring(async {
        let hosted = tokio_uring::converse(&engine, here, &Telling(send)).unwrap();
        let client = thread::spawn(move || {
            there.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            let (piece, mut count) = ([b'x'; 64 * 1024], 0);
            while count < octets_max {
                match there.write(&piece) {
                    Ok(written) => count += written,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        break;
                    }
                }
            }
            // Two of the module's buffers, and those of the kernel.
            assert!((256 * 1024..2 * 1024 * 1024).contains(&count), "{count}");
            let mut echo = vec![0; count];
            there.read_exact(&mut echo).unwrap();
            assert!(echo.iter().all(|&octet| octet == b'x'));
        });
        hosted.await.unwrap();
        client.join().unwrap();
    });
}

#[test]
fn questions_that_nobody_answers_fail() {
    let mut server = server();
    let gone = server.addr();
    server.stop();
    for engine in [engine(&[gone]), Engine::builder().offline().build().unwrap()] {
        let (here, there) = UnixStream::pair().unwrap();
        on_ring(async {
            let client = thread::spawn(move || converse_as_client(there, &[message(0)], 64));
            let hosted = tokio_uring::converse(&engine, here, &LineService).unwrap();
            hosted.await.unwrap();
            assert_eq!(client.join().unwrap(), ["spf=temperror dmarc=temperror\r\n"]);
        });
        let question = Question::new(Name::parse("example.org").unwrap(), RecordType::Txt);
        assert_eq!(*engine.ask(&question).outcome(), Outcome::Failed(Failure::Unreachable));
    }
}

#[test]
fn an_engine_that_waits_for_its_answers_is_refused() {
    let resolver = BlockingResolver::new(&["127.0.0.1:53".parse().unwrap()]).unwrap();
    let engine = Engine::builder().resolver(resolver).build().unwrap();
    let (here, _there) = UnixStream::pair().unwrap();
    let refused = tokio_uring::converse(&engine, here, &LineService);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_kernel_that_refuses_io_uring_is_an_error_with_a_remedy() {
    // The second lets the ring be made, and tokio-uring would wait forever.
    for (call, errno) in [(libc::SYS_io_uring_setup, libc::EPERM), (libc::SYS_io_uring_enter, libc::ENOSYS)] {
        let refused = thread::spawn(move || {
            let filter = SeccompFilter::new(
                [(call, Vec::new())].into(),
                SeccompAction::Allow,
                SeccompAction::Errno(errno as u32),
                std::env::consts::ARCH.try_into().unwrap(),
            );
            let program: BpfProgram = filter.unwrap().try_into().unwrap();
            seccompiler::apply_filter(&program).unwrap();
            tokio_uring::runtime().err().map(|error| error.to_string())
        });
        let told = refused.join().unwrap().unwrap();
        assert!(told.contains("io_uring does not work here") && told.contains("seccomp"), "{told}");
    }
}

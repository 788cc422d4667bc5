//! One suite over both backends, and over machines that refuse io_uring in the ways container runtimes do.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mailproof_io::{Backend, Choice, Driver, DriverError, Event, Options, SocketId};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Every behaviour, on a driver that `new` makes.
fn suite(new: &dyn Fn(Options) -> Driver) {
    datagrams_keep_their_order_and_content(new);
    datagrams_of_one_length_go_together(new);
    where_none_are_parted_each_goes_alone(new);
    unix_datagrams_stay_apart(new);
    a_dead_port_is_reported_and_the_socket_goes_on(new);
    streams_carry_more_than_any_buffer(new);
    a_refused_connection_ends(new);
    a_connection_is_given_up_at_its_deadline(new);
    a_paused_stream_loses_nothing(new);
    what_is_queued_goes_out_before_the_close(new);
    a_peer_that_goes_is_reported(new);
    a_waker_ends_the_wait(new);
    closing_frees_every_descriptor(new);
    too_many_sockets_are_refused(new);
    few_buffers_lose_no_stream_octet(new);
    an_exchange_without_plan_is_carried_whole(new);
}

#[test]
fn on_io_uring() {
    suite(&|options| {
        let driver = Driver::new(Choice::Uring, options).unwrap();
        assert_eq!(*driver.backend(), Backend::Uring);
        driver
    });
}

#[test]
fn on_epoll() {
    suite(&|options| {
        let driver = Driver::new(Choice::Epoll, options).unwrap();
        assert_eq!(*driver.backend(), Backend::Epoll);
        driver
    });
}

#[test]
fn where_the_set_up_is_refused() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        behind_filter(&[libc::SYS_io_uring_setup], errno, || refused_suite("io_uring_setup"));
    }
}

#[test]
fn where_only_entering_is_refused() {
    behind_filter(&[libc::SYS_io_uring_enter], libc::EPERM, || refused_suite("io_uring_enter"));
}

#[test]
fn where_only_registering_is_refused() {
    behind_filter(&[libc::SYS_io_uring_register], libc::EPERM, || refused_suite("io_uring_register"));
}

fn refused_suite(step: &str) {
    let error = Driver::new(Choice::Uring, Options::default()).unwrap_err();
    assert!(matches!(error, DriverError::UringRefused { .. }), "{error}");
    assert!(error.to_string().contains(step) && error.to_string().contains("seccomp"), "{error}");
    suite(&|options| {
        let driver = Driver::new(Choice::Auto, options).unwrap();
        assert!(matches!(driver.backend(), Backend::EpollInstead { reason } if reason.contains(step)));
        driver
    });
}

#[test]
fn a_filter_that_comes_later_moves_to_epoll() {
    thread::spawn(|| {
        let mut driver = Driver::new(Choice::Uring, Options::default()).unwrap();
        let (there, here) = datagram_pair(&mut driver);
        let (mut peer, stream) = stream_pair(&mut driver);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listener = driver.add_listener(listener.into()).unwrap();
        for socket in [here, stream, listener] {
            driver.receive(socket);
        }
        driver.send(stream, b"before ");
        there.send(b"before").unwrap();
        let mut heard = Heard::default();
        heard.until(&mut driver, |heard| heard.of(here) == b"before");

        install(&[libc::SYS_io_uring_enter], libc::EPERM);
        driver.send(stream, b"after");
        there.send(b"after").unwrap();
        heard.until(&mut driver, |heard| heard.has_moved && heard.of(here) == b"beforeafter");
        assert!(matches!(driver.backend(), Backend::EpollInstead { .. }));
        assert_eq!(driver.statistics().moves, 1);

        peer.write_all(b"and back").unwrap();
        heard.until(&mut driver, |heard| heard.of(stream) == b"and back");
        let mut received = [0; 12];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"before after");
        let _client = TcpStream::connect(address).unwrap();
        heard.until(&mut driver, |heard| heard.accepted.len() == 1);
        driver.send_datagram(here, b"to there");
        driver.glance().unwrap();
        let mut room = [0; 16];
        assert_eq!(there.recv(&mut room).unwrap(), 8);
    })
    .join()
    .unwrap();
}

fn datagrams_keep_their_order_and_content(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options::default());
    let (there, here) = datagram_pair(&mut driver);
    driver.receive(here);
    let mut room = [0; 2048];
    for round in 0..20_u32 {
        let texts: Vec<Vec<u8>> = (0..40_u32).map(|n| vec![n as u8; (round * 70 + n) as usize]).collect();
        for text in &texts {
            driver.send_datagram(here, text);
        }
        driver.glance().unwrap();
        for text in &texts {
            let length = there.recv(&mut room).unwrap();
            assert_eq!(&room[..length], text);
            there.send(text).unwrap();
        }
        let mut heard = Heard::default();
        heard.until(&mut driver, |heard| heard.datagrams.len() == texts.len());
        assert_eq!(heard.datagrams, texts);
    }
}

fn datagrams_of_one_length_go_together(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options::default());
    let (there, here) = datagram_pair(&mut driver);
    let mut room = [0; 2048];
    // More than a group, than all groups, than the submission queue; with shorter ones that end a group, and empty ones.
    for lengths in [vec![60; 5000], vec![60, 60, 59, 60, 60, 0, 60, 61, 61, 512, 512, 513, 512], vec![500; 9]] {
        let texts: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(n, &length)| pattern_from(n, length)).collect();
        for texts in texts.chunks(100) {
            texts.iter().for_each(|text| driver.send_datagram(here, text));
            driver.glance().unwrap();
            for text in texts {
                let length = there.recv(&mut room).unwrap();
                assert_eq!(&room[..length], text);
            }
        }
    }
    let joined = driver.statistics().joined;
    assert!((5000..5030).contains(&joined), "{joined} went together");
    // More groups than there is room for, each of one datagram.
    rustix::net::sockopt::set_socket_recv_buffer_size(&there, 4 * 1024 * 1024).unwrap();
    let before = driver.statistics().joined;
    let texts: Vec<Vec<u8>> =
        (0..600).map(|n| pattern_from(n, n + 1)).map(|it| it[..it.len().min(512)].to_vec()).collect();
    texts.iter().for_each(|text| driver.send_datagram(here, text));
    driver.glance().unwrap();
    for text in &texts {
        let length = there.recv(&mut room).unwrap();
        assert_eq!(&room[..length], text);
    }
    assert_eq!(driver.statistics().joined - before, 88, "of 89 with 512 octets, four in a room, one is left over");
}

fn where_none_are_parted_each_goes_alone(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options::default());
    let (there, here) = datagram_pair(&mut driver);
    // Without a checksum the kernel refuses to part.
    without_checksum(driver.descriptor(here).unwrap().as_raw_fd());
    let texts: Vec<Vec<u8>> = (0..50).map(|n| pattern_from(n, 40)).collect();
    texts.iter().for_each(|text| driver.send_datagram(here, text));
    driver.glance().unwrap();
    let mut heard = Heard::default();
    heard.take(&mut driver);
    if heard.losses > 0 {
        assert_eq!(heard.losses, 1, "it is said once");
        texts.iter().for_each(|text| driver.send_datagram(here, text));
        driver.glance().unwrap();
    }
    let mut room = [0; 2048];
    for text in &texts {
        let length = there.recv(&mut room).unwrap();
        assert_eq!(&room[..length], text);
    }
}

fn unix_datagrams_stay_apart(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options::default());
    let (there, here) = UnixDatagram::pair().unwrap();
    let here = driver.add_datagram(here.into()).unwrap();
    (0..3).for_each(|_| driver.send_datagram(here, b"alone"));
    driver.glance().unwrap();
    for _ in 0..3 {
        assert_eq!(there.recv(&mut [0; 2048]).unwrap(), 5);
    }
}

fn a_dead_port_is_reported_and_the_socket_goes_on(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options::default());
    let (there, here) = datagram_pair(&mut driver);
    let address = there.local_addr().unwrap();
    let back = there.peer_addr().unwrap();
    driver.receive(here);
    drop(there);
    driver.send_datagram(here, b"is anybody there");
    let mut heard = Heard::default();
    heard.until(&mut driver, |heard| heard.datagram_errors > 0);
    let there = UdpSocket::bind(address).unwrap();
    there.send_to(b"now there is", back).unwrap();
    heard.until(&mut driver, |heard| heard.of(here) == b"now there is");
}

fn streams_carry_more_than_any_buffer(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listener = driver.add_listener(listener.into()).unwrap();
    driver.receive(listener);
    let client = driver.connect(address, soon()).unwrap();
    let text = pattern(3_000_000);
    driver.send(client, &text);
    driver.notify_when_sent(client);
    driver.receive(client);
    let mut heard = Heard::default();
    heard.until(&mut driver, |heard| heard.accepted.len() == 1);
    let server = heard.accepted[0];
    driver.receive(server);
    heard.until(&mut driver, |heard| heard.of(server).len() == text.len() && heard.sent.contains(&client));
    assert!(heard.of(server) == text);
    assert!(heard.connected.contains(&client));
    driver.send(server, &text[..100_000]);
    heard.until(&mut driver, |heard| heard.of(client).len() == 100_000);
    assert!(heard.of(client) == &text[..100_000]);
    assert_eq!(driver.unsent_bytes(client), 0);
}

fn a_refused_connection_ends(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options::default());
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut heard = Heard::default();
    // A loopback address may refuse at once.
    if let Ok(client) = driver.connect(address, soon()) {
        heard.until(&mut driver, |heard| heard.ended.contains_key(&client));
        assert_eq!(heard.ended[&client], Some(libc::ECONNREFUSED));
        driver.close(client);
        assert_eq!(driver.next_deadline(), None);
    }
}

fn a_connection_is_given_up_at_its_deadline(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options::default());
    let (listener, address) = full_listener();
    let started = Instant::now();
    let client = driver.connect(address, started + Duration::from_millis(50)).unwrap();
    let mut heard = Heard::default();
    heard.until(&mut driver, |heard| heard.ended.contains_key(&client));
    assert_eq!(heard.ended[&client], Some(libc::ETIMEDOUT));
    assert!(started.elapsed() >= Duration::from_millis(50));
    driver.close(client);
    heard.until(&mut driver, |_| true);
    drop(listener);
}

fn a_paused_stream_loses_nothing(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options::default());
    let (mut peer, stream) = stream_pair(&mut driver);
    let mut heard = Heard::default();
    driver.receive(stream);
    peer.write_all(b"one").unwrap();
    heard.until(&mut driver, |heard| heard.of(stream) == b"one");
    driver.pause(stream);
    heard.look(&mut driver);
    peer.write_all(b"two").unwrap();
    heard.look(&mut driver);
    assert_eq!(heard.of(stream), b"one");
    drop(peer);
    heard.look(&mut driver);
    assert!(heard.ended.is_empty());
    driver.receive(stream);
    heard.until(&mut driver, |heard| heard.ended.contains_key(&stream));
    assert_eq!(heard.of(stream), b"onetwo");
    // Pausing and receiving again before the first has taken effect leaves it receiving.
    let (mut peer, stream) = stream_pair(&mut driver);
    driver.receive(stream);
    driver.pause(stream);
    driver.receive(stream);
    peer.write_all(b"three").unwrap();
    heard.until(&mut driver, |heard| heard.of(stream) == b"three");
}

fn what_is_queued_goes_out_before_the_close(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options::default());
    let (mut peer, stream) = stream_pair(&mut driver);
    driver.receive(stream);
    let text = pattern(2_000_000);
    driver.send(stream, &text);
    driver.close_when_sent(stream);
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        send.send(received).unwrap();
    });
    let mut heard = Heard::default();
    let received = loop {
        heard.look(&mut driver);
        if let Ok(received) = receive.recv_timeout(Duration::from_millis(1)) {
            break received;
        }
    };
    assert!(received == text);
    heard.until_free(&mut driver);
}

fn a_peer_that_goes_is_reported(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options::default());
    let (peer, stream) = stream_pair(&mut driver);
    driver.receive(stream);
    drop(peer);
    let mut heard = Heard::default();
    heard.until(&mut driver, |heard| heard.ended.contains_key(&stream));
    assert_eq!(heard.ended[&stream], None);
    // Sending to nobody is an end, or nothing; never a signal.
    driver.send(stream, b"hello");
    heard.look(&mut driver);
    driver.close(stream);
    heard.until_free(&mut driver);
}

fn a_waker_ends_the_wait(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options::default());
    let waker = driver.waker();
    waker.wake();
    let mut heard = Heard::default();
    heard.until(&mut driver, |heard| heard.wakes == 1);
    for _ in 0..100 {
        let waker = waker.clone();
        let thread = thread::spawn(move || waker.wake());
        let before = heard.wakes;
        heard.until(&mut driver, |heard| heard.wakes > before);
        thread.join().unwrap();
    }
}

fn closing_frees_every_descriptor(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options::default());
    let mut heard = Heard::default();
    let (full, address) = full_listener();
    for _ in 0..50 {
        let (there, here) = datagram_pair(&mut driver);
        let (_peer, stream) = stream_pair(&mut driver);
        let client = driver.connect(address, soon()).unwrap();
        driver.receive(here);
        driver.receive(stream);
        driver.send_datagram(here, b"x");
        there.send(b"y").unwrap();
        driver.send(stream, &pattern(1_000_000));
        driver.glance().unwrap();
        for socket in [here, stream, client] {
            driver.close(socket);
        }
        heard.look(&mut driver);
    }
    heard.until_free(&mut driver);
    drop(full);
}

fn too_many_sockets_are_refused(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options { sockets_max: 2, ..Options::default() });
    let socket = || UdpSocket::bind("127.0.0.1:0").unwrap().into();
    let first = driver.add_datagram(socket()).unwrap();
    driver.add_datagram(socket()).unwrap();
    assert!(matches!(driver.add_datagram(socket()), Err(DriverError::TooManySockets { limit: 2 })));
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(matches!(driver.connect(address, soon()), Err(DriverError::TooManySockets { limit: 2 })));
    driver.close(first);
    driver.add_datagram(socket()).unwrap();
}

fn few_buffers_lose_no_stream_octet(new: &dyn Fn(Options) -> Driver) {
    let mut driver = new(Options { datagram_buffers: 4, stream_buffers: 2, ..Options::default() });
    let pairs: Vec<_> = (0..8).map(|_| stream_pair(&mut driver)).collect();
    let text = pattern(300_000);
    let mut heard = Heard::default();
    thread::scope(|scope| {
        for (peer, stream) in &pairs {
            driver.receive(*stream);
            let (mut peer, text) = (peer, &text);
            scope.spawn(move || peer.write_all(text).unwrap());
        }
        heard.until(&mut driver, |heard| pairs.iter().all(|(_, stream)| heard.of(*stream).len() == text.len()));
    });
    assert!(pairs.iter().all(|(_, stream)| heard.of(*stream) == text));
}

/// Streams that send, pause and go on by chance: everything arrives, in order.
fn an_exchange_without_plan_is_carried_whole(new: &dyn Fn(Options) -> Driver) {
    let seed = Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut driver = new(Options { stream_buffers: 4, ..Options::default() });
    let mut heard = Heard::default();
    let pairs: Vec<(SocketId, SocketId)> = (0..6)
        .map(|_| {
            let (one, other) = UnixStream::pair().unwrap();
            (driver.add_stream(one.into()).unwrap(), driver.add_stream(other.into()).unwrap())
        })
        .collect();
    let mut expected: BTreeMap<SocketId, Vec<u8>> = BTreeMap::new();
    for step in 0..2_000 {
        let (one, other) = pairs[random.below(6) as usize];
        let (from, to) = if random.below(2) == 0 { (one, other) } else { (other, one) };
        match random.below(6) {
            0 => driver.pause(to),
            1 | 2 => driver.receive(to),
            3 => {
                let octets: Vec<u8> = (0..random.below(40_000)).map(|n| (n + step) as u8).collect();
                driver.send(from, &octets);
                expected.entry(to).or_default().extend(octets);
            }
            4 => driver.notify_when_sent(from),
            _ => heard.look(&mut driver),
        }
    }
    for (one, other) in &pairs {
        driver.receive(*one);
        driver.receive(*other);
    }
    heard.until(&mut driver, |heard| expected.iter().all(|(to, octets)| heard.of(*to).len() >= octets.len()));
    assert!(expected.iter().all(|(to, octets)| heard.of(*to) == *octets));
}

/// All that a driver has said.
#[derive(Debug, Default)]
struct Heard {
    octets: BTreeMap<SocketId, Vec<u8>>,
    datagrams: Vec<Vec<u8>>,
    datagram_errors: u32,
    ended: BTreeMap<SocketId, Option<i32>>,
    accepted: Vec<SocketId>,
    connected: Vec<SocketId>,
    sent: Vec<SocketId>,
    wakes: u32,
    losses: u32,
    has_moved: bool,
}

impl Heard {
    fn of(&self, socket: SocketId) -> &[u8] {
        self.octets.get(&socket).map_or(&[], Vec::as_slice)
    }

    /// Hears what there is, until it is enough; twenty seconds are too long for anything here.
    fn until(&mut self, driver: &mut Driver, is_enough: impl Fn(&Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        self.take(driver);
        while !is_enough(self) {
            assert!(Instant::now() < until, "nothing more comes: {self:.200?}");
            driver.wait(Some(until)).unwrap();
            self.take(driver);
        }
    }

    fn until_free(&mut self, driver: &mut Driver) {
        let until = Instant::now() + Duration::from_secs(20);
        while driver.socket_count() > 0 {
            assert!(Instant::now() < until, "{} sockets are not freed", driver.socket_count());
            driver.wait(Some(Instant::now() + Duration::from_millis(5))).unwrap();
            self.take(driver);
        }
    }

    fn look(&mut self, driver: &mut Driver) {
        driver.wait(Some(Instant::now())).unwrap();
        self.take(driver);
    }

    fn take(&mut self, driver: &mut Driver) {
        while let Some(event) = driver.next_event() {
            match event {
                Event::Received { socket, octets } => {
                    self.octets.entry(socket).or_default().extend_from_slice(octets);
                    self.datagrams.push(octets.to_vec());
                }
                Event::DatagramFailed { .. } => self.datagram_errors += 1,
                Event::Ended { socket, error } => {
                    let code = error.map(|error| error.raw_os_error().unwrap_or(0));
                    assert!(self.ended.insert(socket, code).is_none(), "a stream ends once");
                }
                Event::Connected { socket } => self.connected.push(socket),
                Event::Accepted { socket, .. } => self.accepted.push(socket),
                Event::Sent { socket } => self.sent.push(socket),
                Event::Woken => self.wakes += 1,
                Event::DatagramsLost => self.losses += 1,
                Event::Moved => self.has_moved = true,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn datagram_pair(driver: &mut Driver) -> (UdpSocket, SocketId) {
    let (there, here) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    here.connect(there.local_addr().unwrap()).unwrap();
    there.connect(here.local_addr().unwrap()).unwrap();
    there.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (there, driver.add_datagram(here.into()).unwrap())
}

fn stream_pair(driver: &mut Driver) -> (UnixStream, SocketId) {
    let (there, here) = UnixStream::pair().unwrap();
    (there, driver.add_stream(here.into()).unwrap())
}

/// A listener whose queue is full: whoever connects waits.
fn full_listener() -> ((TcpListener, Vec<TcpStream>), SocketAddr) {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        waiting.push(stream);
    }
    ((listener, waiting), address)
}

fn pattern_from(start: usize, bytes: usize) -> Vec<u8> {
    (start..start + bytes).map(|n| (n % 251) as u8).collect()
}

fn without_checksum(socket: libc::c_int) {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` octets of `on`, which lives until the call returns.
    let code = unsafe {
        libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, std::ptr::from_ref(&on).cast(), length)
    };
    assert_eq!(code, 0);
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n % 251) as u8).collect()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Runs on a thread of its own, for which these system calls fail.
fn behind_filter(calls: &'static [libc::c_long], errno: i32, test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            install(calls, errno);
            test();
        });
        thread.join().unwrap();
    });
}

/// Lets system calls of this thread fail, and of the threads that it starts.
fn install(calls: &[libc::c_long], errno: i32) {
    let filter = SeccompFilter::new(
        calls.iter().map(|&call| (call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    )
    .unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

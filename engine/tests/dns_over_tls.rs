//! DNS over TLS: against a real server, and against servers that are not what they should be.
#![cfg(feature = "dns-over-tls")]

mod unbound;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use mailproof::network::{NetworkOptions, Upstream};
use mailproof::resolver::ResolverError;
use mailproof::{Engine, Envelope};
use mailproof_io::Choice;
use mailproof_proto::dns::{Failure, Name, Outcome, Question, RecordType};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use self::unbound::Unbound;

const MESSAGE: &[u8] = b"From: ann@a.example\r\nSubject: hello\r\n\r\nHello.\r\n";

/// An authority that only tests believe.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    authority_of_name("Authority of a test")
}

fn authority_of_name(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Unbound, asked over TLS only, with a certificate of this authority.
fn server(
    authority: &CertifiedIssuer<'static, KeyPair>,
    change: impl FnOnce(&mut CertificateParams),
) -> Option<Unbound> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["dns.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    change(&mut params);
    let certificate = params.signed_by(&key, authority).unwrap();
    Unbound::start(move |address, directory| {
        fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(directory.join("certificate.pem"), certificate.pem()).unwrap();
        configuration(address, directory)
    })
}

fn configuration(address: SocketAddr, directory: &Path) -> String {
    let (ip, port, directory) = (address.ip(), address.port(), directory.display());
    format!(
        "server:\n  verbosity: 1\n  use-syslog: no\n  logfile: \"\"\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  \
         directory: \"{directory}\"\n  interface: {ip}@{port}\n  tls-port: {port}\n  \
         tls-service-key: \"{directory}/key.pem\"\n  tls-service-pem: \"{directory}/certificate.pem\"\n  \
         do-ip6: no\n  num-threads: 1\n  module-config: \"iterator\"\n  access-control: 127.0.0.0/8 allow\n  \
         local-zone: \"example.\" static\n  local-data: 'example. 300 IN SOA ns.example. root.example. 1 2 3 4 60'\n  \
         local-data: 'a.example. 120 IN TXT \"v=spf1 ip4:192.0.2.0/24 -all\"'\n  \
         local-data: '_dmarc.a.example. 120 IN TXT \"v=DMARC1; p=reject\"'\nremote-control:\n  control-enable: no\n"
    )
}

fn options(address: SocketAddr, name: &str, root: &CertifiedIssuer<'static, KeyPair>) -> NetworkOptions {
    let upstream = Upstream { address, tls_name: Some(name.into()) };
    let mut options = NetworkOptions::with_upstreams(vec![upstream]);
    options.threads = 1;
    options.tls.system_roots = false;
    options.tls.add_roots(root.pem().as_bytes()).unwrap();
    options
}

fn engine(options: NetworkOptions) -> Engine {
    Engine::builder().authserv_id("mx.example.net").network(options).build().unwrap()
}

fn question(name: &str) -> Question {
    Question::new(Name::parse(name).unwrap(), RecordType::Txt)
}

/// Asks, and gives what is told of the trouble with the server.
#[track_caller]
fn trouble(options: &NetworkOptions) -> String {
    let mut troubles = Vec::new();
    for backend in [Choice::Uring, Choice::Epoll] {
        let engine = engine(NetworkOptions { backend, ..options.clone() });
        let started = Instant::now();
        let answer = engine.ask(&question("secret.a.example"));
        assert_eq!(*answer.outcome(), Outcome::Failed(Failure::Unreachable));
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        assert_eq!(engine.network_statistics().udp_queries, 0);
        troubles.push(engine.resolver_trouble().unwrap().to_string());
    }
    assert_eq!(troubles[0], troubles[1]);
    troubles.remove(0)
}

#[test]
fn a_server_with_the_right_name_is_asked_and_nothing_goes_in_clear() {
    let authority = authority();
    let Some(server) = server(&authority, |_| {}) else { return };
    for backend in [Choice::Uring, Choice::Epoll] {
        // By name, and by address.
        for name in ["dns.example", "127.0.0.1"] {
            let engine = engine(NetworkOptions { backend, ..options(server.address, name, &authority) });
            let envelope = Envelope::new(IpAddr::from([192, 0, 2, 7]), "mail.a.example", "ann@a.example");
            let verdict = engine.verify(MESSAGE, envelope);
            assert_eq!((verdict.spf.result.word(), verdict.dmarc.result.word()), ("pass", "pass"));
            assert_eq!(*engine.ask(&question("nobody.a.example")).outcome(), Outcome::NxDomain);
            let statistics = engine.network_statistics();
            assert!(statistics.tcp_queries >= 3 && statistics.udp_queries == 0, "{statistics:?}");
            assert_eq!((statistics.failures, statistics.unmatched), (0, 0), "{statistics:?}");
            assert!(engine.resolver_trouble().is_none());
        }
    }
}

#[test]
fn another_name_and_another_authority_are_refused() {
    let authority = authority();
    let Some(server) = server(&authority, |_| {}) else { return };
    let wrong_name = trouble(&options(server.address, "other.example", &authority));
    let place = server.address;
    assert_eq!(
        wrong_name,
        format!("no answer over TLS from the DNS server {place}#other.example: its certificate is not for this name")
    );
    for other in [self::authority(), authority_of_name("Another")] {
        assert_eq!(
            trouble(&options(place, "dns.example", &other)),
            format!(
                "no answer over TLS from the DNS server {place}#dns.example: its certificate comes from no authority that \
                 is trusted here"
            )
        );
    }
}

#[test]
fn a_certificate_that_is_out_of_date_is_refused() {
    let authority = authority();
    let Some(server) = server(&authority, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)) else { return };
    let told = trouble(&options(server.address, "dns.example", &authority));
    assert!(told.ends_with("its certificate is not valid at this time"), "{told}");
}

/// A server that knows no TLS, and all it was told, by TCP and by UDP.
struct Plain {
    address: SocketAddr,
    told: Arc<Mutex<Vec<Vec<u8>>>>,
    datagrams: UdpSocket,
}

impl Plain {
    /// `reply` is what a connection is answered with; without one it is closed.
    fn start(reply: Option<&'static [u8]>) -> Self {
        let (listener, datagrams) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Ok(datagrams) = UdpSocket::bind(listener.local_addr().unwrap()) {
                break (listener, datagrams);
            }
        };
        datagrams.set_nonblocking(true).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let (address, heard) = (listener.local_addr().unwrap(), Arc::clone(&told));
        // Ends with the process.
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut room = [0; 4096];
                let count = stream.read(&mut room).unwrap_or(0);
                heard.lock().unwrap().push(room[..count].to_vec());
                if let Some(reply) = reply {
                    let _ = stream.write_all(reply);
                    while stream.read(&mut room).is_ok_and(|count| count > 0) {
                        heard.lock().unwrap().push(room.to_vec());
                    }
                }
            }
        });
        Self { address, told, datagrams }
    }

    /// What came begins as a handshake does, and names nothing.
    #[track_caller]
    fn assert_was_told_nothing(&self) {
        let told = self.told.lock().unwrap();
        assert!(told.iter().any(|octets| octets.first() == Some(&22)), "no handshake was begun");
        for octets in told.iter() {
            assert!(!octets.to_ascii_lowercase().windows(6).any(|it| it == b"secret"), "in clear");
        }
        assert!(self.datagrams.recv(&mut [0; 512]).is_err(), "by UDP");
    }
}

#[test]
fn a_server_in_clear_is_told_nothing() {
    let authority = authority();
    for (reply, expected) in [
        (None, "it ended the connection in the handshake"),
        (Some(&b""[..]), "it did not answer the handshake: does it speak TLS on this port?"),
        (Some(b"\0\x0c\x12\x34\x80\x01\0\0\0\0\0\0\0\0"), "received corrupt message of type InvalidContentType"),
    ] {
        let server = Plain::start(reply);
        let mut options = options(server.address, "dns.example", &authority);
        options.connect_time = Duration::from_millis(300);
        let told = trouble(&options);
        assert!(told.ends_with(expected), "{told}");
        server.assert_was_told_nothing();
    }
}

#[test]
fn a_good_server_makes_up_for_a_bad_one() {
    let authority = authority();
    let Some(server) = server(&authority, |_| {}) else { return };
    let bad = Plain::start(None);
    let mut options = options(server.address, "dns.example", &authority);
    options.servers.insert(0, Upstream { address: bad.address, tls_name: Some("dns.example".into()) });
    let engine = engine(options);
    for name in ["a.example", "b.a.example", "c.a.example"] {
        assert!(!matches!(engine.ask(&question(name)).outcome(), Outcome::Failed(_)), "{name}");
    }
    bad.assert_was_told_nothing();
}

#[test]
fn what_can_not_be_secured_is_refused_at_the_start() {
    let build = |options: NetworkOptions| Engine::builder().network(options).build().map(drop);
    let authority = authority();
    let address = SocketAddr::from(([192, 0, 2, 1], 853));
    let of_bad_name = build(options(address, "not a name", &authority));
    assert!(matches!(of_bad_name, Err(ResolverError::BadServer { .. })), "{of_bad_name:?}");
    let mut options = options(address, "dns.example", &authority);
    assert!(matches!(options.tls.add_roots(b"no certificate"), Err(ResolverError::BadRoots)));
    options.tls.roots.clear();
    assert!(matches!(build(options.clone()), Err(ResolverError::NoRoots)));
    options.tls.roots.push(b"no certificate".to_vec());
    assert!(matches!(build(options), Err(ResolverError::BadRoots)));
}

//! DNS over TLS (RFC 7858) between the sockets and the inquiries.
//!
//! A [`Tls`] opens no socket and reads no clock: octets of the network go in, octets for the network and the messages
//! within come out. So both backends carry it. Nothing is sent before the server has proved its name: the inquiries are
//! told that a connection stands when its handshake is done, and until then their queries wait.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailproof_io::{Driver, SocketId};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore};

use super::NetworkOptions;
use super::sockets::LinkStep;
use super::upstream::Upstream;
use crate::resolver::ResolverError;

/// Whose certificates are believed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsOptions {
    /// The authorities of the system, as `SSL_CERT_FILE`, `SSL_CERT_DIR` or the usual places have them.
    pub system_roots: bool,
    /// Further authorities, each a certificate in DER form; see [`TlsOptions::add_roots`].
    pub roots: Vec<Vec<u8>>,
}

/// What went wrong in a TLS connection.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The server's certificate is of other names.
    #[error("its certificate is not for this name")]
    WrongName,
    /// The server's certificate leads to no authority that is trusted here.
    #[error("its certificate comes from no authority that is trusted here")]
    UnknownAuthority,
    /// The server's certificate is not valid at this time: mind this machine's clock too.
    #[error("its certificate is not valid at this time")]
    NotNow,
    /// The server ended the connection before it had proved who it is.
    #[error("it ended the connection in the handshake")]
    Ended,
    /// The server let the time for the handshake pass, as one does that waits for a query in clear.
    #[error("it did not answer the handshake: does it speak TLS on this port?")]
    Silent,
    /// Any other breach of the protocol.
    #[error("{0}")]
    Protocol(String),
}

/// A problem, and whose it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsTrouble {
    /// The server.
    pub server: Upstream,
    /// What went wrong last.
    pub problem: TlsProblem,
}

/// What is needed to connect: shared by all threads, so that sessions are resumed on any of them.
#[derive(Clone, Debug)]
pub(crate) struct TlsSetup {
    config: Arc<ClientConfig>,
    /// A name for each of the servers that is asked over TLS.
    names: Vec<Option<ServerName<'static>>>,
}

/// The TLS connections of a worker.
#[derive(Debug)]
pub(crate) struct Tls {
    setup: TlsSetup,
    servers: Vec<Server>,
    /// By the numbers of their sockets.
    links: Vec<Option<Box<Link>>>,
    /// Handshakes under way, with the moment at which they are given up.
    handshakes: Vec<(Instant, SocketId)>,
    trouble: Option<TlsTrouble>,
}

#[derive(Clone, Debug)]
struct Server {
    upstream: Upstream,
    failures: u32,
    /// It is not connected to before, after failures.
    rests_until: Option<Instant>,
}

#[derive(Debug)]
struct Link {
    server: usize,
    connection: ClientConnection,
    /// The handshake has begun.
    has_begun: bool,
    /// It is done.
    is_ready: bool,
    /// The server has said that it sends no more.
    is_ending: bool,
}

/// Sessions kept for resumption, over all servers; a server hands out two tickets at a time or so.
const SESSIONS_MAX: usize = 64;
/// How long a server rests after a failed handshake; twice as long each time, up to a minute.
const REST_START: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);

impl TlsOptions {
    /// Adds authorities from a text in PEM form; gives how many there were.
    ///
    /// # Errors
    /// [`ResolverError::BadRoots`] when the text holds none, or one that can not be read.
    pub fn add_roots(&mut self, pem: &[u8]) -> Result<usize, ResolverError> {
        let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let roots = roots.map_err(|_| ResolverError::BadRoots)?;
        let mut store = RootCertStore::empty();
        if roots.is_empty() || roots.iter().any(|root| store.add(root.clone()).is_err()) {
            return Err(ResolverError::BadRoots);
        }
        let count = roots.len();
        self.roots.extend(roots.into_iter().map(|root| root.to_vec()));
        Ok(count)
    }
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { system_roots: true, roots: Vec::new() }
    }
}

impl TlsSetup {
    /// `None` when no server is asked over TLS.
    ///
    /// # Errors
    /// [`ResolverError::BadServer`] for a name that no certificate has, [`ResolverError::NoRoots`] when nobody is trusted,
    /// [`ResolverError::BadRoots`] when one of the options' can not be read.
    pub(crate) fn new(options: &NetworkOptions) -> Result<Option<Self>, ResolverError> {
        let (servers, options) = (&options.servers, &options.tls);
        if servers.iter().all(|server| server.tls_name.is_none()) {
            return Ok(None);
        }
        let mut names = Vec::new();
        for server in servers {
            let name = server.tls_name.as_deref().map(|name| ServerName::try_from(name.to_owned())).transpose();
            names.push(name.map_err(|_| ResolverError::BadServer { text: server.to_string() })?);
        }
        let mut roots = RootCertStore::empty();
        if options.system_roots {
            // Those that can not be read are passed over, as every program does that uses the system's.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        for root in &options.roots {
            roots.add(CertificateDer::from(root.as_slice())).map_err(|_| ResolverError::BadRoots)?;
        }
        if roots.is_empty() {
            return Err(ResolverError::NoRoots);
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions();
        // The provider has all that the versions need.
        let builder = builder.map_err(|_| ResolverError::NoRoots)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(Some(Self { config: Arc::new(config), names }))
    }
}

impl Tls {
    pub(crate) fn new(setup: TlsSetup, upstreams: &[Upstream]) -> Self {
        let server = |upstream: &Upstream| Server { upstream: upstream.clone(), failures: 0, rests_until: None };
        let servers = upstreams.iter().map(server).collect();
        Self { setup, servers, links: Vec::new(), handshakes: Vec::new(), trouble: None }
    }

    /// Whether a server may be connected to now.
    pub(crate) fn may_connect(&self, server: usize, now: Instant) -> bool {
        let rests_until = self.servers.get(server).and_then(|server| server.rests_until);
        rests_until.is_none_or(|until| until <= now)
    }

    /// A connection to a server was begun; false when it can not be secured.
    pub(crate) fn open(&mut self, server: usize, socket: SocketId, deadline: Instant) -> bool {
        let Some(name) = self.setup.names.get(server).cloned().flatten() else { return true };
        let Ok(mut connection) = ClientConnection::new(Arc::clone(&self.setup.config), name) else { return false };
        // The inquiries bound what is outstanding.
        connection.set_buffer_limit(None);
        if self.links.len() <= socket.index() {
            self.links.resize_with(socket.index() + 1, || None);
        }
        self.links[socket.index()] =
            Some(Box::new(Link { server, connection, has_begun: false, is_ready: false, is_ending: false }));
        self.handshakes.push((deadline, socket));
        true
    }

    pub(crate) fn has(&self, socket: SocketId) -> bool {
        self.links.get(socket.index()).is_some_and(Option::is_some)
    }

    /// The connection stands: the handshake begins.
    pub(crate) fn connected(&mut self, socket: SocketId, driver: &mut Driver) {
        if let Some(link) = self.link(socket) {
            link.has_begun = true;
            link.flush(socket, driver);
        }
    }

    /// Octets came: `room` then holds what was in them.
    pub(crate) fn received(
        &mut self,
        socket: SocketId,
        room: &mut Vec<u8>,
        driver: &mut Driver,
        now: Instant,
    ) -> LinkStep {
        let Some(link) = self.link(socket) else { return LinkStep::Underway };
        let mut plain = Vec::new();
        let read = link.read(room, &mut plain);
        link.flush(socket, driver);
        *room = plain;
        if let Err(error) = read {
            let (server, is_ready) = (link.server, link.is_ready);
            self.note(server, TlsProblem::from(error), is_ready, now);
            return LinkStep::Failed;
        }
        if !link.is_ready {
            if link.connection.is_handshaking() {
                return LinkStep::Underway;
            }
            link.is_ready = true;
            let server = link.server;
            self.end_handshake(socket);
            if let Some(server) = self.servers.get_mut(server) {
                (server.failures, server.rests_until) = (0, None);
            }
            return LinkStep::Connected;
        }
        // Queries sent from now on would wait in vain, even where the socket stays open. What came with the farewell is
        // still good.
        if link.is_ending && room.is_empty() { LinkStep::Failed } else { LinkStep::Open }
    }

    /// Sends octets within TLS.
    pub(crate) fn send(&mut self, socket: SocketId, octets: &[u8], driver: &mut Driver) {
        if let Some(link) = self.link(socket) {
            // Without a limit there is always room.
            let _ = link.connection.writer().write_all(octets);
            link.flush(socket, driver);
        }
    }

    /// The peer has gone, or never came.
    pub(crate) fn ended(&mut self, socket: SocketId, now: Instant) {
        if let Some(link) = self.take(socket)
            && link.has_begun
            && !link.is_ready
        {
            self.note(link.server, TlsProblem::Ended, false, now);
        }
    }

    /// This side closes; the peer is told.
    pub(crate) fn close(&mut self, socket: SocketId, driver: &mut Driver) {
        if let Some(mut link) = self.take(socket) {
            if link.is_ready {
                link.connection.send_close_notify();
            }
            link.flush(socket, driver);
        }
    }

    /// A handshake whose time is over.
    pub(crate) fn next_late(&mut self, now: Instant) -> Option<SocketId> {
        let (_, socket) = *self.handshakes.iter().find(|(deadline, _)| *deadline <= now)?;
        self.end_handshake(socket);
        let server = self.link(socket)?.server;
        self.note(server, TlsProblem::Silent, false, now);
        Some(socket)
    }

    /// The moment at which a handshake is late.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.handshakes.iter().map(|(deadline, _)| *deadline).min()
    }

    /// What went wrong since the last call.
    pub(crate) fn take_trouble(&mut self) -> Option<TlsTrouble> {
        self.trouble.take()
    }

    fn note(&mut self, server: usize, problem: TlsProblem, was_ready: bool, now: Instant) {
        let Some(server) = self.servers.get_mut(server) else { return };
        if !was_ready {
            let rest = REST_START.saturating_mul(1 << server.failures.min(16)).min(REST_MAX);
            server.failures = server.failures.saturating_add(1);
            server.rests_until = Some(now + rest);
        }
        self.trouble = Some(TlsTrouble { server: server.upstream.clone(), problem });
    }

    fn link(&mut self, socket: SocketId) -> Option<&mut Link> {
        self.links.get_mut(socket.index())?.as_deref_mut()
    }

    fn take(&mut self, socket: SocketId) -> Option<Box<Link>> {
        self.end_handshake(socket);
        self.links.get_mut(socket.index())?.take()
    }

    fn end_handshake(&mut self, socket: SocketId) {
        self.handshakes.retain(|(_, it)| *it != socket);
    }
}

impl Link {
    /// Reads records, and appends what is in them to `plain`.
    fn read(&mut self, mut octets: &[u8], plain: &mut Vec<u8>) -> Result<(), rustls::Error> {
        while !octets.is_empty() {
            let count =
                self.connection.read_tls(&mut octets).map_err(|error| rustls::Error::General(error.to_string()))?;
            let state = self.connection.process_new_packets()?;
            self.is_ending = state.peer_has_closed();
            if state.plaintext_bytes_to_read() > 0 {
                let wanted = state.plaintext_bytes_to_read() as u64;
                let read = self.connection.reader().take(wanted).read_to_end(plain);
                read.map_err(|error| rustls::Error::General(error.to_string()))?;
            }
            if count == 0 {
                // After its farewell a peer has nothing more to say.
                break;
            }
        }
        Ok(())
    }

    /// Hands what TLS has to send to the driver.
    fn flush(&mut self, socket: SocketId, driver: &mut Driver) {
        let mut records = Vec::new();
        while self.connection.wants_write() {
            // A vector takes everything.
            if self.connection.write_tls(&mut records).is_err() {
                break;
            }
        }
        if !records.is_empty() {
            driver.send(socket, &records);
        }
    }
}

impl From<rustls::Error> for TlsProblem {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(problem) => match problem {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                // The second: one of the same name as an authority that is trusted, with another key.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::NotNow,
                problem => Self::Protocol(problem.to_string()),
            },
            error => Self::Protocol(error.to_string()),
        }
    }
}

impl fmt::Display for TlsTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.server, self.problem)
    }
}

impl std::error::Error for TlsTrouble {}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{HandshakeKind, ServerConfig, ServerConnection};

    use super::*;

    /// Carries octets to and fro until neither side has more to say.
    fn talk(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
        while client.wants_write() || server.wants_write() {
            let mut octets = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut octets).unwrap();
            }
            let mut rest = &octets[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets()?;
            }
            octets.clear();
            while server.wants_write() {
                server.write_tls(&mut octets).unwrap();
            }
            let mut rest = &octets[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(())
    }

    #[test]
    fn a_session_is_resumed() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["dns.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut options = NetworkOptions::from_texts(&["192.0.2.1#dns.example"]).unwrap();
        options.tls.system_roots = false;
        assert_eq!(options.tls.add_roots(certificate.pem().as_bytes()).unwrap(), 1);
        let setup = TlsSetup::new(&options).unwrap().unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let server = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let server = Arc::new(server);
        let kinds: Vec<Option<HandshakeKind>> = (0..2)
            .map(|_| {
                let name = setup.names[0].clone().unwrap();
                let mut client = ClientConnection::new(Arc::clone(&setup.config), name).unwrap();
                talk(&mut client, &mut ServerConnection::new(Arc::clone(&server)).unwrap()).unwrap();
                client.handshake_kind()
            })
            .collect();
        assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
    }

    #[test]
    fn a_server_rests_after_failures() {
        let options = NetworkOptions::from_texts(&["192.0.2.1#dns.example"]).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let setup = TlsSetup { config: Arc::new(config), names: vec![None] };
        let (mut tls, start) = (Tls::new(setup, &options.servers), Instant::now());
        for (failure, rest) in [(1, 1), (2, 2), (3, 4), (7, 60), (40, 60)] {
            while tls.servers[0].failures < failure {
                tls.note(0, TlsProblem::Ended, false, start);
            }
            let end = start + Duration::from_secs(rest);
            assert!(tls.may_connect(0, end) && !tls.may_connect(0, end - Duration::from_millis(1)), "{failure}");
        }
        assert_eq!(tls.take_trouble().map(|it| it.problem), Some(TlsProblem::Ended));
    }
}

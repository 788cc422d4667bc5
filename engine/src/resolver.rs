//! A resolver over blocking sockets: for the command line, and wherever a thread may wait.
//!
//! Every query has a fresh connected socket, so a port that the kernel draws and replies from nobody but the server
//! asked; IDs and letter cases come from the system's random numbers. Questions asked together go out in parallel, one
//! thread each, up to [`BlockingResolver::THREADS_MAX`].

mod sockets;
mod system;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use mailproof_proto::dns::lookup::{Lookup, LookupOptions, ServerTraits, Step};
use mailproof_proto::dns::{Answer, Failure, Question};
use mailproof_proto::limits::DNS_SERVERS_MAX;
use mailproof_proto::time::Timestamp;

use self::sockets::Sockets;

/// Asks DNS servers and waits for the answers.
#[derive(Debug)]
pub struct BlockingResolver {
    servers: Vec<Server>,
    options: LookupOptions,
    /// Where this resolver's clock starts.
    started: Instant,
    was_silent: AtomicBool,
}

/// Why there is nobody to ask, or nobody who answers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolverError {
    /// The list of servers is empty, or the system's configuration names none.
    #[error("no DNS server is configured{}", at(path.as_ref()))]
    NoServers {
        /// The configuration, if it was one.
        path: Option<PathBuf>,
    },
    /// The system's configuration can not be read.
    #[error("{}: {error}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A server's address can not be read.
    #[error("{text}: not the address of a DNS server (IP or IP:PORT, [IP]:PORT for IPv6; #NAME after it for TLS)")]
    BadServer {
        /// The text.
        text: String,
    },
    /// Not one of the servers has ever answered.
    #[error("no answer from the DNS server{} {}", if servers.len() > 1 { "s" } else { "" }, list(servers))]
    Unreachable {
        /// The servers asked.
        servers: Vec<SocketAddr>,
    },
    /// A server is to be asked by DNS over TLS, for which this program was not built.
    #[cfg(feature = "network")]
    #[error("{server}: this program is built without DNS over TLS (feature `dns-over-tls`)")]
    NoTls {
        /// The server.
        server: crate::network::Upstream,
    },
    /// An authority for DNS over TLS can not be read.
    #[cfg(feature = "dns-over-tls")]
    #[error("the certificates of the authorities for DNS over TLS can not be read")]
    BadRoots,
    /// There is no authority whose certificates could be believed.
    #[cfg(feature = "dns-over-tls")]
    #[error("no authority is trusted for DNS over TLS: the system has no certificates (package ca-certificates?)")]
    NoRoots,
    /// Not one of the servers has ever answered, and TLS is why.
    #[cfg(feature = "dns-over-tls")]
    #[error("no answer over TLS from the DNS server {0}")]
    Tls(crate::network::TlsTrouble),
    /// The threads that ask can not be started.
    #[cfg(feature = "network")]
    #[error(transparent)]
    Driver(#[from] mailproof_io::DriverError),
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    knows_edns: AtomicBool,
    has_answered: AtomicBool,
}

impl BlockingResolver {
    /// Threads that one call of [`BlockingResolver::resolve`] uses, its own included.
    pub const THREADS_MAX: usize = 16;

    /// A resolver that asks these servers, in this order; those over [`DNS_SERVERS_MAX`] are left out.
    ///
    /// # Errors
    /// [`ResolverError::NoServers`] when the list is empty.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, ResolverError> {
        if servers.is_empty() {
            return Err(ResolverError::NoServers { path: None });
        }
        Ok(Self {
            servers: servers.iter().take(DNS_SERVERS_MAX).map(|&address| Server::new(address)).collect(),
            options: LookupOptions::default(),
            started: Instant::now(),
            was_silent: AtomicBool::new(false),
        })
    }

    /// The same resolver, asking in another way.
    #[must_use]
    pub fn with_options(self, options: LookupOptions) -> Self {
        Self { options, ..self }
    }

    /// A resolver from texts: `IP`, `IP:PORT` or `[IP]:PORT`.
    ///
    /// # Errors
    /// [`ResolverError`] when there is no text or one is no address.
    pub fn from_texts(servers: &[impl AsRef<str>]) -> Result<Self, ResolverError> {
        Self::new(&read_servers(servers)?)
    }

    /// A resolver from the system's configuration, `/etc/resolv.conf`. Its option `trust-ad` makes the AD bit count.
    ///
    /// # Errors
    /// [`ResolverError`] when the file can not be read or names no server.
    pub fn from_system() -> Result<Self, ResolverError> {
        Self::from_resolv_conf("/etc/resolv.conf")
    }

    /// A resolver from a file in the form of `/etc/resolv.conf`.
    ///
    /// # Errors
    /// As [`BlockingResolver::from_system`].
    pub fn from_resolv_conf(path: impl Into<PathBuf>) -> Result<Self, ResolverError> {
        let path = path.into();
        let (servers, trusts_ad) = system::read(&path)?;
        if servers.is_empty() {
            return Err(ResolverError::NoServers { path: Some(path) });
        }
        Ok(Self::new(&servers)?.with_options(LookupOptions { trusts_ad, ..LookupOptions::default() }))
    }

    /// The answers to these questions, in their order. Every answer is there by the deadline, as a failure if need be.
    #[must_use]
    pub fn resolve(&self, questions: &[Question], deadline: Instant) -> Vec<Answer> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(question) = questions.get(index) else { return done };
                done.push((index, self.lookup(question, deadline)));
            }
        };
        let mut answers = vec![None; questions.len()];
        thread::scope(|scope| {
            let helper_count = questions.len().min(Self::THREADS_MAX).saturating_sub(1);
            // Where no thread can be had, those there are do the work.
            let helpers: Vec<_> =
                (0..helper_count).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
            let own = work();
            for (index, answer) in helpers.into_iter().filter_map(|helper| helper.join().ok()).flatten().chain(own) {
                answers[index] = Some(answer);
            }
        });
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Answer::failed(Failure::TimedOut))).collect()
    }

    /// The servers, in the order in which they are asked.
    pub fn servers(&self) -> impl Iterator<Item = SocketAddr> {
        self.servers.iter().map(|server| server.address)
    }

    /// What is wrong when lookups failed and no server has ever answered anything: worth telling a person.
    #[must_use]
    pub fn trouble(&self) -> Option<ResolverError> {
        let has_answered = self.servers.iter().any(|server| server.has_answered.load(Ordering::Relaxed));
        let is_trouble = self.was_silent.load(Ordering::Relaxed) && !has_answered;
        is_trouble.then(|| ResolverError::Unreachable { servers: self.servers().collect() })
    }

    pub(crate) fn trusts_ad(&self) -> bool {
        self.options.trusts_ad
    }

    fn lookup(&self, question: &Question, deadline: Instant) -> Answer {
        let mut options = self.options.clone();
        options.total_time = options.total_time.min(deadline.saturating_duration_since(Instant::now()));
        let traits: Vec<ServerTraits> = self.servers.iter().map(Server::traits).collect();
        let mut seed = [0; 8];
        if aws_lc_rs::rand::fill(&mut seed).is_err() {
            // An ID that can be foreseen is worse than no answer.
            return Answer::failed(Failure::Unreachable);
        }
        let mut lookup = Lookup::new(question.clone(), &traits, options, u64::from_ne_bytes(seed), self.now());
        let answer = self.drive(&mut lookup);
        for (server, traits) in self.servers.iter().zip(lookup.traits()) {
            server.knows_edns.fetch_and(traits.knows_edns, Ordering::Relaxed);
        }
        if matches!(answer.outcome(), mailproof_proto::dns::Outcome::Failed(_)) {
            self.was_silent.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// Does what the lookup says until it is done.
    fn drive(&self, lookup: &mut Lookup) -> Answer {
        let mut sockets = Sockets::default();
        let mut by_tcp = None;
        loop {
            match lookup.poll(self.now()) {
                Step::SendUdp { server, query } => {
                    let sent = self.address(server).and_then(|address| sockets.send(server, address, query));
                    if sent.is_err() {
                        lookup.udp_failed(server);
                    }
                }
                // Connecting and reading wait too; they may do so as long as the next step says.
                Step::SendTcp { server, query } => by_tcp = Some((server, query.to_vec())),
                Step::WaitUntil(until) => {
                    let until = self.started + Duration::from_millis(until.milliseconds());
                    match by_tcp.take() {
                        Some((server, query)) => self.exchange_by_tcp(lookup, server, &query, until),
                        None => self.receive(lookup, &mut sockets, until),
                    }
                }
                Step::Done(answer) => return answer,
            }
        }
    }

    fn receive(&self, lookup: &mut Lookup, sockets: &mut Sockets, until: Instant) {
        match sockets.receive(until) {
            Some((server, Ok(datagram))) => {
                self.note_answer(server);
                lookup.udp_received(server, datagram);
            }
            Some((server, Err(_))) => lookup.udp_failed(server),
            None => {}
        }
    }

    fn exchange_by_tcp(&self, lookup: &mut Lookup, server: usize, query: &[u8], until: Instant) {
        let reply = self.address(server).and_then(|address| sockets::exchange_by_tcp(address, query, until));
        if let Ok(reply) = reply {
            self.note_answer(server);
            lookup.tcp_received(server, &reply);
        }
        // The connection is closed: without effect where the reply was one.
        lookup.tcp_failed(server);
    }

    fn note_answer(&self, server: usize) {
        if let Some(server) = self.servers.get(server) {
            server.has_answered.store(true, Ordering::Relaxed);
        }
    }

    fn address(&self, server: usize) -> io::Result<SocketAddr> {
        self.servers.get(server).map(|server| server.address).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_milliseconds(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

impl Server {
    fn new(address: SocketAddr) -> Self {
        Self { address, knows_edns: AtomicBool::new(true), has_answered: AtomicBool::new(false) }
    }

    fn traits(&self) -> ServerTraits {
        ServerTraits { knows_edns: self.knows_edns.load(Ordering::Relaxed), ..ServerTraits::default() }
    }
}

/// The servers of `/etc/resolv.conf`, and whether their AD bit is to be trusted.
#[cfg(feature = "network")]
pub(crate) fn system_servers() -> Result<(Vec<SocketAddr>, bool), ResolverError> {
    let path = PathBuf::from("/etc/resolv.conf");
    let (servers, trusts_ad) = system::read(&path)?;
    if servers.is_empty() { Err(ResolverError::NoServers { path: Some(path) }) } else { Ok((servers, trusts_ad)) }
}

/// Servers from texts: `IP`, `IP:PORT` or `[IP]:PORT`.
fn read_servers(servers: &[impl AsRef<str>]) -> Result<Vec<SocketAddr>, ResolverError> {
    if servers.is_empty() {
        return Err(ResolverError::NoServers { path: None });
    }
    servers.iter().map(|it| read_server(it.as_ref())).collect()
}

fn read_server(text: &str) -> Result<SocketAddr, ResolverError> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
    text.parse()
        .or_else(|_| bare.parse::<IpAddr>().map(|address| SocketAddr::new(address, DNS_PORT)))
        .map_err(|_| ResolverError::BadServer { text: text.to_owned() })
}

fn at(path: Option<&PathBuf>) -> String {
    path.map_or(String::new(), |path| format!(" in {}", path.display()))
}

fn list(servers: &[SocketAddr]) -> String {
    servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// RFC 1035 section 4.2.
pub(crate) const DNS_PORT: u16 = 53;

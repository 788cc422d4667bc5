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

use mailproof_proto::dns::lookup::{Heard, Lookup, LookupOptions, ServerTraits, Step, Transport};
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

/// What happened during a lookup, for whoever wants to watch: [`BlockingResolver::trace`].
#[derive(Debug)]
#[non_exhaustive]
pub enum LookupEvent<'a> {
    /// A query went out.
    Sent {
        /// To this server.
        server: SocketAddr,
        /// By this.
        transport: Transport,
        /// What it asks: the question, or the target of an alias.
        question: &'a Question,
    },
    /// A message came.
    Received {
        /// From this server.
        server: SocketAddr,
        /// By this.
        transport: Transport,
        /// Its octets.
        octets: usize,
        /// What it was taken for.
        heard: Option<Heard>,
    },
    /// A query could not be sent, or its connection ended without a reply.
    Failed {
        /// The server.
        server: SocketAddr,
        /// By this.
        transport: Transport,
        /// What the system said.
        error: io::Error,
    },
    /// The time of a try is over, or of the whole lookup.
    TimedOut,
}

/// Watches a lookup.
type Observer<'a> = dyn FnMut(LookupEvent<'_>) + 'a;

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
                done.push((index, self.lookup(question, deadline, &mut |_| {})));
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

    /// The answer to one question, with everything told that happens on the way.
    pub fn trace(&self, question: &Question, deadline: Instant, mut observer: impl FnMut(LookupEvent<'_>)) -> Answer {
        self.lookup(question, deadline, &mut observer)
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

    #[cfg(feature = "blocking-resolver")]
    pub(crate) fn trusts_ad(&self) -> bool {
        self.options.trusts_ad
    }

    fn lookup(&self, question: &Question, deadline: Instant, observer: &mut Observer<'_>) -> Answer {
        let mut options = self.options.clone();
        options.total_time = options.total_time.min(deadline.saturating_duration_since(Instant::now()));
        let traits: Vec<ServerTraits> = self.servers.iter().map(Server::traits).collect();
        let mut seed = [0; 8];
        if aws_lc_rs::rand::fill(&mut seed).is_err() {
            // An ID that can be foreseen is worse than no answer.
            return Answer::failed(Failure::Unreachable);
        }
        let mut lookup = Lookup::new(question.clone(), &traits, options, u64::from_ne_bytes(seed), self.now());
        let answer = self.drive(&mut lookup, observer);
        for (server, traits) in self.servers.iter().zip(lookup.traits()) {
            server.knows_edns.fetch_and(traits.knows_edns, Ordering::Relaxed);
        }
        if matches!(answer.outcome(), mailproof_proto::dns::Outcome::Failed(_)) {
            self.was_silent.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// Does what the lookup says until it is done.
    fn drive(&self, lookup: &mut Lookup, observer: &mut Observer<'_>) -> Answer {
        let mut sockets = Sockets::default();
        let mut by_tcp = None;
        loop {
            match lookup.poll(self.now()) {
                Step::SendUdp { server, query } => {
                    let address = self.address(server);
                    let sent = sockets.send(server, address, query);
                    observer(LookupEvent::Sent {
                        server: address,
                        transport: Transport::Udp,
                        question: lookup.asked(),
                    });
                    if let Err(error) = sent {
                        observer(LookupEvent::Failed { server: address, transport: Transport::Udp, error });
                        lookup.udp_failed(server);
                    }
                }
                // Connecting and reading wait too; they may do so as long as the next step says.
                Step::SendTcp { server, query } => {
                    by_tcp = Some((server, query.to_vec()));
                    let server = self.address(server);
                    observer(LookupEvent::Sent { server, transport: Transport::Tcp, question: lookup.asked() });
                }
                Step::WaitUntil(until) => {
                    let until = self.started + Duration::from_millis(until.milliseconds());
                    match by_tcp.take() {
                        Some((server, query)) => self.exchange_by_tcp(lookup, server, &query, until, observer),
                        None => self.receive(lookup, &mut sockets, until, observer),
                    }
                }
                Step::Done(answer) => return answer,
            }
        }
    }

    fn receive(&self, lookup: &mut Lookup, sockets: &mut Sockets, until: Instant, observer: &mut Observer<'_>) {
        let transport = Transport::Udp;
        match sockets.receive(until) {
            Some((number, Ok(datagram))) => {
                self.note_answer(number);
                lookup.udp_received(number, datagram);
                let (server, octets) = (self.address(number), datagram.len());
                observer(LookupEvent::Received { server, transport, octets, heard: lookup.heard() });
            }
            Some((number, Err(error))) => {
                observer(LookupEvent::Failed { server: self.address(number), transport, error });
                lookup.udp_failed(number);
            }
            None => observer(LookupEvent::TimedOut),
        }
    }

    fn exchange_by_tcp(
        &self,
        lookup: &mut Lookup,
        number: usize,
        query: &[u8],
        until: Instant,
        observer: &mut Observer<'_>,
    ) {
        let (server, transport) = (self.address(number), Transport::Tcp);
        match sockets::exchange_by_tcp(server, query, until) {
            Ok(reply) => {
                self.note_answer(number);
                lookup.tcp_received(number, &reply);
                observer(LookupEvent::Received { server, transport, octets: reply.len(), heard: lookup.heard() });
            }
            Err(error) => observer(LookupEvent::Failed { server, transport, error }),
        }
        // The connection is closed: without effect where the reply was one.
        lookup.tcp_failed(number);
    }

    fn note_answer(&self, server: usize) {
        if let Some(server) = self.servers.get(server) {
            server.has_answered.store(true, Ordering::Relaxed);
        }
    }

    /// The lookup was made for as many servers as there are, and names no other.
    fn address(&self, server: usize) -> SocketAddr {
        self.servers[server].address
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

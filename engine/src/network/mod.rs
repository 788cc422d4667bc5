//! The engine's own DNS client and the threads it lives on.

mod calls;
mod hosting;
mod inbox;
mod inquiries;
mod jobs;
mod ring;
mod seeds;
mod servers;
mod signals;
mod sockets;
#[cfg_attr(not(feature = "dns-over-tls"), path = "tls_absent.rs")]
mod tls;
mod upstream;
mod wheel;
mod worker;

use std::net::SocketAddr;
use std::time::Duration;

use mailproof_proto::dns::lookup::LookupOptions;

pub use mailproof_io::{Backend, Choice, DriverError, Statistics as DriverStatistics};

pub use self::calls::{Completion, Completions};
pub(crate) use self::calls::{CompletionQueue, Gathering, Place};
pub(crate) use self::jobs::Job;
pub use self::ring::Defect;
pub(crate) use self::tls::TlsSetup;
#[cfg(feature = "dns-over-tls")]
pub use self::tls::{TlsOptions, TlsProblem, TlsTrouble};
pub use self::upstream::Upstream;
pub(crate) use self::worker::Workers;
#[cfg(feature = "simulation")]
pub use self::worker::simulated::Census;
#[cfg(feature = "simulation")]
pub(crate) use self::worker::simulated::SimulatedWorkers;
use crate::resolver::ResolverError;

/// How an engine asks the DNS servers, and with how many threads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NetworkOptions {
    /// The recursive resolvers to ask; which one is asked first is decided by how they answer.
    pub servers: Vec<Upstream>,
    /// Worker threads; each has its own sockets. Zero for one a processor.
    pub threads: usize,
    /// io_uring or epoll.
    pub backend: mailproof_io::Choice,
    /// Retries, times, EDNS, letter cases.
    pub lookup: LookupOptions,
    /// Ports that queries to one server go out by, on each thread. A forger has to guess the port as well as the ID.
    pub ports: usize,
    /// How long a port is used.
    pub port_time_max: Duration,
    /// How many queries go out by a port.
    pub port_queries_max: u32,
    /// Questions that are asked at a time, on each thread; further ones wait.
    pub in_flight_max: usize,
    /// Questions that wait, on each thread; further ones fail at once.
    pub waiting_max: usize,
    /// How long a connection to a server stays open unused (RFC 7766 section 6.2.3).
    pub link_idle_time: Duration,
    /// Questions outstanding on one connection; further ones get another.
    pub link_outstanding_max: usize,
    /// How long connecting to a server may take, the TLS handshake included.
    pub connect_time: Duration,
    /// Fetches names that are in use again shortly before their answers expire.
    pub prefetch: bool,
    /// Whom to trust where a server is asked by DNS over TLS.
    #[cfg(feature = "dns-over-tls")]
    pub tls: TlsOptions,
}

/// What the DNS client has done, all threads together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NetworkStatistics {
    /// Questions that went to the servers.
    pub lookups: u64,
    /// Questions that were on their way already.
    pub joined: u64,
    /// Datagrams sent.
    pub udp_queries: u64,
    /// Queries sent over connections.
    pub tcp_queries: u64,
    /// Replies that matched no query: late, or forged. None of them was believed.
    pub unmatched: u64,
    /// Tries that a server let pass without a reply.
    pub silent_tries: u64,
    /// Questions that had no answer in the end.
    pub failures: u64,
    /// Questions that failed because too many were waiting.
    pub turned_away: u64,
    /// Answers fetched again before they expired.
    pub prefetches: u64,
}

impl NetworkOptions {
    /// The options for servers that are asked in clear.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self::with_upstreams(servers.into_iter().map(Upstream::from).collect())
    }

    /// The options for servers each of which says how it is asked.
    #[must_use]
    pub fn with_upstreams(servers: Vec<Upstream>) -> Self {
        Self {
            servers,
            threads: 0,
            backend: mailproof_io::Choice::Auto,
            lookup: LookupOptions::default(),
            ports: 64,
            port_time_max: Duration::from_secs(30),
            port_queries_max: 16 * 1024,
            in_flight_max: 1024,
            waiting_max: 64 * 1024,
            link_idle_time: Duration::from_secs(10),
            link_outstanding_max: 128,
            connect_time: Duration::from_secs(2),
            prefetch: true,
            #[cfg(feature = "dns-over-tls")]
            tls: TlsOptions::default(),
        }
    }

    /// The servers of the system, from `/etc/resolv.conf`; its option `trust-ad` makes the AD bit count.
    ///
    /// # Errors
    /// [`ResolverError`] when the file can not be read or names no server.
    pub fn from_system() -> Result<Self, ResolverError> {
        let (servers, trusts_ad) = crate::resolver::system_servers()?;
        let mut options = Self::new(servers);
        options.lookup.trusts_ad = trusts_ad;
        Ok(options)
    }

    /// Servers from texts: `IP`, `IP:PORT` or `[IP]:PORT`, with `#NAME` after it for DNS over TLS to a server whose
    /// certificate is of that name.
    ///
    /// # Errors
    /// [`ResolverError`] when there is no text or one is no address.
    pub fn from_texts(servers: &[impl AsRef<str>]) -> Result<Self, ResolverError> {
        if servers.is_empty() {
            return Err(ResolverError::NoServers { path: None });
        }
        let servers: Result<Vec<Upstream>, _> = servers.iter().map(|text| text.as_ref().parse()).collect();
        Ok(Self::with_upstreams(servers?))
    }
}

impl NetworkStatistics {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            lookups: self.lookups + other.lookups,
            joined: self.joined + other.joined,
            udp_queries: self.udp_queries + other.udp_queries,
            tcp_queries: self.tcp_queries + other.tcp_queries,
            unmatched: self.unmatched + other.unmatched,
            silent_tries: self.silent_tries + other.silent_tries,
            failures: self.failures + other.failures,
            turned_away: self.turned_away + other.turned_away,
            prefetches: self.prefetches + other.prefetches,
        }
    }
}

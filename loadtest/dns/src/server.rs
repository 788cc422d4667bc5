//! The server as its owner sees it: started, questioned, paused, stopped and started again.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use mailproof::zone::Zone;
use mailproof_proto::dns::Question;
use mio::Waker;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, Socket, Type};

use crate::answer::Answering;
use crate::desk::{Running, Shared};
use crate::draw::Draw;
use crate::plan::Plan;
use crate::statistics::Statistics;
use crate::worker::{Datagrams, TCP_CONNECTIONS_MAX, Worker};

/// A DNS server with threads of its own, by UDP and TCP on the same port. Dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    options: Options,
    /// IPv4 or what was asked for first, then `::1` when it was asked for too.
    addresses: Vec<SocketAddr>,
    threads: Vec<(JoinHandle<()>, Waker)>,
}

/// How a server is started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Where to listen; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Listens on `::1` too, on the same port.
    pub also_ipv6: bool,
    /// Threads, up to [`THREADS_MAX`]; each has a UDP socket of its own, among which the kernel divides the clients.
    /// TCP belongs to the first.
    pub threads: usize,
    /// Keeps each thread on one CPU: the first on CPU 0, and so on.
    pub pins: bool,
    /// Lets replies of one length to one client travel together, which spares the kernel most of its work. Clients do not
    /// see it, but where their own CPU time is measured it may have to be off.
    pub joins: bool,
    /// Adds an SOA record of this time to live to the zone's negative answers, which have none otherwise.
    pub negative_ttl_seconds: Option<u32>,
    /// Connections open at a time; what comes above is closed at once. At most [`TCP_CONNECTIONS_MAX`].
    pub tcp_connections_max: usize,
}

/// Threads of one server.
pub const THREADS_MAX: usize = 32;

/// Tries at a port that is free for both transports.
const BIND_TRIES: usize = 100;
/// Tries at the old port, and the time between two.
const RESTART_TRIES: usize = 500;
const RESTART_PAUSE: Duration = Duration::from_millis(2);
/// Octets of datagrams that may wait for the server.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
const BACKLOG: i32 = 1024;

impl Server {
    /// Starts on 127.0.0.1 on a port that the kernel chooses.
    ///
    /// # Errors
    /// When the machine gives no sockets or threads.
    pub fn start(zone: Zone, plan: Plan) -> io::Result<Self> {
        Self::start_with(zone, plan, Options::default())
    }

    /// Starts as the options say.
    ///
    /// # Errors
    /// As [`Server::start`]; and when a port that was named is in use.
    pub fn start_with(zone: Zone, plan: Plan, options: Options) -> io::Result<Self> {
        let answering = Arc::new(Answering::new(zone, options.negative_ttl_seconds));
        let shared = Arc::new(Shared::new(Running { answering, draw: Draw::new(plan) }));
        let mut server = Self { shared, options, addresses: Vec::new(), threads: Vec::new() };
        let mut tries = 0;
        loop {
            tries += 1;
            match server.listen(options.listen) {
                // The kernel's choice for UDP may be in use for TCP, or by somebody on another address.
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && options.listen.port() == 0 && tries < BIND_TRIES => {
                }
                result => return result.map(|()| server),
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addresses.first().copied().unwrap_or(self.options.listen)
    }

    /// Where it listens, `::1` included when it was asked for.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Changes what goes wrong, from the next query on. Rules count from the start again; questions do not.
    pub fn set_plan(&self, plan: Plan) {
        self.shared.replace(|old| Running { answering: Arc::clone(&old.answering), draw: Draw::new(plan) });
    }

    /// Changes what is answered, from the next query on. The rules of the plan count from the start again.
    pub fn set_zone(&self, zone: Zone) {
        let answering = Arc::new(Answering::new(zone, self.options.negative_ttl_seconds));
        self.shared.replace(|old| Running { answering, draw: old.draw.anew() });
    }

    /// Goes silent: queries are read and forgotten, replies that are due are dropped, connections stay.
    pub fn pause(&self) {
        self.shared.is_paused.store(true, Ordering::Release);
    }

    /// Answers again.
    pub fn resume(&self) {
        self.shared.is_paused.store(false, Ordering::Release);
    }

    /// Closes every socket and ends the threads. Numbers, zone and plan stay for a [`Server::restart`].
    pub fn stop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        for (_, waker) in &self.threads {
            // A loop that can not be woken has ended.
            let _ = waker.wake();
        }
        for (thread, _) in self.threads.drain(..) {
            let _ = thread.join();
        }
    }

    /// Starts again on the same port after a [`Server::stop`], or stops first.
    ///
    /// # Errors
    /// When somebody took the port in the meantime.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop();
        let address = self.addr();
        for _ in 0..RESTART_TRIES {
            match self.listen(address) {
                // A process that this one is just starting has copies of the old sockets until it runs.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(RESTART_PAUSE),
                result => return result,
            }
        }
        self.listen(address)
    }

    /// True between a start and a stop.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.threads.is_empty()
    }

    /// What it did so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.shared.counters.snapshot()
    }

    /// How often each question came, by either transport.
    #[must_use]
    pub fn questions(&self) -> HashMap<Question, u64> {
        self.shared.questions.snapshot()
    }

    /// How often one question came.
    #[must_use]
    pub fn question_count(&self, question: &Question) -> u64 {
        self.shared.questions.count(question)
    }

    fn listen(&mut self, listen: SocketAddr) -> io::Result<()> {
        let count = self.options.threads.clamp(1, THREADS_MAX);
        let mut shares: Vec<(Vec<Datagrams>, Vec<mio::net::TcpListener>)> = Vec::new();
        shares.resize_with(count, Default::default);
        let mut addresses = Vec::new();
        let mut address = listen;
        for ip in
            [Some(listen.ip()), self.options.also_ipv6.then_some(Ipv6Addr::LOCALHOST.into())].into_iter().flatten()
        {
            address.set_ip(ip);
            for (index, (datagrams, listeners)) in shares.iter_mut().enumerate() {
                let socket = udp(address, count > 1)?;
                // The first has the kernel's choice, and everything else takes the same port.
                address = socket.local_addr()?;
                datagrams.push(Datagrams {
                    socket,
                    other_port: udp(SocketAddr::new(ip, 0), false).ok(),
                    other_address: other_ip(ip).and_then(|ip| udp(SocketAddr::new(ip, address.port()), count > 1).ok()),
                });
                if index == 0 {
                    listeners.push(tcp(address)?);
                }
            }
            addresses.push(address);
        }
        self.shared.is_stopping.store(false, Ordering::Release);
        self.addresses = addresses;
        for (index, (datagrams, listeners)) in shares.into_iter().enumerate() {
            let (worker, waker) = Worker::new(Arc::clone(&self.shared), datagrams, listeners, self.options)?;
            let cpu = self.options.pins.then_some(index);
            let thread = thread::Builder::new().name(format!("fault-dns-{index}")).spawn(move || {
                pin(cpu);
                worker.run();
            })?;
            self.threads.push((thread, waker));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            also_ipv6: false,
            threads: 1,
            pins: false,
            joins: true,
            negative_ttl_seconds: None,
            tcp_connections_max: TCP_CONNECTIONS_MAX,
        }
    }
}

/// A UDP socket that does not block.
fn udp(address: SocketAddr, is_shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel may grant less; a flood of queries is then lost a little earlier.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.set_reuse_port(is_shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A listener on a port that may have connections of an earlier one in their last minute.
fn tcp(address: SocketAddr) -> io::Result<mio::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(mio::net::TcpListener::from_std(TcpListener::from(socket)))
}

/// The next address of the loopback network; IPv6 has one only.
fn other_ip(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) if ip.is_loopback() => Some(Ipv4Addr::from_bits(ip.to_bits() ^ 3).into()),
        _ => None,
    }
}

fn pin(cpu: Option<usize>) {
    let Some(cpu) = cpu else { return };
    let mut set = CpuSet::new();
    // A CPU that is not there, or not ours, leaves the thread where it may run.
    if set.set(cpu).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

//! The engine's workers on one thread, over a network and a clock that are simulated.
//!
//! Everything but the kernel is what runs elsewhere: the loop of a worker, its conversations, the DNS client, the cache. A
//! [`Network`] stands for the kernel and for all peers, and whoever simulates sets the clock and says whose turn it is, so
//! that a run is the same whenever its seed is.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use mailproof_io::{Driver, DriverError, Options as DriverOptions};
use mailproof_proto::verification::Options;

pub use mailproof_io::simulated::{Happening, Network, Opened};

use crate::cache::CacheOptions;
use crate::engine::Engine;

pub use crate::network::Census;
use crate::network::{NetworkOptions, SimulatedWorkers, Workers};
use crate::service::Service;

/// An engine with its workers, none of which does anything by itself.
pub struct Simulation {
    engine: Engine,
    workers: SimulatedWorkers,
}

/// What a simulation is made of.
pub struct Setup {
    /// How messages are judged.
    pub options: Options,
    /// The DNS client; [`NetworkOptions::threads`] and the backend mean nothing here, and nobody is asked over TLS.
    pub network: NetworkOptions,
    /// The cache.
    pub cache: CacheOptions,
    /// The time of day in milliseconds: to be moved together with [`Network::now`], never back.
    pub clock: Arc<AtomicU64>,
    /// Sockets that a worker may have.
    pub sockets_max: usize,
    /// Where the random numbers of the workers start.
    pub seed: u64,
}

impl Simulation {
    /// An engine with a worker on each of these networks.
    ///
    /// # Errors
    /// [`DriverError::System`] when the process has no descriptor left.
    pub fn new(setup: Setup, networks: Vec<Box<dyn Network>>) -> Result<Self, DriverError> {
        let options = DriverOptions { sockets_max: setup.sockets_max, ..DriverOptions::default() };
        let drivers: Result<Vec<Driver>, _> =
            networks.into_iter().map(|network| Driver::simulated(network, options.clone())).collect();
        let (drivers, mut workers) = (drivers?, None);
        let engine = Engine::simulated(setup.options, setup.network, setup.cache, setup.clock, |engine, network| {
            let (handle, simulated) = Workers::simulated(engine, &network, drivers, setup.seed);
            workers = Some(simulated);
            handle
        });
        let workers = workers.ok_or(DriverError::System { step: "start", source: io::ErrorKind::Other.into() })?;
        Ok(Self { engine, workers })
    }

    /// The engine, for everything that does not wait.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// How many workers there were at the beginning.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.count()
    }

    /// Hosts a service, at a descriptor that stands for a listening socket.
    pub fn listen(&self, listener: OwnedFd, service: Arc<dyn Service>) {
        self.workers.listen(listener, service);
    }

    /// Tells the workers to end after the work they have, at this moment at the latest.
    pub fn stop(&self, until: Instant) {
        self.workers.stop(until);
    }

    /// When a worker's wait ends; `None` for one that has ended, or that waits without end.
    #[must_use]
    pub fn next_moment(&self, worker: usize) -> Option<Instant> {
        self.workers.next_moment(worker)
    }

    /// One turn of a worker; false when it has ended.
    pub fn turn(&mut self, worker: usize) -> bool {
        self.workers.turn(worker)
    }

    /// What a worker holds; `None` when it has ended.
    #[must_use]
    pub fn census(&mut self, worker: usize) -> Option<Census> {
        self.workers.census(worker)
    }

    /// A descriptor that nothing ever happens on, to stand for a socket.
    ///
    /// # Errors
    /// When the process has none left.
    pub fn descriptor() -> io::Result<OwnedFd> {
        mailproof_io::simulated::descriptor()
    }
}

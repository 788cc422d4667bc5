//! Workers without threads: whoever simulates says whose turn it is.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use mailproof_io::{Backend, Driver};
use mailproof_proto::dns::lookup::Random;

use super::{Inbox, Message, Owners, Published, Thread, Worker, Workers};
use crate::engine::Engine;
use crate::hashing::Hashing;
use crate::network::NetworkOptions;
use crate::network::seeds::Seeds;
use crate::service::Service;

/// The workers of a simulated engine.
pub(crate) struct SimulatedWorkers {
    workers: Vec<Option<Worker>>,
    inboxes: Vec<Arc<Inbox>>,
}

/// What a worker holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Census {
    /// Sockets of every kind.
    pub sockets: usize,
    /// Ports that questions go out by.
    pub ports: usize,
    /// Connections to servers.
    pub links: usize,
    /// Connections of services.
    pub conversations: usize,
    /// Connections of services whose last octets are on their way.
    pub closing: usize,
    /// Questions without an answer.
    pub questions: usize,
    /// Questions that the servers are being asked.
    pub in_flight: usize,
    /// Questions that wait until fewer are in flight.
    pub waiting: usize,
    /// Questions on the connection to a server that has most.
    pub link_outstanding: usize,
    /// Places in the table of questions.
    pub question_places: usize,
    /// Messages that are being verified whole.
    pub jobs: usize,
    /// The most octets that wait to be sent on one connection.
    pub unsent_bytes: usize,
}

impl Workers {
    /// Workers over these drivers, and the handle by which others know them.
    pub(crate) fn simulated(
        engine: &Engine,
        options: &NetworkOptions,
        drivers: Vec<Driver>,
        seed: u64,
    ) -> (Self, SimulatedWorkers) {
        let inbox = |driver: &Driver| {
            Arc::new(Inbox {
                messages: Mutex::new(Some(Vec::new())),
                is_done: AtomicBool::new(false),
                waker: driver.waker(),
                statistics: Published::default(),
            })
        };
        let inboxes: Vec<Arc<Inbox>> = drivers.iter().map(inbox).collect();
        let mut random = Random::new(seed);
        let mut workers = Vec::new();
        for (number, driver) in drivers.into_iter().enumerate() {
            let (peers, inbox) = (inboxes.clone(), Arc::clone(&inboxes[number]));
            let seeds = Seeds::Fixed(Random::new(random.next_u64()));
            let (engine, options) = (engine.clone(), options.clone());
            workers.push(Some(Worker::new(
                number,
                engine,
                peers,
                inbox,
                Owners(Hashing::Fixed),
                driver,
                options,
                None,
                seeds,
            )));
        }
        let thread = |inbox: &Arc<Inbox>| Thread { inbox: Arc::clone(inbox), handle: Mutex::new(None) };
        let handle = Self {
            threads: inboxes.iter().map(thread).collect(),
            options: options.clone(),
            owners: Owners(Hashing::Fixed),
            next_job: AtomicUsize::new(0),
            process: std::process::id(),
            backend: Backend::Epoll,
        };
        (handle, SimulatedWorkers { workers, inboxes })
    }
}

impl SimulatedWorkers {
    /// How many there were at the beginning.
    pub(crate) fn count(&self) -> usize {
        self.workers.len()
    }

    /// Hosts a service.
    pub(crate) fn listen(&self, listener: OwnedFd, service: Arc<dyn Service>) {
        self.inboxes[0].put(Message::Listen { listener, service });
    }

    /// Tells all to end, at this moment at the latest.
    pub(crate) fn stop(&self, until: Instant) {
        for inbox in &self.inboxes {
            inbox.put(Message::Stop(until));
        }
    }

    /// A worker's wait would end at once, or at this moment; `None` for one that has ended, or waits without end.
    pub(crate) fn next_moment(&self, number: usize) -> Option<Instant> {
        let worker = self.workers.get(number)?.as_ref()?;
        let driver = &worker.sockets.driver;
        if driver.has_events() {
            return Some(driver.now());
        }
        worker.wait_until().into_iter().chain(driver.next_deadline()).min()
    }

    /// One turn of a worker; false when it has ended.
    pub(crate) fn turn(&mut self, number: usize) -> bool {
        let Some(worker) = self.workers.get_mut(number).and_then(Option::as_mut) else { return false };
        if worker.turn() {
            // The next wait begins: what was queued goes out.
            if worker.sockets.driver.glance().is_ok() {
                return true;
            }
        }
        worker.give_up();
        let _ = worker.sockets.driver.glance();
        self.workers[number] = None;
        false
    }

    /// What a worker holds; `None` when it has ended.
    pub(crate) fn census(&mut self, number: usize) -> Option<Census> {
        let worker = self.workers.get_mut(number)?.as_mut()?;
        let mut census = worker.inquiries.census();
        census.sockets = worker.sockets.driver.socket_count();
        census.jobs = worker.jobs.open_count();
        let sockets = worker.conversations.sockets();
        (census.conversations, census.closing) = (sockets.len(), worker.conversations.closing_count());
        let unsent = sockets.into_iter().map(|socket| worker.sockets.driver.unsent_bytes(socket));
        census.unsent_bytes = unsent.max().unwrap_or(0);
        Some(census)
    }
}

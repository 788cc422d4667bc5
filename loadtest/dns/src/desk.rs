//! From the octets of a query to what goes back: the same for datagrams and streams.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::answer::{Answering, damage, fitted, unreadable, with_other_data, wrong};
use crate::cache::Cache;
use crate::draw::{Decision, Draw, Drawn};
use crate::message::{Asked, Message};
use crate::plan::{Fault, Transport};
use crate::statistics::{Counters, Questions, locked};

/// What the threads of a server share with its owner.
#[derive(Debug)]
pub(crate) struct Shared {
    running: Mutex<Arc<Running>>,
    /// Goes up whenever `running` is replaced.
    generation: AtomicU64,
    pub(crate) is_paused: AtomicBool,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) counters: Counters,
    pub(crate) questions: Questions,
}

/// The zone and the plan at work.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) answering: Arc<Answering>,
    pub(crate) draw: Draw,
}

/// Where one thread turns queries into replies.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) shared: Arc<Shared>,
    running: Arc<Running>,
    generation: u64,
    cache: Cache,
}

/// What goes back to a query that met faults.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) delay: Option<Duration>,
    /// Messages in their order. Only the first is subject to `delivery`.
    pub(crate) replies: Vec<Vec<u8>>,
    pub(crate) delivery: Option<Fault>,
    /// What a slow reply takes.
    pub(crate) period: Duration,
    /// Where a reply that is not finished ends, as an octet of it.
    pub(crate) end_at: usize,
}

impl Shared {
    pub(crate) fn new(running: Running) -> Self {
        Self {
            running: Mutex::new(Arc::new(running)),
            generation: AtomicU64::new(1),
            is_paused: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            counters: Counters::default(),
            questions: Questions::default(),
        }
    }

    pub(crate) fn replace(&self, change: impl FnOnce(&Running) -> Running) {
        let mut running = locked(&self.running);
        *running = Arc::new(change(&running));
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl Desk {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let running = Arc::clone(&locked(&shared.running));
        Self { shared, running, generation: 0, cache: Cache::default() }
    }

    /// Takes up a plan or zone that was set in the meantime. Called before each batch.
    pub(crate) fn refresh(&mut self) {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        let running = Arc::clone(&locked(&self.shared.running));
        if !Arc::ptr_eq(&running.answering, &self.running.answering) {
            self.cache.clear();
        }
        self.running = running;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.shared.is_paused.load(Ordering::Acquire)
    }

    /// Whether connection number `nth` is closed as soon as it is there.
    pub(crate) fn refuses(&self, nth: u64) -> bool {
        let refuses = self.running.draw.refuses(nth);
        if refuses {
            self.shared.counters.add_fault(Fault::TcpRefuse.word());
        }
        refuses
    }

    /// Appends the reply to `out`, or nothing where there is none; gives what to do instead when there are faults.
    pub(crate) fn handle(&mut self, query: &[u8], by: Transport, out: &mut Vec<u8>) -> Option<Faulty> {
        let Running { answering, draw } = &*self.running;
        let counters = &self.shared.counters;
        let asked = match Asked::read(query) {
            Ok(asked) => asked,
            Err(why) => {
                counters.ignored.fetch_add(1, Ordering::Relaxed);
                out.extend(unreadable(query, why).unwrap_or_default());
                return None;
            }
        };
        let entry = self.cache.entry(&asked, answering, &self.shared.questions)?;
        let nth = entry.count();
        if entry.is_silent() {
            counters.silent.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if !draw.is_plain() {
            let has_edns = asked.edns_payload_bytes.is_some();
            let drawn = Drawn { question: entry.question.as_ref(), transport: by, has_edns, nth };
            if let Some(decision) = draw.decide(&drawn) {
                let right = answering.right(&asked)?;
                return Some(apply(decision, &right, &asked, by, counters));
            }
        }
        entry.write(&asked, answering, by, out);
        None
    }
}

/// Makes what was decided of the right reply.
fn apply(mut decision: Decision, right: &Message, asked: &Asked<'_>, by: Transport, counters: &Counters) -> Faulty {
    let random = &mut decision.random;
    let mut reply = match decision.answer {
        Some(fault) => wrong(fault, right, asked, by, random),
        None => fitted(right, asked, by),
    };
    if let Some(fault) = decision.octets {
        damage(fault, &mut reply, random);
    }
    let end_at = random.below(reply.len().max(1));
    let mut replies = vec![reply];
    match decision.delivery {
        Some(Fault::Loss | Fault::TcpSilence) => replies.clear(),
        Some(Fault::Duplicate) => replies.extend_from_within(..),
        Some(Fault::DuplicateDifferent) => replies.push(fitted(&with_other_data(right, asked), asked, by)),
        _ => {}
    }
    if decision.then_right {
        replies.push(fitted(right, asked, by));
    }
    if decision.delay.is_some() {
        counters.add_fault("delay");
    }
    for fault in [decision.answer, decision.octets, decision.delivery].into_iter().flatten() {
        counters.add_fault(fault.word());
    }
    let period = match decision.delivery {
        Some(Fault::TcpSlow { milliseconds }) => milliseconds.draw(random),
        _ => Duration::ZERO,
    };
    Faulty { delay: decision.delay, replies, delivery: decision.delivery, period, end_at }
}

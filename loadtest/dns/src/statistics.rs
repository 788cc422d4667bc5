//! What a server did, and what it was asked.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mailproof_proto::dns::Question;

/// Numbers since the server was made; a restart does not reset them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// Queries by UDP.
    pub udp_queries: u64,
    /// Queries by TCP.
    pub tcp_queries: u64,
    /// Connections accepted.
    pub tcp_connections: u64,
    /// Connections closed at once because as many as may be were open.
    pub tcp_over_limit: u64,
    /// Datagrams sent, faulty ones included.
    pub udp_replies: u64,
    /// Messages sent by TCP, faulty ones included.
    pub tcp_replies: u64,
    /// Queries for which the zone says `TIMEOUT`.
    pub silent: u64,
    /// Queries that came while the server was paused.
    pub paused: u64,
    /// Datagrams and messages that are no queries.
    pub ignored: u64,
    /// Replies that were given up: too many waited, or the kernel did not take them.
    pub lost: u64,
    /// Faults done, by their word.
    pub faults: BTreeMap<&'static str, u64>,
}

/// The numbers while they are counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) udp_queries: AtomicU64,
    pub(crate) tcp_queries: AtomicU64,
    pub(crate) tcp_connections: AtomicU64,
    pub(crate) tcp_over_limit: AtomicU64,
    pub(crate) udp_replies: AtomicU64,
    pub(crate) tcp_replies: AtomicU64,
    pub(crate) silent: AtomicU64,
    pub(crate) paused: AtomicU64,
    pub(crate) ignored: AtomicU64,
    pub(crate) lost: AtomicU64,
    faults: Mutex<BTreeMap<&'static str, u64>>,
}

/// How often each question came.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    counts: Mutex<HashMap<Question, Arc<AtomicU64>>>,
    others: Arc<AtomicU64>,
}

/// Questions counted apart; the rest is counted together.
pub const QUESTIONS_MAX: usize = 1 << 20;

impl Counters {
    pub(crate) fn add_fault(&self, word: &'static str) {
        *locked(&self.faults).entry(word).or_default() += 1;
    }

    pub(crate) fn snapshot(&self) -> Statistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            udp_queries: read(&self.udp_queries),
            tcp_queries: read(&self.tcp_queries),
            tcp_connections: read(&self.tcp_connections),
            tcp_over_limit: read(&self.tcp_over_limit),
            udp_replies: read(&self.udp_replies),
            tcp_replies: read(&self.tcp_replies),
            silent: read(&self.silent),
            paused: read(&self.paused),
            ignored: read(&self.ignored),
            lost: read(&self.lost),
            faults: locked(&self.faults).clone(),
        }
    }
}

impl Questions {
    /// The counter of a question; those of types that mail authentication never asks for, and those over the limit,
    /// share one.
    pub(crate) fn counter(&self, question: Option<&Question>) -> Arc<AtomicU64> {
        let Some(question) = question else { return Arc::clone(&self.others) };
        let mut counts = locked(&self.counts);
        if counts.len() >= QUESTIONS_MAX && !counts.contains_key(question) {
            return Arc::clone(&self.others);
        }
        Arc::clone(counts.entry(question.clone()).or_default())
    }

    pub(crate) fn snapshot(&self) -> HashMap<Question, u64> {
        let counts = locked(&self.counts);
        counts.iter().map(|(question, count)| (question.clone(), count.load(Ordering::Relaxed))).collect()
    }

    pub(crate) fn count(&self, question: &Question) -> u64 {
        locked(&self.counts).get(question).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [
            ("udp-queries", self.udp_queries),
            ("tcp-queries", self.tcp_queries),
            ("tcp-connections", self.tcp_connections),
            ("tcp-over-limit", self.tcp_over_limit),
            ("udp-replies", self.udp_replies),
            ("tcp-replies", self.tcp_replies),
            ("silent", self.silent),
            ("paused", self.paused),
            ("ignored", self.ignored),
            ("lost", self.lost),
        ];
        for (index, (word, number)) in numbers.into_iter().enumerate() {
            write!(f, "{}{word}={number}", if index > 0 { " " } else { "" })?;
        }
        self.faults.iter().try_for_each(|(word, number)| write!(f, " fault-{word}={number}"))
    }
}

/// A panic of another thread leaves these maps whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

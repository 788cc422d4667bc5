//! The DNS cache: answers by name and type, shared by all threads.
//!
//! What is kept is the raw answer to a question, under that question and no other; parsed forms live beside it in the
//! answer. Two things reach further: that a name does not exist answers every type at that name (RFC 2308 section 5),
//! and the names below it where [`BelowDenied`] allows. That a name lacks one type says nothing about another type, or
//! about the names below (RFC 8020 section 3.1).
//!
//! The clock is the caller's: an entry carries the moment at which it ends, compared when it is read.
//!
//! Cost of a hit: the key is put together on the stack and hashed once, a shard is locked for reading, and a pointer is
//! cloned; a name among a million is found with two waits for memory (see `table.rs`).

pub mod dump;
mod table;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use mailproof_proto::dns::{Answer, AnswerSource, Failure, Name, Outcome, Question, RecordType};
use mailproof_proto::time::Timestamp;

use self::table::{Details, Entry, Table};
use crate::hashing::Hashing;

/// Answers of the DNS, for as long as they may be kept.
#[derive(Debug)]
pub struct Cache {
    entries: Table,
    options: CacheOptions,
    reads: Reads,
    inserts: AtomicU64,
    /// An entry denies the names below it; until then nobody looks for one.
    has_deep_denial: AtomicBool,
}

/// How long answers are kept, and how many.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CacheOptions {
    /// Octets of all entries together, an estimate; the least used ones make room. Zero keeps nothing.
    pub bytes_max: u64,
    /// The longest that records are kept.
    pub positive_max: Duration,
    /// The shortest that records are kept, whatever their time to live.
    pub positive_min: Duration,
    /// The longest that the absence of records or of a name is kept (RFC 2308 section 5 suggests one to three hours).
    pub negative_max: Duration,
    /// How long a failure is kept at first; twice as long each time it repeats (RFC 9520 section 3.2).
    pub failure_start: Duration,
    /// The longest that a failure is kept (RFC 2308 section 7, RFC 9520 section 3.2).
    pub failure_max: Duration,
    /// How long an answer may still serve after its end while no server gives a new one (RFC 8767); zero for never.
    pub stale_max: Duration,
    /// Whether a name that does not exist denies the names below it.
    pub below_denied: BelowDenied,
}

/// When the absence of a name is taken as the absence of all names below it (RFC 8020).
///
/// Some servers deny names that have names below them. Believing every such denial would let whoever asks about
/// `_domainkey.victim.example` first decide whether a key below it is found later.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BelowDenied {
    /// Every name is asked for.
    Never,
    /// Where a resolver that is trusted to validate says that the denial is signed.
    #[default]
    WhenAuthentic,
    /// Always.
    Always,
}

/// What a cache has done, and what it holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CacheStatistics {
    /// Questions it answered.
    pub hits: u64,
    /// Questions it did not.
    pub misses: u64,
    /// Answers it took in.
    pub inserts: u64,
    /// Entries that had to make room.
    pub evictions: u64,
    /// Entries it holds, those whose time is over included.
    pub entries: u64,
    /// Octets it holds, an estimate.
    pub bytes: u64,
}

/// A cache at one moment, as a source of answers for an evaluation.
#[derive(Clone, Copy, Debug)]
pub struct CacheAt<'a> {
    cache: &'a Cache,
    now: Timestamp,
}

/// An answer that the cache gave.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The answer.
    pub answer: Answer,
    /// The moment from which on it may not be used.
    pub expires: Timestamp,
    /// The last tenth of its time has begun: worth fetching again, as it is in use.
    pub is_ageing: bool,
}

/// Time to live of an answer that serves past its end (RFC 8767 section 4).
const STALE_TTL_SECONDS: u32 = 30;
/// Answers that are kept for less are not fetched ahead: they would be all the time.
const REFRESHED_TIME_MIN: Duration = Duration::from_secs(10);

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(options: CacheOptions) -> Self {
        Self::with_hashing(options, Hashing::random())
    }

    pub(crate) fn with_hashing(options: CacheOptions, hashing: Hashing) -> Self {
        Self {
            entries: Table::new(options.bytes_max, hashing),
            options,
            reads: Reads::default(),
            inserts: AtomicU64::new(0),
            has_deep_denial: AtomicBool::new(false),
        }
    }

    /// The answer to a question, while it may be used.
    #[must_use]
    pub fn get(&self, question: &Question, now: Timestamp) -> Option<Answer> {
        self.find(question, now).map(|hit| hit.answer)
    }

    /// As [`Cache::get`], with what is known of the answer's time.
    #[must_use]
    pub fn find(&self, question: &Question, now: Timestamp) -> Option<Hit> {
        if self.options.bytes_max == 0 {
            return None;
        }
        let mut key = Key::new(question);
        let found = self.live(key.octets(), now).or_else(|| {
            key.widen();
            self.live(key.octets(), now).or_else(|| self.denied_above(&mut key, now))
        });
        self.reads.count(found.is_some());
        found.map(|Entry { answer, details }| {
            let ageing = Duration::from_secs(details.ageing_seconds.into());
            Hit { answer, expires: details.expires, is_ageing: details.expires <= now + ageing }
        })
    }

    /// An answer whose time is over, for as long as [`CacheOptions::stale_max`] allows: what there is when no server
    /// answers. It is in force for another 30 seconds, or less where the limit is nearer (RFC 8767 section 4); however
    /// often that happens, the limit counts from the end that the servers gave.
    #[must_use]
    pub fn stale(&self, question: &Question, now: Timestamp) -> Option<Answer> {
        let mut key = Key::new(question);
        self.revived(&key, now).or_else(|| {
            key.widen();
            self.revived(&key, now)
        })
    }

    fn revived(&self, key: &Key, now: Timestamp) -> Option<Answer> {
        let Entry { answer, mut details } = self.entries.get(key.octets())?;
        let end_ms = details.expires.milliseconds().saturating_sub(details.late_ms.into());
        let limit = Timestamp::from_milliseconds(end_ms) + self.options.stale_max;
        if now >= limit || matches!(answer.outcome(), Outcome::Failed(_)) {
            return None;
        }
        let answer = answer.capped(STALE_TTL_SECONDS);
        if details.expires <= now {
            details.expires = limit.min(now + Duration::from_secs(STALE_TTL_SECONDS.into()));
            details.late_ms = u32::try_from(details.expires.milliseconds() - end_ms).unwrap_or(u32::MAX);
            self.entries.insert(key.octets(), Entry { answer: answer.clone(), details }, self.over(now));
        }
        Some(answer)
    }

    /// Forgets what is known of one name: every type, and whether it exists. Gives how many entries there were.
    pub fn purge(&self, name: &Name) -> usize {
        let mut keys = Vec::new();
        for kind in RecordType::ALL {
            let mut key = Key::new(&Question::new(*name, kind));
            keys.push(key.octets().to_vec());
            key.widen();
            keys.push(key.octets().to_vec());
        }
        keys.sort();
        keys.dedup();
        keys.iter().filter(|key| self.entries.remove(key)).count()
    }

    /// Keeps an answer, or notes a failure; what may not be kept is left out.
    pub fn insert(&self, question: &Question, answer: &Answer, now: Timestamp) {
        if self.options.bytes_max == 0 {
            return;
        }
        let mut key = Key::new(question);
        let (time, failures) = if let Outcome::Failed(failure) = answer.outcome() {
            let Some(failures) = self.failures_in_a_row(key.octets(), *failure, now) else { return };
            (self.failure_time(failures), failures)
        } else {
            (self.answer_time(answer), 0)
        };
        // RFC 2308 section 2.1: after a CNAME it is another name that does not exist; this is then the answer to
        // this question only, and nothing is kept for a name that was not asked for.
        let denies_name = *answer.outcome() == Outcome::NxDomain && answer.denied_name().is_none();
        if denies_name || time.is_zero() {
            self.end_failure(key.octets());
        }
        if time.is_zero() {
            return;
        }
        if denies_name {
            key.widen();
        }
        self.put(&key, answer.clone(), (now + time, time), failures, now);
    }

    /// Puts in an answer until `expires`; `time` is how long it is kept when it comes from the servers.
    fn put(&self, key: &Key, answer: Answer, (expires, time): (Timestamp, Duration), failures: u8, now: Timestamp) {
        let is_denial = *answer.outcome() == Outcome::NxDomain && answer.denied_name().is_none();
        let denies_below = is_denial && self.denies_below(&answer);
        if denies_below {
            self.has_deep_denial.store(true, Ordering::Relaxed);
        }
        let is_worth_it = matches!(answer.outcome(), Outcome::Records(_)) && time >= REFRESHED_TIME_MIN;
        let ageing_seconds = if is_worth_it { u16::try_from(time.as_secs() / 10).unwrap_or(u16::MAX) } else { 0 };
        self.inserts.fetch_add(1, Ordering::Relaxed);
        let details = Details { expires, late_ms: 0, ageing_seconds, failures, denies_below };
        self.entries.insert(key.octets(), Entry { answer, details }, self.over(now));
    }

    /// What ended by then serves no more, not even as a stale answer.
    fn over(&self, now: Timestamp) -> Timestamp {
        let stale_ms = u64::try_from(self.options.stale_max.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_milliseconds(now.milliseconds().saturating_sub(stale_ms))
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.entries.clear();
    }

    /// This cache at one moment.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> CacheAt<'_> {
        CacheAt { cache: self, now }
    }

    /// What the cache has done so far and what it holds.
    #[must_use]
    pub fn statistics(&self) -> CacheStatistics {
        let (hits, misses) = self.reads.totals();
        CacheStatistics {
            hits,
            misses,
            inserts: self.inserts.load(Ordering::Relaxed),
            evictions: self.entries.evictions(),
            entries: self.entries.len(),
            bytes: self.entries.bytes(),
        }
    }

    fn live(&self, key: &[u8], now: Timestamp) -> Option<Entry> {
        self.entries.get(key).filter(|entry| now < entry.details.expires)
    }

    /// The denial of a name above the one of `key`, which becomes that name.
    fn denied_above(&self, key: &mut Key, now: Timestamp) -> Option<Entry> {
        if !self.has_deep_denial.load(Ordering::Relaxed) {
            return None;
        }
        while key.climb() {
            let found = self.live(key.octets(), now).filter(|entry| entry.details.denies_below);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// How long an answer is kept; zero for not at all.
    fn answer_time(&self, answer: &Answer) -> Duration {
        let Some(ttl_seconds) = answer.ttl_seconds() else {
            // RFC 2308 section 5: a negative answer without SOA is not kept.
            return Duration::ZERO;
        };
        let (ttl, options) = (Duration::from_secs(ttl_seconds.into()), &self.options);
        match answer.outcome() {
            Outcome::Records(_) => ttl.min(options.positive_max).max(options.positive_min),
            _ => ttl.min(options.negative_max),
        }
    }

    fn denies_below(&self, answer: &Answer) -> bool {
        match self.options.below_denied {
            BelowDenied::Never => false,
            BelowDenied::WhenAuthentic => answer.authentic() == Some(true),
            BelowDenied::Always => true,
        }
    }

    /// Forgets a failure, after an answer that does not take its place.
    fn end_failure(&self, key: &[u8]) {
        if self.entries.get(key).is_some_and(|entry| entry.details.failures > 0) {
            self.entries.remove(key);
        }
    }

    /// How often in a row the question has failed, this time included; `None` when there is nothing to note, because a
    /// good answer is still in force (a failure must not erase it) or the failure was noted by another lookup.
    fn failures_in_a_row(&self, key: &[u8], failure: Failure, now: Timestamp) -> Option<u8> {
        let Some(Entry { details: before, .. }) = self.entries.get(key) else { return Some(1) };
        if now < before.expires {
            return None;
        }
        // No way to any server is a fault on this side, and says nothing about the name.
        let is_in_a_row = now < before.expires + self.options.failure_max && failure != Failure::Unreachable;
        Some(if is_in_a_row { before.failures.saturating_add(1) } else { 1 })
    }

    fn failure_time(&self, failures: u8) -> Duration {
        let doubled = 1_u32.checked_shl(u32::from(failures) - 1).unwrap_or(u32::MAX);
        self.options.failure_start.saturating_mul(doubled).min(self.options.failure_max)
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new(CacheOptions::default())
    }
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            bytes_max: 64 * 1024 * 1024,
            positive_max: Duration::from_secs(24 * 60 * 60),
            positive_min: Duration::ZERO,
            negative_max: Duration::from_secs(3 * 60 * 60),
            failure_start: Duration::from_secs(5),
            failure_max: Duration::from_secs(5 * 60),
            stale_max: Duration::ZERO,
            below_denied: BelowDenied::default(),
        }
    }
}

impl AnswerSource for CacheAt<'_> {
    fn answer(&mut self, question: &Question) -> Option<Answer> {
        self.cache.get(question, self.now)
    }
}

/// The octets under which an answer is kept: the type code, zero for all types, and the name.
#[derive(Clone)]
struct Key {
    octets: [u8; Self::BYTES_MAX],
    start: usize,
    end: usize,
}

impl Key {
    const TYPE_BYTES: usize = 2;
    const BYTES_MAX: usize = Self::TYPE_BYTES + 255;
    const EVERY_TYPE: [u8; 2] = [0, 0];

    #[inline]
    fn new(question: &Question) -> Self {
        let wire = question.name.wire();
        let mut octets = [0; Self::BYTES_MAX];
        let end = Self::TYPE_BYTES + wire.len();
        octets[..Self::TYPE_BYTES].copy_from_slice(&question.kind.code().to_be_bytes());
        octets[Self::TYPE_BYTES..end].copy_from_slice(wire);
        Self { octets, start: 0, end }
    }

    fn octets(&self) -> &[u8] {
        &self.octets[self.start..self.end]
    }

    /// From one type to all.
    fn widen(&mut self) {
        self.octets[self.start..self.start + Self::TYPE_BYTES].copy_from_slice(&Self::EVERY_TYPE);
    }

    /// From a name to the one above, which takes the place of its last octets; false when that is the root.
    fn climb(&mut self) -> bool {
        let label_bytes = usize::from(self.octets[self.start + Self::TYPE_BYTES]);
        if label_bytes == 0 {
            return false;
        }
        // A label with its length is as long as a type code at least.
        self.start += label_bytes + 1;
        self.widen();
        self.octets[self.start + Self::TYPE_BYTES] != 0
    }
}

/// Hits and misses, counted in lines of memory that threads rarely share.
#[derive(Debug, Default)]
struct Reads([Line; 16]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Reads {
    fn count(&self, is_hit: bool) {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed));
        }
        let line = &self.0[THREAD.get() % self.0.len()];
        let counter = if is_hit { &line.hits } else { &line.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn totals(&self) -> (u64, u64) {
        let sum = |of: fn(&Line) -> &AtomicU64| self.0.iter().map(|line| of(line).load(Ordering::Relaxed)).sum();
        (sum(|line| &line.hits), sum(|line| &line.misses))
    }
}

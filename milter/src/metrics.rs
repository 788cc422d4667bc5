//! Figures in Prometheus' text form. Labels are words of this program, never a name or an address from outside.

mod http;

pub use self::http::{HttpConversation, Status};

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use mailproof::Engine;
use mailproof_proto::arc::ArcResult;
use mailproof_proto::dkim::{Algorithm, DkimResult};
use mailproof_proto::dmarc::DmarcResult;
use mailproof_proto::spf::SpfResult;
use mailproof_proto::verdict::{Action, Verdict};

/// Counts of one process; shared by all its connections.
#[derive(Default)]
pub struct Metrics {
    connections: AtomicU64,
    connections_open: AtomicI64,
    protocol_errors: AtomicU64,
    internal_errors: AtomicU64,
    aborted: AtomicU64,
    messages: Family<4>,
    skipped: Family<4>,
    spf: Family<7>,
    dkim: Family<7>,
    dmarc: Family<5>,
    arc: Family<3>,
    signed: Family<2>,
    unsigned: AtomicU64,
    forged: AtomicU64,
    policy_requests: Family<4>,
    seconds: Histogram,
    reloads: Family<2>,
    cross_checks: Family<4>,
    dropped_lines: OnceLock<Box<DroppedLines>>,
}

/// Gives the lines dropped from the log and from the event stream.
type DroppedLines = dyn Fn() -> [u64; 2] + Send + Sync;

/// Counters that one label tells apart.
#[derive(Debug)]
struct Family<const N: usize>([AtomicU64; N]);

/// Times from the end of a message to the reply.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS_MS.len()],
    count: AtomicU64,
    sum_ms: AtomicU64,
}

/// Why a message was not verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Skip {
    /// The client authenticated.
    Authenticated,
    /// It came over a local socket.
    Local,
    /// The client is in one of our own networks, or its connection came to a submission daemon.
    Own,
    /// The client is on the list of hosts that are not checked.
    Listed,
}

impl Metrics {
    /// Counts a connection.
    pub fn connection_opened(&self) {
        count(&self.connections);
        self.connections_open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of a connection.
    pub fn connection_closed(&self) {
        self.connections_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a connection that ended because the peer broke the protocol.
    pub fn protocol_error(&self) {
        count(&self.protocol_errors);
    }

    /// Counts a fault of this program or its machine.
    pub fn internal_error(&self) {
        count(&self.internal_errors);
    }

    /// Counts a message that was given up before its end.
    pub fn message_aborted(&self) {
        count(&self.aborted);
    }

    /// Counts a message with what was done, and the time from its end to the reply.
    pub fn message(&self, action: Action, waited: Duration) {
        self.messages.count(action as usize);
        let ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        self.seconds.record(ms);
    }

    /// Counts a message that was not verified.
    pub fn message_skipped(&self, skip: Skip) {
        self.skipped.count(skip as usize);
    }

    /// Counts the results of a message.
    pub fn verdict(&self, verdict: &Verdict) {
        self.spf.count(verdict.spf.result as usize);
        self.dmarc.count(verdict.dmarc.result as usize);
        self.arc.count(verdict.arc.result as usize);
        if verdict.dkim.is_empty() {
            self.dkim.count(DkimResult::None as usize);
        }
        for signature in &verdict.dkim {
            self.dkim.count(signature.result as usize);
        }
    }

    /// Counts a signature that was added.
    pub fn signed(&self, algorithm: Algorithm) {
        self.signed.count(usize::from(algorithm == Algorithm::Ed25519Sha256));
    }

    /// Counts a message that could not be signed although it should have been.
    pub fn not_signed(&self) {
        count(&self.unsigned);
    }

    /// Counts forged fields that were removed.
    pub fn forged_removed(&self, fields: u64) {
        self.forged.fetch_add(fields, Ordering::Relaxed);
    }

    /// Counts a request of the policy service.
    pub fn policy_request(&self, action: Action) {
        self.policy_requests.count(action as usize);
    }

    /// Counts a reload that was put in force, or refused.
    pub fn reloaded(&self, done: bool) {
        self.reloads.count(usize::from(!done));
    }

    /// Counts a message that was judged again.
    pub fn cross_checked(&self, result: CrossCheckResult) {
        self.cross_checks.count(result as usize);
    }

    /// Says who knows how many lines of the log, and how many events, were dropped.
    pub fn set_dropped_lines(&self, count: impl Fn() -> [u64; 2] + Send + Sync + 'static) {
        // The first to say so is the one that writes.
        let _ = self.dropped_lines.set(Box::new(count));
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections_open(&self) -> u64 {
        u64::try_from(self.connections_open.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Every figure as text (Prometheus exposition format 0.0.4), with those of the engine.
    #[must_use]
    pub fn render(&self, engine: Option<&Engine>) -> String {
        let mut page = Page(String::with_capacity(PAGE_BYTES));
        page.counter("connections_total", "Connections taken.", &self.connections);
        page.head("connections", "Connections open.", "gauge");
        page.sample("connections", "", "", &self.connections_open().to_string());
        page.counter(
            "protocol_errors_total",
            "Connections ended because the peer broke the protocol.",
            &self.protocol_errors,
        );
        page.counter("internal_errors_total", "Faults of this program or its machine.", &self.internal_errors);
        page.counter("messages_aborted_total", "Messages given up before their end.", &self.aborted);
        page.family("messages_total", "Messages by what was done.", "action", &ACTIONS, &self.messages);
        page.family("messages_skipped_total", "Messages not verified, by reason.", "reason", &SKIPS, &self.skipped);
        page.family("spf_total", "SPF results of MAIL FROM.", "result", &SPF, &self.spf);
        page.family("dkim_total", "DKIM results, one a signature.", "result", &DKIM, &self.dkim);
        page.family("dmarc_total", "DMARC results.", "result", &DMARC, &self.dmarc);
        page.family("arc_total", "ARC results.", "result", &ARC, &self.arc);
        page.family("signatures_added_total", "Signatures added.", "algorithm", &ALGORITHMS, &self.signed);
        page.counter("signing_failures_total", "Messages that could not be signed.", &self.unsigned);
        page.counter("forged_fields_removed_total", "Forged Authentication-Results fields removed.", &self.forged);
        page.family(
            "policy_requests_total",
            "Requests of the policy service.",
            "action",
            &ACTIONS,
            &self.policy_requests,
        );
        page.histogram("message_wait_seconds", "Time from the end of a message to the reply.", &self.seconds);
        page.family("reloads_total", "Readings of the configuration while running.", "result", &RELOADS, &self.reloads);
        page.family(
            "cross_checks_total",
            "Messages judged again by mail-auth.",
            "result",
            &CROSS_CHECKS,
            &self.cross_checks,
        );
        let [lines, events] = self.dropped_lines.get().map_or([0, 0], |count| count());
        page.number("log_lines_dropped_total", "Lines that the log could not take.", "counter", lines);
        page.number("events_dropped_total", "Events that could not be written.", "counter", events);
        if let Some(engine) = engine {
            page.engine(engine);
        }
        page.0
    }
}

impl Page {
    fn engine(&mut self, engine: &Engine) {
        let cache = engine.cache_statistics();
        self.number("dns_cache_hits_total", "Questions answered from the cache.", "counter", cache.hits);
        self.number("dns_cache_misses_total", "Questions not in the cache.", "counter", cache.misses);
        self.number("dns_cache_evictions_total", "Answers evicted.", "counter", cache.evictions);
        self.number("dns_cache_entries", "Answers in the cache.", "gauge", cache.entries);
        self.number("dns_cache_bytes", "Size of the cache.", "gauge", cache.bytes);
        let network = engine.network_statistics();
        for (name, help, number) in [
            ("dns_lookups_total", "Questions that went to the resolvers.", network.lookups),
            ("dns_failures_total", "Questions without an answer in the end.", network.failures),
            ("dns_silent_tries_total", "Tries that a resolver let pass.", network.silent_tries),
            ("dns_unmatched_total", "Replies that matched no query: late, or forged.", network.unmatched),
            ("dns_turned_away_total", "Questions that failed because too many waited.", network.turned_away),
        ] {
            self.number(name, help, "counter", number);
        }
        if let Some(backend) = engine.backend() {
            self.head("io_backend_info", "How the threads wait for sockets.", "gauge");
            self.sample("io_backend_info", "backend", backend.word(), "1");
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("connections_open", &self.connections_open).finish_non_exhaustive()
    }
}

/// What a second opinion said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CrossCheckResult {
    /// The same.
    Agrees,
    /// Something else.
    Disagrees,
    /// Nothing.
    NoOpinion,
    /// It was not asked: too many waited.
    Dropped,
}

impl CrossCheckResult {
    /// The word of logs and labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Disagrees => "disagrees",
            Self::NoOpinion => "no-opinion",
            Self::Dropped => "dropped",
        }
    }
}

impl Skip {
    /// The word of logs and labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Authenticated => "authenticated",
            Self::Local => "local",
            Self::Own => "own",
            Self::Listed => "listed",
        }
    }

    /// True when mail that comes so is ours to sign.
    #[must_use]
    pub const fn is_outgoing(self) -> bool {
        !matches!(self, Self::Listed)
    }
}

impl<const N: usize> Family<N> {
    fn count(&self, at: usize) {
        if let Some(counter) = self.0.get(at) {
            count(counter);
        }
    }
}

impl<const N: usize> Default for Family<N> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

impl Histogram {
    fn record(&self, ms: u64) {
        if let Some(at) = BUCKETS_MS.iter().position(|bucket| ms <= *bucket) {
            self.buckets.get(at).into_iter().for_each(count);
        }
        count(&self.count);
        self.sum_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

/// The text under way.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.push(format_args!("# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, label: &str, value: &str, number: &str) {
        match label {
            "" => self.push(format_args!("{PREFIX}{name} {number}\n")),
            _ => self.push(format_args!("{PREFIX}{name}{{{label}=\"{value}\"}} {number}\n")),
        }
    }

    fn number(&mut self, name: &str, help: &str, kind: &str, number: u64) {
        self.head(name, help, kind);
        self.sample(name, "", "", &number.to_string());
    }

    fn counter(&mut self, name: &str, help: &str, counter: &AtomicU64) {
        self.number(name, help, "counter", counter.load(Ordering::Relaxed));
    }

    fn family<const N: usize>(&mut self, name: &str, help: &str, label: &str, words: &[&str; N], family: &Family<N>) {
        self.head(name, help, "counter");
        for (word, counter) in words.iter().zip(&family.0) {
            self.sample(name, label, word, &counter.load(Ordering::Relaxed).to_string());
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        let mut below = 0;
        let bucket_name = format!("{name}_bucket");
        for (bucket, counter) in BUCKETS_MS.iter().zip(&histogram.buckets) {
            below += counter.load(Ordering::Relaxed);
            self.sample(&bucket_name, "le", &seconds(*bucket), &below.to_string());
        }
        let count = histogram.count.load(Ordering::Relaxed).max(below).to_string();
        self.sample(&bucket_name, "le", "+Inf", &count);
        self.sample(&format!("{name}_sum"), "", "", &seconds(histogram.sum_ms.load(Ordering::Relaxed)));
        self.sample(&format!("{name}_count"), "", "", &count);
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(arguments);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Milliseconds as seconds.
fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

const PREFIX: &str = "mailproof_";
/// Room for all figures.
const PAGE_BYTES: usize = 8 * 1024;
/// Upper ends of the buckets of a histogram.
const BUCKETS_MS: [u64; 10] = [1, 2, 5, 10, 50, 100, 500, 2000, 10_000, 30_000];

const ACTIONS: [&str; 4] =
    [Action::Accept.word(), Action::Quarantine.word(), Action::Reject.word(), Action::Defer.word()];
const SKIPS: [&str; 4] = [Skip::Authenticated.word(), Skip::Local.word(), Skip::Own.word(), Skip::Listed.word()];
const SPF: [&str; 7] = [
    SpfResult::None.word(),
    SpfResult::Neutral.word(),
    SpfResult::Pass.word(),
    SpfResult::Fail.word(),
    SpfResult::SoftFail.word(),
    SpfResult::TempError.word(),
    SpfResult::PermError.word(),
];
const DKIM: [&str; 7] = [
    DkimResult::None.word(),
    DkimResult::Pass.word(),
    DkimResult::Fail.word(),
    DkimResult::Policy.word(),
    DkimResult::Neutral.word(),
    DkimResult::TempError.word(),
    DkimResult::PermError.word(),
];
const DMARC: [&str; 5] = [
    DmarcResult::None.word(),
    DmarcResult::Pass.word(),
    DmarcResult::Fail.word(),
    DmarcResult::TempError.word(),
    DmarcResult::PermError.word(),
];
const ARC: [&str; 3] = [ArcResult::None.word(), ArcResult::Pass.word(), ArcResult::Fail.word()];
const CROSS_CHECKS: [&str; 4] = [
    CrossCheckResult::Agrees.word(),
    CrossCheckResult::Disagrees.word(),
    CrossCheckResult::NoOpinion.word(),
    CrossCheckResult::Dropped.word(),
];
const RELOADS: [&str; 2] = ["done", "refused"];
const ALGORITHMS: [&str; 2] = ["rsa-sha256", "ed25519-sha256"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_counters_belong_together() {
        let metrics = Metrics::default();
        metrics.connection_opened();
        metrics.message(Action::Reject, Duration::from_millis(7));
        metrics.message(Action::Defer, Duration::from_secs(40));
        metrics.message_skipped(Skip::Listed);
        metrics.signed(Algorithm::Ed25519Sha256);
        metrics.spf.count(SpfResult::SoftFail as usize);
        metrics.dkim.count(DkimResult::Policy as usize);
        metrics.dmarc.count(DmarcResult::PermError as usize);
        metrics.arc.count(ArcResult::Fail as usize);
        let engine = Engine::builder().offline().build().unwrap();
        let page = metrics.render(Some(&engine));
        for line in [
            "mailproof_connections 1",
            "mailproof_messages_total{action=\"reject\"} 1",
            "mailproof_messages_total{action=\"accept\"} 0",
            "mailproof_messages_skipped_total{reason=\"listed\"} 1",
            "mailproof_signatures_added_total{algorithm=\"ed25519-sha256\"} 1",
            "mailproof_spf_total{result=\"softfail\"} 1",
            "mailproof_dkim_total{result=\"policy\"} 1",
            "mailproof_dmarc_total{result=\"permerror\"} 1",
            "mailproof_arc_total{result=\"fail\"} 1",
            "mailproof_message_wait_seconds_bucket{le=\"0.005\"} 0",
            "mailproof_message_wait_seconds_bucket{le=\"0.010\"} 1",
            "mailproof_message_wait_seconds_bucket{le=\"30.000\"} 1",
            "mailproof_message_wait_seconds_bucket{le=\"+Inf\"} 2",
            "mailproof_message_wait_seconds_sum 40.007",
            "mailproof_dns_cache_hits_total 0",
        ] {
            assert!(page.lines().any(|it| it == line), "{line} is not in\n{page}");
        }
    }
}

//! Mixed load on the engine's DNS client for as long as one likes, with unbound as the resolver, restarted every minute,
//! and a server behind it that delays, loses, doubles and truncates.
//!
//! `cargo run --release -p mailproof-fault-dns --example soak -- MINUTES [auto|uring|epoll] [RESTART_SECONDS]`
//!
//! Prints resident memory and descriptors every ten seconds, and at the end what was lost or wrong; exit code 1 when
//! anything was.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use mailproof::cache::CacheOptions;
use mailproof::network::NetworkOptions;
use mailproof::{Engine, Verdict};
use mailproof_fault_dns::{Fault, Plan, Rule, Server, Span};
use mailproof_testkit::generate::stream::{Distance, Mail, distance, mails};
use mailproof_testkit::servers::Unbound;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Messages that are sent over and over; their answers are kept for a shorter time than one round takes.
const MAILS: usize = 4_000;
const KEPT: Duration = Duration::from_secs(5);
/// Messages under way in the submitted part of the load.
const SUBMITTED_MAX: u64 = 64;
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// After so long a message counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// Pause of each part of the load after a message, so that the machine is not used up.
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    same: AtomicU64,
    temporary: AtomicU64,
    wrong: AtomicU64,
    slowest_ms: AtomicU64,
}

struct Load {
    engine: Engine,
    mails: Vec<Mail>,
    expected: Vec<Verdict>,
    counts: Counts,
    is_over: AtomicBool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let minutes: f64 = arguments.first().and_then(|it| it.parse().ok()).unwrap_or(30.0);
    let backend = arguments.get(1).map_or("auto", String::as_str);
    let restart_every = Duration::from_secs(arguments.get(2).and_then(|it| it.parse().ok()).unwrap_or(60));
    let (mails, records) = mails(0, MAILS);
    let offline = Engine::builder().zone(records.to_zone()).build().expect("an engine of a zone");
    let expected = mails.iter().map(|mail| offline.verify(&mail.message, mail.envelope.clone())).collect();
    let authority = Server::start(records.to_zone(), plan()).expect("a server behind the resolver");
    let configuration = format!(
        "  module-config: \"iterator\"\nforward-zone:\n  name: \".\"\n  forward-addr: {}@{}\n",
        authority.addr().ip(),
        authority.addr().port()
    );
    let Some(mut unbound) = Unbound::start(&configuration).expect("unbound starts") else {
        eprintln!("unbound is not installed");
        return ExitCode::from(69);
    };
    let mut options = NetworkOptions::new(vec![unbound.address()]);
    options.backend = backend.parse().expect("auto, uring or epoll");
    options.port_time_max = Duration::from_secs(5);
    let cache = CacheOptions { positive_max: KEPT, negative_max: KEPT, ..CacheOptions::default() };
    let engine = Engine::builder().network(options).cache(cache).build().expect("an engine of the network");
    println!("backend {:?}, {} messages in turn, {minutes} minutes", engine.backend(), mails.len());
    let load = Load { engine, mails, expected, counts: Counts::default(), is_over: AtomicBool::new(false) };
    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let lost = thread::scope(|scope| {
        let load = &load;
        let blocking: Vec<_> = (0..2).map(|part| scope.spawn(move || load.block(part * MAILS / 3))).collect();
        let submitting = scope.spawn(|| load.submit());
        watch(load, &mut unbound, until, restart_every);
        load.is_over.store(true, Ordering::Relaxed);
        for thread in blocking {
            thread.join().expect("a thread of the load");
        }
        submitting.join().expect("a thread of the load")
    });
    println!("at the end: {:?}", load.engine.network_statistics());
    let counts = &load.counts;
    let [sent, same, temporary, wrong] =
        [&counts.sent, &counts.same, &counts.temporary, &counts.wrong].map(|it| it.load(Ordering::Relaxed));
    let lost = lost + (sent - same - temporary - wrong).saturating_sub(lost);
    println!("{sent} messages: {same} as offline, {temporary} temporary errors, {wrong} wrong, {lost} lost");
    if wrong + lost > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What happens behind the resolver.
fn plan() -> Plan {
    Plan::new(7)
        .with(Rule::new(Fault::Delay { milliseconds: Span::new(1, 30) }).probability(0.3))
        .with(Rule::new(Fault::Truncation).probability(0.02))
        .with(Rule::any_of([Fault::Loss, Fault::Duplicate, Fault::WrongId]).probability(0.01))
}

/// Restarts the resolver and reports, until the time is over.
fn watch(load: &Load, unbound: &mut Unbound, until: Instant, restart_every: Duration) {
    let started = Instant::now();
    let (mut next_report, mut next_restart) = (started, started + restart_every);
    let mut restarts = 0;
    while Instant::now() < until {
        thread::sleep(next_report.min(next_restart).min(until).saturating_duration_since(Instant::now()));
        if Instant::now() >= next_restart {
            unbound.stop().expect("unbound ends");
            unbound.resume().expect("unbound starts again");
            restarts += 1;
            next_restart += restart_every;
        }
        if Instant::now() >= next_report {
            let counts = &load.counts;
            println!(
                "{:5} s  RSS {:7} KiB  fds {:4}  restarts {restarts:2}  sent {:8}  temporary {:5}  wrong {}  slowest {} ms",
                started.elapsed().as_secs(),
                resident_kib(),
                descriptors(),
                counts.sent.load(Ordering::Relaxed),
                counts.temporary.load(Ordering::Relaxed),
                counts.wrong.load(Ordering::Relaxed),
                counts.slowest_ms.swap(0, Ordering::Relaxed),
            );
            next_report += REPORT_EVERY;
        }
    }
}

impl Load {
    /// One message after the other, waited for.
    fn block(&self, first: usize) {
        for number in (first..).map(|number| number % MAILS) {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            self.counts.sent.fetch_add(1, Ordering::Relaxed);
            let started = Instant::now();
            let mail = &self.mails[number];
            let mut session = self.engine.session(mail.envelope.clone());
            for chunk in mail.message.chunks(1_000) {
                session.push(chunk);
            }
            self.count(number, session.finish(), started);
            thread::sleep(PAUSE);
        }
    }

    /// Many messages at a time, taken by the descriptor; gives how many never came back.
    fn submit(&self) -> u64 {
        let completions = self.engine.completions().expect("a descriptor");
        let mut under_way: Vec<Option<Instant>> = vec![None; MAILS];
        let (mut count, mut next, mut last) = (0, 0, Instant::now());
        loop {
            let is_over = self.is_over.load(Ordering::Relaxed);
            while !is_over && count < SUBMITTED_MAX && under_way[next].is_none() {
                let mail = &self.mails[next];
                self.counts.sent.fetch_add(1, Ordering::Relaxed);
                under_way[next] = Some(Instant::now());
                completions.submit(mail.message.clone(), mail.envelope.clone(), next as u64);
                (count, next) = (count + 1, (next + 1) % MAILS);
            }
            if is_over && (count == 0 || last.elapsed() > LOST_AFTER) {
                return count;
            }
            let mut descriptors = [PollFd::new(completions.descriptor(), PollFlags::POLLIN)];
            poll(&mut descriptors, PollTimeout::from(100_u16)).expect("poll");
            for completion in completions.drain() {
                let number = completion.token as usize;
                let started = under_way[number].take().expect("one verdict for each message");
                self.count(number, &completion.verdict.expect("a verdict"), started);
                (count, last) = (count - 1, Instant::now());
            }
            thread::sleep(PAUSE * 4);
        }
    }

    fn count(&self, number: usize, verdict: &Verdict, started: Instant) {
        let counts = &self.counts;
        counts.slowest_ms.fetch_max(started.elapsed().as_millis() as u64, Ordering::Relaxed);
        let counter = match distance(&self.expected[number], verdict) {
            Distance::None => &counts.same,
            Distance::Temporary => &counts.temporary,
            Distance::Other { expected, found, .. } => {
                println!("message {number}: {expected}\n  came out as: {found}");
                &counts.wrong
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

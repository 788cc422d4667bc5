//! The engine's DNS client against a server that goes wrong in every way, one way at a time, on both backends: what comes
//! out is the verdict of the zone, or a temporary error where there was no answer, in time.
//!
//! The short form runs with every test. The long form, 20,000 messages a row:
//! `cargo test --release -p mailproof --test faults -- --ignored --nocapture`, with `MAILPROOF_FAULT=loss,delay` only the
//! rows of these faults.

use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, Instant};

use mailproof::network::NetworkOptions;
use mailproof::{Engine, Verdict};
use mailproof_fault_dns::{Fault, Options as ServerOptions, Plan, Rule, Server, Span, Stage};
use mailproof_io::Choice;
use mailproof_proto::dns::lookup::LookupOptions;
use mailproof_testkit::generate::stream::{Distance, Mail, distance, mails};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

/// What a fault may change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expectation {
    /// Nothing: the client gets over it, whatever the probability.
    Nothing,
    /// A result may be a temporary error; with a fault in every reply, every verdict has one.
    Temporary,
    /// The server says, in a form that has to be believed, that there are no records. Nothing may pass that did not.
    Absence,
    /// The server says other things than the zone, in a form that has to be believed. There is a verdict in time.
    Anything,
}

/// The expectation of every fault, by its word.
fn expectation(fault: Fault) -> Expectation {
    match fault {
        // Late by milliseconds, doubled, unasked, in another form that says the same; or TCP helps, or doing without EDNS.
        Fault::Delay { .. }
        | Fault::Truncation
        | Fault::TruncationPartial
        | Fault::Oversize
        | Fault::LowerCase
        | Fault::FormErrEdns
        | Fault::BadVers
        | Fault::EdnsIgnored
        | Fault::Unrelated
        | Fault::AuthenticData
        | Fault::TtlZero
        | Fault::TtlHuge
        | Fault::Duplicate
        | Fault::DuplicateDifferent
        | Fault::TcpSlow { .. }
        | Fault::TcpTwoInOneSegment
        | Fault::TcpOutOfOrder => Expectation::Nothing,
        // RFC 2308: these are answers. A loop of aliases is the owner's fault, and no data.
        Fault::NxDomain
        | Fault::NxDomainSoa
        | Fault::NoData
        | Fault::NoDataSoa
        | Fault::CnameLoop
        | Fault::WrongOwner
        | Fault::CountsLie => Expectation::Absence,
        // What stands at the end of a chain that is too long is not looked at, and is no answer.
        Fault::BitFlips { .. } => Expectation::Anything,
        _ => Expectation::Temporary,
    }
}

/// How large a run is.
#[derive(Clone, Copy)]
struct Size {
    mails: usize,
    /// Messages under way at a time.
    window: usize,
    /// As many when every reply goes wrong, and most of the time is waiting.
    window_when_all_fail: usize,
    /// Milliseconds of a first try, a try and a lookup, where a client need not get over the fault: then it is not waited
    /// for.
    lookup_ms: [u64; 3],
}

const SHORT: Size = Size { mails: 200, window: 200, window_when_all_fail: 200, lookup_ms: [20, 60, 200] };
const LONG: Size = Size { mails: 20_000, window: 256, window_when_all_fail: 2_048, lookup_ms: [100, 400, 1_000] };
const PROBABILITIES: [f64; 3] = [0.01, 0.1, 1.0];
/// Lookups that follow one another in one message at the most: the record, an include or a host, a target of each.
const LOOKUPS_IN_A_ROW: u32 = 6;
/// What the machine may take beside waiting.
const SLACK: Duration = Duration::from_secs(4);
/// Threads of one engine, and the ports of each.
const THREADS: usize = 2;
const PORTS: usize = 16;
/// Connections of a thread that are not full, or have gone deaf; and what drivers and the server need beside sockets.
const LINKS_BESIDE: usize = 8;
const DESCRIPTORS_BESIDE: usize = 32;
/// Growth of memory from the rows of the first third to those of the last that is no leak: each row has threads of its
/// own, and the allocator keeps what the largest of them needed.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

/// Messages and the verdicts of the zone.
struct World {
    mails: Vec<Mail>,
    expected: Vec<Verdict>,
    zone: mailproof::zone::Zone,
}

impl World {
    fn new(size: Size) -> Self {
        let (mails, records) = mails(0, size.mails);
        let zone = records.to_zone();
        let offline = Engine::builder().zone(zone.clone()).build().unwrap();
        let expected = mails.iter().map(|mail| offline.verify(&mail.message, mail.envelope.clone())).collect();
        Self { mails, expected, zone }
    }
}

#[derive(Debug, Default)]
struct Row {
    same: usize,
    temporary: usize,
    other: usize,
    slowest: Duration,
}

fn lookup_options(expectation: Expectation, size: Size) -> LookupOptions {
    let [first, each, total] = match expectation {
        Expectation::Nothing => [500, 2_000, 6_000],
        _ => size.lookup_ms,
    };
    LookupOptions {
        first_try_time: Duration::from_millis(first),
        try_time: Duration::from_millis(each),
        total_time: Duration::from_millis(total),
        ..LookupOptions::default()
    }
}

/// The absence of the names that all messages ask for may be kept.
fn server_options() -> ServerOptions {
    let mut options = ServerOptions::default();
    options.negative_ttl_seconds = Some(60);
    options
}

/// The plan of one row. What goes wrong over connections needs connections.
fn plan(fault: Fault, probability: f64) -> Plan {
    let fault = match fault {
        Fault::TcpSlow { .. } => Fault::TcpSlow { milliseconds: Span::new(1, 3) },
        other => other,
    };
    let plan = Plan::new(11).with(Rule::new(fault).probability(probability));
    if is_of_streams(fault) { plan.with(Rule::new(Fault::Truncation)) } else { plan }
}

fn is_of_streams(fault: Fault) -> bool {
    fault.stage() == Stage::Delivery && fault.word().starts_with("tcp-")
}

fn run(world: &World, fault: Fault, probability: f64, backend: Choice, size: Size) -> Row {
    let expectation = expectation(fault);
    let server = Server::start_with(world.zone.clone(), plan(fault, probability), server_options()).unwrap();
    let mut options = NetworkOptions::new(vec![server.addr()]);
    (options.threads, options.ports, options.backend) = (THREADS, PORTS, backend);
    options.lookup = lookup_options(expectation, size);
    if matches!(fault, Fault::TcpSlow { .. }) {
        // Slow replies of one connection wait for one another.
        options.link_outstanding_max = 8;
    }
    let total_time = options.lookup.total_time;
    let window = match expectation {
        Expectation::Temporary if probability == 1.0 => size.window_when_all_fail,
        _ => size.window,
    };
    // Both ends of a connection are in this process; a port may be retired and not closed yet.
    let links = options.in_flight_max.div_ceil(options.link_outstanding_max) + LINKS_BESIDE;
    let opened_max = THREADS * (2 * PORTS + 2 * links) + DESCRIPTORS_BESIDE;
    let before = descriptors();
    let engine = Engine::builder().network(options).build().unwrap();
    let completions = engine.completions().unwrap();
    let mut row = Row::default();
    let mut started: Vec<Option<Instant>> = vec![None; world.mails.len()];
    let mut waiting: VecDeque<usize> = (0..world.mails.len()).collect();
    let mut open_count = 0;
    while open_count > 0 || !waiting.is_empty() {
        while let Some(number) = waiting.pop_front_if(|_| open_count < window) {
            let mail = &world.mails[number];
            started[number] = Some(Instant::now());
            completions.submit(mail.message.clone(), mail.envelope.clone(), number as u64);
            open_count += 1;
        }
        let mut descriptor = [PollFd::from_borrowed_fd(completions.descriptor(), PollFlags::IN)];
        let seconds = Timespec { tv_sec: 30, tv_nsec: 0 };
        assert_eq!(poll(&mut descriptor, Some(&seconds)).unwrap(), 1, "{fault:?} {probability}: hangs");
        for completion in completions.drain() {
            let number = completion.token as usize;
            let took = started[number].take().expect("one verdict for each message").elapsed();
            row.slowest = row.slowest.max(took);
            open_count -= 1;
            let place = (fault.word(), probability, world.mails[number].kind);
            judge(&mut row, expectation, &world.expected[number], &completion.verdict.unwrap(), place);
        }
    }
    let allowed = total_time * LOOKUPS_IN_A_ROW + SLACK;
    assert!(row.slowest < allowed, "{fault:?} {probability}: {:?} of {allowed:?}", row.slowest);
    let opened = descriptors().saturating_sub(before);
    assert!(opened <= opened_max, "{fault:?} {probability}: {opened} descriptors of {opened_max}");
    if probability == 1.0 {
        match expectation {
            Expectation::Temporary => assert_eq!((row.same, row.other), (0, 0), "{fault:?}: somebody was believed"),
            Expectation::Absence | Expectation::Anything => assert!(row.same < world.mails.len(), "{fault:?}"),
            Expectation::Nothing => {}
        }
    }
    row
}

fn judge(row: &mut Row, expectation: Expectation, expected: &Verdict, found: &Verdict, place: impl std::fmt::Debug) {
    match distance(expected, found) {
        Distance::None => row.same += 1,
        Distance::Temporary => {
            row.temporary += 1;
            assert_ne!(expectation, Expectation::Nothing, "{place:?}: {}", found.authentication_results);
        }
        Distance::Other { expected, found, gains_pass, .. } => {
            row.other += 1;
            match expectation {
                Expectation::Nothing | Expectation::Temporary => panic!("{place:?}\n{expected}\n{found}"),
                Expectation::Absence => assert!(!gains_pass, "{place:?}\n{expected}\n{found}"),
                Expectation::Anything => {}
            }
        }
    }
}

/// Every fault at every probability on both backends, and what is left of descriptors and memory.
fn matrix(size: Size, shows: bool) {
    let world = World::new(size);
    // What a process opens once is open, and what it keeps is kept, after the first row.
    run(&world, Fault::Duplicate, 1.0, Choice::Epoll, size);
    let descriptors_before = descriptors();
    let mut memory = Vec::new();
    let only = std::env::var("MAILPROOF_FAULT").ok();
    for fault in Fault::all() {
        if only.as_deref().is_some_and(|only| !only.split(',').any(|word| word == fault.word())) {
            continue;
        }
        for probability in PROBABILITIES {
            for backend in [Choice::Uring, Choice::Epoll] {
                let row = run(&world, fault, probability, backend, size);
                memory.push(resident_kib());
                if shows {
                    println!(
                        "{:22} {probability:4} {backend:?}: {} same, {} temporary, {} other; slowest {} ms; RSS {} KiB, {} fds",
                        fault.word(),
                        row.same,
                        row.temporary,
                        row.other,
                        row.slowest.as_millis(),
                        resident_kib(),
                        descriptors(),
                    );
                }
            }
        }
    }
    let rows = memory.len();
    let peak = |rows: &[u64]| rows.iter().copied().max().unwrap_or(0);
    let growth = peak(&memory[rows - rows / 3..]).saturating_sub(peak(&memory[..rows.div_ceil(3)]));
    println!("{rows} rows of {} messages, seed 11: memory grew by {growth} KiB", size.mails);
    assert!(descriptors() <= descriptors_before, "{} descriptors, then {}", descriptors_before, descriptors());
    assert!(growth < GROWTH_KIB_MAX, "memory grew by {growth} KiB");
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn no_fault_makes_a_verdict_wrong_or_late() {
    matrix(SHORT, std::env::var_os("MAILPROOF_SHOW").is_some());
}

#[test]
#[ignore = "long: 20,000 messages for each of 300 rows"]
fn no_fault_makes_a_verdict_wrong_or_late_at_length() {
    matrix(LONG, true);
}

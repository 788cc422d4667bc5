//! The generator against targets whose behaviour is known.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mailproof_loadtest::corpus::{Corpus, Maker, Options, Sizes};
use mailproof_loadtest::drive::{self, DriveError, Settings, Stalled, Subject, Unseen};
use mailproof_loadtest::measure::Tally;
use mailproof_loadtest::null::NullMilter;
use mailproof_loadtest::plan::Load;
use mailproof_loadtest::report::{Basis, Run, page, to_json};
use mailproof_loadtest::sink::Sink;
use mailproof_loadtest::target::{Address, Claims, Connections, Leg, Target};

const BASIS: Basis = Basis { claims: Claims::NONE, late_share_max: 1.0 };

fn corpus() -> Corpus {
    Maker::new(&Options { sizes: Sizes::Tiny, domain_count: 20, ..Options::new(40, 3) }).corpus()
}

fn target(leg: Leg, connections: Connections) -> Target {
    Target { name: "target".to_owned(), legs: vec![leg], claims: Claims::NONE, connections }
}

fn run(target: &Target, corpus: &Corpus, load: &str, settings: &Settings) -> Run {
    drive::run(&Subject::Target(target), &corpus.letters, &load.parse().unwrap(), settings, &mut Unseen).unwrap()
}

/// What holds of every run, however it went.
fn assert_balanced(total: &Tally) {
    assert_eq!(total.offered, total.started + total.dropped, "{total:?}");
    assert_eq!(total.started, total.answered() + total.failed, "{total:?}");
    assert_eq!((total.whole.len(), total.lag.len()), (total.answered(), total.offered));
}

#[test]
fn every_message_is_answered_over_every_kind_of_connection() {
    let corpus = corpus();
    let unix = std::env::temp_dir().join(format!("mailproof-drive-{}.sock", std::process::id()));
    for address in [Address::Unix(unix), "tcp:127.0.0.1:0".parse().unwrap()] {
        let milter = NullMilter::start(&address, 2, None).unwrap();
        for connections in [Connections::Each, Connections::Kept] {
            let target = target(Leg::Milter(milter.address().clone()), connections);
            let _stalled = Stalled::open(milter.address(), &corpus.letters, 5).unwrap();
            let settings = Settings { workers: 2, in_flight_max: 16, ..Settings::default() };
            let open = run(&target, &corpus, "200/s for 250ms, burst 100", &settings);
            assert_balanced(&open.total);
            assert_eq!((open.total.offered, open.total.right), (150, 150), "{}", open.to_text(BASIS));
            let closed = run(&target, &corpus, "closed 4 for 100ms", &settings);
            assert_balanced(&closed.total);
            assert!(closed.total.right > 4 && closed.total.right == closed.total.offered, "{}", closed.to_text(BASIS));
        }
    }
}

#[test]
fn mail_over_smtp_arrives_as_it_was_sent() {
    let corpus = corpus();
    for connections in [Connections::Each, Connections::Kept] {
        // What the messages carry of results is that of their seals, which is none of a receiver's.
        let sink = Sink::start(&corpus.letters, Claims { dmarc: true, ..Claims::NONE }).unwrap();
        let target = target(Leg::Smtp(Address::tcp(sink.address()).unwrap()), connections);
        let run = run(&target, &corpus, "burst 60", &Settings { in_flight_max: 8, ..Settings::default() });
        assert_balanced(&run.total);
        assert_eq!(run.total.right, 60, "{}", run.to_text(BASIS));
        let arrivals = sink.arrivals();
        assert_eq!((arrivals.arrived, arrivals.wrong, arrivals.unknown), (60, 60, 0));
    }
}

/// A policy service that answers everything but holds its breath once.
fn breathless(pause: Duration, from: u64) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::tcp(listener.local_addr().unwrap()).unwrap();
    let (breath, asked) = (Arc::new(Mutex::new(())), Arc::new(AtomicU64::new(0)));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (breath, asked) = (Arc::clone(&breath), Arc::clone(&asked));
            thread::spawn(move || {
                let mut out = stream.try_clone().unwrap();
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if line.is_empty() {
                        let _held = breath.lock();
                        if asked.fetch_add(1, Ordering::Relaxed) == from {
                            thread::sleep(pause);
                        }
                        if out.write_all(b"action=DUNNO\n\n").is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_pause_of_the_target_counts_against_every_message_that_was_due_in_it() {
    let target = target(Leg::Policy(breathless(Duration::from_millis(400), 50)), Connections::Kept);
    // One at a time: a generator that waited with its next message would hardly see the pause.
    let settings = Settings { in_flight_max: 1, ..Settings::default() };
    let run = run(&target, &corpus(), "100/s for 1s", &settings);
    assert_balanced(&run.total);
    assert_eq!(run.total.right, 100);
    let slow = run.total.whole.count_between(100_000, u64::MAX);
    assert!((25..=60).contains(&slow), "of 40 messages due in the pause, 30 wait for 100 ms at least: {slow}");
}

#[test]
fn messages_without_an_answer_fail_and_are_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::tcp(listener.local_addr().unwrap()).unwrap();
    let settings = Settings { message_time: Duration::from_millis(200), in_flight_max: 4, ..Settings::default() };
    let silent = run(&target(Leg::Policy(address.clone()), Connections::Each), &corpus(), "burst 6", &settings);
    assert_balanced(&silent.total);
    assert_eq!(silent.total.failed, 6, "{}", silent.to_text(BASIS));
    // The time counts from the plan: the two that waited for a place have had theirs.
    assert_eq!(silent.total.troubles["had no turn before its time was over"], 2, "{}", silent.to_text(BASIS));
    drop(listener);
    let gone = run(&target(Leg::Policy(address.clone()), Connections::Each), &corpus(), "burst 6", &settings);
    assert_balanced(&gone.total);
    assert_eq!(gone.total.failed, 6);
    let milter = target(Leg::Milter(address), Connections::Each);
    let load: Load = "burst 1".parse().unwrap();
    let result = drive::run(&Subject::Target(&milter), &corpus().letters, &load, &settings, &mut Unseen);
    assert!(matches!(result, Err(DriveError::Unreachable { .. })));
}

#[test]
fn a_run_ends_when_its_time_is_over_and_what_waits_is_dropped() {
    let target = target(Leg::Policy(breathless(Duration::from_secs(60), 3)), Connections::Kept);
    let settings = Settings { in_flight_max: 1, drain_time: Duration::from_millis(100), ..Settings::default() };
    let began = Instant::now();
    let run = run(&target, &corpus(), "100/s for 200ms", &settings);
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_balanced(&run.total);
    assert_eq!((run.total.right, run.total.failed, run.total.dropped), (3, 1, 16), "{}", run.to_text(BASIS));
}

#[test]
fn a_generator_that_fell_behind_says_so_and_a_page_needs_nothing_from_anywhere() {
    let corpus = corpus();
    let milter = NullMilter::start(&"tcp:127.0.0.1:0".parse().unwrap(), 1, None).unwrap();
    let target = target(Leg::Milter(milter.address().clone()), Connections::Each);
    let mut run = run(
        &target,
        &corpus,
        "20/s for 200ms",
        &Settings { processes: vec![std::process::id()], ..Settings::default() },
    );
    assert!(run.invalid(1.0).is_none());
    run.total.late = 3;
    let basis = Basis { late_share_max: 0.5, ..BASIS };
    assert!(run.invalid(0.5).is_some() && to_json(&run, basis)["valid"] == false);
    let page = page("A <run>", &[(run, basis)]);
    assert!(page.contains("Invalid run") && page.contains("A &lt;run&gt;"));
    assert!(!page.contains("NaN") && !page.contains("inf,"));
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

//! Mail under load while something breaks or changes: none of it is lost, none refused by mistake.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mailproof_testkit::random::Random;

use crate::World;
use crate::hostile::attack;
use crate::mail_server::{self, Kind};
use crate::smtp::{Client, wait_for};

/// Clients that send one message after the other, and again what was deferred or broke off.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(server: SocketAddr, clients: usize) -> Self {
        Self::of(server, clients, &[Author::Known])
    }

    /// Clients whose authors are of these kinds in turn.
    fn of(server: SocketAddr, clients: usize, authors: &[Author]) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..clients).map(|client| {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            let author = authors[client % authors.len()];
            thread::spawn(move || send_until(server, client, author, &stop, &sent))
        });
        let threads = threads.collect();
        Self { stop, sent, threads }
    }

    /// Messages that the server has taken.
    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until so many more messages are taken.
    fn go_on_for(&self, messages: u64) {
        let until = self.sent() + messages;
        wait_for("messages under load", || (self.sent() >= until).then_some(()));
    }

    /// The names of the messages that were taken, all together.
    fn finish(self) -> HashSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

/// Whose messages a client sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Author {
    /// Of good.example, about which everything is known after the first.
    Known,
    /// Of another domain each time, about which the DNS has to be asked.
    New,
}

fn send_until(server: SocketAddr, client: usize, author: Author, stop: &AtomicBool, sent: &AtomicU64) -> Vec<String> {
    let mut taken = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut connection) = Client::connect(server, "127.0.0.5".parse().unwrap(), "mail.good.example") else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        for _ in 0..MESSAGES_A_CONNECTION {
            let name = format!("<load-{client}-{number}@good.example>");
            let from = match author {
                Author::Known => "ann@good.example".to_owned(),
                Author::New => format!("ann@n{number}.c{client}.example"),
            };
            let message = message(&name).replace("ann@good.example", &from);
            match connection.send(&from, &["someone@example.net"], &message) {
                Ok(reply) if reply.starts_with('2') => {
                    taken.push(name);
                    number += 1;
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                Ok(reply) => assert!(reply.starts_with('4'), "refused: {reply}"),
                Err(_) => break,
            }
        }
    }
    taken
}

fn message(name: &str) -> String {
    format!(
        "From: ann@good.example\r\nTo: someone@example.net\r\nSubject: load\r\nDate: Mon, 23 Nov 2026 17:00:00 +0000\r\n\
         Message-ID: {name}\r\n\r\nHello.\r\n"
    )
}

/// What has arrived, by its name: the messages with results of ours, those without, and those whose results say that the
/// DNS did not answer.
#[derive(Debug, Default)]
struct Arrivals {
    names: HashSet<String>,
    with: usize,
    without: usize,
    unanswered: usize,
}

impl Arrivals {
    fn take(&mut self, message: &str) {
        let name = message.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap();
        // What broke off after it was taken comes twice.
        if self.names.insert(name.to_owned()) {
            let has_results = message.contains("Authentication-Results: mx.example.net;");
            *if has_results { &mut self.with } else { &mut self.without } += 1;
            self.unanswered += usize::from(message.contains("dmarc=temperror"));
        }
    }

    /// Waits until all of these messages are there.
    fn complete(mut self, world: &World, names: &HashSet<String>) -> Self {
        while !names.is_subset(&self.names) {
            self.take(&world.sink.next());
        }
        self.names.retain(|name| names.contains(name));
        self
    }
}

/// What has arrived of these messages, once all of them have: how many with results of ours, and how many without.
fn arrived(world: &World, names: HashSet<String>) -> (usize, usize) {
    let arrivals = Arrivals::default().complete(world, &names);
    assert_eq!(arrivals.names.len(), names.len());
    (arrivals.with, arrivals.without)
}

const MESSAGES_A_CONNECTION: usize = 3;
const ENFORCE: &str = "policy.mode = 'enforce'";

#[test]
fn a_milter_that_is_killed_or_ended_loses_no_mail() {
    let Some(root) = mail_server::root() else { return };
    let mut world = World::new("killed", ENFORCE);
    let server = world.mail_server(Kind::Postfix, &root);
    let load = Load::start(server.address, 4);
    for (round, signal) in ["KILL", "TERM", "KILL", "TERM"].into_iter().enumerate() {
        load.go_on_for(30);
        world.daemon.signal(signal);
        let code = world.daemon.wait();
        assert_eq!(code, (signal == "TERM").then_some(0), "round {round}");
        world.daemon.start_again();
    }
    load.go_on_for(30);
    let names = load.finish();
    let count = names.len();
    let (with, without) = arrived(&world, names);
    println!("{count} messages taken and arrived, {with} with results, {without} while there was no milter");
    assert_eq!(with + without, count);
    assert!(with > count / 2);
}

#[test]
fn reloads_under_load_change_nothing_for_mail() {
    let Some(root) = mail_server::root() else { return };
    let world = World::new("reloads", ENFORCE);
    let server = world.mail_server(Kind::Postfix, &root);
    let load = Load::start(server.address, 4);
    load.go_on_for(20);
    let before = world.daemon.resident_kib();
    for round in 0..100 {
        // Every third file is bad, and leaves the one before in force.
        let line = world.reload(if round % 3 == 2 { "no-such-key = 1" } else { ENFORCE });
        assert!(line.contains(if round % 3 == 2 { "result=refused" } else { "result=done" }), "{line}");
    }
    load.go_on_for(20);
    let names = load.finish();
    let count = names.len();
    let after = world.daemon.resident_kib();
    println!("{count} messages during 100 reloads; resident {before} KiB before, {after} KiB after");
    assert_eq!(arrived(&world, names), (count, 0));
    assert_eq!(server.milter_complaints(), Vec::<String>::new());
    assert_eq!(world.daemon.figure("mailproof_reloads_total{result=\"refused\"}"), 33);
    assert!(after < before + 8 * 1024, "{before} KiB, then {after} KiB");
}

#[test]
fn a_mail_server_that_is_killed_in_a_message_leaves_nothing_behind() {
    let Some(root) = mail_server::root() else { return };
    let world = World::new("aborted", ENFORCE);
    let server = world.mail_server(Kind::Postfix, &root);
    let from = "127.0.0.5".parse().unwrap();
    let mut client = Client::connect(server.address, from, "mail.good.example").unwrap();
    for line in ["MAIL FROM:<ann@good.example>", "RCPT TO:<someone@example.net>"] {
        assert!(client.say(line).unwrap().starts_with('2'));
    }
    assert!(client.say("DATA").unwrap().starts_with('3'));
    client.write(b"From: ann@good.example\r\n\r\nHalf a").unwrap();
    server.kill_sessions();
    assert!(client.reply().is_err());
    wait_for("the end of the connection", || (world.daemon.figure("mailproof_connections") == 0).then_some(()));
    assert_eq!(world.daemon.figure("mailproof_messages_aborted_total"), 1);
    // Postfix starts another process for the next client.
    let reply = wait_for("the next message", || {
        let mut client = Client::connect(server.address, from, "mail.good.example").ok()?;
        client.send("ann@good.example", &["someone@example.net"], &message("<next@good.example>")).ok()
    });
    assert!(reply.starts_with("250"), "{reply}");
    assert!(world.sink.next().contains("dmarc=pass"));
}

#[test]
fn a_resolver_that_is_gone_costs_results_not_mail() {
    without_resolver("resolver", Duration::ZERO);
}

#[test]
#[ignore = "takes more than a minute: make test-long"]
fn a_resolver_that_is_gone_for_a_minute_costs_results_not_mail() {
    without_resolver("minute", Duration::from_secs(60));
}

/// The resolver is gone for this time, and at least until a message had to do without. What is known stays known; of the
/// rest nothing is refused for it.
fn without_resolver(name: &str, time: Duration) {
    let Some(root) = mail_server::root() else { return };
    let world = World::new(name, ENFORCE);
    let server = world.mail_server(Kind::Postfix, &root);
    let load = Load::of(server.address, 4, &[Author::Known, Author::New]);
    load.go_on_for(50);
    world.dns.pause();
    let began = Instant::now();
    let mut arrivals = Arrivals::default();
    while began.elapsed() < time || arrivals.unanswered == 0 {
        arrivals.take(&world.sink.next());
    }
    let (during, gone) = (load.sent(), began.elapsed());
    world.dns.resume();
    load.go_on_for(50);
    let names = load.finish();
    let count = names.len();
    let arrivals = arrivals.complete(&world, &names);
    println!(
        "{count} messages taken and arrived, {during} of them until the resolver came back after {gone:?}; {} of unknown domains \
         had no answer",
        arrivals.unanswered
    );
    assert_eq!((arrivals.names.len(), arrivals.with, arrivals.without), (count, count, 0));
    assert_eq!(server.milter_complaints(), Vec::<String>::new());
    // It is asked again: what is new has its results.
    wait_for("a result", || {
        let client = Client::connect(server.address, "127.0.0.5".parse().unwrap(), "mail.good.example");
        let text = message("<after@good.example>").replace("ann@good.example", "ann@after.example");
        let reply = client.ok()?.send("ann@after.example", &["someone@example.net"], &text).ok()?;
        assert!(reply.starts_with("250"), "{reply}");
        world.sink.next().contains("dmarc=none").then_some(())
    });
}

/// Mail, reloads, hostile peers and a resolver that comes and goes, for half an hour or `MAILPROOF_SOAK_MINUTES`: memory and
/// descriptors level off, and no mail is lost.
#[test]
#[ignore = "takes half an hour: make test-long"]
fn nothing_grows_in_half_an_hour() {
    let Some(root) = mail_server::root() else { return };
    let minutes = std::env::var("MAILPROOF_SOAK_MINUTES").ok().and_then(|it| it.parse().ok()).unwrap_or(30);
    let world = World::new("soak", ENFORCE);
    let server = world.mail_server(Kind::Postfix, &root);
    let load = Load::of(server.address, 4, &[Author::Known, Author::Known, Author::Known, Author::New]);
    let (mut arrivals, mut curve) = (Arrivals::default(), Vec::new());
    let began = Instant::now();
    println!("  seconds  messages  resident KiB  answers KiB  descriptors  connections");
    for part in 0..minutes * PARTS_A_MINUTE {
        assert!(world.reload(ENFORCE).contains("result=done"));
        (0..200).for_each(|case| attack(world.milter, &mut Random::of_case(part, case)));
        if part % 3 == 0 {
            world.dns.pause();
            load.go_on_for(100);
            world.dns.resume();
        }
        while began.elapsed() < Duration::from_secs(60) * (part as u32 + 1) / PARTS_A_MINUTE as u32 {
            arrivals.take(&world.sink.next());
        }
        let answers = world.daemon.figure("mailproof_dns_cache_bytes") / 1024;
        let now = (world.daemon.resident_kib() - answers, world.daemon.descriptors());
        let (sent, open) = (load.sent(), world.daemon.figure("mailproof_connections"));
        println!("{:9} {sent:9} {:13} {answers:12} {:12} {open:12}", began.elapsed().as_secs(), now.0, now.1);
        curve.push(now);
    }
    let names = load.finish();
    let count = names.len();
    let arrivals = arrivals.complete(&world, &names);
    println!("{count} messages taken and arrived, {} without an answer of the DNS", arrivals.unanswered);
    assert_eq!((arrivals.names.len(), arrivals.with, arrivals.without), (count, count, 0));
    assert_eq!(server.milter_complaints(), Vec::<String>::new());
    assert_eq!(world.daemon.figure("mailproof_internal_errors_total"), 0);
    let (middle, last) = (curve[curve.len() / 2], curve[curve.len() - 1]);
    assert!(last.0 < middle.0 + 4 * 1024 && last.1 < middle.1 + 64, "in the second half: {middle:?}, then {last:?}");
}

const PARTS_A_MINUTE: u64 = 4;

//! Mail under load while something breaks or changes: none of it is lost, none refused by mistake.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::World;
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
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..clients).map(|client| {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            thread::spawn(move || send_until(server, client, &stop, &sent))
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

fn send_until(server: SocketAddr, client: usize, stop: &AtomicBool, sent: &AtomicU64) -> Vec<String> {
    let mut taken = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut connection) = Client::connect(server, "127.0.0.5".parse().unwrap(), "mail.good.example") else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        for _ in 0..MESSAGES_A_CONNECTION {
            let name = format!("<load-{client}-{number}@good.example>");
            let message = message(&name);
            match connection.send("ann@good.example", &["someone@example.net"], &message) {
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

/// What has arrived of these messages, once all of them have: how many with results of ours, and how many without.
fn arrived(world: &World, mut names: HashSet<String>) -> (usize, usize) {
    let (mut with, mut without) = (0, 0);
    while !names.is_empty() {
        let message = world.sink.next();
        let name = message.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap();
        if names.remove(name) {
            let has_results = message.contains("Authentication-Results: mx.example.net;");
            *if has_results { &mut with } else { &mut without } += 1;
        }
    }
    (with, without)
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
    let Some(root) = mail_server::root() else { return };
    let world = World::new("resolver", ENFORCE);
    let server = world.mail_server(Kind::Postfix, &root);
    let send = |name: &str| {
        let mut client = Client::connect(server.address, "127.0.0.5".parse().unwrap(), "mail.good.example").unwrap();
        let reply = client.send("ann@good.example", &["someone@example.net"], &message(name)).unwrap();
        assert!(reply.starts_with("250"), "{reply}");
        world.sink.next()
    };
    world.dns.pause();
    let during = send("<during@good.example>");
    assert!(during.contains("spf=temperror") && during.contains("dmarc=temperror"), "{during}");
    world.dns.resume();
    wait_for("a result", || send("<after@good.example>").contains("dmarc=pass").then_some(()));
    assert_eq!(server.milter_complaints(), Vec::<String>::new());
}

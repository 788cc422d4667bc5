//! The engine against real servers: unbound as the resolver, knot as the authority that signs, on both backends.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use mailproof::network::NetworkOptions;
use mailproof::{Engine, Verdict};
use mailproof_io::Choice;
use mailproof_proto::dns::{Failure, Name, Outcome, Question, RecordType};
use mailproof_testkit::generate::Records;
use mailproof_testkit::generate::stream::{Distance, Mail, distance, mails};
use mailproof_testkit::servers::{Knot, ServedZone, Unbound};

const MAILS: usize = 160;

/// A resolver over an authority with the zones `example`, signed, and `bogus.test`, whose trust anchor is wrong.
struct World {
    unbound: Unbound,
    _knot: Knot,
    mails: Vec<Mail>,
    expected: Vec<Verdict>,
}

impl World {
    /// `None`, and a word, where the servers are not installed.
    fn start() -> Option<Self> {
        let (mails, records) = mails(0, MAILS);
        let served = [
            ServedZone { name: "example".to_owned(), master_file: master_file("example", &records), is_signed: true },
            ServedZone { name: "bogus.test".to_owned(), master_file: BOGUS.to_owned(), is_signed: true },
        ];
        let knot = Knot::start(&served).unwrap();
        let Some(knot) = knot else {
            println!("skipped: no knot is installed");
            return None;
        };
        let anchors = knot.delegation_signer("example").unwrap();
        let mut configuration = String::from("  module-config: \"validator iterator\"\n  val-log-level: 1\n");
        for anchor in anchors {
            writeln!(configuration, "  trust-anchor: \"{anchor}\"").unwrap();
        }
        configuration += "  trust-anchor: \"bogus.test. DS 1 13 2 \
            0000000000000000000000000000000000000000000000000000000000000000\"\n  local-zone: \"test.\" nodefault\n";
        for zone in ["example", "bogus.test"] {
            let address = knot.address();
            write!(configuration, "stub-zone:\n  name: \"{zone}\"\n  stub-addr: {}@{}\n", address.ip(), address.port())
                .unwrap();
        }
        let unbound = Unbound::start(&configuration).unwrap();
        let Some(unbound) = unbound else {
            println!("skipped: no unbound is installed");
            return None;
        };
        let offline = Engine::builder().zone(records.to_zone()).build().unwrap();
        let expected = mails.iter().map(|mail| offline.verify(&mail.message, mail.envelope.clone())).collect();
        Some(Self { unbound, _knot: knot, mails, expected })
    }

    fn engine(&self, backend: Choice, trusts_ad: bool) -> Engine {
        let mut options = NetworkOptions::new(vec![self.unbound.address()]);
        (options.threads, options.backend) = (2, backend);
        options.lookup.trusts_ad = trusts_ad;
        Engine::builder().network(options).build().unwrap()
    }
}

const HEAD: &str = "@ 300 SOA ns hostmaster 1 3600 600 86400 300\n@ 300 NS ns\nns 300 A 127.0.0.1\n";
const BOGUS: &str = "$ORIGIN bogus.test.\n@ 300 SOA ns hostmaster 1 3600 600 86400 300\n@ 300 NS ns\nns 300 A 127.0.0.1\n\
                     @ 300 TXT \"v=spf1 +all\"\n";

/// The records below one zone, as a master file.
fn master_file(zone: &str, records: &Records) -> String {
    let mut text = format!("$ORIGIN {zone}.\n{HEAD}");
    for (name, records) in &records.0 {
        for record in records {
            let (kind, data) = record.as_object().unwrap().iter().next().unwrap();
            let data = match kind.as_str() {
                "TXT" => {
                    let octets = data.as_str().unwrap().as_bytes();
                    let strings = octets.chunks(255).map(|part| format!("\"{}\"", String::from_utf8_lossy(part)));
                    strings.collect::<Vec<_>>().join(" ")
                }
                "MX" => format!("{} {}.", data[0], data[1].as_str().unwrap()),
                "CNAME" => format!("{}.", data.as_str().unwrap()),
                _ => data.as_str().unwrap().to_owned(),
            };
            writeln!(text, "{name}. 300 {kind} {}", data.replace(';', "\\;").replace("\"\\;", "\";")).unwrap();
        }
    }
    text
}

fn question(name: &str) -> Question {
    Question::new(Name::parse(name).unwrap(), RecordType::Txt)
}

#[test]
fn verdicts_are_those_of_the_zone_and_validation_shows() {
    let Some(world) = World::start() else { return };
    for backend in [Choice::Uring, Choice::Epoll] {
        let engine = world.engine(backend, true);
        for (mail, expected) in world.mails.iter().zip(&world.expected) {
            let found = engine.verify(&mail.message, mail.envelope.clone());
            assert_eq!(words(&found), words(expected), "{:?}", mail.kind);
        }
        let authentic = |engine: &Engine, name| {
            let answer = engine.ask(&question(name));
            assert!(matches!(answer.outcome(), Outcome::Records(_)), "{name}: {answer:?}");
            answer.authentic()
        };
        assert_eq!(authentic(&engine, "m0.example"), Some(true));
        // Ten texts: over TCP.
        assert_eq!(authentic(&engine, "m5.example"), Some(true));
        assert_eq!(authentic(&world.engine(backend, false), "m0.example"), None, "never invented");
        assert_eq!(*engine.ask(&question("nobody.example")).outcome(), Outcome::NxDomain);
        let bogus = engine.ask(&question("bogus.test"));
        assert_eq!(*bogus.outcome(), Outcome::Failed(Failure::ServFail), "a zone that does not validate");
        assert!(engine.network_statistics().tcp_queries > 0);
    }
}

/// The results, without what the Authentication-Results field says of DNSSEC.
fn words(verdict: &Verdict) -> (Vec<&'static str>, Option<String>) {
    let first = [verdict.spf.result.word(), verdict.helo.result.word(), verdict.dmarc.result.word()];
    let dkim = verdict.dkim.iter().map(|signature| signature.result.word());
    let domain = verdict.dmarc.policy_domain.as_ref().map(ToString::to_string);
    (first.into_iter().chain(dkim).collect(), domain)
}

#[test]
fn no_message_is_lost_while_the_resolver_starts_again() {
    let Some(mut world) = World::start() else { return };
    for backend in [Choice::Uring, Choice::Epoll] {
        let engine = world.engine(backend, false);
        let is_over = AtomicBool::new(false);
        let (mails, expected, unbound) = (&world.mails, &world.expected, &mut world.unbound);
        let (count, temporary) = thread::scope(|scope| {
            let load = scope.spawn(|| {
                let (mut count, mut temporary) = (0, 0);
                while !is_over.load(Ordering::Relaxed) {
                    for (mail, expected) in mails.iter().zip(expected) {
                        let started = Instant::now();
                        let found = engine.verify(&mail.message, mail.envelope.clone());
                        assert!(started.elapsed() < Duration::from_secs(30));
                        count += 1;
                        match distance(expected, &found) {
                            Distance::None => {}
                            Distance::Temporary => temporary += 1,
                            other => panic!("{other:?}"),
                        }
                    }
                    for mail in mails {
                        let domain = mail.envelope.helo.trim_start_matches("mail.");
                        for name in [domain.to_owned(), format!("s1._domainkey.{domain}"), format!("_dmarc.{domain}")] {
                            engine.purge(&Name::parse(name).unwrap());
                        }
                    }
                }
                (count, temporary)
            });
            let restart = || -> io::Result<()> {
                thread::sleep(Duration::from_millis(200));
                unbound.stop()?;
                unbound.resume()
            };
            let restarts = std::iter::repeat_with(restart).take(3).collect::<io::Result<Vec<()>>>();
            // Before anything fails: the load goes on until it is told.
            is_over.store(true, Ordering::Relaxed);
            let counts = load.join().unwrap();
            restarts.unwrap();
            counts
        });
        println!("{backend:?}: {count} messages over three restarts, {temporary} temporary errors");
        assert!(count > 0 && temporary == 0, "{temporary} of {count} had no answer");
    }
}

//! Messages of the corpus and the project's scenarios through real milter connections to the real daemon: every verdict in
//! the event stream is, to the octet, the one of an offline run.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::SystemTime;

use mailproof::zone::Zone;
use mailproof_fault_dns::{Plan, Server as Dns};
use mailproof_proto::dmarc::Discovery;
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::RejectPolicy;
use mailproof_proto::verification::Options;
use mailproof_testkit::corpus::{self, end_to_end};
use mailproof_testkit::drive::Order;
use mailproof_testkit::mail_server::{OFFER, frame, session};
use mailproof_testkit::scenario::{self, Scenario};
use mailproof_testkit::verify::Case;

use crate::daemon::Daemon;
use crate::mail_server::skip;
use crate::peer::{self, last_replies, reply};
use crate::smtp::{PATIENCE, free_port, wait_for};

#[test]
fn the_corpus_has_the_same_verdicts_over_a_milter_connection() {
    let Some(folder) = corpus::directory() else {
        skip("the corpus (MAILPROOF_CORPUS, or ../shared/corpus)");
        return;
    };
    for set in ["auth-milter", "auth-rspamd"] {
        let (cases, zone) = end_to_end::cases(set, &folder.join(set)).unwrap();
        let count = compare(set, cases, zone);
        println!("{set}: {count} verdicts as offline");
        assert!(count >= 40, "{set}: {count}");
    }
}

#[test]
fn scenarios_have_the_same_verdicts_over_a_milter_connection() {
    let scenarios = Mutex::new(scenario::load_all(&scenario::directory()).unwrap());
    // Each has a DNS and a daemon of its own; some wait for answers that never come.
    let count: usize = thread::scope(|scope| {
        let run = || {
            let mut count = 0;
            loop {
                let next = scenarios.lock().unwrap().pop();
                let Some(Scenario { name, case, zone, .. }) = next else { return count };
                count += compare(&name, vec![(name.clone(), case)], zone);
            }
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{count} scenarios as offline");
}

/// Runs cases of one zone and the same options both ways; gives how many there are.
fn compare(name: &str, mut cases: Vec<(String, Case)>, zone: Zone) -> usize {
    // What depends on the moment has to be judged at the same one.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    cases.iter_mut().for_each(|(_, case)| case.now = Timestamp::from_seconds(now));
    let offline = cases.iter().map(|(id, case)| {
        let (verdict, _) = case.verify(&zone, Order::AtHand, usize::MAX).unwrap();
        (id.clone(), verdict.to_json(id))
    });
    let offline: BTreeMap<String, String> = offline.collect();
    let live = live_verdicts(name, &cases, zone);
    assert_eq!(live.keys().collect::<Vec<_>>(), offline.keys().collect::<Vec<_>>());
    for (id, verdict) in &offline {
        assert_eq!(live[id], *verdict, "{id}: through the milter, then offline");
    }
    offline.len()
}

/// The verdicts of the event stream, by queue id.
fn live_verdicts(name: &str, cases: &[(String, Case)], zone: Zone) -> BTreeMap<String, String> {
    let folder = std::env::temp_dir().join(format!("mailproof-verdicts-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let dns = Dns::start(zone, Plan::new(1)).unwrap();
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (milter, status) = (local(free_port()), local(free_port()));
    let events = folder.join("events");
    let base = format!(
        "listen = ['tcp:{milter}']\nstatus-listen = ['tcp:{status}']\nresolvers = ['{}']\n\
         events = {{ to = 'file:{}', local-parts = 'plain' }}\nskip = {{ local = false, networks = [] }}",
        dns.addr(),
        events.display(),
    );
    let daemon = Daemon::start(&folder, &base, &settings(&cases[0].1.options), status);
    // All of them at a time, so that the waits for answers that do not come are one.
    let connections: Vec<TcpStream> = cases.iter().map(|(id, case)| send(milter, id, case)).collect();
    for mut connection in connections {
        last_replies(&mut connection).unwrap();
    }
    let read = || fs::read_to_string(&events).unwrap();
    let text = wait_for("the events", || Some(read()).filter(|text| text.lines().count() == cases.len()));
    let verdicts = text.lines().map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let verdict = line.split_once(",\"verdict\":").unwrap().1.strip_suffix('}').unwrap();
        (event["queue_id"].as_str().unwrap().to_owned(), verdict.to_owned())
    });
    let verdicts = verdicts.collect();
    assert_eq!(daemon.figure("mailproof_internal_errors_total") + daemon.figure("mailproof_protocol_errors_total"), 0);
    let _ = fs::remove_dir_all(&folder);
    verdicts
}

fn send(milter: SocketAddr, id: &str, case: &Case) -> TcpStream {
    let mut stream = TcpStream::connect(milter).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&frame(b'O', &OFFER)).unwrap();
    assert_eq!(reply(&mut stream), b'O');
    let frames = session(&case.envelope, id, &case.message).unwrap_or_else(|| panic!("{id}: no server sends this"));
    peer::send(&mut stream, &frames).unwrap();
    stream
}

/// The settings that stand for the engine's options.
fn settings(options: &Options) -> String {
    let word = |yes, word, other| if yes { word } else { other };
    let by_list = options.dmarc.discovery == Discovery::PublicSuffixList;
    format!(
        "authserv-id = '{}'\n\
         verify = {{ discovery = '{}', strictest-of-several = {}, honour-length = {} }}\n\
         policy.rules = {{ dmarc-reject = '{}', dmarc-temperror = '{}' }}",
        options.authserv_id,
        word(by_list, "public-suffix-list", "tree-walk"),
        options.dmarc.strictest_of_several,
        options.dkim.honour_length,
        word(options.policy.reject == RejectPolicy::Literal, "reject", "rfc9989"),
        word(options.policy.defer_on_temperror, "defer", "accept"),
    )
}

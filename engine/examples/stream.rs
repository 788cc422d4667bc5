//! Verifies a stream of messages from memory, pass after pass: what a program in Rust pays, for comparison with the
//! bindings.
//!
//! Usage: `cargo run --release -p mailproof --example stream -- DIR [THREADS] [PASSES] [whole|session]`, with DIR of
//! `mailproof-testkit stream`. `whole` makes one call of `Engine::verify` a message, `session` uses one session after the
//! other. Prints one line a pass: microseconds a message by the clock. With `-` for PASSES there is one pass for each line
//! of standard input, so that passes can take turns with those of another program.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use mailproof::proto::time::Timestamp;
use mailproof::zone::Zone;
use mailproof::{Engine, Envelope};

/// When the messages of the stream were written: noon, 23 November 2026.
const NOW_SECONDS: u64 = 1_795_435_200;
/// Messages that a thread takes at a time.
const TAKEN: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let word = |at: usize, or: &str| words.get(at).cloned().unwrap_or_else(|| or.to_owned());
    let directory = word(0, "target/stream");
    let threads: usize = word(1, "1").parse()?;
    let passes = match word(2, "5").as_str() {
        "-" => None,
        count => Some(count.parse::<usize>()?),
    };
    let by_session = word(3, "whole") == "session";
    let zone = Zone::load(Path::new(&directory).join("zone.yml"))?;
    let now = Timestamp::from_seconds(NOW_SECONDS);
    let engine = Engine::builder().authserv_id("mx.example.net").zone(zone).fixed_time(now).build()?;
    let messages = read(Path::new(&directory))?;
    let mut lines = std::io::stdin().lines();
    for pass in 1.. {
        if passes.map_or_else(|| lines.next().is_none(), |count| pass > count) {
            break;
        }
        let (next, rejects, started) = (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut session = engine.session(Envelope::default());
                    loop {
                        let from = next.fetch_add(TAKEN, Ordering::Relaxed);
                        let Some(rest) = messages.get(from..).filter(|rest| !rest.is_empty()) else { return };
                        for (octets, envelope) in rest.iter().take(TAKEN) {
                            let verdict = if by_session {
                                session.take_whole(octets, envelope.clone());
                                session.finish();
                                session.take_verdict().expect("the verdict of a session that finished")
                            } else {
                                engine.verify(octets, envelope.clone())
                            };
                            rejects.fetch_add(usize::from(verdict.action.word() != "accept"), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let micros = started.elapsed().as_secs_f64() * 1e6 / messages.len() as f64;
        println!("pass {pass}: {micros:.2} us a message, {} not accepted", rejects.into_inner());
    }
    Ok(())
}

type Messages = Vec<(Vec<u8>, Envelope)>;

/// The messages with their envelopes. The stream's lines are flat objects of texts without escapes.
fn read(directory: &Path) -> Result<Messages, Box<dyn std::error::Error>> {
    let mut messages = Vec::new();
    for line in std::fs::read_to_string(directory.join("stream.jsonl"))?.lines() {
        let texts: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        let values: HashMap<&str, &str> = texts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let value = |key: &str| values.get(key).copied().unwrap_or_default();
        let envelope = Envelope::new(value("ip").parse()?, value("helo"), value("mail_from"));
        messages.push((std::fs::read(directory.join(value("path")))?, envelope));
    }
    Ok(messages)
}

//! What the C interface costs on top of Rust: the same messages through one call, a session in pieces, and the event loop.
//!
//! `cargo bench --package mailproof-ffi [-- --pairs N]` prints time and, where `perf` or `valgrind` is there, instructions a
//! message of both sides. Each side is a process of its own, and they take turns in going first; of the times the median
//! of the ratios counts, with its quartiles.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use mailproof::network::NetworkOptions;
use mailproof::zone::Zone;
use mailproof::{Engine, Envelope, Verdict};
use mailproof_fault_dns::{Plan, Server};
use mailproof_proto::time::Timestamp;
use mailproof_testkit::stream;
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;

#[path = "../tests/library/c.rs"]
#[allow(dead_code, reason = "it has more than is used here")]
mod c;

const MESSAGES: u64 = 400;
const BODY_BYTES: usize = 30 * 1024;
const PIECE_BYTES: usize = 16 * 1024;
const IN_FLIGHT_MAX: usize = 256;
const PAIRS: usize = 15;
const WAYS: [(&str, u32); 3] = [("one", 3), ("stream", 3), ("loop", 8)];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("--rust-side") => rust_side(&arguments[2..]),
        _ => {
            let told = arguments.iter().position(|word| word == "--pairs").and_then(|at| arguments.get(at + 1));
            compare(told.map_or(PAIRS, |count| count.parse::<usize>().expect("--pairs takes a number").max(1)));
        }
    }
}

/// Where the messages and the programs are.
struct Stage {
    list: PathBuf,
    zone: PathBuf,
    program: PathBuf,
    /// The DNS of the event loop, whose engine has threads.
    server: Server,
}

/// What one run told.
#[derive(Clone, Copy, Debug)]
struct Run {
    nanoseconds: f64,
    instructions: Option<f64>,
    action_sum: u64,
}

fn compare(pairs: usize) {
    let stage = prepare();
    let rounds = 5;
    println!("{MESSAGES} messages of about {} KiB, {rounds} rounds, {pairs} pairs of runs", BODY_BYTES / 1024);
    println!("way     Rust ns    C ns   C/Rust [quartiles]   Rust instr    C instr   C/Rust   allowed");
    for (way, allowed_percent) in WAYS {
        let pair = |number: usize| {
            if number.is_multiple_of(2) {
                let rust = stage.run(way, Side::Rust, rounds);
                return (rust, stage.run(way, Side::C, rounds));
            }
            let c = stage.run(way, Side::C, rounds);
            (stage.run(way, Side::Rust, rounds), c)
        };
        let runs: Vec<(Run, Run)> = (0..pairs).map(pair).collect();
        assert!(runs.iter().all(|(rust, c)| rust.action_sum == c.action_sum), "the sides judge differently");
        let mut ratios: Vec<f64> = runs.iter().map(|(rust, c)| c.nanoseconds / rust.nanoseconds).collect();
        ratios.sort_by(f64::total_cmp);
        let middle = |of: fn(&(Run, Run)) -> f64| {
            let mut all: Vec<f64> = runs.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        print!(
            "{way:7} {:7.0} {:7.0}   {:.3} [{:.3}-{:.3}]",
            middle(|run| run.0.nanoseconds),
            middle(|run| run.1.nanoseconds),
            ratios[pairs / 2],
            ratios[pairs / 4],
            ratios[pairs * 3 / 4]
        );
        match (stage.instructions(way, Side::Rust), stage.instructions(way, Side::C)) {
            (Some(rust), Some(c)) => print!("  {rust:10.0} {c:10.0}   {:.4}", c / rust),
            _ => print!("  neither perf nor valgrind"),
        }
        println!("   1.{allowed_percent:02}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Rust,
    C,
}

impl Stage {
    fn run(&self, way: &str, side: Side, rounds: u32) -> Run {
        self.run_under(&[], way, side, rounds)
    }

    /// Runs one side under a tool that counts instructions, or under none.
    fn run_under(&self, tool: &[&str], way: &str, side: Side, rounds: u32) -> Run {
        let own = std::env::current_exe().expect("this program");
        let mut words: Vec<String> = tool.iter().map(|&word| word.to_owned()).collect();
        match side {
            Side::Rust => words.extend([own.display().to_string(), "--rust-side".to_owned()]),
            Side::C => words.push(self.program.display().to_string()),
        }
        words.extend([way.to_owned(), self.list.display().to_string(), self.zone.display().to_string()]);
        words.extend([self.server.addr().to_string(), rounds.to_string()]);
        let output = c::run(Command::new(&words[0]).args(&words[1..]));
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let (nanoseconds, sum) = told.trim().split_once(' ').expect("two numbers");
        let counted = String::from_utf8_lossy(&output.stderr).into_owned();
        // perf: `123;;instructions:u;...`; callgrind: `==7== Collected : 123`.
        let of_perf =
            counted.lines().find(|line| line.contains("instructions")).and_then(|line| line.split(';').next());
        let of_callgrind = counted.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count);
        Run {
            nanoseconds: nanoseconds.parse().expect("a number"),
            instructions: of_perf.or(of_callgrind).and_then(|count| count.trim().parse().ok()),
            action_sum: sum.parse().expect("a number"),
        }
    }

    /// Instructions a message, what comes before the first message taken off.
    fn instructions(&self, way: &str, side: Side) -> Option<f64> {
        const PERF: &[&str] = &["perf", "stat", "-x", ";", "-e", "instructions:u"];
        // Where the processor's counters can not be had. It knows neither AVX-512 nor SHA-NI.
        const CALLGRIND: &[&str] = &["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"];
        let count = |tool: &[&str], rounds: u32| {
            c::has(tool[0]).then(|| self.run_under(tool, way, side, rounds)).and_then(|run| run.instructions)
        };
        let between = |tool, rounds: u32| {
            Some((count(tool, rounds + 1)? - count(tool, 1)?) / f64::from(rounds) / MESSAGES as f64)
        };
        // Under callgrind one thread runs at a time, and the event loop mostly waits.
        between(PERF, 5).or_else(|| if way == "loop" { None } else { between(CALLGRIND, 1) })
    }
}

fn prepare() -> Stage {
    let to = c::scratch("overhead");
    let options =
        stream::Options { count: MESSAGES, domain_count: 40, seed: 7, body_bytes: BODY_BYTES, is_inline: false };
    stream::write(&to, &options).expect("the stream");
    let list = to.join("list");
    let mut lines = fs::File::create(&list).expect("the list");
    for line in fs::read_to_string(to.join("stream.jsonl")).expect("the stream").lines() {
        let value: Value = serde_json::from_str(line).expect("a line of the stream");
        let word = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let path = to.join(word("path"));
        writeln!(lines, "{}\t{}\t{}\t{}", path.display(), word("ip"), word("helo"), word("mail_from"))
            .expect("the list");
    }
    let zone = to.join("zone.yml");
    let server = Server::start(Zone::load(&zone).expect("the zone"), Plan::new(7)).expect("a DNS server");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/overhead.c");
    let program = c::compile(&source, c::Language::C11, &["-O2"], &to);
    Stage { list, zone, program, server }
}

/// The same as `overhead.c`, in Rust.
fn rust_side(words: &[String]) {
    let [way, list, zone, server, rounds] = words else { panic!("five words") };
    let mails: Vec<(Vec<u8>, [String; 3])> = fs::read_to_string(list)
        .expect("the list")
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split('\t').collect();
            let octets = fs::read(words[0]).expect("a message");
            (octets, [words[1], words[2], words[3]].map(str::to_owned))
        })
        .collect();
    let builder = Engine::builder().authserv_id("mx.receiver.example");
    let builder = builder.fixed_time(Timestamp::from_seconds(1_795_392_000));
    let engine = if way == "loop" {
        let options = NetworkOptions::new(vec![server.parse().expect("an address")]);
        builder.network(NetworkOptions { threads: 1, ..options })
    } else {
        builder.zone(Zone::load(zone).expect("the zone"))
    };
    let engine = engine.build().expect("an engine");
    let rounds: u32 = rounds.parse().expect("a number");
    let mut sum = 0;
    let mut use_verdict = |verdict: &Verdict| sum += verdict.action as u64 + 1;
    let mut session = engine.session(Envelope::default());
    let completions = engine.completions().expect("a descriptor");
    let mut started = Instant::now();
    for round in 0..=rounds {
        if round == 1 {
            started = Instant::now();
        }
        match way.as_str() {
            "one" => mails.iter().for_each(|(octets, words)| use_verdict(&engine.verify(octets, envelope(words)))),
            "stream" => {
                for (octets, words) in &mails {
                    session.restart(envelope(words));
                    octets.chunks(PIECE_BYTES).for_each(|piece| session.push(piece));
                    use_verdict(session.finish());
                }
            }
            _ => {
                let (mut next, mut open) = (0, 0);
                while next < mails.len() || open > 0 {
                    while next < mails.len() && open < IN_FLIGHT_MAX {
                        let (octets, words) = &mails[next];
                        completions.submit(octets.clone(), envelope(words), next as u64);
                        (next, open) = (next + 1, open + 1);
                    }
                    let descriptor = completions.descriptor();
                    let _ = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None);
                    for completion in completions.drain() {
                        use_verdict(&completion.verdict.unwrap());
                        open -= 1;
                    }
                }
            }
        }
    }
    let count = f64::from(rounds) * mails.len() as f64;
    let nanoseconds = if rounds == 0 { 0.0 } else { started.elapsed().as_nanos() as f64 / count };
    println!("{nanoseconds:.0} {sum}");
}

/// Parsed for every message, as a caller that has texts does, on both sides.
fn envelope([ip, helo, mail_from]: &[String; 3]) -> Envelope {
    Envelope::new(ip.parse().expect("an address"), helo.as_str(), mail_from.as_str())
}

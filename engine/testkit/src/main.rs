//! `mailproof-testkit corpus [DIR] [--set S]...`: runs the corpus and prints one line a set.
//! `mailproof-testkit stream --count N --seed S --out DIR`: writes a stream for `mailproof verify --batch`.
//! `mailproof-testkit differential [--count N] [--seed S]`: compares with other implementations on random cases.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mailproof_testkit::corpus::exceptions::EXCEPTIONS;
#[cfg(feature = "oracles")]
use mailproof_testkit::differential;
use mailproof_testkit::{corpus, demo, stream};

#[derive(Parser)]
#[command(about = "Test tools of Mailproof")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every set under DIR that follows the common form
    Corpus {
        /// Default: $MAILPROOF_CORPUS, then ../shared/corpus
        dir: Option<PathBuf>,
        /// Only this set; may be given several times
        #[arg(long)]
        set: Vec<String>,
        /// Show every failing case, excepted ones too
        #[arg(long)]
        verbose: bool,
        /// Say so and succeed when there is no corpus
        #[arg(long)]
        if_present: bool,
    },
    /// Time the inputs of the set `hostile` against their bounds
    Hostile {
        /// The corpus; default as for `corpus`
        dir: Option<PathBuf>,
    },
    /// Write the mailbox of the demo, its zone and its verdicts into DIR, which holds keys/
    DemoMailbox {
        /// The folder
        dir: PathBuf,
    },
    /// Write a stream of signed messages for measuring, with the zone of its domains
    Stream {
        /// Messages
        #[arg(long, default_value_t = 20_000)]
        count: u64,
        /// Domains that send them
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=65_000))]
        domains: u64,
        /// Where the random numbers start
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// KiB of a body on average
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=10_240))]
        kib: u64,
        /// Put the messages into the stream as base64 instead of files beside it
        #[arg(long)]
        inline: bool,
        /// The folder, which gets stream.jsonl, zone.yml and messages/
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Compare with mail-auth, pyspf and dkimpy on random cases
    #[cfg(feature = "oracles")]
    Differential {
        /// Cases compared with mail-auth, half of them SPF evaluations, half messages
        #[arg(long, default_value_t = 20_000)]
        count: u64,
        /// Cases compared with each of pyspf and dkimpy; default: a quarter of COUNT, at most 20000
        #[arg(long)]
        python_count: Option<u64>,
        /// Where the random numbers start
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Run only the case of this number
        #[arg(long)]
        only: Option<u64>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Corpus { dir, set, verbose, if_present } => match dir.or_else(corpus::directory) {
            Some(dir) => run_corpus(&dir, &set, verbose),
            None if if_present => {
                println!("corpus absent: set MAILPROOF_CORPUS to run it; 0 cases ran");
                ExitCode::SUCCESS
            }
            None => no_corpus(),
        },
        Command::Hostile { dir } => dir.or_else(corpus::directory).map_or_else(no_corpus, |dir| time_hostile(&dir)),
        Command::DemoMailbox { dir } => written(demo::write(&dir).map(|count| format!("{count} messages"))),
        Command::Stream { count, domains, seed, kib, inline, out } => {
            let body_bytes = usize::try_from(kib * 1024).unwrap_or(usize::MAX);
            let options = stream::Options { count, domain_count: domains, seed, body_bytes, is_inline: inline };
            written(
                stream::write(&out, &options).map(|octets| format!("seed {seed}: {count} messages, {octets} octets")),
            )
        }
        #[cfg(feature = "oracles")]
        Command::Differential { count, python_count, seed, only } => {
            let python_count = python_count.unwrap_or((count / 4).min(PYTHON_COUNT_DEFAULT_MAX));
            run_differential(&differential::Options { count, python_count, seed, only })
        }
    }
}

#[cfg(feature = "oracles")]
const PYTHON_COUNT_DEFAULT_MAX: u64 = 20_000;

#[cfg(feature = "oracles")]
fn run_differential(options: &differential::Options) -> ExitCode {
    println!("seed {}", options.seed);
    match differential::run(options) {
        Ok(report) => {
            println!("{}", report.text());
            if report.unexplained_count == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            eprintln!("mailproof-testkit: {error}");
            ExitCode::from(1)
        }
    }
}

fn written(outcome: Result<String, String>) -> ExitCode {
    match outcome {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("mailproof-testkit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn no_corpus() -> ExitCode {
    eprintln!("mailproof-testkit: no corpus: set MAILPROOF_CORPUS or name a directory");
    ExitCode::from(66)
}

/// Prints time and bound of every hostile input, the slowest first; fails when one is over its bound.
fn time_hostile(dir: &Path) -> ExitCode {
    let inputs = match corpus::end_to_end::generate_hostile(&dir.join("hostile")) {
        Ok(inputs) => inputs,
        Err(error) => {
            eprintln!("mailproof-testkit: {error}");
            return ExitCode::from(66);
        }
    };
    let mut times: Vec<(f64, f64, &str)> =
        inputs.iter().map(|it| (it.fastest().as_secs_f64() * 1000.0, it.bound_ms, it.id.as_str())).collect();
    times.sort_by(|a, b| (b.0 / b.1).total_cmp(&(a.0 / a.1)));
    println!("{:>10} {:>10} {:>6}  input", "ms", "bound ms", "ratio");
    for (time, bound, id) in &times {
        println!("{time:>10.3} {bound:>10.0} {:>6.2}  {id}", time / bound);
    }
    let over = times.iter().filter(|(time, bound, _)| time > bound).count();
    println!("{} inputs, {over} over their bound", times.len());
    if over == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn run_corpus(dir: &Path, set: &[String], verbose: bool) -> ExitCode {
    let mut names: Vec<String> = match std::fs::read_dir(dir) {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect(),
        Err(error) => {
            eprintln!("mailproof-testkit: {}: {error}", dir.display());
            return ExitCode::from(66);
        }
    };
    names.retain(|name| dir.join(name).is_dir() && (set.is_empty() || set.contains(name)));
    names.sort();
    let mut totals = (0, 0, 0);
    for name in &names {
        let Some(run) = corpus::runner(name) else {
            println!("{name}: not read by any part of this project yet");
            continue;
        };
        let cases = match run(&dir.join(name)) {
            Ok(cases) => cases,
            Err(error) => {
                println!("{name}: unreadable: {error}");
                totals.1 += 1;
                continue;
            }
        };
        let mut counts = (0, 0, 0);
        for case in &cases {
            let excepted = EXCEPTIONS.iter().find(|it| it.set == name && it.id == case.id);
            match (&case.failure, excepted) {
                (None, _) => counts.0 += 1,
                (Some(failure), None) => {
                    counts.1 += 1;
                    println!("  {name}/{}: {failure}", case.id);
                }
                (Some(failure), Some(exception)) => {
                    counts.2 += 1;
                    if verbose {
                        println!(
                            "  {name}/{}: excepted: {failure}; {} ({})",
                            case.id, exception.reason, exception.section
                        );
                    }
                }
            }
        }
        println!("{name}: {} passed, {} failed, {} excepted", counts.0, counts.1, counts.2);
        totals = (totals.0 + counts.0, totals.1 + counts.1, totals.2 + counts.2);
    }
    println!("{} passed, {} failed, {} excepted", totals.0, totals.1, totals.2);
    if totals.1 == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

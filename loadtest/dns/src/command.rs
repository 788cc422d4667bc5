//! The program: serves zone files on loopback and goes wrong as a plan says, until it is told to end.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mailproof::zone::{Zone, ZoneError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::{Options, Plan, PlanError, Server};

/// A DNS server that serves zone files and misbehaves as told.
///
/// The first line of standard output is the address it listens on, by UDP and TCP. It ends on SIGINT and SIGTERM with
/// one line of numbers on standard error.
#[derive(Debug, Parser)]
#[command(name = "mailproof-fault-dns", version)]
pub struct Arguments {
    /// Zone file: YAML, or an RFC 1035 master file when its name ends in .zone. May be given several times.
    #[arg(long = "zone", value_name = "FILE", required = true)]
    zones: Vec<PathBuf>,
    /// Plan of faults (YAML); none without it.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Seed of everything drawn, in place of the plan's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Probability of the plan's rules that have none of their own, from 0 to 1, in place of the plan's.
    #[arg(long, value_name = "P", value_parser = probability)]
    probability: Option<f64>,
    /// Where to listen, on loopback; port 0 lets the kernel choose.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0", value_parser = loopback)]
    listen: SocketAddr,
    /// Listen on ::1 too, on the same port; the second line of standard output is that address.
    #[arg(long)]
    also_ipv6: bool,
    /// Threads, each with a UDP socket of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32))]
    threads: u8,
    /// Keep each thread on one CPU.
    #[arg(long)]
    pin: bool,
    /// Send each reply on its own through the kernel.
    #[arg(long)]
    no_joins: bool,
    /// Add an SOA record of this time to live to the zone's negative answers.
    #[arg(long, value_name = "SECONDS")]
    negative_ttl: Option<u32>,
    /// At the end, print every question with how often it came to standard output.
    #[arg(long)]
    statistics: bool,
}

/// Why there is no server; each has an exit code of its own (sysexits).
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Zone(#[from] ZoneError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("{0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs the program until it is told to end.
#[must_use]
pub fn main(arguments: &Arguments) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("mailproof-fault-dns: {trouble}");
            ExitCode::from(match trouble {
                Trouble::Zone(_) | Trouble::Plan(_) => 78,
                Trouble::Listen(..) => 69,
                Trouble::Io(_) => 74,
            })
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Trouble> {
    // Before the first line is out, so that whoever reads it may end the server at once.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let mut zone = Zone::new();
    for path in &arguments.zones {
        zone.add_file(path)?;
    }
    let mut plan = match &arguments.plan {
        Some(path) => Plan::load(path)?,
        None => Plan::new(0),
    };
    if let Some(seed) = arguments.seed {
        plan = plan.with_seed(seed);
    }
    if let Some(probability) = arguments.probability {
        plan = plan.with_probability(probability);
    }
    let options = Options {
        listen: arguments.listen,
        also_ipv6: arguments.also_ipv6,
        threads: arguments.threads.into(),
        pins: arguments.pin,
        joins: !arguments.no_joins,
        negative_ttl_seconds: arguments.negative_ttl,
        ..Options::default()
    };
    let mut server =
        Server::start_with(zone, plan, options).map_err(|error| Trouble::Listen(arguments.listen, error))?;
    let mut out = io::stdout().lock();
    for address in server.addrs() {
        writeln!(out, "{address}")?;
    }
    out.flush()?;
    signals.forever().next();
    server.stop();
    if arguments.statistics {
        let mut questions: Vec<_> = server.questions().into_iter().collect();
        questions.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then(a.name.cmp(&b.name)));
        for (question, count) in questions {
            writeln!(out, "{count} {question}")?;
        }
    }
    eprintln!("{}", server.statistics());
    Ok(())
}

/// A server that goes wrong on purpose is nobody else's to ask.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "not IP:PORT".to_owned())?;
    if address.ip().is_loopback() { Ok(address) } else { Err("not an address of loopback".to_owned()) }
}

fn probability(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&number) { Ok(number) } else { Err("not between 0 and 1".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listens_on_loopback_only() {
        for good in ["127.0.0.1:0", "127.255.255.254:53", "[::1]:53"] {
            assert_eq!(loopback(good).unwrap().to_string(), good);
        }
        for bad in ["0.0.0.0:0", "[::]:53", "192.0.2.1:53", "[::ffff:127.0.0.1]:53", "localhost:53", "127.0.0.1"] {
            assert!(loopback(bad).is_err(), "{bad}");
        }
    }
}

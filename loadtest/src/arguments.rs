//! The command line as it is written.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::corpus::{DOMAIN_COUNT, Fates, Options, Sizes};
use crate::drive::{Cpu, IN_FLIGHT_MAX, Settings};
use crate::plan::Load;
use crate::target::{Address, Claims, Connections, Leg, Target};

/// Load on mail authentication, every verdict checked: milters, policy services, mail servers, the engine, the
/// library.
#[derive(Debug, Parser)]
#[command(name = "mailproof-loadtest", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  mailproof-loadtest corpus --count 10000 --out target/stream
  mailproof-loadtest drive --milter unix:/run/mailproof/milter.sock --load '200..2000/s for 30s' --pid 4711 --html run.html
  mailproof-loadtest drive --engine --load 'closed 4 for 10s'
  mailproof-loadtest drive --null --load '20000/s for 10s'
  mailproof-loadtest scenario loadtest/scenarios/steady.toml
  mailproof-loadtest compare --quick

Loads: '200/s for 10s', '200..800/s for 10s' (a ramp), 'burst 300', 'pause 2s', joined by commas: messages start when that
says. 'closed 16 for 5s' starts a message when one ends. Only addresses of loopback and unix sockets are driven.

Exit codes: 0 all went well; 1 wrong or missing answers, or a threshold missed; 2 an invalid run: the generator fell behind, or
it was interrupted; 64 wrong usage; 65 a stream that can not be read, or has no messages; 66 a file that is not there; 69 a
target that is not there; 71 the system refused; 78 a scenario, zone or plan that can not be used.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a stream of mail with its DNS and what must be found about each message
    Corpus(CorpusArguments),
    /// Drive a target and report
    Drive(Box<DriveArguments>),
    /// Play scenarios; their thresholds decide the exit code
    Scenario(ScenarioArguments),
    /// Drive this and its rivals with the same stream, and print the table
    Compare(CompareArguments),
    /// Play the same parts in virtual time, with faults drawn from seeds, and check what has to hold
    Sim(SimArguments),
    /// Run a milter that reads everything and says nothing, until it is told to end
    Null(NullArguments),
    /// Run a program for each connection, as Postfix's spawn(8) does
    #[command(hide = true)]
    Spawn(SpawnArguments),
    /// Run the DNS server that misbehaves as told
    Dns(mailproof_fault_dns::command::Arguments),
}

/// Which messages.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Messages")]
pub struct StreamArguments {
    /// How many messages are made
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=crate::corpus::COUNT_MAX))]
    pub count: u64,
    /// Where the random numbers start: the same seed gives the same octets everywhere
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Domains that send, by Zipf's law
    #[arg(long, value_name = "N", default_value_t = DOMAIN_COUNT,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::corpus::DOMAIN_COUNT_MAX)))]
    pub domains: u32,
    /// Sizes of messages
    #[arg(long, value_enum, default_value_t = SizesWord::Ordinary)]
    pub sizes: SizesWord,
    /// Only messages that arrive as they were sent, each with one RSA-2048 signature
    #[arg(long)]
    pub honest: bool,
}

/// [`Sizes`] as a word.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SizesWord {
    /// Log-normal around 30 KiB, 63 KiB on average, up to 3 MiB
    Ordinary,
    /// 256 octets to 3 KiB
    Tiny,
    /// 1 to 3 MiB
    Giant,
}

impl From<SizesWord> for Sizes {
    fn from(word: SizesWord) -> Self {
        match word {
            SizesWord::Ordinary => Self::Ordinary,
            SizesWord::Tiny => Self::Tiny,
            SizesWord::Giant => Self::Giant,
        }
    }
}

impl StreamArguments {
    /// What they say.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            count: self.count,
            domain_count: self.domains,
            seed: self.seed,
            sizes: self.sizes.into(),
            fates: if self.honest { Fates::Honest } else { Fates::Mixed },
        }
    }
}

/// Arguments of `corpus`.
#[derive(Args, Debug)]
pub struct CorpusArguments {
    /// The folder to write into
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Which messages.
    #[command(flatten)]
    pub stream: StreamArguments,
}

/// Arguments of `drive`.
#[derive(Args, Debug)]
pub struct DriveArguments {
    /// Ask a policy service at RCPT, as Postfix does; before any milter
    #[arg(long, value_name = "ADDRESS")]
    pub policy: Option<Address>,
    /// Show messages to a milter; several are gone through in order, and see what the ones before have added
    #[arg(long, value_name = "ADDRESS")]
    pub milter: Vec<Address>,
    /// Send messages to a mail server, which must let loopback use XCLIENT for SPF to mean something
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["policy", "milter"])]
    pub smtp: Option<Address>,
    /// Be that mail server's next hop here, and check what the header of each message says when it arrives
    #[arg(long, value_name = "ADDRESS", requires = "smtp",
        conflicts_with_all = ["policy", "milter", "engine", "library", "null"])]
    pub arrivals: Option<Address>,
    /// Verify in this process, with the DNS of the messages at hand
    #[arg(long, conflicts_with_all = ["policy", "milter", "smtp"])]
    pub engine: bool,
    /// Verify in this process by libmailproof: the shared library, as a mail server loads it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["policy", "milter", "smtp", "engine"])]
    pub library: Option<PathBuf>,
    /// Drive a milter that does nothing, in this process: what the generator can do
    #[arg(long, conflicts_with_all = ["policy", "milter", "smtp", "engine", "library"])]
    pub null: bool,
    /// What is offered, and when
    #[arg(long, value_name = "LOAD")]
    pub load: Load,
    /// Read the messages from a folder that `corpus` has written, instead of making them
    #[arg(long, value_name = "DIR")]
    pub corpus: Option<PathBuf>,
    /// Which messages.
    #[command(flatten)]
    pub stream: StreamArguments,
    /// Results that are checked: spf, dkim, dmarc, arc, joined by commas, or none [default: all; none for --null, and for --smtp without --arrivals]
    #[arg(long, value_name = "LIST", conflicts_with_all = ["engine", "library", "null"])]
    pub claims: Option<Claims>,
    /// A connection for each message, or connections that are kept
    #[arg(long, value_enum, default_value_t = ConnectionsWord::Each)]
    pub connections: ConnectionsWord,
    /// Messages that are refused, deferred or held are not wrong
    #[arg(long, conflicts_with_all = ["engine", "library", "null"])]
    pub any_action: bool,
    /// Further connections that stall in the midst of a message, to the first milter
    #[arg(long, value_name = "N", default_value_t = 0, requires = "milter",
        conflicts_with_all = ["smtp", "engine", "library", "null"])]
    pub stalled: usize,
    /// Messages under way at a time; more wait for their turn, which counts
    #[arg(long, value_name = "N", default_value_t = IN_FLIGHT_MAX)]
    pub in_flight_max: usize,
    /// Threads of the generator; with --engine and --library, threads that verify
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub workers: u8,
    /// Processors for the generator, joined by commas [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// Process of the target, measured with all that it starts; may be given several times
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Seconds after which a message without an answer has failed
    #[arg(long, value_name = "SECONDS", default_value_t = 60, conflicts_with_all = ["engine", "library"])]
    pub timeout: u32,
    /// Where the report goes.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// [`Connections`] as a word.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ConnectionsWord {
    /// One for each message
    Each,
    /// Kept for further messages
    Kept,
}

/// Where reports go.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Report")]
pub struct OutputArguments {
    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with charts that needs nothing from anywhere
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// No live view, even on a terminal
    #[arg(long)]
    pub quiet: bool,
}

/// Arguments of `scenario`.
#[derive(Args, Debug)]
pub struct ScenarioArguments {
    /// Scenario files [default: those of loadtest/scenarios]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// At full length, and those that are long in any case
    #[arg(long)]
    pub long: bool,
    /// The program under test
    #[arg(long, value_name = "PATH", default_value = "target/release/mailproof")]
    pub mailproof: PathBuf,
    /// How its threads wait: auto, uring, epoll
    #[arg(long, value_name = "WORD", default_value = "auto")]
    pub backend: String,
    /// Where the report goes.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Arguments of `compare`.
#[derive(Args, Debug)]
pub struct CompareArguments {
    /// Shorter runs: ten minutes in all
    #[arg(long)]
    pub quick: bool,
    /// Only these rows, joined by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Which messages.
    #[command(flatten)]
    pub stream: StreamArguments,
    /// The program under test
    #[arg(long, value_name = "PATH", default_value = "target/release/mailproof")]
    pub mailproof: PathBuf,
    /// Where the packages of the rivals are (scripts/rivals.sh)
    #[arg(long, value_name = "DIR", default_value = crate::compare::RIVALS)]
    pub rivals: PathBuf,
    /// Write the bars of the page as one picture
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub svg: Option<PathBuf>,
    /// Where the report goes.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Arguments of `sim`.
#[derive(Args, Debug)]
pub struct SimArguments {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first seed [default: another every time]
    #[arg(long, value_name = "SEED")]
    pub from: Option<u64>,
    /// This seed alone, with everything that happens
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"])]
    pub seed: Option<u64>,
    /// Make that one smaller as long as it fails; of several it is done anyway
    #[arg(long, requires = "seed")]
    pub shrink: bool,
    /// Troubles that do not happen, joined by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub off: Vec<String>,
    /// Connections, or messages as CONNECTION.MESSAGE, that are left out, joined by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub without: Vec<String>,
    /// No message is handed in whole, beside the milter
    #[arg(long)]
    pub no_jobs: bool,
    /// Every message is the shortest one
    #[arg(long)]
    pub short: bool,
    /// What is plain, joined by commas: limits (nothing reaches them), workers and servers (one), withdrawal and stale (none)
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub plain: Vec<String>,
}

/// Arguments of `null`.
#[derive(Args, Debug)]
pub struct NullArguments {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "tcp:127.0.0.1:0")]
    pub listen: Address,
    /// Threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: u8,
    /// Processors, joined by commas [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub cpus: Vec<usize>,
}

/// Arguments of `spawn`.
#[derive(Args, Debug)]
pub struct SpawnArguments {
    /// The unix socket to listen at
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Address,
    /// The program with its arguments
    #[arg(last = true, required = true)]
    pub program: Vec<String>,
}

impl DriveArguments {
    /// The target, where there is one outside of this process.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        let legs: Vec<Leg> = match &self.smtp {
            Some(address) => vec![Leg::Smtp(address.clone())],
            None => {
                let policy = self.policy.iter().cloned().map(Leg::Policy);
                policy.chain(self.milter.iter().cloned().map(Leg::Milter)).collect()
            }
        };
        let name = legs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ");
        // A mail server answers with a code; what it found is in the mail.
        let claims = match () {
            () if self.smtp.is_some() => Claims::NONE,
            () if self.milter.is_empty() => Claims { spf: true, ..Claims::NONE },
            () => Claims::ALL,
        };
        let claims = if self.arrivals.is_some() { Claims::NONE } else { self.claims.unwrap_or(claims) };
        let connections = match self.connections {
            ConnectionsWord::Each => Connections::Each,
            ConnectionsWord::Kept => Connections::Kept,
        };
        (!legs.is_empty()).then_some(Target { name, legs, claims, connections })
    }

    /// How the run goes.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            workers: self.workers.into(),
            in_flight_max: self.in_flight_max.max(1),
            message_time: Duration::from_secs(self.timeout.max(1).into()),
            processes: self.pid.clone(),
            generator_cpu: Cpu((!self.cpus.is_empty()).then(|| self.cpus.clone())),
            expects_accept: !self.any_action,
            ..Settings::default()
        }
    }
}

//! What the program does with its arguments.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mailproof::Engine;
use mailproof_library::{Library, LibraryError};
use rustix::process::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::arguments::{
    Arguments, Command, CorpusArguments, DriveArguments, NullArguments, OutputArguments, SpawnArguments,
};
use crate::corpus::file::StreamError;
use crate::corpus::{Corpus, Maker, file};
use crate::drive::{self, DriveError, Observer, Settings, Stalled, Subject, Unseen};
use crate::measure::Pinned;
use crate::null::NullMilter;
use crate::report::{self, Basis, Run};
use crate::sink::{DELIVERY_TIME_MAX, Sink};
use crate::target::{Address, Claims, Connections, Leg, Target};
use crate::view::View;

/// Why the program ends without having done its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The arguments do not fit together.
    #[error("{0}")]
    Usage(String),
    /// A stream of messages.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A scenario that can not be played.
    #[error("{0}")]
    Scenario(String),
    /// A run.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The library.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// A process that was to be measured.
    #[error("there is no process {0} to measure")]
    NoProcess(u32),
    /// A file.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The machine.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Trouble {
    /// The code of sysexits.
    const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Stream(StreamError::Line { .. }) | Self::Drive(DriveError::NoMessages) => 65,
            Self::Stream(StreamError::Io { .. }) | Self::File { .. } => 66,
            Self::Drive(DriveError::Unreachable { .. }) | Self::Library(_) | Self::NoProcess(_) => 69,
            Self::Drive(_) | Self::Io(_) => 71,
            Self::Scenario(_) => 78,
        }
    }
}

/// What a run came to. Several came to the greatest of theirs: one that says nothing takes nothing from one that is bad.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// As it should be.
    Good,
    /// It says nothing.
    Invalid,
    /// Wrong or missing answers, or thresholds missed.
    Bad,
}

/// Does what the arguments say.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    raise_limits();
    let outcome = match arguments.command {
        Command::Dns(arguments) => return mailproof_fault_dns::command::main(&arguments),
        Command::Corpus(arguments) => corpus(&arguments),
        Command::Drive(arguments) => drive(&arguments),
        Command::Null(arguments) => null(&arguments),
        Command::Compare(arguments) => crate::compare::run(&arguments),
        Command::Spawn(arguments) => spawn(&arguments),
        Command::Scenario(arguments) => crate::scenario::run(&arguments),
        Command::Sim(arguments) => crate::sim::command(&arguments),
    };
    match outcome {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::from(1),
        Ok(Outcome::Invalid) => ExitCode::from(2),
        Err(trouble) => {
            eprintln!("mailproof-loadtest: {trouble}");
            ExitCode::from(trouble.code())
        }
    }
}

/// As many descriptors as this process may have: every connection takes one.
fn raise_limits() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What cannot be raised shows when connections cannot be opened.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn corpus(arguments: &CorpusArguments) -> Result<Outcome, Trouble> {
    let maker = Maker::new(&arguments.stream.options());
    let bytes = file::write(&arguments.out, &maker)?;
    let count = arguments.stream.count;
    println!("{count} messages, {bytes} octets, {} on average: {}", bytes / count, arguments.out.display());
    Ok(Outcome::Good)
}

fn drive(arguments: &DriveArguments) -> Result<Outcome, Trouble> {
    check_processors(&arguments.cpus)?;
    if let Some(process) = arguments.pid.iter().find(|process| !Path::new(&format!("/proc/{process}")).exists()) {
        return Err(Trouble::NoProcess(*process));
    }
    let corpus = match &arguments.corpus {
        Some(folder) => {
            if arguments.engine || arguments.library.is_some() {
                return Err(Trouble::Usage(
                    "the engine and the library get messages that are made here: leave out --corpus".to_owned(),
                ));
            }
            Corpus { letters: file::read(folder)?, records: crate::corpus::Records::default() }
        }
        None => Maker::new(&arguments.stream.options()).corpus(),
    };
    let mut settings = arguments.settings();
    settings.interrupt = Some(interrupts()?);
    let target = arguments.target();
    let claims = match &target {
        Some(target) if arguments.arrivals.is_none() => target.claims,
        _ if arguments.null => Claims::NONE,
        _ => arguments.claims.unwrap_or(Claims::ALL),
    };
    let basis = Basis { claims, late_share_max: settings.late_share_max };
    // While it runs, an answer is only an answer where the mail itself tells.
    let seen = if arguments.arrivals.is_some() { Basis { claims: Claims::NONE, ..basis } } else { basis };
    let mut observer = observer(&arguments.output, seen);
    let sink = match &arguments.arrivals {
        Some(Address::Tcp(address)) => Some(Sink::listen(*address, &corpus.letters, claims)?),
        Some(Address::Unix(_)) => return Err(Trouble::Usage("--arrivals: a next hop has a TCP address".to_owned())),
        None => None,
    };
    let mut run = if arguments.engine {
        let zone = corpus.records.to_zone().map_err(|error| Trouble::Usage(error.to_string()))?;
        let engine = Engine::builder().zone(zone).build().map_err(|error| Trouble::Usage(error.to_string()))?;
        drive::run(&Subject::Verifier(&engine), &corpus.letters, &arguments.load, &settings, &mut *observer)?
    } else if let Some(path) = &arguments.library {
        let library = Library::load(path, &corpus.records.to_yaml())?;
        drive::run(&Subject::Verifier(&library), &corpus.letters, &arguments.load, &settings, &mut *observer)?
    } else if arguments.null {
        drive_null(arguments, &corpus, &settings, &mut *observer)?
    } else {
        let target = target.ok_or_else(|| {
            Trouble::Usage("one of --milter, --policy, --smtp, --engine, --library, --null is needed".to_owned())
        })?;
        let _stalled = match arguments.milter.first() {
            Some(milter) if arguments.stalled > 0 => Some(Stalled::open(milter, &corpus.letters, arguments.stalled)?),
            _ => None,
        };
        drive::run(&Subject::Target(&target), &corpus.letters, &arguments.load, &settings, &mut *observer)?
    };
    drop(observer);
    if let Some(sink) = sink {
        sink.wait_for(run.total.right, DELIVERY_TIME_MAX).correct(&mut run.total);
    }
    finish(run, basis, &arguments.output)
}

/// The generator by itself: against a milter that does nothing, which has the processors that the generator does not have.
fn drive_null(
    arguments: &DriveArguments,
    corpus: &Corpus,
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Result<Run, Trouble> {
    let folder = std::env::temp_dir().join(format!("mailproof-null-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let address = Address::Unix(folder.join("milter.sock"));
    let others: Vec<usize> =
        (0..std::thread::available_parallelism()?.get()).filter(|it| !arguments.cpus.contains(it)).collect();
    let null = NullMilter::start(&address, 1, Some(&others).filter(|others| !others.is_empty()).map(Vec::as_slice))?;
    let target = Target {
        name: "null milter".to_owned(),
        legs: vec![Leg::Milter(null.address().clone())],
        claims: Claims::NONE,
        connections: arguments.target().map_or_else(Connections::default, |target| target.connections),
    };
    let run = drive::run(&Subject::Target(&target), &corpus.letters, &arguments.load, settings, observer);
    drop(null);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(run?)
}

fn null(arguments: &NullArguments) -> Result<Outcome, Trouble> {
    check_processors(&arguments.cpus)?;
    let is_over = interrupts()?;
    let processors = (!arguments.cpus.is_empty()).then_some(arguments.cpus.as_slice());
    let milter = NullMilter::start(&arguments.listen, arguments.threads.into(), processors)?;
    println!("{}", milter.address());
    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    Ok(Outcome::Good)
}

/// The kernel passes over those of several that do not exist: each is asked for by itself.
fn check_processors(processors: &[usize]) -> Result<(), Trouble> {
    let missing = processors.iter().find(|processor| Pinned::to(&[**processor]).is_err());
    missing.map_or(Ok(()), |processor| Err(Trouble::Usage(format!("--cpus: there is no processor {processor} here"))))
}

fn spawn(arguments: &SpawnArguments) -> Result<Outcome, Trouble> {
    let Address::Unix(path) = &arguments.listen else {
        return Err(Trouble::Usage("only unix sockets are listened at here".to_owned()));
    };
    crate::spawner::serve(path, &arguments.program)?;
    Ok(Outcome::Good)
}

/// Becomes true on SIGINT and SIGTERM; a second one ends the program.
pub(crate) fn interrupts() -> Result<Arc<AtomicBool>, Trouble> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

/// The live view, on a terminal and where it is wanted.
pub(crate) fn observer(output: &OutputArguments, basis: Basis) -> Box<dyn Observer> {
    match View::new(basis).filter(|_| !output.quiet) {
        Some(view) => Box::new(view),
        None => Box::new(Unseen),
    }
}

/// Prints and writes what a run came to.
fn finish(run: Run, basis: Basis, output: &OutputArguments) -> Result<Outcome, Trouble> {
    print!("{}", run.to_text(basis));
    let outcome = match run.invalid(basis.late_share_max) {
        Some(_) => Outcome::Invalid,
        None if run.bad_count() > 0 => Outcome::Bad,
        None => Outcome::Good,
    };
    write_file(output.json.as_deref(), || serde_json::Value::from(vec![report::to_json(&run, basis)]).to_string())?;
    write_file(output.html.as_deref(), || report::page("Load test", &[(run, basis)]))?;
    Ok(outcome)
}

pub(crate) fn write_file(path: Option<&Path>, text: impl FnOnce() -> String) -> Result<(), Trouble> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, text()).map_err(|error| Trouble::File { path: path.to_owned(), error })
}

//! `mailproof verify --batch`: a stream of messages with their envelopes, one verdict a line in the order of the stream.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mailproof::Engine;
use mailproof_proto::verification::Envelope;

use crate::arguments::VerifyArguments;
use crate::failure::Failure;
use crate::input::{Batch, BatchMessage, InputError};
use crate::judge::{self, Judge};
use crate::measure::{Cost, CpuMeter, peak_resident_bytes};
use crate::pipeline::{self, Worker};
use crate::verify::error_line;
use crate::words::note;

/// Messages a thread takes at a time in a pass over messages in memory.
const SHARE_MESSAGES: usize = 32;

/// Runs the subcommand.
///
/// # Errors
/// What ends the run, or was met on the way. A bad line of the stream is neither: it has its own line of output.
pub(crate) fn run(arguments: &VerifyArguments, stream: &Path) -> Result<(), Failure> {
    let engine = judge::engine(&arguments.dns, judge::options(&arguments.judge), arguments.judge.now)?;
    let thread_count = arguments.threads.map_or_else(pipeline::threads_default, usize::from);
    let lines = Batch::new(open(stream)?).with_folder(stream.parent().map(Path::to_owned));
    match arguments.batch.passes {
        None => once(&engine, thread_count, lines.map(Line::from))?,
        Some(passes) => {
            let lines: Vec<Line> = lines.map(Line::from).collect();
            Passes { engine: &engine, thread_count, lines: &lines }.run(passes)?
        }
    }
    judge::end(&engine)
}

fn open(stream: &Path) -> Result<Box<dyn BufRead + Send>, Failure> {
    if stream.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = File::open(stream).map_err(|error| Failure::Missing { path: stream.to_owned(), error })?;
    Ok(Box::new(BufReader::with_capacity(STREAM_BUFFER_BYTES, file)))
}

/// Octets of the stream read at once.
const STREAM_BUFFER_BYTES: usize = 256 * 1024;

/// A line of the stream: a message, or why there is none.
struct Line {
    id: Option<String>,
    message: Result<Message, String>,
}

struct Message {
    octets: Vec<u8>,
    envelope: Envelope,
}

impl From<Result<BatchMessage, InputError>> for Line {
    fn from(read: Result<BatchMessage, InputError>) -> Self {
        match read {
            Ok(BatchMessage { id, octets, ip, helo, mail_from }) => {
                let (helo, mail_from) = (helo.unwrap_or_default(), mail_from.unwrap_or_default());
                let envelope = Envelope { ip, helo, mail_from };
                Self { id: Some(id), message: Ok(Message { octets, envelope }) }
            }
            Err(error) => Self { message: Err(error.to_string()), id: error.id },
        }
    }
}

impl Line {
    fn octets(&self) -> u64 {
        self.message.as_ref().map_or(0, |message| message.octets.len() as u64)
    }
}

/// Reads, judges and writes as the stream comes.
fn once(engine: &Engine, thread_count: usize, lines: impl Iterator<Item = Line> + Send) -> Result<(), Failure> {
    let (started, meter) = (Instant::now(), CpuMeter::start());
    let workers = (0..thread_count).map(|_| Clerk { judge: Judge::new(engine.clone()) }).collect();
    let mut out = BufWriter::new(io::stdout());
    let mut cost = Cost::default();
    pipeline::run(lines, workers, &meter, |written: Written| {
        cost.messages += u64::from(written.is_judged);
        cost.refused += u64::from(!written.is_judged);
        cost.octets += written.octets;
        writeln!(out, "{}", written.line).map_err(Failure::Output)
    })?;
    out.flush().map_err(Failure::Output)?;
    cost.elapsed = started.elapsed();
    cost.cpu = meter.total();
    summarize("", &cost);
    Ok(())
}

/// Judges a line of the stream and writes the one that answers it.
struct Clerk {
    judge: Judge,
}

struct Written {
    line: String,
    is_judged: bool,
    octets: u64,
}

impl Worker<Line> for Clerk {
    type Outcome = Written;

    fn work(&mut self, line: Line) -> Written {
        let (id, octets) = (line.id.as_deref(), line.octets());
        let judged = line.message.and_then(|Message { octets, envelope }| {
            let written = self.judge.judge(&octets, envelope, |verdict, _| verdict.to_json(id.unwrap_or_default()));
            written.map_err(str::to_owned)
        });
        let is_judged = judged.is_ok();
        let line = judged.unwrap_or_else(|error| error_line(id, &error));
        Written { line, is_judged, octets }
    }
}

/// Messages in memory, judged several times over.
struct Passes<'a> {
    engine: &'a Engine,
    thread_count: usize,
    lines: &'a [Line],
}

/// The lines of one thread, each with the place of its message; empty unless they are kept.
type Kept = Vec<(usize, String)>;

impl Passes<'_> {
    fn run(&self, passes: u32) -> Result<(), Failure> {
        let mut whole = Cost { cpu: Some(Duration::ZERO), ..Cost::default() };
        let mut kept = Kept::new();
        for pass in 1..=passes {
            let (started, meter) = (Instant::now(), CpuMeter::start());
            let shares = self.pass(&meter, pass == passes)?;
            let octets = self.lines.iter().map(Line::octets).sum();
            let messages = self.lines.iter().filter(|line| line.message.is_ok()).count() as u64;
            let refused = self.lines.len() as u64 - messages;
            let cost = Cost { messages, refused, octets, elapsed: started.elapsed(), cpu: meter.total() };
            let warmth = if pass == 1 { "cold" } else { "warm" };
            note(format_args!("pass {pass} of {passes}, {warmth}: {cost}"));
            whole.messages += cost.messages;
            whole.octets += cost.octets;
            whole.elapsed += cost.elapsed;
            whole.cpu = whole.cpu.zip(cost.cpu).map(|(sum, more)| sum + more);
            kept.extend(shares.into_iter().flatten());
        }
        self.write(kept)?;
        summarize("all passes: ", &whole);
        Ok(())
    }

    /// One pass: the threads take shares of the messages until none is left.
    fn pass(&self, meter: &CpuMeter, keep: bool) -> Result<Vec<Kept>, Failure> {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..self.thread_count {
                let work = || meter.measure(|| self.take_shares(&next, keep));
                let thread = thread::Builder::new().name("judge".to_owned()).spawn_scoped(scope, work);
                threads.push(thread.map_err(Failure::System)?);
            }
            // A panic of the engine was caught where it was called; any other is a defect here and is passed on.
            Ok(threads
                .into_iter()
                .map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect())
        })
    }

    fn take_shares(&self, next: &AtomicUsize, keep: bool) -> Kept {
        let mut judge = Judge::new(self.engine.clone());
        let mut kept = Kept::new();
        loop {
            let start = next.fetch_add(SHARE_MESSAGES, Ordering::Relaxed);
            let Some(rest) = self.lines.get(start..).filter(|rest| !rest.is_empty()) else {
                return kept;
            };
            for (at, line) in rest.iter().take(SHARE_MESSAGES).enumerate() {
                let Ok(message) = &line.message else { continue };
                let id = line.id.as_deref();
                // Lines take less memory than verdicts, and less time than the page faults of keeping those.
                let judged = judge.judge(&message.octets, message.envelope.clone(), |verdict, _| {
                    keep.then(|| verdict.to_json(id.unwrap_or_default()))
                });
                if let Some(line) = judged.unwrap_or_else(|error| Some(error_line(id, error))) {
                    kept.push((start + at, line));
                }
            }
        }
    }

    fn write(&self, mut kept: Kept) -> Result<(), Failure> {
        kept.sort_unstable_by_key(|(at, _)| *at);
        let mut kept = kept.into_iter().peekable();
        let mut out = BufWriter::new(io::stdout());
        for (at, line) in self.lines.iter().enumerate() {
            let written = match (kept.next_if(|(place, _)| *place == at), &line.message) {
                (Some((_, written)), _) => written,
                (None, Err(error)) => error_line(line.id.as_deref(), error),
                (None, Ok(_)) => error_line(line.id.as_deref(), "not judged"),
            };
            writeln!(out, "{written}").map_err(Failure::Output)?;
        }
        out.flush().map_err(Failure::Output)
    }
}

/// The closing line on standard error.
fn summarize(what: &str, cost: &Cost) {
    let peak = peak_resident_bytes()
        .map_or_else(String::new, |bytes| format!(", {:.1} MiB peak RSS", bytes as f64 / (1024.0 * 1024.0)));
    note(format_args!("{what}{cost}{peak}"));
}

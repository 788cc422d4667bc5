//! `mailproof verify --batch`: a stream of messages with their envelopes, one verdict a line in the order of the stream.
//!
//! One thread reads lines; the threads that verify do all the rest: JSON, base64 or the file, the verdict and its line.
//! With answers at hand a message stays on one thread from its line to its verdict: handed to a worker of the engine it
//! costs more, see [`judge`](crate::judge).

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use mailproof::Engine;
use mailproof_proto::verification::Envelope;

use crate::arguments::VerifyArguments;
use crate::failure::Failure;
use crate::input::{BatchLine, BatchLines, BatchMessage, BatchReader, InputError};
use crate::judge::{self, Judge};
use crate::measure::{Cost, CpuMeter, peak_resident_bytes};
use crate::pipeline::{self, Job, Work, Worker};
use crate::verify::error_line;
use crate::words::note;

/// Runs the subcommand.
///
/// # Errors
/// What ends the run, or was met on the way. A bad line of the stream is neither: it has its own line of output.
pub(crate) fn run(arguments: &VerifyArguments, stream: &Path) -> Result<(), Failure> {
    let thread_count = arguments.threads.map_or_else(pipeline::threads_default, usize::from);
    let engine = judge::engine(&arguments.dns, judge::options(&arguments.judge), arguments.judge.now, thread_count)?;
    let lines = BatchLines::new(open(stream)?);
    let run = Run { engine: &engine, thread_count, reader: BatchReader::new(stream.parent().map(Path::to_owned)) };
    match arguments.batch.passes {
        None => run.once(lines)?,
        Some(passes) => run.several(lines, passes)?,
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

/// A run over a stream.
struct Run<'a> {
    engine: &'a Engine,
    thread_count: usize,
    reader: BatchReader,
}

impl Run<'_> {
    /// Reads, judges and writes as the stream comes.
    fn once(&self, lines: impl Iterator<Item = BatchLine> + Send) -> Result<(), Failure> {
        let (started, meter) = (Instant::now(), CpuMeter::start());
        let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout());
        let mut cost = Cost::default();
        pipeline::run(
            lines,
            self.thread_count,
            || self.clerk(true),
            |written: Written| {
                cost.add(&written);
                writeln!(out, "{}", written.line).map_err(Failure::Output)
            },
        )?;
        out.flush().map_err(Failure::Output)?;
        (cost.elapsed, cost.cpu) = (started.elapsed(), meter.total());
        summarize("", &cost);
        self.tell_dns();
        Ok(())
    }

    /// Holds the messages in memory and judges them several times over; the last verdicts are written.
    fn several(&self, lines: impl Iterator<Item = BatchLine>, passes: u32) -> Result<(), Failure> {
        let lines: Vec<Read> = lines.map(|line| Read::from(self.reader.read(line, Vec::new()))).collect();
        let mut whole = Cost::default();
        let mut kept = Vec::new();
        for pass in 1..=passes {
            let (started, meter) = (Instant::now(), CpuMeter::start());
            let mut cost = Cost::default();
            let is_last = pass == passes;
            // Lines take less memory than verdicts, and less time than the page faults of keeping those.
            pipeline::run(
                lines.iter(),
                self.thread_count,
                || self.clerk(is_last),
                |written: Written| {
                    cost.add(&written);
                    if is_last {
                        kept.push(written.line);
                    }
                    Ok(())
                },
            )?;
            (cost.elapsed, cost.cpu) = (started.elapsed(), meter.total());
            let warmth = if pass == 1 { "cold" } else { "warm" };
            note(format_args!("pass {pass} of {passes}, {warmth}: {cost}"));
            whole.messages += cost.messages;
            whole.octets += cost.octets;
            whole.elapsed += cost.elapsed;
            whole.cpu += cost.cpu;
        }
        let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout());
        kept.iter().try_for_each(|line| writeln!(out, "{line}")).map_err(Failure::Output)?;
        out.flush().map_err(Failure::Output)?;
        summarize("all passes: ", &whole);
        self.tell_dns();
        Ok(())
    }

    fn clerk(&self, writes: bool) -> Clerk<'_> {
        Clerk { judge: Judge::new(self.engine.clone()), reader: &self.reader, room: Vec::new(), writes }
    }

    /// What the DNS had to do with it, where that was the network.
    fn tell_dns(&self) {
        if self.engine.backend().is_none() {
            return;
        }
        let (asked, cache) = (self.engine.network_statistics(), self.engine.cache_statistics());
        note(format_args!(
            "DNS: {} questions asked, {} joined one that was, {} failed, {} queries by UDP and {} by TCP, {} cache hits; {}",
            asked.lookups,
            asked.joined,
            asked.failures,
            asked.udp_queries,
            asked.tcp_queries,
            cache.hits,
            mailproof_explain::source(self.engine),
        ));
    }
}

/// Octets that are written at once.
const OUTPUT_BUFFER_BYTES: usize = 64 * 1024;

/// A line of the stream in memory: a message, or why there is none.
struct Read {
    id: Option<String>,
    message: Result<Message, String>,
}

struct Message {
    octets: Vec<u8>,
    envelope: Envelope,
}

impl From<Result<BatchMessage, InputError>> for Read {
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

impl Job for BatchLine {
    fn octets(&self) -> usize {
        self.len()
    }
}

impl Job for &Read {
    /// It is in memory anyway.
    fn octets(&self) -> usize {
        0
    }
}

/// Judges a line of the stream and writes the one that answers it.
struct Clerk<'a> {
    judge: Judge,
    reader: &'a BatchReader,
    /// Memory for the next message.
    room: Vec<u8>,
    /// The verdicts of this pass are wanted.
    writes: bool,
}

struct Written {
    line: String,
    is_judged: bool,
    octets: u64,
}

impl Worker<BatchLine> for Clerk<'_> {
    type Outcome = Written;

    fn work(&mut self, line: BatchLine) -> Work<Written> {
        let read = Read::from(self.reader.read(line, std::mem::take(&mut self.room)));
        let work = self.work(&read);
        if let Ok(message) = read.message
            && message.octets.capacity() <= ROOM_BYTES_MAX
        {
            self.room = message.octets;
        }
        work
    }
}

/// Memory for a message that is kept for the next one.
const ROOM_BYTES_MAX: usize = 1024 * 1024;

impl Worker<&Read> for Clerk<'_> {
    type Outcome = Written;

    fn work(&mut self, read: &Read) -> Work<Written> {
        let id = read.id.clone();
        let message = match &read.message {
            Ok(message) => message,
            Err(error) => {
                return Work::Done(Written { line: error_line(id.as_deref(), error), is_judged: false, octets: 0 });
            }
        };
        let (octets, writes, named) = (message.octets.len() as u64, self.writes, id.clone());
        let judged = self.judge.judge(&message.octets, message.envelope.clone(), move |verdict, _| {
            if writes { verdict.to_json(id.as_deref().unwrap_or_default()) } else { String::new() }
        });
        judged.map(move |judged| {
            let is_judged = judged.is_ok();
            let line = judged.unwrap_or_else(|error| error_line(named.as_deref(), error));
            Written { line, is_judged, octets }
        })
    }
}

impl Cost {
    fn add(&mut self, written: &Written) {
        self.messages += u64::from(written.is_judged);
        self.refused += u64::from(!written.is_judged);
        self.octets += written.octets;
    }
}

/// The closing line on standard error.
fn summarize(what: &str, cost: &Cost) {
    let peak = peak_resident_bytes()
        .map_or_else(String::new, |bytes| format!(", {:.1} MiB peak RSS", bytes as f64 / (1024.0 * 1024.0)));
    note(format_args!("{what}{cost}{peak}"));
}

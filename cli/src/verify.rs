//! `mailproof verify`: messages from files, judged one after the other, told as a table, as JSON or as header fields.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use mailproof_proto::message::{FieldKind, Headers};
use mailproof_proto::verdict::Verdict;
use mailproof_proto::verification::Envelope;

use crate::arguments::{EnvelopeArguments, VerifyArguments};
use crate::failure::Failure;
use crate::input::{self, Entry};
use crate::judge::{self, Judge};
use crate::measure::CpuMeter;
use crate::pipeline::{self, Worker};
use crate::report::{self, Counts, HEADINGS};
use crate::second_opinion::CrossCheck;
use crate::table::{Cell, Layout, Tone};
use crate::trace::Trace;
use crate::words::{listed, visible};

/// Rows from which the widths of the columns are found; those after them are written as they come.
const LAYOUT_ROWS: usize = 256;
/// How long a run takes before it shows how far it is.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// Runs the subcommand.
///
/// # Errors
/// What ends the run, or was met on the way.
pub(crate) fn run(arguments: &VerifyArguments) -> Result<(), Failure> {
    let started = Instant::now();
    let engine = judge::engine(&arguments.dns, judge::options(&arguments.judge), arguments.judge.now)?;
    let known = given(&arguments.envelope);
    if arguments.envelope.ip.is_none() && !arguments.envelope.from_trace {
        eprintln!("mailproof: SPF is left out: give --ip, --helo and --mail-from, or --from-trace for delivered mail");
    }
    let style = match (arguments.json, arguments.header) {
        (true, _) => Style::Json,
        (_, true) => Style::Header,
        _ => Style::Table,
    };
    let cross_check = arguments.cross_check.then(|| CrossCheck::new(&engine)).transpose()?;
    let thread_count = arguments.threads.map_or_else(pipeline::threads_default, usize::from);
    let teller = |_| Teller {
        judge: Judge::new(engine.clone()),
        style,
        known: &known,
        from_trace: arguments.envelope.from_trace,
        cross_check: cross_check.clone(),
    };
    let workers = (0..thread_count).map(teller).collect();
    let mut output = Output::new(style, input::total_bytes(&arguments.files));
    let entries = input::entries(&arguments.files);
    pipeline::run(entries, workers, &CpuMeter::start(), |told| output.take(told))?;
    output.finish(started.elapsed())?;
    if let Some(failure) = output.dns.failure(&arguments.dns) {
        return Err(failure);
    }
    match output.missing {
        0 => Ok(()),
        count => Err(Failure::SomeMissing { count }),
    }
}

/// The envelope that the command line names.
#[derive(Debug)]
pub(crate) struct Given {
    envelope: Envelope,
    helo: Option<String>,
    mail_from: Option<String>,
}

/// Reads the options; angle brackets round an address are taken off.
pub(crate) fn given(arguments: &EnvelopeArguments) -> Given {
    let mail_from = arguments.mail_from.as_deref().map(str::trim);
    let inner = |text: &str| text.strip_prefix('<').and_then(|it| it.strip_suffix('>')).unwrap_or(text).to_owned();
    let (helo, mail_from) = (arguments.helo.clone(), mail_from.map(inner));
    let envelope = Envelope {
        ip: arguments.ip,
        helo: helo.clone().unwrap_or_default(),
        mail_from: mail_from.clone().unwrap_or_default(),
    };
    Given { envelope, helo, mail_from }
}

impl Given {
    /// The envelope of one message: what was given, and where the trace may be asked, what it says for the rest.
    pub(crate) fn envelope(&self, message: &[u8], from_trace: bool) -> Envelope {
        if !from_trace {
            return self.envelope.clone();
        }
        let trace = Trace::read(message);
        Envelope {
            ip: self.envelope.ip.or(trace.ip),
            helo: self.helo.clone().or(trace.helo).unwrap_or_default(),
            mail_from: self.mail_from.clone().or(trace.mail_from).unwrap_or_default(),
        }
    }
}

/// How verdicts are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Style {
    Table,
    Json,
    Header,
}

/// Judges an entry and puts the outcome into words.
struct Teller<'a> {
    judge: Judge,
    style: Style,
    known: &'a Given,
    from_trace: bool,
    cross_check: Option<CrossCheck>,
}

/// One entry on its way out.
struct Told {
    text: Text,
    counts: Counts,
    is_missing: bool,
    /// Octets of the input that it stands for.
    octets: u64,
    dns: judge::DnsTally,
    disagreements: Vec<String>,
    id: String,
}

enum Text {
    Row(Vec<Cell>),
    Line(String),
}

impl Worker<Entry> for Teller<'_> {
    type Outcome = Told;

    fn work(&mut self, entry: Entry) -> Told {
        let octets = match &entry.octets {
            Ok(octets) => octets,
            Err(error) => return self.refuse(&entry, &error.to_string(), error.is_missing()),
        };
        let envelope = self.known.envelope(octets, self.from_trace);
        let (style, mut counts) = (self.style, Counts::default());
        let second = self.cross_check.is_some().then(|| envelope.clone());
        let told = self.judge.judge(octets, envelope, |verdict, session| {
            counts.add(verdict);
            let differences = second.zip(self.cross_check.as_ref()).map(|(envelope, check)| {
                check.differences(octets, &envelope, verdict)
            });
            (text(style, &entry, verdict, session.headers()), differences)
        });
        let (text, differences) = match told {
            Ok(told) => told,
            Err(error) => return self.refuse(&entry, error, false),
        };
        if let Some(differences) = &differences {
            counts.compared = 1;
            counts.disagreements = u64::from(!differences.is_empty());
        }
        Told {
            text,
            counts,
            is_missing: false,
            octets: octets.len() as u64,
            dns: std::mem::take(&mut self.judge.dns),
            disagreements: differences.unwrap_or_default(),
            id: entry.id,
        }
    }
}

impl Teller<'_> {
    fn refuse(&self, entry: &Entry, error: &str, is_missing: bool) -> Told {
        let text = match self.style {
            Style::Table => Text::Row(report::error_row(&entry.label(), error)),
            Style::Json => Text::Line(error_line(Some(&entry.id), error)),
            Style::Header => Text::Line(format!("# {}: not judged: {}", visible(&entry.id), visible(error))),
        };
        let counts = Counts { unreadable: 1, ..Counts::default() };
        let dns = judge::DnsTally::default();
        Told { text, counts, is_missing, octets: 0, dns, disagreements: Vec::new(), id: entry.id.clone() }
    }
}

/// The object that stands in the place of a verdict that there is none of.
pub(crate) fn error_line(id: Option<&str>, error: &str) -> String {
    serde_json::json!({ "id": id, "error": error }).to_string()
}

fn text(style: Style, entry: &Entry, verdict: &Verdict, headers: Headers<'_>) -> Text {
    match style {
        Style::Json => Text::Line(verdict.to_json(&entry.id)),
        Style::Header => Text::Line(format!("Authentication-Results: {}", verdict.authentication_results)),
        Style::Table => Text::Row(report::row(&name_of(entry, headers), verdict)),
    }
}

/// What a message is called in the table: a file of its own by its name, a message in a mailbox by its Message-ID.
fn name_of(entry: &Entry, headers: Headers<'_>) -> String {
    let message_id = headers.of_kind(FieldKind::MessageId).next().map(|field| {
        let text = String::from_utf8_lossy(field.value);
        text.trim().trim_start_matches('<').trim_end_matches('>').to_owned()
    });
    match message_id.filter(|id| entry.is_in_mailbox() && !id.is_empty()) {
        Some(id) => id,
        None => entry.label(),
    }
}

/// Writes what comes out of the workers: rows in a table, lines as they are.
struct Output {
    style: Style,
    out: Box<dyn Write>,
    progress: ProgressBar,
    /// Rows held back until the widths of the columns are known.
    held: Vec<Vec<Cell>>,
    layout: Option<Layout>,
    counts: Counts,
    dns: judge::DnsTally,
    missing: u64,
}

impl Output {
    fn new(style: Style, total_bytes: Option<u64>) -> Self {
        let out: Box<dyn Write> = match style {
            Style::Table => Box::new(anstream::stdout()),
            Style::Json | Style::Header => Box::new(io::BufWriter::new(io::stdout())),
        };
        Self {
            style,
            out,
            progress: progress(total_bytes),
            held: Vec::new(),
            layout: None,
            counts: Counts::default(),
            dns: judge::DnsTally::default(),
            missing: 0,
        }
    }

    fn take(&mut self, told: Told) -> Result<(), Failure> {
        self.counts.merge(&told.counts);
        self.dns.merge(told.dns);
        self.missing += u64::from(told.is_missing);
        self.progress.inc(told.octets);
        self.progress.set_message(crate::words::counted(self.counts.messages, "message"));
        if !told.disagreements.is_empty() {
            let line = format!("mailproof: cross-check: {}: {}", visible(&told.id), listed(&told.disagreements));
            self.progress.suspend(|| eprintln!("{line}"));
        }
        match told.text {
            Text::Line(line) => writeln!(self.out, "{line}").map_err(Failure::Output),
            Text::Row(row) if self.layout.is_none() && self.held.len() < LAYOUT_ROWS => {
                self.held.push(row);
                Ok(())
            }
            Text::Row(row) => {
                self.write_held()?;
                self.write_row(&row)
            }
        }
    }

    /// The headings and the rows held back, once.
    fn write_held(&mut self) -> Result<(), Failure> {
        if self.layout.is_some() {
            return Ok(());
        }
        let headings: Vec<Cell> = HEADINGS.iter().map(|heading| Cell::new(*heading, Tone::Strong)).collect();
        let held = std::mem::take(&mut self.held);
        let rows = std::iter::once(&headings).chain(&held).map(Vec::as_slice);
        self.layout = Some(Layout::fit(rows));
        self.write_row(&headings)?;
        held.iter().try_for_each(|row| self.write_row(row))
    }

    fn write_row(&mut self, row: &[Cell]) -> Result<(), Failure> {
        let Some(layout) = &self.layout else { return Ok(()) };
        let line = layout.line(row);
        let out = &mut self.out;
        self.progress.suspend(|| writeln!(out, "{line}")).map_err(Failure::Output)
    }

    fn finish(&mut self, elapsed: Duration) -> Result<(), Failure> {
        self.progress.finish_and_clear();
        if self.style == Style::Table {
            if self.counts.messages + self.counts.unreadable > 0 {
                self.write_held()?;
                writeln!(self.out).map_err(Failure::Output)?;
            }
            writeln!(self.out, "{}", self.counts.summary(elapsed)).map_err(Failure::Output)?;
        } else if self.counts.compared > 0 {
            eprintln!("mailproof: {}", self.counts.summary(elapsed));
        }
        self.out.flush().map_err(Failure::Output)
    }
}

/// A bar on standard error, drawn only on a terminal and only when a run takes longer than a moment.
fn progress(total_bytes: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total_bytes {
        Some(total) => (ProgressBar::new(total), "{bar:40} {percent:>3} %  {msg}, {eta} left"),
        None => (ProgressBar::no_length(), "{spinner} {msg}, {elapsed}"),
    };
    // The template is one of the two above, and both are well-formed.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

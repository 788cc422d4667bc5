//! `mailproof verify`: messages from files, judged one after the other, told as a table, as JSON or as header fields.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mailproof_proto::message::{FieldKind, Headers};
use mailproof_proto::verdict::Verdict;
use mailproof_proto::verification::Envelope;

use crate::arguments::{EnvelopeArguments, VerifyArguments};
use crate::failure::{Failure, words};
use crate::input::{InputCause, InputError, Message, Messages};
use crate::judge::{self, Judge};
use crate::pipeline::{self, Job, Work, Worker};
use crate::report::{self, Counts, DMARC_COLUMN, HEADINGS, WHY_COLUMN};
use crate::second_opinion::CrossCheck;
use crate::table::{Cell, Layout, Tone};
use crate::trace::Trace;
use crate::words::{counted, listed, note, visible};

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
    let thread_count = arguments.threads.map_or_else(pipeline::threads_default, usize::from);
    let engine = judge::engine(&arguments.dns, judge::options(&arguments.judge), arguments.judge.now, thread_count)?;
    let known = given(&arguments.envelope);
    let style = match (arguments.json, arguments.header) {
        (true, _) => Style::Json,
        (_, true) => Style::Header,
        _ => Style::Table,
    };
    let cross_check = arguments.cross_check.then(|| CrossCheck::new(&engine)).transpose()?;
    let teller = || Teller {
        judge: Judge::new(engine.clone()),
        style,
        known: &known,
        from_trace: arguments.envelope.from_trace,
        cross_check: cross_check.clone(),
    };
    let mut output = Output::new(style, total_bytes(&arguments.files));
    let messages = Messages::new(arguments.files.iter().cloned());
    pipeline::run(messages, thread_count, teller, |told| output.take(told))?;
    output.finish(started.elapsed())?;
    if output.counts.messages > 0 && arguments.envelope.ip.is_none() && !arguments.envelope.from_trace {
        note("mailproof: SPF was left out: give --ip, --helo and --mail-from, or --from-trace for delivered mail");
    }
    if let Some(trouble) = output.trouble {
        return Err(Failure::Reported { broke_off: trouble == Trouble::Broken });
    }
    judge::end(&engine)
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

/// Judges a message and puts the outcome into words.
struct Teller<'a> {
    judge: Judge,
    style: Style,
    known: &'a Given,
    from_trace: bool,
    cross_check: Option<CrossCheck>,
}

/// One message on its way out.
struct Told {
    /// For standard output.
    text: Option<Text>,
    /// For standard error.
    note: Option<String>,
    counts: Counts,
    trouble: Option<Trouble>,
    /// Octets of the input that it stands for.
    octets: u64,
}

enum Text {
    Row(Vec<Cell>),
    Line(String),
}

/// What the exit code has to say of a message, the worse below.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Trouble {
    /// It could not be opened.
    Missing,
    /// Reading broke off.
    Broken,
}

impl Worker<Result<Message, InputError>> for Teller<'_> {
    type Outcome = Told;

    fn work(&mut self, message: Result<Message, InputError>) -> Work<Told> {
        let Message { id, octets } = match message {
            Ok(message) => message,
            Err(error) => return Work::Done(self.refuse_unread(&error)),
        };
        let envelope = self.known.envelope(&octets, self.from_trace);
        let (style, count, named) = (self.style, octets.len() as u64, id.clone());
        let second = self.cross_check.clone().map(|check| (check, envelope.clone(), octets.clone()));
        let told = self.judge.judge(&octets, envelope, move |verdict, session| {
            let mut counts = Counts::default();
            counts.add(verdict);
            let differences = second.map(|(check, envelope, octets)| check.differences(&octets, &envelope, verdict));
            counts.compared = u64::from(differences.is_some());
            let differences = differences.filter(|differences| !differences.is_empty());
            counts.disagreements = u64::from(differences.is_some());
            let note = differences
                .map(|differences| format!("mailproof: cross-check: {}: {}", visible(&id), listed(&differences)));
            let text = Some(text(style, &id, verdict, session.headers()));
            Told { text, note, counts, trouble: None, octets: count }
        });
        told.map(move |told| told.unwrap_or_else(|error| refuse(style, &named, error)))
    }
}

impl Job for Result<Message, InputError> {
    fn octets(&self) -> usize {
        self.as_ref().map_or(0, |message| message.octets.len())
    }
}

impl Teller<'_> {
    fn refuse_unread(&self, error: &InputError) -> Told {
        let trouble = match &error.cause {
            InputCause::Read(cause) if !is_missing(cause) => Some(Trouble::Broken),
            InputCause::Read(_) | InputCause::NoMessages => Some(Trouble::Missing),
            _ => None,
        };
        let id = error.id.clone().unwrap_or_else(|| error.place.to_string());
        let what = match &error.cause {
            InputCause::Read(cause) => words(cause),
            cause => cause.to_string(),
        };
        let mut told = refuse(self.style, &id, &what);
        if trouble.is_some() {
            // What is no message has no place in a table of messages.
            told.text = told.text.filter(|_| self.style != Style::Table);
            told.note = Some(format!("mailproof: {}: {what}; check the path", visible(&error.place.to_string())));
        }
        Told { trouble, ..told }
    }
}

fn refuse(style: Style, id: &str, error: &str) -> Told {
    let text = match style {
        Style::Table => Text::Row(report::error_row(id, error)),
        Style::Json => Text::Line(error_line(Some(id), error)),
        Style::Header => Text::Line(format!("# {}: not judged: {}", visible(id), visible(error))),
    };
    let counts = Counts { unreadable: 1, ..Counts::default() };
    Told { text: Some(text), note: None, counts, trouble: None, octets: 0 }
}

/// True when the file is not there or not for us, rather than broken.
fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

/// The object that stands in the place of a verdict that there is none of.
pub(crate) fn error_line(id: Option<&str>, error: &str) -> String {
    serde_json::json!({ "id": id, "error": error }).to_string()
}

fn text(style: Style, id: &str, verdict: &Verdict, headers: Headers<'_>) -> Text {
    match style {
        Style::Json => Text::Line(verdict.to_json(id)),
        Style::Header => Text::Line(format!("Authentication-Results: {}", verdict.authentication_results)),
        Style::Table => Text::Row(report::row(&name_of(id, headers, verdict), verdict)),
    }
}

/// What a message is called in the table: a `.eml` file by its name, another by its Message-ID, which says more than its
/// place in a mailbox. A right part that the From column shows is left out.
fn name_of(id: &str, headers: Headers<'_>, verdict: &Verdict) -> String {
    let is_eml = id.len() > EML.len() && id.to_ascii_lowercase().ends_with(EML);
    let field = headers.of_kind(FieldKind::MessageId).next().filter(|_| !is_eml);
    let text = field.map(|field| String::from_utf8_lossy(field.value).into_owned()).unwrap_or_default();
    let message_id = text.trim().trim_start_matches('<').trim_end_matches('>');
    let from = verdict.dmarc.from_domain.map(|domain| domain.to_string()).unwrap_or_default();
    match message_id.rsplit_once('@') {
        Some((left, right)) if !left.is_empty() && right.eq_ignore_ascii_case(&from) => left.to_owned(),
        _ if message_id.is_empty() => id.to_owned(),
        _ => message_id.to_owned(),
    }
}

const EML: &str = ".eml";

/// Octets of all the files named; `None` where one of them does not say.
fn total_bytes(files: &[PathBuf]) -> Option<u64> {
    let size = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        if metadata.is_file() { Some(metadata.len()) } else { None }
    };
    files.iter().map(size).sum()
}

/// Writes what comes out of the workers: rows in a table, lines as they are.
struct Output {
    style: Style,
    out: Box<dyn Write + Send>,
    progress: ProgressBar,
    /// Rows held back until the widths of the columns are known.
    held: Vec<Vec<Cell>>,
    layout: Option<Layout>,
    /// Width of the terminal, where there is one.
    columns: Option<usize>,
    counts: Counts,
    trouble: Option<Trouble>,
    started: Instant,
}

impl Output {
    fn new(style: Style, total_bytes: Option<u64>) -> Self {
        let out: Box<dyn Write + Send> = match style {
            Style::Table => Box::new(anstream::stdout()),
            Style::Json | Style::Header => Box::new(io::BufWriter::new(io::stdout())),
        };
        Self {
            style,
            out,
            progress: progress(total_bytes),
            held: Vec::new(),
            layout: None,
            columns: terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0)),
            counts: Counts::default(),
            trouble: None,
            started: Instant::now(),
        }
    }

    fn take(&mut self, told: Told) -> Result<(), Failure> {
        self.counts.merge(&told.counts);
        self.trouble = self.trouble.max(told.trouble);
        self.show_progress(told.octets);
        if let Some(line) = told.note {
            self.progress.suspend(|| note(&line));
        }
        match told.text {
            None => Ok(()),
            Some(Text::Line(line)) => writeln!(self.out, "{line}").map_err(Failure::Output),
            Some(Text::Row(row)) if self.layout.is_none() && self.held.len() < LAYOUT_ROWS => {
                self.held.push(row);
                Ok(())
            }
            Some(Text::Row(row)) => {
                self.write_held()?;
                self.write_row(&row)
            }
        }
    }

    fn show_progress(&mut self, octets: u64) {
        self.progress.inc(octets);
        if self.progress.is_hidden() && self.started.elapsed() > PROGRESS_AFTER && io::stderr().is_terminal() {
            self.progress.set_draw_target(ProgressDrawTarget::stderr());
        }
        if !self.progress.is_hidden() {
            self.progress.set_message(counted(self.counts.messages, "message"));
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
        let mut lines = layout.line(row);
        if self.columns.is_some_and(|columns| layout.width(row.len()) > columns) {
            // The reason goes below its row, and only where something is wrong.
            let (short, why) = row.split_at(WHY_COLUMN.min(row.len()));
            lines = layout.line(short);
            let passed = row.get(DMARC_COLUMN).is_some_and(|cell| matches!(cell.tone, Tone::Good | Tone::Strong));
            if let Some(why) = why.first().filter(|why| !passed && !why.text.is_empty()) {
                lines = format!("{lines}\n    {}", why.tone.paint(&why.text));
            }
        }
        let out = &mut self.out;
        self.progress.suspend(|| writeln!(out, "{lines}")).map_err(Failure::Output)
    }

    fn finish(&mut self, elapsed: Duration) -> Result<(), Failure> {
        self.progress.finish_and_clear();
        if self.style == Style::Table {
            if self.layout.is_some() || !self.held.is_empty() {
                self.write_held()?;
                writeln!(self.out).map_err(Failure::Output)?;
            }
            writeln!(self.out, "{}", self.counts.summary(elapsed)).map_err(Failure::Output)?;
        } else if self.counts.compared > 0 {
            note(format_args!("mailproof: {}", self.counts.summary(elapsed)));
        }
        self.out.flush().map_err(Failure::Output)
    }
}

/// A bar for standard error, hidden at first: it is shown on a terminal, when a run takes longer than a moment.
fn progress(total_bytes: Option<u64>) -> ProgressBar {
    let (length, template) = match total_bytes {
        Some(_) => (total_bytes, "{bar:40} {percent:>3} %  {msg}, {eta} left"),
        None => (None, "{spinner} {msg}, {elapsed}"),
    };
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
    // The template is one of the two above, and both are well-formed.
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

//! The cache as text, so that a program that starts again starts warm.
//!
//! The form, version 1: lines of ASCII that end with LF. The first is `mailproof-cache 1`. A line that begins with `;`
//! is a comment, an empty one nothing; every other line is one entry, of words with single spaces between:
//!
//! ```text
//! example.org. TXT 1795392060.250 300 - records "v=spf1 mx -all" | "site=1"
//! example.org. MX 1795392060 300 ad records 10 mx.example.org. | 20 mx2.example.org.
//! example.org. AAAA 1795390000 60 no-ad nodata
//! gone.example.org. * 1795390000 60 - nxdomain
//! alias.example.org. TXT 1795390000 60 - nxdomain gone.example.org.
//! ```
//!
//! 1. The name, absolute. Octets that are no letter, digit, hyphen or underscore are written `\DDD` (RFC 1035 section 5.1).
//! 2. The type; `*` where the name itself does not exist, which answers every type.
//! 3. The moment at which the entry ends, in seconds since 1970-01-01 00:00 UTC, with up to three decimals.
//! 4. The time to live that the answer came with, in seconds.
//! 5. The AD bit of a resolver that was trusted: `ad`, `no-ad`, or `-` where none was.
//! 6. `records`, `nodata` or `nxdomain`.
//! 7. The records in the presentation form of RFC 1035, `|` between them; after `nxdomain`, the end of a CNAME chain where
//!    that is what does not exist.
//!
//! The lines of type `*` come last: records at a name whose absence was read before are left out, as what the cache knows
//! is taken to be newer. Failures are not written: after a start everybody deserves a new chance.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use mailproof_proto::dns::{Answer, Mx, Name, Outcome, Question, RecordSet, RecordType, Txt};
use mailproof_proto::limits::ANSWER_RECORDS_MAX;
use mailproof_proto::time::Timestamp;

use super::{Cache, Key};

/// What came of loading a dump.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Loaded {
    /// Entries that are in the cache now.
    pub kept: u64,
    /// Entries left out because the cache knew an answer already, which is newer.
    pub known: u64,
    /// Entries whose time was over.
    pub expired: u64,
    /// Lines that are no entry.
    pub bad: u64,
    /// The dump is larger than the cache could hold, and its rest was not read.
    pub is_cut: bool,
}

/// Why nothing, or not everything, was loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The first line is not that of a dump.
    #[error("no dump of a cache: the first line is not `{HEADER} {VERSION}`")]
    NoDump,
    /// A dump of a form that this version does not know.
    #[error("a dump of another version than {VERSION}")]
    OtherVersion,
    /// The dump can not be read on. What was read before is in the cache.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Octets of a line, its end included. Longer ones are neither written nor read.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Octets read from a dump, for each that the cache may hold. An entry as text takes less than eight times what it weighs.
pub const DUMP_BYTES_PER_CACHE_BYTE: u64 = 8;

const HEADER: &str = "mailproof-cache";
const VERSION: u32 = 1;
/// Octets of one character-string (RFC 1035 section 3.3).
const STRING_BYTES_MAX: usize = 255;

impl Cache {
    /// Writes every answer that may be used at `now`; gives how many there were.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn dump(&self, now: Timestamp, writer: &mut dyn Write) -> io::Result<u64> {
        let mut out = BufWriter::new(writer);
        writeln!(out, "{HEADER} {VERSION}\n; NAME TYPE END TTL AD OUTCOME DATA, written at {}", now.seconds())?;
        let (mut line, mut count) = (String::new(), 0);
        for of_every_type in [false, true] {
            for (key, entry) in self.entries.entries() {
                if entry.details.expires <= now
                    || entry.details.late_ms > 0
                    || key.starts_with(&Key::EVERY_TYPE) != of_every_type
                {
                    continue;
                }
                line.clear();
                let is_entry = write_entry(&key, &entry.answer, entry.details.expires, &mut line).is_some();
                if is_entry && line.len() <= LINE_BYTES_MAX {
                    out.write_all(line.as_bytes())?;
                    count += 1;
                }
            }
        }
        out.flush()?;
        Ok(count)
    }

    /// Takes in a dump. An entry is kept for what was left of its time, and never longer than the options allow for an
    /// answer that comes now; what the cache knows already stays. The AD bits count only where `trusts_ad`.
    ///
    /// # Errors
    /// [`LoadError`] when this is no dump, or it can not be read.
    pub fn load(&self, reader: &mut dyn Read, now: Timestamp, trusts_ad: bool) -> Result<Loaded, LoadError> {
        let bytes_max = self.options.bytes_max.saturating_mul(DUMP_BYTES_PER_CACHE_BYTE);
        let mut lines = Lines { reader: BufReader::new(reader.take(bytes_max.saturating_add(1))), line: Vec::new() };
        match lines.next()? {
            Line::Whole(line) => read_header(line)?,
            _ => return Err(LoadError::NoDump),
        }
        let mut loaded = Loaded::default();
        loop {
            let entry = match lines.next()? {
                Line::End => break,
                Line::Whole(line) if line.is_empty() || line.starts_with(b";") => continue,
                Line::Whole(line) => read_entry(line, trusts_ad),
                Line::TooLong | Line::Torn => None,
            };
            let Some(entry) = entry else {
                loaded.bad += 1;
                continue;
            };
            let count = match self.restore(entry, now) {
                Restored::Kept => &mut loaded.kept,
                Restored::Known => &mut loaded.known,
                Restored::Expired => &mut loaded.expired,
            };
            *count += 1;
        }
        loaded.is_cut = lines.is_cut();
        Ok(loaded)
    }

    fn restore(&self, entry: Dumped, now: Timestamp) -> Restored {
        let time = self.answer_time(&entry.answer);
        let expires = entry.expires.min(now + time);
        if expires <= now {
            return Restored::Expired;
        }
        let mut every_type = Key::new(&Question::new(entry.name, RecordType::A));
        every_type.widen();
        let key = entry.kind.map_or_else(|| every_type.clone(), |kind| Key::new(&Question::new(entry.name, kind)));
        if self.live(key.octets(), now).is_some() || self.live(every_type.octets(), now).is_some() {
            return Restored::Known;
        }
        self.put(&key, entry.answer, (expires, time), 0, now);
        Restored::Kept
    }
}

enum Restored {
    Kept,
    Known,
    Expired,
}

/// An entry as a line has it.
struct Dumped {
    name: Name,
    /// `None` for every type.
    kind: Option<RecordType>,
    expires: Timestamp,
    answer: Answer,
}

/// The line of an entry; `None` when it is not one to be written.
fn write_entry(key: &[u8], answer: &Answer, expires: Timestamp, line: &mut String) -> Option<()> {
    let (code, wire) = key.split_first_chunk()?;
    write_name(&Name::from_wire(wire).ok()?, line);
    let kind = match u16::from_be_bytes(*code) {
        0 => "*".to_owned(),
        code => RecordType::from_code(code)?.to_string(),
    };
    let (seconds, milliseconds) = (expires.seconds(), expires.milliseconds() % 1000);
    let decimals = if milliseconds == 0 { String::new() } else { format!(".{milliseconds:03}") };
    let authentic = match answer.authentic() {
        Some(true) => "ad",
        Some(false) => "no-ad",
        None => "-",
    };
    let ttl_seconds = answer.ttl_seconds()?;
    line.push_str(&format!(" {kind} {seconds}{decimals} {ttl_seconds} {authentic} "));
    match answer.outcome() {
        Outcome::Records(records) => {
            line.push_str("records ");
            write_records(records, line)?;
        }
        Outcome::NoData => line.push_str("nodata"),
        Outcome::NxDomain => {
            line.push_str("nxdomain");
            if let Some(denied) = answer.denied_name() {
                line.push(' ');
                write_name(denied, line);
            }
        }
        Outcome::Failed(_) => return None,
    }
    line.push('\n');
    Some(())
}

fn write_records(records: &RecordSet, line: &mut String) -> Option<()> {
    match records {
        RecordSet::A(it) => write_each(it, line, |address, line| line.push_str(&address.to_string())),
        RecordSet::Aaaa(it) => write_each(it, line, |address, line| line.push_str(&address.to_string())),
        RecordSet::Mx(it) => write_each(it, line, |mx, line| {
            line.push_str(&format!("{} ", mx.preference));
            match &mx.exchange {
                Some(host) => write_name(host, line),
                None => line.push('.'),
            }
        }),
        RecordSet::Ptr(it) => write_each(it, line, write_name),
        RecordSet::Txt(it) => write_each(it, line, |txt, line| write_text(&txt.0, line)),
        // A type that this form has no words for.
        _ => return None,
    }
    Some(())
}

fn write_each<R>(records: &[R], line: &mut String, write: impl Fn(&R, &mut String)) {
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            line.push_str(" | ");
        }
        write(record, line);
    }
}

fn write_name(name: &Name, line: &mut String) {
    for label in name.labels() {
        for &octet in label {
            write_octet(octet, octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'), line);
        }
        line.push('.');
    }
    if name.label_count() == 0 {
        line.push('.');
    }
}

/// A text as character-strings.
fn write_text(text: &[u8], line: &mut String) {
    let mut strings = text.chunks(STRING_BYTES_MAX);
    let mut next = Some(strings.next().unwrap_or_default());
    while let Some(string) = next {
        line.push('"');
        for &octet in string {
            let is_plain = octet == b' ' || octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\');
            write_octet(octet, is_plain, line);
        }
        line.push('"');
        next = strings.next();
        if next.is_some() {
            line.push(' ');
        }
    }
}

fn write_octet(octet: u8, is_plain: bool, line: &mut String) {
    if is_plain {
        line.push(char::from(octet));
    } else {
        line.push('\\');
        for digit in [octet / 100, octet / 10 % 10, octet % 10] {
            line.push(char::from(b'0' + digit));
        }
    }
}

/// The lines of a dump.
struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
}

enum Line<'a> {
    /// A line, without its end.
    Whole(&'a [u8]),
    /// A line over the limit.
    TooLong,
    /// The last line has no end: what it says may be a part only.
    Torn,
    End,
}

impl<R: Read> Lines<io::Take<R>> {
    fn next(&mut self) -> io::Result<Line<'_>> {
        self.line.clear();
        let count = (&mut self.reader).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut self.line)?;
        if count == LINE_BYTES_MAX && !self.line.ends_with(b"\n") {
            self.skip_line()?;
            return Ok(Line::TooLong);
        }
        let is_cut = self.is_cut();
        Ok(match self.line.strip_suffix(b"\n") {
            Some(line) => Line::Whole(line),
            None if count == 0 || is_cut => Line::End,
            None => Line::Torn,
        })
    }

    /// There is more than may be read.
    fn is_cut(&self) -> bool {
        self.reader.buffer().is_empty() && self.reader.get_ref().limit() == 0
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let octets = self.reader.fill_buf()?;
            let (end, count) = match octets.iter().position(|&octet| octet == b'\n') {
                Some(at) => (true, at + 1),
                None => (octets.is_empty(), octets.len()),
            };
            self.reader.consume(count);
            if end {
                return Ok(());
            }
        }
    }
}

fn read_header(line: &[u8]) -> Result<(), LoadError> {
    let version = line.strip_prefix(HEADER.as_bytes()).and_then(|rest| rest.strip_prefix(b" "));
    match version.and_then(number::<u32>) {
        Some(VERSION) => Ok(()),
        Some(_) => Err(LoadError::OtherVersion),
        None => Err(LoadError::NoDump),
    }
}

fn read_entry(line: &[u8], trusts_ad: bool) -> Option<Dumped> {
    let mut words = Words(line);
    let name = read_name(words.next()?)?;
    let kind = match words.next()? {
        b"*" => None,
        word => Some(RecordType::from_word(std::str::from_utf8(word).ok()?)?),
    };
    let expires = read_moment(words.next()?)?;
    let ttl_seconds = Some(number(words.next()?)?);
    let authentic = match words.next()? {
        b"ad" => Some(true),
        b"no-ad" => Some(false),
        b"-" => None,
        _ => return None,
    };
    let authentic = authentic.filter(|_| trusts_ad);
    let answer = match (words.next()?, kind) {
        (b"records", Some(kind)) => {
            let records = Outcome::Records(read_records(&mut words, kind)?);
            Answer::with_authenticity(records, ttl_seconds, authentic)
        }
        (b"nodata", Some(_)) => Answer::with_authenticity(Outcome::NoData, ttl_seconds, authentic),
        (b"nxdomain", None) => Answer::with_authenticity(Outcome::NxDomain, ttl_seconds, authentic),
        (b"nxdomain", Some(_)) => Answer::denied_alias(read_name(words.next()?)?, ttl_seconds, authentic),
        _ => return None,
    };
    words.next().is_none().then_some(Dumped { name, kind, expires, answer })
}

fn read_records(words: &mut Words<'_>, kind: RecordType) -> Option<RecordSet> {
    Some(match kind {
        RecordType::A => RecordSet::A(read_each(words, |words| parsed::<Ipv4Addr>(words.next()?))?),
        RecordType::Aaaa => RecordSet::Aaaa(read_each(words, |words| parsed::<Ipv6Addr>(words.next()?))?),
        RecordType::Mx => RecordSet::Mx(read_each(words, |words| {
            let preference = number(words.next()?)?;
            let exchange = match words.next()? {
                b"." => None,
                host => Some(read_name(host)?),
            };
            Some(Mx { preference, exchange })
        })?),
        RecordType::Ptr => RecordSet::Ptr(read_each(words, |words| read_name(words.next()?))?),
        RecordType::Txt => RecordSet::Txt(read_each(words, read_text)?),
        _ => return None,
    })
}

/// Records in order and without duplicates, as they come from the wire.
fn read_each<R: Ord>(words: &mut Words<'_>, read: impl Fn(&mut Words<'_>) -> Option<R>) -> Option<Box<[R]>> {
    let mut records = vec![read(words)?];
    while words.skip(b"|") {
        if records.len() == ANSWER_RECORDS_MAX {
            return None;
        }
        records.push(read(words)?);
    }
    records.sort_unstable();
    records.dedup();
    Some(records.into())
}

fn read_text(words: &mut Words<'_>) -> Option<Txt> {
    let mut text = words.next_string()?;
    while let Some(string) = words.next_string() {
        text.extend_from_slice(&string);
    }
    Some(Txt(text.into()))
}

/// A name; a dot that is not escaped ends a label.
fn read_name(word: &[u8]) -> Option<Name> {
    if word == b"." {
        return Name::from_labels([]).ok();
    }
    let (mut labels, mut rest) = (vec![Vec::new()], word);
    while let Some(&octet) = rest.first() {
        if octet == b'.' {
            labels.push(Vec::new());
            rest = rest.get(1..)?;
        } else {
            let (octet, after) = read_octet(rest)?;
            labels.last_mut()?.push(octet);
            rest = after;
        }
    }
    // The final dot.
    if !labels.pop()?.is_empty() {
        return None;
    }
    Name::from_labels(labels.iter().map(Vec::as_slice)).ok()
}

/// An octet, as it is or as `\DDD` or `\X`, and what follows.
fn read_octet(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [b'\\', digits @ ..] if digits.first().is_some_and(u8::is_ascii_digit) => {
            let (digits, rest) = digits.split_at_checked(3)?;
            Some((number(digits)?, rest))
        }
        [b'\\', octet, rest @ ..] | [octet, rest @ ..] => Some((*octet, rest)),
        [] => None,
    }
}

fn read_moment(word: &[u8]) -> Option<Timestamp> {
    let (seconds, decimals) = match word.iter().position(|&octet| octet == b'.') {
        Some(at) => (word.get(..at)?, word.get(at + 1..)?),
        None => (word, &b"0"[..]),
    };
    let scale = match decimals.len() {
        1 => 100,
        2 => 10,
        3 => 1,
        _ => return None,
    };
    let milliseconds = number::<u64>(decimals)? * scale;
    Some(Timestamp::from_seconds(number(seconds)?) + Duration::from_millis(milliseconds))
}

/// Digits and nothing else.
fn number<N: std::str::FromStr>(word: &[u8]) -> Option<N> {
    if word.iter().all(u8::is_ascii_digit) { parsed(word) } else { None }
}

fn parsed<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// What of a line is not read yet.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().position(|&octet| octet == b' ').unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix(b" ").unwrap_or(rest);
        Some(word)
    }

    /// Passes over a word if it comes next.
    fn skip(&mut self, word: &[u8]) -> bool {
        let rest = self.0.strip_prefix(word).and_then(|rest| rest.strip_prefix(b" "));
        rest.map(|rest| self.0 = rest).is_some()
    }

    /// The character-string that comes next.
    fn next_string(&mut self) -> Option<Vec<u8>> {
        let mut rest = self.0.strip_prefix(b"\"")?;
        let mut string = Vec::new();
        loop {
            if let Some(after) = rest.strip_prefix(b"\"") {
                self.0 = if after.is_empty() { after } else { after.strip_prefix(b" ")? };
                return Some(string);
            }
            let (octet, after) = read_octet(rest)?;
            if string.len() == STRING_BYTES_MAX {
                return None;
            }
            string.push(octet);
            rest = after;
        }
    }
}

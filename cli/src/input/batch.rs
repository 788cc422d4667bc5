//! Batches: one JSON object a line, each a message with its envelope.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{InputCause, InputError, MESSAGE_BYTES_MAX, Place, read_message};

/// The lines of a batch, in order, without empty ones.
///
/// A line is `{"id", "path" or "message_b64", "ip", "helo", "mail_from"}`; [`BatchReader`] makes a message of it, on
/// whatever thread.
#[derive(Debug)]
pub struct BatchLines<R> {
    reader: R,
    line_number: u64,
    message_bytes_max: u64,
    finished: bool,
}

/// A line as it was read, or why it could not be.
#[derive(Debug)]
pub struct BatchLine {
    number: u64,
    octets: Result<Vec<u8>, InputCause>,
}

/// Makes messages of lines. Keys that are not known are passed over. A message from a `path` gets CRLF as
/// [`crlf`](super::crlf) says; one from `message_b64` is taken as it is, to the octet.
#[derive(Clone, Debug)]
pub struct BatchReader {
    message_bytes_max: u64,
    folder: Option<PathBuf>,
}

/// One message of a batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BatchMessage {
    /// As given, or `line-1` and so on.
    pub id: String,
    /// The message.
    pub octets: Vec<u8>,
    /// Address of the SMTP client, when given.
    pub ip: Option<IpAddr>,
    /// HELO or EHLO argument, when given.
    pub helo: Option<String>,
    /// MAIL FROM without angle brackets, when given; empty for the null reverse-path.
    pub mail_from: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    id: Option<String>,
    path: Option<PathBuf>,
    // Borrowed, as it is nearly all of the line; only a text with escapes has to be made anew.
    #[serde(borrow)]
    message_b64: Option<Cow<'a, str>>,
    ip: Option<String>,
    helo: Option<String>,
    mail_from: Option<String>,
}

impl<R: BufRead> BatchLines<R> {
    /// Reads lines from here.
    pub fn new(reader: R) -> Self {
        Self { reader, line_number: 0, message_bytes_max: MESSAGE_BYTES_MAX, finished: false }
    }

    /// Another limit than [`MESSAGE_BYTES_MAX`].
    #[must_use]
    pub fn with_message_bytes_max(mut self, limit: u64) -> Self {
        self.message_bytes_max = limit;
        self
    }

    /// Reads the next line; empty at the end.
    fn read_line(&mut self) -> Result<Vec<u8>, InputCause> {
        let mut line = Vec::new();
        self.line_number += 1;
        let limit = (self.message_bytes_max / 3).saturating_mul(4).saturating_add(LINE_OVERHEAD_BYTES_MAX);
        self.reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
        if line.len() as u64 == limit && !line.ends_with(b"\n") && self.skip_line()? {
            return Err(InputCause::TooLong { limit: self.message_bytes_max });
        }
        Ok(line)
    }

    /// Reads on to the end of the line without keeping it; false when it ended already.
    fn skip_line(&mut self) -> io::Result<bool> {
        let mut skipped = false;
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                return Ok(skipped);
            }
            skipped = true;
            let end = buffer.iter().position(|octet| *octet == b'\n');
            let count = end.map_or(buffer.len(), |at| at + 1);
            self.reader.consume(count);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

impl<R: BufRead> Iterator for BatchLines<R> {
    type Item = BatchLine;

    fn next(&mut self) -> Option<BatchLine> {
        while !self.finished {
            match self.read_line() {
                Ok(line) if line.is_empty() => self.finished = true,
                Ok(line) if line.trim_ascii().is_empty() => {}
                octets => {
                    // Behind an error of the system there is nothing more to read.
                    self.finished = matches!(octets, Err(InputCause::Read(_)));
                    return Some(BatchLine { number: self.line_number, octets });
                }
            }
        }
        None
    }
}

impl BatchLine {
    /// Octets that it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.octets.as_ref().map_or(0, Vec::len)
    }

    /// True when nothing of it could be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl BatchReader {
    /// A reader that looks for relative paths that are not there in this folder too.
    #[must_use]
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { message_bytes_max: MESSAGE_BYTES_MAX, folder }
    }

    /// Another limit than [`MESSAGE_BYTES_MAX`].
    #[must_use]
    pub fn with_message_bytes_max(mut self, limit: u64) -> Self {
        self.message_bytes_max = limit;
        self
    }

    /// The message of a line, in `room`, whose memory it takes and whose content it does not.
    ///
    /// # Errors
    /// Why there is none.
    pub fn read(&self, line: BatchLine, room: Vec<u8>) -> Result<BatchMessage, InputError> {
        let number = line.number;
        let failed = |id: Option<String>, path: Option<PathBuf>, cause| InputError {
            id,
            place: Place::Line(number, path),
            cause,
        };
        let octets = line.octets.map_err(|cause| failed(None, None, cause))?;
        let line: Line<'_> =
            serde_json::from_slice(&octets).map_err(|error| failed(None, None, InputCause::BadLine(error)))?;
        let octets = self.octets(&line, room).map_err(|cause| failed(line.id.clone(), line.path.clone(), cause))?;
        let ip = match line.ip.as_deref().map(str::trim) {
            None | Some("") => None,
            Some(text) => Some(text.parse().map_err(|_| failed(line.id.clone(), None, InputCause::BadAddress))?),
        };
        let id = line.id.unwrap_or_else(|| format!("line-{number}"));
        let without_brackets = |it: String| match it.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
            Some(inside) => inside.to_owned(),
            None => it,
        };
        Ok(BatchMessage { id, octets, ip, helo: line.helo, mail_from: line.mail_from.map(without_brackets) })
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        match (File::open(path), &self.folder) {
            (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound && path.is_relative() => {
                File::open(folder.join(path)).map_err(|_| error)
            }
            (opened, _) => opened,
        }
    }

    fn octets(&self, line: &Line<'_>, mut room: Vec<u8>) -> Result<Vec<u8>, InputCause> {
        room.clear();
        match (&line.path, &line.message_b64) {
            (Some(path), None) => read_message(self.open(path)?, self.message_bytes_max, room),
            (None, Some(text)) => {
                STANDARD.decode_vec(text.as_bytes(), &mut room)?;
                if room.len() as u64 > self.message_bytes_max {
                    return Err(InputCause::TooLong { limit: self.message_bytes_max });
                }
                Ok(room)
            }
            _ => Err(InputCause::NotOneSource),
        }
    }
}

/// What a line may hold beside its message.
const LINE_OVERHEAD_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Vec<String> {
        let reader = BatchReader::new(None).with_message_bytes_max(9);
        let shown = |item: Result<BatchMessage, InputError>| match item {
            Ok(it) => format!("{} {:?}", it.id, String::from_utf8(it.octets).unwrap()),
            Err(error) => error.to_string(),
        };
        let lines = BatchLines::new(lines.as_bytes()).with_message_bytes_max(9);
        lines.map(|line| shown(reader.read(line, b"what was there before".to_vec()))).collect()
    }

    #[test]
    fn a_line_is_a_message_with_its_envelope() {
        let line = r#"{"id":"m-1","message_b64":"QTogYg0K","ip":"192.0.2.1","helo":"mx.example","mail_from":"<a@b.example>","x":1}"#;
        let wanted = BatchMessage {
            id: "m-1".to_owned(),
            octets: b"A: b\r\n".to_vec(),
            ip: Some(IpAddr::from([192, 0, 2, 1])),
            helo: Some("mx.example".to_owned()),
            mail_from: Some("a@b.example".to_owned()),
        };
        let found = BatchLines::new(line.as_bytes()).map(|line| BatchReader::new(None).read(line, Vec::new()).unwrap());
        assert_eq!(found.collect::<Vec<_>>(), [wanted]);
    }

    #[test]
    fn bad_lines_are_named_by_their_number_and_end_nothing() {
        let lines = [
            r#"{"message_b64":"QQ==","mail_from":"<>"}"#,
            "",
            r#"{"id":7}"#,
            "nothing",
            r#"{"id":"a"}"#,
            r#"{"id":"a","path":"x","message_b64":"QQ=="}"#,
            r#"{"id":"a","message_b64":"Q*"}"#,
            r#"{"id":"a","message_b64":"QQ==","ip":"192.0.2.999"}"#,
            r#"{"id":"a","path":"/nonexistent/a.eml"}"#,
            r#"{"id":"nine","message_b64":"QUFBQUFBQUFB","ip":""}"#,
            r#"{"id":"ten","message_b64":"QUFBQUFBQUFBQQ=="}"#,
            &"x".repeat(200_000),
            r#"{"id":"last","message_b64":""}"#,
        ];
        let found = read(&lines.join("\n"));
        let wanted = [
            r#"line-1 "A""#,
            "line 3: no JSON object of a batch: invalid type",
            "line 4: no JSON object of a batch: expected",
            "line 5: a line needs one of path and message_b64",
            "line 6: x: a line needs one of path and message_b64",
            "line 7: message_b64 is no base64",
            "line 8: ip is no address",
            "line 9: /nonexistent/a.eml: No such file",
            r#"nine "AAAAAAAAA""#,
            "line 11: a message of more than 9 octets",
            "line 12: a message of more than 9 octets",
            r#"last """#,
        ];
        assert_eq!(found.len(), wanted.len(), "{found:#?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.starts_with(wanted), "{found}, not {wanted}");
        }
    }
}

//! Batches: one JSON object a line, each a message with its envelope.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{InputCause, InputError, MESSAGE_BYTES_MAX, Place, read_message};

/// The messages of a batch, in order.
///
/// A line is `{"id", "path" or "message_b64", "ip", "helo", "mail_from"}`; keys that are not known are passed over, and
/// so are empty lines. A message from a `path` gets CRLF as [`crlf`](super::crlf) says; one from `message_b64` is taken
/// as it is, to the octet.
#[derive(Debug)]
pub struct Batch<R> {
    reader: R,
    line: Vec<u8>,
    line_number: u64,
    message_bytes_max: u64,
    folder: Option<PathBuf>,
    finished: bool,
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
struct Line {
    id: Option<String>,
    path: Option<PathBuf>,
    message_b64: Option<String>,
    ip: Option<String>,
    helo: Option<String>,
    mail_from: Option<String>,
}

impl<R: BufRead> Batch<R> {
    /// Reads lines from here.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            line: Vec::new(),
            line_number: 0,
            message_bytes_max: MESSAGE_BYTES_MAX,
            folder: None,
            finished: false,
        }
    }

    /// Another limit than [`MESSAGE_BYTES_MAX`].
    #[must_use]
    pub fn with_message_bytes_max(mut self, limit: u64) -> Self {
        self.message_bytes_max = limit;
        self
    }

    /// Looks for relative paths that are not there in this folder too.
    #[must_use]
    pub fn with_folder(mut self, folder: Option<PathBuf>) -> Self {
        self.folder = folder;
        self
    }

    /// Reads the next line; false at the end.
    fn read_line(&mut self) -> Result<bool, InputCause> {
        self.line.clear();
        self.line_number += 1;
        let limit = (self.message_bytes_max / 3).saturating_mul(4).saturating_add(LINE_OVERHEAD_BYTES_MAX);
        self.reader.by_ref().take(limit).read_until(b'\n', &mut self.line)?;
        if self.line.len() as u64 == limit && !self.line.ends_with(b"\n") && self.skip_line()? {
            return Err(InputCause::TooLong { limit: self.message_bytes_max });
        }
        Ok(!self.line.is_empty())
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

    fn message(&self) -> Result<BatchMessage, InputError> {
        let failed = |id: &Option<String>, path: &Option<PathBuf>, cause| InputError {
            id: id.clone(),
            place: Place::Line(self.line_number, path.clone()),
            cause,
        };
        let line: Line =
            serde_json::from_slice(&self.line).map_err(|error| failed(&None, &None, InputCause::BadLine(error)))?;
        let octets = self.octets(&line).map_err(|cause| failed(&line.id, &line.path, cause))?;
        let ip = match line.ip.as_deref().map(str::trim) {
            None | Some("") => None,
            Some(text) => Some(text.parse().map_err(|_| failed(&line.id, &None, InputCause::BadAddress))?),
        };
        let id = line.id.unwrap_or_else(|| format!("line-{}", self.line_number));
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

    fn octets(&self, line: &Line) -> Result<Vec<u8>, InputCause> {
        match (&line.path, &line.message_b64) {
            (Some(path), None) => read_message(self.open(path)?, self.message_bytes_max),
            (None, Some(text)) => {
                let octets = STANDARD.decode(text)?;
                if octets.len() as u64 > self.message_bytes_max {
                    return Err(InputCause::TooLong { limit: self.message_bytes_max });
                }
                Ok(octets)
            }
            _ => Err(InputCause::NotOneSource),
        }
    }
}

impl<R: BufRead> Iterator for Batch<R> {
    type Item = Result<BatchMessage, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.finished {
            match self.read_line() {
                Ok(true) if self.line.trim_ascii().is_empty() => {}
                Ok(true) => return Some(self.message()),
                Ok(false) => self.finished = true,
                Err(cause) => {
                    // Behind an error of the system there is nothing more to read.
                    self.finished = matches!(cause, InputCause::Read(_));
                    return Some(Err(InputError { id: None, place: Place::Line(self.line_number, None), cause }));
                }
            }
        }
        None
    }
}

/// What a line may hold beside its message.
const LINE_OVERHEAD_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Vec<String> {
        let batch = Batch::new(lines.as_bytes()).with_message_bytes_max(9);
        let shown = |item: Result<BatchMessage, InputError>| match item {
            Ok(it) => format!("{} {:?}", it.id, String::from_utf8(it.octets).unwrap()),
            Err(error) => error.to_string(),
        };
        batch.map(shown).collect()
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
        assert_eq!(Batch::new(line.as_bytes()).map(Result::unwrap).collect::<Vec<_>>(), [wanted]);
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

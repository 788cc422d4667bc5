//! The stream of events: one JSON object a message, for programs that learn from them. Whoever reads too slowly, or a disk
//! that is full, costs events, which are counted, and never mail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use mailproof_proto::authres::Layout;
use mailproof_proto::verdict::Verdict;
use serde::Serialize;

use super::line_writer::LineWriter;
use crate::config::{EventSettings, EventTarget, LocalParts};
use crate::log::{Format, Sink};
use crate::service::{MessageReport, Observer, sender_parts};

/// Writes an event for every message.
pub(crate) struct EventStream {
    writer: LineWriter,
    local_parts: LocalParts,
    /// Of this process alone: hashes can be compared with one another, and not be guessed.
    key: hmac::Key,
}

/// One message. The verdict follows as the last member.
#[derive(Serialize)]
struct Event<'a> {
    v: u32,
    time_ms: u64,
    queue_id: Option<&'a str>,
    client: Option<std::net::IpAddr>,
    helo: &'a str,
    mail_from_domain: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_from_local: Option<String>,
    skipped: Option<&'a str>,
    action: &'a str,
    would: &'a str,
    reasons: Vec<&'a str>,
    #[serde(rename = "override")]
    override_reason: Option<&'a str>,
    override_comment: Option<&'a str>,
    reply: Option<String>,
    signatures: usize,
    forged_removed: usize,
    waited_ms: u64,
}

impl EventStream {
    /// The stream that the settings name; `None` when they name none.
    ///
    /// # Errors
    /// When a file can not be opened or no thread be started.
    pub(crate) fn open(settings: &EventSettings) -> io::Result<Option<Self>> {
        let out: Box<dyn Write + Send> = match &settings.to {
            EventTarget::Nowhere => return Ok(None),
            EventTarget::Stdout => Box::new(io::stdout()),
            EventTarget::Unix(path) => Box::new(UnixTarget { path: path.clone(), stream: None }),
            EventTarget::File(path) => Box::new(RotatedFile::open(path, settings.file_bytes_max, settings.files_max)?),
        };
        let writer = LineWriter::start("mailproof-events", Format::Json, false, out)?;
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| io::Error::other("no random numbers"))?;
        Ok(Some(Self { writer, local_parts: settings.local_parts, key }))
    }

    /// Events that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.writer.dropped()
    }

    pub(crate) fn finish(&self) {
        self.writer.finish();
    }

    fn local_part(&self, local: &str) -> Option<String> {
        match self.local_parts {
            LocalParts::None => None,
            LocalParts::Plain => Some(local.to_owned()),
            LocalParts::Hash => {
                let tag = hmac::sign(&self.key, local.to_lowercase().as_bytes());
                Some(tag.as_ref().iter().take(HASH_BYTES).map(|octet| format!("{octet:02x}")).collect())
            }
        }
    }

    fn write(&self, report: &MessageReport<'_>) -> Option<String> {
        let (local, domain) = sender_parts(report.mail_from);
        let decision = report.decision;
        let event = Event {
            v: SCHEMA_VERSION,
            time_ms: report.now.milliseconds(),
            queue_id: report.queue_id,
            client: report.client,
            helo: report.helo,
            mail_from_domain: domain,
            mail_from_local: Some(local).filter(|local| !local.is_empty()).and_then(|local| self.local_part(local)),
            skipped: report.skip.map(crate::metrics::Skip::word),
            action: decision.action.word(),
            would: decision.asked.word(),
            reasons: decision.reasons.iter().map(crate::policy::Reason::word).collect(),
            override_reason: decision.override_reason.as_ref().map(|it| it.kind.word()),
            override_comment: decision.override_reason.as_ref().map(|it| it.comment.as_str()),
            reply: decision.reply.as_ref().map(crate::policy::SmtpReply::for_log),
            signatures: report.signatures,
            forged_removed: report.forged,
            waited_ms: report.waited_ms,
        };
        let mut line = serde_json::to_string(&event).ok()?;
        line.pop();
        let verdict = report.verdict.map(|verdict| self.verdict(verdict, report));
        line.push_str(",\"verdict\":");
        line.push_str(verdict.as_deref().unwrap_or("null"));
        line.push('}');
        Some(line)
    }

    /// The verdict, without what is a person's: local parts of signatures, and the text of an SPF record about this client.
    fn verdict(&self, verdict: &Verdict, report: &MessageReport<'_>) -> String {
        let id = report.queue_id.unwrap_or_default();
        let local = |identity: &Option<String>| identity.as_ref().is_some_and(|it| !it.starts_with('@'));
        let is_bare = verdict.spf.explanation.is_none() && !verdict.dkim.iter().any(|it| local(&it.identity));
        if is_bare || self.local_parts == LocalParts::Plain {
            return verdict.to_json(id);
        }
        let mut verdict = verdict.clone();
        verdict.spf.explanation = None;
        for signature in verdict.dkim.iter_mut().filter(|it| local(&it.identity)) {
            let identity = signature.identity.take().unwrap_or_default();
            let (local, domain) = identity.rsplit_once('@').unwrap_or((&identity, ""));
            signature.identity = Some(format!("{}@{domain}", self.local_part(local).unwrap_or_default()));
        }
        // The header field that the message got has the identities too.
        let mut results = String::new();
        verdict.write_authentication_results(&mut results, report.authserv_id, Layout::OneLine);
        verdict.authentication_results = results;
        verdict.to_json(id)
    }
}

impl Observer for EventStream {
    fn message(&self, report: &MessageReport<'_>) {
        if let Some(line) = self.write(report) {
            self.writer.write_line(&line);
        }
    }
}

/// A file that begins anew when it is large enough; older ones have a number behind their names, 1 for the newest.
struct RotatedFile {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    bytes_max: u64,
    files_max: u32,
}

impl RotatedFile {
    fn open(path: &Path, bytes_max: u64, files_max: u32) -> io::Result<Self> {
        let mut it = Self { path: path.to_owned(), file: None, bytes: 0, bytes_max, files_max };
        it.reopen()?;
        Ok(it)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).mode(0o640).open(&self.path)?;
        self.bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        let numbered = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..self.files_max).rev() {
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        let gone = match self.files_max {
            0 => fs::remove_file(&self.path),
            _ => fs::rename(&self.path, numbered(1)),
        };
        match gone {
            // Somebody has taken it away, which is as good.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.reopen(),
        }
    }
}

impl Write for RotatedFile {
    /// Writes whole lines or none that counts: what a full disk cuts off ends at the last line that fitted.
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.bytes > 0 && self.bytes + octets.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = file.write_all(octets) {
            // Half a line would spoil the next one.
            let _ = file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += octets.len() as u64;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket at which somebody reads lines; connected again when it was not there.
struct UnixTarget {
    path: PathBuf,
    stream: Option<UnixStream>,
}

impl Write for UnixTarget {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = UnixStream::connect(&self.path)?;
                stream.set_write_timeout(Some(READER_TIME))?;
                stream
            }
        };
        // A stream on which it failed is given up: a reader must not take the rest of a line for a line.
        stream.write_all(octets)?;
        self.stream = Some(stream);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Version of the schema, the first member.
const SCHEMA_VERSION: u32 = 1;
/// Octets of a hash that are written.
const HASH_BYTES: usize = 8;
/// How long the reader of a socket may take.
const READER_TIME: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_begin_anew_and_the_oldest_go() {
        let folder = std::env::temp_dir().join(format!("mailproof-events-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("events");
        let mut file = RotatedFile::open(&path, 10, 2).unwrap();
        for line in ["one--\n", "two\n", "three-\n", "four--\n", "five--\n"] {
            file.write_all(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        assert_eq!(read("events").as_deref(), Some("five--\n"));
        assert_eq!(read("events.1").as_deref(), Some("four--\n"));
        assert_eq!((read("events.2").as_deref(), read("events.3")), (Some("three-\n"), None));
        // Somebody else rotates it too.
        fs::remove_file(&path).unwrap();
        file.write_all(b"six---\n").unwrap();
        assert_eq!(read("events").as_deref(), Some("six---\n"));
        fs::remove_dir_all(&folder).unwrap();
    }
}

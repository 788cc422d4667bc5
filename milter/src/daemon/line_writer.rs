//! Lines of the log and of the event stream, written by threads of their own: who logs never waits for who reads.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crate::log::{Format, Line, Sink};

/// Takes lines and hands them to its thread. When that can not keep up, lines are dropped and counted.
#[derive(Debug)]
pub(crate) struct LineWriter {
    queue: Arc<Queue>,
    format: Format,
    /// Lines get the time: the journal notes it by itself.
    with_time: bool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    written: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines dropped since the log last said so.
    dropped: u64,
    writing: bool,
    ends: bool,
}

impl LineWriter {
    /// The log: standard error.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start_log(format: Format) -> io::Result<Self> {
        let with_time = std::env::var_os("JOURNAL_STREAM").is_none();
        Self::start("mailproof-log", format, with_time, Box::new(io::stderr()))
    }

    /// A writer whose own lines have this form.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(
        name: &str,
        format: Format,
        with_time: bool,
        mut out: Box<dyn Write + Send>,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let of_thread = Arc::clone(&queue);
        let body = move || of_thread.write_all(format, &mut out);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body)?;
        Ok(Self { queue, format, with_time, thread: Mutex::new(Some(thread)) })
    }

    /// Lines that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, but not for long.
    pub(crate) fn finish(&self) {
        let until = Instant::now() + FINISH_TIME;
        let mut waiting = self.queue.lock();
        waiting.ends = true;
        self.queue.arrived.notify_one();
        while waiting.writing || !waiting.lines.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // The reader has stalled; the thread ends with the process.
                return;
            }
            waiting = self.queue.written.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(waiting);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

impl Sink for LineWriter {
    fn write_line(&self, line: &str) {
        let time = self.with_time.then(|| humantime::format_rfc3339_millis(SystemTime::now()));
        let mut waiting = self.queue.lock();
        if waiting.ends || waiting.lines.len() + line.len() > WAITING_BYTES_MAX {
            waiting.dropped += 1;
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_empty = waiting.lines.is_empty();
        // Writing to a vector does not fail.
        let _ = match (time, self.format) {
            (None, _) => writeln!(waiting.lines, "{line}"),
            (Some(time), Format::KeyValue) => writeln!(waiting.lines, "time={time} {line}"),
            (Some(time), Format::Json) => {
                writeln!(waiting.lines, "{{\"time\":\"{time}\",{}", line.strip_prefix('{').unwrap_or(line))
            }
        };
        drop(waiting);
        if was_empty {
            self.queue.arrived.notify_one();
        }
    }
}

impl Queue {
    fn write_all(&self, format: Format, out: &mut impl Write) {
        let mut lines = Vec::new();
        loop {
            let mut waiting = self.lock();
            while waiting.lines.is_empty() && waiting.dropped == 0 && !waiting.ends {
                waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            if waiting.lines.is_empty() && waiting.ends {
                return;
            }
            if !waiting.ends {
                // Lines of a moment go out together: one system call in place of many.
                waiting = self.arrived.wait_timeout(waiting, GATHER_TIME).unwrap_or_else(PoisonError::into_inner).0;
            }
            std::mem::swap(&mut waiting.lines, &mut lines);
            let dropped = std::mem::take(&mut waiting.dropped);
            waiting.writing = true;
            drop(waiting);
            if dropped > 0 {
                let line = Line::new(format, "lines-dropped").number("count", dropped).finish();
                let _ = writeln!(lines, "{line}");
            }
            // Nobody who reads, or a full disk, is no reason to stop mail.
            if out.write_all(&lines).is_err() {
                let lost = lines.iter().filter(|octet| **octet == b'\n').count() as u64;
                self.dropped.fetch_add(lost, Ordering::Relaxed);
            }
            lines.clear();
            lines.shrink_to(WAITING_BYTES_MAX / 64);
            self.lock().writing = false;
            self.written.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Octets of lines that wait to be written, for a disk that stalls: some 0.2 s of events at 15,000 messages a second.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long lines are gathered.
const GATHER_TIME: Duration = Duration::from_millis(20);
/// How long the end of the process waits for a reader of the log.
const FINISH_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(format: Format, with_time: bool) -> LineWriter {
        LineWriter { queue: Arc::default(), format, with_time, thread: Mutex::new(None) }
    }

    #[test]
    fn what_is_too_much_is_dropped_and_counted() {
        let writer = writer(Format::KeyValue, false);
        let line = "x".repeat(WAITING_BYTES_MAX / 2 - 1);
        (0..5).for_each(|_| writer.write_line(&line));
        assert_eq!(writer.dropped(), 3);
        writer.queue.lock().ends = true;
        let mut out = Vec::new();
        writer.queue.write_all(Format::KeyValue, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.ends_with("\nevent=lines-dropped count=3\n"));
    }

    #[test]
    fn the_time_stands_in_front() {
        let (pairs, json) = (writer(Format::KeyValue, true), writer(Format::Json, true));
        pairs.write_line("event=start");
        json.write_line(r#"{"event":"start"}"#);
        let text = |writer: &LineWriter| String::from_utf8(writer.queue.lock().lines.clone()).unwrap();
        assert!(text(&pairs).starts_with("time=2") && text(&pairs).ends_with("Z event=start\n"));
        let object: serde_json::Value = serde_json::from_str(&text(&json)).unwrap();
        assert_eq!((object["event"].as_str(), object["time"].as_str().map(str::len)), (Some("start"), Some(24)));
    }
}

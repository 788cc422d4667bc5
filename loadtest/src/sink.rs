//! Where mail ends that went through a mail server: an SMTP server that takes everything and looks at what the header says.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::corpus::Letter;
use crate::drive::{Expected, Findings, Judgement};
use crate::measure::Tally;
use crate::target::Claims;

/// A running one; it ends with its process.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    books: Arc<Books>,
}

#[derive(Debug)]
struct Books {
    expected: HashMap<String, (Expected, String)>,
    claims: Claims,
    arrivals: Mutex<Arrivals>,
    /// A message has arrived.
    news: Condvar,
    is_over: AtomicBool,
}

/// What has arrived.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Arrivals {
    /// Messages.
    pub arrived: u64,
    /// Messages whose header says something else than it must.
    pub wrong: u64,
    /// Messages whose header says that something could not be found out (temperror), and is right otherwise.
    pub temporary: u64,
    /// Messages that nobody has sent.
    pub unknown: u64,
    /// Some of the wrong ones.
    pub examples: Vec<String>,
}

/// How long mail may stay in the queue of a mail server when nothing more comes.
pub const DELIVERY_TIME_MAX: Duration = Duration::from_secs(60);
/// Octets of one line that are looked at; the rest of it is passed over.
const LINE_BYTES_MAX: u64 = 64 * 1024;
const EXAMPLES_MAX: usize = 12;
/// A mail server keeps idle connections for a while.
const IDLE: Duration = Duration::from_secs(120);

impl Sink {
    /// Starts on a port of loopback that the kernel chooses.
    ///
    /// # Errors
    /// When the machine gives no socket.
    pub fn start(letters: &[Letter], claims: Claims) -> io::Result<Self> {
        Self::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), letters, claims)
    }

    /// Starts where a mail server expects its next hop.
    ///
    /// # Errors
    /// When the machine does not give this address.
    pub fn listen(address: SocketAddr, letters: &[Letter], claims: Claims) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let expected = letters.iter().filter_map(|letter| {
            let id = message_id(&letter.octets)?;
            Some((id, (Expected::new(letter), letter.id.clone())))
        });
        let books = Arc::new(Books {
            expected: expected.collect(),
            claims,
            arrivals: Mutex::default(),
            news: Condvar::new(),
            is_over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&books);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.is_over.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&shared);
                // A connection that breaks is the client's to explain.
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Ok(Self { address, books })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has arrived up to now.
    #[must_use]
    pub fn arrivals(&self) -> Arrivals {
        self.books.lock().clone()
    }

    /// Waits until so many messages have arrived, or for so long; what has arrived then.
    #[must_use]
    pub fn wait_for(&self, count: u64, time_max: Duration) -> Arrivals {
        let is_missing = |arrivals: &mut Arrivals| arrivals.arrived < count;
        let waited = self.books.news.wait_timeout_while(self.books.lock(), time_max, is_missing);
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

impl Arrivals {
    /// Corrects what was counted when a mail server took the messages by what became of them.
    pub fn correct(&self, total: &mut Tally) {
        let missing = total.right.saturating_sub(self.arrived);
        for _ in 0..missing {
            total.trouble("was taken, and has not arrived".to_owned());
        }
        total.right -= missing;
        for (count, other) in [(self.wrong, &mut total.wrong), (self.temporary, &mut total.temporary)] {
            let count = count.min(total.right);
            total.right -= count;
            *other += count;
        }
        for _ in 0..self.unknown.min(total.right) {
            total.trouble("arrived instead of one that was sent".to_owned());
            total.right -= 1;
        }
        total.examples.extend(self.examples.iter().cloned());
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.books.is_over.store(true, Ordering::Relaxed);
        // So that the listening thread looks.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, books: &Books) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut input = BufReader::with_capacity(256 * 1024, stream);
    out.write_all(b"220 sink.example ESMTP\r\n")?;
    let mut line = Vec::new();
    while read_line(&mut input, &mut line)? {
        let command = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match command.as_slice() {
            b"EHLO" => b"250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
            b"DATA" => {
                out.write_all(b"354 go on\r\n")?;
                take_message(&mut input, &mut line, books)?;
                b"250 taken\r\n"
            }
            b"QUIT" => return out.write_all(b"221 bye\r\n"),
            _ => b"250 ok\r\n",
        };
        out.write_all(reply)?;
    }
    Ok(())
}

/// Reads a message: its header into findings, its body to the end.
fn take_message(input: &mut impl BufRead, line: &mut Vec<u8>, books: &Books) -> io::Result<()> {
    let (mut findings, mut field, mut id, mut is_header) = (Findings::default(), Vec::new(), None, true);
    while read_line(input, line)? && line != b".\r\n" {
        if !is_header {
            continue;
        }
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            learn(&field, &mut findings, &mut id);
            field.clear();
            is_header = line != b"\r\n";
        }
        field.extend_from_slice(line);
    }
    books.count(&findings, id.as_deref());
    Ok(())
}

fn learn(field: &[u8], findings: &mut Findings, id: &mut Option<String>) {
    let Some(colon) = memchr::memchr(b':', field) else { return };
    let (name, value) = (&field[..colon], &field[colon + 1..]);
    // Those of messages that were sealed are ARC-Authentication-Results.
    if name.eq_ignore_ascii_case(b"Message-ID") {
        *id = Some(String::from_utf8_lossy(value).trim().to_owned());
    } else {
        findings.learn_field(name, value);
    }
}

impl Books {
    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        // Counts are whole whatever happened to a thread that held them.
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, findings: &Findings, id: Option<&str>) {
        let sent = id.and_then(|id| self.expected.get(id));
        let judged = sent.map(|(expected, name)| (findings.judge(expected, self.claims), expected, name));
        let mut arrivals = self.lock();
        arrivals.arrived += 1;
        match judged {
            None => arrivals.unknown += 1,
            Some((Judgement::Right, ..)) => {}
            Some((Judgement::Temporary, ..)) => arrivals.temporary += 1,
            Some((Judgement::Wrong, expected, name)) => {
                arrivals.wrong += 1;
                if arrivals.examples.len() < EXAMPLES_MAX {
                    arrivals.examples.push(format!("{name}: found {}; expected {expected}", findings.to_line()));
                }
            }
        }
        drop(arrivals);
        self.news.notify_all();
    }
}

fn message_id(message: &[u8]) -> Option<String> {
    let (mut findings, mut id) = (Findings::default(), None);
    let header = &message[..memchr::memmem::find(message, b"\r\n\r\n")?];
    for line in header.split(|octet| *octet == b'\n') {
        learn(line, &mut findings, &mut id);
    }
    id
}

/// A line with its end; false where there is none.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    while !line.is_empty() && !line.ends_with(b"\n") {
        let mut rest = Vec::new();
        if input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut rest)? == 0 || rest.ends_with(b"\n") {
            break;
        }
    }
    Ok(!line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_the_messages_corrects_what_was_counted() {
        let arrivals = Arrivals { arrived: 8, wrong: 2, temporary: 1, unknown: 1, examples: vec!["m-1".to_owned()] };
        let mut total = Tally { offered: 12, started: 12, right: 10, failed: 2, ..Tally::default() };
        arrivals.correct(&mut total);
        let Tally { right, temporary, wrong, failed, started, .. } = total;
        assert_eq!((right, temporary, wrong, failed), (4, 1, 2, 5));
        assert_eq!(started, total.answered() + failed);
        assert_eq!((total.troubles["was taken, and has not arrived"], total.examples.len()), (2, 1));
    }

    #[test]
    fn more_arrivals_than_messages_leave_nothing_right() {
        let mut total = Tally { offered: 2, started: 2, right: 2, ..Tally::default() };
        Arrivals { arrived: 9, wrong: 3, unknown: 6, ..Arrivals::default() }.correct(&mut total);
        assert_eq!((total.right, total.wrong, total.failed, total.answered()), (0, 2, 0, 2));
    }
}

//! Where mail ends that went through a mail server: an SMTP server that takes everything and looks at what the header says.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::corpus::Letter;
use crate::drive::{Expected, Findings, Judgement};
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
    arrived: AtomicU64,
    wrong: AtomicU64,
    unknown: AtomicU64,
    examples: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

/// What has arrived.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Arrivals {
    /// Messages.
    pub arrived: u64,
    /// Messages whose header says something else than it must.
    pub wrong: u64,
    /// Messages that nobody has sent.
    pub unknown: u64,
    /// Some of the wrong ones.
    pub examples: Vec<String>,
}

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
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let expected = letters.iter().filter_map(|letter| {
            let id = message_id(&letter.octets)?;
            Some((id, (Expected::new(letter), letter.id.clone())))
        });
        let books = Arc::new(Books {
            expected: expected.collect(),
            claims,
            arrived: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            examples: Mutex::default(),
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
        let books = &self.books;
        Arrivals {
            arrived: books.arrived.load(Ordering::Relaxed),
            wrong: books.wrong.load(Ordering::Relaxed),
            unknown: books.unknown.load(Ordering::Relaxed),
            examples: books.examples.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
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
    fn count(&self, findings: &Findings, id: Option<&str>) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        let Some((expected, name)) = id.and_then(|id| self.expected.get(id)) else {
            self.unknown.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if findings.judge(expected, self.claims) != Judgement::Right {
            self.wrong.fetch_add(1, Ordering::Relaxed);
            let mut examples = self.examples.lock().unwrap_or_else(PoisonError::into_inner);
            if examples.len() < EXAMPLES_MAX {
                examples.push(format!("{name}: found {}; expected {expected}", findings.to_line()));
            }
        }
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

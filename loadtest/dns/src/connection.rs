//! One TCP connection: queries cut out of the stream, replies that may be slow, held back or broken off.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;

use crate::desk::Faulty;
use crate::plan::Fault;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    input: Vec<u8>,
    output: VecDeque<Piece>,
    output_bytes: usize,
    /// A reply that waits for the next one.
    held: Option<Held>,
    /// Counts the replies held, so that the timer of an earlier one does not release a later one.
    held_count: u64,
    has_ended: bool,
}

/// Octets to write.
#[derive(Debug)]
struct Piece {
    octets: Vec<u8>,
    written: usize,
    /// Between one octet and the next.
    pause: Option<Duration>,
    then: Then,
}

/// What follows a piece.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    Stay,
    Close,
    Reset,
}

#[derive(Debug)]
struct Held {
    octets: Vec<u8>,
    is_joined: bool,
}

/// What the driver has to do after [`Connection::write`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// Wait until the stream can be read or written.
    Wait,
    /// Write again after this time.
    WriteAfter(Duration),
    /// Drop the connection.
    Close,
}

/// Octets of replies that wait for a client to read them.
pub(crate) const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a reply waits for the next one.
pub(crate) const HOLD_TIME: Duration = Duration::from_millis(200);
const CHUNK_BYTES: usize = 16 * 1024;

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Each octet of a slow reply travels on its own.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            input: Vec::new(),
            output: VecDeque::new(),
            output_bytes: 0,
            held: None,
            held_count: 0,
            has_ended: false,
        }
    }

    /// Reads a chunk; false when there is nothing more to read now.
    pub(crate) fn read(&mut self) -> io::Result<bool> {
        let start = self.input.len();
        self.input.resize(start + CHUNK_BYTES, 0);
        let result = self.stream.read(self.input.get_mut(start..).unwrap_or_default());
        self.input.truncate(start + result.as_ref().ok().copied().unwrap_or(0));
        match result {
            Ok(0) => {
                self.has_ended = true;
                Ok(false)
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next whole query that was read.
    pub(crate) fn query(&mut self) -> Option<Vec<u8>> {
        let (len, rest) = self.input.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*len));
        let query = rest.get(..len)?.to_vec();
        self.input.drain(..2 + len);
        Some(query)
    }

    /// Adds a reply without faults.
    pub(crate) fn reply(&mut self, reply: &[u8]) {
        self.push(framed(reply, reply.len()));
    }

    /// Adds the replies of a query that met faults; gives the number of a reply that is held back, to be released after
    /// [`HOLD_TIME`].
    pub(crate) fn faulty(&mut self, faulty: Faulty) -> Option<u64> {
        let mut replies = faulty.replies.into_iter();
        let first = replies.next().unwrap_or_default();
        let (whole, len) = (framed(&first, first.len()), first.len());
        let mut number = None;
        match faulty.delivery {
            Some(Fault::TcpSilence) => {}
            Some(Fault::TcpClose) => self.end(Vec::new(), Then::Close),
            Some(Fault::TcpReset) => self.end(Vec::new(), Then::Reset),
            Some(Fault::TcpCloseMidReply) => {
                // The length and some of the message, but never all of it.
                self.end(whole.get(..2 + faulty.end_at).unwrap_or_default().to_vec(), Then::Close);
            }
            Some(Fault::TcpSlow { .. }) => {
                let gaps = u32::try_from(whole.len().saturating_sub(1)).unwrap_or(u32::MAX).max(1);
                self.add(Piece { octets: whole, written: 0, pause: Some(faulty.period / gaps), then: Then::Stay });
            }
            Some(fault @ (Fault::TcpTwoInOneSegment | Fault::TcpOutOfOrder)) => {
                self.release();
                self.held = Some(Held { octets: whole, is_joined: fault == Fault::TcpTwoInOneSegment });
                self.held_count += 1;
                number = Some(self.held_count);
            }
            Some(Fault::TcpLengthShort) => self.push(framed(&first, len / 2)),
            Some(Fault::TcpLengthLong) => self.push(framed(&first, len + 1 + len / 2)),
            _ => self.push(whole),
        }
        replies.for_each(|reply| self.push(framed(&reply, reply.len())));
        number
    }

    /// Lets a reply go for which no other one came.
    pub(crate) fn release_number(&mut self, number: u64) {
        if number == self.held_count {
            self.release();
        }
    }

    /// Writes what can be written.
    pub(crate) fn write(&mut self) -> Next {
        loop {
            let Some(piece) = self.output.front_mut() else {
                let is_done = self.has_ended && self.held.is_none();
                return if is_done { Next::Close } else { Next::Wait };
            };
            let rest = piece.octets.get(piece.written..).unwrap_or_default();
            let rest = if piece.pause.is_some() { rest.get(..1).unwrap_or(rest) } else { rest };
            if !rest.is_empty() {
                match self.stream.write(rest) {
                    Ok(count) => {
                        piece.written += count;
                        self.output_bytes -= count;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Wait,
                    Err(_) => return Next::Close,
                }
            }
            if piece.written < piece.octets.len() {
                match piece.pause {
                    Some(pause) => return Next::WriteAfter(pause),
                    None => continue,
                }
            }
            match piece.then {
                Then::Stay => {}
                Then::Close => return Next::Close,
                Then::Reset => {
                    let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                    return Next::Close;
                }
            }
            self.output.pop_front();
        }
    }

    /// True while a piece is written octet by octet: a timer runs, nothing else may write.
    pub(crate) fn is_slow(&self) -> bool {
        self.output.front().is_some_and(|piece| piece.pause.is_some() && piece.written > 0)
    }

    /// True when the client does not read what it asked for.
    pub(crate) fn is_over_limit(&self) -> bool {
        self.output_bytes > OUTPUT_BYTES_MAX
    }

    /// Adds octets, together with the reply that waited for them.
    fn push(&mut self, mut octets: Vec<u8>) {
        match self.held.take() {
            Some(mut held) if held.is_joined => {
                held.octets.append(&mut octets);
                self.add(Piece::whole(held.octets));
            }
            Some(held) => {
                self.add(Piece::whole(octets));
                self.add(Piece::whole(held.octets));
            }
            None => self.add(Piece::whole(octets)),
        }
    }

    fn release(&mut self) {
        if let Some(held) = self.held.take() {
            self.add(Piece::whole(held.octets));
        }
    }

    fn end(&mut self, octets: Vec<u8>, then: Then) {
        self.release();
        self.add(Piece { octets, written: 0, pause: None, then });
    }

    fn add(&mut self, piece: Piece) {
        self.output_bytes += piece.octets.len();
        self.output.push_back(piece);
    }
}

impl Piece {
    fn whole(octets: Vec<u8>) -> Self {
        Self { octets, written: 0, pause: None, then: Then::Stay }
    }
}

/// The message behind a length.
fn framed(message: &[u8], len: usize) -> Vec<u8> {
    [&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes(), message].concat()
}

//! The side of the milter protocol that a mail server has: what it sends, and what it waits for.
//!
//! A message is laid out once, in the frames that Postfix sends for it, and then sent as it lies there, in as few pieces as
//! the filter's wish for replies allows.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::dialogue::{Added, Outgoing, Step, Trouble};
use super::findings::{Action, Findings};
use crate::corpus::Letter;
use crate::target::Address;

/// What a filter asked for in answer to the offer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Agreement {
    version: u32,
    actions: u32,
    steps: u32,
}

/// What a reply may be due for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Connect,
    Helo,
    Mail,
    Recipient,
    Data,
    Field,
    EndOfHeader,
    Body,
    End,
}

/// A frame that is waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stop {
    stage: Stage,
    /// Where the octets that belong to it begin, with those of unanswered frames before it.
    start: usize,
    end: usize,
}

/// A message in frames.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    pub(crate) octets: Vec<u8>,
    stops: Vec<Stop>,
    /// Where fields that others have added go in.
    first_field: usize,
    /// The last stop: that of the end of the message.
    end: Stop,
    waits_for_fields: bool,
    has_leading_space: bool,
}

/// One message on one connection to a filter.
#[derive(Debug, Default)]
pub(crate) struct MilterDialogue {
    state: State,
    /// Frames of fields that are still to be sent one by one.
    fields: VecDeque<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Negotiating,
    /// Waits for the reply to this stop.
    At(usize),
    /// Waits for the reply to an added field, and then goes on.
    Field,
}

/// Everything that version 6 has.
const OFFER: [u8; 17] = [0, 0, 0, 13, b'O', 0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff];
/// Ends a connection.
pub(crate) const QUIT: [u8; 5] = [0, 0, 0, 1, b'Q'];
/// Ends what concerns one client, and keeps the connection for another.
const QUIT_AND_KEEP: [u8; 5] = [0, 0, 0, 1, b'K'];
/// What Postfix and Sendmail send in one frame of a body.
const CHUNK_BYTES: usize = 65_535;
/// A frame of a filter: the largest field it may add.
const REPLY_BYTES_MAX: usize = 1 << 20;

const NO_FIELDS: u32 = 0x20;
const NO_BODY: u32 = 0x10;
const SILENT_FIELDS: u32 = 0x80;
const LEADING_SPACE: u32 = 0x10_0000;

impl Stage {
    /// Bit of "do not send it", and bit of "no reply to it".
    const fn bits(self) -> (u32, u32) {
        match self {
            Self::Connect => (0x1, 0x1000),
            Self::Helo => (0x2, 0x2000),
            Self::Mail => (0x4, 0x4000),
            Self::Recipient => (0x8, 0x8000),
            Self::Data => (0x200, 0x1_0000),
            Self::Field => (NO_FIELDS, SILENT_FIELDS),
            Self::EndOfHeader => (0x40, 0x4_0000),
            Self::Body => (NO_BODY, 0x8_0000),
            Self::End => (0, 0),
        }
    }
}

impl Agreement {
    /// Asks a filter once, ahead of the run.
    ///
    /// # Errors
    /// When it can not be reached, or answers with something else.
    pub fn probe(address: &Address) -> io::Result<Self> {
        let patience = Some(PROBE_TIME_MAX);
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(patience)?;
                Self::ask(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(patience)?;
                Self::ask(stream)
            }
        }
    }

    fn ask(mut stream: impl Read + Write) -> io::Result<Self> {
        stream.write_all(&OFFER)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        let mut reply = vec![0; length.min(REPLY_BYTES_MAX)];
        stream.read_exact(&mut reply)?;
        stream.write_all(&QUIT)?;
        Self::read(&reply).ok_or_else(|| io::Error::other("no milter: it does not answer the offer"))
    }

    fn read(reply: &[u8]) -> Option<Self> {
        let mut numbers = reply
            .strip_prefix(b"O")?
            .chunks_exact(4)
            .filter_map(|four| Some(u32::from_be_bytes(four.try_into().ok()?)));
        Some(Self { version: numbers.next()?, actions: numbers.next()?, steps: numbers.next()? })
    }

    const fn has(self, bit: u32) -> bool {
        self.steps & bit != 0
    }
}

/// How long an idle filter may take to answer the offer.
const PROBE_TIME_MAX: Duration = Duration::from_secs(10);

impl Frames {
    /// Lays a message out as Postfix would for a filter that asked for this.
    pub(crate) fn new(letter: &Letter, agreement: Agreement) -> Self {
        let mut frames = Self {
            octets: Vec::with_capacity(letter.octets.len() + 4096),
            stops: Vec::new(),
            first_field: 0,
            end: Stop { stage: Stage::End, start: 0, end: 0 },
            waits_for_fields: !agreement.has(SILENT_FIELDS),
            has_leading_space: agreement.has(LEADING_SPACE),
        };
        frames.envelope(letter, agreement);
        frames.first_field = frames.octets.len();
        let split = memchr::memmem::find(&letter.octets, b"\r\n\r\n").map_or(letter.octets.len(), |at| at + 2);
        let (header, body) = letter.octets.split_at(split);
        if !agreement.has(NO_FIELDS) {
            for field in fields(header) {
                let (name, value) = split_field(field);
                let framed = field_frame(&name, &value, frames.has_leading_space);
                frames.push(agreement, Stage::Field, &framed);
            }
        }
        frames.add(agreement, Stage::EndOfHeader, b'N', &[], &[]);
        for chunk in body.get(2..).unwrap_or_default().chunks(CHUNK_BYTES) {
            frames.add(agreement, Stage::Body, b'B', &[], &[chunk]);
        }
        frames.add(agreement, Stage::End, b'E', &[(b'E', &format!("i\0{}\0", queue_id(letter)))], &[]);
        frames.end = frames.stops.last().copied().unwrap_or(frames.end);
        frames
    }

    fn envelope(&mut self, letter: &Letter, agreement: Agreement) {
        let id = queue_id(letter);
        let family: &[u8] = if letter.client.is_ipv4() { b"4" } else { b"6" };
        let address = match letter.client {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("IPv6:{address}"),
        };
        let (helo, connect) =
            (letter.helo.as_bytes(), "j\0mx.receiver.example\0{daemon_name}\0smtpd\0v\0Postfix 3.7.11\0");
        let port: &[u8] = &[0x9c, 0x40];
        self.add(
            agreement,
            Stage::Connect,
            b'C',
            &[(b'C', connect)],
            &[helo, b"\0", family, port, address.as_bytes(), b"\0"],
        );
        self.add(agreement, Stage::Helo, b'H', &[], &[helo, b"\0"]);
        let sender =
            format!("{{mail_mailer}}\0smtp\0{{mail_host}}\0receiver.example\0{{mail_addr}}\0{}\0", letter.mail_from);
        self.add(agreement, Stage::Mail, b'M', &[(b'M', &sender)], &[b"<", letter.mail_from.as_bytes(), b">\0"]);
        let recipient = format!("i\0{id}\0{{rcpt_mailer}}\0smtp\0{{rcpt_addr}}\0someone@receiver.example\0");
        self.add(agreement, Stage::Recipient, b'R', &[(b'R', &recipient)], &[b"<someone@receiver.example>\0"]);
        self.add(agreement, Stage::Data, b'T', &[(b'T', &format!("i\0{id}\0"))], &[]);
    }

    /// Adds a command with the macros before it, where the filter wants it.
    fn add(&mut self, agreement: Agreement, stage: Stage, command: u8, macros: &[(u8, &str)], fields: &[&[u8]]) {
        if agreement.has(stage.bits().0) || (stage == Stage::Data && agreement.version < 4) {
            return;
        }
        let mut framed = Vec::new();
        for (of, definitions) in macros {
            write_frame(&mut framed, b'D', &[&[*of], definitions.as_bytes()]);
        }
        write_frame(&mut framed, command, fields);
        self.push(agreement, stage, &framed);
    }

    fn push(&mut self, agreement: Agreement, stage: Stage, framed: &[u8]) {
        let start = self.stops.last().map_or(0, |stop| stop.end);
        self.octets.extend_from_slice(framed);
        if !agreement.has(stage.bits().1) {
            // At the end of a body with unanswered chunks, those belong to the end.
            self.stops.push(Stop { stage, start, end: self.octets.len() });
        }
    }

    /// Where a body may be cut so that it seems to stall: in the midst of its first frame.
    pub(crate) fn stalled(&self) -> &[u8] {
        let stop = self.stops.iter().find(|stop| matches!(stop.stage, Stage::Body | Stage::End)).unwrap_or(&self.end);
        let from = stop.start;
        &self.octets[..from + (stop.end - from) / 2]
    }

    /// Stops before the body, for those who wait for each.
    pub(crate) fn offer() -> &'static [u8] {
        &OFFER
    }
}

impl MilterDialogue {
    /// Starts on a message.
    pub(crate) fn begin(&mut self, frames: &Frames, is_new: bool, added: &[Added], out: &mut Outgoing) {
        self.fields = added.iter().map(|it| field_frame(&it.name, &it.value, frames.has_leading_space)).collect();
        if is_new {
            self.state = State::Negotiating;
            out.own.extend_from_slice(&OFFER);
        } else {
            out.own.extend_from_slice(&QUIT_AND_KEEP);
            self.go_to(0, frames, out);
        }
    }

    /// Takes what the filter says. Gives how many octets of it were whole frames.
    pub(crate) fn received(
        &mut self,
        input: &[u8],
        frames: &Frames,
        agreed: Agreement,
        findings: &mut Findings,
        added: &mut Vec<Added>,
        out: &mut Outgoing,
    ) -> Result<(usize, Step), Trouble> {
        let mut at = 0;
        while let Some((head, rest)) = input[at..].split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*head) as usize;
            if length == 0 || length > REPLY_BYTES_MAX {
                return Err(Trouble::Protocol("a frame of a length that no filter sends"));
            }
            let Some(reply) = rest.get(..length) else { break };
            at += 4 + length;
            if let Step::Done = self.reply(reply, frames, agreed, findings, added, out)? {
                return Ok((at, Step::Done));
            }
        }
        Ok((at, Step::Waits))
    }

    fn reply(
        &mut self,
        reply: &[u8],
        frames: &Frames,
        agreed: Agreement,
        findings: &mut Findings,
        added: &mut Vec<Added>,
        out: &mut Outgoing,
    ) -> Result<Step, Trouble> {
        let (command, fields) = reply.split_first().ok_or(Trouble::Protocol("an empty frame"))?;
        let place = match self.state {
            State::Negotiating => {
                if Agreement::read(reply) != Some(agreed) {
                    return Err(Trouble::Protocol("another answer to the offer than before"));
                }
                self.go_to(0, frames, out);
                return Ok(Step::Waits);
            }
            State::Field => None,
            State::At(place) => Some(place),
        };
        let is_end = place.and_then(|place| frames.stops.get(place)).is_some_and(|stop| stop.stage == Stage::End);
        match command {
            b'p' => return Ok(Step::Waits),
            b'c' if is_end => return Ok(Step::Done),
            b'c' => {}
            b's' if !is_end => {
                let last = frames.stops.len() - 1;
                // Of what belongs to the end, chunks that are not wanted are left out.
                out.range = last_frames(frames);
                self.state = State::At(last);
                return Ok(Step::Waits);
            }
            b'a' => return Ok(Step::Done),
            b'd' => findings.action = Action::Accept,
            b'r' => findings.action = Action::Reject,
            b't' => findings.action = Action::Defer,
            b'y' => findings.action = if fields.starts_with(b"4") { Action::Defer } else { Action::Reject },
            b'h' | b'i' | b'm' | b'q' if is_end => {
                change(*command, fields, findings, added);
                return Ok(Step::Waits);
            }
            b'+' | b'-' | b'b' | b'e' if is_end => return Ok(Step::Waits),
            _ => return Err(Trouble::Protocol("a reply that has no place there")),
        }
        if *command != b'c' {
            return Ok(Step::Done);
        }
        match place {
            Some(place) => self.go_to(place + 1, frames, out),
            None => self.send_fields(frames, out),
        }
        Ok(Step::Waits)
    }

    /// Sends what belongs to a stop.
    fn go_to(&mut self, place: usize, frames: &Frames, out: &mut Outgoing) {
        let Some(stop) = frames.stops.get(place) else { return };
        self.state = State::At(place);
        out.range = stop.start..stop.end;
        let reaches_fields = stop.start <= frames.first_field && frames.first_field < stop.end;
        if reaches_fields {
            out.has_content = true;
            if !self.fields.is_empty() {
                out.own.extend_from_slice(&frames.octets[stop.start..frames.first_field]);
                self.send_fields(frames, out);
            }
        }
    }

    /// Sends the next added field, or all where no reply is due, and then what belongs to the first stop behind them.
    fn send_fields(&mut self, frames: &Frames, out: &mut Outgoing) {
        if let Some(field) = self.fields.pop_front_if(|_| frames.waits_for_fields) {
            out.own.extend_from_slice(&field);
            out.range = 0..0;
            self.state = State::Field;
            return;
        }
        self.fields.drain(..).for_each(|field| out.own.extend_from_slice(&field));
        let place = frames.stops.iter().position(|stop| stop.end > frames.first_field).unwrap_or(0);
        self.state = State::At(place);
        out.range = frames.first_field..frames.stops.get(place).map_or(frames.first_field, |stop| stop.end);
    }

    /// What was sent last ends the message.
    pub(crate) fn is_at_end(&self, frames: &Frames) -> bool {
        matches!(self.state, State::At(place) if place + 1 == frames.stops.len())
    }
}

/// The frames of the end alone, without chunks that are not wanted.
fn last_frames(frames: &Frames) -> Range<usize> {
    // The end is a definition of macros and a command without fields.
    let mut at = frames.end.start;
    while at < frames.end.end {
        let length = frames
            .octets
            .get(at..at + 5)
            .map_or(0, |head| u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize);
        if length == 0 || frames.octets.get(at + 4) != Some(&b'B') {
            break;
        }
        at += 4 + length;
    }
    at..frames.end.end
}

fn change(command: u8, fields: &[u8], findings: &mut Findings, added: &mut Vec<Added>) {
    let strings = match command {
        b'q' => {
            findings.action = findings.action.max(Action::Quarantine);
            return;
        }
        b'i' | b'm' => fields.get(4..).unwrap_or_default(),
        _ => fields,
    };
    let mut strings = strings.split(|octet| *octet == 0);
    if let (Some(name), Some(value), true) = (strings.next(), strings.next(), command != b'm') {
        findings.learn_field(name, value);
        added.insert(0, Added { name: name.to_vec(), value: value.to_vec() });
    }
}

pub(crate) fn write_frame(out: &mut Vec<u8>, command: u8, fields: &[&[u8]]) {
    let length = 1 + fields.iter().map(|field| field.len()).sum::<usize>();
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    out.push(command);
    fields.iter().for_each(|field| out.extend_from_slice(field));
}

/// A field with its value as a filter gets it: folded with LF, and without the space after the colon unless it wants that.
pub(crate) fn field_frame(name: &[u8], value: &[u8], has_leading_space: bool) -> Vec<u8> {
    let value = if has_leading_space { value } else { value.strip_prefix(b" ").unwrap_or(value) };
    let mut frame = Vec::with_capacity(name.len() + value.len() + 16);
    write_frame(&mut frame, b'L', &[name, b"\0", value, b"\0"]);
    frame
}

/// The fields of a header block, each without its last CRLF.
pub(crate) fn fields(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header;
    std::iter::from_fn(move || {
        let mut end = 0;
        loop {
            let line = memchr::memmem::find(rest.get(end..)?, b"\r\n")?;
            end += line + 2;
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (field, after) = rest.split_at(end);
        rest = after;
        field.get(..end - 2).filter(|field| !field.is_empty())
    })
}

pub(crate) fn split_field(field: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let colon = memchr::memchr(b':', field).unwrap_or(field.len());
    let value = field.get(colon + 1..).unwrap_or_default();
    (field[..colon].to_vec(), value.iter().copied().filter(|octet| *octet != b'\r').collect())
}

fn queue_id(letter: &Letter) -> String {
    let number: u64 = letter.id.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap_or(0);
    format!("4{number:09X}")
}

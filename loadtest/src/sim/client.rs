//! A mail server's side of one connection, without sockets and time.

use super::check::{Invariant, Told, Violation, violation};
use super::plan::{Connection, Fate, Message};
use crate::corpus::Letter;
use crate::drive::milter::{field_frame, fields, split_field, write_frame};

/// A mail server on one connection. Whoever drives it sends what [`Client::go_on`] gives, and hands in what comes.
pub(super) struct Client {
    plan: Connection,
    letters: Vec<Letter>,
    agreed: (u32, u32),
    /// What is sent for the message under way.
    steps: Vec<Step>,
    next_step: usize,
    message: usize,
    state: State,
    input: Vec<u8>,
    /// A mail server that has given up takes what is still said.
    has_given_up: bool,
    is_held: bool,
    /// Messages that were concluded: number and what was told.
    pub(super) concluded: Vec<(usize, Told)>,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Nothing: it has something to send.
    Sends,
    /// The answer to the offer.
    Offered,
    /// A reply to this command.
    Reply(Kind),
    /// The end of the connection.
    End,
    /// Nothing any more.
    Over,
}

/// What a reply is due for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Command,
    Recipient,
    Body,
    EndOfMessage,
}

struct Step {
    octets: Vec<u8>,
    reply: Option<Kind>,
    is_body: bool,
}

/// What the driver is to do.
pub(super) enum Next {
    /// Send this, after a pause.
    Send { octets: Vec<u8>, pause_ms: u64 },
    /// Wait for what comes; give up after as many milliseconds, if there are any.
    Wait { give_up_ms: Option<u64> },
    /// It is over.
    Done,
}

impl Client {
    pub(super) fn new(plan: Connection, letters: Vec<Letter>) -> Self {
        Self {
            plan,
            letters,
            agreed: (0, 0),
            steps: Vec::new(),
            next_step: 0,
            message: 0,
            state: State::Sends,
            input: Vec::new(),
            has_given_up: false,
            is_held: false,
            concluded: Vec::new(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// The message under way, or the next.
    pub(super) const fn message(&self) -> usize {
        self.message
    }

    pub(super) fn plan(&self) -> &Connection {
        &self.plan
    }

    /// The letter of a message.
    pub(super) fn letter(&self, place: usize) -> Option<&Letter> {
        self.letters.get(place)
    }

    /// Goes on; called at the beginning and after each input.
    pub(super) fn go_on(&mut self) -> Next {
        match self.state {
            State::Sends => {}
            State::Offered | State::End => return Next::Wait { give_up_ms: None },
            State::Reply(kind) => {
                let fate = self.plan.messages.get(self.message).map(|message| message.fate);
                let give_up_ms = match fate {
                    Some(Fate::GivenUp(time_ms)) if kind == Kind::EndOfMessage => Some(time_ms),
                    _ => None,
                };
                return Next::Wait { give_up_ms };
            }
            State::Over => return Next::Done,
        }
        if self.agreed == (0, 0) {
            self.state = State::Offered;
            return Next::Send { octets: offer(self.plan.offer), pause_ms: 0 };
        }
        let Some(message) = self.plan.messages.get(self.message).cloned() else {
            self.state = State::End;
            return Next::Send { octets: frame(b'Q', &[]), pause_ms: 0 };
        };
        let mut pause_ms = 0;
        if self.steps.is_empty() {
            pause_ms = message.pause_ms;
            self.steps = self.steps_of(&message);
            self.next_step = 0;
        }
        let mut octets = Vec::new();
        loop {
            if matches!(message.fate, Fate::Aborted(after) if self.next_step == after) {
                self.end_message();
                octets.extend(frame(b'A', &[]));
                return Next::Send { octets, pause_ms };
            }
            let Some(step) = self.steps.get(self.next_step) else {
                self.end_message();
                return Next::Send { octets, pause_ms };
            };
            octets.extend_from_slice(&step.octets);
            self.next_step += 1;
            if let Some(kind) = step.reply {
                self.state = State::Reply(kind);
                return Next::Send { octets, pause_ms };
            }
        }
    }

    /// The reply has not come in the time that it had: gives what is sent then.
    pub(super) fn give_up(&mut self) -> Vec<u8> {
        self.has_given_up = true;
        self.state = State::End;
        [frame(b'A', &[]), frame(b'Q', &[])].concat()
    }

    /// It has gone without a word.
    pub(super) fn vanish(&mut self) {
        self.state = State::Over;
    }

    /// The filter has ended the connection.
    pub(super) fn ended(&mut self) -> Result<(), Violation> {
        let state = std::mem::replace(&mut self.state, State::Over);
        match state {
            State::End | State::Over => Ok(()),
            _ => violation(Invariant::OneReply, format!("the filter closed a connection that was in state {state:?}")),
        }
    }

    /// Octets came.
    pub(super) fn received(&mut self, octets: &[u8]) -> Result<(), Violation> {
        if self.state == State::Over {
            return Ok(());
        }
        self.input.extend_from_slice(octets);
        while let Some((head, rest)) = self.input.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*head) as usize;
            if length == 0 || length > REPLY_BYTES_MAX {
                return violation(Invariant::OneReply, format!("a frame of {length} octets"));
            }
            let Some(reply) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(()) };
            self.input.drain(..4 + length);
            self.reply(&reply)?;
        }
        Ok(())
    }

    fn reply(&mut self, reply: &[u8]) -> Result<(), Violation> {
        let command = reply.first().copied().unwrap_or(0);
        if self.has_given_up {
            return Ok(());
        }
        match self.state {
            State::Offered if command == b'O' => {
                let number =
                    |at: usize| reply.get(at..).and_then(<[u8]>::first_chunk).map(|it| u32::from_be_bytes(*it));
                self.agreed = (number(1).unwrap_or(0), number(9).unwrap_or(0));
                self.state = State::Sends;
            }
            State::Reply(kind) => self.reply_to(kind, command, reply)?,
            state => {
                let detail = format!("'{}' in state {state:?}", char::from(command));
                return violation(Invariant::OneReply, detail);
            }
        }
        Ok(())
    }

    fn reply_to(&mut self, kind: Kind, command: u8, reply: &[u8]) -> Result<(), Violation> {
        let is_end = kind == Kind::EndOfMessage;
        let told = match command {
            b'p' if matches!(kind, Kind::EndOfMessage | Kind::Recipient) => return Ok(()),
            b'h' | b'i' | b'm' | b'+' | b'-' if is_end => return Ok(()),
            b'q' if is_end => {
                self.is_held = true;
                return Ok(());
            }
            b'c' if is_end && self.is_held => Told::Held,
            b'c' => Told::GoOn,
            b's' if kind == Kind::Body => {
                while self.steps.get(self.next_step).is_some_and(|step| step.is_body) {
                    self.next_step += 1;
                }
                Told::GoOn
            }
            b'r' => Told::Refused,
            b't' => Told::RefusedForNow,
            b'y' if reply.get(1) == Some(&b'4') => Told::RefusedForNow,
            b'y' => Told::Refused,
            _ => {
                let detail = format!("'{}' in reply to {kind:?}", char::from(command));
                return violation(Invariant::OneReply, detail);
            }
        };
        self.state = State::Sends;
        if is_end {
            self.concluded.push((self.message, told));
            self.end_message();
        } else if told != Told::GoOn {
            if kind != Kind::Recipient {
                return violation(Invariant::OneReply, format!("{told:?} in reply to {kind:?}"));
            }
            // The only recipient was refused: the mail server gives the message up.
            self.steps = vec![Step { octets: frame(b'A', &[]), reply: None, is_body: false }];
            self.next_step = 0;
        }
        Ok(())
    }

    fn end_message(&mut self) {
        self.steps.clear();
        self.message += 1;
        self.is_held = false;
    }

    /// What is sent for a message, as was agreed.
    fn steps_of(&self, message: &Message) -> Vec<Step> {
        let Some(letter) = self.letters.get(self.message) else { return Vec::new() };
        let id = queue_id(self.plan.number, message.number);
        let (version, steps) = self.agreed;
        let mut out = Vec::new();
        let mut add = |kind: Kind, unwanted: u32, silent: u32, octets: Vec<u8>| {
            if steps & unwanted == 0 {
                let reply = (steps & silent == 0).then_some(kind);
                out.push(Step { octets, reply, is_body: kind == Kind::Body });
            }
        };
        let address = letter.client.to_string();
        let (family, address) =
            if letter.client.is_ipv4() { (b'4', address) } else { (b'6', format!("IPv6:{address}")) };
        let helo = letter.helo.as_bytes();
        let mut connect = Vec::new();
        if self.message > 0 {
            // The next client, over the same connection.
            connect.extend(frame(b'K', &[]));
        }
        connect.extend(macros(b'C', "j\0mx.receiver.example\0{daemon_name}\0smtpd\0"));
        connect.extend(frame(b'C', &[helo, b"\0", &[family, 0x9c, 0x40], address.as_bytes(), b"\0"]));
        add(Kind::Command, 0x1, 0x1000, connect);
        add(Kind::Command, 0x2, 0x2000, frame(b'H', &[helo, b"\0"]));
        let sender = frame(b'M', &[b"<", letter.mail_from.as_bytes(), b">\0"]);
        add(Kind::Command, 0x4, 0x4000, sender);
        let recipient = frame(b'R', &[b"<someone@receiver.example>\0"]);
        add(Kind::Recipient, 0x8, 0x8000, [macros(b'R', &format!("i\0{id}\0")), recipient].concat());
        if version > 3 {
            add(Kind::Command, 0x200, 0x1_0000, frame(b'T', &[]));
        }
        let split = memchr::memmem::find(&letter.octets, b"\r\n\r\n").map_or(letter.octets.len(), |at| at + 2);
        let (header, body) = letter.octets.split_at(split);
        for field in fields(header) {
            let (name, value) = split_field(field);
            add(Kind::Command, 0x20, 0x80, field_frame(&name, &value, steps & 0x10_0000 != 0));
        }
        add(Kind::Command, 0x40, 0x4_0000, frame(b'N', &[]));
        for chunk in body.get(2..).unwrap_or_default().chunks(message.chunk_bytes) {
            add(Kind::Body, 0x10, 0x8_0000, frame(b'B', &[chunk]));
        }
        add(Kind::EndOfMessage, 0, 0, [macros(b'E', &format!("i\0{id}\0")), frame(b'E', &[])].concat());
        out
    }
}

/// The queue id of a message.
pub(super) fn queue_id(connection: usize, message: usize) -> String {
    format!("S{connection}M{message}")
}

fn offer((version, steps): (u32, u32)) -> Vec<u8> {
    frame(b'O', &[&version.to_be_bytes(), &0x1ff_u32.to_be_bytes(), &steps.to_be_bytes()])
}

fn macros(of: u8, definitions: &str) -> Vec<u8> {
    frame(b'D', &[&[of], definitions.as_bytes()])
}

fn frame(command: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, command, parts);
    out
}

/// The largest frame of a filter.
const REPLY_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that waits for the reply to the end of its only message.
    fn waiting() -> Client {
        let message = Message { number: 0, letter: 0, chunk_bytes: 100, pause_ms: 0, fate: Fate::Whole };
        let plan = Connection {
            number: 0,
            start_ms: 0,
            messages: vec![message],
            offer: (6, 0x1f_ffff),
            piece_bytes: 100,
            cut: None,
        };
        let maker = crate::corpus::Maker::new(&crate::corpus::Options::new(1, 1));
        let mut client = Client::new(plan, vec![maker.letter(0)]);
        assert!(matches!(client.go_on(), Next::Send { .. }));
        let agreed = frame(b'O', &[&6_u32.to_be_bytes(), &0x11_u32.to_be_bytes(), &0x1f_fb00_u32.to_be_bytes()]);
        client.received(&agreed).unwrap();
        while !matches!(client.state(), State::Reply(Kind::EndOfMessage)) {
            assert!(matches!(client.go_on(), Next::Send { .. } | Next::Wait { .. }), "{:?}", client.state());
            if matches!(client.state(), State::Reply(kind) if kind != Kind::EndOfMessage) {
                client.received(&frame(b'c', &[])).unwrap();
            }
        }
        client
    }

    #[test]
    fn one_reply_is_right_two_and_strange_ones_are_not() {
        let mut client = waiting();
        client.received(&[frame(b'p', &[]), frame(b'q', &[b"x\0"]), frame(b'c', &[])].concat()).unwrap();
        assert_eq!(client.concluded, [(0, Told::Held)]);
        let twice = client.received(&frame(b'c', &[])).unwrap_err();
        assert_eq!(twice.invariant, Invariant::OneReply);
        for reply in [b'O', b's', b'x'] {
            assert_eq!(waiting().received(&frame(reply, &[])).unwrap_err().invariant, Invariant::OneReply);
        }
        assert_eq!(waiting().ended().unwrap_err().invariant, Invariant::OneReply);
        assert!(waiting().received(&[0, 0, 0, 0]).is_err());
    }

    #[test]
    fn who_has_given_up_takes_what_is_said() {
        let mut client = waiting();
        client.give_up();
        client.received(&[frame(b'c', &[]), frame(b'c', &[])].concat()).unwrap();
        client.ended().unwrap();
    }
}

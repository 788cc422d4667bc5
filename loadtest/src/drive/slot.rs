//! A message under way: where it is, on which connections, and what was said about it.

use std::sync::Arc;
use std::time::Instant;

use super::dialogue::{Added, Outgoing, Step, Trouble};
use super::findings::{Expected, Findings};
use super::milter::{Agreement, Frames, MilterDialogue};
use super::policy;
use super::smtp::{Lines, SmtpDialogue};
use super::socket::{Socket, Transfer};
use crate::target::Target;

/// Every message as each leg gets it.
pub(crate) struct Script {
    pub(crate) target: Target,
    /// One for each leg.
    pub(crate) laid_out: Vec<LaidOut>,
    pub(crate) expected: Vec<Expected>,
    pub(crate) ids: Vec<String>,
    pub(crate) bytes: Vec<u64>,
    pub(crate) expects_accept: bool,
}

/// Messages as one kind of target gets them.
pub(crate) enum LaidOut {
    Milter { agreed: Agreement, frames: Arc<Vec<Frames>> },
    Policy(Vec<Vec<u8>>),
    Smtp(Vec<Lines>),
}

/// A message of the plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    /// From 0, over the whole run.
    pub(crate) number: u64,
    pub(crate) planned: Instant,
}

/// A place for one message at a time, with its connections: those that are kept serve the next message.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) job: Job,
    pub(crate) leg: usize,
    /// Which message of the stream.
    pub(crate) letter: usize,
    /// One for each leg.
    pub(crate) connections: Vec<Connection>,
    pub(crate) findings: Findings,
    /// What legs before this one have added to the header.
    pub(crate) added: Vec<Added>,
    /// When the content began to be sent.
    pub(crate) content_at: Option<Instant>,
    /// When the last octet of the message had gone.
    pub(crate) end_at: Option<Instant>,
    /// Tells one use of the slot from the next.
    pub(crate) use_number: u32,
    pub(crate) is_busy: bool,
}

/// One connection of a slot.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    pub(crate) socket: Option<Socket>,
    pub(crate) out: Outgoing,
    /// Octets that make no whole reply yet.
    input: Vec<u8>,
    dialogue: Dialogue,
    /// It served another message before, and nothing has come for this one yet.
    pub(crate) is_reused: bool,
}

#[derive(Debug, Default)]
enum Dialogue {
    #[default]
    None,
    Milter(MilterDialogue),
    Policy,
    Smtp(SmtpDialogue),
}

impl Slot {
    pub(crate) fn new(job: Job, legs: usize) -> Self {
        Self {
            job,
            leg: 0,
            letter: 0,
            connections: (0..legs).map(|_| Connection::default()).collect(),
            findings: Findings::default(),
            added: Vec::new(),
            content_at: None,
            end_at: None,
            use_number: 0,
            is_busy: false,
        }
    }

    /// Takes a message on.
    pub(crate) fn take(&mut self, job: Job, letters: usize) {
        self.job = job;
        self.letter = (job.number % letters as u64) as usize;
        (self.leg, self.content_at, self.end_at) = (0, None, None);
        self.findings = Findings::default();
        self.added.clear();
        self.use_number = self.use_number.wrapping_add(1);
        self.is_busy = true;
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connections[self.leg]
    }

    /// Starts the dialogue of the present leg.
    pub(crate) fn begin(&mut self, script: &Script, is_new: bool) {
        let (connection, letter) = (&mut self.connections[self.leg], self.letter);
        connection.out.clear();
        connection.input.clear();
        match &script.laid_out[self.leg] {
            LaidOut::Milter { frames, .. } => {
                let mut dialogue = MilterDialogue::default();
                dialogue.begin(&frames[letter], is_new, &self.added, &mut connection.out);
                connection.dialogue = Dialogue::Milter(dialogue);
            }
            LaidOut::Policy(requests) => {
                policy::begin(&requests[letter], self.job.number, &mut connection.out);
                connection.dialogue = Dialogue::Policy;
            }
            LaidOut::Smtp(lines) => {
                if is_new || !matches!(connection.dialogue, Dialogue::Smtp(_)) {
                    connection.dialogue = Dialogue::Smtp(SmtpDialogue::default());
                }
                if let Dialogue::Smtp(dialogue) = &mut connection.dialogue {
                    dialogue.begin(&lines[letter], is_new, &mut connection.out);
                }
            }
        }
    }

    /// Sends as much as goes.
    pub(crate) fn send(&mut self, script: &Script) -> Result<(), Trouble> {
        let connection = &mut self.connections[self.leg];
        let laid_out = script.laid_out[self.leg].octets(self.letter);
        let Some(socket) = &connection.socket else { return Ok(()) };
        if connection.out.has_content {
            connection.out.has_content = false;
            self.content_at = self.content_at.or_else(|| Some(Instant::now()));
        }
        let had_any = !connection.out.is_empty();
        while !connection.out.is_empty() {
            match socket.send(connection.out.next(laid_out)) {
                Ok(Transfer::Moved(count)) => connection.out.advance(count),
                Ok(Transfer::Later) => return Ok(()),
                Ok(Transfer::Ended) => return Err(Trouble::Closed),
                Err(error) => return Err(Trouble::Broken(error.kind().to_string())),
            }
        }
        if had_any && self.is_at_end(script) {
            self.end_at = Some(Instant::now());
        }
        Ok(())
    }

    fn is_at_end(&self, script: &Script) -> bool {
        match (&self.connections[self.leg].dialogue, &script.laid_out[self.leg]) {
            (Dialogue::Milter(dialogue), LaidOut::Milter { frames, .. }) => dialogue.is_at_end(&frames[self.letter]),
            (Dialogue::Smtp(dialogue), _) => dialogue.is_at_end(),
            (Dialogue::Policy, _) => true,
            _ => false,
        }
    }

    /// Reads what has come, and answers it.
    pub(crate) fn receive(&mut self, script: &Script, buffer: &mut [u8]) -> Result<Step, Trouble> {
        loop {
            let connection = &mut self.connections[self.leg];
            let Some(socket) = &connection.socket else { return Ok(Step::Waits) };
            let count = match socket.receive(buffer) {
                Ok(Transfer::Moved(count)) => count,
                Ok(Transfer::Later) => return Ok(Step::Waits),
                Ok(Transfer::Ended) => return Err(Trouble::Closed),
                Err(error) => return Err(Trouble::Broken(error.kind().to_string())),
            };
            connection.is_reused = false;
            let octets = &buffer[..count];
            // Nearly always a whole reply, which is then read where it lies.
            let step = if connection.input.is_empty() {
                let (used, step) = self.hear(octets, script)?;
                self.connections[self.leg].input.extend_from_slice(&octets[used..]);
                step
            } else {
                connection.input.extend_from_slice(octets);
                let mut input = std::mem::take(&mut connection.input);
                let (used, step) = self.hear(&input, script)?;
                input.drain(..used);
                self.connections[self.leg].input = input;
                step
            };
            if step == Step::Done {
                return Ok(step);
            }
            self.send(script)?;
        }
    }

    fn hear(&mut self, input: &[u8], script: &Script) -> Result<(usize, Step), Trouble> {
        let Connection { dialogue, out, .. } = &mut self.connections[self.leg];
        let (findings, added) = (&mut self.findings, &mut self.added);
        match (dialogue, &script.laid_out[self.leg]) {
            (Dialogue::Milter(dialogue), LaidOut::Milter { agreed, frames }) => {
                dialogue.received(input, &frames[self.letter], *agreed, findings, added, out)
            }
            (Dialogue::Policy, _) => policy::received(input, findings, added),
            (Dialogue::Smtp(dialogue), LaidOut::Smtp(lines)) => {
                dialogue.received(input, &lines[self.letter], findings, out)
            }
            _ => Err(Trouble::Protocol("octets where nothing was asked")),
        }
    }
}

impl Connection {
    /// The other side has closed, or says something that nobody asked for.
    pub(crate) fn is_closed(&self) -> bool {
        let mut octet = [0];
        self.socket.as_ref().is_some_and(|socket| !matches!(socket.receive(&mut octet), Ok(Transfer::Later)))
    }
}

impl LaidOut {
    fn octets(&self, letter: usize) -> &[u8] {
        match self {
            Self::Milter { frames, .. } => &frames[letter].octets,
            Self::Policy(requests) => &requests[letter],
            Self::Smtp(lines) => &lines[letter].octets,
        }
    }
}

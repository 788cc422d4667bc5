//! One milter connection, as a state machine: commands in, replies, DNS questions and a moment to be woken out.
//!
//! SPF starts at MAIL FROM and the other questions at the end of the header, so answers arrive while the client still
//! sends. The only replies that may wait for them are the one to the end of a message and, where SPF alone may refuse,
//! those to RCPT TO.
//!
//! Memory of a connection: the header block of the message under way and hash states; of the body, nothing.

mod changes;
mod message;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use mailproof::service::{Conversation, Host};
use mailproof::{Engine, Envelope, Progress, Session};
use mailproof_proto::dns::{Answer, Name, Question};
use mailproof_proto::limits::SPF_TIME_MAX;
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::Action;

use self::message::{Message, Way};
use crate::guard::{guarded, guarded_session};
use crate::metrics::Skip;
use crate::policy::{SpfOutcomes, decide_spf};
use crate::protocol::{
    Agreement, Client, Command, Fact, FrameReader, Macros, Part, ProtocolError, Reply, Steps, Wishes, write_reply,
};
use crate::service::{Sample, Service, write_spf};

/// One connection of a mail server.
pub struct MilterConversation {
    service: Arc<Service>,
    engine: Engine,
    reader: FrameReader,
    agreement: Agreement,
    phase: Phase,
    waiting: Waiting,
    macros: Macros,
    client: KnownClient,
    helo: String,
    /// Kept from message to message for its memory.
    session: Option<Box<Session>>,
    message: Option<Message>,
    draining: bool,
    /// Nothing is read or written any more.
    over: bool,
    counted_open: bool,
}

/// What the connection has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// The offer is to come.
    Start,
    /// A client is to come.
    Agreed,
    /// A message may begin.
    Connected,
    /// MAIL FROM was said.
    Envelope,
    /// A header field was.
    Header,
    /// The header is complete.
    Body,
}

/// A reply that is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Waiting {
    Nothing,
    /// To RCPT TO, until SPF is known.
    Recipient,
    /// To the end of the message, until the verdict is.
    End,
}

/// The SMTP client.
#[derive(Clone, Debug, Default)]
struct KnownClient {
    host: String,
    address: Option<std::net::IpAddr>,
}

impl MilterConversation {
    /// A connection on which nothing was said yet. `engine` is the one that the hosting loop gives: its sessions ask
    /// nobody but the host.
    #[must_use]
    pub fn new(service: Arc<Service>, engine: Engine) -> Self {
        service.metrics.connection_opened();
        Self {
            service,
            engine,
            reader: FrameReader::new(),
            agreement: Agreement::default(),
            phase: Phase::Start,
            waiting: Waiting::Nothing,
            macros: Macros::default(),
            client: KnownClient::default(),
            helo: String::new(),
            session: None,
            message: None,
            draining: false,
            over: false,
            counted_open: true,
        }
    }

    fn take(&mut self, part: Part<'_>, host: &mut Host<'_>) -> Result<(), ProtocolError> {
        match part {
            Part::Body(octets) => self.body(octets),
            Part::BodyEnd { command } if command == END_OF_MESSAGE => self.end_of_message(host),
            Part::BodyEnd { .. } => self.end_of_chunk(host),
            Part::Frame { command, fields } => self.command(command, Command::read(command, fields)?, host),
        }
    }

    fn command(&mut self, octet: u8, command: Command<'_>, host: &mut Host<'_>) -> Result<(), ProtocolError> {
        use Phase::{Agreed, Body, Connected, Envelope, Header, Start};
        self.expect_patience(octet, command)?;
        let may_come = match command {
            Command::Negotiate(_) => self.phase == Start,
            Command::Quit => true,
            Command::Macros(..) | Command::Abort | Command::Unknown | Command::QuitNewConnection => self.phase != Start,
            Command::Connect(_) => self.phase == Agreed,
            // In the midst of a message too: the client said RSET or a second EHLO, or another filter refused its sender.
            // Sendmail says nothing of that to a filter whose replies it has not read yet.
            Command::Helo(_) | Command::Mail(_) => !matches!(self.phase, Start | Agreed),
            Command::Recipient(_) | Command::Data => self.phase == Envelope,
            Command::Header { .. } | Command::EndOfHeader => matches!(self.phase, Envelope | Header),
        };
        if !may_come {
            return Err(ProtocolError::OutOfOrder { command: octet });
        }
        match command {
            Command::Negotiate(offer) => {
                let policy = &self.service.policy;
                let wishes = Wishes { quarantine: policy.may_quarantine(), recipients: policy.refuses_by_spf() };
                self.agreement = Agreement::with(offer, wishes)?;
                self.agreement.write(host.output());
                self.phase = Agreed;
            }
            Command::Macros(stage, strings) => self.macros.learn(stage, strings),
            Command::Connect(client) => {
                self.client = KnownClient::of(client);
                self.phase = Connected;
                self.go_on(Steps::SILENT_CONNECT, host);
            }
            Command::Helo(name) => {
                self.give_up_message(host);
                self.helo = text(name);
                self.go_on(Steps::SILENT_HELO, host);
            }
            Command::Mail(sender) => {
                self.give_up_message(host);
                self.macros.begin_message();
                self.begin_message(sender, host);
                self.phase = Envelope;
                self.go_on(Steps::SILENT_MAIL, host);
            }
            Command::Recipient(_) => self.recipient(host),
            Command::Data => self.go_on(Steps::SILENT_DATA, host),
            Command::Header { name, value } => {
                self.phase = Header;
                self.header(name, value);
                self.go_on(Steps::SILENT_HEADER, host);
            }
            Command::EndOfHeader => {
                self.phase = Body;
                self.end_of_header(host);
                self.go_on(Steps::SILENT_END_OF_HEADER, host);
            }
            Command::Abort => self.abort(host),
            Command::Unknown => self.go_on(Steps::SILENT_UNKNOWN, host),
            Command::Quit => {
                self.abort(host);
                self.over = true;
                host.close();
            }
            Command::QuitNewConnection => {
                self.abort(host);
                self.macros.end_connection();
                self.client = KnownClient::default();
                self.helo.clear();
                self.phase = Agreed;
            }
        }
        Ok(())
    }

    /// While a reply is due, the server may only give up.
    fn expect_patience(&self, octet: u8, command: Command<'_>) -> Result<(), ProtocolError> {
        let gives_up = matches!(command, Command::Abort | Command::Quit | Command::QuitNewConnection);
        if self.waiting == Waiting::Nothing || gives_up {
            return Ok(());
        }
        Err(ProtocolError::Impatient { command: octet })
    }

    /// Replies "go on", unless it was agreed not to.
    fn go_on(&self, silent: Steps, host: &mut Host<'_>) {
        if !self.agreement.has(silent) {
            write_reply(host.output(), Reply::Continue);
        }
    }

    fn begin_message(&mut self, sender: &[u8], host: &mut Host<'_>) {
        let sender = text(sender);
        let mail_from =
            sender.trim().strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(sender.trim());
        let skip = self.skip();
        let mut message = Message::new(mail_from.to_owned(), skip, host.now());
        let verifies = message.way == Way::Verify;
        if verifies && self.service.auditor.as_ref().is_some_and(|auditor| auditor.wants_next()) {
            message.begin_copy();
        }
        self.message = Some(message);
        if verifies {
            let envelope =
                Envelope { ip: self.client.address, helo: self.helo.clone(), mail_from: mail_from.to_owned() };
            let engine = self.engine.clone();
            self.guarded(|session| match session {
                Some(session) => session.restart(envelope),
                None => *session = Some(Box::new(engine.session(envelope))),
            });
            self.advance(host);
        }
    }

    /// Why a message of this client is not verified.
    fn skip(&self) -> Option<Skip> {
        let skip = &self.service.skip;
        if skip.authenticated && self.macros.value(Fact::Authenticated).is_some() {
            return Some(Skip::Authenticated);
        }
        let Some(address) = self.client.address else {
            return skip.local.then_some(Skip::Local);
        };
        let of_own_daemon = || {
            let daemon = self.macros.value(Fact::DaemonName);
            daemon.is_some_and(|daemon| skip.daemons.iter().any(|own| own == daemon))
        };
        if skip.networks.iter().any(|network| network.contains(address)) || of_own_daemon() {
            return Some(Skip::Own);
        }
        // Sendmail hands over names that it could not confirm, and says so.
        let confirmed = matches!(self.macros.value(Fact::ClientResolve), None | Some("OK"));
        let name = Name::parse_domain(&self.client.host).ok().filter(|_| confirmed);
        skip.lists(address, name.as_ref()).then_some(Skip::Listed)
    }

    fn recipient(&mut self, host: &mut Host<'_>) {
        let verifies = self.message.as_ref().is_some_and(|message| message.way == Way::Verify);
        if self.agreement.has(Steps::SILENT_RECIPIENT) || !verifies || !self.service.policy.refuses_by_spf() {
            self.go_on(Steps::SILENT_RECIPIENT, host);
            return;
        }
        self.waiting = Waiting::Recipient;
        self.advance(host);
    }

    /// Answers RCPT TO once SPF is known, or can not be.
    fn answer_recipient(&mut self, host: &mut Host<'_>) {
        self.stop_waiting(host);
        let spf = self.session.as_ref().and_then(|session| Some((session.spf()?.clone(), session.helo()?.clone())));
        let (Some((spf, helo)), Some(message)) = (spf, &mut self.message) else {
            write_reply(host.output(), Reply::Continue);
            return;
        };
        let known = SpfOutcomes { mail_from: &spf, helo: &helo };
        let decision = decide_spf(&self.service.policy, known, self.client.address, false);
        match &decision.reply {
            Some(reply) if decision.action == Action::Reject => {
                write_reply(host.output(), Reply::ReplyCode(&reply.for_milter()));
                if !mem::replace(&mut message.refused_recipients, true) {
                    self.service.metrics.message(decision.action, Duration::ZERO);
                    let client = self.client.address;
                    self.service.log("recipients-refused", |line| {
                        line.pair("queue-id", self.macros.value(Fact::QueueId).unwrap_or("-"));
                        line.optional("client", client.as_ref().map(|it| it as &dyn std::fmt::Display));
                        write_spf(line, &spf);
                        line.display("reasons", &decision.reasons).display("reply", &reply.for_log());
                    });
                }
            }
            _ => write_reply(host.output(), Reply::Continue),
        }
    }

    fn header(&mut self, name: &[u8], value: &[u8]) {
        let Some(message) = &mut self.message else { return };
        message.add_header(name, value, self.agreement.has(Steps::LEADING_SPACE));
        if message.way == Way::Verify {
            let line = message.take_line();
            self.push(&line);
            if let Some(message) = &mut self.message {
                message.give_back(line);
            }
        }
    }

    fn end_of_header(&mut self, host: &mut Host<'_>) {
        let Some(message) = &mut self.message else { return };
        match message.way {
            Way::Verify => {
                self.push(b"\r\n");
                self.advance(host);
            }
            Way::Pass => message.end_header(&self.service.signer),
        }
    }

    fn body(&mut self, octets: &[u8]) -> Result<(), ProtocolError> {
        // The end of a message may bring octets of its body, which needs its header before.
        if self.phase != Phase::Body {
            return Err(ProtocolError::OutOfOrder { command: BODY });
        }
        if self.waiting != Waiting::Nothing {
            return Err(ProtocolError::Impatient { command: BODY });
        }
        if !self.wants_body() {
            return Ok(());
        }
        match &mut self.message {
            Some(message) if message.way == Way::Pass => message.push_body(octets),
            _ => self.push(octets),
        }
        Ok(())
    }

    fn end_of_chunk(&mut self, host: &mut Host<'_>) -> Result<(), ProtocolError> {
        if self.phase != Phase::Body {
            return Err(ProtocolError::OutOfOrder { command: BODY });
        }
        if self.waiting != Waiting::Nothing {
            return Err(ProtocolError::Impatient { command: BODY });
        }
        if self.agreement.has(Steps::SKIP) && !self.wants_body() {
            write_reply(host.output(), Reply::Skip);
        } else {
            self.go_on(Steps::SILENT_BODY, host);
        }
        Ok(())
    }

    /// True while a result or a signature depends on the body.
    fn wants_body(&self) -> bool {
        match &self.message {
            Some(message) if message.way == Way::Pass => message.wants_body(),
            Some(_) => self.session.as_ref().is_some_and(|session| session.wants_body()),
            None => false,
        }
    }

    fn end_of_message(&mut self, host: &mut Host<'_>) -> Result<(), ProtocolError> {
        if self.waiting != Waiting::Nothing {
            return Err(ProtocolError::Impatient { command: END_OF_MESSAGE });
        }
        match self.phase {
            Phase::Body => {}
            // A message of a header alone.
            Phase::Envelope | Phase::Header => self.end_of_header(host),
            _ => return Err(ProtocolError::OutOfOrder { command: END_OF_MESSAGE }),
        }
        let Some(message) = &mut self.message else { return Ok(()) };
        message.ended = host.now();
        message.next_progress = host.now() + PROGRESS_TIME;
        self.waiting = Waiting::End;
        match message.way {
            Way::Pass => self.conclude(host),
            Way::Verify => {
                self.guarded(|session| session.iter_mut().for_each(|session| session.end()));
                self.advance(host);
            }
        }
        Ok(())
    }

    /// Goes on with the verification as far as the answers at hand allow, and gives the reply that waits for it.
    fn advance(&mut self, host: &mut Host<'_>) {
        let step = self.guarded(|session| {
            let session = session.as_mut()?;
            let progress = session.poll();
            let mut questions = Vec::new();
            while let Some(question) = session.next_question() {
                questions.push(question);
            }
            Some((progress, questions))
        });
        let (progress, questions) = match step.flatten() {
            Some(step) => step,
            // Without a session there is nothing to wait for.
            None => (Progress::Done, Vec::new()),
        };
        for question in questions {
            host.ask(question);
        }
        let Some(message) = &self.message else { return };
        match (self.waiting, progress) {
            (Waiting::Nothing, _) => {}
            (Waiting::Recipient, progress) => {
                let known =
                    self.session.as_ref().is_none_or(|session| session.spf().is_some() && session.helo().is_some());
                if known || progress == Progress::Done {
                    self.answer_recipient(host);
                } else {
                    wake_at(message.began + SPF_TIME_MAX, host);
                }
            }
            (Waiting::End, Progress::NeedsAnswers { deadline }) => {
                wake_at(deadline.min(message.next_progress), host);
            }
            (Waiting::End, Progress::Done | Progress::NeedsMessage) => self.conclude(host),
        }
    }

    /// The end of a message: changes, then the reply.
    fn conclude(&mut self, host: &mut Host<'_>) {
        self.stop_waiting(host);
        self.phase = Phase::Connected;
        let Some(mut message) = self.message.take() else { return };
        let waited = Duration::from_millis(host.now().milliseconds().saturating_sub(message.ended.milliseconds()));
        let mut replies = Vec::new();
        let queue_id = self.macros.value(Fact::QueueId);
        let concluded = guarded(&self.service, ("queue-id", queue_id.unwrap_or("-")), || {
            let around = message::Around {
                service: &self.service,
                agreement: self.agreement,
                client: self.client.address,
                helo: &self.helo,
                queue_id,
                session: self.session.as_deref(),
                now: host.now(),
                waited,
            };
            message.conclude(&around, &mut replies);
        });
        if concluded.is_none() {
            // The fault lies in what was being written, so nothing of it is sent.
            replies.clear();
            message.fault = true;
            message.write_fault_reply(&self.service, &mut replies);
        }
        host.output().extend_from_slice(&replies);
        self.hand_to_auditor(&mut message);
        if message.is_large() || message.fault {
            self.session = None;
        }
        self.macros.end_message();
        if self.draining {
            self.over = true;
            host.close();
        }
    }

    fn hand_to_auditor(&self, message: &mut Message) {
        let Some(copy) = message.take_copy().filter(|_| !message.fault) else { return };
        let (Some(auditor), Some(session)) = (&self.service.auditor, &self.session) else { return };
        if let Some(verdict) = session.verdict() {
            auditor.examine(Sample {
                message: copy,
                envelope: session.envelope().clone(),
                verdict: verdict.clone(),
                queue_id: self.macros.value(Fact::QueueId).map(str::to_owned),
            });
        }
    }

    fn abort(&mut self, host: &mut Host<'_>) {
        self.give_up_message(host);
        self.macros.end_message();
        if self.draining {
            self.over = true;
            host.close();
        }
    }

    /// Forgets the message under way, if there is one. Its macros stay, as they may be of the next one already.
    fn give_up_message(&mut self, host: &mut Host<'_>) {
        self.stop_waiting(host);
        if let Some(message) = self.message.take() {
            self.service.metrics.message_aborted();
            if message.is_large() {
                self.session = None;
            }
        }
        if !matches!(self.phase, Phase::Start | Phase::Agreed) {
            self.phase = Phase::Connected;
        }
    }

    fn stop_waiting(&mut self, host: &mut Host<'_>) {
        self.waiting = Waiting::Nothing;
        host.wake_at(None);
    }

    fn push(&mut self, octets: &[u8]) {
        if let Some(message) = &mut self.message {
            message.copy(octets);
        }
        self.guarded(|session| session.iter_mut().for_each(|session| session.push(octets)));
    }

    /// Runs a step of the verification. Should it panic, the message goes on without: mail never stops because of us.
    fn guarded<R>(&mut self, step: impl FnOnce(&mut Option<Box<Session>>) -> R) -> Option<R> {
        if self.message.as_ref().is_some_and(|message| message.fault) {
            return None;
        }
        let queue_id = self.macros.value(Fact::QueueId).unwrap_or("-");
        let result = guarded_session(&self.service, ("queue-id", queue_id), &mut self.session, step);
        if let (None, Some(message)) = (&result, &mut self.message) {
            message.fault = true;
        }
        result
    }

    /// Ends a connection whose peer broke the protocol.
    fn fail(&mut self, error: ProtocolError, host: &mut Host<'_>) {
        self.over = true;
        self.stop_waiting(host);
        if self.message.take().is_some() {
            self.service.metrics.message_aborted();
        }
        self.service.metrics.protocol_error();
        self.service.log("protocol-error", |line| {
            line.pair("reason", error.word()).display("detail", &error);
            line.optional("client", self.client.address.as_ref().map(|it| it as &dyn std::fmt::Display));
        });
        host.close();
    }
}

impl Conversation for MilterConversation {
    fn received(&mut self, octets: &[u8], host: &mut Host<'_>) {
        let mut reader = mem::take(&mut self.reader);
        let mut at = 0;
        while !self.over {
            let taken = match reader.next(octets, &mut at) {
                Ok(Some(part)) => self.take(part, host),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                self.fail(error, host);
            }
        }
        self.reader = reader;
    }

    fn answered(&mut self, question: &Question, answer: &Answer, host: &mut Host<'_>) {
        if self.over || self.message.is_none() {
            return;
        }
        // Answers to what an earlier message asked are learned too if this one asked the same, and ignored otherwise.
        self.guarded(|session| session.iter_mut().for_each(|session| session.learn(question, answer.clone())));
        self.advance(host);
    }

    fn woken(&mut self, host: &mut Host<'_>) {
        if self.over || self.waiting == Waiting::Nothing {
            return;
        }
        if let Some(message) = &mut self.message
            && self.waiting == Waiting::End
            && host.now() >= message.next_progress
        {
            message.next_progress = host.now() + PROGRESS_TIME;
            write_reply(host.output(), Reply::Progress);
        }
        self.advance(host);
    }

    fn drain(&mut self, host: &mut Host<'_>) {
        self.draining = true;
        if self.message.is_none() {
            self.over = true;
            host.close();
        }
    }

    fn closed(&mut self) {
        self.over = true;
        if self.message.take().is_some() {
            self.service.metrics.message_aborted();
        }
        if mem::take(&mut self.counted_open) {
            self.service.metrics.connection_closed();
        }
    }
}

impl KnownClient {
    fn of(client: Client<'_>) -> Self {
        Self { host: text(client.host), address: client.address }
    }
}

impl std::fmt::Debug for MilterConversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = (self.phase, self.waiting);
        f.debug_struct("MilterConversation").field("state", &state).finish_non_exhaustive()
    }
}

/// Asks to be woken at a moment, a little later when it has passed: the clock of the engine may be a step behind.
fn wake_at(moment: Timestamp, host: &mut Host<'_>) {
    host.wake_at(Some(if moment > host.now() { moment } else { host.now() + RETRY_TIME }));
}

/// What a client said, whatever octets it is made of.
fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

const BODY: u8 = b'B';
const END_OF_MESSAGE: u8 = b'E';
/// A sign of life this often, well within the 300 seconds that Postfix and Sendmail wait for the reply to a message.
const PROGRESS_TIME: Duration = Duration::from_secs(10);
/// How long to wait where a moment has passed and nothing came of it.
const RETRY_TIME: Duration = Duration::from_millis(50);

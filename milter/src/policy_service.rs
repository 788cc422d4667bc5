//! Postfix's policy delegation (`check_policy_service`): SPF at RCPT with the same policy, for sites without a milter or
//! that refuse before DATA.
//!
//! A request is lines `name=value` and an empty line; the answer is `action=` and an empty line. Postfix asks once a
//! recipient, with the same `instance` for all of one message: Received-SPF is prepended for the first of them alone.

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mailproof::service::{Conversation, Host};
use mailproof::{Engine, Envelope, Session};
use mailproof_proto::dns::{Answer, Name, Question};
use mailproof_proto::limits::SPF_TIME_MAX;
use mailproof_proto::spf::{Check, Identity, ReceivedSpf};
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::Action;

use crate::guard::guarded_session;
use crate::policy::{Decision, SpfOutcomes, decide_internal_error, decide_spf};
use crate::service::{Service, write_spf};

/// One connection of Postfix.
pub struct PolicyConversation {
    service: Arc<Service>,
    engine: Engine,
    /// Octets that make no whole line yet.
    line: Vec<u8>,
    request: Request,
    request_bytes: usize,
    session: Option<Box<Session>>,
    /// The request whose answer waits for the DNS, and when it began.
    asked: Option<(Request, Timestamp)>,
    /// What came behind it.
    later: Vec<u8>,
    /// The message answered last and what was decided about it.
    last: Option<(String, String)>,
    draining: bool,
    over: bool,
    counted_open: bool,
}

/// The attributes that are used.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Request {
    is_policy: bool,
    client_address: String,
    client_name: String,
    helo_name: String,
    sender: String,
    instance: String,
    queue_id: String,
    sasl_username: String,
    protocol_state: String,
}

impl PolicyConversation {
    /// A connection on which nothing was asked yet. `engine` is the one that the hosting loop gives: its sessions ask
    /// nobody but the host.
    #[must_use]
    pub fn new(service: Arc<Service>, engine: Engine) -> Self {
        service.metrics.connection_opened();
        Self {
            service,
            engine,
            line: Vec::new(),
            request: Request::default(),
            request_bytes: 0,
            session: None,
            asked: None,
            later: Vec::new(),
            last: None,
            draining: false,
            over: false,
            counted_open: true,
        }
    }

    /// Goes on with other settings, between two requests alone: Postfix keeps its connections for a long time.
    /// False in the midst of one.
    pub fn renew(&mut self, service: Arc<Service>, engine: Engine) -> bool {
        let is_between = self.asked.is_none() && self.request_bytes == 0;
        if is_between {
            (self.service, self.engine) = (service, engine);
            (self.session, self.last) = (None, None);
        }
        is_between
    }

    /// Takes octets until a request has to wait.
    fn take(&mut self, octets: &[u8], host: &mut Host<'_>) {
        let mut rest = octets;
        while !rest.is_empty() && !self.over {
            if self.asked.is_some() {
                // Postfix waits for its answer, so more than the next request is no Postfix.
                if self.later.len() + rest.len() > REQUEST_BYTES_MAX {
                    return self.fail("impatient", host);
                }
                self.later.extend_from_slice(rest);
                return;
            }
            let end = rest.iter().position(|octet| *octet == b'\n');
            let (piece, after) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, &[]));
            self.request_bytes += piece.len() + usize::from(end.is_some());
            if self.request_bytes > REQUEST_BYTES_MAX {
                return self.fail("request-too-long", host);
            }
            self.line.extend_from_slice(piece);
            rest = after.get(1..).unwrap_or_default();
            if end.is_some() {
                let line = mem::take(&mut self.line);
                self.take_line(&line, host);
                self.line = line;
                self.line.clear();
            }
        }
    }

    fn take_line(&mut self, line: &[u8], host: &mut Host<'_>) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            return match self.request.learn(&String::from_utf8_lossy(line)) {
                true => {}
                false => self.fail("malformed-line", host),
            };
        }
        let request = mem::take(&mut self.request);
        self.request_bytes = 0;
        if !request.is_policy {
            return self.fail("unknown-request", host);
        }
        self.begin(request, host);
    }

    fn begin(&mut self, request: Request, host: &mut Host<'_>) {
        let Some(client) = self.verifies(&request) else {
            self.answer(DUNNO, host);
            return;
        };
        if let Some((instance, action)) = &self.last
            && !request.instance.is_empty()
            && *instance == request.instance
        {
            let action = action.clone();
            self.answer(&action, host);
            return;
        }
        let envelope = Envelope::new(client, request.helo_name.clone(), request.sender.clone());
        let engine = self.engine.clone();
        self.asked = Some((request, host.now()));
        self.guarded(|session| match session {
            Some(session) => session.restart(envelope),
            None => *session = Some(Box::new(engine.session(envelope))),
        });
        self.advance(host);
    }

    /// The address of a client whose SPF is looked at.
    fn verifies(&self, request: &Request) -> Option<IpAddr> {
        let skip = &self.service.skip;
        if skip.authenticated && !request.sasl_username.is_empty() {
            return None;
        }
        // Later states are the milter's; earlier ones know no sender.
        if !matches!(request.protocol_state.as_str(), "" | "MAIL" | "RCPT" | "DATA" | "END-OF-MESSAGE") {
            return None;
        }
        let client: IpAddr = request.client_address.parse().ok()?;
        let own = skip.networks.iter().any(|network| network.contains(client));
        // Postfix gives no name that it could not confirm.
        let listed = skip.lists(client, Name::parse_domain(&request.client_name).ok().as_ref());
        (!own && !listed).then_some(client)
    }

    fn advance(&mut self, host: &mut Host<'_>) {
        let known = self.guarded(|session| {
            let session = session.as_mut()?;
            session.poll();
            let spf = session.spf().cloned().zip(session.helo().cloned());
            let questions: Vec<Question> = std::iter::from_fn(|| session.next_question()).collect();
            Some((spf, questions))
        });
        let Some((request, began)) = &self.asked else { return };
        match known.flatten() {
            Some((Some((spf, helo)), _)) => {
                let request = request.clone();
                self.decide(&request, SpfOutcomes { mail_from: &spf, helo: &helo }, host);
            }
            Some((None, questions)) => {
                let moment = *began + SPF_TIME_MAX;
                questions.into_iter().for_each(|question| host.ask(question));
                host.wake_at(Some(if moment > host.now() { moment } else { host.now() + RETRY_TIME }));
            }
            None => {
                let decision = decide_internal_error(&self.service.policy);
                self.conclude(&decision, None, host);
            }
        }
    }

    fn decide(&mut self, request: &Request, known: SpfOutcomes<'_>, host: &mut Host<'_>) {
        let (client, spf) = (request.client_address.parse().ok(), known.mail_from);
        let decision = decide_spf(&self.service.policy, known, client, true);
        let received = client.filter(|_| self.service.headers.received_spf).map(|client| {
            let identity = if request.sender.is_empty() { Identity::Helo } else { Identity::MailFrom };
            let check = Check {
                ip: client,
                helo: &request.helo_name,
                mail_from: &request.sender,
                receiver: self.service.authserv_id(),
                now_seconds: host.now().seconds(),
            };
            // An action is one line.
            ReceivedSpf::new(identity, &check, spf).to_string().replace("\r\n\t", " ")
        });
        self.service.log("policy-request", |line| {
            line.pair("queue-id", if request.queue_id.is_empty() { "-" } else { &request.queue_id });
            line.pair("client", &request.client_address).pair("helo", &request.helo_name);
            write_spf(line, spf);
            line.pair("action", decision.action.word());
            if decision.asked != decision.action {
                line.pair("would", decision.asked.word());
            }
            if !decision.reasons.is_empty() {
                line.display("reasons", &decision.reasons);
            }
        });
        self.conclude(&decision, received, host);
    }

    /// Gives the answer of a decision, and keeps it for the other recipients of the message.
    fn conclude(&mut self, decision: &Decision, received: Option<String>, host: &mut Host<'_>) {
        let refuses = decision.reply.as_ref().filter(|_| matches!(decision.action, Action::Reject | Action::Defer));
        let (action, repeated) = match (refuses, decision.action) {
            (Some(reply), Action::Defer) => (format!("DEFER_IF_PERMIT {} {}", reply.enhanced(), reply.text()), None),
            (Some(reply), _) => (reply.to_string(), None),
            (None, Action::Quarantine) => (format!("HOLD mailproof: {}", decision.reasons), None),
            (None, _) => match received {
                Some(field) => (format!("PREPEND Received-SPF: {field}"), Some(DUNNO.to_owned())),
                None => (DUNNO.to_owned(), None),
            },
        };
        if let Some((request, _)) = self.asked.take() {
            self.last = Some((request.instance, repeated.unwrap_or_else(|| action.clone())));
        }
        self.service.metrics.policy_request(decision.action);
        host.wake_at(None);
        self.answer(&action, host);
    }

    fn answer(&mut self, action: &str, host: &mut Host<'_>) {
        host.output().extend_from_slice(format!("action={action}\n\n").as_bytes());
        if self.draining {
            self.over = true;
            host.close();
        }
    }

    /// Goes on with what came while a request waited.
    fn take_later(&mut self, host: &mut Host<'_>) {
        while self.asked.is_none() && !self.later.is_empty() && !self.over {
            let later = mem::take(&mut self.later);
            self.take(&later, host);
        }
    }

    fn guarded<R>(&mut self, step: impl FnOnce(&mut Option<Box<Session>>) -> R) -> Option<R> {
        guarded_session(&self.service, ("service", "policy"), &mut self.session, step)
    }

    /// Closes without an answer, which Postfix meets with a temporary refusal.
    fn fail(&mut self, reason: &str, host: &mut Host<'_>) {
        self.over = true;
        self.service.metrics.protocol_error();
        self.service.log("protocol-error", |line| {
            line.pair("service", "policy").pair("reason", reason);
        });
        host.close();
    }
}

impl Request {
    /// Takes one line; false when it is none.
    fn learn(&mut self, line: &str) -> bool {
        let Some((name, value)) = line.split_once('=') else { return false };
        let slot = match name {
            "request" => {
                self.is_policy = value == "smtpd_access_policy";
                return true;
            }
            "client_address" => &mut self.client_address,
            "client_name" => &mut self.client_name,
            "helo_name" => &mut self.helo_name,
            "sender" => &mut self.sender,
            "instance" => &mut self.instance,
            "queue_id" => &mut self.queue_id,
            "sasl_username" => &mut self.sasl_username,
            "protocol_state" => &mut self.protocol_state,
            // Attributes that are not used, and those of versions to come.
            _ => return true,
        };
        value.clone_into(slot);
        true
    }
}

impl Conversation for PolicyConversation {
    fn received(&mut self, octets: &[u8], host: &mut Host<'_>) {
        self.take(octets, host);
    }

    fn answered(&mut self, question: &Question, answer: &Answer, host: &mut Host<'_>) {
        if self.over || self.asked.is_none() {
            return;
        }
        self.guarded(|session| session.iter_mut().for_each(|session| session.learn(question, answer.clone())));
        self.advance(host);
        self.take_later(host);
    }

    fn woken(&mut self, host: &mut Host<'_>) {
        if self.over || self.asked.is_none() {
            return;
        }
        self.advance(host);
        self.take_later(host);
    }

    fn drain(&mut self, host: &mut Host<'_>) {
        self.draining = true;
        if self.asked.is_none() && self.request_bytes == 0 {
            self.over = true;
            host.close();
        }
    }

    fn closed(&mut self) {
        self.over = true;
        if mem::take(&mut self.counted_open) {
            self.service.metrics.connection_closed();
        }
    }
}

impl std::fmt::Debug for PolicyConversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyConversation").field("asked", &self.asked).finish_non_exhaustive()
    }
}

/// "I have no opinion": the next restriction of Postfix decides.
const DUNNO: &str = "DUNNO";
/// Octets of a request: Postfix's are about 1,500, with a client certificate a few thousand.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// How long to wait where a moment has passed and nothing came of it.
const RETRY_TIME: Duration = Duration::from_millis(50);

//! One message on its way through a connection.

use std::net::IpAddr;
use std::time::Duration;

use mailproof::Session;
use mailproof_proto::authres::{Layout, Writer};
use mailproof_proto::dkim::{Algorithm, BodyHashes, SignError};
use mailproof_proto::limits::HEADER_BLOCK_BYTES_MAX;
use mailproof_proto::message::{HeaderIndex, Headers};
use mailproof_proto::spf::{Check, Identity, ReceivedSpf};
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::{Action, Verdict};

use super::changes::{Changes, forged_fields};
use crate::metrics::Skip;
use crate::policy::{Decision, Facts, OnError, SmtpReply, decide, decide_internal_error};
use crate::protocol::{Actions, Agreement, HEADER_BYTES_MAX, Reply, Steps, write_reply};
use crate::service::{MessageReport, Service};
use crate::signing::{Selection, Signer};

/// What is done with a message on its way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// It goes through the engine.
    Verify,
    /// It is not verified, but may be signed.
    Pass,
}

/// A message under way.
pub(super) struct Message {
    pub(super) way: Way,
    pub(super) began: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) next_progress: Timestamp,
    pub(super) refused_recipients: bool,
    /// Something of ours broke; the message goes on without us.
    pub(super) fault: bool,
    mail_from: String,
    skip: Option<Skip>,
    /// Header fields as they came, by the names that may be removed.
    results_count: u32,
    explain_count: u32,
    header_bytes: usize,
    /// The header block where no session keeps it, else one line of it.
    header: Vec<u8>,
    index: HeaderIndex,
    signing: Option<(Selection, BodyHashes)>,
    /// Its header is too long to find out who would sign it.
    is_unreadable: bool,
    /// The octets that were verified, for an auditor.
    copy: Option<Vec<u8>>,
}

/// What the end of a message needs to know of its connection.
pub(super) struct Around<'a> {
    pub(super) service: &'a Service,
    pub(super) agreement: Agreement,
    pub(super) client: Option<IpAddr>,
    pub(super) helo: &'a str,
    pub(super) queue_id: Option<&'a str>,
    pub(super) session: Option<&'a Session>,
    pub(super) now: Timestamp,
    pub(super) waited: Duration,
}

impl Message {
    pub(super) fn new(mail_from: String, skip: Option<Skip>, now: Timestamp) -> Self {
        Self {
            way: if skip.is_some() { Way::Pass } else { Way::Verify },
            began: now,
            ended: now,
            next_progress: now,
            refused_recipients: false,
            fault: false,
            mail_from,
            skip,
            results_count: 0,
            explain_count: 0,
            header_bytes: 0,
            header: Vec::new(),
            index: HeaderIndex::new(),
            signing: None,
            is_unreadable: false,
            copy: None,
        }
    }

    /// Takes a field as the server gives it, its folding as LF. Over the limits of a header fields are counted, and at last
    /// not even that: to give such a message up would be to let it pass.
    pub(super) fn add_header(&mut self, name: &[u8], value: &[u8], with_space: bool) {
        let is = |other: &str| name.trim_ascii_end().eq_ignore_ascii_case(other.as_bytes());
        let length = name.len() + value.len();
        self.header_bytes = self.header_bytes.saturating_add(length);
        if self.header_bytes <= HEADER_BYTES_MAX {
            self.results_count += u32::from(is(RESULTS_FIELD));
            self.explain_count += u32::from(is(EXPLAIN_FIELD));
        }
        if self.way == Way::Verify {
            self.header.clear();
        }
        let start = self.header.len();
        if start + length > HEADER_BLOCK_BYTES_MAX {
            // Nothing of such a header is signed; what is too long for a session it notes itself.
            return;
        }
        self.header.extend_from_slice(name);
        self.header.push(b':');
        // Without the agreement on it one space is taken away, and simple canonicalisation needs it (RFC 6376 3.4.1). A
        // field without one can not be told from those with; they are rare, and a tab shows that there was none.
        if !with_space && value.first() != Some(&b'\t') {
            self.header.push(b' ');
        }
        push_with_crlf(&mut self.header, value);
        self.header.extend_from_slice(b"\r\n");
    }

    /// Keeps a copy from now on.
    pub(super) fn begin_copy(&mut self) {
        self.copy = Some(Vec::new());
    }

    /// Takes octets into the copy; one that becomes too large is given up.
    pub(super) fn copy(&mut self, octets: &[u8]) {
        if let Some(copy) = &mut self.copy {
            copy.extend_from_slice(octets);
            if copy.len() > COPY_BYTES_MAX {
                self.copy = None;
            }
        }
    }

    pub(super) fn take_copy(&mut self) -> Option<Vec<u8>> {
        self.copy.take()
    }

    /// The field taken last, to be verified.
    pub(super) fn take_line(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.header)
    }

    /// Takes the memory of a line back.
    pub(super) fn give_back(&mut self, line: Vec<u8>) {
        self.header = line;
    }

    /// The header of a message that is not verified is complete: who signs it?
    pub(super) fn end_header(&mut self, signer: &Signer) {
        let fits = self.header_bytes <= HEADER_BLOCK_BYTES_MAX;
        let headers = fits.then(|| self.index.scan(&self.header)).filter(|it| !it.defects().header_over_limit);
        if !self.skip.is_some_and(Skip::is_outgoing) || signer.keys().is_empty() {
            return;
        }
        let Some(headers) = headers else {
            self.is_unreadable = true;
            return;
        };
        self.signing = signer.select(headers).map(|selection| {
            let mut bodies = BodyHashes::new();
            signer.want_body(&mut bodies);
            (selection, bodies)
        });
    }

    pub(super) fn push_body(&mut self, octets: &[u8]) {
        if let Some((_, bodies)) = &mut self.signing {
            bodies.update(octets);
        }
    }

    pub(super) fn wants_body(&self) -> bool {
        self.signing.is_some()
    }

    /// True when its header took so much memory that it should not be kept.
    pub(super) fn is_large(&self) -> bool {
        self.header_bytes > HELD_BYTES_MAX
    }

    /// Writes every change, then the reply; counts and logs.
    pub(super) fn conclude(&mut self, around: &Around<'_>, out: &mut Vec<u8>) {
        match self.way {
            Way::Pass => self.conclude_passed(around, out),
            Way::Verify => {
                let session = around.session.filter(|_| !self.fault);
                match session.and_then(|session| Some((session.headers(), session.verdict()?))) {
                    Some((headers, verdict)) => self.conclude_verified(headers, verdict, around, out),
                    None => self.conclude_unverified(around, out),
                }
            }
        }
    }

    fn conclude_verified(&self, headers: Headers<'_>, verdict: &Verdict, around: &Around<'_>, out: &mut Vec<u8>) {
        let service = around.service;
        let facts = Facts::read(headers, verdict);
        let mut decision = decide(&service.policy, verdict, &facts);
        if !around.agreement.allows(Actions::QUARANTINE) {
            decision.give_up_holding(verdict);
        }
        service.metrics.verdict(verdict);
        let mut forged = 0;
        if decision.action == Action::Accept || decision.action == Action::Quarantine {
            let mut changes = self.changes(around, out);
            forged = self.remove_forged(Some(headers), &mut changes, around);
            if service.headers.explain {
                changes.insert(EXPLAIN_FIELD, &explanation(&decision, service));
            }
            if let (true, Some(client)) = (service.headers.received_spf, around.client) {
                changes.insert("Received-SPF", &received_spf(verdict, client, around, &self.mail_from));
            }
            let mut results = String::new();
            verdict.write_authentication_results(&mut results, service.authserv_id(), Layout::FoldedLf);
            changes.insert(RESULTS_FIELD, &results);
        }
        write_decision(&decision, out);
        self.report(Some(verdict), &decision, 0, forged, around);
    }

    /// Something of ours broke before there was a verdict.
    fn conclude_unverified(&self, around: &Around<'_>, out: &mut Vec<u8>) {
        let service = around.service;
        let decision = decide_internal_error(&service.policy);
        let mut forged = 0;
        if decision.action == Action::Accept {
            let mut changes = self.changes(around, out);
            forged = self.remove_forged(None, &mut changes, around);
            let mut results = String::new();
            let mut writer = Writer::new(&mut results, service.authserv_id(), Layout::FoldedLf);
            for method in ["spf", "dkim", "dmarc"] {
                writer.result(method, "temperror").reason("internal-error");
            }
            writer.finish();
            changes.insert(RESULTS_FIELD, &results);
        }
        write_decision(&decision, out);
        self.report(None, &decision, 0, forged, around);
    }

    fn conclude_passed(&mut self, around: &Around<'_>, out: &mut Vec<u8>) {
        let service = around.service;
        let signed = self.sign(service, around.now);
        let mut decision = Decision {
            action: Action::Accept,
            asked: Action::Accept,
            reply: None,
            reasons: Default::default(),
            override_reason: None,
        };
        let signatures = signed.unwrap_or_else(|error| {
            service.metrics.not_signed();
            service.log("not-signed", |line| {
                line.pair("queue-id", around.queue_id.unwrap_or("-")).display("reason", &error);
            });
            if service.policy.internal_error == OnError::Defer {
                decision.action = Action::Defer;
                decision.asked = Action::Defer;
                decision.reply = Some(SmtpReply::not_signed());
            }
            Vec::new()
        });
        let mut forged = 0;
        if decision.action == Action::Accept {
            let mut changes = self.changes(around, out);
            let scanned = self.header_bytes <= HEADER_BLOCK_BYTES_MAX;
            let headers = scanned.then(|| self.index.view(&self.header));
            forged = self.remove_forged(headers, &mut changes, around);
            for (algorithm, field) in &signatures {
                let value = field.trim_end().strip_prefix("DKIM-Signature:").unwrap_or_default();
                changes.insert("DKIM-Signature", &value.trim_start().replace("\r\n", "\n"));
                service.metrics.signed(*algorithm);
            }
        }
        write_decision(&decision, out);
        self.report(None, &decision, signatures.len(), forged, around);
    }

    fn sign(&mut self, service: &Service, now: Timestamp) -> Result<Vec<(Algorithm, String)>, SignError> {
        if self.is_unreadable {
            return Err(SignError::HeaderOverLimit);
        }
        let Some((selection, bodies)) = &mut self.signing else { return Ok(Vec::new()) };
        bodies.finish();
        service.signer.sign(selection, self.index.view(&self.header), bodies, now)
    }

    fn changes<'a>(&self, around: &Around<'_>, out: &'a mut Vec<u8>) -> Changes<'a> {
        Changes::new(out, around.agreement.has(Steps::LEADING_SPACE))
    }

    /// Removes what claims to be ours (RFC 8601 section 5); without `headers`, everything that could.
    fn remove_forged(&self, headers: Option<Headers<'_>>, changes: &mut Changes<'_>, around: &Around<'_>) -> usize {
        let service = around.service;
        let kept = &service.skip.keep_results_from;
        if around.client.is_some_and(|client| kept.iter().any(|network| network.contains(client))) {
            return 0;
        }
        let occurrences = forged_fields(headers, self.results_count, &service.authserv_ids);
        for occurrence in &occurrences {
            changes.remove(RESULTS_FIELD, *occurrence);
        }
        // Whether or not we write one: whoever reads it takes it for ours.
        (1..=self.explain_count).rev().for_each(|occurrence| changes.remove(EXPLAIN_FIELD, occurrence));
        occurrences.len()
    }

    /// After a fault in the midst of the end: the reply alone, without any change.
    pub(super) fn write_fault_reply(&self, service: &Service, out: &mut Vec<u8>) {
        write_decision(&decide_internal_error(&service.policy), out);
    }

    fn report(
        &self,
        verdict: Option<&Verdict>,
        decision: &Decision,
        signatures: usize,
        forged: usize,
        around: &Around<'_>,
    ) {
        let metrics = &around.service.metrics;
        metrics.message(decision.action, around.waited);
        metrics.forged_removed(forged as u64);
        if let Some(skip) = self.skip {
            metrics.message_skipped(skip);
        }
        around.service.report(&MessageReport {
            now: around.now,
            queue_id: around.queue_id,
            client: around.client,
            helo: around.helo,
            mail_from: &self.mail_from,
            skip: self.skip,
            verdict,
            decision,
            waited_ms: u64::try_from(around.waited.as_millis()).unwrap_or(u64::MAX),
            authserv_id: around.service.authserv_id(),
            signatures,
            forged,
        });
    }
}

fn write_decision(decision: &Decision, out: &mut Vec<u8>) {
    match (decision.action, &decision.reply) {
        (Action::Accept, _) => write_reply(out, Reply::Continue),
        (Action::Quarantine, _) => {
            write_reply(out, Reply::Quarantine(&format!("mailproof: {}", decision.reasons)));
            write_reply(out, Reply::Continue);
        }
        (Action::Reject | Action::Defer, Some(reply)) => write_reply(out, Reply::ReplyCode(&reply.for_milter())),
        (Action::Reject, None) => write_reply(out, Reply::Reject),
        (Action::Defer, None) => write_reply(out, Reply::Tempfail),
    }
}

/// The value of X-Mailproof-Explain: nothing but words of this program.
fn explanation(decision: &Decision, service: &Service) -> String {
    let (action, asked, mode) = (decision.action.word(), decision.asked.word(), service.policy.mode.word());
    let mut text = format!("action={action}; would={asked}; mode={mode}");
    if !decision.reasons.is_empty() {
        text.push_str(&format!(";\n\treasons={}", decision.reasons.to_string().replace(' ', ",")));
    }
    text
}

fn received_spf(verdict: &Verdict, client: IpAddr, around: &Around<'_>, mail_from: &str) -> String {
    let identity = if verdict.null_reverse_path { Identity::Helo } else { Identity::MailFrom };
    let check = Check {
        ip: client,
        helo: around.helo,
        mail_from,
        receiver: around.service.authserv_id(),
        now_seconds: around.now.seconds(),
    };
    ReceivedSpf::new(identity, &check, &verdict.spf).to_string().replace("\r\n", "\n")
}

/// Appends a value whose lines end with LF or CRLF as one whose lines end with CRLF.
fn push_with_crlf(out: &mut Vec<u8>, value: &[u8]) {
    let mut rest = value;
    while let Some(at) = rest.iter().position(|octet| *octet == b'\n') {
        let (line, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend_from_slice(b"\r\n");
        rest = after.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

const RESULTS_FIELD: &str = "Authentication-Results";
const EXPLAIN_FIELD: &str = "X-Mailproof-Explain";
/// Octets of a message that is copied for an auditor.
const COPY_BYTES_MAX: usize = 1024 * 1024;
/// Octets of a header whose memory is kept for the next message.
const HELD_BYTES_MAX: usize = 32 * 1024;

//! What all connections of a daemon share; a reload makes a new one for the connections that come after it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use mailproof::Envelope;
use mailproof_proto::authres::AuthservId;
use mailproof_proto::spf::SpfOutcome;
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::Verdict;

use crate::config::{Config, HeaderSettings, SkipSettings};
use crate::log::{Format, Line, Sink};
use crate::metrics::{Metrics, Skip};
use crate::policy::{Decision, Policy, SmtpReply};
use crate::signing::Signer;

/// Settings, keys, figures and log of one daemon.
pub struct Service {
    /// Signs.
    pub signer: Signer,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Ours, the one to write first.
    pub(crate) authserv_ids: Vec<AuthservId>,
    pub(crate) policy: Policy,
    pub(crate) skip: SkipSettings,
    pub(crate) headers: HeaderSettings,
    format: Format,
    sink: Arc<dyn Sink>,
    observer: Option<Arc<dyn Observer>>,
    pub(crate) auditor: Option<Arc<dyn Auditor>>,
}

/// Learns of every message, after its reply is decided: an event stream, a cross-check. Must not block.
pub trait Observer: Send + Sync {
    /// A message has ended.
    fn message(&self, report: &MessageReport<'_>);
}

/// Looks at some messages again, whole. Must not block.
pub trait Auditor: Send + Sync {
    /// True when the message that begins is one to look at.
    fn wants_next(&self) -> bool;

    /// Takes it.
    fn examine(&self, sample: Sample);
}

/// A message to be looked at again.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Header block, empty line and body as they were verified.
    pub message: Vec<u8>,
    /// What SMTP said before.
    pub envelope: Envelope,
    /// What came of it.
    pub verdict: Verdict,
    /// The queue id of the mail server.
    pub queue_id: Option<String>,
}

/// One message, as the log and an observer see it.
#[derive(Clone, Copy, Debug)]
pub struct MessageReport<'a> {
    /// The moment of the reply.
    pub now: Timestamp,
    /// The queue id of the mail server.
    pub queue_id: Option<&'a str>,
    /// The SMTP client.
    pub client: Option<IpAddr>,
    /// Argument of HELO or EHLO.
    pub helo: &'a str,
    /// Argument of MAIL FROM without brackets.
    pub mail_from: &'a str,
    /// Why it was not verified.
    pub skip: Option<Skip>,
    /// Every result; `None` for a message that was not verified, or could not be.
    pub verdict: Option<&'a Verdict>,
    /// What was decided.
    pub decision: &'a Decision,
    /// Milliseconds from the end of the message to the reply.
    pub waited_ms: u64,
    /// The name under which results were written.
    pub authserv_id: &'a str,
    /// Signatures added.
    pub signatures: usize,
    /// Forged fields removed.
    pub forged: usize,
}

impl Service {
    /// The service of a configuration. `host_name` stands where no authserv-id is set; the engines of its conversations
    /// have to be built with [`Config::options`] of the same name.
    #[must_use]
    pub fn new(config: &Config, host_name: &str, signer: Signer, metrics: Arc<Metrics>, sink: Arc<dyn Sink>) -> Self {
        Self {
            signer,
            metrics,
            authserv_ids: config.authserv_ids(host_name),
            policy: config.policy.clone(),
            skip: config.skip.clone(),
            headers: config.headers,
            format: config.log.format,
            sink,
            observer: None,
            auditor: None,
        }
    }

    /// Tells an observer of every message.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Has some messages looked at again.
    #[must_use]
    pub fn with_auditor(mut self, auditor: Arc<dyn Auditor>) -> Self {
        self.auditor = Some(auditor);
        self
    }

    /// The name under which results are written.
    #[must_use]
    pub fn authserv_id(&self) -> &str {
        self.authserv_ids.first().map_or("localhost", AuthservId::as_str)
    }

    /// Writes one line into the log.
    pub(crate) fn log(&self, event: &str, pairs: impl FnOnce(&mut Line)) {
        let mut line = Line::new(self.format, event);
        pairs(&mut line);
        self.sink.write_line(&line.finish());
    }

    /// Writes the line of a message and tells the observer.
    pub(crate) fn report(&self, report: &MessageReport<'_>) {
        self.log("message", |line| report.write(line));
        if let Some(observer) = &self.observer {
            observer.message(report);
        }
    }
}

impl MessageReport<'_> {
    fn write(&self, line: &mut Line) {
        line.pair("queue-id", self.queue_id.unwrap_or("-"));
        line.optional("client", self.client.as_ref().map(|it| it as &dyn fmt::Display));
        line.pair("helo", self.helo);
        // The local part is a person's; the mail server's own log has it under the queue id.
        line.pair("sender-domain", sender_parts(self.mail_from).1);
        if let Some(skip) = self.skip {
            line.pair("skipped", skip.word());
        }
        if let Some(verdict) = self.verdict {
            write_verdict(line, verdict);
        }
        let decision = self.decision;
        line.pair("action", decision.action.word());
        if decision.asked != decision.action {
            line.pair("would", decision.asked.word());
        }
        if !decision.reasons.is_empty() {
            line.display("reasons", &decision.reasons);
        }
        let reply = decision.reply.as_ref().map(SmtpReply::for_log);
        line.optional("reply", reply.as_ref().map(|it| it as &dyn fmt::Display));
        if let Some(it) = &decision.override_reason {
            line.pair("override", it.kind.word()).pair("override-comment", &it.comment);
        }
        for (key, count) in [("signatures", self.signatures), ("forged-removed", self.forged)] {
            if count > 0 {
                line.number(key, count as u64);
            }
        }
        line.number("ms", self.waited_ms);
    }
}

fn write_verdict(line: &mut Line, verdict: &Verdict) {
    let dmarc = &verdict.dmarc;
    line.optional("from", dmarc.from_domain.as_ref().map(|it| it as &dyn fmt::Display));
    line.pair("spf", verdict.spf.result.word());
    let signatures = verdict.dkim.iter().map(|it| {
        let domain = it.domain.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string);
        let problem = it.problem.map(|problem| format!("({})", problem.word())).unwrap_or_default();
        format!("{}{problem}:{domain}", it.result.word())
    });
    let signatures: Vec<String> = signatures.collect();
    line.pair("dkim", if signatures.is_empty() { "none".to_owned() } else { signatures.join(",") }.as_str());
    line.pair("arc", verdict.arc.result.word()).pair("dmarc", dmarc.result.word());
    if let Some(problem) = dmarc.problem {
        line.pair("dmarc-problem", problem.word());
    }
    if let Some(policy) = dmarc.policy {
        line.pair("policy", policy.word());
    }
}

/// The line of one SPF outcome, for connections that have no message.
pub(crate) fn write_spf(line: &mut Line, spf: &SpfOutcome) {
    line.pair("spf", spf.result.word());
    line.optional("sender-domain", spf.domain.as_ref().map(|it| it as &dyn fmt::Display));
    if let Some(problem) = &spf.problem {
        line.pair("spf-problem", problem.word());
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Local part and domain of a sender; one without `@` is a local part, which is a person's.
pub(crate) fn sender_parts(mail_from: &str) -> (&str, &str) {
    mail_from.rsplit_once('@').unwrap_or((mail_from, ""))
}

//! What is done with a message: a pure function of its verdict, of what else speaks for or against it, and of the
//! settings.
//!
//! Each mechanism is judged by its own rule, the strongest finding wins, and the mode then says how much of it may
//! happen. `p=reject` is read as RFC 9989 sections 5.4, 7.4 and 8 ask: it refuses a message only when nothing at all
//! speaks for an indirect way, and holds it otherwise.

mod facts;
mod reason;
mod settings;
mod smtp_reply;

pub use self::facts::Facts;
pub use self::reason::{Override, OverrideKind, Reason, Reasons};
pub use self::settings::{
    DomainRules, Handling, MildHandling, Mode, OnError, Policy, RejectHandling, Rules, RulesPart,
};
pub use self::smtp_reply::SmtpReply;

use std::net::IpAddr;

use mailproof_proto::arc::ArcResult;
use mailproof_proto::dkim::DkimResult;
use mailproof_proto::dmarc::{Disposition, DmarcOutcome, DmarcResult};
use mailproof_proto::dns::Name;
use mailproof_proto::spf::{SpfOutcome, SpfResult};
use mailproof_proto::verdict::{Action, Verdict};

use crate::network::HostPattern;

/// What is done with a message, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// What is done.
    pub action: Action,
    /// What the rules ask for; the mode may allow less.
    pub asked: Action,
    /// What the client is told when the message is refused.
    pub reply: Option<SmtpReply>,
    /// Every reason, in the order found.
    pub reasons: Reasons,
    /// Why what is done differs from what the author domain published (RFC 9990 section 3.1.6).
    pub override_reason: Option<Override>,
}

/// Decides about a message.
#[must_use]
pub fn decide(policy: &Policy, verdict: &Verdict, facts: &Facts) -> Decision {
    let mut findings = Findings::default();
    judge_spf(policy, verdict, &mut findings);
    judge_dkim(policy, verdict, &mut findings);
    judge_dmarc(policy, verdict, facts, &mut findings);
    findings.decision(policy, Some(&verdict.dmarc))
}

/// Decides from SPF alone, before a message is there: at RCPT, and for a policy service. A temporary error is left out
/// unless `final_word` says that nothing else will be known.
#[must_use]
pub fn decide_spf(policy: &Policy, known: SpfOutcomes<'_>, client: Option<IpAddr>, final_word: bool) -> Decision {
    let (mut findings, spf) = (Findings::default(), known.mail_from);
    if !is_forwarder(policy, client, known) && (final_word || spf.result != SpfResult::TempError) {
        spf_finding(policy, spf, client, &mut findings);
    }
    findings.decision(policy, None)
}

/// The results of SPF for both identities: by either a forwarder is known.
#[derive(Clone, Copy, Debug)]
pub struct SpfOutcomes<'a> {
    /// Of MAIL FROM.
    pub mail_from: &'a SpfOutcome,
    /// Of HELO.
    pub helo: &'a SpfOutcome,
}

impl<'a> SpfOutcomes<'a> {
    fn of(verdict: &'a Verdict) -> Self {
        Self { mail_from: &verdict.spf, helo: &verdict.helo }
    }
}

/// Decides about a message that could not be judged because of a fault of this program or its machine.
#[must_use]
pub fn decide_internal_error(policy: &Policy) -> Decision {
    let mut findings = Findings::default();
    findings.reasons.add(Reason::InternalError);
    if policy.internal_error == OnError::Defer {
        findings.raise(Action::Defer, Some(SmtpReply::internal_error()));
    }
    // A fault is no finding about the message, so the mode has no say in it.
    let Findings { action: Severity(action), reply, reasons, .. } = findings;
    Decision { action, asked: action, reply, reasons, override_reason: None }
}

impl Decision {
    /// Makes do without holding, where the mail server does not offer it: the message is taken.
    pub fn give_up_holding(&mut self, verdict: &Verdict) {
        if self.action != Action::Quarantine {
            return;
        }
        self.action = Action::Accept;
        self.reasons.add(Reason::CanNotHold);
        if differs(&verdict.dmarc, self.action) {
            self.override_reason = Some(Override::of(&self.reasons));
        }
    }
}

/// What the rules found so far.
#[derive(Debug, Default)]
struct Findings {
    action: Severity,
    reply: Option<SmtpReply>,
    reasons: Reasons,
    override_reason: Option<Override>,
}

fn judge_spf(policy: &Policy, verdict: &Verdict, findings: &mut Findings) {
    if is_forwarder(policy, verdict.ip, SpfOutcomes::of(verdict)) {
        return;
    }
    // With an aligned signature the message is known to be the author's whatever SPF would have said.
    if verdict.spf.result == SpfResult::TempError && verdict.dmarc.result == DmarcResult::Pass {
        return;
    }
    spf_finding(policy, &verdict.spf, verdict.ip, findings);
}

fn spf_finding(policy: &Policy, spf: &SpfOutcome, client: Option<IpAddr>, findings: &mut Findings) {
    let (rules, local) = policy.rules_for(spf.domain.as_ref());
    let (reason, action) = match spf.result {
        SpfResult::Fail => (Reason::SpfFail, rules.spf_fail.action()),
        SpfResult::SoftFail => (Reason::SpfSoftFail, rules.spf_softfail.action()),
        SpfResult::PermError => (Reason::SpfPermError, rules.spf_permerror.action()),
        SpfResult::TempError => (Reason::SpfTempError, rules.spf_temperror.action()),
        SpfResult::None | SpfResult::Neutral | SpfResult::Pass => return,
    };
    findings.reasons.add(reason);
    if local && action != Action::Accept {
        findings.reasons.add(Reason::DomainRule);
    }
    findings.raise(action, SmtpReply::spf(spf, client));
}

fn judge_dkim(policy: &Policy, verdict: &Verdict, findings: &mut Findings) {
    let any = |result| verdict.dkim.iter().any(|it| it.result == result);
    if !any(DkimResult::TempError) || any(DkimResult::Pass) || verdict.dmarc.result == DmarcResult::Pass {
        return;
    }
    let (rules, _) = policy.rules_for(verdict.dmarc.from_domain.as_ref());
    findings.reasons.add(Reason::DkimTempError);
    findings.raise(rules.dkim_temperror.action(), Some(SmtpReply::dkim_temperror()));
}

fn judge_dmarc(policy: &Policy, verdict: &Verdict, facts: &Facts, findings: &mut Findings) {
    let dmarc = &verdict.dmarc;
    let (rules, local) = policy.rules_for(dmarc.from_domain.as_ref());
    let before = findings.reasons.len();
    let action = match dmarc.result {
        DmarcResult::None | DmarcResult::Pass => return,
        DmarcResult::TempError => {
            findings.reasons.add(Reason::DmarcTempError);
            rules.dmarc_temperror.action()
        }
        DmarcResult::PermError => {
            findings.reasons.add(Reason::DmarcPermError);
            rules.dmarc_permerror.action()
        }
        DmarcResult::Fail => {
            findings.reasons.add(Reason::DmarcFail);
            fail_action(policy, rules, verdict, facts, findings)
        }
    };
    if local && findings.reasons.len() > before {
        findings.reasons.add(Reason::DomainRule);
    }
    findings.raise(action, SmtpReply::dmarc(dmarc, action));
}

/// What the policy of the author domain comes to for a message that failed.
fn fail_action(policy: &Policy, rules: Rules, verdict: &Verdict, facts: &Facts, findings: &mut Findings) -> Action {
    let reasons = &mut findings.reasons;
    if verdict.dmarc.testing {
        reasons.add(Reason::TestMode);
    }
    if let Some(trusted) = trusted_way(policy, verdict, facts) {
        reasons.add(trusted);
        findings.override_reason = Some(Override::trusted(trusted, verdict, facts));
        return Action::Accept;
    }
    match verdict.dmarc.disposition {
        Disposition::None => {
            reasons.add(Reason::PolicyNone);
            rules.dmarc_none.action()
        }
        Disposition::Quarantine => {
            reasons.add(Reason::PolicyQuarantine);
            rules.dmarc_quarantine.action()
        }
        Disposition::Reject => {
            reasons.add(Reason::PolicyReject);
            match rules.dmarc_reject {
                RejectHandling::Accept => Action::Accept,
                RejectHandling::Quarantine => Action::Quarantine,
                RejectHandling::Reject => Action::Reject,
                RejectHandling::Rfc9989 => reject_action(policy, verdict, facts, reasons),
            }
        }
    }
}

/// RFC 9989 sections 5.4, 7.4 and 8: `p=reject` must not be the only ground to refuse a message. Here the other ground
/// is that nothing speaks for a list, a forwarder or a change on the way.
fn reject_action(policy: &Policy, verdict: &Verdict, facts: &Facts, reasons: &mut Reasons) -> Action {
    let before = reasons.len();
    if facts.list {
        reasons.add(Reason::ListHeader);
    }
    if verdict.arc.result == ArcResult::Pass {
        reasons.add(Reason::ArcPass);
    }
    if author_signature_holds(verdict) {
        reasons.add(Reason::AuthorSignature);
    }
    if matches_host(&policy.known_forwarders, verdict.ip, SpfOutcomes::of(verdict)) {
        reasons.add(Reason::KnownForwarder);
    }
    if reasons.len() > before {
        return Action::Quarantine;
    }
    reasons.add(Reason::NothingIndirect);
    Action::Reject
}

/// True when a signature of the author domain was made by it over this header, although it does not count: the body was
/// changed or added to on the way, or it has expired. Nobody but the owner of the key can make one.
fn author_signature_holds(verdict: &Verdict) -> bool {
    let dmarc = &verdict.dmarc;
    let Some(author) = dmarc.organizational_domain.as_ref().or(dmarc.from_domain.as_ref()) else { return false };
    let is_of_author = |domain: &Name| domain.is_at_or_below(author);
    verdict.dkim.iter().any(|it| it.header_holds && it.domain.as_ref().is_some_and(is_of_author))
}

/// Who on the way is trusted to have checked the message.
fn trusted_way(policy: &Policy, verdict: &Verdict, facts: &Facts) -> Option<Reason> {
    if matches_host(&policy.trusted_forwarders, verdict.ip, SpfOutcomes::of(verdict)) {
        return Some(Reason::TrustedForwarder);
    }
    let sealers = &verdict.arc.sealers;
    if verdict.arc.result != ArcResult::Pass {
        return None;
    }
    // From the last seal down: what an unknown sealer passed on, it may have made up.
    let trusted = |domain| policy.trusted_sealers.iter().any(|pattern| pattern.matches(domain));
    let mut instances = sealers.iter().enumerate().rev().take_while(|(_, (domain, _))| trusted(domain));
    let vouched = instances.any(|(at, _)| facts.arc_dmarc_pass.iter().any(|instance| usize::from(*instance) == at + 1));
    vouched.then_some(Reason::TrustedSealer)
}

/// True when the client passes on other people's mail, so that its SPF says nothing about them.
fn is_forwarder(policy: &Policy, client: Option<IpAddr>, known: SpfOutcomes<'_>) -> bool {
    matches_host(&policy.trusted_forwarders, client, known) || matches_host(&policy.known_forwarders, client, known)
}

/// A host is known by its address, or by the domain in MAIL FROM or HELO for which SPF passed.
fn matches_host(patterns: &[HostPattern], client: Option<IpAddr>, known: SpfOutcomes<'_>) -> bool {
    let passed = |outcome: &SpfOutcome| (outcome.result == SpfResult::Pass).then_some(outcome.domain).flatten();
    let domains = [passed(known.mail_from), passed(known.helo)];
    patterns.iter().any(|pattern| match pattern {
        HostPattern::Network(network) => client.is_some_and(|address| network.contains(address)),
        HostPattern::Domain(pattern) => domains.iter().flatten().any(|domain| pattern.matches(domain)),
    })
}

impl Findings {
    /// Takes a finding that is stronger than those before it.
    fn raise(&mut self, action: Action, reply: Option<SmtpReply>) {
        let severity = Severity(action);
        if severity.rank() > self.action.rank() {
            self.action = severity;
            self.reply = reply;
        }
    }

    /// What the mode allows of it.
    fn decision(mut self, policy: &Policy, dmarc: Option<&DmarcOutcome>) -> Decision {
        let asked = self.action.0;
        let action = policy.mode.allows(asked);
        if action != asked {
            self.reasons.add(match policy.mode {
                Mode::Observe => Reason::Observing,
                Mode::Mark | Mode::Enforce => Reason::OnlyMarking,
            });
        }
        let reply = self.reply.filter(|_| matches!(action, Action::Reject | Action::Defer));
        let override_reason = match dmarc {
            Some(dmarc) if differs(dmarc, action) => {
                Some(self.override_reason.unwrap_or_else(|| Override::of(&self.reasons)))
            }
            _ => None,
        };
        Decision { action, asked, reply, reasons: self.reasons, override_reason }
    }
}

/// True when what is done is not what the author domain published for a message that failed: `t=y` included, because the
/// policy is reported as published.
fn differs(dmarc: &DmarcOutcome, action: Action) -> bool {
    let published = match dmarc.disposition {
        Disposition::None => Action::Accept,
        Disposition::Quarantine => Action::Quarantine,
        Disposition::Reject => Action::Reject,
    };
    dmarc.result == DmarcResult::Fail && (action != published || dmarc.testing)
}

/// An action by how much it does.
#[derive(Clone, Copy, Debug)]
struct Severity(Action);

impl Severity {
    const fn rank(self) -> u8 {
        match self.0 {
            Action::Accept => 0,
            Action::Quarantine => 1,
            Action::Defer => 2,
            Action::Reject => 3,
        }
    }
}

impl Default for Severity {
    fn default() -> Self {
        Self(Action::Accept)
    }
}

//! Why a decision is what it is, in words that do not change.

use std::fmt;

use mailproof_proto::verdict::Verdict;

use super::Facts;

/// One reason.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the words say it; see `Reason::word`")]
pub enum Reason {
    SpfFail,
    SpfSoftFail,
    SpfPermError,
    SpfTempError,
    DkimTempError,
    DmarcFail,
    DmarcPermError,
    DmarcTempError,
    TestMode,
    PolicyNone,
    PolicyQuarantine,
    PolicyReject,
    ListHeader,
    ArcPass,
    AuthorSignature,
    KnownForwarder,
    NothingIndirect,
    TrustedForwarder,
    TrustedSealer,
    DomainRule,
    Observing,
    OnlyMarking,
    CanNotHold,
    InternalError,
}

/// Reasons in the order found, each once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reasons(Vec<Reason>);

/// Why what was done is not what the author domain published (RFC 9990 section 3.1.6).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// The kind a report gives.
    pub kind: OverrideKind,
    /// What a report adds for people.
    pub comment: String,
}

/// The kinds of RFC 9990 section 3.1.6.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OverrideKind {
    /// `local_policy`
    LocalPolicy,
    /// `mailing_list`
    MailingList,
    /// `policy_test_mode`
    PolicyTestMode,
    /// `trusted_forwarder`
    TrustedForwarder,
}

impl Reason {
    /// The stable word of logs and of `X-Mailproof-Explain`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::SpfFail => "spf-fail",
            Self::SpfSoftFail => "spf-softfail",
            Self::SpfPermError => "spf-permerror",
            Self::SpfTempError => "spf-temperror",
            Self::DkimTempError => "dkim-temperror",
            Self::DmarcFail => "dmarc-fail",
            Self::DmarcPermError => "dmarc-permerror",
            Self::DmarcTempError => "dmarc-temperror",
            Self::TestMode => "policy-test-mode",
            Self::PolicyNone => "policy-none",
            Self::PolicyQuarantine => "policy-quarantine",
            Self::PolicyReject => "policy-reject",
            Self::ListHeader => "list-header",
            Self::ArcPass => "arc-pass",
            Self::AuthorSignature => "author-signature",
            Self::KnownForwarder => "known-forwarder",
            Self::NothingIndirect => "nothing-indirect",
            Self::TrustedForwarder => "trusted-forwarder",
            Self::TrustedSealer => "trusted-sealer",
            Self::DomainRule => "domain-rule",
            Self::Observing => "mode-observe",
            Self::OnlyMarking => "mode-mark",
            Self::CanNotHold => "can-not-hold",
            Self::InternalError => "internal-error",
        }
    }
}

impl Reasons {
    pub(super) fn add(&mut self, reason: Reason) {
        if !self.0.contains(&reason) {
            self.0.push(reason);
        }
    }

    /// True when it was found.
    #[must_use]
    pub fn contains(&self, reason: Reason) -> bool {
        self.0.contains(&reason)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Reason> + '_ {
        self.0.iter().copied()
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, reason) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { " " })?;
            f.write_str(reason.word())?;
        }
        Ok(())
    }
}

impl Override {
    /// What a trusted host or seal overrides. For ARC the comment has the form of RFC 8617 section 7.2.2.
    pub(super) fn trusted(reason: Reason, verdict: &Verdict, facts: &Facts) -> Self {
        if reason == Reason::TrustedForwarder {
            return Self { kind: OverrideKind::TrustedForwarder, comment: reason.word().to_owned() };
        }
        let mut comment = "arc=pass".to_owned();
        for (at, (domain, selector)) in verdict.arc.sealers.iter().enumerate().rev().take(SEALERS_SHOWN_MAX) {
            let instance = at + 1;
            comment.push_str(&format!(" as[{instance}].d={domain} as[{instance}].s={selector}"));
        }
        if let Some(client) = facts.arc_first_client {
            comment.push_str(&format!(" remote-ip[1]={client}"));
        }
        Self { kind: OverrideKind::LocalPolicy, comment }
    }

    /// What the reasons come to.
    pub(super) fn of(reasons: &Reasons) -> Self {
        let kind = if reasons.contains(Reason::ListHeader) {
            OverrideKind::MailingList
        } else if reasons.contains(Reason::TestMode) {
            OverrideKind::PolicyTestMode
        } else {
            OverrideKind::LocalPolicy
        };
        Self { kind, comment: reasons.to_string() }
    }
}

impl OverrideKind {
    /// The word of RFC 9990 section 3.1.6.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::LocalPolicy => "local_policy",
            Self::MailingList => "mailing_list",
            Self::PolicyTestMode => "policy_test_mode",
            Self::TrustedForwarder => "trusted_forwarder",
        }
    }
}

/// Sealers named in a comment.
const SEALERS_SHOWN_MAX: usize = 5;

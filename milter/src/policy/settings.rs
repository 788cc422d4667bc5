//! The settings a decision is made from.

use mailproof_proto::dns::Name;
use mailproof_proto::verdict::Action;
use serde::Deserialize;

use crate::network::{DomainPattern, HostPattern};

/// How much of a decision may happen.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing but header fields; what would have been done is in the log.
    #[default]
    Observe,
    /// As `Observe`, and messages are held; one that should be refused is held too.
    Mark,
    /// Everything.
    Enforce,
}

/// What is done with a message of some result.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Handling {
    /// Nothing.
    #[default]
    Accept,
    /// Hold it.
    Quarantine,
    /// Refuse it.
    Reject,
}

/// What is done where a standard forbids to refuse (RFC 7208 section 8.5).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum MildHandling {
    /// Nothing.
    #[default]
    Accept,
    /// Hold it.
    Quarantine,
}

/// What is done when something could not be found out.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// Nothing: mail goes on.
    #[default]
    Accept,
    /// Refuse for now.
    Defer,
}

/// What is done with a message that fails under `p=reject`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum RejectHandling {
    /// Nothing.
    Accept,
    /// Hold it.
    Quarantine,
    /// Refuse it when nothing speaks for an indirect way, else hold it (RFC 9989 sections 5.4, 7.4 and 8).
    #[default]
    Rfc9989,
    /// Refuse it, as RFC 7489 section 6.6.2 had it.
    Reject,
}

/// What is done with each result.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Rules {
    /// SPF fail.
    pub spf_fail: Handling,
    /// SPF softfail.
    pub spf_softfail: MildHandling,
    /// SPF permerror.
    pub spf_permerror: Handling,
    /// SPF temperror, unless DMARC passes without SPF.
    pub spf_temperror: OnError,
    /// A signature whose key could not be fetched, when no other one verified.
    pub dkim_temperror: OnError,
    /// DMARC fail under `p=reject`.
    pub dmarc_reject: RejectHandling,
    /// DMARC fail under `p=quarantine`.
    pub dmarc_quarantine: Handling,
    /// DMARC fail under `p=none`; RFC 9989 section 5.4 asks to do nothing.
    pub dmarc_none: Handling,
    /// DMARC permerror: a From field that names no single domain, for instance. Whoever wants to be taken for another writes
    /// such fields.
    pub dmarc_permerror: Handling,
    /// DMARC temperror.
    pub dmarc_temperror: OnError,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            spf_fail: Handling::Accept,
            spf_softfail: MildHandling::Accept,
            spf_permerror: Handling::Accept,
            spf_temperror: OnError::Accept,
            dkim_temperror: OnError::Accept,
            dmarc_reject: RejectHandling::Rfc9989,
            dmarc_quarantine: Handling::Quarantine,
            dmarc_none: Handling::Accept,
            dmarc_permerror: Handling::Quarantine,
            dmarc_temperror: OnError::Accept,
        }
    }
}

/// Rules for single domains, on top of those for all.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DomainRules {
    /// The domain of MAIL FROM for SPF, that of the author for everything else.
    pub domain: DomainPattern,
    /// What differs.
    #[serde(default)]
    pub rules: RulesPart,
}

/// Some of [`Rules`]; what is not set stays as it is for all.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each has the meaning of the field of the same name in `Rules`")]
pub struct RulesPart {
    pub spf_fail: Option<Handling>,
    pub spf_softfail: Option<MildHandling>,
    pub spf_permerror: Option<Handling>,
    pub spf_temperror: Option<OnError>,
    pub dkim_temperror: Option<OnError>,
    pub dmarc_reject: Option<RejectHandling>,
    pub dmarc_quarantine: Option<Handling>,
    pub dmarc_none: Option<Handling>,
    pub dmarc_permerror: Option<Handling>,
    pub dmarc_temperror: Option<OnError>,
}

/// Everything a decision is made from beside the message.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Policy {
    /// How much may happen.
    pub mode: Mode,
    /// What is done when this program or its machine fails.
    pub internal_error: OnError,
    /// What is done with each result.
    pub rules: Rules,
    /// Hosts and domains whose word on a message overrides a DMARC failure.
    pub trusted_forwarders: Vec<HostPattern>,
    /// Domains whose ARC seal over a DMARC pass overrides a DMARC failure.
    pub trusted_sealers: Vec<DomainPattern>,
    /// Hosts and domains that pass mail on: what comes from them is held where it would have been refused.
    pub known_forwarders: Vec<HostPattern>,
    /// Exceptions.
    pub domain: Vec<DomainRules>,
}

impl Mode {
    /// What may happen of what the rules ask for.
    #[must_use]
    pub const fn allows(self, asked: Action) -> Action {
        match (self, asked) {
            (Self::Observe, _) | (Self::Mark, Action::Accept | Action::Defer) => Action::Accept,
            (Self::Mark, Action::Quarantine | Action::Reject) => Action::Quarantine,
            (Self::Enforce, _) => asked,
        }
    }

    /// The word of the settings.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Mark => "mark",
            Self::Enforce => "enforce",
        }
    }
}

impl Handling {
    pub(super) const fn action(self) -> Action {
        match self {
            Self::Accept => Action::Accept,
            Self::Quarantine => Action::Quarantine,
            Self::Reject => Action::Reject,
        }
    }
}

impl MildHandling {
    pub(super) const fn action(self) -> Action {
        match self {
            Self::Accept => Action::Accept,
            Self::Quarantine => Action::Quarantine,
        }
    }
}

impl OnError {
    pub(super) const fn action(self) -> Action {
        match self {
            Self::Accept => Action::Accept,
            Self::Defer => Action::Defer,
        }
    }
}

impl Rules {
    fn with(self, part: &RulesPart) -> Self {
        Self {
            spf_fail: part.spf_fail.unwrap_or(self.spf_fail),
            spf_softfail: part.spf_softfail.unwrap_or(self.spf_softfail),
            spf_permerror: part.spf_permerror.unwrap_or(self.spf_permerror),
            spf_temperror: part.spf_temperror.unwrap_or(self.spf_temperror),
            dkim_temperror: part.dkim_temperror.unwrap_or(self.dkim_temperror),
            dmarc_reject: part.dmarc_reject.unwrap_or(self.dmarc_reject),
            dmarc_quarantine: part.dmarc_quarantine.unwrap_or(self.dmarc_quarantine),
            dmarc_none: part.dmarc_none.unwrap_or(self.dmarc_none),
            dmarc_permerror: part.dmarc_permerror.unwrap_or(self.dmarc_permerror),
            dmarc_temperror: part.dmarc_temperror.unwrap_or(self.dmarc_temperror),
        }
    }
}

impl Policy {
    /// The rules for a domain, the most exact exception counting, and whether there was one.
    #[must_use]
    pub fn rules_for(&self, domain: Option<&Name>) -> (Rules, bool) {
        let of_domain = |it: &&DomainRules| domain.is_some_and(|domain| it.domain.matches(domain));
        let exact = self.domain.iter().filter(of_domain).max_by_key(|it| it.domain.precision());
        exact.map_or((self.rules, false), |it| (self.rules.with(&it.rules), true))
    }

    /// True when a recipient may be refused before the message is there: SPF alone can decide.
    #[must_use]
    pub fn refuses_by_spf(&self) -> bool {
        let refuses = |rules: Rules| Handling::Reject == rules.spf_fail || Handling::Reject == rules.spf_permerror;
        let exceptions = self.domain.iter().any(|it| refuses(self.rules.with(&it.rules)));
        self.mode == Mode::Enforce && (refuses(self.rules) || exceptions)
    }

    /// True when a message may be held.
    #[must_use]
    pub fn may_quarantine(&self) -> bool {
        self.mode != Mode::Observe
    }
}

//! DMARC: policy discovery, alignment and result (RFC 9989), with RFC 7489 selectable.

use crate::dkim::DkimResult;
use crate::dns::{Answers, Name, Txt};
use crate::message::address::Author;
use crate::spf::SpfResult;

/// The results of RFC 9989 section 9.2.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DmarcResult {
    /// No policy applies.
    None,
    /// An aligned mechanism passed.
    Pass,
    /// None did.
    Fail,
    /// A DNS error that may pass stood in the way.
    TempError,
    /// A record or From field that can not be used.
    PermError,
}

impl DmarcResult {
    /// The word of RFC 9989 section 9.2.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// The handling a domain owner asks for (RFC 9989 section 4.7).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Disposition {
    /// No handling beyond reporting.
    None,
    /// Treat as suspicious.
    Quarantine,
    /// Refuse.
    Reject,
}

impl Disposition {
    /// The word of RFC 9989 section 4.7.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

/// How the Organizational Domain is found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Discovery {
    /// RFC 9989 section 4.10.
    #[default]
    TreeWalk,
    /// RFC 7489 section 3.2: the Public Suffix List.
    PublicSuffixList,
}

impl Discovery {
    /// The word of RFC 9990 `discovery_method`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TreeWalk => "treewalk",
            Self::PublicSuffixList => "psl",
        }
    }
}

/// How an identifier aligned (RFC 9989 section 4.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alignment {
    /// Same Organizational Domain.
    Relaxed,
    /// Same domain.
    Strict,
}

impl Alignment {
    /// The word of the verdict format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Relaxed => "relaxed",
            Self::Strict => "strict",
        }
    }
}

/// Which tag of the record gave the policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PolicyTag {
    /// `p`
    P,
    /// `sp`
    Sp,
    /// `np`
    Np,
}

impl PolicyTag {
    /// The name of the tag.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::P => "p",
            Self::Sp => "sp",
            Self::Np => "np",
        }
    }
}

/// The choices RFC 9989 leaves.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DmarcOptions {
    /// Tree walk, or RFC 7489 mode.
    pub discovery: Discovery,
    /// From with several domains: judge each and keep the strictest failing one (section 11.5) instead of stopping.
    pub strictest_of_several: bool,
}

/// What DMARC is judged from.
#[derive(Clone, Copy, Debug)]
pub struct Identifiers<'a> {
    /// Whom the message says it is from.
    pub author: &'a Author,
    /// The domain of MAIL FROM with its SPF result.
    pub spf: Option<(&'a Name, SpfResult)>,
    /// `d=` and result of every signature.
    pub dkim: &'a [(Name, DkimResult)],
}

/// How DMARC was judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DmarcOutcome {
    /// The result.
    pub result: DmarcResult,
    /// The Author Domain.
    pub from_domain: Option<Name>,
    /// Its Organizational Domain, once known.
    pub organizational_domain: Option<Name>,
    /// Where the record that applies was found.
    pub policy_domain: Option<Name>,
    /// The policy that applies to a failing message: after sp, np and t.
    pub policy: Option<Disposition>,
    /// The tag it came from.
    pub applies: Option<PolicyTag>,
    /// How the Organizational Domain was found.
    pub discovery: Discovery,
    /// `t=y`.
    pub testing: bool,
    /// How SPF aligned, when it did with a pass.
    pub spf_aligned: Option<Alignment>,
    /// How DKIM aligned, when it did with a pass.
    pub dkim_aligned: Option<Alignment>,
    /// What the policy asks for this message: `None` unless the result is fail.
    pub disposition: Disposition,
    /// Why there is no pass or fail.
    pub problem: Option<DmarcProblem>,
}

/// Why DMARC ended without a pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DmarcProblem {
    /// RFC 9989 section 4.10.1.
    #[error("no record")]
    NoRecord,
}

impl DmarcProblem {
    /// The stable word of the verdict format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoRecord => "no-record",
        }
    }
}

/// What stands at a `_dmarc` name, read as DMARC.
#[derive(Debug)]
pub struct Published;

impl Published {
    /// Selects and parses the record (RFC 9989 section 4.7).
    #[must_use]
    pub fn read(_texts: &[Txt]) -> Self {
        Self
    }
}

/// Asks the questions of the walk early, while the body is still arriving.
pub fn ask_walk(_author: &Author, _options: &DmarcOptions, _answers: &mut Answers<'_>) {}

/// Judges one message; `None` while answers are missing.
pub fn evaluate(
    _identifiers: &Identifiers<'_>,
    _options: &DmarcOptions,
    _answers: &mut Answers<'_>,
) -> Option<DmarcOutcome> {
    None
}

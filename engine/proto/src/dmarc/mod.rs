//! DMARC: policy discovery, alignment and result (RFC 9989), with RFC 7489 selectable.
//!
//! A record is parsed once per DNS answer ([`Published`]) and then only looked at. The tree walk asks no more questions
//! than RFC 9989 section 4.10 lists, and none at all where the result can not depend on it.

mod policy;
pub mod record;
pub mod report_destination;
mod suffix;
mod walk;

pub use self::policy::{ask_walk, evaluate, organizational_domain};
pub use self::record::Published;
pub use self::suffix::registrable_domain;

use crate::dkim::DkimResult;
use crate::dns::Name;
use crate::message::address::{Author, AuthorProblem};
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
    /// RFC 7489 section 3.2: the Public Suffix List. The tags that RFC 7489 does not know (`np`, `psd`, `t`) are not
    /// looked at then, several records at a name end the search (section 6.6.3), and `pct` is not sampled.
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
    /// Ask every question that a walk could need at once instead of one after the other: one round trip, at the cost of
    /// questions that the walk of RFC 9989 section 4.10 may turn out not to need. The outcome is the same.
    pub ask_ahead: bool,
    /// SPF or a signature that ended in a temporary error counts as not passed, so the message can fail (sections 4.4
    /// and 5.3.5 read alone). Default: if its domain could have aligned, the result is temperror (section 5.3.6).
    pub mechanism_errors_fail: bool,
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
    /// Its Organizational Domain, when the result needed it. Where an identifier is identical to the Author Domain and
    /// that has a record, it is taken for the Organizational Domain without a walk (RFC 9989 section 4.10.2).
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

impl DmarcOutcome {
    /// Neither pass nor fail; no policy applies.
    fn undecided(
        from_domain: Option<Name>,
        options: &DmarcOptions,
        result: DmarcResult,
        problem: DmarcProblem,
    ) -> Self {
        Self {
            result,
            from_domain,
            organizational_domain: None,
            policy_domain: None,
            policy: None,
            applies: None,
            discovery: options.discovery,
            testing: false,
            spf_aligned: None,
            dkim_aligned: None,
            disposition: Disposition::None,
            problem: Some(problem),
        }
    }
}

/// Why DMARC ended without pass or fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DmarcProblem {
    /// RFC 9989 section 4.10.1.
    #[error("no record")]
    NoRecord,
    /// RFC 9989 section 4.10: several records at a name are discarded, and no other was found.
    #[error("several records at one name")]
    SeveralRecords,
    /// RFC 9989 section 4.10.1: no policy in it can be read, and no report could be sent either.
    #[error("a record without a usable policy")]
    UnusableRecord,
    /// RFC 9989 section 4.10.1.
    #[error("the record could not be looked up")]
    RecordLookupFailed,
    /// RFC 9989 section 5.3.6: SPF, a key or an Organizational Domain that could have given a pass.
    #[error("alignment could not be decided")]
    AlignmentLookupFailed,
    /// RFC 9989 section 3.2.13: whether `np` applies.
    #[error("the existence of the Author Domain could not be decided")]
    ExistenceLookupFailed,
    /// RFC 9989 section 5.3.1.
    #[error("several author domains")]
    SeveralAuthors,
    /// RFC 9989 section 11.5.
    #[error("more author domains than are judged")]
    TooManyAuthors,
    /// RFC 9989 section 5.3.1.
    #[error("no author domain: {0}")]
    Author(AuthorProblem),
}

impl DmarcProblem {
    /// The stable word of the verdict format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoRecord => "no-record",
            Self::SeveralRecords => "several-records",
            Self::UnusableRecord => "unusable-record",
            Self::RecordLookupFailed => "record-lookup-failed",
            Self::AlignmentLookupFailed => "alignment-lookup-failed",
            Self::ExistenceLookupFailed => "existence-lookup-failed",
            Self::SeveralAuthors => "from-several-domains",
            Self::TooManyAuthors => "from-too-many-domains",
            Self::Author(problem) => problem.word(),
        }
    }
}

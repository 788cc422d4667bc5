//! SPF: `check_host` of RFC 7208 for MAIL FROM and HELO.

use std::net::IpAddr;

use crate::dns::{Answers, Name, Txt};

/// The results of RFC 7208 section 2.6.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum SpfResult {
    /// No record, or nothing to look one up for.
    None,
    /// The owner asserts nothing.
    Neutral,
    /// The client is authorised.
    Pass,
    /// The client is not authorised.
    Fail,
    /// The client is probably not authorised.
    SoftFail,
    /// A DNS error that may pass.
    TempError,
    /// A record that can not be interpreted.
    PermError,
}

impl SpfResult {
    /// The word of RFC 8601 section 2.7.2.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// The choices RFC 7208 leaves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SpfOptions {
    /// Void lookups allowed (section 4.6.4 says 2 and asks for a setting).
    pub void_lookups_max: u8,
    /// Count the address look-ups of single MX hosts and PTR names as void lookups too.
    pub count_nested_voids: bool,
}

impl Default for SpfOptions {
    fn default() -> Self {
        Self { void_lookups_max: crate::limits::SPF_VOID_LOOKUPS_MAX, count_nested_voids: false }
    }
}

/// The arguments of `check_host` (RFC 7208 section 4.1).
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// Address of the SMTP client; an IPv4-mapped one is treated as IPv4.
    pub ip: IpAddr,
    /// HELO or EHLO argument as given.
    pub helo: &'a str,
    /// MAIL FROM without angle brackets, empty for the null reverse-path.
    pub mail_from: &'a str,
    /// Name of the receiving host, for `%{r}`.
    pub receiver: &'a str,
    /// Seconds since the epoch, for `%{t}`.
    pub now_seconds: u64,
}

/// How one evaluation ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SpfOutcome {
    /// The result.
    pub result: SpfResult,
    /// The domain that was checked; `None` when it was no domain.
    pub domain: Option<Name>,
    /// Why, for an error or none.
    pub problem: Option<SpfProblem>,
    /// Text of the domain owner for a fail (section 6.2), cleaned and shortened; sender-supplied.
    pub explanation: Option<String>,
    /// The term that decided, as written in its record.
    pub mechanism: Option<String>,
    /// Terms that caused queries.
    pub lookup_count: u8,
    /// Void lookups.
    pub void_lookup_count: u8,
}

/// Why a check ended the way it did.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpfProblem {
    /// RFC 7208 section 4.6.4.
    #[error("more than 10 terms that query the DNS (RFC 7208 section 4.6.4)")]
    TooManyLookups,
}

impl SpfProblem {
    /// The stable word of the verdict format.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::TooManyLookups => "too-many-lookups",
        }
    }
}

/// What stands at a name, read as SPF.
#[derive(Debug)]
pub struct Published;

impl Published {
    /// Selects and parses the record (RFC 7208 section 4.5).
    #[must_use]
    pub fn read(_texts: &[Txt]) -> Self {
        Self
    }
}

/// Checks the MAIL FROM identity (RFC 7208 section 2.4); `None` while answers are missing.
pub fn check_mail_from(_check: &Check<'_>, _options: &SpfOptions, _answers: &mut Answers<'_>) -> Option<SpfOutcome> {
    None
}

/// Checks the HELO identity (RFC 7208 section 2.3); `None` while answers are missing.
pub fn check_helo(_check: &Check<'_>, _options: &SpfOptions, _answers: &mut Answers<'_>) -> Option<SpfOutcome> {
    None
}

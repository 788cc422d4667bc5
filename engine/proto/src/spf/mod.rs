//! SPF: `check_host` of RFC 7208 for MAIL FROM and HELO.
//!
//! A record is parsed once per DNS answer ([`Published`]). An evaluation walks its terms without the heap: on the
//! ordinary path (literal addresses and includes) it costs one cache look-up per record and a few nanoseconds a term.

mod evaluate;
pub mod macros;
mod received;
mod record;

pub use self::evaluate::validated_name;
pub use self::received::{ReceivedSpf, ReceivedSpfError};
pub use self::record::{Published, Record, SyntaxError, SyntaxFault, is_spf};

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use self::record::Span;
use crate::dns::{Answer, Answers, Failure, Name, Question};

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

    /// Reads the word of RFC 8601 section 2.7.2 in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        use SpfResult::{Fail, Neutral, None, Pass, PermError, SoftFail, TempError};
        let all = [None, Neutral, Pass, Fail, SoftFail, TempError, PermError];
        all.into_iter().find(|result| result.word().eq_ignore_ascii_case(word))
    }
}

impl fmt::Display for SpfResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Which identity was checked (RFC 7208 sections 2.3 and 2.4).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Identity {
    /// The HELO or EHLO argument.
    Helo,
    /// The MAIL FROM address.
    MailFrom,
}

impl Identity {
    /// The word of the `identity` key of Received-SPF (RFC 7208 section 9.1).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Helo => "helo",
            Self::MailFrom => "mailfrom",
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
    /// Ask for the text of `exp` after a fail (section 6.2 makes it optional).
    pub fetch_explanation: bool,
    /// Answer permerror where a target name can not exist in DNS after expansion; otherwise its mechanism does not
    /// match (section 4.8 leaves both open). For `include` and `redirect` it is always permerror (sections 5.2, 6.1).
    pub unusable_target_is_permerror: bool,
    /// Expand `%{l}` and `%{s}` of a local-part that is not ASCII as its UTF-8 octets; otherwise a term that uses them
    /// does not match (RFC 8616 section 4).
    pub utf8_local_part: bool,
}

impl Default for SpfOptions {
    fn default() -> Self {
        Self {
            void_lookups_max: crate::limits::SPF_VOID_LOOKUPS_MAX,
            count_nested_voids: false,
            fetch_explanation: true,
            unusable_target_is_permerror: false,
            utf8_local_part: false,
        }
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
    /// Name of the receiving host, for `%{r}`; `unknown` stands for an empty one.
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
    /// The term that decided, as written in the record of the domain (or where that redirects to); `None` when no
    /// mechanism matched.
    pub mechanism: Option<MatchedTerm>,
    /// Terms that caused queries.
    pub lookup_count: u8,
    /// Void lookups.
    pub void_lookup_count: u8,
}

impl SpfOutcome {
    /// The outcome where no client address is known.
    #[must_use]
    pub fn without_client() -> Self {
        Self::unevaluated(SpfResult::None, SpfProblem::NoClientAddress)
    }

    /// The outcome of an evaluation that took too long (RFC 7208 section 4.6.4). It names the domain, which may be aligned.
    #[must_use]
    pub fn out_of_time(domain: &str) -> Self {
        Self { domain: read_domain(domain), ..Self::unevaluated(SpfResult::TempError, SpfProblem::OutOfTime) }
    }

    fn unevaluated(result: SpfResult, problem: SpfProblem) -> Self {
        Self {
            result,
            domain: None,
            problem: Some(problem),
            explanation: None,
            mechanism: None,
            lookup_count: 0,
            void_lookup_count: 0,
        }
    }
}

/// A term of a record, kept by reference to the answer it came in.
#[derive(Clone)]
pub struct MatchedTerm {
    answer: Answer,
    span: Span,
}

impl MatchedTerm {
    /// The term as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.answer.spf().record().map_or("", |record| record.text_of(self.span))
    }
}

impl PartialEq for MatchedTerm {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for MatchedTerm {}

impl fmt::Display for MatchedTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for MatchedTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MatchedTerm({:?})", self.as_str())
    }
}

/// Why a check ended the way it did.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpfProblem {
    /// No client address is known, so there is nothing to check.
    #[error("no client address")]
    NoClientAddress,
    /// RFC 7208 section 4.6.4.
    #[error("the evaluation took more than 20 seconds (RFC 7208 section 4.6.4)")]
    OutOfTime,
    /// RFC 7208 section 4.3.
    #[error("not a multi-label domain name (RFC 7208 section 4.3)")]
    NotADomain,
    /// RFC 7208 section 4.3.
    #[error("the domain does not exist (RFC 7208 section 4.3)")]
    NoSuchDomain,
    /// RFC 7208 section 4.5.
    #[error("no SPF record (RFC 7208 section 4.5)")]
    NoRecord,
    /// RFC 7208 section 4.5.
    #[error("more than one SPF record at {0} (RFC 7208 section 4.5)")]
    MultipleRecords(Box<Name>),
    /// RFC 7208 section 4.6.
    #[error("{error} at {name} (RFC 7208 section 4.6)")]
    SyntaxError {
        /// Where the record stands.
        name: Box<Name>,
        /// The fault and the term.
        error: SyntaxError,
    },
    /// RFC 7208 section 4.6.4.
    #[error("more than 10 terms that query the DNS (RFC 7208 section 4.6.4)")]
    TooManyLookups,
    /// RFC 7208 section 4.6.4.
    #[error("more than {limit} lookups without an answer (RFC 7208 section 4.6.4)")]
    TooManyVoidLookups {
        /// How many were allowed.
        limit: u8,
    },
    /// RFC 7208 section 4.6.4.
    #[error("more than 10 mail exchanges at {0} (RFC 7208 section 4.6.4)")]
    TooManyExchanges(Box<Name>),
    /// RFC 7208 section 5.2; the name is `None` when it could not exist.
    #[error("include of a domain without SPF record (RFC 7208 section 5.2)")]
    IncludeNone(Option<Box<Name>>),
    /// RFC 7208 section 6.1; the name is `None` when it could not exist.
    #[error("redirect to a domain without SPF record (RFC 7208 section 6.1)")]
    RedirectNone(Option<Box<Name>>),
    /// RFC 7208 section 4.8, with [`SpfOptions::unusable_target_is_permerror`].
    #[error("a target that is no domain name (RFC 7208 section 4.8)")]
    UnusableTarget,
    /// RFC 7208 sections 4.4 and 5.
    #[error("{question}: {failure} (RFC 7208 section 5)")]
    Dns {
        /// What was asked.
        question: Box<Question>,
        /// What happened.
        failure: Failure,
    },
}

impl SpfProblem {
    /// The stable word of the verdict format.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NoClientAddress => "no-client-address",
            Self::OutOfTime => "out-of-time",
            Self::NotADomain => "not-a-domain",
            Self::NoSuchDomain => "no-such-domain",
            Self::NoRecord => "no-record",
            Self::MultipleRecords(_) => "multiple-records",
            Self::SyntaxError { .. } => "syntax-error",
            Self::TooManyLookups => "too-many-lookups",
            Self::TooManyVoidLookups { .. } => "too-many-void-lookups",
            Self::TooManyExchanges(_) => "too-many-mx-hosts",
            Self::IncludeNone(_) => "include-none",
            Self::RedirectNone(_) => "redirect-none",
            Self::UnusableTarget => "unusable-target",
            Self::Dns { failure, .. } => match failure {
                Failure::TimedOut => "dns-timeout",
                Failure::ServFail => "dns-servfail",
                Failure::Refused => "dns-refused",
                Failure::Malformed => "dns-malformed",
                Failure::OverLimit => "dns-over-limit",
                Failure::Unreachable => "dns-unreachable",
            },
        }
    }
}

/// Checks the MAIL FROM identity (RFC 7208 section 2.4); `None` while answers are missing. The null reverse-path stands
/// for `postmaster` at the HELO name.
pub fn check_mail_from(check: &Check<'_>, options: &SpfOptions, answers: &mut Answers<'_>) -> Option<SpfOutcome> {
    let (local_part, domain) = split_mail_from(check.mail_from, check.helo);
    check_sender(local_part, domain, check, options, answers)
}

/// Checks the HELO identity (RFC 7208 section 2.3); `None` while answers are missing.
pub fn check_helo(check: &Check<'_>, options: &SpfOptions, answers: &mut Answers<'_>) -> Option<SpfOutcome> {
    check_sender(POSTMASTER, check.helo, check, options, answers)
}

/// Local-part and domain of the identity MAIL FROM (RFC 7208 section 2.4).
pub(crate) fn split_mail_from<'a>(mail_from: &'a str, helo: &'a str) -> (&'a str, &'a str) {
    match mail_from.rsplit_once('@') {
        Some(("", domain)) => (POSTMASTER, domain),
        Some((local_part, domain)) => (local_part, domain),
        None if mail_from.is_empty() => (POSTMASTER, helo),
        None => (POSTMASTER, mail_from),
    }
}

/// RFC 7208 section 4.3: the local-part of a sender that has none.
const POSTMASTER: &str = "postmaster";

fn check_sender(
    local_part: &str,
    domain: &str,
    check: &Check<'_>,
    options: &SpfOptions,
    answers: &mut Answers<'_>,
) -> Option<SpfOutcome> {
    let Some(name) = read_domain(domain) else {
        return Some(SpfOutcome::unevaluated(SpfResult::None, SpfProblem::NotADomain));
    };
    let sender = evaluate::Sender { local_part, domain: a_labels(domain), helo: a_labels(check.helo), name };
    evaluate::check_host(&sender, check, options, answers)
}

/// A domain that may be looked up: several labels (RFC 7208 section 4.3), the last of them not a number, which no
/// top-level domain is (RFC 3696 section 2): `HELO 192.0.2.1` is no question for the root servers.
fn read_domain(text: &str) -> Option<Name> {
    if text.len() > DOMAIN_TEXT_BYTES_MAX {
        return None;
    }
    let name = Name::parse_domain(text).ok()?;
    let last = name.labels().last()?;
    (name.label_count() > 1 && !last.iter().all(u8::is_ascii_digit)).then_some(name)
}

/// RFC 8616 section 4: U-labels are replaced before anything is expanded. What is no domain stays as it is.
fn a_labels(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || text.len() > DOMAIN_TEXT_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    Name::parse_domain(text).map_or(Cow::Borrowed(text), |name| Cow::Owned(name.to_string()))
}

/// No domain is longer: each character of a U-label takes one octet or more of its A-label, and four at most here.
const DOMAIN_TEXT_BYTES_MAX: usize = 4 * 254;

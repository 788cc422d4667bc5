//! What the DNS said to one question.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

use super::Name;
use crate::{dkim, dmarc, spf};

/// The answer to one question, cheap to clone and share between threads.
///
/// What is derived from it (an SPF record, DKIM keys, a DMARC record) is made on first use and kept beside the raw
/// answer, each under its own use: a record read as one thing never shows up as another.
#[derive(Clone, Debug)]
pub struct Answer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    outcome: Outcome,
    ttl_seconds: Option<u32>,
    authentic: Option<bool>,
    denied: Option<Box<Name>>,
    spf: OnceLock<spf::Published>,
    dkim: OnceLock<dkim::Published>,
    dmarc: OnceLock<dmarc::Published>,
}

/// The four ways a question can end; they are never folded into each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// At least one record of the type asked for.
    Records(RecordSet),
    /// The name exists, without records of this type.
    NoData,
    /// The name does not exist, nor any below it (RFC 8020).
    NxDomain,
    /// No answer that counts: a temporary error for every reader.
    Failed(Failure),
}

/// Records of one type at one name; never empty, and without duplicates but for texts, which stand as often as they came.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RecordSet {
    /// IPv4 addresses.
    A(Box<[Ipv4Addr]>),
    /// IPv6 addresses.
    Aaaa(Box<[Ipv6Addr]>),
    /// Mail exchanges, by preference.
    Mx(Box<[Mx]>),
    /// Host names of an address.
    Ptr(Box<[Name]>),
    /// Texts.
    Txt(Box<[Txt]>),
}

/// One mail exchange.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Mx {
    /// Lower comes first.
    pub preference: u16,
    /// The host; `None` is the null MX of RFC 7505.
    pub exchange: Option<Name>,
}

/// One TXT record: its character-strings joined with nothing between (RFC 7208 section 3.3, RFC 6376 section 3.6.2.2).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Txt(pub Box<[u8]>);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No server answered in time.
    #[error("timed out")]
    TimedOut,
    /// RCODE 2; also what a validating resolver says of bogus data.
    #[error("SERVFAIL")]
    ServFail,
    /// RCODE 5, or any other RCODE that is no answer.
    #[error("refused")]
    Refused,
    /// The answer could not be read.
    #[error("malformed answer")]
    Malformed,
    /// A bound on questions, CNAME links or answer size was reached.
    #[error("over a limit")]
    OverLimit,
    /// The servers could not be reached at all.
    #[error("unreachable")]
    Unreachable,
}

impl Answer {
    /// An answer that may be kept for `ttl_seconds`; `None` when it carries no time to live (a negative answer without
    /// SOA, a failure).
    #[must_use]
    pub fn new(outcome: Outcome, ttl_seconds: Option<u32>) -> Self {
        Self::with_authenticity(outcome, ttl_seconds, None)
    }

    /// As [`Answer::new`], with the AD bit of a resolver that is trusted to validate; `None` when nobody is.
    #[must_use]
    pub fn with_authenticity(outcome: Outcome, ttl_seconds: Option<u32>, authentic: Option<bool>) -> Self {
        Self::from_parts(outcome, ttl_seconds, authentic, None)
    }

    /// The answer that a CNAME chain ends at a name which does not exist: that name is denied, not the one asked for
    /// (RFC 2308 section 2.1, RFC 6604 section 3).
    #[must_use]
    pub fn denied_alias(target: Name, ttl_seconds: Option<u32>, authentic: Option<bool>) -> Self {
        Self::from_parts(Outcome::NxDomain, ttl_seconds, authentic, Some(Box::new(target)))
    }

    /// The same answer with a time to live of no more than `ttl_seconds`; shared when it has no more already.
    #[must_use]
    pub fn capped(&self, ttl_seconds: u32) -> Self {
        match self.0.ttl_seconds {
            Some(own) if own > ttl_seconds => {
                let inner = &self.0;
                Self::from_parts(inner.outcome.clone(), Some(ttl_seconds), inner.authentic, inner.denied.clone())
            }
            _ => self.clone(),
        }
    }

    fn from_parts(
        outcome: Outcome,
        ttl_seconds: Option<u32>,
        authentic: Option<bool>,
        denied: Option<Box<Name>>,
    ) -> Self {
        Self(Arc::new(Inner {
            outcome,
            ttl_seconds,
            authentic,
            denied,
            spf: OnceLock::new(),
            dkim: OnceLock::new(),
            dmarc: OnceLock::new(),
        }))
    }

    /// A failed answer.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self::new(Outcome::Failed(failure), None)
    }

    /// What the DNS said.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.0.outcome
    }

    /// Seconds the answer may be kept; `None` when the DNS gave no such number.
    #[must_use]
    pub fn ttl_seconds(&self) -> Option<u32> {
        self.0.ttl_seconds
    }

    /// The AD bit where it can be trusted (RFC 4035 section 4.9.3), else `None`.
    #[must_use]
    pub fn authentic(&self) -> Option<bool> {
        self.0.authentic
    }

    /// The name that does not exist, where that is the end of a CNAME chain and not the name asked for.
    #[must_use]
    pub fn denied_name(&self) -> Option<&Name> {
        self.0.denied.as_deref()
    }

    /// The SPF record that stands here, parsed once.
    #[must_use]
    pub fn spf(&self) -> &spf::Published {
        self.0.spf.get_or_init(|| spf::Published::read(self.texts()))
    }

    /// The DKIM keys that stand here, parsed once.
    #[must_use]
    pub fn dkim(&self) -> &dkim::Published {
        self.0.dkim.get_or_init(|| dkim::Published::read(self.texts()))
    }

    /// The DMARC record that stands here, parsed once.
    #[must_use]
    pub fn dmarc(&self) -> &dmarc::Published {
        self.0.dmarc.get_or_init(|| dmarc::Published::read(self.texts()))
    }

    /// How many share this answer, one of them being whoever asks. Reads the one place of memory that a clone writes.
    #[must_use]
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// TXT records, empty for every other outcome.
    #[must_use]
    pub fn texts(&self) -> &[Txt] {
        match &self.0.outcome {
            Outcome::Records(RecordSet::Txt(texts)) => texts,
            _ => &[],
        }
    }

    /// Octets the answer holds, derived forms included as an estimate; what a cache weighs.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let records = match &self.0.outcome {
            Outcome::Records(RecordSet::A(it)) => size_of_val(&**it),
            Outcome::Records(RecordSet::Aaaa(it)) => size_of_val(&**it),
            Outcome::Records(RecordSet::Mx(it)) => size_of_val(&**it),
            Outcome::Records(RecordSet::Ptr(it)) => size_of_val(&**it),
            Outcome::Records(RecordSet::Txt(it)) => it.iter().map(|txt| size_of::<Txt>() + 3 * txt.0.len()).sum(),
            Outcome::NoData | Outcome::NxDomain | Outcome::Failed(_) => 0,
        };
        size_of::<Inner>() + records + self.0.denied.as_ref().map_or(0, |name| size_of_val(&**name))
    }
}

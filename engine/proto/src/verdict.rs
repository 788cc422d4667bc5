//! The verdict on one message: every result, what it was judged from, and what the configured policy would do.

mod header;
mod json;

use std::net::IpAddr;

use crate::arc::ArcOutcome;
use crate::dkim::SignatureOutcome;
use crate::dmarc::{Disposition, DmarcOutcome, DmarcResult};
use crate::message::Defects;
use crate::message::address::Author;
use crate::spf::SpfOutcome;

/// Everything known about one message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// Address of the SMTP client, when it was given.
    pub ip: Option<IpAddr>,
    /// MAIL FROM was the null reverse-path, so that `spf` is of the HELO name (RFC 7208 section 2.4).
    pub null_reverse_path: bool,
    /// SPF of MAIL FROM, the one that DMARC looks at (RFC 9989 section 4.4.2).
    pub spf: SpfOutcome,
    /// SPF of HELO.
    pub helo: SpfOutcome,
    /// One outcome for each DKIM signature judged, from top to bottom; empty when the message is not signed.
    pub dkim: Vec<SignatureOutcome>,
    /// The ARC chain.
    pub arc: ArcOutcome,
    /// DMARC.
    pub dmarc: DmarcOutcome,
    /// Whom the message says it is from.
    pub author: Author,
    /// What is wrong with the octets of the message.
    pub defects: Defects,
    /// What the configured policy would do.
    pub action: Action,
    /// The value of the Authentication-Results field to add (RFC 8601), unfolded.
    pub authentication_results: String,
}

/// What is done with a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Deliver it.
    Accept,
    /// Deliver it as suspicious.
    Quarantine,
    /// Refuse it for good.
    Reject,
    /// Refuse it for now.
    Defer,
}

impl Action {
    /// The word of the verdict format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
            Self::Defer => "defer",
        }
    }
}

/// What a receiver does with a DMARC outcome.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// How `p=reject` is read.
    pub reject: RejectPolicy,
    /// Answer a temporary DNS error with a temporary refusal instead of accepting (RFC 9989 section 4.10.1 leaves it open).
    pub defer_on_temperror: bool,
}

/// How a receiver reads `p=reject`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RejectPolicy {
    /// RFC 9989 sections 5.4, 7.4 and 8: `p=reject` alone is no ground to refuse; the message is quarantined.
    #[default]
    NotAlone,
    /// RFC 7489 section 6.6.2: refuse.
    Literal,
}

impl Policy {
    /// What to do with a message of this DMARC outcome.
    #[must_use]
    pub fn decide(self, dmarc: &DmarcOutcome) -> Action {
        match (dmarc.result, dmarc.disposition) {
            (DmarcResult::TempError, _) if self.defer_on_temperror => Action::Defer,
            (DmarcResult::Fail, Disposition::Quarantine) => Action::Quarantine,
            (DmarcResult::Fail, Disposition::Reject) => match self.reject {
                RejectPolicy::NotAlone => Action::Quarantine,
                RejectPolicy::Literal => Action::Reject,
            },
            _ => Action::Accept,
        }
    }
}

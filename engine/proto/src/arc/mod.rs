//! ARC: validation of Authenticated Received Chains (RFC 8617 section 5.2).

use crate::dkim::{BodyHashes, DkimOptions};
use crate::dns::{Answers, Name};
use crate::message::Headers;
use crate::time::Timestamp;

/// The results of RFC 8617 section 4.4.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ArcResult {
    /// No chain.
    None,
    /// The chain validates.
    Pass,
    /// It does not; it then counts as absent.
    Fail,
}

impl ArcResult {
    /// The word of RFC 8617 section 6.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

/// How a chain was judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ArcOutcome {
    /// The result.
    pub result: ArcResult,
    /// Sets found.
    pub instances: u8,
    /// `header.oldest-pass` (RFC 8617 section 5.2): 0 when every message signature verifies.
    pub oldest_pass: Option<u8>,
    /// `d=` and `s=` of the seals from instance 1 up.
    pub sealers: Vec<(Name, String)>,
    /// Why it failed.
    pub problem: Option<ArcProblem>,
}

/// Why a chain failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ArcProblem {
    /// RFC 8617 section 4.2.1.
    #[error("more than 50 sets")]
    TooManySets,
}

impl ArcProblem {
    /// The stable word of the verdict format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TooManySets => "too-many-sets",
        }
    }
}

/// Validates the chain of one message.
#[derive(Debug, Default)]
pub struct Validator;

impl Validator {
    /// Reads the ARC sets and registers the body hashes they need.
    #[must_use]
    pub fn begin(_headers: Headers<'_>, _options: &DkimOptions, _bodies: &mut BodyHashes) -> Self {
        Self
    }

    /// Asks for the keys, so that they are on their way while the body arrives.
    pub fn ask_keys(&self, _answers: &mut Answers<'_>) {}

    /// Judges the chain once the body is finished; `None` while keys are missing.
    pub fn outcome(
        &mut self,
        _headers: Headers<'_>,
        _bodies: &BodyHashes,
        _now: Timestamp,
        _answers: &mut Answers<'_>,
    ) -> Option<ArcOutcome> {
        None
    }
}

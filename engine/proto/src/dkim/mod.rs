//! DKIM: signatures of RFC 6376 with RFC 8301, 8463 and 8616.

use crate::dns::{Answers, Name, Txt};
use crate::message::Headers;
use crate::time::Timestamp;

/// The results of RFC 8601 section 2.7.1.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DkimResult {
    /// Not signed.
    None,
    /// Verified.
    Pass,
    /// The body hash or the signature does not match.
    Fail,
    /// Verified, but not acceptable here.
    Policy,
    /// Signed, but the signature could not be read.
    Neutral,
    /// The key could not be fetched for now.
    TempError,
    /// The signature can never verify.
    PermError,
}

impl DkimResult {
    /// The word of RFC 8601 section 2.7.1.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Policy => "policy",
            Self::Neutral => "neutral",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// The choices RFC 6376 leaves, each with the convention of this project as default.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DkimOptions {
    /// A signature whose `l=` leaves octets uncovered may pass (default: policy).
    pub honour_length: bool,
    /// Signatures judged.
    pub signatures_max: usize,
    /// Seconds of tolerance for `x=` and `t=`.
    pub clock_skew_seconds: u64,
}

impl Default for DkimOptions {
    fn default() -> Self {
        Self { honour_length: false, signatures_max: crate::limits::DKIM_SIGNATURES_MAX, clock_skew_seconds: 300 }
    }
}

/// How one signature was judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignatureOutcome {
    /// The result.
    pub result: DkimResult,
    /// Why, when it is not a plain pass.
    pub problem: Option<DkimProblem>,
    /// `d=`, when it could be read.
    pub domain: Option<Name>,
    /// `s=` as written, when it could be read.
    pub selector: Option<String>,
    /// `i=` as written, or `@d`.
    pub identity: Option<String>,
    /// `a=` as written.
    pub algorithm: Option<String>,
    /// Bits of the public key that was used.
    pub key_bits: Option<u16>,
    /// The first characters of `b=`, white space removed (RFC 6008).
    pub b: Option<String>,
    /// The key says `t=y`.
    pub testing: bool,
    /// `t=`.
    pub signed_at: Option<u64>,
    /// `x=`.
    pub expires_at: Option<u64>,
    /// Octets of the canonical body that the signature covers, and their total number.
    pub body_octets: (u64, u64),
}

/// Why a signature was judged as it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DkimProblem {
    /// RFC 6376 section 3.7.
    #[error("the body hash does not match")]
    BodyHashMismatch,
}

impl DkimProblem {
    /// The stable word of the verdict format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::BodyHashMismatch => "body-hash-mismatch",
        }
    }
}

/// What stands at a selector, read as DKIM keys.
#[derive(Debug)]
pub struct Published;

impl Published {
    /// Parses the key records (RFC 6376 section 3.6.1).
    #[must_use]
    pub fn read(_texts: &[Txt]) -> Self {
        Self
    }
}

/// The body of one message, canonicalised and hashed once per distinct (canonicalisation, hash, `l=`).
#[derive(Debug, Default)]
pub struct BodyHashes;

impl BodyHashes {
    /// No hash wanted yet.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// The next octets of the body, in chunks of any size.
    pub fn update(&mut self, _chunk: &[u8]) {}

    /// The end of the body.
    pub fn finish(&mut self) {}
}

/// Judges the signatures of one message.
#[derive(Debug, Default)]
pub struct Verifier;

impl Verifier {
    /// Reads the DKIM-Signature fields, those aligned with `author` first, and registers the body hashes they need.
    #[must_use]
    pub fn begin(
        _headers: Headers<'_>,
        _author: Option<&Name>,
        _options: &DkimOptions,
        _bodies: &mut BodyHashes,
    ) -> Self {
        Self
    }

    /// Asks for the keys, so that they are on their way while the body arrives.
    pub fn ask_keys(&self, _answers: &mut Answers<'_>) {}

    /// Judges every signature once the body is finished, from top to bottom of the header; `None` while keys are missing.
    pub fn outcomes(
        &mut self,
        _headers: Headers<'_>,
        _bodies: &BodyHashes,
        _options: &DkimOptions,
        _now: Timestamp,
        _answers: &mut Answers<'_>,
    ) -> Option<Vec<SignatureOutcome>> {
        None
    }
}

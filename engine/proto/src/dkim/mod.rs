//! DKIM: signatures of RFC 6376 with RFC 8301, 8463 and 8616.
//!
//! Cost of one RSA-2048 relaxed/relaxed signature beside the maths (16 µs) and SHA-256 of the body: one pass over the
//! octets of the field, one over the names of the header fields, one over the octets of the signed ones.

pub(crate) mod base64;
mod body;
pub(crate) mod canonical;
pub mod explain;
mod key;
mod sign;
pub(crate) mod signature;
pub(crate) mod verify;

pub use self::body::{BodyHash, BodyHashes};
pub use self::canonical::{Canonicalization, canonical_field};
pub use self::key::{Key, Published};
pub(crate) use self::sign::{FieldWriter, write_covering_tags};
pub use self::sign::{OVERSIGNED_NAMES, SIGNED_NAMES, SignError, SigningKey, SigningPlan, sign};
pub use self::signature::Algorithm;
pub use self::verify::Verifier;

use crate::dns::Name;

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
    /// The key verifies the signature over this header, whatever else is wrong. Where the body does not match, that is
    /// looked at only if `d=` is near the author: it tells a changed message from a made-up signature.
    pub header_holds: bool,
}

/// Why a signature was judged as it was.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DkimProblem {
    /// RFC 6376 section 3.2.
    #[error("not a tag list")]
    Syntax,
    /// RFC 6376 section 3.2: the whole list is then invalid.
    #[error("the same tag twice")]
    DuplicateTag,
    /// RFC 6376 section 3.5.
    #[error("a required tag is missing")]
    MissingTag,
    /// RFC 6376 section 3.5: `v=` is not 1.
    #[error("unknown version")]
    UnknownVersion,
    /// RFC 6376 section 3.3.4.
    #[error("unknown algorithm")]
    UnknownAlgorithm,
    /// RFC 6376 section 3.5: `c=`.
    #[error("unknown canonicalisation")]
    UnknownCanonicalization,
    /// RFC 6376 section 3.5: `q=`.
    #[error("no known query method")]
    UnknownQueryMethod,
    /// `b=` or `bh=` is empty or not base64.
    #[error("not base64")]
    BadBase64,
    /// `d=` is no domain of two labels or more.
    #[error("d= is no domain name")]
    BadDomain,
    /// `s=` is no selector.
    #[error("s= is no selector")]
    BadSelector,
    /// `i=` is no identity.
    #[error("i= is no identity")]
    BadIdentity,
    /// `h=` holds something that is no field name.
    #[error("h= is no list of field names")]
    BadNames,
    /// `l=` is no number of 1 to 76 digits.
    #[error("l= is no number")]
    BadLength,
    /// `t=` or `x=` is no number of 1 to 12 digits.
    #[error("t= or x= is no time")]
    BadTime,
    /// RFC 6376 section 3.5: `x=` must be greater than `t=`.
    #[error("expires before it was signed")]
    ExpiresBeforeSigned,
    /// More than [`crate::limits::DKIM_SIGNED_NAMES_MAX`].
    #[error("too many names in h=")]
    TooManyNames,
    /// The header was cut off at a limit, so nothing is known about what it holds.
    #[error("the header is over a limit")]
    HeaderOverLimit,
    /// RFC 6376 section 6.1.1.
    #[error("From is not signed")]
    FromNotSigned,
    /// RFC 6376 section 6.1.1: the domain of `i=` is not at or below `d=`.
    #[error("i= is outside d=")]
    IdentityMismatch,
    /// RFC 6376 section 6.1.2.
    #[error("no key at the selector")]
    KeyNotFound,
    /// RFC 6376 section 6.1.2.
    #[error("what stands at the selector is no key record")]
    KeySyntax,
    /// RFC 6376 section 3.6.1: `p=` is empty.
    #[error("the key is revoked")]
    KeyRevoked,
    /// RFC 6376 section 6.1.2: `k=` does not fit the algorithm.
    #[error("the key is of another type")]
    KeyTypeMismatch,
    /// RFC 6376 section 6.1.2: `h=` of the key leaves out the hash.
    #[error("the key does not allow the hash")]
    KeyHashMismatch,
    /// RFC 6376 section 3.6.1: `s=` of the key leaves out mail.
    #[error("the key is not for mail")]
    KeyServiceMismatch,
    /// Not a public key, or one with an even or huge exponent.
    #[error("the key can not be used")]
    KeyUnusable,
    /// More than [`crate::limits::RSA_BITS_MAX`].
    #[error("the key is too long")]
    KeyTooLong,
    /// RFC 6376 section 3.6.1: `t=s`.
    #[error("the key asks that i= has the domain of d=")]
    IdentityNotStrict,
    /// RFC 6376 section 3.5: `l=` counts more than the body has.
    #[error("l= exceeds the body")]
    LengthBeyondBody,
    /// RFC 6376 section 3.7.
    #[error("the body hash does not match")]
    BodyHashMismatch,
    /// RFC 6376 section 6.1.3.
    #[error("the signature does not match")]
    SignatureMismatch,
    /// RFC 8301 section 3.2.
    #[error("the key is too short")]
    KeyTooShort,
    /// RFC 8301 section 3.1.
    #[error("rsa-sha1 is not verified")]
    Sha1,
    /// RFC 6376 section 3.5: `x=`.
    #[error("the signature has expired")]
    Expired,
    /// RFC 6376 section 8.2: `l=` leaves octets of the body uncovered.
    #[error("octets of the body are not covered")]
    LengthUncovered,
    /// RFC 6376 section 8.15: an instance of a field that may stand only once is not covered.
    #[error("an unsigned copy of a signed field")]
    HeaderRepeated,
    /// The key server did not answer in time.
    #[error("no answer about the key")]
    KeyTimeout,
    /// The key server answered with an error.
    #[error("the key could not be looked up")]
    KeyLookupFailed,
    /// A note on a signature that passed: `t=` is more than a day ahead.
    #[error("signed in the future")]
    SignedInFuture,
}

impl DkimProblem {
    /// The stable word of the verdict format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::DuplicateTag => "duplicate-tag",
            Self::MissingTag => "missing-tag",
            Self::UnknownVersion => "unknown-version",
            Self::UnknownAlgorithm => "unknown-algorithm",
            Self::UnknownCanonicalization => "unknown-canonicalization",
            Self::UnknownQueryMethod => "unknown-query-method",
            Self::BadBase64 => "bad-base64",
            Self::BadDomain => "bad-domain",
            Self::BadSelector => "bad-selector",
            Self::BadIdentity => "bad-identity",
            Self::BadNames => "bad-header-names",
            Self::BadLength => "bad-length",
            Self::BadTime => "bad-time",
            Self::ExpiresBeforeSigned => "expires-before-signed",
            Self::TooManyNames => "too-many-header-names",
            Self::HeaderOverLimit => "header-over-limit",
            Self::FromNotSigned => "from-not-signed",
            Self::IdentityMismatch => "identity-mismatch",
            Self::KeyNotFound => "key-not-found",
            Self::KeySyntax => "key-syntax",
            Self::KeyRevoked => "key-revoked",
            Self::KeyTypeMismatch => "key-type-mismatch",
            Self::KeyHashMismatch => "key-hash-mismatch",
            Self::KeyServiceMismatch => "key-service-mismatch",
            Self::KeyUnusable => "key-unusable",
            Self::KeyTooLong => "key-too-long",
            Self::IdentityNotStrict => "identity-not-strict",
            Self::LengthBeyondBody => "length-beyond-body",
            Self::BodyHashMismatch => "body-hash-mismatch",
            Self::SignatureMismatch => "signature-mismatch",
            Self::KeyTooShort => "key-too-short",
            Self::Sha1 => "sha1",
            Self::Expired => "expired",
            Self::LengthUncovered => "length-uncovered",
            Self::HeaderRepeated => "header-repeated",
            Self::KeyTimeout => "key-timeout",
            Self::KeyLookupFailed => "key-lookup-failed",
            Self::SignedInFuture => "signed-in-future",
        }
    }

    /// The result of a signature that has this problem, before `t=y` of its key is looked at.
    #[must_use]
    pub const fn result(self) -> DkimResult {
        match self {
            Self::Syntax
            | Self::DuplicateTag
            | Self::MissingTag
            | Self::UnknownVersion
            | Self::UnknownAlgorithm
            | Self::UnknownCanonicalization
            | Self::UnknownQueryMethod
            | Self::BadBase64
            | Self::BadDomain
            | Self::BadSelector
            | Self::BadIdentity
            | Self::BadNames
            | Self::BadLength
            | Self::BadTime
            | Self::ExpiresBeforeSigned => DkimResult::Neutral,
            Self::TooManyNames
            | Self::HeaderOverLimit
            | Self::FromNotSigned
            | Self::IdentityMismatch
            | Self::KeyNotFound
            | Self::KeySyntax
            | Self::KeyRevoked
            | Self::KeyTypeMismatch
            | Self::KeyHashMismatch
            | Self::KeyServiceMismatch
            | Self::KeyUnusable
            | Self::KeyTooLong
            | Self::IdentityNotStrict
            | Self::LengthBeyondBody => DkimResult::PermError,
            Self::BodyHashMismatch | Self::SignatureMismatch => DkimResult::Fail,
            Self::KeyTooShort | Self::Sha1 | Self::Expired | Self::LengthUncovered | Self::HeaderRepeated => {
                DkimResult::Policy
            }
            Self::KeyTimeout | Self::KeyLookupFailed => DkimResult::TempError,
            Self::SignedInFuture => DkimResult::Pass,
        }
    }
}

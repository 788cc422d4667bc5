//! ARC: validation of Authenticated Received Chains (RFC 8617 section 5.2).
//!
//! A chain says only who handled a message, and what each of them found; it overrides nothing by itself. The seals are
//! verified over one running hash, so a chain costs one pass over its own fields and one verification for each seal
//! and message signature.

mod chain;
mod seal;

pub use self::seal::{SealedSet, seal};

use self::chain::{Chain, ChainStatus, Set};
use crate::dkim::canonical::Canonicalization;
use crate::dkim::signature::{Algorithm, Signature, signed_names};
use crate::dkim::verify::{HeaderMaths, Signer, check_body, has_expired, text, verify_with_keys};
use crate::dkim::{BodyHashes, DkimOptions, DkimProblem};
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
    /// The header was cut off at a limit, so nothing is known about what it holds.
    #[error("the header is over a limit")]
    HeaderOverLimit,
    /// RFC 8617 section 4.2.1: no number from 1 to 50 where one must be.
    #[error("a field without an instance number")]
    BadInstance,
    /// RFC 8617 section 4.2.1: two fields of one kind with the same number.
    #[error("two fields of one kind in a set")]
    DuplicateField,
    /// RFC 8617 section 5.2: a gap in the numbers, or a set without one of its three fields.
    #[error("an incomplete set")]
    IncompleteSet,
    /// The tag list of a seal, or one of its tags, is malformed.
    #[error("a malformed seal")]
    SealSyntax,
    /// RFC 8617 section 4.1.3: a seal says what it covers by its place alone.
    #[error("a seal with h= or bh=")]
    SealNamesFields,
    /// RFC 8617 section 5.2: none in the first seal, pass in all others.
    #[error("a cv= that does not fit its instance")]
    BadChainStatus,
    /// RFC 8617 section 5.2: the last handler found the chain broken already.
    #[error("the chain failed before")]
    FailedBefore,
    /// RFC 8617 section 4.1.2: a message signature must not cover seals and results.
    #[error("a message signature that covers ARC-Seal or Authentication-Results")]
    CoversSeals,
    /// The last message signature does not verify.
    #[error("the last message signature: {0}")]
    MessageSignature(DkimProblem),
    /// A seal does not verify.
    #[error("seal {instance}: {problem}")]
    Seal {
        /// Which one.
        instance: u8,
        /// Why.
        problem: DkimProblem,
    },
}

impl ArcProblem {
    /// The stable word of the verdict format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TooManySets => "too-many-sets",
            Self::HeaderOverLimit => "header-over-limit",
            Self::BadInstance => "bad-instance",
            Self::DuplicateField => "duplicate-field",
            Self::IncompleteSet => "incomplete-set",
            Self::SealSyntax => "seal-syntax",
            Self::SealNamesFields => "seal-names-fields",
            Self::BadChainStatus => "bad-chain-status",
            Self::FailedBefore => "failed-before",
            Self::CoversSeals => "covers-seals",
            Self::MessageSignature(_) => "message-signature-invalid",
            Self::Seal { .. } => "seal-invalid",
        }
    }
}

/// Validates the chain of one message.
#[derive(Debug, Default)]
pub struct Validator {
    chain: Chain,
    maths: HeaderMaths,
    options: DkimOptions,
    /// The outcome, once known.
    done: Option<ArcOutcome>,
}

impl Validator {
    /// Reads the ARC sets and registers the body hashes they need.
    #[must_use]
    pub fn begin(headers: Headers<'_>, options: &DkimOptions, bodies: &mut BodyHashes) -> Self {
        let mut validator = Self::default();
        validator.restart(headers, options, bodies);
        validator
    }

    /// As [`Validator::begin`], in the memory of an earlier message.
    pub fn restart(&mut self, headers: Headers<'_>, options: &DkimOptions, bodies: &mut BodyHashes) {
        self.maths.restart();
        self.options = options.clone();
        self.done = None;
        self.chain = Chain::read(headers, &mut self.maths.octets);
        for set in self.chain.sets().iter().filter(|set| set.message.problem.is_none()) {
            bodies.want(set.message.body_form, set.message.length);
        }
    }

    /// Asks for the keys, so that they are on their way while the body arrives.
    pub fn ask_keys(&self, answers: &mut Answers<'_>) {
        for set in self.chain.sets() {
            let _ = answers.ask(&set.seal.question);
            if let Some(question) = question(&set.message) {
                let _ = answers.ask(question);
            }
        }
    }

    /// Judges the chain once the body is finished; `None` while keys are missing.
    pub fn outcome(
        &mut self,
        headers: Headers<'_>,
        bodies: &BodyHashes,
        now: Timestamp,
        answers: &mut Answers<'_>,
    ) -> Option<ArcOutcome> {
        if let Some(done) = &self.done {
            return Some(done.clone());
        }
        self.ask_keys(answers);
        let (instances, judged) = match &self.chain {
            Chain::None => return Some(ArcOutcome::without_chain()),
            Chain::Broken { problem, instances } => (*instances, Err(*problem)),
            Chain::Whole(sets) => {
                // Every answer first: none of what follows may depend on which came early.
                for set in sets {
                    answers.ask(&set.seal.question)?;
                    if let Some(question) = question(&set.message) {
                        answers.ask(question)?;
                    }
                }
                let judged = judge(sets, &mut self.maths, headers, bodies, &self.options, now, answers);
                (sets.len() as u8, judged)
            }
        };
        let sealers = self.chain.sets().iter().filter_map(|set| {
            let selector = text(&headers.field(set.seal.position)?, &set.seal.selector).to_owned();
            Some((set.seal.domain, selector))
        });
        let outcome = ArcOutcome {
            result: if judged.is_ok() { ArcResult::Pass } else { ArcResult::Fail },
            instances,
            oldest_pass: judged.ok(),
            sealers: sealers.collect(),
            problem: judged.err(),
        };
        self.done = Some(outcome.clone());
        Some(outcome)
    }
}

impl ArcOutcome {
    fn without_chain() -> Self {
        Self { result: ArcResult::None, instances: 0, oldest_pass: None, sealers: Vec::new(), problem: None }
    }
}

/// The key question of a message signature that can be verified at all.
fn question(message: &Signature) -> Option<&crate::dns::Question> {
    let verifiable = message.problem.is_none() && message.algorithm != Algorithm::RsaSha1;
    message.question.as_ref().filter(|_| verifiable)
}

/// RFC 8617 section 5.2 steps 4 to 6; gives oldest-pass.
fn judge(
    sets: &[Set],
    maths: &mut HeaderMaths,
    headers: Headers<'_>,
    bodies: &BodyHashes,
    options: &DkimOptions,
    now: Timestamp,
    answers: &mut Answers<'_>,
) -> Result<u8, ArcProblem> {
    let (last, earlier) = sets.split_last().ok_or(ArcProblem::IncompleteSet)?;
    if last.seal.status == ChainStatus::Fail {
        return Err(ArcProblem::FailedBefore);
    }
    for (index, set) in sets.iter().enumerate() {
        let wanted = if index == 0 { ChainStatus::None } else { ChainStatus::Pass };
        if set.seal.status != wanted {
            return Err(ArcProblem::BadChainStatus);
        }
    }
    verify_message(&last.message, maths, headers, bodies, options, now, answers)?;
    verify_seals(sets, maths, headers, answers)?;
    let fails = |set: &&Set| verify_message(&set.message, maths, headers, bodies, options, now, answers).is_err();
    Ok(earlier.iter().rev().find(fails).map_or(0, |set| set.message.instance + 1))
}

fn verify_message(
    message: &Signature,
    maths: &mut HeaderMaths,
    headers: Headers<'_>,
    bodies: &BodyHashes,
    options: &DkimOptions,
    now: Timestamp,
    answers: &mut Answers<'_>,
) -> Result<(), ArcProblem> {
    let problem = |problem| ArcProblem::MessageSignature(problem);
    if let Some(found) = message.problem {
        return Err(problem(found));
    }
    let question = question(message).ok_or(problem(DkimProblem::Sha1))?;
    let answer = answers.ask(question).ok_or(problem(DkimProblem::KeyTimeout))?;
    let own = headers.field(message.position).ok_or(ArcProblem::IncompleteSet)?;
    let forbidden =
        |name: &str| name.eq_ignore_ascii_case("arc-seal") || name.eq_ignore_ascii_case("authentication-results");
    if signed_names(text(&own, &message.places.names)).any(forbidden) {
        return Err(ArcProblem::CoversSeals);
    }
    let body = bodies.hash(message.body_form, message.length).ok_or(problem(DkimProblem::BodyHashMismatch))?;
    let octets = std::mem::take(&mut maths.octets);
    let signature = octets.get(message.octets.clone()).unwrap_or_default();
    let verdict = verify_with_keys(&answer, message.signer(), signature, || {
        check_body(message, &body)?;
        maths.header_hash(message, headers).map(|(hash, _)| hash).ok_or(DkimProblem::SignatureMismatch)
    });
    maths.octets = octets;
    verdict.verified.map_err(problem)?;
    if has_expired(message, options, now) {
        return Err(problem(DkimProblem::Expired));
    }
    if body.covered_bytes < body.total_bytes && !options.honour_length {
        return Err(problem(DkimProblem::LengthUncovered));
    }
    Ok(())
}

/// Every seal covers the sets up to its own (RFC 8617 section 5.1.1), so one running hash serves them all.
fn verify_seals(
    sets: &[Set],
    maths: &mut HeaderMaths,
    headers: Headers<'_>,
    answers: &mut Answers<'_>,
) -> Result<(), ArcProblem> {
    const FORM: Canonicalization = Canonicalization::Relaxed;
    maths.hash.restart();
    for set in sets {
        let failed = |problem| ArcProblem::Seal { instance: set.message.instance, problem };
        let field = |position| headers.field(position).ok_or(ArcProblem::IncompleteSet);
        let seal = field(set.seal.position)?;
        maths.hash.add(FORM, &field(set.results)?);
        maths.hash.add(FORM, &field(set.message.position)?);
        let answer = answers.ask(&set.seal.question).ok_or(failed(DkimProblem::KeyTimeout))?;
        let signer = Signer { algorithm: set.seal.algorithm, same_domain: true };
        let octets = maths.octets.get(set.seal.octets.clone()).unwrap_or_default();
        let hash = &mut maths.hash;
        let verdict =
            verify_with_keys(&answer, signer, octets, || Ok(hash.finish_with(FORM, &seal, set.seal.b_slot.clone())));
        verdict.verified.map_err(failed)?;
        maths.hash.add(FORM, &seal);
    }
    Ok(())
}

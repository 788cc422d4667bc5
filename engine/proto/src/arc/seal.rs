//! Sealing (RFC 8617 section 5.1): the next set of a chain.

use super::chain::ChainStatus;
use super::{ArcOutcome, ArcProblem, ArcResult, Validator};
use crate::dkim::canonical::HeaderHash;
use crate::dkim::signature::Form;
use crate::dkim::{
    BodyHashes, Canonicalization, DkimProblem, FieldWriter, SignError, SigningKey, SigningPlan, write_covering_tags,
};
use crate::limits::ARC_SETS_MAX;
use crate::message::{HeaderIndex, Headers};

/// The fields of one set, each with its final CRLF.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SealedSet {
    /// ARC-Seal
    pub seal: String,
    /// ARC-Message-Signature
    pub message_signature: String,
    /// ARC-Authentication-Results
    pub results: String,
}

impl SealedSet {
    /// The fields in the order in which they go on top of the header.
    #[must_use]
    pub fn to_header(&self) -> String {
        [self.seal.as_str(), &self.message_signature, &self.results].concat()
    }
}

/// Seals a message with what was found about it: `results` is the body of an Authentication-Results field, authserv-id
/// first. `None` when the chain can take no further set: its last seal says fail already, or it is full.
///
/// # Errors
/// [`SignError`] when the message or the plan allow no valid signature.
pub fn seal(
    plan: &SigningPlan<'_>,
    key: &SigningKey,
    results: &str,
    validator: &Validator,
    outcome: &ArcOutcome,
    headers: Headers<'_>,
    bodies: &BodyHashes,
) -> Result<Option<SealedSet>, SignError> {
    let full = usize::from(outcome.instances) >= ARC_SETS_MAX;
    if full || outcome.problem == Some(ArcProblem::FailedBefore) {
        return Ok(None);
    }
    let instance = (outcome.instances + 1).to_string();
    let status = match outcome.result {
        ArcResult::None => ChainStatus::None,
        ArcResult::Pass => ChainStatus::Pass,
        ArcResult::Fail => ChainStatus::Fail,
    };
    let results = format!("ARC-Authentication-Results: i={instance}; {}\r\n", results.trim());
    let mut message = FieldWriter::new("ARC-Message-Signature");
    message.tag("i", &instance);
    let plan = SigningPlan { identity: None, ..*plan };
    write_covering_tags(&mut message, &plan, key, headers, bodies)?;
    let message_signature = message.sign(&plan, key, headers, Form::ArcMessage)?;
    let seal = write_seal(&plan, key, &instance, status, validator, headers, &[&results, &message_signature])?;
    Ok(Some(SealedSet { seal, message_signature, results }))
}

/// A seal covers the sets before its own and the two other fields of its own; one that says fail only the latter
/// (RFC 8617 section 5.1.2).
fn write_seal(
    plan: &SigningPlan<'_>,
    key: &SigningKey,
    instance: &str,
    status: ChainStatus,
    validator: &Validator,
    headers: Headers<'_>,
    own: &[&str],
) -> Result<String, SignError> {
    const FORM: Canonicalization = Canonicalization::Relaxed;
    let mut hash = HeaderHash::default();
    for set in validator.chain.sets().iter().filter(|_| status != ChainStatus::Fail) {
        for position in [set.results, set.message.position, set.seal.position] {
            hash.add(FORM, &headers.field(position).ok_or(SignError::Invalid(DkimProblem::Syntax))?);
        }
    }
    for text in own {
        let mut index = HeaderIndex::new();
        let field = index.scan(text.as_bytes()).field(0).ok_or(SignError::Invalid(DkimProblem::Syntax))?;
        hash.add(FORM, &field);
    }
    let mut seal = FieldWriter::new("ARC-Seal");
    seal.tag("i", instance);
    seal.tag("a", key.algorithm().word());
    seal.tag("cv", status.word());
    seal.tag("d", &plan.domain.to_string());
    seal.tag("s", plan.selector);
    if let Some(time) = plan.signed_at {
        seal.tag("t", &time.to_string());
    }
    let field = seal.unsigned();
    let end = field.value.len();
    let digest = hash.finish_with(FORM, &field, end..end);
    Ok(seal.finish(&key.sign(&digest)?))
}

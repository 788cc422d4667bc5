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
    /// The stable word of the verdict format. A key that could not be asked for has the word that DKIM has for it: the
    /// chain fails all the same (RFC 8617 section 5.2.1), but nobody broke it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::MessageSignature(problem) | Self::Seal { problem, .. }
                if matches!(problem, DkimProblem::KeyTimeout | DkimProblem::KeyLookupFailed) =>
            {
                problem.word()
            }
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
        maths.header_hash(message, headers).map(|(hash, _)| hash)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dkim::{Canonicalization, SigningKey, SigningPlan};
    use crate::dns::{Answer, AnswerSource, Failure, NoSource, Outcome, Question, RecordSet, Transcript, Txt};
    use crate::message::HeaderIndex;

    const HEADER: &str = "From: a@example.com\r\nTo: b@example.org\r\nSubject: hello\r\n";
    const BODY: &str = "some text\r\n";

    fn key() -> SigningKey {
        SigningKey::read(b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap()
    }

    /// Every question has the key of `key()` as its answer, but for the selector `lost`.
    struct Keys;

    impl AnswerSource for Keys {
        fn answer(&mut self, question: &Question) -> Option<Answer> {
            if question.name.labels().next() == Some(b"lost") {
                return Some(Answer::failed(Failure::TimedOut));
            }
            let text = Txt(key().record().unwrap().into_bytes().into());
            Some(Answer::new(Outcome::Records(RecordSet::Txt([text].into())), None))
        }
    }

    fn with_chain<T>(
        header: &str,
        body: &str,
        then: impl FnOnce(&Validator, ArcOutcome, Headers<'_>, &BodyHashes) -> T,
    ) -> T {
        let mut index = HeaderIndex::new();
        let headers = index.scan(header.as_bytes());
        let mut bodies = BodyHashes::new();
        bodies.want(Canonicalization::Relaxed, None);
        let mut validator = Validator::begin(headers, &DkimOptions::default(), &mut bodies);
        bodies.update(body.as_bytes());
        bodies.finish();
        let mut transcript = Transcript::new();
        let now = Timestamp::from_seconds(1);
        let early = validator.outcome(headers, &bodies, now, &mut Answers::new(&mut transcript, &mut NoSource));
        assert_eq!(early.is_none(), transcript.question_count() > 0);
        let mut transcript = Transcript::new();
        let mut source = Keys;
        let outcome = validator.outcome(headers, &bodies, now, &mut Answers::new(&mut transcript, &mut source));
        then(&validator, outcome.unwrap(), headers, &bodies)
    }

    fn validated(header: &str, body: &str) -> (ArcResult, u8, Option<u8>, Option<ArcProblem>) {
        let outcome = with_chain(header, body, |_, outcome, _, _| outcome);
        (outcome.result, outcome.instances, outcome.oldest_pass, outcome.problem)
    }

    fn sealed(header: &str, body: &str, selector: &str) -> Option<String> {
        let domain = Name::parse_domain("list.example").unwrap();
        let plan = SigningPlan {
            domain: &domain,
            selector,
            identity: None,
            header_form: Canonicalization::Relaxed,
            body_form: Canonicalization::Relaxed,
            names: &["From", "Subject"],
            oversigned: &["From"],
            signed_at: Some(1),
            expires_at: None,
        };
        let set = with_chain(header, body, |validator, outcome, headers, bodies| {
            seal(&plan, &key(), "list.example; spf=pass", validator, &outcome, headers, bodies).unwrap()
        });
        set.map(|set| format!("{}{header}", set.to_header()))
    }

    #[test]
    fn chains_pass_until_the_message_changes() {
        assert_eq!(validated(HEADER, BODY), (ArcResult::None, 0, None, None));
        let one = sealed(HEADER, BODY, "s1").unwrap();
        assert_eq!(validated(&one, BODY), (ArcResult::Pass, 1, Some(0), None));
        let two = sealed(&one, BODY, "s2").unwrap();
        assert_eq!(validated(&two, BODY), (ArcResult::Pass, 2, Some(0), None));
        let changed = two.replace("hello", "[list] hello");
        let mismatch = Some(ArcProblem::MessageSignature(DkimProblem::SignatureMismatch));
        assert_eq!(validated(&changed, BODY), (ArcResult::Fail, 2, None, mismatch));
        let outcome = with_chain(&two, BODY, |_, outcome, _, _| outcome);
        let sealers: Vec<String> =
            outcome.sealers.iter().map(|(domain, selector)| format!("{selector}@{domain}")).collect();
        assert_eq!(sealers, ["s1@list.example", "s2@list.example"]);
    }

    #[test]
    fn a_chain_that_failed_takes_no_further_set() {
        let one = sealed(HEADER, BODY, "s1").unwrap();
        let failed = sealed(&one, "other\r\n", "s2").unwrap();
        assert!(failed.contains("cv=fail"));
        assert_eq!(validated(&failed, "other\r\n"), (ArcResult::Fail, 2, None, Some(ArcProblem::FailedBefore)));
        assert_eq!(sealed(&failed, "other\r\n", "s3"), None);
    }

    #[test]
    fn sets_must_be_whole_and_sealed() {
        let two = sealed(&sealed(HEADER, BODY, "s1").unwrap(), BODY, "s2").unwrap();
        let problem = |header: &str| {
            let (result, _, oldest_pass, problem) = validated(header, BODY);
            assert_eq!((result, oldest_pass), (ArcResult::Fail, None));
            problem.unwrap().word()
        };
        let without = |start: &str| {
            let at = two.find(start).unwrap();
            let mut end = at;
            for line in two[at..].split_inclusive("\r\n") {
                if end > at && !line.starts_with([' ', '\t']) {
                    break;
                }
                end += line.len();
            }
            (format!("{}{}", &two[..at], &two[end..]), two[at..end].to_owned())
        };
        for start in ["ARC-Seal: i=2", "ARC-Message-Signature: i=1", "ARC-Authentication-Results: i=1"] {
            let (rest, field) = without(start);
            assert_eq!(problem(&rest), "incomplete-set", "{start}");
            assert_eq!(problem(&format!("{field}{two}")), "duplicate-field", "{start}");
        }
        assert_eq!(problem(&two.replace("Results: i=1;", "Results: i=2;")), "duplicate-field");
        assert_eq!(problem(&two.replace("Results: i=1;", "Results: spf=pass; i=1;")), "bad-instance");
        assert_eq!(problem(&two.replace("cv=none", "cv=pass")), "bad-chain-status");
        assert_eq!(problem(&two.replace("cv=none", "cv=maybe")), "bad-chain-status");
        assert_eq!(problem(&two.replace("cv=none", "cv=none; h=from")), "seal-names-fields");
        assert_eq!(problem(&two.replace("cv=none", "cv=none; cv=none")), "seal-syntax");
        assert_eq!(problem(&two.replace("spf=pass", "spf=fail")), "seal-invalid");
        assert_eq!(problem(&two.replace("h=From", "h=ARC-Seal:From")), "covers-seals");
        assert_eq!(problem(&sealed(HEADER, BODY, "lost").unwrap()), "key-timeout");
    }

    #[test]
    fn set_limit_holds_on_both_sides() {
        let mut header = HEADER.to_owned();
        for _ in 0..crate::limits::ARC_SETS_MAX {
            header = sealed(&header, BODY, "s").unwrap();
        }
        assert_eq!(validated(&header, BODY), (ArcResult::Pass, 50, Some(0), None));
        assert_eq!(sealed(&header, BODY, "s"), None);
        let one_more = format!("ARC-Seal: i=51; cv=pass\r\n{header}");
        assert_eq!(validated(&one_more, BODY).3, Some(ArcProblem::TooManySets));
    }

    #[test]
    fn oldest_pass_is_the_first_set_after_the_last_change() {
        let one = sealed(HEADER, BODY, "s1").unwrap();
        // The second handler changed the body before it signed and sealed.
        let changed = "changed\r\n";
        let two = with_chain(&one, BODY, |validator, outcome, headers, _| {
            let mut bodies = BodyHashes::new();
            bodies.want(Canonicalization::Relaxed, None);
            bodies.update(changed.as_bytes());
            bodies.finish();
            let domain = Name::parse_domain("list.example").unwrap();
            let plan = SigningPlan {
                domain: &domain,
                selector: "s2",
                identity: None,
                header_form: Canonicalization::Relaxed,
                body_form: Canonicalization::Relaxed,
                names: &["From"],
                oversigned: &[],
                signed_at: None,
                expires_at: None,
            };
            seal(&plan, &key(), "list.example; none", validator, &outcome, headers, &bodies).unwrap().unwrap()
        });
        let two = format!("{}{one}", two.to_header());
        assert_eq!(validated(&two, changed), (ArcResult::Pass, 2, Some(2), None));
        let three = sealed(&two, changed, "s3").unwrap();
        assert_eq!(validated(&three, changed), (ArcResult::Pass, 3, Some(2), None));
    }
}

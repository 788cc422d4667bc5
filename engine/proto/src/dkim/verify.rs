//! The verifier of RFC 6376 section 6.

use std::ops::Range;

use aws_lc_rs::digest::Digest;

use super::canonical::{FieldsByName, HeaderHash};
use super::key::Key;
use super::signature::{Algorithm, Form, Signature, signed_names};
use super::{BodyHash, BodyHashes, DkimOptions, DkimProblem, DkimResult, SignatureOutcome};
use crate::dns::{Answer, Answers, Failure, Name, Outcome};
use crate::message::{Field, FieldKind, Headers};
use crate::time::Timestamp;

/// Judges the signatures of one message.
///
/// Every DKIM-Signature field among those looked at has exactly one outcome, whatever its syntax. Where a message has
/// more of them than the limit, those aligned with its author go first and the rest is not looked at.
#[derive(Debug, Default)]
pub struct Verifier {
    signatures: Vec<Signature>,
    /// What was found out about each, so that a second call does no maths again.
    judged: Vec<Option<Judgement>>,
    maths: HeaderMaths,
    /// Whom the message says it is from.
    author: Option<Name>,
    skipped_count: usize,
    over_limit: bool,
}

/// The working memory for header hashes, kept from one signature to the next.
#[derive(Debug, Default)]
pub(crate) struct HeaderMaths {
    /// The octets of every `b=`.
    pub(crate) octets: Vec<u8>,
    pub(crate) hash: HeaderHash,
    by_name: FieldsByName,
    indexed: bool,
}

/// Everything about the outcome of a signature that has to be worked out.
#[derive(Clone, Copy, Debug)]
struct Judgement {
    result: DkimResult,
    problem: Option<DkimProblem>,
    key_bits: Option<u16>,
    testing: bool,
    body_octets: (u64, u64),
    header_holds: bool,
}

/// What a key has to fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signer {
    pub(crate) algorithm: Algorithm,
    /// The domain of `i=` is that of `d=`.
    pub(crate) same_domain: bool,
}

/// What keys say of a signature, and the key it was said of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyVerdict<'a> {
    pub(crate) key: Option<&'a Key>,
    pub(crate) verified: Result<(), DkimProblem>,
}

impl Verifier {
    /// Reads the DKIM-Signature fields, those aligned with `author` first, and registers the body hashes they need.
    #[must_use]
    pub fn begin(headers: Headers<'_>, author: Option<&Name>, options: &DkimOptions, bodies: &mut BodyHashes) -> Self {
        let mut verifier = Self::default();
        verifier.restart(headers, author, options, bodies);
        verifier
    }

    /// As [`Verifier::begin`], in the memory of an earlier message.
    pub fn restart(
        &mut self,
        headers: Headers<'_>,
        author: Option<&Name>,
        options: &DkimOptions,
        bodies: &mut BodyHashes,
    ) {
        self.signatures.clear();
        self.maths.restart();
        self.author = author.copied();
        self.skipped_count = 0;
        self.over_limit = headers.defects().header_over_limit;
        for field in headers.of_kind(FieldKind::DkimSignature) {
            self.signatures.push(Signature::read(&field, Form::Dkim, &mut self.maths.octets));
            if self.signatures.len() > options.signatures_max {
                self.drop_least(author);
            }
        }
        self.judged.clear();
        self.judged.resize(self.signatures.len(), None);
        for signature in self.signatures.iter().filter(|signature| self.needs_key(signature)) {
            bodies.want(signature.body_form, signature.length);
        }
    }

    /// Asks for the keys, so that they are on their way while the body arrives.
    pub fn ask_keys(&self, answers: &mut Answers<'_>) {
        for question in self.signatures.iter().filter(|it| self.needs_key(it)).filter_map(|it| it.question.as_ref()) {
            let _ = answers.ask(question);
        }
    }

    /// Judges every signature once the body is finished, from top to bottom of the header; `None` while keys are missing.
    pub fn outcomes(
        &mut self,
        headers: Headers<'_>,
        bodies: &BodyHashes,
        options: &DkimOptions,
        now: Timestamp,
        answers: &mut Answers<'_>,
    ) -> Option<Vec<SignatureOutcome>> {
        self.ask_keys(answers);
        let mut outcomes = Vec::with_capacity(self.signatures.len().max(1));
        let mut waiting = false;
        for at in 0..self.signatures.len() {
            match self.judgement(at, headers, bodies, options, now, answers) {
                Some(outcome) => outcomes.push(outcome),
                None => waiting = true,
            }
        }
        if waiting {
            return None;
        }
        Some(outcomes)
    }

    /// DKIM-Signature fields beyond the limit, not looked at.
    #[must_use]
    pub fn skipped_count(&self) -> usize {
        self.skipped_count
    }

    /// True when no DKIM-Signature was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.signatures.is_empty()
    }

    fn needs_key(&self, signature: &Signature) -> bool {
        !self.over_limit && signature.problem.is_none() && signature.algorithm != Algorithm::RsaSha1
    }

    /// Drops the signature that is furthest from the author, the lowest of several.
    fn drop_least(&mut self, author: Option<&Name>) {
        let distance = |signature: &Signature| author_distance(signature.domain.as_ref(), author);
        let least = (0..self.signatures.len()).max_by_key(|&at| self.signatures.get(at).map(distance));
        if let Some(least) = least {
            self.signatures.remove(least);
            self.skipped_count += 1;
        }
    }

    fn judgement(
        &mut self,
        at: usize,
        headers: Headers<'_>,
        bodies: &BodyHashes,
        options: &DkimOptions,
        now: Timestamp,
        answers: &mut Answers<'_>,
    ) -> Option<SignatureOutcome> {
        let needs_key = self.signatures.get(at).is_some_and(|signature| self.needs_key(signature));
        let signature = self.signatures.get(at)?;
        let known = self.judged.get_mut(at)?;
        let judgement = match *known {
            Some(judgement) => judgement,
            None if self.over_limit => Judgement::refused(DkimProblem::HeaderOverLimit),
            None if !needs_key => Judgement::refused(signature.problem.unwrap_or(DkimProblem::Sha1)),
            None => {
                let answer = answers.ask(signature.question.as_ref()?)?;
                let body = bodies.hash(signature.body_form, signature.length)?;
                let mut judgement = judge(signature, &answer, headers, body, &mut self.maths, options, now);
                let is_near = author_distance(signature.domain.as_ref(), self.author.as_ref()) < FAR_FROM_AUTHOR;
                if is_near && judgement.problem == Some(DkimProblem::BodyHashMismatch) {
                    judgement.header_holds = holds_over_header(signature, &answer, headers, &mut self.maths);
                }
                judgement
            }
        };
        *known = Some(judgement);
        Some(judgement.outcome(signature, headers.field(signature.position)))
    }
}

impl HeaderMaths {
    pub(crate) fn restart(&mut self) {
        self.octets.clear();
        self.octets.shrink_to(HeaderHash::HELD_BYTES_MAX);
        self.hash.restart();
        self.indexed = false;
    }

    /// The hash over the fields a signature covers (RFC 6376 section 3.7), and whether it leaves out an instance of a
    /// field that may stand only once (section 8.15).
    ///
    /// # Errors
    /// When a field it covers is longer than what is hashed.
    pub(crate) fn header_hash(
        &mut self,
        signature: &Signature,
        headers: Headers<'_>,
    ) -> Result<(Digest, bool), DkimProblem> {
        let own = headers.field(signature.position).ok_or(DkimProblem::SignatureMismatch)?;
        let names = text(&own, &signature.places.names);
        if !self.indexed {
            self.by_name.index(headers);
            self.indexed = true;
        }
        self.by_name.restart();
        self.hash.restart();
        let mut covered = SingletonCount::default();
        for name in signed_names(names) {
            if let Some(field) = self.by_name.next(headers, name.as_bytes(), signature.position) {
                if field.is_oversize() {
                    return Err(DkimProblem::HeaderOverLimit);
                }
                self.hash.add(signature.header_form, &field);
                covered.add(field.kind);
            }
        }
        let digest = self.hash.finish_with(signature.header_form, &own, signature.places.b_slot.clone());
        Ok((digest, covered.leaves_out(headers)))
    }
}

/// How often each field that may stand only once is covered.
#[derive(Default)]
struct SingletonCount([u16; FieldKind::COUNT]);

impl SingletonCount {
    fn add(&mut self, kind: FieldKind) {
        if let Some(count) = self.0.get_mut(kind as usize).filter(|_| kind.is_singleton()) {
            *count = count.saturating_add(1);
        }
    }

    /// True when a name is covered, and the header holds more fields of that name than are.
    fn leaves_out(&self, headers: Headers<'_>) -> bool {
        if headers.defects().repeated_singletons == 0 {
            return false;
        }
        let mut present = Self::default();
        headers.fields().for_each(|field| present.add(field.kind));
        self.0.iter().zip(present.0).any(|(&covered, present)| covered > 0 && present > covered)
    }
}

/// Finds the key that verifies a hash among those an answer holds (RFC 6376 section 6.1.2 and 6.1.3). `hash` is made
/// only when there is a key to use it with.
pub(crate) fn verify_with_keys<'a>(
    answer: &'a Answer,
    signer: Signer,
    octets: &[u8],
    hash: impl FnOnce() -> Result<Digest, DkimProblem>,
) -> KeyVerdict<'a> {
    if let Some(problem) = lookup_problem(answer.outcome()) {
        return KeyVerdict { key: None, verified: Err(problem) };
    }
    let mut made = None;
    let mut hash = Some(hash);
    let mut first: Option<KeyVerdict<'a>> = None;
    for record in answer.dkim().records() {
        let usable = record.and_then(|key| signer.may_use(key).map(|()| key));
        let verdict = match usable {
            Err(problem) => KeyVerdict { key: record.ok(), verified: Err(problem) },
            Ok(key) => {
                let made = made.get_or_insert_with(|| match hash.take() {
                    Some(hash) => hash(),
                    None => Err(DkimProblem::SignatureMismatch),
                });
                let verified = made.as_ref().map_err(|problem| *problem).and_then(|hash| key.verify(hash, octets));
                KeyVerdict { key: Some(key), verified }
            }
        };
        if verdict.verified.is_ok() {
            return verdict;
        }
        // A key that could be used says more than one that could not.
        let better = |first: &KeyVerdict<'_>| usable.is_ok() && first.is_permanent() && !verdict.is_permanent();
        if first.as_ref().is_none_or(better) {
            first = Some(verdict);
        }
    }
    first.unwrap_or(KeyVerdict { key: None, verified: Err(DkimProblem::KeyNotFound) })
}

impl KeyVerdict<'_> {
    fn is_permanent(&self) -> bool {
        self.verified.is_err_and(|problem| problem.result() == DkimResult::PermError)
    }
}

impl Signer {
    fn may_use(self, key: &Key) -> Result<(), DkimProblem> {
        key.accepts(self.algorithm)?;
        if key.is_strict() && !self.same_domain { Err(DkimProblem::IdentityNotStrict) } else { Ok(()) }
    }
}

impl Signature {
    pub(crate) fn signer(&self) -> Signer {
        Signer { algorithm: self.algorithm, same_domain: self.same_domain }
    }
}

/// Why an answer holds no record at all.
fn lookup_problem(outcome: &Outcome) -> Option<DkimProblem> {
    match outcome {
        Outcome::Records(_) => None,
        Outcome::NoData | Outcome::NxDomain => Some(DkimProblem::KeyNotFound),
        Outcome::Failed(Failure::TimedOut) => Some(DkimProblem::KeyTimeout),
        Outcome::Failed(_) => Some(DkimProblem::KeyLookupFailed),
    }
}

/// What RFC 6376 section 3.7 asks of the body.
pub(crate) fn check_body(signature: &Signature, body: &BodyHash<'_>) -> Result<(), DkimProblem> {
    match (body.digest, &signature.body_hash) {
        (None, _) => Err(DkimProblem::LengthBeyondBody),
        (Some(found), Some(wanted)) if found == wanted => Ok(()),
        _ => Err(DkimProblem::BodyHashMismatch),
    }
}

fn judge(
    signature: &Signature,
    answer: &Answer,
    headers: Headers<'_>,
    body: BodyHash<'_>,
    maths: &mut HeaderMaths,
    options: &DkimOptions,
    now: Timestamp,
) -> Judgement {
    let mut leaves_out = false;
    let octets = std::mem::take(&mut maths.octets);
    let verdict =
        verify_with_keys(answer, signature.signer(), octets.get(signature.octets.clone()).unwrap_or_default(), || {
            check_body(signature, &body)?;
            let (hash, left_out) = maths.header_hash(signature, headers)?;
            leaves_out = left_out;
            Ok(hash)
        });
    maths.octets = octets;
    let testing = verdict.key.is_some_and(Key::is_testing);
    let header_holds = verdict.verified.is_ok() && !leaves_out;
    let problem = verdict.verified.err().or_else(|| policy_problem(signature, &body, leaves_out, options, now));
    let result = match problem.map(DkimProblem::result) {
        None => DkimResult::Pass,
        // RFC 6376 section 3.6.1: no worse than an unsigned message.
        Some(DkimResult::Fail) if testing => DkimResult::Neutral,
        Some(result) => result,
    };
    let ahead = signature.signed_at.is_some_and(|signed| signed > now.seconds().saturating_add(FUTURE_SECONDS_MAX));
    Judgement {
        result,
        problem: problem.or_else(|| ahead.then_some(DkimProblem::SignedInFuture)),
        key_bits: verdict.key.map(Key::bits),
        testing,
        body_octets: (body.covered_bytes, body.total_bytes),
        header_holds,
    }
}

/// True when a signature whose body does not match was made by its key over this header all the same.
fn holds_over_header(signature: &Signature, answer: &Answer, headers: Headers<'_>, maths: &mut HeaderMaths) -> bool {
    let octets = std::mem::take(&mut maths.octets);
    let of_signature = octets.get(signature.octets.clone()).unwrap_or_default();
    let verdict = verify_with_keys(answer, signature.signer(), of_signature, || {
        let (hash, left_out) = maths.header_hash(signature, headers)?;
        if left_out { Err(DkimProblem::HeaderRepeated) } else { Ok(hash) }
    });
    let holds = verdict.verified.is_ok();
    maths.octets = octets;
    holds
}

/// Why a signature that verified is not acceptable here.
fn policy_problem(
    signature: &Signature,
    body: &BodyHash<'_>,
    leaves_out: bool,
    options: &DkimOptions,
    now: Timestamp,
) -> Option<DkimProblem> {
    if has_expired(signature, options, now) {
        return Some(DkimProblem::Expired);
    }
    if leaves_out {
        return Some(DkimProblem::HeaderRepeated);
    }
    let uncovered = body.covered_bytes < body.total_bytes;
    (uncovered && !options.honour_length).then_some(DkimProblem::LengthUncovered)
}

pub(crate) fn has_expired(signature: &Signature, options: &DkimOptions, now: Timestamp) -> bool {
    signature.expires_at.is_some_and(|at| at.saturating_add(options.clock_skew_seconds) < now.seconds())
}

/// How far a signer is from the author, without asking anybody: 0 is the same domain.
fn author_distance(domain: Option<&Name>, author: Option<&Name>) -> u8 {
    match (domain, author) {
        (Some(domain), Some(author)) if domain == author => 0,
        (Some(domain), Some(author)) if domain.is_at_or_below(author) || author.is_at_or_below(domain) => 1,
        (Some(domain), Some(author)) if domain.suffix(2) == author.suffix(2) => 2,
        _ => FAR_FROM_AUTHOR,
    }
}

impl Judgement {
    fn refused(problem: DkimProblem) -> Self {
        let result = problem.result();
        let problem = Some(problem);
        Self { result, problem, key_bits: None, testing: false, body_octets: (0, 0), header_holds: false }
    }

    fn outcome(self, signature: &Signature, field: Option<Field<'_>>) -> SignatureOutcome {
        let shown = |place: &Range<usize>, characters_max: usize| {
            let text = field.as_ref().map(|field| text(field, place)).unwrap_or_default();
            if text.is_empty() {
                return None;
            }
            let mut plain = String::with_capacity(text.len().min(characters_max));
            plain.extend(text.chars().filter(|character| !character.is_ascii_whitespace()).take(characters_max));
            Some(plain)
        };
        SignatureOutcome {
            result: self.result,
            problem: self.problem,
            domain: signature.domain,
            selector: shown(&signature.places.selector, SHOWN_CHARACTERS_MAX),
            identity: shown(&signature.places.identity, SHOWN_CHARACTERS_MAX)
                .or_else(|| signature.domain.map(|domain| format!("@{domain}"))),
            algorithm: shown(&signature.places.algorithm, SHOWN_CHARACTERS_MAX),
            key_bits: self.key_bits,
            b: shown(&signature.places.b, B_START_CHARACTERS),
            testing: self.testing,
            signed_at: signature.signed_at,
            expires_at: signature.expires_at,
            body_octets: self.body_octets,
            header_holds: self.header_holds,
        }
    }
}

/// A part of the value of a field whose tag list was read, and which therefore is UTF-8.
pub(crate) fn text<'a>(field: &Field<'a>, place: &Range<usize>) -> &'a str {
    field.value.get(place.clone()).and_then(|octets| std::str::from_utf8(octets).ok()).unwrap_or_default()
}

/// What [`author_distance`] says of a signer that has nothing to do with the author.
const FAR_FROM_AUTHOR: u8 = 3;
/// How far ahead `t=` may be before it is worth a note; never more than that (RFC 6376 section 3.5).
const FUTURE_SECONDS_MAX: u64 = 24 * 60 * 60;
/// Characters of a tag that an outcome repeats, so that a hostile one can not fill a log.
const SHOWN_CHARACTERS_MAX: usize = 320;
/// RFC 6008 section 4 asks for at least 8 characters of `b=`.
pub(crate) const B_START_CHARACTERS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dkim::{Canonicalization, FieldWriter, SigningKey};
    use crate::dns::{AnswerSource, NoSource, Question, RecordSet, RecordType, Transcript, Txt};
    use crate::message::HeaderIndex;

    const NOW: u64 = 1_000_000_000;
    const HEADER: &str = "From: a@example.com\r\nTo: b@example.org\r\nSubject: hello\r\n";
    const BODY: &str = "some text\r\n";
    const RECORD: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    fn key() -> SigningKey {
        SigningKey::read(b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap()
    }

    /// Every question has the same answer.
    struct Same(Answer);

    impl AnswerSource for Same {
        fn answer(&mut self, _: &Question) -> Option<Answer> {
            Some(self.0.clone())
        }
    }

    fn records(records: &[&str]) -> Answer {
        let texts = records.iter().map(|record| Txt(record.as_bytes().into())).collect();
        Answer::new(Outcome::Records(RecordSet::Txt(texts)), None)
    }

    /// A DKIM-Signature field with a right signature over `HEADER` and `BODY`, with these tags before `h=`.
    fn signed_as(tags: &[(&str, &str)], names: &str) -> String {
        let mut bodies = BodyHashes::new();
        let length = tags.iter().find(|(name, _)| *name == "l").and_then(|(_, length)| length.parse().ok());
        bodies.want(Canonicalization::Relaxed, length);
        bodies.update(BODY.as_bytes());
        bodies.finish();
        let body = bodies.hash(Canonicalization::Relaxed, length).unwrap().digest.unwrap_or(&[0; 32]).to_vec();
        let mut field = FieldWriter::new("DKIM-Signature");
        let usual = [("v", "1"), ("a", "ed25519-sha256"), ("c", "relaxed/relaxed"), ("d", "example.com"), ("s", "s1")];
        for (name, value) in usual.iter().filter(|(name, _)| !tags.iter().any(|(other, _)| other == name)) {
            field.tag(name, value);
        }
        tags.iter().for_each(|(name, value)| field.tag(name, value));
        field.tag("h", names);
        field.tag("bh", &super::super::base64::encode(&body));
        let mut index = HeaderIndex::new();
        let headers = index.scan(HEADER.as_bytes());
        let mut by_name = FieldsByName::default();
        by_name.index(headers);
        by_name.restart();
        let mut hash = HeaderHash::default();
        for name in names.split(':') {
            if let Some(field) = by_name.next(headers, name.as_bytes(), usize::MAX) {
                hash.add(Canonicalization::Relaxed, &field);
            }
        }
        let own = field.unsigned();
        let digest = hash.finish_with(Canonicalization::Relaxed, &own, own.value.len()..own.value.len());
        field.finish(&key().sign(&digest).unwrap())
    }

    fn judge_all(header: &str, body: &str, answer: Answer, options: &DkimOptions) -> Vec<SignatureOutcome> {
        let mut index = HeaderIndex::new();
        let headers = index.scan(header.as_bytes());
        let mut bodies = BodyHashes::new();
        let author = Name::parse_domain("example.com").unwrap();
        let mut verifier = Verifier::begin(headers, Some(&author), options, &mut bodies);
        bodies.update(body.as_bytes());
        bodies.finish();
        let mut transcript = Transcript::new();
        let now = Timestamp::from_seconds(NOW);
        // Nothing is decided while the answer is missing; then it is, and stays so.
        let early =
            verifier.outcomes(headers, &bodies, options, now, &mut Answers::new(&mut transcript, &mut NoSource));
        assert_eq!(early.is_none(), transcript.question_count() > 0);
        let mut transcript = Transcript::new();
        let mut source = Same(answer);
        let mut answers = Answers::new(&mut transcript, &mut source);
        let first = verifier.outcomes(headers, &bodies, options, now, &mut answers).unwrap();
        assert_eq!(verifier.outcomes(headers, &bodies, options, now, &mut answers), Some(first.clone()));
        first
    }

    fn judged(field: &str, header: &str, body: &str, answer: Answer) -> (DkimResult, Option<DkimProblem>, bool) {
        let outcomes = judge_all(&format!("{field}{header}"), body, answer, &DkimOptions::default());
        assert_eq!(outcomes.len(), 1);
        (outcomes[0].result, outcomes[0].problem, outcomes[0].testing)
    }

    #[test]
    fn changes_to_a_signed_message_show() {
        let field = signed_as(&[], "from:from:to:subject");
        let of = |header: &str, body: &str| judged(&field, header, body, records(&[RECORD]));
        assert_eq!(of(HEADER, BODY), (DkimResult::Pass, None, false));
        assert_eq!(of(&HEADER.to_uppercase().replace("A@", "a@"), BODY).0, DkimResult::Fail);
        assert_eq!(of(HEADER, "other\r\n"), (DkimResult::Fail, Some(DkimProblem::BodyHashMismatch), false));
        let oversigned = format!("From: x@evil.example\r\n{HEADER}");
        assert_eq!(of(&oversigned, BODY), (DkimResult::Fail, Some(DkimProblem::SignatureMismatch), false));
        let added = format!("Subject: other\r\n{HEADER}");
        assert_eq!(of(&added, BODY), (DkimResult::Policy, Some(DkimProblem::HeaderRepeated), false));
        let unsigned = format!("Reply-To: x@evil.example\r\nReply-To: y@evil.example\r\n{HEADER}");
        assert_eq!(of(&unsigned, BODY), (DkimResult::Pass, None, false));
    }

    /// What tells a list that changed a message from a forger: nobody but the owner of the key signed this header.
    #[test]
    fn a_header_can_hold_where_the_body_does_not() {
        let holds = |field: &str, header: &str, body: &str| {
            let outcomes = judge_all(&format!("{field}{header}"), body, records(&[RECORD]), &DkimOptions::default());
            (outcomes[0].result, outcomes[0].header_holds)
        };
        let own = signed_as(&[], "from:from:to:subject");
        assert_eq!(holds(&own, HEADER, BODY), (DkimResult::Pass, true));
        assert_eq!(holds(&own, HEADER, "other\r\n"), (DkimResult::Fail, true));
        let changed = HEADER.replace("hello", "[list] hello");
        assert_eq!(holds(&own, &changed, "other\r\n"), (DkimResult::Fail, false));
        let added = format!("From: x@evil.example\r\n{HEADER}");
        assert_eq!(holds(&own, &added, "other\r\n"), (DkimResult::Fail, false));
        let not_oversigned = signed_as(&[], "from:to:subject");
        assert_eq!(holds(&not_oversigned, &added, "other\r\n"), (DkimResult::Fail, false));
        let expired = signed_as(&[("x", &(NOW - 301).to_string())], "from");
        assert_eq!(holds(&expired, HEADER, BODY), (DkimResult::Policy, true));
        // Of a stranger it does not matter, and is not looked at.
        let other = signed_as(&[("d", "other.example")], "from");
        assert_eq!(holds(&other, HEADER, "other\r\n"), (DkimResult::Fail, false));
    }

    #[test]
    fn each_state_of_the_key_has_its_result() {
        let field = signed_as(&[("i", "@mail.example.com")], "from");
        let of = |answer| {
            let (result, problem, testing) = judged(&field, HEADER, BODY, answer);
            (result, problem.map(DkimProblem::word), testing)
        };
        let failed = |failure| of(Answer::failed(failure));
        assert_eq!(of(records(&[RECORD])), (DkimResult::Pass, None, false));
        assert_eq!(failed(Failure::TimedOut), (DkimResult::TempError, Some("key-timeout"), false));
        assert_eq!(failed(Failure::ServFail), (DkimResult::TempError, Some("key-lookup-failed"), false));
        let missing = (DkimResult::PermError, Some("key-not-found"), false);
        assert_eq!(of(Answer::new(Outcome::NxDomain, None)), missing);
        assert_eq!(of(Answer::new(Outcome::NoData, None)), missing);
        assert_eq!(of(records(&["p="])), (DkimResult::PermError, Some("key-revoked"), false));
        assert_eq!(of(records(&["v=spf1 -all"])), (DkimResult::PermError, Some("key-syntax"), false));
        let strict = format!("{RECORD}; t=s");
        assert_eq!(of(records(&[&strict])), (DkimResult::PermError, Some("identity-not-strict"), false));
        let testing = format!("{RECORD}; t=y");
        assert_eq!(of(records(&[&testing])), (DkimResult::Pass, None, true));
        let other = "k=ed25519; t=y; p=O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik=";
        assert_eq!(of(records(&[other])), (DkimResult::Neutral, Some("signature-mismatch"), true));
        // Several records: each is tried, and one that could be used says more than one that could not.
        assert_eq!(of(records(&["p=", other, RECORD])), (DkimResult::Pass, None, false));
        assert_eq!(of(records(&["p=", other])), (DkimResult::Neutral, Some("signature-mismatch"), true));
        assert_eq!(of(records(&["p=", "p=", "p=", RECORD])), (DkimResult::PermError, Some("key-revoked"), false));
    }

    #[test]
    fn times_count_with_their_tolerance() {
        let of = |tags: &[(&str, &str)]| {
            let (result, problem, _) = judged(&signed_as(tags, "from"), HEADER, BODY, records(&[RECORD]));
            (result, problem)
        };
        let at = |seconds: u64| seconds.to_string();
        assert_eq!(of(&[("x", &at(NOW - 300))]), (DkimResult::Pass, None));
        assert_eq!(of(&[("x", &at(NOW - 301))]), (DkimResult::Policy, Some(DkimProblem::Expired)));
        assert_eq!(of(&[("t", &at(NOW + 86_400))]), (DkimResult::Pass, None));
        assert_eq!(of(&[("t", &at(NOW + 86_401))]), (DkimResult::Pass, Some(DkimProblem::SignedInFuture)));
    }

    #[test]
    fn octets_beyond_l_are_a_matter_of_policy() {
        let length = BODY.len() as u64;
        let of = |tag: u64, body: &str, honour_length| {
            let header = format!("{}{HEADER}", signed_as(&[("l", &tag.to_string())], "from"));
            let options = DkimOptions { honour_length, ..DkimOptions::default() };
            let outcome = judge_all(&header, body, records(&[RECORD]), &options).remove(0);
            (outcome.result, outcome.problem, outcome.body_octets)
        };
        let longer = format!("{BODY}more\r\n");
        let both = (length, length + 6);
        assert_eq!(of(length, BODY, false), (DkimResult::Pass, None, (length, length)));
        let uncovered = Some(DkimProblem::LengthUncovered);
        assert_eq!(of(length, &longer, false), (DkimResult::Policy, uncovered, both));
        assert_eq!(of(length, &longer, true), (DkimResult::Pass, None, both));
        let beyond = Some(DkimProblem::LengthBeyondBody);
        assert_eq!(of(length + 1, BODY, true), (DkimResult::PermError, beyond, (length, length)));
    }

    #[test]
    fn sha1_is_not_even_asked_about() {
        let header = format!("{}{HEADER}", signed_as(&[("a", "rsa-sha1")], "from"));
        let mut index = HeaderIndex::new();
        let headers = index.scan(header.as_bytes());
        let options = DkimOptions::default();
        let mut bodies = BodyHashes::new();
        let mut verifier = Verifier::begin(headers, None, &options, &mut bodies);
        assert!(bodies.is_empty());
        let mut transcript = Transcript::new();
        let now = Timestamp::from_seconds(NOW);
        let outcomes =
            verifier.outcomes(headers, &bodies, &options, now, &mut Answers::new(&mut transcript, &mut NoSource));
        assert_eq!(outcomes.unwrap()[0].problem, Some(DkimProblem::Sha1));
        assert_eq!(transcript.question_count(), 0);
    }

    #[test]
    fn signature_limit_keeps_the_author_and_the_order() {
        let other = signed_as(&[("d", "other.example")], "from");
        let sub = signed_as(&[("d", "mail.example.com")], "from");
        let own = signed_as(&[], "from");
        let broken = "DKIM-Signature: v=1; d=\0\r\n";
        let header = [broken, &other, &sub, &other, &own, &other, HEADER].concat();
        let domains = |signatures_max| -> Vec<String> {
            let options = DkimOptions { signatures_max, ..DkimOptions::default() };
            let outcomes = judge_all(&header, BODY, records(&[RECORD]), &options);
            outcomes.iter().map(|it| it.domain.map_or("-".to_owned(), |domain| domain.to_string())).collect()
        };
        let all = ["-", "other.example", "mail.example.com", "other.example", "example.com", "other.example"];
        assert_eq!(domains(6), all);
        assert_eq!(domains(5), all[..5]);
        assert_eq!(domains(3), ["-", "mail.example.com", "example.com"]);
        assert_eq!(domains(1), ["example.com"]);
    }

    #[test]
    fn nothing_passes_when_the_header_was_cut_off() {
        let header = format!("{}{HEADER}", signed_as(&[], "from"));
        let mut index = HeaderIndex::new();
        index.scan(header.as_bytes());
        index.mark_over_limit();
        let headers = index.view(header.as_bytes());
        let options = DkimOptions::default();
        let mut bodies = BodyHashes::new();
        let mut verifier = Verifier::begin(headers, None, &options, &mut bodies);
        let mut transcript = Transcript::new();
        let now = Timestamp::from_seconds(NOW);
        let outcomes =
            verifier.outcomes(headers, &bodies, &options, now, &mut Answers::new(&mut transcript, &mut NoSource));
        assert_eq!(outcomes.unwrap()[0].problem, Some(DkimProblem::HeaderOverLimit));
        assert_eq!(transcript.question_count(), 0);
    }

    #[test]
    fn what_is_shown_holds_no_line_ends_and_no_end_of_characters() {
        let identity = format!("a\r\n\t b{}@example.com", "c".repeat(900));
        let field = signed_as(&[("i", &identity)], "from");
        let outcome =
            judge_all(&format!("{field}{HEADER}"), BODY, records(&[RECORD]), &DkimOptions::default()).remove(0);
        let shown = outcome.identity.unwrap();
        assert_eq!((outcome.result, &shown[..3], shown.len()), (DkimResult::Pass, "abc", SHOWN_CHARACTERS_MAX));
        assert_eq!(outcome.b.unwrap().len(), B_START_CHARACTERS);
        let question = Question::new(Name::parse("s1._domainkey.example.com").unwrap(), RecordType::Txt);
        let mut index = HeaderIndex::new();
        let block = format!("{field}{HEADER}");
        let verifier =
            Verifier::begin(index.scan(block.as_bytes()), None, &DkimOptions::default(), &mut BodyHashes::new());
        let mut transcript = Transcript::new();
        verifier.ask_keys(&mut Answers::new(&mut transcript, &mut NoSource));
        assert_eq!(transcript.next_question(), Some(question));
    }
}

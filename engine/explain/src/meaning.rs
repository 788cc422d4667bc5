//! What results mean, in plain words.

use mailproof_proto::arc::ArcResult;
use mailproof_proto::dkim::{DkimProblem, DkimResult, SignatureOutcome};
use mailproof_proto::dmarc::{Disposition, DmarcProblem, DmarcResult, PolicyTag};
use mailproof_proto::dns::Name;
use mailproof_proto::message::address::Author;
use mailproof_proto::spf::{SpfOutcome, SpfResult};
use mailproof_proto::verdict::{Action, Verdict};

use crate::words::listed;

/// The signer that speaks for the author: the author domain itself, else one of its organization.
#[must_use]
pub fn aligned_signer(verdict: &Verdict) -> Option<Name> {
    let outcome = &verdict.dmarc;
    let is_author = |domain: &Name| outcome.from_domain.as_ref() == Some(domain);
    let is_near = |domain: &Name| {
        is_author(domain) || outcome.organizational_domain.is_some_and(|above| domain.is_at_or_below(&above))
    };
    let passed = verdict.dkim.iter().filter(|it| it.result == DkimResult::Pass).filter_map(|it| it.domain);
    passed.filter(is_near).min_by_key(|domain| !is_author(domain))
}

/// The verdict in a few sentences: what it is, why, and what comes of it.
pub(super) fn in_short(verdict: &Verdict) -> Vec<String> {
    let mut sentences = vec![headline(verdict)];
    match verdict.dmarc.result {
        DmarcResult::Fail => sentences.extend(why_not(verdict)),
        DmarcResult::Pass => sentences.extend(setbacks(verdict)),
        DmarcResult::None | DmarcResult::TempError | DmarcResult::PermError => {
            sentences.extend(setbacks(verdict));
        }
    }
    if verdict.dmarc.result == DmarcResult::Fail && verdict.arc.result == ArcResult::Pass {
        let sealers: Vec<String> = verdict.arc.sealers.iter().map(|(domain, _)| domain.to_string()).collect();
        sentences.push(format!(
            "The ARC chain is whole: {} saw the message before it was changed. Whether that is enough is for you to decide.",
            listed(&sealers)
        ));
    }
    sentences.push(consequence(verdict));
    sentences
}

fn headline(verdict: &Verdict) -> String {
    let outcome = &verdict.dmarc;
    let from = outcome.from_domain.map_or_else(|| "the author".to_owned(), |domain| domain.to_string());
    match (outcome.result, outcome.problem) {
        (DmarcResult::Pass, _) => {
            let mut ways = Vec::new();
            if outcome.dkim_aligned.is_some() {
                let signer = aligned_signer(verdict);
                ways.push(signer.map_or_else(|| "signed".to_owned(), |signer| format!("signed by {signer}")));
            }
            if let (Some(_), Some(sender)) = (outcome.spf_aligned, verdict.spf.domain) {
                ways.push(format!("sent by a client that {sender} allows"));
            }
            format!("The message is from {from}: it is {}.", listed(&ways))
        }
        (DmarcResult::Fail, _) => format!("Nothing proves that the message is from {from}."),
        (DmarcResult::None, _) => format!("{from} has published no DMARC policy, so nobody asked for the check."),
        (DmarcResult::TempError, Some(problem)) => {
            format!("Whether the message is from {from} could not be found out for now: {problem}.")
        }
        (DmarcResult::PermError, Some(DmarcProblem::SeveralAuthors)) => several(&verdict.author),
        (_, Some(problem)) => format!("The message can not be judged: {problem}."),
        (result, None) => format!("DMARC ends with {}.", result.word()),
    }
}

fn several(author: &Author) -> String {
    let Author::Several(domains) = author else { return "The message names several authors.".to_owned() };
    let domains: Vec<String> = domains.iter().map(ToString::to_string).collect();
    format!("The From field names several domains ({}), and nobody can say which a reader will see.", listed(&domains))
}

/// Why neither mechanism speaks for the author domain.
fn why_not(verdict: &Verdict) -> Vec<String> {
    let mut sentences = setbacks(verdict);
    if verdict.dkim.is_empty() {
        sentences.insert(0, "It carries no DKIM signature.".to_owned());
    }
    let from = verdict.dmarc.from_domain.map(|domain| domain.to_string()).unwrap_or_default();
    for signature in verdict.dkim.iter().filter(|signature| signature.result == DkimResult::Pass) {
        let domain = signature.domain.map(|domain| domain.to_string()).unwrap_or_default();
        sentences
            .push(format!("The signature of {domain} is good, but {domain} is not {from} nor of its organization."));
    }
    if let (SpfResult::Pass, Some(domain)) = (verdict.spf.result, &verdict.spf.domain) {
        sentences.push(format!("SPF passes, but for {domain}, which is not {from} nor of its organization."));
    }
    sentences
}

/// What did not work out, even where something else did.
fn setbacks(verdict: &Verdict) -> Vec<String> {
    let mut sentences: Vec<String> = verdict.dkim.iter().filter_map(setback_of_signature).collect();
    sentences.extend(setback_of_spf(&verdict.spf));
    sentences
}

fn setback_of_signature(signature: &SignatureOutcome) -> Option<String> {
    if signature.result == DkimResult::Pass {
        return None;
    }
    let domain = signature.domain.map_or_else(|| "an unknown domain".to_owned(), |domain| domain.to_string());
    let why = signature.problem.map_or("it does not verify", |problem| dkim(problem).0);
    Some(format!("The signature of {domain} does not count: {why}."))
}

fn setback_of_spf(outcome: &SpfOutcome) -> Option<String> {
    let domain = outcome.domain.map_or_else(|| "the sender".to_owned(), |domain| domain.to_string());
    Some(match (outcome.result, &outcome.problem) {
        (SpfResult::Pass, _) => return None,
        (SpfResult::Fail, _) => format!("SPF: {domain} does not allow this client to send for it."),
        (SpfResult::SoftFail, _) => format!("SPF: {domain} doubts that this client sends for it."),
        (SpfResult::Neutral, _) => format!("SPF: {domain} says nothing about this client."),
        (SpfResult::None, Some(problem)) => format!("SPF has nothing to say: {problem}."),
        (SpfResult::None, None) => "SPF has nothing to say.".to_owned(),
        (result, Some(problem)) => format!("SPF ends with {}: {problem}.", result.word()),
        (result, None) => format!("SPF ends with {}.", result.word()),
    })
}

/// What the receiver does, and why not more or less.
fn consequence(verdict: &Verdict) -> String {
    let outcome = &verdict.dmarc;
    let action = match verdict.action {
        Action::Accept => "It is accepted",
        Action::Quarantine => "It is quarantined",
        Action::Reject => "It is rejected",
        Action::Defer => "It is deferred",
    };
    let policy_domain = outcome.policy_domain.map(|domain| domain.to_string()).unwrap_or_default();
    match (outcome.result, outcome.disposition, verdict.action) {
        (DmarcResult::Fail, Disposition::None, _) if outcome.testing => {
            format!("{action}: {policy_domain} is only testing its policy (t=y).")
        }
        (DmarcResult::Fail, Disposition::None, _) => {
            format!("{action}: {policy_domain} asks for reports only (p=none).")
        }
        (DmarcResult::Fail, Disposition::Reject, Action::Quarantine) => format!(
            "{action}: {policy_domain} asks for rejection, which alone is no ground to refuse a message \
             (RFC 9989 section 7.4; --policy 7489 refuses)."
        ),
        (DmarcResult::Fail, disposition, _) => {
            format!("{action}, as {policy_domain} asks ({}={}).", tag(outcome.applies), disposition.word())
        }
        (DmarcResult::Pass, ..) => format!("{action}."),
        (..) => format!("{action}: DMARC gives no reason to do anything else."),
    }
}

pub(super) fn tag(tag: Option<PolicyTag>) -> &'static str {
    tag.map_or("p", PolicyTag::word)
}

/// What went wrong with a signature, and the section that says so.
pub(super) fn dkim(problem: DkimProblem) -> (&'static str, &'static str) {
    use DkimProblem as P;
    match problem {
        P::Syntax => ("it is not a list of tags", "RFC 6376 section 3.2"),
        P::DuplicateTag => ("it has a tag twice, so none of it can be believed", "RFC 6376 section 3.2"),
        P::MissingTag => ("a required tag is missing", "RFC 6376 section 3.5"),
        P::UnknownVersion => ("its version is unknown", "RFC 6376 section 3.5"),
        P::UnknownAlgorithm => ("its algorithm is unknown", "RFC 6376 section 3.3.4"),
        P::UnknownCanonicalization => ("its canonicalisation is unknown", "RFC 6376 section 3.5"),
        P::UnknownQueryMethod => ("it names no way of finding the key that is known", "RFC 6376 section 3.5"),
        P::BadBase64 => ("its hash or signature is not base64", "RFC 6376 section 3.5"),
        P::BadDomain => ("its d= is no domain", "RFC 6376 section 3.5"),
        P::BadSelector => ("its s= is no selector", "RFC 6376 section 3.5"),
        P::BadIdentity => ("its i= is no identity", "RFC 6376 section 3.5"),
        P::BadNames => ("its h= is no list of field names", "RFC 6376 section 3.5"),
        P::BadLength => ("its l= is no number", "RFC 6376 section 3.5"),
        P::BadTime => ("its t= or x= is no time", "RFC 6376 section 3.5"),
        P::ExpiresBeforeSigned => ("it expires before it was made", "RFC 6376 section 3.5"),
        P::TooManyNames => ("it lists more fields than are looked at", "RFC 6376 section 6.1"),
        P::HeaderOverLimit => ("the header is longer than what is read", "RFC 6376 section 6.1"),
        P::FromNotSigned => ("it does not cover the From field", "RFC 6376 section 6.1.1"),
        P::IdentityMismatch => ("its i= is outside the domain of its d=", "RFC 6376 section 6.1.1"),
        P::KeyNotFound => ("there is no key at its selector", "RFC 6376 section 6.1.2"),
        P::KeySyntax => ("what stands at its selector is no key record", "RFC 6376 section 6.1.2"),
        P::KeyRevoked => ("its key was revoked (p= is empty)", "RFC 6376 section 3.6.1"),
        P::KeyTypeMismatch => ("its key is of another type", "RFC 6376 section 6.1.2"),
        P::KeyHashMismatch => ("its key does not allow the hash", "RFC 6376 section 6.1.2"),
        P::KeyServiceMismatch => ("its key is not for mail", "RFC 6376 section 3.6.1"),
        P::KeyUnusable => ("its key can not be used", "RFC 6376 section 6.1.2"),
        P::KeyTooLong => ("its key is longer than what is tried", "RFC 6376 section 3.3.3"),
        P::IdentityNotStrict => ("its key demands that i= is in the very domain of d=", "RFC 6376 section 3.6.1"),
        P::LengthBeyondBody => ("it says it covers more of the body than there is", "RFC 6376 section 3.5"),
        P::BodyHashMismatch => ("the body is not the one that was signed", "RFC 6376 section 6.1.3"),
        P::SignatureMismatch => {
            ("the signed fields are not those that were signed, or another key signed them", "RFC 6376 section 6.1.3")
        }
        P::KeyTooShort => ("its key is too short to prove anything", "RFC 8301 section 3.2"),
        P::Sha1 => ("rsa-sha1 proves nothing any more", "RFC 8301 section 3.1"),
        P::Expired => ("it has expired", "RFC 6376 section 3.5"),
        P::LengthUncovered => ("text was added behind the part of the body it covers (l=)", "RFC 6376 section 8.2"),
        P::HeaderRepeated => ("a field it covers was added a second time", "RFC 6376 section 8.15"),
        P::KeyTimeout => ("its key could not be fetched in time", "RFC 6376 section 6.1.2"),
        P::KeyLookupFailed => ("its key could not be looked up", "RFC 6376 section 6.1.2"),
        P::SignedInFuture => ("it verifies, but says it was made in the future", "RFC 6376 section 3.5"),
        _ => ("it does not verify", "RFC 6376 section 6.1"),
    }
}

/// The section that decided an SPF result.
pub(super) fn spf_section(outcome: &SpfOutcome) -> &'static str {
    match outcome.result {
        SpfResult::None => "RFC 7208 section 2.6.1",
        SpfResult::Neutral => "RFC 7208 section 2.6.2",
        SpfResult::Pass => "RFC 7208 section 2.6.3",
        SpfResult::Fail => "RFC 7208 section 2.6.4",
        SpfResult::SoftFail => "RFC 7208 section 2.6.5",
        SpfResult::TempError => "RFC 7208 section 2.6.6",
        SpfResult::PermError => "RFC 7208 section 2.6.7",
    }
}

//! The fields of a chain and how they belong together (RFC 8617 sections 4.1 and 4.2).

use std::ops::Range;

use super::ArcProblem;
use crate::dkim::base64;
use crate::dkim::signature::{Algorithm, Form, Signature, key_question, read_domain, read_instance};
use crate::dns::{Name, Question};
use crate::limits::ARC_SETS_MAX;
use crate::message::{Field, FieldKind, Headers};
use crate::tag_list::{TagList, digits};

/// What the ARC fields of a message amount to.
#[derive(Debug, Default)]
pub(super) enum Chain {
    /// There are none.
    #[default]
    None,
    /// They do not form a chain.
    Broken { problem: ArcProblem, instances: u8 },
    /// The sets from instance 1 up, without a gap.
    Whole(Vec<Set>),
}

/// One set.
#[derive(Debug)]
pub(super) struct Set {
    /// Position of the ARC-Authentication-Results field.
    pub(super) results: usize,
    pub(super) message: Signature,
    pub(super) seal: Seal,
}

/// An ARC-Seal field (RFC 8617 section 4.1.3).
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) position: usize,
    pub(super) instance: u8,
    pub(super) status: ChainStatus,
    pub(super) algorithm: Algorithm,
    pub(super) domain: Name,
    pub(super) question: Question,
    /// Where in the value `s=` is.
    pub(super) selector: Range<usize>,
    /// The value of `b=` with the white space around it.
    pub(super) b_slot: Range<usize>,
    /// The octets of `b=` in the store they were decoded to.
    pub(super) octets: Range<usize>,
}

/// `cv=`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ChainStatus {
    None,
    Pass,
    Fail,
}

impl ChainStatus {
    /// The word of `cv=`.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }

    fn read(word: &str) -> Option<Self> {
        [Self::None, Self::Pass, Self::Fail].into_iter().find(|status| status.word() == word)
    }
}

impl Chain {
    /// Reads the ARC fields of a header; `octets` is the store for the octets of `b=`.
    pub(super) fn read(headers: Headers<'_>, octets: &mut Vec<u8>) -> Self {
        let kinds = [FieldKind::ArcAuthenticationResults, FieldKind::ArcMessageSignature, FieldKind::ArcSeal];
        let instances = kinds.map(|kind| headers.of_kind(kind).count()).into_iter().max().unwrap_or(0);
        let broken = |problem| Self::Broken { problem, instances: instances.min(usize::from(u8::MAX)) as u8 };
        if instances == 0 {
            return Self::None;
        }
        if instances > ARC_SETS_MAX {
            return broken(ArcProblem::TooManySets);
        }
        if headers.defects().header_over_limit {
            return broken(ArcProblem::HeaderOverLimit);
        }
        match read_sets(headers, instances, octets) {
            Ok(sets) => Self::Whole(sets),
            Err(problem) => broken(problem),
        }
    }

    pub(super) fn sets(&self) -> &[Set] {
        if let Self::Whole(sets) = self { sets } else { &[] }
    }
}

fn read_sets(headers: Headers<'_>, count: usize, octets: &mut Vec<u8>) -> Result<Vec<Set>, ArcProblem> {
    let mut results: Vec<Option<usize>> = vec![None; count];
    let mut messages: Vec<Option<Signature>> = vec![None; count];
    let mut seals: Vec<Option<Seal>> = Vec::new();
    seals.resize_with(count, || None);
    for field in headers.of_kind(FieldKind::ArcSeal) {
        let seal = Seal::read(&field, octets)?;
        place(&mut seals, seal.instance, seal)?;
    }
    for field in headers.of_kind(FieldKind::ArcMessageSignature) {
        let message = Signature::read(&field, Form::ArcMessage, octets);
        place(&mut messages, message.instance, message)?;
    }
    for field in headers.of_kind(FieldKind::ArcAuthenticationResults) {
        let instance = results_instance(field.value).ok_or(ArcProblem::BadInstance)?;
        place(&mut results, instance, field.position)?;
    }
    let sets = results
        .into_iter()
        .zip(messages)
        .zip(seals)
        .map(|((results, message), seal)| Some(Set { results: results?, message: message?, seal: seal? }));
    sets.collect::<Option<Vec<Set>>>().ok_or(ArcProblem::IncompleteSet)
}

/// Puts a field where its number says.
fn place<T>(fields: &mut [Option<T>], instance: u8, field: T) -> Result<(), ArcProblem> {
    let index = usize::from(instance).checked_sub(1).ok_or(ArcProblem::BadInstance)?;
    // A number beyond the count of fields leaves a gap below it.
    let room = fields.get_mut(index).ok_or(ArcProblem::IncompleteSet)?;
    if room.replace(field).is_some() { Err(ArcProblem::DuplicateField) } else { Ok(()) }
}

impl Seal {
    fn read(field: &Field<'_>, octets: &mut Vec<u8>) -> Result<Self, ArcProblem> {
        let tags = TagList::parse(field.value).map_err(|_| ArcProblem::SealSyntax)?;
        if tags.value("h").is_some() || tags.value("bh").is_some() {
            return Err(ArcProblem::SealNamesFields);
        }
        let required = |name| tags.value(name).ok_or(ArcProblem::SealSyntax);
        let instance = tags.value("i").and_then(read_instance).ok_or(ArcProblem::BadInstance)?;
        let algorithm = Algorithm::read(required("a")?).filter(|&it| it != Algorithm::RsaSha1);
        let domain = read_domain(required("d")?).ok_or(ArcProblem::SealSyntax)?;
        let question = key_question(required("s")?, &domain).ok_or(ArcProblem::SealSyntax)?;
        let status = ChainStatus::read(required("cv")?).ok_or(ArcProblem::BadChainStatus)?;
        if tags.value("t").is_some_and(|time| digits(time, TIME_DIGITS_MAX).is_none()) {
            return Err(ArcProblem::SealSyntax);
        }
        let start = octets.len();
        base64::decode(required("b")?, octets).ok_or(ArcProblem::SealSyntax)?;
        Ok(Self {
            position: field.position,
            instance,
            status,
            algorithm: algorithm.ok_or(ArcProblem::SealSyntax)?,
            domain,
            question,
            selector: tags.value_range("s").unwrap_or_default(),
            b_slot: tags.slot_range("b").unwrap_or_default(),
            octets: start..octets.len(),
        })
    }
}

/// The instance of an ARC-Authentication-Results field: `i=` comes first, a semicolon and results follow (RFC 8617
/// section 4.1.1). Comments may stand between.
fn results_instance(value: &[u8]) -> Option<u8> {
    let rest = skip_cfws(value)?.strip_prefix(b"i")?;
    let rest = skip_cfws(skip_cfws(rest)?.strip_prefix(b"=")?)?;
    let count = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let (number, rest) = rest.split_at_checked(count)?;
    let payload = skip_cfws(skip_cfws(rest)?.strip_prefix(b";")?)?;
    if payload.is_empty() { None } else { read_instance(std::str::from_utf8(number).ok()?) }
}

/// What follows white space and comments (RFC 5322 section 3.2.2); `None` when a comment does not end.
fn skip_cfws(mut rest: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    loop {
        let Some((&first, after)) = rest.split_first() else {
            return (depth == 0).then_some(rest);
        };
        match first {
            b'(' => depth += 1,
            b')' if depth > 0 => depth -= 1,
            b'\\' if depth > 0 => {
                rest = after.get(1..)?;
                continue;
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if depth > 0 => {}
            _ => return Some(rest),
        }
        rest = after;
    }
}

/// RFC 6376 section 3.5: `t=` is 1*12DIGIT.
const TIME_DIGITS_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_begin_with_their_instance() {
        for good in ["i=1; a.example", " (c (d\\) e)) i = 01 () ;\r\n a.example"] {
            assert_eq!(results_instance(good.as_bytes()), Some(1), "{good}");
        }
        assert_eq!(results_instance(b"i=50; a"), Some(50));
        for bad in ["", "a.example; i=1", "i=1", "i=1;", "i=1; (c)", "i=0; a", "i=51; a", "i=; a", "i=1 a;", "(i=1; a"]
        {
            assert_eq!(results_instance(bad.as_bytes()), None, "{bad}");
        }
    }
}

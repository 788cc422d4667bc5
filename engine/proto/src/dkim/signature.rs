//! The DKIM-Signature field (RFC 6376 section 3.5) and its ARC form (RFC 8617 section 4.1.2).

use std::ops::Range;

use super::{Canonicalization, DkimProblem, base64};
use crate::dns::{Name, Question, RecordType};
use crate::limits::{ARC_SETS_MAX, DKIM_SIGNED_NAMES_MAX};
use crate::message::Field;
use crate::tag_list::{TagList, TagListError, colon_list, digits};

/// A signature algorithm (RFC 6376 section 3.3, RFC 8463 section 3).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// `rsa-sha1`: read, never verified (RFC 8301 section 3.1).
    RsaSha1,
    /// `rsa-sha256`
    RsaSha256,
    /// `ed25519-sha256`
    Ed25519Sha256,
}

impl Algorithm {
    /// The word of `a=`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::RsaSha1 => "rsa-sha1",
            Self::RsaSha256 => "rsa-sha256",
            Self::Ed25519Sha256 => "ed25519-sha256",
        }
    }

    pub(crate) fn read(word: &str) -> Option<Self> {
        [Self::RsaSha1, Self::RsaSha256, Self::Ed25519Sha256].into_iter().find(|algorithm| algorithm.word() == word)
    }
}

/// Which field a signature stands in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// DKIM-Signature: `v=1`, and `i=` is an identity.
    Dkim,
    /// ARC-Message-Signature: no version, and `i=` is an instance.
    ArcMessage,
}

/// A signature as read. It holds no text: what is shown later is found in the field again.
#[derive(Clone, Debug)]
pub(crate) struct Signature {
    /// Of the field, from the top of the header.
    pub(crate) position: usize,
    /// Why it can not be verified, found without the key.
    pub(crate) problem: Option<DkimProblem>,
    /// `i=` of the ARC form; 0 when there is none.
    pub(crate) instance: u8,
    /// `d=`
    pub(crate) domain: Option<Name>,
    /// Where the key is.
    pub(crate) question: Option<Question>,
    pub(crate) algorithm: Algorithm,
    pub(crate) header_form: Canonicalization,
    pub(crate) body_form: Canonicalization,
    /// `bh=`, when it has the length of a hash.
    pub(crate) body_hash: Option<[u8; 32]>,
    /// `l=`
    pub(crate) length: Option<u64>,
    pub(crate) signed_at: Option<u64>,
    pub(crate) expires_at: Option<u64>,
    /// The domain of `i=` is that of `d=`.
    pub(crate) same_domain: bool,
    /// The octets of `b=` in the store they were decoded to.
    pub(crate) octets: Range<usize>,
    pub(crate) places: Places,
}

/// Where in the value of the field its tags are; empty ranges for absent ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(crate) algorithm: Range<usize>,
    pub(crate) b: Range<usize>,
    /// The value of `b=` with the white space around it.
    pub(crate) b_slot: Range<usize>,
    pub(crate) identity: Range<usize>,
    pub(crate) names: Range<usize>,
    pub(crate) selector: Range<usize>,
}

impl Signature {
    /// Reads a field; `octets` is the store for the octets of `b=`.
    pub(crate) fn read(field: &Field<'_>, form: Form, octets: &mut Vec<u8>) -> Self {
        let mut signature = Self {
            position: field.position,
            problem: None,
            instance: 0,
            domain: None,
            question: None,
            algorithm: Algorithm::RsaSha256,
            header_form: Canonicalization::Simple,
            body_form: Canonicalization::Simple,
            body_hash: None,
            length: None,
            signed_at: None,
            expires_at: None,
            same_domain: true,
            octets: 0..0,
            places: Places::default(),
        };
        if field.is_oversize() {
            signature.problem = Some(DkimProblem::HeaderOverLimit);
            return signature;
        }
        signature.problem = match TagList::parse(field.value) {
            Ok(tags) => signature.read_tags(&tags, form, octets).err(),
            Err(TagListError::Duplicate) => Some(DkimProblem::DuplicateTag),
            Err(_) => Some(DkimProblem::Syntax),
        };
        signature
    }

    /// Reads every tag, what identifies the signature first, so that a refused one can still be named.
    fn read_tags(&mut self, tags: &TagList<'_>, form: Form, octets: &mut Vec<u8>) -> Result<(), DkimProblem> {
        let place = |name| tags.value_range(name).unwrap_or_default();
        self.places = Places {
            algorithm: place("a"),
            b: place("b"),
            b_slot: tags.slot_range("b").unwrap_or_default(),
            identity: if form == Form::Dkim { place("i") } else { 0..0 },
            names: place("h"),
            selector: place("s"),
        };
        let domain = tags.value("d").map(read_domain);
        self.domain = domain.flatten();
        match (form, tags.value("v")) {
            (Form::ArcMessage, _) => self.instance = tags.value("i").and_then(read_instance).unwrap_or_default(),
            (Form::Dkim, Some("1")) => {}
            (Form::Dkim, Some(_)) => return Err(DkimProblem::UnknownVersion),
            (Form::Dkim, None) => return Err(DkimProblem::MissingTag),
        }
        let required = |name| tags.value(name).ok_or(DkimProblem::MissingTag);
        self.algorithm = Algorithm::read(required("a")?).ok_or(DkimProblem::UnknownAlgorithm)?;
        let signature = required("b")?;
        let hash = required("bh")?;
        required("d")?;
        let names = required("h")?;
        let selector = required("s")?;
        self.read_canonicalization(tags.value("c"))?;
        if !tags.value("q").is_none_or(|methods| colon_list(methods).any(|method| method == "dns/txt")) {
            return Err(DkimProblem::UnknownQueryMethod);
        }
        self.read_times(tags)?;
        if let Some(length) = tags.value("l") {
            self.length = Some(digits(length, LENGTH_DIGITS_MAX).ok_or(DkimProblem::BadLength)?);
        }
        self.read_base64(signature, hash, octets)?;
        let domain = self.domain.ok_or(DkimProblem::BadDomain)?;
        self.question = Some(key_question(selector, &domain).ok_or(DkimProblem::BadSelector)?);
        let signs_from = read_names(names)?;
        if form == Form::Dkim
            && let Some(identity) = tags.value("i")
        {
            let identity = identity_domain(identity).ok_or(DkimProblem::BadIdentity)?;
            if !identity.is_at_or_below(&domain) {
                return Err(DkimProblem::IdentityMismatch);
            }
            self.same_domain = identity == domain;
        }
        if signs_from { Ok(()) } else { Err(DkimProblem::FromNotSigned) }
    }

    fn read_canonicalization(&mut self, forms: Option<&str>) -> Result<(), DkimProblem> {
        let Some(forms) = forms else { return Ok(()) };
        let (header, body) = forms.split_once('/').unwrap_or((forms, "simple"));
        let read = |word| Canonicalization::read(word).ok_or(DkimProblem::UnknownCanonicalization);
        self.header_form = read(header)?;
        self.body_form = read(body)?;
        Ok(())
    }

    fn read_times(&mut self, tags: &TagList<'_>) -> Result<(), DkimProblem> {
        let time =
            |name| tags.value(name).map(|text| digits(text, TIME_DIGITS_MAX).ok_or(DkimProblem::BadTime)).transpose();
        self.signed_at = time("t")?;
        self.expires_at = time("x")?;
        match (self.signed_at, self.expires_at) {
            (Some(signed), Some(expires)) if expires <= signed => Err(DkimProblem::ExpiresBeforeSigned),
            _ => Ok(()),
        }
    }

    fn read_base64(&mut self, signature: &str, hash: &str, octets: &mut Vec<u8>) -> Result<(), DkimProblem> {
        let start = octets.len();
        base64::decode(hash, octets).ok_or(DkimProblem::BadBase64)?;
        self.body_hash = octets.get(start..).and_then(|hash| hash.try_into().ok());
        octets.truncate(start);
        base64::decode(signature, octets).ok_or(DkimProblem::BadBase64)?;
        self.octets = start..octets.len();
        Ok(())
    }
}

/// An instance number (RFC 8617 section 4.2.1).
pub(crate) fn read_instance(text: &str) -> Option<u8> {
    let instance = digits(text, 2)?;
    (1..=ARC_SETS_MAX as u64).contains(&instance).then_some(instance as u8)
}

/// A domain of two labels or more (RFC 6376 section 3.5), U-labels allowed (RFC 8616 section 5).
pub(crate) fn read_domain(text: &str) -> Option<Name> {
    let name = Name::parse_domain(text).ok()?;
    (!text.ends_with('.') && name.label_count() > 1).then_some(name)
}

/// Where the key of a selector is (RFC 6376 section 3.6.2.1). Characters that no selector holds yield no question.
pub(crate) fn key_question(selector: &str, domain: &Name) -> Option<Question> {
    if selector.ends_with('.') {
        return None;
    }
    let labels = Name::parse_domain(selector).ok()?;
    let below = domain.prepend("_domainkey").ok()?;
    let name = if selector.is_ascii() { below.prepend(selector) } else { below.prepend(labels.to_string()) };
    Some(Question::new(name.ok()?, RecordType::Txt))
}

/// The names of `h=`.
pub(crate) fn signed_names(names: &str) -> impl Iterator<Item = &str> {
    colon_list(names)
}

/// Checks the names of `h=`; true when From is among them.
fn read_names(names: &str) -> Result<bool, DkimProblem> {
    let mut signs_from = false;
    for (index, name) in signed_names(names).enumerate() {
        if index >= DKIM_SIGNED_NAMES_MAX {
            return Err(DkimProblem::TooManyNames);
        }
        if name.is_empty() || !name.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(DkimProblem::BadNames);
        }
        signs_from |= name.eq_ignore_ascii_case("from");
    }
    Ok(signs_from)
}

/// The domain of `i=`: behind the last `@`, which no domain holds, once quoted-printable is undone (RFC 6376 section
/// 2.11).
fn identity_domain(identity: &str) -> Option<Name> {
    let (local, domain) = identity.rsplit_once('@')?;
    let well_formed = |part: &str| {
        let mut escapes = part.split('=');
        let first_is_plain = escapes.next().is_some();
        let hex = |rest: &str| rest.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        first_is_plain && escapes.all(hex)
    };
    if !well_formed(local) || !well_formed(domain) {
        return None;
    }
    if !domain.contains(['=', ' ', '\t']) {
        return Name::parse_domain(domain).ok();
    }
    let mut plain = Vec::with_capacity(domain.len());
    let mut octets = domain.bytes().filter(|octet| !octet.is_ascii_whitespace());
    while let Some(octet) = octets.next() {
        let mut digit = || octets.next().and_then(|digit| char::from(digit).to_digit(16));
        plain.push(if octet == b'=' { (digit()? << 4 | digit()?) as u8 } else { octet });
    }
    Name::parse_domain(std::str::from_utf8(&plain).ok()?).ok()
}

/// RFC 6376 section 3.5: `l=` is 1*76DIGIT.
const LENGTH_DIGITS_MAX: usize = 76;
/// RFC 6376 section 3.5: `t=` and `x=` are 1*12DIGIT.
const TIME_DIGITS_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::HeaderIndex;

    const GOOD: &str = "v=1; a=rsa-sha256; d=example.com; s=s1; h=from:to; bh=AAAA; b=AAAA";

    fn read(tags: &str) -> Signature {
        let mut index = HeaderIndex::new();
        let block = format!("DKIM-Signature: {tags}\r\n");
        Signature::read(&index.scan(block.as_bytes()).field(0).unwrap(), Form::Dkim, &mut Vec::new())
    }

    fn problem(from: &str, to: &str) -> Option<DkimProblem> {
        assert!(GOOD.contains(from), "{from}");
        read(&GOOD.replace(from, to)).problem
    }

    #[test]
    fn defects_have_their_own_words() {
        assert_eq!(read(GOOD).problem, None);
        assert_eq!(problem("v=1; ", ""), Some(DkimProblem::MissingTag));
        assert_eq!(problem("v=1", "v=01"), Some(DkimProblem::UnknownVersion));
        assert_eq!(problem("rsa-sha256", "RSA-SHA256"), Some(DkimProblem::UnknownAlgorithm));
        assert_eq!(problem("s=s1", "s=s1; c=relaxed/"), Some(DkimProblem::UnknownCanonicalization));
        assert_eq!(problem("s=s1", "s=s1; q=http:dns/txt"), None);
        assert_eq!(problem("s=s1", "s=s1; q=http"), Some(DkimProblem::UnknownQueryMethod));
        assert_eq!(problem("s=s1", "s=s1; t=2; x=2"), Some(DkimProblem::ExpiresBeforeSigned));
        assert_eq!(problem("s=s1", "s=s1; t=1234567890123"), Some(DkimProblem::BadTime));
        assert_eq!(problem("s=s1", "s=s1; l=-1"), Some(DkimProblem::BadLength));
        assert_eq!(problem("b=AAAA", "b=A*"), Some(DkimProblem::BadBase64));
        assert_eq!(problem("d=example.com", "d=com"), Some(DkimProblem::BadDomain));
        assert_eq!(problem("d=example.com", "d=example.com."), Some(DkimProblem::BadDomain));
        assert_eq!(problem("d=example.com", "d=a.example(b.example"), Some(DkimProblem::BadDomain));
        assert_eq!(problem("s=s1", "s=s 1"), Some(DkimProblem::BadSelector));
        assert_eq!(problem("s=s1", "s=s..1"), Some(DkimProblem::BadSelector));
        assert_eq!(problem("h=from:to", "h=from::to"), Some(DkimProblem::BadNames));
        assert_eq!(problem("h=from:to", "h=to"), Some(DkimProblem::FromNotSigned));
        assert_eq!(problem("s=s1", "s=s1; i=example.com"), Some(DkimProblem::BadIdentity));
        assert_eq!(problem("s=s1", "s=s1; i=@badexample.com"), Some(DkimProblem::IdentityMismatch));
        assert_eq!(problem("s=s1", "s=s1; s=s1"), Some(DkimProblem::DuplicateTag));
        assert_eq!(problem("s=s1", "s=s1;;"), Some(DkimProblem::Syntax));
    }

    #[test]
    fn identities_are_quoted_printable() {
        for good in ["@example.com", "a=40b@example.com", "\"a@b\"@sub.example.com", "a@=65xample.co\r\n m"] {
            assert_eq!(problem("s=s1", &format!("s=s1; i={good}")), None, "{good}");
        }
        for bad in ["a=4@example.com", "a@=zzexample.com", "\"a@example.com\"", ""] {
            assert_eq!(problem("s=s1", &format!("s=s1; i={bad}")), Some(DkimProblem::BadIdentity), "{bad}");
        }
        assert!(!read(&GOOD.replace("s=s1", "s=s1; i=a@sub.example.com")).same_domain);
    }

    #[test]
    fn keys_of_internationalised_names_are_asked_for_under_a_labels() {
        let signature = read(&GOOD.replace("d=example.com", "d=B\u{fc}cher.example").replace("s=s1", "s=s\u{e9}l.x"));
        let name = signature.question.unwrap().name.to_string();
        assert_eq!(name, "xn--sl-bja.x._domainkey.xn--bcher-kva.example");
    }

    #[test]
    fn name_limit_holds_on_both_sides() {
        let names = |count| format!("h=from{}", ":x".repeat(count - 1));
        assert_eq!(problem("h=from:to", &names(DKIM_SIGNED_NAMES_MAX)), None);
        assert_eq!(problem("h=from:to", &names(DKIM_SIGNED_NAMES_MAX + 1)), Some(DkimProblem::TooManyNames));
    }
}

//! SPF records: selection (RFC 7208 section 4.5) and grammar (section 12), read whole before anything is evaluated.
//!
//! The parsed form is what a cached answer keeps: one flat list of terms, addresses as numbers, target names without
//! macros already as names. A term that no evaluation can reach (after `all`, after the eleventh that queries) is
//! checked and not kept, so a hostile record of 64 KiB costs no more memory than a few times its text.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::SpfResult;
use super::macros::{MacroError, MacroString, Usage};
use crate::dns::{Name, Txt};
use crate::limits::{SPF_LOOKUP_TERMS_MAX, TXT_ANSWER_BYTES_MAX};

/// What stands at a name, read as SPF.
#[derive(Debug)]
#[non_exhaustive]
pub enum Published {
    /// No SPF record.
    Absent,
    /// More than one, which is an error even when they are equal (section 4.5).
    Several,
    /// One that breaks the grammar.
    Invalid(SyntaxError),
    /// One.
    Record(Record),
}

impl Published {
    /// Selects and parses the record (RFC 7208 section 4.5).
    #[must_use]
    pub fn read(texts: &[Txt]) -> Self {
        let mut records = texts.iter().filter(|text| is_spf(&text.0));
        match (records.next(), records.next()) {
            (None, _) => Self::Absent,
            (Some(_), Some(_)) => Self::Several,
            (Some(text), None) => match Record::parse(&text.0) {
                Ok(record) => Self::Record(record),
                Err(error) => Self::Invalid(error),
            },
        }
    }

    /// The record when there is one good one.
    #[must_use]
    pub const fn record(&self) -> Option<&Record> {
        match self {
            Self::Record(record) => Some(record),
            _ => None,
        }
    }
}

/// Section 4.5: the version is followed by a space or nothing.
const VERSION: &[u8] = b"v=spf1";

/// True when a text is an SPF record, well-formed or not: its first token is `v=spf1` in any case.
#[must_use]
pub fn is_spf(text: &[u8]) -> bool {
    text.split_at_checked(VERSION.len()).is_some_and(|(version, rest)| {
        version.eq_ignore_ascii_case(VERSION) && matches!(rest.first(), None | Some(b' '))
    })
}

/// A record that follows the grammar.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    text: Box<str>,
    pub(super) terms: Box<[Term]>,
    /// Names of the targets that hold no macro.
    names: Box<[Name]>,
    pub(super) redirect: Option<Target>,
    pub(super) exp: Option<Target>,
}

/// A directive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Term {
    pub(super) span: Span,
    pub(super) qualifier: SpfResult,
    pub(super) mechanism: Mechanism,
}

/// A mechanism with its arguments (section 5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Mechanism {
    All,
    Include(Target),
    A(Target, Prefixes),
    Mx(Target, Prefixes),
    Ptr(Target),
    Ip4 { network: u32, mask: u32 },
    Ip6 { network: [u8; 16], prefix: u8 },
    Exists(Target),
}

/// The domain a term looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Target {
    /// None given: the domain of the record.
    Own,
    /// A name without macros, by its place in the record's list.
    Name(u8),
    /// To be expanded.
    Macro(Span),
    /// Good grammar, but nothing that DNS can hold.
    Unusable,
}

/// Where in the record a text stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span {
    at: u32,
    len: u32,
}

/// Lengths of the two prefixes of `a` and `mx` (section 5.3), 32 and 128 when not given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Prefixes {
    v4: u8,
    v6: u8,
}

impl Prefixes {
    /// Only the same address matches.
    pub(super) const WHOLE: Self = Self { v4: 32, v6: 128 };

    pub(super) fn match4(self, one: Ipv4Addr, other: Ipv4Addr) -> bool {
        (one.to_bits() ^ other.to_bits()) & mask4(self.v4) == 0
    }

    pub(super) fn match6(self, one: Ipv6Addr, other: Ipv6Addr) -> bool {
        equal6(one.to_bits(), other.to_bits(), self.v6)
    }
}

/// True when the first `prefix` bits are equal.
pub(super) fn equal6(one: u128, other: u128, prefix: u8) -> bool {
    (one ^ other).checked_shr(128 - u32::from(prefix.min(128))).unwrap_or(0) == 0
}

fn mask4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

/// A record that breaks the grammar, with the term at fault.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{fault} in \"{term}\"")]
pub struct SyntaxError {
    /// What is wrong.
    pub fault: SyntaxFault,
    /// The start of the term, odd octets escaped.
    pub term: Arc<str>,
}

/// What can be wrong with a term.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntaxFault {
    /// Only visible ASCII and spaces make a record (section 4.6.1).
    #[error("an octet that is no visible ASCII character")]
    BadOctet,
    /// Section 4.6.1.
    #[error("an unknown mechanism")]
    UnknownMechanism,
    /// `include`, `exists`, `ip4` and `ip6` need an argument; nothing may follow a colon.
    #[error("no argument")]
    NoArgument,
    /// `all` takes none, `include`, `ptr` and `exists` no prefix length.
    #[error("an argument that the mechanism does not take")]
    UnexpectedArgument,
    /// Section 7.1.
    #[error("{0}")]
    BadDomain(MacroError),
    /// Section 5.6: full addresses only.
    #[error("no IP address")]
    BadAddress,
    /// Section 5.6: a number without leading zeros, at most 32 or 128.
    #[error("a bad prefix length")]
    BadPrefix,
    /// Section 6: `exp` and `redirect` stand once at most.
    #[error("a modifier that stands twice")]
    RepeatedModifier,
    /// The text is longer than any answer that is read.
    #[error("a record that is too long")]
    TooLong,
}

impl Record {
    /// Parses a text that starts with the version.
    ///
    /// # Errors
    /// [`SyntaxError`] for the first term that breaks the grammar.
    pub fn parse(text: &[u8]) -> Result<Self, SyntaxError> {
        let bad_octet = |octet: &u8| !matches!(octet, b' '..=b'~');
        let whole = match std::str::from_utf8(text) {
            Ok(whole) if !text.iter().any(bad_octet) => whole,
            _ => {
                let term = text.split(|&octet| octet == b' ').find(|term| term.iter().any(bad_octet));
                return Err(SyntaxError::new(SyntaxFault::BadOctet, term.unwrap_or_default()));
            }
        };
        if text.len() > TXT_ANSWER_BYTES_MAX {
            return Err(SyntaxError::new(SyntaxFault::TooLong, text));
        }
        let mut reader = Reader::default();
        let mut at = VERSION.len();
        for term in whole.get(at..).unwrap_or_default().split(' ') {
            if !term.is_empty() {
                reader.read_term(term, at).map_err(|fault| SyntaxError::new(fault, term.as_bytes()))?;
            }
            at += term.len() + 1;
        }
        Ok(Self {
            text: whole.into(),
            terms: reader.terms.into(),
            names: reader.names.into(),
            redirect: reader.redirect,
            exp: reader.exp,
        })
    }

    /// The record as published.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn text_of(&self, span: Span) -> &str {
        let start = span.at as usize;
        self.text.get(start..start + span.len as usize).unwrap_or_default()
    }

    pub(super) fn name_of(&self, index: u8) -> Option<Name> {
        self.names.get(usize::from(index)).copied()
    }
}

impl SyntaxError {
    fn new(fault: SyntaxFault, term: &[u8]) -> Self {
        let shown = term.get(..Self::TERM_BYTES_MAX).unwrap_or(term);
        Self { fault, term: shown.escape_ascii().to_string().into() }
    }

    /// Octets of the term that are kept.
    const TERM_BYTES_MAX: usize = 100;
}

#[derive(Default)]
struct Reader {
    terms: Vec<Term>,
    names: Vec<Name>,
    redirect: Option<Target>,
    exp: Option<Target>,
    /// Terms so far that query the DNS.
    querying: u8,
    /// True once a term stands there behind which no evaluation gets.
    complete: bool,
}

impl Reader {
    fn read_term(&mut self, term: &str, at: usize) -> Result<(), SyntaxFault> {
        let name_end = term.bytes().position(|octet| !is_name_octet(octet)).unwrap_or(term.len());
        let (name, rest) = term.split_at_checked(name_end).unwrap_or((term, ""));
        if let Some(value) = rest.strip_prefix('=')
            && name.starts_with(|first: char| first.is_ascii_alphabetic())
        {
            return self.read_modifier(name, value, at + name_end + 1);
        }
        let (qualifier, directive) = match term.as_bytes().first() {
            Some(b'+') => (SpfResult::Pass, term.get(1..)),
            Some(b'-') => (SpfResult::Fail, term.get(1..)),
            Some(b'~') => (SpfResult::SoftFail, term.get(1..)),
            Some(b'?') => (SpfResult::Neutral, term.get(1..)),
            _ => (SpfResult::Pass, Some(term)),
        };
        let directive = directive.unwrap_or_default();
        let name_end = directive.bytes().position(|octet| matches!(octet, b':' | b'/')).unwrap_or(directive.len());
        let (name, arguments) = directive.split_at_checked(name_end).unwrap_or((directive, ""));
        let arguments_at = at + term.len() - arguments.len();
        let mechanism = self.read_mechanism(name, arguments, arguments_at)?;
        if self.complete {
            return Ok(());
        }
        match mechanism {
            Mechanism::All => self.complete = true,
            Mechanism::Ip4 { .. } | Mechanism::Ip6 { .. } => {}
            Mechanism::Include(_) | Mechanism::A(..) | Mechanism::Mx(..) | Mechanism::Ptr(_) | Mechanism::Exists(_) => {
                self.querying += 1;
                self.complete = self.querying > SPF_LOOKUP_TERMS_MAX;
            }
        }
        self.terms.push(Term { span: Span::new(at, term.len()), qualifier, mechanism });
        Ok(())
    }

    fn read_mechanism(&mut self, name: &str, arguments: &str, at: usize) -> Result<Mechanism, SyntaxFault> {
        let is = |word: &str| name.eq_ignore_ascii_case(word);
        if is("ip4") {
            return read_ip4(arguments);
        }
        if is("ip6") {
            return read_ip6(arguments);
        }
        if is("a") || is("mx") {
            let (arguments, prefixes) = split_prefixes(arguments)?;
            let target = if arguments.is_empty() { Target::Own } else { self.read_target(arguments, at)? };
            return Ok(if is("a") { Mechanism::A(target, prefixes) } else { Mechanism::Mx(target, prefixes) });
        }
        if is("all") {
            return if arguments.is_empty() { Ok(Mechanism::All) } else { Err(SyntaxFault::UnexpectedArgument) };
        }
        if is("ptr") && arguments.is_empty() {
            return Ok(Mechanism::Ptr(Target::Own));
        }
        let make = if is("include") {
            Mechanism::Include
        } else if is("exists") {
            Mechanism::Exists
        } else if is("ptr") {
            Mechanism::Ptr
        } else {
            return Err(SyntaxFault::UnknownMechanism);
        };
        Ok(make(self.read_target(arguments, at)?))
    }

    /// Reads `":" domain-spec`.
    fn read_target(&mut self, arguments: &str, at: usize) -> Result<Target, SyntaxFault> {
        match arguments.strip_prefix(':') {
            Some("") => Err(SyntaxFault::NoArgument),
            Some(domain) => self.read_domain(domain, at + 1),
            None if arguments.is_empty() => Err(SyntaxFault::NoArgument),
            None => Err(SyntaxFault::UnexpectedArgument),
        }
    }

    fn read_domain(&mut self, text: &str, at: usize) -> Result<Target, SyntaxFault> {
        let domain = MacroString::parse(text.as_bytes(), Usage::DomainSpec).map_err(SyntaxFault::BadDomain)?;
        if !domain.is_literal() {
            return Ok(Target::Macro(Span::new(at, text.len())));
        }
        if self.complete {
            // Checked, but no evaluation gets here; a modifier that counts is read by its own way.
            return Ok(Target::Unusable);
        }
        self.keep_name(text)
    }

    fn keep_name(&mut self, text: &str) -> Result<Target, SyntaxFault> {
        let Ok(name) = Name::parse(text) else { return Ok(Target::Unusable) };
        self.names.push(name);
        Ok(u8::try_from(self.names.len() - 1).map_or(Target::Unusable, Target::Name))
    }

    fn read_modifier(&mut self, name: &str, value: &str, at: usize) -> Result<(), SyntaxFault> {
        let is_redirect = name.eq_ignore_ascii_case("redirect");
        if !is_redirect && !name.eq_ignore_ascii_case("exp") {
            return MacroString::parse(value.as_bytes(), Usage::Modifier).map(|_| ()).map_err(SyntaxFault::BadDomain);
        }
        let domain = MacroString::parse(value.as_bytes(), Usage::DomainSpec).map_err(SyntaxFault::BadDomain)?;
        let target =
            if domain.is_literal() { self.keep_name(value)? } else { Target::Macro(Span::new(at, value.len())) };
        let slot = if is_redirect { &mut self.redirect } else { &mut self.exp };
        if slot.is_some() {
            return Err(SyntaxFault::RepeatedModifier);
        }
        *slot = Some(target);
        Ok(())
    }
}

impl Span {
    /// Records are at most 64 KiB long, see [`Record::parse`].
    fn new(at: usize, len: usize) -> Self {
        Self { at: u32::try_from(at).unwrap_or(0), len: u32::try_from(len).unwrap_or(0) }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Section 12: `name = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." )`.
const fn is_name_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.')
}

/// Splits `[ ip4-cidr-length ] [ "/" ip6-cidr-length ]` off the right end. No domain-spec ends in a slash and digits.
fn split_prefixes(arguments: &str) -> Result<(&str, Prefixes), SyntaxFault> {
    let mut prefixes = Prefixes::WHOLE;
    let mut rest = arguments;
    if let Some((before, digits)) = split_prefix(rest)
        && let Some(before) = before.strip_suffix('/')
    {
        prefixes.v6 = read_prefix(digits, 128)?;
        rest = before;
    }
    if let Some((before, digits)) = split_prefix(rest) {
        prefixes.v4 = read_prefix(digits, 32)?;
        rest = before;
    }
    Ok((rest, prefixes))
}

/// Splits a slash and the digits behind it off the right end.
fn split_prefix(text: &str) -> Option<(&str, &str)> {
    let before = text.trim_end_matches(|last: char| last.is_ascii_digit());
    let digits = text.get(before.len()..)?;
    if digits.is_empty() { None } else { Some((before.strip_suffix('/')?, digits)) }
}

fn read_prefix(digits: &str, max: u8) -> Result<u8, SyntaxFault> {
    let plain = digits == "0" || !digits.starts_with('0');
    let number = digits.parse().ok().filter(|&number: &u8| plain && number <= max);
    number.filter(|_| digits.bytes().all(|octet| octet.is_ascii_digit())).ok_or(SyntaxFault::BadPrefix)
}

fn read_ip4(arguments: &str) -> Result<Mechanism, SyntaxFault> {
    let (address, prefix) = split_network(arguments, 32)?;
    let address: Ipv4Addr = address.parse().map_err(|_| SyntaxFault::BadAddress)?;
    let mask = mask4(prefix);
    Ok(Mechanism::Ip4 { network: address.to_bits() & mask, mask })
}

fn read_ip6(arguments: &str) -> Result<Mechanism, SyntaxFault> {
    let (address, prefix) = split_network(arguments, 128)?;
    let address: Ipv6Addr = address.parse().map_err(|_| SyntaxFault::BadAddress)?;
    Ok(Mechanism::Ip6 { network: address.octets(), prefix })
}

/// Reads `":" network [ "/" length ]`.
fn split_network(arguments: &str, prefix_max: u8) -> Result<(&str, u8), SyntaxFault> {
    let network = match arguments.strip_prefix(':') {
        Some(network) if !network.is_empty() => network,
        Some(_) => return Err(SyntaxFault::NoArgument),
        None if arguments.is_empty() => return Err(SyntaxFault::NoArgument),
        None => return Err(SyntaxFault::UnexpectedArgument),
    };
    match network.split_once('/') {
        Some((address, digits)) => Ok((address, read_prefix(digits, prefix_max)?)),
        None => Ok((network, prefix_max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(terms: &str) -> SyntaxFault {
        Record::parse(format!("v=spf1 {terms}").as_bytes()).unwrap_err().fault
    }

    #[test]
    fn what_breaks_the_grammar_is_named() {
        let cases = [
            ("a:x.example\t-all", SyntaxFault::BadOctet),
            ("foo:bar", SyntaxFault::UnknownMechanism),
            ("+-all", SyntaxFault::UnknownMechanism),
            ("-exp=x.example", SyntaxFault::UnknownMechanism),
            ("include", SyntaxFault::NoArgument),
            ("ip4:", SyntaxFault::NoArgument),
            ("mx:/24", SyntaxFault::NoArgument),
            ("all:x", SyntaxFault::UnexpectedArgument),
            ("ptr/24", SyntaxFault::UnexpectedArgument),
            ("a/24/24", SyntaxFault::UnexpectedArgument),
            ("include:x.example/24", SyntaxFault::BadDomain(MacroError::BadEnd)),
            ("ip4:1.2.3", SyntaxFault::BadAddress),
            ("ip4:1.2.3.04", SyntaxFault::BadAddress),
            ("ip6:::1::", SyntaxFault::BadAddress),
            ("ip4:1.2.3.4/33", SyntaxFault::BadPrefix),
            ("ip4:1.2.3.4/08", SyntaxFault::BadPrefix),
            ("ip4:1.2.3.4/", SyntaxFault::BadPrefix),
            ("ip6:::/129", SyntaxFault::BadPrefix),
            ("a//129", SyntaxFault::BadPrefix),
            ("redirect=a.b redirect=a.b", SyntaxFault::RepeatedModifier),
            ("x=%", SyntaxFault::BadDomain(MacroError::StrayPercent)),
        ];
        for (terms, expected) in cases {
            assert_eq!(fault(terms), expected, "{terms}");
            // Nothing that stands before hides it (section 4.6).
            assert_eq!(fault(&format!("+all {terms}")), expected, "{terms}");
        }
        for good in ["a/0//0", "ip4:0.0.0.0/0", "ip6:::/0", "ip4:1.2.3.4/32", "ip6:::/128", "x=", "A MX PTR", ""] {
            assert!(Record::parse(format!("v=spf1 {good}").as_bytes()).is_ok(), "{good}");
        }
    }

    #[test]
    fn terms_that_no_evaluation_reaches_are_not_kept() {
        let kept = |text: &str| Record::parse(text.as_bytes()).unwrap().terms.len();
        assert_eq!(kept("v=spf1 ip4:1.2.3.4 -all a mx"), 2);
        assert_eq!(kept(&format!("v=spf1{}", " a".repeat(11))), 11);
        assert_eq!(kept(&format!("v=spf1{}", " a:x.example ip4:1.2.3.4".repeat(500))), 21);
    }

    #[test]
    fn the_version_is_a_whole_token() {
        for (text, expected) in
            [("v=spf1", true), ("V=SPF1 -all", true), ("v=spf10", false), ("v=spf1\t-all", false), (" v=spf1", false)]
        {
            assert_eq!(is_spf(text.as_bytes()), expected, "{text}");
        }
    }
}

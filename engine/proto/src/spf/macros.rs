//! Macro strings (RFC 7208 section 7): checked once, expanded into a bounded buffer.
//!
//! A domain is put together from its right end and stops at the 253 octets that count; an explanation is put together
//! from its left end and stops at its limit. Cost is therefore linear in the macro string, however long the values.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use crate::dns::Name;
use crate::limits::SPF_EXPLANATION_BYTES_MAX;

/// Where a macro string stands; the grammar differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Usage {
    /// `domain-spec`: ends in a macro or a top-level label, no `%{c}`, `%{r}`, `%{t}` (sections 7.1 and 7.2).
    DomainSpec,
    /// The text an `exp` modifier points to: spaces and every macro letter.
    Explanation,
    /// The value of an unknown modifier (section 6): any macro string.
    Modifier,
}

/// Why a text is no macro string of its kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MacroError {
    /// `domain-spec` can not be empty.
    #[error("nothing where a domain is needed")]
    Empty,
    /// `macro-literal` is visible ASCII without `%`.
    #[error("an octet that is no visible ASCII character")]
    BadOctet,
    /// Section 7.1: `%` is followed by `{`, `%`, `_` or `-`.
    #[error("a percent sign that starts no macro")]
    StrayPercent,
    /// The closing brace is missing, or something stands before it that is no delimiter.
    #[error("a malformed macro")]
    Malformed,
    /// Section 7.2.
    #[error("an unknown macro letter")]
    UnknownLetter,
    /// Section 7.2: `c`, `r` and `t` are for explanations.
    #[error("a macro letter that only explanations may use")]
    ExplanationLetter,
    /// Section 7.3: nonzero; more than 32 bits are refused.
    #[error("a number of parts that is zero or too large")]
    BadPartCount,
    /// Section 7.1: `domain-end`.
    #[error("a domain that ends neither in a macro nor in a top-level label")]
    BadEnd,
}

/// What the macro letters stand for (section 7.2).
#[derive(Clone, Copy, Debug)]
pub struct Variables<'a> {
    /// `i`, `c`, `v`.
    pub ip: IpAddr,
    /// `l`, and `s` before its `@`.
    pub local_part: &'a str,
    /// `o`, and `s` after its `@`; A-labels.
    pub sender_domain: &'a str,
    /// `d`: the domain of the record at hand.
    pub domain: &'a Name,
    /// `p`; `None` expands to `unknown`.
    pub validated_name: Option<&'a Name>,
    /// `h`.
    pub helo: &'a str,
    /// `r`.
    pub receiver: &'a str,
    /// `t`.
    pub now_seconds: u64,
}

/// A text that was checked against the grammar of its [`Usage`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MacroString<'a>(&'a [u8]);

impl<'a> MacroString<'a> {
    /// Checks a text.
    ///
    /// # Errors
    /// [`MacroError`] for the first thing that breaks the grammar.
    pub fn parse(text: &'a [u8], usage: Usage) -> Result<Self, MacroError> {
        let mut rest = text;
        let mut last = None;
        while let Some(piece) = next_piece(&mut rest) {
            let piece = piece?;
            match piece {
                Piece::Literal(literal) => {
                    let spaces = usage == Usage::Explanation;
                    if !literal.iter().all(|&octet| octet.is_ascii_graphic() || (spaces && octet == b' ')) {
                        return Err(MacroError::BadOctet);
                    }
                }
                Piece::Macro(it) if usage == Usage::DomainSpec && matches!(it.letter, b'c' | b'r' | b't') => {
                    return Err(MacroError::ExplanationLetter);
                }
                Piece::Macro(_) | Piece::Octets(_) => {}
            }
            last = Some(piece);
        }
        if usage == Usage::DomainSpec {
            match last {
                None => return Err(MacroError::Empty),
                Some(Piece::Literal(literal)) if !ends_in_top_label(literal) => return Err(MacroError::BadEnd),
                Some(_) => {}
            }
        }
        Ok(Self(text))
    }

    /// A text that passed [`MacroString::parse`] earlier; expanding anything else stops at what is wrong.
    pub(super) const fn parsed_before(text: &'a str) -> Self {
        Self(text.as_bytes())
    }

    /// The macro string as written.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// True when no macro occurs: the text stands for itself.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        memchr::memchr(b'%', self.0).is_none()
    }

    /// True when `%{p}` occurs, for which names have to be looked up.
    #[must_use]
    pub fn uses_validated_name(&self) -> bool {
        self.uses(b"p")
    }

    /// True when `%{l}` or `%{s}` occurs (RFC 8616 section 4 cares).
    #[must_use]
    pub fn uses_local_part(&self) -> bool {
        self.uses(b"ls")
    }

    /// Expands to the text of a domain name: the final dot dropped, and labels from the left while it is longer than
    /// 253 octets (section 7.3). The result need not be a name that DNS can hold.
    #[must_use]
    pub fn expand_domain(&self, variables: &Variables<'_>) -> DomainText {
        let mut text = DomainText { octets: [0; DomainText::ROOM], start: DomainText::ROOM };
        // The pieces are found from the left; more than a few of them are nobody's ordinary record.
        let mut few = [Piece::Octets(b""); 24];
        let mut many = Vec::new();
        let mut room = few.iter_mut();
        for piece in pieces(self.0) {
            match room.next() {
                Some(slot) => *slot = piece,
                None => many.push(piece),
            }
        }
        let mut values = Values::new(variables);
        for piece in many.iter().rev().chain(few.iter().rev()) {
            if text.is_full() {
                break;
            }
            match piece {
                Piece::Literal(octets) | Piece::Octets(octets) => text.prepend(octets),
                Piece::Macro(it) => it.prepend_to(&mut text, values.of(it.letter)),
            }
        }
        text
    }

    /// Expands to an explanation of at most [`SPF_EXPLANATION_BYTES_MAX`] octets, without control characters; `None`
    /// when the result is not ASCII (section 6.2).
    #[must_use]
    pub fn expand_explanation(&self, variables: &Variables<'_>) -> Option<String> {
        let mut text = ExplanationText(Vec::new());
        let mut values = Values::new(variables);
        for piece in pieces(self.0) {
            if text.is_full() {
                break;
            }
            match piece {
                Piece::Literal(octets) | Piece::Octets(octets) => text.append(octets),
                Piece::Macro(it) => it.append_to(&mut text, values.of(it.letter)),
            }
        }
        String::from_utf8(text.0).ok().filter(|text| text.is_ascii())
    }

    fn uses(&self, letters: &[u8]) -> bool {
        pieces(self.0).any(|piece| matches!(piece, Piece::Macro(it) if letters.contains(&it.letter)))
    }
}

/// The text of a domain name that came out of an expansion.
#[derive(Clone, Debug)]
pub struct DomainText {
    octets: [u8; DomainText::ROOM],
    /// The text stands at the right end, from here on.
    start: usize,
}

impl DomainText {
    /// Octets of a name in text form (RFC 7208 section 7.3).
    const BYTES_MAX: usize = 253;
    /// The name, a dot on each side of it, and one octet to tell that more was there.
    const ROOM: usize = Self::BYTES_MAX + 3;

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let text = self.octets.get(self.start..).unwrap_or_default();
        let text = text.strip_suffix(b".").unwrap_or(text);
        let Some(excess) = text.len().checked_sub(Self::BYTES_MAX).filter(|&excess| excess > 0) else {
            return text;
        };
        // The dot before the first label that is kept stands at `excess - 1` or later.
        let tail = text.get(excess - 1..).unwrap_or_default();
        let dot = memchr::memchr(b'.', tail).unwrap_or(tail.len());
        tail.get(dot + 1..).unwrap_or_default()
    }

    /// The name; `None` when no DNS message could carry it.
    #[must_use]
    pub fn to_name(&self) -> Option<Name> {
        Name::parse(self.as_bytes()).ok()
    }

    fn prepend(&mut self, octets: &[u8]) {
        let count = octets.len().min(self.start);
        let octets = octets.get(octets.len() - count..).unwrap_or_default();
        if let Some(room) = self.octets.get_mut(self.start - count..self.start) {
            room.copy_from_slice(octets);
            self.start -= count;
        }
    }

    /// True when nothing further to the left changes the name.
    const fn is_full(&self) -> bool {
        self.start == 0
    }
}

struct ExplanationText(Vec<u8>);

impl ExplanationText {
    fn append(&mut self, octets: &[u8]) {
        let room = SPF_EXPLANATION_BYTES_MAX.saturating_sub(self.0.len());
        self.0.extend(octets.iter().filter(|octet| !octet.is_ascii_control()).take(room));
    }

    fn is_full(&self) -> bool {
        self.0.len() >= SPF_EXPLANATION_BYTES_MAX
    }
}

#[derive(Clone, Copy, Debug)]
enum Piece<'a> {
    Literal(&'a [u8]),
    /// What `%%`, `%_` and `%-` stand for.
    Octets(&'static [u8]),
    Macro(Macro),
}

#[derive(Clone, Copy, Debug)]
struct Macro {
    /// In lower case.
    letter: u8,
    /// Written in upper case: the value is URL-escaped.
    escaped: bool,
    /// Right-most parts kept; `u32::MAX` when no number was given.
    parts: u32,
    reversed: bool,
    /// One bit for each octet of [`DELIMITERS`].
    delimiters: u8,
}

/// RFC 7208 section 7.1, `delimiter`.
const DELIMITERS: [u8; 7] = *b".-+,/_=";

/// The pieces of a text, up to the first thing that is no macro string.
fn pieces(mut text: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    std::iter::from_fn(move || next_piece(&mut text)?.ok())
}

/// Takes the next piece off the text; `None` at its end.
fn next_piece<'a>(rest: &mut &'a [u8]) -> Option<Result<Piece<'a>, MacroError>> {
    let text = *rest;
    if text.is_empty() {
        return None;
    }
    let at = memchr::memchr(b'%', text).unwrap_or(text.len());
    if at > 0 {
        let (literal, after) = text.split_at_checked(at)?;
        *rest = after;
        return Some(Ok(Piece::Literal(literal)));
    }
    let simple = match text.get(1) {
        Some(b'{') => {
            let piece = read_macro(text.get(2..)?);
            return Some(piece.map(|(it, after)| {
                *rest = after;
                Piece::Macro(it)
            }));
        }
        Some(b'%') => b"%".as_slice(),
        Some(b'_') => b" ",
        Some(b'-') => b"%20",
        _ => return Some(Err(MacroError::StrayPercent)),
    };
    *rest = text.get(2..)?;
    Some(Ok(Piece::Octets(simple)))
}

/// Reads what follows `%{`.
fn read_macro(text: &[u8]) -> Result<(Macro, &[u8]), MacroError> {
    let (&first, mut rest) = text.split_first().ok_or(MacroError::Malformed)?;
    let letter = first.to_ascii_lowercase();
    if !b"slodiphcrtv".contains(&letter) {
        return Err(MacroError::UnknownLetter);
    }
    let mut it = Macro { letter, escaped: first.is_ascii_uppercase(), parts: u32::MAX, reversed: false, delimiters: 0 };
    let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
    if digits > 0 {
        let (number, after) = rest.split_at_checked(digits).ok_or(MacroError::Malformed)?;
        let value = std::str::from_utf8(number).ok().and_then(|number| number.parse::<u32>().ok());
        it.parts = value.filter(|&value| value > 0).ok_or(MacroError::BadPartCount)?;
        rest = after;
    }
    if let Some((b'r' | b'R', after)) = rest.split_first() {
        it.reversed = true;
        rest = after;
    }
    loop {
        let (octet, after) = rest.split_first().ok_or(MacroError::Malformed)?;
        rest = after;
        if *octet == b'}' {
            break;
        }
        let index = DELIMITERS.iter().position(|delimiter| delimiter == octet).ok_or(MacroError::Malformed)?;
        it.delimiters |= 1 << index;
    }
    if it.delimiters == 0 {
        it.delimiters = 1;
    }
    Ok((it, rest))
}

/// Splits, reverses, keeps the right-most parts and joins with dots (section 7.3), in that order. Reversing puts the
/// left end of the value to the right, so then its first parts are the ones kept.
impl Macro {
    fn is_delimiter(&self, octet: u8) -> bool {
        DELIMITERS.iter().position(|&it| it == octet).is_some_and(|index| self.delimiters & (1 << index) != 0)
    }

    fn prepend_to(&self, text: &mut DomainText, value: &[u8]) {
        let parts = usize::try_from(self.parts).unwrap_or(usize::MAX);
        let is_delimiter = |octet: &u8| self.is_delimiter(*octet);
        if self.reversed {
            self.prepend_parts(text, value.split(is_delimiter).take(parts));
        } else {
            self.prepend_parts(text, value.rsplit(is_delimiter).take(parts));
        }
    }

    fn prepend_parts<'v>(&self, text: &mut DomainText, parts: impl Iterator<Item = &'v [u8]>) {
        for (index, part) in parts.enumerate() {
            if text.is_full() {
                return;
            }
            if index > 0 {
                text.prepend(b".");
            }
            if !self.escaped {
                text.prepend(part);
                continue;
            }
            for &octet in part.iter().rev() {
                if text.is_full() {
                    return;
                }
                let (escape, len) = escape(octet);
                text.prepend(escape.get(..len).unwrap_or_default());
            }
        }
    }

    fn append_to(&self, text: &mut ExplanationText, value: &[u8]) {
        let at = |index: usize, octet: &u8| self.is_delimiter(*octet).then_some(index);
        let found = usize::try_from(self.parts).ok().filter(|_| self.parts != u32::MAX).and_then(|parts| {
            let mut places = value.iter().enumerate();
            if self.reversed {
                places.filter_map(|(index, octet)| at(index, octet)).nth(parts - 1)
            } else {
                std::iter::from_fn(|| places.next_back()).filter_map(|(index, octet)| at(index, octet)).nth(parts - 1)
            }
        });
        let is_delimiter = |octet: &u8| self.is_delimiter(*octet);
        if self.reversed {
            let kept = found.and_then(|end| value.get(..end)).unwrap_or(value);
            self.append_parts(text, kept.rsplit(is_delimiter));
        } else {
            let kept = found.and_then(|before| value.get(before + 1..)).unwrap_or(value);
            self.append_parts(text, kept.split(is_delimiter));
        }
    }

    fn append_parts<'v>(&self, text: &mut ExplanationText, parts: impl Iterator<Item = &'v [u8]>) {
        for (index, part) in parts.enumerate() {
            if text.is_full() {
                return;
            }
            if index > 0 {
                text.append(b".");
            }
            if !self.escaped {
                text.append(part);
                continue;
            }
            for &octet in part {
                if text.is_full() {
                    return;
                }
                let (escape, len) = escape(octet);
                text.append(escape.get(..len).unwrap_or_default());
            }
        }
    }
}

/// URL escaping of all but the unreserved characters of RFC 3986 (section 7.3).
const fn escape(octet: u8) -> ([u8; 3], usize) {
    match octet {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => ([octet, 0, 0], 1),
        _ => ([b'%', hex(octet >> 4), hex(octet & 15)], 3),
    }
}

/// What the letters stand for during one expansion.
struct Values<'a> {
    variables: &'a Variables<'a>,
    /// Built once however often `%{s}` occurs: the local-part may be long.
    sender: Option<String>,
    scratch: Scratch,
}

impl<'a> Values<'a> {
    const fn new(variables: &'a Variables<'a>) -> Self {
        Self { variables, sender: None, scratch: Scratch::new() }
    }

    fn of(&mut self, letter: u8) -> &[u8] {
        let it = self.variables;
        match letter {
            b's' => self.sender.get_or_insert_with(|| format!("{}@{}", it.local_part, it.sender_domain)).as_bytes(),
            b'l' => it.local_part.as_bytes(),
            b'o' => it.sender_domain.as_bytes(),
            b'd' => self.scratch.name(it.domain),
            b'i' => self.scratch.dotted_address(it.ip),
            b'p' => it.validated_name.map_or(b"unknown", |name| self.scratch.name(name)),
            b'v' if it.ip.is_ipv4() => b"in-addr",
            b'v' => b"ip6",
            b'h' => it.helo.as_bytes(),
            b'c' => self.scratch.show(format_args!("{}", it.ip)),
            b'r' => it.receiver.as_bytes(),
            b't' => self.scratch.show(format_args!("{}", it.now_seconds)),
            _ => b"",
        }
    }
}

/// True when a literal ends in `"." toplabel [ "." ]` (section 7.1): the top-level label is not all digits, and
/// neither begins nor ends with a hyphen.
fn ends_in_top_label(literal: &[u8]) -> bool {
    let text = literal.strip_suffix(b".").unwrap_or(literal);
    let Some(dot) = memchr::memrchr(b'.', text) else { return false };
    let label = text.get(dot + 1..).unwrap_or_default();
    label.iter().all(|&octet| octet.is_ascii_alphanumeric() || octet == b'-')
        && label.iter().any(|octet| !octet.is_ascii_digit())
        && !label.starts_with(b"-")
        && !label.ends_with(b"-")
}

const fn hex(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

/// Room for a value that has to be written out: the longest is a domain name.
pub(super) struct Scratch {
    octets: [u8; 256],
    len: usize,
}

impl Scratch {
    pub(super) const fn new() -> Self {
        Self { octets: [0; 256], len: 0 }
    }

    /// The labels of a name with dots between, octets as they are.
    fn name(&mut self, name: &Name) -> &[u8] {
        self.len = 0;
        for (index, label) in name.labels().enumerate() {
            if index > 0 {
                self.push(b".");
            }
            self.push(label);
        }
        self.written()
    }

    /// Section 7.3: an IPv4 address as usual, an IPv6 address as 32 nibbles with dots.
    fn dotted_address(&mut self, ip: IpAddr) -> &[u8] {
        self.len = 0;
        match ip {
            IpAddr::V4(ip) => return self.show(format_args!("{ip}")),
            IpAddr::V6(ip) => {
                for (index, octet) in ip.octets().into_iter().enumerate() {
                    if index > 0 {
                        self.push(b".");
                    }
                    self.push(&[hex(octet >> 4), b'.', hex(octet & 15)]);
                }
                self.octets.make_ascii_lowercase();
            }
        }
        self.written()
    }

    /// The name of RFC 3596 section 2.5 for an IPv6 address.
    pub(super) fn reverse_nibbles(&mut self, ip: Ipv6Addr) -> &[u8] {
        self.len = 0;
        for octet in ip.octets().into_iter().rev() {
            self.push(&[hex(octet & 15), b'.', hex(octet >> 4), b'.']);
        }
        self.push(b"ip6.arpa");
        self.octets.make_ascii_lowercase();
        self.written()
    }

    pub(super) fn show(&mut self, what: std::fmt::Arguments<'_>) -> &[u8] {
        self.len = 0;
        // Longer text than fits is cut; no value is that long.
        let _ = self.write_fmt(what);
        self.written()
    }

    fn push(&mut self, octets: &[u8]) {
        if let Some(room) = self.octets.get_mut(self.len..self.len + octets.len()) {
            room.copy_from_slice(octets);
            self.len += octets.len();
        }
    }

    fn written(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }
}

impl Write for Scratch {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expands for the sender that RFC 7208 section 7.4 uses in its examples.
    fn expand(text: &str, ip: &str) -> Result<String, MacroError> {
        let domain = Name::parse("email.example.com").unwrap();
        let variables = Variables {
            ip: ip.parse().unwrap(),
            local_part: "strong-bad",
            sender_domain: "email.example.com",
            domain: &domain,
            validated_name: None,
            helo: "mx b",
            receiver: "",
            now_seconds: 1,
        };
        let text = MacroString::parse(text.as_bytes(), Usage::DomainSpec)?;
        Ok(String::from_utf8(text.expand_domain(&variables).as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn examples_of_rfc_7208_section_7_4() {
        let cases = [
            ("%{s}", "strong-bad@email.example.com"),
            ("%{d2}", "example.com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{lr-}", "bad.strong"),
            ("%{l1r-}", "strong"),
            ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
            ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            ("%{H}%_%%%-", "mx%20b %%20"),
            ("%{p}", "unknown"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, "192.0.2.3").as_deref(), Ok(expected), "{text}");
        }
        let nibbles = "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6";
        assert_eq!(expand("%{ir}.%{v}", "2001:db8::cb01").as_deref(), Ok(nibbles));
    }

    #[test]
    fn what_breaks_the_grammar_is_named() {
        let cases = [
            ("", MacroError::Empty),
            ("a b.com", MacroError::BadOctet),
            ("a%.com", MacroError::StrayPercent),
            ("%", MacroError::StrayPercent),
            ("%{", MacroError::Malformed),
            ("%{d", MacroError::Malformed),
            ("%{d:}", MacroError::Malformed),
            ("%{d-1}", MacroError::Malformed),
            ("%{x}", MacroError::UnknownLetter),
            ("%{c}", MacroError::ExplanationLetter),
            ("%{d0}", MacroError::BadPartCount),
            ("%{d4294967296}", MacroError::BadPartCount),
            ("%{d}.", MacroError::BadEnd),
            ("com", MacroError::BadEnd),
            ("a.123", MacroError::BadEnd),
            ("a.-x", MacroError::BadEnd),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, "::1"), Err(expected), "{text}");
        }
        assert!(expand("%{d4294967294}", "::1").is_ok());
    }
}

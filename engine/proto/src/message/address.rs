//! The Author Domain: strict reading of the From field (RFC 5322 section 3.4, RFC 9989 section 5.3.1).
//!
//! A display program, a filter and this reader must see the same domain, or a forger chooses who sees what. So the
//! current grammar of RFC 5322 section 3.4 is read in full, groups (RFC 6854) included, and where a field leaves that
//! grammar in a way that other readers repair differently there is no author, only an [`AuthorProblem`]. Every octet is
//! looked at a fixed number of times, without recursion and without the heap.
//!
//! Accepted beyond the current grammar, because all readers agree on the domain then: dots and 8-bit octets in a
//! display name, dots anywhere in a local-part, empty list elements, and an unquoted address in the place of the display
//! name, which counts as one more address (`a@x.example <a@x.example>` has one domain, `a@x.example <b@y.example>` two).

use memchr::{memchr, memchr2_iter, memmem};

use super::{Defects, Field, FieldKind, Headers};
use crate::dns::Name;
use crate::limits::{
    ADDRESS_COMMENT_DEPTH_MAX, ADDRESS_DOMAIN_BYTES_MAX, DMARC_AUTHOR_DOMAINS_MAX, FROM_ADDRESSES_MAX,
    HEADER_BLOCK_BYTES_MAX, HEADER_FIELD_BYTES_MAX,
};

/// Whom the message says it is from.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one per message, and the ordinary variant stays off the heap")]
pub enum Author {
    /// One domain: every address of the one From field has it.
    One(Name),
    /// More than one distinct domain, in order of appearance; past [`DMARC_AUTHOR_DOMAINS_MAX`] only one more is
    /// listed. They may stand in one From field or in several.
    Several(Vec<Name>),
    /// No domain that could be looked up, or none that every reader of the message would see.
    Unusable(AuthorProblem),
}

/// Why a message names no single author domain, or a list of addresses can not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorProblem {
    /// RFC 5322 section 3.6 requires exactly one.
    #[error("no From field")]
    NoFrom,
    /// RFC 5322 section 3.6 allows one. Even where all name the same domain there is no single author.
    #[error("more than one From field")]
    SeveralFromFields,
    /// A line that some readers take for a From field and others do not: after a bare CR or LF, before the first field,
    /// folded before its colon, or beyond the limits on fields.
    #[error("a From line that not every reader sees")]
    HiddenFrom,
    /// What was cut off may hold another From field.
    #[error("the header block is longer than what is read")]
    HeaderOverLimit,
    /// More octets than [`HEADER_FIELD_BYTES_MAX`].
    #[error("a From field longer than what is read")]
    FieldTooLong,
    /// More than [`FROM_ADDRESSES_MAX`].
    #[error("more addresses than are read")]
    TooManyAddresses,
    /// The field holds no address at all.
    #[error("no address")]
    NoAddress,
    /// Text where an address should stand.
    #[error("text without an address")]
    MissingAt,
    /// `<>`
    #[error("an empty address")]
    EmptyAddress,
    /// `<` without `>`
    #[error("an address without its closing bracket")]
    UnclosedAngle,
    /// A quoted string without its end.
    #[error("a quoted string without its end")]
    UnclosedQuote,
    /// A comment without its end.
    #[error("a comment without its end")]
    UnclosedComment,
    /// A group without `;`
    #[error("a group without its end")]
    UnclosedGroup,
    /// RFC 5322 section 3.4 has no groups in groups.
    #[error("a group in a group")]
    NestedGroup,
    /// More than [`ADDRESS_COMMENT_DEPTH_MAX`] comments within each other.
    #[error("comments nested too deep")]
    CommentTooDeep,
    /// A comment inside an address that holds what looks like another one.
    #[error("a comment inside an address with specials")]
    AmbiguousComment,
    /// The route of RFC 5322 section 4.4, which readers take for the address or not.
    #[error("a source route")]
    SourceRoute,
    /// RFC 2047 section 5 forbids encoded-words in an address; some readers decode them all the same.
    #[error("an encoded-word as local-part")]
    EncodedWord,
    /// Words before a bare address or anything after a complete one.
    #[error("text around an address")]
    TextAroundAddress,
    /// `a@b@c`
    #[error("more than one @ in an address")]
    SecondAt,
    /// A character that has no place there.
    #[error("a character out of place")]
    StrayCharacter,
    /// A NUL octet, at which some readers stop.
    #[error("a NUL octet")]
    Nul,
    /// A control character, or a CR or LF that folds nothing.
    #[error("a control character")]
    ControlCharacter,
    /// No local-part, or one that is not UTF-8 or holds angle brackets.
    #[error("a local-part that can not be used")]
    BadLocalPart,
    /// `a@[192.0.2.1]`
    #[error("an address literal")]
    AddressLiteral,
    /// Nothing after the `@`, or what stands there is no domain name.
    #[error("not a domain name")]
    BadDomain,
}

impl AuthorProblem {
    /// The stable word of the verdict format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoFrom => "from-missing",
            Self::SeveralFromFields => "from-repeated",
            Self::HiddenFrom => "from-hidden",
            Self::HeaderOverLimit => "header-over-limit",
            Self::FieldTooLong => "from-over-limit",
            Self::TooManyAddresses => "from-too-many-addresses",
            Self::NoAddress => "from-no-address",
            Self::MissingAt => "from-text-without-address",
            Self::EmptyAddress => "from-empty-address",
            Self::UnclosedAngle => "from-unclosed-angle",
            Self::UnclosedQuote => "from-unclosed-quote",
            Self::UnclosedComment => "from-unclosed-comment",
            Self::UnclosedGroup => "from-unclosed-group",
            Self::NestedGroup => "from-nested-group",
            Self::CommentTooDeep => "from-comment-too-deep",
            Self::AmbiguousComment => "from-ambiguous-comment",
            Self::SourceRoute => "from-source-route",
            Self::EncodedWord => "from-encoded-address",
            Self::TextAroundAddress => "from-text-around-address",
            Self::SecondAt => "from-second-at",
            Self::StrayCharacter => "from-stray-character",
            Self::Nul => "from-nul",
            Self::ControlCharacter => "from-control-character",
            Self::BadLocalPart => "from-bad-local-part",
            Self::AddressLiteral => "from-address-literal",
            Self::BadDomain => "from-bad-domain",
        }
    }
}

/// Reads the author of a message.
#[must_use]
pub fn author(headers: Headers<'_>) -> Author {
    let mut fields = headers.of_kind(FieldKind::From);
    if hides_from(headers) {
        return Author::Unusable(AuthorProblem::HiddenFrom);
    }
    let Some(first) = fields.next() else {
        // Where the header was cut, one may stand behind.
        let is_cut = headers.defects().header_over_limit;
        return Author::Unusable(if is_cut { AuthorProblem::HeaderOverLimit } else { AuthorProblem::NoFrom });
    };
    if headers.defects().header_over_limit && headers.octets.len() >= HEADER_BLOCK_BYTES_MAX {
        return Author::Unusable(AuthorProblem::HeaderOverLimit);
    }
    let mut domains = Domains::default();
    let single = domains.read(&first);
    let mut repeated = false;
    for field in fields {
        repeated = true;
        if single.is_err() || domains.is_full() || domains.read(&field).is_err() {
            break;
        }
    }
    match (single, repeated) {
        (_, true) if domains.others.is_empty() => Author::Unusable(AuthorProblem::SeveralFromFields),
        (Err(problem), false) => Author::Unusable(problem),
        _ => domains.author(),
    }
}

/// The addresses of a field value (RFC 5322 section 3.4), members of groups included. The first problem ends the list:
/// what was read before it is then not the whole truth.
#[must_use]
pub fn addresses(value: &[u8]) -> Addresses<'_> {
    Addresses { rest: value, in_group: false, problem: octet_problem(value), ended: false }
}

/// One address, borrowed from its field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Address<'a> {
    /// As written: text with dots, or a quoted string with its quotes.
    pub local_part: &'a [u8],
    /// As written, without comments or white space around it.
    pub domain: &'a [u8],
}

impl Address<'_> {
    /// The domain as a name: lower case, A-labels, one final dot removed.
    ///
    /// A label with characters beyond ASCII has to be a U-label (RFC 5890 section 2.3.2.1) but for its case: what only
    /// becomes a name by mapping (full-width letters, soft hyphens, other dots) looks different to a reader without it.
    ///
    /// # Errors
    /// [`AuthorProblem::BadDomain`] when it is no domain name.
    pub fn domain_name(&self) -> Result<Name, AuthorProblem> {
        if self.domain.len() > ADDRESS_DOMAIN_BYTES_MAX {
            return Err(AuthorProblem::BadDomain);
        }
        let text = std::str::from_utf8(self.domain).map_err(|_| AuthorProblem::BadDomain)?;
        let name = Name::parse_domain(text).map_err(|_| AuthorProblem::BadDomain)?;
        if text.is_ascii() || is_made_of_u_labels(text, &name) { Ok(name) } else { Err(AuthorProblem::BadDomain) }
    }
}

/// Walks over a list of addresses; see [`addresses`].
#[derive(Clone, Debug)]
pub struct Addresses<'a> {
    rest: &'a [u8],
    in_group: bool,
    problem: Option<AuthorProblem>,
    ended: bool,
}

impl<'a> Iterator for Addresses<'a> {
    type Item = Result<Address<'a>, AuthorProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = match self.problem {
            Some(problem) => Err(problem),
            None => self.address(),
        };
        self.ended = !matches!(item, Ok(Some(_)));
        item.transpose()
    }
}

impl<'a> Addresses<'a> {
    /// The next address of the list, `None` at its end.
    fn address(&mut self) -> Result<Option<Address<'a>>, AuthorProblem> {
        loop {
            self.skip_comments()?;
            match self.peek() {
                None if self.in_group => return Err(AuthorProblem::UnclosedGroup),
                None => return Ok(None),
                Some(b',') => self.advance(1),
                Some(b';') if self.in_group => {
                    self.advance(1);
                    self.in_group = false;
                    self.expect_separator()?;
                }
                Some(b'<') => return self.angle_address().map(Some),
                Some(b'@') => return Err(AuthorProblem::BadLocalPart),
                Some(octet) if starts_word(octet) => {
                    if let Some(address) = self.words()? {
                        return Ok(Some(address));
                    }
                }
                Some(_) => return Err(AuthorProblem::StrayCharacter),
            }
        }
    }

    /// Words: a display name before `<`, the name of a group before `:` (then `None`), or a bare local-part before `@`.
    fn words(&mut self) -> Result<Option<Address<'a>>, AuthorProblem> {
        let first = self.word()?;
        let mut is_single = true;
        loop {
            let ambiguous = self.skip_comments()?;
            match self.peek() {
                Some(b'@') if !is_single => return Err(AuthorProblem::TextAroundAddress),
                Some(b'@') => return self.bare_address(first, ambiguous).map(Some),
                Some(b'<') => return self.angle_address().map(Some),
                Some(b':') if self.in_group => return Err(AuthorProblem::NestedGroup),
                Some(b':') => {
                    self.advance(1);
                    self.in_group = true;
                    return Ok(None);
                }
                Some(octet) if starts_word(octet) => {
                    self.word()?;
                    is_single = false;
                }
                None | Some(b',' | b';') => return Err(AuthorProblem::MissingAt),
                Some(_) => return Err(AuthorProblem::StrayCharacter),
            }
        }
    }

    /// From the `@` of an address without brackets to its end. A `<` may follow: the address stood where a display name
    /// should, and the one in brackets comes next.
    fn bare_address(&mut self, local_part: &'a [u8], ambiguous: bool) -> Result<Address<'a>, AuthorProblem> {
        let address = self.after_local_part(local_part, ambiguous)?;
        self.skip_comments()?;
        match self.peek() {
            Some(b'<') => Ok(address),
            Some(b'@') => Err(AuthorProblem::SecondAt),
            _ => self.expect_separator().map(|()| address),
        }
    }

    fn angle_address(&mut self) -> Result<Address<'a>, AuthorProblem> {
        self.advance(1);
        let mut ambiguous = self.skip_comments()?;
        let local_part = match self.peek() {
            None => return Err(AuthorProblem::UnclosedAngle),
            Some(b'>') => return Err(AuthorProblem::EmptyAddress),
            Some(b'@') => return Err(AuthorProblem::SourceRoute),
            Some(octet) if starts_word(octet) => self.word()?,
            Some(_) => return Err(AuthorProblem::StrayCharacter),
        };
        ambiguous |= self.skip_comments()?;
        match self.peek() {
            Some(b'@') => {}
            Some(b'>') => return Err(AuthorProblem::MissingAt),
            None => return Err(AuthorProblem::UnclosedAngle),
            Some(_) => return Err(AuthorProblem::StrayCharacter),
        }
        let address = self.after_local_part(local_part, ambiguous)?;
        let ambiguous = self.skip_comments()?;
        match self.peek() {
            Some(b'>') if ambiguous => return Err(AuthorProblem::AmbiguousComment),
            Some(b'>') => self.advance(1),
            None => return Err(AuthorProblem::UnclosedAngle),
            Some(b'@') => return Err(AuthorProblem::SecondAt),
            Some(_) => return Err(AuthorProblem::StrayCharacter),
        }
        self.skip_comments()?;
        self.expect_separator()?;
        Ok(address)
    }

    /// From `@` to the end of the domain.
    fn after_local_part(&mut self, local_part: &'a [u8], mut ambiguous: bool) -> Result<Address<'a>, AuthorProblem> {
        self.advance(1);
        ambiguous |= self.skip_comments()?;
        if ambiguous {
            return Err(AuthorProblem::AmbiguousComment);
        }
        if self.peek() == Some(b'[') {
            return Err(AuthorProblem::AddressLiteral);
        }
        let domain = self.text();
        if domain.is_empty() {
            return Err(AuthorProblem::BadDomain);
        }
        if std::str::from_utf8(local_part).is_err() || local_part.iter().any(|octet| matches!(octet, b'<' | b'>')) {
            return Err(AuthorProblem::BadLocalPart);
        }
        if holds_encoded_word(local_part) {
            return Err(AuthorProblem::EncodedWord);
        }
        Ok(Address { local_part, domain })
    }

    /// What may follow an address or a group; nothing is consumed.
    fn expect_separator(&mut self) -> Result<(), AuthorProblem> {
        self.skip_comments()?;
        match self.peek() {
            None | Some(b',') => Ok(()),
            Some(b';') if self.in_group => Ok(()),
            Some(_) => Err(AuthorProblem::TextAroundAddress),
        }
    }

    /// Text or a quoted string.
    fn word(&mut self) -> Result<&'a [u8], AuthorProblem> {
        if self.peek() != Some(b'"') {
            return Ok(self.text());
        }
        let mut escaped = false;
        let end = self.rest.iter().skip(1).position(|&octet| {
            let ends = octet == b'"' && !escaped;
            escaped = octet == b'\\' && !escaped;
            ends
        });
        let end = end.ok_or(AuthorProblem::UnclosedQuote)?;
        Ok(self.take(end + 2))
    }

    /// A run of atom characters and dots.
    fn text(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|&octet| !is_text(octet)).unwrap_or(self.rest.len());
        self.take(end)
    }

    /// Skips white space and comments; true when a comment holds characters that could be read as another address.
    fn skip_comments(&mut self) -> Result<bool, AuthorProblem> {
        let mut ambiguous = false;
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.advance(1),
                Some(b'(') => ambiguous |= self.skip_comment()?,
                _ => return Ok(ambiguous),
            }
        }
    }

    fn skip_comment(&mut self) -> Result<bool, AuthorProblem> {
        let mut depth = 0_usize;
        let mut ambiguous = false;
        while let Some(octet) = self.peek() {
            match octet {
                b'\\' => self.advance(1),
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'<' | b'>' | b'@' | b',' => ambiguous = true,
                _ => {}
            }
            self.advance(1);
            if depth > ADDRESS_COMMENT_DEPTH_MAX {
                return Err(AuthorProblem::CommentTooDeep);
            }
            if depth == 0 {
                return Ok(ambiguous);
            }
        }
        Err(AuthorProblem::UnclosedComment)
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn advance(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(count).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }
}

/// Distinct domains in order of appearance; the first without the heap.
#[derive(Default)]
struct Domains {
    first: Option<Name>,
    others: Vec<Name>,
    address_count: usize,
}

impl Domains {
    /// Adds the domains of a field, until there are more than anybody would judge.
    fn read(&mut self, field: &Field<'_>) -> Result<(), AuthorProblem> {
        if field.raw.len() > HEADER_FIELD_BYTES_MAX {
            return Err(AuthorProblem::FieldTooLong);
        }
        for address in addresses(field.value) {
            let address = address?;
            self.address_count += 1;
            if self.address_count > FROM_ADDRESSES_MAX {
                return Err(AuthorProblem::TooManyAddresses);
            }
            let domain = address.domain_name()?;
            if self.first.is_none() {
                self.first = Some(domain);
            } else if self.first != Some(domain) && !self.others.contains(&domain) {
                self.others.push(domain);
            }
            if self.is_full() {
                return Ok(());
            }
        }
        if self.first.is_some() { Ok(()) } else { Err(AuthorProblem::NoAddress) }
    }

    fn is_full(&self) -> bool {
        self.others.len() >= DMARC_AUTHOR_DOMAINS_MAX
    }

    fn author(self) -> Author {
        match self.first {
            None => Author::Unusable(AuthorProblem::NoAddress),
            Some(first) if self.others.is_empty() => Author::One(first),
            Some(first) => Author::Several([&[first], self.others.as_slice()].concat()),
        }
    }
}

/// True when the header block holds more lines that somebody could read as a From field than fields of that name.
/// A block without defects has none, and is not looked at again.
fn hides_from(headers: Headers<'_>) -> bool {
    let defects = headers.defects();
    if (Defects { repeated_singletons: 0, ..defects }) == Defects::default() {
        return false;
    }
    let visible = headers.of_kind(FieldKind::From).count();
    let octets = headers.octets;
    let first_field = headers.index.fields.first().map_or(octets.len(), |field| field.start as usize);
    let looks = memchr2_iter(b'f', b'F', octets).filter(|&at| {
        let names = octets.get(at..).is_some_and(names_from);
        names && starts_line(octets, at, first_field)
    });
    looks.take(visible + 1).count() > visible
}

/// `From` and a colon, whatever is invisible between them.
fn names_from(octets: &[u8]) -> bool {
    let Some((name, rest)) = octets.split_at_checked(4) else { return false };
    name.eq_ignore_ascii_case(b"from") && rest.iter().find(|octet| octet.is_ascii_graphic()) == Some(&b':')
}

/// True when only invisible octets stand before `at` in its line, and the line does not continue a field.
fn starts_line(octets: &[u8], at: usize, first_field: usize) -> bool {
    let before = octets.get(..at).unwrap_or_default();
    let is_break = |octet: u8| matches!(octet, b'\r' | b'\n');
    let start = match before.iter().rposition(|&octet| is_break(octet) || octet.is_ascii_graphic()) {
        None => 0,
        Some(last) if before.get(last).is_some_and(|&octet| is_break(octet)) => last + 1,
        Some(_) => return false,
    };
    let continues = before.get(..start).is_some_and(|it| it.ends_with(b"\r\n"))
        && matches!(octets.get(start), Some(b' ' | b'\t'))
        && start > first_field;
    !continues
}

/// Octets that have no place in a field value, wherever they stand.
fn octet_problem(value: &[u8]) -> Option<AuthorProblem> {
    let mut octets = value.iter();
    while let Some(octet) = octets.next() {
        match octet {
            0 => return Some(AuthorProblem::Nul),
            b'\r' => {
                let folds = matches!(octets.as_slice(), [b'\n', b' ' | b'\t', ..]);
                if !folds {
                    return Some(AuthorProblem::ControlCharacter);
                }
                octets.next();
            }
            b'\t' => {}
            _ if octet.is_ascii_control() => return Some(AuthorProblem::ControlCharacter),
            _ => {}
        }
    }
    None
}

/// The atom characters of RFC 5322 section 3.2.3, those of RFC 6532, and the dot.
const fn is_text(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || octet >= 0x80
        || matches!(
            octet,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'/' | b'=' | b'?' | b'^' | b'_' | b'`'
        )
        || matches!(octet, b'{' | b'|' | b'}' | b'~' | b'.')
}

const fn starts_word(octet: u8) -> bool {
    is_text(octet) || octet == b'"'
}

fn holds_encoded_word(local_part: &[u8]) -> bool {
    memchr(b'?', local_part).is_some()
        && memmem::find(local_part, b"=?")
            .and_then(|start| local_part.get(start + 2..))
            .is_some_and(|rest| memmem::find(rest, b"?=").is_some())
}

/// True when every label beyond ASCII is what its A-label decodes to, case aside.
fn is_made_of_u_labels(text: &str, name: &Name) -> bool {
    let written = text.strip_suffix('.').unwrap_or(text).split('.');
    let same = written.clone().zip(name.labels()).all(|(written, label)| {
        let label = std::str::from_utf8(label).unwrap_or_default();
        written.is_ascii() || idna::domain_to_unicode(label).0 == written.to_lowercase()
    });
    same && written.count() == name.label_count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Vec<Result<(String, String), AuthorProblem>> {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        addresses(value.as_bytes())
            .map(|it| it.map(|address| (text(address.local_part), text(address.domain))))
            .collect()
    }

    #[test]
    fn lists_give_borrowed_pieces() {
        let pair = |local: &str, domain: &str| Ok((local.to_owned(), domain.to_owned()));
        assert_eq!(
            read("A. B <a.b@x.example>, (c) \"q @ x\"@Y.example , list: c@z.example, <d@z.example>; , e@w.example"),
            [
                pair("a.b", "x.example"),
                pair("\"q @ x\"", "Y.example"),
                pair("c", "z.example"),
                pair("d", "z.example"),
                pair("e", "w.example")
            ]
        );
        assert_eq!(read("a@x.example, b"), [pair("a", "x.example"), Err(AuthorProblem::MissingAt)]);
        assert_eq!(read(" \r\n "), []);
    }

    #[test]
    fn comment_depth_holds_on_both_sides() {
        let nested = |depth: usize| format!("{}{} a@x.example", "(".repeat(depth), ")".repeat(depth));
        assert!(read(&nested(ADDRESS_COMMENT_DEPTH_MAX))[0].is_ok());
        assert_eq!(read(&nested(ADDRESS_COMMENT_DEPTH_MAX + 1)), [Err(AuthorProblem::CommentTooDeep)]);
    }

    #[test]
    fn only_stable_u_labels_are_domains() {
        let domain = |domain: &str| Address { local_part: b"a", domain: domain.as_bytes() }.domain_name();
        assert_eq!(domain("B\u{dc}CHER.Example."), Ok(Name::parse("xn--bcher-kva.example").unwrap()));
        assert_eq!(domain("xn--bcher-kva.b\u{fc}cher"), Ok(Name::parse("xn--bcher-kva.xn--bcher-kva").unwrap()));
        for mapped in ["\u{ff4c}egit.example", "le\u{ad}git.example", "legit\u{3002}example", "u\u{308}.example"] {
            assert_eq!(domain(mapped), Err(AuthorProblem::BadDomain), "{mapped:?}");
        }
    }
}

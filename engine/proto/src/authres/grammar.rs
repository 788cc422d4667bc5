//! The grammar of RFC 8601 section 2.2, as a cursor that only moves forward.

use std::borrow::Cow;

use super::{AuthenticationResults, AuthresProblem, INSTANCE_MAX, Property, Resinfo, Version};
use crate::limits::{AUTHRES_PROPERTIES_MAX, AUTHRES_RESULTS_MAX};

/// What is still to be read of a value.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    total: usize,
    /// False once something broke the grammar but could be read.
    pub(super) regular: bool,
}

/// What stands before the first `;`.
pub(super) struct Head<'a> {
    pub(super) authserv_id: AuthservIdToken<'a>,
    pub(super) version: Version,
}

/// The first word of a value.
pub(super) enum AuthservIdToken<'a> {
    Written(Cow<'a, str>),
    /// The value begins with a `;`, or there is nothing.
    Empty,
    /// The value begins with a result.
    Missing,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(value: &'a [u8]) -> Self {
        Self { rest: value, total: value.len(), regular: true }
    }

    /// Everything from here to the end.
    pub(super) fn payload(mut self) -> Result<AuthenticationResults<'a>, AuthresProblem> {
        let Head { authserv_id, version } = self.head()?;
        let mut found = AuthenticationResults { version, ..AuthenticationResults::default() };
        let mut at_segment = matches!(authserv_id, AuthservIdToken::Missing);
        if let AuthservIdToken::Written(text) = authserv_id {
            found.authserv_id = text;
        }
        let mut segments = 0;
        while at_segment || self.eat(b';') {
            at_segment = false;
            segments += 1;
            if segments > AUTHRES_RESULTS_MAX {
                return Err(AuthresProblem::TooManyResults);
            }
            self.segment(&mut found)?;
        }
        if !self.rest.is_empty() {
            return Err(self.unexpected());
        }
        self.regular &= segments > 0;
        found.regular = self.regular;
        Ok(found)
    }

    /// `i=N;` (RFC 8617 section 4.1.1).
    pub(super) fn instance(&mut self) -> Result<u8, AuthresProblem> {
        self.white_space_and_comments()?;
        let name = self.take_while(|octet| octet.is_ascii_alphabetic());
        self.white_space_and_comments()?;
        let named = name.eq_ignore_ascii_case(b"i") && self.eat(b'=');
        self.white_space_and_comments()?;
        let number = decimal(self.take_while(|octet| octet.is_ascii_digit())).map(|number| number as usize);
        self.white_space_and_comments()?;
        let number = number.filter(|number| named && (1..=INSTANCE_MAX).contains(number));
        match number.and_then(|number| u8::try_from(number).ok()) {
            Some(number) if self.eat(b';') => Ok(number),
            _ => Err(AuthresProblem::BadInstance),
        }
    }

    /// `authserv-id [version]`, up to but not including the first `;`.
    pub(super) fn head(&mut self) -> Result<Head<'a>, AuthresProblem> {
        self.white_space_and_comments()?;
        let start = self.rest;
        let text = match self.peek() {
            None | Some(b';') => {
                self.regular = false;
                return Ok(Head { authserv_id: AuthservIdToken::Empty, version: Version::Absent });
            }
            Some(b'"') => unquoted(self.quoted_string()?),
            Some(_) => {
                let raw = self.take_while(|octet| is_loose(octet) && octet != b'=');
                if raw.is_empty() {
                    return Err(self.unexpected());
                }
                self.regular &= is_token(raw);
                String::from_utf8_lossy(raw)
            }
        };
        self.white_space_and_comments()?;
        if self.peek() == Some(b'=') && start.first() != Some(&b'"') {
            self.rest = start;
            self.regular = false;
            return Ok(Head { authserv_id: AuthservIdToken::Missing, version: Version::Absent });
        }
        let version = self.version()?;
        Ok(Head { authserv_id: AuthservIdToken::Written(text), version })
    }

    /// The octets of `value`, which this cursor was made for, that have been read.
    pub(super) fn read_of(&self, value: &'a [u8]) -> &'a [u8] {
        value.get(..self.total - self.rest.len()).unwrap_or_default()
    }

    /// The version, and the `name=value` pairs that some put in its place.
    fn version(&mut self) -> Result<Version, AuthresProblem> {
        let mut version = Version::Absent;
        let mut first = true;
        while self.peek().is_some_and(|octet| octet != b';') {
            let word = self.take_while(is_word_octet);
            if word.is_empty() {
                return Err(self.unexpected());
            }
            self.white_space_and_comments()?;
            match (self.peek(), decimal(word)) {
                (Some(b'='), _) => {
                    self.eat(b'=');
                    self.property_value()?;
                    self.white_space_and_comments()?;
                    self.regular = false;
                }
                (_, Some(number)) if first => version = Version::Number(number),
                (None | Some(b';'), None) if first => {
                    version = Version::Unreadable;
                    self.regular = false;
                }
                _ => return Err(self.unexpected()),
            }
            first = false;
        }
        Ok(version)
    }

    /// What stands between two `;`: a result, `none`, or something to pass over.
    fn segment(&mut self, found: &mut AuthenticationResults<'a>) -> Result<(), AuthresProblem> {
        self.white_space_and_comments()?;
        let method = self.take_while(is_word_octet);
        let comment = self.white_space_and_comments()?;
        if matches!(self.peek(), None | Some(b';')) {
            if method.eq_ignore_ascii_case(b"none") {
                self.regular &= found.results.is_empty();
                found.comment = comment.map(unquoted);
            } else {
                self.regular = false;
                if found.authserv_id.is_empty() {
                    found.authserv_id = String::from_utf8_lossy(method);
                }
            }
            return Ok(());
        }
        if method.is_empty() {
            return Err(self.unexpected());
        }
        let mut method_version = None;
        if self.eat(b'/') {
            self.white_space_and_comments()?;
            method_version = decimal(self.take_while(|octet| octet.is_ascii_digit()));
            if method_version.is_none() {
                return Err(self.unexpected());
            }
            self.white_space_and_comments()?;
        }
        if !self.eat(b'=') {
            return Err(self.unexpected());
        }
        self.white_space_and_comments()?;
        let result = self.take_while(|octet| is_loose(octet) && octet != b'=');
        self.regular &= is_keyword(method) && is_keyword(result);
        let mut resinfo =
            Resinfo { method: lower_case(method), method_version, result: lower_case(result), ..Resinfo::default() };
        self.properties(&mut resinfo)?;
        // A method is a Keyword: one with a dot is a property that lost its result.
        if !result.is_empty() && !method.contains(&b'.') {
            self.regular &= found.comment.is_none();
            found.results.push(resinfo);
        }
        Ok(())
    }

    /// The reason and the properties, up to but not including the `;`.
    fn properties(&mut self, resinfo: &mut Resinfo<'a>) -> Result<(), AuthresProblem> {
        loop {
            if let Some(comment) = self.white_space_and_comments()? {
                let place = resinfo.properties.last_mut().map_or(&mut resinfo.comment, |last| &mut last.comment);
                place.get_or_insert_with(|| unquoted(comment));
            }
            if matches!(self.peek(), None | Some(b';')) {
                return Ok(());
            }
            let first = self.take_while(|octet| is_word_octet(octet) && octet != b'.');
            if first.is_empty() {
                return Err(self.unexpected());
            }
            self.white_space_and_comments()?;
            let (ptype, name) = if self.eat(b'.') {
                self.white_space_and_comments()?;
                if !self.peek().is_some_and(|octet| is_word_octet(octet) && octet != b'.') {
                    return Err(self.unexpected());
                }
                let name = self.take_while(is_word_octet);
                self.white_space_and_comments()?;
                (first, name)
            } else {
                (&b""[..], first)
            };
            if !self.eat(b'=') {
                // A stray word, as in a reason that should have been quoted.
                self.regular = false;
                continue;
            }
            let value = self.property_value()?;
            if ptype.is_empty() && name.eq_ignore_ascii_case(b"reason") && resinfo.reason.is_none() {
                self.regular &= resinfo.properties.is_empty();
                resinfo.reason = Some(value);
                continue;
            }
            if resinfo.properties.len() >= AUTHRES_PROPERTIES_MAX {
                return Err(AuthresProblem::TooManyProperties);
            }
            self.regular &= is_keyword(ptype) && is_keyword(name);
            let property = Property { ptype: lower_case(ptype), name: lower_case(name), value, comment: None };
            resinfo.properties.push(property);
        }
    }

    /// `pvalue`: a token, a quoted string or an address, after white space.
    fn property_value(&mut self) -> Result<Cow<'a, str>, AuthresProblem> {
        let before = self.rest.len();
        self.white_space_and_comments()?;
        if self.rest.len() < before && begins_with_property(self.rest) {
            // The null reverse-path, written as nothing at all.
            self.regular = false;
            return Ok(Cow::Borrowed(""));
        }
        let start = self.rest;
        if self.peek() == Some(b'"') {
            let inside = self.quoted_string()?;
            if self.peek() != Some(b'@') {
                return Ok(unquoted(inside));
            }
            let domain = self.take_while(is_loose);
            self.regular &= is_domain(domain.get(1..).unwrap_or_default());
            let address = start.get(..start.len() - self.rest.len()).unwrap_or_default();
            return Ok(String::from_utf8_lossy(address));
        }
        let raw = self.take_while(is_loose);
        if raw.starts_with(b"=") {
            self.rest = start;
            return Err(self.unexpected());
        }
        let text = String::from_utf8_lossy(raw);
        if raw.is_empty() || raw.contains(&b'@') || matches!(self.peek(), None | Some(b';' | b'"' | b')')) {
            self.regular &= is_token(raw) || is_address(raw);
            return Ok(text);
        }
        self.domain_after(raw, text)
    }

    /// White space and comments may stand between a local part and its `@` (RFC 5322 section 3.2.3).
    fn domain_after(&mut self, local: &'a [u8], text: Cow<'a, str>) -> Result<Cow<'a, str>, AuthresProblem> {
        let mut ahead = self.clone();
        ahead.white_space_and_comments()?;
        if ahead.peek() != Some(b'@') {
            self.regular &= is_token(local);
            return Ok(text);
        }
        let domain = ahead.take_while(is_loose);
        *self = ahead;
        self.regular &= is_dot_atom(local) && is_domain(domain.get(1..).unwrap_or_default());
        Ok(Cow::Owned(text.into_owned() + &String::from_utf8_lossy(domain)))
    }

    /// Passes over `[CFWS]`; gives the inside of the first comment.
    fn white_space_and_comments(&mut self) -> Result<Option<&'a [u8]>, AuthresProblem> {
        let mut first = None;
        loop {
            match self.rest {
                [b' ' | b'\t', rest @ ..] => self.rest = rest,
                [b'\r', b'\n', rest @ ..] => {
                    self.regular &= matches!(rest.first(), None | Some(b' ' | b'\t'));
                    self.rest = rest;
                }
                [b'\r' | b'\n', rest @ ..] => {
                    self.regular = false;
                    self.rest = rest;
                }
                [b'(', ..] => {
                    let inside = self.comment()?;
                    first = first.or(Some(inside));
                }
                _ => return Ok(first),
            }
        }
    }

    /// A comment with those inside it; gives what stands between the outer parentheses.
    fn comment(&mut self) -> Result<&'a [u8], AuthresProblem> {
        let mut depth = 0_usize;
        let mut escaped = false;
        for (at, &octet) in self.rest.iter().enumerate() {
            self.refuse_control(at, octet)?;
            match octet {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'(' => depth += 1,
                b')' if depth == 1 => return Ok(self.inside(at)),
                b')' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        Err(AuthresProblem::UnterminatedComment)
    }

    /// A quoted string; gives what stands between the quotes, still escaped.
    fn quoted_string(&mut self) -> Result<&'a [u8], AuthresProblem> {
        let mut escaped = false;
        for (at, &octet) in self.rest.iter().enumerate().skip(1) {
            self.refuse_control(at, octet)?;
            match octet {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => return Ok(self.inside(at)),
                _ => {}
            }
        }
        Err(AuthresProblem::UnterminatedQuotedString)
    }

    /// What stands between the first octet and the one at `end`, both of which are passed over.
    fn inside(&mut self, end: usize) -> &'a [u8] {
        let inside = self.rest.get(1..end).unwrap_or_default();
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        inside
    }

    fn refuse_control(&self, at: usize, octet: u8) -> Result<(), AuthresProblem> {
        if octet.is_ascii_control() && !matches!(octet, b'\t' | b'\r' | b'\n') {
            return Err(AuthresProblem::UnexpectedOctet { offset: self.total - self.rest.len() + at });
        }
        Ok(())
    }

    fn unexpected(&self) -> AuthresProblem {
        AuthresProblem::UnexpectedOctet { offset: self.total - self.rest.len() }
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let found = self.rest.strip_prefix(&[wanted]);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let count = self.rest.iter().position(|&octet| !wanted(octet)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(count).unwrap_or_default();
        self.rest = rest;
        taken
    }
}

/// The text of a quoted string or comment without its folding and escapes; a tab becomes a space.
fn unquoted(raw: &[u8]) -> Cow<'_, str> {
    if !raw.iter().any(|octet| matches!(octet, b'\\' | b'\t' | b'\r' | b'\n')) {
        return String::from_utf8_lossy(raw);
    }
    let mut text = Vec::with_capacity(raw.len());
    let mut escaped = false;
    for &octet in raw {
        match octet {
            b'\r' | b'\n' => {}
            b'\\' if !escaped => {
                escaped = true;
                continue;
            }
            b'\t' => text.push(b' '),
            _ => text.push(octet),
        }
        escaped = false;
    }
    Cow::Owned(String::from_utf8_lossy(&text).into_owned())
}

fn lower_case(word: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(word) {
        text if text.bytes().any(|octet| octet.is_ascii_uppercase()) => Cow::Owned(text.to_ascii_lowercase()),
        text => text,
    }
}

/// A number of digits only, as large as it may be.
fn decimal(digits: &[u8]) -> Option<u32> {
    let number = |sum: u32, digit: &u8| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
    (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then(|| digits.iter().fold(0, number))
}

/// True when a property of a known type begins here.
fn begins_with_property(octets: &[u8]) -> bool {
    let word_end = octets.iter().position(|octet| !is_keyword_octet(*octet) && *octet != b'.').unwrap_or(octets.len());
    let (word, rest) = octets.split_at_checked(word_end).unwrap_or_default();
    let known = [&b"smtp."[..], b"header.", b"body.", b"policy."];
    let starts = |start: &&[u8]| word.get(..start.len()).is_some_and(|it| it.eq_ignore_ascii_case(start));
    rest.first() == Some(&b'=') && known.iter().any(starts)
}

/// `Keyword` of RFC 5321 section 4.1.2.
fn is_keyword(word: &[u8]) -> bool {
    let inner = word.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
    inner && word.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// Letters, digits, hyphens, and the underscores of `smtp_is_org_domain` and the like.
pub(super) const fn is_keyword_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_')
}

/// `token` of RFC 2045 section 5.1.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|octet| is_token_octet(*octet))
}

const fn is_token_octet(octet: u8) -> bool {
    octet.is_ascii_graphic()
        && !matches!(octet, b'(' | b')' | b'<' | b'>' | b'@' | b',' | b';' | b':' | b'\\' | b'"')
        && !matches!(octet, b'/' | b'[' | b']' | b'?' | b'=')
}

const fn is_word_octet(octet: u8) -> bool {
    is_token_octet(octet) || !octet.is_ascii()
}

/// What may stand in a value that nobody quoted.
const fn is_loose(octet: u8) -> bool {
    !octet.is_ascii() || (octet.is_ascii_graphic() && !matches!(octet, b'(' | b')' | b';' | b'"'))
}

/// `[ [ local-part ] "@" ] domain-name` of RFC 8601 section 2.2, the local part being a dot-atom.
pub(super) fn is_address(text: &[u8]) -> bool {
    let Some(at) = text.iter().rposition(|octet| *octet == b'@') else {
        return is_domain(text);
    };
    let (local, domain) = text.split_at_checked(at).unwrap_or_default();
    (local.is_empty() || is_dot_atom(local)) && is_domain(domain.get(1..).unwrap_or_default())
}

fn is_domain(text: &[u8]) -> bool {
    let label = |label: &[u8]| {
        let plain = label.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
        plain && [label.first(), label.last()].iter().all(|edge| edge.is_some_and(u8::is_ascii_alphanumeric))
    };
    text.split(|octet| *octet == b'.').all(label)
}

fn is_dot_atom(text: &[u8]) -> bool {
    let atom = |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(octet);
    text.split(|octet| *octet == b'.').all(|part| !part.is_empty() && part.iter().all(atom))
}

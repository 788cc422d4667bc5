//! Which fields of a message claim to be ours (RFC 8601 section 5).
//!
//! Cost: of each field only what stands before its first `;` is read, unless that breaks the grammar; then the octets
//! are searched for our name, once with and once without comments.

use std::borrow::Cow;

use super::grammar::{AuthservIdToken, Cursor};
use super::{Version, parse};
use crate::limits::AUTHSERV_ID_BYTES_MAX;
use crate::message::{FieldKind, Headers};

/// The name under which this host writes Authentication-Results (RFC 8601 section 2.5), ready to be compared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthservId {
    text: String,
    /// Lower case, A-labels.
    ascii: String,
    /// Lower case, U-labels.
    unicode: String,
}

/// Why a text is no authserv-id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthservIdError {
    /// Nothing there.
    #[error("an authserv-id can not be empty")]
    Empty,
    /// [`AUTHSERV_ID_BYTES_MAX`].
    #[error("an authserv-id of more than 255 octets")]
    TooLong,
    /// White space, a control character, a quote, a backslash, a parenthesis or a semicolon.
    #[error("a character that an authserv-id should not hold")]
    BadCharacter,
}

/// A field that must go before the message is passed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Forged {
    /// Position among all fields, counted from 0 at the top, as in [`Headers::field`].
    pub position: usize,
    /// Number among the Authentication-Results fields, counted from 1 at the top, as milters count.
    pub occurrence: usize,
}

impl AuthservId {
    /// Checks the name of this host.
    ///
    /// # Errors
    /// [`AuthservIdError`] when it could not be told apart from what stands around it in a field.
    pub fn new(text: &str) -> Result<Self, AuthservIdError> {
        let unusual = |it: char| it.is_control() || it.is_whitespace() || matches!(it, '"' | '\\' | '(' | ')' | ';');
        if text.is_empty() {
            return Err(AuthservIdError::Empty);
        }
        if text.len() > AUTHSERV_ID_BYTES_MAX {
            return Err(AuthservIdError::TooLong);
        }
        if text.contains(unusual) {
            return Err(AuthservIdError::BadCharacter);
        }
        let unicode = unicode_form(text);
        if unicode.is_empty() {
            return Err(AuthservIdError::Empty);
        }
        let ascii = idna::domain_to_ascii(&unicode).unwrap_or_else(|_| unicode.clone());
        Ok(Self { text: text.to_owned(), ascii, unicode })
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when a field that says `other` says us: whatever the case, A-labels or U-labels, a final dot or stray white
    /// space.
    #[must_use]
    pub fn matches(&self, other: &str) -> bool {
        if other.eq_ignore_ascii_case(&self.text) {
            return true;
        }
        if is_plain_name(other) {
            return other.trim_matches('.').eq_ignore_ascii_case(&self.ascii);
        }
        // No honest name is so long, and converting it could be made costly.
        other.len() > CONVERTED_BYTES_MAX || unicode_form(other) == self.unicode
    }

    /// True when the octets could be read as holding our name by a reader who knows less, or more, of the grammar.
    fn stands_in(&self, octets: &[u8]) -> bool {
        let text = String::from_utf8_lossy(octets);
        let mut depth = 0_usize;
        let whole: String = text.chars().filter(|it| !is_decoration(*it)).collect();
        let without_comments = text.chars().filter(|it| {
            match it {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && !is_decoration(*it)
        });
        self.stands_in_squeezed(&whole) || self.stands_in_squeezed(&without_comments.collect::<String>())
    }

    fn stands_in_squeezed(&self, text: &str) -> bool {
        let lower = text.to_lowercase();
        if lower.contains(&self.ascii) || lower.contains(&self.unicode) {
            return true;
        }
        let odd = lower.split([';', '=', '/', ',', ':', '@']).filter(|part| !part.is_empty() && !is_plain_name(part));
        let matches = |(count, part): (usize, &str)| {
            let costly = count >= CONVERTED_PARTS_MAX || part.len() > CONVERTED_BYTES_MAX;
            costly || unicode_form(part).contains(&self.unicode)
        };
        odd.filter(|part| !part.is_ascii() || holds_a_label(part)).enumerate().any(matches)
    }
}

/// The Authentication-Results fields to delete at the border, highest index first, so that deleting one does not move
/// the next.
///
/// These are the fields that name one of `authserv_ids`, that could be read so, or that have a version nobody knows.
/// When in doubt a field goes: one that is lost can be written again, one that is believed wrongly can not be taken
/// back. Fields inside an attached message belong to the body and stay. Fields from hosts that may speak for us are the
/// caller's affair: do not ask for a message that came from one.
///
/// What [`Defects`](crate::message::Defects) reports as a header over its limits may hide a field further down from
/// the search; such a message should not be passed on as it is.
pub fn forged<'a>(headers: Headers<'a>, authserv_ids: &'a [AuthservId]) -> impl Iterator<Item = Forged> + use<'a> {
    let fields = headers.of_kind(FieldKind::AuthenticationResults);
    let occurrences = (1..=fields.clone().count()).rev();
    let numbered = fields.rev().zip(occurrences);
    numbered
        .filter(|(field, _)| claims(field.value, authserv_ids))
        .map(|(field, occurrence)| Forged { position: field.position, occurrence })
}

/// True when a field has to go.
fn claims(value: &[u8], ours: &[AuthservId]) -> bool {
    if breaks_lines(value) {
        return true;
    }
    let named = |text: &str| ours.iter().any(|id| id.matches(text));
    let stands_in = |octets: &[u8]| ours.iter().any(|id| id.stands_in(octets));
    let mut cursor = Cursor::new(value);
    let Ok(head) = cursor.head() else {
        return stands_in(value);
    };
    if matches!(head.version, Version::Number(number) if number != 1) {
        return true;
    }
    match head.authserv_id {
        AuthservIdToken::Written(text) if cursor.regular => named(&text),
        AuthservIdToken::Written(text) => named(&text) || stands_in(cursor.read_of(value)),
        AuthservIdToken::Empty | AuthservIdToken::Missing => match parse(value) {
            Ok(read) => named(&read.authserv_id) || stands_in(until_equals(value)),
            Err(_) => stands_in(value),
        },
    }
}

fn until_equals(value: &[u8]) -> &[u8] {
    value.split(|octet| *octet == b'=').next().unwrap_or_default()
}

/// True when a CR or LF stands there that folding does not explain: the next host may see a field begin behind it.
fn breaks_lines(value: &[u8]) -> bool {
    let mut rest = value;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        match rest.get(at..) {
            Some([b'\r', b'\n', b' ' | b'\t', after @ ..]) => rest = after,
            _ => return true,
        }
    }
    false
}

/// What a reader may drop from a name: quotes, escapes, white space, parentheses, and what stands for bad UTF-8.
fn is_decoration(it: char) -> bool {
    it.is_control() || it.is_whitespace() || matches!(it, '"' | '\\' | '(' | ')' | char::REPLACEMENT_CHARACTER)
}

/// True when lower case is all that conversion would change.
fn is_plain_name(text: &str) -> bool {
    text.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_'))
        && !holds_a_label(text)
}

fn holds_a_label(text: &str) -> bool {
    text.as_bytes().windows(4).any(|start| start.eq_ignore_ascii_case(b"xn--"))
}

/// Lower case with U-labels (UTS 46), without what [`is_decoration`] and dots at the ends.
fn unicode_form(text: &str) -> String {
    let squeezed: Cow<'_, str> = match text.contains(is_decoration) {
        true => Cow::Owned(text.chars().filter(|it| !is_decoration(*it)).collect()),
        false => Cow::Borrowed(text),
    };
    let (converted, _) = idna::domain_to_unicode(squeezed.trim_matches('.'));
    converted.trim_matches('.').to_lowercase()
}

/// Octets of a name that is converted before it is compared.
const CONVERTED_BYTES_MAX: usize = 1024;
/// Names of one field that are converted before they are compared.
const CONVERTED_PARTS_MAX: usize = 8;

//! Authentication-Results (RFC 8601): read, write, and remove forged ones.
//!
//! [`parse`] reads one field value and borrows from it, [`Writer`] appends one to a string, [`forged`] names the fields
//! of a message that claim to be ours. Reading and searching are linear in the octets; comments nest without recursion.

mod forged;
mod grammar;
mod outcome;
mod removal;
mod write;

pub use forged::{AuthservId, AuthservIdError, Forged, forged};
pub use removal::without_forged;
pub use write::{Layout, Writer};

use std::borrow::Cow;

use crate::limits::ARC_SETS_MAX;
use grammar::Cursor;

/// The value of one Authentication-Results field, or what follows `i=` in an ARC-Authentication-Results field.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AuthenticationResults<'a> {
    /// Who claims the results; empty when the field names nobody.
    pub authserv_id: Cow<'a, str>,
    /// What stands where a version may stand.
    pub version: Version,
    /// The results in order, those that nobody here understands included; empty for `none`.
    pub results: Vec<Resinfo<'a>>,
    /// The comment after `none`.
    pub comment: Option<Cow<'a, str>>,
    /// False when the octets break the grammar of RFC 8601 section 2.2 in a way that could still be read.
    pub regular: bool,
}

/// The version of a field (RFC 8601 section 2.2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Version {
    /// Not written, which means 1.
    #[default]
    Absent,
    /// As written.
    Number(u32),
    /// Something that is no number.
    Unreadable,
}

/// One result with what it is about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Resinfo<'a> {
    /// The method, in lower case.
    pub method: Cow<'a, str>,
    /// The version of the method, when written.
    pub method_version: Option<u32>,
    /// The result, in lower case.
    pub result: Cow<'a, str>,
    /// `reason=`.
    pub reason: Option<Cow<'a, str>>,
    /// The first comment after the result, unescaped.
    pub comment: Option<Cow<'a, str>>,
    /// What was checked.
    pub properties: Vec<Property<'a>>,
}

/// `ptype.property=value`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Property<'a> {
    /// `smtp`, `header`, `body`, `policy` or an unknown one, in lower case; empty where a writer left it out.
    pub ptype: Cow<'a, str>,
    /// The property, in lower case.
    pub name: Cow<'a, str>,
    /// The value without quotes.
    pub value: Cow<'a, str>,
    /// The first comment after the value, unescaped.
    pub comment: Option<Cow<'a, str>>,
}

/// Why a value can not be read. Such a field is to be ignored, and removed where it could be taken for ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthresProblem {
    /// RFC 5322 section 3.2.2.
    #[error("a comment without an end")]
    UnterminatedComment,
    /// RFC 5322 section 3.2.4.
    #[error("a quoted string without an end")]
    UnterminatedQuotedString,
    /// An octet that can not stand where it stands, control characters included.
    #[error("an unexpected octet at {offset}")]
    UnexpectedOctet {
        /// Octets of the value before it.
        offset: usize,
    },
    /// [`AUTHRES_RESULTS_MAX`](crate::limits::AUTHRES_RESULTS_MAX).
    #[error("too many results")]
    TooManyResults,
    /// [`AUTHRES_PROPERTIES_MAX`](crate::limits::AUTHRES_PROPERTIES_MAX).
    #[error("too many properties of one result")]
    TooManyProperties,
    /// RFC 8617 section 4.1.1.
    #[error("no ARC instance in front")]
    BadInstance,
}

/// Reads the value of an Authentication-Results field.
///
/// Beyond RFC 8601 section 2.2 the reader accepts what large senders are seen to write, and says so with
/// [`AuthenticationResults::regular`]: a missing authserv-id (the first later part that is a bare word is taken for
/// it), properties in front of the first result or without a ptype, empty values, values with octets that should have
/// been quoted, stray words, a final `;`, an empty field.
///
/// # Errors
/// [`AuthresProblem`] when the octets can not be split into results without guessing.
pub fn parse(value: &[u8]) -> Result<AuthenticationResults<'_>, AuthresProblem> {
    Cursor::new(value).payload()
}

/// Reads the value of an ARC-Authentication-Results field: its instance and its payload (RFC 8617 section 4.1.1).
///
/// # Errors
/// [`AuthresProblem::BadInstance`] when `i=1` to `i=50` and a `;` are not in front, else as [`parse`].
pub fn parse_arc(value: &[u8]) -> Result<(u8, AuthenticationResults<'_>), AuthresProblem> {
    let mut cursor = Cursor::new(value);
    let instance = cursor.instance()?;
    Ok((instance, cursor.payload()?))
}

/// The instance of an ARC-Authentication-Results field, whatever its payload.
///
/// # Errors
/// As [`parse_arc`], but for the payload.
pub fn arc_instance(value: &[u8]) -> Result<u8, AuthresProblem> {
    Cursor::new(value).instance()
}

const INSTANCE_MAX: usize = ARC_SETS_MAX;

impl<'a> AuthenticationResults<'a> {
    /// The results a reader may use: none at all when the version of the field is unknown, and none whose method has an
    /// unknown version (RFC 8601 section 2.6). Unknown methods and ptypes are left to the caller, who asks by name.
    pub fn understood(&self) -> impl Iterator<Item = &Resinfo<'a>> {
        let readable = self.version.is_supported();
        self.results.iter().filter(move |it| readable && matches!(it.method_version, None | Some(1)))
    }
}

impl Version {
    /// True for version 1, written or not.
    #[must_use]
    pub const fn is_supported(self) -> bool {
        matches!(self, Self::Absent | Self::Number(1))
    }
}

impl Resinfo<'_> {
    /// The value of the first property of this type and name, both given in lower case.
    #[must_use]
    pub fn property(&self, ptype: &str, name: &str) -> Option<&str> {
        self.properties.iter().find(|it| it.ptype == ptype && it.name == name).map(|it| &*it.value)
    }
}

impl AuthresProblem {
    /// A stable word for logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::UnterminatedComment => "unterminated-comment",
            Self::UnterminatedQuotedString => "unterminated-quoted-string",
            Self::UnexpectedOctet { .. } => "unexpected-octet",
            Self::TooManyResults => "too-many-results",
            Self::TooManyProperties => "too-many-properties",
            Self::BadInstance => "bad-instance",
        }
    }
}

//! The Author Domain: strict reading of the From field (RFC 5322 section 3.4, RFC 9989 section 5.3.1).

use super::Headers;
use crate::dns::Name;

/// Whom the message says it is from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Author {
    /// One domain: every address of the one From field has it.
    One(Name),
    /// More than one distinct domain, in order of appearance.
    Several(Vec<Name>),
    /// No domain that could be looked up.
    Unusable(AuthorProblem),
}

/// Why a message names no single author domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorProblem {
    /// RFC 5322 section 3.6 requires exactly one.
    #[error("no From field")]
    NoFrom,
}

/// Reads the author of a message.
#[must_use]
pub fn author(_headers: Headers<'_>) -> Author {
    Author::Unusable(AuthorProblem::NoFrom)
}

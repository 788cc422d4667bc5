//! The named ways in which an oracle and this project come to different results, each with who is right and why.

use std::fmt;

use super::compare::{Case, Comparison, Oracle, Oracles, Subject};

/// A kind of disagreement.
pub struct Class {
    /// Its name, as in `DISAGREEMENTS.md`.
    pub name: &'static str,
    /// With whom.
    pub oracle: Oracle,
    /// About what.
    pub subject: Subject,
    /// Whose result the standard asks for.
    pub right: Right,
    /// What says so.
    pub section: &'static str,
    /// True for a disagreement of this kind.
    pub holds: fn(&mut Evidence<'_>) -> bool,
}

/// Whose result the standard asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Right {
    /// Ours.
    Ours,
    /// The standard allows both.
    Both,
}

/// A disagreement with everything that can tell its kind.
pub struct Evidence<'a> {
    /// With whom.
    pub oracle: Oracle,
    /// The case.
    pub case: &'a Case,
    /// The two outcomes.
    pub comparison: &'a Comparison,
    /// For asking again about a changed case.
    pub oracles: &'a mut Oracles,
}

/// Every known kind; the first that holds counts.
pub const CLASSES: &[Class] = &[];

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "ours is right",
            Self::Both => "both are allowed",
        })
    }
}

//! DNS as the evaluations see it: names, questions, answers, and the record of what was asked.

mod answer;
mod answers;
pub mod lookup;
mod name;
pub mod wire;

pub use self::answer::{Answer, Failure, Mx, Outcome, RecordSet, Txt};
pub use self::answers::{AnswerSource, Answers, NoSource, Transcript};
pub use self::name::{Name, NameError};

use std::fmt;

/// The record types that mail authentication asks for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum RecordType {
    /// IPv4 address (RFC 1035).
    A,
    /// IPv6 address (RFC 3596).
    Aaaa,
    /// Mail exchange (RFC 1035).
    Mx,
    /// Domain name pointer (RFC 1035).
    Ptr,
    /// Text (RFC 1035).
    Txt,
}

impl RecordType {
    /// Every type, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::A, Self::Ptr, Self::Mx, Self::Txt, Self::Aaaa];

    /// The type of this code, if mail authentication asks for it.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The type of this name, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_uppercase().as_str() {
            "A" => Self::A,
            "AAAA" => Self::Aaaa,
            "MX" => Self::Mx,
            "PTR" => Self::Ptr,
            "TXT" => Self::Txt,
            _ => return None,
        })
    }

    /// The TYPE code on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ptr => 12,
            Self::Mx => 15,
            Self::Txt => 16,
            Self::Aaaa => 28,
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Mx => "MX",
            Self::Ptr => "PTR",
            Self::Txt => "TXT",
        })
    }
}

/// A question to the DNS, class IN. Everything cached is keyed by it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Question {
    /// The name asked for.
    pub name: Name,
    /// The record type asked for.
    pub kind: RecordType,
}

impl Question {
    /// The question for `kind` records at `name`.
    #[must_use]
    pub const fn new(name: Name, kind: RecordType) -> Self {
        Self { name, kind }
    }

    /// Takes on another question, moving no more octets than it has.
    pub fn assign(&mut self, other: &Self) {
        self.name.assign(&other.name);
        self.kind = other.kind;
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.kind)
    }
}

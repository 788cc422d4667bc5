//! What becomes of a message between its author and the receiver, and what a receiver must find then.

use mailproof_testkit::random::Random;
use serde::{Deserialize, Serialize};

use super::Fates;

/// What became of a message on its way.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It came as it was sent.
    Direct,
    /// It came as it was sent, and nobody signed it.
    Unsigned,
    /// The author writes from a name below the domain that signs.
    Below,
    /// A bounce: the null reverse-path.
    Bounce,
    /// A gateway added to the body.
    BodyChanged,
    /// A gateway marked the subject.
    HeaderChanged,
    /// A host that its SPF record does not allow passed it on.
    Forwarded,
    /// The same, and sealed it.
    Sealed,
    /// A list marked the subject, added to the body, signed and sealed it.
    List,
    /// The same without a seal.
    UnsealedList,
    /// It was changed after it was sealed.
    BrokenChain,
    /// Somebody else wrote it in the domain's name.
    Spoof,
    /// Somebody else wrote it in the domain's name and signed in his own.
    SignedSpoof,
    /// Its key was revoked.
    Revoked,
    /// Its key is not in the DNS.
    NoKey,
}

impl Fate {
    /// Every fate with its share in a thousand.
    pub const SHARES: [(Self, usize); 15] = [
        (Self::Direct, 700),
        (Self::Unsigned, 30),
        (Self::Below, 50),
        (Self::Bounce, 30),
        (Self::BodyChanged, 20),
        (Self::HeaderChanged, 10),
        (Self::Forwarded, 25),
        (Self::Sealed, 25),
        (Self::List, 25),
        (Self::UnsealedList, 15),
        (Self::BrokenChain, 10),
        (Self::Spoof, 30),
        (Self::SignedSpoof, 15),
        (Self::Revoked, 8),
        (Self::NoKey, 7),
    ];

    pub(super) fn draw(fates: Fates, random: &mut Random) -> Self {
        let place = random.weighted(&Self::SHARES.map(|(_, share)| share));
        if fates == Fates::Honest { Self::Direct } else { Self::SHARES[place].0 }
    }

    /// The host that hands it over is not one of the domain's.
    pub(super) const fn is_elsewhere(self) -> bool {
        self.is_passed_on() || matches!(self, Self::Spoof | Self::SignedSpoof)
    }

    /// A forwarder or a list stands between.
    pub(super) const fn is_passed_on(self) -> bool {
        matches!(self, Self::Forwarded | Self::Sealed | Self::List | Self::UnsealedList | Self::BrokenChain)
    }

    /// The forwarder adds an ARC set.
    pub(super) const fn is_sealed(self) -> bool {
        matches!(self, Self::Sealed | Self::List | Self::BrokenChain)
    }

    /// The envelope is that of the list or the stranger.
    pub(super) const fn has_foreign_envelope(self) -> bool {
        matches!(self, Self::List | Self::UnsealedList | Self::SignedSpoof)
    }

    /// The author's domain signed it.
    pub(super) const fn is_signed_by_author(self) -> bool {
        !matches!(self, Self::Unsigned | Self::Spoof | Self::SignedSpoof)
    }

    /// The author's signature still holds at the end.
    pub(super) const fn author_signature_holds(self) -> bool {
        matches!(self, Self::Direct | Self::Below | Self::Bounce | Self::Forwarded | Self::Sealed)
    }

    /// What a signature of the author that does not hold is called.
    pub(super) const fn broken_word(self) -> &'static str {
        match self {
            Self::Revoked | Self::NoKey => "permerror",
            _ => "fail",
        }
    }
}

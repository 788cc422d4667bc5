//! Negotiation (`SMFIC_OPTNEG`): what the mail server offers, and what is asked of it.

use std::ops::{BitAnd, BitOr};

use super::ProtocolError;
use super::command::NEGOTIATE;

/// Changes that a filter may make to a message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Actions(pub u32);

/// Commands that a filter does not want, replies that it does not give, and choices of form.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Steps(pub u32);

/// What a mail server can do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Offer {
    /// The version of the protocol.
    pub version: u32,
    /// The changes it takes.
    pub actions: Actions,
    /// The steps it knows.
    pub steps: Steps,
}

/// What a filter would like to do; see [`Agreement::with`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Wishes {
    /// Messages may be held.
    pub quarantine: bool,
    /// Recipients may be refused one by one.
    pub recipients: bool,
}

/// What both sides keep to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Agreement {
    version: u32,
    actions: Actions,
    steps: Steps,
}

impl Actions {
    /// Add header fields.
    pub const ADD_HEADERS: Self = Self(0x1);
    /// Change, delete and insert header fields.
    pub const CHANGE_HEADERS: Self = Self(0x10);
    /// Hold a message.
    pub const QUARANTINE: Self = Self(0x20);
    /// Say which macros are wanted.
    pub const SET_MACROS: Self = Self(0x100);

    /// True when all of `other` are here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Steps {
    /// No RCPT TO.
    pub const NO_RECIPIENT: Self = Self(0x8);
    /// No unknown SMTP commands.
    pub const NO_UNKNOWN: Self = Self(0x100);
    /// No DATA.
    pub const NO_DATA: Self = Self(0x200);
    /// A body chunk may be answered with "no more of them".
    pub const SKIP: Self = Self(0x400);
    /// No reply to a header field.
    pub const SILENT_HEADER: Self = Self(0x80);
    /// No reply to the connection.
    pub const SILENT_CONNECT: Self = Self(0x1000);
    /// No reply to HELO.
    pub const SILENT_HELO: Self = Self(0x2000);
    /// No reply to MAIL FROM.
    pub const SILENT_MAIL: Self = Self(0x4000);
    /// No reply to RCPT TO.
    pub const SILENT_RECIPIENT: Self = Self(0x8000);
    /// No reply to DATA.
    pub const SILENT_DATA: Self = Self(0x1_0000);
    /// No reply to an unknown command.
    pub const SILENT_UNKNOWN: Self = Self(0x2_0000);
    /// No reply to the end of the header.
    pub const SILENT_END_OF_HEADER: Self = Self(0x4_0000);
    /// No reply to a body chunk.
    pub const SILENT_BODY: Self = Self(0x8_0000);
    /// Values come, and are taken, with the white space after the colon.
    pub const LEADING_SPACE: Self = Self(0x10_0000);

    /// True when all of `other` are here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Actions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Actions {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Steps {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Steps {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Offer {
    /// Version, actions and steps, four octets each; later versions may say more behind them.
    pub(super) fn read(fields: &[u8]) -> Option<Self> {
        let mut numbers = fields.chunks_exact(4).filter_map(|four| Some(u32::from_be_bytes(four.try_into().ok()?)));
        let (version, actions, steps) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(Self { version, actions: Actions(actions), steps: Steps(steps) })
    }
}

impl Agreement {
    /// Asks for what is used out of what is offered: the least that gives the function, and as few replies as the
    /// server can do without.
    ///
    /// # Errors
    /// [`ProtocolError::Unsuitable`] when header fields can not be added and changed.
    pub fn with(offer: Offer, wishes: Wishes) -> Result<Self, ProtocolError> {
        let needed = Actions::ADD_HEADERS | Actions::CHANGE_HEADERS;
        if offer.version < VERSION_MIN || !offer.actions.contains(needed) {
            return Err(ProtocolError::Unsuitable { version: offer.version, actions: offer.actions.0 });
        }
        let mut actions = needed | Actions::SET_MACROS;
        if wishes.quarantine {
            actions = actions | Actions::QUARANTINE;
        }
        let mut steps = Steps::NO_UNKNOWN
            | Steps::NO_DATA
            | Steps::SKIP
            | Steps::SILENT_HEADER
            | Steps::SILENT_CONNECT
            | Steps::SILENT_HELO
            | Steps::SILENT_MAIL
            | Steps::SILENT_DATA
            | Steps::SILENT_UNKNOWN
            | Steps::SILENT_END_OF_HEADER
            | Steps::LEADING_SPACE;
        if !wishes.recipients {
            steps = steps | Steps::NO_RECIPIENT | Steps::SILENT_RECIPIENT;
        }
        Ok(Self {
            version: offer.version.min(VERSION_MAX),
            actions: actions & offer.actions,
            steps: steps & offer.steps,
        })
    }

    /// The version both speak.
    #[must_use]
    pub const fn version(self) -> u32 {
        self.version
    }

    /// True when a change may be made.
    #[must_use]
    pub const fn allows(self, actions: Actions) -> bool {
        self.actions.contains(actions)
    }

    /// True when a step was agreed on.
    #[must_use]
    pub const fn has(self, steps: Steps) -> bool {
        self.steps.contains(steps)
    }

    /// Appends the answer to the offer.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut fields = Vec::new();
        for number in [self.version, self.actions.0, self.steps.0] {
            fields.extend_from_slice(&number.to_be_bytes());
        }
        if self.allows(Actions::SET_MACROS) {
            for (place, names) in WANTED_MACROS {
                fields.extend_from_slice(&place.to_be_bytes());
                fields.extend_from_slice(names);
                fields.push(0);
            }
        }
        super::reply::write_frame(out, NEGOTIATE, &[&fields]);
    }
}

/// Versions under 2 have no negotiation of this form.
const VERSION_MIN: u32 = 2;
/// The last version there is.
const VERSION_MAX: u32 = 6;

/// The macros that are used, by the number libmilter gives their stage (`SMFIM_CONNECT`, `SMFIM_ENVFROM`, `SMFIM_EOM`).
const WANTED_MACROS: [(u32, &[u8]); 3] = [(0, b"{daemon_name} {client_resolve}"), (2, b"i {auth_authen}"), (5, b"i")];

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: Offer = Offer { version: 6, actions: Actions(0x1ff), steps: Steps(0x1f_ffff) };

    #[test]
    fn no_more_is_asked_for_than_is_used() {
        let agreement = Agreement::with(EVERYTHING, Wishes::default()).unwrap();
        let mut out = Vec::new();
        agreement.write(&mut out);
        let numbers: Vec<u32> = out[5..17].chunks(4).map(|four| u32::from_be_bytes(four.try_into().unwrap())).collect();
        assert_eq!(numbers, [6, 0x111, 0x17_f788]);
        assert!(out.ends_with(b"\0\0\0\x05i\0"));
        let with_all = Agreement::with(EVERYTHING, Wishes { quarantine: true, recipients: true }).unwrap();
        assert!(with_all.allows(Actions::QUARANTINE) && !agreement.allows(Actions::QUARANTINE));
        assert!(!with_all.has(Steps::NO_RECIPIENT) && agreement.has(Steps::NO_RECIPIENT));
        assert!(!agreement.has(Steps::SILENT_BODY), "a body chunk has to be answered to stop the next");
    }

    #[test]
    fn no_more_is_agreed_on_than_is_offered() {
        let old = Offer { version: 2, actions: Actions(0x1f), steps: Steps(0x7f) };
        let agreement = Agreement::with(old, Wishes { quarantine: true, recipients: false }).unwrap();
        let expected = Agreement { version: 2, actions: Actions(0x11), steps: Steps::NO_RECIPIENT };
        assert_eq!(agreement, expected);
        let newer = Offer { version: 7, ..EVERYTHING };
        assert_eq!(Agreement::with(newer, Wishes::default()).unwrap().version(), 6);
    }

    #[test]
    fn servers_that_can_not_change_headers_are_refused() {
        for (version, actions) in [(1, 0x1ff), (6, 0x1), (6, 0x10)] {
            let offer = Offer { version, actions: Actions(actions), ..EVERYTHING };
            let refused = Agreement::with(offer, Wishes::default());
            assert_eq!(refused, Err(ProtocolError::Unsuitable { version, actions }));
        }
    }
}

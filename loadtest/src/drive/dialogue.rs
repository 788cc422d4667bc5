//! What the dialogues with all kinds of targets have in common.

use std::ops::Range;

/// What is to be sent: first octets of one's own, then some that lie laid out.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) own: Vec<u8>,
    own_sent: usize,
    /// Of the message as it is laid out for this target.
    pub(crate) range: Range<usize>,
    /// The content of the message begins here.
    pub(crate) has_content: bool,
}

/// A field that a target adds to the header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Added {
    pub(crate) name: Vec<u8>,
    /// Folded with LF.
    pub(crate) value: Vec<u8>,
}

/// How it goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// With the next octets.
    Waits,
    /// Not at all: the target has said all it has to say.
    Done,
}

/// Why a message came to no end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Trouble {
    /// It could not be connected to.
    Connect(String),
    /// The connection broke.
    Broken(String),
    /// The target closed it.
    Closed,
    /// The target said something that it should not.
    Protocol(&'static str),
    /// The target said too much, or nothing for too long.
    Silent,
    /// A mail server refused with this.
    Refused(String),
}

impl Outgoing {
    /// The next octets, out of those that lie laid out where none of its own are left.
    pub(crate) fn next<'a>(&'a self, laid_out: &'a [u8]) -> &'a [u8] {
        match self.own.get(self.own_sent..) {
            Some(own) if !own.is_empty() => own,
            _ => laid_out.get(self.range.clone()).unwrap_or_default(),
        }
    }

    /// So many octets have gone.
    pub(crate) fn advance(&mut self, count: usize) {
        if self.own_sent < self.own.len() {
            self.own_sent += count;
            if self.own_sent >= self.own.len() {
                self.own.clear();
                self.own_sent = 0;
            }
        } else {
            self.range.start += count;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.range.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.own.clear();
        (self.own_sent, self.range, self.has_content) = (0, 0..0, false);
    }
}

impl Trouble {
    /// One line for people; few different ones.
    pub(crate) fn to_line(&self) -> String {
        match self {
            Self::Connect(why) => format!("no connection: {why}"),
            Self::Broken(why) => format!("the connection broke: {why}"),
            Self::Closed => "the target closed the connection".to_owned(),
            Self::Protocol(what) => format!("protocol: {what}"),
            Self::Silent => "no answer in time".to_owned(),
            Self::Refused(reply) => format!("refused: {reply}"),
        }
    }
}

//! Macros: what the mail server tells beside its commands. Only those that are used are kept, so a server that sends
//! hundreds costs nothing.

use std::mem;

use super::command::{self, Strings};

/// What the mail server is about to say when it hands over macros.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// A client connected.
    Connect,
    /// HELO or EHLO.
    Helo,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Recipient,
    /// DATA.
    Data,
    /// One header field.
    Header,
    /// The end of the header.
    EndOfHeader,
    /// A body chunk.
    Body,
    /// The end of the message.
    EndOfMessage,
    /// A command the server does not know.
    Unknown,
}

impl Stage {
    /// The stage of a command.
    pub(super) fn of_command(octet: u8) -> Option<Self> {
        Some(match octet {
            command::CONNECT => Self::Connect,
            command::HELO => Self::Helo,
            command::MAIL => Self::Mail,
            command::RECIPIENT => Self::Recipient,
            command::DATA => Self::Data,
            command::HEADER => Self::Header,
            command::END_OF_HEADER => Self::EndOfHeader,
            command::BODY => Self::Body,
            command::END_OF_MESSAGE => Self::EndOfMessage,
            command::UNKNOWN => Self::Unknown,
            _ => return None,
        })
    }

    /// The macros of this stage belong to the connection and not to one message.
    const fn is_of_connection(self) -> bool {
        matches!(self, Self::Connect | Self::Helo)
    }
}

/// A macro that is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fact {
    /// `{auth_authen}`: the name under which the client authenticated (RFC 4954).
    Authenticated,
    /// `{client_resolve}`: whether Sendmail could confirm the host name of the client.
    ClientResolve,
    /// `{daemon_name}`: which of the server's daemons took the connection.
    DaemonName,
    /// `i`: the queue id of the message.
    QueueId,
}

/// The macros that are used, with their last values.
#[derive(Clone, Debug, Default)]
pub struct Macros {
    of_connection: Values,
    of_message: Values,
    /// The message that they are of is still to begin.
    is_early: bool,
}

type Values = [Option<Box<str>>; Fact::ALL.len()];

impl Fact {
    const ALL: [Self; 4] = [Self::Authenticated, Self::ClientResolve, Self::DaemonName, Self::QueueId];

    /// The name without braces.
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Authenticated => b"auth_authen",
            Self::ClientResolve => b"client_resolve",
            Self::DaemonName => b"daemon_name",
            Self::QueueId => b"i",
        }
    }

    fn of(name: &[u8]) -> Option<Self> {
        let name = name.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).unwrap_or(name);
        Self::ALL.into_iter().find(|fact| fact.name() == name)
    }
}

impl Macros {
    /// Takes the macros of one stage; a later value takes the place of an earlier one.
    pub fn learn(&mut self, stage: Option<Stage>, strings: Strings<'_>) {
        if stage == Some(Stage::Mail) {
            // A message is to begin, whether or not the one before was said to be over.
            self.end_message();
            self.is_early = true;
        }
        let values = match stage {
            Some(stage) if stage.is_of_connection() => &mut self.of_connection,
            _ => &mut self.of_message,
        };
        for (name, value) in strings.pairs() {
            let Some(fact) = Fact::of(name) else { continue };
            if let Some(slot) = values.get_mut(fact as usize) {
                let kept = value.get(..VALUE_BYTES_MAX).unwrap_or(value);
                *slot = Some(String::from_utf8_lossy(kept).into());
            }
        }
    }

    /// The value of a macro; an empty one is none.
    #[must_use]
    pub fn value(&self, fact: Fact) -> Option<&str> {
        let said = [&self.of_message, &self.of_connection].into_iter();
        let value = said.filter_map(|values| values.get(fact as usize)?.as_deref()).next()?;
        (!value.is_empty()).then_some(value)
    }

    /// The message begins that macros may have been said of.
    pub fn begin_message(&mut self) {
        if !mem::take(&mut self.is_early) {
            self.end_message();
        }
    }

    /// Forgets what was said of one message.
    pub fn end_message(&mut self) {
        (self.of_message, self.is_early) = (Values::default(), false);
    }

    /// Forgets everything: another client comes.
    pub fn end_connection(&mut self) {
        *self = Self::default();
    }
}

/// Octets of a value that are kept.
const VALUE_BYTES_MAX: usize = 512;

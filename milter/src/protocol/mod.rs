//! The milter protocol, versions 2 and 6: octets to commands, replies to octets, and what the two sides agree on.
//!
//! Nothing here decides anything about mail. A peer that breaks the protocol gets a [`ProtocolError`], after which the
//! connection can not go on: the place where the next frame begins is no longer known for sure.
//!
//! Cost of a message: its header fields are read where they lie in the received octets, its body is handed on in the
//! pieces in which it came; only a frame that arrives in several pieces is put together in memory, a body never.

mod command;
mod frame;
mod macros;
mod negotiation;
mod reply;

pub use self::command::{Client, Command, Strings};
pub use self::frame::{FrameReader, Part};
pub use self::macros::{Fact, Macros, Stage};
pub use self::negotiation::{Actions, Agreement, Offer, Steps, Wishes};
pub use self::reply::{Reply, write_reply};

/// Octets of a body chunk (libmilter's `MILTER_CHUNK_SIZE`); larger ones have to be negotiated, which is not done here.
pub const BODY_CHUNK_BYTES_MAX: usize = 65_535;
/// Octets of any other frame: the largest header block that is read and its name. Postfix hands over header fields of
/// up to `header_size_limit`, 102,400 octets as it comes.
pub const FRAME_BYTES_MAX: usize = mailproof_proto::limits::HEADER_BLOCK_BYTES_MAX;
/// Octets of the text that tells what a peer is, who a client is, or what an address is: those of an SMTP line with the
/// extensions of RFC 6531 and a margin.
pub const NAME_BYTES_MAX: usize = 4096;

/// Octets of the header fields of a message among which forged ones are looked for; each of them may cost a reply. What stands
/// behind is left as it is: the message has `permerror` by then. Mail servers take less than that as a whole message unless
/// told otherwise.
pub const HEADER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A frame has its command at least.
    #[error("a frame without a command")]
    EmptyFrame,
    /// More octets than [`BODY_CHUNK_BYTES_MAX`] or [`FRAME_BYTES_MAX`].
    #[error("a frame of {length} octets for command {}", shown(*command))]
    FrameTooLong {
        /// What the frame says of itself, without its command.
        length: usize,
        /// The command.
        command: u8,
    },
    /// A command that no version has.
    #[error("unknown command {}", shown(*command))]
    UnknownCommand {
        /// The command.
        command: u8,
    },
    /// Fields of a command that can not be read.
    #[error("malformed command {}", shown(*command))]
    Malformed {
        /// The command.
        command: u8,
    },
    /// A command where it has no place.
    #[error("command {} out of order", shown(*command))]
    OutOfOrder {
        /// The command.
        command: u8,
    },
    /// A version under 2, or an offer that leaves out what is needed.
    #[error("version {version} with actions {actions:#x} is not enough")]
    Unsuitable {
        /// The version offered.
        version: u32,
        /// The actions offered.
        actions: u32,
    },
    /// A command while the reply to an earlier one is still to come.
    #[error("command {} while a reply is due", shown(*command))]
    Impatient {
        /// The command.
        command: u8,
    },
}

impl ProtocolError {
    /// A stable word for logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::EmptyFrame => "empty-frame",
            Self::FrameTooLong { .. } => "frame-too-long",
            Self::UnknownCommand { .. } => "unknown-command",
            Self::Malformed { .. } => "malformed-command",
            Self::OutOfOrder { .. } => "command-out-of-order",
            Self::Unsuitable { .. } => "unsuitable-version",
            Self::Impatient { .. } => "command-before-reply",
        }
    }
}

/// A command octet for people.
fn shown(command: u8) -> String {
    command.escape_ascii().to_string()
}

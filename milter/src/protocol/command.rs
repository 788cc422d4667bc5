//! Commands of the mail server, read from whole frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::macros::Stage;
use super::negotiation::Offer;
use super::{NAME_BYTES_MAX, ProtocolError};

/// One command. Body octets and the end of the message come as [`Part`](super::Part)s of their own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command<'a> {
    /// What the server can do (`SMFIC_OPTNEG`).
    Negotiate(Offer),
    /// Macros for the command that comes next, name and value in turn (`SMFIC_MACRO`); `None` for a stage nobody knows.
    Macros(Option<Stage>, Strings<'a>),
    /// A client connected (`SMFIC_CONNECT`).
    Connect(Client<'a>),
    /// HELO or EHLO with its argument (`SMFIC_HELO`).
    Helo(&'a [u8]),
    /// MAIL FROM, as written, angle brackets included (`SMFIC_MAIL`).
    Mail(&'a [u8]),
    /// RCPT TO, as written (`SMFIC_RCPT`).
    Recipient(&'a [u8]),
    /// DATA (`SMFIC_DATA`).
    Data,
    /// One header field, its folding as LF (`SMFIC_HEADER`).
    Header {
        /// The name.
        name: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// The header is complete (`SMFIC_EOH`).
    EndOfHeader,
    /// The message is given up, the connection stays (`SMFIC_ABORT`).
    Abort,
    /// An SMTP command that the server does not know (`SMFIC_UNKNOWN`).
    Unknown,
    /// The connection ends (`SMFIC_QUIT`).
    Quit,
    /// This client is gone, another one comes over the same connection (`SMFIC_QUIT_NC`).
    QuitNewConnection,
}

/// Who connected to the mail server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Client<'a> {
    /// The host name that the server found, or the address in brackets.
    pub host: &'a [u8],
    /// The address; `None` where mail comes over a local socket or from no known place.
    pub address: Option<IpAddr>,
    /// The port; 0 without an address.
    pub port: u16,
}

/// Strings that each end with NUL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Strings<'a>(&'a [u8]);

pub(super) const NEGOTIATE: u8 = b'O';
pub(super) const MACROS: u8 = b'D';
pub(super) const CONNECT: u8 = b'C';
pub(super) const HELO: u8 = b'H';
pub(super) const MAIL: u8 = b'M';
pub(super) const RECIPIENT: u8 = b'R';
pub(super) const DATA: u8 = b'T';
pub(super) const HEADER: u8 = b'L';
pub(super) const END_OF_HEADER: u8 = b'N';
pub(super) const BODY: u8 = b'B';
pub(super) const END_OF_MESSAGE: u8 = b'E';
pub(super) const ABORT: u8 = b'A';
pub(super) const UNKNOWN: u8 = b'U';
pub(super) const QUIT: u8 = b'Q';
pub(super) const QUIT_NEW_CONNECTION: u8 = b'K';

impl<'a> Command<'a> {
    /// Reads a command.
    ///
    /// # Errors
    /// [`ProtocolError`] when there is no such command, or its fields are not what it has to have.
    pub fn read(command: u8, fields: &'a [u8]) -> Result<Self, ProtocolError> {
        let malformed = ProtocolError::Malformed { command };
        let read = match command {
            NEGOTIATE => Offer::read(fields).map(Self::Negotiate),
            MACROS => fields.split_first().and_then(|(&stage, rest)| {
                let strings = Strings::read(rest)?;
                (strings.iter().count() % 2 == 0).then_some(Self::Macros(Stage::of_command(stage), strings))
            }),
            CONNECT => Client::read(fields).map(Self::Connect),
            HELO => Strings::first_of(fields).map(Self::Helo),
            MAIL => Strings::first_of(fields).map(Self::Mail),
            RECIPIENT => Strings::first_of(fields).map(Self::Recipient),
            HEADER => header(fields),
            DATA => Some(Self::Data),
            END_OF_HEADER => Some(Self::EndOfHeader),
            ABORT => Some(Self::Abort),
            UNKNOWN => Some(Self::Unknown),
            QUIT => Some(Self::Quit),
            QUIT_NEW_CONNECTION => Some(Self::QuitNewConnection),
            _ => return Err(ProtocolError::UnknownCommand { command }),
        };
        read.ok_or(malformed)
    }
}

impl<'a> Strings<'a> {
    /// Takes fields that consist of nothing but strings, each with its NUL.
    fn read(fields: &'a [u8]) -> Option<Self> {
        matches!(fields.last(), None | Some(0)).then_some(Self(fields))
    }

    /// The first string of fields that hold at least one, none longer than a name may be.
    fn first_of(fields: &'a [u8]) -> Option<&'a [u8]> {
        Self::read(fields)?.iter().next().filter(|first| first.len() <= NAME_BYTES_MAX)
    }

    /// The strings without their NUL.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        // The piece after the last NUL is no string.
        let count = self.0.iter().filter(|octet| **octet == 0).count();
        self.0.split(|octet| *octet == 0).take(count)
    }

    /// The strings in pairs.
    pub fn pairs(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut strings = self.iter();
        std::iter::from_fn(move || Some((strings.next()?, strings.next()?)))
    }
}

impl<'a> Client<'a> {
    /// Host name, NUL, family; then, unless the family is unknown, port and address with its NUL.
    fn read(fields: &'a [u8]) -> Option<Self> {
        let end = fields.iter().position(|octet| *octet == 0).filter(|end| *end <= NAME_BYTES_MAX)?;
        let (host, rest) = fields.split_at_checked(end)?;
        let (&family, rest) = rest.get(1..)?.split_first()?;
        if family == FAMILY_UNKNOWN {
            return Some(Self { host, address: None, port: 0 });
        }
        let (&[high, low], address) = rest.split_first_chunk::<2>()?;
        let text = Strings::first_of(address)?;
        let port = u16::from_be_bytes([high, low]);
        match family {
            FAMILY_UNIX => Some(Self { host, address: None, port: 0 }),
            FAMILY_IPV4 => {
                let address: Ipv4Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
                Some(Self { host, address: Some(address.into()), port })
            }
            FAMILY_IPV6 => {
                let text = std::str::from_utf8(text).ok()?;
                let text = text
                    .get(..IPV6_TAG.len())
                    .filter(|tag| tag.eq_ignore_ascii_case(IPV6_TAG))
                    .map_or(text, |_| text.get(IPV6_TAG.len()..).unwrap_or_default());
                let address: Ipv6Addr = text.parse().ok()?;
                Some(Self { host, address: Some(address.into()), port })
            }
            _ => None,
        }
    }
}

fn header(fields: &[u8]) -> Option<Command<'_>> {
    let end = fields.iter().position(|octet| *octet == 0).filter(|end| *end > 0)?;
    let (name, value) = fields.split_at_checked(end)?;
    // The value ends with the last octet of the frame; a NUL within it is part of it.
    let value = value.get(1..)?.strip_suffix(&[0])?;
    Some(Command::Header { name, value })
}

const FAMILY_UNKNOWN: u8 = b'U';
const FAMILY_UNIX: u8 = b'L';
const FAMILY_IPV4: u8 = b'4';
const FAMILY_IPV6: u8 = b'6';
/// RFC 5321 section 4.1.3; Sendmail and Postfix differ in whether they write it.
const IPV6_TAG: &str = "IPv6:";

#[cfg(test)]
mod tests {
    use super::*;

    fn address(fields: &[u8]) -> Result<Option<IpAddr>, ProtocolError> {
        Command::read(CONNECT, fields).map(|command| match command {
            Command::Connect(client) => client.address,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn clients_of_every_family_are_read() {
        let ipv6 = Some("2001:db8::1".parse().unwrap());
        assert_eq!(address(b"mx.example\x004\x00\x19192.0.2.1\0"), Ok(Some("192.0.2.1".parse().unwrap())));
        assert_eq!(address(b"mx.example\x006\x00\x19IPv6:2001:db8::1\0"), Ok(ipv6));
        assert_eq!(address(b"mx.example\x006\x00\x192001:db8::1\0"), Ok(ipv6));
        assert_eq!(address(b"x\x006\x00\x19::ffff:192.0.2.1\0"), Ok(Some("::ffff:192.0.2.1".parse().unwrap())));
        assert_eq!(address(b"localhost\x00L\0\0/run/socket\0"), Ok(None));
        assert_eq!(address(b"localhost\x00U"), Ok(None));
    }

    #[test]
    fn fields_that_are_cut_off_are_malformed() {
        let whole: &[u8] = b"mx.example\x004\x00\x19192.0.2.1\0";
        for end in 0..whole.len() {
            assert_eq!(address(&whole[..end]), Err(ProtocolError::Malformed { command: CONNECT }), "{end}");
        }
        for (command, fields) in [
            (CONNECT, &b"x\x004\x00\x19not an address\0"[..]),
            (CONNECT, b"x\x005\x00\x19192.0.2.1\0"),
            (HELO, b""),
            (HELO, b"no end"),
            (MAIL, b"<a@example.com>"),
            (RECIPIENT, b""),
            (HEADER, b"Subject"),
            (HEADER, b"Subject\0value"),
            (HEADER, b"\0value\0"),
            (HEADER, b"Subject\0"),
            (MACROS, b""),
            (MACROS, b"Cj\0"),
            (MACROS, b"Cj\0host"),
            (NEGOTIATE, b"\0\0\0\x06\0\0\0\x11\0\0\0"),
        ] {
            assert_eq!(Command::read(command, fields), Err(ProtocolError::Malformed { command }), "{fields:?}");
        }
        assert_eq!(Command::read(b'z', b""), Err(ProtocolError::UnknownCommand { command: b'z' }));
    }

    #[test]
    fn a_name_has_a_limit_on_both_sides() {
        let fields = |length| [vec![b'x'; length], vec![0]].concat();
        assert!(Command::read(HELO, &fields(NAME_BYTES_MAX)).is_ok());
        assert!(Command::read(HELO, &fields(NAME_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn strings_end_with_nul() {
        let of = |fields| match Command::read(MACROS, fields) {
            Ok(Command::Macros(stage, strings)) => (stage, strings.pairs().collect::<Vec<_>>()),
            other => panic!("{other:?}"),
        };
        let pairs: Vec<(&[u8], &[u8])> = vec![(b"j", b"mx.example"), (b"{x}", b"")];
        assert_eq!(of(b"Cj\0mx.example\0{x}\0\0"), (Some(Stage::Connect), pairs));
        assert_eq!(of(b"?"), (None, Vec::new()));
        let header = Command::Header { name: b"Subject", value: b" a\0b\n\tc" };
        assert_eq!(Command::read(HEADER, b"Subject\0 a\0b\n\tc\0"), Ok(header));
    }
}

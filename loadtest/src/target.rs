//! What is driven, and where it is: on this machine, and nowhere else.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where something listens.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// TCP on loopback.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// Why a text is no address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Load is for machines of one's own; other hosts are refused.
    #[error("{0} is not on this machine: only addresses of loopback and unix sockets are driven")]
    NotLoopback(SocketAddr),
    /// No form of an address.
    #[error("`{0}` is no address: `tcp:127.0.0.1:9790` or `unix:/run/mailproof/milter.sock`")]
    Form(String),
    /// The kernel takes no longer ones.
    #[error("`{}` is longer than a unix socket's path can be ({UNIX_PATH_BYTES_MAX} octets)", .0.display())]
    PathTooLong(PathBuf),
}

/// Octets of the path of a unix socket, without the NUL at its end.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// One of the things that a mail server does with a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Leg {
    /// Asks a policy service at RCPT.
    Policy(Address),
    /// Shows it to a milter.
    Milter(Address),
    /// All of it: a mail server takes it over SMTP.
    Smtp(Address),
}

/// What is driven.
#[derive(Clone, Debug)]
pub struct Target {
    /// For people.
    pub name: String,
    /// In order, as a mail server goes through them: what an earlier one adds to the header, later ones see.
    pub legs: Vec<Leg>,
    /// What it claims to find; only that is checked.
    pub claims: Claims,
    /// Connections of milters and mail servers.
    pub connections: Connections,
}

/// The results that are checked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Claims {
    /// SPF.
    pub spf: bool,
    /// DKIM.
    pub dkim: bool,
    /// DMARC.
    pub dmarc: bool,
    /// ARC.
    pub arc: bool,
}

/// How connections to milters and mail servers are used. Those to a policy service are kept, as Postfix keeps them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connections {
    /// One for each message.
    #[default]
    Each,
    /// They are kept for further messages.
    Kept,
}

impl Claims {
    /// Every result.
    pub const ALL: Self = Self { spf: true, dkim: true, dmarc: true, arc: true };
    /// None: nothing is checked.
    pub const NONE: Self = Self { spf: false, dkim: false, dmarc: false, arc: false };
}

impl FromStr for Claims {
    type Err = String;

    /// `spf,dkim,dmarc,arc`, any of them; `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut claims = Self::NONE;
        for word in text.split(',').filter(|word| *word != "none") {
            match word.trim() {
                "spf" => claims.spf = true,
                "dkim" => claims.dkim = true,
                "dmarc" => claims.dmarc = true,
                "arc" => claims.arc = true,
                other => return Err(format!("`{other}` is none of spf, dkim, dmarc, arc, none")),
            }
        }
        Ok(claims)
    }
}

impl Address {
    /// Of a TCP socket.
    ///
    /// # Errors
    /// [`AddressError::NotLoopback`] for other hosts.
    pub fn tcp(address: SocketAddr) -> Result<Self, AddressError> {
        let is_loopback = address.ip().to_canonical().is_loopback();
        if is_loopback { Ok(Self::Tcp(address)) } else { Err(AddressError::NotLoopback(address)) }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let form = || AddressError::Form(text.to_owned());
        match text.split_once(':').ok_or_else(form)? {
            ("unix", path) if path.starts_with('/') && path.len() <= UNIX_PATH_BYTES_MAX => Ok(Self::Unix(path.into())),
            ("unix", path) if path.starts_with('/') => Err(AddressError::PathTooLong(path.into())),
            ("tcp", address) => Self::tcp(address.parse().map_err(|_| form())?),
            _ => Self::tcp(text.parse().map_err(|_| form())?),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "tcp:{address}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(address) => write!(out, "policy {address}"),
            Self::Milter(address) => write!(out, "milter {address}"),
            Self::Smtp(address) => write!(out, "smtp {address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_hosts_are_refused() {
        for text in
            ["tcp:127.0.0.1:25", "127.9.9.9:25", "tcp:[::1]:25", "tcp:[::ffff:127.0.0.1]:25", "unix:/run/m.sock"]
        {
            assert!(text.parse::<Address>().is_ok(), "{text}");
        }
        for text in
            ["tcp:192.0.2.1:25", "8.8.8.8:53", "tcp:[2001:db8::1]:25", "tcp:0.0.0.0:25", "tcp:[::ffff:192.0.2.1]:25"]
        {
            assert!(matches!(text.parse::<Address>(), Err(AddressError::NotLoopback(_))), "{text}");
        }
        for text in ["", "localhost:25", "tcp:localhost:25", "unix:run", "tcp:127.0.0.1"] {
            assert!(matches!(text.parse::<Address>(), Err(AddressError::Form(_))), "{text}");
        }
        assert!(format!("unix:/{}", "p".repeat(106)).parse::<Address>().is_ok());
        assert!(format!("unix:/{}", "p".repeat(107)).parse::<Address>().is_err());
    }
}

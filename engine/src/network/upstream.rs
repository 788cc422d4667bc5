//! The servers that can be asked, and in which way.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::resolver::{DNS_PORT, ResolverError};

/// A recursive resolver. With a name it is asked by DNS over TLS (RFC 7858) and in no other way: its certificate has to
/// be of this name and come from an authority that is trusted (RFC 8310, the strict profile).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// Where it is.
    pub address: SocketAddr,
    /// The name, or the address, that its certificate is of.
    pub tls_name: Option<Box<str>>,
}

/// RFC 7858 section 3.1.
const TLS_PORT: u16 = 853;

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        Self { address, tls_name: None }
    }
}

/// `IP`, `IP:PORT` or `[IP]:PORT`, and `#NAME` after it for DNS over TLS.
impl FromStr for Upstream {
    type Err = ResolverError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ResolverError::BadServer { text: text.to_owned() };
        let (place, tls_name) = match text.split_once('#') {
            Some((_, "")) => return Err(bad()),
            Some((place, name)) => (place, Some(Box::from(name))),
            None => (text, None),
        };
        let port = if tls_name.is_some() { TLS_PORT } else { DNS_PORT };
        let bare = place.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(place);
        let address = place.parse().or_else(|_| bare.parse::<IpAddr>().map(|address| (address, port).into()));
        Ok(Self { address: address.map_err(|_| bad())?, tls_name })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        match &self.tls_name {
            Some(name) => write!(f, "#{name}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read() {
        for (text, address, tls_name) in [
            ("192.0.2.1", "192.0.2.1:53", None),
            ("192.0.2.1:5353", "192.0.2.1:5353", None),
            ("192.0.2.1#dns.example", "192.0.2.1:853", Some("dns.example")),
            ("192.0.2.1:8853#dns.example", "192.0.2.1:8853", Some("dns.example")),
            ("2001:db8::1#2001:db8::1", "[2001:db8::1]:853", Some("2001:db8::1")),
            ("[2001:db8::1]", "[2001:db8::1]:53", None),
            ("[2001:db8::1]:8853#dns.example", "[2001:db8::1]:8853", Some("dns.example")),
        ] {
            let upstream: Upstream = text.parse().unwrap();
            assert_eq!(
                (upstream.address, upstream.tls_name.as_deref()),
                (address.parse().unwrap(), tls_name),
                "{text}"
            );
            assert_eq!(upstream.to_string().parse::<Upstream>().unwrap(), upstream);
        }
        for text in ["", "#", "dns.example", "192.0.2.1#", "#dns.example", "192.0.2.1:#a"] {
            assert!(matches!(text.parse::<Upstream>(), Err(ResolverError::BadServer { .. })), "{text}");
        }
    }
}

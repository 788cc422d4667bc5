//! Addresses and networks as settings name them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use mailproof_proto::dns::Name;
use serde::Deserialize;

/// An address or a network in CIDR form.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

/// A host that is recognised by its address or by a domain that was checked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum HostPattern {
    /// By its address.
    Network(Network),
    /// By a domain; a dot in front takes in every name below it.
    Domain(Box<DomainPattern>),
}

/// A domain, or a domain with every name below it, written with a dot in front.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct DomainPattern {
    domain: Name,
    below: bool,
}

/// Why a text is no such pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Neither address nor network.
    #[error("`{0}` is no IP address and no network in CIDR form")]
    Network(String),
    /// No domain name.
    #[error("`{0}` is no domain name")]
    Domain(String),
}

impl Network {
    /// True when the address lies in the network; an IPv4-mapped address counts as IPv4.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl DomainPattern {
    /// True when the name is meant.
    #[must_use]
    pub fn matches(&self, name: &Name) -> bool {
        *name == self.domain || (self.below && name.is_at_or_below(&self.domain))
    }

    /// How exactly a name is described: the labels given, and a point more where nothing below is meant.
    #[must_use]
    pub fn precision(&self) -> usize {
        2 * self.domain.label_count() + usize::from(!self.below)
    }
}

impl FromStr for Network {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(|network| Self(network.trunc())).map_err(|_| PatternError::Network(text.to_owned()))
    }
}

impl FromStr for DomainPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (below, bare) = text.strip_prefix('.').map_or((false, text), |bare| (true, bare));
        let domain = Name::parse_domain(bare).map_err(|_| PatternError::Domain(text.to_owned()))?;
        Ok(Self { domain, below })
    }
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let is_address = text.contains(['/', ':']) || text.parse::<IpAddr>().is_ok();
        if is_address { text.parse().map(Self::Network) } else { text.parse().map(Box::new).map(Self::Domain) }
    }
}

impl TryFrom<String> for Network {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl TryFrom<String> for DomainPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl TryFrom<String> for HostPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let holds = |network: &str, address: &str| {
            let network: Network = network.parse().unwrap();
            network.contains(address.parse().unwrap())
        };
        assert!(holds("192.0.2.0/24", "192.0.2.255") && !holds("192.0.2.0/24", "192.0.3.0"));
        assert!(holds("192.0.2.7/24", "192.0.2.1"), "host bits are left out");
        assert!(holds("192.0.2.1", "::ffff:192.0.2.1") && holds("2001:db8::/32", "2001:db8:1::"));
        assert!("192.0.2.0/33".parse::<Network>().is_err() && "mx".parse::<Network>().is_err());
    }

    #[test]
    fn a_dot_in_front_takes_in_what_is_below() {
        let matches = |pattern: &str, name: &str| {
            let pattern: DomainPattern = pattern.parse().unwrap();
            pattern.matches(&Name::parse_domain(name).unwrap())
        };
        assert!(matches("example.com", "EXAMPLE.com") && !matches("example.com", "a.example.com"));
        assert!(matches(".example.com", "example.com") && matches(".example.com", "a.example.com"));
        assert!(!matches(".example.com", "anexample.com"));
        assert!("".parse::<DomainPattern>().is_err() && "a b".parse::<DomainPattern>().is_err());
        assert!(matches!("2001:db8::1".parse(), Ok(HostPattern::Network(_))));
        assert!(matches!("lists.example".parse(), Ok(HostPattern::Domain(_))));
    }
}

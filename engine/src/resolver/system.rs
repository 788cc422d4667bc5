//! The DNS servers of the system.

use std::fs;
use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, SocketAddrV6};
use std::path::Path;

use resolv_conf::{Config, ScopedIp};

use super::{DNS_PORT, ResolverError};

/// The servers that a file in the form of `/etc/resolv.conf` names, and whether their AD bit is to be trusted. Lines
/// that can not be read are passed over, as the C library does.
pub(super) fn read(path: &Path) -> Result<(Vec<SocketAddr>, bool), ResolverError> {
    let failed = |error| ResolverError::Configuration { path: path.to_owned(), error };
    let text = fs::read(path).map_err(failed)?;
    if text.len() > FILE_BYTES_MAX {
        return Err(failed(Error::from(ErrorKind::FileTooLarge)));
    }
    let (config, _) = Config::parse_with_errors(&text);
    let servers = config.nameservers.iter().filter_map(address).collect();
    Ok((servers, config.trust_ad))
}

/// `None` for a link-local address on an interface that is not there.
fn address(server: &ScopedIp) -> Option<SocketAddr> {
    Some(match server {
        ScopedIp::V4(address) => (*address, DNS_PORT).into(),
        ScopedIp::V6(address, None) => (*address, DNS_PORT).into(),
        ScopedIp::V6(address, Some(scope)) => SocketAddrV6::new(*address, DNS_PORT, 0, interface_index(scope)?).into(),
    })
}

/// The number of a network interface, from its number or its name.
fn interface_index(scope: &str) -> Option<u32> {
    let by_name = || {
        let is_name = !scope.contains('/') && scope != "." && scope != "..";
        let text = fs::read_to_string(format!("/sys/class/net/{scope}/ifindex")).ok().filter(|_| is_name)?;
        text.trim().parse().ok()
    };
    scope.parse().ok().or_else(by_name)
}

/// Octets of the configuration.
const FILE_BYTES_MAX: usize = 1024 * 1024;

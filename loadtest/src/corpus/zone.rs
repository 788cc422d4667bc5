//! The DNS of a stream, in the forms that servers read.

use std::fmt::Write as _;
use std::net::SocketAddr;

use mailproof::zone::{Zone, ZoneError};

use super::Maker;
use super::domain::{FORWARDER_COUNT, PROVIDER_COUNT};
use super::letter::{OTHERS_SELECTOR, REVOKED_SELECTOR, Stranger};

/// Names with their records. All are below `example`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Records(Vec<(String, Data)>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Data {
    Address(String),
    Exchange(String),
    Text(String),
}

/// Octets of one character-string (RFC 1035 section 3.3).
const STRING_BYTES_MAX: usize = 255;
/// Seconds that every record may be kept: longer than any run.
const TTL_SECONDS: u32 = 86_400;

impl Records {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The YAML form of zone files.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut text =
            "# The domains of the stream beside this file. A name that is not listed does not exist.\n".to_owned();
        let mut last = "";
        for (name, data) in &self.0 {
            // A name has its records in a row. Writing to a String can not fail.
            if name != last {
                let _ = writeln!(text, "{name}:");
                last = name;
            }
            let _ = match data {
                Data::Address(address) => writeln!(text, "- A: {address}"),
                Data::Exchange(host) => writeln!(text, "- MX: [10, {host}]"),
                Data::Text(octets) => writeln!(text, "- TXT: \"{octets}\""),
            };
        }
        text
    }

    /// An RFC 1035 master file of the zone `example`.
    #[must_use]
    pub fn to_master_file(&self) -> String {
        let mut text = format!(
            "$ORIGIN example.\n$TTL {TTL_SECONDS}\n@ SOA ns.example. hostmaster.example. 1 86400 7200 3600000 {TTL_SECONDS}\n\
             @ NS ns.example.\nns.example. A 127.0.0.1\n"
        );
        for (name, data) in &self.0 {
            let _ = match data {
                Data::Address(address) => writeln!(text, "{name}. A {address}"),
                Data::Exchange(host) => writeln!(text, "{name}. MX 10 {host}."),
                Data::Text(octets) => writeln!(text, "{name}. TXT {}", quoted(octets)),
            };
        }
        text
    }

    /// Lines of unbound's configuration, for the part `server:`; the resolver then needs no server behind it.
    #[must_use]
    pub fn to_local_data(&self) -> String {
        let mut text = "server:\n  local-zone: \"example.\" static\n".to_owned();
        for (name, data) in &self.0 {
            let _ = match data {
                Data::Address(address) => writeln!(text, "  local-data: '{name}. {TTL_SECONDS} A {address}'"),
                Data::Exchange(host) => writeln!(text, "  local-data: '{name}. {TTL_SECONDS} MX 10 {host}.'"),
                Data::Text(octets) => writeln!(text, "  local-data: '{name}. {TTL_SECONDS} TXT {}'", quoted(octets)),
            };
        }
        text
    }

    /// Lines of unbound's configuration that send questions to a server with the master file.
    #[must_use]
    pub fn stub(server: SocketAddr) -> String {
        format!(
            "  local-zone: \"example.\" nodefault\n  domain-insecure: \"example.\"\n  module-config: \"iterator\"\n\
             \x20 cache-max-ttl: {TTL_SECONDS}\n  cache-max-negative-ttl: {TTL_SECONDS}\n\
             \x20 local-zone: \"in-addr.arpa.\" static\n  local-zone: \"ip6.arpa.\" static\n\
             stub-zone:\n  name: \"example.\"\n  stub-addr: {}@{}\n  stub-no-cache: no\n",
            server.ip(),
            server.port()
        )
    }

    /// The zone that answers from these records.
    ///
    /// # Errors
    /// None but where a domain was made that is no name.
    pub fn to_zone(&self) -> Result<Zone, ZoneError> {
        Zone::from_yaml(&self.to_yaml())
    }

    fn add(&mut self, name: String, data: Data) {
        self.0.push((name, data));
    }

    fn text(&mut self, name: String, text: String) {
        self.add(name, Data::Text(text));
    }
}

/// As character-strings in quotes; the texts have neither quotes nor backslashes.
fn quoted(text: &str) -> String {
    let parts = text.as_bytes().chunks(STRING_BYTES_MAX).map(|part| format!("\"{}\"", String::from_utf8_lossy(part)));
    parts.collect::<Vec<_>>().join(" ")
}

pub(super) fn records(maker: &Maker) -> Records {
    let mut records = Records::default();
    for provider in 0..PROVIDER_COUNT {
        let name = format!("provider-{provider}.example");
        records.text(format!("_spf.{name}"), format!("v=spf1 include:_nb1.{name} include:_nb2.{name} -all"));
        for block in 0..2 {
            let text = format!("v=spf1 ip4:198.18.{}.0/24 -all", provider * 2 + block);
            records.text(format!("_nb{}.{name}", block + 1), text);
        }
        records.text(format!("out.{name}"), format!("v=spf1 ip4:198.18.{}.0/23 -all", provider * 2));
    }
    for number in 0..FORWARDER_COUNT {
        let stranger = Stranger::new(number);
        let (name, address) = (&stranger.name, &stranger.address);
        records.text(name.clone(), format!("v=spf1 ip4:{address} -all"));
        records.text(stranger.host(), format!("v=spf1 ip4:{address} -all"));
        records.text(format!("{OTHERS_SELECTOR}._domainkey.{name}"), maker.keys.record(stranger.key));
        records.text(format!("_dmarc.{name}"), "v=DMARC1; p=none".to_owned());
    }
    for number in 0..maker.options().domain_count {
        let domain = maker.domain(number);
        let (name, address) = (&domain.name, domain.address());
        records.text(name.clone(), domain.spf());
        records.add(name.clone(), Data::Address(address.clone()));
        records.add(name.clone(), Data::Exchange(format!("mx.{name}")));
        records.add(format!("mx.{name}"), Data::Address(address.clone()));
        records.text(format!("mx.{name}"), format!("v=spf1 ip4:{address} -all"));
        records.add(format!("mail.{name}"), Data::Address(address));
        for (selector, key) in &domain.signers {
            records.text(format!("{selector}._domainkey.{name}"), maker.keys.record(*key));
        }
        records.text(format!("{REVOKED_SELECTOR}._domainkey.{name}"), "v=DKIM1; k=rsa; p=".to_owned());
        if let Some(policy) = domain.policy {
            records.text(format!("_dmarc.{name}"), format!("v=DMARC1; p={policy}; rua=mailto:dmarc@{name}"));
        }
    }
    records
}

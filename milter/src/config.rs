//! The configuration file: TOML, every key known, every value checked where it stands.
//!
//! Reading is all or nothing: what comes out can be used as it is. A fault names the file, the line and the key.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use mailproof::network::{Choice, NetworkOptions};
use mailproof::resolver::ResolverError;
use mailproof_proto::authres::AuthservId;
use mailproof_proto::dmarc::Discovery;
use mailproof_proto::dns::Name;
use mailproof_proto::spf::SpfOptions;
use mailproof_proto::verdict::RejectPolicy;
use mailproof_proto::verification::Options;
use nix::unistd::{Group, User};
use serde::Deserialize;
use toml::de::DeTable;

use crate::log::Format;
use crate::network::{HostPattern, Network};
use crate::policy::{OnError, Policy, RejectHandling};
use crate::signing::{Signer, SigningError, SigningSettings};

/// Everything an operator can choose.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// The name under which results are written (RFC 8601 section 2.5); the name of the host when empty.
    pub authserv_id: AuthservName,
    /// Other names under which this administration writes results; fields that claim them are removed too.
    pub other_authserv_ids: Vec<AuthservName>,
    /// Where mail servers connect.
    pub listen: Vec<Endpoint>,
    /// Where Postfix connects with `check_policy_service`.
    pub policy_listen: Vec<Endpoint>,
    /// Where `/metrics`, `/-/healthy` and `/-/ready` are.
    pub status_listen: Vec<Endpoint>,
    /// Permission bits of unix sockets.
    pub socket_mode: FileMode,
    /// Owner of unix sockets; the account of the process when empty.
    pub socket_owner: String,
    /// Group of unix sockets; that of the process when empty.
    pub socket_group: String,
    /// Threads that work; one a processor when 0.
    pub threads: u16,
    /// How the threads wait: by io_uring or by epoll.
    pub io_backend: BackendWord,
    /// Connections of one socket open at a time; more wait.
    pub connections_max: u32,
    /// Seconds after which a connection on which nothing happens is closed.
    pub idle_seconds: u32,
    /// Seconds that connections have to end when the process is told to.
    pub drain_seconds: u32,
    /// Give up rights that are not needed, where the kernel can do that: Landlock and seccomp.
    pub sandbox: bool,
    /// Resolvers; those of the system when none is named.
    pub resolvers: Vec<ResolverAddress>,
    /// How messages are judged.
    pub verify: VerifySettings,
    /// Which messages are not judged.
    pub skip: SkipSettings,
    /// Fields that are written.
    pub headers: HeaderSettings,
    /// What is done.
    pub policy: Policy,
    /// Which messages are signed.
    pub signing: SigningSettings,
    /// The log.
    pub log: LogSettings,
    /// The event stream.
    pub events: EventSettings,
}

/// Choices that the standards leave.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct VerifySettings {
    /// How the Organizational Domain is found.
    pub discovery: DiscoveryWord,
    /// From with several domains: judge each and keep the strictest failing one (RFC 9989 section 11.5).
    pub strictest_of_several: bool,
    /// A signature whose `l=` leaves octets uncovered may pass.
    pub honour_length: bool,
    /// Void lookups of one SPF evaluation (RFC 7208 section 4.6.4).
    pub spf_void_lookups_max: u8,
    /// The share of messages that the crate mail-auth judges too, to be compared.
    pub cross_check_sample: Share,
}

/// How the Organizational Domain is found.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum DiscoveryWord {
    /// RFC 9989 section 4.10.
    #[default]
    TreeWalk,
    /// RFC 7489 section 3.2.
    PublicSuffixList,
}

/// Messages that are not verified.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SkipSettings {
    /// Those of clients that authenticated (RFC 4954).
    pub authenticated: bool,
    /// Those that come over a local socket.
    pub local: bool,
    /// Those from our own networks.
    pub networks: Vec<Network>,
    /// Those that come to these daemons of the mail server (`{daemon_name}`).
    pub daemons: Vec<String>,
    /// Those of hosts that are not checked, by address or by the name that the mail server confirmed.
    pub hosts: Vec<HostPattern>,
    /// Hosts whose Authentication-Results under our name stay: a content filter that hands mail back.
    pub keep_results_from: Vec<Network>,
}

/// Fields that are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct HeaderSettings {
    /// Received-SPF (RFC 7208 section 9.1).
    pub received_spf: bool,
    /// X-Mailproof-Explain, with the reasons.
    pub explain: bool,
}

/// The log.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LogSettings {
    /// The form of a line.
    pub format: Format,
}

/// The event stream: one JSON object a message.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct EventSettings {
    /// Where events go.
    pub to: EventTarget,
    /// What becomes of local parts of addresses.
    pub local_parts: LocalParts,
    /// Octets of a file before another begins.
    pub file_bytes_max: u64,
    /// Older files that are kept.
    pub files_max: u32,
}

/// Where events go.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
#[non_exhaustive]
pub enum EventTarget {
    /// There are none.
    #[default]
    Nowhere,
    /// `stdout`
    Stdout,
    /// `file:/PATH`
    File(PathBuf),
    /// `unix:/PATH`, a stream socket at which somebody reads.
    Unix(PathBuf),
}

/// What becomes of local parts of addresses in events.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum LocalParts {
    /// A keyed hash: the same for the same address until the daemon ends.
    #[default]
    Hash,
    /// As they are.
    Plain,
    /// They are left out.
    None,
}

/// How threads wait for sockets.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum BackendWord {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring; the daemon does not start where it is refused.
    Uring,
    /// epoll.
    Epoll,
}

/// An authserv-id, checked; or none.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct AuthservName(Option<AuthservId>);

/// A socket to listen on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
#[non_exhaustive]
pub enum Endpoint {
    /// `tcp:ADDRESS:PORT`
    Tcp(SocketAddr),
    /// `unix:/PATH`
    Unix(PathBuf),
    /// `systemd:NAME`, a socket handed over under this name (`FileDescriptorName=`).
    Systemd(String),
}

/// Permission bits, written as `"0660"`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct FileMode(pub u32);

/// A share of all messages in millionths, written as a number from 0 to 1.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "f64")]
pub struct Share(pub u32);

/// The address of a resolver; port 53 unless another is given.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct ResolverAddress(pub SocketAddr);

/// Why a configuration can not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can not be read.
    #[error("{}: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is no TOML, or a key or value in it is not known.
    #[error("{}:{line}: {key}{}{what}", file.display(), if key.is_empty() { "" } else { ": " })]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key with its tables, as `policy.rules.spf-fail`.
        key: String,
        /// What is wrong.
        what: String,
    },
}

impl Config {
    /// Reads a file, and everything it names: the configuration and what signs with it.
    ///
    /// # Errors
    /// [`ConfigError`] for the first fault.
    pub fn load(file: &Path) -> Result<(Self, Signer), ConfigError> {
        let text =
            fs::read_to_string(file).map_err(|error| ConfigError::Unreadable { file: file.to_owned(), error })?;
        let config = Self::parse(&text, file)?;
        // What a value names has to be there; where it stands is known, so it is said.
        let fault = |key: &str, what: String| {
            let at = DeTable::parse(&text).ok().and_then(|table| position(table.get_ref(), key));
            ConfigError::Invalid {
                file: file.to_owned(),
                line: line_of(&text, at.unwrap_or_default()),
                key: key.to_owned(),
                what,
            }
        };
        config.owner_and_group().map_err(|(key, what)| fault(key, what))?;
        let signer = Signer::load(&config.signing);
        let of_signing =
            |error: SigningError| fault(&format!("signing.{}", error.key(&config.signing)), error.to_string());
        let signer = signer.map_err(of_signing)?;
        Ok((config, signer))
    }

    /// The numbers of the owner and the group of unix sockets, where they are set.
    ///
    /// # Errors
    /// The key of the one that is not there, and what is wrong.
    pub(crate) fn owner_and_group(&self) -> Result<Owners, (&'static str, String)> {
        let (owner, group) = (self.socket_owner.as_str(), self.socket_group.as_str());
        let no_owner = || ("socket-owner", format!("there is no account `{owner}`"));
        let no_group = || ("socket-group", format!("there is no group `{group}`"));
        let user =
            (!owner.is_empty()).then(|| User::from_name(owner).ok().flatten().ok_or_else(no_owner)).transpose()?;
        let of =
            (!group.is_empty()).then(|| Group::from_name(group).ok().flatten().ok_or_else(no_group)).transpose()?;
        Ok((user.map(|user| user.uid.as_raw()), of.map(|group| group.gid.as_raw())))
    }

    /// Reads the text of a file; `file` is what faults are said of.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for the first fault.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let invalid = |key: String, error: &toml::de::Error| ConfigError::Invalid {
            file: file.to_owned(),
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            key,
            what: error.message().lines().collect::<Vec<_>>().join(" "),
        };
        let deserializer = toml::Deserializer::parse(text).map_err(|error| invalid(String::new(), &error))?;
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let path = error.path().to_string();
            invalid(if path == "." { String::new() } else { path }, error.inner())
        })
    }

    /// The options of the engine, under `host_name` when no other name is set.
    #[must_use]
    pub fn options(&self, host_name: &str) -> Options {
        let names = self.authserv_ids(host_name);
        let mut options = Options {
            authserv_id: names.first().map_or("localhost", AuthservId::as_str).to_owned(),
            ..Options::default()
        };
        options.spf = SpfOptions { void_lookups_max: self.verify.spf_void_lookups_max, ..SpfOptions::default() };
        options.dkim.honour_length = self.verify.honour_length;
        options.dmarc.strictest_of_several = self.verify.strictest_of_several;
        options.dmarc.discovery = match self.verify.discovery {
            DiscoveryWord::TreeWalk => Discovery::TreeWalk,
            DiscoveryWord::PublicSuffixList => Discovery::PublicSuffixList,
        };
        // The verdict says what DMARC alone would come to; what is done also depends on the rest of the message.
        let rules = self.policy.rules;
        if rules.dmarc_reject == RejectHandling::Reject {
            options.policy.reject = RejectPolicy::Literal;
        }
        options.policy.defer_on_temperror = rules.dmarc_temperror == OnError::Defer;
        options
    }

    /// Every name that is ours in Authentication-Results, first the one to write: `host_name` when no other is set, and
    /// `localhost` when that is none.
    #[must_use]
    pub fn authserv_ids(&self, host_name: &str) -> Vec<AuthservId> {
        let of_host = || AuthservId::new(host_name).or_else(|_| AuthservId::new("localhost")).ok();
        let own = self.authserv_id.0.clone().or_else(of_host);
        own.into_iter().chain(self.other_authserv_ids.iter().filter_map(|name| name.0.clone())).collect()
    }

    /// How names are asked for, and with how many threads.
    ///
    /// # Errors
    /// [`ResolverError`] when no resolver is set and the system names none.
    pub fn network(&self) -> Result<NetworkOptions, ResolverError> {
        let mut options = match self.resolvers.is_empty() {
            true => NetworkOptions::from_system()?,
            false => NetworkOptions::new(self.resolvers.iter().map(|it| it.0).collect()),
        };
        options.threads = self.threads.into();
        options.backend = match self.io_backend {
            BackendWord::Auto => Choice::Auto,
            BackendWord::Uring => Choice::Uring,
            BackendWord::Epoll => Choice::Epoll,
        };
        Ok(options)
    }

    /// How long nothing may happen on a connection.
    #[must_use]
    pub fn idle_time(&self) -> Duration {
        Duration::from_secs(self.idle_seconds.into())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            authserv_id: AuthservName::default(),
            other_authserv_ids: Vec::new(),
            listen: vec![Endpoint::Unix(PathBuf::from("/run/mailproof/milter.sock"))],
            policy_listen: Vec::new(),
            status_listen: Vec::new(),
            socket_mode: FileMode(0o660),
            socket_owner: String::new(),
            socket_group: String::new(),
            threads: 0,
            io_backend: BackendWord::Auto,
            connections_max: 10_000,
            idle_seconds: 7200,
            drain_seconds: 30,
            sandbox: true,
            resolvers: Vec::new(),
            verify: VerifySettings::default(),
            skip: SkipSettings::default(),
            headers: HeaderSettings::default(),
            policy: Policy::default(),
            signing: SigningSettings::default(),
            log: LogSettings::default(),
            events: EventSettings::default(),
        }
    }
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            to: EventTarget::Nowhere,
            local_parts: LocalParts::Hash,
            file_bytes_max: 100 * 1024 * 1024,
            files_max: 10,
        }
    }
}

impl TryFrom<String> for EventTarget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            None if text.is_empty() => Ok(Self::Nowhere),
            None if text == "stdout" => Ok(Self::Stdout),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(PathBuf::from(path))),
            Some(("unix", path)) if path.starts_with('/') && path.len() <= SOCKET_PATH_BYTES_MAX => {
                Ok(Self::Unix(PathBuf::from(path)))
            }
            _ => Err(format!("`{text}`: write `file:/PATH`, `unix:/PATH`, `stdout`, or nothing")),
        }
    }
}

impl Default for VerifySettings {
    fn default() -> Self {
        Self {
            discovery: DiscoveryWord::TreeWalk,
            strictest_of_several: true,
            honour_length: false,
            spf_void_lookups_max: mailproof_proto::limits::SPF_VOID_LOOKUPS_MAX,
            cross_check_sample: Share(0),
        }
    }
}

impl SkipSettings {
    /// True for a host that is not checked, known by its address or by its confirmed name.
    #[must_use]
    pub fn lists(&self, address: IpAddr, name: Option<&Name>) -> bool {
        self.hosts.iter().any(|pattern| match pattern {
            HostPattern::Network(network) => network.contains(address),
            HostPattern::Domain(pattern) => name.is_some_and(|name| pattern.matches(name)),
        })
    }
}

impl Default for SkipSettings {
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"].iter().filter_map(|text| text.parse().ok()).collect();
        Self {
            authenticated: true,
            local: true,
            networks: loopback,
            daemons: Vec::new(),
            hosts: Vec::new(),
            keep_results_from: Vec::new(),
        }
    }
}

impl TryFrom<String> for AuthservName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        AuthservId::new(&text).map(|id| Self(Some(id))).map_err(|error| error.to_string())
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: write `unix:/PATH`, `tcp:ADDRESS:PORT` or `systemd:NAME`");
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') && path.len() <= SOCKET_PATH_BYTES_MAX => {
                Ok(Self::Unix(PathBuf::from(path)))
            }
            Some(("tcp", address)) => address.parse().map(Self::Tcp).map_err(|_| wrong()),
            Some(("systemd", name)) if !name.is_empty() => Ok(Self::Systemd(name.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for FileMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.map(Self).ok_or_else(|| format!("`{text}` is no mode; write octal digits, as \"0660\""))
    }
}

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        match (0.0..=1.0).contains(&share) {
            true => Ok(Self((share * 1e6).round() as u32)),
            false => Err(format!("`{share}` is no share; write a number from 0.0 to 1.0")),
        }
    }
}

impl TryFrom<String> for ResolverAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let with_port = text.parse::<SocketAddr>().ok();
        let address = with_port.or_else(|| text.parse().ok().map(|address| SocketAddr::new(address, DNS_PORT)));
        address.map(Self).ok_or_else(|| format!("`{text}` is no IP address, with or without a port"))
    }
}

/// The line in which an octet stands, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|octet| *octet == b'\n').count()
}

/// The numbers of an owner and of a group, where they are set.
pub(crate) type Owners = (Option<u32>, Option<u32>);

/// Where the value of a key begins, written as `signing.key[0].file`; the nearest that there is above it otherwise.
fn position(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let (mut table, mut at) = (table, None);
    for part in key.split('.') {
        let (name, index) = part.split_once('[').map_or((part, None), |(name, index)| (name, Some(index)));
        let Some(mut value) = table.get(name) else { break };
        if let Some(index) = index.and_then(|index| index.trim_end_matches(']').parse::<usize>().ok()) {
            let Some(element) = value.get_ref().get(index) else { break };
            value = element;
        }
        at = Some(value.span().start);
        let Some(inner) = value.get_ref().as_table() else { break };
        table = inner;
    }
    at
}

/// RFC 1035 section 4.2.
const DNS_PORT: u16 = 53;
/// What `sockaddr_un` has room for, the final NUL left out.
const SOCKET_PATH_BYTES_MAX: usize = 107;

//! The second opinion: the same message through the crate mail-auth.
//!
//! [`SecondOpinion`] hands mail-auth one message, its envelope and the DNS answers of the caller, and says in our words
//! what it finds. Nothing is asked of the network: its resolver has no servers, and every look-up ends in a cache that
//! asks the caller. It reads the system's clock for `x=`, follows no `l=`, and knows neither void-look-up limits nor more
//! than one SPF record: a difference is a reason to look, not a proof.
//!
//! ```
//! use std::net::Ipv4Addr;
//!
//! use mailproof::cross_check::{Received, SecondOpinion};
//! use mailproof::zone::Zone;
//! use mailproof_proto::spf::SpfResult;
//!
//! let zone = Zone::from_yaml("example.org: [{TXT: v=spf1 ip4:192.0.2.0/24 -all}]").unwrap();
//! let received = Received {
//!     message: b"From: a@example.org\r\n\r\nHi\r\n",
//!     ip: Some(Ipv4Addr::new(192, 0, 2, 7).into()),
//!     helo: "mx.example.org",
//!     mail_from: "a@example.org",
//!     receiver: "mx.example.net",
//! };
//! let opinion = SecondOpinion::new().unwrap().verify(&received, |question| Some(zone.lookup(question))).unwrap();
//! assert_eq!(opinion.spf, Some(SpfResult::Pass));
//! ```

use std::borrow::Borrow;
use std::cell::RefCell;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::resolver::ToReverseName;
use mail_auth::common::verify::DomainKey;
use mail_auth::dkim::{Atps, DkimError, DomainKeyReport};
use mail_auth::dmarc::Dmarc;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::hickory_resolver::Hosts;
use mail_auth::hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use mail_auth::hickory_resolver::lookup::Lookup;
use mail_auth::hickory_resolver::proto::op::{Query, ResponseCode};
use mail_auth::hickory_resolver::proto::rr;
use mail_auth::spf::Spf;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{
    AuthenticatedMessage, DnsError, DnssecStatus, Error, MX, MessageAuthenticator, Parameters, RecordSet as Set,
    ResolverCache, SpfOutput, Txt,
};

use mailproof_proto::arc::ArcResult;
use mailproof_proto::dkim::DkimResult;
use mailproof_proto::dmarc::{Disposition, DmarcResult};
use mailproof_proto::dns::{Answer, Mx, Name, Outcome, Question, RecordSet, RecordType};
use mailproof_proto::spf::SpfResult;

/// mail-auth, set up without a network. Make it once; it may be used from any thread.
#[derive(Clone)]
pub struct SecondOpinion {
    authenticator: MessageAuthenticator,
}

/// A message and how it came.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Header block, empty line and body, with CRLF line ends.
    pub message: &'a [u8],
    /// Address of the client; without it there is no SPF.
    pub ip: Option<IpAddr>,
    /// Argument of HELO or EHLO.
    pub helo: &'a str,
    /// Argument of MAIL FROM without angle brackets; empty for the null reverse-path.
    pub mail_from: &'a str,
    /// Name of the receiving host.
    pub receiver: &'a str,
}

/// What mail-auth makes of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Opinion {
    /// SPF of MAIL FROM, or of HELO where that is null; `None` without a client address.
    pub spf: Option<SpfResult>,
    /// The signatures: those it can not read first, then the others from top to bottom.
    pub dkim: Vec<SignatureOpinion>,
    /// ARC.
    pub arc: ArcResult,
    /// DMARC.
    pub dmarc: DmarcResult,
    /// The policy of the record that applies, for this author; `None` where there is no record.
    pub policy: Option<Disposition>,
    /// Questions the caller had no answer to; each counted as failed.
    pub unanswered: Vec<Question>,
}

/// What mail-auth makes of one signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignatureOpinion {
    /// The result.
    pub result: DkimResult,
    /// `d=`; `None` when the signature could not be read.
    pub domain: Option<String>,
    /// `s=`; `None` when the signature could not be read.
    pub selector: Option<String>,
    /// Its own words for a result other than pass.
    pub reason: Option<String>,
}

/// Why there is no opinion.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CrossCheckError {
    /// mail-auth could not be set up.
    #[error("mail-auth can not be set up: {0}")]
    SetUp(String),
    /// It finds no header field.
    #[error("mail-auth finds no header field in the message")]
    NoHeader,
    /// It panicked over the message.
    #[error("mail-auth panicked")]
    Panicked,
    /// It waited for something although all answers are at hand.
    #[error("mail-auth waits for an answer that it was given")]
    Waited,
}

impl SecondOpinion {
    /// Sets mail-auth up.
    ///
    /// # Errors
    /// [`CrossCheckError::SetUp`] where its resolver can not be made, for want of TLS roots say.
    pub fn new() -> Result<Self, CrossCheckError> {
        let mut options = ResolverOpts::default();
        options.use_hosts_file = ResolveHosts::Never;
        options.attempts = 0;
        options.cache_size = 0;
        let without_servers = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        let authenticator = MessageAuthenticator::new(without_servers, options)
            .map_err(|error| CrossCheckError::SetUp(error.to_string()))?;
        Ok(Self { authenticator })
    }

    /// Judges one message; `answers` says what the DNS has, or `None` where it does not know.
    ///
    /// # Errors
    /// [`CrossCheckError`] when mail-auth has no opinion.
    pub fn verify(
        &self,
        received: &Received<'_>,
        answers: impl Fn(&Question) -> Option<Answer>,
    ) -> Result<Opinion, CrossCheckError> {
        // Nothing of ours is changed inside but the notes, which are dropped with a panic.
        catch_unwind(AssertUnwindSafe(|| self.judge(received, &answers))).unwrap_or(Err(CrossCheckError::Panicked))
    }

    fn judge(
        &self,
        received: &Received<'_>,
        answers: &dyn Fn(&Question) -> Option<Answer>,
    ) -> Result<Opinion, CrossCheckError> {
        let message = AuthenticatedMessage::parse(received.message).ok_or(CrossCheckError::NoHeader)?;
        let dns = Dns { answers, unanswered: RefCell::default(), absent: RefCell::default() };
        let spf = match received.ip {
            Some(ip) => Some(self.spf(received, ip, &dns)?),
            None => None,
        };
        let keys = Caches::new(&dns, Use::Key);
        let dkim = finish(self.authenticator.verify_dkim(keys.parameters(&message)))?;
        let arc = finish(self.authenticator.verify_arc(keys.parameters(&message)))?;
        let no_spf = SpfOutput::default();
        let dmarc = finish(self.authenticator.verify_dmarc(Caches::new(&dns, Use::Dmarc).parameters(
            DmarcParameters::new(&message, &dkim, mail_from_domain(received), spf.as_ref().unwrap_or(&no_spf)),
        )))?;
        Ok(Opinion {
            spf: spf.map(|output| spf_result(output.result())),
            dkim: dkim.iter().map(SignatureOpinion::read).collect(),
            arc: arc_result(arc.result()),
            dmarc: dmarc_result(&dmarc.result()),
            policy: dmarc.dmarc_record().and_then(|_| disposition(dmarc.policy())),
            unanswered: dns.unanswered.take(),
        })
    }

    /// A name without addresses can not be told to mail-auth through its caches: an empty entry would satisfy `exists`,
    /// and no entry ends in the resolver, where nothing is found for want of servers. So such names are noted, and the
    /// evaluation runs again with a resolver that knows each of them as one without addresses.
    fn spf(&self, received: &Received<'_>, ip: IpAddr, dns: &Dns<'_>) -> Result<SpfOutput, CrossCheckError> {
        let mut known = 0;
        loop {
            let caches = Caches::new(dns, Use::Spf);
            let check = SpfParameters::verify_mail_from(ip, received.helo, received.receiver, received.mail_from);
            let mut authenticator = self.authenticator.clone();
            authenticator.0.set_hosts(Arc::new(dns.hosts()));
            let output = finish(authenticator.verify_spf(caches.parameters(check)))?;
            let noted = dns.absent.borrow().len();
            if noted == known {
                return Ok(output);
            }
            known = noted;
        }
    }
}

impl SignatureOpinion {
    fn read(output: &mail_auth::DkimOutput<'_>) -> Self {
        use mail_auth::DkimResult as Theirs;
        let (result, error) = match output.result() {
            Theirs::Pass => (DkimResult::Pass, None),
            Theirs::None => (DkimResult::None, None),
            Theirs::TempError(error) => (DkimResult::TempError, Some(error)),
            Theirs::PermError(error) => (DkimResult::PermError, Some(error)),
            Theirs::Neutral(error) | Theirs::Fail(error) => {
                let result = match error {
                    Error::Dkim(DkimError::FailedBodyHashMatch) => DkimResult::Fail,
                    Error::Dkim(DkimError::SignatureExpired | DkimError::SignatureLength) => DkimResult::Policy,
                    Error::Dkim(DkimError::FailedAuidMatch | DkimError::RevokedPublicKey) => DkimResult::PermError,
                    _ if matches!(output.result(), Theirs::Fail(_)) => DkimResult::Fail,
                    _ => DkimResult::Neutral,
                };
                (result, Some(error))
            }
        };
        Self {
            result,
            domain: output.signature().map(|signature| signature.d.clone()),
            selector: output.signature().map(|signature| signature.s.clone()),
            reason: error.map(ToString::to_string),
        }
    }
}

fn spf_result(theirs: mail_auth::SpfResult) -> SpfResult {
    match theirs {
        mail_auth::SpfResult::Pass => SpfResult::Pass,
        mail_auth::SpfResult::Fail => SpfResult::Fail,
        mail_auth::SpfResult::SoftFail => SpfResult::SoftFail,
        mail_auth::SpfResult::Neutral => SpfResult::Neutral,
        mail_auth::SpfResult::TempError => SpfResult::TempError,
        mail_auth::SpfResult::PermError => SpfResult::PermError,
        mail_auth::SpfResult::None => SpfResult::None,
    }
}

/// RFC 8617 knows three results; whatever is neither none nor pass is a fail.
fn arc_result(theirs: &mail_auth::DkimResult) -> ArcResult {
    match theirs {
        mail_auth::DkimResult::Pass => ArcResult::Pass,
        mail_auth::DkimResult::None => ArcResult::None,
        _ => ArcResult::Fail,
    }
}

fn dmarc_result(theirs: &mail_auth::DmarcResult) -> DmarcResult {
    match theirs {
        mail_auth::DmarcResult::Pass => DmarcResult::Pass,
        mail_auth::DmarcResult::Fail(_) => DmarcResult::Fail,
        mail_auth::DmarcResult::TempError(_) => DmarcResult::TempError,
        mail_auth::DmarcResult::PermError(_) => DmarcResult::PermError,
        mail_auth::DmarcResult::None => DmarcResult::None,
    }
}

fn disposition(theirs: mail_auth::dmarc::Policy) -> Option<Disposition> {
    match theirs {
        mail_auth::dmarc::Policy::None => Some(Disposition::None),
        mail_auth::dmarc::Policy::Quarantine => Some(Disposition::Quarantine),
        mail_auth::dmarc::Policy::Reject => Some(Disposition::Reject),
        mail_auth::dmarc::Policy::Unspecified => None,
    }
}

fn mail_from_domain<'a>(received: &Received<'a>) -> &'a str {
    received.mail_from.rsplit_once('@').map_or(received.helo, |(_, domain)| domain)
}

/// Runs a future that has nothing to wait for.
fn finish<T>(future: impl Future<Output = T>) -> Result<T, CrossCheckError> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(CrossCheckError::Waited),
    }
}

/// The caller's DNS, with notes of what it was asked.
struct Dns<'a> {
    answers: &'a dyn Fn(&Question) -> Option<Answer>,
    unanswered: RefCell<Vec<Question>>,
    /// Names without addresses of the type that was asked for, as mail-auth writes them.
    absent: RefCell<Vec<(String, rr::RecordType)>>,
}

impl Dns<'_> {
    /// `None` where the answer failed or is not known.
    fn records(&self, name: &str, kind: RecordType) -> Option<Result<RecordSet, ResponseCode>> {
        let question = Question::new(Name::parse(name).ok()?, kind);
        let Some(answer) = (self.answers)(&question) else {
            note(&self.unanswered, question);
            return None;
        };
        match answer.outcome() {
            Outcome::Records(records) => Some(Ok(records.clone())),
            Outcome::NoData => Some(Err(ResponseCode::NoError)),
            Outcome::NxDomain => Some(Err(ResponseCode::NXDomain)),
            Outcome::Failed(_) => None,
        }
    }

    /// The addresses of a name. Their absence is noted, and so is a name that can not be asked for.
    fn addresses(&self, name: &str, kind: RecordType) -> Option<RecordSet> {
        let absent = match self.records(name, kind) {
            Some(Ok(records)) => return Some(records),
            Some(Err(_)) => true,
            None => Name::parse(name).is_err(),
        };
        if absent {
            let kind = if kind == RecordType::A { rr::RecordType::A } else { rr::RecordType::AAAA };
            note(&self.absent, (name.to_owned(), kind));
        }
        None
    }

    fn hosts(&self) -> Hosts {
        let mut hosts = Hosts::default();
        for (name, kind) in &*self.absent.borrow() {
            if let Ok(name) = rr::Name::from_str_relaxed(name) {
                let nothing = Lookup::new_with_max_ttl(Query::query(name.clone(), *kind), []);
                hosts.insert(name, *kind, nothing);
            }
        }
        hosts
    }
}

fn note<T: PartialEq>(notes: &RefCell<Vec<T>>, noted: T) {
    let mut notes = notes.borrow_mut();
    if !notes.contains(&noted) {
        notes.push(noted);
    }
}

/// What a TXT record is read as.
#[derive(Clone, Copy)]
enum Use {
    Spf,
    Key,
    Dmarc,
}

/// mail-auth's caches, each a view of the caller's DNS.
struct Caches<'a> {
    texts: Texts<'a>,
    exchanges: Exchanges<'a>,
    addresses_v4: AddressesV4<'a>,
    addresses_v6: AddressesV6<'a>,
    pointers: Pointers<'a>,
}

struct Texts<'a>(&'a Dns<'a>, Use);
struct Exchanges<'a>(&'a Dns<'a>);
struct AddressesV4<'a>(&'a Dns<'a>);
struct AddressesV6<'a>(&'a Dns<'a>);
struct Pointers<'a>(&'a Dns<'a>);

impl<'a> Caches<'a> {
    fn new(dns: &'a Dns<'a>, used_as: Use) -> Self {
        Self {
            texts: Texts(dns, used_as),
            exchanges: Exchanges(dns),
            addresses_v4: AddressesV4(dns),
            addresses_v6: AddressesV6(dns),
            pointers: Pointers(dns),
        }
    }

    #[allow(clippy::type_complexity)] // the type of mail-auth
    fn parameters<P>(
        &self,
        of: P,
    ) -> Parameters<'_, P, Texts<'a>, Exchanges<'a>, AddressesV4<'a>, AddressesV6<'a>, Pointers<'a>> {
        Parameters::new(of)
            .with_txt_cache(&self.texts)
            .with_mx_cache(&self.exchanges)
            .with_ipv4_cache(&self.addresses_v4)
            .with_ipv6_cache(&self.addresses_v6)
            .with_ptr_cache(&self.pointers)
    }
}

impl Texts<'_> {
    /// `None` for what is no name; the resolver has a word for that.
    fn read(&self, name: &str) -> Option<Txt> {
        Name::parse(name).ok()?;
        Some(self.read_at(name))
    }

    fn read_at(&self, name: &str) -> Txt {
        let records = match self.0.records(name, RecordType::Txt) {
            Some(Ok(RecordSet::Txt(records))) => records,
            Some(Ok(_)) => return Txt::Error(Error::Dns(DnsError::InvalidRecordType)),
            Some(Err(code)) => return Txt::Error(Error::Dns(DnsError::RecordNotFound(code))),
            None => return Txt::Error(Error::Dns(DnsError::Resolver("failed".to_owned()))),
        };
        // As its resolver does: the first record that can be read counts, else the error of the last one.
        let mut read = Txt::Error(Error::Dns(DnsError::InvalidRecordType));
        for record in &records {
            read = self.parse(name, &record.0);
            if !matches!(read, Txt::Error(_)) {
                break;
            }
        }
        read
    }

    fn parse(&self, name: &str, record: &[u8]) -> Txt {
        match self.1 {
            Use::Spf => Spf::parse(record).into(),
            Use::Dmarc => Dmarc::parse(record).into(),
            Use::Key if name.starts_with("_report._domainkey.") => DomainKeyReport::parse(record).into(),
            Use::Key if name.contains("._atps.") => Atps::parse(record).into(),
            Use::Key => DomainKey::parse(record).into(),
        }
    }
}

/// A view of the caller's DNS as a cache: everything is there, nothing is put in.
macro_rules! as_cache {
    ($view:ident, $key:ty, $value:ty, $get:expr) => {
        impl ResolverCache<$key, $value> for $view<'_> {
            fn get<Q>(&self, key: &Q) -> Option<$value>
            where
                $key: Borrow<Q>,
                Q: Hash + Eq + ?Sized,
            {
                $get(self, Octets::of(key))
            }

            fn remove<Q>(&self, _: &Q) -> Option<$value>
            where
                $key: Borrow<Q>,
                Q: Hash + Eq + ?Sized,
            {
                None
            }

            fn insert(&self, _: $key, _: $value, _: Instant) {}
        }
    };
}

as_cache!(Texts, Box<str>, Txt, |view: &Self, key: Octets| view.read(key.name()?));

as_cache!(Exchanges, Box<str>, Set<MX>, |view: &Self, key: Octets| {
    Some(match view.0.records(key.name()?, RecordType::Mx)? {
        Ok(RecordSet::Mx(exchanges)) => set(exchanges.iter().filter_map(exchange)),
        _ => set([]),
    })
});

as_cache!(AddressesV4, Box<str>, Set<Ipv4Addr>, |view: &Self, key: Octets| {
    match view.0.addresses(key.name()?, RecordType::A)? {
        RecordSet::A(addresses) => Some(set(addresses)),
        _ => None,
    }
});

as_cache!(AddressesV6, Box<str>, Set<Ipv6Addr>, |view: &Self, key: Octets| {
    match view.0.addresses(key.name()?, RecordType::Aaaa)? {
        RecordSet::Aaaa(addresses) => Some(set(addresses)),
        _ => None,
    }
});

as_cache!(Pointers, IpAddr, Set<Box<str>>, |view: &Self, key: Octets| {
    let address = key.address()?;
    let zone = if address.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
    Some(match view.0.records(&format!("{}.{zone}", address.to_reverse_name()), RecordType::Ptr)? {
        Ok(RecordSet::Ptr(names)) => set(names.iter().map(|name| format!("{name}.").into_boxed_str())),
        _ => set([]),
    })
});

fn set<T>(records: impl IntoIterator<Item = T>) -> Set<T> {
    Set { rrset: records.into_iter().collect(), dnssec_status: DnssecStatus::Indeterminate }
}

fn exchange(mx: &Mx) -> Option<MX> {
    let exchange = format!("{}.", mx.exchange?).into_boxed_str();
    Some(MX { exchanges: [exchange].into(), preference: mx.preference })
}

/// The octets of a key, which mail-auth shows to a cache only as something that can be hashed.
#[derive(Default)]
struct Octets(Vec<u8>);

impl Octets {
    fn of<Q: Hash + ?Sized>(key: &Q) -> Self {
        let mut octets = Self::default();
        key.hash(&mut octets);
        octets
    }

    fn name(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    fn address(&self) -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(&self.0[..]).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(&self.0[..]).map(IpAddr::from)).ok()
    }
}

/// Keeps what is written as octets; lengths, discriminants and the mark behind a text are written as numbers.
impl Hasher for Octets {
    fn write(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    fn write_u8(&mut self, _: u8) {}

    fn write_isize(&mut self, _: isize) {}

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        0
    }
}

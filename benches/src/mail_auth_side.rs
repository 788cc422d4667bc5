//! mail-auth 0.13.3 with warm caches.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use mail_auth::common::headers::HeaderWriter;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::dmarc::Dmarc;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::spf::Spf;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{
    AuthenticatedMessage, AuthenticationResults, DkimResult, DmarcResult, DnsError, Error, MX, MessageAuthenticator,
    Parameters, RecordSet, ResolverCache, SpfResult, Txt,
};

use crate::messages::{CLIENT, HELO, MAIL_FROM, RECEIVER, texts};

/// mail-auth and everything it needs to know of the DNS.
pub struct MailAuth {
    authenticator: MessageAuthenticator,
    texts: Warm<Box<str>, Txt>,
    exchanges: Warm<Box<str>, RecordSet<MX>>,
    addresses_v4: Warm<Box<str>, RecordSet<Ipv4Addr>>,
    addresses_v6: Warm<Box<str>, RecordSet<Ipv6Addr>>,
    pointers: Warm<IpAddr, RecordSet<Box<str>>>,
}

/// A cache as cheap as can be: no lock, no expiry.
struct Warm<K, V>(HashMap<K, V>);

impl MailAuth {
    /// Fills the caches.
    #[must_use]
    pub fn new() -> Self {
        let without_servers = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        let mut cached: HashMap<Box<str>, Txt> = texts()
            .into_iter()
            .map(|(name, text)| {
                let text = text.as_bytes();
                let parsed = match name {
                    _ if name.starts_with("_dmarc.") => Dmarc::parse(text).into(),
                    _ if name.contains("._domainkey.") => DomainKey::parse(text).into(),
                    _ => Spf::parse(text).into(),
                };
                (format!("{name}.").into(), parsed)
            })
            .collect();
        let missing = Txt::Error(Error::Dns(DnsError::RecordNotFound(ResponseCode::NXDomain)));
        for name in ["_dmarc.news.example.org.", "_dmarc.org.", "out7.mail.example.com."] {
            cached.insert(name.into(), missing.clone());
        }
        Self {
            authenticator: MessageAuthenticator::new(without_servers, ResolverOpts::default())
                .expect("a resolver without servers"),
            texts: Warm(cached),
            exchanges: Warm(HashMap::new()),
            addresses_v4: Warm(HashMap::new()),
            addresses_v6: Warm(HashMap::new()),
            pointers: Warm(HashMap::new()),
        }
    }

    /// The Authentication-Results field of one message.
    ///
    /// # Panics
    /// When SPF, the signature or DMARC does not pass.
    #[must_use]
    pub fn verdict(&self, message: &[u8]) -> String {
        let (field, spf, dkim, (dmarc_spf, dmarc_dkim)) = self.judge(CLIENT, message);
        assert_eq!((spf, dkim), (SpfResult::Pass, true));
        assert_eq!((dmarc_spf, dmarc_dkim), (DmarcResult::Pass, DmarcResult::Pass));
        field
    }

    /// The same of any message of some client, and whether its first signature holds.
    #[must_use]
    pub fn any_verdict(&self, client: IpAddr, message: &[u8]) -> (String, bool) {
        let (field, _, dkim, _) = self.judge(client, message);
        (field, dkim)
    }

    fn judge(&self, client: IpAddr, message: &[u8]) -> (String, SpfResult, bool, (DmarcResult, DmarcResult)) {
        let authenticator = &self.authenticator;
        let message = AuthenticatedMessage::parse(message).expect("a message");
        let check = SpfParameters::verify_mail_from(client, HELO, RECEIVER, MAIL_FROM);
        let spf = finish(authenticator.verify_spf(self.with(check)));
        let dkim = finish(authenticator.verify_dkim(self.with(&message)));
        let domain = MAIL_FROM.rsplit_once('@').map_or("", |(_, domain)| domain);
        let dmarc = finish(authenticator.verify_dmarc(self.with(DmarcParameters::new(&message, &dkim, domain, &spf))));
        let holds = dkim.first().is_some_and(|signature| *signature.result() == DkimResult::Pass);
        let field = AuthenticationResults::new(RECEIVER)
            .with_spf_mailfrom_result(&spf, client, MAIL_FROM, HELO)
            .with_dkim_results(&dkim, "news@example.org")
            .with_dmarc_result(&dmarc)
            .to_header();
        (field, spf.result(), holds, (dmarc.spf_result().clone(), dmarc.dkim_result().clone()))
    }

    #[allow(clippy::type_complexity)] // the type of mail-auth
    fn with<P>(
        &self,
        of: P,
    ) -> Parameters<
        '_,
        P,
        Warm<Box<str>, Txt>,
        Warm<Box<str>, RecordSet<MX>>,
        Warm<Box<str>, RecordSet<Ipv4Addr>>,
        Warm<Box<str>, RecordSet<Ipv6Addr>>,
        Warm<IpAddr, RecordSet<Box<str>>>,
    > {
        Parameters::new(of)
            .with_txt_cache(&self.texts)
            .with_mx_cache(&self.exchanges)
            .with_ipv4_cache(&self.addresses_v4)
            .with_ipv6_cache(&self.addresses_v6)
            .with_ptr_cache(&self.pointers)
    }
}

impl Default for MailAuth {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Eq + Hash, V: Clone> ResolverCache<K, V> for Warm<K, V> {
    fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.get(key).cloned()
    }

    fn remove<Q>(&self, _: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: K, _: V, _: Instant) {}
}

/// Runs a future that has nothing to wait for.
fn finish<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a cache is not warm"),
    }
}

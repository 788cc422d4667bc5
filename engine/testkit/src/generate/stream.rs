//! Mail of many domains, each message with names of its own and a verdict that follows from how it was made, over one
//! zone: for tests of the DNS client, where every message has to be cold.

use std::net::IpAddr;

use mailproof::{Envelope, Verdict};
use serde_json::json;

use super::Records;
use super::keys::{ED25519, KEYS, RSA_2048};
use super::sign::{Layout, Parts, Plan};

/// One message.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Its octets.
    pub message: Vec<u8>,
    /// Who brings it.
    pub envelope: Envelope,
    /// What is to come out.
    pub kind: MailKind,
}

/// How a message is made, and so what comes out.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MailKind {
    /// SPF, DKIM and DMARC pass.
    Signed,
    /// SPF passes by the second of two includes; no signature; DMARC passes.
    Included,
    /// SPF fails; the signature is good, so DMARC passes.
    Forwarded,
    /// SPF fails; the body was changed; DMARC fails.
    Altered,
    /// SPF passes by the address of the second MX host; no policy.
    Hosts,
    /// As `Signed`; the policy stands among text that takes a stream.
    Large,
    /// As `Signed`; the key, the DMARC record and the SPF record are somewhere else.
    Hosted,
    /// The author's domain is below one with a policy; no SPF record, no signature; DMARC fails.
    Below,
}

/// How far a verdict is from the one that was expected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Distance {
    /// The same verdict.
    None,
    /// Some result is a temporary error in its place; all others are the same.
    Temporary,
    /// Some result is another.
    Other {
        /// What was expected, in short.
        expected: String,
        /// What was found.
        found: String,
        /// A mechanism, or DMARC, passes that did not.
        gains_pass: bool,
        /// A mechanism, or DMARC, fails that did not.
        gains_fail: bool,
    },
}

impl MailKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Signed,
        Self::Included,
        Self::Forwarded,
        Self::Altered,
        Self::Hosts,
        Self::Large,
        Self::Hosted,
        Self::Below,
    ];

    /// The words of SPF, of the signature if there is one, and of DMARC.
    #[must_use]
    pub const fn expected(self) -> (&'static str, Option<&'static str>, &'static str) {
        match self {
            Self::Signed | Self::Large | Self::Hosted => ("pass", Some("pass"), "pass"),
            Self::Included => ("pass", None, "pass"),
            Self::Forwarded => ("fail", Some("pass"), "pass"),
            Self::Altered => ("fail", Some("fail"), "fail"),
            Self::Hosts => ("pass", None, "none"),
            Self::Below => ("none", None, "fail"),
        }
    }
}

/// The address of every client.
const CLIENT: [u8; 4] = [192, 0, 2, 7];
/// One signature in as many is RSA; Ed25519 is made faster.
const RSA_EVERY: usize = 16;

/// As many messages, numbered from `first`, and the records of all of them.
#[must_use]
pub fn mails(first: usize, count: usize) -> (Vec<Mail>, Records) {
    let mut records = Records::default();
    let mails = (first..first + count).map(|number| mail(number, &mut records)).collect();
    (mails, records)
}

fn mail(number: usize, records: &mut Records) -> Mail {
    let kind = MailKind::ALL[number % MailKind::ALL.len()];
    let domain = format!("m{number}.example");
    let author = if kind == MailKind::Below { format!("news.{domain}") } else { domain.clone() };
    let mut names = Names { domain: &domain, records };
    names.spf(kind);
    names.policy(kind);
    let mut parts = Parts {
        fields: vec![
            format!("From: Ann <ann@{author}>\r\n").into_bytes(),
            b"To: bob@example.net\r\n".to_vec(),
            format!("Subject: message {number}\r\n").into_bytes(),
        ],
        body: format!("Message {number}.\r\n\r\n  Some  words \r\n").repeat(1 + number % 40).into_bytes(),
    };
    if kind.expected().1.is_some() {
        let key = &KEYS[if number.is_multiple_of(RSA_EVERY) { RSA_2048[0] } else { ED25519[0] }];
        names.key(kind, &format!("v=DKIM1; k={}; p={}", key.kind, key.public));
        let signature = plan(&domain, key.kind).sign(&parts, key);
        parts.fields.insert(0, signature);
    }
    if kind == MailKind::Altered {
        parts.body.extend_from_slice(b"Buy now.\r\n");
    }
    let envelope = Envelope::new(IpAddr::from(CLIENT), format!("mail.{domain}"), format!("ann@{author}"));
    Mail { message: parts.octets(), envelope, kind }
}

fn plan(domain: &str, kind: &str) -> Plan {
    let tag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let algorithm = if kind == "rsa" { "rsa-sha256" } else { "ed25519-sha256" };
    Plan {
        name: "DKIM-Signature",
        tags: vec![tag("v", "1"), tag("a", algorithm), tag("c", "relaxed/relaxed"), tag("d", domain), tag("s", "s1")],
        header_relaxed: true,
        body_relaxed: true,
        names: ["From", "To", "Subject"].map(str::to_owned).to_vec(),
        length: None,
        layout: Layout { between: " ", around_equals: "", around_colon: "", base64_line: 0, end: "", b_first: false },
    }
}

struct Names<'a> {
    domain: &'a str,
    records: &'a mut Records,
}

impl Names<'_> {
    fn add(&mut self, name: String, record: serde_json::Value) {
        // Names of one message are few and those of two never meet, so the list need not be searched.
        match self.records.0.last_mut().filter(|(last, _)| *last == name) {
            Some((_, records)) => records.push(record),
            None => self.records.0.push((name, vec![record])),
        }
    }

    fn text(&mut self, name: String, text: &str) {
        self.add(name, json!({ "TXT": text }));
    }

    fn spf(&mut self, kind: MailKind) {
        let domain = self.domain;
        let at = |label: &str| format!("{label}.{domain}");
        let own = domain.to_owned();
        match kind {
            MailKind::Signed => self.text(own, "v=spf1 ip4:192.0.2.0/24 -all"),
            MailKind::Included => {
                self.text(own, &format!("v=spf1 include:one.{domain} include:two.{domain} -all"));
                self.text(at("one"), "v=spf1 ip4:198.51.100.0/24 -all");
                self.text(at("two"), "v=spf1 ip4:192.0.2.0/24 -all");
            }
            MailKind::Forwarded | MailKind::Altered => self.text(own, "v=spf1 ip4:203.0.113.9 -all"),
            MailKind::Hosts => {
                self.text(own.clone(), "v=spf1 a mx ~all");
                self.add(own.clone(), json!({ "A": "198.51.100.1" }));
                self.add(own.clone(), json!({ "MX": [10, at("mx1")] }));
                self.add(own, json!({ "MX": [20, at("mx2")] }));
                self.add(at("mx1"), json!({ "A": "198.51.100.2" }));
                self.add(at("mx2"), json!({ "A": "192.0.2.7" }));
            }
            MailKind::Large => {
                for index in 0..10 {
                    self.text(own.clone(), &format!("verification-{index}={}", "x".repeat(180)));
                }
                self.text(own, "v=spf1 ip4:192.0.2.0/24 -all");
            }
            MailKind::Hosted => {
                self.text(own, &format!("v=spf1 redirect=_spf.{domain}"));
                self.add(at("_spf"), json!({ "CNAME": at("hosted") }));
                self.text(at("hosted"), "v=spf1 ip4:192.0.2.0/24 -all");
            }
            MailKind::Below => self.add(at("news"), json!({ "A": "198.51.100.1" })),
        }
    }

    fn policy(&mut self, kind: MailKind) {
        let own = format!("_dmarc.{}", self.domain);
        match kind {
            MailKind::Hosts => {}
            MailKind::Hosted => {
                let target = format!("policy.{}", self.domain);
                self.add(own, json!({ "CNAME": target.clone() }));
                self.text(target, "v=DMARC1; p=reject");
            }
            _ => self.text(own, "v=DMARC1; p=reject; sp=quarantine"),
        }
    }

    fn key(&mut self, kind: MailKind, key: &str) {
        let own = format!("s1._domainkey.{}", self.domain);
        if kind == MailKind::Hosted {
            let target = format!("key.{}", self.domain);
            self.add(own, json!({ "CNAME": target.clone() }));
            self.text(target, key);
        } else {
            self.text(own, key);
        }
    }
}

/// How far `found` is from `expected`.
#[must_use]
pub fn distance(expected: &Verdict, found: &Verdict) -> Distance {
    if found == expected {
        return Distance::None;
    }
    let (was, is) = (words(expected), words(found));
    let differ = || was.iter().zip(&is).filter(|(was, is)| was != is);
    let is_temporary = was.len() == is.len() && differ().count() > 0 && differ().all(|(_, is)| *is == "temperror");
    if is_temporary {
        return Distance::Temporary;
    }
    let gains = |word: &str| was.len() != is.len() || differ().any(|(_, is)| *is == word);
    Distance::Other {
        gains_pass: gains("pass"),
        gains_fail: gains("fail") || gains("softfail"),
        expected: expected.authentication_results.clone(),
        found: found.authentication_results.clone(),
    }
}

/// The result of each mechanism, in a fixed order.
fn words(verdict: &Verdict) -> Vec<&'static str> {
    let first = [verdict.spf.result.word(), verdict.helo.result.word(), verdict.dmarc.result.word()];
    let dkim = verdict.dkim.iter().map(|signature| signature.result.word());
    first.into_iter().chain(dkim).chain([verdict.arc.result.word()]).collect()
}

#[cfg(test)]
mod tests {
    use mailproof::Engine;

    use super::*;

    #[test]
    fn every_kind_has_the_verdict_it_is_made_for() {
        let (mails, records) = mails(0, 32);
        let engine = Engine::builder().zone(records.to_zone()).build().unwrap();
        for Mail { message, envelope, kind } in mails {
            let verdict = engine.verify(&message, envelope);
            let signature = verdict.dkim.first().map(|it| it.result.word());
            let found = (verdict.spf.result.word(), signature, verdict.dmarc.result.word());
            assert_eq!(found, kind.expected(), "{kind:?}");
        }
    }
}

//! A message on its way from author to mailbox.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mailproof::zone::Zone;
use mailproof_proto::arc::{Validator, seal};
use mailproof_proto::dkim::explain::explain;
use mailproof_proto::dkim::{
    BodyHashes, Canonicalization, DkimOptions, OVERSIGNED_NAMES, SIGNED_NAMES, SigningKey, SigningPlan, sign,
};
use mailproof_proto::dns::Name;
use mailproof_proto::message::{FieldKind, HeaderIndex};
use mailproof_proto::time::Timestamp;

use super::{Expected, Letter, NOW_SECONDS, RECEIVER};
use crate::drive::{Order, drive};

/// The test keys, by the name of their file.
pub(super) struct Keys {
    pem: BTreeMap<String, String>,
}

impl Keys {
    pub(super) fn load(dir: &Path) -> Result<Self, String> {
        let fault = |error: std::io::Error| format!("{}: {error}", dir.display());
        let mut pem = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(fault)? {
            let path = entry.map_err(fault)?.path();
            if path.extension().is_some_and(|ending| ending == "pem") {
                let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
                pem.insert(name, fs::read_to_string(&path).map_err(fault)?);
            }
        }
        Ok(Self { pem })
    }

    fn pem(&self, name: &str) -> Result<&str, String> {
        self.pem.get(name).map(String::as_str).ok_or_else(|| format!("no key {name}.pem"))
    }

    pub(super) fn signing(&self, name: &str) -> Result<SigningKey, String> {
        SigningKey::read(self.pem(name)?.as_bytes()).map_err(|error| format!("{name}.pem: {error}"))
    }

    /// The record to publish.
    pub(super) fn record(&self, name: &str) -> Result<String, String> {
        self.signing(name)?.record().map_err(|error| format!("{name}.pem: {error}"))
    }

    /// The key as the library has it, for signatures that our signer refuses to make.
    fn raw_rsa(&self, name: &str) -> Result<RsaKeyPair, String> {
        let pem = self.pem(name)?;
        let encoded: String = pem.lines().skip_while(|line| !line.starts_with("-----BEGIN")).skip(1).collect();
        let encoded = encoded.split('-').next().unwrap_or_default();
        let der = STANDARD.decode(encoded).map_err(|error| format!("{name}.pem: {error}"))?;
        RsaKeyPair::from_pkcs8(&der).map_err(|error| format!("{name}.pem: {error}"))
    }
}

/// A message with CRLF line ends.
#[derive(Clone, Debug)]
pub struct Draft {
    name: &'static str,
    header: String,
    body: String,
}

impl Draft {
    /// A message as its author writes it.
    #[must_use]
    pub fn new(name: &'static str, from: &str, to: &str, subject: &str, body: &str) -> Self {
        let domain = from.rsplit('@').next().unwrap_or_default().trim_end_matches('>');
        let header = format!(
            "From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\nDate: Mon, 23 Nov 2026 09:30:00 +0000\r\n\
             Message-ID: <{name}@{domain}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        );
        Self { name, header, body: body.replace('\n', "\r\n") }
    }

    /// The same letter under another name.
    #[must_use]
    pub fn renamed(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Puts a field on top.
    #[must_use]
    pub fn with(mut self, field: &str) -> Self {
        self.header = format!("{field}\r\n{}", self.header);
        self
    }

    /// Replaces text of the header, which must be there.
    #[must_use]
    pub fn changed(mut self, from: &str, to: &str) -> Self {
        assert!(self.header.contains(from), "{}: no {from} in the header", self.name);
        self.header = self.header.replacen(from, to, 1);
        self
    }

    /// Puts text behind the body, as mailing lists and forgers do.
    #[must_use]
    pub fn appended(mut self, text: &str) -> Self {
        self.body.push_str(&text.replace('\n', "\r\n"));
        self
    }

    pub(super) fn signed(self, keys: &Keys, key: &str, domain: &str, selector: &str) -> Result<Self, String> {
        self.signed_as(keys, key, &Plan { domain, selector, expires_after: None, is_lax: false })
    }

    pub(super) fn signed_as(mut self, keys: &Keys, key: &str, plan: &Plan<'_>) -> Result<Self, String> {
        let domain = name(plan.domain)?;
        let signed_at = NOW_SECONDS - 2 * 60 * 60;
        let plan = SigningPlan {
            domain: &domain,
            selector: plan.selector,
            identity: None,
            header_form: Canonicalization::Relaxed,
            body_form: Canonicalization::Relaxed,
            names: if plan.is_lax { &LAX_NAMES } else { &SIGNED_NAMES },
            oversigned: if plan.is_lax { &[] } else { &OVERSIGNED_NAMES },
            signed_at: Some(plan.expires_after.map_or(signed_at, |_| signed_at - 30 * 24 * 60 * 60)),
            expires_at: plan.expires_after.map(|seconds| signed_at - 30 * 24 * 60 * 60 + seconds),
        };
        let mut bodies = BodyHashes::new();
        plan.want_body(&mut bodies);
        bodies.update(self.body.as_bytes());
        bodies.finish();
        let mut index = HeaderIndex::new();
        let field = sign(&plan, &keys.signing(key)?, index.scan(self.header.as_bytes()), &bodies)
            .map_err(|error| format!("{}: {error}", self.name))?;
        self.header.insert_str(0, &field);
        Ok(self)
    }

    /// A signature with tags that our signer never writes; `bh=` and `b=` are added. It covers From, To and Subject.
    pub(super) fn signed_with_tags(mut self, keys: &Keys, key: &str, tags: &str) -> Result<Self, String> {
        let unsigned = |hash: &str| format!("DKIM-Signature: v=1; {tags};\r\n\th=From:To:Subject; bh={hash};\r\n\tb=");
        let explained = |field: &str| {
            let header = format!("{field}\r\n{}", self.header);
            let mut index = HeaderIndex::new();
            let explained = explain(index.scan(header.as_bytes()), FieldKind::DkimSignature, self.body.as_bytes());
            explained.into_iter().next().ok_or_else(|| format!("{}: no signature", self.name))
        };
        // The length of an empty value is not read, so something stands in its place until it is known.
        let hash = explained(&format!("{}AAAA", unsigned("AAAA")))?.body_hash_found.unwrap_or_default();
        let field = unsigned(&hash);
        let octets = explained(&format!("{field}AAAA"))?.header;
        let key = keys.raw_rsa(key)?;
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &octets, &mut signature)
            .map_err(|error| error.to_string())?;
        self.header = format!("{field}{}\r\n{}", folded(&STANDARD.encode(signature)), self.header);
        Ok(self)
    }

    /// A signature under a key so short that nobody verifies it; its octets are no signature at all.
    #[must_use]
    pub fn pretended(mut self, domain: &str, selector: &str, bits: usize) -> Self {
        let hash = STANDARD.encode(digest(&SHA256, self.body.as_bytes()));
        let octets = folded(&STANDARD.encode(pseudo_random(bits / 8)));
        self.header = format!(
            "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d={domain}; s={selector};\r\n\
             \th=From:To:Subject; bh={hash};\r\n\tb={octets}\r\n{}",
            self.header
        );
        self
    }

    /// Adds the next set of an ARC chain (RFC 8617): `results` is what the handler found.
    pub(super) fn sealed(mut self, keys: &Keys, key: &str, domain: &str, results: &str) -> Result<Self, String> {
        let at = name(domain)?;
        let plan = SigningPlan {
            domain: &at,
            selector: "seal",
            identity: None,
            header_form: Canonicalization::Relaxed,
            body_form: Canonicalization::Relaxed,
            names: &["From", "To", "Subject", "Date", "Message-ID", "DKIM-Signature"],
            oversigned: &[],
            signed_at: Some(NOW_SECONDS - 60 * 60),
            expires_at: None,
        };
        let zone = Zone::from_yaml(&super::zone::text(keys)?).map_err(|error| error.to_string())?;
        let mut index = HeaderIndex::new();
        let headers = index.scan(self.header.as_bytes());
        let mut bodies = BodyHashes::new();
        plan.want_body(&mut bodies);
        let mut validator = Validator::begin(headers, &DkimOptions::default(), &mut bodies);
        bodies.update(self.body.as_bytes());
        bodies.finish();
        let now = Timestamp::from_seconds(NOW_SECONDS);
        let (outcome, _) = drive(&zone, Order::AtHand, |answers| validator.outcome(headers, &bodies, now, answers));
        let results = format!("{domain}; {results}");
        let set = seal(&plan, &keys.signing(key)?, &results, &validator, &outcome, headers, &bodies)
            .map_err(|error| format!("{}: {error}", self.name))?
            .ok_or_else(|| format!("{}: the chain takes no further set", self.name))?;
        self.header.insert_str(0, &set.to_header());
        Ok(self)
    }

    /// The message as our host stored it: with the trace of the last hop, and LF line ends.
    #[must_use]
    pub fn delivered(self, hop: Hop, expected: Expected, story: &'static str) -> Letter {
        let Hop { ip, helo, mail_from } = hop;
        let trace = format!(
            "Return-Path: <{mail_from}>\r\nReceived: from {helo} ({helo} [{ip}])\r\n\tby {RECEIVER} with ESMTPS; \
             Mon, 23 Nov 2026 09:31:07 +0000\r\n"
        );
        let whole = format!("{trace}{}\r\n{}", self.header, self.body).replace("\r\n", "\n");
        Letter { name: self.name, octets: whole.into_bytes(), expected, story }
    }
}

/// What SMTP said at our door.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    /// Address of the client.
    pub ip: &'static str,
    /// Its name, which it also says in HELO.
    pub helo: &'static str,
    /// MAIL FROM.
    pub mail_from: &'static str,
}

/// How a message is signed.
pub(super) struct Plan<'a> {
    pub(super) domain: &'a str,
    pub(super) selector: &'a str,
    /// Signed a month ago, to be valid for so many seconds.
    pub(super) expires_after: Option<u64>,
    /// Each field once only, so that another can be added unnoticed.
    pub(super) is_lax: bool,
}

const LAX_NAMES: [&str; 4] = ["From", "To", "Subject", "Date"];

fn name(text: &str) -> Result<Name, String> {
    Name::parse_domain(text).map_err(|error| format!("{text}: {error}"))
}

/// Base64 in lines.
fn folded(encoded: &str) -> String {
    let lines: Vec<&str> = encoded.as_bytes().chunks(70).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    lines.join("\r\n\t")
}

/// Octets that look random and are always the same.
fn pseudo_random(count: usize) -> Vec<u8> {
    (0_u8..).flat_map(|block| digest(&SHA256, &[block]).as_ref().to_vec()).take(count).collect()
}

/// The record of an RSA key of so many bits to which nobody holds the other half.
pub(super) fn short_key_record(bits: usize) -> String {
    let mut modulus = pseudo_random(bits / 8);
    if let (Some(first), Some(last)) = (modulus.first().copied(), modulus.len().checked_sub(1)) {
        modulus[0] = first | 0x80;
        modulus[last] |= 1;
    }
    // RSAPublicKey of RFC 8017 appendix A.1.1: two INTEGERs, the modulus with a leading zero octet.
    let length = modulus.len() + 1;
    let mut der = vec![0x30, (length + 2 + 5) as u8, 0x02, length as u8, 0];
    der.extend_from_slice(&modulus);
    der.extend_from_slice(&[0x02, 3, 1, 0, 1]);
    format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(der))
}

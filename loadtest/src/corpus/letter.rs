//! One message: written, signed, and what happens to it on its way.

use std::net::{IpAddr, Ipv4Addr};

use mailproof_testkit::generate::sign::{Layout, Parts, Plan, field_name};
use mailproof_testkit::random::Random;

use super::domain::{Domain, FORWARDER_COUNT};
use super::expectation::Expectation;
use super::keys::KeyChoice;
use super::{Fate, Letter, Maker, SENT_SECONDS, body, sizes};

/// The selector under which a revoked key stands.
pub(super) const REVOKED_SELECTOR: &str = "old";
/// A selector under which nothing stands.
const MISSING_SELECTOR: &str = "gone";
/// The selector of forwarders, lists and strangers.
pub(super) const OTHERS_SELECTOR: &str = "k1";

const FOOTER: &[u8] = b"-- \r\nSent through a list that adds this line.\r\n";

/// Whoever is not the author: a forwarder, a list, or somebody who writes in another's name.
pub(super) struct Stranger {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) key: KeyChoice,
}

impl Stranger {
    pub(super) fn new(number: u32) -> Self {
        Self {
            name: format!("lists-{number}.example"),
            address: format!("198.19.255.{number}"),
            key: KeyChoice::Rsa2048(number as usize),
        }
    }

    pub(super) fn host(&self) -> String {
        format!("relay.{}", self.name)
    }
}

pub(super) fn write(maker: &Maker, domain: &Domain, number: u64, random: &mut Random) -> Letter {
    let mut fate = Fate::draw(maker.options().fates, random);
    // A key of another kind than the signature's would not be found revoked but unsuitable.
    let has_ed25519 = domain.signers.iter().any(|(_, key)| matches!(key, KeyChoice::Ed25519(_)));
    if fate == Fate::Revoked && has_ed25519 {
        fate = Fate::NoKey;
    }
    let stranger = Stranger::new(random.below(FORWARDER_COUNT as usize) as u32);
    let (client, helo) = if fate.is_elsewhere() {
        (stranger.address.clone(), stranger.host())
    } else {
        (domain.client(random), domain.host())
    };
    let mail_from = match fate {
        Fate::Bounce => String::new(),
        _ if fate.has_foreign_envelope() => format!("bounce-{number}@{}", stranger.name),
        _ => format!("bounce-{number}@{}", domain.name),
    };
    let bytes = sizes::draw(maker.options().sizes, random);
    let (media, text) = body::draw(random, bytes);
    let mut parts = Parts { fields: fields(domain, fate, number, media), body: text };
    if fate.is_signed_by_author() {
        sign(&mut parts, maker, domain, fate);
    }
    travel(&mut parts, maker, fate, &stranger, number);
    Letter {
        id: format!("m-{number:06}"),
        octets: parts.octets(),
        client: client.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        helo,
        mail_from,
        expectation: Expectation::new(domain, fate, &stranger.name),
    }
}

fn fields(domain: &Domain, fate: Fate, number: u64, media: &str) -> Vec<Vec<u8>> {
    let (name, host) = (&domain.name, domain.host());
    let author = match fate {
        Fate::Below => format!("news@mail.{name}"),
        Fate::Bounce => format!("mailer-daemon@{name}"),
        _ => format!("news@{name}"),
    };
    let lines = [
        format!(
            "Received: from app.internal.{name} (unknown [10.20.30.40])\r\n\tby {host} with ESMTP id {number:08x};\r\n\
             \tTue, 14 Nov 2023 22:13:18 +0000"
        ),
        "Date: Tue, 14 Nov 2023 22:13:20 +0000".to_owned(),
        format!("From: \"News of {name}\" <{author}>"),
        format!("Reply-To: Support <support@{name}>"),
        "To: Someone <someone@receiver.example>".to_owned(),
        format!("Subject: Your order {number} has been sent,\r\n and what to do with it"),
        format!("Message-ID: <{number}.{:08x}@{name}>", number.wrapping_mul(0x9e37_79b9) as u32),
        format!("List-Unsubscribe: <https://news.{name}/u/{number}>, <mailto:u-{number}@{name}>"),
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click".to_owned(),
        "MIME-Version: 1.0".to_owned(),
        format!("Content-Type: {media}"),
    ];
    lines.into_iter().map(|line| format!("{line}\r\n").into_bytes()).collect()
}

fn sign(parts: &mut Parts, maker: &Maker, domain: &Domain, fate: Fate) {
    let signatures: Vec<Vec<u8>> = domain
        .signers
        .iter()
        .map(|(own, key)| {
            let selector = match fate {
                Fate::Revoked => REVOKED_SELECTOR,
                Fate::NoKey => MISSING_SELECTOR,
                _ => own,
            };
            let mut plan = plan("DKIM-Signature", *key, &domain.name, selector);
            (plan.header_relaxed, plan.body_relaxed) = (domain.header_relaxed, domain.body_relaxed);
            let word = |relaxed| if relaxed { "relaxed" } else { "simple" };
            let forms = format!("{}/{}", word(domain.header_relaxed), word(domain.body_relaxed));
            plan.tags.insert(0, ("v".to_owned(), "1".to_owned()));
            plan.tags.insert(2, ("c".to_owned(), forms));
            plan.sign(parts, maker.keys.of(*key))
        })
        .collect();
    parts.fields.splice(0..0, signatures);
}

/// What hosts on the way do with it.
fn travel(parts: &mut Parts, maker: &Maker, fate: Fate, stranger: &Stranger, number: u64) {
    match fate {
        Fate::BodyChanged => parts.body.extend_from_slice(FOOTER),
        Fate::HeaderChanged => mark_subject(parts),
        Fate::List | Fate::UnsealedList => {
            mark_subject(parts);
            parts.body.extend_from_slice(FOOTER);
            parts.fields.push(format!("List-Id: <all.{}>\r\n", stranger.name).into_bytes());
        }
        _ => {}
    }
    if fate.is_elsewhere() {
        let (host, name) = (stranger.host(), &stranger.name);
        let trace = format!(
            "Received: from somewhere.example (somewhere.example [203.0.113.9])\r\n\tby {host} with ESMTPS id {number:010X};\
             \r\n\tTue, 14 Nov 2023 22:13:25 +0000\r\n"
        );
        parts.fields.insert(0, trace.into_bytes());
        if fate.has_foreign_envelope() {
            let mut plan = plan("DKIM-Signature", stranger.key, name, OTHERS_SELECTOR);
            plan.tags.insert(0, ("v".to_owned(), "1".to_owned()));
            plan.tags.insert(2, ("c".to_owned(), "relaxed/relaxed".to_owned()));
            let signature = plan.sign(parts, maker.keys.of(stranger.key));
            parts.fields.insert(0, signature);
        }
    }
    if fate.is_sealed() {
        seal(parts, maker, stranger);
    }
    if fate == Fate::BrokenChain {
        parts.body.extend_from_slice(FOOTER);
    }
}

fn mark_subject(parts: &mut Parts) {
    for field in &mut parts.fields {
        if field_name(field) == b"Subject" {
            field.splice(9..9, *b"[all] ");
        }
    }
}

/// Adds the first ARC set (RFC 8617 section 5.1).
fn seal(parts: &mut Parts, maker: &Maker, stranger: &Stranger) {
    let key = maker.keys.of(stranger.key);
    let results = format!(
        "ARC-Authentication-Results: i=1; {}; spf=pass\r\n\tsmtp.mailfrom=somewhere.example; dkim=pass\r\n",
        stranger.host()
    );
    let mut message = plan("ARC-Message-Signature", stranger.key, &stranger.name, OTHERS_SELECTOR);
    message.tags.insert(0, ("i".to_owned(), "1".to_owned()));
    message.tags.insert(2, ("c".to_owned(), "relaxed/relaxed".to_owned()));
    let signature = message.sign(parts, key);
    let mut seal = plan("ARC-Seal", stranger.key, &stranger.name, OTHERS_SELECTOR);
    seal.tags.insert(0, ("i".to_owned(), "1".to_owned()));
    seal.tags.push(("cv".to_owned(), "none".to_owned()));
    let sets = [results.clone().into_bytes(), signature.clone()];
    let seal = seal.seal(&sets, key);
    parts.fields.splice(0..0, [seal, signature, results.into_bytes()]);
}

/// A signature field with the tags that all kinds have: `a=`, `d=`, `s=`, `t=`.
fn plan(name: &'static str, key: KeyChoice, domain: &str, selector: &str) -> Plan {
    let tags = [("a", key.algorithm()), ("d", domain), ("s", selector), ("t", &SENT_SECONDS.to_string())]
        .map(|(tag, value)| (tag.to_owned(), value.to_owned()));
    let names = ["From", "To", "Subject", "Date", "Message-ID", "Reply-To", "MIME-Version", "Content-Type"];
    Plan {
        name,
        tags: tags.to_vec(),
        header_relaxed: true,
        body_relaxed: true,
        names: names.map(str::to_owned).to_vec(),
        length: None,
        layout: Layout {
            between: "\r\n\t",
            around_equals: "",
            around_colon: "",
            base64_line: 72,
            end: "",
            b_first: false,
        },
    }
}

//! A stream of messages for measuring: `mailproof-testkit stream --count N --seed S --out DIR`, octet for octet the same
//! for the same numbers.
//!
//! DIR gets `stream.jsonl` for `mailproof verify --batch`, the messages, and `zone.yml`, the DNS of their domains. Most
//! of it is honest mail with a signature of 2,048 bits; the rest was changed, forwarded or forged on its way. Bodies are
//! markup, text and base64 of about 30 KiB. Names end in `.example`, addresses are those of RFC 2544.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::demo::NOW_SECONDS;
use crate::generate::keys::{ED25519, KEYS, RSA_2048, TestKey};
use crate::generate::sign::{Layout, Parts, Plan};
use crate::random::Random;

/// What to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// Messages.
    pub count: u64,
    /// Domains that send them.
    pub domain_count: u64,
    /// Where the random numbers start.
    pub seed: u64,
    /// Octets of a body on average; the least has two thirds of it, the greatest four thirds.
    pub body_bytes: usize,
    /// Puts the messages into the stream as base64 instead of files beside it.
    pub is_inline: bool,
}

/// Messages of one folder.
const FOLDER_MESSAGES: u64 = 1000;
/// Senders for others, each with an address block and an SPF record that domains include.
const PROVIDER_COUNT: u64 = 40;
/// Draws for domains and for messages do not meet.
const DOMAIN_CASES: u64 = 1 << 40;

/// Writes the stream into a folder, which is made where it is missing; gives the octets of all messages.
///
/// # Errors
/// The file and what is wrong with it.
pub fn write(dir: &Path, options: &Options) -> Result<u64, String> {
    let fault = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(dir).map_err(|error| fault(dir, error))?;
    let zone = dir.join("zone.yml");
    fs::write(&zone, zone_text(options)).map_err(|error| fault(&zone, error))?;
    let stream = dir.join("stream.jsonl");
    let mut lines = BufWriter::new(fs::File::create(&stream).map_err(|error| fault(&stream, error))?);
    let mut total = 0;
    for number in 0..options.count {
        let message = Message::new(options, number);
        total += message.octets.len() as u64;
        let (key, value) = if options.is_inline {
            ("message_b64", STANDARD.encode(&message.octets))
        } else {
            let folder = PathBuf::from(format!("messages/{:03}", number / FOLDER_MESSAGES));
            if number.is_multiple_of(FOLDER_MESSAGES) {
                fs::create_dir_all(dir.join(&folder)).map_err(|error| fault(&dir.join(&folder), error))?;
            }
            let path = folder.join(format!("m-{number:06}.eml"));
            fs::write(dir.join(&path), &message.octets).map_err(|error| fault(&dir.join(&path), error))?;
            ("path", path.display().to_string())
        };
        let line = json!({
            "id": format!("m-{number:06}"), "ip": message.client, "helo": message.helo,
            "mail_from": message.mail_from, key: value,
        });
        writeln!(lines, "{line}").map_err(|error| fault(&stream, error))?;
    }
    lines.flush().map_err(|error| fault(&stream, error))?;
    Ok(total)
}

/// A domain that sends mail.
struct Domain {
    name: String,
    provider: Option<u64>,
    number: u64,
    /// Index into [`KEYS`].
    key: usize,
    signs_twice: bool,
    policy: Option<&'static str>,
}

impl Domain {
    fn new(options: &Options, number: u64) -> Self {
        let mut random = Random::of_case(options.seed, DOMAIN_CASES + number);
        let words = ["amber", "birch", "cedar", "delta", "ember", "fern", "grove", "heath", "iris", "juniper"];
        let (first, second) = (random.pick(&words), random.pick(&words));
        let name = format!("{first}-{second}-{number}.example");
        let provider = random.chance(65).then(|| random.number() % PROVIDER_COUNT);
        let key = RSA_2048[random.below(RSA_2048.len())];
        let signs_twice = random.chance(10);
        let policy = [Some("reject"), Some("quarantine"), Some("none"), None][random.weighted(&[40, 20, 30, 10])];
        Self { name, provider, number, key, signs_twice, policy }
    }

    /// An address that its SPF record allows.
    fn client(&self, random: &mut Random) -> String {
        match self.provider {
            Some(provider) => format!("198.18.{provider}.{}", random.between(1, 254)),
            None => self.own_address(),
        }
    }

    fn own_address(&self) -> String {
        format!("198.19.{}.{}", self.number / 256 % 256, self.number % 256)
    }

    fn spf(&self) -> String {
        match self.provider {
            // Every other one allows itself first, in a way that asks further questions.
            Some(provider) if self.number.is_multiple_of(2) => {
                format!("v=spf1 a mx include:_spf.provider-{provider}.example -all")
            }
            Some(provider) => format!("v=spf1 include:_spf.provider-{provider}.example ~all"),
            None => format!("v=spf1 ip4:{} -all", self.own_address()),
        }
    }

    fn records(&self, out: &mut String) {
        let name = &self.name;
        let address = self.own_address();
        // Writing to a String can not fail.
        let _ = write!(
            out,
            "{name}:\n- TXT: \"{}\"\n- A: {address}\n- MX: [10, mx.{name}]\nmx.{name}:\n- A: {address}\n\
             s1._domainkey.{name}:\n- TXT: \"{}\"\n",
            self.spf(),
            key_record(&KEYS[self.key]),
        );
        if self.signs_twice {
            let _ = writeln!(out, "s2._domainkey.{name}:\n- TXT: \"{}\"", key_record(&KEYS[ED25519[0]]));
        }
        if let Some(policy) = self.policy {
            let _ = writeln!(out, "_dmarc.{name}:\n- TXT: \"v=DMARC1; p={policy}; rua=mailto:dmarc@{name}\"");
        }
    }
}

fn key_record(key: &TestKey) -> String {
    format!("v=DKIM1; k={}; p={}", key.kind, key.public)
}

fn zone_text(options: &Options) -> String {
    let mut text =
        "# The domains of the stream beside this file. A name that is not listed does not exist.\n".to_owned();
    for provider in 0..PROVIDER_COUNT {
        let _ = write!(
            text,
            "_spf.provider-{provider}.example:\n- TXT: \"v=spf1 ip4:198.18.{provider}.0/24 -all\"\n\
             out.provider-{provider}.example:\n- TXT: \"v=spf1 ip4:198.18.{provider}.0/24 -all\"\n",
        );
    }
    for number in 0..options.domain_count {
        Domain::new(options, number).records(&mut text);
    }
    text
}

/// What became of a message on its way.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Fate {
    Delivered,
    /// Text was added to the body.
    Changed,
    /// It came by a host that its SPF record does not allow.
    Forwarded,
    /// It is not from whom it says.
    Forged,
    /// A bounce: the null sender.
    Bounced,
}

struct Message {
    octets: Vec<u8>,
    client: String,
    helo: String,
    mail_from: String,
}

impl Message {
    fn new(options: &Options, number: u64) -> Self {
        let mut random = Random::of_case(options.seed, number);
        // Few domains send much, and many send little.
        let rank = random.number() % options.domain_count;
        let domain = Domain::new(options, rank.min(random.number() % options.domain_count));
        let fate = [Fate::Delivered, Fate::Changed, Fate::Forwarded, Fate::Forged, Fate::Bounced]
            [random.weighted(&[84, 4, 4, 5, 3])];
        let is_elsewhere = matches!(fate, Fate::Forwarded | Fate::Forged);
        let client =
            if is_elsewhere { format!("198.19.255.{}", random.below(256)) } else { domain.client(&mut random) };
        let helo = match domain.provider {
            _ if is_elsewhere => "relay.elsewhere.example".to_owned(),
            Some(provider) => format!("out.provider-{provider}.example"),
            None => format!("mx.{}", domain.name),
        };
        let mail_from = match fate {
            Fate::Bounced => String::new(),
            _ => format!("bounce-{number}@{}", domain.name),
        };
        let (media, body) = body(&mut random, options.body_bytes);
        let mut parts = Parts { fields: fields(&domain, number, media, &helo, &client), body };
        if fate != Fate::Forged {
            sign(&mut parts, &domain);
        }
        if fate == Fate::Changed {
            parts.body.extend_from_slice(b"-- \r\nSent through a list that adds this line.\r\n");
        }
        Self { octets: parts.octets(), client, helo, mail_from }
    }
}

fn fields(domain: &Domain, number: u64, media: &str, helo: &str, client: &str) -> Vec<Vec<u8>> {
    let name = &domain.name;
    let lines = [
        format!(
            "Received: from {helo} ({helo} [{client}])\r\n\tby mx.receiver.example (Postfix) with ESMTPS id {number:010X}\r\n\
             \tfor <someone@receiver.example>; Mon, 23 Nov 2026 11:59:59 +0000 (UTC)"
        ),
        format!(
            "Received: from app.internal.{name} (unknown [10.20.30.40])\r\n\tby {helo} with ESMTP id {number:08x};\r\n\
             \tMon, 23 Nov 2026 11:59:57 +0000"
        ),
        "Date: Mon, 23 Nov 2026 11:59:55 +0000".to_owned(),
        format!("From: \"News of {name}\" <news@{name}>"),
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

fn sign(parts: &mut Parts, domain: &Domain) {
    let signer = |algorithm: &str, selector: &str| Plan {
        name: "DKIM-Signature",
        tags: [
            ("v", "1"),
            ("a", algorithm),
            ("c", "relaxed/relaxed"),
            ("d", &domain.name),
            ("s", selector),
            ("t", &(NOW_SECONDS - 5).to_string()),
        ]
        .map(|(tag, value)| (tag.to_owned(), value.to_owned()))
        .to_vec(),
        header_relaxed: true,
        body_relaxed: true,
        names: ["From", "To", "Subject", "Date", "Message-ID", "Reply-To", "MIME-Version", "Content-Type"]
            .map(str::to_owned)
            .to_vec(),
        length: None,
        layout: Layout {
            between: "\r\n\t",
            around_equals: "",
            around_colon: "",
            base64_line: 72,
            end: "",
            b_first: false,
        },
    };
    let mut signatures = vec![signer("rsa-sha256", "s1").sign(parts, &KEYS[domain.key])];
    if domain.signs_twice {
        signatures.push(signer("ed25519-sha256", "s2").sign(parts, &KEYS[ED25519[0]]));
    }
    // Below the trace of the last host, which came later.
    parts.fields.splice(1..1, signatures);
}

/// A body with its media type.
fn body(random: &mut Random, bytes: usize) -> (&'static str, Vec<u8>) {
    type Add = fn(&mut String, &mut Random);
    let kinds: [(&str, Add); 3] = [
        ("text/html; charset=utf-8", markup),
        ("text/plain; charset=utf-8", paragraph),
        ("application/pdf; name=\"invoice.pdf\"", base64_line),
    ];
    let bytes = random.between(bytes - bytes / 3, bytes + bytes / 3);
    let (media, add) = kinds[random.weighted(&[60, 25, 15])];
    let mut body = String::with_capacity(bytes + 512);
    while body.len() < bytes {
        add(&mut body, random);
    }
    (media, body.into_bytes())
}

fn markup(body: &mut String, random: &mut Random) {
    let indent = " ".repeat(random.between(2, 14));
    let _ =
        write!(body, "{indent}<tr>\r\n{indent}  <td class=\"cell-{}\"  style=\"padding: 0\">\r\n", random.below(20));
    let _ = write!(body, "{indent}    <a href=\"https://news.example/c/{:016x}\">", random.number());
    words(body, random, 4);
    let _ = write!(body, "</a>\r\n{indent}    ");
    words(body, random, 12);
    let _ = write!(body, "\r\n{indent}  </td>\r\n{indent}</tr>\r\n");
}

fn paragraph(body: &mut String, random: &mut Random) {
    words(body, random, 11);
    body.push_str(random.pick(&[" \r\n", "\r\n", ".  And\r\n", ".\r\n\r\n"]));
}

fn base64_line(body: &mut String, random: &mut Random) {
    let octets: Vec<u8> = (0..8).flat_map(|_| random.number().to_le_bytes()).take(57).collect();
    body.push_str(&STANDARD.encode(octets));
    body.push_str("\r\n");
}

fn words(body: &mut String, random: &mut Random, count: usize) {
    const WORDS: [&str; 12] =
        ["the", "order", "of", "yours", "was", "sent", "today", "and", "should", "arrive", "within", "days"];
    for at in 0..random.between(1, count) {
        let space = if at > 0 { " " } else { "" };
        let _ = write!(body, "{space}{}", random.pick(&WORDS));
    }
}

#[cfg(test)]
mod tests {
    use mailproof::zone::Zone;
    use mailproof::{Engine, Envelope};
    use mailproof_proto::time::Timestamp;

    use super::*;

    #[test]
    fn the_zone_makes_honest_mail_pass_and_the_same_seed_the_same_mail() {
        let options = Options { count: 60, domain_count: 20, seed: 5, body_bytes: 3000, is_inline: true };
        let zone = Zone::from_yaml(&zone_text(&options)).unwrap();
        let engine = Engine::builder().zone(zone).fixed_time(Timestamp::from_seconds(NOW_SECONDS)).build().unwrap();
        let mut counts = std::collections::BTreeMap::new();
        for number in 0..options.count {
            let message = Message::new(&options, number);
            assert_eq!(message.octets, Message::new(&options, number).octets);
            let envelope = Envelope::new(message.client.parse().unwrap(), message.helo, message.mail_from);
            let verdict = engine.verify(&message.octets, envelope);
            *counts.entry(verdict.dmarc.result.word()).or_insert(0) += 1;
        }
        assert!(counts["pass"] > 40 && counts["fail"] > 0 && !counts.contains_key("temperror"), "{counts:?}");
    }
}

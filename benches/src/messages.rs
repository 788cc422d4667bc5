//! Messages of a chosen size and kind, always the same, and the DNS that makes them pass.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use mailproof::proto::dkim::{self, BodyHashes, Canonicalization, SigningKey, SigningPlan};
use mailproof::proto::dns::Name;
use mailproof::proto::message::HeaderIndex;

/// What a body is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Lines of 76 base64 characters.
    Base64,
    /// Indented markup.
    Html,
    /// Paragraphs of wrapped text.
    Text,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Base64, Self::Html, Self::Text];

    /// The name in a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Html => "html",
            Self::Text => "text",
        }
    }
}

/// Sizes of body that are measured, in KiB.
pub const SIZES_KIB: [usize; 3] = [2, 30, 300];

/// Address of the client; the third include authorises it.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77));
/// Argument of HELO.
pub const HELO: &str = "out7.mail.example.com";
/// Argument of MAIL FROM.
pub const MAIL_FROM: &str = "bounce-4711@news.example.org";
/// Name of the receiving host.
pub const RECEIVER: &str = "mx.example.net";

/// Names with their TXT records; every other name does not exist.
#[must_use]
pub fn texts() -> Vec<(&'static str, String)> {
    let include = |net: &str| format!("v=spf1 ip4:198.51.{net}.0/24 ip4:203.0.113.0/25 ip6:2001:db8:{net}::/48 ~all");
    vec![
        (
            "news.example.org",
            "v=spf1 include:_spf.example.com include:_spf2.example.com include:_spf3.example.com -all".to_owned(),
        ),
        ("_spf.example.com", include("100")),
        ("_spf2.example.com", include("101")),
        ("_spf3.example.com", "v=spf1 ip4:198.51.102.0/24 ip4:192.0.2.64/26 ip6:2001:db8:102::/48 ~all".to_owned()),
        ("s1._domainkey.example.org", key().record().expect("a key has a record")),
        ("s2._domainkey.mail.example.com", key().record().expect("a key has a record")),
        ("_dmarc.example.org", "v=DMARC1; p=reject; rua=mailto:dmarc@example.org".to_owned()),
    ]
}

/// A signed message whose body has `kib` KiB, give or take a line.
#[must_use]
pub fn message(kind: Kind, kib: usize) -> Vec<u8> {
    signed(kind, kib, 1)
}

/// The same with up to two signatures: that of the author, and above it that of whoever sends for them.
///
/// # Panics
/// Never: the key of the benchmarks signs.
#[must_use]
pub fn signed(kind: Kind, kib: usize, signatures: usize) -> Vec<u8> {
    let mut message = header(kind) + "\r\n" + &body(kind, kib * 1024);
    let key = key();
    for (domain, selector) in SIGNERS.into_iter().take(signatures) {
        let domain = Name::parse(domain).expect("a name");
        let plan = SigningPlan {
            domain: &domain,
            selector,
            identity: None,
            header_form: Canonicalization::Relaxed,
            body_form: Canonicalization::Relaxed,
            names: &["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"],
            oversigned: &[],
            signed_at: Some(SIGNED_AT),
            expires_at: None,
        };
        let (head, text) = message.split_once("\r\n\r\n").expect("a header ends");
        let mut bodies = BodyHashes::new();
        plan.want_body(&mut bodies);
        bodies.update(text.as_bytes());
        bodies.finish();
        let mut index = HeaderIndex::default();
        let octets = &message.as_bytes()[..head.len() + 2];
        let field = dkim::sign(&plan, &key, index.scan(octets), &bodies).expect("a key of ours signs");
        message.insert_str(0, &field);
    }
    message.into_bytes()
}

/// [`texts`] as a zone file.
#[must_use]
pub fn zone_text() -> String {
    texts().iter().map(|(name, text)| format!("{name}: [{{TXT: '{text}'}}]\n")).collect()
}

/// A body of `bytes` octets, give or take a line.
#[must_use]
pub fn body(kind: Kind, bytes: usize) -> String {
    let mut sequence = Sequence(0x6d61_696c);
    let mut body = String::with_capacity(bytes + 256);
    if kind == Kind::Html {
        body.push_str("<!DOCTYPE html>\r\n<html>\r\n<body>\r\n");
    }
    while body.len() < bytes {
        match kind {
            Kind::Base64 => base64_line(&mut body, &mut sequence),
            Kind::Html => html_row(&mut body, &mut sequence),
            Kind::Text => text_line(&mut body, &mut sequence),
        }
    }
    body
}

fn header(kind: Kind) -> String {
    let (media, encoding) = match kind {
        Kind::Base64 => ("application/pdf; name=\"invoice.pdf\"", "base64"),
        Kind::Html => ("text/html; charset=utf-8", "8bit"),
        Kind::Text => ("text/plain; charset=utf-8; format=flowed", "7bit"),
    };
    let mut header = String::new();
    for (by, from, id) in [
        ("mx.example.net", "out7.mail.example.com (out7.mail.example.com [192.0.2.77])", "4fXyZ12abc"),
        ("out7.mail.example.com", "app3.internal.example.com (unknown [10.20.30.40])", "8a7b6c5d4e"),
        ("app3.internal.example.com", "localhost (localhost [127.0.0.1])", "1122334455"),
    ] {
        let _ = write!(
            header,
            "Received: from {from}\r\n\tby {by} (Postfix) with ESMTPS id {id}\r\n\tfor <someone@example.net>; \
             Fri, 24 Oct 2025 09:14:07 +0000 (UTC)\r\n"
        );
    }
    let _ = write!(
        header,
        "Date: Fri, 24 Oct 2025 09:14:02 +0000\r\nFrom: \"Example News\" <news@example.org>\r\n\
         Reply-To: Example Support <support@example.org>\r\nTo: Someone <someone@example.net>\r\n\
         Subject: Your order 4711 has been sent,\r\n and what to do with it\r\n\
         Message-ID: <20251024091402.4711.8a7b6c5d@news.example.org>\r\n\
         List-Unsubscribe: <https://news.example.org/u/0123456789abcdef>, <mailto:u@news.example.org>\r\n\
         List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nX-Mailer: Example 3.2\r\nX-Campaign: order-sent\r\n\
         MIME-Version: 1.0\r\nContent-Type: {media}\r\nContent-Transfer-Encoding: {encoding}\r\n"
    );
    header
}

fn base64_line(body: &mut String, sequence: &mut Sequence) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    body.extend((0..76).map(|_| char::from(ALPHABET[sequence.below(64)])));
    body.push_str("\r\n");
}

fn html_row(body: &mut String, sequence: &mut Sequence) {
    let indent = " ".repeat(4 + 2 * sequence.below(6));
    let _ = write!(body, "{indent}<tr>\r\n{indent}  <td class=\"cell-{}\" width=\"", sequence.below(20));
    let _ = write!(body, "{}\"  style=\"padding: 0 {}px;\">\r\n{indent}    ", sequence.below(600), sequence.below(30));
    words(body, sequence, 1, 14);
    let _ = write!(body, "<a href=\"https://news.example.org/c/{:08x}\">", sequence.below(1 << 31));
    words(body, sequence, 1, 4);
    let _ = write!(body, "</a>\r\n{indent}  </td>\r\n{indent}</tr>\r\n");
}

fn text_line(body: &mut String, sequence: &mut Sequence) {
    words(body, sequence, 9, 13);
    // Some sentences end in two spaces, some lines in one (format=flowed), some paragraphs here.
    body.push_str([" \r\n", "\r\n", ".  And\r\n", ".\r\n\r\n"][sequence.below(4)]);
}

fn words(body: &mut String, sequence: &mut Sequence, from: usize, to: usize) {
    const WORDS: [&str; 16] = [
        "the", "order", "of", "yours", "was", "sent", "today", "and", "should", "arrive", "within", "a", "few", "days",
        "at", "home",
    ];
    for at in 0..from + sequence.below(to - from) {
        body.push_str(if at == 0 { "" } else { " " });
        body.push_str(WORDS[sequence.below(WORDS.len())]);
    }
}

/// A test key, published here: it signs nothing else.
fn key() -> SigningKey {
    SigningKey::read(include_bytes!("../data/signing-key.pk8")).expect("the key file is a key")
}

/// Who signs, and with which selector.
const SIGNERS: [(&str, &str); 2] = [("example.org", "s1"), ("mail.example.com", "s2")];

/// The day of the message: the same octets each time.
const SIGNED_AT: u64 = 1_761_297_242;

/// A fixed pseudo-random sequence (Knuth's MMIX constants).
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

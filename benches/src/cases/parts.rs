//! The parts of a verdict, each by itself.

use std::hint::black_box;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mailproof::proto::dkim::{self, DkimResult};
use mailproof::proto::dmarc::{self, DmarcOptions, DmarcResult, Identifiers};
use mailproof::proto::dns::{Answers, Name, Transcript};
use mailproof::proto::message::HeaderIndex;
use mailproof::proto::message::address::Author;
use mailproof::proto::spf::{self, Check, SpfOptions, SpfResult};
use mailproof::zone::Zone;
use mailproof_kernels::{RelaxedBody, RsaKey, SimpleBody};
use mailproof_testkit::generate::keys::{KEYS, RSA_2048};

use super::{Case, Work};
use crate::messages::{CLIENT, HELO, Kind, RECEIVER, body, message, texts, zone_text};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![Case::new("header", "scan", scan).short()];
    for kind in Kind::ALL {
        cases.push(Case::new("canonical", format!("relaxed 30KiB {}", kind.name()), move || relaxed(kind)).short());
        cases.push(Case::new("canonical", format!("simple 30KiB {}", kind.name()), move || simple(kind)));
    }
    for kib in [2, 30, 300] {
        cases.push(Case::new("hash", format!("SHA-256 {kib}KiB"), move || hash(kib)));
    }
    cases.extend([
        Case::new("read", "key RSA-2048", || read_key(rsa_record())).short(),
        Case::new("read", "key Ed25519", || read_key(ed25519_record())),
        Case::new("read", "SPF record", read_spf),
        Case::new("read", "DMARC record", read_dmarc),
        Case::new("verify", "RSA-2048", verify_rsa).short(),
        Case::new("verify", "Ed25519", verify_ed25519),
        Case::new("SPF", "flat", || spf("flat.example")),
        Case::new("SPF", "3 includes", || spf("three.example")).short(),
        Case::new("SPF", "at the limits", || spf("limits.example")),
        Case::new("SPF", "macros", || spf("macros.example")).short(),
        Case::new("DMARC", "record of the author", || walk("example.org")),
        Case::new("DMARC", "walk of 8 queries", || walk("a.b.c.d.e.f.g.h.i.deep.example")).short(),
    ]);
    cases
}

fn scan() -> Work {
    let text = message(Kind::Html, 2);
    let end = text.windows(4).position(|it| it == b"\r\n\r\n").expect("a header ends") + 2;
    let mut index = HeaderIndex::default();
    Box::new(move || index.scan(black_box(&text[..end])).len())
}

fn relaxed(kind: Kind) -> Work {
    let body = body(kind, 30 << 10).into_bytes();
    Box::new(move || {
        let (mut form, mut length) = (RelaxedBody::new(), 0);
        form.update(black_box(&body), |run| length += black_box(run).len());
        form.finish(|run| length += black_box(run).len());
        length
    })
}

fn simple(kind: Kind) -> Work {
    let body = body(kind, 30 << 10).into_bytes();
    Box::new(move || {
        let (mut form, mut length) = (SimpleBody::new(), 0);
        form.update(black_box(&body), |run| length += black_box(run).len());
        form.finish(|run| length += black_box(run).len());
        length
    })
}

fn hash(kib: usize) -> Work {
    let body = body(Kind::Text, kib << 10).into_bytes();
    Box::new(move || digest(&SHA256, black_box(&body)).as_ref().len())
}

fn rsa_record() -> String {
    format!("v=DKIM1; k=rsa; p={}", KEYS[RSA_2048[0]].public)
}

fn ed25519_record() -> String {
    format!("v=DKIM1; k=ed25519; p={}", KEYS[mailproof_testkit::generate::keys::ED25519[0]].public)
}

fn read_key(record: String) -> Work {
    Box::new(move || usize::from(dkim::Key::read(black_box(record.as_bytes())).expect("a key").bits()))
}

fn read_spf() -> Work {
    let (_, record) = texts().into_iter().find(|(name, _)| *name == "_spf3.example.com").expect("it is there");
    Box::new(move || spf::Record::parse(black_box(record.as_bytes())).expect("a record").as_str().len())
}

fn read_dmarc() -> Work {
    let record = "v=DMARC1; p=reject; sp=quarantine; adkim=s; rua=mailto:dmarc@example.org,mailto:reports@example.net";
    Box::new(move || usize::from(dmarc::record::Record::read(black_box(record.as_bytes())).is_some()))
}

/// As the engine does it: the vector routine where the processor has it, else the library.
fn verify_rsa() -> Work {
    let key = &KEYS[RSA_2048[0]];
    let information = STANDARD.decode(&key.public).expect("a key record holds base64");
    // SubjectPublicKeyInfo begins with two heads and the algorithm; RSAPublicKey ends with the exponent 65537.
    let public = &information[24..];
    let modulus = &public[public.len() - 5 - 256..public.len() - 5];
    let hash = digest(&SHA256, SIGNED);
    let octets: [u8; 32] = hash.as_ref().try_into().expect("SHA-256 has 32 octets");
    let signature = key.sign(SIGNED);
    if let Some(key) = RsaKey::prepare(modulus) {
        return Box::new(move || usize::from(key.verifies(black_box(&octets), black_box(&signature))));
    }
    let parsed = ParsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, public).expect("a key");
    Box::new(move || usize::from(parsed.verify_digest_sig(black_box(&hash), black_box(&signature)).is_ok()))
}

fn verify_ed25519() -> Work {
    let key = &KEYS[mailproof_testkit::generate::keys::ED25519[0]];
    let public = STANDARD.decode(&key.public).expect("a key record holds base64");
    let parsed = ParsedPublicKey::new(&ED25519, public).expect("a key");
    let hash = digest(&SHA256, SIGNED);
    let signature = key.sign(SIGNED);
    Box::new(move || usize::from(parsed.verify_sig(black_box(hash.as_ref()), black_box(&signature)).is_ok()))
}

/// With every answer known and its record read, as for the second message of a domain.
fn spf(domain: &str) -> Work {
    let mut zone = Zone::from_yaml(SPF_ZONE).expect("a zone");
    let mail_from = format!("bounce@{domain}");
    let (options, mut transcript) = (SpfOptions::default(), Transcript::new());
    Box::new(move || {
        let check = Check { ip: CLIENT, helo: HELO, mail_from: &mail_from, receiver: RECEIVER, now_seconds: 1 };
        let mut answers = Answers::new(&mut transcript, &mut zone);
        let outcome = spf::check_mail_from(black_box(&check), &options, &mut answers).expect("a zone has answers");
        assert_eq!(outcome.result, SpfResult::Pass, "{outcome:?}");
        1 + usize::from(outcome.lookup_count)
    })
}

fn walk(domain: &str) -> Work {
    let records = zone_text() + "deep.example: [{TXT: 'x'}]\n_dmarc.deep.example: [{TXT: 'v=DMARC1; p=reject'}]\n";
    let mut zone = Zone::from_yaml(&records).expect("a zone");
    let author = Author::One(Name::parse(domain).expect("a name"));
    let aligned = domain.split_once('.').map_or(domain, |(_, parent)| if parent == "org" { domain } else { parent });
    let signer = [(Name::parse(aligned).expect("a name"), DkimResult::Pass)];
    let (options, mut transcript) = (DmarcOptions::default(), Transcript::new());
    Box::new(move || {
        let identifiers = Identifiers { author: &author, spf: None, dkim: &signer };
        let mut answers = Answers::new(&mut transcript, &mut zone);
        let outcome = dmarc::evaluate(black_box(&identifiers), &options, &mut answers).expect("a zone has answers");
        assert_eq!(outcome.result, DmarcResult::Pass, "{outcome:?}");
        transcript.question_count()
    })
}

const SIGNED: &[u8] = b"a header, in its canonical form";

/// What SPF meets: 192.0.2.77 is let through by the last term that could.
const SPF_ZONE: &str = "\
flat.example: [{TXT: 'v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.0/25 ip6:2001:db8::/48 ip4:192.0.2.64/26 -all'}]
three.example: [{TXT: 'v=spf1 include:a.three.example include:b.three.example include:c.three.example -all'}]
a.three.example: [{TXT: 'v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.0/25 ~all'}]
b.three.example: [{TXT: 'v=spf1 ip4:198.51.101.0/24 ip4:203.0.113.0/25 ~all'}]
c.three.example: [{TXT: 'v=spf1 ip4:198.51.102.0/24 ip4:192.0.2.64/26 ~all'}]
limits.example: [{TXT: 'v=spf1 include:1.limits.example a:v1.limits.example a:v2.limits.example a:h2.limits.example \
mx:m.limits.example -all'}]
1.limits.example: [{TXT: 'v=spf1 include:2.limits.example ~all'}]
2.limits.example: [{TXT: 'v=spf1 include:3.limits.example ~all'}]
3.limits.example: [{TXT: 'v=spf1 include:4.limits.example ~all'}]
4.limits.example: [{TXT: 'v=spf1 include:5.limits.example ~all'}]
5.limits.example: [{TXT: 'v=spf1 a:h1.limits.example ~all'}]
h1.limits.example: [{A: 203.0.113.1}]
h2.limits.example: [{A: 203.0.113.2}]
h3.limits.example: [{A: 203.0.113.3}]
h4.limits.example: [{A: 203.0.113.4}]
h5.limits.example: [{A: 203.0.113.5}]
h6.limits.example: [{A: 203.0.113.6}]
h7.limits.example: [{A: 203.0.113.7}]
h8.limits.example: [{A: 203.0.113.8}]
h9.limits.example: [{A: 203.0.113.9}]
h10.limits.example: [{A: 192.0.2.77}]
m.limits.example: [{MX: [10, h1.limits.example]}, {MX: [10, h2.limits.example]}, {MX: [10, h3.limits.example]}, \
{MX: [10, h4.limits.example]}, {MX: [10, h5.limits.example]}, {MX: [10, h6.limits.example]}, \
{MX: [10, h7.limits.example]}, {MX: [10, h8.limits.example]}, {MX: [10, h9.limits.example]}, \
{MX: [10, h10.limits.example]}]
macros.example: [{TXT: 'v=spf1 exists:%{ir}.%{v}._spf.%{d2} include:%{l}._at.%{o} -all'}]
bounce._at.macros.example: [{TXT: 'v=spf1 exists:%{i}.%{h1r}._%{l1r-}.macros.example -all'}]
192.0.2.77.out7._bounce.macros.example: [{A: 127.0.0.2}]
";

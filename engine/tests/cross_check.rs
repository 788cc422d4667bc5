//! mail-auth's opinion comes out in our words, whatever the DNS says.
#![cfg(all(feature = "cross-check", feature = "zone-files"))]

use std::net::{IpAddr, Ipv4Addr};

use mailproof::cross_check::{CrossCheckError, Opinion, Received, SecondOpinion};
use mailproof::zone::Zone;
use mailproof_proto::arc::ArcResult;
use mailproof_proto::dkim::DkimResult;
use mailproof_proto::dmarc::DmarcResult;
use mailproof_proto::dns::{Name, Question, RecordType};
use mailproof_proto::spf::SpfResult;

/// The message of RFC 8463 appendix A.3, with one Ed25519 and one RSA signature.
const SIGNED: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
";

const KEYS: &str = "
brisbane._domainkey.football.example.com:
- TXT: v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
test._domainkey.football.example.com:
- TXT: v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB
";

fn received<'a>(message: &'a [u8], mail_from: &'a str) -> Received<'a> {
    let ip = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
    Received { message, ip, helo: "mx.example.org", mail_from, receiver: "mx.example.net" }
}

fn opinion(message: &str, mail_from: &str, zone: &str) -> Opinion {
    let zone = Zone::from_yaml(zone).unwrap();
    let message = message.replace('\n', "\r\n");
    let second = SecondOpinion::new().unwrap();
    second.verify(&received(message.as_bytes(), mail_from), |question| Some(zone.lookup(question))).unwrap()
}

fn spf(record: &str, others: &str) -> SpfResult {
    let zone = format!("example.org: [{{TXT: '{record}'}}]\n{others}");
    opinion("From: a@example.org\n\nHi\n", "a@example.org", &zone).spf.unwrap()
}

fn dkim(opinion: &Opinion) -> Vec<DkimResult> {
    opinion.dkim.iter().map(|signature| signature.result).collect()
}

#[test]
fn signatures_and_policy_pass() {
    let zone = format!("{KEYS}\n_dmarc.football.example.com: [{{TXT: v=DMARC1; p=reject}}]");
    let opinion = opinion(SIGNED, "", &zone);
    assert_eq!(dkim(&opinion), [DkimResult::Pass, DkimResult::Pass]);
    assert_eq!(opinion.dkim[0].domain.as_deref(), Some("football.example.com"));
    assert_eq!(opinion.dkim[0].selector.as_deref(), Some("brisbane"));
    assert_eq!(opinion.dkim[0].reason, None);
    assert_eq!((opinion.arc, opinion.dmarc, opinion.spf), (ArcResult::None, DmarcResult::Pass, Some(SpfResult::None)));
    assert_eq!(opinion.unanswered, []);
}

#[test]
fn signature_failures_are_told_apart() {
    let changed = SIGNED.replace("lost", "won");
    assert_eq!(dkim(&opinion(&changed, "", KEYS)), [DkimResult::Fail, DkimResult::Fail]);
    let changed = SIGNED.replace("Subject: Is", "Subject: Was");
    assert_eq!(dkim(&opinion(&changed, "", KEYS)), [DkimResult::Fail, DkimResult::Fail]);
    let zone = "brisbane._domainkey.football.example.com: [TIMEOUT]";
    assert_eq!(dkim(&opinion(SIGNED, "", zone)), [DkimResult::TempError, DkimResult::PermError]);
    let broken = SIGNED.replacen("v=1", "v=2", 1);
    assert_eq!(dkim(&opinion(&broken, "", KEYS)), [DkimResult::Neutral, DkimResult::Pass]);
}

#[test]
fn spf_mechanisms_see_the_caller_s_answers() {
    assert_eq!(spf("v=spf1 a:h.example.org -all", "h.example.org: [{A: 192.0.2.7}]"), SpfResult::Pass);
    assert_eq!(spf("v=spf1 mx -all", "h.example.org: [{A: 192.0.2.7}]"), SpfResult::Fail);
    let exchange = "mail.example.net: [{MX: [10, h.example.net]}]\nh.example.net: [{A: 192.0.2.7}]";
    assert_eq!(spf("v=spf1 mx:mail.example.net -all", exchange), SpfResult::Pass);
    let pointer = "7.2.0.192.in-addr.arpa: [{PTR: h.example.org}]\nh.example.org: [{A: 192.0.2.7}]";
    assert_eq!(spf("v=spf1 ptr -all", pointer), SpfResult::Pass);
    assert_eq!(spf("v=spf1 ptr -all", ""), SpfResult::Fail);
    let included = "i.example.org: [{TXT: 'v=spf1 ip4:192.0.2.0/24 -all'}]";
    assert_eq!(spf("v=spf1 include:i.example.org -all", included), SpfResult::Pass);
}

#[test]
fn names_without_addresses_are_neither_found_nor_failed() {
    let absent = "v=spf1 a:none.example.org exists:%{ir}.none.example.org exists:also.none.example.org ?all";
    assert_eq!(spf(absent, ""), SpfResult::Neutral);
    assert_eq!(spf("v=spf1 exists:there.example.org -all", "there.example.org: [{A: 127.0.0.2}]"), SpfResult::Pass);
    assert_eq!(spf("v=spf1 a:late.example.org -all", "late.example.org: [TIMEOUT]"), SpfResult::TempError);
    assert_eq!(spf("v=spf1 exists:late.example.org -all", "late.example.org: [TIMEOUT]"), SpfResult::TempError);
    assert_eq!(spf("v=spf1 mx:late.example.org -all", "late.example.org: [TIMEOUT]"), SpfResult::TempError);
}

#[test]
fn unknown_answers_are_named() {
    let message = b"From: a@example.org\r\n\r\nHi\r\n";
    let opinion = SecondOpinion::new().unwrap().verify(&received(message, "a@example.org"), |_| None).unwrap();
    assert_eq!((opinion.spf, opinion.dmarc), (Some(SpfResult::TempError), DmarcResult::TempError));
    assert!(opinion.unanswered.contains(&Question::new(Name::parse("example.org").unwrap(), RecordType::Txt)));
    assert!(opinion.unanswered.contains(&Question::new(Name::parse("_dmarc.example.org").unwrap(), RecordType::Txt)));
}

#[test]
fn no_header_is_no_opinion() {
    let second = SecondOpinion::new().unwrap();
    assert_eq!(second.verify(&received(b"", ""), |_| None), Err(CrossCheckError::NoHeader));
}

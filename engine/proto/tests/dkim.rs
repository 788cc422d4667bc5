//! DKIM as a program sees it: the example of RFC 8463, and that what is signed verifies however it arrives.

use mailproof_proto::dkim::{
    BodyHashes, Canonicalization, DkimOptions, DkimProblem, DkimResult, OVERSIGNED_NAMES, SIGNED_NAMES, SignError,
    SignatureOutcome, SigningKey, SigningPlan, Verifier, sign,
};
use mailproof_proto::dns::{Answer, AnswerSource, Answers, Name, Outcome, Question, RecordSet, Transcript, Txt};
use mailproof_proto::limits::HEADER_FIELD_BYTES_MAX;
use mailproof_proto::message::HeaderIndex;
use mailproof_proto::time::Timestamp;
use proptest::prelude::*;

/// Selectors with their records.
struct Keys(Vec<(&'static str, String)>);

impl AnswerSource for Keys {
    fn answer(&mut self, question: &Question) -> Option<Answer> {
        let name = question.name.to_string();
        let record = self.0.iter().find(|(selector, _)| name.starts_with(&format!("{selector}._domainkey.")));
        let outcome = record.map_or(Outcome::NxDomain, |(_, record)| {
            Outcome::Records(RecordSet::Txt([Txt(record.as_bytes().into())].into()))
        });
        Some(Answer::new(outcome, None))
    }
}

fn judge(header: &[u8], body: &[&[u8]], mut keys: Keys) -> Vec<SignatureOutcome> {
    let mut index = HeaderIndex::new();
    let headers = index.scan(header);
    let options = DkimOptions::default();
    let mut bodies = BodyHashes::new();
    let mut verifier = Verifier::begin(headers, None, &options, &mut bodies);
    body.iter().for_each(|chunk| bodies.update(chunk));
    bodies.finish();
    let mut transcript = Transcript::new();
    let mut answers = Answers::new(&mut transcript, &mut keys);
    verifier.outcomes(headers, &bodies, &options, Timestamp::from_seconds(1_528_637_909), &mut answers).unwrap()
}

const EXAMPLE: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r
 d=football.example.com; i=@football.example.com;\r
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r
 subject : date : message-id : from : subject : date;\r
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r
 d=football.example.com; i=@football.example.com;\r
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r
 date : message-id : from : subject : date;\r
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r
From: Joe SixPack <joe@football.example.com>\r
To: Suzie Q <suzie@shopping.example.net>\r
Subject: Is dinner ready?\r
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r
Message-ID: <20030712040037.46341.5F8J@football.example.com>\r
";
const EXAMPLE_BODY: &str = "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
const ED25519_RECORD: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const RSA_RECORD: &str = "v=DKIM1; k=rsa; \
    p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3\
    FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB";

#[test]
fn both_signatures_of_rfc_8463_appendix_a_pass() {
    let keys = Keys(vec![("brisbane", ED25519_RECORD.to_owned()), ("test", RSA_RECORD.to_owned())]);
    let found = judge(EXAMPLE.as_bytes(), &[EXAMPLE_BODY.as_bytes()], keys);
    let passed = |selector: &str, algorithm: &str, key_bits: u16, b: &str| SignatureOutcome {
        result: DkimResult::Pass,
        problem: None,
        domain: Some(Name::parse("football.example.com").unwrap()),
        selector: Some(selector.to_owned()),
        identity: Some("@football.example.com".to_owned()),
        algorithm: Some(algorithm.to_owned()),
        key_bits: Some(key_bits),
        b: Some(b.to_owned()),
        testing: false,
        signed_at: Some(1_528_637_909),
        expires_at: None,
        // The relaxed form of the body has one octet less than the body.
        body_octets: (EXAMPLE_BODY.len() as u64 - 1, EXAMPLE_BODY.len() as u64 - 1),
        header_holds: true,
    };
    let wanted =
        [passed("brisbane", "ed25519-sha256", 256, "/gCrinpc"), passed("test", "rsa-sha256", 1024, "F45dVWDf")];
    assert_eq!(found, wanted);
}

#[test]
fn a_message_without_author_is_not_signed() {
    let domain = Name::parse_domain("example.com").unwrap();
    let plan = plan(&domain, Canonicalization::Relaxed, Canonicalization::Relaxed);
    let mut index = HeaderIndex::new();
    let headers = index.scan(b"To: a@example.com\r\n");
    let key = key();
    assert_eq!(sign(&plan, &key, headers, &BodyHashes::new()), Err(SignError::NoFrom));
    let headers = index.scan(b"From: a@example.com\r\n");
    assert_eq!(sign(&plan, &key, headers, &BodyHashes::new()), Err(SignError::BodyNotHashed));
    for bad in [&b""[..], b"?", b"-----BEGIN PRIVATE KEY-----", b"AAAA", b"\x30\x00", b"\xff"] {
        assert_eq!(SigningKey::read(bad).err(), Some(SignError::Key), "{bad:?}");
    }
}

fn key() -> SigningKey {
    // The secret key of RFC 8463 appendix A.2.
    SigningKey::read(b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n").unwrap()
}

fn plan(domain: &Name, header_form: Canonicalization, body_form: Canonicalization) -> SigningPlan<'_> {
    SigningPlan {
        domain,
        selector: "brisbane",
        identity: None,
        header_form,
        body_form,
        names: &SIGNED_NAMES,
        oversigned: &OVERSIGNED_NAMES,
        signed_at: Some(1_528_637_909),
        expires_at: None,
    }
}

fn form() -> impl Strategy<Value = Canonicalization> {
    prop_oneof![Just(Canonicalization::Simple), Just(Canonicalization::Relaxed)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_signed_verifies_however_it_arrives(
        fields in proptest::collection::vec(
            ("From|TO|subject|Subject|cc|X-Any", "[ -~\t\r\u{e9}]{0,20}(\r\n [ -~]{0,9})?"), 0..8),
        body in "([a-c \t.\r\u{0}]{0,12}(\r\n|\n)?){0,12}",
        chunk_bytes in 1_usize..40,
        header_form in form(),
        body_form in form(),
    ) {
        let mut header = "From: a@football.example.com\r\n".to_owned();
        fields.iter().for_each(|(name, value)| header.push_str(&format!("{name}:{value}\r\n")));
        let domain = Name::parse_domain("football.example.com").unwrap();
        let plan = plan(&domain, header_form, body_form);
        let mut index = HeaderIndex::new();
        let mut bodies = BodyHashes::new();
        plan.want_body(&mut bodies);
        bodies.update(body.as_bytes());
        bodies.finish();
        let field = sign(&plan, &key(), index.scan(header.as_bytes()), &bodies).unwrap();
        prop_assert!(field.split("\r\n").all(|line| line.len() <= 78), "{}", field);
        let chunks: Vec<&[u8]> = body.as_bytes().chunks(chunk_bytes).collect();
        let signed = format!("{field}{header}");
        let keys = || Keys(vec![("brisbane", ED25519_RECORD.to_owned())]);
        let found = judge(signed.as_bytes(), &chunks, keys());
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(found[0].result, DkimResult::Pass, "{:?} {:?}", found, field);
        let longer = judge(signed.as_bytes(), &[body.as_bytes(), b"x"], keys());
        prop_assert_eq!(longer[0].result, DkimResult::Fail);
        let added = judge(format!("Subject: x\r\n{signed}").as_bytes(), &chunks, keys());
        prop_assert_eq!(added[0].result, DkimResult::Fail);
    }

    #[test]
    fn no_octets_make_it_panic(header in proptest::collection::vec(any::<u8>(), 0..300), tags in "[ -~\r\n\t]{0,200}") {
        let block = [b"DKIM-Signature: v=1; a=rsa-sha256;", tags.as_bytes(), b"\r\n", &header].concat();
        prop_assert!(!judge(&block, &[b"body"], Keys(Vec::new())).is_empty());
    }
}

#[test]
fn a_signed_field_over_its_limit_is_not_hashed() {
    let domain = Name::parse("example.com").unwrap();
    let mut bodies = BodyHashes::new();
    bodies.want(Canonicalization::Relaxed, None);
    bodies.finish();
    let judged = |field_bytes: usize| {
        let subject = format!("Subject: {}\r\n", "x".repeat(field_bytes - "Subject: ".len()));
        let header = format!("From: a@example.com\r\n{subject}");
        let plan = SigningPlan {
            domain: &domain,
            selector: "s",
            identity: None,
            header_form: Canonicalization::Relaxed,
            body_form: Canonicalization::Relaxed,
            names: &["From", "Subject"],
            oversigned: &[],
            signed_at: None,
            expires_at: None,
        };
        let mut index = HeaderIndex::new();
        let field = sign(&plan, &key(), index.scan(header.as_bytes()), &bodies).unwrap();
        let keys = Keys(vec![("s", key().record().unwrap())]);
        let outcome = judge(format!("{field}{header}").as_bytes(), &[], keys).remove(0);
        (outcome.result, outcome.problem)
    };
    assert_eq!(judged(HEADER_FIELD_BYTES_MAX), (DkimResult::Pass, None));
    assert_eq!(judged(HEADER_FIELD_BYTES_MAX + 1), (DkimResult::PermError, Some(DkimProblem::HeaderOverLimit)));
}

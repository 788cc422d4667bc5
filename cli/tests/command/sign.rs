use crate::{MESSAGE, demo_path, file, folder, run, run_with_input};

const NOW: &str = "1795435200";

#[test]
fn what_is_signed_verifies_with_the_record_that_is_printed() {
    let dir = folder("sign");
    let message = file(&dir, "plain.eml", MESSAGE);
    for key in ["orchard.pem", "orchard-ed25519.pem"] {
        let key = demo_path(&format!("keys/{key}"));
        let names = ["--key", &key, "--domain", "a.example", "--selector", "s1"];
        let record = run(&[&["sign", "--print-record"], &names[..]].concat());
        assert_eq!(record.code, Some(0), "{}", record.err);
        assert!(record.out.starts_with("s1._domainkey.a.example. IN TXT \"v=DKIM1; k="), "{}", record.out);
        let zone = file(&dir, "key.zone", &record.out);
        for forms in ["relaxed/relaxed", "s/s", "simple", "r/s"] {
            let signed =
                run(&[&["sign", "--now", NOW, "--canonicalization", forms, "--expire", "3600", &message], &names[..]]
                    .concat());
            assert_eq!(signed.code, Some(0), "{}", signed.err);
            assert!(signed.out.starts_with("DKIM-Signature: v=1; ") && signed.out.ends_with("\r\n\r\nHello.\r\n"));
            let judged = |now: &str| {
                let words = ["verify", "--json", "--zone", &zone, "--now", now, "-"];
                run_with_input(&words, signed.out.as_bytes()).verdicts()[0]["dkim"][0].clone()
            };
            assert_eq!(judged(NOW)["result"], "pass", "{key} {forms}");
            assert_eq!(judged("1795445200")["problem"], "expired");
        }
    }
}

#[test]
fn the_field_alone_and_a_choice_of_names() {
    let dir = folder("sign-field");
    let message = file(&dir, "plain.eml", MESSAGE);
    let key = demo_path("keys/orchard.pem");
    let fixed = ["sign", "--key", &key, "--domain", "a.example", "--selector", "s1", "--field", "--now", NOW];
    let chosen = run(&[&fixed[..], &["--headers", "from:subject", &message]].concat());
    let unfolded = chosen.out.replace("\r\n\t", "");
    assert!(unfolded.contains("h=from:from:subject;"), "{}", chosen.out);
    assert!(!chosen.out.contains("Hello"));
    let bad = run(&[&fixed[..], &["--headers", "subject", &message]].concat());
    assert_eq!(bad.code, Some(64));
    assert!(bad.err.contains("must name From"), "{}", bad.err);
}

use crate::{MESSAGE, demo_path, file, folder, run};

#[test]
fn the_reason_comes_first_and_the_evidence_follows() {
    let (message, zone) = (demo_path("message.eml"), demo_path("zone.yml"));
    let run =
        run(&["explain", "--from-trace", "--zone", &zone, "--now", "1795435200", "--authserv-id", "mx", &message]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.starts_with("DMARC fail, action quarantine\n"), "{}", run.out);
    for part in [
        "Nothing proves that the message is from lanternfest.example.",
        "the body is not the one that was signed.",
        "SPF passes, but for lists.commons.example",
        "The ARC chain is whole: lists.commons.example",
        "It is quarantined, as lanternfest.example asks (p=quarantine).",
        "author       lanternfest.example",
        "RFC 6376 section 6.1.3",
        "crew._domainkey.lanternfest.example",
        "found: not the same",
        "    subject:[hikes] The carp\\r\\n",
        "_dmarc.example: no such name",
        "SPF lists.commons.example belongs to commons.example: not aligned",
        "Authentication-Results: mx; spf=pass",
        "DNS: 5 questions",
        "(300 s)",
    ] {
        assert!(run.out.contains(part), "{part}\n{}", run.out);
    }
    assert!(!run.out.contains('\x1b'));
}

#[test]
fn every_letter_of_the_demo_can_be_explained() {
    let (mailbox, zone) = (demo_path("mailbox.mbox"), demo_path("zone.yml"));
    let count = std::fs::read_to_string(demo_path("expected.tsv")).unwrap().lines().count() - 1;
    for number in 1..=count {
        let run = run(&[
            "explain",
            "--number",
            &number.to_string(),
            "--from-trace",
            "--zone",
            &zone,
            "--now",
            "1795435200",
            &mailbox,
        ]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        assert!(!run.out.contains(['\0', '\x1b', '\r']), "letter {number}: {}", run.out);
        assert!(run.out.starts_with("DMARC "), "letter {number}: {}", run.out);
    }
    let beyond = run(&["explain", "--number", "999", "--zone", &zone, &mailbox]);
    assert_eq!(beyond.code, Some(65), "{}", beyond.err);
}

#[test]
fn what_is_hardly_a_message_is_explained_too() {
    let dir = folder("explain-odd");
    let zone = file(&dir, "zone.yml", "");
    for (name, octets) in [("empty", &b""[..]), ("binary", b"\xff\0\r\x1b[2J"), ("plain", MESSAGE.as_bytes())] {
        let message = file(&dir, name, octets);
        let run = run(&["explain", "--zone", &zone, "--ip", "192.0.2.1", "--helo", "[192.0.2.1]", &message]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        assert!(!run.out.contains('\x1b'));
    }
}

use serde_json::Value;

use crate::{MESSAGE, ZONE, demo_path, file, folder, run, run_with_input};

const ENVELOPE: [&str; 6] = ["--ip", "192.0.2.1", "--helo", "mx.a.example", "--mail-from", "<x@a.example>"];

fn verify(zone: &str, more: &[&str]) -> crate::Run {
    run(&[&["verify", "--zone", zone, "--authserv-id", "mx.example.net"], &ENVELOPE[..], more].concat())
}

#[test]
fn a_message_becomes_a_row_and_a_summary() {
    let dir = folder("verify-row");
    let (zone, message) = (file(&dir, "zone.yml", ZONE), file(&dir, "one.eml", MESSAGE));
    let run = verify(&zone, &[&message]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let lines: Vec<&str> = run.out.lines().collect();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines[0]), ["Message", "From", "SPF", "DKIM", "ARC", "DMARC", "Action", "Why"]);
    let row = ["one.eml", "a.example", "pass", "none", "none", "pass", "p=reject", "accept", "allowed", "client"];
    assert_eq!(words(lines[1]), row);
    assert!(lines[3].starts_with("1 message: DMARC 1 pass; 1 accepted; "), "{}", lines[3]);
    assert!(!run.out.contains('\x1b'), "colour in a file");
    assert_eq!(run.err, "");
}

#[test]
fn json_has_the_fields_of_the_contract_in_their_order() {
    const CONTRACT: &str = r#"{"v":1,"id":"m-000017",
     "spf":{"result":"pass","scope":"mfrom","domain":"bounce.example.org","ip":"192.0.2.7","problem":null,"explanation":null,
            "helo":{"result":"none","domain":"mx.example.org"}},
     "dkim":[{"result":"pass","domain":"example.org","selector":"s1","identity":"@example.org","algorithm":"rsa-sha256",
              "key_bits":2048,"b":"dzdVyOfA","testing":false,"problem":null}],
     "arc":{"result":"none","instances":0,"oldest_pass":null,"sealers":[],"problem":null},
     "dmarc":{"result":"pass","from_domain":"example.org","organizational_domain":"example.org","policy_domain":"example.org",
              "policy":"reject","applies":"p","discovery":"treewalk","testing":false,
              "aligned":{"spf":"relaxed","dkim":"strict"},"disposition":"none","problem":null},
     "action":"accept","authentication_results":"mx.example.net; spf=pass ..."}"#;
    let (message, zone) = (demo_path("message.eml"), demo_path("zone.yml"));
    let run = run(&["verify", "--json", "--from-trace", "--zone", &zone, "--now", "1795435200", &message]);
    let verdicts = run.verdicts();
    assert_eq!((run.code, verdicts.len()), (Some(0), 1));
    assert_eq!(keys(&verdicts[0]), keys(&serde_json::from_str(CONTRACT).unwrap()));
    assert_eq!(verdicts[0]["id"], "message.eml");
}

/// Every key of an object and of what is in it, in order.
fn keys(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| {
                std::iter::once(key.clone()).chain(keys(value).into_iter().map(move |below| format!("{key}/{below}")))
            })
            .collect(),
        Value::Array(list) => list.first().map(keys).unwrap_or_default(),
        _ => Vec::new(),
    }
}

#[test]
fn mailboxes_of_every_kind_and_standard_input() {
    let dir = folder("verify-kinds");
    let zone = file(&dir, "zone.yml", ZONE);
    let mbox = file(&dir, "mail.mbox", format!("From x Mon\n{MESSAGE}\nFrom y Mon\n{MESSAGE}\n"));
    file(&dir, "maildir/cur/1:2,S", MESSAGE);
    file(&dir, "maildir/new/2", MESSAGE);
    file(&dir, "folder/a.eml", MESSAGE);
    let (maildir, eml) = (dir.join("maildir"), dir.join("folder"));
    let run = verify(&zone, &["--json", &mbox, maildir.to_str().unwrap(), eml.to_str().unwrap()]);
    let ids: Vec<Value> = run.verdicts().iter().map(|verdict| verdict["id"].clone()).collect();
    assert_eq!(ids, ["mail.mbox:#1", "mail.mbox:#2", "2", "1:2,S", "a.eml"]);
    assert!(run.verdicts().iter().all(|verdict| verdict["dmarc"]["result"] == "pass"), "{}", run.out);
    let piped =
        run_with_input(&[&["verify", "--json", "--zone", &zone], &ENVELOPE[..], &["-"]].concat(), MESSAGE.as_bytes());
    assert_eq!((piped.code, piped.verdicts()[0]["id"].clone()), (Some(0), Value::from("-")));
}

#[test]
fn odd_messages_in_a_mailbox_end_nothing() {
    let dir = folder("verify-odd");
    let zone = file(&dir, "zone.yml", ZONE);
    let odd = ["\0\0\0\r\r\r", ": : :", "From: <<<<@\u{202e}\x1b[31m", ""];
    let mut mbox: Vec<u8> = odd.iter().flat_map(|text| format!("From x Mon\n{text}\n\n").into_bytes()).collect();
    mbox.extend_from_slice(b"From x Mon\n\xff\xfe\n\n");
    mbox.extend_from_slice(format!("From x Mon\n{MESSAGE}\n").as_bytes());
    let mbox = file(&dir, "odd.mbox", mbox);
    let run = verify(&zone, &["--json", &mbox]);
    assert_eq!((run.code, run.verdicts().len()), (Some(0), odd.len() + 2), "{}", run.err);
    assert_eq!(run.verdicts().last().unwrap()["dmarc"]["result"], "pass");
    let table = verify(&zone, &[&mbox]);
    assert!(!table.out.contains(['\x1b', '\u{202e}', '\r', '\0']), "{}", table.out);
}

#[test]
fn the_trace_gives_what_is_not_given() {
    let dir = folder("verify-trace");
    let zone = file(&dir, "zone.yml", ZONE);
    let trace =
        "Return-Path: <x@a.example>\nReceived: from mx.a.example (mx.a.example [192.0.2.1])\n\tby b.example; now\n";
    let message = file(&dir, "one.eml", format!("{trace}{MESSAGE}"));
    let spf = |more: &[&str]| {
        let run = run(&[&["verify", "--json", "--zone", &zone, &message], more].concat());
        assert_eq!(run.code, Some(0), "{}", run.err);
        (run.verdicts()[0]["spf"]["result"].as_str().unwrap().to_owned(), run.err)
    };
    assert_eq!(spf(&["--from-trace"]), ("pass".to_owned(), String::new()));
    assert_eq!(spf(&["--from-trace", "--ip", "192.0.2.9"]).0, "fail");
    assert_eq!(spf(&["--from-trace", "--mail-from", "x@b.example"]).0, "none");
    let (result, note) = spf(&[]);
    assert!(result == "none" && note.contains("--from-trace"), "{note}");
}

#[test]
fn policy_editions_differ_on_reject() {
    let dir = folder("verify-policy");
    let (zone, message) = (file(&dir, "zone.yml", ZONE), file(&dir, "one.eml", MESSAGE));
    let action = |more: &[&str]| {
        let fixed = ["verify", "--json", "--zone", &zone, "--ip", "192.0.2.9", "--mail-from", "x@a.example"];
        run(&[&fixed[..], more, &[&message]].concat()).verdicts()[0]["action"].clone()
    };
    assert_eq!(action(&[]), "quarantine");
    assert_eq!(action(&["--policy", "9989"]), "quarantine");
    assert_eq!(action(&["--policy", "7489"]), "reject");
}

#[test]
fn temporary_errors_can_defer() {
    let dir = folder("verify-defer");
    let zone = file(&dir, "zone.yml", "_dmarc.a.example: TIMEOUT\n");
    let message = file(&dir, "one.eml", MESSAGE);
    let json =
        |more: &[&str]| run(&[&["verify", "--json", "--zone", &zone, &message], more].concat()).verdicts()[0].clone();
    assert_eq!(json(&[])["action"], "accept");
    assert_eq!(json(&["--defer-on-temperror"])["action"], "defer");
}

#[test]
fn several_zones_and_master_files_add_up() {
    let dir = folder("verify-zones");
    let spf = file(&dir, "spf.zone", "$ORIGIN a.example.\n@ 300 IN TXT \"v=spf1 ip4:192.0.2.1 -all\"\n");
    let dmarc = file(&dir, "dmarc.yml", "_dmarc.a.example: [{TXT: 'v=DMARC1; p=none'}]\n");
    let message = file(&dir, "one.eml", MESSAGE);
    let verdict = verify(&spf, &["--json", "--zone", &dmarc, &message]).verdicts()[0].clone();
    assert_eq!(
        (verdict["dmarc"]["result"].as_str(), verdict["dmarc"]["policy"].as_str()),
        (Some("pass"), Some("none"))
    );
}

#[test]
fn the_header_field_can_be_printed() {
    let dir = folder("verify-header");
    let (zone, message) = (file(&dir, "zone.yml", ZONE), file(&dir, "one.eml", MESSAGE));
    let run = verify(&zone, &["--header", &message]);
    assert!(run.out.starts_with("Authentication-Results: mx.example.net; spf=pass"), "{}", run.out);
}

#[test]
fn order_is_kept_over_threads() {
    let dir = folder("verify-order");
    let zone = file(&dir, "zone.yml", ZONE);
    let letter = |number: usize| format!("From x Mon\n{MESSAGE}{}\n", "word \n".repeat(number * 37 % 211));
    let mbox = file(&dir, "many.mbox", (0..300).map(letter).collect::<String>());
    let run = verify(&zone, &["--json", "--threads", "5", &mbox]);
    let ids: Vec<String> = run.verdicts().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (1..=300).map(|number| format!("many.mbox:#{number}")).collect::<Vec<_>>());
}

#[test]
fn a_second_opinion_changes_neither_verdict_nor_code() {
    let dir = folder("verify-cross-check");
    // mail-auth counts no void lookups: the third is our permerror alone.
    let zone = "a.example: [{TXT: 'v=spf1 a:n1.example a:n2.example a:n3.example ip4:192.0.2.1 -all'}]\n";
    let (zone, message) = (file(&dir, "zone.yml", zone), file(&dir, "one.eml", MESSAGE));
    let (plain, checked) =
        (verify(&zone, &["--json", &message]), verify(&zone, &["--json", "--cross-check", &message]));
    assert_eq!((plain.code, &plain.out), (checked.code, &checked.out));
    assert!(checked.err.contains("one.eml: SPF permerror, mail-auth says pass"), "{}", checked.err);
    let table = verify(&zone, &["--cross-check", &message]);
    assert!(table.out.contains("; mail-auth disagrees on 1 of 1; "), "{}", table.out);
}

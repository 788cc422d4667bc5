use serde_json::Value;

use crate::{file, folder, run};

#[test]
fn outcome_reason_and_field() {
    let dir = folder("spf");
    let zone = "a.example: [{TXT: 'v=spf1 include:b.example -all exp=why.a.example'}]\nb.example: [{TXT: 'v=spf1 ip4:192.0.2.1 -all'}]\nwhy.a.example: [{TXT: 'not %{i}'}]\n";
    let zone = file(&dir, "zone.yml", zone);
    let fixed = ["spf", "--zone", &zone, "--helo", "mx.a.example", "--receiver", "mx.example.net", "--mail-from"];
    let text = run(&[&fixed[..], &["x@a.example", "--ip", "192.0.2.9"]].concat());
    assert_eq!(text.code, Some(0), "{}", text.err);
    for part in [
        "MAIL FROM  fail",
        "decided by   -all",
        "owner says   not 192.0.2.9",
        "lookups      1 of 10, 0 of 2 void",
        "HELO       none",
        "b.example TXT",
        "Received-SPF: fail (mx.example.net: domain of x@a.example does not designate 192.0.2.9",
    ] {
        assert!(text.out.contains(part), "{part}\n{}", text.out);
    }
    let json = run(&[&fixed[..], &["<x@a.example>", "--ip", "192.0.2.1", "--json"]].concat());
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (json["spf"]["result"].as_str(), json["spf"]["mechanism"].as_str()),
        (Some("pass"), Some("include:b.example"))
    );
    assert_eq!((json["spf"]["lookups"].as_u64(), json["helo"]["problem"].as_str()), (Some(1), Some("no-such-domain")));
    let null = run(&[&fixed[..], &["", "--ip", "192.0.2.1"]].concat());
    assert!(null.out.contains("<> (stands for postmaster@mx.a.example)"), "{}", null.out);
}

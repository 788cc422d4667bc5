//! The policy service, as Postfix talks to it.

mod server;

use std::sync::Arc;

use mailproof_milter::PolicyConversation;
use proptest::prelude::*;
use server::Daemon;

const ZONE: &str = "example.org: [{TXT: v=spf1 ip4:192.0.2.7 -all}]\nslow.example: [TIMEOUT]";

fn request(pairs: &str) -> String {
    let pairs: String = pairs.split(' ').map(|pair| format!("{pair}\n")).collect();
    format!("request=smtpd_access_policy\nprotocol_state=RCPT\nhelo_name=mail.example\nunknown_to_us=x\n{pairs}\n")
}

/// The answers to these octets, and whether the connection ended.
fn talk(daemon: &Daemon, octets: &[u8], chunk: usize) -> (Vec<String>, bool) {
    let mut connection = daemon.connect();
    connection.conversation = Box::new(PolicyConversation::new(Arc::clone(&daemon.service), daemon.engine.clone()));
    for piece in octets.chunks(chunk) {
        connection.send(piece, usize::MAX);
        connection.answer_all();
    }
    connection.conversation.closed();
    let answers = String::from_utf8(connection.requests.take_output()).unwrap();
    let answers = answers.split_terminator("\n\n").map(str::to_owned).collect();
    (answers, connection.requests.closes())
}

const ENFORCE: &str = "[policy]\nmode = 'enforce'\nrules.spf-fail = 'reject'\nrules.spf-temperror = 'defer'\n";

#[test]
fn spf_decides_as_the_policy_says() {
    let octets: String = [
        request("client_address=192.0.2.7 sender=ann@example.org instance=1"),
        request("client_address=198.51.100.9 sender=ann@example.org instance=2"),
        request("client_address=198.51.100.9 sender=ann@slow.example instance=3"),
        request("client_address=127.0.0.1 sender=ann@example.org instance=4"),
        request("client_address=198.51.100.9 sender=ann@example.org sasl_username=ann instance=5"),
        request("client_address=unknown sender=ann@example.org instance=6"),
        request("client_address=198.51.100.9 sender= instance=7"),
        request("client_address=198.51.100.9 sender=ann@example.org instance=8 protocol_state=CONNECT"),
    ]
    .concat();
    let expected = [
        "action=DUNNO",
        "action=550 5.7.23 SPF: 198.51.100.9 may not send mail from example.org",
        "action=DEFER_IF_PERMIT 4.7.24 SPF: slow.example can not be looked up now (dns-timeout)",
        "action=DUNNO",
        "action=DUNNO",
        "action=DUNNO",
        "action=DUNNO",
        "action=DUNNO",
    ];
    for offline in [false, true] {
        let daemon = Daemon::new(ENFORCE, ZONE, offline);
        for chunk in [usize::MAX, 1, 10] {
            assert_eq!(talk(&daemon, octets.as_bytes(), chunk), (expected.map(str::to_owned).to_vec(), false));
        }
        let line = "event=policy-request queue-id=- client=198.51.100.9 helo=mail.example spf=fail \
                    sender-domain=example.org action=reject reasons=spf-fail";
        assert!(daemon.take_lines().iter().any(|it| it == line));
    }
}

#[test]
fn hosts_that_are_skipped_and_forwarders_are_spared() {
    let zone = format!("{ZONE}\nmail.example: [{{TXT: v=spf1 ip4:203.0.113.5 -all}}]");
    let settings = "policy.mode = 'enforce'\npolicy.rules.spf-fail = 'reject'\n\
                    policy.known-forwarders = ['mail.example']\nskip.hosts = ['198.51.100.8', '.listed.example']";
    let octets: String = [
        request("client_address=198.51.100.8 sender=ann@example.org instance=1"),
        request("client_address=198.51.100.9 client_name=mx.listed.example sender=ann@example.org instance=2"),
        request("client_address=198.51.100.9 client_name=mx.other.example sender=ann@example.org instance=3"),
        request("client_address=203.0.113.5 sender=ann@example.org instance=4"),
    ]
    .concat();
    let refused = "action=550 5.7.23 SPF: 198.51.100.9 may not send mail from example.org";
    let expected = ["action=DUNNO", "action=DUNNO", refused, "action=DUNNO"].map(str::to_owned).to_vec();
    for offline in [false, true] {
        let daemon = Daemon::new(settings, &zone, offline);
        assert_eq!(talk(&daemon, octets.as_bytes(), usize::MAX), (expected.clone(), false));
    }
}

#[test]
fn received_spf_is_prepended_once_a_message() {
    let daemon = Daemon::new("[headers]\nreceived-spf = true", ZONE, false);
    let first = request("client_address=192.0.2.7 sender=ann@example.org instance=a");
    let second = request("client_address=192.0.2.7 sender=ann@example.org instance=b");
    let (answers, _) = talk(&daemon, [&*first, &first, &second].concat().as_bytes(), usize::MAX);
    let field = "action=PREPEND Received-SPF: pass (mx.example.net: domain of ann@example.org designates 192.0.2.7 as \
                 permitted sender) client-ip=192.0.2.7; envelope-from=\"ann@example.org\"; helo=mail.example; \
                 receiver=mx.example.net; identity=mailfrom; mechanism=ip4:192.0.2.7";
    let field = field.replace("mechanism=ip4:192.0.2.7", "mechanism=\"ip4:192.0.2.7\"");
    assert_eq!(answers, [&*field, "action=DUNNO", &*field]);
}

#[test]
fn observing_answers_nothing_but_dunno() {
    let daemon = Daemon::new("[policy.rules]\nspf-fail = 'reject'", ZONE, false);
    let fail = request("client_address=198.51.100.9 sender=ann@example.org instance=2");
    assert_eq!(talk(&daemon, fail.as_bytes(), usize::MAX).0, ["action=DUNNO"]);
    assert!(daemon.take_lines()[0].ends_with("action=accept would=reject reasons=\"spf-fail mode-observe\""));
}

#[test]
fn what_is_no_request_gets_no_answer() {
    let daemon = Daemon::new("", ZONE, false);
    for octets in ["\n", "request=other\n\n", "no pair\n\n", &format!("request={}", "x".repeat(16 * 1024))] {
        assert_eq!(talk(&daemon, octets.as_bytes(), usize::MAX), (Vec::new(), true), "{octets:.20}");
        assert_eq!(daemon.take_lines().iter().filter(|line| line.starts_with("event=protocol-error")).count(), 1);
    }
    let line = |length: usize| format!("request=smtpd_access_policy\nx={}\n\n", "x".repeat(length));
    let fixed = line(0).len();
    assert!(!talk(&daemon, line(16 * 1024 - fixed).as_bytes(), 100).1);
    assert!(talk(&daemon, line(16 * 1024 - fixed + 1).as_bytes(), 100).1);
}

proptest! {
    #[test]
    fn any_octets_are_met_without_a_panic(octets in "[a-z_=\n\r ]{0,200}", chunk in 1_usize..50) {
        let daemon = Daemon::new("", ZONE, false);
        let whole = talk(&daemon, octets.as_bytes(), usize::MAX);
        prop_assert_eq!(talk(&daemon, octets.as_bytes(), chunk), whole);
    }
}

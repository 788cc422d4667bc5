//! The example programs: compiled as C and as C++, without and with sanitizers, and run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mailproof::zone::Zone;
use mailproof_fault_dns::{Plan, Server};
use serde_json::Value;

use crate::c::{Language, SANITIZERS, compile, folder, said, scratch, skip};

const ZONE: &str = r#"
example.org: [{TXT: "v=spf1 include:_spf.example.org -all"}]
_spf.example.org: [{TXT: "v=spf1 ip4:192.0.2.7 -all"}]
mx.example.org: [{TXT: "v=spf1 a -all"}, {A: 192.0.2.7}]
_dmarc.example.org: [{TXT: "v=DMARC1; p=reject"}]
"#;

/// A folder in the place of a message: no verdict, since what can be read of it is no message.
fn refuses_a_folder(program: &Path, words: &[&str], to: &Path) {
    let output = Command::new(program).args(words).arg(to).output().unwrap();
    assert_eq!(output.status.code(), Some(66), "{}", String::from_utf8_lossy(&output.stderr));
}

/// With the line ends of Unix, as files have them.
const GOOD: &str = "From: Ann <ann@example.org>\nTo: bob@example.net\nSubject: one\n two\n\nText.\nMore.\n";
const FORGED: &str = "From: Ann <ann@example.net>\nSubject: two\n\n";

/// Client, HELO and MAIL FROM.
const ENVELOPE: [&str; 3] = ["192.0.2.7", "mx.example.org", "ann@example.org"];

/// Compiles an example in every way that is promised; gives the programs.
fn programs(name: &str, libraries: &[&str], to: &Path) -> Vec<PathBuf> {
    let source = folder().join(format!("examples/{name}.c"));
    let sanitized = to.join("sanitized");
    fs::create_dir_all(&sanitized).unwrap();
    let with_sanitizers = [libraries, SANITIZERS].concat();
    vec![
        compile(&source, Language::C11, libraries, to),
        compile(&source, Language::Cpp17, libraries, to),
        compile(&source, Language::C11, &with_sanitizers, &sanitized),
    ]
}

fn write(to: &Path, name: &str, text: &str) -> PathBuf {
    let path = to.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// The words of DMARC in lines of JSON, by the names of the messages.
fn dmarc(lines: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = lines
        .lines()
        .map(|line| {
            let verdict: Value = serde_json::from_str(line).unwrap();
            let id = Path::new(verdict["id"].as_str().unwrap()).file_name().unwrap().to_string_lossy().into_owned();
            (id, verdict["dmarc"]["result"].as_str().unwrap().to_owned())
        })
        .collect();
    found.sort();
    found
}

fn expected() -> Vec<(String, String)> {
    [("forged.eml", "none"), ("good.eml", "pass")].map(|(id, word)| (id.to_owned(), word.to_owned())).to_vec()
}

#[test]
fn one_call() {
    let to = scratch("example-verify");
    let (zone, good) = (write(&to, "zone.yml", ZONE), write(&to, "good.eml", GOOD));
    for program in programs("verify", &[], &to) {
        let mut command = Command::new(program);
        command.arg(&good).args(ENVELOPE).arg(&zone);
        let found = said(&mut command);
        assert!(found.starts_with("SPF    pass      example.org\nDMARC  pass      example.org\n"), "{found}");
        assert!(found.contains("Authentication-Results: mx.example.net; spf=pass"), "{found}");
    }
}

#[test]
fn streaming() {
    let to = scratch("example-stream");
    let (zone, good, forged) =
        (write(&to, "zone.yml", ZONE), write(&to, "good.eml", GOOD), write(&to, "forged.eml", FORGED));
    for program in programs("stream", &[], &to) {
        let mut command = Command::new(&program);
        assert_eq!(dmarc(&said(command.arg(&zone).args(ENVELOPE).args([&good, &forged]))), expected());
        // Lines as long as they may be, longer, and with octets that end texts in C.
        let long = format!("Subject: {}\r\nX-Long: {}\r\nX-Nul: a\0b\r\n", "x".repeat(989), "y".repeat(70_000));
        let long = write(&to, "good.eml", &(long + &GOOD.replace('\n', "\r\n")));
        let lines = said(Command::new(&program).arg(&zone).args(ENVELOPE).arg(&long));
        let verdict: Value = serde_json::from_str(&lines).unwrap();
        assert_eq!(
            (&verdict["dmarc"]["result"], &verdict["dmarc"]["from_domain"]),
            (&"pass".into(), &"example.org".into())
        );
        write(&to, "good.eml", GOOD);
        refuses_a_folder(&program, &[&[zone.to_str().unwrap()][..], &ENVELOPE].concat(), &to);
    }
}

#[test]
fn event_loops() {
    let to = scratch("example-loops");
    let (good, forged) = (write(&to, "good.eml", GOOD), write(&to, "forged.eml", FORGED));
    let server = Server::start(Zone::from_yaml(ZONE).unwrap(), Plan::new(7)).unwrap();
    let check = |program: PathBuf| {
        let mut command = Command::new(program);
        command.arg(server.addr().to_string()).args(ENVELOPE);
        assert_eq!(dmarc(&said(command.args([&good, &forged]))), expected());
    };
    programs("epoll", &[], &to).into_iter().for_each(check);
    if !Path::new("/usr/include/event2/event.h").exists() {
        return skip("needs libevent-dev");
    }
    programs("libevent", &["-levent_core"], &to).into_iter().for_each(check);
}

#[test]
fn own_dns() {
    let to = scratch("example-own");
    let good = write(&to, "good.eml", GOOD);
    let server = Server::start(Zone::from_yaml(ZONE).unwrap(), Plan::new(7)).unwrap();
    for program in programs("own_dns", &["-lresolv"], &to) {
        let mut command = Command::new(program);
        command.arg(server.addr().ip().to_string()).arg(server.addr().port().to_string()).args(ENVELOPE).arg(&good);
        assert_eq!(dmarc(&said(&mut command)), expected()[1..]);
    }
}

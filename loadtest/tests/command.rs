//! The program: what it refuses, and with which exit code.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mailproof-loadtest")).args(arguments).output().unwrap()
}

/// Runs it and compares the exit code, with the words in what it says.
fn assert_refused(arguments: &[&str], code: i32, words: &str) {
    let output = run(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.contains(words)), (Some(code), true), "{arguments:?}: {text}");
}

#[test]
fn what_has_no_effect_or_does_not_exist_is_refused() {
    let engine = ["drive", "--engine", "--load", "burst 1", "--count", "1"];
    let null = ["drive", "--null", "--load", "burst 1", "--count", "1"];
    for (more, target) in [
        (&["--claims", "spf"][..], &engine),
        (&["--any-action"], &engine),
        (&["--stalled", "1"], &engine),
        (&["--timeout", "5"], &engine),
        (&["--claims", "spf"], &null),
        (&["--any-action"], &null),
        (&["--stalled", "1"], &null),
    ] {
        assert_refused(&[target, more].concat(), 64, more[0]);
    }
    for cpus in ["1023", "0,1023", "100000"] {
        assert_refused(&[&engine[..], &["--cpus", cpus]].concat(), 64, "there is no processor");
        assert_refused(&["null", "--cpus", cpus], 64, "there is no processor");
    }
    // No system has a process of this number: the kernel's limit is 2^22.
    assert_refused(&[&null[..], &["--pid", "4194305"]].concat(), 69, "there is no process 4194305");
    for target in [&engine, &null] {
        let output = run(target);
        assert!(output.status.success(), "{target:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The next hop stands for the mail server too, which then adds nothing to the header.
#[test]
fn what_arrives_decides_where_a_mail_server_is_driven() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("tcp:127.0.0.1:{port}");
    let words = ["drive", "--smtp", &address, "--arrivals", &address, "--load", "burst 20", "--sizes", "tiny"];
    for (claims, code, line) in [("none", 0, "unchecked 20"), ("dmarc", 1, "right 0, temporary errors 0, wrong 20")] {
        let output = run(&[&words[..], &["--claims", claims]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), text.contains(line)), (Some(code), true), "{claims}: {text}");
    }
    let unix = [&words[..3], &["--arrivals", "unix:/nonexistent/next-hop.sock", "--load", "burst 1"]].concat();
    assert_refused(&unix, 64, "a next hop has a TCP address");
    assert_refused(&["drive", "--engine", "--arrivals", &address, "--load", "burst 1"], 64, "--arrivals");
}

#[test]
fn no_server_listens_to_other_hosts() {
    assert_refused(&["dns", "--zone", "x.yml", "--listen", "0.0.0.0:0"], 64, "loopback");
    assert_refused(&["null", "--listen", "tcp:0.0.0.0:0"], 64, "loopback");
    assert_refused(&["spawn", "--listen", "tcp:127.0.0.1:0", "--", "true"], 64, "unix sockets");
}

#[test]
fn nothing_to_do_is_wrong_usage_and_an_empty_stream_is_bad_input() {
    assert_refused(&["sim", "--seeds", "0"], 64, "--seeds");
    assert_refused(&["compare", "--only", "postfx"], 64, "`postfx` is in the name of no row");
    let folder = Folder::new();
    fs::write(folder.0.join("stream.jsonl"), "").unwrap();
    let corpus = folder.0.to_str().unwrap();
    assert_refused(&["drive", "--null", "--load", "burst 1", "--corpus", corpus], 65, "without messages");
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("mailproof-loadtest-command-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

//! The program, and a client that is not ours. Apart from the other tests, because a process that is being started holds
//! the sockets of all of them for a moment.

#[path = "../server/client.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod client;

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::{env, fs, process};

use mailproof_fault_dns::{Plan, Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("fault-dns-{name}-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_mailproof-fault-dns"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn the_program_says_where_it_listens_and_ends_with_a_summary() {
    let folder = Folder::new("program");
    let yaml = folder.file("a.yml", "a.example:\n- TXT: it\n");
    let master = folder.file("b.zone", "b.example. 60 IN TXT \"other\"\n");
    let plan = folder.file("plan.yml", "probability: 0\nrules:\n- {fault: refused, name: b.example}\n");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let files = ["--zone", &yaml, "--zone", &master, "--plan", &plan];
        let mut program = start(&[&files[..], &["--probability", "1", "--seed", "3", "--statistics"]].concat());
        let mut out = BufReader::new(program.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let udp = Udp::new(line.trim_end().parse().unwrap());
        assert_eq!(Reply::read(&udp.ask(&Query::txt("a.example"))).unwrap().answer()[0].data, b"\x02it");
        assert_eq!(Reply::read(&udp.ask(&Query::txt("b.example"))).unwrap().rcode(), 5);
        udp.ask(&Query::txt("a.example"));
        kill(Pid::from_raw(program.id() as i32), signal).unwrap();
        let (mut rest, mut errors) = (String::new(), String::new());
        out.read_to_string(&mut rest).unwrap();
        program.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert!(program.wait().unwrap().success());
        assert_eq!(rest, "2 a.example TXT\n1 b.example TXT\n");
        assert!(errors.starts_with("udp-queries=3 ") && errors.ends_with(" fault-refused=1\n"), "{errors}");
    }
}

#[test]
fn the_program_says_what_is_wrong_and_exits() {
    let folder = Folder::new("errors");
    let zone = folder.file("a.yml", "a.example:\n- TXT: it\n");
    let plan = folder.file("plan.yml", "rules:\n- fault: los\n");
    let holder = Server::start(client::zone(), Plan::new(0)).unwrap();
    let taken = holder.addr().to_string();
    for (arguments, code, word) in [
        (vec!["--zone", "/no/such.yml"], 78, "/no/such.yml"),
        (vec!["--zone", &zone, "--plan", &plan], 78, "plan.yml"),
        (vec!["--zone", &zone, "--listen", &taken], 69, taken.as_str()),
        (vec!["--zone", &zone, "--listen", "0.0.0.0:0"], 2, "loopback"),
        (vec!["--zone", &zone, "--probability", "2"], 2, "not between 0 and 1"),
        (vec![], 2, "--zone"),
    ] {
        let output = start(&arguments).wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.contains(word)), (Some(code), true), "{arguments:?}: {text}");
    }
}

/// Plain replies are read by a client that is not ours, without a word of complaint.
#[test]
fn dig_accepts_plain_answers() {
    let server = Server::start(zone(), Plan::new(0)).unwrap();
    let Some(program) = ["kdig", "dig"].into_iter().find(|it| Command::new(it).arg("-v").output().is_ok()) else {
        eprintln!("not run: neither kdig nor dig is installed");
        return;
    };
    let port = server.addr().port().to_string();
    let dig = |arguments: &[&str]| {
        let fixed = ["@127.0.0.1", "-p", &port, "+retry=0", "+time=10"];
        let output = Command::new(program).args(fixed).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    for (arguments, status, needles) in [
        (&["a.example", "TXT"][..], "NOERROR", &["\"it\""][..]),
        (&["A.eXample", "TXT", "+tcp"], "NOERROR", &["\"it\""]),
        (&["a.example", "TXT", "+noedns"], "NOERROR", &["\"it\""]),
        (&["a.example", "A"], "NOERROR", &["192.0.2.1"]),
        (&["a.example", "MX"], "NOERROR", &["10 mx.example."]),
        (&["alias.example", "TXT"], "NOERROR", &["CNAME", "\"it\""]),
        (&["a.example", "SOA"], "NOERROR", &[]),
        (&["absent.example", "TXT"], "NXDOMAIN", &[]),
        (&["fails.example", "TXT"], "SERVFAIL", &[]),
        // Truncated, and then asked again by TCP.
        (&["many.example", "TXT"], "NOERROR", &["number 0 ", "number 19 "]),
    ] {
        let (is_good, text) = dig(arguments);
        // That it asks again by TCP is no complaint.
        let complaint =
            |line: &str| line.contains("warning") && !line.contains("truncated") || line.contains("malformed");
        let complains = text.to_ascii_lowercase().lines().any(complaint);
        assert!(is_good && !complains && text.contains(status), "{program} {arguments:?}: {text}");
        assert!(needles.iter().all(|needle| text.contains(needle)), "{program} {arguments:?}: {text}");
    }
    assert_eq!(server.statistics().ignored, 0);
}

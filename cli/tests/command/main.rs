//! The command as its users meet it: the built program, its output and its exit codes.

mod backend;
mod batch;
mod demo;
mod explain;
mod failures;
mod network;
mod resolve;
mod sign;
mod spf;
mod verify;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run of the program left behind.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Run {
    /// The output as lines of JSON.
    fn verdicts(&self) -> Vec<serde_json::Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
            .collect()
    }
}

fn run(arguments: &[&str]) -> Run {
    run_with_input(arguments, b"")
}

fn run_with_input(arguments: &[&str], input: &[u8]) -> Run {
    run_in(&[], arguments, input)
}

/// A run with these variables in its environment.
fn run_in(environment: &[(&str, &str)], arguments: &[&str], input: &[u8]) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mailproof"))
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A program that does not read its input may end before all of it is written.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A folder of its own for one test, empty.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A file in a folder; gives its path as the command line takes it.
fn file(folder: &Path, name: &str, octets: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, octets).unwrap();
    path.to_str().unwrap().to_owned()
}

fn demo_path(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo").join(name).to_str().unwrap().to_owned()
}

/// A zone in which `a.example` allows one client and asks for rejection of everything else.
const ZONE: &str = "a.example: [{TXT: 'v=spf1 ip4:192.0.2.1 -all'}]\n_dmarc.a.example: [{TXT: 'v=DMARC1; p=reject'}]\n";
const MESSAGE: &str = "From: x@a.example\nSubject: hello\n\nHello.\n";

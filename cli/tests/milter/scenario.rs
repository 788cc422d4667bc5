//! What a mail server with the milter does with a message: one case a file of `scenarios/`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

/// One case.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Scenario {
    #[allow(dead_code, reason = "for readers of the file")]
    why: String,
    #[serde(default)]
    pub(crate) config: String,
    #[serde(default)]
    pub(crate) port: Port,
    #[serde(default = "good_client")]
    pub(crate) client: String,
    #[serde(default = "good_name")]
    pub(crate) helo: String,
    /// What the client says before its message; each is answered with 2xx.
    #[serde(default)]
    pub(crate) before: Vec<String>,
    pub(crate) mail_from: String,
    #[serde(default = "one_recipient")]
    pub(crate) recipients: Vec<String>,
    #[serde(default)]
    sign: Vec<Signature>,
    message: String,
    #[serde(default = "once")]
    pub(crate) repeat: usize,
    /// How the reply begins that decides about the message.
    pub(crate) reply: String,
    #[serde(default)]
    pub(crate) delivered: bool,
    #[serde(default)]
    pub(crate) held: bool,
    /// Signatures added, which others find good.
    #[serde(default)]
    pub(crate) signatures: usize,
    /// Texts in the header that arrives, without its folding.
    #[serde(default)]
    pub(crate) has: Vec<String>,
    #[serde(default)]
    pub(crate) lacks: Vec<String>,
    /// Texts in a line of the daemon's log.
    #[serde(default)]
    pub(crate) log: Vec<String>,
}

/// Which service of the daemon is asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Port {
    #[default]
    Milter,
    Policy,
}

#[derive(Debug, Deserialize)]
struct Signature {
    domain: String,
    selector: String,
    key: String,
    forms: String,
    #[serde(default)]
    identity: Option<String>,
}

impl Scenario {
    /// Every case, by its name.
    pub(crate) fn all() -> Vec<(String, Self)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/milter/scenarios");
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let load = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap();
            let scenario = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_stem().unwrap().to_string_lossy().into_owned(), scenario)
        };
        paths.into_iter().map(load).collect()
    }

    /// The message, signed as it says; its lines end with CRLF.
    pub(crate) fn message(&self) -> String {
        let message = self.message.replace('\n', "\r\n");
        self.sign.iter().fold(message, |message, signature| {
            let key = keys().join(&signature.key).display().to_string();
            let (domain, selector) = (&signature.domain, &signature.selector);
            let options = ["sign", "-", "--key", &key, "--domain", domain, "--selector", selector];
            let identity = signature.identity.iter().flat_map(|identity| ["--identity", identity]);
            let more = ["--canonicalization", &signature.forms].into_iter().chain(identity);
            run(&options.into_iter().chain(more).collect::<Vec<_>>(), message.as_bytes())
        })
    }
}

/// Runs `mailproof` and gives what it says.
pub(crate) fn run(arguments: &[&str], input: &[u8]) -> String {
    let program = env!("CARGO_BIN_EXE_mailproof");
    let mut child = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The DNS record of a key of the tests.
pub(crate) fn record(key: &str) -> String {
    let file = keys().join(format!("{key}.pem")).display().to_string();
    // A line of a zone file: the strings of a record stand in quotes.
    run(&["sign", "--print-record", "--key", &file], b"").split('"').skip(1).step_by(2).collect()
}

/// The folder of the keys that tests sign with.
pub(crate) fn keys() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/testkit/keys")
}

fn good_client() -> String {
    "127.0.0.5".to_owned()
}

fn good_name() -> String {
    "mail.good.example".to_owned()
}

fn one_recipient() -> Vec<String> {
    vec!["someone@example.net".to_owned()]
}

fn once() -> usize {
    1
}

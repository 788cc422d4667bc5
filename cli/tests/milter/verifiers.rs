//! Signatures of ours, as others see them: this engine, dkimpy and OpenDKIM.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::mail_server::skip;
use crate::scenario;

/// Every signature of a message is good for everybody who is here.
pub(crate) fn check(message: &str, signatures: usize, dns: SocketAddr, folder: &Path, root: &Path) {
    let verdict = scenario::run(&["verify", "--json", "--resolver", &dns.to_string(), "-"], message.as_bytes());
    let verdict: serde_json::Value = serde_json::from_str(verdict.lines().next().unwrap()).unwrap();
    let results: Vec<&str> =
        verdict["dkim"].as_array().unwrap().iter().map(|it| it["result"].as_str().unwrap()).collect();
    assert_eq!(results, vec!["pass"; signatures]);
    check_with_dkimpy(message, signatures);
    check_with_opendkim(message, signatures, folder, root);
}

fn check_with_dkimpy(message: &str, signatures: usize) {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    if !python.exists() {
        skip("dkimpy (.venv)");
        return;
    }
    let program = "import sys, dkim\n\
                   keys = dict(line.split(' ', 1) for line in sys.argv[2:])\n\
                   message = sys.stdin.buffer.read()\n\
                   find = lambda name, timeout=5: keys.get(name.decode().rstrip('.'), '').encode()\n\
                   verify = lambda at: dkim.DKIM(message).verify(at, dnsfunc=find)\n\
                   sys.exit(0 if all(verify(at) for at in range(int(sys.argv[1]))) else 1)\n";
    let keys = published().map(|(name, record)| format!("{name} {record}"));
    let mut child = Command::new(python)
        .args(["-c", program, &signatures.to_string()])
        .args(keys)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), message.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "dkimpy says no to\n{message}");
}

fn check_with_opendkim(message: &str, signatures: usize, folder: &Path, root: &Path) {
    let keys: String = published().map(|(name, record)| format!("{name} {record}\n")).into_iter().collect();
    fs::write(folder.join("published"), keys).unwrap();
    fs::write(folder.join("message"), message).unwrap();
    let configuration = folder.join("opendkim.conf");
    let text = format!("Mode v\nTestPublicKeys {}\n", folder.join("published").display());
    fs::write(&configuration, text).unwrap();
    let output = Command::new(root.join("usr/sbin/opendkim"))
        .arg("-x")
        .arg(configuration)
        .args(["-vv", "-t"])
        .arg(folder.join("message"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(said.matches("dkim=pass ").count(), signatures, "OpenDKIM: {said}");
}

/// The keys of the zone, by their names.
fn published() -> [(&'static str, String); 2] {
    [("r._domainkey.good.example", "rsa-2048-a"), ("e._domainkey.good.example", "ed25519-a")]
        .map(|(name, key)| (name, scenario::record(key)))
}

//! Debian's Exim with the example module: mail through its whole way of receiving a message.
//!
//! Exim is unpacked by `scripts/mail_servers.sh`. It insists on an account of its own, which it gets in a mount namespace, so
//! that nothing of the machine is touched.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::c::{folder, library, run, scratch, skip};

/// Where Exim is; says why the test is left out otherwise.
fn root() -> Option<PathBuf> {
    let root = folder().join("../target/mail-servers");
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if is_root && root.join("usr/sbin/exim4").exists() && root.join("usr/include/exim4/local_scan.h").exists() {
        let can_mount = Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
        if can_mount {
            return root.canonicalize().ok();
        }
    }
    skip("needs root, mount namespaces, and Exim in target/mail-servers (scripts/mail_servers.sh)");
    None
}

/// Compiles the module with the flags that its comment names.
fn module(root: &Path, to: &Path) -> PathBuf {
    let module = to.join("mailproof-exim.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]);
    compiler.arg("-I").arg(root.join("usr/include/exim4")).arg("-I").arg(folder().join("include"));
    compiler.arg("-o").arg(&module).arg(folder().join("examples/exim/local_scan.c"));
    run(compiler.arg("-L").arg(library()).arg("-lmailproof").arg(format!("-Wl,-rpath,{}", library().display())));
    module
}

const ZONE: &str = r#"
example.org: [{TXT: "v=spf1 ip4:192.0.2.7 -all"}]
_dmarc.example.org: [{TXT: "v=DMARC1; p=reject"}]
late.example: [{TXT: TIMEOUT}]
"#;

/// A receiver that keeps what it takes in its queue.
fn configuration(to: &Path, module: &Path) -> String {
    format!(
        "primary_hostname = mx.example.net
spool_directory = {spool}
log_file_path = {spool}/%slog
local_scan_path = {module}
queue_only = true
smtp_enforce_sync = false
host_lookup =
rfc1413_query_timeout = 0s
recipients_max = 10
acl_smtp_rcpt = receive
acl_smtp_data = accept
begin acl
receive:
  accept set acl_m_mailproof_zone = {zone}
         set acl_m_mailproof_policy = 7489
begin routers
all:
  driver = accept
  transport = nowhere
begin transports
nowhere:
  driver = appendfile
  file = /dev/null
  user = daemon
",
        spool = to.join("spool").display(),
        module = module.display(),
        zone = to.join("zone.yml").display()
    )
}

const CLIENT: [&str; 2] = ["-oMa", "192.0.2.7"];

/// Talks SMTP to Exim, all commands at once, as a client would, or, without one, a program of the host; gives what it said.
fn talk(root: &Path, to: &Path, client: &[&str], script: &str) -> String {
    let accounts = "mount --bind passwd /etc/passwd && mount --bind group /etc/group && exec \"$@\"";
    let mut exim = Command::new("unshare");
    exim.args(["--mount", "sh", "-c", accounts, "sh"]).arg(root.join("usr/sbin/exim4"));
    exim.arg("-C").arg(to.join("exim.conf")).args(client).arg("-bs").current_dir(to);
    let mut child = exim.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.replace('\n', "\r\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let log = fs::read_to_string(to.join("spool/mainlog")).unwrap_or_default();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}{complained}{log}", output.status);
    assert!(!log.contains("mailproof:"), "{log}");
    said.into_owned()
}

fn prepare(root: &Path, to: &Path) {
    let spool = to.join("spool");
    fs::create_dir_all(&spool).unwrap();
    let account = |file: &str, line: &str| {
        let accounts = fs::read_to_string(Path::new("/etc").join(file)).unwrap();
        let others: Vec<&str> = accounts.lines().filter(|it| !it.starts_with("Debian-exim:")).collect();
        fs::write(to.join(file), format!("{}\n{line}\n", others.join("\n"))).unwrap();
    };
    // The account `daemon`, which every Debian has, by another name.
    account("passwd", "Debian-exim:x:1:1::/nonexistent:/usr/sbin/nologin");
    account("group", "Debian-exim:x:1:");
    std::os::unix::fs::chown(&spool, Some(1), Some(1)).unwrap();
    fs::write(to.join("zone.yml"), ZONE).unwrap();
    fs::write(to.join("exim.conf"), configuration(to, &module(root, to))).unwrap();
}

/// The header of the one message in the queue.
fn queued_header(to: &Path) -> String {
    let names = fs::read_dir(to.join("spool/input")).unwrap().map(|entry| entry.unwrap().path());
    let headers: Vec<PathBuf> = names.filter(|path| path.to_string_lossy().ends_with("-H")).collect();
    assert_eq!(headers.len(), 1, "{headers:?}");
    String::from_utf8_lossy(&fs::read(&headers[0]).unwrap()).into_owned()
}

#[test]
fn exim_refuses_what_is_forged_and_marks_what_is_not() {
    let Some(root) = root() else { return };
    let to = scratch("exim");
    prepare(&root, &to);
    let good = "MAIL FROM:<ann@example.org>\nRCPT TO:<bob@example.net>\nDATA\n\
        Authentication-Results: mx.example.net; dmarc=pass header.from=bank.example\n\
        From: Ann <ann@example.org>\nSubject: one\n\nText.\n.\n";
    let forged = "MAIL FROM:<x@attack.example>\nRCPT TO:<bob@example.net>\nDATA\n\
        From: Ann <ann@example.org>\nSubject: two\n\nText.\n.\n";
    let said = talk(&root, &to, &CLIENT, &format!("EHLO mx.example.org\n{good}{forged}QUIT\n"));
    assert!(said.contains("\r\n250 OK id="), "{said}");
    assert!(said.contains("\r\n550 5.7.1 refused: the domain of the author"), "{said}");
    let header = queued_header(&to);
    let results: Vec<&str> =
        header.lines().filter(|line| line.contains("Authentication-Results: mx.example.net")).collect();
    // Exim marks what it has deleted with an asterisk behind the length.
    let (deleted, kept): (Vec<&str>, Vec<&str>) = results.into_iter().partition(|line| line.contains("* Auth"));
    assert_eq!((deleted.len(), kept.len()), (1, 1), "{header}");
    let folded =
        "Authentication-Results: mx.example.net;\n\tspf=pass smtp.mailfrom=example.org;\n\tdkim=none;\n\tdmarc=pass";
    assert!(header.contains(folded), "{header}");
}

#[test]
fn exim_takes_what_programs_of_the_host_send() {
    let Some(root) = root() else { return };
    let to = scratch("exim-local");
    prepare(&root, &to);
    let own = "MAIL FROM:<cron@example.org>\nRCPT TO:<bob@example.net>\nDATA\n\
        Authentication-Results: (odd) MX.example.net ; dmarc=pass\n\
        From: Cron <cron@example.org>\nSubject: one\n\nText.\n.\n";
    let said = talk(&root, &to, &[], &format!("EHLO mx.example.net\n{own}QUIT\n"));
    assert!(said.contains("\r\n250 OK id="), "{said}");
    let header = queued_header(&to);
    let claims: Vec<&str> = header.lines().filter(|line| line.contains("Authentication-Results:")).collect();
    assert!(claims.len() == 1 && claims[0].contains("* Auth"), "{header}");
}

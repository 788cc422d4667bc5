//! Postfix and Sendmail of Debian, unpacked by `scripts/mail_servers.sh`, each with a configuration and a queue of its own.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::smtp::{free_port, wait_for};

/// Which mail server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Postfix,
    Sendmail,
}

/// Where a mail server finds what it needs.
pub(crate) struct Surroundings<'a> {
    pub(crate) folder: &'a Path,
    /// The milter.
    pub(crate) milter: SocketAddr,
    pub(crate) milter_socket: &'a Path,
    /// The policy service.
    pub(crate) policy: SocketAddr,
    /// Where mail goes on.
    pub(crate) next_hop: SocketAddr,
}

/// A running mail server; ended when dropped.
pub(crate) struct MailServer {
    kind: Kind,
    child: Child,
    folder: PathBuf,
    /// Takes mail through the milter.
    pub(crate) address: SocketAddr,
    /// Takes mail through the policy service (Postfix).
    pub(crate) policy_address: SocketAddr,
}

/// Where the packages are; says why a test is left out otherwise.
pub(crate) fn root() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/mail-servers");
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if is_root && root.join(".complete").exists() {
        return root.canonicalize().ok();
    }
    skip("needs root and target/mail-servers (scripts/mail_servers.sh)");
    None
}

/// Says what is left out, past the test's captured output: `scripts/test.sh` counts these lines.
pub(crate) fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

impl MailServer {
    pub(crate) fn start(kind: Kind, root: &Path, around: &Surroundings<'_>) -> Self {
        let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let (address, policy_address) = (local(free_port()), local(free_port()));
        let folder = around.folder.join("mail-server");
        fs::create_dir_all(folder.join("queue")).unwrap();
        let mut command = match kind {
            Kind::Postfix => postfix(root, &folder, around, address, policy_address),
            Kind::Sendmail => sendmail(root, &folder, around, address),
        };
        let log = File::create(folder.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let child = command.spawn().unwrap();
        let server = Self { kind, child, folder, address, policy_address };
        // Sendmail waits a minute before it believes that a host has no domain.
        wait_for("the mail server", || TcpStream::connect(address).ok());
        server
    }

    /// Messages that it holds.
    pub(crate) fn held(&self) -> Vec<String> {
        let (folder, prefix) = match self.kind {
            Kind::Postfix => (self.folder.join("queue/hold"), ""),
            Kind::Sendmail => (self.folder.join("queue"), "hf"),
        };
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    pub(crate) fn forget_held(&self) {
        for name in self.held() {
            match self.kind {
                Kind::Postfix => fs::remove_file(self.folder.join("queue/hold").join(name)).unwrap(),
                Kind::Sendmail => {
                    fs::remove_file(self.folder.join("queue").join(&name)).unwrap();
                    let _ = fs::remove_file(self.folder.join("queue").join(name.replacen("hf", "df", 1)));
                }
            }
        }
    }

    /// What it said of its milter: nothing, as long as its default action is not needed.
    pub(crate) fn milter_complaints(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.join("log")).unwrap();
        let complains = |line: &&str| line.contains("warning: milter ") || line.contains("to Milter service");
        log.lines().filter(complains).map(str::to_owned).collect()
    }

    /// Kills the processes of Postfix that talk to clients, and waits until they are gone.
    pub(crate) fn kill_sessions(&self) {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        for id in fs::read_to_string(children).unwrap().split_whitespace() {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            if name.trim() == "smtpd" {
                assert!(Command::new("kill").args(["-KILL", id]).status().unwrap().success());
            }
        }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        // Both end their children when they are told to.
        let _ = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("log of the mail server:\n{}", fs::read_to_string(self.folder.join("log")).unwrap_or_default());
        }
    }
}

fn postfix(
    root: &Path,
    folder: &Path,
    around: &Surroundings<'_>,
    address: SocketAddr,
    policy_address: SocketAddr,
) -> Command {
    let (configuration, state) = (folder.join("configuration"), folder.join("state"));
    fs::create_dir_all(&configuration).unwrap();
    fs::create_dir_all(&state).unwrap();
    let owner = nix::unistd::User::from_name("daemon").unwrap().expect("the account `daemon`").uid.as_raw();
    std::os::unix::fs::chown(&state, Some(owner), None).unwrap();
    let libraries = root.join("usr/lib/postfix");
    let main = format!(
        "compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/state
command_directory = {root}/usr/sbin
daemon_directory = {root}/usr/lib/postfix/sbin
shlib_directory = {root}/usr/lib/postfix
meta_directory = {root}/etc/postfix
mail_owner = daemon
setgid_group = mail
default_privs = nobody
maillog_file = /dev/stdout
import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_LIBRARY_PATH={libraries}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.net
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
local_recipient_maps =
relayhost = [127.0.0.1]:{next_hop}
smtpd_peername_lookup = no
smtpd_delay_reject = yes
smtpd_error_sleep_time = 0
smtpd_milters = unix:{socket}
milter_default_action = accept
disable_dns_lookups = yes
smtpd_client_connection_count_limit = 0
service_throttle_time = 1s
",
        folder = folder.display(),
        root = root.display(),
        libraries = libraries.display(),
        next_hop = around.next_hop.port(),
        socket = around.milter_socket.display(),
    );
    fs::write(configuration.join("main.cf"), main).unwrap();
    let policy = around.policy;
    let services = format!(
        "{address} inet n - n - - smtpd
{policy_address} inet n - n - - smtpd
  -o smtpd_milters=
  -o smtpd_recipient_restrictions=check_policy_service,inet:{policy},permit
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"
    );
    fs::write(configuration.join("master.cf"), services).unwrap();
    let mut check = Command::new(root.join("usr/sbin/postfix"));
    check.arg("-c").arg(&configuration).arg("check").env("LD_LIBRARY_PATH", &libraries);
    assert!(check.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let mut command = Command::new(root.join("usr/lib/postfix/sbin/master"));
    command.arg("-c").arg(&configuration).arg("-d").env("LD_LIBRARY_PATH", &libraries);
    command
}

fn sendmail(root: &Path, folder: &Path, around: &Surroundings<'_>, address: SocketAddr) -> Command {
    let text = format!(
        "OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `mx.example.net')dnl
define(`QUEUE_DIR', `{folder}/queue')dnl
define(`confPID_FILE', `{folder}/sendmail.pid')dnl
define(`STATUS_FILE', `{folder}/statistics')dnl
define(`ALIAS_FILE', `')dnl
define(`confTO_IDENT', `0')dnl
define(`confTRUSTED_USER', `root')dnl
define(`confDELIVERY_MODE', `background')dnl
define(`confMILTER_MACROS_CONNECT', `')dnl
define(`RELAY_MAILER_ARGS', `TCP $h {next_hop}')dnl
define(`SMART_HOST', `relay:[127.0.0.1]')dnl
FEATURE(`promiscuous_relay')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`nocanonify')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Family=inet, Addr=127.0.0.1, Port={port}, Name=MTA')dnl
INPUT_MAIL_FILTER(`mailproof', `S=inet:{milter}@127.0.0.1, T=C:30s;S:30s;R:60s;E:5m')dnl
MAILER(`smtp')dnl
",
        folder = folder.display(),
        next_hop = around.next_hop.port(),
        port = address.port(),
        milter = around.milter.port(),
    );
    fs::write(folder.join("sendmail.mc"), text).unwrap();
    let macros = root.join("usr/share/sendmail/cf");
    let made = Command::new(root.join("usr/bin/m4"))
        .current_dir(macros.join("cf"))
        .arg(format!("-D_CF_DIR_={}/", macros.display()))
        .args([macros.join("m4/cf.m4"), folder.join("sendmail.mc")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::write(folder.join("sendmail.cf"), made.stdout).unwrap();
    // It wants a host with a domain, which only itself sees; where that is refused it starts after a minute.
    let mut command = Command::new("sh");
    let line = "if unshare --uts true 2>/dev/null; then exec unshare --uts sh -c \
                'hostname mx.example.net; exec \"$0\" -C \"$1\" -bD -q1m' \"$0\" \"$1\"; fi; exec \"$0\" -C \"$1\" -bD -q1m";
    command.args(["-c", line]).arg(root.join("usr/libexec/sendmail/sendmail")).arg(folder.join("sendmail.cf"));
    command
}

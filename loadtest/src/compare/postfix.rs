//! Postfix with one filter or another: what mail costs as a whole.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::filters::{self, Stack};
use super::world::{Program, World};
use crate::target::{Address, Leg};

/// A running one, with its queue in memory where the machine has room for that.
pub(crate) struct Postfix {
    pub(crate) program: Program,
    pub(crate) address: SocketAddr,
    folder: PathBuf,
}

/// Where files are in memory.
const MEMORY: &str = "/dev/shm";

impl Postfix {
    /// Starts one that shows mail to these filters and hands it on to `next_hop`.
    pub(crate) fn start(
        world: &World,
        stack: Option<&Stack>,
        asks_policyd: bool,
        next_hop: SocketAddr,
        name: &str,
    ) -> io::Result<Self> {
        let base = if Path::new(MEMORY).is_dir() { PathBuf::from(MEMORY) } else { world.folder.clone() };
        let folder = base.join(format!("mailproof-postfix-{}-{name}", std::process::id()));
        let (configuration, state, queue) = (folder.join("configuration"), folder.join("state"), folder.join("queue"));
        for path in [&configuration, &state, &queue] {
            fs::create_dir_all(path)?;
        }
        // The account of the processes without privileges; every Debian has it.
        chown(&state, Some(DAEMON_ACCOUNT), None)?;
        let address = free_port()?;
        let milters = stack.map(milters).unwrap_or_default();
        let main = main_configuration(world, &folder, next_hop, &milters, asks_policyd);
        fs::write(configuration.join("main.cf"), main)?;
        let policyd = if asks_policyd { policyd_service(world)? } else { String::new() };
        fs::write(configuration.join("master.cf"), format!("{address} inet n - n - - smtpd\n{policyd}{SERVICES}"))?;
        let libraries = world.rival("usr/lib/postfix");
        // Makes the folders of the queue.
        Command::new(world.rival("usr/sbin/postfix"))
            .arg("-c")
            .arg(&configuration)
            .arg("check")
            .env("LD_LIBRARY_PATH", libraries)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        let master = world.rival("usr/lib/postfix/sbin/master");
        let arguments = ["-c", &configuration.display().to_string(), "-d"];
        let mut program = world.spawn(&format!("postfix-{name}"), &master, &arguments, &world.places.target)?;
        program.wait_for(|| TcpStream::connect(address).is_ok())?;
        Ok(Self { program, address, folder })
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn milters(stack: &Stack) -> String {
    let milters = stack.legs.iter().filter_map(|leg| match leg {
        Leg::Milter(Address::Unix(path)) => Some(format!("unix:{}", path.display())),
        Leg::Milter(Address::Tcp(address)) => Some(format!("inet:{address}")),
        _ => None,
    });
    milters.collect::<Vec<_>>().join(", ")
}

fn main_configuration(world: &World, folder: &Path, next_hop: SocketAddr, milters: &str, asks_policyd: bool) -> String {
    let policy = if asks_policyd { "check_policy_service unix:private/policyd-spf, permit" } else { "permit" };
    format!(
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
import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_LIBRARY_PATH PYTHONPATH PYTHONDONTWRITEBYTECODE
export_environment = TZ MAIL_CONFIG LANG LD_LIBRARY_PATH PYTHONPATH PYTHONDONTWRITEBYTECODE
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.receiver.example
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
local_recipient_maps =
relay_domains = receiver.example
relay_recipient_maps =
relayhost = [127.0.0.1]:{next_hop}
smtpd_authorized_xclient_hosts = 127.0.0.0/8
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions = {policy}
smtpd_error_sleep_time = 0
smtpd_client_connection_count_limit = 0
smtpd_milters = {milters}
milter_default_action = tempfail
disable_dns_lookups = yes
in_flow_delay = 0
service_throttle_time = 1s
message_size_limit = 0
mailbox_size_limit = 0
policyd-spf_time_limit = 3600
",
        folder = folder.display(),
        root = world.rivals.display(),
        next_hop = next_hop.port(),
    )
}

fn policyd_service(world: &World) -> io::Result<String> {
    let config = filters::policyd_config(world)?;
    let program = world.rival("usr/bin/policyd-spf");
    Ok(format!("policyd-spf unix - n n - 0 spawn user=nobody argv=/usr/bin/python3 {} {config}\n", program.display()))
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// `daemon` on Debian.
const DAEMON_ACCOUNT: u32 = 1;

const SERVICES: &str = "pickup unix n - n 60 1 pickup
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
";

//! The milter as mail servers meet it: the built daemon behind real Postfix and Sendmail, with a DNS server and a next hop
//! of the tests' own. Everything is on loopback, on ports that nobody else has.
//!
//! The mail servers are those that `scripts/mail_servers.sh` unpacks; where they are not, a test says that it is left out.

mod corpus;
mod daemon;
mod disturbances;
mod hostile;
mod mail_server;
mod peer;
mod process;
mod scenario;
mod smtp;
mod verifiers;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use daemon::Daemon;
use mail_server::{Kind, MailServer, Surroundings};
use mailproof::zone::Zone;
use mailproof_fault_dns::{Fault, Options as DnsOptions, Plan, Rule, Server as Dns};
use mailproof_proto::dns::Name;
use scenario::{Port, Scenario};
use smtp::{Client, Sink, free_port, wait_for};

/// A daemon with everything around it but the mail server.
struct World {
    folder: PathBuf,
    base: String,
    dns: Dns,
    sink: Sink,
    daemon: Daemon,
    milter: SocketAddr,
    policy: SocketAddr,
}

impl World {
    fn new(name: &str, config: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("mailproof-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut options = DnsOptions::default();
        options.negative_ttl_seconds = Some(3600);
        let dns = Dns::start_with(zone(), broken_names(), options).unwrap();
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (milter, policy, status) = (local(free_port()), local(free_port()), local(free_port()));
        let base = format!(
            "authserv-id = 'mx.example.net'\nlisten = ['tcp:{milter}', 'unix:{socket}']\nsocket-mode = '0666'\n\
             policy-listen = ['tcp:{policy}']\nstatus-listen = ['tcp:{status}']\nresolvers = ['{resolver}']\n\
             skip.networks = ['127.0.0.9']\nevents.to = 'file:{events}'\nverify.cross-check-sample = 1.0",
            socket = folder.join("milter.sock").display(),
            events = folder.join("events").display(),
            resolver = dns.addr(),
        );
        let daemon = Daemon::start(&folder, &base, &fill_in(config), status);
        Self { folder, base, dns, sink: Sink::start(), daemon, milter, policy }
    }

    fn mail_server(&self, kind: Kind, root: &Path) -> MailServer {
        let socket = self.folder.join("milter.sock");
        let around = Surroundings {
            folder: &self.folder,
            milter: self.milter,
            milter_socket: &socket,
            policy: self.policy,
            next_hop: self.sink.address,
        };
        MailServer::start(kind, root, &around)
    }

    /// Ends the daemon and starts it with what a reload can not change.
    fn restart(&mut self, base: &str) {
        self.daemon.signal("TERM");
        assert_eq!(self.daemon.wait(), Some(0));
        fs::write(self.folder.join("mailproof.toml"), base).unwrap();
        self.daemon.start_again();
    }

    fn reload(&self, config: &str) -> String {
        self.daemon.reload(&self.base, &fill_in(config))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn fill_in(text: &str) -> String {
    text.replace("{keys}", &scenario::keys().canonicalize().unwrap().display().to_string())
}

fn zone() -> Zone {
    let mut text = include_str!("zone.yml").to_owned();
    for key in ["ed25519-a", "rsa-2048-a"] {
        let record = scenario::record(key);
        let public = record.rsplit_once("p=").expect("a public key").1;
        text = text.replace(&format!("{{{key}}}"), public);
    }
    Zone::from_yaml(&text).unwrap()
}

/// Names whose questions fail at once, as where a resolver can not reach their servers.
fn broken_names() -> Plan {
    let name = Name::parse_domain("broken.example").unwrap();
    Plan::new(1).with(Rule::new(Fault::ServFail).below(name))
}

#[test]
fn postfix_does_with_mail_what_the_scenarios_say() {
    play_scenarios(Kind::Postfix);
}

#[test]
fn sendmail_does_with_mail_what_the_scenarios_say() {
    play_scenarios(Kind::Sendmail);
}

fn play_scenarios(kind: Kind) {
    let Some(root) = mail_server::root() else { return };
    let world = World::new(&format!("{kind:?}").to_lowercase(), "");
    let server = world.mail_server(kind, &root);
    let mut count = 0;
    for (name, scenario) in Scenario::all() {
        if kind == Kind::Sendmail && scenario.port == Port::Policy {
            continue;
        }
        println!("{kind:?}: {name}");
        play(&scenario, &world, &server, &root);
        count += 1;
    }
    println!("{kind:?}: {count} scenarios, {} connections", world.daemon.figure("mailproof_connections_total"));
    assert_eq!(server.milter_complaints(), Vec::<String>::new(), "the default action is never needed");
    assert_eq!(world.daemon.figure("mailproof_protocol_errors_total"), 0);
    assert_eq!(world.daemon.figure("mailproof_internal_errors_total"), 0);
    check_events(&world);
    check_second_opinions(&world);
}

/// Every message that the log tells of is in the event stream, with its verdict, and without anybody's name.
fn check_events(world: &World) {
    let messages = world.daemon.count("event=message ");
    let read = || fs::read_to_string(world.folder.join("events")).unwrap();
    let text = wait_for("the events", || Some(read()).filter(|text| text.lines().count() >= messages));
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), messages);
    let refused = events.iter().find(|event| event["action"] == "reject").expect("a message that was refused");
    assert_eq!(refused["verdict"]["dmarc"]["from_domain"], "good.example");
    assert_eq!(refused["reasons"], serde_json::json!(["spf-fail", "dmarc-fail", "policy-reject", "nothing-indirect"]));
    assert_eq!(refused["mail_from_local"].as_str().map(str::len), Some(16));
    assert!(!text.contains("ann@") && !text.contains("Hello"), "{text}");
}

/// mail-auth sees every message as we do.
fn check_second_opinions(world: &World) {
    let verified = || world.daemon.lines_with("event=message ").iter().filter(|line| line.contains(" dmarc=")).count();
    let figure = |result: &str| world.daemon.figure(&format!("mailproof_cross_checks_total{{result=\"{result}\"}}"));
    wait_for("second opinions", || (figure("agrees") == verified() as u64).then_some(()));
    let others = ["disagrees", "no-opinion", "dropped"].map(figure);
    assert_eq!(others, [0; 3], "{:?}", world.daemon.lines_with("event=cross-check"));
}

fn play(scenario: &Scenario, world: &World, server: &MailServer, root: &Path) {
    assert!(world.reload(&scenario.config).contains("result=done"));
    let message = scenario.message();
    let logged = |text: &String| world.daemon.count(text);
    let before: Vec<usize> = scenario.log.iter().map(logged).collect();
    let address = if scenario.port == Port::Policy { server.policy_address } else { server.address };
    let mut client = Client::connect(address, scenario.client.parse().unwrap(), &scenario.helo).unwrap();
    let recipients: Vec<&str> = scenario.recipients.iter().map(String::as_str).collect();
    for _ in 0..scenario.repeat {
        for line in &scenario.before {
            let reply = client.say(line).unwrap();
            assert!(reply.starts_with('2'), "{line}: {reply}");
        }
        let reply = client.send(&scenario.mail_from, &recipients, &message).unwrap();
        assert!(reply.starts_with(&scenario.reply), "{reply}");
        if scenario.delivered {
            check_delivered(scenario, &world.sink.next(), world, root);
        }
    }
    let _ = client.say("QUIT");
    if scenario.held {
        wait_for("a held message", || (server.held().len() == 1).then_some(()));
        server.forget_held();
    }
    assert_eq!((world.sink.drain(), server.held()), (Vec::new(), Vec::new()));
    for (text, before) in scenario.log.iter().zip(before) {
        wait_for(text, || (logged(text) > before).then_some(()));
    }
}

fn check_delivered(scenario: &Scenario, message: &str, world: &World, root: &Path) {
    let (header, _) = message.split_once("\r\n\r\n").unwrap_or((message, ""));
    let unfolded = header.replace("\r\n\t", " ").replace("\r\n ", " ");
    for text in &scenario.has {
        assert!(unfolded.contains(text.as_str()), "`{text}` is not in\n{unfolded}");
    }
    for text in &scenario.lacks {
        assert!(!unfolded.contains(text.as_str()), "`{text}` is in\n{unfolded}");
    }
    if scenario.signatures > 0 {
        verifiers::check(message, scenario.signatures, world.dns.addr(), &world.folder, root);
    }
}

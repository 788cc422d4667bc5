//! The daemon: sockets, threads, signals, and what systemd and those who watch want to know.
//!
//! Start: read everything, open the sockets, give up rights, start the engine, say "ready". SIGHUP: read everything
//! again, and only when all of it can be used put it in force; connections that are open keep what they began with.
//! SIGTERM: accept no more, let the messages under way end, end; a second one does not wait.

mod events;
mod hosted;
mod line_writer;
mod listeners;
mod notify;
mod published;
mod sandbox;
mod second_opinion;

pub use self::listeners::ListenError;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mailproof::Engine;
use mailproof::network::{Backend, NetworkOptions};
use mailproof::resolver::ResolverError;
use rustix::process::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use self::events::EventStream;
use self::hosted::{InForce, MilterHost, PolicyHost, Settings, StatusHost};
use self::line_writer::LineWriter;
use self::listeners::Listeners;
use self::notify::Manager;
use self::sandbox::Restriction;
use self::second_opinion::CrossCheck;
use crate::Service;
use crate::config::{Config, ConfigError, EventTarget};
use crate::log::{Format, Line, Sink};
use crate::metrics::{Metrics, Status};
use crate::signing::Signer;

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The configuration can not be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A socket can not be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Nobody to ask.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The machine refuses.
    #[error("{step}: {error}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

/// Checks a configuration as a start would, and opens nothing. Gives what a person may want to hear of it.
///
/// # Errors
/// [`DaemonError`] for the first fault.
pub fn check(file: &Path) -> Result<String, DaemonError> {
    let (config, signer) = Config::load(file)?;
    config.network()?;
    let name = config.authserv_ids(&host_name()).first().map(|it| it.as_str().to_owned()).unwrap_or_default();
    let (mode, keys) = (config.policy.mode.word(), signer.keys().len());
    Ok(format!("{}: good: results as {name}, mode {mode}, keys {keys}", file.display()))
}

/// Runs until SIGTERM. The log is standard error.
///
/// # Errors
/// [`DaemonError`] when it can not start.
pub fn run(file: &Path) -> Result<(), DaemonError> {
    let system = |step| move |error| DaemonError::System { step, error };
    // First of all: a signal that comes while the daemon starts waits until it has.
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT]).map_err(system("signals"))?;
    // A file of events that may grow no more (RLIMIT_FSIZE) is an error of its writing, not the end of the process.
    flag::register(SIGXFSZ, Arc::default()).map_err(system("signals"))?;
    let daemon = Daemon::start(file)?;
    for signal in signals.forever() {
        match signal {
            SIGHUP => daemon.reload(),
            _ => break,
        }
    }
    daemon.stop(&mut signals);
    Ok(())
}

/// A daemon that takes mail.
struct Daemon {
    file: PathBuf,
    /// As it was at the start; some of it a reload can not change.
    started_with: Config,
    in_force: Arc<InForce>,
    equipment: Equipment,
    status: Arc<Status>,
    listeners: Listeners,
    manager: Manager,
}

/// What every reload uses again.
struct Equipment {
    host_name: String,
    metrics: Arc<Metrics>,
    log: Arc<LineWriter>,
    events: Option<Arc<EventStream>>,
    engine: Engine,
}

impl Daemon {
    fn start(file: &Path) -> Result<Self, DaemonError> {
        let system = |step| move |error| DaemonError::System { step, error };
        let (config, signer) = Config::load(file)?;
        let host_name = host_name();
        let network = config.network()?;
        let descriptors = raise_descriptor_limit();
        let mut listeners = Listeners::new(&config);
        let milter = listeners.open(&config.listen)?;
        let policy = listeners.open(&config.policy_listen)?;
        let watching = listeners.open(&config.status_listen)?;
        let log = Arc::new(LineWriter::start_log(config.log.format).map_err(system("starting a thread"))?);
        log_panics(&log, config.log.format);
        let events = EventStream::open(&config.events).map_err(system("the event stream"))?.map(Arc::new);
        // Threads have the rights of the one that starts them, so this comes before the engine.
        let files = if config.sandbox { restrict_files(&config, &listeners, &network) } else { Restriction::Off };
        let engine = Engine::builder().options(config.options(&host_name)).network(network).build()?;
        let (metrics, status) = (Arc::new(Metrics::default()), Arc::new(Status::default()));
        let equipment = Equipment { host_name, metrics, log, events, engine };
        let settings = equipment.settings(&config, signer);
        let service = Arc::clone(&settings.service);
        let in_force = Arc::new(InForce::new(settings));
        let host = |sockets: Vec<std::os::fd::OwnedFd>, service: Arc<dyn mailproof::service::Service>| {
            sockets.into_iter().try_for_each(|socket| equipment.engine.listen(socket, Arc::clone(&service)))
        };
        host(milter, Arc::new(MilterHost(Arc::clone(&in_force)))).map_err(system("listening"))?;
        host(policy, Arc::new(PolicyHost(Arc::clone(&in_force)))).map_err(system("listening"))?;
        let watched = StatusHost {
            in_force: Arc::clone(&in_force),
            metrics: Arc::clone(&equipment.metrics),
            status: Arc::clone(&status),
            engine: equipment.engine.clone(),
        };
        host(watching, Arc::new(watched)).map_err(system("listening"))?;
        let calls = if config.sandbox { sandbox::restrict_calls() } else { Restriction::Off };
        let daemon = Self {
            file: file.to_owned(),
            started_with: config,
            in_force,
            equipment,
            status,
            listeners,
            manager: Manager::of_environment(),
        };
        daemon.say_started(&service, files, calls, descriptors);
        daemon.status.set_ready(true);
        daemon.manager.ready("Mail is taken");
        daemon.compare_keys(&daemon.started_with);
        Ok(daemon)
    }

    fn say_started(&self, service: &Service, files: Restriction, calls: Restriction, descriptors: Option<u64>) {
        let config = &self.started_with;
        let backend = self.equipment.engine.backend().unwrap_or(Backend::Epoll);
        self.equipment.metrics.set_dropped_lines({
            let (log, events) = (Arc::clone(&self.equipment.log), self.equipment.events.clone());
            move || [log.dropped(), events.as_ref().map_or(0, |events| events.dropped())]
        });
        service.log("start", |line| {
            line.pair("version", env!("CARGO_PKG_VERSION")).number("pid", std::process::id().into());
            line.pair("backend", backend.word());
            if let Backend::EpollInstead { reason } = &backend {
                line.pair("backend-reason", reason);
            }
            line.pair("landlock", files.word()).pair("seccomp", calls.word());
            line.pair("authserv-id", service.authserv_id()).pair("mode", config.policy.mode.word());
            line.number("keys", service.signer.keys().len() as u64);
            for (key, endpoints) in [
                ("listen", &config.listen),
                ("policy-listen", &config.policy_listen),
                ("status-listen", &config.status_listen),
            ] {
                let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
                if !endpoints.is_empty() {
                    line.pair(key, &endpoints.join(","));
                }
            }
        });
        if let Some(limit) = descriptors.filter(|limit| *limit < DESCRIPTORS_BESIDE + u64::from(config.connections_max))
        {
            service.log("few-descriptors", |line| {
                line.number("limit", limit).pair("detail", "connections-max can not be reached; raise LimitNOFILE");
            });
        }
    }

    /// Puts what the file says in force, or leaves everything as it is.
    fn reload(&self) {
        self.manager.reloading();
        let old = self.in_force.settings();
        match Config::load(&self.file) {
            Ok((mut config, signer)) => {
                let kept = kept_until_restart(&self.started_with, &config);
                config.log = self.started_with.log;
                let settings = self.equipment.settings(&config, signer);
                let service = Arc::clone(&settings.service);
                self.in_force.replace(settings);
                self.equipment.metrics.reloaded(true);
                service.log("reload", |line| {
                    line.pair("result", "done").pair("mode", config.policy.mode.word());
                    line.number("keys", service.signer.keys().len() as u64);
                    if !kept.is_empty() {
                        line.pair("restart-needed-for", &kept.join(","));
                    }
                });
                self.compare_keys(&config);
            }
            Err(error) => {
                self.equipment.metrics.reloaded(false);
                old.service.log("reload", |line| {
                    line.pair("result", "refused").display("detail", &error);
                });
            }
        }
        self.manager.ready("Mail is taken");
    }

    /// Compares the keys with the DNS, beside everything else.
    fn compare_keys(&self, config: &Config) {
        let service = Arc::clone(&self.in_force.settings().service);
        if !config.signing.check_dns || service.signer.keys().is_empty() {
            return;
        }
        let engine = self.equipment.engine.clone();
        let body = move || published::compare_keys(&service, &engine);
        // Without a thread the comparison is left out; the next reload makes it.
        let _ = thread::Builder::new().name("mailproof-keys".to_owned()).spawn(body);
    }

    /// Lets what is under way end.
    fn stop(mut self, signals: &mut Signals) {
        self.status.set_ready(false);
        self.manager.stopping();
        self.listeners.remove_files();
        let service = Arc::clone(&self.in_force.settings().service);
        service.log("stop", |line| {
            line.number("connections", self.equipment.metrics.connections_open());
        });
        let (engine, handle) = (self.equipment.engine.clone(), signals.handle());
        let drain_time = Duration::from_secs(self.started_with.drain_seconds.into());
        let drain = move || {
            engine.shut_down(drain_time);
            handle.close();
        };
        match thread::Builder::new().name("mailproof-drain".to_owned()).spawn(drain) {
            Ok(draining) => {
                for signal in signals.forever() {
                    if signal != SIGHUP {
                        service.log("stop-at-once", |_| {});
                        self.equipment.engine.shut_down(Duration::ZERO);
                    }
                }
                let _ = draining.join();
            }
            Err(_) => self.equipment.engine.shut_down(drain_time),
        }
        service.log("end", |_| {});
        self.equipment.log.finish();
        self.equipment.events.iter().for_each(|events| events.finish());
    }
}

impl Equipment {
    fn settings(&self, config: &Config, signer: Signer) -> Settings {
        let sink: Arc<dyn Sink> = Arc::<LineWriter>::clone(&self.log);
        let engine = self.engine.with_options(config.options(&self.host_name));
        let metrics = Arc::clone(&self.metrics);
        let mut service = Service::new(config, &self.host_name, signer, metrics, Arc::clone(&sink));
        if let Some(events) = &self.events {
            service = service.with_observer(Arc::<EventStream>::clone(events));
        }
        let share = config.verify.cross_check_sample.0;
        if share > 0 {
            match CrossCheck::start(share, engine.clone(), &self.metrics, sink, config.log.format) {
                Ok(check) => service = service.with_auditor(Arc::new(check)),
                // It is worth a line, not the mail.
                Err(error) => service.log("no-cross-check", |line| {
                    line.display("detail", &error);
                }),
            }
        }
        Settings {
            service: Arc::new(service),
            options: Arc::clone(engine.options()),
            connections_max: usize::try_from(config.connections_max).unwrap_or(usize::MAX),
            idle_time: config.idle_time(),
        }
    }
}

/// The keys whose new values wait for a restart.
fn kept_until_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let changes = [
        ("listen", old.listen != new.listen),
        ("policy-listen", old.policy_listen != new.policy_listen),
        ("status-listen", old.status_listen != new.status_listen),
        ("socket-mode", old.socket_mode != new.socket_mode),
        ("socket-owner", old.socket_owner != new.socket_owner),
        ("socket-group", old.socket_group != new.socket_group),
        ("threads", old.threads != new.threads),
        ("io-backend", old.io_backend != new.io_backend),
        ("drain-seconds", old.drain_seconds != new.drain_seconds),
        ("sandbox", old.sandbox != new.sandbox),
        ("resolvers", old.resolvers != new.resolvers),
        ("log.format", old.log.format != new.log.format),
        ("events", old.events != new.events),
    ];
    changes.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}

fn restrict_files(config: &Config, listeners: &Listeners, network: &NetworkOptions) -> Restriction {
    let events = match &config.events.to {
        EventTarget::File(path) => Some(path),
        _ => None,
    };
    let writable = sandbox::folders_of(listeners.files().iter().chain(events).map(PathBuf::as_path));
    let ports: Vec<u16> = network.servers.iter().map(|server| server.address.port()).collect();
    sandbox::restrict_files(&writable, &ports)
}

/// A panic is a line of the log as everything else; what it says may hold octets of a message, where it was does not.
fn log_panics(log: &Arc<LineWriter>, format: Format) {
    let log = Arc::clone(log);
    std::panic::set_hook(Box::new(move |panic| {
        let mut line = Line::new(format, "panic");
        line.optional("at", panic.location().map(|it| it as &dyn std::fmt::Display));
        line.pair("thread", thread::current().name().unwrap_or("?"));
        log.write_line(&line.finish());
    }));
}

/// As many descriptors as the process may have; `None` for any number.
fn raise_descriptor_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What is refused leaves the limit as it was.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current
}

/// The name of this host, as the kernel has it.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Descriptors that are no connections: files, sockets to resolvers of every thread.
const DESCRIPTORS_BESIDE: u64 = 512;

//! The milter under test, as a process.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Scenario;
use crate::arguments::ScenarioArguments;
use crate::command::Trouble;
use crate::drive::Agreement;
use crate::target::Address;

/// A running one; ended when dropped.
pub(super) struct Daemon {
    child: Child,
    folder: PathBuf,
    config: String,
    pub(super) address: Address,
}

/// Until it answers, on a machine that is busy.
const START_TIME_MAX: Duration = Duration::from_secs(30);
/// Words of its log that no scenario is to bring about.
const COMPLAINTS: [&str; 4] = ["event=internal-error", "event=protocol-error", "panicked", "event=cross-check"];

impl Daemon {
    pub(super) fn start(scenario: &Scenario, dns: SocketAddr, arguments: &ScenarioArguments) -> Result<Self, Trouble> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("mailproof-scenario-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let address = Address::Unix(folder.join("milter.sock"));
        let config = format!(
            "authserv-id = 'mx.receiver.example'\nlisten = ['{address}']\nresolvers = ['{dns}']\nthreads = 1\nio-backend = '{}'\n{}\n",
            arguments.backend, scenario.config,
        );
        fs::write(folder.join("mailproof.toml"), &config)?;
        let program = &arguments.mailproof;
        let fault = |error| Trouble::File { path: program.clone(), error };
        let program = program.canonicalize().map_err(fault)?;
        let child = Command::new(&program)
            .args(["milter", "--config"])
            .arg(folder.join("mailproof.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log"))?)
            .spawn()
            .map_err(fault)?;
        let mut daemon = Self { child, folder, config, address };
        daemon.wait()?;
        Ok(daemon)
    }

    fn wait(&mut self) -> Result<(), Trouble> {
        let until = Instant::now() + START_TIME_MAX;
        while Agreement::probe(&self.address).is_err() {
            if self.child.try_wait()?.is_some() || Instant::now() > until {
                return Err(Trouble::Scenario(format!("the milter does not start: {}", self.log())));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has it read its configuration again, as it is or with a mistake in it.
    pub(super) fn reload(&self, is_bad: bool) -> io::Result<()> {
        let text = if is_bad { "no such key = 1\n" } else { self.config.as_str() };
        fs::write(self.folder.join("mailproof.toml"), text)?;
        match i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            Some(process) => Ok(kill_process(process, Signal::HUP)?),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Lines of its log with these words.
    pub(super) fn log_count(&self, words: &str) -> u64 {
        self.log().lines().filter(|line| line.contains(words)).count() as u64
    }

    /// What it should not have had to say, and whether it is still there.
    pub(super) fn complaints(&mut self) -> Vec<String> {
        let log = self.log();
        let complaints = log.lines().filter(|line| COMPLAINTS.iter().any(|word| line.contains(word)));
        let mut complaints: Vec<String> = complaints.take(5).map(|line| format!("the log has: {line}")).collect();
        if !matches!(self.child.try_wait(), Ok(None)) {
            complaints.push("the milter has ended".to_owned());
        }
        complaints
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

//! `mailproof milter` as a process, with a DNS server of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::smtp::wait_for;

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    config: PathBuf,
    child: Option<Child>,
    lines: Arc<Mutex<Vec<String>>>,
    status: SocketAddr,
}

impl Daemon {
    /// Starts with this configuration, to which where to listen and whom to ask is added.
    pub(crate) fn start(folder: &Path, base: &str, config: &str, status: SocketAddr) -> Self {
        let file = folder.join("mailproof.toml");
        fs::write(&file, format!("{base}\n{config}")).unwrap();
        let mut daemon = Self { config: file, child: None, lines: Arc::default(), status };
        daemon.start_again();
        daemon
    }

    pub(crate) fn start_again(&mut self) {
        let starts = self.starts();
        let mut child = Command::new(env!("CARGO_BIN_EXE_mailproof"))
            .args(["milter", "--config"])
            .arg(&self.config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::clone(&self.lines);
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        self.child = Some(child);
        wait_for("the daemon", || (self.starts() > starts).then_some(()));
    }

    /// How often it has started, by its log in either form.
    fn starts(&self) -> usize {
        self.count("event=start") + self.count("\"event\":\"start\"")
    }

    /// Has it read another configuration; gives the line of the log about that.
    pub(crate) fn reload(&self, base: &str, config: &str) -> String {
        let before = self.count("event=reload");
        fs::write(&self.config, format!("{base}\n{config}")).unwrap();
        self.signal("HUP");
        wait_for("the reload", || self.lines_with("event=reload").get(before).cloned())
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end; gives the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.take().expect("a running daemon").wait().unwrap().code()
    }

    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    pub(crate) fn count(&self, text: &str) -> usize {
        self.lines_with(text).len()
    }

    /// Where its pages are.
    pub(crate) fn status(&self) -> SocketAddr {
        self.status
    }

    /// A page of its HTTP port.
    pub(crate) fn page(&self, path: &str) -> String {
        page(self.status, path)
    }

    /// A figure of `/metrics`.
    pub(crate) fn figure(&self, name: &str) -> u64 {
        figure(self.status, name)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("a running daemon").id()
    }

    /// Descriptors that it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    pub(crate) fn resident_kib(&self) -> u64 {
        let id = self.id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// A page of the HTTP port of a daemon.
pub(crate) fn page(status: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(status).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

/// A figure of the `/metrics` of a daemon.
pub(crate) fn figure(status: SocketAddr, name: &str) -> u64 {
    let page = page(status, "/metrics");
    let line = page.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or_else(|| panic!("{name} in\n{page}"))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            let lines = self.lines.lock().unwrap();
            println!("end of the daemon's log:\n{}", lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n"));
        }
    }
}

/// Lines of the log that a test that fails shows.
const LINES_SHOWN: usize = 100;

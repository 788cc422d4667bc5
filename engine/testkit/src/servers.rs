//! Real DNS servers for tests, where they are installed: unbound as the resolver and knot as the authority, as programs
//! of their own on loopback, without privileges, on ports that were free.

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

/// A resolver. Dropping it ends it.
#[derive(Debug)]
pub struct Unbound {
    program: &'static str,
    process: Option<Child>,
    directory: PathBuf,
    address: SocketAddr,
}

/// An authority that signs its zones. Dropping it ends it.
#[derive(Debug)]
pub struct Knot {
    process: Child,
    directory: PathBuf,
    address: SocketAddr,
}

/// One zone of an authority.
#[derive(Clone, Debug)]
pub struct ServedZone {
    /// Its name, without a dot at the end.
    pub name: String,
    /// Its records as in an RFC 1035 master file, SOA and NS included.
    pub master_file: String,
    /// It is signed, by keys that the server makes.
    pub is_signed: bool,
}

/// A port may be taken between the look and the start.
const START_TRIES: usize = 5;
const START_TIME_MAX: Duration = Duration::from_secs(20);

impl Unbound {
    /// Starts with these lines of configuration beside its address; `None` when it is not installed.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(configuration: &str) -> io::Result<Option<Self>> {
        let Some(program) = installed(&["/usr/sbin/unbound", "/usr/local/sbin/unbound"]) else { return Ok(None) };
        let directory = directory("unbound")?;
        let mut last = io::Error::other("unbound was not started");
        for _ in 0..START_TRIES {
            let address = free_port()?;
            let text = format!(
                "server:\n  verbosity: 1\n  use-syslog: no\n  logfile: \"\"\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  \
                 directory: \"{}\"\n  interface: {}@{}\n  do-ip6: no\n  num-threads: 1\n  access-control: 127.0.0.0/8 allow\n  \
                 do-not-query-localhost: no\n{configuration}\nremote-control:\n  control-enable: no\n",
                directory.display(),
                address.ip(),
                address.port(),
            );
            fs::write(directory.join("unbound.conf"), text)?;
            let mut it = Self { program, process: None, directory: directory.clone(), address };
            match it.resume() {
                Ok(()) => return Ok(Some(it)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Where it listens, by UDP and TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Ends it as an administrator does, and waits until it is gone.
    ///
    /// # Errors
    /// When it can not be signalled.
    pub fn stop(&mut self) -> io::Result<()> {
        if let Some(mut process) = self.process.take() {
            Command::new("kill").arg(process.id().to_string()).status()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Starts it again on the same address, its cache empty.
    ///
    /// # Errors
    /// When it does not start.
    pub fn resume(&mut self) -> io::Result<()> {
        let configuration = self.directory.join("unbound.conf");
        let process = Command::new(self.program)
            .args(["-d".as_ref(), "-c".as_ref(), configuration.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        self.process = Some(wait_for_line(process, "start of service")?);
        Ok(())
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.stop();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Knot {
    /// Starts with these zones; `None` when it is not installed.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(zones: &[ServedZone]) -> io::Result<Option<Self>> {
        let Some(program) = installed(&["/usr/sbin/knotd", "/usr/local/sbin/knotd"]) else { return Ok(None) };
        let directory = directory("knot")?;
        for zone in zones {
            fs::write(directory.join(format!("{}.zone", zone.name)), &zone.master_file)?;
        }
        let mut last = io::Error::other("knot was not started");
        for _ in 0..START_TRIES {
            let address = free_port()?;
            fs::write(directory.join("knot.conf"), knot_configuration(address, &directory, zones))?;
            let process = Command::new(program)
                .args(["-c".as_ref(), directory.join("knot.conf").as_os_str()])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            match wait_for_line(process, "server started") {
                Ok(process) => {
                    let it = Self { process, directory, address };
                    it.wait_for_zones(zones.len())?;
                    return Ok(Some(it));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The DS records of a signed zone: a trust anchor.
    ///
    /// # Errors
    /// When the server's tool gives none.
    pub fn delegation_signer(&self, zone: &str) -> io::Result<Vec<String>> {
        let configuration = self.directory.join("knot.conf");
        let output = Command::new("/usr/sbin/keymgr").arg("-c").arg(&configuration).args([zone, "ds"]).output()?;
        let lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        if lines.is_empty() { Err(io::Error::other("keymgr knows no key")) } else { Ok(lines) }
    }

    /// The server answers before its zones are loaded and signed.
    fn wait_for_zones(&self, count: usize) -> io::Result<()> {
        let until = Instant::now() + START_TIME_MAX;
        while Instant::now() < until {
            let socket = self.directory.join("knot.sock");
            let output = Command::new("/usr/sbin/knotc")
                .args(["-s".as_ref(), socket.as_os_str(), "zone-status".as_ref()])
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let ready = text.lines().filter(|line| line.contains("serial: ") && !line.contains("serial: none"));
            let ready = ready.filter(|line| !line.contains("serial: -")).count();
            if ready == count {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn knot_configuration(address: SocketAddr, directory: &Path, zones: &[ServedZone]) -> String {
    let directory = directory.display();
    let mut text = format!(
        "server:\n  rundir: \"{directory}\"\n  listen: {}@{}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         log:\n- target: stderr\n  any: info\n\
         control:\n  listen: \"{directory}/knot.sock\"\n\
         database:\n  storage: \"{directory}\"\n\
         policy:\n- id: plain\n  algorithm: ecdsap256sha256\n  single-type-signing: on\n\
         template:\n- id: default\n  storage: \"{directory}\"\n  zonefile-sync: -1\n  journal-content: none\nzone:\n",
        address.ip(),
        address.port(),
    );
    for ServedZone { name, is_signed, .. } in zones {
        text += &format!("- domain: {name}\n  file: \"{name}.zone\"\n");
        if *is_signed {
            text += "  dnssec-signing: on\n  dnssec-policy: plain\n";
        }
    }
    text
}

/// The process once it has said so on standard error, whose rest is thrown away.
fn wait_for_line(mut process: Child, wanted: &str) -> io::Result<Child> {
    let Some(output) = process.stderr.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
    let mut said = Vec::new();
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    for line in lines.by_ref() {
        if line.contains(wanted) {
            // What it says from now on must not fill the pipe.
            thread::spawn(move || lines.for_each(drop));
            return Ok(process);
        }
        said.push(line);
    }
    process.wait()?;
    Err(io::Error::other(said.join("\n")))
}

fn installed(programs: &[&'static str]) -> Option<&'static str> {
    programs.iter().find(|program| fs::metadata(program).is_ok()).copied()
}

/// A directory of its own for each server of each process.
fn directory(server: &str) -> io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = env::temp_dir().join(format!("mailproof-{server}-{}-{number}", process::id()));
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// A port of loopback that is free for both transports at the moment, below those that the kernel gives away by itself: while
/// a server starts again, none of the sockets of whoever asks it takes its port.
fn free_port() -> io::Result<SocketAddr> {
    static TURN: AtomicU16 = AtomicU16::new(0);
    for _ in PORTS {
        // Programs that run beside each other begin at different ones.
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let offset = (process::id() as u16).wrapping_mul(61).wrapping_add(turn) % (PORTS.end - PORTS.start);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + offset));
        let is_free = UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok();
        if is_free && TcpStream::connect(address).is_err() {
            return Ok(address);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Linux gives away those from 32,768 on (ip_local_port_range).
const PORTS: Range<u16> = 20_000..32_000;

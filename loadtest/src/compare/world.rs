//! Where everything that is compared runs: one resolver, one folder, programs kept to their processor.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mailproof_testkit::servers::{Knot, ServedZone, Unbound};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::corpus::Records;
use crate::drive::Agreement;
use crate::measure::Pinned;
use crate::target::Address;

/// The resolver and the folder. Dropping it ends and removes them.
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    /// Where the packages of the rivals are.
    pub(crate) rivals: PathBuf,
    pub(crate) places: Places,
    resolver: Unbound,
    _authority: Knot,
}

/// Which processors do what.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// What is measured.
    pub(crate) target: Vec<usize>,
    /// The generator, the resolver.
    pub(crate) beside: Vec<usize>,
}

/// A program that was started here; ended when dropped, with all that it has started.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

/// Programs that read resolv.conf know no port: the resolver has an address of loopback for itself.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
/// How long a program may take until it answers.
const START_TIME_MAX: Duration = Duration::from_secs(30);
/// How long it may take to end when asked to.
const END_TIME_MAX: Duration = Duration::from_secs(10);

impl World {
    /// Starts unbound over knot. `None` where one of them is not installed.
    pub(crate) fn start(records: &Records, rivals: &Path, places: Places) -> io::Result<Option<Self>> {
        let _pinned = Pinned::to(&places.beside)?;
        let zone = ServedZone { name: "example".to_owned(), master_file: records.to_master_file(), is_signed: false };
        let Some(authority) = Knot::start(&[zone])? else { return Ok(None) };
        let own = format!("  interface: {RESOLVER}@53\n{}", Records::stub(authority.address()));
        let Some(resolver) = Unbound::start(&own)? else { return Ok(None) };
        let folder = std::env::temp_dir().join(format!("mailproof-compare-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        // Programs give up being root and still have to reach their sockets.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        fs::write(folder.join("resolv.conf"), format!("nameserver {RESOLVER}\noptions edns0\n"))?;
        Ok(Some(Self { folder, rivals: rivals.to_owned(), places, resolver, _authority: authority }))
    }

    /// The resolver's process.
    pub(crate) fn resolver_process(&self) -> Option<u32> {
        self.resolver.process_id()
    }

    pub(crate) fn resolver_address() -> SocketAddr {
        SocketAddr::from((RESOLVER, 53))
    }

    /// A socket in the folder, where none is left of a former run: libmilter refuses to take its place.
    pub(crate) fn socket(&self, name: &str) -> Address {
        let path = self.folder.join(format!("{name}.sock"));
        // Mostly there is none.
        let _ = fs::remove_file(&path);
        Address::Unix(path)
    }

    /// Writes a configuration file; gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Where a file of a package is: unpacked.
    pub(crate) fn rival(&self, path: &str) -> PathBuf {
        self.rivals.join(path)
    }

    /// Starts a program, with the shared libraries of the packages and the resolver in its resolv.conf.
    pub(crate) fn spawn(
        &self,
        name: &str,
        program: &Path,
        arguments: &[&str],
        processors: &[usize],
    ) -> io::Result<Program> {
        let _pinned = Pinned::to(processors)?;
        let log = self.folder.join(format!("{name}.log"));
        let file = fs::File::create(&log)?;
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        let libraries = [&*library_folder(), "usr/lib", "usr/lib/rspamd", "usr/lib/postfix", "lib"];
        let libraries = libraries.map(|path| self.rival(path).display().to_string()).join(":");
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(self.folder.join("resolv.conf"))
            .arg(program)
            .args(arguments)
            .env("LD_LIBRARY_PATH", libraries)
            .env("PYTHONPATH", self.rival("usr/lib/python3/dist-packages"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()?;
        Ok(Program { child, log })
    }
}

/// Where Debian's packages for this machine have their shared libraries.
pub(crate) fn library_folder() -> String {
    format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH)
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Program {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program answers as a milter.
    pub(crate) fn wait_for_milter(&mut self, address: &Address) -> io::Result<()> {
        self.wait_for(|| Agreement::probe(address).is_ok())
    }

    /// Waits until something is true, or the program has ended.
    pub(crate) fn wait_for(&mut self, is_there: impl Fn() -> bool) -> io::Result<()> {
        let until = Instant::now() + START_TIME_MAX;
        while !is_there() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("ended at once ({status}): {}", self.last_words())));
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("does not answer: {}", self.last_words())));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// # Errors
    /// How it ended, when it has.
    pub(crate) fn check_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("ended under load ({status}): {}", self.last_words())),
            Err(error) => Err(error.to_string()),
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Of processes that are gone nothing has to end.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let until = Instant::now() + END_TIME_MAX;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

//! A real DNS server, where one is installed.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, io};

/// A server that ends with this value.
pub(crate) struct Unbound {
    process: Child,
    directory: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Unbound {
    /// Starts with a configuration for this address and folder; `None` when it is not installed.
    pub(crate) fn start(configuration: impl Fn(SocketAddr, &Path) -> String) -> Option<Self> {
        let program = ["/usr/sbin/unbound", "/usr/local/sbin/unbound"].into_iter().find(|it| fs::metadata(it).is_ok());
        let Some(program) = program else {
            println!("skipped: no unbound is installed");
            return None;
        };
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("mailproof-unbound-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        // A port may be taken between the look and the start.
        for _ in 0..5 {
            let address = free_port();
            let file = directory.join("unbound.conf");
            fs::write(&file, configuration(address, &directory)).unwrap();
            let mut process = Command::new(program)
                .args(["-d".as_ref(), "-c".as_ref(), file.as_os_str()])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut log = BufReader::new(process.stderr.take().unwrap()).lines().map_while(io::Result::ok);
            if log.by_ref().any(|line| line.contains("start of service")) {
                // Its log must not fill the pipe.
                std::thread::spawn(move || log.for_each(drop));
                return Some(Self { process, directory, address });
            }
            process.wait().unwrap();
        }
        panic!("unbound does not start");
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn free_port() -> SocketAddr {
    loop {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

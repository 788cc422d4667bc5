//! Listening sockets: opened here, or handed over by systemd.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::{Config, Endpoint};

/// Opens sockets and remembers the files that it made.
pub(crate) struct Listeners {
    activation: Activation,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
    files: Vec<PathBuf>,
}

/// Sockets that systemd opened (sd_listen_fds(3)), by their names.
struct Activation {
    sockets: ListenFd,
    names: VecDeque<Option<String>>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The system refuses.
    #[error("can not listen on {endpoint}: {error}")]
    Refused {
        /// On this.
        endpoint: Endpoint,
        /// What the system says.
        error: io::Error,
    },
    /// Somebody answers there.
    #[error("can not listen on {0}: another process does")]
    InUse(Endpoint),
    /// A file that is no socket.
    #[error("can not listen on {0}: there is a file that is no socket; remove it")]
    NotASocket(Endpoint),
    /// systemd gave no socket of this name.
    #[error("no socket named `{0}` was handed over; see FileDescriptorName= in systemd.socket(5)")]
    NotHandedOver(String),
}

impl ListenError {
    fn is_in_use(&self) -> bool {
        match self {
            Self::InUse(_) => true,
            Self::Refused { error, .. } => error.kind() == io::ErrorKind::AddrInUse,
            _ => false,
        }
    }
}

impl Listeners {
    /// Sockets as the configuration wants them, which was checked when it was read.
    pub(crate) fn new(config: &Config) -> Self {
        let (owner, group) = config.owner_and_group().unwrap_or_default();
        let mode = config.socket_mode.0;
        Self { activation: Activation::of_environment(), mode, owner, group, files: Vec::new() }
    }

    /// Opens sockets. One of systemd's name may stand for several.
    ///
    /// # Errors
    /// [`ListenError`] for the first that can not be had.
    pub(crate) fn open(&mut self, endpoints: &[Endpoint]) -> Result<Vec<OwnedFd>, ListenError> {
        let mut sockets = Vec::new();
        for endpoint in endpoints {
            let refused = |error| ListenError::Refused { endpoint: endpoint.clone(), error };
            match endpoint {
                Endpoint::Tcp(address) => sockets.push(patiently(|| open_tcp(*address).map_err(refused))?),
                Endpoint::Unix(path) => {
                    patiently(|| make_room(path, endpoint))?;
                    sockets.push(self.open_unix(path).map_err(refused)?);
                }
                Endpoint::Systemd(name) => {
                    let taken = self.activation.take(name).map_err(refused)?;
                    if taken.is_empty() {
                        return Err(ListenError::NotHandedOver(name.clone()));
                    }
                    sockets.extend(taken);
                }
            }
        }
        Ok(sockets)
    }

    fn open_unix(&mut self, path: &Path) -> io::Result<OwnedFd> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        self.files.push(path.to_owned());
        // Nobody can connect before it listens, so nobody meets another mode or owner than it has in the end.
        fs::set_permissions(path, fs::Permissions::from_mode(self.mode))?;
        if self.owner.is_some() || self.group.is_some() {
            chown(path, self.owner, self.group)?;
        }
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    /// The files of unix sockets.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Removes the files of unix sockets: what connects from now on is refused at once.
    pub(crate) fn remove_files(&mut self) {
        for path in self.files.drain(..) {
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.remove_files();
    }
}

impl Activation {
    fn of_environment() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.split(':').map(|name| Some(name.to_owned())).collect();
        Self { sockets: ListenFd::from_env(), names }
    }

    /// Every socket of this name.
    fn take(&mut self, wanted: &str) -> io::Result<Vec<OwnedFd>> {
        let mut taken = Vec::new();
        for at in 0..self.sockets.len() {
            // Sockets without a name are called so by systemd itself.
            let name = self.names.get(at).and_then(Option::as_deref).filter(|name| !name.is_empty());
            if name.unwrap_or("unknown") != wanted {
                continue;
            }
            let socket = match self.sockets.take_unix_listener(at) {
                Ok(socket) => socket.map(OwnedFd::from),
                Err(_) => self.sockets.take_tcp_listener(at)?.map(OwnedFd::from),
            };
            taken.extend(socket);
        }
        Ok(taken)
    }
}

/// Tries again for a moment when somebody else listens: of a process that was killed, the kernel lets go of what its ring
/// of io_uring held only after the process is gone.
fn patiently<T>(mut open: impl FnMut() -> Result<T, ListenError>) -> Result<T, ListenError> {
    let until = Instant::now() + LEAVING_TIME;
    loop {
        match open() {
            Err(error) if error.is_in_use() && Instant::now() < until => thread::sleep(LOOK_AGAIN_TIME),
            result => return result,
        }
    }
}

fn open_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart meets connections of the process before in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Connections inherit it: replies are small and waited for.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Removes a socket that a process before has left, and nothing else.
fn make_room(path: &Path, endpoint: &Endpoint) -> Result<(), ListenError> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket(endpoint.clone()));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(ListenError::InUse(endpoint.clone()));
    }
    fs::remove_file(path).map_err(|error| ListenError::Refused { endpoint: endpoint.clone(), error })
}

/// How long a process that was killed may take to leave its sockets.
const LEAVING_TIME: Duration = Duration::from_secs(3);
/// How long to wait before looking whether it has.
const LOOK_AGAIN_TIME: Duration = Duration::from_millis(20);
/// Connections that wait to be taken; the kernel has its own limit (net.core.somaxconn).
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_have_their_mode_and_leave_no_file() {
        let folder = std::env::temp_dir().join(format!("mailproof-listeners-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("milter.sock");
        let endpoints = [Endpoint::Unix(path.clone()), Endpoint::Tcp("127.0.0.1:0".parse().unwrap())];
        let config = Config { socket_mode: crate::config::FileMode(0o606), ..Config::default() };
        let mut first = Listeners::new(&config);
        let sockets = first.open(&endpoints).unwrap();
        assert_eq!(sockets.len(), 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o606);
        assert!(UnixStream::connect(&path).is_ok());
        let mut second = Listeners::new(&config);
        assert!(matches!(second.open(&endpoints[..1]), Err(ListenError::InUse(_))));
        // A process that was killed leaves its file behind.
        drop(sockets);
        assert!(second.open(&endpoints[..1]).is_ok());
        drop(second);
        assert!(!path.exists());
        fs::write(&path, "x").unwrap();
        assert!(matches!(first.open(&endpoints[..1]), Err(ListenError::NotASocket(_))));
        first.files.clear();
        fs::remove_dir_all(&folder).unwrap();
    }
}

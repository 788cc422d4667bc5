//! What systemd wants to know (sd_notify(3)): a datagram to the socket that it named.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

/// Where the service manager listens, if one started this process.
#[derive(Debug)]
pub(crate) struct Manager(Option<(UnixDatagram, SocketAddr)>);

impl Manager {
    /// The manager that the environment names.
    pub(crate) fn of_environment() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").and_then(|path| Self::at(&path).ok()))
    }

    fn at(path: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
        let address = match path.as_bytes().split_first() {
            Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(path)?,
        };
        Ok((UnixDatagram::unbound()?, address))
    }

    /// Mail is taken.
    pub(crate) fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is being read again; `ready` ends that.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// No more mail is taken.
    pub(crate) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=Messages under way end");
    }

    fn say(&self, text: &str) {
        if let Some((socket, address)) = &self.0 {
            // A manager that does not listen is no reason to stop mail.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_what_happens() {
        let name = format!("mailproof-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        let manager = Manager(Some(Manager::at(OsStr::new(&format!("@{name}"))).unwrap()));
        let mut room = [0; 256];
        let mut hear = || {
            let length = listener.recv(&mut room).unwrap();
            String::from_utf8(room[..length].to_vec()).unwrap()
        };
        manager.ready("Mail is taken");
        assert_eq!(hear(), "READY=1\nSTATUS=Mail is taken");
        manager.reloading();
        assert!(hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        manager.stopping();
        assert!(hear().starts_with("STOPPING=1\n"));
    }
}

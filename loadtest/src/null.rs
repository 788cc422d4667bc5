//! A milter that reads everything and says nothing but "go on": as little as a target can do, so that a run against it says
//! what the generator can.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::SocketFlags;

use crate::drive::{Socket, Transfer, Watch};
use crate::measure::Pinned;
use crate::target::Address;

/// A running one. Dropping it ends it.
#[derive(Debug)]
pub struct NullMilter {
    address: Address,
    is_stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

struct Connection {
    socket: Socket,
    /// Of the frame that is being read: what is left of it, once its head is known.
    rest: usize,
    head: Vec<u8>,
    command: u8,
}

/// The answer to an offer: no change is made, and a reply is given to the end of a message alone.
const AGREEMENT: [u8; 17] = [0, 0, 0, 13, b'O', 0, 0, 0, 6, 0, 0, 0, 0, 0, 0x1f, 0xf3, 0x80];
const GO_ON: [u8; 5] = [0, 0, 0, 1, b'c'];
/// How soon an end is noticed.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LISTENER: u64 = u64::MAX - 1;
const BUFFER_BYTES: usize = 256 * 1024;

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl NullMilter {
    /// Starts on this address, port 0 for one that the kernel chooses; with so many threads, on these processors.
    ///
    /// # Errors
    /// When the machine gives no sockets.
    pub fn start(address: &Address, threads: usize, processors: Option<&[usize]>) -> io::Result<Self> {
        let (listener, address) = match address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                (Listener::Tcp(listener), Address::Tcp(address))
            }
            Address::Unix(path) => {
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                (Listener::Unix(listener), address.clone())
            }
        };
        let (listener, is_stopping) = (Arc::new(listener), Arc::new(AtomicBool::new(false)));
        let mut milter = Self { address, is_stopping, threads: Vec::new() };
        let (send, ready) = channel();
        for _ in 0..threads.max(1) {
            let (listener, is_stopping, send) = (Arc::clone(&listener), Arc::clone(&milter.is_stopping), send.clone());
            let processors = processors.map(<[usize]>::to_vec);
            milter.threads.push(thread::spawn(move || {
                let _pinned = processors.and_then(|processors| Pinned::to(&processors).ok());
                let watch = listener.watch();
                let (watch, result) = match watch {
                    Ok(watch) => (Some(watch), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                // Whoever started this waits for it.
                let _ = send.send(result);
                if let Some(watch) = watch {
                    serve(&listener, watch, &is_stopping);
                }
            }));
        }
        // One word from each.
        ready.iter().take(threads.max(1)).collect::<io::Result<()>>()?;
        Ok(milter)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for NullMilter {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Listener {
    /// A set with this in it.
    fn watch(&self) -> io::Result<Watch> {
        let watch = Watch::new()?;
        match self {
            Self::Tcp(listener) => watch.add_listener(listener, LISTENER)?,
            Self::Unix(listener) => watch.add_listener(listener, LISTENER)?,
        }
        Ok(watch)
    }

    fn accept(&self) -> Option<OwnedFd> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match self {
            Self::Tcp(listener) => rustix::net::accept_with(listener, flags).ok(),
            Self::Unix(listener) => rustix::net::accept_with(listener, flags).ok(),
        }
    }
}

fn serve(listener: &Listener, mut watch: Watch, is_stopping: &AtomicBool) {
    let (mut connections, mut next, mut buffer) = (HashMap::new(), 0, vec![0; BUFFER_BYTES]);
    while !is_stopping.load(Ordering::Acquire) && watch.wait(LOOK_AGAIN).is_ok() {
        for at in 0..watch.happening_count() {
            let Some(happening) = watch.happening(at) else { continue };
            if happening.token == LISTENER {
                while let Some(descriptor) = listener.accept() {
                    let socket = Socket::from(descriptor);
                    if watch.add(&socket, next).is_ok() {
                        connections.insert(next, Connection { socket, rest: 0, head: Vec::new(), command: 0 });
                        next += 1;
                    }
                }
            } else if let Some(connection) = connections.get_mut(&happening.token)
                && happening.is_readable
                && !connection.read(&mut buffer)
            {
                connections.remove(&happening.token);
            }
        }
    }
}

impl Connection {
    /// Reads what has come; false when that was the end.
    fn read(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            match self.socket.receive(buffer) {
                Ok(Transfer::Moved(count)) => {
                    if !self.take(&buffer[..count]) {
                        return false;
                    }
                    if count < buffer.len() {
                        return true;
                    }
                }
                Ok(Transfer::Later) => return true,
                _ => return false,
            }
        }
    }

    fn take(&mut self, mut octets: &[u8]) -> bool {
        while !octets.is_empty() {
            if self.rest > 0 {
                let count = self.rest.min(octets.len());
                (self.rest, octets) = (self.rest - count, &octets[count..]);
            } else {
                let (part, after) = octets.split_at(octets.len().min(5 - self.head.len()));
                self.head.extend_from_slice(part);
                octets = after;
                let Ok(head) = <[u8; 5]>::try_from(self.head.as_slice()) else { return true };
                self.head.clear();
                self.rest = (u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize).saturating_sub(1);
                self.command = head[4];
            }
            if self.rest == 0 {
                let reply: &[u8] = match self.command {
                    b'O' => &AGREEMENT,
                    b'E' => &GO_ON,
                    b'Q' => return false,
                    _ => &[],
                };
                // Replies are few and short; a peer that does not read them is gone.
                if !reply.is_empty() && self.socket.send(reply).is_err() {
                    return false;
                }
            }
        }
        true
    }
}

//! The sockets of a worker: what each belongs to, and how the inquiries reach theirs.

use std::time::{Duration, Instant};

use mailproof_io::{Driver, Event, SocketId};

use super::inquiries::Network;
use super::tls::{Tls, TlsSetup, TlsTrouble};
use super::upstream::Upstream;

/// A driver, and what each of its sockets is.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) driver: Driver,
    servers: Vec<Upstream>,
    connect_time: Duration,
    roles: Vec<Option<Role>>,
    /// The connections that are encrypted; `None` when no server is asked in this way.
    tls: Option<Tls>,
}

/// What an event on a connection to a server comes to for the inquiries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LinkStep {
    /// It can not be used yet.
    Underway,
    /// From now on it can be used; there may be octets.
    Connected,
    /// There may be octets.
    Open,
    /// It is of no use and to be closed.
    Failed,
}

/// What a socket is there for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// Queries by UDP.
    Port(SocketId),
    /// Queries by TCP.
    Link(SocketId),
    /// Connections of the service with this number come here.
    Listener(SocketId, u32),
    /// A connection of a service.
    Conversation(SocketId),
}

/// Octets that datagrams may wait in, so that a thread that computes loses none; the system may allow less.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

impl Sockets {
    pub(crate) fn new(driver: Driver, servers: Vec<Upstream>, connect_time: Duration, tls: Option<TlsSetup>) -> Self {
        let tls = tls.map(|setup| Tls::new(setup, &servers));
        Self { driver, servers, connect_time, roles: Vec::new(), tls }
    }

    pub(crate) fn set_role(&mut self, socket: SocketId, role: Role) {
        if self.roles.len() <= socket.index() {
            self.roles.resize(socket.index() + 1, None);
        }
        self.roles[socket.index()] = Some(role);
    }

    pub(crate) fn close(&mut self, socket: SocketId) {
        self.roles[socket.index()] = None;
        match self.tls.as_mut().filter(|tls| tls.has(socket)) {
            // The farewell, or the alert that says why, goes out first.
            Some(tls) => {
                tls.close(socket, &mut self.driver);
                self.driver.close_when_sent(socket);
            }
            None => self.driver.close(socket),
        }
    }

    /// The next event, and what its socket is there for.
    pub(crate) fn next_event(&mut self) -> Option<(Event<'_>, Option<Role>)> {
        let Self { driver, roles, .. } = self;
        let event = driver.next_event()?;
        let role = event.socket().and_then(|socket| roles.get(socket.index()).copied().flatten());
        Some((event, role))
    }

    /// A connection to a server stands.
    pub(crate) fn link_connected(&mut self, socket: SocketId) -> LinkStep {
        let Some(tls) = self.tls.as_mut().filter(|tls| tls.has(socket)) else { return LinkStep::Connected };
        tls.connected(socket, &mut self.driver);
        LinkStep::Underway
    }

    /// Octets came over a connection to a server; afterwards `octets` are those of DNS messages.
    pub(crate) fn link_received(&mut self, socket: SocketId, octets: &mut Vec<u8>) -> LinkStep {
        let Some(tls) = self.tls.as_mut().filter(|tls| tls.has(socket)) else { return LinkStep::Open };
        let now = self.driver.now();
        tls.received(socket, octets, &mut self.driver, now)
    }

    /// A connection to a server ended by itself.
    pub(crate) fn link_ended(&mut self, socket: SocketId) {
        if let Some(tls) = &mut self.tls {
            tls.ended(socket, self.driver.now());
        }
        self.close(socket);
    }

    /// A connection to a server whose handshake takes too long.
    pub(crate) fn next_late_link(&mut self) -> Option<SocketId> {
        self.tls.as_mut()?.next_late(self.driver.now())
    }

    /// The moment at which there is a late one.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.tls.as_ref()?.next_deadline()
    }

    /// What went wrong in a handshake since the last call.
    pub(crate) fn take_trouble(&mut self) -> Option<TlsTrouble> {
        self.tls.as_mut()?.take_trouble()
    }

    fn socket(&self, number: u32) -> Option<SocketId> {
        match self.roles.get(number as usize).copied().flatten()? {
            Role::Port(socket) | Role::Link(socket) => Some(socket),
            Role::Listener(..) | Role::Conversation(_) => None,
        }
    }
}

impl Network for Sockets {
    fn open_port(&mut self, server: usize) -> Option<u32> {
        // To a server that is asked over TLS nothing goes in clear, whatever the lookup says.
        let upstream = self.servers.get(server).filter(|upstream| upstream.tls_name.is_none())?;
        let socket = self.driver.connect_datagram(upstream.address, RECEIVE_BUFFER_BYTES).ok()?;
        self.set_role(socket, Role::Port(socket));
        self.driver.receive(socket);
        Some(socket.index() as u32)
    }

    fn send_udp(&mut self, port: u32, query: &[u8]) {
        if let Some(socket) = self.socket(port) {
            self.driver.send_datagram(socket, query);
        }
    }

    fn close_port(&mut self, port: u32) {
        if let Some(socket) = self.socket(port) {
            self.close(socket);
        }
    }

    fn open_link(&mut self, server: usize) -> Option<u32> {
        let now = self.driver.now();
        let deadline = now + self.connect_time;
        let upstream = self.servers.get(server)?;
        if upstream.tls_name.is_some() && !self.tls.as_ref().is_some_and(|tls| tls.may_connect(server, now)) {
            return None;
        }
        let socket = self.driver.connect(upstream.address, deadline).ok()?;
        if let Some(tls) = &mut self.tls
            && !tls.open(server, socket, deadline)
        {
            self.driver.close(socket);
            return None;
        }
        self.set_role(socket, Role::Link(socket));
        self.driver.receive(socket);
        Some(socket.index() as u32)
    }

    fn send_tcp(&mut self, link: u32, octets: &[u8]) {
        let Some(socket) = self.socket(link) else { return };
        match self.tls.as_mut().filter(|tls| tls.has(socket)) {
            Some(tls) => tls.send(socket, octets, &mut self.driver),
            None => self.driver.send(socket, octets),
        }
    }

    fn close_link(&mut self, link: u32) {
        self.close_port(link);
    }
}

//! What stands in the place of DNS over TLS where the feature is off: there are no such connections.

use std::time::Instant;

use mailproof_io::{Driver, SocketId};

use super::NetworkOptions;
use super::sockets::LinkStep;
use super::upstream::Upstream;
use crate::resolver::ResolverError;

/// There is none.
#[derive(Clone, Debug)]
pub(crate) enum TlsSetup {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Tls {}

/// There is none.
#[derive(Clone, Debug)]
pub(crate) enum TlsTrouble {}

impl TlsSetup {
    /// # Errors
    /// [`ResolverError::NoTls`] when a server is to be asked over TLS: it is not asked in clear instead.
    pub(crate) fn new(options: &NetworkOptions) -> Result<Option<Self>, ResolverError> {
        match options.servers.iter().find(|server| server.tls_name.is_some()) {
            Some(server) => Err(ResolverError::NoTls { server: server.clone() }),
            None => Ok(None),
        }
    }
}

impl Tls {
    pub(crate) fn new(setup: TlsSetup, _: &[Upstream]) -> Self {
        match setup {}
    }

    pub(crate) fn may_connect(&self, _: usize, _: Instant) -> bool {
        match *self {}
    }

    pub(crate) fn open(&mut self, _: usize, _: SocketId, _: Instant) -> bool {
        match *self {}
    }

    pub(crate) fn has(&self, _: SocketId) -> bool {
        match *self {}
    }

    pub(crate) fn connected(&mut self, _: SocketId, _: &mut Driver) {
        match *self {}
    }

    pub(crate) fn received(&mut self, _: SocketId, _: &mut Vec<u8>, _: &mut Driver, _: Instant) -> LinkStep {
        match *self {}
    }

    pub(crate) fn send(&mut self, _: SocketId, _: &[u8], _: &mut Driver) {
        match *self {}
    }

    pub(crate) fn ended(&mut self, _: SocketId, _: Instant) {
        match *self {}
    }

    pub(crate) fn close(&mut self, _: SocketId, _: &mut Driver) {
        match *self {}
    }

    pub(crate) fn next_late(&mut self, _: Instant) -> Option<SocketId> {
        match *self {}
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match *self {}
    }

    pub(crate) fn take_trouble(&mut self) -> Option<TlsTrouble> {
        match *self {}
    }
}

//! Messages that the engine's threads verify, for a program with an event loop.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mailproof::Engine;
use pyo3::prelude::*;

use crate::arguments::Text;
use crate::envelope::envelope;
use crate::kept::Kept;
use crate::living::{Living, check_process, forks};
use crate::message::Octets;
use crate::verdict::Verdict;

/// Submits messages, and has their verdicts when its descriptor is readable.
///
/// `submit` never waits; `drain` gives what is there as pairs of token and verdict; `cancel` forgets a message and what it
/// holds. May be used from any thread of the process that made it.
#[pyclass(frozen, module = "mailproof._mailproof")]
#[derive(Debug)]
pub(crate) struct Completions {
    of_engine: mailproof::network::Completions,
    next_token: AtomicU64,
    /// What the caller calls those that have a name.
    ids: Mutex<HashMap<u64, String>>,
    began: u64,
    _living: Arc<Living>,
}

impl Completions {
    pub(crate) fn new(engine: Engine, living: Arc<Living>) -> PyResult<Self> {
        let of_engine = engine.completions()?;
        Ok(Self { of_engine, next_token: AtomicU64::new(0), ids: Mutex::default(), began: forks(), _living: living })
    }
}

#[pymethods]
impl Completions {
    /// Hands a message to a thread of the engine and gives the token that comes back with its verdict. Where a zone
    /// answers, the engine has no threads and the message is verified here.
    #[pyo3(signature = (message, ip, helo, mail_from, id))]
    fn submit(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        ip: Option<&Bound<'_, PyAny>>,
        helo: Text,
        mail_from: Text,
        id: Text,
    ) -> PyResult<u64> {
        check_process(self.began)?;
        let envelope = envelope(ip, helo, mail_from)?;
        let octets = Octets::of(message)?.into_vec();
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        if !id.0.is_empty() {
            self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(token, id.0);
        }
        py.detach(|| self.of_engine.submit(octets, envelope, token));
        Ok(token)
    }

    /// Forgets a message; its verdict does not come unless it was reached already.
    fn cancel(&self, token: u64) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&token);
        if self.began == forks() {
            self.of_engine.cancel(token);
        }
    }

    /// The verdicts that are there, in the order in which they were reached; None for a message in which the engine met a
    /// defect of its own.
    fn drain(&self) -> Vec<(u64, Option<Verdict>)> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let named = |it: mailproof::network::Completion| {
            let id = ids.remove(&it.token).unwrap_or_default();
            (it.token, it.verdict.ok().map(|verdict| Verdict::new(id, Kept::new(verdict))))
        };
        self.of_engine.drain().into_iter().map(named).collect()
    }

    /// The descriptor that is readable while verdicts wait; not to be read from.
    fn fileno(&self) -> RawFd {
        self.of_engine.descriptor().as_raw_fd()
    }
}

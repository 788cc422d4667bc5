//! A message that arrives piece by piece.

use std::sync::{Arc, Mutex, PoisonError};

use mailproof::Envelope;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::kept::Kept;
use crate::living::{Living, check_process, forks};
use crate::results::SpfOutcome;
use crate::verdict::Verdict;
use crate::waiting;

/// One message on its way: pieces of any size, then the verdict. Made by `Engine.session`.
///
/// Questions go out as soon as they are known, SPF's at the envelope, so that answers are there when the message ends. A
/// session holds the header and hash states, whatever the size of the body. Line ends must be CRLF, as SMTP has them;
/// what may have been stored with others is for `verify`. May be used from any thread, by one at a time.
#[pyclass(frozen, module = "mailproof")]
#[derive(Debug)]
pub(crate) struct Session {
    /// Taken out while it is in use, and for good when the verdict was given.
    of_engine: Mutex<Option<mailproof::Session>>,
    id: String,
    began: u64,
    /// Ends the engine's threads when nobody uses them any more.
    _living: Arc<Living>,
}

impl Session {
    pub(crate) fn new(py: Python<'_>, living: &Arc<Living>, envelope: Envelope, id: String) -> PyResult<Self> {
        let session = living.engine(py)?.session(envelope);
        let of_engine = Mutex::new(Some(session));
        Ok(Self { of_engine, id, began: forks(), _living: Arc::clone(living) })
    }

    fn take(&self) -> PyResult<mailproof::Session> {
        check_process(self.began)?;
        let taken = self.of_engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| PyValueError::new_err("the message has ended, or another thread has the session"))
    }

    fn put_back(&self, session: mailproof::Session) {
        *self.of_engine.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }
}

#[pymethods]
impl Session {
    /// Takes the next octets of the message: header, empty line and body, cut anywhere.
    ///
    /// Raises TypeError for what is neither bytes nor bytearray, ValueError after `finish`.
    fn push(&self, py: Python<'_>, octets: PyBackedBytes) -> PyResult<()> {
        let mut session = self.take()?;
        let session = py.detach(|| {
            session.push(&octets);
            session
        });
        self.put_back(session);
        Ok(())
    }

    /// Ends the message and gives its verdict. Waits for DNS answers at most 30 seconds; for those of SPF, which is asked
    /// about when the session begins, at most until 20 seconds after that (RFC 7208 section 4.6.4).
    ///
    /// What the handler of a signal raises ends the wait, not the session: `finish` can be called again. Raises ValueError
    /// once it has given the verdict.
    fn finish(&self, py: Python<'_>) -> PyResult<Verdict> {
        let mut session = self.take()?;
        let waited = waiting::wait(py, async { Kept::new(session.finish_async().await.clone()) });
        if waited.is_err() {
            self.put_back(session);
        }
        Ok(Verdict::new(self.id.clone(), waited?))
    }

    /// SPF of MAIL FROM as soon as it is known, which may be before the first octet; None until then.
    #[getter]
    fn spf(&self) -> PyResult<Option<SpfOutcome>> {
        let mut session = self.take()?;
        // Takes in what has arrived and asks what follows from it.
        session.push(&[]);
        session.poll();
        let outcome = session.spf().map(SpfOutcome::from);
        self.put_back(session);
        Ok(outcome)
    }

    /// False once no result depends on the body, which need not be pushed then.
    #[getter]
    fn wants_body(&self) -> PyResult<bool> {
        let session = self.take()?;
        let wants_body = session.wants_body();
        self.put_back(session);
        Ok(wants_body)
    }
}

//! An engine that outlives a fork and ends with its last user.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mailproof::Engine;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;

/// Forks since the program began, counted in the children.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Tells the module that this process has just been forked off; the package has it called.
#[pyfunction]
#[pyo3(name = "_forked")]
pub(crate) fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Which process of a line of forks this is.
pub(crate) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Builds the same engine each time.
pub(crate) type Build = Box<dyn Fn() -> PyResult<Engine> + Send + Sync>;

/// An engine, and how to build it again: threads and sockets stay with the parent when a process forks, so that a child
/// has an engine of its own, with the same settings and an empty cache.
pub(crate) struct Living {
    /// None where there are no threads, and the engine serves every process.
    build: Option<Build>,
    first: Option<(u64, Engine)>,
    /// That of a child. Only locked while attached to the interpreter, so that no fork finds it locked.
    later: Mutex<Option<(u64, Engine)>>,
}

impl Living {
    pub(crate) fn new(build: Build) -> PyResult<Self> {
        let first = Some((forks(), build()?));
        Ok(Self { build: Some(build), first, later: Mutex::new(None) })
    }

    /// An engine that answers from what it holds.
    pub(crate) fn without_threads(engine: Engine) -> Self {
        Self { build: None, first: Some((forks(), engine)), later: Mutex::new(None) }
    }

    /// The engine of this process.
    ///
    /// # Errors
    /// `OSError` when a child can not have one.
    pub(crate) fn engine(&self, _attached: Python<'_>) -> PyResult<Engine> {
        let now = forks();
        if let Some((at, engine)) = &self.first
            && (*at == now || self.build.is_none())
        {
            return Ok(engine.clone());
        }
        let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        match &*later {
            Some((at, engine)) if *at == now => Ok(engine.clone()),
            _ => {
                let build = self.build.as_ref().ok_or_else(|| PyRuntimeError::new_err("an engine that has ended"))?;
                let engine = build()?;
                // The threads and locks of an engine of the parent are not here.
                std::mem::forget(later.replace((now, engine.clone())));
                Ok(engine)
            }
        }
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        let later = self.later.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        for (at, engine) in [self.first.take(), later].into_iter().flatten() {
            if at == forks() {
                // Nobody is left who could want an answer.
                engine.shut_down(Duration::ZERO);
            } else {
                std::mem::forget(engine);
            }
        }
    }
}

impl std::fmt::Debug for Living {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Living")
    }
}

/// What belongs to the threads of another process.
pub(crate) fn check_process(began: u64) -> PyResult<()> {
    if began == forks() {
        return Ok(());
    }
    Err(PyRuntimeError::new_err("begun before the process was forked; begin anew in the child"))
}

/// A failure of the system or its configuration.
pub(crate) fn system_error(error: impl std::fmt::Display) -> PyErr {
    PyOSError::new_err(error.to_string())
}

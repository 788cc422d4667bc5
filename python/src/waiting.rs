//! Waiting on the caller's thread, with an ear for signals.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pyo3::prelude::*;

/// How long a call waits before it lets Python see to its signals: what a person takes for at once.
pub(crate) const SIGNAL_TIME: Duration = Duration::from_millis(50);

/// Rings once for whoever waits next.
#[derive(Debug, Default)]
struct Bell {
    has_rung: Mutex<bool>,
    rings: Condvar,
}

impl Bell {
    /// Waits until it rings, no longer than [`SIGNAL_TIME`].
    fn wait(&self) {
        let has_rung = self.has_rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.rings.wait_timeout_while(has_rung, SIGNAL_TIME, |has_rung| !*has_rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.has_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.rings.notify_one();
    }
}

/// The value of a future, waited for without the interpreter.
///
/// # Errors
/// What the handler of a signal raises, `KeyboardInterrupt` for one; the future is dropped then.
pub(crate) fn wait<T: Send>(py: Python<'_>, future: impl Future<Output = T> + Send) -> PyResult<T> {
    let mut future = pin!(future);
    // Ordinarily it is there at once, and nobody has to be woken.
    let first = future.as_mut();
    if let Poll::Ready(value) = py.detach(|| first.poll(&mut Context::from_waker(Waker::noop()))) {
        return Ok(value);
    }
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    loop {
        let next = future.as_mut();
        let polled = py.detach(|| {
            let polled = next.poll(&mut Context::from_waker(&waker));
            if polled.is_pending() {
                bell.wait();
            }
            polled
        });
        match polled {
            Poll::Ready(value) => return Ok(value),
            Poll::Pending => py.check_signals()?,
        }
    }
}

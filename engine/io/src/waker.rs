//! Waking a driver from another thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Ends the wait of a [`Driver`](crate::Driver), from any thread. A wake while the driver is not waiting costs one
/// atomic exchange and ends the next wait.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    event: OwnedFd,
    state: AtomicU8,
}

/// The driver is busy and nobody wants it.
const BUSY: u8 = 0;
/// Somebody wants the driver.
const WANTED: u8 = 1;
/// The driver waits in the kernel, or is about to.
const ASLEEP: u8 = 2;

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { shared: Arc::new(Shared { event, state: AtomicU8::new(BUSY) }) })
    }

    /// Wakes the driver.
    pub fn wake(&self) {
        if self.shared.state.swap(WANTED, Ordering::AcqRel) == ASLEEP {
            // Fails only when the counter is full, and then the driver is woken already.
            let _ = rustix::io::write(&self.shared.event, &1_u64.to_ne_bytes());
        }
    }

    /// The driver is about to wait; false when it must not, because somebody wants it.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.shared.state.compare_exchange(BUSY, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Somebody wants the driver.
    #[cfg(feature = "simulation")]
    pub(crate) fn is_wanted(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == WANTED
    }

    /// The driver has waited; true when somebody wanted it.
    pub(crate) fn wake_up(&self) -> bool {
        self.shared.state.swap(BUSY, Ordering::AcqRel) == WANTED
    }

    /// Takes the count out of the event, so that it is not ready any more.
    pub(crate) fn clear(&self) {
        let _ = rustix::io::read(&self.shared.event, &mut [0; 8]);
    }

    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

//! What a run may do, and why it may not take place.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::verifier::Verifier;
use crate::plan::Load;
use crate::target::{Address, Target};

/// What is driven.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// Something that listens.
    Target(&'a Target),
    /// What verifies in this process: the engine, or the library.
    Verifier(&'a dyn Verifier),
}

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that drive.
    pub workers: usize,
    /// Messages under way at a time, over all threads; more wait for their turn.
    pub in_flight_max: usize,
    /// This long after its planned moment a message has failed.
    pub message_time: Duration,
    /// After the last planned moment, messages under way have this long to end.
    pub drain_time: Duration,
    /// Processes of the target, whose cost is measured.
    pub processes: Vec<u32>,
    /// Processes beside it, such as its resolver, measured apart.
    pub processes_beside: Vec<u32>,
    /// Where the generator runs.
    pub generator_cpu: Cpu,
    /// Anything but acceptance is wrong.
    pub expects_accept: bool,
    /// A share of late messages above which a run says nothing about its target.
    pub late_share_max: f64,
    /// Becomes true when the user wants an end.
    pub interrupt: Option<Arc<AtomicBool>>,
}

/// Processors to run on; all of them without a choice.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cpu(pub Option<Vec<usize>>);

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriveError {
    /// Nobody is there.
    #[error("{address}: {error}")]
    Unreachable {
        /// Where.
        address: Address,
        /// What the system, or the other side, says.
        error: io::Error,
    },
    /// There is nothing to send.
    #[error("a stream without messages")]
    NoMessages,
    /// The machine refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A fault of this program.
    #[error("a thread of the generator panicked")]
    Panicked,
}

/// A start later than this after its planned moment is late.
pub const LATE_AFTER: Duration = Duration::from_millis(10);
/// Late messages in a run that counts.
pub const LATE_SHARE_MAX: f64 = 0.01;
/// Messages under way at a time unless told otherwise: as many as a busy server has sessions.
pub const IN_FLIGHT_MAX: usize = 1000;

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 1,
            in_flight_max: IN_FLIGHT_MAX,
            message_time: Duration::from_secs(60),
            drain_time: Duration::from_secs(30),
            processes: Vec::new(),
            processes_beside: Vec::new(),
            generator_cpu: Cpu::default(),
            expects_accept: true,
            late_share_max: LATE_SHARE_MAX,
            interrupt: None,
        }
    }
}

impl Settings {
    /// About 300 ticks a run, none shorter than 100 ms.
    pub(super) fn tick(&self, load: &Load) -> Duration {
        (load.time() / 300).clamp(Duration::from_millis(100), Duration::from_secs(60))
    }

    pub(super) fn interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(|interrupt| interrupt.load(Ordering::Relaxed))
    }
}

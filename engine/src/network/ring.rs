//! What keeps a defect of ours to what it was met in.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The engine failed at a message: a defect of its own, which it survived. There is no verdict on that message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a defect of the engine: the message has no verdict")]
pub struct Defect;

/// Runs a step of ours. Where it panics, which the hook of the process has told by then, what it left half done has to be
/// thrown away.
pub(super) fn guarded<R>(step: impl FnOnce() -> R) -> Result<R, Defect> {
    catch_unwind(AssertUnwindSafe(step)).map_err(forget)
}

fn forget(payload: Box<dyn Any + Send>) -> Defect {
    // Dropping it may run code of anyone's, which may panic again.
    std::mem::forget(payload);
    Defect
}

//! The sets on arc.

use std::path::Path;

use mailproof::zone::Zone;
use serde_json::Value;

use super::SetRunner;

/// The runner for a set of this kind.
#[must_use]
pub fn runner(_set: &str) -> Option<SetRunner> {
    None
}

/// A whole message with a chain.
pub(super) fn run_message(_dir: &Path, _zone: &Zone, _now: u64, _case: &Value) -> Result<(), String> {
    Err("not run yet".to_owned())
}

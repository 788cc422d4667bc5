//! What the command says beside its results.

use std::io::{self, Write as _};

pub(crate) use mailproof_explain::words::{counted, listed, shortened, visible, visible_octets};

/// A line on standard error. Where nobody reads that, nobody is told.
pub(crate) fn note(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

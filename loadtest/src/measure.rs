//! What a run counts, what it costs, and how that goes over time.

mod board;
mod machine;
mod process;
mod tally;

pub use self::board::{Board, Point};
pub use self::machine::Machine;
pub use self::process::{Pinned, Tree, Usage};
pub use self::tally::{LATENCY_MAX, Tally};

pub(crate) use self::tally::record;

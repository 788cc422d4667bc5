//! Random cases for the comparison with other implementations: the same seed gives the same cases.

pub mod canonical;
pub mod keys;
pub mod message;
pub mod records;
pub mod sign;
pub mod spf;
pub mod stream;

pub use self::message::MessageCase;
pub use self::records::Records;
pub use self::spf::SpfCase;

/// The moment at which every case is judged: 2026-11-23. Oracles that read the clock of the machine come to the same
/// answer, since generated times are years before or after it.
pub const NOW_SECONDS: u64 = 1_795_392_000;
